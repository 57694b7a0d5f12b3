"""Functions that others of ours set to work."""

import json
from typing import Any

from countersign.aws.clients import client, named_errors


def hand_over(function_name: str, payload: dict[str, Any]) -> None:
    """Let a function work on this without waiting for it; Lambda repeats it where it fails.

    Raises:
        AwsCallError: Lambda did not take it.
    """
    with named_errors(f"invoking {function_name}"):
        client("lambda").invoke(
            FunctionName=function_name,
            InvocationType="Event",
            Payload=json.dumps(payload).encode(),
        )
