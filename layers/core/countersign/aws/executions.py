"""Step Functions' executions: starting them, and what their events leave out."""

import json
from typing import Any

from botocore.exceptions import ClientError

from countersign.aws.clients import client, named_errors


class Executions:
    """Executions of the enrollment state machine."""

    def __init__(self, state_machine_arn: str) -> None:
        self._state_machine_arn = state_machine_arn

    def start(self, name: str, event: dict[str, Any]) -> None:
        """Start the execution of this name, unless it was started before.

        Idempotent: the same name and input while it runs is answered as the first time, and one
        that has ended counts as started.

        Raises:
            AwsCallError: Step Functions refused or was silent.
        """
        with named_errors(f"starting execution {name}"):
            try:
                client("stepfunctions").start_execution(
                    stateMachineArn=self._state_machine_arn,
                    name=name,
                    # Sorted: a record from the table has its fields in another order.
                    input=json.dumps(event, sort_keys=True),
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "ExecutionAlreadyExists":
                    raise


def describe_input(execution_arn: str) -> str:
    """The input (JSON text) that an execution was started with."""
    with named_errors(f"describing {execution_arn}"):
        text: str = client("stepfunctions").describe_execution(executionArn=execution_arn)["input"]
    return text
