"""Public keys as TSB writes them: a DER SubjectPublicKeyInfo in base64, and its fingerprint.

A poll needs only this, and no certificate.
"""

import base64
import binascii
import hashlib


def spki_sha256(public_key: str) -> str:
    """The fingerprint (hex SHA-256 of the DER SPKI) of a base64 public key."""
    return hashlib.sha256(der(public_key)).hexdigest()


def fingerprint(public_key: str) -> str | None:
    """`spki_sha256` of a text that may be a public key; None if it is not base64."""
    try:
        return spki_sha256(public_key)
    except ValueError:
        return None


def der(text: str) -> bytes:
    """The bytes of base64 text on one line.

    Raises:
        ValueError: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("is not base64") from None
