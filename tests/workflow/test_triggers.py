"""Every trigger: the same request through each, deliveries repeated, requests refused.

An execution is started with what each trigger gives it. That EventBridge, Scheduler and a parent's
execution give it just that is shown by tests/e2e/test_triggers.py.
"""

import hashlib
import json
import uuid
from typing import Any

import pytest

from countersign.request import canonical
from local import template
from local.approver import Approver
from local.engine.stack import InProcessStack
from local.engine.surroundings import ACCOUNT, REGION
from tests.case import Case, Json, Result, assert_issued, group, people, token
from tests.workflow.api import Caller, submit

TRIGGERS = ("start", "api", "event", "schedule", "workflow")
OCCURRENCE = "2026-10-01T06:00:00Z"
ARN = f"arn:aws:iam::{ACCOUNT}:user/somebody"
EVENT: Json = {"account": ACCOUNT, "time": "2026-11-26T11:59:58Z"}
# Its timeout is no whole number of minutes.
UNAPPROVABLE = token(group(*people(1)), timeout=601)


def nameless(case: Case, *tokens: Json) -> Json:
    """A request that leaves the enrollment's id, and the CSR's key, to the trigger."""
    requested = case.request(*tokens)
    del requested["enrollmentId"], requested["csr"]["signKeyName"]
    return requested


# What each trigger gives to the state machine, and the enrollment that it leads to ----------------


def by_event(case: Case, detail: Any) -> Json:
    """An event `Enrollment Requested` as the rule hands it on."""
    event = {**EVENT, "id": str(uuid.uuid4()), "detail": detail}
    case.id = f"event.{event['id']}"
    (target,) = template.read()["Resources"]["RequestedRule"]["Properties"]["Targets"]
    filled: str = target["InputTransformer"]["InputTemplate"]
    for name, path in target["InputTransformer"]["InputPathsMap"].items():
        value = event[path.removeprefix("$.")]
        filled = filled.replace(f"<{name}>", value if isinstance(value, str) else json.dumps(value))
    return dict(json.loads(filled))


def by_schedule(case: Case, requested: Json) -> Json:
    """An occurrence of a schedule as docs/schedule.yaml makes one."""
    name = f"rotate-{case.id}"
    case.id = f"schedule.{name}.{OCCURRENCE.replace('-', '').replace(':', '')}"
    arn = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/countersign/{name}"
    return {"request": requested, "origin": {"trigger": "schedule", "id": arn, "time": OCCURRENCE}}


def by_workflow(case: Case, requested: Json) -> Json:
    """A nested execution of the parent in docs/nested.asl.json."""
    parent = f"arn:aws:states:{REGION}:{ACCOUNT}:execution:delivery:{case.id}"
    return {
        "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": parent,
        "request": {"enrollmentId": case.id, **requested},
    }


def announced_origin(result: Result) -> Json:
    """The origin in the event of the end, where null is what the record does not say."""
    return present(result.ending["detail"]["origin"])


def present(origin: Json) -> Json:
    return {
        name: present(value) if isinstance(value, dict) else value
        for name, value in origin.items()
        if value is not None
    }


# Accepted -----------------------------------------------------------------------------------------


def test_the_same_request_makes_the_same_record_through_every_trigger(
    stack: InProcessStack,
) -> None:
    person = Approver.generate("Ada", "ec")
    cases = {trigger: Case(stack) for trigger in TRIGGERS}
    requested = {trigger: nameless(case, token(group(person))) for trigger, case in cases.items()}
    results = {}

    def carried_out(trigger: str) -> None:
        cases[trigger].approve(person)
        results[trigger] = cases[trigger].end(cases[trigger].execution())

    cases["start"].start({**requested["start"], "enrollmentId": cases["start"].id})
    carried_out("start")
    posted = {**requested["api"], "enrollmentId": cases["api"].id}
    Caller(stack).call("POST", "/enrollments", posted)
    carried_out("api")
    for trigger, by in (("event", by_event), ("schedule", by_schedule), ("workflow", by_workflow)):
        cases[trigger].start_input(by(cases[trigger], requested[trigger]))
        carried_out(trigger)

    records = {trigger: comparable(result) for trigger, result in results.items()}
    for trigger, result in results.items():
        assert_issued(result)
        assert records[trigger] == records["start"]
        assert result.record["requestSha256"] == canonical.sha256(plain(result.record["request"]))
        assert announced_origin(result) == result.record["origin"]
        assert result.record["origin"]["trigger"] == trigger
    origins = {trigger: result.record["origin"] for trigger, result in results.items()}
    assert f"event.{origins['event']['id']}" == results["event"].record["id"]
    assert origins["event"] == {
        "trigger": "event",
        "id": origins["event"]["id"],
        "account": ACCOUNT,
        "said": {"trigger": "event", "time": EVENT["time"]},  # which a sender chooses
    }
    assert origins["schedule"]["time"] == OCCURRENCE
    assert origins["workflow"]["said"]["id"].endswith(f":execution:delivery:{cases['workflow'].id}")


