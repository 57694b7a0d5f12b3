"""The definition, read as text: names, time-outs, ways out. What it does is shown by tests/e2e."""

import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest

from countersign import errors, polling
from tests.definitions import slower

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "statemachine/enrollment.asl.json").read_text()
STATES: dict[str, dict[str, Any]] = json.loads(TEXT)["States"]
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
OURS = {error.__name__ for error in errors.CountersignError.__subclasses__()}
LAMBDA = boto3.client("lambda", region_name="eu-central-1").meta.service_model
INVOKE_ERRORS = {f"Lambda.{shape.name}" for shape in LAMBDA.operation_model("Invoke").error_shapes}
# Names that Lambda and Step Functions give. Source: Step Functions, "Handling error conditions";
# Lambda, "Understanding retry behavior"; class names checked with awslambdaric 4.2.2.
PLATFORM = INVOKE_ERRORS | {
    "States.ALL", "States.Timeout", "Sandbox.Timedout", "Runtime.ExitError",
    "Lambda.AWSLambdaException", "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException", "Lambda.Unknown",
}  # fmt: skip
# The function did not run: too many at once, or it was idle for weeks and is made ready again.
NOT_STARTED = {
    "Lambda.TooManyRequestsException", "Lambda.ResourceNotReadyException",
    "Lambda.ResourceConflictException", "Lambda.ENINotReadyException",
    "Lambda.CodeArtifactUserPendingException", "Lambda.EC2ThrottledException",
    "Lambda.EC2UnexpectedException", "Lambda.ENILimitReachedException",
    "Lambda.SubnetIPAddressLimitReachedException",
}  # fmt: skip


TIMEOUT_SECONDS = 30  # template.yaml, Globals
INIT_SECONDS = 10  # of a cold start, before that begins to count


def clauses(kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, clause) for name, state in TASKS.items() for clause in state.get(kind, [])]


def targets(state: dict[str, Any]) -> set[str]:
    nexts = [state.get("Next"), state.get("Default")]
    nexts += [clause["Next"] for clause in (*state.get("Choices", []), *state.get("Catch", []))]
    return {name for name in nexts if name}


def test_it_is_jsonata_throughout() -> None:
    assert json.loads(TEXT)["QueryLanguage"] == "JSONata"
    assert not re.search(r'"(Parameters|ResultPath|InputPath|ResultSelector)"|\.\$"', TEXT)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_its_timeout_and_catches_everything(name: str) -> None:
    task = TASKS[name]

    # Literal, and above the functions' Timeout: Lambda's own word comes first.
    assert isinstance(task["TimeoutSeconds"], int)
    assert TIMEOUT_SECONDS < task["TimeoutSeconds"] <= 120
    assert task["Catch"][-1]["ErrorEquals"] == ["States.ALL"]


@pytest.mark.parametrize("kind", ["Retry", "Catch"])
def test_every_error_name_exists_and_is_written_out(kind: str) -> None:
    found = {name for _, clause in clauses(kind) for name in clause["ErrorEquals"]}

    assert found
    assert found <= OURS | PLATFORM
    assert not any("*" in name for name in found)
    assert "States.TaskFailed" not in found


def test_every_error_of_ours_is_raised_and_told_apart_somewhere() -> None:
    sources = "\n".join(
        path.read_text() for path in (ROOT / "layers/core/countersign").rglob("*.py")
    )

    assert [
        name for name in OURS if not re.search(rf"(raise|return|error =) .*{name}", sources)
    ] == []


# Credentials may be exchanged at the TSB before they are in the secrets.
AWAY = ["TsbUnavailableError", "TsbOutcomeUnknownError", "TsbCredentialsError"]


def test_retries_back_off_with_jitter_and_are_bounded() -> None:
    for _, retry in clauses("Retry"):
        assert "States.ALL" not in retry["ErrorEquals"]
        if retry["ErrorEquals"] == AWAY or retry["JitterStrategy"] == "NONE":
            continue
        if set(retry["ErrorEquals"]) == NOT_STARTED:
            assert retry["MaxAttempts"] == 20
            continue
        assert retry["JitterStrategy"] == "FULL"
        assert retry["BackoffRate"] > 1
        assert retry["MaxDelaySeconds"] <= 60
        assert 1 <= retry["MaxAttempts"] <= 10


