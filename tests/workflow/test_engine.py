"""The engine itself: its clock and its steps, and where AWS differs from moto's interpreter."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from local.engine.clock import BEGINNING
from local.engine.stack import InProcessStack
from tests.case import Case, Json, entered, group, people, token

# Any function: what it does is ordered.
TASK: Json = {
    "Type": "Task",
    "Resource": "arn:aws:states:::lambda:invoke",
    "Arguments": {"FunctionName": "Notify", "Payload": {"tag": "{% $states.input.tag %}"}},
}


def run(stack: InProcessStack, states: Json, given: Any = None) -> tuple[Json, list[Json]]:
    """What a small definition comes to: its execution's description and history."""
    machines = stack.client("stepfunctions")
    definition = {"QueryLanguage": "JSONata", "StartAt": next(iter(states)), "States": states}
    machine = machines.create_state_machine(
        name="small", definition=json.dumps(definition), roleArn="arn:aws:iam::123456789012:role/x"
    )["stateMachineArn"]
    started = machines.start_execution(stateMachineArn=machine, name="x", input=json.dumps(given))
    arn = started["executionArn"]
    stack.until(lambda: stack.has_ended(arn), "end")
    described, history = machines.describe_execution(executionArn=arn), stack.history(arn)
    machines.delete_state_machine(stateMachineArn=machine)
    return described, history


def one(stack: InProcessStack, expression: str, given: Any = None) -> Any:
    """The value of a JSONata expression, or the error that it ends in."""
    states = {
        "Set": {"Type": "Pass", "Assign": {"given": "{% $states.input %}"}, "Next": "Say"},
        "Say": {"Type": "Pass", "Output": {"said": f"{{% {expression} %}}"}, "End": True},
    }
    ended, _ = run(stack, states, given)
    return json.loads(ended["output"])["said"] if "output" in ended else ended["error"]


# Time ---------------------------------------------------------------------------------------------


def test_a_wait_of_a_year_is_over_at_once_and_a_year_later(
    unrecorded_stack: InProcessStack,
) -> None:
    year = 365 * 86_400

    ended, _ = run(unrecorded_stack, {"Wait": {"Type": "Wait", "Seconds": year, "End": True}})

    assert (ended["stopDate"] - ended["startDate"]).total_seconds() == pytest.approx(year, abs=1)
    assert unrecorded_stack.clock.now == pytest.approx(BEGINNING.timestamp() + year, abs=1)


def test_a_retry_waits_as_long_as_it_says(unrecorded_stack: InProcessStack) -> None:
    retry = {
        "ErrorEquals": ["States.ALL"],
        "IntervalSeconds": 2,
        "BackoffRate": 10,
        "MaxDelaySeconds": 60,
        "MaxAttempts": 3,
        "JitterStrategy": "FULL",
    }
    for _ in range(4):
        unrecorded_stack.strike("Notify", "x", kind="error", name="Gone", when="before")

    run(unrecorded_stack, {"Task": {**TASK, "Retry": [retry], "End": True}}, {"tag": "x"})

    assert list(unrecorded_stack.waits.values()) == [[2, 20, 60]]


def test_executions_move_in_the_order_in_which_they_are_due(
    unrecorded_stack: InProcessStack,
) -> None:
    first, second = Case(unrecorded_stack), Case(unrecorded_stack)
    (person,) = people(1)
    arns = [one.start(one.request(token(group(person)))) for one in (first, second)]

    def polled() -> list[str]:
        return [arn for arn in arns if "PollRequest" in entered(first.history(arn))]

    first.until(polled, "poll")

    # Neither ran on while the other stood still.
    assert all("WaitForApproval" in entered(first.history(arn)) for arn in arns)


# What nobody can catch ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["States.Runtime", "States.DataLimitExceeded"])
def test_what_nobody_can_catch_passes_retry_and_catch(
    unrecorded_stack: InProcessStack, name: str
) -> None:
    ended, history = failing(unrecorded_stack, name)

    assert (ended["status"], ended["error"]) == ("FAILED", name)
    assert entered(history) == ["Task"]
    assert list(unrecorded_stack.waits.values()) == [[]]