def comparable(result: Result) -> Json:
    """A record without what is each enrollment's own: ids, times, keys; its label in one word."""
    own = {
        "id", "executionArn", "origin", "requestSha256", "publicKeySha256", "csr",
        "acceptedAt", "announced", "verifiedSha256", "acceptedSha256", "metaDataSha256",
        "metaDataSignature", "verifiedAt", "keyVerifiedAt",
    }  # fmt: skip
    record = {name: value for name, value in plain(result.record).items() if name not in own}
    record["request"].pop("enrollmentId", None)
    # Only the API knows who asks.
    record["findings"] = [one for one in record["findings"] if one["code"] != "requester-unknown"]
    record["times"] = sorted(record["times"])
    step = record["steps"]["csr"]
    step["times"] = sorted(step["times"])
    del step["intent"], step["requestId"], step["answerSha256"]
    compared: Json = json.loads(json.dumps(record).replace(result.label, "the label"))
    return {**compared, "attributes": sorted(result.record)}


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=int))


def test_a_schedule_s_key_carries_the_date_of_the_occurrence(case: Case) -> None:
    (person,) = people(1)
    requested = nameless(case, token(group(person)))
    requested["key"]["label"] += "-{yyyy}-{mm}"
    case.label += "-2026-10"
    arn = case.start_input(by_schedule(case, requested))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    assert result.record["keyLabel"] == case.label
    assert result.record["request"]["key"]["label"] == case.label
    assert result.record["id"].endswith(".20261001T060000Z")


@pytest.mark.parametrize("by", [by_event, by_schedule])
def test_a_repeated_delivery_is_the_same_enrollment(case: Case, by: Any) -> None:
    (person,) = people(1)
    delivered = by(case, nameless(case, token(group(person))))
    arn = case.start_input(delivered)
    case.approve(person)
    first = case.end(arn)
    second = case.end(case.start_input(delivered), event=False)

    assert second.status == "SUCCEEDED"
    assert second.document == {**first.document, "duplicate": True}
    assert second.endings == ["Enrollment Issued"]
    assert not {"Enrollment Refused", "Enrollment Failed"} & set(second.event_types)


def test_an_event_with_the_id_of_another_request_is_refused_and_told_so(case: Case) -> None:
    (person,) = people(1)
    requested = case.request(token(group(person)))
    arn = case.start(requested)
    case.approve(person)
    result = case.end(arn)
    other = by_event(Case(case.stack), {**requested, "reason": "another request"})
    case.end(case.start_input(other))

    refused = case.await_event("Enrollment Refused")["detail"]
    assert refused["error"]["name"] == "EnrollmentConflictError"
    assert refused["error"]["message"].startswith(f"enrollment id {case.id} belongs")
    assert refused["origin"]["id"] == other["origin"]["id"]
    assert case.record() == result.record


def test_production_asks_who_asks_and_only_the_api_knows(case: Case) -> None:
    requested = case.by_profile("code-signing")
    forged = {"trigger": "api", "id": case.id, "principal": ARN}
    refused = [
        case.end(case.start(requested)),
        case.end(case.start(requested, **forged)),
    ]
    arn = submit(case, requested)
    case.approve(case.stack.people["Ada Lovelace"], case.stack.people["Alan Turing"])
    issued = case.end(arn)

    for one in refused:
        assert one.document["error"]["name"] == "InvalidEnrollmentError"
        assert "(requester-unknown)" in one.document["error"]["message"]
        assert not one.calls
    assert issued.document["outcome"] == "ISSUED"
    assert "requester-unknown" not in [one["code"] for one in issued.record["findings"]]
    assert issued.record["origin"]["principal"] == ARN


