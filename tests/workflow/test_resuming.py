"""An enrollment that failed without a decision is resumed: nobody is asked twice."""

import json
from collections.abc import Callable
from typing import cast

import pytest

from countersign import resumption
from countersign.evidence.verifier import verify
from countersign.record import Record
from countersign_cli.exits import Exit
from local.approver import Approver
from local.engine.invocation import FunctionFailedError, Invocation
from local.engine.stack import InProcessStack
from tests.case import Case, Json, Result, assert_failed, group, people, token
from tests.workflow.api import Caller, request
from tests.workflow.test_command_line import (
    countersign,
    user,  # noqa: F401  a fixture
)

KEY, CSR, DELETE_KEY = "/v1/key", "/v1/certificate/request", "/v1/key/deleteKey"
REQUEST = "/v1/request/{id}"
DAY_SECONDS = 86_400
NOTED: Json = dict.fromkeys(("earlier", "resumed"))
SILENT: Json = {"kind": "status", "httpStatus": 503}
VANISHED: Json = {"errorCode": 651, "reason": "res.error.request.not.existent", "message": "x"}


def unable_to_store(case: Case) -> Result:
    """Approved and executed, and for a day StoreCsr cannot even be loaded."""
    (person,) = people(1)
    for _ in range(101):
        case.strike("StoreCsr", kind="error", name="Runtime.ImportModuleError", when="before")
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)
    assert_failed(result, "Runtime.ImportModuleError", "StoreCsr")
    return result


def silent(case: Case) -> Result:
    """The TSB says nothing until a day after the window; meanwhile it has executed the request."""
    (person,) = people(1)
    case.fault("GET", REQUEST, times=None, **SILENT)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)
    assert_failed(result, "TsbUnavailableError", "PollRequest")
    case.no_more_faults()
    return result


def unable_to_record(case: Case) -> Result:
    """The CSR is verified and its object written, and the execution stopped."""
    refused = case.strike("StoreCsr", kind="aws", operation="UpdateItem", skip=1, when="before")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    case.until(lambda: refused.struck, "CSR that is not on record")
    case.stop(arn)
    result = case.end(arn)
    assert "request.pem" in result.objects
    assert not {"checks", "verifiedSha256", "csr"} & result.record.keys()
    case.until(lambda: case.record().get("announced"), "announcement on record")
    return result


def still_open(case: Case) -> Result:
    """The TSB says nothing until a day after the window, and its clock stands still."""
    arn = case.start(case.request(token(group(*people(1)))))
    case.await_request()
    case.fault("GET", REQUEST, times=None, **SILENT)
    case.advance(-100 * DAY_SECONDS)
    result = case.end(arn)
    assert_failed(result, "TsbUnavailableError", "PollRequest")
    case.no_more_faults()
    return result


def stopped(case: Case, *members: Approver) -> Result:
    """Somebody stops the execution while it waits for the approvers."""
    arn = case.start(case.request(token(group(*(members or people(1))))))
    case.await_event("Enrollment Awaiting Approval")
    case.stop(arn)
    result = case.end(arn)
    case.until(lambda: case.record().get("announced"), "announcement on record")
    return result


def started(case: Case, enrollment_id: str | None = None) -> str:
    """An execution that resumes the case, started by hand."""
    return case.start_input({"resume": enrollment_id or case.id})


def assert_resumed(case: Case, failed: Result, arn: str, stack: InProcessStack) -> Result:
    """Issued by this execution, proven, nobody asked twice, both ends announced."""
    result = case.end(arn)
    assert result.document["outcome"] == "ISSUED"
    assert result.endings == ["Enrollment Failed", "Enrollment Issued"]
    assert result.event_types[-2:] == ["Enrollment Resumed", "Enrollment Issued"]
    assert result.ending["detail"]["executionArn"] == arn
    assert result.count("POST", KEY) == result.count("POST", CSR) == 1
    assert result.entered[:3] == ["AcceptEnrollment", "IsDuplicate", "PollRequest"]
    assert result.objects["request.pem"].decode() == result.document["csr"]["pem"]
    assert result.record["executionArn"] == arn
    assert result.record["earlier"] == [failed.arn]
    assert (result.record["attempt"], result.record["resumed"]) == (1, 1)
    assert not {"error", "unusedKey"} & result.record.keys()
    for ended, outcome in ((result.arn, "ISSUED"), (failed.arn, "FAILED")):
        folder = stack.evidence(case.id, ended)
        assert verify(folder, stack.signing_key()).facts["outcome"] == outcome
    return result


