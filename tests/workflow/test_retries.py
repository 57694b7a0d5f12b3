"""What no state understands is tried again: how soon, how often, and what comes of it.

The engine waits as long as JitterStrategy FULL allows, so on AWS such waits are half on average.
"""

import itertools
import json
from copy import replace
from typing import Any

import pytest

from countersign.polling import FIRST_SECONDS, LONGEST_WINDOW_SECONDS, Schedule
from local.engine.stack import InProcessStack
from tests.case import Case, Json, Result, assert_failed, assert_issued, group, people, token
from tests.definitions import slower

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
WINDOW_SECONDS = HOUR
AS_DEPLOYED = {"SilenceLimitMinutes": "1440"}  # the template's own
FEW, A_DAY = 8, 100  # tries after an error that no state understands
HISTORY_LIMIT = 25_000  # events; AWS ends an execution that has more
ENDLESS = 2_000  # more often than any state is entered
# A release that does not fit, a function that AWS does not run or loses, an error of Python's.
NOT_UNDERSTOOD = (
    "Runtime.ImportModuleError", "Runtime.OutOfMemory", "Lambda.AccessDeniedException",
    "Lambda.Unknown", "States.Timeout", "TypeError", "PayloadError", "SomethingNobodyHasSeenBefore",
)  # fmt: skip


def strike(case: Case, state: str, *names: str) -> None:
    """Let the state's next invocations end with these errors before they do anything."""
    for name in names:
        case.strike(state, kind="error", name=name, when="before")


def struck(case: Case, state: str, *names: str) -> str:
    """An enrollment that passes the state, whose first invocations end with these errors.

    DiscardKey is passed because the answer to the request got lost: the key is made anew.
    """
    strike(case, state, *names)
    if state == "DiscardKey":
        case.fault("POST", CSR, "drop", executed=True)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person), timeout=WINDOW_SECONDS)))
    asked = 2 if state == "DiscardKey" else 1

    def is_asked() -> bool:
        return case.stack.has_ended(arn) or len(case.state()["requests"]) == asked

    case.until(is_asked, "request or end")
    if not case.stack.has_ended(arn):
        case.approve(person)
    return arn


def polls_in_silence(window: int = WINDOW_SECONDS, **parameters: Any) -> int:
    """How often a window is polled where no poll succeeds, by these parameters."""
    schedule = replace(Schedule(window_seconds=window, timelock_seconds=0), **parameters)
    age, wait, polls = 0, FIRST_SECONDS, 0
    while age < schedule.last_age:
        age, polls = age + wait, polls + 1
        wait = slower(wait, schedule.growth, schedule.cap)
    return polls


def started(stack: InProcessStack, state: str) -> list[float]:
    """When each invocation of the state's function began."""
    return [one._deadline - one._timeout for one in stack.invocations if one.function == state]


def waits(stack: InProcessStack, state: str) -> list[float]:
    """How long the state was waited for before each further invocation."""
    return [after - before for before, after in itertools.pairwise(started(stack, state))]


def failures(result: Result, state: str) -> list[str]:
    return [name for where, name in result.failures if where == state]


# Any state ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_what_a_state_does_not_understand_passes_and_the_csr_is_issued(
    case: Case, state: str
) -> None:
    result = case.end(struck(case, state, *NOT_UNDERSTOOD))

    assert failures(result, state) == list(NOT_UNDERSTOOD)
    assert result.status == "SUCCEEDED"
    assert result.document["outcome"] == "ISSUED"
    assert result.endings == ["Enrollment Issued"]
    asked = [one["status"] for one in result.requests]
    assert asked == (["CANCELLED", "EXECUTED"] if state == "DiscardKey" else ["EXECUTED"])
    assert [key["deleted"] for key in result.keys] == ([True, False] if len(asked) > 1 else [False])


@pytest.mark.parametrize("state", RETRYING)
def test_a_state_is_entered_again_when_the_invocation_before_has_surely_ended(
    case: Case, stack: InProcessStack, state: str
) -> None:
    # A function that was idle for weeks is made ready within minutes:
    # github.com/aws/aws-cdk/pull/20922.
    arn = struck(case, state, *["Lambda.ResourceNotReadyException"] * FEW)
    result = case.end(arn)
    again = waits(stack, state)[:FEW]

    assert result.document["outcome"] == "ISSUED"
    assert failures(result, state) == ["Lambda.ResourceNotReadyException"] * FEW
    assert min(again) > FUNCTION_SECONDS
    assert sum(again) > 8 * MINUTE
    assert again[0] < MINUTE  # one lost answer costs no more


