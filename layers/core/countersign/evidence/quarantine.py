"""What is told of a failed check: by the state that made it, and again by the verifier. Pure."""

from typing import Any

from countersign import models as m
from countersign.errors import CsrInvalidError
from countersign.record import Record, StepName

CHECKS: dict[StepName, str] = {"csr": "checks", "certificate": "certificateChecks"}  # on record
OTHER_REQUEST: dict[StepName, str] = {"csr": "REQUEST_ID", "certificate": "CERTIFICATE_REQUEST_ID"}


def another_request(step: StepName, answered: str, requested: str) -> m.Check:
    """PollRequest's only check, failed: TSB answers for another request."""
    return m.Check(
        code=OTHER_REQUEST[step],
        result="failed",
        field="id",
        finding=f"TSB answers for request {answered} when asked for {requested}",
    )


def csr_invalid(failed: m.Check, prefix: str | None) -> CsrInvalidError:
    """The error of a CSR or certificate that failed a check.

    Args:
        failed: the first check that failed.
        prefix: where in the bucket it lies; None: nothing came back, as only the request was
            another one.
    """
    action = (
        f"Treat it as a security incident; what came back lies at {prefix}."
        if prefix
        else "Have the TSB and what stands in front of it examined: answers are mixed up."
    )
    message = f"{failed.code}: {failed.finding}"
    return CsrInvalidError(message, field=failed.field, reason=failed.code, action=action)


def failure(record: Record) -> m.Failure:
    """The failure that ended an enrollment one of whose checks has failed.

    Raises:
        ValueError: none has.
    """
    noted: list[Any] = [*record.get("checks", ()), *record.get("certificateChecks", ())]
    failed, *_ = [m.Check.read(one) for one in noted if one["result"] == "failed"]
    prefix = record["quarantine"].get("prefix")
    invalid = csr_invalid(failed, prefix)
    stored = "StoreCertificate" if "certificateChecks" in record else "StoreCsr"
    return m.bounded(
        m.Failure(
            name=type(invalid).__name__,
            message=invalid.message,
            state=stored if prefix else "PollRequest",
            field=invalid.field,
            reason=invalid.reason,
            action=invalid.action,
        )
    )