def test_every_other_name_is_retried_and_caught(unrecorded_stack: InProcessStack) -> None:
    ended, history = failing(unrecorded_stack, "NobodyHasHeardOfItError")

    assert ended["status"] == "SUCCEEDED"
    assert entered(history) == ["Task", "Caught"]
    assert list(unrecorded_stack.waits.values()) == [[1, 2]]


def failing(stack: InProcessStack, name: str) -> tuple[Json, list[Json]]:
    for _ in range(3):
        stack.strike("Notify", "x", kind="error", name=name, when="before")
    everything = {"ErrorEquals": ["States.ALL"]}
    task = {
        **TASK,
        "Retry": [{**everything, "MaxAttempts": 2}],
        "Catch": [{**everything, "Next": "Caught"}],
        "End": True,
    }
    return run(stack, {"Task": task, "Caught": {"Type": "Succeed"}}, {"tag": "x"})


# JSONata ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ['a "quotation" mark', "two\nlines", "back\\slash", "Büro 🔑", ""])
def test_a_variable_is_a_value_whatever_is_in_it(
    unrecorded_stack: InProcessStack, text: str
) -> None:
    assert one(unrecorded_stack, "$given", text) == text
    assert one(unrecorded_stack, "$states.input", text) == text


def test_null_is_a_value_and_nothing_is_an_error(unrecorded_stack: InProcessStack) -> None:
    assert one(unrecorded_stack, "$given.there", {"there": None}) is None
    assert one(unrecorded_stack, "$exists($given)", None) is True
    assert one(unrecorded_stack, "$given.missing", {}) == "States.QueryEvaluationError"
    assert one(unrecorded_stack, "$ceil($given)", "x") == "States.QueryEvaluationError"


def test_the_time_is_that_of_the_evaluation(unrecorded_stack: InProcessStack) -> None:
    first = one(unrecorded_stack, "$millis()", None)
    one(unrecorded_stack, "$millis() + 0", None)  # what is compiled later has a time of its own
    unrecorded_stack.clock.advance(3_600)

    assert one(unrecorded_stack, "$millis()", None) - first >= 3_600_000


# Functions ----------------------------------------------------------------------------------------


def test_a_killed_function_makes_no_further_call(unrecorded_stack: InProcessStack) -> None:
    case = Case(unrecorded_stack)
    case.start(case.request())
    killed = unrecorded_stack.at("CreateKey", "POST /v1/key")

    killed.kill()
    unrecorded_stack.at("CreateKey", "POST /v1/key")  # of the retry

    assert killed.calls[-1] == "POST /v1/key"
    assert case.state()["keys"] == []


def test_a_lost_function_goes_on_beside_the_retry(unrecorded_stack: InProcessStack) -> None:
    case = Case(unrecorded_stack)
    arn = case.start(case.request())
    lost = unrecorded_stack.at("CreateKey", "POST /v1/key")

    lost.lose()
    case.decide("approve")
    case.end(arn)

    assert lost.ended
    calls = unrecorded_stack.control("GET", f"/calls?label={case.label}")
    assert [one["httpStatus"] for one in calls if one["path"] == "/v1/key"] == [201, 400]


def test_a_function_that_hangs_is_killed_at_its_timeout(unrecorded_stack: InProcessStack) -> None:
    unrecorded_stack.strike("Notify", "x", kind="hang", when="before")

    ended, _ = run(unrecorded_stack, {"Task": {**TASK, "End": True}}, {"tag": "x"})

    assert ended["error"] == "Sandbox.Timedout"
    assert unrecorded_stack.clock.now == pytest.approx(BEGINNING.timestamp() + 30, abs=1)


def test_what_will_never_be_there_is_said_and_not_waited_for(
    unrecorded_stack: InProcessStack,
) -> None:
    with pytest.raises(AssertionError, match="no miracle, and nothing is left to happen"):
        unrecorded_stack.until(lambda: None, "miracle")


# Shortcuts ----------------------------------------------------------------------------------------


