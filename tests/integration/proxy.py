"""An HTTP proxy on the loopback address: CONNECT, and nothing else."""

import socket
import threading
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """Tunnels, or refuses with `refusal` (a status line's number and words).

    Everything that the client sends is kept in `seen`: a proxy on the way sees the same.
    """

    refusal: str | None = None
    requested: list[str] = field(default_factory=list)
    seen: bytes = b""

    def __enter__(self) -> "Proxy":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        self.seen += head
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.requested.append(f"{method} {target}")
        if self.refusal:
            client.sendall(f"HTTP/1.1 {self.refusal}\r\nContent-Length: 0\r\n\r\n".encode())
            client.close()
            return
        host, _, port = target.rpartition(":")
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=self._copy, args=(server, client, False), daemon=True)
        back.start()
        self._copy(client, server, True)

    def _copy(self, source: socket.socket, target: socket.socket, keep: bool) -> None:
        try:
            while part := source.recv(65_536):
                if keep:
                    self.seen += part
                target.sendall(part)
        except OSError:
            pass
        finally:
            target.close()
