"""Step Functions executions: starting them, and asking how they ended."""

import json
from typing import Any

from botocore.exceptions import ClientError

from countersign.aws.clients import client, named_errors

MAX_INPUT_BYTES = 256 * 1024  # of an execution's input, in UTF-8 (AWS Step Functions, quotas)


def written(payload: dict[str, Any]) -> str:
    """An execution's input: sorted, because a record from the table has its fields in a different
    order; and no longer than the request's own text, because escapes could triple it.
    """
    return json.dumps(payload, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


class Executions:
    """Executions of the enrollment state machine."""

    def __init__(self, state_machine_arn: str) -> None:
        self._state_machine_arn = state_machine_arn

    def start(self, name: str, payload: dict[str, Any]) -> bool:
        """Start the execution with this name, unless it was started before.

        Idempotent: while the execution runs, the same name and input get the same answer as the
        first time. An execution with this input that has ended counts as started.

        Returns:
            False if an execution with this name has another input: it is somebody else's.

        Raises:
            AwsCallError: Step Functions refused or did not answer.
        """
        text = written(payload)
        with named_errors(f"starting execution {name}"):
            try:
                client("stepfunctions").start_execution(
                    stateMachineArn=self._state_machine_arn,
                    name=name,
                    input=text,
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "ExecutionAlreadyExists":
                    raise
                machine = self._state_machine_arn.replace(":stateMachine:", ":execution:")
                known = describe(f"{machine}:{name}")
                return known is not None and known.get("input") == text
        return True


def wake(token: str) -> bool:
    """End the wait of the execution that holds this task token.

    Idempotent: a wait that has ended stays ended.

    Returns:
        Whether an execution was woken; False if its wait had ended.

    Raises:
        AwsCallError: Step Functions refused or did not answer.
    Source: AWS Step Functions API, SendTaskSuccess.
    """
    with named_errors("waking an execution"):
        try:
            client("stepfunctions").send_task_success(taskToken=token, output="{}")
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in (
                "TaskTimedOut",
                "TaskDoesNotExist",
                "InvalidToken",
            ):
                raise
            return False
    return True


def describe(execution_arn: str) -> dict[str, Any] | None:
    """What Step Functions says of an execution; None if there is none with this ARN.

    Source: AWS Step Functions API, DescribeExecution.
    """
    with named_errors(f"describing {execution_arn}"):
        try:
            answer: Any = client("stepfunctions").describe_execution(executionArn=execution_arn)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in (
                "ExecutionDoesNotExist",
                "InvalidArn",
            ):
                raise
            return None
    return dict(answer)
