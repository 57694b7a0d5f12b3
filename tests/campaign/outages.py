"""A TSB that is away for an hour, or for longer than the window, in each state that calls it.

Waits are scaled, so an hour is the number of looks or retries that an hour has; TSB's own clock is
moved on by as much.
"""

from collections.abc import Callable
from typing import Any

from tests.campaign.faults import TSB_CALLS, Approvers, gather_evidence, new_case, violations
from tests.e2e.case import Case, Json, Run, group, people, token

AWAY: Json = {"kind": "status", "httpStatus": 503}
HOUR = 3600
LOOKS_OF_AN_HOUR = 26  # 10 s, growing by a fifth of the age each time
RETRIES_OF_AN_HOUR = 12  # 2, 4, … 512, then 900 s
TOO_MANY = 9  # one more than CreateKey and RequestCsr try
WINDOW = 600

type Outage = Callable[[Case], Run]


def _away(case: Case, state: str, times: int | None) -> None:
    method, path = TSB_CALLS[state]
    case.fault(method, path, **AWAY, times=times)


def _back(case: Case) -> None:
    case.stack.control("DELETE", f"/faults?label={case.label}")


def _looks(case: Case, number: int) -> None:
    case.await_calls("/v1/request/{id}", number)


def _again(case: Case, state: str) -> Run:
    """Away for longer than the retries at the start, then the same request once more."""
    _away(case, state, TOO_MANY)
    first = case.end(case.start(case.request()))
    with Approvers(case.stack, case.label):
        run = case.end(case.start(case.request()), event=False)
        case.await_event("Enrollment Issued")
    run.events = case.stack.events(case.id)[len(first.events) :]
    run.record = case.record()
    run.more["first"] = first.record["outcome"], first.record["error"]["name"]
    return run


def away_at_the_start(case: Case) -> Run:
    return _again(case, "CreateKey")


def away_before_the_approvers_are_asked(case: Case) -> Run:
    return _again(case, "RequestCsr")


def away_for_an_hour_after_the_approval(case: Case) -> Run:
    arn = case.start(case.request())
    case.await_request()
    _away(case, "PollRequest", LOOKS_OF_AN_HOUR)
    case.decide("approve")
    case.advance(HOUR)
    return case.end(arn)


def away_for_an_hour_then_the_approval(case: Case) -> Run:
    (person,) = people(1)
    _away(case, "PollRequest", LOOKS_OF_AN_HOUR)
    arn = case.start(case.request(token(group(person), timeout=2 * HOUR)))
    case.await_request()
    case.advance(HOUR)
    case.approve(person)
    return case.end(arn)


def away_over_the_window_with_the_approval_before(case: Case) -> Run:
    (person,) = people(1)
    _away(case, "PollRequest", None)
    arn = case.start(case.request(token(group(person), timeout=WINDOW)))
    case.approve(person)
    case.advance(WINDOW + 60)
    _looks(case, LOOKS_OF_AN_HOUR // 2)
    _back(case)
    return case.end(arn)


def away_over_the_window_without_an_approval(case: Case) -> Run:
    (person,) = people(1)
    _away(case, "PollRequest", None)
    arn = case.start(case.request(token(group(person), timeout=WINDOW)))
    case.await_request()
    case.advance(WINDOW + 60)
    _looks(case, LOOKS_OF_AN_HOUR // 2)
    _back(case)
    return case.end(arn)


def away_for_an_hour_while_the_csr_is_verified(case: Case) -> Run:
    _away(case, "StoreCsr", RETRIES_OF_AN_HOUR)
    with Approvers(case.stack, case.label):
        return case.end(case.start(case.request()))


def away_for_an_hour_while_a_key_is_discarded(case: Case) -> Run:
    case.fault("POST", "/v1/certificate/request", "drop", executed=True)
    _away(case, "DiscardKey", RETRIES_OF_AN_HOUR)
    with Approvers(case.stack, case.label):
        return case.end(case.start(case.request()))


# Each outage, and how it must end.
OUTAGES: dict[Outage, str] = {
    away_at_the_start: "ISSUED",
    away_before_the_approvers_are_asked: "ISSUED",
    away_for_an_hour_after_the_approval: "ISSUED",
    away_for_an_hour_then_the_approval: "ISSUED",
    away_over_the_window_with_the_approval_before: "ISSUED",
    away_over_the_window_without_an_approval: "EXPIRED",
    away_for_an_hour_while_the_csr_is_verified: "ISSUED",
    away_for_an_hour_while_a_key_is_discarded: "ISSUED",
}


def row(stack: Any, outage: Outage) -> dict[str, Any]:
    """What came of it, for the report."""
    name = outage.__name__.replace("_", " ")
    try:
        case = new_case(stack, outage.__name__.replace("_", "-")[:20])
        run = outage(case)
        gather_evidence(case, run)
    except AssertionError as error:
        return {
            "name": name,
            "ended": None,
            "wanted": OUTAGES[outage],
            "broken": [str(error)[:300]],
        }
    ended = run.record.get("outcome")
    broken = violations(run)
    if ended != OUTAGES[outage]:
        broken.append(f"ended as {ended}, not {OUTAGES[outage]}")
    return {
        "name": name,
        "ended": ended,
        "first": run.more.get("first"),
        "unanswered": sum(call["httpStatus"] == AWAY["httpStatus"] for call in run.calls),
        "broken": broken,
    }
