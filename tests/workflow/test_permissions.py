"""Functions and settings that no other workflow test has, so that each function's calls are known.

`tests/permissions` evaluates the calls of all workflow tests.
"""

import json

import pytest
from moto.sns.models import sns_backends

from countersign import events
from local.engine.stack import InProcessStack
from local.engine.surroundings import ACCOUNT, REGION
from local.generate.events import SAMPLES, slug
from tests.case import Case, assert_ended, assert_issued, group, people, token
from tests.permissions import calls
from tests.workflow.api import Caller


def test_an_event_becomes_a_mail(unrecorded_stack: InProcessStack) -> None:
    event = json.loads((SAMPLES / f"{slug(events.Issued)}.json").read_text())

    unrecorded_stack.call("Notify", event)

    (topic,) = sns_backends[ACCOUNT][REGION].topics.values()
    assert topic.sent_notifications[-1][1].count(event["detail"]["keyLabel"])


def test_what_is_pending_is_counted(
    case: Case, stack: InProcessStack, capsys: pytest.CaptureFixture[str]
) -> None:
    case.start(case.request(token(group(*people(1)))))
    case.await_request()

    stack.call("WatchEnrollments", {})

    metrics = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["Pending"] for one in metrics if "Pending" in one] == [[1.0]]


@pytest.fixture
def by_management(stack: InProcessStack) -> InProcessStack:
    """A TSB that wants the role key management, and a stack that is told so."""
    wanted = {"requestRole": "management", "certificateRole": "management"}
    stack.control("PUT", "/switches", wanted)
    stack.configure(**calls.ROLES)
    return stack


@pytest.mark.usefixtures("by_management")
def test_a_tsb_that_wants_key_management_throughout_issues(case: Case) -> None:
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    assert {call["role"] for call in result.calls} == {"keyManagement"}


def test_a_tsb_that_wants_key_management_throughout_cancels(
    case: Case, by_management: InProcessStack
) -> None:
    arn = case.start(case.request(token(group(*people(1)))))
    case.await_request()
    by_management.sleep(1_000)  # what other functions have read of the secrets is forgotten
    by_management.call("WatchEnrollments", {})
    answer = Caller(by_management).call("DELETE", f"/enrollments/{case.id}")
    result = case.end(arn)

    assert answer.status_code == 202
    assert_ended(result, "CANCELLED")
    assert {call["role"] for call in result.calls} == {"keyManagement"}
