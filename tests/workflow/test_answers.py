"""Answers that are not TSB's, or that decide nothing: they delay, and nothing else.

Which answer is which error: tests/unit/test_answers.py.
"""

import json
from typing import Any

import pytest

from local.engine.invocation import FunctionFailedError
from local.engine.stack import ROOT, InProcessStack
from tests.case import Case, Json, assert_failed, assert_issued, group, people, token

ANSWERS: dict[str, list[Json]] = json.loads((ROOT / "tests/answers.json").read_text())
UNDECIDED = [
    one
    for one in ANSWERS["notTsb"] + ANSWERS["tsb"]
    if one["read"] in ("TsbUnavailableError", "TsbOutcomeUnknownError")
]
REQUEST, ATTRIBUTES = "/v1/request/{id}", "/v1/key/attributes"
GET, DELETE = ("GET", REQUEST), ("DELETE", REQUEST)
PAGE: dict[str, Any] = {"kind": "status", "httpStatus": 404, "body": "default backend - 404"}


def arm(case: Case, method: str, path: str, one: Json) -> None:
    """Let the next call be answered so, by TSB or in its place; nothing is executed."""
    body: Any = one["body"] or None
    if one["contentType"].endswith("json"):
        body = json.loads(one["body"])
    case.fault(method, path, "status", httpStatus=one["status"], body=body)


def test_what_decides_nothing_costs_nothing_that_people_agreed_to(
    case: Case, stack: InProcessStack
) -> None:
    stack.configure(SilenceLimitMinutes="1440", PollCapSeconds="60")
    request = case.by_profile()  # it wants unused keys deleted
    for one in UNDECIDED:
        arm(case, *GET, one)
        arm(case, "POST", ATTRIBUTES, one)  # StoreCsr's
    arn = case.start(request)
    case.approve(stack.people["Ada Lovelace"])
    result = case.end(arn)

    names = [one["read"] for one in UNDECIDED]
    assert result.failures == [
        *[("PollRequest", name) for name in names],
        *[("StoreCsr", name) for name in names],
    ]
    assert_issued(result)
    assert [key["deleted"] for key in result.keys] == [False]


# What the definition does with each error, in the states that create or remove --------------------

AWAY, UNKNOWN = "TsbUnavailableError", "TsbOutcomeUnknownError"
REFUSED, CREDENTIALS = "TsbRefusedError", "TsbCredentialsError"
KEY, CSR, DELETE_KEY = "/v1/key", "/v1/certificate/request", "/v1/key/deleteKey"


def one_that_is(kind: str, error: str) -> Json:
    """The first answer of the table that is this error for such a call.

    None that says that there is no such key: that is as good as deleted.
    """
    answers = [one for one in ANSWERS["notTsb"] + ANSWERS["tsb"] if "650" not in one["body"]]
    return next(one for one in answers if one[kind] == error)


@pytest.mark.parametrize("error", [AWAY, UNKNOWN, REFUSED, CREDENTIALS])
def test_create_key_tries_again_what_decides_nothing(case: Case, error: str) -> None:
    arm(case, "POST", KEY, one_that_is("create", error))
    arn = case.start(case.request(token(group(*people(1)))))
    if error in (REFUSED, CREDENTIALS):
        return assert_failed(case.end(arn), error, "CreateKey")
    case.decide("approve")
    result = case.end(arn)

    assert result.failures == [("CreateKey", error)]
    return assert_issued(result)


@pytest.mark.parametrize(
    ("error", "keys"), [(AWAY, 1), (UNKNOWN, 2), (REFUSED, 1), (CREDENTIALS, 1)]
)
def test_request_csr_asks_again_only_where_nobody_was_asked(
    case: Case, error: str, keys: int
) -> None:
    arm(case, "POST", CSR, one_that_is("create", error))
    arn = case.start(case.request(token(group(*people(1)))))
    if error in (REFUSED, CREDENTIALS):
        return assert_failed(case.end(arn), error, "RequestCsr")
    case.decide("approve")
    result = case.end(arn)

    assert result.document["outcome"] == "ISSUED"
    assert len(result.keys) == keys  # an unknown outcome: a fresh key takes its requests with it
    assert sum(not key["deleted"] for key in result.keys) == 1
    return None


