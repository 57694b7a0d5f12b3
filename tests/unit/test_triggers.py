"""Every trigger's samples against the models that read them; and the caller's side of nesting."""

import json
import re
from pathlib import Path
from typing import Any

import jsonata
import pytest

from countersign import models
from countersign.policy.profiles import Profiles
from countersign.request import intake, validation
from local.template import read

ROOT = Path(__file__).parents[2]
EVENTS = ROOT / "events"
NESTED = json.loads((ROOT / "docs/nested.asl.json").read_text())
RULES = validation.Rules(
    profiles=Profiles(ROOT / "profiles"),
    key_password_prefix="arn:aws:secretsmanager:x",
    allow_raw_policy=True,
)
UNWRAP: str = NESTED["States"]["EnrollCsr"]["Catch"][0]["Output"]
SCHEDULE_ARN = "arn:aws:scheduler:eu-central-1:123456789012:schedule/countersign/rotate-installer"


def sample(path: str) -> Any:
    return json.loads((EVENTS / path).read_text())


def accepted(machine_input: Any) -> models.StatedOrigin:
    """As AcceptEnrollment reads it; its origin."""
    requested, origin = intake.requested(machine_input)
    validation.read(requested, rules=RULES, requester=None, moment=models.now())
    return origin


def test_the_sample_of_a_start_by_hand_is_accepted() -> None:
    given = sample("start/request.json")

    assert accepted(given).trigger == "start"
    assert intake.enrollment_id(given, "run-1") == "release-4-2"


def test_the_sample_of_an_event_is_accepted_as_the_rule_hands_it_on() -> None:
    (entry,) = sample("event/entries.json")
    given = sample("event/input.json")

    assert entry["DetailType"] == "Enrollment Requested"
    assert json.loads(entry["Detail"]) == given["request"]
    assert accepted(given).trigger == "event"
    assert intake.enrollment_id(given, "run-1") == f"event.{given['origin']['id']}"


def test_the_rule_s_template_makes_the_sample_s_input_of_the_sample_s_event() -> None:
    target = read("template.yaml")["Resources"]["RequestedRule"]["Properties"]["Targets"][0]
    transformer, given = target["InputTransformer"], sample("event/input.json")
    event = {**given["origin"], "detail": given["request"]}

    filled = transformer["InputTemplate"]
    for name, path in transformer["InputPathsMap"].items():
        value = event[path.removeprefix("$.")]
        filled = filled.replace(f"<{name}>", value if isinstance(value, str) else json.dumps(value))

    assert json.loads(filled) == given
    # What a sender may choose is an object here and never text: texts are not escaped.
    assert set(re.findall(r'"<(\w+)>"', transformer["InputTemplate"])) == {"id", "account", "time"}


def test_the_sample_of_a_schedule_is_accepted_as_the_scheduler_fills_it_in() -> None:
    text = (EVENTS / "schedule/input.json").read_text()
    filled = text.replace("<aws.scheduler.schedule-arn>", SCHEDULE_ARN)
    filled = filled.replace("<aws.scheduler.scheduled-time>", "2027-01-01T06:00:00Z")
    given = json.loads(filled)

    assert accepted(given).trigger == "schedule"
    assert intake.requested(given)[0]["key"]["label"] == "installer-2027-01"
    assert intake.enrollment_id(given, "run-1") == "schedule.rotate-installer.20270101T060000Z"


def test_the_schedule_s_template_carries_the_sample() -> None:
    properties = read("docs/schedule.yaml")["Resources"]["Schedule"]["Properties"]

    assert json.loads(properties["Target"]["Input"]) == sample("schedule/input.json")


def test_the_sample_of_a_nested_call_is_accepted_as_the_parent_hands_it_on() -> None:
    arguments = NESTED["States"]["EnrollCsr"]["Arguments"]["Input"]
    parent = "arn:aws:states:eu-central-1:123456789012:execution:delivery:train-9"
    execution = {"Id": parent, "Name": "train-9", "Input": sample("nested/request.json")}

    given = {
        name: evaluated(text, {"context": {"Execution": execution}})
        for name, text in arguments.items()
    }

    assert accepted(given) == models.StatedOrigin(trigger="workflow", id=parent)
    assert intake.enrollment_id(given, "run-1") == "train-9"


# What the parent makes of a failure ---------------------------------------------------------------


