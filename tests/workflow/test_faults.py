"""What goes wrong on the way: at the TSB, between us and it, in a function, by somebody's hand."""

import json
from typing import Any

import pytest
import requests

from countersign import evidence
from local.approver import Approver
from local.stack import Stack
from tests.e2e.case import (
    ROOT,
    Act,
    Case,
    Json,
    Ran,
    Run,
    act,
    assert_issued,
    evidence_of,
    group,
    people,
    seed,
    token,
)

pytestmark = pytest.mark.e2e

KEY = "/v1/key"
ATTRIBUTES = "/v1/key/attributes"
CSR = "/v1/certificate/request"
REQUEST = "/v1/request/{id}"
DELETE_KEY = "/v1/key/deleteKey"
FOR_EVER = {"times": None}
LONGER_THAN_A_TEST = 25  # seconds that TSB lets a function wait, so that it can be killed meanwhile


def assert_failed(run: Run, name: str, state: str | None) -> None:
    """Failed for this reason, in this state; said the same everywhere; nothing kept as issued."""
    error = run.document["error"]
    assert run.status == "FAILED"
    assert (error["name"], error["state"]) == (name, state)
    assert run.error == name
    assert error["action"]
    assert run.document["outcome"] == run.record["outcome"] == "FAILED"
    assert run.document["csr"] is None
    assert run.record["error"] == error
    assert run.endings == ["Enrollment Failed"]
    assert run.ending["detail"]["error"] == error
    assert "request.pem" not in run.objects


def assert_issued_with_the_second_key(run: Run) -> None:
    """The first key was deleted, and the request that it may have had with it."""
    first, second = run.keys
    assert (first["deleted"], second["deleted"]) == (True, False)
    assert [request["status"] for request in run.requests] == ["CANCELLED", "EXECUTED"]
    assert run.document["outcome"] == run.record["outcome"] == "ISSUED"
    assert run.endings == ["Enrollment Issued"]
    assert run.record["discards"] == 1
    assert "DiscardKey" in run.entered


def unanswered(case: Case, *, destroyable: bool = True, times: int = 1) -> tuple[str, Approver]:
    """Start an enrollment whose request for a CSR reaches TSB while the answer gets lost."""
    case.fault("POST", CSR, "drop", executed=True, times=times)
    (person,) = people(1)
    return case.start(case.request(token(group(person)), destroyable=destroyable)), person


# A TSB that is silent for long --------------------------------------------------------------------


@act
def silent_for_ever(case: Case) -> Run:
    # The slowest: its waits add up to a window of one minute and a silence limit of ten.
    case.fault("GET", REQUEST, "drop", **FOR_EVER)
    (person,) = people(1)
    return case.end(case.start(case.request(token(group(person), timeout=60))))


def test_a_tsb_that_never_speaks_again_is_given_up_after_the_silence_limit(ran: Ran) -> None:
    run = ran(silent_for_ever)

    assert_failed(run, "TsbNoAnswerError", "PollRequest")
    assert run.entered.count("PollRequest") < 40


@act
def never_over(case: Case) -> Run:
    # TSB's clock is behind: the window has passed for us, not for it.
    (person,) = people(1)
    arn = case.start(case.request(token(group(person), timeout=60)))
    case.await_request()
    case.advance(-3600)
    return case.end(arn)


def test_a_request_that_the_tsb_never_ends_is_cancelled_there(ran: Ran) -> None:
    run = ran(never_over)

    assert run.count("DELETE", REQUEST) == 1
    assert run.requests[0]["status"] == "CANCELLED"
    assert run.document["outcome"] == "CANCELLED"
    assert run.endings == ["Enrollment Cancelled"]
    assert run.ending["detail"]["cancel"]["by"] == "countersign"
    assert run.ending["detail"]["cancel"]["at"] == run.record["overdue"]


@act
def silent_for_a_while(case: Case) -> Run:
    case.fault("GET", REQUEST, "drop", times=4)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    return case.end(arn)


def test_a_tsb_that_is_silent_over_several_polls_delays_and_nothing_else(ran: Ran) -> None:
    run = ran(silent_for_a_while)

    assert_issued(run)
    assert run.entered.count("IsSilentTooLong") == 4


