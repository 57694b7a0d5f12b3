"""Answers that are not TSB's, or that decide nothing: they delay, and nothing else.

Which answer is which error: tests/unit/test_answers.py.
"""

import json
from typing import Any

import pytest

from local.engine.invocation import FunctionFailedError
from local.engine.stack import ROOT, InProcessStack
from tests.case import Case, Json, assert_issued, group, people, token

ANSWERS: dict[str, list[Json]] = json.loads((ROOT / "tests/answers.json").read_text())
UNDECIDED = [
    one
    for one in ANSWERS["notTsb"] + ANSWERS["tsb"]
    if one["read"] in ("TsbUnavailableError", "TsbOutcomeUnknownError")
]
REQUEST, ATTRIBUTES = "/v1/request/{id}", "/v1/key/attributes"
GET = ("GET", REQUEST)
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
    stack.configure(SilenceLimitMinutes="1440")
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
        for label in (*SYSTEM_KEYS, "timestamp-key-of-theirs"):
            tsb.create_key({**key, "label": label})
    stack.control("DELETE", "/calls")

    swept = stack.call("SweepKeys", {})

    assert [one["label"] for one in swept["keys"]] == ["CA.code-signing", "timestamp-key-of-theirs"]
    assert not {call["label"] for call in stack.control("GET", "/calls")} & set(SYSTEM_KEYS)
