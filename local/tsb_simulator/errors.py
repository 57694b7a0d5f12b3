"""TSB's error codes, and the HTTP status that goes with each."""

from __future__ import annotations

CODES = {
    1: "technical", 2: "connectivity",
    100: "impl", 101: "not.implemented", 102: "operation.unreachable", 103: "general",
    200: "init", 300: "config.not.existent", 301: "config.not.valid", 302: "invalid.config.input",
    400: "security.not.allowed", 401: "missing.approval", 402: "invalid.certificate",
    403: "input.invalid.signature", 404: "input.timestamp.off",
    405: "timestamp.signer.not.allowed", 406: "missing.access.token", 407: "parsing.key",
    408: "reading.pem", 409: "parsing.certificate", 410: "decrypt.failed",
    411: "invalid.certificate.request", 412: "invalid.onetimepassword",
    413: "approver.not.existent", 414: "approver.not.onboarded", 415: "request.signer.not.allowed",
    416: "missing.api.key", 450: "client.subscription", 451: "client.endpoint.not.licensed",
    500: "data.invalid.constellation", 501: "invalid.value.for.enum",
    600: "input.validation.failed", 601: "unsupported.approver.key.type",
    602: "unsupported.combination.of.approval.types", 603: "input.keysize",
    604: "input.no.name.for.certificate.approver", 605: "unsupported.cryptocurrency",
    606: "key.attributes.invalid", 607: "algorithm.not.supported.by.key",
    608: "key.already.existing", 609: "invalid.uuid", 610: "invalid.key.name",
    611: "unsupported.operation", 612: "invalid.payload", 613: "invalid.key.type",
    614: "operation.forbidden.for.key", 615: "data.object.already.existing",
    616: "data.object.invalid.value", 617: "invalid.access.token",
    618: "insufficient.login.information", 619: "invalid.number.range",
    620: "key.password.mismatch", 621: "invalid.json", 623: "invalid.file.header",
    624: "key.invalid.tagLength", 625: "key.invalid.encoding",
    626: "certificate.invalid.encoding", 627: "invalid.key.id", 628: "csr.invalid.format",
    629: "unsupported.cipher", 630: "invalid.address.on.non.ska.key", 631: "invalid.api.key",
    632: "approver.already.existing", 633: "input.no.value.for.approver.mgmt",
    634: "derivation.not.supported.by.algorithm", 635: "encoding.exception",
    650: "key.not.existent", 651: "request.not.existent", 652: "task.not.existent",
    653: "data.object.not.existent", 654: "approver.not.existent",
    700: "in.subystem",  # the vendor's own spelling
    701: "in.hsm", 702: "creation.integrity.key", 703: "io", 704: "file.not.found",
}  # fmt: skip


def http_status(code: int) -> int:
    """Map an errorCode to its HTTP status.

    Source: the vendor's ErrorHandler; 401 for 631 and 404 for 650 were seen in real answers.
    """
    by_code = {631: 401}
    by_tens = {45: 403, 65: 404}
    by_hundreds = {1: 501, 4: 400, 6: 400}
    tens, hundreds = code // 10, code // 100
    return by_code.get(code) or by_tens.get(tens) or by_hundreds.get(hundreds, 500)


class TsbError(Exception):
    """The TSB refuses a call; becomes `{errorCode, reason, message}` with the code's status."""

    def __init__(self, code: int, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = http_status(code) if status is None else status

    def body(self) -> dict[str, str | int]:
        """Give the JSON body, as TSB's ReasonBasedExceptionDto."""
        return {
            "errorCode": self.code,
            "reason": f"res.error.{CODES[self.code]}",
            "message": self.message,
        }


def hsm_refusal(message: str = "KEY_FUNCTION_NOT_PERMITTED") -> TsbError:
    """Make the answer that was seen for uses which the HSM forbids: 500/701."""
    return TsbError(701, message)