def calls(stack: InProcessStack, name: str) -> list[tuple[str, str, Json]]:
    """What the product asks of its stores: all that it may answer, refusals included."""
    table, bucket = stack.outputs["EnrollmentsTableName"], stack.outputs["CsrBucketName"]
    key = {"TableName": table, "Key": {"id": {"S": name}}}
    old = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    item = {"id": {"S": name}, "n": {"N": "1"}, "m": {"M": {"x": {"L": [{"NULL": True}]}}}}
    absent = {"ConditionExpression": "attribute_not_exists(id)", **old}
    names = {"ExpressionAttributeNames": {"#n": "n"}}
    add = {"UpdateExpression": "SET #n = #n + :one", **names}
    one_is = {":one": {"N": "1"}}
    put = {"Bucket": bucket, "Key": name, "IfNoneMatch": "*", "ChecksumAlgorithm": "SHA256"}
    queue = {"QueueUrl": stack.resources.queues["RequestsDeadLetterQueue"]}
    entry = {"EventBusName": stack.outputs["BusName"], "Source": "countersign", "Detail": "{}"}
    return [
        ("dynamodb", "get_item", key),
        ("dynamodb", "put_item", {"TableName": table, "Item": item, **absent}),
        ("dynamodb", "put_item", {"TableName": table, "Item": item, **absent}),
        ("dynamodb", "get_item", {**key, "ConsistentRead": True}),
        ("dynamodb", "update_item", {**key, **add, "ExpressionAttributeValues": one_is}),
        ("dynamodb", "update_item", {**key, **add, "ExpressionAttributeValues": one_is,
                                     "ReturnValues": "UPDATED_NEW"}),
        ("dynamodb", "update_item", {**key, **add, "ExpressionAttributeValues": one_is,
                                     "ConditionExpression": "#n = :one", **old}),
        ("dynamodb", "update_item", {**key, **add, "ExpressionAttributeValues": {}}),
        ("dynamodb", "delete_item", {**key, "ConditionExpression": "#n = :one", **names, **old,
                                     "ExpressionAttributeValues": one_is}),
        ("dynamodb", "delete_item", key),
        ("dynamodb", "scan", {"TableName": table}),
        ("s3", "get_object", {"Bucket": bucket, "Key": name}),
        ("s3", "list_objects_v2", {"Bucket": bucket, "Prefix": name}),
        ("s3", "put_object", {**put, "Body": b"one", "ContentType": "text/plain"}),
        ("s3", "put_object", {**put, "Body": b"two"}),
        ("s3", "get_object", {"Bucket": bucket, "Key": name}),
        ("s3", "list_objects_v2", {"Bucket": bucket, "Prefix": name}),
        ("events", "put_events", {"Entries": [{**entry, "DetailType": "Enrollment Issued"}]}),
        ("dynamodb", "get_item", {"TableName": table}),
        ("sqs", "receive_message", queue),
        ("sqs", "send_message", {**queue, "MessageBody": "one"}),
        ("sqs", "receive_message", queue),
        ("sqs", "receive_message", queue),
        ("secretsmanager", "get_secret_value", {"SecretId": "nobody's"}),
        ("secretsmanager", "get_secret_value", {"SecretId": "ServiceSecret"}),
    ]  # fmt: skip


def test_a_shortcut_answers_as_the_long_way_does(
    unrecorded_stack: InProcessStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = [answered(unrecorded_stack, *one) for one in calls(unrecorded_stack, "short")]
    unrecorded_stack.reset()
    monkeypatch.setattr("local.engine.shortcuts.answer", lambda *_: None)
    long = [answered(unrecorded_stack, *one) for one in calls(unrecorded_stack, "short")]

    for one, other in zip(short, long, strict=True):
        assert one == other


def answered(stack: InProcessStack, service: str, operation: str, parameters: Json) -> Any:
    """What a caller reads of an answer; of a refusal its code and what is said beside it."""
    try:
        answer = getattr(stack.client(service), operation)(**parameters)
    except (ClientError, ParamValidationError) as error:
        said: Any = getattr(error, "response", {})
        return type(error).__name__, said.get("Error", {}).get("Code"), said.get("Item")
    if "Body" in answer:
        return answer["Body"].read()
    contents = [(one["Key"], one["Size"]) for one in answer.get("Contents", [])]
    bodies = [one["Body"] for one in answer.get("Messages", [])]
    read = ("Item", "Items", "Attributes", "KeyCount", "FailedEntryCount", "SecretString")
    found = {name: answer[name] for name in read if name in answer}
    return found, contents, bodies, "VersionId" in answer
