"""A stand-in for Lambda's runtime API, which hands out a single invocation.

Source: AWS Lambda Developer Guide, "Using the Lambda runtime API". A runtime that asks for
`/runtime/invocation/next` has finished its Init.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VERSION = "2018-06-01"
LAMBDA_SECONDS = 300  # what the runtime is told that it has: the longest Timeout of the template


class LoopbackServer(ThreadingHTTPServer):
    """A server whose clients are ended wherever they are."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what is not a client's end."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class RuntimeApi:
    """On the loopback address, at a port of its own choice, for one runtime.

    Another runtime needs another one: the first may still ask for a second invocation.

    Args:
        event: of the only invocation.
        note: called when the runtime asks for it, and again when it has answered.

    Attributes:
        answered: set when it has answered.
        failed: what the runtime or its handler said of a failure.
        result: what the handler returned.
    """

    def __init__(self, event: Any, note: Callable[[], None]) -> None:
        self.answered = threading.Event()
        self.failed, self.result = "", None
        events = [json.dumps(event).encode()]
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # noqa: N802  the name that http.server calls
                if not events:
                    threading.Event().wait()  # no second invocation: until the runtime is ended
                note()
                body = events.pop()
                self.send_response(200)
                for name, value in _headers().items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:  # noqa: N802
                note()
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                if self.path.endswith("/response"):
                    api.result = json.loads(body or "null")
                else:
                    api.failed = body
                api.answered.set()
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = LoopbackServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()


def _headers() -> dict[str, str]:
    deadline = int((time.time() + LAMBDA_SECONDS) * 1_000)
    return {
        "Content-Type": "application/json",
        "Lambda-Runtime-Aws-Request-Id": "8f0c4c22-4cc4-491a-8b3d-6e8a77490e86",
        "Lambda-Runtime-Deadline-Ms": str(deadline),
        "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-central-1:1:function:bench",
    }
