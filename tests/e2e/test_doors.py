"""Every door end to end: the same request through each, deliveries repeated, requests refused."""

import json
import textwrap
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from countersign import request
from local.approver import Approver
from local.caller import Caller
from tests.e2e.case import ROOT, Case, Json, Ran, Run, act, assert_issued, group, people, token

pytestmark = pytest.mark.e2e

DOORS = ("start", "api", "event", "schedule", "workflow")
REQUESTED = "Enrollment Requested"


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


def schedule(case: Case, asked: Json) -> None:
    """Deploy docs/schedule.yaml with another request in it, due at once, as a stack of its own.

    Afterwards the case is the enrollment of that occurrence.
    """
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    origin = {"id": "<aws.scheduler.schedule-arn>", "time": "<aws.scheduler.scheduled-time>"}
    body = json.dumps({"request": asked, "origin": {"door": "schedule", **origin}}, indent=2)
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
    case.id = f"{name}-{due:%Y%m%dT%H%M%SZ}"
    case.label = asked["key"]["label"].replace("{yyyy}-{mm}", f"{due:%Y-%m}")


def parent(case: Case, asked: Json) -> str:
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
        input=json.dumps({"request": asked}),
    )
    return str(started["executionArn"])


def again(case: Case, arn: str) -> Json:
    """Deliver once more what started this execution, as EventBridge may; how that ended."""
    machines = case.stack.client("stepfunctions")
    first = machines.describe_execution(executionArn=arn)
    second = machines.start_execution(
        stateMachineArn=first["stateMachineArn"], input=first["input"]
    )["executionArn"]
    case.until(lambda: case.status(second) != "RUNNING", "end of the second delivery")
    time.sleep(1)  # for an event that must not come
    return dict(machines.describe_execution(executionArn=second))


# The same request through every door --------------------------------------------------------------


@act
def through_every_door(case: Case) -> Run:
    person = Approver.generate("Ada", "ec")
    cases = {door: Case(case.stack) for door in DOORS}
    asked = {}
    for door, one in cases.items():
        asked[door] = one.request(token(group(person)))
        del asked[door]["enrollmentId"], asked[door]["csr"]["signKeyName"]
    asked["schedule"]["key"]["label"] += "-{yyyy}-{mm}"

    schedule(cases["schedule"], asked["schedule"])
    started = cases["start"].start({**asked["start"], "enrollmentId": cases["start"].id})
    posted = {**asked["api"], "enrollmentId": cases["api"].id}
    Caller(case.stack, case.id).call("POST", "/enrollments", posted).raise_for_status()
    cases["event"].id = f"event-{put_event(cases['event'], asked['event'])}"
    nested = parent(cases["workflow"], asked["workflow"])
    cases["start"].execution()
    second = parent(cases["start"], asked["start"])  # asks for the enrollment that is under way

    runs = {}
    for door, one in cases.items():
        one.approve(person)
        runs[door] = one.end({"start": started, "workflow": nested}.get(door) or one.execution())
    run = runs["start"]
    run.more = {"runs": runs, "second": cases["start"].end(second)}
    for door in ("event", "schedule"):
        runs[door].more["again"] = again(cases[door], runs[door].arn)
        events = case.stack.events(cases[door].id)
        runs[door].more["events"] = [event["detail-type"] for event in events]
    other = {**asked["event"], "enrollmentId": cases["start"].id, "reason": "another request"}
    run.more["other event"] = put_event(cases["start"], other)
    run.more["refused"] = cases["start"].await_event("Enrollment Refused")
    run.more["record after"] = cases["start"].record()
    return run


@pytest.mark.parametrize("door", DOORS)
def test_every_door_leads_to_an_issued_csr(ran: Ran, door: str) -> None:
    assert_issued(ran(through_every_door).more["runs"][door])


def test_the_same_request_makes_the_same_record_through_every_door(ran: Ran) -> None:
    runs = ran(through_every_door).more["runs"]
    records = {door: comparable(run) for door, run in runs.items()}

    assert records["api"] == records["start"]
    assert records["event"] == records["start"]
    assert records["schedule"] == records["start"]
    assert records["workflow"] == records["start"]
    for run in runs.values():
        assert run.record["requestSha256"] == request.sha256(plain(run.record["request"]))


def comparable(run: Run) -> Json:
    """A record without what is each enrollment's own: ids, times, keys; its label in one word."""
    own = {
        "id", "executionArn", "origin", "requestSha256", "publicKeySha256", "requestId", "csr",
        "acceptedAt", "announced", "intent", "verifiedSha256", "acceptedSha256", "metaDataSha256",
        "metaDataSignature",
    }  # fmt: skip
    record = {name: value for name, value in plain(run.record).items() if name not in own}
    record["request"].pop("enrollmentId", None)
    record["times"] = sorted(record["times"])
    compared: Json = json.loads(json.dumps(record).replace(run.label, "the label"))
    return {**compared, "attributes": sorted(run.record)}


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=int))


def told_origin(run: Run) -> Json:
    """The origin in the event about the end; an event says null where the record says nothing."""
    origin: Json = run.ending["detail"]["origin"]
    return {name: value for name, value in origin.items() if value is not None}


def test_every_record_and_event_says_the_door(ran: Ran) -> None:
    runs = ran(through_every_door).more["runs"]
    origins = {door: run.record["origin"] for door, run in runs.items()}

    assert {door: told_origin(run) for door, run in runs.items()} == origins
    assert {door: origin["door"] for door, origin in origins.items()} == {
        door: door for door in DOORS
    }
    assert f"event-{origins['event']['id']}" == runs["event"].record["id"]
    assert origins["event"]["account"] == "000000000000"
    assert origins["event"]["time"].endswith("Z")
    assert ":schedule/countersign/rotate-e2e-" in origins["schedule"]["id"]
    assert origins["workflow"] == {"door": "workflow", "id": runs["workflow"].arn}


