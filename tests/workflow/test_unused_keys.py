"""A key whose CSR was not issued is kept, deleted or blocked, and no outcome depends on it."""

from pathlib import Path
from typing import Any

import pytest

from countersign import enrollment
from countersign import models as m
from countersign.errors import KeyConflictError, TsbNoAnswerError
from local.approver import Approver
from tests.integration.house import Ended, House, Json

REQUEST = ("GET", "/v1/request/{id}")
ATTRIBUTES = ("POST", "/v1/key/attributes")
DELETE = ("POST", "/v1/key/deleteKey")
BLOCK = ("POST", "/v1/block")
HSM_ERROR = {"errorCode": 621, "reason": "res.error.in.hsm", "message": "Error in HSM"}
FROZEN: Json = {"tokens": []}


def asked_of(*people: Approver) -> Json:
    """A rule of the profile's that asks these people."""
    return {"tokens": [{"groups": [{"quorum": 1, "approvers": [one.name for one in people]}]}]}


def rejected(
    house: House, shelf: Path, unused_key: str | None, *faults: tuple[Any, ...], **policy: Any
) -> tuple[Ended, Json]:
    """An enrollment by profile that everybody declines, and its request."""
    people = house.adopt(shelf, unused_key, **policy)
    request = house.by_profile()
    for (method, path), fault in faults:
        house.fault(request, method, path, **fault)
    return house.enroll(request, declining=people.values()), request


def calls(house: House, request: Json, call: tuple[str, str]) -> int:
    made = house.simulator.calls(request["key"]["label"])
    return sum((one["method"], one["path"]) == call for one in made)


def assert_rejected(ended: Ended) -> None:
    """As without any of this: the outcome, its approvals, its event."""
    assert ended.error is None
    assert ended.document.outcome == ended.record["outcome"] == "REJECTED"
    assert [one.decision for one in ended.document.approvals] == ["declined", "declined"]
    assert ended.event_types[-1] == "Enrollment Rejected"


def test_a_key_is_deleted_and_its_label_free_again(house: House, tmp_path: Path) -> None:
    ended, request = rejected(house, tmp_path, "delete")

    assert_rejected(ended)
    settled = ended.record["unusedKey"]
    assert (settled["action"], settled["result"]) == ("delete", "deleted")
    assert m.SettledKey.read(settled).error is None
    assert house.keys(request) == []
    assert house.records.get(f"label#{request['key']['label']}") is None
    again = {**request, "enrollmentId": f"{ended.id}-2"}
    assert house.enroll(again, house.adopt(tmp_path, "delete")["Ada Lovelace"]).record["csr"]


@pytest.mark.parametrize("unused_key", ["keep", None])
def test_a_key_is_kept_without_any_call(
    house: House, tmp_path: Path, unused_key: str | None
) -> None:
    ended, request = rejected(house, tmp_path, unused_key)

    assert_rejected(ended)
    assert house.keys(request)
    assert "unusedKey" not in ended.record
    assert ended.record["stage"] == "PollRequest"


def test_a_key_is_blocked_at_once_where_nobody_need_agree(house: House, tmp_path: Path) -> None:
    ended, request = rejected(house, tmp_path, "block")

    assert_rejected(ended)
    assert ended.record["unusedKey"]["result"] == "blocked"
    assert house.simulator.broker.keys[request["key"]["label"]].blocked


def test_the_approvers_of_rule_block_are_asked_once_and_not_waited_for(
    house: House, tmp_path: Path
) -> None:
    grace = Approver.generate("Grace Hopper", "ec")
    ended, request = rejected(house, tmp_path, "block", ruleBlock=asked_of(grace))

    assert_rejected(ended)
    settled = ended.record["unusedKey"]
    asked = house.simulator.broker.requests[settled["requestId"]]
    assert (settled["result"], asked.kind, asked.status) == ("asked", "block", "PENDING")
    assert not house.simulator.broker.keys[request["key"]["label"]].blocked
    house.simulator.broker.vote(asked, next(iter(asked.tasks)), approves=True)
    assert house.simulator.broker.keys[request["key"]["label"]].blocked


