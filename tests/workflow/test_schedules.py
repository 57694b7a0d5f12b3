"""Schedules that went wrong once, each with its right end; tests/exploration finds their like.

Late polls, forged messages, labels by case and fresh starts have tests beside their subjects.
"""

import json
from typing import Any

import pytest

from countersign.events import ENDINGS
from countersign.evidence.bundle import SIGNATURE
from countersign.evidence.verifier import verify
from local.engine.invocation import Invocation
from local.engine.stack import InProcessStack
from tests.case import Case, Json, Result, assert_failed, assert_issued, group, people, token
from tests.workflow.api import Caller
from tests.workflow.stopping import stopped_before

KEY, CSR = "/v1/key", "/v1/certificate/request"
REQUEST = "/v1/request/{id}"
NOT_SENT = {"errorCode": 617, "reason": "res.error.invalid.access.token", "message": "token"}
DAY = 86_400


def never_asked(case: Case, request: Json) -> Result:
    """An attempt that fails before anybody was asked."""
    case.fault("POST", CSR, "status", httpStatus=401, body=NOT_SENT)
    return case.end(case.start(request))


def lost_at(stack: InProcessStack, function: str, call: str, seconds: float) -> Invocation:
    """Let everything move up to this call; its invocation gets lost and sleeps before it."""
    invocation = stack.at(function, call)
    invocation.lose()
    invocation.due = stack.clock.now + seconds
    return invocation


# 1 APPROVED for days ------------------------------------------------------------------------------


def test_what_another_timelock_holds_back_for_days_is_issued_after_few_polls(
    case: Case, stack: InProcessStack
) -> None:
    ada, bob = people(2)
    both = {**token(group(ada, bob, quorum=2), timeout=4 * DAY), "name": "both at once"}
    one = token(group(ada, bob), timelock=2 * DAY, timeout=4 * DAY)
    arn = case.start(case.request(both, {**one, "name": "one after two days"}))
    case.approve(ada)
    stack.sleep(DAY)
    waiting = case.step()["status"]
    result = case.end(arn)

    assert waiting == "APPROVED"
    assert_issued(result)
    assert result.entered.count("PollRequest") < 300  # once a minute would be 2,900


# 2 Writes without an owner ------------------------------------------------------------------------


def test_an_id_is_not_claimed_again_before_its_end_is_announced(
    case: Case, stack: InProcessStack
) -> None:
    request = case.request(token(group(*people(1))))
    case.fault("POST", CSR, "status", httpStatus=401, body=NOT_SENT)
    first = case.start(request)
    stack.at("CloseEnrollment", "PutEvents")  # FAILED is on record, and nobody knows it yet
    early = case.end(case.start(request), event=False)
    case.end(first)
    second = case.start(request)
    case.decide("approve")
    result = case.end(second)

    assert (early.document["duplicate"], early.document["outcome"]) == (True, "FAILED")
    assert result.record["attempt"] == 2
    assert result.endings == ["Enrollment Failed", "Enrollment Issued"]
    verify(case.evidence(result), stack.signing_key())


def test_a_message_about_an_earlier_attempt_that_comes_again_does_nothing(
    case: Case, stack: InProcessStack
) -> None:
    request = case.request(token(group(*people(1))))
    first = case.start(request)
    stack.at("AcceptEnrollment", "its return")
    case.stop(first)
    case.end(first)
    message = json.dumps({"detail": {"executionArn": first}})
    second = case.start(request)
    case.await_request()
    event = {"Records": [{"messageId": "m", "body": message}]}
    stack.call("CloseEnrollment", event)
    case.decide("approve")
    result = case.end(second)

    assert result.record["earlier"] == [first]
    assert result.event_types.count("Enrollment Failed") == 1
    assert "Enrollment Refused" not in result.event_types
    assert result.endings == ["Enrollment Failed", "Enrollment Issued"]


