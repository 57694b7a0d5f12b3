"""The HSM's keys against what is on record: those nobody accounts for, and those that drifted."""

import copy
import json
from typing import Any

import pytest

from local.approver import Approver
from local.engine.invocation import FunctionFailedError
from local.engine.stack import ROOT, InProcessStack
from tests.case import Case, Json, Result, assert_failed, assert_issued, group, seed, token

ADA, BERT = (Approver.generate(name, "ec") for name in ("Ada", "Bert"))
KEY = "/v1/key"
ATTRIBUTES = ("POST", "/v1/key/attributes")
DELETE = ("POST", "/v1/key/deleteKey")
BLOCK = ("POST", "/v1/block")
FOR_EVER: Json = {"times": None}
CA_KEY = "CA.code-signing"
TRIAL: Json = json.loads((ROOT / "profiles/trial@1.json").read_text())  # wants unused keys deleted
# A run of either function takes up no key in its last minute; each of its calls takes 0.01 s.
KEPT_FREE = 60


def issued(case: Case) -> Result:
    arn = case.start(case.request(token(group(ADA))))
    case.approve(ADA)
    return case.end(arn)


def rejected(case: Case, request: Json) -> Result:
    arn = case.start(request)
    case.decline(case.stack.people["Ada Lovelace"], case.stack.people["Grace Hopper"])
    result = case.end(arn)
    assert result.record["outcome"] == "REJECTED"
    return result


def release_trial(stack: InProcessStack, version: int, unused_key: str) -> str:
    """Release a version of profile `trial` that says this of unused keys; its name."""
    content = {**TRIAL, "version": version, "unusedKey": unused_key}
    stack.release_profile(f"trial@{version}", content)
    return f"trial@{version}"


def left_over(case: Case) -> Result:
    """An enrollment that has ended and whose key should be gone: TSB could not delete it."""
    request = case.by_profile()
    case.fault(*DELETE, "status", httpStatus=503, **FOR_EVER)
    result = rejected(case, request)
    case.no_more_faults()
    return result


def two_hours_pass(stack: InProcessStack) -> None:
    """An enrollment that has ended may be at work on its key for an hour more."""
    stack.clock.advance(7200)


def make_key(stack: InProcessStack, label: str) -> None:
    """Somebody else's key in the same partition."""
    with stack.tsb() as tsb:
        tsb.create_key({**seed()["key"], "label": label})


def sweep(
    stack: InProcessStack, mode: str, prefix: str = "trial.", seconds: float | None = None
) -> Json:
    """A run of SweepKeys; what it answers."""
    stack.configure(SweepKeys=mode, SweepKeyPrefix=prefix)
    return dict(stack.call("SweepKeys", {}, seconds))


def audit(stack: InProcessStack, seconds: float | None = None) -> Json:
    """A run of AuditKeys; what it answers."""
    return dict(stack.call("AuditKeys", {}, seconds))


def found(swept: Json) -> dict[str, str]:
    return {one["label"]: one["why"] for one in swept["keys"]}


def told(stack: InProcessStack, detail_type: str) -> list[Json]:
    return [one["detail"] for one in stack.events() if one["detail-type"] == detail_type]


def labels(stack: InProcessStack) -> set[str]:
    """The keys there are in the HSM."""
    keys = stack.control("GET", "/state")["keys"]
    return {key["label"] for key in keys if not key["deleted"]}


# Keys that no enrollment accounts for -------------------------------------------------------------


def test_keys_are_reported_and_stay(case: Case, stack: InProcessStack) -> None:
    left_over(case)
    two_hours_pass(stack)
    make_key(stack, "other.key")

    swept = sweep(stack, "report", prefix="")

    assert found(swept) == {CA_KEY: "unclaimed", "other.key": "unclaimed", case.label: "unused"}
    assert [one["deleted"] for one in swept["keys"]] == [False, False, False]
    assert labels(stack) == {CA_KEY, "other.key", case.label}
    assert told(stack, "Keys Unaccounted") == [{"schemaVersion": "1", "mode": "report", **swept}]


def test_told_so_a_run_deletes_what_should_be_gone_and_nothing_else(
    case: Case, stack: InProcessStack
) -> None:
    left_over(case)
    two_hours_pass(stack)
    make_key(stack, "trial.other")

    swept = sweep(stack, "delete")

    deleted = {one["label"]: one["deleted"] for one in swept["keys"]}
    assert deleted == {"trial.other": False, case.label: True}
    assert labels(stack) == {CA_KEY, "trial.other"}
    record = case.record()
    assert (record["outcome"], record["unusedKey"]["result"]) == ("REJECTED", "deleted")
    assert case.record(f"label#{case.label}") == {}
    assert found(sweep(stack, "delete")) == {"trial.other": "unclaimed"}


