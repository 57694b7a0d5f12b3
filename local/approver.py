"""An approver with a key of their own, like the vendor's app: fetches tasks, signs, declines.

Source: TSB REST API, POST /v1/filteredAllApprovalTask, POST /v1/approval, PATCH /v1/task.
"""

import base64
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import NameOID

DIGEST = "SHA-256"
TIMEOUT_SECONDS = 20
PAUSE_SECONDS = 0.5

type PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
type Task = dict[str, Any]


@dataclass(frozen=True)
class ApproverClient:
    """An approver client: a TSB, an API key of role approver, and the CA to trust."""

    url: str
    api_key: str = field(repr=False)
    ca_certificate: Path

    def send(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """Make one call; raises requests.HTTPError if TSB refuses."""
        answer = requests.request(
            method,
            f"{self.url}{path}",
            json=body,
            headers={"X-API-KEY": self.api_key},
            # Passed with the call: the environment's REQUESTS_CA_BUNDLE would override a session's
            # value.
            verify=str(self.ca_certificate),
            timeout=TIMEOUT_SECONDS,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None


class Approver:
    """A person with a private key."""

    def __init__(self, name: str, private_key: PrivateKey) -> None:
        self.name = name
        self._private_key = private_key

    @classmethod
    def generate(cls, name: str, kind: Literal["rsa", "ec", "ed25519"] = "rsa") -> Self:
        """An approver with a new key pair."""
        if kind == "rsa":
            return cls(name, rsa.generate_private_key(65537, 2048))
        if kind == "ec":
            return cls(name, ec.generate_private_key(ec.SECP256R1()))
        return cls(name, ed25519.Ed25519PrivateKey.generate())

    @property
    def spki(self) -> str:
        """The public key as in a policy: base64 of the DER SubjectPublicKeyInfo."""
        public = self._private_key.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode()

    def pem(self, passphrase: str | None = None) -> bytes:
        """The private key (PKCS #8); encrypted where there is a passphrase."""
        return self._private_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, _encryption(passphrase)
        )

    def pkcs12(self, passphrase: str) -> bytes:
        """The private key with its certificate, as TSB's onboarding hands it out."""
        certificate = x509.load_der_x509_certificate(base64.b64decode(self.certificate()))
        name = self.name.encode()
        return serialize_key_and_certificates(
            name, self._private_key, certificate, None, _encryption(passphrase)
        )

    def certificate(self, days: int = 365) -> str:
        """A self-signed certificate with the approver's name as CN: base64 of the DER."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        now = datetime.now(UTC)
        digest = None if isinstance(self._private_key, ed25519.Ed25519PrivateKey) else _sha256()
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._private_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=days))
            .sign(self._private_key, digest)
        )
        return base64.b64encode(made.public_bytes(Encoding.DER)).decode()

    def tasks(self, approver_client: ApproverClient, request_id: str | None = None) -> list[Task]:
        """The tasks that wait for this approver, with everything known about them."""
        body = {**self._authentication(), "requestId": request_id, "detailLevel": "level6"}
        answer = approver_client.send("POST", "/v1/filteredAllApprovalTask", body)
        return list(answer["tasks"])

    def await_task(
        self, approver_client: ApproverClient, key_label: str, seconds: float = 60
    ) -> Task:
        """The first task for a key, as soon as there is one.

        Raises:
            TimeoutError: none came.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for task in self.tasks(approver_client):
                if label(task) == key_label:
                    return task
            time.sleep(PAUSE_SECONDS)
        raise TimeoutError(f"{self.name} got no task for key {key_label} within {seconds} s")

    def approve(self, approver_client: ApproverClient, task: Task) -> None:
        """Sign the bytes that TSB returns for the task."""
        content = base64.b64decode(task["approvalToBeSigned"])
        body = {
            "id": task["id"],
            "approvalToBeSigned": task["approvalToBeSigned"],
            "signature": self._sign(content),
            "approvalDigestAlgorithm": DIGEST,
            "approverPublicKey": self.spki,
        }
        approver_client.send("POST", "/v1/approval", body)

    def decline(self, approver_client: ApproverClient, task: Task) -> None:
        """Delete the task; TSB has no place for a reason."""
        approver_client.send("PATCH", "/v1/task", {**self._authentication(), "id": task["id"]})

    def _authentication(self) -> dict[str, str]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "timestamp": now,
            "timestampSignature": self._sign(now.encode()),
            "timestampDigestAlgorithm": DIGEST,
            "approverPublicKey": self.spki,
        }

    def _sign(self, content: bytes) -> str:
        key = self._private_key
        if isinstance(key, rsa.RSAPrivateKey):
            signature = key.sign(content, padding.PKCS1v15(), _sha256())
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            signature = key.sign(content, ec.ECDSA(_sha256()))
        else:
            signature = key.sign(content)
        return base64.b64encode(signature).decode()


def shown(task: Task, key: bytes) -> Any:
    """What a task shows to the approver, as a JSON value.

    Args:
        task: as TSB returns it.
        key: the public key (PEM) of the stack that asks.

    Raises:
        cryptography.exceptions.InvalidSignature: the stack did not sign it, or it was changed.
    """
    public = load_pem_public_key(key)
    assert isinstance(public, ec.EllipticCurvePublicKey)  # noqa: S101  for the type checker
    content = base64.b64decode(task["metaData"])
    public.verify(base64.b64decode(task["metaDataSignature"]), content, ec.ECDSA(_sha256()))
    return json.loads(content)


def label(task: Task) -> str | None:
    """The key that a task is about."""
    for dto in task.values():
        if isinstance(dto, dict):
            for inner in dto.values():
                if isinstance(inner, dict) and "signKeyName" in inner:
                    return str(inner["signKeyName"])
    return None


def _encryption(passphrase: str | None) -> KeySerializationEncryption:
    return NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase.encode())


def _sha256() -> hashes.SHA256:
    return hashes.SHA256()
