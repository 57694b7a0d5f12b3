"""A stand-in for Lambda's runtime API: says when a runtime asks for its first invocation.

Source: AWS Lambda Developer Guide, "Using the Lambda runtime API". A runtime that asks for
`/runtime/invocation/next` has finished its Init; no invocation is ever handed out.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "2018-06-01"


class RuntimeApi:
    """On the loopback address, at a port of its own choice; one runtime at a time."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.failed = ""
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802  the name that http.server calls
                if self.path == f"/{VERSION}/runtime/invocation/next":
                    api.ready.set()
                    threading.Event().wait()  # until the runtime is ended

            def do_POST(self) -> None:  # noqa: N802
                length = int(self.headers.get("Content-Length", 0))
                api.failed = self.rfile.read(length).decode()
                api.ready.set()
                self.send_response(202)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def expect(self) -> None:
        """Forget the last runtime."""
        self.ready.clear()
        self.failed = ""

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
