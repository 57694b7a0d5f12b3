"""Functions that other functions of the stack invoke."""

import json
from typing import Any

from countersign.aws.clients import client, named_errors


def hand_over(function_name: str, payload: dict[str, Any]) -> None:
    """Invoke a function without waiting for it. Lambda repeats an invocation that fails.

    Raises:
        AwsCallError: Lambda did not accept the invocation.
    """
    with named_errors(f"invoking {function_name}"):
        client("lambda").invoke(
            FunctionName=function_name,
            InvocationType="Event",
            Payload=json.dumps(payload).encode(),
        )
