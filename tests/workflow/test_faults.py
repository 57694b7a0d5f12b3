"""What goes wrong on the way: at the TSB, between us and it, in a function, by somebody's hand."""

import json
from typing import Any

import pytest
import requests

from countersign.evidence import verifier
from local.approver import Approver
from local.engine.stack import InProcessStack
from tests.case import (
    Case,
    Json,
    Result,
    assert_failed,
    assert_issued,
    group,
    people,
    seed,
    token,
)

KEY = "/v1/key"
ATTRIBUTES = "/v1/key/attributes"
CSR = "/v1/certificate/request"
REQUEST = "/v1/request/{id}"
DELETE_KEY = "/v1/key/deleteKey"
FOR_EVER = {"times": None}
LONGER_THAN_A_TEST = 25  # seconds that TSB lets a function wait, so that it can be killed meanwhile


def assert_issued_with_the_second_key(result: Result) -> None:
    """The first key was deleted, and the request that it may have had with it."""
    first, second = result.keys
    assert (first["deleted"], second["deleted"]) == (True, False)
    assert [request["status"] for request in result.requests] == ["CANCELLED", "EXECUTED"]
    assert result.document["outcome"] == result.record["outcome"] == "ISSUED"
    assert result.endings == ["Enrollment Issued"]
    assert result.record["discards"] == 1
    assert "DiscardKey" in result.entered


def unanswered(case: Case, *, destroyable: bool = True, times: int = 1) -> tuple[str, Approver]:
    """Start an enrollment whose request for a CSR reaches TSB while the answer gets lost."""
    case.fault("POST", CSR, "drop", executed=True, times=times)
    (person,) = people(1)
    return case.start(case.request(token(group(person)), destroyable=destroyable)), person


# A TSB that is silent for long --------------------------------------------------------------------


def test_a_tsb_that_never_speaks_again_is_given_up_after_the_silence_limit(case: Case) -> None:
    # The slowest: its waits add up to a window of one minute and a silence limit of ten.
    case.fault("GET", REQUEST, "drop", **FOR_EVER)
    (person,) = people(1)
    result = case.end(case.start(case.request(token(group(person), timeout=60))))

    assert_failed(result, "TsbOutcomeUnknownError", "PollRequest")
    assert result.entered.count("PollRequest") < 40


def test_a_request_that_the_tsb_never_ends_is_cancelled_there(case: Case) -> None:
    # TSB's clock is behind: the window has passed for us, not for it.
    (person,) = people(1)
    arn = case.start(case.request(token(group(person), timeout=60)))
    case.await_request()
    case.advance(-3600)
    result = case.end(arn)

    assert result.count("DELETE", REQUEST) == 1
    assert result.requests[0]["status"] == "CANCELLED"
    assert result.document["outcome"] == "CANCELLED"
    assert result.endings == ["Enrollment Cancelled"]
    assert result.ending["detail"]["cancel"]["by"] == "countersign"
    assert result.ending["detail"]["cancel"]["at"] == result.record["overdue"]


def test_a_request_without_a_window_is_cancelled_after_the_deadline(
    case: Case, stack: InProcessStack
) -> None:
    stack.configure(WorkflowDeadlineDays="1", PollCapSeconds="3600")
    (person,) = people(1)
    result = case.end(case.start(case.request(token(group(person), timeout=0))))

    assert result.document["outcome"] == "CANCELLED"
    assert [request["status"] for request in result.requests] == ["CANCELLED"]
    assert result.ending["detail"]["cancel"]["by"] == "countersign"


def test_a_timelock_that_a_shortened_deadline_would_cut_off_asks_nobody(
    case: Case, stack: InProcessStack
) -> None:
    (person,) = people(1)
    locked = token(group(person), timelock=2 * 86_400, timeout=0)
    case.strike("CreateKey", kind="die", when="before")
    arn = case.start(case.request(locked))
    case.until(lambda: case.record().get("executionArn"), "claim")
    stack.configure(WorkflowDeadlineDays="1")
    result = case.end(arn)

    assert_failed(result, "InvalidEnrollmentError", "RequestCsr")
    assert result.document["error"]["field"] == "request.key.policy.ruleUse.tokens.0.timelock"
    assert result.requests == []


