"""What happens on the deployed stack: executions wait there, so all scenarios wait together.

A `@scenario` begins in the background when the session does; a test looks at its result.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import requests

from local.caller import Caller
from local.stack import Stack
from tests.case import Case, Json, Result, group, people, token

WAIT_SCALE = 0.02  # a wait of 10 s lasts 0.2 s
SENDER = "countersign@example.com"  # verified in SES
# A profile like `trial`, but that it reminds 17 seconds after it has asked: no clock is moved.
REMINDING: dict[str, Any] = {
    "name": "reminding",
    "window": {"timeout": 86_400, "reminders": [0.0002]},
}

type Scenario = Callable[[Case], Result]
type ResultOf = Callable[[Scenario], Result]

SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    """Let this begin in the background, at the session's start."""
    SCENARIOS.append(function)
    return function


def long_scenario(function: Scenario) -> Scenario:
    """Let this begin before the others: it takes longest."""
    SCENARIOS.insert(0, function)
    return function


@scenario
def issued(case: Case) -> Result:
    """An enrollment as it should be, with a password for its key."""
    (person,) = people(1)
    requested = case.request(token(group(person)))
    requested["key"]["password"] = {"secretArn": key_password(case)}
    arn = case.start(requested)
    task = case.task(person)
    person.approve(case.approver_client, task)
    result = case.end(arn)
    result.more["task"] = task
    return result


POLLS_BEFORE_A_WAKE = 6  # the next wait lasts 1,120 s, and 22 s here


def await_long_wait(case: Case, arn: str) -> None:
    """Until the wait after these polls has begun, and its token is in the table."""

    def begun() -> bool | None:
        entered = [one for one in case.history(arn) if "stateEnteredEventDetails" in one]
        polled = [
            one["timestamp"]
            for one in entered
            if one["stateEnteredEventDetails"]["name"] == "PollRequest"
        ]
        if len(polled) < POLLS_BEFORE_A_WAKE:
            return None
        since = case.record(f"wait#{case.id}").get("since", "0001-01-01T00:00:00Z")
        token_is_there = datetime.fromisoformat(since) > polled[-1]
        return token_is_there or None

    case.until(begun, "long wait")


@scenario
def woken(case: Case) -> Result:
    """An enrollment that is approved during a long wait, and noticed by WatchEnrollments."""
    arn = case.start(case.request(token(group(*people(1)), timeout=7 * 86_400)))
    await_long_wait(case, arn)
    case.decide("approve")
    watch(case)
    return case.end(arn)


@scenario
def cancelled_in_a_wait(case: Case) -> Result:
    """An enrollment that somebody cancels during a long wait."""
    arn = case.start(case.request(token(group(*people(1)), timeout=7 * 86_400)))
    await_long_wait(case, arn)
    api = Caller(deployed(case), f"canceller-{case.id}")
    assert api.call("DELETE", f"/enrollments/{case.id}").status_code == 202
    return case.end(arn)


def watch(case: Case) -> None:
    """Run WatchEnrollments once, as its schedule does each minute."""
    function = case.stack.outputs["WatchEnrollmentsFunctionName"]
    answer = case.stack.client("lambda").invoke(FunctionName=function)
    assert "FunctionError" not in answer, answer["Payload"].read()


def mails(stack: Stack) -> list[Json]:
    """Every mail that SES has taken, in order."""
    inbox = requests.get(f"{stack.endpoint}/_ministack/ses/messages", timeout=10)
    return [one for taken in inbox.json()["messages"].values() for one in taken]


def key_password(case: Case) -> str:
    """The ARN of a secret that AcceptEnrollment and CreateKey may read."""
    name = f"{case.stack.outputs['KeyPasswordPrefix']}{case.id}"
    secrets = case.stack.client("secretsmanager")
    return str(secrets.create_secret(Name=name, SecretString=f"password of {case.id}")["ARN"])


def deployed(case: Case) -> Stack:
    """The stack of a case, which is the deployed one here."""
    assert isinstance(case.stack, Stack)  # for the type checker
    return case.stack


def case_of(stack: Stack, result: Result) -> Case:
    """The case of a result, to look further."""
    case = Case(stack, result.record["id"])
    case.label = result.label
    return case
