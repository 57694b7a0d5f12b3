"""Who owns an enrollment: an execution that has lost it, at whichever write, changes nothing more.

Nothing of the workflow takes an enrollment from an execution that has it. So the loss is written on
the record here, just before the write in question.
"""

import json
from collections.abc import Callable

import pytest

from local.engine.stack import InProcessStack
from tests.case import Case, Json, Result, assert_failed, group, people, token
from tests.workflow.api import Caller, submit

KEY = "/v1/key"
CSR = "/v1/certificate/request"
REQUEST = "/v1/request/{id}"
DELETE_KEY = "/v1/key/deleteKey"
ANOTHER = "arn:aws:states:eu-central-1:123456789012:execution:countersign-enrollment:another"
SILENT: Json = {"kind": "status", "httpStatus": 429}
LOST: Json = {"kind": "status", "httpStatus": 504, "executed": True}


def begun(case: Case) -> str:
    return case.start(case.request())


def approved(case: Case) -> str:
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    return arn


def forged(case: Case) -> str:
    case.fault("GET", REQUEST, "forge", what="other_key", times=None)
    return approved(case)


def mixed_up(case: Case) -> str:
    case.fault("GET", REQUEST, "request_id", times=None)
    return case.start(case.request())


def unended(case: Case) -> str:
    """TSB's clock is behind, so it does not end the request."""
    arn = case.start(case.request(token(group(*people(1)), timeout=60)))
    case.await_calls(REQUEST, 1)
    case.advance(-3600)
    return arn


def unanswered(case: Case) -> str:
    case.fault("POST", CSR, **LOST)
    return case.start(case.request())


def refused(case: Case) -> str:
    case.fault("POST", CSR, times=None, **SILENT)
    return case.start(case.request())


def declined(case: Case, request: Json | None = None) -> str:
    """By a profile that wants the key of such an end deleted."""
    arn = case.start(request or case.by_profile("trial@1"))
    case.decline(case.stack.people["Ada Lovelace"], case.stack.people["Grace Hopper"])
    return arn


def by_ca_profile(case: Case) -> str:
    return submit(case, case.by_profile("code-signing@1"))


# Each write of a state to the record: how an enrollment comes to it, and which of the state's calls
# it is.
WRITES: dict[str, tuple[Callable[[Case], str], str, int]] = {
    "CreateKey begins": (begun, "CreateKey", 1),
    "CreateKey has compared the CA key": (by_ca_profile, "CreateKey", 2),
    "CreateKey has the key": (begun, "CreateKey", 2),
    "RequestCsr notes its intent": (begun, "RequestCsr", 1),
    "RequestCsr has the request": (begun, "RequestCsr", 2),
    "RequestCsr asked nobody": (refused, "RequestCsr", 2),
    "PollRequest saw something": (begun, "PollRequest", 1),
    "PollRequest saw another request": (mixed_up, "PollRequest", 1),
    "StoreCsr has verified": (approved, "StoreCsr", 1),
    "StoreCsr has stored": (approved, "StoreCsr", 2),
    "StoreCsr quarantines": (forged, "StoreCsr", 1),
    "DiscardKey replaces the key": (unanswered, "DiscardKey", 1),
    "DiscardKey begins": (declined, "DiscardKey", 1),
    "DiscardKey has done it": (declined, "DiscardKey", 2),
}


def loses(case: Case) -> Json:
    """Another execution has the enrollment; the record from which on nothing may change."""
    case.write(executionArn=ANOTHER)
    return case.record()


def assert_left_alone(result: Result, before: Json) -> None:
    assert result.record == before
    assert result.status == "FAILED"
    assert result.endings == ["Enrollment Refused"]


@pytest.mark.parametrize("write", WRITES)
def test_whoever_has_lost_an_enrollment_writes_nothing_more(
    case: Case, stack: InProcessStack, write: str
) -> None:
    begin, state, nth = WRITES[write]
    arn = begin(case)
    stack.at(state, "UpdateItem", nth)
    before = loses(case)

    result = case.end(arn)

    assert_left_alone(result, before)
    if write == "DiscardKey begins":
        assert [key["deleted"] for key in result.keys] == [False]


def test_a_deadline_is_not_noted_on_what_another_execution_has(case: Case) -> None:
    arn = unended(case)
    case.await_calls(REQUEST, 1, "DELETE")
    before = loses(case)

    assert_left_alone(case.end(arn), before)
    assert "overdue" not in before


def test_a_key_of_what_another_execution_has_is_not_deleted(
    case: Case, stack: InProcessStack
) -> None:
    arn = unanswered(case)
    stack.at("DiscardKey", "GetItem")
    before = loses(case)
    result = case.end(arn)

    assert_left_alone(result, before)
    assert [key["deleted"] for key in result.keys] == [False]


