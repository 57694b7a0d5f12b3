"""The canonical form of a request, and its hash."""

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785

from countersign.errors import InvalidEnrollmentError
from countersign.models import (
    EnrollmentRequest,
)


def sha256(request: Mapping[str, Any]) -> str:
    """The SHA-256 of the RFC 8785 form without the id. Requests with the same hash are the same.

    Raises:
        InvalidEnrollmentError: the request has no canonical form (a number beyond 2^53, a lone
            surrogate).
    """
    return hashlib.sha256(canonical(request)).hexdigest()


def canonical(request: Mapping[str, Any]) -> bytes:
    """The RFC 8785 form of the request, without its id.

    Raises:
        InvalidEnrollmentError: it has none.
    """
    try:
        return rfc8785.dumps(without_id(request))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        raise InvalidEnrollmentError(
            "the request has no canonical JSON form: a number or a text that JSON cannot carry",
            field="request",
            action="Use integers below 2^53 and valid Unicode.",
        ) from None


def accepted(request: EnrollmentRequest) -> dict[str, Any]:
    """The accepted request as a JSON value: what was requested and nothing added.

    Approvers are shown its canonical form, and a CSR is compared with it.
    """
    return request.model_dump(mode="json", exclude_unset=True, exclude={"enrollment_id"})


def without_id(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request as it is passed on: without its id, which is the enrollment's."""
    return {name: value for name, value in request.items() if name != "enrollmentId"}
