"""The functions as processes of their own: one is killed in the middle of its work.

Every other fault, at every boundary, is struck in process: tests/workflow/test_faults.py.
"""

import pytest

from tests.case import Case, Result, assert_issued, group, people, token
from tests.e2e.scenarios import ResultOf, scenario

pytestmark = pytest.mark.e2e

KEY = "/v1/key"
LONGER_THAN_IT_LIVES = 25  # seconds that TSB lets the function wait


@scenario
def killed(case: Case) -> Result:
    case.fault("POST", KEY, "delay", seconds=LONGER_THAN_IT_LIVES)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    (call,) = case.await_calls(KEY, 1, "POST")
    case.stack.kill_caller(call)
    case.approve(person)
    return case.end(arn)


def test_a_function_that_is_killed_in_the_middle_of_a_call_issues_all_the_same(
    result: ResultOf,
) -> None:
    ended = result(killed)

    assert_issued(ended)
    assert ended.failures == [("CreateKey", "Runtime.ExitError")]
    assert [call["httpStatus"] for call in ended.calls if call["path"] == KEY][1:] == [400]