@pytest.mark.parametrize(
    ("error", "settled"),
    [(AWAY, "deleted"), (UNKNOWN, "deleted"), (REFUSED, "failed"), (CREDENTIALS, "failed")],
)
def test_no_answer_about_an_unused_key_changes_the_outcome(
    case: Case, error: str, settled: str
) -> None:
    request = case.by_profile()
    arm(case, "POST", DELETE_KEY, one_that_is("remove", error))
    arn = case.start(request)
    case.await_request()
    case.advance(7200)
    result = case.end(arn)

    assert result.document["outcome"] == "EXPIRED"
    assert result.record["unusedKey"]["result"] == settled
    assert result.failures == [("DiscardKey", "KeyDisposalError")][: settled == "deleted"]


# "Cancelled there" --------------------------------------------------------------------------------


def cancelled(case: Case) -> Json:
    """An enrollment that was cancelled on record, and the event that CancelRequest gets."""
    case.start(case.request(token(group(*people(1)), timelock=600, timeout=6000)))
    case.await_calls(REQUEST, 1)
    case.cancel()
    return {"enrollmentId": case.id}


@pytest.mark.parametrize(
    "place",
    [
        {"httpStatus": 404, "body": "default backend - 404"},
        {"httpStatus": 200, "body": "<html>welcome</html>"},
        {"httpStatus": 200},
        {"httpStatus": 403, "body": "<html>blocked</html>"},
    ],
    ids=["404 page", "200 page", "200 nothing", "403 page"],
)
def test_a_request_is_not_cancelled_because_somebody_says_so_in_the_tsb_s_place(
    case: Case, stack: InProcessStack, place: Json
) -> None:
    event = cancelled(case)
    case.fault(*DELETE, "status", **place)

    with pytest.raises(FunctionFailedError, match="PENDING afterwards") as caught:
        stack.call("CancelRequest", event)
    open_still = case.state()["requests"][0]["status"]
    unconfirmed = "confirmedAt" not in case.record()["cancel"]
    again = stack.call("CancelRequest", event)  # as Lambda does

    assert caught.value.name == "TsbOutcomeUnknownError"
    assert (open_still, unconfirmed) == ("PENDING", True)
    assert again == {"confirmed": True}
    assert case.state()["requests"][0]["status"] == "CANCELLED"
    assert case.record()["cancel"]["confirmedAt"]


@pytest.mark.parametrize("switch", ["ignore", "refuse"])
def test_a_request_that_has_ended_is_confirmed_whatever_the_tsb_says_of_cancelling_it(
    case: Case, stack: InProcessStack, switch: str
) -> None:
    event = cancelled(case)
    case.decide("decline")
    before = stack.control("GET", "/switches")["now"]

    stack.control("PUT", "/switches", {"cancelFinalRequest": switch})
    try:
        answer = stack.call("CancelRequest", event)
    finally:
        stack.control("PUT", "/switches", before)

    assert answer == {"confirmed": True}
    assert case.state()["requests"][0]["status"] == "REJECTED"


GONE = {"errorCode": 651, "reason": "res.error.request.not.existent", "message": "x"}


@pytest.mark.parametrize("methods", [("GET",), ("DELETE", "GET")])
def test_a_request_that_the_tsb_does_not_know_is_confirmed_in_its_own_words(
    case: Case, stack: InProcessStack, methods: tuple[str, ...]
) -> None:
    event = cancelled(case)
    for method in methods:
        case.fault(method, REQUEST, "status", httpStatus=404, body=GONE)

    assert stack.call("CancelRequest", event) == {"confirmed": True}


@pytest.mark.parametrize("first", [{"body": GONE}, {"httpStatus": 502}])
def test_a_request_that_vanishes_for_a_moment_is_not_cancelled_by_that(
    case: Case, stack: InProcessStack, first: Json
) -> None:
    event = cancelled(case)
    case.fault("DELETE", REQUEST, "status", **{"httpStatus": 404, **first})
    if "body" not in first:
        case.fault("GET", REQUEST, "status", httpStatus=404, body=GONE)

    with pytest.raises(FunctionFailedError):
        stack.call("CancelRequest", event)

    assert case.state()["requests"][0]["status"] == "PENDING"
    assert "confirmedAt" not in case.record()["cancel"]