@pytest.mark.parametrize("state", ["StoreCsr", "DiscardKey"])
def test_an_approval_and_a_fresh_key_outlast_a_day_without_the_tsb(state: str) -> None:
    (retry,) = (r for r in TASKS[state]["Retry"] if "TsbUnavailableError" in r["ErrorEquals"])
    waits = [
        min(retry["IntervalSeconds"] * retry["BackoffRate"] ** number, retry["MaxDelaySeconds"])
        for number in range(retry["MaxAttempts"])
    ]

    assert retry["ErrorEquals"] == AWAY
    assert retry["JitterStrategy"] == "NONE"  # it would halve the day
    assert sum(waits[:8]) < 600  # a TSB that is away for minutes is noticed soon
    assert 24 * 3600 <= sum(waits) < 25 * 3600
    assert 3 * len(waits) < 500  # history events: the budget is the loop's


def test_a_function_that_is_not_ready_is_waited_for_in_every_state() -> None:
    # Made ready within minutes: github.com/aws/aws-cdk/pull/20922. Half, for the jitter.
    for name, task in TASKS.items():
        clauses = task["Catch"][:1] if name == "PollRequest" else task["Retry"]
        (one,) = (clause for clause in clauses if set(clause["ErrorEquals"]) >= NOT_STARTED)
        if "IntervalSeconds" in one:
            waits = [
                min(one["IntervalSeconds"] * one["BackoffRate"] ** number, one["MaxDelaySeconds"])
                for number in range(one["MaxAttempts"])
            ]
            assert sum(waits) / 2 > 8 * 60


def test_a_request_for_a_csr_is_retried_where_nothing_was_executed_or_nobody_asks_any_more() -> (
    None
):
    lost = {
        name
        for retry in TASKS["RequestCsr"]["Retry"]
        if retry["JitterStrategy"] == "NONE"
        and retry["IntervalSeconds"] >= TIMEOUT_SECONDS + INIT_SECONDS
        for name in retry["ErrorEquals"]
    }
    retried = {name for retry in TASKS["RequestCsr"]["Retry"] for name in retry["ErrorEquals"]}

    assert retried - lost == {"TsbUnavailableError", "RequestNotSentError"} | NOT_STARTED
    assert {"Runtime.ExitError", "Sandbox.Timedout", "States.Timeout", "AwsCallError"} <= lost
    assert not {"TsbOutcomeUnknownError"} & retried


def test_whatever_leaves_the_answer_unknown_discards_the_key() -> None:
    closed, discarded = TASKS["RequestCsr"]["Catch"]

    assert closed["Next"] == "ChooseNext"
    assert "unanswered" not in closed["Output"]
    assert discarded["Output"]["unanswered"] is True
    assert "RequestNotSentError" in closed["ErrorEquals"]
    assert not {"TsbOutcomeUnknownError", "AwsCallError", "States.Timeout"} & set(
        closed["ErrorEquals"]
    )
    assert discarded["Next"] == "DiscardKey"


def test_polling_has_no_retry_and_goes_on_waiting() -> None:
    looping = TASKS["PollRequest"]["Catch"][0]

    assert "Retry" not in TASKS["PollRequest"]
    assert {"TsbUnavailableError", "TsbOutcomeUnknownError"} <= set(looping["ErrorEquals"])
    assert looping["Next"] == "IsSilentTooLong"


SETTLED = STATES["ChooseNext"]["Choices"][2]
FAILURE = {"failure": {"state": "StoreCsr", "error": "CsrInvalidError", "cause": ""}}


