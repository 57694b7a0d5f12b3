"""How often, how long and after which errors a state tries again, and what comes of what lasts.

The engine waits as long as JitterStrategy FULL allows, so on AWS such waits are half on average.
"""

import itertools

import pytest

from local.engine.stack import InProcessStack
from tests.case import Case, Result, assert_failed, assert_issued, group, people, token

CSR = "/v1/certificate/request"
ATTRIBUTES = "/v1/key/attributes"
DELETE_KEY = "/v1/key/deleteKey"
STATES = (
    "AcceptEnrollment", "CreateKey", "RequestCsr", "PollRequest", "StoreCsr", "DiscardKey",
    "CloseEnrollment",
)  # fmt: skip
RETRYING = [state for state in STATES if state != "PollRequest"]  # which goes on polling
MINUTE, HOUR = 60, 3_600
FUNCTION_SECONDS = 30 + 10  # the longest that an invocation goes on: its time-out, its cold start
ENDED = ["ISSUED", "REJECTED", "FAILED"]


def struck(case: Case, state: str, name: str, times: int = 1) -> str:
    """An enrollment that passes the state, whose first invocations end with this error."""
    for _ in range(times):
        case.strike(state, kind="error", name=name, when="before")
    arn = case.start(case.by_profile("trial@1"))  # which has unused keys deleted
    case.until(lambda: case.state()["requests"] or case.stack.has_ended(arn), "request or end")
    if not case.stack.has_ended(arn):
        ada, grace = case.stack.people["Ada Lovelace"], case.stack.people["Grace Hopper"]
        if state == "DiscardKey":
            case.decline(ada, grace)
        else:
            case.approve(ada)
    return arn


def started(stack: InProcessStack, state: str) -> list[float]:
    """When each invocation of the state's function began."""
    return [one._deadline - one._timeout for one in stack.invocations if one.function == state]


def failures(result: Result, state: str) -> list[str]:
    return [name for where, name in result.failures if where == state]


@pytest.mark.parametrize("state", STATES)
def test_whatever_comes_of_a_state_the_enrollment_ends_and_is_announced_once(
    case: Case, stack: InProcessStack, state: str
) -> None:
    arn = struck(case, state, "SomethingThatNobodyHasSeenBefore")
    result = case.end(arn)
    stack.settle()

    assert failures(result, state) == ["SomethingThatNobodyHasSeenBefore"]
    assert case.record()["outcome"] in ENDED
    assert len(case.end(arn).endings) == 1
    assert "CloseEnrollment" in result.entered
    if case.record()["outcome"] == "FAILED":  # the profile wants the key of such an end deleted
        assert all(key["deleted"] for key in result.keys)


@pytest.mark.parametrize("state", [one for one in RETRYING if one != "RequestCsr"])
def test_what_may_run_twice_is_tried_for_minutes(
    case: Case, stack: InProcessStack, state: str
) -> None:
    arn = struck(case, state, "Lambda.Unknown", times=8)
    result = case.end(arn)
    times = started(stack, state)

    assert failures(result, state) == ["Lambda.Unknown"] * 8
    assert result.document["outcome"] == ("REJECTED" if state == "DiscardKey" else "ISSUED")
    assert 3 * MINUTE < times[8] - times[0] < 10 * MINUTE
    waits = [after - before for before, after in itertools.pairwise(times[:9])]
    assert waits[0] < 5
    assert waits == sorted(waits)


@pytest.mark.parametrize("state", STATES)
def test_a_function_that_was_idle_for_weeks_is_waited_for_in_every_state(
    case: Case, stack: InProcessStack, state: str
) -> None:
    # Lambda makes it ready within minutes: github.com/aws/aws-cdk/pull/20922.
    arn = struck(case, state, "Lambda.ResourceNotReadyException", times=20)
    result = case.end(arn)
    times = started(stack, state)

    assert failures(result, state) == ["Lambda.ResourceNotReadyException"] * 20
    assert result.document["outcome"] == ("REJECTED" if state == "DiscardKey" else "ISSUED")
    assert times[20] - times[0] > 2 * 8 * MINUTE


