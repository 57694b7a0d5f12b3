"""What an operator finds: one id through logs and events, and the watch over what is pending."""

import json

import pytest

from local.stack import STACK_NAME, Stack
from tests.e2e.scenarios import (
    ResultOf,
    Scenario,
    cancelled_in_a_wait,
    issued,
    woken,
)

pytestmark = pytest.mark.e2e


def lines(stack: Stack, function: str) -> list[dict[str, object]]:
    """The log of a function, as its own lines of JSON."""
    found = []
    pages = stack.client("logs").get_paginator("filter_log_events")
    for page in pages.paginate(logGroupName=f"/aws/lambda/{STACK_NAME}-{function}"):
        for event in page["events"]:
            for line in event["message"].splitlines():
                if line.startswith("{"):
                    found.append(json.loads(line))
    return found


@pytest.mark.parametrize(
    "function",
    ["accept-enrollment", "create-key", "request-csr", "poll-request", "store-csr",
     "close-enrollment"],
)  # fmt: skip
def test_enrollment_id_and_execution_arn_stand_in_every_function_s_log(
    stack: Stack, result: ResultOf, function: str
) -> None:
    ended = result(issued)
    mine = [
        line
        for line in lines(stack, function)
        if line.get("enrollment_id") == ended.document["enrollmentId"]
    ]

    assert mine
    assert all(line["execution_arn"] == ended.arn for line in mine)
    assert all(line["function_request_id"] for line in mine)
    assert ended.events[0]["detail"]["executionArn"] == ended.arn


def test_calls_of_the_tsb_and_the_outcome_are_measured(stack: Stack, result: ResultOf) -> None:
    result(issued)
    polls = [line for line in lines(stack, "poll-request") if "TsbLatency" in line]
    ended = [line for line in lines(stack, "close-enrollment") if "Enrollments" in line]

    assert {line["Endpoint"] for line in polls} >= {"GET /v1/request/{id}"}
    assert "ISSUED" in {line["Outcome"] for line in ended}
    assert [line for line in lines(stack, "close-enrollment") if "ExecutedToIssued" in line]


def test_the_watch_sees_what_is_pending(stack: Stack) -> None:
    answer = stack.client("lambda").invoke(
        FunctionName=stack.outputs["WatchEnrollmentsFunctionName"], Payload=b"{}"
    )
    seen = [line for line in lines(stack, "watch-enrollments") if "Pending" in line]

    assert "FunctionError" not in answer
    assert seen
    assert [line for line in lines(stack, "watch-enrollments") if "CertificateDaysLeft" in line]


@pytest.mark.parametrize(
    ("scenario", "outcome"), [(woken, "ISSUED"), (cancelled_in_a_wait, "CANCELLED")]
)
def test_a_deployed_execution_is_woken(result: ResultOf, scenario: Scenario, outcome: str) -> None:
    ended = result(scenario)
    state, waits = "", []
    for event in ended.history:
        if event["type"] == "TaskStateEntered":
            state = event["stateEnteredEventDetails"]["name"]
        elif state == "WaitForApproval" and event["type"] == "TaskSucceeded":
            waits.append("woken")
        elif state == "WaitForApproval" and event["type"] == "TaskFailed":
            waits.append(event["taskFailedEventDetails"]["error"])  # a time-out too, here

    assert ended.document["outcome"] == outcome
    assert "States.Timeout" in waits[:-1]
    assert waits[-1] == "woken"