@pytest.mark.parametrize("mode", ["report", "delete"])
def test_the_key_of_an_end_that_nobody_decided_is_accounted_for(
    case: Case, stack: InProcessStack, mode: str
) -> None:
    arn = case.start(case.by_profile())  # which wants unused keys deleted
    case.await_event("Enrollment Awaiting Approval")
    case.stop(arn)
    assert case.end(arn).record["outcome"] == "FAILED"
    two_hours_pass(stack)

    assert sweep(stack, mode)["keys"] == []
    assert labels(stack) == {CA_KEY, case.label}


def test_what_enrollments_account_for_is_not_named(stack: InProcessStack) -> None:
    names = ("made", "kept", "blocked", "open", "just-ended")
    made, kept, blocked, open_one, just_ended = (Case(stack, name) for name in names)
    arn = made.start(made.by_profile())
    made.approve(stack.people["Ada Lovelace"])
    assert_issued(made.end(arn))
    rejected(kept, kept.by_profile(release_trial(stack, 2, "keep")))
    rejected(blocked, blocked.by_profile(release_trial(stack, 3, "block")))
    two_hours_pass(stack)
    open_one.start(open_one.by_profile())
    open_one.await_request()
    left_over(just_ended)

    swept = sweep(stack, "delete")

    assert swept["lookedAt"] == 5
    assert swept["keys"] == []
    assert len(labels(stack) - {CA_KEY}) == 5
    assert told(stack, "Keys Unaccounted") == []


def test_labels_with_another_prefix_are_not_even_named(stack: InProcessStack) -> None:
    make_key(stack, "theirs.key")
    make_key(stack, "ours.key")

    assert found(sweep(stack, "report", prefix="ours.")) == {"ours.key": "unclaimed"}


def test_a_key_of_a_lost_enrollment_is_reported_only(case: Case, stack: InProcessStack) -> None:
    left_over(case)
    two_hours_pass(stack)
    table = stack.outputs["EnrollmentsTableName"]
    stack.client("dynamodb").delete_item(TableName=table, Key={"id": {"S": case.id}})

    assert found(sweep(stack, "delete")) == {case.label: "unrecorded"}
    assert case.label in labels(stack)


def test_a_key_that_was_not_blocked_is_reported(case: Case, stack: InProcessStack) -> None:
    request = case.by_profile(release_trial(stack, 2, "block"))
    case.fault(*BLOCK, "status", httpStatus=429, **FOR_EVER)
    rejected(case, request)
    two_hours_pass(stack)

    assert found(sweep(stack, "delete")) == {case.label: "unblocked"}
    assert case.label in labels(stack)


def test_another_key_under_the_label_of_an_ended_enrollment_is_not_deleted(
    case: Case, stack: InProcessStack
) -> None:
    left_over(case)
    two_hours_pass(stack)
    case.fault(*ATTRIBUTES, "forge", what="other_public_key", **FOR_EVER)

    (one,) = sweep(stack, "delete")["keys"]

    assert "KeyConflictError" in one["problem"]
    assert case.label in labels(stack)


@pytest.mark.parametrize("alike", [True, False])
def test_a_key_that_was_made_and_never_recorded_is_deleted_only_if_it_is_what_was_asked(
    case: Case, stack: InProcessStack, alike: bool
) -> None:
    request = case.by_profile()
    case.fault("POST", KEY, "drop", executed=True)
    case.fault("POST", KEY, "status", httpStatus=429, **FOR_EVER)
    result = case.end(case.start(request))
    two_hours_pass(stack)
    if not alike:
        case.fault(*ATTRIBUTES, "forge", what="extractable", **FOR_EVER)

    (one,) = sweep(stack, "delete")["keys"]

    assert_failed(result, "TsbUnavailableError", "CreateKey")
    assert "publicKeySha256" not in result.record
    assert one["deleted"] is alike
    assert (case.label in labels(stack)) is not alike


@pytest.mark.forged
def test_a_request_that_was_changed_in_the_bucket_lets_nothing_be_deleted(
    case: Case, stack: InProcessStack
) -> None:
    result = rejected(case, case.by_profile(release_trial(stack, 2, "keep")))
    two_hours_pass(stack)
    changed = {**json.loads(result.objects["request.json"]), "unusedKey": "delete"}
    put_request(case, json.dumps(changed).encode())

    assert found(sweep(stack, "delete")) == {case.label: "unrecorded"}
    assert case.label in labels(stack)


def put_request(case: Case, content: bytes) -> None:
    """Put another request in the place of the accepted one."""
    case.stack.client("s3").put_object(
        Bucket=case.stack.outputs["CsrBucketName"],
        Key=f"enrollments/{case.id}/request.json",
        Body=content,
    )


