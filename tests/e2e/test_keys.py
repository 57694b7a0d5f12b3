"""The functions that look after keys, as deployed: each with its own role and its own trigger."""

import json
from typing import Any

import pytest

from local.stack import Stack
from tests.case import Case, Json, Result, assert_ended
from tests.e2e.scenarios import ResultOf, case_of, issued, scenario

pytestmark = pytest.mark.e2e

ATTRIBUTES = "/v1/key/attributes"
TRIAL = ("Ada Lovelace", "Grace Hopper")  # of whom profile trial asks one; it deletes unused keys
EVENT_SECONDS = 20


@scenario
def declined(case: Case) -> Result:
    arn = case.start(case.by_profile())
    case.decline(*(case.stack.people[name] for name in TRIAL))
    return case.end(arn)


def test_the_unused_key_is_deleted_where_the_profile_says_so(
    result: ResultOf, stack: Stack
) -> None:
    ended = result(declined)

    assert_ended(ended, "REJECTED")
    assert ended.record["unusedKey"]["result"] == "deleted"
    assert [key["deleted"] for key in ended.keys] == [True]
    way = ["ChooseNext", "DiscardKey", "IsKeyDiscarded", "CloseEnrollment", "IsFailed"]
    assert ended.entered[-6:-1] == way
    kept = json.loads(case_of(stack, ended).evidence(ended)["record.json"])
    assert kept["unusedKey"]["result"] == "deleted"


def invoke(stack: Stack, output: str) -> Json:
    """Run a function that a schedule runs, now."""
    answer = stack.client("lambda").invoke(FunctionName=stack.outputs[output])
    content: Json = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, content
    return content


def test_a_key_that_drifted_is_announced_by_the_next_audit(stack: Stack, result: ResultOf) -> None:
    case = case_of(stack, result(issued))
    case.fault("POST", ATTRIBUTES, "forge", what="blocked", times=None)

    assert case.label in invoke(stack, "AuditKeysFunctionName")["drifted"]

    event = case.await_event("Key Drifted")
    assert {one["code"] for one in event["detail"]["findings"]} >= {"KEY_BLOCKED"}
    assert case.record()["drift"]["codes"]
    assert case.record()["outcome"] == "ISSUED"


def test_keys_that_no_enrollment_accounts_for_are_reported(stack: Stack) -> None:
    swept = invoke(stack, "SweepKeysFunctionName")

    why = {one["label"]: one["why"] for one in swept["keys"]}
    assert why["CA.code-signing"] == "unclaimed"
    assert not any(one["deleted"] for one in swept["keys"])

    def reported() -> list[Any]:
        kind = "Keys Unaccounted"
        return [one["detail"] for one in stack.events() if one["detail-type"] == kind]

    stack.until(reported, "event", EVENT_SECONDS)
    assert {"schemaVersion": "1", "mode": "report", **swept} in reported()