@act
def locked_out_for_a_while(case: Case) -> Run:
    # Somebody exchanged the credentials at the TSB and puts them into the secrets later.
    case.fault("GET", REQUEST, "status", httpStatus=401, times=4)
    case.fault("POST", ATTRIBUTES, "status", httpStatus=401, times=3)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    return case.end(arn)


def test_refused_credentials_delay_what_the_approvers_were_asked(ran: Ran) -> None:
    run = ran(locked_out_for_a_while)

    assert_issued(run)
    refused = [call["path"] for call in run.calls if call["httpStatus"] == 401]
    assert refused == [REQUEST] * 4 + [ATTRIBUTES] * 3


# A TSB that is unavailable for a while, in every state that calls it ------------------------------


@act
def unavailable(case: Case) -> Run:
    for method, path in (("POST", KEY), ("POST", CSR), ("GET", REQUEST), ("POST", ATTRIBUTES)):
        case.fault(method, path, "status", httpStatus=503, times=3)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    return case.end(arn)


def test_a_tsb_that_answers_503_for_a_while_in_every_state_issues(ran: Ran) -> None:
    run = ran(unavailable)

    assert_issued(run)
    refused = [call["path"] for call in run.calls if call["httpStatus"] == 503]
    assert sorted(refused) == sorted([KEY, CSR, REQUEST, ATTRIBUTES] * 3)


@act
def unavailable_while_discarding(case: Case) -> Run:
    arn, person = unanswered(case)
    case.fault("POST", DELETE_KEY, "status", httpStatus=503, times=3)
    case.await_calls(CSR, 2, "POST")
    case.approve(person)
    return case.end(arn)


def test_a_tsb_that_answers_503_while_a_key_is_discarded_issues(ran: Ran) -> None:
    run = ran(unavailable_while_discarding)

    assert_issued_with_the_second_key(run)
    assert [call["httpStatus"] for call in run.calls if call["path"] == DELETE_KEY] == [
        503, 503, 503, 200,
    ]  # fmt: skip


@act
def unavailable_at_the_start(case: Case) -> Run:
    case.fault("POST", KEY, "status", httpStatus=503, times=9)
    (person,) = people(1)
    request = case.request(token(group(person)))
    first = case.end(case.start(request))
    arn = case.start(request)
    case.approve(person)
    run = case.end(arn)
    run.more["first"] = first
    return run


def test_an_enrollment_that_never_reached_the_tsb_can_be_started_again(ran: Ran) -> None:
    run = ran(unavailable_at_the_start)

    assert_failed(run.more["first"], "TsbUnavailableError", "CreateKey")
    assert run.more["first"].document["error"]["httpStatus"] == 503
    assert run.document["outcome"] == "ISSUED"
    assert run.record["attempt"] == 2
    assert run.endings == ["Enrollment Failed", "Enrollment Issued"]


# Lost answers -------------------------------------------------------------------------------------


@act
def create_key_unanswered(case: Case) -> Run:
    case.fault("POST", KEY, "drop", executed=True)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    return case.end(arn)


def test_a_lost_answer_of_create_key_makes_one_key(ran: Ran) -> None:
    run = ran(create_key_unanswered)

    assert_issued(run)
    assert [call["httpStatus"] for call in run.calls if call["path"] == KEY] == [None, 400]


@act
def create_key_unanswered_and_weakened(case: Case) -> Run:
    case.fault("POST", KEY, "drop", executed=True)
    case.fault("POST", ATTRIBUTES, "forge", what="weaker_policy", **FOR_EVER)
    return case.end(case.start(case.request(token(group(*people(2), quorum=2)))))


def test_a_key_whose_policy_is_not_what_was_asked_is_not_adopted(ran: Ran) -> None:
    run = ran(create_key_unanswered_and_weakened)

    assert_failed(run, "KeyConflictError", "CreateKey")
    assert "policy" in run.document["error"]["message"]
    assert not run.requests


@act
def request_csr_unanswered(case: Case) -> Run:
    arn, person = unanswered(case)
    case.await_calls(CSR, 2, "POST")
    case.approve(person)
    return case.end(arn)


def test_a_lost_answer_of_request_csr_replaces_a_destroyable_key(ran: Ran) -> None:
    assert_issued_with_the_second_key(ran(request_csr_unanswered))


@act
def request_csr_unanswered_with_a_permanent_key(case: Case) -> Run:
    return case.end(unanswered(case, destroyable=False)[0])


