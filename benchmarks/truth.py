"""Real executions against the model: every event, every transition, every age of a poll."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice, takewhile
from typing import Any

from benchmarks import enrollments, history
from benchmarks.approvals import DAY, MINUTE, Scenario
from benchmarks.pollers import ours
from local.stack import Stack

END_SECONDS = 400  # of the longest case, on two cores that others use too
WHOLE_WAIT_SECONDS = 5  # the scaled sum of a case's waits


@dataclass(frozen=True)
class Case:
    """An enrollment that is approved after some looks, or that nobody decides."""

    name: str
    window_seconds: int
    approved_after_looks: int | None


CASES = (
    Case("10 min, approved", 10 * MINUTE, 7),
    Case("10 min, nobody decides", 10 * MINUTE, None),
    Case("24 h, approved", DAY, 60),
    Case("24 h, nobody decides", DAY, None),
    Case("7 days, nobody decides", 7 * DAY, None),
)


class ModelError(Exception):
    """Reality differs from the model; the message says where."""


def run(stack: Stack, case: Case) -> dict[str, Any]:
    """One real execution beside the model.

    Raises:
        ModelError: they differ.
    """
    stack.scale_waits(WHOLE_WAIT_SECONDS / case.window_seconds)
    label = enrollments.name()
    arn = enrollments.start(stack, label, case.window_seconds)
    machines = stack.client("stepfunctions")
    modelled = _ages(case.window_seconds)
    before = case.approved_after_looks or sum(
        1 for _ in takewhile(lambda age: age < case.window_seconds, _ages(case.window_seconds))
    )
    enrollments.until(
        lambda: enrollments.polls(stack, label) >= before, f"look {before}", END_SECONDS
    )
    if case.approved_after_looks:
        stack.control("POST", "/decide", {"label": label, "decision": "approve"})
    else:
        later = {"label": label, "advanceSeconds": case.window_seconds}
        stack.control("POST", "/clock", later)
    ended = enrollments.until(lambda: _ended(machines, arn), f"end of {arn}", END_SECONDS)
    outcome = json.loads(ended["output"])["outcome"]
    pages = machines.get_paginator("get_execution_history").paginate(executionArn=arn)
    found = [event for page in pages for event in page["events"]]
    ages = _looked_at(found)
    path = history.path(len(ages), outcome)
    expected = history.events(path)
    counted = Counter(event["type"] for event in found)
    entered = sum(event["type"].endswith("StateEntered") for event in found)
    for kind in history.MISSING_ON_THE_EMULATOR:
        _require(f"{case.name}: {kind} on the emulator", counted[kind], 0)
        counted[kind] = expected[kind]
    _require(f"{case.name}: events", dict(counted), dict(expected))
    _require(f"{case.name}: transitions", entered, history.transitions(path))
    _require(f"{case.name}: ages of the polls", ages, list(islice(modelled, len(ages))))
    _require(f"{case.name}: TSB's count of polls", enrollments.polls(stack, label), len(ages))
    return {
        "case": case.name,
        "outcome": outcome,
        "looks": len(ages),
        "lastAgeSeconds": ages[-1],
        "eventsOnTheEmulator": len(found),
        "eventsOnAws": expected.total(),
        "transitions": entered,
    }


def _ages(window_seconds: int) -> Iterator[float]:
    return ours().ages(Scenario("", "", window_seconds, 0, ()))


def _ended(machines: Any, arn: str) -> Any:
    now = machines.describe_execution(executionArn=arn)
    return None if now["status"] == "RUNNING" else now


def _looked_at(found: list[dict[str, Any]]) -> list[int]:
    """The ages of the polls: sums of the waits that RequestCsr and PollRequest answered."""
    answers = [
        json.loads(event["taskSucceededEventDetails"]["output"])["Payload"]
        for event in found
        if event["type"] == "TaskSucceeded"
    ]
    waits = [answer["waitSeconds"] for answer in answers if "waitSeconds" in answer]
    return list(accumulate(waits[:-1]))  # the last poll's is not waited for


def _require(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ModelError(f"{what}: {found}, the model says {expected}")