def test_a_csr_of_another_execution_is_not_handed_out_as_one_s_own(
    case: Case, stack: InProcessStack
) -> None:
    arn = approved(case)
    stack.at("StoreCsr", "its return").lose()  # so that StoreCsr runs again, and finds the CSR
    case.until(lambda: "csr" in case.record(), "CSR on record")
    before = loses(case)
    result = case.end(arn)

    assert_left_alone(result, before)
    assert ("StoreCsr", "EnrollmentConflictError") in result.failures
    assert result.document["csr"] is None


def test_a_request_is_not_put_beside_the_intent_of_another_call(
    case: Case, stack: InProcessStack
) -> None:
    arn = begun(case)
    call = stack.at("RequestCsr", "UpdateItem", 2)
    case.write(**{"steps.csr.intent": "that of a later call"})
    before = case.record()
    stack.until(lambda: call.ended, "end of RequestCsr")
    after = case.record()
    case.stop(arn)

    assert after == before
    assert "requestId" not in after["steps"]["csr"]


def test_a_confirmation_is_not_noted_for_another_request(case: Case, stack: InProcessStack) -> None:
    user = Caller(stack)
    slow = token(group(*people(1)), timelock=86_400, timeout=172_800)  # no poll for a day
    user.call("POST", "/enrollments", case.request(slow))
    case.await_calls(REQUEST, 1)
    user.call("DELETE", f"/enrollments/{case.id}")
    call = stack.at("CancelRequest", "UpdateItem")
    case.write(**{"steps.csr.requestId": "that of a later call"})
    stack.until(lambda: call.ended, "end of CancelRequest")

    assert "confirmedAt" not in case.record()["cancel"]
    case.stop(case.execution())


# Who may begin it ---------------------------------------------------------------------------------


def started_by_the_api(case: Case, stack: InProcessStack) -> str:
    """An execution that is about to take over what the API has claimed for it."""
    Caller(stack).call("POST", "/enrollments", case.request(token(group(*people(1)))))
    stack.at("AcceptEnrollment", "UpdateItem")
    (arn,) = stack.waits
    return arn


@pytest.mark.parametrize(
    "meanwhile",
    [
        {"executionArn": ANOTHER},
        pytest.param({"outcome": "CANCELLED", "status": "CANCELLED"}, marks=pytest.mark.forged),
    ],
    ids=["begun", "ended"],
)
def test_a_claim_that_has_been_taken_up_meanwhile_is_not_taken_over(
    case: Case, stack: InProcessStack, meanwhile: Json
) -> None:
    arn = started_by_the_api(case, stack)
    case.write(**meanwhile)
    before = case.record()
    result = case.end(arn, event=False)

    assert result.record == before
    assert result.entered[-1] == "DuplicateEnrollment"
    assert result.document["duplicate"] is True
    assert result.calls == []


def test_a_claim_is_taken_over_as_the_attempt_that_it_is(case: Case, stack: InProcessStack) -> None:
    arn = started_by_the_api(case, stack)
    case.write(attempt=2)
    case.await_request()

    assert case.record()["executionArn"] == arn
    assert "request-2.json" in case.objects(f"enrollments/{case.id}/")
    case.stop(arn)


def test_a_claim_of_another_request_is_not_taken_over(case: Case, stack: InProcessStack) -> None:
    arn = started_by_the_api(case, stack)
    case.write(requestSha256="0" * 64)
    before = case.record()

    assert_left_alone(case.end(arn), before)


@pytest.mark.forged
def test_what_has_ended_otherwise_meanwhile_is_not_begun_anew(
    case: Case, stack: InProcessStack
) -> None:
    case.fault("POST", KEY, times=9, **SILENT)
    request = case.request()
    case.end(case.start(request))
    arn = case.start(request)
    stack.at("AcceptEnrollment", "PutItem", 2)
    case.write(outcome="ISSUED", status="ISSUED", error=None)
    before = case.record()
    result = case.end(arn, event=False)

    assert result.record == before
    assert result.document["duplicate"] is True


def test_an_attempt_that_has_been_made_meanwhile_is_not_made_again(
    case: Case, stack: InProcessStack
) -> None:
    case.fault("POST", KEY, times=9, **SILENT)
    request = case.request()
    case.end(case.start(request))
    arn = case.start(request)
    stack.at("AcceptEnrollment", "PutItem", 2)
    case.write(attempt=2)  # which failed in the same way
    case.await_request()

    assert case.record()["attempt"] == 3
    assert case.record()["executionArn"] == arn
    case.stop(arn)


def test_an_execution_of_another_request_does_not_end_what_waits_for_its_own(
    case: Case, stack: InProcessStack
) -> None:
    # The API has claimed the id and could not start the execution. Somebody starts one by its name.
    request = case.request()
    case.strike("Api", kind="aws", operation="StartExecution", when="before")
    Caller(stack).call("POST", "/enrollments", request)
    before = case.record()
    started = stack.client("stepfunctions").start_execution(
        stateMachineArn=stack.outputs["EnrollmentStateMachineArn"],
        name=f"{case.id}-1",
        input=json.dumps({"request": {**request, "reason": "another"}}),
    )
    result = case.end(started["executionArn"])

    assert_left_alone(result, before)
    assert "outcome" not in before


