"""Waits that can be woken: told within a minute, and by the polls where nobody wakes."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from countersign.aws import executions
from local.engine.stack import ROOT, InProcessStack
from tests.case import Case, assert_issued, group, people, token
from tests.workflow.api import Caller

HOUR, DAY = 3_600, 86_400
RUN_SECONDS = 65  # a minute until the next run, and the run itself
AGES = {"minutes": 300, "a day": DAY, "a week": 7 * DAY}
REQUEST = "/v1/request/{id}"
WAKES = 500


def fresh(case: Case, held: str) -> str:
    """The token of the next wait."""
    token = case.until(lambda: (now := waiting(case)["token"]) != held and now, "next wait")
    return str(token)


def asked(case: Case, *, window: int = 30 * DAY) -> str:
    """An execution that waits for one approver."""
    arn = case.start(case.request(token(group(*people(1)), timeout=window)))
    case.await_request()
    return arn


def waiting(case: Case) -> Any:
    """The wait of the case's execution, as it stands in the table."""
    return case.until(lambda: case.record(f"wait#{case.id}"), "wait with a token")


def told_after(case: Case, stack: InProcessStack, arn: str) -> float:
    """Seconds until the end was announced, from now on."""
    now = stack.clock.now
    case.until(lambda: stack.has_ended(arn), "end")
    return stack.clock.now - now


def approve(case: Case, _: InProcessStack) -> None:
    case.decide("approve")


def decline(case: Case, _: InProcessStack) -> None:
    case.decide("decline")


def cancel(case: Case, stack: InProcessStack) -> None:
    answer = Caller(stack).call("DELETE", f"/enrollments/{case.id}")
    assert answer.status_code == 202


ENDS: dict[str, tuple[Callable[[Case, InProcessStack], None], str]] = {
    "approved": (approve, "ISSUED"),
    "declined": (decline, "REJECTED"),
    "cancelled": (cancel, "CANCELLED"),
}


@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("end", ENDS)
def test_whatever_ends_it_is_announced_within_a_minute_at_any_age(
    case: Case, stack: InProcessStack, end: str, age: str
) -> None:
    decide, outcome = ENDS[end]
    arn = asked(case)
    stack.sleep(AGES[age])
    stack.watch()

    decide(case, stack)
    seconds = told_after(case, stack, arn)

    assert seconds <= RUN_SECONDS
    assert case.end(arn).document["outcome"] == outcome


@pytest.mark.parametrize("age", AGES)
def test_an_expiry_is_announced_within_a_minute(
    case: Case, stack: InProcessStack, age: str
) -> None:
    arn = asked(case, window=AGES[age])
    stack.sleep(AGES[age] - 30)
    stack.watch()

    assert told_after(case, stack, arn) <= 30 + RUN_SECONDS
    assert case.end(arn).document["outcome"] == "EXPIRED"


@pytest.mark.parametrize("end", ["approved", "declined"])
def test_without_a_watcher_the_polls_find_it(case: Case, stack: InProcessStack, end: str) -> None:
    decide, outcome = ENDS[end]
    arn = asked(case)
    stack.sleep(DAY)

    decide(case, stack)
    seconds = told_after(case, stack, arn)

    assert RUN_SECONDS < seconds <= 4 * HOUR
    assert case.end(arn).document["outcome"] == outcome


def test_a_cancellation_needs_no_watcher(case: Case, stack: InProcessStack) -> None:
    arn = asked(case)
    waiting(case)
    stack.sleep(HOUR)

    cancel(case, stack)

    assert told_after(case, stack, arn) < 5
    assert case.end(arn).document["outcome"] == "CANCELLED"
    assert case.record(f"wait#{case.id}") == {}


def test_a_cancellation_between_the_poll_and_the_wait_lets_nobody_sleep(
    case: Case, stack: InProcessStack
) -> None:
    arn = asked(case)
    poll = stack.at("PollRequest", "its return")  # it has read a record without the cancellation
    poll.due = stack.clock.now + 1
    cancel(case, stack)
    case.until(lambda: case.record(f"wait#{case.id}").get("cancelled"), "mark")
    assert not poll.ended

    assert told_after(case, stack, arn) < 5
    assert case.end(arn).document["outcome"] == "CANCELLED"


