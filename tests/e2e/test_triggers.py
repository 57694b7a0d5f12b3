"""The triggers that only AWS opens: a rule of EventBridge, Scheduler, a nested execution.

What comes of each trigger's input is shown by tests/workflow/test_triggers.py; the README's own
commands go through every trigger in tests/e2e/test_documents.py.
"""

import json
import textwrap
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.case import ROOT, Case, Json, Result, assert_issued, group, people, token
from tests.e2e.scenarios import ResultOf, scenario

pytestmark = pytest.mark.e2e

REQUESTED = "Enrollment Requested"


def nameless(case: Case, *tokens: Json) -> Json:
    """A request that leaves the enrollment's id to the trigger."""
    requested = case.request(*tokens)
    del requested["enrollmentId"]
    return requested


# Events -------------------------------------------------------------------------------------------


def put_event(case: Case, detail: Any, source: str = "build-team") -> str:
    """Ask by event, as another team does; the event's id."""
    entry = {
        "EventBusName": case.stack.outputs["BusName"],
        "Source": source,
        "DetailType": REQUESTED,
        "Detail": json.dumps(detail),
    }
    answer = case.stack.client("events").put_events(Entries=[entry])
    return str(answer["Entries"][0]["EventId"])


@scenario
def asked_by_events(case: Case) -> Result:
    (person,) = people(1)
    forged = Case(case.stack)
    put_event(forged, forged.request(token(group(person))), source="countersign")
    event_id = put_event(case, nameless(case, token(group(person))))
    case.id = f"event.{event_id}"
    case.approve(person)
    result = case.end(case.execution())
    named = Case(case.stack)
    requested = named.request(token(group(person)))
    put_event(named, requested)
    named.approve(person)
    named.end(named.execution())
    other = {**requested, "reason": "another request"}
    result.more["other event"] = put_event(named, other)
    result.more["refused"] = named.await_event("Enrollment Refused")["detail"]
    result.more["forged"] = forged.record()
    return result


def test_an_event_leads_to_an_issued_csr(result: ResultOf) -> None:
    ended = result(asked_by_events)
    origin = ended.record["origin"]

    assert_issued(ended)
    assert origin["trigger"] == "event"
    assert f"event.{origin['id']}" == ended.record["id"]
    assert origin["account"] == "000000000000"
    assert origin["said"]["time"].endswith("Z")


def test_an_event_with_the_id_of_another_request_is_refused_and_told_so(result: ResultOf) -> None:
    ended = result(asked_by_events)
    refused = ended.more["refused"]

    assert refused["error"]["name"] == "EnrollmentConflictError"
    assert refused["error"]["message"].startswith(
        f"enrollment id {refused['enrollmentId']} belongs"
    )
    assert refused["origin"]["id"] == ended.more["other event"]


def test_an_event_in_our_own_name_starts_nothing(result: ResultOf) -> None:
    assert result(asked_by_events).more["forged"] == {}


# Schedules ----------------------------------------------------------------------------------------


def schedule(case: Case, requested: Json) -> None:
    """Deploy docs/schedule.yaml with another request in it, due at once, as a stack of its own.

    Afterwards the case is the enrollment of that occurrence.
    """
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    origin = {"id": "<aws.scheduler.schedule-arn>", "time": "<aws.scheduler.scheduled-time>"}
    body = json.dumps({"request": requested, "origin": {"trigger": "schedule", **origin}}, indent=2)
    before, _, _ = (ROOT / "docs/schedule.yaml").read_text().partition("        Input: |\n")
    stacks, name = case.stack.client("cloudformation"), f"rotate-{case.id}"
    stacks.create_stack(
        StackName=name,
        TemplateBody=f"{before}        Input: |\n{textwrap.indent(body, ' ' * 10)}\n",
        Parameters=[
            {"ParameterKey": "Expression", "ParameterValue": f"at({due:%Y-%m-%dT%H:%M:%S})"},
            {"ParameterKey": "State", "ParameterValue": "ENABLED"},
        ],
    )
    case.id = f"schedule.{name}.{due:%Y%m%dT%H%M%SZ}"
    case.label = requested["key"]["label"].replace("{yyyy}-{mm}", f"{due:%Y-%m}")