def test_a_lost_answer_of_request_csr_fails_naming_a_permanent_key(ran: Ran) -> None:
    run = ran(request_csr_unanswered_with_a_permanent_key)

    assert_failed(run, "TsbNoAnswerError", "RequestCsr")
    assert run.label in run.document["error"]["message"]
    assert [key["deleted"] for key in run.keys] == [False]
    assert run.count("POST", CSR) == 1


@act
def request_csr_unanswered_twice(case: Case) -> Run:
    return case.end(unanswered(case, times=2)[0])


def test_a_second_lost_answer_of_request_csr_fails_and_leaves_no_key(ran: Ran) -> None:
    run = ran(request_csr_unanswered_twice)

    assert_failed(run, "TsbNoAnswerError", "RequestCsr")
    assert [key["deleted"] for key in run.keys] == [True, True]
    assert [request["status"] for request in run.requests] == ["CANCELLED", "CANCELLED"]


@act
def request_csr_refused(case: Case) -> Run:
    body = {"errorCode": 621, "reason": "res.error.in.hsm", "message": "Error in HSM"}
    case.fault("POST", CSR, "status", httpStatus=400, body=body)
    return case.end(case.start(case.request()))


def test_what_the_tsb_refuses_fails_with_its_own_words(ran: Ran) -> None:
    run = ran(request_csr_refused)

    assert_failed(run, "TsbRefusedError", "RequestCsr")
    assert run.document["error"]["errorCode"] == 621
    assert run.document["error"]["reason"] == "res.error.in.hsm"
    assert run.record["unusedKey"]["result"] == "kept"
    assert [key["deleted"] for key in run.keys] == [False]


@act
def discard_refused(case: Case) -> Run:
    body = {"errorCode": 621, "reason": "res.error.in.hsm", "message": "Error in HSM"}
    case.fault("POST", DELETE_KEY, "status", httpStatus=400, body=body)
    return case.end(unanswered(case)[0])


def test_a_key_that_cannot_be_discarded_fails(ran: Ran) -> None:
    assert_failed(ran(discard_refused), "TsbRefusedError", "DiscardKey")


# What is not as asked -----------------------------------------------------------------------------


@act
def hsm_error(case: Case) -> Run:
    case.fault("POST", CSR, "hsm_error")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    return case.end(arn)


def test_an_hsm_that_cannot_sign_fails(ran: Ran) -> None:
    run = ran(hsm_error)

    assert_failed(run, "TsbRefusedError", "PollRequest")
    assert "FAILED" in run.document["error"]["message"]


@act
def unknown_status(case: Case) -> Run:
    case.fault("GET", REQUEST, "request_status", status="FROBNICATED", **FOR_EVER)
    return case.end(case.start(case.request()))


def test_a_status_that_nobody_has_seen_before_fails_and_is_named(ran: Ran) -> None:
    run = ran(unknown_status)

    assert_failed(run, "TsbRefusedError", "PollRequest")
    assert "FROBNICATED" in run.document["error"]["message"]


@act
def other_request(case: Case) -> Run:
    case.fault("GET", REQUEST, "request_id", **FOR_EVER)
    return case.end(case.start(case.request()))


def test_an_answer_about_another_request_fails(ran: Ran) -> None:
    run = ran(other_request)

    assert run.document["error"]["name"] == "CsrInvalidError"
    assert run.document["error"]["reason"] == run.record["quarantine"]["code"] == "REQUEST_ID"
    assert run.event_types[-2:] == ["Enrollment Quarantined", "Enrollment Failed"]


def forged(what: str) -> Act:
    """An enrollment whose CSR is not what the HSM made."""

    def run(case: Case) -> Run:
        case.fault("GET", REQUEST, "forge", what=what, **FOR_EVER)
        (person,) = people(1)
        arn = case.start(case.request(token(group(person))))
        case.approve(person)
        return case.end(arn)

    return act(run)


# tests/integration/test_forgeries.py has the whole table; these show it on the deployed stack.
FORGERIES = {
    "other_key": ("CSR_PUBLIC_KEY", "publicKey"),
    "added_san": ("CSR_ALTERNATIVE_NAMES", "subjectAlternativeNames"),
    "stranger": ("APPROVAL_STRANGER", "approvedBy"),
}
FORGED = {what: forged(what) for what in FORGERIES}