# 3 Invocations of one execution -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("CreateKey", f"POST {KEY}"),
        ("CreateKey", "UpdateItem"),
        ("RequestCsr", f"POST {CSR}"),
        ("StoreCsr", "UpdateItem"),
        ("CloseEnrollment", "UpdateItem"),
    ],
)
def test_a_lost_invocation_that_goes_on_spoils_nothing(
    case: Case, stack: InProcessStack, function: str, call: str
) -> None:
    arn = case.start(case.request(token(group(*people(1)))))
    if function in ("StoreCsr", "CloseEnrollment"):
        case.decide("approve")
    lost_at(stack, function, call, 25)
    case.await_request()
    while not stack.has_ended(arn):
        if any(one["status"] == "PENDING" for one in case.state()["requests"]):
            case.decide("approve")
        stack.step()
    stack.settle()
    result = case.end(arn)

    assert result.document["outcome"] == "ISSUED"
    assert result.step["status"] == "EXECUTED"
    assert sum(not key["deleted"] for key in result.keys) == 1
    assert [one["status"] for one in result.requests].count("EXECUTED") == 1
    assert all(one["status"] in ("EXECUTED", "CANCELLED") for one in result.requests)
    verify(case.evidence(result), stack.signing_key())


def test_a_lost_disposal_does_not_delete_the_key_of_the_fresh_start(
    case: Case, stack: InProcessStack
) -> None:
    case.fault("POST", CSR, "drop", executed=True)
    arn = case.start(case.request(token(group(*people(1)))))
    lost_at(stack, "DiscardKey", "POST /v1/key/deleteKey", 25)
    case.until(lambda: [one for one in case.state()["requests"] if one["status"] == "PENDING"], "2")
    stack.until(lambda: len(case.state()["requests"]) == 2, "fresh request")
    case.decide("approve")
    result = case.end(arn)
    stack.settle()

    assert result.document["outcome"] == "ISSUED"
    assert [key["deleted"] for key in case.state()["keys"]] == [True, False]


# 4 A call that the TSB executes late --------------------------------------------------------------


def test_a_request_that_the_tsb_executes_late_finds_no_key(
    case: Case, stack: InProcessStack
) -> None:
    arn = case.start(case.request(token(group(*people(1)))))
    asking = stack.at("RequestCsr", f"POST {CSR}")
    asking.next_fault = "late"
    stack.until(lambda: case.state()["requests"], "request of the fresh start")
    stack.sleep(600)
    case.decide("approve")
    result = case.end(arn)

    assert result.document["outcome"] == "ISSUED"
    assert [one["status"] for one in result.requests] == ["EXECUTED"]
    late = [one for one in result.calls if one["path"] == CSR and not one["executed"]]
    assert len(late) == 1


# 5 Cancelling -------------------------------------------------------------------------------------


def test_a_cancellation_that_finds_nothing_is_not_acknowledged(
    case: Case, stack: InProcessStack
) -> None:
    call = Caller(stack).begin("DELETE", f"/enrollments/{case.id}")
    while call.at != "its return" and not (call.at == "GetItem" and call.calls):
        stack.step()
        if call.ended:
            break
        if call.calls and call.at == "GetItem":
            break
    arn = case.start(case.request(token(group(*people(1)))))
    case.await_request()
    stack.until(lambda: call.ended, "answer")
    case.decide("approve")
    result = case.end(arn)

    assert call.answer()["Payload"]["statusCode"] == 404
    assert_issued(result)


@pytest.mark.parametrize("decision", ["decline", "approve", None])
def test_what_was_cancelled_ends_as_cancelled_whatever_the_tsb_says(
    case: Case, stack: InProcessStack, decision: str | None
) -> None:
    """REJECTED, EXPIRED and FAILED are no possible ends of an acknowledged cancellation."""
    arn = case.start(case.request(token(group(*people(1)))))
    case.await_request()
    if decision:
        case.decide(decision)
    else:
        case.advance(2 * 3600)
    stack.at("PollRequest", "UpdateItem")  # it has read what the TSB says
    answer = Caller(stack).call("DELETE", f"/enrollments/{case.id}")
    result = case.end(arn)

    assert answer.status_code == 202
    assert result.document["outcome"] == "CANCELLED"
    assert result.endings == ["Enrollment Cancelled"]