@pytest.mark.forged
def test_of_two_that_end_an_enrollment_at_once_the_first_counts(
    case: Case, stack: InProcessStack
) -> None:
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.decline(person)
    stack.at("CloseEnrollment", "UpdateItem")
    # As the backstop would, where the execution was stopped at this moment.
    error = {"name": "ExecutionAborted", "message": "by hand", "action": "Ask by whom."}
    case.write(outcome="FAILED", status="FAILED", error=error)
    result = case.end(arn)

    assert result.record["outcome"] == "FAILED"
    assert result.endings == ["Enrollment Failed"]


def test_of_two_that_announce_an_end_the_first_is_on_record(
    case: Case, stack: InProcessStack
) -> None:
    arn = approved(case)
    stack.at("CloseEnrollment", "UpdateItem", 2)
    case.write(announced="2026-11-26T12:00:00Z")

    assert case.end(arn).record["announced"] == "2026-11-26T12:00:00Z"


# Whose a label is ---------------------------------------------------------------------------------


def claim(case: Case) -> Case:
    """The claim of the case's label, to be read and written like a record."""
    return Case(case.stack, f"label#{case.label}")


def test_a_label_that_somebody_else_has_claimed_stays_claimed(
    case: Case, stack: InProcessStack
) -> None:
    arn = declined(case)
    stack.at("DiscardKey", "DeleteItem")
    claim(case).write(enrollmentId="another")
    result = case.end(arn)

    assert result.record["unusedKey"]["result"] == "deleted"
    assert claim(case).record()["enrollmentId"] == "another"


def test_a_claim_of_somebody_else_is_not_moved_on(case: Case, stack: InProcessStack) -> None:
    arn = unanswered(case)
    stack.at("DiscardKey", "UpdateItem", 2)
    claim(case).write(enrollmentId="another", claimedAt="2026-11-26T11:00:00Z")
    result = case.end(arn)

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert claim(case).record()["claimedAt"] == "2026-11-26T11:00:00Z"


def test_a_key_whose_label_somebody_else_has_claimed_is_left_alone(
    case: Case, stack: InProcessStack
) -> None:
    arn = declined(case)
    stack.at("DiscardKey", "GetItem", 2)
    claim(case).write(enrollmentId="another")
    result = case.end(arn)

    assert result.record["outcome"] == "REJECTED"
    assert [key["deleted"] for key in result.keys] == [False]


# Sweep and audit: what they have read is no longer so ---------------------------------------------


def left_over(case: Case, stack: InProcessStack) -> None:
    """An enrollment that has ended and whose key should be gone."""
    request = case.by_profile("trial@1")
    case.fault("POST", DELETE_KEY, times=None, **SILENT)
    case.end(declined(case, request))
    stack.clock.advance(7_200)
    stack.configure(SweepKeys="delete", SweepKeyPrefix="trial.")


@pytest.mark.parametrize("deletes", [True, False])
@pytest.mark.parametrize("meanwhile", [{"attempt": 2}, {"outcome": "ISSUED"}], ids=str)
@pytest.mark.forged
def test_a_sweep_notes_nothing_on_an_enrollment_that_has_begun_anew(
    case: Case, stack: InProcessStack, meanwhile: Json, deletes: bool
) -> None:
    left_over(case, stack)
    if deletes:
        case.no_more_faults()
    run = stack.begin("SweepKeys", {})
    stack.at("SweepKeys", "UpdateItem", 2)
    case.write(**meanwhile)
    before = case.record()
    stack.until(lambda: run.ended, "end of SweepKeys")

    assert case.record() == before


@pytest.mark.parametrize("meanwhile", [{"attempt": 2}, {"outcome": "ISSUED"}], ids=str)
@pytest.mark.forged
def test_a_sweep_deletes_no_key_of_an_enrollment_that_has_begun_anew(
    case: Case, stack: InProcessStack, meanwhile: Json
) -> None:
    left_over(case, stack)
    case.no_more_faults()
    run = stack.begin("SweepKeys", {})
    stack.at("SweepKeys", "UpdateItem", 1)
    case.write(**meanwhile)
    stack.until(lambda: run.ended, "end of SweepKeys")

    assert [key["deleted"] for key in case.state()["keys"]] == [False]


@pytest.mark.forged
def test_an_audit_notes_drift_on_nothing_but_an_issued_csr(
    case: Case, stack: InProcessStack
) -> None:
    case.end(approved(case))
    with stack.tsb() as tsb:
        tsb.delete_key(case.label)
    run = stack.begin("AuditKeys", {})
    stack.at("AuditKeys", "UpdateItem")
    case.write(outcome="FAILED")
    stack.until(lambda: run.ended, "end of AuditKeys")

    assert "drift" not in case.record()
