"""The script that a user would write: the calls that our handlers make, and nothing else.

It is not written down, because it would have to change with every call of ours: what the handlers
asked of boto3 and requests is recorded once, and asked again for another enrollment with its names
put in. Nothing is validated, verified, decided, logged or named, so nobody can do the same with
less: a lower bound for every script.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

type Json = dict[str, Any]


@dataclass(frozen=True)
class AwsCall:
    """What boto3 was asked for."""

    service: str
    operation: str
    params: Json

    def __str__(self) -> str:
        return f"{self.service}.{self.operation}"


@dataclass(frozen=True)
class TsbCall:
    """What requests was asked for; the path with the query, the body as text."""

    method: str
    path: str
    headers: dict[str, str]
    body: str | None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


type Call = AwsCall | TsbCall


class Recorder:
    """Sees the calls of every boto3 client of the default session, and of every requests session.

    Made before the first client: a client copies its session's hooks.
    """

    def __init__(self) -> None:
        self.refused = 0  # answers of AWS that were no yes, while recording
        self._made: list[Call] | None = None
        self._after: Callable[[AwsCall], None] | None = None
        boto3.setup_default_session()
        default: Any = boto3.DEFAULT_SESSION
        default.events.register("provide-client-params", self._asked)
        default.events.register("after-call", self._answered)
        requests_session: Any = requests.Session
        send = requests_session.send

        def noted(session: requests.Session, request: Any, **more: Any) -> Any:
            if self._made is not None:
                self._made.append(tsb_call(request))
            return send(session, request, **more)

        requests_session.send = noted

    @contextmanager
    def record(self, after: Callable[[AwsCall], None] | None = None) -> Iterator[list[Call]]:
        """The calls made meanwhile; `after` is called when AWS has answered one."""
        self._made, self._after, self.refused = [], after, 0
        try:
            yield self._made
        finally:
            self._made = self._after = None

    def _asked(self, params: Json, model: Any, **_: Any) -> None:
        if self._made is not None:
            self._made.append(AwsCall(model.service_model.service_name, model.name, params))

    def _answered(self, http_response: Any, **_: Any) -> None:
        if self._made is None:
            return
        self.refused += http_response.status_code >= 300
        call = self._made[-1]
        if self._after is not None and isinstance(call, AwsCall):
            self._after(call)


def tsb_call(request: Any) -> TsbCall:
    """What a prepared request of requests asks for."""
    headers = {name: request.headers[name] for name in ("X-API-KEY",) if name in request.headers}
    body = request.body.decode() if isinstance(request.body, bytes) else request.body
    return TsbCall(request.method, request.path_url, headers, body)


class Bare:
    """Clients made once and kept, as a warm function's would be.

    Args:
        tsb_url: base URL of the TSB.
        ca_certificate: path of the PEM of TSB's CA.
    """

    def __init__(self, tsb_url: str, ca_certificate: str) -> None:
        self._url = tsb_url
        self._ca_certificate = ca_certificate
        self._session = requests.Session()
        self._session.trust_env = False
        self._calls: dict[str, Callable[..., Any]] = {}
        self.refused = 0

    def prepare(self, calls: list[Call]) -> None:
        """Make the clients that these calls need."""
        session = boto3.Session()  # not the default one: nobody listens here
        config = Config(connect_timeout=3, read_timeout=10)
        for call in calls:
            if isinstance(call, AwsCall) and str(call) not in self._calls:
                client: Any = session.client(call.service, config=config)  # type: ignore[call-overload]
                methods = client.meta.method_to_api_mapping.items()
                name = next(name for name, operation in methods if operation == call.operation)
                self._calls[str(call)] = getattr(client, name)

    def make(self, calls: list[Call]) -> list[Json]:
        """Make these calls; what TSB answered."""
        answers: list[Json] = []
        for call in calls:
            if isinstance(call, TsbCall):
                answer = self._session.request(
                    call.method,
                    self._url + call.path,
                    data=call.body,
                    headers={**call.headers, "Content-Type": "application/json"},
                    verify=self._ca_certificate,
                    timeout=20,
                )
                answer.raise_for_status()
                answers.append(answer.json())
            else:
                try:
                    self._calls[str(call)](**call.params)
                except ClientError:
                    # A condition that does not hold is an answer, to our handlers as well.
                    self.refused += 1
        return answers


def renamed(value: Any, names: dict[str, str]) -> Any:
    """A call, or a part of it, with other names in it."""
    if isinstance(value, AwsCall):
        return AwsCall(value.service, value.operation, renamed(value.params, names))
    if isinstance(value, TsbCall):
        path, body = renamed(value.path, names), renamed(value.body, names)
        return TsbCall(value.method, path, value.headers, body)
    if isinstance(value, dict):
        return {renamed(key, names): renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, names) for inner in value]
    if isinstance(value, str):
        for old, new in names.items():
            value = value.replace(old, new)
    if isinstance(value, bytes):
        for old, new in names.items():
            value = value.replace(old.encode(), new.encode())
    return value
