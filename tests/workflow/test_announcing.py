"""What is put on the bus, what comes of a bus that refuses, and which end counts."""

import json
from collections.abc import Callable

import pytest

from countersign import events
from countersign.models import now, timestamp
from local.engine.stack import InProcessStack
from tests.case import Case, Json, Result, assert_issued, group, people, token

REQUEST = "/v1/request/{id}"
HSM_ERROR: Json = {"errorCode": 621, "reason": "res.error.in.hsm", "message": "Error in HSM"}
TRIES = 9  # of AcceptEnrollment and CloseEnrollment, before the state machine gives up
A_DAY_OF_TRIES = 101  # of StoreCsr, where what goes wrong is not known


def said(case: Case, detail_type: str) -> list[Json]:
    """The events of a type about this case, so far."""
    return [one for one in case.stack.events(case.id) if one["detail-type"] == detail_type]


def bus_refuses(case: Case, function: str, times: int = 1) -> None:
    for _ in range(times):
        case.strike(function, kind="aws", operation="PutEvents", when="before")


def test_what_is_accepted_is_told_again_when_the_state_runs_again(case: Case) -> None:
    case.strike("AcceptEnrollment", kind="die", when="after")
    arn = case.start(case.request(), trigger="start", id="OPS-42")
    case.await_request()

    told = said(case, "Enrollment Accepted")
    assert len(told) == 2
    assert told[0]["detail"] == told[1]["detail"]
    assert told[0]["detail"]["origin"]["said"]["id"] == "OPS-42"
    assert told[0]["resources"] == [arn]


def test_an_acceptance_that_cannot_be_told_is_repeated(case: Case) -> None:
    bus_refuses(case, "AcceptEnrollment")
    arn = case.start(case.request())
    case.await_request()
    case.stop(arn)

    assert case.end(arn).failures == [("AcceptEnrollment", "AwsCallError")]
    assert len(said(case, "Enrollment Accepted")) == 1


def test_a_bus_that_refuses_how_the_approval_stands_holds_up_no_decision(case: Case) -> None:
    bus_refuses(case, "PollRequest", 20)  # more polls than there are
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.await_calls(REQUEST, 2)
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    looked_in_vain = result.entered.count("IsSilentTooLong")
    assert looked_in_vain >= 1
    assert result.failures == [("PollRequest", "AwsCallError")] * looked_in_vain
    assert result.event_types == ["Enrollment Accepted", "Enrollment Issued"]


def test_an_outcome_that_cannot_be_told_is_on_record_and_told_later_once(
    case: Case, stack: InProcessStack
) -> None:
    bus_refuses(case, "CloseEnrollment", TRIES)
    case.strike("CloseEnrollment", kind="die", when="after")  # the backstop's, so it comes twice
    (person,) = people(1)
    arn = case.start(case.request(token(group(person), timeout=600)))
    case.await_request()
    case.advance(601)
    unannounced = case.end(arn, event=False)
    stack.settle()

    assert unannounced.entered[-1] == "CloseFailed"
    assert unannounced.failures == [("CloseEnrollment", "AwsCallError")] * TRIES
    assert unannounced.record["outcome"] == "EXPIRED"
    assert "announced" not in unannounced.record
    assert unannounced.endings == []
    backstop = [one for one in stack.invocations if one.function == "CloseEnrollment"][TRIES:]
    assert [one.error is None for one in backstop] == [False, True]
    assert backstop[1].result["outcome"] == case.record()["outcome"] == "EXPIRED"
    assert case.end(arn).endings == ["Enrollment Expired"]
    assert case.record()["announced"]


def test_an_outcome_that_the_bus_took_and_did_not_keep_is_announced_again(case: Case) -> None:
    # EventBridge answers 200, and in it says that it failed with the entry.
    refused = case.strike("CloseEnrollment", kind="aws", operation="PutEvents", when="entry")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.decline(person)
    result = case.end(arn)

    assert refused.struck
    assert result.failures == [("CloseEnrollment", "AwsCallError")]
    assert result.endings == ["Enrollment Rejected"]
    assert result.record["announced"]


def test_a_bus_that_refuses_holds_up_no_deadline(case: Case) -> None:
    bus_refuses(case, "PollRequest", 200)  # more polls than there are
    (person,) = people(1)
    arn = case.start(case.request(token(group(person), timeout=60)))
    case.await_request()
    case.advance(-3600)  # TSB's clock is behind, so it does not end the request
    result = case.end(arn)

    assert result.document["outcome"] == "CANCELLED"
    assert [request["status"] for request in result.requests] == ["CANCELLED"]
    assert result.record["overdue"]
    assert result.event_types == ["Enrollment Accepted", "Enrollment Cancelled"]


def test_an_execution_that_is_reported_late_changes_no_outcome(
    case: Case, stack: InProcessStack
) -> None:
    case.fault("POST", "/v1/certificate/request", "status", httpStatus=400, body=HSM_ERROR)
    arn = case.start(case.request())
    before = case.end(arn)
    stack.clock.advance(60)
    detail = {"executionArn": arn, "name": arn.rpartition(":")[2], "status": "TIMED_OUT"}
    detail["input"] = json.dumps({"request": before.record["request"]}, default=int)
    message = {"messageId": "late", "body": json.dumps({"detail": detail})}

    answer = stack.call("CloseEnrollment", {"Records": [message]})

    assert answer["error"]["name"] == before.record["error"]["name"] == "TsbRefusedError"
    assert case.record() == before.record
    assert len(said(case, "Enrollment Failed")) == 1