def test_approvers_of_rule_block_are_not_asked_again_after_a_lost_answer(
    house: House, tmp_path: Path
) -> None:
    grace = Approver.generate("Grace Hopper", "ec")
    lost = (BLOCK, {"kind": "status", "httpStatus": 504, "executed": True})
    ended, request = rejected(house, tmp_path, "block", lost, ruleBlock=asked_of(grace))

    assert_rejected(ended)
    assert ended.record["unusedKey"]["result"] == "failed"
    assert "nobody asks twice" in ended.record["unusedKey"]["reason"]
    assert calls(house, request, BLOCK) == 1


def test_a_frozen_rule_block_leaves_the_key(house: House, tmp_path: Path) -> None:
    ended, request = rejected(house, tmp_path, "block", ruleBlock=FROZEN)

    assert_rejected(ended)
    assert ended.record["unusedKey"]["result"] == "kept"
    assert "frozen" in ended.record["unusedKey"]["reason"]
    assert calls(house, request, BLOCK) == 0


@pytest.mark.parametrize(
    ("unused_key", "fault", "error"),
    [
        ("delete", (DELETE, {"kind": "status", "httpStatus": 503}), "TsbUnavailableError"),
        ("delete", (DELETE, {"kind": "status", "httpStatus": 504}), "TsbNoAnswerError"),
        (
            "delete",
            (DELETE, {"kind": "status", "httpStatus": 400, "body": HSM_ERROR}),
            "TsbRefusedError",
        ),
        ("delete", (ATTRIBUTES, {"kind": "status", "httpStatus": 503}), "TsbUnavailableError"),
        ("block", (BLOCK, {"kind": "status", "httpStatus": 503}), "TsbUnavailableError"),
    ],
)
def test_what_fails_is_noted_and_changes_no_outcome(
    house: House, tmp_path: Path, unused_key: str, fault: Any, error: str
) -> None:
    ended, request = rejected(house, tmp_path, unused_key, fault)

    assert_rejected(ended)
    settled = ended.record["unusedKey"]
    assert (settled["action"], settled["result"]) == (unused_key, "failed")
    assert settled["error"]["name"] == error
    assert house.keys(request)
    assert house.records.get(f"label#{request['key']['label']}")


def test_another_key_under_the_label_is_left_alone(house: House, tmp_path: Path) -> None:
    other = (ATTRIBUTES, {"kind": "forge", "what": "other_public_key"})
    ended, request = rejected(house, tmp_path, "delete", other)

    assert_rejected(ended)
    assert ended.record["unusedKey"]["error"]["name"] == "KeyConflictError"
    assert house.keys(request)
    assert calls(house, request, DELETE) == 0


def test_a_key_of_a_forged_csr_is_deleted_and_the_finding_stays(
    house: House, tmp_path: Path
) -> None:
    people = house.adopt(tmp_path, "delete")
    request = house.by_profile()
    house.fault(request, *REQUEST, kind="forge", what="added_san")

    ended = house.enroll(request, people["Ada Lovelace"])

    assert ended.record["error"]["reason"] == "CSR_ALTERNATIVE_NAMES"
    assert ended.event_types[-2:] == ["Enrollment Quarantined", "Enrollment Failed"]
    assert ended.record["unusedKey"]["result"] == "deleted"
    assert house.keys(request) == []
    evidence = house.keep_evidence(ended.events[-1])
    assert b'"result":"deleted"' in evidence["record.json"]


