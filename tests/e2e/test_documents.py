"""What our documents tell a reader to run does what they say."""

import json
import os
import re
import subprocess
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from local import run
from local.caller import Caller
from local.stack import REGION, Stack
from tests.case import ROOT, Case, Result, assert_issued
from tests.e2e.commands import paste
from tests.e2e.scenarios import ResultOf, deployed, long_scenario, scenario

pytestmark = pytest.mark.e2e

README = ROOT / "README.md"
LABELS = {"start": "release-4.2", "event": "firmware-17", "nested": "appliance-9"}
HTTP_ID = "web-2026-11"


@long_scenario
def triggers_of_the_readme(case: Case) -> Result:
    said = paste(README, deployed(case))
    (event_id,) = re.findall(r'"EventId": "(.+)"', said)
    ids = {"start": "release-4-2", "event": f"event.{event_id}", "nested": "appliance-9"}
    results = {}
    for trigger, enrollment_id in ids.items():
        one = Case(case.stack, enrollment_id)
        one.label = LABELS[trigger]
        one.decide("approve")
        results[trigger] = one.end(one.execution())
    results["start"].more = {"results": results}
    return results["start"]


@pytest.mark.parametrize("trigger", LABELS)
def test_the_readme_s_command_of_each_trigger_leads_to_an_issued_csr(
    result: ResultOf, trigger: str
) -> None:
    assert_issued(result(triggers_of_the_readme).more["results"][trigger])


def test_the_readme_s_schedule_is_there_and_off(result: ResultOf, stack: Stack) -> None:
    result(triggers_of_the_readme)
    made = stack.client("scheduler").get_schedule(
        Name="rotate-installer", GroupName=stack.outputs["ScheduleGroupName"]
    )

    assert made["State"] == "DISABLED"
    assert made["Target"]["Arn"] == stack.outputs["EnrollmentStateMachineArn"]
    assert made["Target"]["RoleArn"] == stack.outputs["ScheduleRoleArn"]
    assert made["Target"]["DeadLetterConfig"]["Arn"] == stack.outputs["RequestsDeadLetterQueueArn"]


@scenario
def http_api_of_the_readme(case: Case) -> Result:
    stack = deployed(case)
    user, der = Caller(stack, case.id), Path(tempfile.mkdtemp()) / "web.der"
    section = README.read_text().partition("\n## The HTTP API\n")[2]
    commands = section.partition("```sh\n")[2].partition("```")[0]
    commands = commands.replace("<ApiUrl>", stack.api_url).replace("<region>", REGION)
    commands = commands.replace("--output web.der", f"--output {der}")
    told = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=ROOT,
        env={**os.environ, **user.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    one = Case(case.stack, HTTP_ID)
    one.label = one.record()["keyLabel"]
    result = one.end(one.execution())
    answers = [json.loads(text) for text in told.stdout.replace("}{", "}\n{").splitlines()]
    result.more = {"answers": answers, "der": json.loads(der.read_text())}
    return result


def test_the_readme_s_calls_of_the_http_api_work(result: ResultOf) -> None:
    ended = result(http_api_of_the_readme)
    posted, listed, shown, cancelled, healthy = ended.more["answers"]

    assert posted["enrollmentId"] == shown["enrollmentId"] == HTTP_ID
    assert HTTP_ID in [one["enrollmentId"] for one in listed["enrollments"]]
    assert ended.more["der"]["status"] == 409  # not yet issued
    assert cancelled["status"] == "CANCELLING"
    assert healthy["status"] == "ok"
    assert ended.document["outcome"] == "CANCELLED"


def test_what_make_run_does_ends_with_the_csr(stack: Stack) -> None:
    account = run.enroll(stack, lambda _: nullcontext())

    assert account["subject"] == "CN=Approver-Intermediate-SUB"
    assert account["approvals"] == "ApproverKey1 approved"
    assert account["checks"].endswith("all passed, made again")
    assert account["events"].startswith("Enrollment Accepted → ")
