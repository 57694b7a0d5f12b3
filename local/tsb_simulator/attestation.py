"""The simulated HSM's attestation: a root of its own, and a key below it that signs attributes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from local.tsb_simulator.keys import Attestation

LIFE = timedelta(days=3650)


def make_attestation() -> Attestation:
    """A fresh root and attestation key; the chain is PEM, the attestation key's first."""
    root_key = ec.generate_private_key(ec.SECP384R1())
    key = ec.generate_private_key(ec.SECP384R1())
    root = _certificate("Simulated HSM Root", root_key.public_key(), "Simulated HSM Root", root_key)
    leaf = _certificate("attestation-key", key.public_key(), "Simulated HSM Root", root_key)
    chain = [one.public_bytes(Encoding.PEM).decode() for one in (leaf, root)]
    return Attestation(chain, key)


def _certificate(
    subject: str,
    public: ec.EllipticCurvePublicKey,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=subject == issuer, path_length=None), critical=True)
        .sign(signer, hashes.SHA384())
    )