# Refused ------------------------------------------------------------------------------------------


TIMEOUT = "request.key.policy.ruleUse.tokens.0.timeout"


@pytest.mark.parametrize(
    ("by", "requested", "field"),
    [
        (by_event, None, TIMEOUT),
        (by_event, ["please", "a CSR"], "request"),
        (by_schedule, None, TIMEOUT),
        (by_workflow, None, TIMEOUT),
    ],
    ids=["event", "text", "schedule", "workflow"],
)
def test_a_bad_request_fails_with_an_event_that_names_field_and_origin(
    case: Case, by: Any, requested: Any, field: str
) -> None:
    delivered = by(case, requested or nameless(case, UNAPPROVABLE))
    result = case.end(case.start_input(delivered))

    assert result.status == "FAILED"
    assert result.error == result.document["error"]["name"] == "InvalidEnrollmentError"
    assert result.event_types == ["Enrollment Failed"]
    assert result.ending["detail"]["error"] == result.document["error"] == result.record["error"]
    assert result.ending["detail"]["error"]["field"] == field
    assert announced_origin(result) == result.record["origin"]
    assert {**result.record["origin"], **result.record["origin"].get("said", {})}["id"]
    assert not result.calls


@pytest.mark.parametrize("by", [by_event, by_schedule])
def test_a_refused_delivery_that_is_repeated_is_announced_once(case: Case, by: Any) -> None:
    delivered = by(case, nameless(case, UNAPPROVABLE))
    case.end(case.start_input(delivered))
    second = case.end(case.start_input(delivered), event=False)

    assert second.status == "FAILED"
    assert second.error == "InvalidEnrollmentError"
    assert second.event_types == ["Enrollment Failed"]


# Ids that nobody takes in advance -----------------------------------------------------------------


def test_an_id_of_the_api_is_taken_by_no_execution(case: Case, stack: InProcessStack) -> None:
    (person,) = people(1)
    requested = nameless(case, token(group(person)))
    key = {"Idempotency-Key": "the commit that everybody knows"}
    known = f"api.{hashlib.sha256(json.dumps([ACCOUNT, ARN, *key.values()]).encode()).hexdigest()}"
    case.id = known[:44]
    taken = {**requested, "reason": "mine"}
    refused = case.end(case.start(taken, trigger="api", id=case.id))
    answer = Caller(stack).call("POST", "/enrollments", requested, headers=key)

    assert refused.error == "InvalidEnrollmentError"
    assert refused.document["error"]["field"] == "origin.id"
    assert answer.status_code == 202
    assert answer.json()["enrollmentId"] == case.id
    assert answer.json()["attempt"] == 1
    case.approve(person)
    issued = case.end(case.execution())
    assert issued.document["outcome"] == "ISSUED"
    assert issued.record["request"] == requested


def test_an_occurrence_to_come_is_taken_by_nobody(case: Case) -> None:
    given = by_schedule(case, nameless(case, token(group(*people(1)))))
    given["origin"]["time"] = "2099-10-01T06:00:00Z"
    case.id = case.id.replace("2026", "2099")
    result = case.end(case.start_input(given))

    assert result.document["error"]["field"] == "origin.time"
    assert "requestSha256" not in result.record


# Delivered twice at once, at every trigger --------------------------------------------------------


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_request_delivered_twice_at_once_is_one_enrollment(
    case: Case, stack: InProcessStack, trigger: str
) -> None:
    requested = nameless(case, token(group(*people(1))))
    named = {**requested, "enrollmentId": case.id}
    by = {"event": by_event, "schedule": by_schedule, "workflow": by_workflow}
    given = by[trigger](case, requested) if trigger in by else {"request": named}
    for _ in range(2):
        if trigger == "api":
            Caller(stack).begin("POST", "/enrollments", named)
        else:
            case.start_input(given)
    arn = case.execution()
    case.decide("approve")

    assert_issued(case.end(arn))
