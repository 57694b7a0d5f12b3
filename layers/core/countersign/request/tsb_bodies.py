"""The bodies that TSB is sent for an accepted request, and the metadata that approvers see."""

import base64
from collections.abc import Callable
from typing import Any

import rfc8785

from countersign.models import (
    SCHEMA_VERSION,
    EnrollmentRequest,
)
from countersign.policy import summary
from countersign.policy.rules import Names
from countersign.request.canonical import accepted, sha256

# TSB returns the metadata to every approver in every listing of their tasks. A request of ordinary
# size (some forty approvers by key) is shown in full; of a longer one, only its SHA-256 is shown.
MAX_META_DATA_BYTES = 32 * 1024
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

    def lines(most_bytes: int | None) -> list[str]:
        return summary.lines(
            request,
            enrollment_id=enrollment_id,
            names=names,
            requester=requester,
            most_bytes=most_bytes,
        )

    return _meta_data(request, "CertificateSigningRequest", lines, enrollment_id)


def certificate_meta_data(
    request: EnrollmentRequest,
    *,
    terms: summary.CertificateTerms,
    enrollment_id: str,
    requester: str | None = None,
) -> bytes:
    """As `meta_data`, for the approvers of the CA's key."""

    def lines(most_bytes: int | None) -> list[str]:
        return summary.certificate_lines(
            request,
            terms=terms,
            enrollment_id=enrollment_id,
            requester=requester,
            most_bytes=most_bytes,
        )

    return _meta_data(request, "Certificate", lines, enrollment_id)


def _meta_data(
    request: EnrollmentRequest,
    kind: str,
    lines: Callable[[int | None], list[str]],
    enrollment_id: str,
) -> bytes:
    requested = accepted(request)
    content = {
        "about": lines(None),
        "app": "countersign",
        "type": kind,
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
    content["about"] = lines(MAX_LINE_BYTES)
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


def tsb_certificate(
    request: EnrollmentRequest,
    *,
    csr: str,
    signature_algorithm: str,
    usages: tuple[tuple[str, ...], tuple[str, ...]],
    newer: bool,
    shown: bytes,
    signature: bytes,
) -> dict[str, Any]:
    """The `signCertificateRequest`.

    Args:
        request: the accepted request, which asks for a certificate.
        csr: the verified CSR in PEM, in lines: the vendor's engine refuses one on a single line.
        signature_algorithm: TSB's name.
        usages: key usages and extended key usages.
        newer: whether this TSB can be told validity and whole subject. An older one refuses
            properties that it does not know, and takes the common name.
        shown: the metadata.
        signature: the stack's signature over the metadata.
    """
    asked, subject = request.certificate, request.csr.standard_certificate_attributes
    assert asked is not None  # noqa: S101  for the type checker  # nosec B101
    named: dict[str, Any] = {"commonName": subject.common_name}
    if newer:
        attributes = subject.model_dump(mode="json", exclude_unset=True)
        named = {"standardCertificateAttributes": attributes, "validity": asked.validity}
    key_usage, extended_key_usage = usages
    return {
        "signKeyName": asked.ca_key_label,
        "keyPassword": None,
        "signatureAlgorithm": signature_algorithm,
        **named,
        "certificateAuthority": asked.certificate_authority,
        "certificateSigningRequest": csr,
        "keyUsage": list(key_usage),
        "extendedKeyUsage": list(extended_key_usage),
        "metaData": base64.b64encode(shown).decode(),
        "metaDataSignature": base64.b64encode(signature).decode(),
    }