# 6 Labels -----------------------------------------------------------------------------------------


def test_a_label_of_a_key_that_never_was_is_free(case: Case, stack: InProcessStack) -> None:
    case.fault("POST", KEY, "status", httpStatus=429, times=9)
    assert_failed(case.end(case.start(case.request())), "TsbUnavailableError", "CreateKey")
    other = Case(stack, f"{case.id}-other")
    other.label = case.label
    arn = other.start(other.request(token(group(*people(1)))))
    other.decide("approve")

    assert_issued(other.end(arn))


def test_a_label_of_a_key_that_may_be_there_stays_claimed(
    case: Case, stack: InProcessStack
) -> None:
    case.fault("POST", KEY, "drop", executed=True)
    case.fault("POST", "/v1/key/attributes", "status", httpStatus=503, times=9)
    case.end(case.start(case.request()))
    other = Case(stack, f"{case.id}-other")
    other.label = case.label
    result = other.end(other.start(other.request(token(group(*people(1))))))

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert case.id in result.document["error"]["message"]


def test_a_failed_attempt_whose_keys_are_blocked_can_be_started_again(
    case: Case, stack: InProcessStack
) -> None:
    content = json.loads((stack.folder / "layer/profiles/trial@1.json").read_text())
    stack.release_profile("trial@2", {**content, "version": 2, "unusedKey": "block"})
    request = case.by_profile("trial@2")
    first = never_asked(case, request)
    arn = case.start(request)
    case.decide("approve")
    result = case.end(arn)

    assert first.record["unusedKey"]["result"] == "kept"
    assert "started again" in first.record["unusedKey"]["reason"]
    assert_issued_again(result)


def assert_issued_again(result: Result) -> None:
    assert (result.document["outcome"], result.record["attempt"]) == ("ISSUED", 2)
    assert [(key["deleted"], key["blocked"]) for key in result.keys] == [(False, False)]


def test_nothing_is_kept_of_a_key_that_was_never_made(case: Case, stack: InProcessStack) -> None:
    arn = case.start(case.request(token(group(*people(1)))))
    stack.at("CreateKey", "UpdateItem")
    case.cancel()
    result = case.end(arn)

    assert result.keys == []
    assert (result.document["outcome"], result.record["unusedKey"]["result"]) == (
        "CANCELLED",
        "none",
    )
    assert case.record(f"label#{case.label}") == {}


# 8 What is kept -----------------------------------------------------------------------------------


def test_the_answer_that_decides_is_kept_after_any_number_of_others(
    case: Case, stack: InProcessStack
) -> None:
    everybody = people(25)
    arn = case.start(case.request(token(group(*everybody, quorum=25), timeout=30 * DAY)))
    for number, one in enumerate(everybody, 1):
        case.approve(one)
        case.until(lambda: len(_approved(case)) == number, "approval on record")  # noqa: B023
    result = case.end(arn)

    kept = [json.loads(body) for name, body in result.objects.items() if "tsb/poll-request" in name]
    assert [one["status"] for one in kept].count("EXECUTED") == 1
    assert len(kept) == 21
    verify(case.evidence(result), stack.signing_key())


def _approved(case: Case) -> list[Any]:
    asked = case.step().get("approvers", [])
    return [one for one in asked if one["decision"] == "approved"]


# 9 Names of executions ----------------------------------------------------------------------------


def test_a_name_that_somebody_else_took_is_not_taken_for_started(
    case: Case, stack: InProcessStack
) -> None:
    stack.client("stepfunctions").start_execution(
        stateMachineArn=stack.outputs["EnrollmentStateMachineArn"],
        name=f"{case.id}-1",
        input='{"request": "by hand"}',
    )
    request = case.request(token(group(*people(1))))
    caller = Caller(stack)
    answers = [caller.call("POST", "/enrollments", request) for _ in range(2)]
    arn = case.execution()
    case.decide("approve")
    result = case.end(arn)

    assert [one.status_code for one in answers] == [202, 202]
    assert arn.endswith(f":{case.id}-1-b")
    assert_issued(result)