@pytest.mark.parametrize("unused_key", ["keep", "delete", "block"])
def test_a_request_that_is_still_open_is_cancelled(
    house: House, tmp_path: Path, unused_key: str
) -> None:
    house.adopt(tmp_path, unused_key)
    request = house.by_profile()
    house.fault(request, *REQUEST, kind="request_status", status="FROBNICATED")

    ended = house.enroll(request)

    assert "FROBNICATED" in ended.record["error"]["message"]
    (asked, *_) = [
        one
        for one in house.simulator.broker.requests.values()
        if one.key.label == request["key"]["label"]
    ]
    assert asked.status == "CANCELLED"
    expected = {"keep": "kept", "delete": "deleted", "block": "asked"}
    assert ended.record["unusedKey"]["result"] == expected[unused_key]


def test_the_key_of_an_issued_csr_is_never_touched(house: House, tmp_path: Path) -> None:
    people = house.adopt(tmp_path, "delete")
    request = house.by_profile()
    ended = house.enroll(request, people["Ada Lovelace"])
    given = m.DiscardKeyInput(
        execution_arn=ended.record["executionArn"],
        enrollment_id=ended.id,
        request=m.EnrollmentRequest.model_validate_json(
            ended.objects[f"enrollments/{ended.id}/request.json"]
        ),
        status="REJECTED",
        unanswered=False,
    )

    enrollment.discard_key(given, records=house.records, tsb=house.tsb, password=str)

    assert house.keys(request)
    assert "unusedKey" not in (house.records.get(ended.id) or {})


def discarding(house: House, ended: Ended, **more: Any) -> m.DiscardedKey:
    """DiscardKey once more, for an enrollment whose end was not yet on record."""
    item = {**ended.record, **more}
    for name in ("outcome", "announced"):
        item.pop(name, None)
    house.records.put(item, when={"id": ended.id})
    asked = ended.objects[f"enrollments/{ended.id}/request.json"]
    given = m.DiscardKeyInput(
        execution_arn=ended.record["executionArn"],
        enrollment_id=ended.id,
        request=m.EnrollmentRequest.model_validate_json(asked),
        status="REJECTED",
        unanswered=False,
    )
    return enrollment.discard_key(given, records=house.records, tsb=house.tsb, password=str)


def test_it_may_run_twice(house: House, tmp_path: Path) -> None:
    deleted, _ = rejected(house, tmp_path, "delete")
    blocked, request = rejected(house, tmp_path, "block")

    for ended, result in ((deleted, "deleted"), (blocked, "blocked")):
        assert discarding(house, ended).status == "REJECTED"
        assert (house.records.get(ended.id) or {})["unusedKey"]["result"] == result
    assert calls(house, request, BLOCK) == 1


def test_a_retry_asks_nobody_twice_to_block(house: House, tmp_path: Path) -> None:
    grace = Approver.generate("Grace Hopper", "ec")
    ended, request = rejected(house, tmp_path, "block", ruleBlock=asked_of(grace))

    discarding(house, ended)
    discarding(house, ended, unusedKey={"action": "block", "result": "asking", "at": "x"})

    assert calls(house, request, BLOCK) == 1
    assert (house.records.get(ended.id) or {})["unusedKey"]["result"] == "failed"


def test_an_unanswered_request_s_key_is_deleted_only_if_it_is_the_enrollment_s(
    house: House, tmp_path: Path
) -> None:
    ended, request = rejected(house, tmp_path, "keep")
    house.records.update(ended.id, {"publicKeySha256": "0" * 64})
    given = {
        "executionArn": ended.record["executionArn"],
        "enrollmentId": ended.id,
        "request": m.EnrollmentRequest.model_validate_json(
            ended.objects[f"enrollments/{ended.id}/request.json"]
        ),
        # As the release before calls this state.
        "failure": {"state": "RequestCsr", "error": TsbNoAnswerError.__name__, "cause": ""},
    }

    with pytest.raises(KeyConflictError):
        enrollment.discard_key(
            m.DiscardKeyInput.read(given), records=house.records, tsb=house.tsb, password=str
        )

    assert house.keys(request)