def test_the_answer_about_another_request_confirms_nothing(
    case: Case, stack: InProcessStack
) -> None:
    event = cancelled(case)
    case.fault(*GET, "request_id")

    with pytest.raises(FunctionFailedError):
        stack.call("CancelRequest", event)

    assert "confirmedAt" not in case.record()["cancel"]


def test_a_request_past_its_end_is_cancelled_until_the_tsb_confirms_it(
    case: Case, stack: InProcessStack
) -> None:
    stack.configure(SilenceLimitMinutes="1440")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person), timeout=60)))
    case.await_request()
    case.advance(-100 * 86_400)  # TSB's clock is behind: the window has passed for us, not for it
    case.fault(*DELETE, **PAGE)
    result = case.end(arn)

    assert ("PollRequest", "TsbOutcomeUnknownError") in result.failures
    assert [one["httpStatus"] for one in result.calls if one["method"] == "DELETE"] == [404, 200]
    assert result.requests[0]["status"] == "CANCELLED"
    assert result.document["outcome"] == "CANCELLED"


def test_an_open_request_that_cannot_be_cancelled_is_noted_with_its_key(case: Case) -> None:
    case.fault(*DELETE, **PAGE, times=None)
    arn = case.start(case.request())
    case.await_request()
    case.cancel()
    result = case.end(arn)

    assert result.failures[-4:] == [("DiscardKey", "KeyDisposalError")] * 4
    assert result.requests[0]["status"] == "PENDING"
    assert result.document["outcome"] == "CANCELLED"
    assert "404" in result.record["unusedKey"]["error"]["message"]


# The HSM's keys -----------------------------------------------------------------------------------

SYSTEM_KEYS = [
    "approver-mgmt-backup-key-rsa-wrapping",
    "attestation-key",
    "rfc-timestamp-key",
    "timestamp-key",
]


def announced(stack: InProcessStack) -> set[str]:
    found = {one["detail-type"] for one in stack.events()}
    return found & {"Keys Unaccounted", "Key Drifted"}


@pytest.mark.parametrize("one", [PAGE, {**PAGE, "httpStatus": 200}], ids=["404 page", "200 page"])
def test_a_page_is_no_list_of_keys(stack: InProcessStack, one: Json) -> None:
    stack.configure(SweepKeys="delete", SweepKeyPrefix="")
    stack.control("POST", "/faults", {"method": "GET", "path": "/v1/key", "fault": one})

    with pytest.raises(FunctionFailedError) as caught:
        stack.call("SweepKeys", {})

    assert caught.value.name == "TsbOutcomeUnknownError"
    assert announced(stack) == set()


def test_what_says_nothing_about_a_key_is_no_drift(case: Case, stack: InProcessStack) -> None:
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    assert_issued(case.end(arn))
    for one in UNDECIDED:
        if "620" in one["who"]:
            continue  # the password is another: that is a difference (test_inventory.py)
        arm(case, "POST", ATTRIBUTES, one)

        with pytest.raises(FunctionFailedError) as caught:
            stack.call("AuditKeys", {})
        # The next run is behind this key and begins anew.
        stack.call("AuditKeys", {})

        assert caught.value.name == one["read"]
    assert announced(stack) == set()
    assert "drift" not in case.record() or case.record()["drift"]["codes"] == []


def test_the_tsb_s_own_keys_are_neither_reported_nor_asked_about(stack: InProcessStack) -> None:
    stack.configure(SweepKeys="delete", SweepKeyPrefix="")
    with stack.tsb() as tsb:
        key = json.loads((ROOT / "events/seed/create-key.json").read_text())
        tsb.create_key({**key, "label": "timestamp-key-of-theirs"})
        assert set(tsb.list_keys()) >= set(SYSTEM_KEYS)
    stack.control("DELETE", "/calls")

    swept = stack.call("SweepKeys", {})

    assert [one["label"] for one in swept["keys"]] == ["CA.code-signing", "timestamp-key-of-theirs"]
    assert not {call["label"] for call in stack.control("GET", "/calls")} & set(SYSTEM_KEYS)
