"""What our documents tell a reader to run does what they say."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from local import run
from local.stack import Stack
from local.terminal import WIDTH
from tests.case import ROOT, Case, Result, assert_issued
from tests.e2e.commands import DEPLOYED, paste
from tests.e2e.scenarios import ResultOf, deployed, long_scenario

pytestmark = pytest.mark.e2e

LABELS = {"start": "release-4.2", "event": "firmware-17", "nested": "appliance-9"}
# What a reader waits for, before the block in which this text stands.
BEFORE = {
    "docs/api.md": {
        "web.der": "until countersign status web --json | grep -q ISSUED; do sleep 1; done"
    }
}


@long_scenario
def pages(case: Case) -> Result:
    """Every page, one after the other, on one stack."""
    stack, said = deployed(case), {}
    with ThreadPoolExecutor() as approvers:
        for enrollment_id in ("release", "web"):
            one = Case(case.stack, enrollment_id)
            one.label = f"trial.{enrollment_id}"
            approvers.submit(one.decide, "approve")
        for document in DEPLOYED:
            said[document] = paste(ROOT / document, stack, BEFORE.get(document))
    (event_id,) = re.findall(r'"EventId": "(.+)"', said["docs/triggers.md"])
    ids = {"start": "release-4-2", "event": f"event.{event_id}", "nested": "appliance-9"}
    results = {}
    for trigger, enrollment_id in ids.items():
        one = Case(case.stack, enrollment_id)
        one.label = LABELS[trigger]
        one.decide("approve")
        results[trigger] = one.end(one.execution())
    results["start"].more = {"results": results, "said": said}
    return results["start"]


@pytest.mark.parametrize("trigger", LABELS)
def test_the_command_of_each_trigger_leads_to_an_issued_csr(result: ResultOf, trigger: str) -> None:
    assert_issued(result(pages).more["results"][trigger])


def test_the_schedule_of_the_page_is_there_and_off(result: ResultOf, stack: Stack) -> None:
    result(pages)
    made = stack.client("scheduler").get_schedule(
        Name="rotate-installer", GroupName=stack.outputs["ScheduleGroupName"]
    )

    assert made["State"] == "DISABLED"
    assert made["Target"]["Arn"] == stack.outputs["EnrollmentStateMachineArn"]
    assert made["Target"]["RoleArn"] == stack.outputs["ScheduleRoleArn"]
    assert made["Target"]["DeadLetterConfig"]["Arn"] == stack.outputs["RequestsDeadLetterQueueArn"]


def test_the_pages_of_api_and_command_line_end_with_what_they_promise(result: ResultOf) -> None:
    said = result(pages).more["said"]

    assert "ISSUED" in said["docs/cli.md"]
    assert "CN = web.example" in said["docs/api.md"]
    assert '"status":"CANCELLING"' in said["docs/api.md"].replace(" ", "")
    assert '"status":"ok"' in said["docs/api.md"].replace(" ", "")


def test_what_make_run_does_ends_with_the_csr(stack: Stack) -> None:
    account, pem = run.enroll(stack, lambda _: nullcontext())

    assert account["subject"] == "CN=Approver-Intermediate-SUB"
    assert account["approvals"] == "ApproverKey1 approved"
    assert account["checks"].endswith("all passed, made again; attestation verified")
    assert account["event"].startswith("Enrollment Issued, from countersign")
    assert pem.startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert max(len(f"{name:<13}{value}") for name, value in account.items()) <= WIDTH