@pytest.mark.parametrize(
    "failing", [unable_to_store, silent, unable_to_record], ids=lambda one: one.__name__
)
def test_what_was_executed_is_stored_when_it_is_resumed_through_the_api(
    case: Case, stack: InProcessStack, failing: Callable[[Case], Result]
) -> None:
    failed = failing(case)

    answer = Caller(stack).call("POST", f"/enrollments/{case.id}/resume")
    case.until(lambda: case.record()["executionArn"] != failed.arn, "resumption")
    pending = Caller(stack).call("GET", f"/enrollments/{case.id}").json()
    result = assert_resumed(case, failed, case.execution(), stack)

    assert answer.status_code == 202
    assert (answer.json()["enrollmentId"], answer.json()["status"]) == (case.id, "FAILED")
    assert (pending["status"], pending["outcome"], pending["error"]) == ("PENDING", None, None)
    assert pending["times"]["ended"] is None
    assert result.arn.endswith(f":{case.id}-1-resume-1")


@pytest.mark.usefixtures("user")
def test_what_was_executed_is_stored_when_it_is_resumed_from_the_command_line(
    case: Case, stack: InProcessStack
) -> None:
    failed = silent(case)

    resumed = countersign("resume", case.id)
    watched = countersign("status", case.id, "--watch", "--json")  # never sees the first end
    assert_resumed(case, failed, case.execution(), stack)
    late = countersign("resume", case.id, "--json")

    assert (resumed.exit_code, resumed.stdout.splitlines()[-1]) == (Exit.OK, case.id)
    assert f"countersign status {case.id} --watch" in resumed.stderr
    assert (watched.exit_code, late.exit_code) == (Exit.OK, Exit.REFUSED)
    assert "ended as ISSUED" in json.loads(late.stderr)["message"]


def test_what_is_still_open_is_waited_for_again(case: Case, stack: InProcessStack) -> None:
    (person,) = people(1)
    failed = stopped(case, person)

    again = started(case)
    case.await_calls(REQUEST, 2)
    case.until(lambda: len(stack.events(case.id)) == 5, "first event of the resumed one")
    case.approve(person)
    result = case.end(again)

    assert failed.record["error"]["name"] == "ExecutionAborted"
    assert result.document["outcome"] == "ISSUED"
    assert result.event_types == [
        "Enrollment Accepted", "Enrollment Awaiting Approval", "Enrollment Failed",
        "Enrollment Resumed", "Enrollment Awaiting Approval", "Enrollment Issued",
    ]  # fmt: skip
    assert result.count("POST", CSR) == 1
    verify(case.evidence(result), stack.signing_key())


def test_what_the_tsb_never_ends_is_cancelled_there_however_late_it_is_resumed(
    case: Case, stack: InProcessStack
) -> None:
    still_open(case)
    stack.sleep(30 * DAY_SECONDS)

    result = case.end(started(case))

    assert result.document["outcome"] == "CANCELLED"
    assert result.record["overdue"]
    assert [one["status"] for one in result.requests] == ["CANCELLED"]


def test_a_tsb_that_is_silent_fails_it_again_and_it_can_be_resumed_again(
    case: Case, stack: InProcessStack
) -> None:
    failed = silent(case)
    case.fault("GET", REQUEST, times=None, **SILENT)
    again = case.end(started(case))
    case.no_more_faults()

    Caller(stack).call("POST", f"/enrollments/{case.id}/resume")
    case.until(lambda: case.record()["executionArn"] != again.arn, "resumption")
    result = case.end(case.execution())

    assert again.record["error"]["name"] == "TsbUnavailableError"
    assert again.record["unusedKey"]["result"] == "kept"
    # It is asked for half of the silence limit anew, and then no longer.
    silence = 60 * int(stack.parameters["SilenceLimitMinutes"])
    assert silence / 2 <= sum(stack.waits[again.arn]) < silence
    assert result.document["outcome"] == "ISSUED"
    assert result.record["earlier"] == [failed.arn, again.arn]
    assert result.arn.endswith("-resume-2")
    assert result.count("POST", CSR) == 1