def test_an_execution_that_was_stopped_while_it_claims_is_not_waited_for(
    case: Case, stack: InProcessStack
) -> None:
    request = case.request(token(group(*people(1))))
    Caller(stack).call("POST", "/enrollments", request)
    first = stack.until(lambda: next(iter(stack.waits), None), "execution")
    lost = stack.at("AcceptEnrollment", "UpdateItem")
    lost.lose()
    lost.due = stack.clock.now + 20
    case.stop(first)
    stack.settle()
    again = Caller(stack).call("POST", "/enrollments", request)
    case.decide("approve")
    stack.settle()
    record = case.record()

    assert again.status_code == 202
    assert (record["attempt"], record["outcome"]) == (2, "ISSUED")


@pytest.mark.parametrize(
    ("state", "call"),
    [("CreateKey", "POST /v1/key"), ("RequestCsr", "POST /v1/certificate/request")],
)
def test_a_function_that_outlives_its_stopped_execution_spoils_no_evidence(
    case: Case, stack: InProcessStack, state: str, call: str
) -> None:
    case.strike("KeepEvidence", kind="aws", operation="GetItem", when="before")
    arn = case.start(case.request())
    lost_at(stack, state, call, 20)
    case.stop(arn)
    result = case.end(arn)
    stack.settle()  # the function writes what it has made; then the evidence is delivered again

    times = {**case.record()["times"], **case.step().get("times", {})}
    assert result.record["outcome"] == "FAILED"
    assert max(times.get("keyCreated", ""), times.get("requested", "")) > times["ended"]
    assert SIGNATURE in stack.evidence(case.id, arn)


# TSB's 651 ----------------------------------------------------------------------------------------

UNKNOWN = {"errorCode": 651, "reason": "res.error.request.not.existent", "message": "x"}


def test_a_request_that_vanishes_for_a_moment_is_polled_on(case: Case) -> None:
    case.fault("GET", REQUEST, "status", httpStatus=404, body=UNKNOWN, times=5)
    arn = case.start(case.request(token(group(*people(1)))))
    case.decide("approve")
    result = case.end(arn)

    assert_issued(result)
    assert "unknownToTsbSince" not in result.record


def test_a_request_that_has_vanished_for_a_quarter_of_an_hour_ends_and_keeps_the_key(
    case: Case, stack: InProcessStack
) -> None:
    arn = case.start(case.by_profile())
    case.await_request()
    case.fault("GET", REQUEST, "status", httpStatus=404, body=UNKNOWN, times=None)
    began = stack.clock.now
    result = case.end(arn)

    assert_failed(result, "TsbRefusedError", "PollRequest")
    assert 900 <= stack.clock.now - began < 1_500
    assert result.record["unusedKey"]["result"] == "kept"
    assert [key["deleted"] for key in result.keys] == [False]


# Ends of what another execution owns, or that never asked -----------------------------------------


def test_an_end_of_what_another_execution_owns_says_so(case: Case, stack: InProcessStack) -> None:
    arn = case.start(case.request(token(group(*people(1)))))
    case.await_request()
    case.decide("decline")
    stack.at("CloseEnrollment", "GetItem")
    case.write(executionArn=f"{arn}-other")
    result = case.end(arn, event=False)
    (event,) = [one for one in stack.events(case.id) if one["detail-type"] in ENDINGS]

    assert result.document["error"]["name"] == "EnrollmentConflictError"
    assert event["detail-type"] == "Enrollment Refused"
    assert "outcome" not in result.record


def test_a_request_csr_that_never_works_does_not_say_that_it_asked(case: Case) -> None:
    for _ in range(18):
        case.strike("RequestCsr", kind="error", name="Runtime.ImportModuleError", when="before")
    result = case.end(case.start(case.request(token(group(*people(1))))))

    assert result.error == "Runtime.ImportModuleError"
    assert result.requests == []
    assert all(key["deleted"] for key in result.keys)


