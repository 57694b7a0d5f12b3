"""Answers that got lost on the way, whoever's: what was done is found again, and done once."""

import pytest

from local.engine.stack import InProcessStack
from tests.case import Case, Json, Result, assert_failed, assert_issued, group, people, token

KEY = "/v1/key"
ATTRIBUTES = "/v1/key/attributes"
CSR = "/v1/certificate/request"
DELETE = "/v1/key/deleteKey"
LOST: Json = {"kind": "status", "httpStatus": 504, "executed": True}
HSM_ERROR: Json = {"errorCode": 701, "reason": "res.error.in.hsm", "message": "no such algorithm"}
ALGORITHM_REFUSED: Json = {**HSM_ERROR, "errorCode": 606}


def claim_of_the_label(case: Case) -> Json:
    """Whose the label is, by the table; empty where it is free."""
    return case.record(f"label#{case.label}")


def assert_issued_with_the_second_key(result: Result) -> None:
    """The first key was deleted, once, and the request that it had with it."""
    assert [key["deleted"] for key in result.keys] == [True, False]
    assert [request["status"] for request in result.requests] == ["CANCELLED", "EXECUTED"]
    assert result.document["outcome"] == "ISSUED"
    assert result.record["discards"] == 1


# Of AWS's and Lambda's ----------------------------------------------------------------------------


@pytest.mark.parametrize("write", [0, 1])
def test_a_write_that_the_sdk_repeats_is_the_same_intent(case: Case, write: int) -> None:
    # As the SDK does by itself where the answer to a write gets lost.
    repeated = [
        case.strike(state, kind="aws", operation="UpdateItem", skip=write, when="repeat")
        for state in ("CreateKey", "RequestCsr")
    ]
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)

    assert all(one.struck for one in repeated)
    assert_issued(result)
    assert result.failures == []
    assert result.requests[0]["id"] == result.step["requestId"]
    assert result.count("POST", CSR) == 1


def test_nobody_is_asked_for_what_was_cancelled_before_the_sdk_repeated_the_intent(
    case: Case,
) -> None:
    case.strike("RequestCsr", kind="aws", operation="UpdateItem", when="repeat")
    arn = case.start(case.request())
    case.until(lambda: "intent" in case.step(), "intent on record")
    case.cancel()
    result = case.end(arn)

    assert result.document["outcome"] == "CANCELLED"
    assert [call for call in result.calls if call["path"] == CSR] == []


def test_a_request_on_record_is_found_again_and_not_asked_for_twice(case: Case) -> None:
    case.strike("RequestCsr", kind="error", name="Lambda.Unknown", when="after")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    assert result.failures == [("RequestCsr", "Lambda.Unknown")]
    assert result.requests[0]["id"] == result.step["requestId"]
    assert [call["httpStatus"] for call in result.calls if call["path"] == CSR] == [201]


def test_a_csr_on_record_is_handed_out_again_whatever_became_of_its_key(
    case: Case, stack: InProcessStack
) -> None:
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    store_csr = stack.at("StoreCsr", "its return")
    stored = case.record()["csr"]
    with stack.tsb() as tsb:
        tsb.delete_key(case.label)
    store_csr.kill()
    result = case.end(arn)

    assert result.failures == [("StoreCsr", "Runtime.ExitError")]
    assert result.document["outcome"] == "ISSUED"
    assert result.document["csr"] == stored
    assert "quarantine" not in result.record
    assert result.count("POST", ATTRIBUTES) == 1


# Of POST /v1/key ----------------------------------------------------------------------------------