def test_a_schedule_s_key_carries_the_date_of_the_occurrence(ran: Ran) -> None:
    run = ran(through_every_door).more["runs"]["schedule"]
    time_of_day = run.record["origin"]["time"]

    assert run.record["keyLabel"].endswith(f"-{time_of_day[:7]}")
    assert run.record["request"]["key"]["label"] == run.record["keyLabel"] == run.label
    assert run.record["id"].endswith(time_of_day.replace("-", "").replace(":", ""))


@pytest.mark.parametrize("door", ["event", "schedule"])
def test_a_repeated_delivery_is_the_same_enrollment(ran: Ran, door: str) -> None:
    run = ran(through_every_door).more["runs"][door]
    second = run.more["again"]

    assert second["status"] == "SUCCEEDED"
    assert json.loads(second["output"]) == {**run.document, "duplicate": True}
    assert run.more["events"].count("Enrollment Issued") == 1
    assert not {"Enrollment Refused", "Enrollment Failed"} & set(run.more["events"])


def test_an_event_with_the_id_of_another_request_is_refused_and_told_so(ran: Ran) -> None:
    run = ran(through_every_door)
    refused = run.more["refused"]["detail"]

    assert refused["error"]["name"] == "EnrollmentConflictError"
    assert refused["error"]["message"].startswith(f"enrollment id {run.record['id']} belongs")
    assert refused["origin"]["id"] == run.more["other event"]
    assert run.more["record after"] == run.record


def test_the_parent_gets_the_outcome_document(ran: Ran) -> None:
    run = ran(through_every_door).more["runs"]["workflow"]

    assert run.entered == ["EnrollCsr", "ChooseByOutcome", "UseCsr"]
    assert run.document["enrollmentId"] == run.record["id"]
    assert run.document["csr"]["pem"].startswith("-----BEGIN CERTIFICATE REQUEST-----")


def test_a_parent_that_asks_for_an_enrollment_under_way_waits_for_its_outcome(ran: Ran) -> None:
    run = ran(through_every_door)
    second = run.more["second"]

    assert second.entered[:3] == ["EnrollCsr", "ChooseByOutcome", "WaitForTheOther"]
    assert second.entered[-1] == "UseCsr"
    assert second.document == {**run.document, "duplicate": True}


# What no door lets in -----------------------------------------------------------------------------


@act
def refused_at_every_door(case: Case) -> Run:
    (person,) = people(1)
    cases = {name: Case(case.stack) for name in ("event", "text", "schedule", "workflow")}
    asked = {}
    for name, one in cases.items():
        asked[name] = one.request(token(group(person), timeout=601))
        del asked[name]["enrollmentId"]
    put_event(case, case.request(token(group(person))), source="countersign")
    schedule(cases["schedule"], asked["schedule"])
    cases["event"].id = f"event-{put_event(cases['event'], asked['event'])}"
    cases["text"].id = f"event-{put_event(cases['text'], ['please', 'a CSR'])}"
    nested = parent(cases["workflow"], asked["workflow"])
    runs = {
        name: one.end(nested if name == "workflow" else one.execution())
        for name, one in cases.items()
    }
    for name in ("event", "schedule"):
        runs[name].more["again"] = again(cases[name], runs[name].arn)
        runs[name].more["events"] = case.stack.events(cases[name].id)
    run = runs["event"]
    run.more = {"runs": runs, "forged": case.record(), **run.more}
    return run


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("event", "request.key.policy.ruleUse.tokens.0.timeout"),
        ("text", "request"),
        ("schedule", "request.key.policy.ruleUse.tokens.0.timeout"),
        ("workflow", "request.key.policy.ruleUse.tokens.0.timeout"),
    ],
)
def test_a_bad_request_fails_with_an_event_that_names_field_and_origin(
    ran: Ran, name: str, field: str
) -> None:
    run = ran(refused_at_every_door).more["runs"][name]

    assert run.status == "FAILED"
    assert run.error == run.document["error"]["name"] == "InvalidEnrollmentError"
    assert run.event_types == ["Enrollment Failed"]
    assert run.ending["detail"]["error"] == run.document["error"] == run.record["error"]
    assert run.ending["detail"]["error"]["field"] == field
    assert told_origin(run) == run.record["origin"]
    assert run.record["origin"]["id"]
    assert not run.calls


@pytest.mark.parametrize("name", ["event", "schedule"])
def test_a_refused_delivery_that_is_repeated_is_announced_once(ran: Ran, name: str) -> None:
    run = ran(refused_at_every_door).more["runs"][name]

    assert run.more["again"]["status"] == "FAILED"
    assert run.more["again"]["error"] == "InvalidEnrollmentError"
    assert [event["detail-type"] for event in run.more["events"]] == ["Enrollment Failed"]


def test_the_parent_gets_the_outcome_document_out_of_aws_s_failure(ran: Ran) -> None:
    run = ran(refused_at_every_door).more["runs"]["workflow"]
    (failed,) = [e["taskFailedEventDetails"] for e in run.history if e["type"] == "TaskFailed"]
    golden = json.loads((ROOT / "events/nested/failed.json").read_text())

    assert run.entered == ["EnrollCsr", "ChooseByOutcome", "EnrollmentFailed"]
    assert failed["error"] == golden["Error"]
    assert list(json.loads(failed["cause"])) == list(json.loads(golden["Cause"]))
    assert run.document["enrollmentId"] == run.record["id"]


def test_an_event_in_our_own_name_starts_nothing(ran: Ran) -> None:
    assert ran(refused_at_every_door).more["forged"] == {}