def test_a_key_that_was_made_by_a_wrong_clock_is_deleted(case: Case, stack: InProcessStack) -> None:
    request = case.by_profile(release_trial(stack, 2, "delete"))
    case.advance(3_660)
    result = case.end(case.start(request))
    two_hours_pass(stack)

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert "unusedKey" not in result.record
    assert found(sweep(stack, "delete")) == {case.label: "unused"}
    assert case.label not in labels(stack)
    assert case.record(f"label#{case.label}") == {}


@pytest.mark.forged
def test_an_enrollment_that_begins_anew_keeps_its_key(case: Case, stack: InProcessStack) -> None:
    left_over(case)
    two_hours_pass(stack)
    stack.configure(SweepKeys="delete", SweepKeyPrefix="trial.")
    run = stack.begin("SweepKeys", {})
    stack.at("SweepKeys", "UpdateItem")  # it has read the record, and is about to note its deed
    case.write(attempt=2)
    stack.until(lambda: run.ended, "end of SweepKeys")

    (one,) = run.result["keys"]
    assert one["problem"] == "the enrollment has just begun anew"
    assert case.label in labels(stack)


@pytest.mark.forged
def test_a_key_whose_csr_is_on_record_meanwhile_is_not_deleted(
    case: Case, stack: InProcessStack
) -> None:
    left_over(case)
    two_hours_pass(stack)
    stack.configure(SweepKeys="delete", SweepKeyPrefix="trial.")
    run = stack.begin("SweepKeys", {})
    stack.at("SweepKeys", "UpdateItem")
    case.write(csr={"bucket": "b", "key": "k"})
    stack.until(lambda: run.ended, "end of SweepKeys")

    assert [one["deleted"] for one in run.result["keys"]] == [False]
    assert case.label in labels(stack)