@scenario
def scheduled(case: Case) -> Result:
    (person,) = people(1)
    requested = nameless(case, token(group(person)))
    requested["key"]["label"] += "-{yyyy}-{mm}"
    del requested["csr"]["signKeyName"]
    schedule(case, requested)
    case.approve(person)
    return case.end(case.execution())


def test_a_schedule_leads_to_an_issued_csr_whose_key_carries_the_date(result: ResultOf) -> None:
    ended = result(scheduled)
    origin = ended.record["origin"]

    assert_issued(ended)
    assert origin["trigger"] == "schedule"
    assert ":schedule/countersign/rotate-e2e-" in origin["id"]
    assert ended.record["keyLabel"].endswith(f"-{origin['time'][:7]}")
    assert ended.record["id"].endswith(origin["time"].replace("-", "").replace(":", ""))


# Nested executions --------------------------------------------------------------------------------


def parent(case: Case, requested: Json) -> str:
    """Start docs/nested.asl.json, which asks in the middle of its own work; its ARN."""
    machines, iam = case.stack.client("stepfunctions"), case.stack.client("iam")
    name = f"parent-{uuid.uuid4()}"
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
             "Principal": {"Service": "states.amazonaws.com"}}]}  # fmt: skip
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    definition = (ROOT / "docs/nested.asl.json").read_text()
    machine = machines.create_state_machine(
        name=name,
        roleArn=role["Arn"],
        definition=definition.replace(
            "${EnrollmentStateMachineArn}", case.stack.outputs["EnrollmentStateMachineArn"]
        ),
    )
    started = machines.start_execution(
        stateMachineArn=machine["stateMachineArn"],
        name=case.id,
        input=json.dumps({"request": requested}),
    )
    return str(started["executionArn"])


@scenario
def asked_by_two_parents(case: Case) -> Result:
    (person,) = people(1)
    requested = nameless(case, token(group(person)))
    first = parent(case, requested)
    case.execution()
    second = parent(case, requested)  # asks for the enrollment that is under way
    case.until(lambda: "WaitForTheOther" in str(case.history(second)), "waiting parent")
    case.approve(person)
    result = case.end(first)
    result.more["second"] = case.end(second)
    return result


def test_the_parent_gets_the_outcome_document(result: ResultOf) -> None:
    ended = result(asked_by_two_parents)

    assert_issued(ended)
    assert ended.entered == ["EnrollCsr", "ChooseByOutcome", "UseCsr"]
    assert ended.document["enrollmentId"] == ended.record["id"]
    assert ended.document["csr"]["pem"].startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert ended.record["origin"] == {
        "trigger": "workflow",
        "said": {"trigger": "workflow", "id": ended.arn},
    }


def test_a_parent_that_asks_for_an_enrollment_under_way_waits_for_its_outcome(
    result: ResultOf,
) -> None:
    ended = result(asked_by_two_parents)
    second = ended.more["second"]

    assert second.entered[:3] == ["EnrollCsr", "ChooseByOutcome", "WaitForTheOther"]
    assert second.entered[-1] == "UseCsr"
    assert second.document == {**ended.document, "duplicate": True}


@scenario
def refused_to_a_parent(case: Case) -> Result:
    return case.end(parent(case, nameless(case, token(group(*people(1)), timeout=601))))


def test_the_parent_gets_the_outcome_document_out_of_aws_s_failure(result: ResultOf) -> None:
    ended = result(refused_to_a_parent)
    (failed,) = [e["taskFailedEventDetails"] for e in ended.history if e["type"] == "TaskFailed"]
    golden = json.loads((ROOT / "events/nested/failed.json").read_text())

    assert ended.status == "FAILED"
    assert ended.error == ended.document["error"]["name"] == "InvalidEnrollmentError"
    assert ended.entered == ["EnrollCsr", "ChooseByOutcome", "EnrollmentFailed"]
    assert failed["error"] == golden["Error"]
    assert list(json.loads(failed["cause"])) == list(json.loads(golden["Cause"]))
    assert ended.document["enrollmentId"] == ended.record["id"]
    assert ended.record["origin"]["trigger"] == "workflow"
