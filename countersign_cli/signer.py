"""An approver's key that signs in this process: the user's own, or one made for the probe."""

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import NameOID

from countersign_cli.exits import CommandError, Exit

DIGEST = "SHA-256"

type PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
KINDS = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)
DER = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Signer:
    """An approver: base64 of the DER SubjectPublicKeyInfo, and the key that signs for it.

    No private key: the person approves elsewhere, with the vendor's app.
    """

    spki: str
    private_key: PrivateKey | None = field(default=None, repr=False)

    @classmethod
    def generate(cls) -> "Signer":
        """An approver for this run; the key is never written anywhere."""
        return cls.holding(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def holding(cls, key: PrivateKey) -> "Signer":
        """An approver with this key."""
        return cls(_spki(key.public_key().public_bytes(*DER)), key)

    def sign(self, content: bytes) -> str:
        """Base64 of the signature, in the form of Java's `Signature`."""
        key = self.private_key
        if isinstance(key, rsa.RSAPrivateKey):
            signature = key.sign(content, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            signature = key.sign(content, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, ed25519.Ed25519PrivateKey):
            signature = key.sign(content)
        else:
            raise ValueError("this approver's key is elsewhere")
        return base64.b64encode(signature).decode()

    def certificate(self, name: str) -> str:
        """A self-signed certificate with this common name: base64 of the DER."""
        if not isinstance(self.private_key, ec.EllipticCurvePrivateKey):
            raise ValueError("only keys made for the probe certify themselves")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self.private_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(self.private_key, hashes.SHA256())
        )
        return base64.b64encode(made.public_bytes(Encoding.DER)).decode()


def read(file: Path, passphrase: str | None) -> Signer:
    """The approver of a PEM file: a private key, a public key, or a certificate.

    Raises:
        NeedsPassphraseError: the private key is encrypted and no passphrase was given.
        CommandError: it is none of them, the passphrase is wrong, or no approver has such a key.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _unusable(file, f"cannot be read: {error.strerror}") from None
    try:
        if b"PRIVATE KEY-----" in content:
            given = passphrase.encode() if passphrase else None
            key = load_pem_private_key(content, given if b"ENCRYPTED" in content else None)
            if not isinstance(key, KINDS):
                raise _unusable(file, "holds a key of a kind that no approver has")
            return Signer.holding(key)
        if b"CERTIFICATE-----" in content:
            certificate = x509.load_pem_x509_certificate(content)
            return Signer(_spki(certificate.public_key().public_bytes(*DER)))
        return Signer(_spki(load_pem_public_key(content).public_bytes(*DER)))
    except TypeError:
        raise NeedsPassphraseError from None
    except (ValueError, UnsupportedAlgorithm):
        encrypted = passphrase is not None and b"ENCRYPTED" in content
        wrong = "cannot be opened with this passphrase" if encrypted else "holds no key in PEM"
        raise _unusable(file, wrong) from None  # OpenSSL's error may quote what it read


class NeedsPassphraseError(Exception):
    """The private key is encrypted."""


def _spki(der: bytes) -> str:
    return base64.b64encode(der).decode()


def _unusable(file: Path, why: str) -> CommandError:
    return CommandError(
        f"{file} {why}",
        action="Give the approver's private key in PEM; with --wait the public key or certificate.",
        code=Exit.USAGE,
    )
