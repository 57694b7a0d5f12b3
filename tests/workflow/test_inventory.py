"""The HSM's keys against what is on record: those nobody accounts for, and those that drifted."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from countersign import inventory
from countersign import models as m
from countersign.errors import TsbNoAnswerError, TsbUnavailableError
from countersign.tsb import TsbClient
from local.approver import Approver
from local.tsb_simulator.faults import FaultRule
from tests.integration import house as houses
from tests.integration.house import NAME, Ended, House, Json
from tests.integration.house import house as new_house
from tests.integration.test_unused_keys import DELETE, rejected

ADA, BERT = (Approver.generate(name, "ec") for name in ("Ada", "Bert"))
ATTRIBUTES = ("POST", "/v1/key/attributes")
LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """One for each test: a run looks at every key there is."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", houses.REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with new_house() as one:
        yield one


def stranger(house: House, label: str = "other.key") -> None:
    """Somebody else's key in the same partition."""
    key = house.request(ADA)["key"]
    house.tsb.create_key({**key, "label": label})


def left_over(house: House, shelf: Path) -> tuple[Ended, Json]:
    """An enrollment that ended long ago and whose key should be gone, and is not."""
    fault = (DELETE, {"kind": "status", "httpStatus": 503})
    ended, request = rejected(house, shelf, "delete", fault)
    house.simulator.faults.clear()
    house.records.update(ended.id, {"times.ended": LONG_AGO})
    return ended, request


def found(swept: Json) -> dict[str, str]:
    return {one["label"]: one["why"] for one in swept["keys"]}


# Keys that no enrollment accounts for -------------------------------------------------------------


def test_keys_are_reported_and_stay(house: House, tmp_path: Path) -> None:
    _, request = left_over(house, tmp_path)
    stranger(house)

    swept = house.sweep("report")

    assert found(swept) == {"other.key": "unclaimed", request["key"]["label"]: "unused"}
    assert [one["deleted"] for one in swept["keys"]] == [False, False]
    assert set(house.simulator.broker.keys) == {"other.key", request["key"]["label"]}
    assert house.told("Keys Unaccounted") == [{"schemaVersion": "1", "mode": "report", **swept}]


def test_told_so_a_run_deletes_what_should_be_gone_and_nothing_else(
    house: House, tmp_path: Path
) -> None:
    ended, request = left_over(house, tmp_path)
    stranger(house)

    swept = house.sweep("delete")

    assert {one["label"]: one["deleted"] for one in swept["keys"]} == {
        "other.key": False,
        request["key"]["label"]: True,
    }
    assert set(house.simulator.broker.keys) == {"other.key"}
    record = house.records.get(ended.id) or {}
    assert (record["outcome"], record["unusedKey"]["result"]) == ("REJECTED", "deleted")
    assert house.records.get(f"label#{request['key']['label']}") is None
    assert found(house.sweep("delete")) == {"other.key": "unclaimed"}


def test_what_enrollments_account_for_is_not_named(house: House, tmp_path: Path) -> None:
    house.enroll(house.request(ADA), ADA)  # issued
    kept, _ = rejected(house, tmp_path, "keep")
    blocked, _ = rejected(house, tmp_path, "block")
    for ended in (kept, blocked):
        house.records.update(ended.id, {"times.ended": LONG_AGO})
    open_one, _ = left_over(house, tmp_path)
    item = {k: v for k, v in (house.records.get(open_one.id) or {}).items() if k != "outcome"}
    house.records.put(item, when={"id": open_one.id})
    just_ended, _ = left_over(house, tmp_path)
    house.records.update(just_ended.id, {"times.ended": m.timestamp(m.now())})

    swept = house.sweep("delete")

    assert swept["lookedAt"] == 5
    assert swept["keys"] == []
    assert len(house.simulator.broker.keys) == 5
    assert house.told("Keys Unaccounted") == []


def test_labels_with_another_prefix_are_not_even_named(house: House) -> None:
    stranger(house, "theirs.key")
    stranger(house, "ours.key")

    assert found(house.sweep("report", "ours.")) == {"ours.key": "unclaimed"}


def test_a_key_of_a_lost_enrollment_is_reported_only(house: House, tmp_path: Path) -> None:
    ended, request = left_over(house, tmp_path)
    client = boto3.client("dynamodb")
    client.delete_item(TableName=NAME, Key={"id": {"S": ended.id}})

    assert found(house.sweep("delete")) == {request["key"]["label"]: "unrecorded"}
    assert house.keys(request)


