"""A key whose CSR was not issued is kept, deleted or blocked, and no outcome depends on it."""

import json
from typing import Any

import pytest

from countersign.evidence.verifier import verify
from local.engine.stack import InProcessStack
from tests.case import Case, Json, Result, assert_failed, assert_issued

REQUEST = ("GET", "/v1/request/{id}")
ATTRIBUTES = ("POST", "/v1/key/attributes")
CSR = ("POST", "/v1/certificate/request")
CANCEL = ("DELETE", "/v1/request/{id}")
KEY = ("POST", "/v1/key")
DELETE = ("POST", "/v1/key/deleteKey")
BLOCK = ("POST", "/v1/block")
HSM_ERROR = {"errorCode": 621, "reason": "res.error.in.hsm", "message": "Error in HSM"}
FROZEN: Json = {"tokens": []}
ASKS_GRACE: Json = {"tokens": [{"groups": [{"quorum": 1, "approvers": ["Grace Hopper"]}]}]}


def by_trial_profile(case: Case, unused_key: str | None, **policy: Any) -> Json:
    """A request by a version of profile `trial` that says this of unused keys, None: nothing.

    Args:
        case: the enrollment.
        unused_key: `keep`, `delete` or `block`.
        policy: rules other than the profile's.
    """
    assert isinstance(case.stack, InProcessStack)  # for the type checker
    content = json.loads((case.stack.folder / "layer/profiles/trial@1.json").read_text())
    content |= {"version": 2, "policy": content["policy"] | policy, "unusedKey": unused_key}
    if unused_key is None:
        del content["unusedKey"]
    case.stack.release_profile("trial@2", content)
    return case.by_profile("trial@2")


def rejected(case: Case, request: Json) -> Result:
    """An enrollment that everybody who is asked declines."""
    arn = case.start(request)
    case.decline(case.stack.people["Ada Lovelace"], case.stack.people["Grace Hopper"])
    return case.end(arn)


def fault_for_ever(case: Case, call: tuple[str, str], **fault: Any) -> None:
    case.fault(*call, times=None, **fault)


def assert_rejected(result: Result) -> None:
    """As without any of this: the outcome, its approvals, its event."""
    assert result.status == "SUCCEEDED"
    assert result.document["outcome"] == result.record["outcome"] == "REJECTED"
    assert result.document["error"] is None
    assert [one["decision"] for one in result.document["approvers"]] == ["declined", "declined"]
    assert result.endings == ["Enrollment Rejected"]
    assert result.event_types[-1] == "Enrollment Rejected"


def claim_of_the_label(case: Case) -> Json:
    """Whose the label is, by the table; empty where it is free."""
    return case.record(f"label#{case.label}")


# Kept, deleted, blocked ---------------------------------------------------------------------------


def test_a_key_is_deleted_and_its_label_free_again(case: Case, stack: InProcessStack) -> None:
    request = by_trial_profile(case, "delete")
    result = rejected(case, request)

    assert_rejected(result)
    settled = result.record["unusedKey"]
    assert (settled["action"], settled["result"]) == ("delete", "deleted")
    assert "error" not in settled
    assert [key["deleted"] for key in result.keys] == [True]
    assert claim_of_the_label(case) == {}

    other = Case(stack, f"{case.id}-2")
    other.label = case.label
    arn = other.start({**request, "enrollmentId": other.id})
    other.approve(stack.people["Ada Lovelace"])
    assert other.end(arn).document["outcome"] == "ISSUED"


@pytest.mark.parametrize("unused_key", ["keep", None])
def test_a_key_is_kept_without_any_call(case: Case, unused_key: str | None) -> None:
    result = rejected(case, by_trial_profile(case, unused_key))

    assert_rejected(result)
    assert [key["deleted"] for key in result.keys] == [False]
    assert "unusedKey" not in result.record
    assert result.record["stage"] == "PollRequest"
    assert "DiscardKey" not in result.entered


