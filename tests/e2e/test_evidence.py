"""Evidence as AWS keeps it: signed by KMS and locked in S3. What approvers are shown is signed."""

import pytest
from botocore.exceptions import ClientError

from countersign.evidence import verifier
from countersign.evidence.bundle import SIGNATURE
from local.approver import shown
from local.stack import Stack
from tests.case import assert_issued
from tests.e2e.scenarios import ResultOf, case_of, issued

pytestmark = pytest.mark.e2e


def test_evidence_is_kept_for_every_end_and_proves_itself(stack: Stack, result: ResultOf) -> None:
    ended = result(issued)
    facts = verifier.verify(case_of(stack, ended).evidence(ended), stack.signing_key()).facts

    assert_issued(ended)
    assert facts["outcome"] == "ISSUED"
    assert facts["checks"].endswith("all passed, made again")
    assert facts["attestation"].startswith("verified, root sha256:")


def test_nobody_can_delete_evidence(stack: Stack, result: ResultOf) -> None:
    ended = result(issued)
    case_of(stack, ended).evidence(ended)
    s3, bucket = stack.client("s3"), stack.outputs["EvidenceBucketName"]
    folder = f"{ended.record['id']}/{ended.arn.rpartition(':')[2]}"
    versions = s3.list_object_versions(Bucket=bucket, Prefix=folder)["Versions"]

    assert any(one["Key"] == f"{folder}/{SIGNATURE}" for one in versions)
    for one in versions:
        version = {"Key": one["Key"], "VersionId": one["VersionId"]}
        locked = s3.get_object_retention(Bucket=bucket, **version)["Retention"]
        assert locked["Mode"] == "GOVERNANCE"
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.delete_object(Bucket=bucket, **version)


def test_the_approver_is_shown_the_accepted_request_signed_by_the_stack(
    stack: Stack, result: ResultOf
) -> None:
    ended = result(issued)
    content = shown(ended.more["task"], stack.signing_key())

    assert content["requestSha256"] == ended.record["acceptedSha256"]
    assert f"Key label: {ended.label}" in content["about"]
