"""Keys whose CSR was not issued, keys that nobody accounts for, and keys that drifted."""

import json
import time
from typing import Any

import pytest

from local.stack import Stack
from tests.e2e.case import Case, Json, Ran, Run, act, assert_ended, assert_issued, evidence_of

pytestmark = pytest.mark.e2e

ATTRIBUTES = "/v1/key/attributes"
DELETE_KEY = "/v1/key/deleteKey"
TRIAL = ("Ada Lovelace", "Grace Hopper")  # of whom profile trial asks one; it deletes unused keys
AS_OFTEN_AS_IT_IS_TRIED = 4
EVENT_SECONDS = 20


def by_profile(case: Case) -> Json:
    """A request by profile `trial`, which has unused keys deleted."""
    case.label = f"trial.{case.id}"
    subject = {"standardCertificateAttributes": {"commonName": case.id}}
    key = {"label": case.label}
    return {"enrollmentId": case.id, "profile": "trial@1", "key": key, "csr": subject}


def trial(case: Case) -> str:
    """Start an enrollment by profile `trial`."""
    return case.start(by_profile(case))


@act
def declined(case: Case) -> Run:
    arn = trial(case)
    case.decline(*(case.stack.people[name] for name in TRIAL))
    return case.end(arn)


def test_the_unused_key_is_deleted_where_the_profile_says_so(ran: Ran, stack: Stack) -> None:
    run = ran(declined)

    assert_ended(run, "REJECTED")
    assert run.record["unusedKey"]["result"] == "deleted"
    assert [key["deleted"] for key in run.keys] == [True]
    way = ["ChooseNext", "DiscardKey", "IsKeyDiscarded", "CloseEnrollment", "IsFailed"]
    assert run.entered[-6:-1] == way
    kept = json.loads(evidence_of(stack, run)["record.json"])
    assert kept["unusedKey"]["result"] == "deleted"


@act
def declined_and_not_deleted(case: Case) -> Run:
    case.label = f"trial.{case.id}"
    case.fault("POST", DELETE_KEY, "status", httpStatus=503, times=AS_OFTEN_AS_IT_IS_TRIED)
    arn = trial(case)
    case.decline(*(case.stack.people[name] for name in TRIAL))
    return case.end(arn)


def test_a_key_that_cannot_be_deleted_changes_no_outcome(ran: Ran) -> None:
    run = ran(declined_and_not_deleted)

    assert_ended(run, "REJECTED")
    assert run.record["unusedKey"]["result"] == "failed"
    assert run.record["unusedKey"]["error"]["name"] == "TsbUnavailableError"
    assert [key["deleted"] for key in run.keys] == [False]


@act
def issued_by_trial(case: Case) -> Run:
    arn = trial(case)
    case.approve(case.stack.people[TRIAL[0]])
    return case.end(arn)


def invoke(stack: Stack, output: str) -> Json:
    """Run a function that a schedule runs, now."""
    answer = stack.client("lambda").invoke(FunctionName=stack.outputs[output])
    content: Json = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, content
    return content


def until_told(look: Any) -> Any:
    deadline = time.monotonic() + EVENT_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError("no such event")


# These look at every key there is, so they wait until nobody else counts the calls of his own.


def test_a_key_that_drifted_is_announced_by_the_next_audit(
    quiet_stack: Stack, ran: Ran, case: Case
) -> None:
    run = ran(issued_by_trial)
    assert_issued(run)
    case.id, case.label = run.record["id"], run.label
    assert run.label not in invoke(quiet_stack, "AuditKeysFunctionName")["drifted"]
    case.fault("POST", ATTRIBUTES, "forge", what="blocked", times=None)

    assert run.label in invoke(quiet_stack, "AuditKeysFunctionName")["drifted"]

    event = case.await_event("Key Drifted")
    assert {one["code"] for one in event["detail"]["findings"]} >= {"KEY_BLOCKED"}
    assert case.record()["drift"]["codes"]
    assert case.record()["outcome"] == "ISSUED"


def test_keys_that_no_enrollment_accounts_for_are_reported_and_stay(
    quiet_stack: Stack, ran: Ran, case: Case
) -> None:
    run = ran(declined_and_not_deleted)
    case.id, case.label = run.record["id"], run.label
    case.write(times={**run.record["times"], "ended": "2026-01-01T00:00:00Z"})

    swept = invoke(quiet_stack, "SweepKeysFunctionName")

    why = {one["label"]: one["why"] for one in swept["keys"]}
    assert why[run.label] == "unused"
    assert why["CA.code-signing"] == "unclaimed"
    assert not any(one["deleted"] for one in swept["keys"])
    told = until_told(
        lambda: [e for e in quiet_stack.events() if e["detail-type"] == "Keys Unaccounted"]
    )
    assert {"schemaVersion": "1", "mode": "report", **swept} in [one["detail"] for one in told]
    assert [key["deleted"] for key in case.state()["keys"]] == [False]
