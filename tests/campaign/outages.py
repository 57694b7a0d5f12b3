"""A TSB that is away for an hour, or for longer than the window, in each state that calls it.

On the in-process stack: an hour is an hour of virtual time, for us and for the TSB.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from countersign.evidence import bundle, verifier
from local.engine.stack import InProcessStack
from tests.case import Case, Json, Result, group, people, token

TSB_CALLS = {
    "CreateKey": ("POST", "/v1/key"),
    "RequestCsr": ("POST", "/v1/certificate/request"),
    "PollRequest": ("GET", "/v1/request/{id}"),
    "StoreCsr": ("POST", "/v1/key/attributes"),
    "DiscardKey": ("POST", "/v1/key/deleteKey"),
}
OPEN = ("PENDING", "APPROVED")
AS_DEPLOYED = {"SilenceLimitMinutes": "1440"}  # the template's own; the tests' stacks have less
AWAY: Json = {"kind": "status", "httpStatus": 503}
HOUR = 3600
WINDOW = 600
OVER_THE_WINDOW = WINDOW + 60

type Outage = Callable[[InProcessStack, Case], Result]


@contextmanager
def away(case: Case, state: str) -> Iterator[None]:
    """The call that this state makes finds no TSB, as long as this is open."""
    method, path = TSB_CALLS[state]
    case.fault(method, path, **AWAY, times=None)
    yield
    case.no_more_faults()


def refused(case: Case, state: str) -> None:
    """Let things move until this state has called in vain."""
    method, path = TSB_CALLS[state]
    case.await_calls(path, 1, method)


def pass_time(stack: InProcessStack, seconds: float) -> None:
    """Let things move for so long."""
    end = stack.clock.now + seconds
    stack.until(lambda: stack.clock.now >= end, f"end of {seconds} s")


def decided(
    stack: InProcessStack,
    case: Case,
    arn: str,
    decision: str = "approve",
    *,
    after_seconds: float = 0,
) -> Result:
    """The end of an execution whose approvers decide so whatever they are asked."""
    since: dict[str, float] = {}

    def has_ended() -> bool:
        for one in case.state()["requests"]:
            asked_at = since.setdefault(one["id"], stack.clock.now)
            if one["status"] in OPEN and stack.clock.now - asked_at >= after_seconds:
                # Decided, or gone with its key, meanwhile: nothing to do.
                with suppress(OSError):
                    decided_so = {"requestId": one["id"], "decision": decision}
                    stack.control("POST", "/decide", decided_so)
        return stack.has_ended(arn)

    case.until(has_ended, "end")
    return settled(stack, case, arn)


def settled(stack: InProcessStack, case: Case, arn: str) -> Result:
    """What came of an execution, once everything that follows it has happened, too."""
    stack.settle()
    result = case.end(arn, event=False)
    claim = case.record(f"label#{case.label}")
    result.more["claim"] = claim.get("enrollmentId", "nobody")
    result.more["evidence"] = stack.evidence(case.id, result.record.get("executionArn", arn))
    result.more["signingKey"] = stack.signing_key()
    return result


def _again(stack: InProcessStack, case: Case, state: str) -> Result:
    """Away for longer than the retries at the start, then the same request once more."""
    with away(case, state):
        first = case.end(case.start(case.request()))
    result = decided(stack, case, case.start(case.request()))
    result.events = result.events[len(first.events) :]
    result.more["first"] = first.record["outcome"], first.record["error"]["name"]
    return result


def away_at_the_start(stack: InProcessStack, case: Case) -> Result:
    return _again(stack, case, "CreateKey")


def away_before_the_approvers_are_asked(stack: InProcessStack, case: Case) -> Result:
    return _again(stack, case, "RequestCsr")


def away_for_an_hour_after_the_approval(stack: InProcessStack, case: Case) -> Result:
    arn = case.start(case.request())
    case.await_request()
    with away(case, "PollRequest"):
        case.decide("approve")
        pass_time(stack, HOUR)
    return settled(stack, case, arn)


def away_for_an_hour_then_the_approval(stack: InProcessStack, case: Case) -> Result:
    (person,) = people(1)
    with away(case, "PollRequest"):
        arn = case.start(case.request(token(group(person), timeout=2 * HOUR)))
        case.await_request()
        pass_time(stack, HOUR)
    case.approve(person)
    return settled(stack, case, arn)


def away_over_the_window_with_the_approval_before(stack: InProcessStack, case: Case) -> Result:
    (person,) = people(1)
    with away(case, "PollRequest"):
        arn = case.start(case.request(token(group(person), timeout=WINDOW)))
        case.approve(person)
        pass_time(stack, OVER_THE_WINDOW)
    return settled(stack, case, arn)


def away_over_the_window_without_an_approval(stack: InProcessStack, case: Case) -> Result:
    (person,) = people(1)
    with away(case, "PollRequest"):
        arn = case.start(case.request(token(group(person), timeout=WINDOW)))
        case.await_request()
        pass_time(stack, OVER_THE_WINDOW)
    return settled(stack, case, arn)


def away_for_an_hour_while_the_csr_is_verified(stack: InProcessStack, case: Case) -> Result:
    with away(case, "StoreCsr"):
        arn = case.start(case.request())
        case.decide("approve")
        refused(case, "StoreCsr")
        pass_time(stack, HOUR)
    return settled(stack, case, arn)


def away_for_an_hour_while_a_key_is_discarded(stack: InProcessStack, case: Case) -> Result:
    case.fault("POST", "/v1/certificate/request", "drop", executed=True)
    with away(case, "DiscardKey"):
        arn = case.start(case.request())
        case.decide("approve")  # of the request that goes with its key
        refused(case, "DiscardKey")
        pass_time(stack, HOUR)
    return decided(stack, case, arn)


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


def carry_out(stack: InProcessStack, outage: Outage) -> Result:
    """An enrollment during this outage, to its end and to the end of whatever follows it."""
    return outage(stack, Case(stack, outage.__name__.replace("_", "-")[:20]))


def broken(outage: Outage, result: Result) -> list[str]:
    """What does not hold: the outcome, one key, one request, evidence that says so."""
    found, outcome = [], result.record.get("outcome")
    if sum(not key["deleted"] for key in result.keys) > 1:
        found.append("more than one live key")
    if any(one["status"] in OPEN for one in result.requests):
        found.append("an open request")
    try:
        verifier.verify(result.more["evidence"], result.more["signingKey"])
    except bundle.EvidenceInvalidError as error:
        found.append(f"evidence: {error}")
    if outcome != OUTAGES[outage]:
        found.append(f"ended as {outcome}, not {OUTAGES[outage]}")
    if not calls_refused(result):
        found.append("spared: no call was refused")
    return found


def calls_refused(result: Result) -> list[Json]:
    """The calls that found no TSB."""
    return [call for call in result.calls if call["httpStatus"] == AWAY["httpStatus"]]


def row(stack: InProcessStack, outage: Outage) -> dict[str, Any]:
    """What came of it, for the report."""
    name = outage.__name__.replace("_", " ")
    try:
        result = carry_out(stack, outage)
    except AssertionError as error:
        return {"name": name, "ended": None, "broken": [str(error)[:300]]}
    return {
        "name": name,
        "ended": result.record.get("outcome"),
        "first": result.more.get("first"),
        "refused": len(calls_refused(result)),
        "broken": broken(outage, result),
    }