def test_a_run_goes_on_where_the_one_before_stopped(
    stack: InProcessStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [f"key.{number}" for number in range(5)]
    for label in made:
        make_key(stack, label)

    assert list(found(sweep(stack, "report", "key.", seconds=KEPT_FREE + 0.055))) == made[:2]
    monkeypatch.setattr("countersign.keys.sweep.MAX_SWEPT", 2)
    assert list(found(sweep(stack, "report", "key."))) == made[2:4]
    assert list(found(sweep(stack, "report", "key."))) == made[4:]
    assert list(found(sweep(stack, "report", "key."))) == made[:2]


def test_an_event_names_a_hundred_and_counts_the_others(stack: InProcessStack) -> None:
    broker = stack.simulator.broker
    broker.keys.update({f"key.{number:03}": copy.copy(broker.decoy()) for number in range(130)})

    swept = sweep(stack, "report", "key.")

    assert (len(swept["keys"]), swept["omittedCount"]) == (100, 30)
    (event,) = told(stack, "Keys Unaccounted")
    assert (len(event["keys"]), event["omittedCount"]) == (100, 30)


def test_off_asks_nobody(stack: InProcessStack) -> None:
    make_key(stack, "trial.other")
    stack.control("DELETE", "/calls")

    assert sweep(stack, "off")["keys"] == []
    assert stack.control("GET", "/calls") == []


def test_a_list_that_is_none_is_no_list(stack: InProcessStack) -> None:
    fault = {"kind": "status", "httpStatus": 200, "body": {"keys": []}}
    stack.control("POST", "/faults", {"method": "GET", "path": KEY, "fault": fault})

    with pytest.raises(FunctionFailedError, match="not a list of labels") as caught:
        sweep(stack, "report")

    assert caught.value.name == "TsbOutcomeUnknownError"


# Keys that drifted --------------------------------------------------------------------------------


DRIFTS = {
    "weaker_policy": ["KEY_POLICY", "ATTESTATION_POLICY"],
    "extractable": ["KEY_EXTRACTABLE", "KEY_ATTRIBUTES", "ATTESTATION_ATTRIBUTES"],
    "blocked": ["KEY_BLOCKED", "KEY_POLICY", "ATTESTATION_POLICY"],
    "other_public_key": ["KEY_PUBLIC_KEY"],
    "other_root": ["ATTESTATION_SIGNATURE"],
    "old_attestation": ["ATTESTATION_TIME"],
}


def test_a_key_that_differs_is_announced_once(case: Case, stack: InProcessStack) -> None:
    arn = case.start(case.request(token(group(ADA, BERT, quorum=2))))
    case.approve(ADA, BERT)
    case.end(arn)

    for what, codes in DRIFTS.items():
        assert audit(stack) == {"lookedAt": 1, "drifted": []}
        before = len(told(stack, "Key Drifted"))
        case.fault(*ATTRIBUTES, "forge", what=what, **FOR_EVER)
        for _ in range(2):
            assert audit(stack) == {"lookedAt": 1, "drifted": [case.label]}, what
        case.no_more_faults()

        (event,) = told(stack, "Key Drifted")[before:]
        assert (event["enrollmentId"], event["keyLabel"]) == (case.id, case.label)
        assert [one["code"] for one in event["findings"]] == codes
        assert all(one["finding"] for one in event["findings"])
        record = case.record()
        assert (record["outcome"], record["drift"]["codes"]) == ("ISSUED", codes)


def test_what_is_mended_and_differs_again_is_announced_again(
    case: Case, stack: InProcessStack
) -> None:
    issued(case)
    for _ in range(2):
        case.fault(*ATTRIBUTES, "forge", what="blocked", **FOR_EVER)
        audit(stack)
        case.no_more_faults()
        assert audit(stack)["drifted"] == []

    assert len(told(stack, "Key Drifted")) == 2


def drift_codes(stack: InProcessStack) -> list[str]:
    """What the only event about a key that drifted says."""
    (event,) = told(stack, "Key Drifted")
    return [one["code"] for one in event["findings"]]


def test_a_key_that_is_gone_is_a_difference(case: Case, stack: InProcessStack) -> None:
    issued(case)
    with stack.tsb() as tsb:
        tsb.delete_key(case.label)

    audit(stack)

    assert drift_codes(stack) == ["KEY_MISSING"]


def test_a_key_that_cannot_be_opened_is_a_difference(case: Case, stack: InProcessStack) -> None:
    issued(case)
    stack.simulator.broker.keys[case.label].password = "another"

    audit(stack)

    assert drift_codes(stack) == ["KEY_UNREADABLE"]


@pytest.mark.parametrize("change", ["gone", "weakened"])
@pytest.mark.forged
def test_an_accepted_request_that_was_changed_in_the_bucket_is_a_difference(
    case: Case, stack: InProcessStack, change: str
) -> None:
    result = issued(case)
    if change == "gone":
        stack.client("s3").delete_object(
            Bucket=stack.outputs["CsrBucketName"], Key=f"enrollments/{case.id}/request.json"
        )
    else:
        put_request(case, result.objects["request.json"].replace(b"3600", b"7200"))

    audit(stack)

    assert drift_codes(stack) == ["REQUEST_ACCEPTED"]


def test_only_issued_keys_are_audited(case: Case, stack: InProcessStack) -> None:
    rejected(case, case.by_profile(release_trial(stack, 2, "keep")))

    assert audit(stack)["lookedAt"] == 0


def asked_about(stack: InProcessStack) -> list[Any]:
    """The keys that TSB was asked about since the last poll, in this order."""
    calls = stack.control("GET", "/calls")
    stack.control("DELETE", "/calls")
    return [call["label"] for call in calls]


def test_an_audit_goes_on_where_the_one_before_stopped(stack: InProcessStack) -> None:
    first, second, third = (Case(stack, name) for name in ("first", "second", "third"))
    for case in (first, second, third):
        issued(case)
    stack.settle()
    asked_about(stack)

    looked = [audit(stack, seconds=KEPT_FREE + 0.065)["lookedAt"], audit(stack)["lookedAt"]]

    assert looked == [2, 1]
    assert asked_about(stack) == [third.label, second.label, first.label]  # the newest first
    assert audit(stack)["lookedAt"] == 3


def test_a_key_that_cannot_be_looked_at_keeps_no_run_from_the_others(
    stack: InProcessStack,
) -> None:
    older, newer = Case(stack, "older"), Case(stack, "newer")
    issued(older)
    issued(newer)
    newer.fault(*ATTRIBUTES, "status", httpStatus=503, **FOR_EVER)

    with pytest.raises(FunctionFailedError) as caught:
        audit(stack)
    newer.no_more_faults()
    asked_about(stack)

    assert caught.value.name == "TsbUnavailableError"
    assert audit(stack)["lookedAt"] == 1
    assert asked_about(stack) == [older.label]
    assert told(stack, "Key Drifted") == []


def test_the_key_of_an_end_that_nobody_decided_is_not_swept(
    case: Case, stack: InProcessStack
) -> None:
    stack.configure(SweepKeys="delete", SweepKeyPrefix="trial.")
    arn = case.start(case.by_profile(release_trial(stack, 2, "delete")))
    case.await_request()
    case.stop(arn)
    result = case.end(arn)
    stack.sleep(2 * 3600)

    swept = stack.call("SweepKeys", {})

    assert result.record["outcome"] == "FAILED"
    assert found(swept) == {}
    assert [key["deleted"] for key in case.state()["keys"]] == [False]