def test_that_a_request_had_vanished_before_proves_nothing_after_a_resumption(case: Case) -> None:
    case.fault("GET", REQUEST, "status", httpStatus=404, body=VANISHED, times=None)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    failed = case.end(arn)
    case.no_more_faults()
    case.fault("GET", REQUEST, "status", httpStatus=404, body=VANISHED, times=1)

    result = case.end(started(case))

    assert failed.record["error"]["name"] == "TsbRefusedError"
    assert result.document["outcome"] == "ISSUED"


# What cannot be resumed ---------------------------------------------------------------------------


def test_an_unknown_one_is_refused_and_leaves_no_record(case: Case, stack: InProcessStack) -> None:
    answer = Caller(stack).call("POST", f"/enrollments/{case.id}/resume")
    result = case.end(started(case))

    assert answer.status_code == 404
    assert result.endings == ["Enrollment Refused"]
    assert result.error == "EnrollmentConflictError"
    assert result.record == {}


def is_open(case: Case) -> None:
    case.start(case.request(token(group(*people(1)))))
    case.await_event("Enrollment Awaiting Approval")


def is_rejected(case: Case) -> None:
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.decline(person)
    case.end(arn)


def asked_nobody(case: Case) -> None:
    case.fault("POST", KEY, "status", httpStatus=429, times=None)
    case.end(case.start(case.request()))


def asked_without_an_answer(case: Case) -> None:
    case.fault("POST", CSR, "drop", executed=True)
    case.end(case.start(case.request(destroyable=False)))


def is_forged(case: Case) -> None:
    (person,) = people(1)
    case.fault("GET", REQUEST, "forge", what="other_key", times=None)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    case.end(arn)


def failed_at_the_tsb(case: Case) -> None:
    case.fault("GET", REQUEST, "request_status", status="FAILED", times=None)
    case.end(case.start(case.request()))


def is_not_announced(case: Case) -> None:
    stopped(case)
    table = case.stack.outputs["EnrollmentsTableName"]
    case.stack.client("dynamodb").update_item(
        TableName=table, Key={"id": {"S": case.id}}, UpdateExpression="REMOVE announced"
    )


def has_lost_its_key(case: Case) -> None:
    stopped(case)
    case.write(unusedKey={"action": "delete", "result": "deleted", "at": "2026-11-26T12:00:00Z"})


REFUSED: dict[str, tuple[Callable[[Case], None], str]] = {
    "open": (is_open, "has not ended"),
    "rejected": (is_rejected, "ended as REJECTED"),
    "nobody asked": (asked_nobody, "Start it again with the same id"),
    "no answer": (asked_without_an_answer, "nobody knows which one at the TSB"),
    "forged": (is_forged, "security incident"),
    "failed at the TSB": (failed_at_the_tsb, "the TSB had ended its request as FAILED"),
    "not announced": (is_not_announced, "not announced yet"),
    "key gone": (has_lost_its_key, "unusedKey: deleted"),
}


@pytest.mark.parametrize(
    "why",
    [pytest.param(one, marks=pytest.mark.forged) if one == "key gone" else one for one in REFUSED],
)
def test_a_refusal_says_why_and_changes_nothing(
    case: Case, stack: InProcessStack, why: str
) -> None:
    come_to, words = REFUSED[why]
    come_to(case)
    before = case.record()

    answer = Caller(stack).call("POST", f"/enrollments/{case.id}/resume")
    unchanged = case.record()
    by_hand = case.end(started(case))

    assert answer.status_code == 409
    assert words in f"{answer.json()['detail']} {answer.json()['action']}"
    assert unchanged == before
    assert by_hand.error == "EnrollmentConflictError"
    assert by_hand.ending["detail-type"] == "Enrollment Refused"
    assert by_hand.entered == [
        "AcceptEnrollment", "CloseEnrollment", "IsFailed", "EnrollmentFailed",
    ]  # fmt: skip
    if why != "open":
        assert by_hand.record == before