@pytest.mark.parametrize("state", [one for one in RETRYING if one != "RequestCsr"])
def test_what_aws_refused_is_tried_again_soon_and_for_minutes(
    case: Case, stack: InProcessStack, state: str
) -> None:
    arn = struck(case, state, *["AwsCallError"] * 8)
    result = case.end(arn)
    again = waits(stack, state)[:8]

    assert failures(result, state) == ["AwsCallError"] * 8
    assert result.document["outcome"] == "ISSUED"
    assert again[0] < 5
    assert again == sorted(again)
    assert 3 * MINUTE < sum(again) < 10 * MINUTE


@pytest.mark.parametrize("state", [one for one in RETRYING if one != "CloseEnrollment"])
def test_what_never_passes_is_given_up_and_announced_once(
    case: Case, stack: InProcessStack, state: str
) -> None:
    arn = struck(case, state, *["Runtime.ImportModuleError"] * ENDLESS)
    result = case.end(arn)
    stack.settle()

    rounds = 1 + (state == "RequestCsr")  # with the first key and with a fresh one
    tries = 1 + (A_DAY if state == "StoreCsr" else FEW)
    where = "DiscardKey" if state == "DiscardKey" else state
    assert failures(result, state) == ["Runtime.ImportModuleError"] * (rounds * tries)
    assert result.record["outcome"] == "FAILED"
    assert result.record["error"]["state"] == where
    assert case.end(arn).endings == ["Enrollment Failed"]


def test_an_end_that_its_state_cannot_put_on_record_is_put_there_by_the_backstop(
    case: Case, stack: InProcessStack
) -> None:
    arn = struck(case, "CloseEnrollment", *["Runtime.ImportModuleError"] * (1 + FEW))
    result = case.end(arn)
    stack.settle()

    assert result.status == "FAILED"
    assert failures(result, "CloseEnrollment") == ["Runtime.ImportModuleError"] * (1 + FEW)
    assert result.record["outcome"] == "ISSUED"  # the CSR is there
    assert case.end(arn).endings == ["Enrollment Issued"]


DECIDING = (
    "TsbRefusedError", "EnrollmentConflictError", "InvalidEnrollmentError",
    # Whoever makes the checks puts the one that failed on record. Here nobody did.
    pytest.param("CsrInvalidError", marks=pytest.mark.forged),
)  # fmt: skip


@pytest.mark.parametrize("state", ["RequestCsr", "PollRequest", "StoreCsr"])
@pytest.mark.parametrize("name", DECIDING)
def test_what_decides_ends_the_enrollment_at_once(case: Case, state: str, name: str) -> None:
    result = case.end(struck(case, state, name))

    assert failures(result, state) == [name]
    assert_failed(result, name, state)


# What people agreed to ----------------------------------------------------------------------------


def in_turn(times: int) -> list[str]:
    return list(itertools.islice(itertools.cycle(NOT_UNDERSTOOD), times))


def test_polls_that_fail_until_the_deadline_cost_nothing_that_people_agreed_to(
    case: Case, stack: InProcessStack
) -> None:
    stack.configure(**AS_DEPLOYED)
    names = in_turn(polls_in_silence() - 1)
    result = case.end(struck(case, "PollRequest", *names))
    polls = started(stack, "PollRequest")

    assert_issued(result)
    assert failures(result, "PollRequest") == names
    assert polls[-1] - polls[0] > 24 * HOUR


def test_an_approval_outlasts_a_day_in_which_the_csr_cannot_be_stored(
    case: Case, stack: InProcessStack
) -> None:
    names = in_turn(A_DAY)
    result = case.end(struck(case, "StoreCsr", *names))
    times = started(stack, "StoreCsr")

    assert_issued(result)
    assert failures(result, "StoreCsr") == names
    assert times[-1] - times[0] > 24 * HOUR


def by_profile(case: Case, unused_key: str) -> Json:
    """A request by a profile that says this of unused keys."""
    assert isinstance(case.stack, InProcessStack)  # for the type checker
    content = json.loads((case.stack.folder / "layer/profiles/trial@1.json").read_text())
    window = {"timeout": WINDOW_SECONDS}
    case.stack.release_profile(
        "trial@2", {**content, "version": 2, "unusedKey": unused_key, "window": window}
    )
    return case.by_profile("trial@2")


