"""The API's page on the embedded stack: docs/openapi.json to read and to try.

A browser cannot sign, so what is tried goes through here and is signed as the emulator's root.
`python -m local.api_page API_URL` prints one JSON line with its URL and serves until stopped.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path

import requests
from aws_lambda_powertools.event_handler.openapi import swagger_ui
from aws_lambda_powertools.event_handler.openapi.swagger_ui import generate_swagger_html

from local.caller import Signature
from local.stack import require_loopback

OPENAPI = Path(__file__).parents[1] / "docs/openapi.json"
PASSED_ON = ("Content-Type", "Accept", "Idempotency-Key")
HANDED_BACK = ("Content-Type", "Location")
TIMEOUT_SECONDS = 30


def shown() -> str:
    """docs/openapi.json, of this stack and without the signature, which is put on here."""
    spec = json.loads(OPENAPI.read_text())
    spec["servers"] = [{"url": "/v1", "description": "this stack; calls are signed on the way"}]
    del spec["security"], spec["components"]["securitySchemes"]
    return json.dumps(spec)


def page() -> bytes:
    """Swagger UI, all of it in one file: nothing is fetched from elsewhere."""
    assets = resources.files(swagger_ui)
    html = generate_swagger_html(
        spec=shown().replace("</", "<\\/"),
        swagger_js=(assets / "swagger-ui-bundle.min.js").read_text(),
        swagger_css=(assets / "swagger-ui.min.css").read_text(),
        swagger_base_url="",
        oauth2_config=None,
    )
    return html.replace("<title>Swagger UI</title>", "<title>Countersign API</title>").encode()


class Server(ThreadingHTTPServer):
    """The page, and what is tried on it, on the loopback address."""

    def __init__(self, api_url: str) -> None:
        require_loopback(api_url)
        super().__init__(("127.0.0.1", 0), Handler)
        self.api_url = api_url
        self.page = page()
        self.signature = Signature("test", "test")
        self.host = f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """`/` is the page, `/v1/…` the API."""

    server: Server

    def do_GET(self) -> None:
        """The page or a call of the API."""
        if self.path == "/?format=json":  # the page's own link
            self._answer(200, {"Content-Type": "application/json"}, shown().encode())
        elif self.path.partition("?")[0] == "/":
            self._answer(200, {"Content-Type": "text/html; charset=utf-8"}, self.server.page)
        else:
            self._pass_on()

    def do_POST(self) -> None:
        """A call of the API."""
        self._pass_on()

    def do_DELETE(self) -> None:
        """A call of the API."""
        self._pass_on()

    def _pass_on(self) -> None:
        # Another site's page must not call through here: its browser names that site.
        if not self.path.startswith("/v1/") or self.headers["Host"] != self.server.host:
            self.send_error(404)
            return
        if self.headers.get("Origin", f"http://{self.server.host}") != f"http://{self.server.host}":
            self.send_error(403)
            return
        size = int(self.headers.get("Content-Length") or 0)
        answer = requests.request(
            self.command,
            self.server.api_url + self.path.removeprefix("/v1"),
            data=self.rfile.read(size) if size else None,
            headers={name: self.headers[name] for name in PASSED_ON if name in self.headers},
            auth=self.server.signature,
            timeout=TIMEOUT_SECONDS,
        )
        headers = {name: answer.headers[name] for name in HANDED_BACK if name in answer.headers}
        self._answer(answer.status_code, headers, answer.content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def main() -> int:
    """Serve until stopped."""
    server = Server(sys.argv[1])
    print(json.dumps({"url": f"http://{server.host}/"}), flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
