"""Bounds of what one run or one enrollment may take, at their real values."""

import copy
import time

import pytest

from countersign.aws import secrets
from countersign.aws.objects import Objects
from local.engine.stack import InProcessStack


def test_a_sweep_takes_up_a_thousand_labels_and_goes_on_later(
    unrecorded_stack: InProcessStack,
) -> None:
    broker = unrecorded_stack.simulator.broker
    broker.keys.update({f"key.{number:04}": copy.copy(broker.decoy()) for number in range(1_001)})
    unrecorded_stack.configure(SweepKeys="report", SweepKeyPrefix="key.")

    looked_at = [unrecorded_stack.call("SweepKeys", {})["lookedAt"] for _ in range(2)]

    assert looked_at == [1_000, 1]


def test_an_audit_takes_up_two_hundred_keys_and_goes_on_later(
    unrecorded_stack: InProcessStack,
) -> None:
    # Of enrollments that are in the index and gone from the table: no key is read.
    table = unrecorded_stack.outputs["EnrollmentsTableName"]
    for number in range(201):
        item = {"id": f"e{number}", "status": "ISSUED", "acceptedAt": f"2026-11-26T12:{number:04}Z"}
        unrecorded_stack.client("dynamodb").put_item(
            TableName=table, Item={name: {"S": value} for name, value in item.items()}
        )

    looked_at = [unrecorded_stack.call("AuditKeys", {})["lookedAt"] for _ in range(2)]

    assert looked_at == [200, 1]


def test_a_folder_of_more_objects_than_one_page_lists_is_read_whole(
    unrecorded_stack: InProcessStack,
) -> None:
    bucket = unrecorded_stack.outputs["CsrBucketName"]
    for number in range(1_001):
        unrecorded_stack.client("s3").put_object(
            Bucket=bucket, Key=f"enrollments/web-1/{number:04}", Body=str(number).encode()
        )

    found = Objects(bucket).below("enrollments/web-1/")

    assert found == {f"{number:04}": str(number).encode() for number in range(1_001)}


def test_of_an_answer_that_changes_with_each_poll_the_first_twenty_are_kept(
    unrecorded_stack: InProcessStack,
) -> None:
    objects = Objects(unrecorded_stack.outputs["CsrBucketName"])

    for number in range(25):
        objects.keep_answer("web-1", "poll-request", f"answer {number}")

    kept = objects.below("enrollments/web-1/tsb/")
    assert sorted(kept.values()) == sorted(f"answer {number}".encode() for number in range(20))
    for _ in range(2):
        objects.keep_answer("web-1", "poll-request", "decided", decides=True)
    assert b"decided" in (kept := objects.below("enrollments/web-1/tsb/")).values()
    assert len(kept) == 21


def test_a_secret_that_was_replaced_is_in_use_within_five_minutes(
    unrecorded_stack: InProcessStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()  # which the stack's clock does not move
    arn = unrecorded_stack.outputs["KeyOperationSecretArn"]
    (before,) = secrets.credentials(arn).api_keys
    unrecorded_stack.put_secret("KeyOperationSecret", {"apiKeys": ["new"], "bearerToken": None})

    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    assert secrets.credentials(arn).api_keys == (before,)  # one call, not one for each invocation
    monkeypatch.setattr(time, "monotonic", lambda: now + 301)
    assert secrets.credentials(arn).api_keys == ("new",)
