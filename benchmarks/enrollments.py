"""Enrollments on the embedded stack, as a caller starts them."""

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.approver import Approver
from local.stack import Stack

ROOT = Path(__file__).parents[1]
SEED = ROOT / "events/seed"
LOOK_SECONDS = 0.25

type Json = dict[str, Any]

PERSON = Approver.generate("Ada", "ec")


def request(label: str, window_seconds: int = 3_600) -> Json:
    """The vendor's own bodies, with one approver of ours and a window of the caller's choice."""
    key = json.loads((SEED / "create-key.json").read_text())
    key["label"] = label
    approval = {"type": "public_key", "name": PERSON.name, "value": PERSON.spki}
    group = {"name": "group", "quorum": 1, "approvals": [approval]}
    token = {"name": "token", "timelock": 0, "timeout": window_seconds, "groups": [group]}
    key["policy"]["ruleUse"] = {"tokens": [token]}
    csr = json.loads((SEED / "csr-request.json").read_text())["csrSignRequest"]
    csr["signKeyName"] = label
    return {"key": key, "csr": csr, "reason": "make bench"}


def name() -> str:
    """An enrollment id, and a key label, that nobody else has."""
    return f"bench-{uuid.uuid4().hex[:12]}"


def start(stack: Stack, enrollment_id: str, window_seconds: int = 3_600) -> str:
    """Start an execution; its ARN."""
    given = {"request": {**request(enrollment_id, window_seconds), "enrollmentId": enrollment_id}}
    answer = stack.client("stepfunctions").start_execution(
        stateMachineArn=stack.outputs["EnrollmentStateMachineArn"],
        name=enrollment_id,
        input=json.dumps(given),
    )
    return str(answer["executionArn"])


def calls(stack: Stack, label: str) -> list[Json]:
    """What the simulator executed for a key, the approvers' own calls left out."""
    found = stack.control("GET", f"/calls?label={label}")
    return [call for call in found if call["executed"] and call["role"] != "approver"]


def polls(stack: Stack, label: str) -> int:
    """How often TSB was asked how a key's request stands."""
    return sum(call["path"] == "/v1/request/{id}" for call in calls(stack, label))


def until[T](poll: Callable[[], T | None], what: str, seconds: float) -> T:
    """Wait for something; TimeoutError where it does not come."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = poll()
        if found:
            return found
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"no {what} within {seconds:g} s")
