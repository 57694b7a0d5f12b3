"""Small definitions that both interpreters, in this process and the emulator, treat alike."""

import math
from typing import Any

type Json = dict[str, Any]

EVERYTHING = {"ErrorEquals": ["States.ALL"]}


def failing(name: str) -> Json:
    """A branch that fails with this error, retried once and caught, whatever it is."""
    branch = {"StartAt": "Failing", "States": {"Failing": {"Type": "Fail", "Error": name}}}
    return {
        "QueryLanguage": "JSONata",
        "StartAt": "Trying",
        "States": {
            "Trying": {
                "Type": "Parallel",
                "Branches": [branch],
                "Retry": [{**EVERYTHING, "IntervalSeconds": 1, "MaxAttempts": 1}],
                "Catch": [{**EVERYTHING, "Next": "Caught"}],
                "End": True,
            },
            "Caught": {"Type": "Succeed"},
        },
    }


# Error name: how it ends, and by which error.
FAILING: dict[str, tuple[str, str | None]] = {
    "States.Runtime": ("FAILED", "States.Runtime"),
    "SomeError": ("SUCCEEDED", None),
}


def slower(wait_seconds: int, growth: float, cap: int) -> int:
    """The wait after a poll that TSB did not answer, as the definition computes it."""
    return min(math.ceil(wait_seconds * (1 + growth)), cap)