def test_what_the_quorum_has_approved_is_not_cancelled_because_it_is_not_executed(
    case: Case,
) -> None:
    case.fault("GET", REQUEST, "request_status", status="APPROVED", times=None)
    arn = case.start(case.request(token(group(*people(1)), timeout=60)))
    case.await_request()
    case.decide("approve")
    result = case.end(arn)

    assert_failed(result, "TsbRefusedError", "PollRequest")
    assert result.count("DELETE", REQUEST) == 0
    assert result.record["unusedKey"]["result"] == "kept"
    assert [key["deleted"] for key in result.keys] == [False]


# What was stopped ---------------------------------------------------------------------------------


def test_what_people_decided_while_a_stopped_enrollment_is_closed_counts(
    case: Case, stack: InProcessStack
) -> None:
    arn = case.start(case.request(token(group(*people(1)))))
    case.await_request()
    case.decide("decline")
    result = stopped_before(case, stack, arn, stack.at("PollRequest", "UpdateItem"))

    assert (result.record["outcome"], result.step["status"]) == ("REJECTED", "REJECTED")
    assert result.endings == ["Enrollment Rejected"]
    verify(stack.evidence(case.id, arn), stack.signing_key())


def test_an_intent_that_is_on_record_while_a_stopped_enrollment_is_closed_is_told(
    case: Case, stack: InProcessStack
) -> None:
    arn = case.start(case.request(token(group(*people(1)))))
    late = stack.at("RequestCsr", "UpdateItem")
    case.stop(arn)
    late.due = stack.clock.now + 5
    stack.at("CloseEnrollment", "UpdateItem").due = stack.clock.now + 10  # it has read the record
    stack.at("RequestCsr", f"POST {CSR}").due = stack.clock.now + 20
    result = case.end(arn)
    stack.settle()

    assert [one["status"] for one in case.state()["requests"]] == ["PENDING"]
    assert result.record["error"]["action"] == (
        f"See at the TSB which requests of key {case.label!r} are open, if any."
    )


def test_a_request_that_is_on_record_while_a_stopped_enrollment_is_closed_is_named(
    case: Case, stack: InProcessStack
) -> None:
    arn = case.start(case.request(token(group(*people(1)))))
    result = stopped_before(case, stack, arn, stack.at("RequestCsr", "UpdateItem", 2))

    assert result.record["outcome"] == "FAILED"
    assert result.step["requestId"] in result.record["error"]["action"]


def test_the_end_of_what_was_stopped_speaks_of_a_request_that_was_made_twice(
    case: Case, stack: InProcessStack
) -> None:
    arn = case.start(case.request(token(group(*people(1)))))
    stack.at("RequestCsr", f"POST {CSR}").next_fault = "repeat"
    stack.until(lambda: case.step().get("requestId"), "request on record")
    case.stop(arn)
    result = case.end(arn)

    assert [one["status"] for one in result.requests] == ["PENDING", "PENDING"]
    assert result.record["error"]["action"] == (
        f"Requests of key {case.label!r} may still be open at the TSB:"
        f" `countersign resume {case.id}` takes up {result.step['requestId']}."
    )


def test_a_label_that_was_claimed_after_a_stop_is_free(case: Case, stack: InProcessStack) -> None:
    arn = case.start(case.request(token(group(*people(1)))))
    claiming = stack.at("CreateKey", "PutItem")
    case.stop(arn)
    claiming.next_fault = "after"
    case.end(arn)
    stack.settle()
    claimed, keys = case.record(f"label#{case.label}"), case.state()["keys"]
    other = Case(stack, f"{case.id}-other")
    other.label = case.label
    another = other.start(other.request(token(group(*people(1)))))
    other.decide("approve")

    assert (claimed["enrollmentId"], keys) == (case.id, [])
    assert_issued(other.end(another))
