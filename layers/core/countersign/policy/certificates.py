"""The public keys and certificates by which a policy names its approvers."""

import base64
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import NameOID

from countersign.spki import approver_der


def approver_public_key(kind: str, value: str) -> str:
    """The base64 DER SPKI of an approver, given as public key or as certificate.

    Args:
        kind: `public_key` or `certificate`.
        value: as in `spki.approver_der`.

    Raises:
        ValueError: says what is wrong; never quotes the value.
    """
    der = approver_der(value)
    try:
        key = _certificate(der).public_key() if kind == "certificate" else load_der_public_key(der)
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        expected = "X.509 certificate" if kind == "certificate" else "public key (SPKI)"
        raise ValueError(f"is not the base64 of a DER {expected}") from None
    return base64.b64encode(spki).decode()


def certificate_common_name(value: str) -> str | None:
    """The CN of an approver's certificate, by which TSB names them.

    Raises:
        ValueError: the value is not a certificate.
    """
    names = _certificate(approver_der(value)).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else None


def expiries(certificates: str) -> list[datetime]:
    """When each certificate expires, of a PEM text or of an approver's value in a policy.

    Unreadable certificates are left out: this serves a warning, and the code that uses a
    certificate reports more.
    """
    try:
        if "-----BEGIN" in certificates:
            found = x509.load_pem_x509_certificates(certificates.encode())
        else:
            found = [_certificate(approver_der(certificates))] if certificates else []
    except ValueError:
        found = []
    return [one.not_valid_after_utc for one in found]


def certificate_validity(value: str) -> tuple[datetime, datetime]:
    """The first and the last time at which an approver's certificate is valid, UTC.

    Raises:
        ValueError: the value is not a certificate.
    """
    certificate = _certificate(approver_der(value))
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _certificate(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)