def assert_quarantined(run: Run, code: str, field: str) -> None:
    """Failed under this code, announced to security, put aside, and not issued."""
    error = run.document["error"]
    assert (error["name"], error["state"]) == ("CsrInvalidError", "StoreCsr")
    assert (error["reason"], error["field"]) == (code, field)
    assert (run.status, run.error) == ("FAILED", "CsrInvalidError")
    assert run.event_types[-2:] == ["Enrollment Quarantined", "Enrollment Failed"]
    assert run.events[-2]["detail"]["code"] == code
    assert run.events[-2]["detail"]["findings"][0]["code"] == code
    assert "request.pem" not in run.objects
    assert run.record["quarantine"]["code"] == code
    assert set(run.quarantine) == {"request.pem", "findings.json"}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_csr_is_quarantined(ran: Ran, what: str) -> None:
    assert_quarantined(ran(FORGED[what]), *FORGERIES[what])


def test_a_quarantined_csr_has_evidence_that_proves_itself(ran: Ran, stack: Stack) -> None:
    folder = evidence_of(stack, ran(FORGED["other_key"]))

    facts = evidence.verify(folder, stack.signing_key()).facts

    assert facts["outcome"] == "FAILED"
    assert "CSR_PUBLIC_KEY" in facts["checks"]
    assert "quarantine/request.pem" in folder


@act
def attested_by_another_hsm(case: Case) -> Run:
    case.fault("POST", ATTRIBUTES, "forge", what="other_root", **FOR_EVER)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    return case.end(arn)


def test_a_key_that_another_hsm_attests_is_quarantined(ran: Ran) -> None:
    run = ran(attested_by_another_hsm)

    assert_quarantined(run, "ATTESTATION_SIGNATURE", "xml")
    assert run.record["attestation"] == "failed"


# Names that are taken -----------------------------------------------------------------------------


def make_key(case: Case, **different: Any) -> None:
    """Somebody else's key under this case's label."""
    requests.post(
        f"{case.stack.tsb_url}{KEY}",
        json={**seed()["key"], "label": case.label, **different},
        headers={"X-API-KEY": case.stack.api_keys["keyManagement"][0]},
        verify=str(case.stack.ca_certificate),
        timeout=10,
    ).raise_for_status()


@act
def label_of_an_older_key(case: Case) -> Run:
    case.advance(-3600)
    make_key(case)
    case.advance(3600)
    return case.end(case.start(case.request(destroyable=False)))


def test_an_older_key_under_the_label_is_not_adopted_even_if_it_is_alike(ran: Ran) -> None:
    run = ran(label_of_an_older_key)

    assert_failed(run, "KeyConflictError", "CreateKey")
    assert run.document["error"]["field"] == "request.key.label"
    assert "before this enrollment" in run.document["error"]["message"]
    assert [key["deleted"] for key in run.keys] == [False]
    assert not run.requests


@act
def label_of_another_key(case: Case) -> Run:
    make_key(case, keySize=4096)
    return case.end(case.start(case.request()))


def test_another_key_under_the_label_is_not_adopted(ran: Ran) -> None:
    run = ran(label_of_another_key)

    assert_failed(run, "KeyConflictError", "CreateKey")
    assert "keySize" in run.document["error"]["message"]


@act
def label_of_another_enrollment(case: Case) -> Run:
    (person,) = people(1)
    first = case.start(case.request(token(group(person))))
    case.await_request()
    rival = Case(case.stack)
    rival.label = case.label
    run = rival.end(rival.start(rival.request(token(group(person)))))
    case.approve(person)
    run.more["first"] = case.end(first)
    return run


def test_a_label_belongs_to_the_enrollment_that_claimed_it(ran: Ran) -> None:
    run = ran(label_of_another_enrollment)

    assert_failed(run, "KeyConflictError", "CreateKey")
    assert run.more["first"].record["id"] in run.document["error"]["message"]
    assert_issued(run.more["first"])


@act
def same_id_and_request(case: Case) -> Run:
    (person,) = people(1)
    request = case.request(token(group(person)))
    first = case.start(request)
    case.await_request()
    open_duplicate = case.end(case.start(request), event=False)
    case.approve(person)
    run = case.end(first)
    run.more["open"] = open_duplicate
    run.more["ended"] = case.end(case.start(request), event=False)
    return run


