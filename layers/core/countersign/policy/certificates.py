"""The public keys and certificates by which a policy names its approvers."""

import base64
from collections.abc import Callable
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import NameOID

from countersign.spki import approver_der

PUBLIC_KEY, CERTIFICATE = "public key (SPKI)", "X.509 certificate"


def approver_public_key(kind: str, value: str) -> str:
    """The base64 DER SPKI of an approver, given as public key or as certificate.

    Args:
        kind: `public_key` or `certificate`.
        value: as in `spki.approver_der`.

    Raises:
        ValueError: says what is wrong; never quotes the value.
    """
    content = approver_der(value)

    def spki() -> bytes:
        key = _certificate(content).public_key() if certified else load_der_public_key(content)
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    certified = kind == "certificate"
    return base64.b64encode(_read(spki, CERTIFICATE if certified else PUBLIC_KEY)).decode()


def readable(public_key: str) -> bool:
    """Whether a base64 DER SPKI is a key that can verify: a point on its curve, if it has one."""
    try:
        approver_public_key("public_key", public_key)
    except ValueError:
        return False
    return True


def certificate_common_name(value: str) -> str | None:
    """The CN of an approver's certificate, by which TSB names them.

    Raises:
        ValueError: the value is not a certificate.
    """
    content = approver_der(value)

    def common_name() -> str | None:
        names = _certificate(content).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value) if names else None

    return _read(common_name, CERTIFICATE)


def expiries(certificates: str) -> list[datetime]:
    """When each certificate expires, of a PEM text or of an approver's value in a policy.

    Unreadable certificates are left out: this serves a warning, and the code that uses a
    certificate reports more.
    """

    def dates() -> list[datetime]:
        if "-----BEGIN" in certificates:
            found = x509.load_pem_x509_certificates(certificates.encode())
        else:
            found = [_certificate(approver_der(certificates))] if certificates else []
        return [one.not_valid_after_utc for one in found]

    try:
        return _read(dates, CERTIFICATE)
    except ValueError:
        return []


def certificate_validity(value: str) -> tuple[datetime, datetime]:
    """The first and the last time at which an approver's certificate is valid, UTC.

    Raises:
        ValueError: the value is not a certificate.
    """
    content = approver_der(value)

    def validity() -> tuple[datetime, datetime]:
        certificate = _certificate(content)
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc

    return _read(validity, CERTIFICATE)


def _certificate(content: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(content)


def _read[T](read: Callable[[], T], expected: str) -> T:
    """What is read of a key or certificate from outside, whatever the library raises about it.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return read()
    except Exception:  # noqa: BLE001  the library has more kinds of errors than it lists
        raise ValueError(f"is not the base64 of a DER {expected}") from None
