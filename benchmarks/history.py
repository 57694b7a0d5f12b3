"""The model: which events an execution writes, and which transitions it is billed for.

Source: AWS Step Functions Developer Guide, history events of Standard workflows; pricing: one
transition for each state entered, and for each retry.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DEFINITION = ROOT / "statemachine/enrollment.asl.json"

TASK = ("TaskScheduled", "TaskStarted", "TaskSucceeded")
# A wait that can be woken ends with its time-out, or as a success: somebody woke it.
TIMED_OUT = ("TaskScheduled", "TaskStarted", "TaskSubmitted", "TaskTimedOut")
WOKEN = ("TaskScheduled", "TaskStarted", "TaskSubmitted", "TaskSucceeded")
# The emulator writes none of these; `truth` fails as soon as it writes one.
MISSING_ON_THE_EMULATOR = {"TaskStarted", "TaskSubmitted"}

BEFORE = ("AcceptEnrollment", "IsDuplicate", "CreateKey", "RequestCsr", "ChooseNext")
TURN = ("WaitForApproval", "PollRequest", "ChooseNext")
STORED = ("StoreCsr", "ChooseNext")
CERTIFICATE = ("RequestCertificate", "ChooseNext")
CLOSED = ("CloseEnrollment", "IsFailed", "EnrollmentEnded")
AFTER = {
    "ISSUED": (*STORED, *CLOSED),
    "EXPIRED": CLOSED,
}


def path(polls: int, outcome: str) -> list[str]:
    """The states that an enrollment without faults enters."""
    return [*BEFORE, *(TURN * polls), *AFTER[outcome]]


def path_of_two(polls: int, second_polls: int) -> list[str]:
    """The states of an enrollment that is issued with a certificate, under a second quorum."""
    first = [*BEFORE, *(TURN * polls), *STORED, *CERTIFICATE]
    return [*first, *(TURN * second_polls), "StoreCertificate", "ChooseNext", *CLOSED]


def events(states: Iterable[str], wakes: int = 0) -> Counter[str]:
    """The history events of an execution that enters these states and succeeds, by type.

    Args:
        states: in their order.
        wakes: how many of the waits somebody ended.
    """
    definition = json.loads(DEFINITION.read_text())["States"]
    counted = Counter(
        [
            "ExecutionStarted",
            *(one for name in states for one in _of_state(definition[name])),
            "ExecutionSucceeded",
        ]
    )
    counted.subtract(TIMED_OUT * wakes)
    counted.update(WOKEN * wakes)
    return +counted


def transitions(states: Iterable[str]) -> int:
    """What is billed for entering these states."""
    return sum(1 for _ in states)


def _of_state(state: dict[str, Any]) -> Iterator[str]:
    kind = state["Type"]
    yield f"{kind}StateEntered"
    if kind == "Task":
        yield from TIMED_OUT if state["Resource"].endswith(".waitForTaskToken") else TASK
    yield f"{kind}StateExited"