def test_the_same_request_again_is_the_same_enrollment(ran: Ran) -> None:
    run = ran(same_id_and_request)

    assert_issued(run)
    assert "duplicate" not in run.document
    for duplicate, outcome in ((run.more["open"], None), (run.more["ended"], "ISSUED")):
        assert duplicate.status == "SUCCEEDED"
        assert duplicate.entered == ["AcceptEnrollment", "IsDuplicate", "DuplicateEnrollment"]
        assert duplicate.document["duplicate"] is True
        assert duplicate.document["outcome"] == outcome
    assert run.more["ended"].document["csr"] == run.document["csr"]
    assert run.more["ended"].endings == ["Enrollment Issued"]


@act
def same_id_and_another_request(case: Case) -> Run:
    (person,) = people(1)
    first = case.start(case.request(token(group(person))))
    case.await_request()
    before = case.record()
    other: Json = {**case.request(token(group(person))), "reason": "another"}
    conflict = case.end(case.start(other))
    after = case.record()
    case.approve(person)
    run = case.end(first)
    run.more.update(before=before, after=after, conflict=conflict)
    return run


def test_another_request_under_the_same_id_is_refused_and_changes_nothing(ran: Ran) -> None:
    run = ran(same_id_and_another_request)
    conflict = run.more["conflict"]

    assert conflict.status == "FAILED"
    assert conflict.error == conflict.document["error"]["name"] == "EnrollmentConflictError"
    assert conflict.document["error"]["field"] == "request.enrollmentId"
    assert conflict.endings == ["Enrollment Refused"]
    looks = ("tsbStatus", "approvers", "stage", "times")  # the first goes on meanwhile
    unchanged = [
        {name: value for name, value in run.more[when].items() if name not in looks}
        for when in ("before", "after")
    ]
    assert unchanged[0] == unchanged[1]
    assert run.document["outcome"] == "ISSUED"
    assert run.endings == ["Enrollment Refused", "Enrollment Issued"]
    assert len(run.keys) == len(run.requests) == 1


# An end by somebody's hand ------------------------------------------------------------------------


@act
def stopped(case: Case) -> Run:
    arn = case.start(case.request())
    case.await_calls(REQUEST, 1)
    case.stop(arn)
    return case.end(arn)


def test_an_execution_that_is_stopped_by_hand_is_closed_and_announced(ran: Ran) -> None:
    run = ran(stopped)

    assert run.status == "ABORTED"
    assert run.record["outcome"] == "FAILED"
    assert run.record["error"]["name"] == "ExecutionAborted"
    assert run.endings == ["Enrollment Failed"]
    assert run.ending["detail"]["error"] == run.record["error"]
    assert "CloseEnrollment" not in run.entered


@act
def unreadable_record(case: Case) -> Run:
    arn = case.start(case.request())
    case.await_calls(REQUEST, 2)  # the first look writes the record, too
    case.write(approvers=[{"nonsense": True}])
    case.decide("decline")
    return case.end(arn, event=False)


def test_an_enrollment_that_cannot_be_closed_fails_and_says_why(ran: Ran) -> None:
    run = ran(unreadable_record)

    assert run.status == "FAILED"
    assert run.entered[-1] == "CloseFailed"
    assert run.error == "InvalidEnrollmentError"


# Functions that are killed ------------------------------------------------------------------------


def killed(method: str, path: str) -> Act:
    """An enrollment during which the function that makes this call is killed, TSB having acted."""

    def run(case: Case) -> Run:
        case.fault(method, path, "delay", seconds=LONGER_THAN_A_TEST)
        (person,) = people(1)
        arn = case.start(case.request(token(group(person))))
        if path not in (KEY, CSR):
            case.approve(person)
        (call, *_) = case.await_calls(path, 1, method)
        case.kill_caller(call)
        if path == CSR:
            case.await_calls(CSR, 2, "POST")
        if path in (KEY, CSR):
            case.approve(person)
        return case.end(arn)

    return act(run)


KILLED = {
    "CreateKey": killed("POST", KEY),
    "PollRequest": killed("GET", REQUEST),
    "StoreCsr": killed("POST", ATTRIBUTES),
}
REQUEST_CSR_KILLED = killed("POST", CSR)


@act
def discard_key_killed(case: Case) -> Run:
    case.fault("POST", DELETE_KEY, "delay", seconds=LONGER_THAN_A_TEST)
    arn, person = unanswered(case)
    (call,) = case.await_calls(DELETE_KEY, 1, "POST")
    case.kill_caller(call)
    case.await_calls(CSR, 2, "POST")
    case.approve(person)
    return case.end(arn)