def test_a_key_is_blocked_at_once_where_nobody_need_agree(case: Case) -> None:
    result = rejected(case, by_trial_profile(case, "block"))

    assert_rejected(result)
    assert result.record["unusedKey"]["result"] == "blocked"
    assert [key["blocked"] for key in result.keys] == [True]


def test_the_approvers_of_rule_block_are_asked_once_and_not_waited_for(
    case: Case, stack: InProcessStack
) -> None:
    result = rejected(case, by_trial_profile(case, "block", ruleBlock=ASKS_GRACE))

    assert_rejected(result)
    settled = result.record["unusedKey"]
    _, requested = result.requests
    assert (settled["result"], settled["requestId"]) == ("asked", requested["id"])
    assert (requested["kind"], requested["status"]) == ("block", "PENDING")
    assert result.count(*BLOCK) == 1
    assert [key["blocked"] for key in result.keys] == [False]
    stack.control("POST", "/decide", {"requestId": requested["id"], "decision": "approve"})
    assert [key["blocked"] for key in case.state()["keys"]] == [True]


def test_approvers_of_rule_block_are_not_asked_again_after_a_lost_answer(case: Case) -> None:
    request = by_trial_profile(case, "block", ruleBlock=ASKS_GRACE)
    fault_for_ever(case, BLOCK, kind="status", httpStatus=504, executed=True)
    result = rejected(case, request)

    assert_rejected(result)
    assert result.record["unusedKey"]["result"] == "failed"
    assert "nobody asks twice" in result.record["unusedKey"]["reason"]
    assert result.count(*BLOCK) == 1


def test_a_frozen_rule_block_leaves_the_key(case: Case) -> None:
    result = rejected(case, by_trial_profile(case, "block", ruleBlock=FROZEN))

    assert_rejected(result)
    assert result.record["unusedKey"]["result"] == "kept"
    assert "frozen" in result.record["unusedKey"]["reason"]
    assert result.count(*BLOCK) == 0
    assert [key["blocked"] for key in result.keys] == [False]


# What goes wrong there changes no outcome ---------------------------------------------------------


@pytest.mark.parametrize(
    ("unused_key", "call", "fault", "error"),
    [
        ("delete", DELETE, {"httpStatus": 503}, "TsbUnavailableError"),
        ("delete", DELETE, {"httpStatus": 504}, "TsbOutcomeUnknownError"),
        ("delete", DELETE, {"httpStatus": 400, "body": HSM_ERROR}, "TsbRefusedError"),
        ("delete", ATTRIBUTES, {"httpStatus": 503}, "TsbUnavailableError"),
        ("block", BLOCK, {"httpStatus": 429}, "TsbUnavailableError"),
        ("block", BLOCK, {"httpStatus": 503}, "TsbOutcomeUnknownError"),
    ],
    ids=["delete-503", "delete-504", "delete-400", "look-503", "block-429", "block-503"],
)
def test_what_fails_is_noted_and_changes_no_outcome(
    case: Case, unused_key: str, call: tuple[str, str], fault: Json, error: str
) -> None:
    request = by_trial_profile(case, unused_key)
    fault_for_ever(case, call, kind="status", **fault)
    result = rejected(case, request)

    assert_rejected(result)
    settled = result.record["unusedKey"]
    assert (settled["action"], settled["result"]) == (unused_key, "failed")
    assert settled["error"]["name"] == error
    assert [(key["deleted"], key["blocked"]) for key in result.keys] == [(False, False)]
    assert claim_of_the_label(case)["enrollmentId"] == case.id
    # What the TSB refused it would refuse again; the rest is tried a few times more.
    tries = [] if error == "TsbRefusedError" else [("DiscardKey", "KeyDisposalError")] * 4
    assert result.failures == tries


def test_another_key_under_the_label_is_left_alone(case: Case) -> None:
    request = by_trial_profile(case, "delete")
    fault_for_ever(case, ATTRIBUTES, kind="forge", what="other_public_key")
    result = rejected(case, request)

    assert_rejected(result)
    assert result.record["unusedKey"]["error"]["name"] == "KeyConflictError"
    assert [key["deleted"] for key in result.keys] == [False]
    assert result.count(*DELETE) == 0