# An end that is on record -------------------------------------------------------------------------


def stopped_with_the_csr_on_record(case: Case) -> Result:
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    case.until(lambda: "csr" in case.record(), "CSR on record")
    case.stop(arn)
    return case.end(arn)


def store_csr_never_heard(case: Case) -> Result:
    for _ in range(A_DAY_OF_TRIES):
        case.strike("StoreCsr", kind="error", name="Lambda.Unknown", when="after")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    return case.end(arn)


def stopped_after_a_cancellation(case: Case) -> Result:
    arn = case.start(case.request())
    case.await_request()
    case.cancel()
    case.stop(arn)
    return case.end(arn)


def stopped_after_a_rejection(case: Case) -> Result:
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.decline(person)
    case.until(lambda: case.step().get("status") == "REJECTED", "rejection on record")
    case.stop(arn)
    return case.end(arn)


def stopped_before_what_was_executed_is_stored(case: Case) -> Result:
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    case.until(lambda: case.step().get("status") == "EXECUTED", "execution on record")
    case.stop(arn)
    return case.end(arn)


def stopped_before_the_verified_csr_is_on_record(case: Case) -> Result:
    refused = case.strike("StoreCsr", kind="aws", operation="UpdateItem", skip=1, when="before")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    case.until(lambda: refused.struck, "CSR that is not on record")
    case.stop(arn)
    return case.end(arn)


def store_csr_never_works_whatever_the_tsb_s_status(case: Case) -> Result:
    for _ in range(A_DAY_OF_TRIES):
        case.strike("StoreCsr", kind="error", name="Lambda.Unknown", when="before")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    case.until(lambda: case.step().get("status") == "EXECUTED", "execution on record")
    case.write(**{"steps.csr.status": "REJECTED"})
    return case.end(arn)


def stopped_at_the_beginning(case: Case) -> Result:
    arn = case.start(case.request())
    case.execution()
    case.stop(arn)
    return case.end(arn)


@pytest.mark.parametrize(
    ("scenario", "outcome"),
    [
        (stopped_with_the_csr_on_record, "ISSUED"),
        (store_csr_never_heard, "ISSUED"),
        (stopped_after_a_cancellation, "CANCELLED"),
        (stopped_after_a_rejection, "REJECTED"),
        (stopped_before_what_was_executed_is_stored, "FAILED"),
        (stopped_before_the_verified_csr_is_on_record, "FAILED"),
        # No answer of TSB says what is written there.
        pytest.param(
            store_csr_never_works_whatever_the_tsb_s_status, "FAILED", marks=pytest.mark.forged
        ),
        (stopped_at_the_beginning, "FAILED"),
    ],
)
def test_an_end_on_record_counts_whatever_became_of_the_execution(
    case: Case, scenario: Callable[[Case], Result], outcome: str
) -> None:
    result = scenario(case)

    assert result.record["outcome"] == outcome
    assert result.endings == [f"Enrollment {outcome.title()}"]
    assert ("csr" in result.record) is (outcome == "ISSUED")
    if result.status == "ABORTED":
        assert "CloseEnrollment" not in result.entered  # so it is the backstop that closed
    else:
        assert result.document["outcome"] == outcome
        assert result.failures == [("StoreCsr", "Lambda.Unknown")] * A_DAY_OF_TRIES


def test_a_check_that_failed_is_the_error_whatever_ended_the_execution(case: Case) -> None:
    case.fault("GET", REQUEST, "forge", what="added_san", times=None)
    (ada,) = people(1)
    arn = case.start(case.request(token(group(ada))))
    case.approve(ada)
    case.until(lambda: "quarantine" in case.record(), "findings on record")
    case.stop(arn)
    result = case.end(arn)

    assert result.status == "ABORTED"
    assert result.record["error"]["name"] == "CsrInvalidError"
    assert result.record["error"]["reason"] == "CSR_ALTERNATIVE_NAMES"
    assert result.record["error"]["action"].endswith(f"quarantine/{case.id}/.")
    assert result.endings == ["Enrollment Failed"]


# Who ----------------------------------------------------------------------------------------------


def test_a_cancelled_enrollment_says_who_cancelled(case: Case) -> None:
    case.fault("DELETE", REQUEST, "status", httpStatus=503, times=None)
    arn = case.start(case.request())
    case.await_request()
    cancel = {"by": "arn:aws:iam::111122223333:user/ada", "at": timestamp(now())}
    case.write(cancel=cancel)
    result = case.end(arn)

    assert result.ending["detail-type"] == "Enrollment Cancelled"
    assert result.ending["detail"]["cancel"] == {**cancel, "confirmedAt": None}
    assert events.Cancelled.read(result.ending["detail"])


def test_a_refused_request_repeats_a_principal_as_said_by_the_caller_only(
    case: Case,
) -> None:
    forged = {"trigger": "api", "id": "x", "principal": "arn:aws:iam::111122223333:user/ceo"}
    result = case.end(case.start({**case.request(), "surprise": 1}, **forged))

    assert result.event_types == ["Enrollment Failed"]
    assert result.document["error"]["name"] == "InvalidEnrollmentError"
    origin = result.record["origin"]
    assert origin == {"trigger": "start", "said": forged}
    assert result.ending["detail"]["origin"]["said"]["principal"] == forged["principal"]
    assert result.ending["detail"]["origin"]["principal"] is None
