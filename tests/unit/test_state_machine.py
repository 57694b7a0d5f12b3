"""What of the definition no run can show: names that only AWS gives, times that only AWS counts,
ways that must not exist. What it does is shown by tests/workflow, its retries by test_retries.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from countersign import errors, polling
from tests.definitions import slower

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "statemachine/enrollment.asl.json").read_text()
STATES: dict[str, dict[str, Any]] = json.loads(TEXT)["States"]
TASKS = {
    name: state
    for name, state in STATES.items()
    if state.get("Resource", "").endswith(":lambda:invoke")
}
OURS = {error.__name__ for error in errors.CountersignError.__subclasses__()}
EVERYTHING = "States.ALL"
TIMEOUT_SECONDS = 30  # template.yaml, Globals


def clauses(kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, clause) for name, state in TASKS.items() for clause in state.get(kind, [])]


def targets(state: dict[str, Any]) -> set[str]:
    nexts = [state.get("Next"), state.get("Default")]
    nexts += [clause["Next"] for clause in (*state.get("Choices", []), *state.get("Catch", []))]
    return {name for name in nexts if name}


@pytest.mark.parametrize("name", TASKS)
def test_lambda_s_own_word_comes_before_the_timeout_of_the_task(name: str) -> None:
    timeout = TASKS[name]["TimeoutSeconds"]

    assert isinstance(timeout, int)
    assert TIMEOUT_SECONDS < timeout <= 120


@pytest.mark.parametrize("kind", ["Retry", "Catch"])
def test_every_error_that_is_named_is_one_of_ours(kind: str) -> None:
    """The platform's names are never complete, so what is to be done does not depend on them."""
    found = {name for _, clause in clauses(kind) for name in clause["ErrorEquals"]}

    assert found - {EVERYTHING}
    assert found - {EVERYTHING} <= OURS


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("kind", ["Retry", "Catch"])
def test_any_other_error_comes_alone_and_last(name: str, kind: str) -> None:
    """As AWS demands it: a definition that has States.ALL elsewhere is refused."""
    lists = [clause["ErrorEquals"] for clause in TASKS[name].get(kind, [])]
    if name == "PollRequest" and kind == "Retry":
        assert not lists  # its loop is the retry
        return

    assert lists[-1] == [EVERYTHING]
    assert not any(EVERYTHING in one for one in lists[:-1])


def test_a_wait_ends_by_time_by_a_wake_or_by_a_cancellation_and_never_fails() -> None:
    wait = STATES["WaitForApproval"]
    ends = [(one["ErrorEquals"], one["Next"]) for one in wait["Catch"]]

    assert wait["Resource"].endswith(":aws-sdk:dynamodb:updateItem.waitForTaskToken")
    assert "Retry" not in wait  # a table that refuses must not be asked again and again
    assert ends == [
        (["States.Timeout"], "PollRequest"),
        (["DynamoDb.ConditionalCheckFailedException"], "PollRequest"),
        ([EVERYTHING], "WaitWithoutToken"),
    ]
    assert wait["Next"] == STATES["WaitWithoutToken"]["Next"] == "PollRequest"


def test_retries_have_jitter_but_where_it_would_take_what_the_wait_is_for() -> None:
    """No interpreter of the tests draws random waits."""
    plain = [retry for _, retry in clauses("Retry") if retry.get("JitterStrategy") != "FULL"]

    for retry in (one for one in plain if one["MaxAttempts"]):
        assert retry["JitterStrategy"] == "NONE"
        for_a_day = retry["MaxAttempts"] > 100
        until_nobody_is_at_work = retry["IntervalSeconds"] > TIMEOUT_SECONDS
        assert for_a_day or until_nobody_is_at_work


SETTLED = next(one for one in STATES["ChooseNext"]["Choices"] if one["Next"] == "CloseEnrollment")
FAILURE = {"failure": {"state": "StoreCsr", "error": "CsrInvalidError", "cause": ""}}


@pytest.mark.parametrize(
    ("given", "keep", "delete"),
    [
        ({"outcome": "ISSUED"}, False, False),
        ({"tsbStatus": "REJECTED", "outcome": None, "pem": None}, False, True),
        ({"tsbStatus": "EXPIRED", "outcome": None, "pem": None}, False, True),
        # TSB may hold an open request: a failure, a cancellation that it was not told of.
        ({"tsbStatus": None, "outcome": "CANCELLED", "pem": None}, True, True),
        ({"tsbStatus": "CANCELLED", "outcome": None, "pem": None}, True, True),
        ({"tsbStatus": "FAILED", "outcome": None, "pem": None}, True, True),
        # Each word counts in its own field alone.
        ({"tsbStatus": "ISSUED", "outcome": None}, True, True),
        ({"tsbStatus": None, "outcome": "REJECTED"}, True, True),
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


def evaluated(expression: str, given: dict[str, Any], **more: Any) -> Any:
    import jsonata  # noqa: PLC0415

    frame = jsonata.Jsonata(expression.strip("{}% "))
    frame.assign("states", {"input": given})
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


def test_silence_slows_the_polls_as_the_schedule_says() -> None:
    (expression,) = [
        clause["Assign"]["waitSeconds"]
        for clause in TASKS["PollRequest"]["Catch"]
        if clause["ErrorEquals"] == [EVERYTHING]
    ]
    schedule = polling.Schedule(window_seconds=86_400, timelock_seconds=0)

    import jsonata  # noqa: PLC0415  only this test evaluates an expression

    for wait in (10, 11, 60, 750, 900):
        frame = jsonata.Jsonata(expression.strip("{}% "))
        frame.assign("waitSeconds", wait)
        frame.assign("schedule", {"growth": schedule.growth, "slowestSeconds": schedule.cap})
        assert frame.evaluate(None) == slower(wait, schedule.growth, schedule.cap)