def test_a_request_for_longer_than_an_execution_lasts_ends_before_anything_exists(
    case: Case,
) -> None:
    (person,) = people(1)
    result = case.end(case.start(case.request(token(group(person), timeout=366 * 86_400))))

    assert_failed(result, "InvalidEnrollmentError", "AcceptEnrollment")
    assert result.calls == []


def test_what_stays_approved_is_polled_ever_more_rarely(case: Case, stack: InProcessStack) -> None:
    # TSB's timer runs each minute; what another timelock holds back is APPROVED for days.
    case.fault("GET", REQUEST, "request_status", status="APPROVED", **FOR_EVER)
    arn = case.start(case.request(token(group(*people(1)))))
    case.await_calls(REQUEST, 1)
    before = len(case.await_calls(REQUEST, 1))
    stack.sleep(1_800)
    polls = len(case.await_calls(REQUEST, 1)) - before
    case.stop(arn)

    assert polls < 15


def test_a_tsb_that_is_silent_over_several_polls_delays_and_nothing_else(case: Case) -> None:
    case.fault("GET", REQUEST, "drop", times=4)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    assert result.entered.count("IsSilentTooLong") == 4


def test_refused_credentials_delay_what_the_approvers_were_asked(case: Case) -> None:
    # Somebody exchanged the credentials at the TSB and puts them into the secrets later.
    said = {"errorCode": 617, "reason": "res.error.invalid.access.token", "message": "no"}
    case.fault("GET", REQUEST, "status", httpStatus=401, body=said, times=4)
    case.fault("POST", ATTRIBUTES, "status", httpStatus=401, body=said, times=3)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    refused = [call["path"] for call in result.calls if call["httpStatus"] == 401]
    assert refused == [REQUEST] * 4 + [ATTRIBUTES] * 3


# A TSB that is unavailable for a while, in every state that calls it ------------------------------


def test_a_tsb_that_is_unavailable_for_a_while_in_every_state_issues(case: Case) -> None:
    # A 503 of a mesh may follow a call that was executed: it says nothing about one that creates.
    away = {
        ("POST", KEY): 429,
        ("POST", CSR): 429,
        ("GET", REQUEST): 503,
        ("POST", ATTRIBUTES): 503,
    }
    for (method, path), status in away.items():
        case.fault(method, path, "status", httpStatus=status, times=3)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    refused = [call["path"] for call in result.calls if call["httpStatus"] in (429, 503)]
    assert sorted(refused) == sorted([KEY, CSR, REQUEST, ATTRIBUTES] * 3)


def test_a_tsb_that_answers_503_while_a_key_is_discarded_issues(case: Case) -> None:
    arn, person = unanswered(case)
    case.fault("POST", DELETE_KEY, "status", httpStatus=503, times=3)
    case.await_calls(CSR, 2, "POST")
    case.approve(person)
    result = case.end(arn)

    assert_issued_with_the_second_key(result)
    assert [call["httpStatus"] for call in result.calls if call["path"] == DELETE_KEY] == [
        503, 503, 503, 200,
    ]  # fmt: skip


def test_an_enrollment_that_never_reached_the_tsb_can_be_started_again(case: Case) -> None:
    case.fault("POST", KEY, "status", httpStatus=429, times=9)
    (person,) = people(1)
    request = case.request(token(group(person)))
    first = case.end(case.start(request))
    arn = case.start(request)
    case.approve(person)
    result = case.end(arn)
    result.more["first"] = first

    assert_failed(result.more["first"], "TsbUnavailableError", "CreateKey")
    assert result.more["first"].document["error"]["httpStatus"] == 429
    assert result.document["outcome"] == "ISSUED"
    assert result.record["attempt"] == 2
    assert result.endings == ["Enrollment Failed", "Enrollment Issued"]


