"""The page of `countersign approvals open`: list, one request with its checks, decide. On loopback.

Whoever has the address once has the page: its token is good for one visit, which gets a cookie. No
other site reaches it: a name other than the loopback address, another origin or a missing token of
the page's own ends in 403, and nothing is loaded from anywhere else. What may be signed is
decided by the same checks as on the command line, again at the moment of signing.
"""

import hmac
import json
import secrets
import socket
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from countersign_cli.approvals import report
from countersign_cli.approvals.checks import Examined
from countersign_cli.approvals.client import Client
from countersign_cli.exits import CommandError, Exit

LOOPBACK = "127.0.0.1"
COOKIE, CSRF = "countersign", "x-countersign"
ASSETS = {
    "app.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}
CSRF_PLACE = "@CSRF@"
MAX_BODY_BYTES = 1024
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FORBIDDEN = (
    "<!doctype html><html lang='en'><title>Countersign approvals</title><p>This address was good"
    " for one visit. Start <code>countersign approvals open</code> again for another."
)

type Json = dict[str, Any]


class Page:
    """The page of one approver.

    Args:
        client: the approver at their TSB.
        port: where it is served, on the loopback address.
    """

    def __init__(self, client: Client, port: int) -> None:
        self._client = client
        self._host = f"{LOOPBACK}:{port}"
        self._visit: str | None = secrets.token_urlsafe(32)
        self._cookie = secrets.token_urlsafe(32)
        self._csrf = secrets.token_urlsafe(32)
        self._cookie_name = f"{COOKIE}-{port}"  # cookies know no ports
        self.app = Starlette(
            routes=[
                Route("/", self._index),
                Route("/tasks", self._tasks),
                Route("/tasks/{id}/{decision}", self._decide, methods=["POST"]),
                Route("/{asset}", self._asset),
            ]
        )

    @property
    def url(self) -> str:
        """The address for the one visit."""
        return f"http://{self._host}/?token={self._visit}"

    def guarded(self) -> Any:
        """The ASGI application: each request is let in or answered with 403, with the headers."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def with_headers(message: Any) -> None:
                if message["type"] == "http.response.start":
                    more = [(name.lower().encode(), one.encode()) for name, one in HEADERS.items()]
                    message = {**message, "headers": [*message["headers"], *more]}
                await send(message)

            if scope["type"] != "http":
                await self.app(scope, receive, send)
                return
            inside = self.app if self._admits(Request(scope)) else _forbidden
            await inside(scope, receive, with_headers)

        return app

    def _admits(self, request: Request) -> bool:
        headers = request.headers
        if headers.getlist("host") != [self._host]:  # a name that somebody points at this machine
            return False
        if request.method not in ("GET", "HEAD"):
            own = headers.get("origin") == f"http://{self._host}"
            return own and self._visited(request) and _same(headers.get(CSRF), self._csrf)
        if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
            return False
        return self._visited(request) or _same(request.query_params.get("token"), self._visit)

    def _visited(self, request: Request) -> bool:
        return _same(request.cookies.get(self._cookie_name), self._cookie)

    async def _index(self, request: Request) -> Response:
        if not self._visited(request):
            self._visit = None
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie_name, self._cookie, httponly=True, samesite="strict")
            return answer
        text = _read("index.html").replace(CSRF_PLACE, self._csrf)
        return Response(text, media_type="text/html")

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["asset"]
        if name not in ASSETS:
            return Response(status_code=404)
        return Response(_read(name), media_type=ASSETS[name])

    def _tasks(self, _: Request) -> Response:
        try:
            listed = self._client.listed()
        except CommandError as error:
            return _trouble(error)
        every = [_shown(one) for one in listed.examined]
        return JSONResponse({"tasks": every, "unreadable": listed.unreadable})

    async def _decide(self, request: Request) -> Response:
        content = b""
        async for part in request.stream():
            content += part
            if len(content) > MAX_BODY_BYTES:
                return Response(status_code=413)
        try:
            seen = json.loads(content).get("requestSha256")
        except (ValueError, AttributeError, RecursionError):
            return Response(status_code=400)
        task_id, decision = request.path_params["id"], request.path_params["decision"]
        return await run_in_threadpool(self._decided, task_id, decision, seen)

    def _decided(self, task_id: str, decision: str, seen: object) -> Response:
        """Sign or decline what the page has shown, and nothing that has taken its place since."""
        try:
            if decision == "approve" and isinstance(seen, str):
                self._client.approve(self._client.find(task_id, seen))
            elif decision == "decline":
                self._client.decline(self._client.find(task_id))
            else:
                return Response(status_code=404)
        except CommandError as error:
            return _trouble(error)
        return JSONResponse({"decision": decision})


def serve(client: Client, announce: Callable[[str], None]) -> None:
    """Serve the page until it is interrupted.

    Args:
        client: the approver at their TSB.
        announce: called with the address once it can be visited.
    """
    with socket.create_server((LOOPBACK, 0)) as listener:
        page = Page(client, listener.getsockname()[1])
        announce(page.url)
        # No access log: it would hold the address with its token.
        config = uvicorn.Config(
            page.guarded(), log_level="error", access_log=False, lifespan="off", server_header=False
        )
        uvicorn.Server(config).run(sockets=[listener])


def _shown(examined: Examined) -> Json:
    return {
        **report.document(examined),
        "refused": bool(examined.failed),
        "subject": report.about(examined, "Subject commonName"),
        "requester": report.about(examined, "Requested by"),
        "question": report.question(examined),
    }


def _trouble(error: CommandError) -> Response:
    status = 409 if error.code in (Exit.INVALID, Exit.REFUSED, Exit.USAGE) else 502
    return JSONResponse({"message": error.message, "action": error.action}, status)


async def _forbidden(scope: Any, receive: Any, send: Any) -> None:
    await Response(FORBIDDEN, 403, media_type="text/html")(scope, receive, send)


def _same(given: str | None, own: str | None) -> bool:
    return bool(given and own) and hmac.compare_digest((given or "").encode(), (own or "").encode())


def _read(name: str) -> str:
    return files("countersign_cli.approvals").joinpath("assets", name).read_text()