def test_a_key_that_was_not_blocked_is_reported(house: House, tmp_path: Path) -> None:
    fault = (("POST", "/v1/block"), {"kind": "status", "httpStatus": 503})
    ended, request = rejected(house, tmp_path, "block", fault)
    house.records.update(ended.id, {"times.ended": LONG_AGO})

    assert found(house.sweep("delete")) == {request["key"]["label"]: "unblocked"}
    assert house.keys(request)


def test_another_key_under_the_label_of_an_ended_enrollment_is_not_deleted(
    house: House, tmp_path: Path
) -> None:
    _, request = left_over(house, tmp_path)
    house.fault(request, *ATTRIBUTES, kind="forge", what="other_public_key")

    (one,) = house.sweep("delete")["keys"]

    assert "KeyConflictError" in one["problem"]
    assert house.keys(request)


@pytest.mark.parametrize("alike", [True, False])
def test_a_key_that_was_made_and_never_recorded_is_deleted_only_if_it_is_what_was_asked(
    house: House, tmp_path: Path, alike: bool
) -> None:
    ended, request = left_over(house, tmp_path)
    item = house.records.get(ended.id) or {}
    del item["publicKeySha256"]
    house.records.put(item, when={"id": ended.id})
    if not alike:
        house.fault(request, *ATTRIBUTES, kind="forge", what="extractable")

    (one,) = house.sweep("delete")["keys"]

    assert one["deleted"] is alike
    assert house.keys(request) == ([] if alike else [request["key"]["label"]])


def test_a_request_that_was_changed_in_the_bucket_lets_nothing_be_deleted(
    house: House, tmp_path: Path
) -> None:
    ended, request = rejected(house, tmp_path, "keep")
    house.records.update(ended.id, {"times.ended": LONG_AGO})
    name = f"enrollments/{ended.id}/request.json"
    changed = {**json.loads(ended.objects[name]), "unusedKey": "delete"}
    boto3.client("s3").put_object(Bucket=NAME, Key=name, Body=json.dumps(changed).encode())

    assert found(house.sweep("delete")) == {request["key"]["label"]: "unrecorded"}
    assert house.keys(request)


