"""A server of raw sockets that answers, or misbehaves, exactly as a test says."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

ANSWER_SECONDS = 5

type Act = Callable[[socket.socket, bytes], None]


def say(status: int, body: bytes = b"{}", **headers: str) -> Act:
    """A complete answer, the only one on its connection.

    It says so: a client that took the connection for kept alive would race with its end.
    """
    lines = [
        f"HTTP/1.1 {status} Whatever",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, "", ""]).encode()
    return lambda connection, _: connection.sendall(head + body)


def say_raw(content: bytes) -> Act:
    """These bytes, then the end."""
    return lambda connection, _: connection.sendall(content)


def end(connection: socket.socket, _: bytes) -> None:
    """No answer."""


def reset(connection: socket.socket, _: bytes) -> None:
    """The connection is torn down."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass
class Server:
    """One connection after another; `acts` are what happens to them, the last one again and again.

    Args:
        acts: what to do when a request has arrived.
        before: what to do with a connection before anything is read; None reads at once.
        context: for TLS.
    """

    acts: list[Act]
    before: Act | None = None
    context: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)

    def __enter__(self) -> "Server":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        # Wakes `accept`.
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join(ANSWER_SECONDS)
        self._listener.close()

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    def wait(self, *_: object) -> None:
        """Say nothing until the test is over."""
        self._done.wait(ANSWER_SECONDS)

    def _serve(self) -> None:
        number = 0
        while True:
            connection, _ = self._listener.accept()
            if self._done.is_set():
                connection.close()
                return
            threading.Thread(target=self._answer, args=(connection, number), daemon=True).start()
            number += 1

    def _answer(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(ANSWER_SECONDS)
        try:
            if self.before is not None:
                self.before(connection, b"")
                return
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            request = _read(connection)
            if request:
                self.requests.append(request)
                self.acts[min(number, len(self.acts) - 1)](connection, request)
        except OSError:
            pass  # the client hung up: its right
        finally:
            connection.close()


def _read(connection: socket.socket) -> bytes:
    content = b""
    while b"\r\n\r\n" not in content:
        part = connection.recv(65_536)
        if not part:
            return b""
        content += part
    head, _, body = content.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body