def test_a_label_stays_claimed_where_a_lost_answer_may_have_made_the_key(case: Case) -> None:
    case.fault("POST", KEY, **LOST)
    case.fault("POST", KEY, "status", httpStatus=400, body=ALGORITHM_REFUSED)
    (person,) = people(1)
    request = case.request(token(group(person)))
    first = case.end(case.start(request))

    assert_failed(first, "TsbRefusedError", "CreateKey")
    assert first.failures == [
        ("CreateKey", "TsbOutcomeUnknownError"),
        ("CreateKey", "TsbRefusedError"),
    ]
    assert claim_of_the_label(case)["enrollmentId"] == case.id

    # Whoever is next finds the key under its own claim, and adopts it.
    arn = case.start(request)
    case.approve(person)
    second = case.end(arn)

    assert second.document["outcome"] == "ISSUED"
    assert [key["deleted"] for key in second.keys] == [False]


def test_a_label_is_free_again_where_the_tries_before_made_no_key(case: Case) -> None:
    case.fault("POST", KEY, "status", httpStatus=429)
    case.fault("POST", KEY, "status", httpStatus=400, body=ALGORITHM_REFUSED)
    result = case.end(case.start(case.request()))

    assert_failed(result, "TsbRefusedError", "CreateKey")
    assert result.failures == [
        ("CreateKey", "TsbUnavailableError"),
        ("CreateKey", "TsbRefusedError"),
    ]
    assert claim_of_the_label(case) == {}


def test_a_refusal_at_the_first_try_lets_the_label_go(case: Case) -> None:
    case.fault("POST", KEY, "status", httpStatus=400, body=ALGORITHM_REFUSED)
    result = case.end(case.start(case.request()))

    assert_failed(result, "TsbRefusedError", "CreateKey")
    assert result.failures == [("CreateKey", "TsbRefusedError")]
    assert claim_of_the_label(case) == {}


def test_a_key_whose_answer_was_lost_before_a_cancellation_is_deleted(case: Case) -> None:
    request = case.by_profile("trial@1")  # which wants unused keys deleted
    case.fault("POST", KEY, **LOST)
    arn = case.start(request)
    case.await_calls(KEY, 1, "POST")
    case.cancel()
    result = case.end(arn)

    assert result.document["outcome"] == "CANCELLED"
    assert result.failures == [("CreateKey", "TsbOutcomeUnknownError")]
    assert [call["httpStatus"] for call in result.calls if call["path"] == KEY] == [504]
    assert result.record["unusedKey"]["result"] == "deleted"
    assert [key["deleted"] for key in result.keys] == [True]
    assert result.requests == []


# Of POST /v1/certificate/request ------------------------------------------------------------------


def test_a_lost_answer_is_not_forgotten_whatever_goes_wrong_after_it(
    case: Case, stack: InProcessStack
) -> None:
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    # Killed between TSB's answer and the write that puts it on record.
    stack.at("RequestCsr", "UpdateItem", nth=2).kill()
    # The state's last error is another one: the state machine sees nothing unanswered.
    for _ in range(9):
        case.strike("RequestCsr", kind="aws", operation="Sign", when="before")
    case.await_calls(CSR, 2, "POST")
    case.approve(person)
    result = case.end(arn)

    assert result.failures == [
        ("RequestCsr", "Runtime.ExitError"),
        *[("RequestCsr", "RequestNotSentError")] * 9,
    ]
    assert_issued_with_the_second_key(result)


def test_a_key_is_discarded_once_however_often_the_state_runs(case: Case) -> None:
    case.fault("POST", CSR, **LOST)
    case.strike("DiscardKey", kind="die", when="after")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.await_calls(CSR, 2, "POST")
    case.approve(person)
    result = case.end(arn)

    assert result.failures == [
        ("RequestCsr", "TsbOutcomeUnknownError"),
        ("DiscardKey", "Runtime.ExitError"),
    ]
    assert_issued_with_the_second_key(result)


NO_PROOF: dict[str, Json] = {
    "a mesh": {"httpStatus": 503, "body": "upstream connect error or disconnect/reset"},
    "a wrapped fault": {"httpStatus": 500, "body": HSM_ERROR},
    "a wrapped fault, as another status": {"httpStatus": 400, "body": HSM_ERROR},
    "a fault of the TSB": {"httpStatus": 500, "body": {**HSM_ERROR, "errorCode": 300}},
}


