"""An approver's own key, wherever it is: who they are to the TSB, and what signs for them.

The key never leaves its file or token. Signatures are as Java's `Signature` makes them: RSA PKCS #1
v1.5 and ECDSA in DER, both with SHA-256; Ed25519.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

from countersign.policy import approver_keys
from countersign_cli import signer
from countersign_cli.exits import CommandError, Exit
from countersign_cli.signer import KINDS, Signer

type Ask = Callable[[str], str]  # shows a prompt, returns what was typed; never echoed


@dataclass(frozen=True)
class Key:
    """An approver's key.

    Args:
        spki: base64 of the DER SubjectPublicKeyInfo.
        sign: base64 of the signature of these bytes.
        certificate: base64 of the DER, where there is one.
        protected: whether a passphrase or PIN stands before it.
    """

    spki: str
    sign: Callable[[bytes], str] = field(repr=False)
    certificate: str | None = None
    protected: bool = True

    def with_certificate(self, file: Path) -> "Key":
        """The key with the certificate in a file (PEM or DER).

        Raises:
            CommandError: it is none, or that of another key.
        """
        content = _content(file)
        for load in (x509.load_pem_x509_certificate, x509.load_der_x509_certificate):
            try:
                found = load(content)
                break
            except ValueError:
                continue
        else:
            raise _unusable(file, "holds no certificate", "Give a certificate in PEM or DER.")
        if _spki(found) != self.spki:
            raise _unusable(file, "is the certificate of another key", "Give your own.")
        return replace(self, certificate=_base64(found))


def read(file: Path, ask: Ask) -> Key:
    """The key of a file: PEM, or PKCS #12 as TSB's onboarding hands it out.

    Args:
        file: where it is.
        ask: for the passphrase, where there is one.

    Raises:
        CommandError: there is no private key in it, the passphrase is wrong, or such a key cannot
            approve.
    """
    content = _content(file)
    if b"-----BEGIN" in content:
        return _fit(file, _pem(file, ask))
    return _fit(file, _pkcs12(file, content, ask))


def _pem(file: Path, ask: Ask) -> Key:
    protected = False
    try:
        found = signer.read(file, None)
    except signer.NeedsPassphraseError:
        protected = True
        found = signer.read(file, ask(f"Passphrase of {file}"))
    if found.private_key is None:
        raise _unusable(file, "holds no private key", "Give your private key, not the public one.")
    return Key(found.spki, found.sign, protected=protected)


def _pkcs12(file: Path, content: bytes, ask: Ask) -> Key:
    protected = False
    try:
        private_key, certificate, _ = load_key_and_certificates(content, None)
    except ValueError:
        protected = True
        passphrase = ask(f"Passphrase of {file}")
        try:
            private_key, certificate, _ = load_key_and_certificates(content, passphrase.encode())
        except ValueError:
            wrong = "is no PEM and no PKCS #12, or the passphrase is wrong"
            raise _unusable(file, wrong, "Try again, or ask whoever gave you the file.") from None
    if not isinstance(private_key, KINDS):
        raise _unusable(file, "holds no key of a kind that approves", "Use RSA, EC or Ed25519.")
    held = Signer.holding(private_key)
    own = certificate if certificate is not None and _spki(certificate) == held.spki else None
    return Key(held.spki, held.sign, _base64(own) if own else None, protected=protected)


def _fit(file: Path, key: Key) -> Key:
    try:
        fault = approver_keys.unfit("public_key", key.spki)
    except ValueError as error:
        fault = str(error)
    if fault is not None:
        raise _unusable(file, f"holds a key that {fault}", "Have another key made for you.")
    return key


def _spki(certificate: x509.Certificate) -> str:
    try:
        der = certificate.public_key().public_bytes(*signer.DER)
    except ValueError:
        return ""
    return base64.b64encode(der).decode()


def _base64(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unusable(file, f"cannot be read: {error.strerror}", "Check the path.") from None


def _unusable(file: Path, why: str, action: str) -> CommandError:
    return CommandError(f"{file} {why}", action=action, code=Exit.USAGE)