@pytest.mark.parametrize(
    ("given", "keep", "delete"),
    [
        ({"status": "ISSUED", "csr": {}}, False, False),
        ({"status": "REJECTED", "pem": None}, False, True),
        ({"status": "EXPIRED", "pem": None}, False, True),
        # TSB may hold an open request: a failure, a cancellation that it was not told of.
        ({"status": "CANCELLED", "pem": None}, True, True),
        ({"status": "FAILED", "pem": None}, True, True),
        ({"status": "FROBNICATED", "pem": None}, True, True),
        (FAILURE, True, True),
    ],
)
def test_an_end_without_a_csr_passes_discard_key_where_there_is_something_to_do(
    given: dict[str, Any], keep: bool, delete: bool
) -> None:
    for unused, expected in ((None, keep), ("keep", keep), ("delete", delete), ("block", delete)):
        request = {"unusedKey": unused} if unused else {}
        assert evaluated(SETTLED["Condition"], given, request=request) is not expected
    assert (SETTLED["Next"], STATES["ChooseNext"]["Default"]) == ("CloseEnrollment", "DiscardKey")


@pytest.mark.parametrize("given", [{"status": "REJECTED", "pem": None}, FAILURE])
def test_a_key_that_cannot_be_settled_changes_no_outcome(given: dict[str, Any]) -> None:
    (caught,) = TASKS["DiscardKey"]["Catch"]
    error = {"Error": "TsbUnavailableError", "Cause": "later"}

    assert evaluated(caught["Output"], given, errorOutput=error) == given
    lost = evaluated(caught["Output"], {**FAILURE, "unanswered": True}, errorOutput=error)
    assert lost["failure"]["state"] == "DiscardKey"


def evaluated(expression: str, given: dict[str, Any], **more: Any) -> Any:
    import jsonata  # noqa: PLC0415

    frame = jsonata.Jsonata(expression.strip("{}% "))
    frame.assign("states", {"input": given, "errorOutput": more.get("errorOutput")})
    frame.assign("request", more.get("request"))
    return frame.evaluate(None)


def test_every_choice_has_a_default() -> None:
    choices = {name: state for name, state in STATES.items() if state["Type"] == "Choice"}

    assert choices
    assert all("Default" in state for state in choices.values())


def test_every_way_out_but_a_duplicate_passes_close_enrollment() -> None:
    ends = {name for name, state in STATES.items() if state["Type"] in {"Succeed", "Fail"}}
    into = {end: {name for name, state in STATES.items() if end in targets(state)} for end in ends}

    assert not any(state.get("End") for state in STATES.values())
    assert into.pop("DuplicateEnrollment") == {"IsDuplicate"}
    assert into == {
        "EnrollmentEnded": {"IsFailed"},
        "EnrollmentFailed": {"IsFailed"},
        "CloseFailed": {"CloseEnrollment"},
    }
    assert {name for name, state in STATES.items() if "IsFailed" in targets(state)} == {
        "CloseEnrollment"
    }


def test_every_state_is_reachable_and_every_target_exists() -> None:
    reached, todo = set(), [json.loads(TEXT)["StartAt"]]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += targets(STATES[name])

    assert reached == set(STATES)


def test_silence_slows_the_looks_as_the_schedule_says() -> None:
    expression = TASKS["PollRequest"]["Catch"][0]["Assign"]["waitSeconds"]
    schedule = polling.Schedule(window_seconds=86_400, timelock_seconds=0)

    import jsonata  # noqa: PLC0415  only this test evaluates an expression

    for wait in (10, 11, 60, 750, 900):
        frame = jsonata.Jsonata(expression.strip("{}% "))
        frame.assign("waitSeconds", wait)
        frame.assign("schedule", {"growth": schedule.growth, "slowestSeconds": schedule.cap})
        assert frame.evaluate(None) == slower(wait, schedule.growth, schedule.cap)


def test_placeholders_stand_inside_quotes_only() -> None:
    assert set(re.findall(r"\$\{(\w+)\}", TEXT)) == {
        "Partition", *(f"{name}FunctionArn" for name in TASKS)
    }  # fmt: skip