@pytest.mark.parametrize("state", RETRYING)
def test_a_function_that_is_never_ready_is_given_up(case: Case, state: str) -> None:
    result = case.end(struck(case, state, "Lambda.ResourceNotReadyException", 100), event=False)

    assert failures(result, state) == ["Lambda.ResourceNotReadyException"] * 21


# RequestCsr ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["AwsCallError", "Lambda.ServiceException", "Lambda.SdkClientException", "Lambda.Unknown",
     "Lambda.AWSLambdaException", "Lambda.ClientExecutionTimeoutException", "Sandbox.Timedout",
     "Runtime.ExitError", "States.Timeout"],
)  # fmt: skip
def test_a_request_whose_answer_got_lost_is_looked_for_when_nobody_can_be_at_work_on_it(
    case: Case, stack: InProcessStack, name: str
) -> None:
    case.strike("RequestCsr", kind="error", name=name, when="after")
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    assert result.failures == [("RequestCsr", name)]
    assert result.count("POST", CSR) == 1
    first, second = started(stack, "RequestCsr")
    assert second - first > FUNCTION_SECONDS


def test_a_key_is_replaced_where_nobody_learns_what_became_of_the_request(case: Case) -> None:
    result = case.end(struck(case, "RequestCsr", "Lambda.Unknown", times=4))

    assert failures(result, "RequestCsr") == ["Lambda.Unknown"] * 4
    assert [key["deleted"] for key in result.keys] == [True, False]
    assert result.document["outcome"] == "ISSUED"


def test_a_key_is_no_lost_one_where_the_request_was_surely_not_made(case: Case) -> None:
    request = case.request()
    for _ in range(21):
        case.strike(
            "RequestCsr", kind="error", name="Lambda.TooManyRequestsException", when="before"
        )
    result = case.end(case.start(request))

    assert_failed(result, "Lambda.TooManyRequestsException", "RequestCsr")
    assert result.record["unusedKey"]["result"] == "kept"
    assert [key["deleted"] for key in result.keys] == [False]


# A day without the TSB ----------------------------------------------------------------------------


def test_an_approval_outlasts_a_day_without_the_tsb(case: Case, stack: InProcessStack) -> None:
    (person,) = people(1)
    case.fault("POST", ATTRIBUTES, "status", httpStatus=503, times=None)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    stack.at("StoreCsr", f"POST {ATTRIBUTES}")
    stack.sleep(24 * HOUR)
    case.no_more_faults()
    result = case.end(arn)

    assert_issued(result)
    times = started(stack, "StoreCsr")
    assert times[8] - times[0] < 10 * MINUTE  # a TSB that is away for minutes is noticed soon
    assert len(result.history) < 600  # the rest of AWS's 25,000 is the loop's


def test_a_tsb_that_stays_away_is_given_up_after_a_day(case: Case, stack: InProcessStack) -> None:
    (person,) = people(1)
    case.fault("POST", ATTRIBUTES, "status", httpStatus=503, times=None)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    result = case.end(arn)
    times = started(stack, "StoreCsr")

    assert_failed(result, "TsbUnavailableError", "StoreCsr")
    assert times[-1] - times[0] < 25 * HOUR


def test_a_fresh_key_is_discarded_after_a_day_without_the_tsb(
    case: Case, stack: InProcessStack
) -> None:
    (person,) = people(1)
    case.fault("POST", CSR, "drop", executed=True)
    case.fault("POST", DELETE_KEY, "status", httpStatus=503, times=None)
    arn = case.start(case.request(token(group(person))))
    stack.at("DiscardKey", f"POST {DELETE_KEY}")
    stack.sleep(24 * HOUR)
    case.no_more_faults()
    case.await_calls(CSR, 2, "POST")
    case.approve(person)
    result = case.end(arn)

    assert result.document["outcome"] == "ISSUED"
    assert [key["deleted"] for key in result.keys] == [True, False]
