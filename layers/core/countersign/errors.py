"""The names that the state machine retries, catches and reports.

Step Functions matches the name of the raised class and nothing else: it does not see inheritance.
So a class exists only where somebody reacts differently to it.
"""

import json

# The TSB error codes that callers act on.
NO_CERTIFICATE = 402
KEY_ALREADY_EXISTING = 608
KEY_PASSWORD_MISMATCH = 620
KEY_NOT_EXISTENT = 650
REQUEST_NOT_EXISTENT = 651

NAMED_FINDINGS = 5  # of one refusal; more would not fit a terminal line, fewer cost a round trip


class CountersignError(Exception):
    """Base of every error that leaves a function.

    `str(error)` is one line of JSON `{message, field?, errorCode?, reason?, httpStatus?, action}`.
    Lambda copies it into `errorMessage`; CloseEnrollment reads it from there.

    Args:
        message: what failed, and on which object; never a secret.
        action: what the reader should do next.
        field: path of the offending field of the request, for example `key.policy.ruleUse`.
        error_code: TSB's integer `errorCode`.
        reason: TSB's dotted resource key, for example `res.error.key.already.existing`. In a
            `CsrInvalidError`: the code of the first check that failed, for example
            `CSR_PUBLIC_KEY`.
        http_status: the HTTP status of TSB's answer.
    """

    enrollment_id: str | None = None  # set by the API; otherwise the outcome document has it

    def __init__(
        self,
        message: str,
        *,
        action: str,
        field: str | None = None,
        error_code: int | None = None,
        reason: str | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.action = action
        self.field = field
        self.error_code = error_code
        self.reason = reason
        self.http_status = http_status

    def __str__(self) -> str:
        values = {
            "message": self.message,
            "field": self.field,
            "errorCode": self.error_code,
            "reason": self.reason,
            "httpStatus": self.http_status,
            "action": self.action,
        }
        return json.dumps({name: value for name, value in values.items() if value is not None})


class InvalidEnrollmentError(CountersignError):
    """The request cannot be accepted; nothing was created. The execution fails.

    `findings` holds (path of the field, reason) pairs when there is more than one problem.
    """

    findings: tuple[tuple[str, str], ...] = ()


class EnrollmentConflictError(CountersignError):
    """The enrollment id belongs to another request, which stays untouched. The execution fails."""


class PayloadError(CountersignError):
    """What the state machine hands over is not what the function reads: a release changes one after
    the other. It decides nothing and is tried again.
    """


class KeyConflictError(CountersignError):
    """The label belongs to somebody else, or to a key other than requested. The execution fails."""


class TsbUnavailableError(CountersignError):
    """TSB did not execute the call, or answered a read with a code that decides nothing. Retried
    with backoff; PollRequest polls again later.
    """


class TsbOutcomeUnknownError(CountersignError):
    """TSB may have executed the call: there is no answer, or none of TSB's. CreateKey retries,
    RequestCsr discards the key, PollRequest polls again later.
    """


class TsbRefusedError(CountersignError):
    """TSB refused in its own words, or its request has status FAILED. The execution fails."""


class TsbCredentialsError(CountersignError):
    """TSB accepts no API key, token or certificate that we have. The execution fails."""


class CsrInvalidError(CountersignError):
    """The result is not what was requested; it is never stored as issued. The execution fails."""


class KeyDisposalError(CountersignError):
    """This attempt could not delete or block an unused key, or not cancel its request. DiscardKey
    retries a few times and then goes on: the outcome is known and must be announced.
    """


class RequestNotSentError(CountersignError):
    """An AWS service refused or did not answer before TSB was called, so no approver was asked.
    RequestCsr retries. After the call, the same fault would leave TSB's answer unknown.
    """


class AwsCallError(CountersignError):
    """An AWS service refused, or did not answer despite the SDK's own retries. Retried where a
    state may run twice. A botocore class would reach the state machine under one of a hundred
    names.
    """


def invalid_field(field: str, reason: str, action: str) -> InvalidEnrollmentError:
    """The error about one field of the request."""
    return InvalidEnrollmentError(f"{field}: {reason}", field=f"request.{field}", action=action)


def refusal(findings: list[tuple[str, str]], *, field: str, action: str) -> InvalidEnrollmentError:
    """An error that names the first findings (path, text) and carries them all."""
    shown = "; ".join(f"{path}: {text}" for path, text in findings[:NAMED_FINDINGS])
    more = len(findings) - NAMED_FINDINGS
    error = InvalidEnrollmentError(
        shown + (f"; and {more} more" if more > 0 else ""), field=field, action=action
    )
    error.findings = tuple(findings)
    return error
