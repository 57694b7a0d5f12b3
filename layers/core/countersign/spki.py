"""Public keys as TSB writes them: a DER SubjectPublicKeyInfo in base64, and its fingerprint.

A certificate's public key is cut out of it here. A poll needs no more, and nothing that reads
certificates is loaded for it.
"""

import base64
import hashlib
import re

from countersign.der import SEQUENCE, element

ARMOR = re.compile(r"-----(BEGIN|END) (PUBLIC KEY|CERTIFICATE)-----")
# A certificate's first fields (RFC 5280, 4.1): serial number, signature, issuer, validity, subject,
# subjectPublicKeyInfo. The version before them has a tag of its own, and may be missing.
VERSION_TAG, SPKI_FIELD = 0xA0, 5


def spki_sha256(public_key: str) -> str:
    """The fingerprint (hex SHA-256 of the DER SPKI) of a base64 public key."""
    return hashlib.sha256(der(public_key)).hexdigest()


def fingerprint(public_key: str) -> str | None:
    """`spki_sha256` of a text that may be a public key; None if it is not base64."""
    try:
        return spki_sha256(public_key)
    except ValueError:
        return None


def approver_spki(kind: str, value: str) -> bytes:
    """The DER SPKI of an approver, given as public key or as certificate; not looked into.

    Args:
        kind: `public_key` or `certificate`.
        value: as in `approver_der`.

    Raises:
        ValueError: says what is wrong; never quotes the value.
    """
    content = approver_der(value)
    return _certificate_spki(content) if kind == "certificate" else content


def approver_der(value: str) -> bytes:
    """The DER of base64 on one line. The armor lines of PEM are tolerated, as TSB does.

    Raises:
        ValueError: it is not base64.
    """
    try:
        return der(ARMOR.sub("", value).strip())
    except ValueError:
        raise ValueError("is not base64 on one line") from None


def _certificate_spki(content: bytes) -> bytes:
    try:
        certificate = element(content, SEQUENCE).inside(SEQUENCE)[0]
        fields = [one.whole for one in certificate.inside(SEQUENCE) if one.tag != VERSION_TAG]
        return fields[SPKI_FIELD]
    except (ValueError, IndexError):
        raise ValueError("is not the base64 of a DER X.509 certificate") from None


def der(text: str) -> bytes:
    """The bytes of base64 text on one line.

    Raises:
        ValueError: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("is not base64") from None
