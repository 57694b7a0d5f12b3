"""The bodies that TSB is sent for an accepted request, and the metadata that approvers see."""

import base64
from typing import Any

import rfc8785

from countersign.models import (
    SCHEMA_VERSION,
    EnrollmentRequest,
)
from countersign.policy import summary
from countersign.policy.rules import Names
from countersign.request.canonical import accepted, sha256
from countersign.request.validation import MAX_META_DATA_BYTES

# 26 lines at the most, with their names and notes, and a reason of 1,000 letters beside them.
MAX_LINE_BYTES = 800


def tsb_key(request: EnrollmentRequest, password: str | None) -> dict[str, Any]:
    """The body of `POST /v1/key`: what was requested, with the password and nothing else added."""
    body = request.key.model_dump(mode="json", exclude_unset=True)
    if "password" in body:
        body["password"] = list(password) if password is not None else None
    return body


def meta_data(
    request: EnrollmentRequest,
    *,
    enrollment_id: str,
    names: Names,
    requester: str | None = None,
) -> bytes:
    """The metadata that approvers see: a summary, the accepted request, and its SHA-256.

    It is in RFC 8785 form, so it always has the same bytes, and its names are in alphabetical
    order. The summary is called `about`, so that it comes first: an app that shows the text as it
    is shows no key in base64 before it. It has at most `MAX_META_DATA_BYTES`: a
    longer request is left out, but its hash never is. Where the summary alone is too long, each of
    its lines is shortened and says so.
    """
    requested = accepted(request)
    content = {
        "about": summary.lines(
            request, enrollment_id=enrollment_id, names=names, requester=requester
        ),
        "app": "countersign",
        "type": "CertificateSigningRequest",
        "schemaVersion": SCHEMA_VERSION,
        "enrollmentId": enrollment_id,
        "reason": request.reason,
        "requestSha256": sha256(requested),
        "request": requested,
    }
    whole: bytes = rfc8785.dumps(content)
    if len(whole) <= MAX_META_DATA_BYTES:
        return whole
    content["request"] = None
    short: bytes = rfc8785.dumps(content)
    if len(short) <= MAX_META_DATA_BYTES:
        return short
    content["about"] = summary.lines(
        request,
        enrollment_id=enrollment_id,
        names=names,
        requester=requester,
        most_bytes=MAX_LINE_BYTES,
    )
    shortest: bytes = rfc8785.dumps(content)
    return shortest


def tsb_csr(
    request: EnrollmentRequest,
    password: str | None,
    *,
    shown: bytes,
    signature: bytes,
) -> dict[str, Any]:
    """The `csrSignRequest`: what was requested, with the label exactly as the key was created.

    Args:
        request: the accepted request.
        password: the key's password.
        shown: the metadata.
        signature: the stack's signature over the metadata.
    """
    body = request.csr.model_dump(mode="json", exclude_unset=True)
    return {
        **body,
        "signKeyName": request.key.label,
        "keyPassword": list(password) if password is not None else None,
        "metaData": base64.b64encode(shown).decode(),
        "metaDataSignature": base64.b64encode(signature).decode(),
    }
