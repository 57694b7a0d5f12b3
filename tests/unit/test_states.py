"""Payloads between states outlive a deploy: each release's samples are read by this one's models.

An enrollment waits for days, so a function may be called with what an older definition sends.
"""

import json
from pathlib import Path
from typing import Any

import jsonata
import pytest

from countersign import models as m
from countersign.errors import AwsCallError
from countersign.request import intake
from countersign.states import close_enrollment

ROOT = Path(__file__).parents[2]
RELEASES = sorted((ROOT / "events/states").iterdir())
SAMPLES = [path for release in RELEASES for path in sorted(release.glob("*.json"))]
TASKS: dict[str, dict[str, Any]] = {
    name: state
    for name, state in json.loads((ROOT / "statemachine/enrollment.asl.json").read_text())[
        "States"
    ].items()
    if state.get("Resource", "").endswith(":lambda:invoke")
}
INPUTS: dict[str, type[m.Model]] = {
    "AcceptEnrollment": m.AcceptEnrollmentInput,
    "CreateKey": m.CreateKeyInput,
    "RequestCsr": m.RequestCsrInput,
    "PollRequest": m.PollRequestInput,
    "StoreCsr": m.StoreCsrInput,
    "RequestCertificate": m.RequestCertificateInput,
    "StoreCertificate": m.StoreCertificateInput,
    "DiscardKey": m.DiscardKeyInput,
    "CloseEnrollment": m.CloseEnrollmentInput,
}

type Json = dict[str, Any]


def state_of(sample: Path) -> str:
    """`close-enrollment-issued.json` is a payload of CloseEnrollment."""
    camel = "".join(word.title() for word in sample.stem.split("-"))
    (name,) = [name for name in TASKS if camel.startswith(name)]
    return name


def read(path: Path) -> Json:
    found: Json = json.loads(path.read_text())
    return found


def sample_id(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def test_every_state_has_a_model_and_every_release_a_sample_of_each_state() -> None:
    assert INPUTS.keys() == TASKS.keys()
    assert RELEASES
    for release in RELEASES:
        assert {state_of(path) for path in release.iterdir()} == TASKS.keys()


@pytest.mark.parametrize("sample", SAMPLES, ids=sample_id)
def test_a_payload_of_any_release_is_understood(sample: Path) -> None:
    given = INPUTS[state_of(sample)].read(read(sample))

    assert given.model_dump(mode="json", exclude_unset=True) == read(sample)


@pytest.mark.parametrize("sample", sorted(RELEASES[-1].glob("*.json")), ids=sample_id)
def test_the_newest_samples_are_what_the_state_machine_sends(sample: Path) -> None:
    state, payload = state_of(sample), read(sample)
    sends = TASKS[state]["Arguments"]["Payload"]

    names = evaluated(sends, payload).keys() if isinstance(sends, str) else sends.keys()
    assert set(names) == set(payload)


def evaluated(expression: str, payload: Json) -> Json:
    """The Payload of a state whose input and execution are those of `payload`."""
    execution = payload.get("execution", {"arn": payload.get("executionArn")})
    context = {
        "Id": execution["arn"],
        "Name": execution.get("name"),
        "Input": execution.get("input"),
        "StartTime": execution.get("startTime"),
    }
    program = jsonata.Jsonata(expression.removeprefix("{%").removesuffix("%}"))
    for name in ("enrollmentId", "request"):
        program.assign(name, payload.get(name))
    program.assign("states", {"context": {"Execution": context}, "input": payload})
    found: Json = program.evaluate(None)
    return found


# What the backstop receives -----------------------------------------------------------------------

BACKSTOP = ROOT / "events/backstop"


def backstop(name: str) -> Json:
    return read(BACKSTOP / f"{name}.json")


def detail(name: str) -> Json:
    found: Json = json.loads(backstop(name)["Records"][0]["body"])["detail"]
    return found


def known(name: str, **different: Any) -> Json:
    """What Step Functions says of the execution of this message."""
    said = {one: value for one, value in detail(name).items() if value is not None}
    return {"input": '{"request": {"enrollmentId": "web-2026-11"}}', **said, **different}


@pytest.mark.parametrize("path", sorted(BACKSTOP.iterdir()), ids=lambda path: path.stem)
def test_an_execution_that_ended_without_close_can_be_closed(path: Path) -> None:
    given = close_enrollment.closing(read(path), lambda _: known(path.stem))

    assert given.execution.arn == detail(path.stem)["executionArn"]
    assert intake.enrollment_id(given.execution.input, given.execution.name) == "web-2026-11"
    assert given.failure
    assert close_enrollment.failure(given.failure).action


def test_a_stopped_execution_is_a_failure_that_names_its_status() -> None:
    given = close_enrollment.closing(backstop("aborted"), lambda _: known("aborted"))

    assert given.failure
    failure = close_enrollment.failure(given.failure)
    assert failure.name == "ExecutionAborted"
    assert "ABORTED" in failure.message


@pytest.mark.parametrize("said", [None, "RUNNING", "PENDING_REDRIVE"])
def test_a_message_alone_closes_nothing(said: str | None) -> None:
    """Step Functions says that there is no such execution, or that it has not ended."""
    answer = known("aborted", status=said) if said else None

    with pytest.raises(AwsCallError, match=said or "no such execution"):
        close_enrollment.closing(backstop("aborted"), lambda _: answer)


def test_how_an_execution_ended_is_what_step_functions_says_not_the_message() -> None:
    said = known("aborted", status="TIMED_OUT", input='{"request": {"enrollmentId": "said"}}')
    given = close_enrollment.closing(backstop("aborted"), lambda _: said)

    assert given.execution.input == {"request": {"enrollmentId": "said"}}
    assert given.failure
    assert close_enrollment.failure(given.failure).name == "ExecutionTimedOut"


def test_a_failed_close_is_a_failure_in_the_words_of_its_error() -> None:
    given = close_enrollment.closing(
        backstop("failed-in-close"), lambda _: known("failed-in-close")
    )

    assert given.failure
    failure = close_enrollment.failure(given.failure)
    assert failure.name == "AwsCallError"
    assert failure.message.startswith("emitting Enrollment Failed")


def test_a_failed_enrollment_that_was_closed_is_known_by_the_document_in_its_cause() -> None:
    document = json.loads(detail("failed-after-close")["cause"])

    assert document["outcome"] == "FAILED"
    assert m.OutcomeDocument.read(document).enrollment_id == "web-2026-11"
