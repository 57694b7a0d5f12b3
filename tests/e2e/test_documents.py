"""What our documents tell a reader to run does what they say."""

import re

import pytest

from local.stack import Stack
from tests.e2e.case import ROOT, Case, Ran, Run, act, assert_issued
from tests.e2e.commands import commands, paste

pytestmark = pytest.mark.e2e

README = ROOT / "README.md"
LABELS = {"start": "release-4.2", "event": "firmware-17", "nested": "appliance-9"}


@act
def readme(case: Case) -> Run:
    said = paste(README, case.stack)
    (event_id,) = re.findall(r'"EventId": "(.+)"', said)
    ids = {"start": "release-4-2", "event": f"event-{event_id}", "nested": "appliance-9"}
    runs = {}
    for door, enrollment_id in ids.items():
        one = Case(case.stack)
        one.id, one.label = enrollment_id, LABELS[door]
        one.decide("approve")
        runs[door] = one.end(one.execution())
    runs["start"].more = {"runs": runs, "said": said}
    return runs["start"]


@pytest.mark.parametrize("door", LABELS)
def test_the_readme_s_command_of_each_door_leads_to_an_issued_csr(ran: Ran, door: str) -> None:
    assert_issued(ran(readme).more["runs"][door])


def test_the_readme_s_schedule_is_there_and_off(ran: Ran, stack: Stack) -> None:
    ran(readme)
    made = stack.client("scheduler").get_schedule(
        Name="rotate-installer", GroupName=stack.outputs["ScheduleGroupName"]
    )

    assert made["State"] == "DISABLED"
    assert made["Target"]["Arn"] == stack.outputs["EnrollmentStateMachineArn"]
    assert made["Target"]["RoleArn"] == stack.outputs["ScheduleRoleArn"]
    assert made["Target"]["DeadLetterConfig"]["Arn"] == stack.outputs["RequestsDeadLetterQueueArn"]


def test_every_door_has_a_command_in_the_readme() -> None:
    script = "\n".join(commands(README))

    assert all(file in script for file in (
        "events/start/request.json", "events/event/entries.json", "docs/schedule.yaml",
        "docs/nested.yaml", "events/nested/request.json",
    ))  # fmt: skip
