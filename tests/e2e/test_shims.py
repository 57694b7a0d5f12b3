"""Each shim of `local/emulator.py` is still needed; one that is not any more should go."""

import json
import subprocess
import uuid
from functools import cache

import pytest

from local.stack import ROOT, Stack
from tests.definitions import FAILING, failing

pytestmark = pytest.mark.e2e

SHIMS = [
    "class_names", "surviving_workers", "capped_retries", "terminal_errors", "callback_waits",
    "idempotent_start", "universal_schedule", "nested_failures", "nested_events", "archives",
    "api_destinations", "api_extensions", "role_boundaries", "object_locks", "metric_math",
    "bus_policies", "moved_messages", "secure_loopback", "mail_senders", "event_keys",
    "bounded_workers", "ready_workers", "shared_layers", "clean_interpreter", "api_hosts",
]  # fmt: skip
SECONDS = 20


@cache
def needed(python: str) -> dict[str, bool]:
    """By shim's name, as the unmodified emulator behaves."""
    answer = subprocess.run(
        [python, "tests/e2e/upstream.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, bool] = json.loads(answer.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("shim", SHIMS)
def test_the_emulator_still_needs_this_shim(stack: Stack, shim: str) -> None:
    assert needed(stack.emulator_python)[shim]


def test_every_shim_is_looked_at(stack: Stack) -> None:
    assert list(needed(stack.emulator_python)) == SHIMS


# The interpreter in process is asked the same: tests/workflow/test_interpreters.py.
@pytest.mark.parametrize("name", [*FAILING, "States.DataLimitExceeded"])
def test_errors_are_caught_as_on_aws(stack: Stack, name: str) -> None:
    machines = stack.client("stepfunctions")
    ours = machines.describe_state_machine(
        stateMachineArn=stack.outputs["EnrollmentStateMachineArn"]
    )
    machine = machines.create_state_machine(
        name=f"failing-{uuid.uuid4()}",
        definition=json.dumps(failing(name)),
        roleArn=ours["roleArn"],
    )
    arn = machines.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]
    stack.until(lambda: stack.has_ended(arn), "end", SECONDS)

    ended = machines.describe_execution(executionArn=arn)

    assert (ended["status"], ended.get("error")) == FAILING.get(name, ("FAILED", name))