# Lost answers -------------------------------------------------------------------------------------


def test_a_lost_answer_of_create_key_makes_one_key(case: Case) -> None:
    case.fault("POST", KEY, "drop", executed=True)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    assert [call["httpStatus"] for call in result.calls if call["path"] == KEY] == [None, 400]


def test_a_key_whose_policy_is_not_what_was_asked_is_not_adopted(case: Case) -> None:
    case.fault("POST", KEY, "drop", executed=True)
    case.fault("POST", ATTRIBUTES, "forge", what="weaker_policy", **FOR_EVER)
    result = case.end(case.start(case.request(token(group(*people(2), quorum=2)))))

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert "policy" in result.document["error"]["message"]
    assert not result.requests


def test_a_lost_answer_of_request_csr_replaces_a_destroyable_key(case: Case) -> None:
    arn, person = unanswered(case)
    case.await_calls(CSR, 2, "POST")
    case.approve(person)
    result = case.end(arn)
    assert_issued_with_the_second_key(result)


def test_a_lost_answer_of_request_csr_fails_naming_a_permanent_key(case: Case) -> None:
    result = case.end(unanswered(case, destroyable=False)[0])

    assert_failed(result, "TsbOutcomeUnknownError", "RequestCsr")
    assert result.label in result.document["error"]["message"]
    assert [key["deleted"] for key in result.keys] == [False]
    assert result.count("POST", CSR) == 1


def test_a_second_lost_answer_of_request_csr_fails_and_leaves_no_key(
    case: Case, stack: InProcessStack
) -> None:
    result = case.end(unanswered(case, times=2)[0])

    assert_failed(result, "TsbOutcomeUnknownError", "RequestCsr")
    assert [key["deleted"] for key in result.keys] == [True, True]
    assert [request["status"] for request in result.requests] == ["CANCELLED", "CANCELLED"]
    facts = verifier.verify(case.evidence(result), stack.signing_key()).facts
    assert facts["public key"] == "none is left: 2 made and deleted"
    assert facts["request"].endswith(", whether the approvers saw it is unknown")


def test_what_the_tsb_refuses_fails_with_its_own_words(case: Case) -> None:
    body = {"errorCode": 621, "reason": "res.error.in.hsm", "message": "Error in HSM"}
    case.fault("POST", CSR, "status", httpStatus=400, body=body)
    result = case.end(case.start(case.request()))

    assert_failed(result, "TsbRefusedError", "RequestCsr")
    assert result.document["error"]["errorCode"] == 621
    assert result.document["error"]["reason"] == "res.error.in.hsm"
    assert result.record["unusedKey"]["result"] == "kept"
    assert [key["deleted"] for key in result.keys] == [False]


def test_with_credentials_that_are_refused_once_the_key_stays(case: Case) -> None:
    # Of RequestCsr they end the enrollment, and nobody was asked: its key is there for the next.
    said = {"errorCode": 617, "reason": "res.error.invalid.access.token", "message": "no"}
    case.fault("POST", CSR, "status", httpStatus=401, body=said)
    (person,) = people(1)
    request = case.request(token(group(person)))
    first = case.end(case.start(request))
    arn = case.start(request)
    case.approve(person)
    result = case.end(arn)

    assert_failed(first, "TsbCredentialsError", "RequestCsr")
    assert result.document["outcome"] == "ISSUED"
    assert result.record["attempt"] == 2
    assert result.count("POST", KEY) == 1
    assert [key["deleted"] for key in result.keys] == [False]