# Enrollments that failed --------------------------------------------------------------------------


def test_a_key_of_a_forged_csr_is_deleted_and_the_finding_stays(
    case: Case, stack: InProcessStack
) -> None:
    request = by_trial_profile(case, "delete")
    fault_for_ever(case, REQUEST, kind="forge", what="added_san")
    arn = case.start(request)
    case.approve(stack.people["Ada Lovelace"])
    result = case.end(arn)

    assert result.record["error"]["reason"] == "CSR_ALTERNATIVE_NAMES"
    assert result.event_types[-2:] == ["Enrollment Quarantined", "Enrollment Failed"]
    assert result.record["unusedKey"]["result"] == "deleted"
    assert [key["deleted"] for key in result.keys] == [True]
    folder = case.evidence(result)
    assert b'"result":"deleted"' in folder["record.json"]
    verify(folder, stack.signing_key())


@pytest.mark.parametrize("unused_key", ["keep", "delete", "block"])
def test_after_an_end_that_nobody_decided_key_and_request_are_kept(
    case: Case, unused_key: str
) -> None:
    request = by_trial_profile(case, unused_key)
    fault_for_ever(case, REQUEST, kind="request_status", status="FROBNICATED")
    arn = case.start(request)
    case.await_request()
    case.advance(-10 * 86_400)  # the HSM's clock is far behind: it does not end the window
    result = case.end(arn)

    assert_failed(result, "TsbOutcomeUnknownError", "PollRequest")
    assert "FROBNICATED" in result.document["error"]["message"]
    assert result.requests[0]["status"] == "PENDING"
    assert [(key["deleted"], key["blocked"]) for key in result.keys] == [(False, False)]
    assert result.record["unusedKey"]["result"] == "kept"
    assert "nobody decided" in result.record["unusedKey"]["reason"]


def test_the_key_of_an_issued_csr_is_never_touched(case: Case, stack: InProcessStack) -> None:
    # All answers of StoreCsr get lost for a day, so the state machine takes it for failed.
    for _ in range(101):
        case.strike("StoreCsr", kind="error", name="Lambda.Unknown", when="after")
    arn = case.start(by_trial_profile(case, "delete"))
    case.approve(stack.people["Ada Lovelace"])
    result = case.end(arn)

    assert "DiscardKey" in result.entered
    assert "unusedKey" not in result.record
    assert result.count(*DELETE) == 0
    assert_issued(result)


def test_an_older_key_under_the_label_of_a_cancelled_enrollment_is_left_alone(
    case: Case, stack: InProcessStack
) -> None:
    request = by_trial_profile(case, "delete")
    case.fault(*KEY, kind="status", httpStatus=504, executed=True)
    arn = case.start(request)
    case.await_calls(KEY[1], 1, "POST")
    # It is what was requested, and was there before: somebody else's.
    stack.simulator.broker.keys[case.label].created -= 3600
    case.cancel()
    result = case.end(arn)

    assert result.document["outcome"] == "CANCELLED"
    assert result.record["unusedKey"]["error"]["name"] == "KeyConflictError"
    assert [key["deleted"] for key in result.keys] == [False]


@pytest.mark.forged
def test_a_key_is_left_alone_where_its_enrollment_has_just_been_ended(
    case: Case, stack: InProcessStack
) -> None:
    arn = case.start(by_trial_profile(case, "delete"))
    case.decline(stack.people["Ada Lovelace"], stack.people["Grace Hopper"])
    stack.at("DiscardKey", "UpdateItem")
    case.write(outcome="REJECTED", status="REJECTED", announced="2026-11-26T12:00:00Z")
    before = case.record()
    result = case.end(arn, event=False)

    assert result.record == before
    assert [key["deleted"] for key in result.keys] == [False]


# What needs no cancelling ------------------------------------------------------------------------


