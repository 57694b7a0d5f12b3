"""AWS and one TSB on the loopback address, which know a single conversation and answer it again.

They run in the measuring process, so their work counts for nobody, and a measured process does all
that a call costs it in Lambda: signing, connecting, TLS with the TSB, parsing.
"""

import base64
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.bare import AwsCall
from benchmarks.first_calls import Exchange
from benchmarks.runtime_api import LoopbackServer

HOST = "127.0.0.1"
JSON_ANSWER = "application/x-amz-json-1.0"

type Json = dict[str, Any]
type Reply = tuple[int, dict[str, str], bytes]


class Answers:
    """Two ports: `aws` speaks HTTP, `tsb` HTTPS with the certificate in `ca_bundle`.

    The calls of a conversation must come in its order. `unexpected` names the first that does not,
    and `left` how many did not come.

    Args:
        folder: for the TSB's certificate.
    """

    def __init__(self, folder: Path) -> None:
        certificate = _certificate(folder)
        self.ca_bundle = certificate.read_text()
        self.unexpected = ""
        self._exchanges: list[Exchange] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, folder / "tsb.key")
        self._servers = [_serve(self._aws), _serve(self._tsb, context)]
        aws, tsb = (server.server_port for server in self._servers)
        self.aws, self.tsb = f"http://{HOST}:{aws}", f"https://{HOST}:{tsb}"

    def expect(self, exchanges: list[Exchange]) -> None:
        """Begin a conversation."""
        self._exchanges, self.unexpected = list(exchanges), ""

    @property
    def left(self) -> list[str]:
        """The calls that have not been made."""
        return [str(one.call) for one in self._exchanges]

    def stop(self) -> None:
        """Close the ports."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _aws(self, method: str, path: str, headers: Any, body: bytes) -> Reply:
        return self._next(_operation(method, path, headers, body), wire)

    def _tsb(self, method: str, path: str, _: Any, __: bytes) -> Reply:
        return self._next(f"{method} {path}", _as_received)

    def _next(self, asked: str, reply: Callable[[Exchange], Reply]) -> Reply:
        if not self._exchanges or not str(self._exchanges[0].call).endswith(asked):
            self.unexpected = self.unexpected or f"{asked} where {self.left[:1]} was expected"
            return 500, {}, b""
        return reply(self._exchanges.pop(0))


def _operation(method: str, path: str, headers: Any, body: bytes) -> str:
    """What boto3 asks for, `.PutItem`, from the wire."""
    if target := headers.get("X-Amz-Target"):
        return f".{target.rpartition('.')[2]}"
    if path.startswith("/2015-03-31/functions/"):
        return "lambda.Invoke"
    if path == "/v2/email/outbound-emails":
        return "sesv2.SendEmail"
    if body.startswith(b"Action="):
        return f".{body.decode().removeprefix('Action=').partition('&')[0]}"
    listed = "list-type=2" in path
    return f"s3.{'ListObjectsV2' if listed else {'GET': 'GetObject', 'PUT': 'PutObject'}[method]}"


def _as_received(exchange: Exchange) -> Reply:
    answer = exchange.answer
    return answer["status"], {"Content-Type": answer["type"]}, answer["body"]


def wire(exchange: Exchange) -> Reply:
    """What AWS sends where boto3 hands this out."""
    assert isinstance(exchange.call, AwsCall)  # noqa: S101  for the type checker
    match exchange.call.service:
        case "s3":
            return _s3(exchange.call, exchange.answer, refused=exchange.refused)
        case "sns":
            made = f"<MessageId>{exchange.answer['MessageId']}</MessageId>"
            text = f"<PublishResponse><PublishResult>{made}</PublishResult></PublishResponse>"
            return 200, {"Content-Type": "text/xml"}, text.encode()
        case "lambda":
            return 202, {}, b""
    content = {name: one for name, one in exchange.answer.items() if name != "ResponseMetadata"}
    if exchange.refused:
        error = content.pop("Error")
        content = {"__type": f"aws#{error['Code']}", "message": error["Message"], **content}
    body = json.dumps(content, default=_plain).encode()
    return 400 if exchange.refused else 200, {"Content-Type": JSON_ANSWER}, body


def _plain(value: Any) -> Any:
    """Bytes and times as AWS's JSON has them."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value.timestamp()


def _s3(call: AwsCall, answer: Json, *, refused: bool) -> Reply:
    kind = {"Content-Type": "application/xml"}
    if refused:
        status, code = answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]
        return status, kind, f"<Error><Code>{code}</Code><Message/></Error>".encode()
    version = {"x-amz-version-id": answer.get("VersionId") or "null", "ETag": '"0"'}
    if call.operation == "PutObject":
        return 200, version, b""
    if call.operation == "GetObject":
        return 200, {**version, "Content-Type": "application/octet-stream"}, answer["Body"]
    listed = "".join(
        f"<Contents><Key>{escape(one['Key'])}</Key><Size>{one['Size']}</Size></Contents>"
        for one in answer.get("Contents", ())
    )
    text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>"
    return 200, kind, text.encode()


def _serve(
    answer: Callable[[str, str, Any, bytes], Reply], context: ssl.SSLContext | None = None
) -> LoopbackServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # kept-alive connections, and 100 Continue

        def reply(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            status, headers, content = answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = reply  # noqa: N815  the names http.server calls

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = LoopbackServer((HOST, 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _certificate(folder: Path) -> Path:
    """Make a key and a certificate for the loopback address, its own CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a TSB")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "tsb.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    file = folder / "tsb.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return file