def test_a_key_that_cannot_be_discarded_fails(case: Case) -> None:
    body = {"errorCode": 621, "reason": "res.error.in.hsm", "message": "Error in HSM"}
    case.fault("POST", DELETE_KEY, "status", httpStatus=400, body=body)
    result = case.end(unanswered(case)[0])
    assert_failed(result, "TsbRefusedError", "DiscardKey")


# What is not as asked -----------------------------------------------------------------------------


def test_an_hsm_that_cannot_sign_fails(case: Case) -> None:
    case.fault("POST", CSR, "hsm_error")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)

    assert_failed(result, "TsbRefusedError", "PollRequest")
    assert "FAILED" in result.document["error"]["message"]


def test_a_status_that_nobody_has_seen_before_decides_nothing(case: Case) -> None:
    case.fault("GET", REQUEST, "request_status", status="FROBNICATED", times=5)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    assert result.failures == [("PollRequest", "TsbOutcomeUnknownError")] * 5


def test_a_status_of_the_tsb_is_not_taken_for_an_outcome_of_ours(case: Case) -> None:
    case.fault("GET", REQUEST, "request_status", status="ISSUED", **FOR_EVER)
    result = case.end(case.start(case.request()))

    assert_failed(result, "TsbOutcomeUnknownError", "PollRequest")
    assert "'ISSUED'" in result.document["error"]["message"]


def test_an_answer_about_another_request_fails(case: Case) -> None:
    case.fault("GET", REQUEST, "request_id", **FOR_EVER)
    result = case.end(case.start(case.request()))

    assert result.document["error"]["name"] == "CsrInvalidError"
    assert result.document["error"]["reason"] == result.record["quarantine"]["code"] == "REQUEST_ID"
    assert result.event_types[-2:] == ["Enrollment Quarantined", "Enrollment Failed"]


def forged(case: Case, method: str, path: str, what: str) -> Result:
    """An enrollment in which TSB's answers are not what the HSM made."""
    case.fault(method, path, "forge", what=what, **FOR_EVER)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    return case.end(arn)


# tests/workflow/test_forgeries.py has the whole table.
FORGERIES = {
    "other_key": ("CSR_PUBLIC_KEY", "publicKey"),
    "added_san": ("CSR_ALTERNATIVE_NAMES", "subjectAlternativeNames"),
    "stranger": ("APPROVER_NOT_IN_POLICY", "approvedBy"),
}


def assert_quarantined(result: Result, code: str, field: str) -> None:
    """Failed under this code, announced to security, put aside, and not issued."""
    error = result.document["error"]
    assert (error["name"], error["state"]) == ("CsrInvalidError", "StoreCsr")
    assert (error["reason"], error["field"]) == (code, field)
    assert (result.status, result.error) == ("FAILED", "CsrInvalidError")
    assert result.event_types[-2:] == ["Enrollment Quarantined", "Enrollment Failed"]
    assert result.events[-2]["detail"]["code"] == code
    assert result.events[-2]["detail"]["findings"][0]["code"] == code
    assert "request.pem" not in result.objects
    assert result.record["quarantine"]["code"] == code
    assert set(result.quarantine) == {"request.pem", "findings.json"}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_csr_is_quarantined(case: Case, what: str) -> None:
    assert_quarantined(forged(case, "GET", REQUEST, what), *FORGERIES[what])


def test_a_quarantined_csr_has_evidence_that_proves_itself(
    case: Case, stack: InProcessStack
) -> None:
    folder = case.evidence(forged(case, "GET", REQUEST, "other_key"))

    facts = verifier.verify(folder, stack.signing_key()).facts

    assert facts["outcome"] == "FAILED"
    assert "CSR_PUBLIC_KEY" in facts["checks"]
    assert "quarantine/request.pem" in folder


def test_a_key_that_another_hsm_attests_is_quarantined(case: Case) -> None:
    result = forged(case, "POST", ATTRIBUTES, "other_root")

    assert_quarantined(result, "ATTESTATION_SIGNATURE", "xml")
    assert result.record["attestation"] == "failed"


