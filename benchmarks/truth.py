"""Real executions against the model: every event, every transition, every age of a poll."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, islice, takewhile
from typing import Any

from benchmarks import enrollments, history
from benchmarks.approvals import DAY, MINUTE, Scenario
from benchmarks.pollers import ours
from local.stack import Stack

END_SECONDS = 400  # of the longest case, on two cores that others use too
WHOLE_WAIT_SECONDS = 5  # the scaled sum of a case's waits
WOKEN_WAIT_SECONDS = 20  # the scaled wait that is ended by a wake


@dataclass(frozen=True)
class Case:
    """An enrollment that is approved after some polls, or that nobody decides.

    Args:
        name: for the report.
        window_seconds: how long approvals are collected.
        approved_after_polls: None: nobody decides.
        is_watched: WatchEnrollments runs after the approval, and wakes the execution.
    """

    name: str
    window_seconds: int
    approved_after_polls: int | None = None
    is_watched: bool = False


CASES = (
    Case("10 min, approved", 10 * MINUTE, 4),
    Case("10 min, approved, woken", 10 * MINUTE, 2, is_watched=True),
    Case("10 min, nobody decides", 10 * MINUTE),
    Case("24 h, approved", DAY, 12),
    Case("24 h, approved, woken", DAY, 12, is_watched=True),
    Case("24 h, nobody decides", DAY),
    Case("7 days, nobody decides", 7 * DAY),
    Case("7 days, approved, woken", 7 * DAY, 14, is_watched=True),
)


class ModelError(Exception):
    """Reality differs from the model; the message says where."""


def run(stack: Stack, case: Case) -> dict[str, Any]:
    """One real execution beside the model.

    Raises:
        ModelError: they differ.
    """
    stack.scale_waits(_scale(case))
    if case.is_watched:
        _watch(stack)  # so that it is warm
    label = enrollments.name()
    arn = enrollments.start(stack, label, case.window_seconds)
    machines = stack.client("stepfunctions")
    modelled = _ages(case.window_seconds)
    before = case.approved_after_polls or sum(
        1 for _ in takewhile(lambda age: age < case.window_seconds, _ages(case.window_seconds))
    )
    enrollments.until(
        lambda: enrollments.polls(stack, label) >= before, f"poll {before}", END_SECONDS
    )
    if case.approved_after_polls:
        stack.control("POST", "/decide", {"label": label, "decision": "approve"})
        if case.is_watched:
            _wake(stack, label)
    else:
        later = {"label": label, "advanceSeconds": case.window_seconds}
        stack.control("POST", "/clock", later)
    ended = enrollments.until(lambda: _ended(machines, arn), f"end of {arn}", END_SECONDS)
    outcome = json.loads(ended["output"])["outcome"]
    pages = machines.get_paginator("get_execution_history").paginate(executionArn=arn)
    found = [event for page in pages for event in page["events"]]
    ages = _polled_at(found, woken=case.is_watched)
    path = history.path(len(ages) + case.is_watched, outcome)
    expected = history.events(path, wakes=int(case.is_watched))
    counted = Counter(_kind(event) for event in found)
    entered = sum(event["type"].endswith("StateEntered") for event in found)
    for kind in history.MISSING_ON_THE_EMULATOR:
        _require(f"{case.name}: {kind} on the emulator", counted[kind], 0)
        counted[kind] = expected[kind]
    _require(f"{case.name}: events", dict(counted), dict(expected))
    _require(f"{case.name}: transitions", entered, history.transitions(path))
    _require(f"{case.name}: ages of the polls", ages, list(islice(modelled, len(ages))))
    _require(
        f"{case.name}: TSB's count of polls",
        enrollments.polls(stack, label),
        len(ages) + 2 * case.is_watched,
    )
    return {
        "case": case.name,
        "outcome": outcome,
        "polls": len(ages) + case.is_watched,
        "lastAgeSeconds": ages[-1],
        "eventsOnTheEmulator": len(found),
        "eventsOnAws": expected.total(),
        "transitions": entered,
    }


def _kind(event: dict[str, Any]) -> str:
    """The type as AWS writes it: the emulator's time-out of a task is a `TaskFailed`."""
    error = event.get("taskFailedEventDetails", {}).get("error")
    return "TaskTimedOut" if error == "States.Timeout" else str(event["type"])


def _scale(case: Case) -> float:
    """The scale of the waits: the one that is woken must last until it is."""
    if not case.is_watched:
        return WHOLE_WAIT_SECONDS / case.window_seconds
    *_, last, following = islice(_ages(case.window_seconds), (case.approved_after_polls or 0) + 1)
    return WOKEN_WAIT_SECONDS / (following - last)


def _wake(stack: Stack, label: str) -> None:
    """Let WatchEnrollments run once, as soon as the execution waits for its next poll."""
    polled = max(
        datetime.fromisoformat(one["at"])
        for one in enrollments.calls(stack, label)
        if one["path"] == "/v1/request/{id}"
    )

    def is_waiting() -> bool:
        item = stack.client("dynamodb").get_item(
            TableName=stack.outputs["EnrollmentsTableName"], Key={"id": {"S": f"wait#{label}"}}
        )
        since = item.get("Item", {}).get("since", {}).get("S")
        return since is not None and datetime.fromisoformat(since) > polled

    enrollments.until(is_waiting, "wait with a token", END_SECONDS)
    _watch(stack)


def _watch(stack: Stack) -> None:
    stack.client("lambda").invoke(FunctionName=stack.outputs["WatchEnrollmentsFunctionName"])


def _ages(window_seconds: int) -> Iterator[float]:
    return ours().ages(Scenario("", "", window_seconds, 0, ()))


def _ended(machines: Any, arn: str) -> Any:
    now = machines.describe_execution(executionArn=arn)
    return None if now["status"] == "RUNNING" else now


def _polled_at(found: list[dict[str, Any]], *, woken: bool) -> list[int]:
    """The ages of the polls: sums of the waits that RequestCsr and PollRequest answered.

    The last poll's wait never began; the one before ended early where somebody woke it.
    """
    answers = [
        json.loads(event["taskSucceededEventDetails"]["output"]).get("Payload", {})
        for event in found
        if event["type"] == "TaskSucceeded"
    ]
    waits = [answer["waitSeconds"] for answer in answers if "waitSeconds" in answer]
    return list(accumulate(waits[: -2 if woken else -1]))


def _require(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ModelError(f"{what}: {found}, the model says {expected}")
