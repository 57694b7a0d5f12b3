"""The simulator on the network: HTTPS with a CA of its own, or plain HTTP."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import ipaddress
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.tsb_simulator import control
from local.tsb_simulator.simulator import Reply, Simulator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from pathlib import Path

    type Message = MutableMapping[str, Any]
    type Receive = Callable[[], Awaitable[Message]]
    type Send = Callable[[Message], Awaitable[None]]

LIFE = timedelta(days=30)


class Application:
    """The ASGI application around a simulator: TSB's paths, or the control side."""

    def __init__(self, simulator: Simulator, *, controls: bool = False) -> None:
        self._simulator = simulator
        self._controls = controls

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP call."""
        if scope["type"] != "http":
            return
        content = b""
        more = True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        method = scope["method"]
        path = scope["raw_path"].decode().partition("?")[0]
        if self._controls:
            query = scope["query_string"].decode()
            target = f"{path}?{query}"
            status, answer = await asyncio.to_thread(
                control.handle, self._simulator, method, target, content
            )
            await _send(send, Reply(status, json.dumps(answer).encode()))
            return
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        reply = await asyncio.to_thread(
            self._simulator.handle,
            method,
            path,
            headers,
            content,
            client_port=scope["client"][1] if scope.get("client") else None,
        )
        if reply.delay_seconds:
            await asyncio.sleep(reply.delay_seconds)
        if reply.drop:
            _transport(send).abort()
            return
        await _send(send, reply)


async def _send(send: Send, reply: Reply) -> None:
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if reply.truncate:
        half = reply.body[: len(reply.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        _transport(send).close()
        return
    await send({"type": "http.response.body", "body": reply.body})


def _transport(send: Send) -> asyncio.Transport:
    """The TCP (or TLS) connection below: ASGI has no way to end it without an answer."""
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
    return transport


def send_alerts() -> None:
    """Let asyncio tell a client why its handshake failed, as every TLS server does.

    asyncio 3.13 drops OpenSSL's alert together with the connection (python/cpython#98536 and
    others): a client whose certificate is refused would see an end without a reason.
    """
    protocol: Any = asyncio.sslproto.SSLProtocol
    complete = protocol._on_handshake_complete

    def tell_and_complete(self: Any, error: BaseException | None) -> None:
        if error is not None and self._outgoing.pending:
            self._transport.write(self._outgoing.read())
        complete(self, error)

    protocol._on_handshake_complete = tell_and_complete


def make_certificates(folder: Path, host: str) -> tuple[Path, Path, Path]:
    """A CA and a server certificate for `host` and the loopback names, as PEM files.

    Returns:
        Paths of the CA certificate, the server's certificate and its key.
    """
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "TSB simulator CA")])
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    for address in sorted({"127.0.0.1", "::1", host}):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            names.append(x509.DNSName(address))
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True
        )
        .sign(ca_key, hashes.SHA256())
    )
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "TSB simulator")])
    server = (
        _builder(server_name, ca_name, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    paths = folder / "ca.pem", folder / "server.pem", folder / "server-key.pem"
    paths[0].write_bytes(ca.public_bytes(Encoding.PEM))
    paths[1].write_bytes(server.public_bytes(Encoding.PEM))
    paths[2].touch(mode=0o600)
    paths[2].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
