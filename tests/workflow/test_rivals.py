"""What others do, claim or say meanwhile, and what an enrollment makes of it."""

import json

from local.engine.stack import InProcessStack
from tests.case import Case, assert_failed, assert_issued, group, people, token

KEY = "/v1/key"


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
    stack.call("CloseEnrollment", {"Records": [{"body": json.dumps({"detail": detail})}]})
    assert "outcome" not in case.record()
    case.approve(person)

    assert_issued(case.end(arn))


def test_an_id_is_not_claimed_again_before_its_end_is_announced(case: Case) -> None:
    case.fault("POST", KEY, "status", httpStatus=503, times=9)
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
