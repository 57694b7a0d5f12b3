"""The HTTP API of the stack in this process: the real handler, given what API Gateway gives it.

Who may call, and what API Gateway answers by itself, is shown by tests/e2e/test_api.py.
"""

import base64
import json
import re
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import requests
import requests.adapters
import urllib3

from local.engine.invocation import Invocation
from local.engine.stack import InProcessStack
from local.engine.surroundings import ACCOUNT
from tests.case import Case

HOST, STAGE = "https://api.example", "/v1"
API_URL = HOST + STAGE
RESOURCES = (
    "/enrollments",
    "/enrollments/{id}",
    "/enrollments/{id}/csr",
    "/enrollments/{id}/certificate",
    "/enrollments/{id}/resume",
    "/health",
)

type Json = dict[str, Any]


class Caller(requests.adapters.HTTPAdapter):
    """An IAM user whose calls reach the API's function. Others move while it works."""

    def __init__(self, stack: InProcessStack, name: str = "somebody") -> None:
        super().__init__()
        self._stack = stack
        self.arn = f"arn:aws:iam::{ACCOUNT}:user/{name}"
        self.session = requests.Session()
        self.session.mount(HOST, self)

    def call(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> requests.Response:
        """Call the API: `body` as JSON, text as it is."""
        prepared = self.session.prepare_request(request(method, path, body, headers))
        return self.session.send(prepared)

    def begin(self, method: str, path: str, body: Any = None) -> Invocation:
        """Make a call without waiting for its answer."""
        return self._begin(self.session.prepare_request(request(method, path, body)))

    def call_at_once(self, *requested: requests.Request) -> list[requests.Response]:
        """Make these calls all at the same time; the answers in the same order."""
        prepared = [self.session.prepare_request(one) for one in requested]
        begun = [self._begin(one) for one in prepared]
        self._stack.until(lambda: all(one.ended for one in begun), "end of all calls")
        pairs = zip(prepared, begun, strict=True)
        return [self._answered(one, invocation) for one, invocation in pairs]

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """What the session calls instead of a network."""
        begun = self._begin(request)
        self._stack.until(lambda: begun.ended, "answer of the API")
        return self._answered(request, begun)

    def answer_everybody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every client in this process find the API at its URL, and call it as this user."""
        send = requests.adapters.HTTPAdapter.send

        def find(
            adapter: Any, request: requests.PreparedRequest, *more: Any, **options: Any
        ) -> Any:
            if str(request.url).startswith(HOST):
                return self.send(request)
            return send(adapter, request, *more, **options)

        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", find)

    def _begin(self, request: requests.PreparedRequest) -> Invocation:
        return self._stack.begin("Api", event(request, self.arn))

    def _answered(
        self, request: requests.PreparedRequest, invocation: Invocation
    ) -> requests.Response:
        answer = invocation.answer()["Payload"]
        body = answer["body"].encode()
        headers = [(name, v) for name, vs in answer["multiValueHeaders"].items() for v in vs]
        raw = urllib3.HTTPResponse(
            body=BytesIO(base64.b64decode(body) if answer["isBase64Encoded"] else body),
            headers=urllib3.HTTPHeaderDict(headers),
            status=answer["statusCode"],
            preload_content=False,
        )
        response: requests.Response = self.build_response(request, raw)
        return response


def submit(case: Case, requested: Json) -> str:
    """Ask through the API, which knows its callers; the ARN of the execution."""
    assert isinstance(case.stack, InProcessStack)
    answer = Caller(case.stack).call("POST", "/enrollments", requested)
    assert answer.status_code == 202, answer.text
    return case.execution()


def request(
    method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> requests.Request:
    """A call of the API: `body` as JSON, text as it is."""
    text = body if body is None or isinstance(body, str) else json.dumps(body)
    kind = {} if text is None else {"Content-Type": "application/json"}
    return requests.Request(
        method, f"{API_URL}{path}", data=text, headers={**kind, **(headers or {})}
    )


def event(request: requests.PreparedRequest, user_arn: str) -> Json:
    """What API Gateway hands to the function (Lambda proxy integration, REST API)."""
    url = urlsplit(str(request.url))
    path = unquote(url.path).removeprefix(STAGE)
    resource, parameters = _resource(url.path.removeprefix(STAGE))
    query = parse_qs(url.query, keep_blank_values=True)
    body = request.body
    return {
        "resource": resource,
        "path": path,
        "httpMethod": request.method,
        "headers": dict(request.headers),
        "multiValueHeaders": {name: [value] for name, value in request.headers.items()},
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": parameters or None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": resource,
            "httpMethod": request.method,
            "path": f"{STAGE}{path}",
            "accountId": ACCOUNT,
            "apiId": "EnrollmentsApi",
            "stage": STAGE.strip("/"),
            "requestId": "3f6f1b0e-6c1f-4a8e-9d5f-0a7f6f7c2b11",
            "identity": {"accountId": ACCOUNT, "userArn": user_arn, "sourceIp": "198.51.100.7"},
        },
        "body": body.decode(errors="replace") if isinstance(body, bytes) else body,
        "isBase64Encoded": False,
    }


def _resource(path: str) -> tuple[str, dict[str, str]]:
    for resource in RESOURCES:
        if found := re.fullmatch(resource.replace("{id}", "(?P<id>[^/]+)"), path):
            return resource, {name: unquote(value) for name, value in found.groupdict().items()}
    raise AssertionError(f"API Gateway has no resource {path}")