def test_an_enrollment_that_begins_anew_keeps_its_key(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, request = left_over(house, tmp_path)
    accepted = inventory._accepted

    def claimed_again(record: Json, objects: Any) -> Any:
        house.records.update(ended.id, {"attempt": 2})
        return accepted(record, objects)

    monkeypatch.setattr(inventory, "_accepted", claimed_again)

    (one,) = house.sweep("delete")["keys"]

    assert one["problem"] == "the enrollment has just begun anew"
    assert house.keys(request)


def test_a_run_goes_on_where_the_one_before_stopped(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [f"key.{number}" for number in range(5)]
    for label in labels:
        stranger(house, label)

    assert list(found(house.sweep("report", more=2))) == labels[:2]
    monkeypatch.setattr(inventory, "MAX_SWEPT", 2)
    assert list(found(house.sweep("report"))) == labels[2:4]
    assert list(found(house.sweep("report"))) == labels[4:]
    assert list(found(house.sweep("report"))) == labels[:2]


def test_an_event_names_a_hundred_and_counts_the_others(house: House) -> None:
    house.simulator.broker.keys.update(
        {f"key.{number:03}": copy.copy(house.simulator.broker.decoy()) for number in range(130)}
    )

    swept = house.sweep("report")

    assert (len(swept["keys"]), swept["leftOut"]) == (100, 30)


def test_off_asks_nobody(house: House) -> None:
    stranger(house)
    house.simulator.forget_calls()

    assert house.sweep("off")["keys"] == []
    assert house.simulator.calls() == []


# Keys that drifted --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "codes"),
    [
        ("weaker_policy", ["KEY_POLICY"]),
        ("extractable", ["KEY_EXTRACTABLE", "KEY_ATTRIBUTES"]),
        ("blocked", ["KEY_BLOCKED", "KEY_POLICY"]),
        ("other_public_key", ["KEY_PUBLIC_KEY"]),
        ("other_root", ["ATTESTATION_SIGNATURE"]),
        ("old_attestation", ["ATTESTATION_TIME"]),
    ],
)
def test_a_key_that_differs_is_announced_once(house: House, what: str, codes: list[str]) -> None:
    request = house.request(ADA, BERT, quorum=2)
    ended = house.enroll(request, ADA, BERT)
    assert house.audit() == {"lookedAt": 1, "drifted": []}
    house.fault(request, *ATTRIBUTES, kind="forge", what=what)

    for _ in range(2):
        assert house.audit() == {"lookedAt": 1, "drifted": [request["key"]["label"]]}

    (event,) = house.told("Key Drifted")
    assert (event["enrollmentId"], event["keyLabel"]) == (ended.id, request["key"]["label"])
    assert [one["code"] for one in event["findings"]] == codes
    assert all(one["finding"] for one in event["findings"])
    record = house.records.get(ended.id) or {}
    assert (record["outcome"], record["drift"]["codes"]) == ("ISSUED", codes)


def test_what_is_mended_and_differs_again_is_announced_again(house: House) -> None:
    request = house.request(ADA)
    house.enroll(request, ADA)
    for _ in range(2):
        house.fault(request, *ATTRIBUTES, kind="forge", what="blocked")
        house.audit()
        house.simulator.faults.clear()
        assert house.audit()["drifted"] == []

    assert len(house.told("Key Drifted")) == 2


def test_a_key_that_is_gone_is_a_difference(house: House) -> None:
    request = house.request(ADA)
    house.enroll(request, ADA)
    house.tsb.delete_key(request["key"]["label"])

    house.audit()

    (event,) = house.told("Key Drifted")
    assert [one["code"] for one in event["findings"]] == ["KEY_MISSING"]


def test_a_key_that_cannot_be_opened_is_a_difference(house: House) -> None:
    request = house.request(ADA)
    house.enroll(request, ADA)
    house.simulator.broker.keys[request["key"]["label"]].password = "another"  # noqa: S105

    house.audit()

    (event,) = house.told("Key Drifted")
    assert [one["code"] for one in event["findings"]] == ["KEY_UNREADABLE"]


@pytest.mark.parametrize("change", ["gone", "weakened"])
def test_an_accepted_request_that_was_changed_in_the_bucket_is_a_difference(
    house: House, change: str
) -> None:
    ended = house.enroll(house.request(ADA), ADA)
    name, s3 = f"enrollments/{ended.id}/request.json", boto3.client("s3")
    if change == "gone":
        s3.delete_object(Bucket=NAME, Key=name)
    else:
        s3.put_object(Bucket=NAME, Key=name, Body=ended.objects[name].replace(b"3600", b"7200"))

    house.audit()

    (event,) = house.told("Key Drifted")
    assert [one["code"] for one in event["findings"]] == ["REQUEST_ACCEPTED"]


def test_only_issued_keys_are_audited(house: House, tmp_path: Path) -> None:
    rejected(house, tmp_path, "keep")

    assert house.audit()["lookedAt"] == 0


def test_an_audit_goes_on_where_the_one_before_stopped(house: House) -> None:
    requests = [house.request(ADA) for _ in range(3)]
    for number, request in enumerate(requests):
        ended = house.enroll(request, ADA)
        house.records.update(ended.id, {"acceptedAt": f"2026-01-0{number + 1}T00:00:00Z"})
    house.simulator.forget_calls()

    looked = [house.audit(more=2)["lookedAt"], house.audit()["lookedAt"]]

    assert looked == [2, 1]
    labels = [request["key"]["label"] for request in reversed(requests)]
    assert [call["label"] for call in house.simulator.calls()] == labels
    assert house.audit()["lookedAt"] == 3


def test_a_key_that_cannot_be_looked_at_keeps_no_run_from_the_others(house: House) -> None:
    first, second = (house.request(ADA) for _ in range(2))
    for day, request in ((2, first), (1, second)):
        ended = house.enroll(request, ADA)
        house.records.update(ended.id, {"acceptedAt": f"2026-01-0{day}T00:00:00Z"})
    house.fault(first, *ATTRIBUTES, kind="status", httpStatus=503)

    with pytest.raises(TsbUnavailableError):
        house.audit()
    house.simulator.faults.clear()
    house.simulator.forget_calls()

    assert house.audit()["lookedAt"] == 1
    assert [call["label"] for call in house.simulator.calls()] == [second["key"]["label"]]
    assert house.told("Key Drifted") == []


def test_a_list_that_is_none_is_no_list(house: House) -> None:
    body: Json = {"keys": []}
    house.simulator.faults.arm(
        FaultRule.model_validate(
            {
                "method": "GET",
                "path": "/v1/key",
                "fault": {"kind": "status", "httpStatus": 200, "body": body},
            }
        )
    )

    with pytest.raises(TsbNoAnswerError, match="not a list of labels"):
        TsbClient.list_keys(house.tsb)