@pytest.mark.parametrize("unused_key", ["keep", "delete", "block"])
@pytest.mark.parametrize("name", ["Runtime.ImportModuleError", "TsbUnavailableError"])
def test_an_end_that_nobody_decided_leaves_key_and_open_request_whatever_the_profile_says(
    case: Case, stack: InProcessStack, unused_key: str, name: str
) -> None:
    stack.configure(**AS_DEPLOYED)
    strike(case, "PollRequest", *[name] * ENDLESS)
    arn = case.start(by_profile(case, unused_key))
    case.await_request()
    case.advance(-48 * HOUR)  # so that the TSB does not end it
    result = case.end(arn)

    assert failures(result, "PollRequest") == [name] * polls_in_silence()
    assert_failed(result, name, "PollRequest")
    assert_left_alone(result, name, "PENDING")


@pytest.mark.parametrize("unused_key", ["keep", "delete", "block"])
def test_a_csr_that_cannot_be_stored_leaves_its_key_whatever_the_profile_says(
    case: Case, unused_key: str
) -> None:
    name = "Runtime.ImportModuleError"
    strike(case, "StoreCsr", *[name] * ENDLESS)
    arn = case.start(by_profile(case, unused_key))
    case.approve(case.stack.people["Ada Lovelace"])
    result = case.end(arn)

    assert_failed(result, name, "StoreCsr")
    assert_left_alone(result, name, "EXECUTED")


@pytest.mark.forged  # no check on record has failed
def test_a_check_that_failed_withdraws_the_request_that_is_still_open(case: Case) -> None:
    strike(case, "PollRequest", "CsrInvalidError")
    result = case.end(case.start(case.request(token(group(*people(1))))))

    assert_failed(result, "CsrInvalidError", "PollRequest")
    assert [one["status"] for one in result.requests] == ["CANCELLED"]


def assert_left_alone(result: Result, name: str, status: str) -> None:
    """The key is as it was and the request as it stands at the TSB; the record says why."""
    assert [(key["deleted"], key["blocked"]) for key in result.keys] == [(False, False)]
    assert [one["status"] for one in result.requests] == [status]
    disposed = result.record["unusedKey"]
    assert disposed["result"] == "kept"
    assert "nobody decided" in disposed["reason"]
    assert name in disposed["reason"]
    assert "error" not in disposed


def test_the_worst_year_fits_into_an_execution_s_history(unrecorded_stack: InProcessStack) -> None:
    """Every poll but the last fails, StoreCsr fails for a day, and the window is the longest."""
    unrecorded_stack.configure(**AS_DEPLOYED, PollGrowth="0.1", PollFloorSeconds="1")
    year = LONGEST_WINDOW_SECONDS
    polls = polls_in_silence(year, growth=0.1, floor_seconds=1)
    case = Case(unrecorded_stack)
    (person,) = people(1)
    strike(case, "PollRequest", *["TypeError"] * (polls - 1))
    strike(case, "StoreCsr", *["TypeError"] * A_DAY)
    arn = case.start(case.request(token(group(person), timeout=year)))
    case.approve(person)
    result = case.end(arn)

    assert_issued(result)
    assert len(failures(result, "PollRequest")) == polls - 1 > 1_000
    assert len(failures(result, "StoreCsr")) == A_DAY
    assert len(result.history) < HISTORY_LIMIT


# RequestCsr ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["AwsCallError", "Lambda.Unknown", "Sandbox.Timedout", "States.Timeout", "TypeError"],
)
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
    result = case.end(struck(case, "RequestCsr", *["Lambda.Unknown"] * (1 + FEW)))

    assert failures(result, "RequestCsr") == ["Lambda.Unknown"] * (1 + FEW)
    assert [key["deleted"] for key in result.keys] == [True, False]
    assert result.document["outcome"] == "ISSUED"


@pytest.mark.parametrize("name", ["TsbUnavailableError", "RequestNotSentError"])
def test_a_key_is_no_lost_one_where_the_request_was_surely_not_made(case: Case, name: str) -> None:
    result = case.end(struck(case, "RequestCsr", *[name] * ENDLESS))

    assert_failed(result, name, "RequestCsr")
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


def test_an_approval_outlasts_a_day_without_the_table(case: Case, stack: InProcessStack) -> None:
    times = 104
    result = case.end(struck(case, "StoreCsr", *["AwsCallError"] * times))
    begun = started(stack, "StoreCsr")

    assert_issued(result)
    assert failures(result, "StoreCsr") == ["AwsCallError"] * times
    assert begun[-1] - begun[0] > 24 * HOUR


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
