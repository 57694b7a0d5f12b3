"""What others do, claim or say meanwhile, and what an enrollment makes of it."""

import json

import pytest

from local.engine.invocation import FunctionFailedError
from local.engine.stack import InProcessStack
from tests.case import Case, assert_failed, assert_issued, group, people, token

KEY = "/v1/key"
CSR = "/v1/certificate/request"
HSM_ERROR = {"errorCode": 621, "reason": "res.error.in.hsm", "message": "Error in HSM"}


def test_a_poll_that_comes_late_overwrites_nothing_that_a_later_poll_wrote(
    case: Case, stack: InProcessStack
) -> None:
    # An invocation whose answer got lost goes on while the next one polls.
    arn = case.start(case.request(token(group(*people(1)))))
    late = stack.at("PollRequest", "UpdateItem")
    late.lose()
    newer = {"steps.csr.times.nextPoll": "2026-11-26T13:00:00Z", "steps.csr.status": "APPROVED"}
    case.write(**newer)
    before = case.record()
    stack.until(lambda: late.ended, "end of the late poll")

    assert case.record() == before
    case.stop(arn)


def test_a_message_about_an_execution_that_goes_on_ends_nothing(
    case: Case, stack: InProcessStack
) -> None:
    # Whoever may send to the backstop's queue says which execution to look at, and nothing more.
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.await_request()
    detail = {
        "executionArn": arn, "stateMachineArn": stack.outputs["EnrollmentStateMachineArn"],
        "name": arn.rpartition(":")[2], "status": "ABORTED", "input": "{}",
    }  # fmt: skip
    with pytest.raises(FunctionFailedError, match="Step Functions says RUNNING"):
        stack.call("CloseEnrollment", {"Records": [{"body": json.dumps({"detail": detail})}]})
    assert "outcome" not in case.record()
    case.approve(person)

    assert_issued(case.end(arn))


def test_an_id_is_not_claimed_again_before_its_end_is_announced(case: Case) -> None:
    case.fault("POST", KEY, "status", httpStatus=429, times=9)
    for _ in range(4):
        case.strike("CloseEnrollment", kind="aws", operation="PutEvents", when="before")
    request = case.request()
    first = case.start(request)
    case.until(lambda: "outcome" in case.record(), "outcome")
    second = case.start(request)
    result = case.end(second, event=False)

    assert result.document["duplicate"] is True
    assert "announced" not in result.record
    assert result.record["attempt"] == 1
    assert case.end(first).endings == ["Enrollment Failed"]


def test_a_label_that_differs_in_its_case_alone_is_the_same_label(case: Case) -> None:
    # Whether the TSB tells them apart is unknown, so two keys never depend on it.
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    rival = Case(case.stack, f"{case.id}-rival")
    rival.label = case.label.upper()
    result = rival.end(rival.start(rival.request()))

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert case.id in result.document["error"]["message"]
    assert result.keys == []
    assert_issued(case.end(arn))


def test_an_execution_that_is_stopped_after_its_end_changes_no_outcome(
    case: Case, stack: InProcessStack
) -> None:
    case.fault("POST", CSR, "status", httpStatus=400, body=HSM_ERROR)
    arn = case.start(case.request())
    stack.at("CloseEnrollment", "its return")
    before = case.record()
    case.stop(arn)
    stack.settle()  # the backstop hears of it
    result = case.end(arn)

    assert result.status == "ABORTED"
    assert before["error"]["name"] == "TsbRefusedError"
    assert result.record == before
    assert result.endings == ["Enrollment Failed"]


@pytest.mark.forged  # no check on record has failed
def test_what_failed_after_people_were_asked_is_not_begun_anew(case: Case) -> None:
    case.strike("StoreCsr", kind="error", name="CsrInvalidError", when="before")
    (person,) = people(1)
    request = case.request(token(group(person)))
    first = case.start(request)
    case.approve(person)
    ended = case.end(first)
    again = case.end(case.start(request), event=False)

    assert ended.record["outcome"] == "FAILED"
    assert ended.record["announced"]
    assert again.document["duplicate"] is True
    assert again.record["attempt"] == 1
    assert len(again.requests) == 1


def test_a_fresh_key_is_made_when_a_late_call_has_found_none(
    case: Case, stack: InProcessStack
) -> None:
    # A TSB under load may execute a call whose answer got lost minutes later.
    case.fault("POST", CSR, "drop", executed=True)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    discarded = stack.at("DiscardKey", "its return")
    moment = stack.clock.now
    stack.until(lambda: discarded.ended, "end of DiscardKey")
    stack.at("CreateKey", "POST /v1/key")

    assert stack.clock.now - moment > 4 * 60
    case.await_calls(CSR, 2, "POST")
    case.approve(person)
    assert case.end(arn).document["outcome"] == "ISSUED"