def bounds() -> dict[str, int]:
    """By state, the seconds that docs/api.md promises between a cancellation and its end."""
    rows = re.findall(r"^\| (`.+) \| [^|]*?(\d+) s\b", (ROOT / "docs/api.md").read_text(), re.M)
    return {
        state: int(seconds) for names, seconds in rows for state in re.findall(r"`(\w+)`", names)
    }


@pytest.mark.parametrize(
    ("state", "call"),
    [
        ("CreateKey", "POST /v1/key"),
        ("RequestCsr", "POST /v1/certificate/request"),
        ("PollRequest", "its return"),
        ("StoreCsr", "POST /v1/key/attributes"),
        ("DiscardKey", "POST /v1/key/attributes"),
    ],
)
def test_a_cancellation_in_any_state_ends_it_as_soon_as_the_docs_say(
    case: Case, stack: InProcessStack, state: str, call: str
) -> None:
    arn = case.start(case.by_profile())
    if state in ("StoreCsr", "DiscardKey"):
        case.await_request()
        case.decide("approve" if state == "StoreCsr" else "decline")
    stack.at(state, call)

    cancel(case, stack)

    assert told_after(case, stack, arn) <= bounds()[state]
    assert case.end(arn).document["outcome"] in ("CANCELLED", "REJECTED")


def test_the_token_stands_in_the_wait_alone_and_goes_with_it(
    case: Case, stack: InProcessStack
) -> None:
    arn = asked(case)
    held = waiting(case)["token"]
    case.decide("approve")
    result = case.end(arn)

    assert_issued(result)
    assert held not in json.dumps(result.record, default=str)
    assert held not in json.dumps(result.events, default=str)
    assert held.encode() not in b"".join(stack.evidence(case.id, arn).values())
    assert case.record(f"wait#{case.id}") == {}


def wake(stack: InProcessStack, held: str) -> None:
    stack.client("stepfunctions").send_task_success(taskToken=held, output="{}")


def test_a_wake_without_news_costs_one_poll_and_changes_nothing(
    case: Case, stack: InProcessStack
) -> None:
    arn = asked(case)
    waiting(case)
    stack.sleep(100)
    polls = len(case.await_calls(REQUEST, 1))
    wake(stack, waiting(case)["token"])
    stack.sleep(1)

    assert len(case.await_calls(REQUEST, 1)) == polls + 1
    assert "outcome" not in case.record()
    case.decide("approve")
    assert_issued(case.end(arn))


def test_a_token_that_was_used_wakes_nobody(case: Case, stack: InProcessStack) -> None:
    asked(case)
    held = waiting(case)["token"]
    wake(stack, held)
    stack.sleep(5)
    polls = len(case.await_calls(REQUEST, 1))

    assert executions.wake("forged") is False
    executions.wake(held)
    stack.sleep(5)

    assert len(case.await_calls(REQUEST, 1)) == polls


def test_ten_wakes_in_a_row_age_no_request(case: Case, stack: InProcessStack) -> None:
    arn = asked(case, window=600)
    for _ in range(10):
        held = waiting(case)["token"]
        wake(stack, held)
        fresh(case, held)

    assert stack.clock.now < 1_795_694_400 + 60
    assert "outcome" not in case.record()
    case.decide("approve")
    assert_issued(case.end(arn))


def test_whoever_may_wake_can_only_cost_polls(case: Case, stack: InProcessStack) -> None:
    arn = asked(case)
    held = ""
    for _ in range(WAKES):
        held = fresh(case, held)
        wake(stack, held)
    case.strike("PollRequest", kind="error", name="Lambda.Unknown", when="before")
    stack.sleep(2 * HOUR)

    assert waiting(case)["token"] == held  # the last one: it waits without a token now
    case.decide("approve")
    result = case.end(arn)
    assert_issued(result)
    assert result.entered.count("WaitForApproval") == WAKES
    assert "WaitWithoutToken" in result.entered
    assert len(result.history) < 22_000