def test_a_quarantine_that_is_made_twice_keeps_the_findings_of_the_first(
    case: Case, stack: InProcessStack
) -> None:
    """The first try is killed before it writes the record; the second finds something else."""
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    case.fault("POST", ATTRIBUTES, "forge", what="other_root", times=1)
    stack.at("StoreCsr", "UpdateItem").kill()
    case.fault("POST", ATTRIBUTES, "forge", what="other_key_attested", **FOR_EVER)
    result = case.end(arn)

    assert_quarantined(result, "ATTESTATION_SIGNATURE", "xml")
    facts = verifier.verify(case.evidence(result), stack.signing_key()).facts
    assert facts["quarantined"] == "ATTESTATION_SIGNATURE"


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


def test_an_older_key_under_the_label_is_not_adopted_even_if_it_is_alike(case: Case) -> None:
    case.advance(-3600)
    make_key(case)
    case.advance(3600)
    result = case.end(case.start(case.request(destroyable=False)))

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert result.document["error"]["field"] == "request.key.label"
    assert "before this enrollment" in result.document["error"]["message"]
    assert [key["deleted"] for key in result.keys] == [False]
    assert not result.requests


def test_another_key_under_the_label_is_not_adopted(case: Case) -> None:
    make_key(case, keySize=4096)
    result = case.end(case.start(case.request()))

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert "RSA 4096, asked was RSA 2048" in result.document["error"]["message"]


def test_a_label_belongs_to_the_enrollment_that_claimed_it(case: Case) -> None:
    (person,) = people(1)
    first = case.start(case.request(token(group(person))))
    case.await_request()
    rival = Case(case.stack, f"{case.id}-rival")
    rival.label = case.label
    result = rival.end(rival.start(rival.request(token(group(person)))))
    case.approve(person)
    first_result = case.end(first)

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert first_result.record["id"] in result.document["error"]["message"]
    assert_issued(first_result)


def test_the_same_request_again_is_the_same_enrollment(case: Case) -> None:
    (person,) = people(1)
    request = case.request(token(group(person)))
    first = case.start(request)
    case.await_request()
    open_duplicate = case.end(case.start(request), event=False)
    case.approve(person)
    result = case.end(first)
    ended_duplicate = case.end(case.start(request), event=False)

    assert_issued(result)
    assert "duplicate" not in result.document
    for duplicate, outcome in ((open_duplicate, None), (ended_duplicate, "ISSUED")):
        assert duplicate.status == "SUCCEEDED"
        assert duplicate.entered == ["AcceptEnrollment", "IsDuplicate", "DuplicateEnrollment"]
        assert duplicate.document["duplicate"] is True
        assert duplicate.document["outcome"] == outcome
    assert ended_duplicate.document["csr"] == result.document["csr"]
    assert ended_duplicate.endings == ["Enrollment Issued"]


def test_another_request_under_the_same_id_is_refused_and_changes_nothing(case: Case) -> None:
    (person,) = people(1)
    first = case.start(case.request(token(group(person))))
    case.await_calls(REQUEST, 1)
    before = case.record()
    other: Json = {**case.request(token(group(person))), "reason": "another"}
    conflict = case.end(case.start(other))
    after = case.record()
    case.approve(person)
    result = case.end(first)

    assert conflict.status == "FAILED"
    assert conflict.error == conflict.document["error"]["name"] == "EnrollmentConflictError"
    assert conflict.document["error"]["field"] == "request.enrollmentId"
    assert conflict.endings == ["Enrollment Refused"]
    polled = ("steps", "stage")  # the first goes on meanwhile
    unchanged = [
        {name: value for name, value in record.items() if name not in polled}
        for record in (before, after)
    ]
    assert unchanged[0] == unchanged[1]
    assert result.document["outcome"] == "ISSUED"
    assert result.endings == ["Enrollment Refused", "Enrollment Issued"]
    assert len(result.keys) == len(result.requests) == 1


