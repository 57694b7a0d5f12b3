"""One call on its way: routed, struck by a fault, authenticated, carried out, logged."""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local.tsb_simulator.attestation import make_attestation, usual_key
from local.tsb_simulator.broker import Broker
from local.tsb_simulator.errors import TsbError
from local.tsb_simulator.faults import Fault, Faults
from local.tsb_simulator.forgeries import forge
from local.tsb_simulator.routes import APPROVER, ROUTES, Call, Route
from local.tsb_simulator.switches import Switches
from local.tsb_simulator.tokens import Tokens

KEY_NAMES = ("label", "signKeyName", "blockKeyName", "unblockKeyName", "modifyKeyName")
ROLES = ("keyManagement", "keyOperation", "approver", "service", "approverKeyManagement")


@dataclass(frozen=True)
class Reply:
    """What goes out: a status and a body, or a connection that ends."""

    status: int
    body: bytes
    delay_seconds: float = 0
    drop: bool = False
    truncate: bool = False
    content_type: str = "application/json"


class Simulator:
    """A TSB, without the network around it."""

    def __init__(self, switches: Switches | None = None) -> None:
        self.switches = switches or Switches()
        self.broker = Broker(self.switches, make_attestation(usual_key()))
        self.faults = Faults()
        self.tokens = Tokens()
        self.api_keys = {role: [new_api_key()] for role in ROLES}
        self._calls: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def handle(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        content: bytes,
        *,
        client_port: int | None = None,
    ) -> Reply:
        """Answer one call of a TSB path.

        Args:
            method: upper case.
            path: from `/v1` on, still percent-encoded.
            headers: names in lower case.
            content: the body as received.
            client_port: the caller's end of the connection, for the account of calls.
        """
        route, part = _find(method, path)
        template = route.template.replace("{}", "{id}") if route else path
        body = _json(content)
        label = self._label(template, part, body)
        fault = self.faults.strike(method, template, label)
        call: dict[str, Any] = {
            "at": datetime.fromtimestamp(self.broker.clock.now(), UTC).isoformat(),
            "method": method,
            "path": template,
            "label": label,
            "requestId": part if template.startswith("/v1/request/") else None,
            "role": self._role(headers),
            "httpStatus": None,
            "executed": False,
            "fault": fault.kind if fault else None,
            "clientPort": client_port,
        }
        with self._lock:
            self._calls.append(call)
        reply = self._answer(route, part, body, headers, fault=fault, call=call)
        call["httpStatus"] = None if reply.drop else reply.status
        return reply

    def calls(self, label: str | None = None) -> list[dict[str, Any]]:
        """The calls so far, of one key label or all."""
        with self._lock:
            return [call for call in self._calls if label in (None, call["label"])]

    def forget_calls(self, label: str | None = None) -> None:
        """Start counting anew, of one key label or all."""
        with self._lock:
            self._calls = [one for one in self._calls if label not in (None, one["label"])]

    def _answer(
        self,
        route: Route | None,
        part: str,
        body: Any,
        headers: dict[str, str],
        *,
        fault: Fault | None,
        call: dict[str, Any],
    ) -> Reply:
        gone_wrong = fault is not None and fault.kind in ("status", "drop")
        if fault is not None and gone_wrong and not fault.executed:
            return self._misbehaved(fault)
        try:
            if route is None:
                return self._reply(404, {"message": "No endpoint at this path."})
            self._authenticate(route, headers)
            fails = fault is not None and fault.kind == "hsm_error"
            call["executed"] = True
            status, answer = route.handler(Call(self.broker, body, part, fails))
        except TsbError as error:
            call["executed"] = False
            status, answer = error.status, error.body()
        if fault is None:
            return self._reply(status, answer)
        if gone_wrong:
            return self._misbehaved(fault)
        answer = self._bent(answer, fault, part)
        return self._reply(
            status,
            answer,
            delay_seconds=fault.seconds if fault.kind == "delay" else 0,
            truncate=fault.kind == "truncate",
        )

    def _reply(
        self, status: int, answer: Any, *, delay_seconds: float = 0, truncate: bool = False
    ) -> Reply:
        ascii_only = self.switches.json_encoding == "ascii"
        body = b"" if answer is None else json.dumps(answer, ensure_ascii=ascii_only).encode()
        return Reply(
            status,
            body,
            delay_seconds,
            truncate=truncate,
            content_type=self.switches.content_type,
        )

    def _misbehaved(self, fault: Fault) -> Reply:
        if fault.kind == "drop":
            return Reply(0, b"", drop=True)
        if isinstance(fault.body, str):
            return Reply(fault.http_status, fault.body.encode(), content_type="text/html")
        return self._reply(fault.http_status, fault.body)

    def _bent(self, answer: Any, fault: Fault, part: str) -> Any:
        """An answer that is not the truth."""
        if not isinstance(answer, dict):
            return answer
        bent = {**answer}
        if fault.kind == "request_status":
            bent["status"] = fault.status
        elif fault.kind == "request_id":
            bent["id"] = "c3f9de5a-0c2b-46d8-b610-01c50bdd457e"
        elif fault.kind == "forge":
            bent = forge(self.broker, answer, fault.what, part)
        return bent

    def _authenticate(self, route: Route, headers: dict[str, str]) -> None:
        if self.switches.authorization == "require" and route.role(self.switches) != (APPROVER,):
            self.tokens.check(headers.get("authorization"), self.broker.clock.now())
        if not self.switches.api_authentication:
            return
        given = headers.get("x-api-key")
        approving = route.role(self.switches) == (APPROVER,)
        if approving and self.switches.approver_api_key == "notRequired":
            return
        if given is None:
            missing = self.switches.missing_api_key_http_status
            raise TsbError(416, "The API key is missing.", status=missing)
        allowed = route.role(self.switches)
        role = self._role(headers)
        if role is None:
            raise TsbError(631, "The API key is not valid.")
        if role not in allowed:
            wrong = self.switches.wrong_role_http_status
            raise TsbError(631, "The API key is not valid for this endpoint.", status=wrong)

    def _role(self, headers: dict[str, str]) -> str | None:
        given = headers.get("x-api-key")
        return next((role for role, tokens in self.api_keys.items() if given in tokens), None)

    def _label(self, template: str, part: str, body: Any) -> str | None:
        """The key that a call is about."""
        if template.startswith("/v1/request/"):
            request = self.broker.requests.get(part)
            return request.key.label if request else None
        if part:
            return part
        if not isinstance(body, dict):
            return None
        inner = next((value for value in body.values() if isinstance(value, dict)), {})
        named = next(
            (part[name] for part in (body, inner) for name in KEY_NAMES if part.get(name)), None
        )
        return named if isinstance(named, str) else None


def new_api_key() -> str:
    """An API key as TSB's configuration shows them."""
    return f"tsb-x-token_{secrets.token_hex(16)}"


def _find(method: str, path: str) -> tuple[Route | None, str]:
    for route in ROUTES:
        part = route.match(method, path)
        if part is not None:
            return route, part
    return None, ""


def _json(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return None