@pytest.mark.parametrize("answer", NO_PROOF)
def test_an_answer_that_may_follow_the_question_is_a_lost_one(case: Case, answer: str) -> None:
    case.fault("POST", CSR, "status", executed=True, **NO_PROOF[answer])
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.await_calls(CSR, 2, "POST")
    case.approve(person)
    result = case.end(arn)

    assert result.failures == [("RequestCsr", "TsbOutcomeUnknownError")]
    assert_issued_with_the_second_key(result)


def test_the_second_key_that_is_lost_is_the_last(case: Case) -> None:
    case.fault("POST", CSR, **LOST, times=2)
    arn = case.start(case.request())
    case.await_calls(CSR, 2, "POST")
    case.strike("DiscardKey", kind="die", when="after")  # at its second loss it runs twice, too
    result = case.end(arn)

    assert result.failures == [
        ("RequestCsr", "TsbOutcomeUnknownError"),
        ("RequestCsr", "TsbOutcomeUnknownError"),
        ("DiscardKey", "Runtime.ExitError"),
    ]
    assert_failed(result, "TsbOutcomeUnknownError", "RequestCsr")
    assert "it was asked twice" in result.document["error"]["message"]
    assert [key["deleted"] for key in result.keys] == [True, True]
    assert result.record["discards"] == 2
    assert claim_of_the_label(case) == {}


@pytest.mark.parametrize(
    ("known", "silences"),
    [
        pytest.param(True, 2, id="it is known again"),  # within what a clock may be off
        pytest.param(
            False, 9, id="another one is older than the second attempt", marks=pytest.mark.forged
        ),
    ],
)
def test_the_first_key_is_not_adopted_in_the_place_of_the_second(
    case: Case, stack: InProcessStack, known: bool, silences: int
) -> None:
    # An HSM that is restored has the deleted key again. Its request may still ask people.
    case.fault("POST", CSR, **LOST)
    case.fault("POST", DELETE, "status", httpStatus=503, times=silences)
    arn = case.start(case.request())
    case.await_calls(CSR, 1, "POST")
    key = stack.simulator.broker.keys[case.label]
    stack.at("DiscardKey", "its return")
    stack.simulator.broker.keys[case.label] = key
    if not known:
        case.write(discardedSha256="of another key")
    result = case.end(arn)

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert "before this enrollment" in result.document["error"]["message"]
    assert len(result.requests) == 1


def test_that_people_may_have_been_asked_is_known_where_the_key_cannot_be_deleted(
    case: Case,
) -> None:
    case.fault("POST", CSR, **LOST)
    case.fault("POST", DELETE, "status", httpStatus=400, body=ALGORITHM_REFUSED, times=None)
    request = case.request()
    first = case.end(case.start(request))
    again = case.end(case.start(request), event=False)

    assert_failed(first, "TsbRefusedError", "DiscardKey")
    assert first.record["publicKeySha256"]
    assert again.document["duplicate"] is True
    assert again.document["outcome"] == "FAILED"
    assert len(again.requests) == 1


@pytest.mark.parametrize("destroyable", [True, False])
def test_a_request_on_record_is_kept_where_only_the_state_machine_does_not_know_of_it(
    case: Case, destroyable: bool
) -> None:
    for _ in range(9):  # as often as the state machine tries
        case.strike("RequestCsr", kind="error", name="Lambda.Unknown", when="after")
    (person,) = people(1)
    request = case.request(token(group(person)), destroyable=destroyable)
    result = case.end(case.start(request))

    assert result.failures == [("RequestCsr", "Lambda.Unknown")] * 9
    assert (result.document["outcome"], result.error) == ("FAILED", "Lambda.Unknown")
    assert [request["status"] for request in result.requests] == ["PENDING"]
    assert [key["deleted"] for key in result.keys] == [False]
    assert "nobody decided" in result.record["unusedKey"]["reason"]