def evaluated(expression: str, states: dict[str, Any]) -> Any:
    frame = jsonata.Jsonata(expression.removeprefix("{%").removesuffix("%}"))
    frame.assign("states", states)
    frame.register_lambda("parse", json.loads)  # Step Functions' own, beyond JSONata
    return frame.evaluate(None)


def unwrapped(error_output: Any) -> Any:
    return evaluated(UNWRAP, {"errorOutput": error_output})


@pytest.mark.parametrize(
    ("given", "trigger"),
    [
        ({"resume": "web-2026-11"}, "start"),
        ({"resume": "web-2026-11", intake.NESTED_STARTER: "arn"}, "workflow"),
        ({"resume": "web-2026-11", "origin": {"trigger": "api", "id": "another"}}, "api"),
        ({"resume": "web-2026-11", "origin": {"trigger": "event", "id": "another"}}, "event"),
    ],
)
def test_an_input_that_resumes_names_its_enrollment_and_nothing_else(
    given: dict[str, Any], trigger: str
) -> None:
    assert intake.resumed(given) == "web-2026-11"
    assert intake.enrollment_id(given, "run-1") == "web-2026-11"
    assert intake.split_input(given)[0] is None
    assert intake.split_input(given)[1].trigger == trigger


@pytest.mark.parametrize(
    "given",
    [
        {"resume": "web/2026"},
        {"resume": 11},
        {"resume": "web-2026-11", "key": {}},
        {"resume": "web-2026-11", "request": {}},
        {"origin": {"trigger": "api"}},
        {"request": {"resume": "web-2026-11"}},
        "web-2026-11",
        None,
    ],
    ids=str,
)
def test_any_other_input_is_a_request_and_resumes_nothing(given: Any) -> None:
    assert intake.resumed(given) is None
    assert intake.enrollment_id(given, "run-1") == "run-1"


def test_the_outcome_document_is_found_in_aws_s_description_of_the_failed_child() -> None:
    failed = sample("nested/failed.json")
    described = json.loads(failed["Cause"])

    found = unwrapped(failed)

    assert failed["Error"] == "States.TaskFailed"
    assert list(described) == sorted(described)
    assert found == json.loads(described["Cause"])
    assert models.OutcomeDocument.read(found).error is not None
    assert found["error"]["name"] == described["Error"] == "InvalidEnrollmentError"


def test_the_outcome_document_is_found_in_our_own_failure() -> None:
    own = sample("nested/own-failure.json")

    assert unwrapped(own) == json.loads(own["Cause"])


@pytest.mark.parametrize(
    ("failure", "name", "message"),
    [
        (sample("nested/aborted.json"), "ABORTED", "stopped by hand"),
        (sample("nested/timed-out.json"), "TIMED_OUT", "ended without an outcome"),
        ({"Error": "StepFunctions.X", "Cause": "not authorized"}, "StepFunctions.X", "authorized"),
        ({"Error": "States.TaskFailed", "Cause": '{"ExecutionArn":"cut'}, "States.TaskFailed", "{"),
        ({"Error": "States.Timeout", "Cause": ""}, "States.Timeout", ""),
    ],
)
def test_a_child_that_left_no_document_is_a_failure_too(
    failure: Any, name: str, message: str
) -> None:
    found = unwrapped(failure)

    # The fields of a document, so that a parent need not know which of the two it has.
    assert found.keys() <= models.OutcomeDocument.model_json_schema()["properties"].keys()
    assert found["outcome"] == "FAILED"
    assert found["error"]["name"] == name
    assert message in found["error"]["message"]


def test_the_parent_knows_every_outcome_and_an_open_one() -> None:
    choices = NESTED["States"]["ChooseByOutcome"]

    def chosen(outcome: str | None) -> str:
        states = {"input": {"outcome": outcome}}
        for choice in choices["Choices"]:
            if evaluated(choice["Condition"], states):
                return str(choice["Next"])
        return str(choices["Default"])

    assert {outcome.value: chosen(outcome.value) for outcome in models.Outcome} == {
        "ISSUED": "UseCsr",
        "REJECTED": "DoWithout",
        "EXPIRED": "DoWithout",
        "CANCELLED": "DoWithout",
        "FAILED": "EnrollmentFailed",
    }
    assert chosen(None) == "WaitForTheOther"