# Once, however often it is tried ------------------------------------------------------------------


def test_two_calls_at_once_are_one_execution(case: Case, stack: InProcessStack) -> None:
    failed = silent(case)
    call = request("POST", f"/enrollments/{case.id}/resume")

    answers = Caller(stack).call_at_once(call, call)
    case.until(lambda: case.record()["executionArn"] != failed.arn, "resumption")
    assert_resumed(case, failed, case.execution(), stack)

    assert [one.status_code for one in answers] == [202, 202]
    assert len(stack.waits) == 2


def test_a_call_that_is_repeated_later_is_the_same_execution(
    case: Case, stack: InProcessStack
) -> None:
    failed = silent(case)
    caller, path = Caller(stack), f"/enrollments/{case.id}/resume"

    case.strike("AcceptEnrollment", kind="error", name="Runtime.ImportModuleError", when="before")

    first = caller.call("POST", path)
    stack.sleep(5)
    again = caller.call("POST", path)
    case.until(lambda: case.record()["executionArn"] != failed.arn, "resumption")

    assert (first.status_code, again.status_code) == (202, 202)
    assert_resumed(case, failed, case.execution(), stack)


def test_a_name_that_somebody_else_has_taken_is_said(case: Case, stack: InProcessStack) -> None:
    silent(case)
    name = resumption.execution_name(cast(Record, case.record()))
    stack.client("stepfunctions").start_execution(
        stateMachineArn=stack.outputs["EnrollmentStateMachineArn"], name=name, input="{}"
    )

    answer = Caller(stack).call("POST", f"/enrollments/{case.id}/resume")

    assert answer.status_code == 409
    assert name in answer.json()["detail"]


def test_of_two_executions_at_once_one_owns_it(case: Case, stack: InProcessStack) -> None:
    failed = silent(case)
    one, two = started(case), started(case)
    stack.until(lambda: len(_accepting(stack)) == 2, "end of both")
    own = case.record()["executionArn"]
    (other,) = {one, two} - {own}
    refused = case.end(other)

    assert refused.error == "EnrollmentConflictError"
    issued = case.end(own)
    assert issued.document["outcome"] == "ISSUED"
    assert issued.endings.count("Enrollment Issued") == 1
    assert issued.endings.count("Enrollment Refused") == 1
    assert issued.record["earlier"] == [failed.arn]


ANOTHER = "arn:aws:states:eu-central-1:123456789012:execution:countersign-enrollment:another"


def _accepting(stack: InProcessStack) -> list[Invocation]:
    """The invocations that were to resume the enrollment, as soon as they have ended."""
    found = [one for one in stack.invocations if one.function == "AcceptEnrollment"]
    return [one for one in found[1:] if one.ended]


@pytest.mark.parametrize(
    "meanwhile",
    [
        {"executionArn": ANOTHER},
        pytest.param({"attempt": 2}, marks=pytest.mark.forged),
        pytest.param({"outcome": "ISSUED", "status": "ISSUED"}, marks=pytest.mark.forged),
        pytest.param(
            {"unusedKey": {"action": "delete", "result": "deleted", "at": "2026-11-26T12:00:00Z"}},
            marks=pytest.mark.forged,
        ),
        {"resumed": 1, "earlier": [ANOTHER]},
    ],
    ids=lambda meanwhile: next(iter(meanwhile)),
)
def test_what_has_changed_since_it_was_read_is_not_taken_over(
    case: Case, stack: InProcessStack, meanwhile: Json
) -> None:
    silent(case)
    arn = started(case)
    stack.at("AcceptEnrollment", "UpdateItem")
    case.write(**meanwhile)
    before = case.record()
    result = case.end(arn)

    assert result.error == "EnrollmentConflictError"
    # It may be noted that this execution could not do it; nothing else is.
    assert {**result.record, **NOTED} == {**before, **NOTED}


