"""Public keys as TSB writes them: the base64 of a DER SubjectPublicKeyInfo, and its fingerprint.

A poll needs no more than this, and no certificate.
"""

import base64
import binascii
import hashlib


def spki_sha256(public_key: str) -> str:
    """The fingerprint (hex SHA-256 of the DER SPKI) of a base64 public key."""
    return hashlib.sha256(der(public_key)).hexdigest()


def fingerprint(public_key: str) -> str | None:
    """`spki_sha256` of what somebody says is a public key; None where it is not base64."""
    try:
        return spki_sha256(public_key)
    except ValueError:
        return None


def der(text: str) -> bytes:
    """What base64 text on one line stands for.

    Raises:
        ValueError: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("is not base64") from None