# Clocks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-290, -90, 90, 290])
def test_a_clock_that_is_off_by_less_than_is_tolerated_costs_nothing(
    case: Case, seconds: int
) -> None:
    (person,) = people(1)
    case.advance(seconds)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    assert abs(result.record["clockSkewSeconds"] - seconds) <= 2


@pytest.mark.parametrize("seconds", [-600, 600])
def test_a_clock_that_is_far_off_is_told_before_anybody_is_asked(
    case: Case, seconds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    case.advance(seconds)
    result = case.end(case.start(case.request(token(group(*people(1))))))
    measured = [
        one for one in map(json.loads, capsys.readouterr().out.splitlines()) if "ClockSkew" in one
    ]

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert result.document["error"]["reason"] == "CLOCK_SKEW"
    assert "behind" in result.document["error"]["message"] or seconds > 0
    assert result.requests == []
    assert "quarantine" not in result.record
    assert result.record["publicKeySha256"]
    ((metric,),) = [one["ClockSkew"] for one in measured]
    assert abs(metric - 600) <= 2
    assert {one["clock"] for one in measured} == {"ahead" if seconds > 0 else "behind"}


@pytest.mark.parametrize(
    ("most", "seconds", "outcome"),
    [("900", 600, "ISSUED"), ("300", 400, "FAILED"), ("60", 200, "FAILED")],
)
def test_evidence_tolerates_what_the_stack_did(
    case: Case, stack: InProcessStack, most: str, seconds: int, outcome: str
) -> None:
    """The HSM's clock is set back while the approvers are asked."""
    stack.configure(MaxClockSkewSeconds=most)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    case.advance(-seconds)
    result = case.end(arn)

    facts = verifier.verify(case.evidence(result), stack.signing_key()).facts
    assert facts["outcome"] == result.document["outcome"] == outcome
    assert outcome == "ISSUED" or facts["quarantined"] == "ATTESTATION_TIME"


@pytest.mark.parametrize(("seconds", "adopted"), [(-90, True), (-600, False)])
def test_a_key_whose_answer_was_lost_is_adopted_within_what_is_tolerated(
    case: Case, seconds: int, adopted: bool
) -> None:
    case.advance(seconds)
    case.fault("POST", KEY, "drop", executed=True)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    if adopted:
        case.approve(person)
    result = case.end(arn)

    if adopted:
        assert_issued(result)
        assert abs(result.record["clockSkewSeconds"] - seconds) <= 2
    else:
        assert_failed(result, "KeyConflictError", "CreateKey")
    assert len(result.keys) == 1


# An end by somebody's hand ------------------------------------------------------------------------


def test_an_execution_that_is_stopped_by_hand_is_closed_and_announced(case: Case) -> None:
    arn = case.start(case.request())
    case.await_calls(REQUEST, 1)
    case.stop(arn)
    case.until(lambda: case.record().get("announced"), "note that it was announced")
    result = case.end(arn)

    assert result.status == "ABORTED"
    assert result.record["outcome"] == "FAILED"
    assert result.record["error"]["name"] == "ExecutionAborted"
    assert result.step["requestId"] in result.record["error"]["action"]
    assert f"countersign resume {case.id}" in result.record["error"]["action"]
    assert result.endings == ["Enrollment Failed"]
    assert result.ending["detail"]["error"] == result.record["error"]
    assert "CloseEnrollment" not in result.entered


@pytest.mark.forged
def test_an_enrollment_that_cannot_be_closed_fails_and_says_why(case: Case) -> None:
    arn = case.start(case.request())
    case.await_calls(REQUEST, 2)  # the first poll writes the record, too
    case.write(**{"steps.csr.approvers": [{"nonsense": True}]})
    case.decide("decline")
    result = case.end(arn, event=False)

    assert result.status == "FAILED"
    assert result.entered[-1] == "CloseFailed"
    assert result.error == "InvalidEnrollmentError"


# Functions that are killed ------------------------------------------------------------------------


def killed(case: Case, method: str, path: str) -> Result:
    """An enrollment during which the function that makes this call is killed, TSB having acted."""
    case.fault(method, path, "delay", seconds=LONGER_THAN_A_TEST)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    if path not in (KEY, CSR):
        case.approve(person)
    (call, *_) = case.await_calls(path, 1, method)
    case.stack.kill_caller(call)
    if path == CSR:
        case.await_calls(CSR, 2, "POST")
    if path in (KEY, CSR):
        case.approve(person)
    return case.end(arn)


KILLED = {
    "CreateKey": ("POST", KEY),
    "PollRequest": ("GET", REQUEST),
    "StoreCsr": ("POST", ATTRIBUTES),
}


@pytest.mark.parametrize("state", KILLED)
def test_a_function_that_is_killed_in_the_middle_of_a_call_issues_all_the_same(
    case: Case, state: str
) -> None:
    result = killed(case, *KILLED[state])

    assert_issued(result)
    assert result.failures == [(state, "Runtime.ExitError")]


def test_request_csr_killed_in_the_middle_of_its_call_replaces_the_key(case: Case) -> None:
    result = killed(case, "POST", CSR)

    assert_issued_with_the_second_key(result)
    # Entered again, it finds an intent and no id, and refuses to guess.
    assert result.failures == [
        ("RequestCsr", "Runtime.ExitError"),
        ("RequestCsr", "TsbOutcomeUnknownError"),
    ]


def test_discard_key_killed_in_the_middle_of_its_call_replaces_the_key(case: Case) -> None:
    case.fault("POST", DELETE_KEY, "delay", seconds=LONGER_THAN_A_TEST)
    arn, person = unanswered(case)
    (call,) = case.await_calls(DELETE_KEY, 1, "POST")
    case.stack.kill_caller(call)
    case.await_calls(CSR, 2, "POST")
    case.approve(person)
    result = case.end(arn)

    assert_issued_with_the_second_key(result)
    assert result.failures == [
        ("RequestCsr", "TsbOutcomeUnknownError"),
        ("DiscardKey", "Runtime.ExitError"),
    ]


# What may come of an invocation of Lambda, whether or not the function ran.
OF_LAMBDA = (
    "Lambda.Unknown", "Lambda.ServiceException", "Lambda.AWSLambdaException",
    "Lambda.SdkClientException", "Lambda.ClientExecutionTimeoutException",
    "Lambda.TooManyRequestsException", "Lambda.ResourceNotReadyException",
    "Lambda.ResourceConflictException", "Lambda.ENINotReadyException",
    "Lambda.CodeArtifactUserPendingException", "Lambda.EC2ThrottledException",
    "Lambda.EC2UnexpectedException", "Lambda.ENILimitReachedException",
    "Lambda.SubnetIPAddressLimitReachedException",
    "Sandbox.Timedout", "Runtime.ExitError", "States.Timeout", "AwsCallError",
)  # fmt: skip


def test_a_poll_comes_back_whatever_becomes_of_its_invocation(case: Case) -> None:
    for name in OF_LAMBDA:
        case.strike("PollRequest", kind="error", name=name, when="before")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person), timeout=7 * 86_400)))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    assert result.failures == [("PollRequest", name) for name in OF_LAMBDA]
    assert result.entered.count("IsSilentTooLong") == len(OF_LAMBDA)


# The other place to die: after all of a state's work, the request for a CSR included.
@pytest.mark.parametrize(
    "state",
    ["AcceptEnrollment", "CreateKey", "RequestCsr", "PollRequest", "StoreCsr", "CloseEnrollment"],
)
def test_a_function_that_dies_before_its_answer_issues_all_the_same(case: Case, state: str) -> None:
    case.strike(state, kind="die", when="after")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    assert result.failures == [(state, "Runtime.ExitError")]
