"""What the interpreter in this process makes of small definitions; the emulator's: tests/e2e."""

import json

import pytest

from local.engine.resources import STATES_ROLE
from local.engine.stack import InProcessStack
from tests.definitions import FAILING, failing


@pytest.mark.parametrize("name", FAILING)
def test_errors_are_caught_as_on_aws(unrecorded_stack: InProcessStack, name: str) -> None:
    machines = unrecorded_stack.client("stepfunctions")
    machine = machines.create_state_machine(
        name="failing", definition=json.dumps(failing(name)), roleArn=STATES_ROLE
    )["stateMachineArn"]
    arn = machines.start_execution(stateMachineArn=machine, name="x")["executionArn"]
    unrecorded_stack.until(lambda: unrecorded_stack.has_ended(arn), "end")
    ended = machines.describe_execution(executionArn=arn)
    machines.delete_state_machine(stateMachineArn=machine)

    assert (ended["status"], ended.get("error")) == FAILING[name]
