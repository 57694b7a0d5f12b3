"""The errors of the HTTP API as RFC 9457 problem details."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from countersign import models as m
from countersign.api.models import Finding, Problem
from countersign.errors import CountersignError, EnrollmentConflictError, InvalidEnrollmentError

MAX_FINDINGS = 100  # per refusal; more say nothing new, and the size of an answer is limited
JSON = "application/json"
PEM, DER = "application/x-pem-file", "application/pkcs10"
CERTIFICATE_DER = "application/pkix-cert"
STATUS_OF = {
    InvalidEnrollmentError: HTTPStatus.UNPROCESSABLE_ENTITY,
    EnrollmentConflictError: HTTPStatus.CONFLICT,
}


class ProblemError(Exception):
    """The call fails; `functions/api.py` returns this error as problem details."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        action: str,
        *,
        findings: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.action = action
        self.findings = findings


def problem(error: Exception, *, instance: str, enrollment_id: str | None) -> Problem:
    """The problem details of any error. Of errors that are not ours, nothing is repeated.

    Args:
        error: what was raised.
        instance: the path of the call.
        enrollment_id: the enrollment that the call was about.
    """
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    detail, action = "the call failed", "Try again; search the log for the request id."
    findings: tuple[tuple[str, str], ...] = ()
    name = None
    if isinstance(error, ProblemError):
        status, detail, action = error.status, error.detail, error.action
        findings = error.findings
    elif isinstance(error, CountersignError):
        status = STATUS_OF.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE)
        detail, action, name = error.message, error.action, type(error).__name__
        enrollment_id = error.enrollment_id or enrollment_id
        if isinstance(error, InvalidEnrollmentError):
            findings = error.findings or ((error.field or "request", error.message),)
    return Problem(
        title=status.phrase,
        status=status,
        detail=detail,
        instance=instance,
        error=name,
        action=action,
        enrollment_id=enrollment_id,
        errors=tuple(Finding(field=field, detail=text) for field, text in findings[:MAX_FINDINGS]),
    )


def invalid_parameters(details: Sequence[Mapping[str, Any]]) -> ProblemError:
    """The error for parameters that Powertools refuses, without the values."""
    findings = tuple(
        (".".join(str(part) for part in detail["loc"]), m.sentence(detail)) for detail in details
    )
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "; ".join(f"{field}: {text}" for field, text in findings),
        "Correct the named parameters.",
        findings=findings,
    )


def no_route(path: str) -> ProblemError:
    """The error for a path or method that this API does not have."""
    return ProblemError(
        HTTPStatus.NOT_FOUND,
        f"there is nothing at {path}",
        "See docs/openapi.json for what there is.",
    )


def not_this_api(api: str) -> Problem:
    """What somebody gets who invokes the function past its API, or through another one."""
    return Problem(
        title=HTTPStatus.FORBIDDEN.phrase,
        status=HTTPStatus.FORBIDDEN,
        detail=f"this function answers calls of its own API only ({api})",
        action="Call the stack's output ApiUrl, signed with your own credentials.",
    )


def invalid(field: str, text: str) -> ProblemError:
    """The error for one parameter that is not valid."""
    return invalid_parameters([{"loc": field.split("."), "msg": text}])
