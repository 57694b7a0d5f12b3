"""The model: which events an execution writes, and which transitions it is billed for.

Source: AWS Step Functions Developer Guide, history events of Standard workflows; pricing: one
transition for each state entered, and for each retry.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEFINITION = ROOT / "statemachine/enrollment.asl.json"

TASK = ("TaskScheduled", "TaskStarted", "TaskSucceeded")
# The emulator writes no TaskStarted; `truth` fails as soon as it writes one.
MISSING_ON_THE_EMULATOR = {"TaskStarted"}

BEFORE = ("AcceptEnrollment", "IsDuplicate", "CreateKey", "RequestCsr", "ChooseNext")
TURN = ("WaitForApproval", "PollRequest", "ChooseNext")
AFTER = {
    "ISSUED": ("StoreCsr", "ChooseNext", "CloseEnrollment", "IsFailed", "EnrollmentEnded"),
    "EXPIRED": ("CloseEnrollment", "IsFailed", "EnrollmentEnded"),
}


def path(polls: int, outcome: str) -> list[str]:
    """The states that an enrollment without faults enters."""
    return [*BEFORE, *(TURN * polls), *AFTER[outcome]]


def events(states: Iterable[str]) -> Counter[str]:
    """The history events of an execution that enters these states and succeeds, by type."""
    definition = json.loads(DEFINITION.read_text())["States"]
    return Counter(
        [
            "ExecutionStarted",
            *(one for name in states for one in _of_state(definition[name]["Type"])),
            "ExecutionSucceeded",
        ]
    )


def transitions(states: Iterable[str]) -> int:
    """What is billed for entering these states."""
    return sum(1 for _ in states)


def _of_state(kind: str) -> Iterator[str]:
    yield f"{kind}StateEntered"
    if kind == "Task":
        yield from TASK
    yield f"{kind}StateExited"
