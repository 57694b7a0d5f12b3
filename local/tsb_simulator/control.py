"""The test's side of the simulator, apart from TSB's paths: time, decisions, faults, accounts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import ValidationError

from local.tsb_simulator import policy, switches
from local.tsb_simulator.bodies import ApprovalBody
from local.tsb_simulator.faults import FaultRule
from local.tsb_simulator.keys import approver_key
from local.tsb_simulator.simulator import new_api_key

if TYPE_CHECKING:
    from local.tsb_simulator.broker import Request
    from local.tsb_simulator.keys import HsmKey
    from local.tsb_simulator.simulator import Simulator

PREFIX = "/control"


class ControlError(Exception):
    """The control call makes no sense; the message says why."""


def handle(simulator: Simulator, method: str, target: str, content: bytes) -> tuple[int, Any]:
    """Answer one control call: status and JSON value."""
    url = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    try:
        body = json.loads(content) if content else {}
        return 200, _act(simulator, f"{method} {url.path.removeprefix(PREFIX)}", query, body)
    except (ControlError, ValidationError, ValueError, KeyError) as error:
        return 400, {"message": str(error)}


def _act(simulator: Simulator, what: str, query: dict[str, str], body: dict[str, Any]) -> Any:
    label = query.get("label")
    match what:
        case "POST /clock":
            simulator.broker.clock.advance(body["advanceSeconds"], body.get("label"))
        case "POST /decide":
            _decide(simulator, body)
        case "POST /faults":
            return {"id": simulator.faults.arm(FaultRule.model_validate(body))}
        case "DELETE /faults":
            simulator.faults.clear(label)
        case "DELETE /calls":
            simulator.forget_calls(label)
        case "PUT /switches":
            switches.change(simulator.switches, body)
        case "POST /credentials":
            return _exchange_credentials(simulator, body)
        case "POST /reset":
            simulator.broker.reset()
            simulator.faults.clear()
            simulator.forget_calls()
        case _:
            return _look(simulator, what, label)
    return {}


def _look(simulator: Simulator, what: str, label: str | None) -> Any:
    match what:
        case "GET /calls":
            return simulator.calls(label)
        case "GET /state":
            return _state(simulator, label)
        case "GET /switches":
            return {
                "now": simulator.switches.model_dump(by_alias=True),
                "described": switches.described(),
            }
        case "GET /attestation":
            return {"chain": simulator.broker.attestation.chain}
    raise ControlError(f"no such control call: {what}")


def _exchange_credentials(simulator: Simulator, body: dict[str, Any]) -> dict[str, Any]:
    """Roll what TSB accepts.

    `role` with `addApiKey` or `revokeApiKey`; `tokenSeconds` issues a token; `revokeToken`.
    """
    keys = simulator.api_keys[body["role"]] if "role" in body else []
    if body.get("addApiKey"):
        keys.append(new_api_key())
    if "revokeApiKey" in body:
        keys.remove(body["revokeApiKey"])
    if "revokeToken" in body:
        simulator.tokens.revoke(body["revokeToken"])
    issued = None
    if "tokenSeconds" in body:
        issued = simulator.tokens.issue(simulator.broker.clock.now() + body["tokenSeconds"])
    return {"apiKeys": keys, "token": issued}


def _decide(simulator: Simulator, body: dict[str, Any]) -> None:
    """Decide for an approver without his key: for bodies whose approver nobody here is."""
    request = _request(simulator, body)
    names = _names(request.key, simulator.switches)
    wanted = body.get("approver")
    chosen = next(
        (key for key in request.tasks if wanted in (None, key, names.get(key))),
        None,
    )
    if simulator.broker.assess(request) in policy.FINAL or chosen is None:
        raise ControlError(f"nobody to decide for in request {request.id} ({request.status})")
    simulator.broker.vote(request, chosen, approves=body["decision"] == "approve")


def _request(simulator: Simulator, body: dict[str, Any]) -> Request:
    if body.get("requestId"):
        return simulator.broker.request(body["requestId"])
    found = [r for r in simulator.broker.requests.values() if r.key.label == body["label"]]
    if not found:
        raise ControlError(f"no request for key {body['label']!r}")
    return found[-1]


def _names(key: HsmKey, chosen: switches.Switches) -> dict[str, str]:
    rule = (key.policy or {}).get("ruleUse") or {"tokens": []}
    return {
        approver_key(ApprovalBody.model_validate(approval), chosen): approval.get("name", "")
        for token in rule["tokens"]
        for group in token.get("groups") or ()
        for approval in group["approvals"]
    }


def _state(simulator: Simulator, label: str | None) -> dict[str, Any]:
    broker = simulator.broker
    with broker.lock:
        made = [*broker.deleted, *broker.keys.values()]
        return {
            "keys": [
                {
                    "label": key.label,
                    "createTime": key.created,
                    "destroyable": key.attributes["destroyable"],
                    "deleted": key.deleted,
                    "blocked": key.blocked,
                }
                for key in made
                if label in (None, key.label)
            ],
            "requests": [
                {
                    "id": request.id,
                    "label": request.key.label,
                    "kind": request.kind,
                    "status": broker.assess(request),
                    "approvers": list(request.tasks),
                }
                for request in broker.requests.values()
                if label in (None, request.key.label)
            ],
        }