def cancelled_at_the_tsb(result: Result) -> list[Json]:
    """The calls that cancel a request, whatever the TSB said to them."""
    return [call for call in result.calls if (call["method"], call["path"]) == CANCEL]


def test_a_request_that_the_tsb_has_cancelled_is_not_cancelled_again(case: Case) -> None:
    arn = case.start(by_trial_profile(case, "keep"))
    case.await_request()
    case.cancel()
    result = case.end(arn)

    assert "DiscardKey" in result.entered
    assert result.record["cancel"]["confirmedAt"]
    assert len(cancelled_at_the_tsb(result)) == 1


@pytest.mark.parametrize("end", ["declined", "forged"])
def test_a_request_that_has_ended_is_not_cancelled(
    case: Case, stack: InProcessStack, end: str
) -> None:
    request = by_trial_profile(case, "block")
    if end == "declined":
        result = rejected(case, request)
    else:
        fault_for_ever(case, REQUEST, kind="forge", what="added_san")
        arn = case.start(request)
        case.approve(stack.people["Ada Lovelace"])
        result = case.end(arn)

    assert result.record["unusedKey"]["result"] == "blocked"
    assert cancelled_at_the_tsb(result) == []


# DiscardKey may run twice -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unused_key", "rules", "settled"),
    [
        ("delete", {}, "deleted"),
        ("block", {}, "blocked"),
        ("block", {"ruleBlock": ASKS_GRACE}, "asked"),
    ],
    ids=["deleted", "blocked", "asked"],
)
def test_it_may_run_twice(case: Case, unused_key: str, rules: Json, settled: str) -> None:
    case.strike("DiscardKey", kind="die", when="after")
    result = rejected(case, by_trial_profile(case, unused_key, **rules))

    assert result.failures == [("DiscardKey", "Runtime.ExitError")]
    assert_rejected(result)
    assert result.record["unusedKey"]["result"] == settled
    assert result.count(*DELETE) + result.count(*BLOCK) == 1


def test_a_retry_asks_nobody_twice_to_block(case: Case, stack: InProcessStack) -> None:
    arn = case.start(by_trial_profile(case, "block", ruleBlock=ASKS_GRACE))
    case.decline(stack.people["Ada Lovelace"], stack.people["Grace Hopper"])
    # Killed between TSB's answer and the write that puts it on record.
    (call,) = case.await_calls(BLOCK[1], 1, "POST")
    stack.kill_caller(call)
    result = case.end(arn)

    assert result.failures == [("DiscardKey", "Runtime.ExitError")]
    assert_rejected(result)
    assert result.record["unusedKey"]["result"] == "failed"
    assert result.count(*BLOCK) == 1


def test_what_the_approvers_were_asked_stays_on_record_whatever_a_retry_comes_to(
    case: Case,
) -> None:
    request = by_trial_profile(case, "block", ruleBlock=ASKS_GRACE)
    case.strike("DiscardKey", kind="die", when="after")
    case.fault(*ATTRIBUTES, "status", httpStatus=503, skip=1, times=None)
    result = rejected(case, request)

    assert result.failures == [
        ("DiscardKey", "Runtime.ExitError"),
        *[("DiscardKey", "KeyDisposalError")] * 4,
    ]
    assert_rejected(result)
    assert result.record["unusedKey"]["result"] == "asked"
    assert result.record["unusedKey"]["error"]["name"] == "TsbUnavailableError"


@pytest.mark.forged
def test_an_unanswered_request_s_key_is_deleted_only_if_it_is_the_enrollment_s(
    case: Case, stack: InProcessStack
) -> None:
    request = by_trial_profile(case, "keep")
    case.fault(*CSR, kind="drop", executed=True)
    arn = case.start(request)
    stack.at("DiscardKey", "GetItem")
    case.write(publicKeySha256="0" * 64)
    result = case.end(arn)

    assert_failed(result, "KeyConflictError", "DiscardKey")
    assert [key["deleted"] for key in result.keys] == [False]
