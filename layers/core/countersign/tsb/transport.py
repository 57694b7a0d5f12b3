"""How the TSB is reached: its URL, TLS with our own CAs, a proxy, bounds on time and bytes."""

import http.client
import io
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import certifi
import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3 import exceptions as urllib3_errors
from urllib3.connection import HTTPConnection, HTTPSConnection

from countersign.errors import (
    TsbCredentialsError,
)
from countersign.tsb.models import Reply, Tls

CONNECT_TIMEOUT_SECONDS = 5
TIMEOUT_SECONDS = 15  # half of the functions' Timeout of 30 s: report before Lambda kills us
MAX_ANSWER_BYTES = 1024 * 1024  # a list of 20,000 labels; a key's attributes are 10 KB
CHUNK_BYTES = 64 * 1024
LEAST_SECONDS = 0.001  # where all of a call's time has passed: urllib3 takes no 0
# What the libraries raise about an answer or its absence. `ValueError`: they parse what arrives.
NETWORK = (requests.RequestException, urllib3_errors.HTTPError, OSError, ValueError)
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# No userinfo, no query, no fragment, no dot segments; what is not ASCII in its ASCII form (xn--).
URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*|\[[0-9A-Fa-f:.]+\])"
    r"(:(?P<port>[0-9]{1,5}))?"
    r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?"
)


def base_url(url: str) -> str:
    """The TSB's URL without a slash at its end.

    Raises:
        TsbCredentialsError: it is no https URL (http is for the loopback address alone), or holds
            what a base URL has no use for.
    """
    parts = URL.fullmatch(url)
    if parts is None or not 0 < int(parts["port"] or 1) < 2**16 or not _is_host(parts["host"]):
        raise TsbCredentialsError(
            "the TSB's URL is not of the form https://host:port/path, in ASCII",
            action="Give the stack's parameter TsbUrl such a URL: no user, query or fragment; a"
            " name that is not ASCII in its ASCII form (xn--…).",
        )
    if parts["scheme"] != "https" and parts["host"] not in LOOPBACK:
        raise TsbCredentialsError(
            "the TSB's URL is not https: API keys would cross the network in the clear",
            action="Give the stack's parameter TsbUrl an https URL.",
        )
    return url.rstrip("/")


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return True
    try:
        socket.inet_pton(socket.AF_INET6, host[1:-1])
    except OSError:
        return False
    return True


def send(
    adapter: BaseAdapter,
    method: str,
    url: str,
    body: dict[str, Any] | None,
    *,
    headers: dict[str, str],
    proxies: dict[str, str],
    connect_seconds: float,
    seconds: float,
) -> Reply:
    """Make one HTTP call; a redirect is an answer like any other.

    Args:
        adapter: to the network.
        method: of HTTP.
        url: whole.
        body: sent as JSON.
        headers: the only ones besides those of the body.
        proxies: by scheme.
        connect_seconds: for the TCP and TLS handshakes.
        seconds: for everything, the answer's last byte included.

    Raises:
        NETWORK: no answer came, or none that ends in time, or none of HTTP.
    """
    request = requests.Request(method, url, json=body, headers=headers).prepare()
    timeout = Timeout(total=max(seconds, LEAST_SECONDS), connect=connect_seconds)
    response = adapter.send(request, stream=True, timeout=timeout, proxies=proxies)  # type: ignore[arg-type]
    said = response.headers
    date, content_type = _date(said.get("Date")), said.get("Content-Type")
    return Reply(response.status_code, _read(response), date, content_type)


def _date(text: str | None) -> datetime | None:
    """The time of a `Date` header; None for what is none, or has no zone."""
    try:
        moment = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _read(response: requests.Response) -> bytes | None:
    """The decoded body; None: it has more than MAX_ANSWER_BYTES, and the rest is left unread."""
    body = bytearray()
    while chunk := response.raw.read(CHUNK_BYTES, decode_content=True):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            response.close()
            return None
    return bytes(body)