def test_a_table_that_refuses_delays_and_never_spins(case: Case, stack: InProcessStack) -> None:
    stack.refuse_waits(100)
    arn = asked(case)
    stack.sleep(HOUR)
    polls = len(case.await_calls(REQUEST, 1))
    case.decide("approve")
    result = case.end(arn)

    assert_issued(result)
    assert polls < 10
    assert "WaitWithoutToken" in result.entered


def test_a_table_that_refuses_once_costs_one_wait_without_a_token(
    case: Case, stack: InProcessStack
) -> None:
    stack.refuse_waits(1)
    arn = asked(case)
    stack.sleep(HOUR)
    stack.watch()
    case.decide("approve")

    assert told_after(case, stack, arn) <= RUN_SECONDS
    assert_issued(case.end(arn))


def test_a_wake_before_the_token_is_written_is_lost_and_the_next_run_repeats_it(
    case: Case, stack: InProcessStack
) -> None:
    arn = asked(case)
    stack.at("PollRequest", "its return")  # the answer that it has read says PENDING
    case.decide("approve")
    stack.call("WatchEnrollments", {})  # no wait, or the token of the last one
    stack.watch()

    assert told_after(case, stack, arn) <= RUN_SECONDS
    assert_issued(case.end(arn))


def test_a_lost_wake_is_repeated(case: Case, stack: InProcessStack) -> None:
    arn = asked(case)
    stack.sleep(HOUR)
    waiting(case)
    case.decide("approve")
    stack.strike("WatchEnrollments", "{", kind="aws", operation="SendTaskSuccess", when="before")
    stack.watch()

    assert told_after(case, stack, arn) <= 60 + RUN_SECONDS
    assert_issued(case.end(arn))


def test_the_order_of_a_list_is_no_news(case: Case, stack: InProcessStack) -> None:
    case.start(case.request(token(group(*people(3), quorum=3), timeout=DAY)))
    case.await_request()
    stack.sleep(HOUR)
    polls = len(case.await_calls(REQUEST, 1))
    held = waiting(case)["token"]
    for request in stack.simulator.broker.requests.values():
        request.tasks = dict(reversed(request.tasks.items()))
    stack.watch()
    stack.sleep(10 * 60)

    assert waiting(case)["token"] == held
    assert len(case.await_calls(REQUEST, 1)) in (polls + 9, polls + 10)  # the watcher's


def test_a_poll_that_fails_is_woken_for_more_and_more_rarely(
    case: Case, stack: InProcessStack
) -> None:
    arn = asked(case)
    stack.sleep(HOUR)
    case.decide("approve")
    broken = {"kind": "error", "name": "Runtime.ImportModuleError", "when": "before"}
    orders = [case.strike("PollRequest", **broken) for _ in range(200)]
    stack.watch()
    stack.sleep(DAY)
    tries = sum(order.struck for order in orders)
    for order in orders:
        order.taken = True  # it is repaired

    assert 20 <= tries <= 45  # after 1, 2, 4 … 60 minutes, and the polls
    assert told_after(case, stack, arn) <= HOUR + RUN_SECONDS
    assert_issued(case.end(arn))


def test_a_watcher_that_is_dead_for_the_whole_window_loses_nothing(
    case: Case, stack: InProcessStack
) -> None:
    arn = asked(case, window=7 * DAY)
    stack.sleep(6 * DAY)
    case.decide("approve")
    result = case.end(arn)

    assert_issued(result)
    assert len(result.history) <= 1_500


def test_by_list_an_end_is_announced_within_a_minute_too(case: Case, stack: InProcessStack) -> None:
    stack.configure(WatchByList="true")
    arn = asked(case)
    stack.sleep(HOUR)
    polls = len(case.await_calls(REQUEST, 1))
    stack.watch()
    stack.sleep(200)
    asked_meanwhile = len(case.await_calls(REQUEST, 1)) - polls
    case.decide("approve")

    assert asked_meanwhile == 0
    assert told_after(case, stack, arn) <= RUN_SECONDS
    assert_issued(case.end(arn))