@pytest.mark.parametrize("call", ["UpdateItem", "PutEvents", "its return"])
def test_a_function_that_is_killed_on_the_way_is_repeated(
    case: Case, stack: InProcessStack, call: str
) -> None:
    failed = silent(case)
    arn = started(case)
    stack.at("AcceptEnrollment", call).kill()

    result = assert_resumed(case, failed, arn, stack)

    assert ("AcceptEnrollment", "Runtime.ExitError") in result.failures


def test_a_write_whose_answer_is_lost_is_found_again(case: Case, stack: InProcessStack) -> None:
    failed = silent(case)
    case.strike("AcceptEnrollment", kind="aws", operation="UpdateItem", when="repeat")

    assert_resumed(case, failed, started(case), stack)


def test_a_late_message_about_the_first_execution_does_nothing(
    case: Case, stack: InProcessStack
) -> None:
    failed = stopped(case)
    arn = started(case)
    case.until(lambda: case.record()["executionArn"] == arn, "resumption")
    before, told = case.record(), len(stack.events(case.id))
    detail = {"executionArn": failed.arn, "status": "ABORTED"}
    stack.call("CloseEnrollment", {"Records": [{"body": json.dumps({"detail": detail})}]})

    after = case.record()
    assert (after["executionArn"], "outcome" in after) == (before["executionArn"], False)
    endings = [one["detail-type"] for one in stack.events(case.id)[told:]]
    assert not {"Enrollment Failed", "Enrollment Refused"} & set(endings)


def test_an_execution_that_cannot_begin_leaves_the_next_one_another_name(
    case: Case, stack: InProcessStack
) -> None:
    failed = silent(case)
    for _ in range(9):  # as often as it is tried
        case.strike(
            "AcceptEnrollment", kind="error", name="Runtime.ImportModuleError", when="before"
        )
    api = Caller(stack)
    api.call("POST", f"/enrollments/{case.id}/resume")
    case.until(lambda: case.record().get("resumed") == 1, "end of the first")
    unable = case.record()["earlier"][-1]
    late = {"arn": unable, "name": "late", "input": {"resume": case.id}}
    with pytest.raises(FunctionFailedError, match="has ended"):  # its function still runs
        stack.call("AcceptEnrollment", {"execution": late})
    api.call("POST", f"/enrollments/{case.id}/resume")
    case.until(lambda: case.record()["executionArn"] != failed.arn, "resumption")
    result = case.end(case.execution())

    assert unable.endswith("-resume-1")
    assert result.arn.endswith("-resume-2")
    assert result.document["outcome"] == "ISSUED"


# What is kept for it ------------------------------------------------------------------------------


@pytest.mark.forged
def test_a_request_that_is_not_the_accepted_one_is_not_resumed(case: Case) -> None:
    silent(case)
    case.write(acceptedSha256="0" * 64)
    before = case.record()
    result = case.end(started(case))

    assert result.error == "EnrollmentConflictError"
    assert {**result.record, **NOTED} == {**before, **NOTED}


@pytest.mark.forged
def test_a_key_without_an_answer_of_the_tsb_is_not_resumed(case: Case) -> None:
    silent(case)
    case.write(publicKeySha256="0" * 64)
    result = case.end(started(case))

    assert result.error == "EnrollmentConflictError"
    assert "no answer of the TSB is kept" in result.document["error"]["message"]
    assert result.record["outcome"] == "FAILED"


def test_a_decision_of_the_tsb_counts_and_the_key_goes_as_the_profile_wants(
    case: Case, stack: InProcessStack
) -> None:
    arn = case.start(case.by_profile("trial@1"))  # which wants unused keys deleted
    case.await_event("Enrollment Awaiting Approval")
    case.stop(arn)
    case.end(arn)
    stack.clock.advance(7_200)  # the window is over
    result = case.end(started(case))

    assert result.document["outcome"] == "EXPIRED"
    assert result.endings == ["Enrollment Failed", "Enrollment Expired"]
    assert [key["deleted"] for key in result.keys] == [True]
    assert result.record["unusedKey"]["result"] == "deleted"