class _Clocked(io.RawIOBase):
    """What a socket receives until its timeout has passed once, however slowly it comes.

    A socket's own timeout begins anew with every byte.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = connection.makefile("rb", buffering=0)
        self._ends = time.monotonic() + (connection.gettimeout() or TIMEOUT_SECONDS)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        self._socket.settimeout(left)
        return self._received.readinto(buffer)

    def close(self) -> None:
        self._received.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose head and body together have the time of the read timeout."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_Clocked(sock))


class _PlainConnection(HTTPConnection):
    response_class = _Response


class _Connection(HTTPSConnection):
    """Reports every failed connect, TLS handshake included, as a connection that was never made."""

    response_class = _Response

    def connect(self) -> None:
        try:
            super().connect()
        except (OSError, urllib3_errors.HTTPError) as error:
            raise urllib3_errors.NewConnectionError(self, type(error).__name__) from error


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


POOLS = {"http": _PlainPool, "https": _Pool}


class VerifiedAdapter(HTTPAdapter):
    """HTTPS with our own context: our CA bundle replaces the public CAs; TLS 1.2 or newer."""

    def __init__(self, tls: Tls) -> None:
        if tls.ca_bundle is None:
            self._context = ssl.create_default_context(cafile=certifi.where())
        else:
            try:
                self._context = ssl.create_default_context(cadata=tls.ca_bundle)
            except ssl.SSLError as error:
                raise TsbCredentialsError(
                    "the CA bundle in the TLS secret holds no certificate in PEM",
                    action="Put the PEM of the CA that issued TSB's certificate there, or null.",
                ) from error
        if tls.certificate is not None or tls.private_key is not None:
            _show(self._context, tls)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """As in requests, with our context and our pools."""
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """As in requests, with our context inside the tunnel."""
        # requests would use its own context for the TLS inside the tunnel.
        manager = super().proxy_manager_for(proxy, **kwargs, ssl_context=self._context)
        manager.pool_classes_by_scheme = POOLS
        self.proxy_manager[proxy] = manager
        return manager

    def build_connection_pool_key_attributes(
        self,
        request: Any,
        verify: Any,  # noqa: ARG002
        cert: Any = None,  # noqa: ARG002
    ) -> tuple[Any, Any]:
        """As in requests, with our context."""
        # `verify` and `cert` of a call are ignored: the context alone decides.
        return super().build_connection_pool_key_attributes(request, verify=True, cert=None)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ARG002
        """As in requests, with the CAs of our context alone."""
        # requests would add certifi's public CAs to our context.
        conn.cert_reqs = "CERT_REQUIRED"


@contextmanager
def in_memory(content: bytes) -> Iterator[str]:
    """A path to `content` in memory. Only this process can open it, and only in the block."""
    descriptor = os.memfd_create("", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o400)
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def letters(password: str | None) -> list[str] | None:
    """A password as in TSB's documentation: an array of one-character strings."""
    return None if password is None else list(password)


def _show(context: ssl.SSLContext, tls: Tls) -> None:
    """Load the client certificate. OpenSSL reads only files: this one is unnamed and in memory."""
    fix = "Put certificate and privateKey into the TLS secret, in PEM, neither of them encrypted."
    if tls.certificate is None or tls.private_key is None:
        missing = "certificate" if tls.certificate is None else "privateKey"
        raise TsbCredentialsError(
            f"the TLS secret holds half of a client certificate: {missing} is missing", action=fix
        )
    try:
        with in_memory(f"{tls.certificate}\n{tls.private_key}\n".encode()) as path:
            context.load_cert_chain(path, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        mismatch = "MISMATCH" in str(error).upper()
        raise TsbCredentialsError(
            "certificate and privateKey in the TLS secret do not belong together"
            if mismatch
            else "certificate or privateKey in the TLS secret cannot be read",
            action=fix,
        ) from None  # OpenSSL's error may quote the unreadable text


def _no_password() -> bytes:
    """OpenSSL asks here for the password of a private key: there is none."""
    # Without this error OpenSSL would ask at the terminal.
    raise ValueError("the private key is encrypted")
