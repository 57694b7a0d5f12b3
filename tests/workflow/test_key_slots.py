"""Turns to create a key, as AcceptEnrollment gives them and CreateKey keeps them."""

from datetime import datetime
from itertools import pairwise

import pytest

from local.engine.stack import InProcessStack
from tests.case import Case, entered, output

KEY = "/v1/key"


def start_at_once(stack: InProcessStack, number: int) -> list[tuple[Case, str]]:
    """Enrollments at the same moment, each with the ARN of its execution."""
    first = Case(stack)
    others = [Case(stack, f"{first.id}-{place}") for place in range(2, number + 1)]
    return [(case, case.start(case.request())) for case in (first, *others)]


def next_slot(case: Case, arn: str) -> datetime | None:
    """The slot that AcceptEnrollment gives the execution."""
    case.until(lambda: "IsDuplicate" in entered(case.history(arn)), "acceptance")
    slot = output(case.history(arn), "AcceptEnrollment")["notBefore"]
    return datetime.fromisoformat(slot) if slot else None


def when_entered(case: Case, arn: str, state: str) -> datetime:
    """When the execution entered a state."""
    (moment,) = [
        event["timestamp"]
        for event in case.history(arn)
        if event.get("stateEnteredEventDetails", {}).get("name") == state
    ]
    return datetime.fromisoformat(moment)


def asked_for_the_key(case: Case) -> datetime:
    """When TSB is asked for the key."""
    (call,) = case.await_calls(KEY, 1, "POST")
    return datetime.fromisoformat(call["at"])


def test_in_a_burst_turns_follow_at_less_than_the_rate(stack: InProcessStack) -> None:
    stack.configure(KeysPerMinute="120")
    burst = start_at_once(stack, 4)

    slots = [slot for case, arn in burst[1:] if (slot := next_slot(case, arn))]
    apart = [(after - before).total_seconds() for before, after in pairwise(slots)]
    # 60 s / 120 would be 0.5 s; the rest is for those who come late.
    assert apart == pytest.approx([0.525, 0.525])


def test_without_a_rate_nobody_waits(stack: InProcessStack) -> None:
    stack.configure(KeysPerMinute="0")
    burst = start_at_once(stack, 2)

    assert [next_slot(case, arn) for case, arn in burst] == [None, None]
    for case, arn in burst:
        asked_for_the_key(case)
        assert "WaitForKeySlot" not in entered(case.history(arn))


def test_no_key_is_made_before_its_turn_though_a_wait_knows_whole_seconds_only(
    stack: InProcessStack,
) -> None:
    stack.configure(KeysPerMinute="20")
    burst = start_at_once(stack, 2)
    case, arn = burst[1]

    slot = next_slot(case, arn)
    requested = asked_for_the_key(case)
    wait_ended = when_entered(case, arn, "CreateKey")
    assert slot is not None
    assert wait_ended < slot <= requested
    assert (requested - slot).total_seconds() < 0.1  # nor long after it