@pytest.mark.parametrize("state", KILLED)
def test_a_function_that_is_killed_in_the_middle_of_a_call_issues_all_the_same(
    ran: Ran, state: str
) -> None:
    run = ran(KILLED[state])

    assert_issued(run)
    assert failures(run) == [(state, "Runtime.ExitError")]


def test_request_csr_killed_in_the_middle_of_its_call_replaces_the_key(ran: Ran) -> None:
    run = ran(REQUEST_CSR_KILLED)

    assert_issued_with_the_second_key(run)
    # Entered again, it finds an intent and no id, and refuses to guess.
    assert failures(run) == [
        ("RequestCsr", "Runtime.ExitError"),
        ("RequestCsr", "TsbNoAnswerError"),
    ]


def test_discard_key_killed_in_the_middle_of_its_call_replaces_the_key(ran: Ran) -> None:
    run = ran(discard_key_killed)

    assert_issued_with_the_second_key(run)
    assert failures(run) == [
        ("RequestCsr", "TsbNoAnswerError"),
        ("DiscardKey", "Runtime.ExitError"),
    ]


def failures(run: Run) -> list[tuple[str, str]]:
    """Each failed task of an execution: its state and its error."""
    found, state = [], ""
    for event in run.history:
        if event["type"] == "TaskStateEntered":
            state = event["stateEnteredEventDetails"]["name"]
        elif event["type"] == "TaskFailed":
            found.append((state, event["taskFailedEventDetails"]["error"]))
    return found


def dead_before_its_answer(state: str) -> Act:
    """An enrollment during which a state's function dies, its work done, before it says so."""

    def run(case: Case) -> Run:
        case.stack.strike(state, case.id, kind="die", when="after")
        (person,) = people(1)
        arn = case.start(case.request(token(group(person))))
        case.approve(person)
        return case.end(arn)

    return act(run)


# The other place to die: after all of a state's work, the request for a CSR included.
DEAD = {
    state: dead_before_its_answer(state)
    for state in (
        "AcceptEnrollment", "CreateKey", "RequestCsr", "PollRequest", "StoreCsr", "CloseEnrollment"
    )
}  # fmt: skip


@pytest.mark.parametrize("state", DEAD)
def test_a_function_that_dies_before_its_answer_issues_all_the_same(ran: Ran, state: str) -> None:
    run = ran(DEAD[state])

    assert_issued(run)
    assert failures(run) == [(state, "Runtime.ExitError")]


# Every branch -------------------------------------------------------------------------------------


def test_every_branch_of_the_state_machine_was_taken_by_some_test(
    quiet_stack: Stack, case: Case
) -> None:
    machine = quiet_stack.outputs["EnrollmentStateMachineArn"]
    pages = quiet_stack.client("stepfunctions").get_paginator("list_executions")
    taken: set[tuple[str, str, str]] = set()
    for page in pages.paginate(stateMachineArn=machine):
        for execution in page["executions"]:
            taken |= steps(case.history(execution["executionArn"]))

    assert branches() - taken == set()
    assert taken - branches() == set()


def branches() -> set[tuple[str, str, str]]:
    """(state, how it was left, next state) for each arrow in the definition."""
    states: Json = json.loads((ROOT / "statemachine/enrollment.asl.json").read_text())["States"]
    found: set[tuple[str, str, str]] = set()
    for name, state in states.items():
        for follower in (state.get("Next"), state.get("Default")):
            found |= {(name, "passed", follower)} if follower else set()
        found |= {(name, "passed", choice["Next"]) for choice in state.get("Choices", ())}
        found |= {(name, "caught", catch["Next"]) for catch in state.get("Catch", ())}
    return found


def steps(history: list[Json]) -> set[tuple[str, str, str]]:
    """(state, how it was left, next state) for each step of an execution."""
    found: set[tuple[str, str, str]] = set()
    before, how = "", "passed"
    for event in history:
        if event["type"] in ("TaskFailed", "TaskTimedOut"):
            how = "caught"
        elif event["type"] == "TaskSucceeded":
            how = "passed"
        elif event["type"].endswith("StateEntered"):
            name = event["stateEnteredEventDetails"]["name"]
            found |= {(before, how, name)} if before else set()
            before, how = name, "passed"
    return found
