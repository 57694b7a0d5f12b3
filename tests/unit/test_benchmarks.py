"""What the benchmark claims by computation, and the tables that must stay complete."""

import json
import re
from dataclasses import replace
from itertools import pairwise, takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import bill, history, readme, size, startup, watcher, work
from benchmarks.approvals import DAY, SCENARIOS, Scenario
from benchmarks.bare import AwsCall, TsbCall, renamed
from benchmarks.minimum import MINIMUM
from benchmarks.pollers import (
    CALLBACK,
    LOOP,
    RETRY,
    Poller,
    Waiting,
    at_the_delay_of,
    evaluate,
    fixed,
    mixed,
    of_ages,
    ours,
    retry,
)
from benchmarks.work import index_units
from benchmarks.work import size as item_size
from countersign_cli.prices import prices
from tests.unit.test_template import RESOURCES

ROOT = Path(__file__).parents[2]
DEFINITION = json.loads((ROOT / "statemachine/enrollment.asl.json").read_text())["States"]
ALMOST_AS_CHEAP = 1.1  # as the cheapest poller of the same delay, in the worst scenario
INTERVALS = [2 * 1.25**step for step in range(34)]
FACTORS = [2 ** (step / 2) for step in range(-10, 5)]
RIVALS: dict[str, list[Poller]] = {
    "fixed": [fixed(seconds) for seconds in INTERVALS],
    "failing Task": [retry(10 * one, 1.2, 900 * one) for one in FACTORS],
    "failing Task, fixed": [retry(seconds, 1, seconds) for seconds in INTERVALS],
}


@pytest.fixture(scope="module")
def by_scenario() -> dict[str, tuple[Waiting, dict[str, list[Waiting]]]]:
    """Ours, and the points of each rival's curve."""
    return {
        one.name: (
            evaluate(ours(), one, prices()),
            {
                name: [evaluate(poller, one, prices()) for poller in curve]
                for name, curve in RIVALS.items()
            },
        )
        for one in SCENARIOS
    }


@pytest.mark.parametrize("rival", RIVALS)
def test_ours_costs_a_tenth_of_the_same_delay_and_hardly_more_anywhere(
    by_scenario: dict[str, tuple[Waiting, dict[str, list[Waiting]]]], rival: str
) -> None:
    own = mixed([one for one, _ in by_scenario.values()])
    curve = [
        mixed(points) for points in zip(*(all_[rival] for _, all_ in by_scenario.values()),
                                        strict=True)
    ]  # fmt: skip

    assert own.usd <= 0.1 * at_the_delay_of(own, curve)
    for name, (one, curves) in by_scenario.items():
        least = at_the_delay_of(one, curves[rival])
        assert one.usd <= ALMOST_AS_CHEAP * least, name


def test_one_hears_within_a_minute_on_average_at_any_age() -> None:
    for scenario in SCENARIOS:
        found = evaluate(ours(), scenario, prices())
        assert found.delay_seconds <= 39
        assert found.delay_p95_seconds <= 85


@pytest.mark.parametrize(("age", "usd"), [(DAY, 0.0014), (7 * DAY, 0.0042)], ids=["24 h", "7 days"])
def test_waiting_stays_within_its_budget(age: int, usd: float) -> None:
    polls = readme.polls_until(age, 7 * DAY)

    assert polls * CALLBACK.transitions * prices()["stateTransition"] <= usd
    assert history.events(history.path(polls, "ISSUED")).total() <= 1_500


def test_a_further_wake_costs_three_transitions() -> None:
    assert CALLBACK.transitions * prices()["stateTransition"] == pytest.approx(0.000075)


@pytest.mark.parametrize("number", [10, 300, 1_000])
def test_the_watcher_sees_news_in_time(number: int) -> None:
    late = watcher.delays(number)
    most = 39 if number <= bill.WATCHED_A_MINUTE else 240

    assert watcher.mean(late) <= most


def test_the_watcher_s_price_is_within_its_budget() -> None:
    assert bill.total(bill.watching()) <= 0.35
    assert bill.total(bill.watching(300)) <= 2


def test_a_poller_s_waiting_is_counted_by_hand() -> None:
    found = of_ages([10.0, 20.0, 40.0], [5.0, 10.0, 25.0, 40.0], LOOP, prices())

    assert found.polls == (1 + 1 + 3 + 3) / 4
    assert found.delay_seconds == (5 + 0 + 15 + 0) / 4
    assert found.usd == pytest.approx(2 * 3 * 0.000025)
    assert found.events == 18


def test_a_fixed_interval_dies_of_its_history() -> None:
    week = next(one for one in SCENARIOS if one.name == "declined late")

    assert evaluate(fixed(60), week, prices()).over_the_limit == 1
    assert evaluate(ours(), week, prices()).over_the_limit == 0


def test_the_failing_task_waits_as_step_functions_would() -> None:
    scenario = replace(SCENARIOS[0], ends=(60.0,))
    ages = list(takewhile(lambda age: age < 60, retry(10, 2, 15).ages(scenario)))

    assert ages == [0, 10, 25, 40, 55]
    assert evaluate(retry(10, 2, 15), scenario, prices()).transitions == 6 * RETRY.transitions


def test_our_ages_know_window_and_timelock() -> None:
    def ages(window: int, timelock: int, until: int) -> list[float]:
        scenario = Scenario("", "", window, timelock, ())
        return list(takewhile(lambda age: age <= until, ours().ages(scenario)))

    assert 602 in ages(600, 0, 700)
    assert DAY + 2 in ages(2 * DAY, DAY, DAY + 130)


@pytest.mark.parametrize("outcome", sorted(history.AFTER))
def test_the_model_s_path_is_a_path_of_the_definition(outcome: str) -> None:
    for state, following in pairwise(history.path(2, outcome)):
        ways = {DEFINITION[state].get("Next"), DEFINITION[state].get("Default")}
        ways |= {choice["Next"] for choice in DEFINITION[state].get("Choices", [])}
        assert following in ways, f"{state} -> {following}"


def test_the_model_s_path_of_two_quorums_is_the_one_that_a_run_took() -> None:
    recorded = ROOT / "tests/workflow/recorded/certificates"
    file = recorded / "a_certificate_is_issued_under_two_quorums_and_imported.txt"
    entered = file.read_text().splitlines()[1].split()

    assert history.path_of_two(2, 2) == entered


def test_a_poll_adds_thirteen_events_and_three_transitions_woken_or_not() -> None:
    one, two = (history.path(polls, "ISSUED") for polls in (1, 2))

    assert history.events(two).total() - history.events(one).total() == CALLBACK.events == 13
    assert history.transitions(two) - history.transitions(one) == CALLBACK.transitions == 3
    assert history.events(two, wakes=1).total() == history.events(two).total()
    assert history.events(two, wakes=1)["TaskTimedOut"] == 1


def test_a_wake_is_heard_of_before_the_next_poll() -> None:
    [end] = ends = [1_000.0]
    polled = of_ages([10.0, 5_000.0], ends, CALLBACK, prices())
    woken = of_ages([10.0, 5_000.0], ends, CALLBACK, prices(), watched=True)

    assert polled.delay_seconds == 5_000 - end
    assert 2 <= woken.delay_seconds <= 122
    assert woken.usd == polled.usd


def test_every_function_has_its_minimum() -> None:
    assert set(MINIMUM) == {file.stem for file in (ROOT / "functions").glob("*.py")}


def test_every_function_answers_its_first_event_within_its_budget() -> None:
    measured = json.loads((ROOT / "benchmarks/results.json").read_text())["startup"]["functions"]
    over = {
        name: one["toMinimum"]["together"]["median"]
        for name, one in measured.items()
        if one["toMinimum"]["together"]["median"] > startup.BUDGET
    }

    assert {name.partition(",")[0] for name in measured} == set(MINIMUM)
    assert over == {}


def test_a_start_is_counted_from_nothing_to_its_answer() -> None:
    taken = startup._phases([10.0, 10.3, 10.5])

    assert taken == pytest.approx({"import": 0.3, "firstCall": 0.2, "together": 0.5})


def test_a_ratio_is_that_of_pairs() -> None:
    ours, least = ([{"together": one} for one in values] for values in ([2.0, 3, 8], [1.0, 2, 2]))

    assert startup._ratios(ours, least, "together") == {"median": 2, "low": 1.75, "high": 3}


def test_every_package_says_what_it_is_for() -> None:
    pinned = (ROOT / "layers/dependencies/requirements.txt").read_text()

    assert set(size.WHAT_FOR) == set(re.findall(r"^([a-z0-9-]+)==", pinned, re.MULTILINE))


def test_the_pages_show_what_is_computed() -> None:
    assert readme.files() == {page: page.read_text() for page in readme.files()}
    assert readme.waiting() in readme.PERFORMANCE.read_text()
    assert readme.price() in readme.README.read_text()
    assert readme.quorums() in readme.CERTIFICATES.read_text()


def test_the_bill_of_an_idle_stack_counts_the_template_s_resources() -> None:
    items = {item.name: item for item in bill.idle_month()}

    keys = [one for one in RESOURCES.values() if one["Type"] == "AWS::KMS::Key"]
    assert items["KMS key"].usd == 1.00 * len(keys)
    assert items["Secrets"].usd == pytest.approx(0.40 * items["Secrets"].quantity)
    assert items["Alarms"].quantity == 16  # two of the alarms read two metrics each
    assert items["Dashboards"].quantity == 0
    assert 5 < bill.total(bill.idle_month()) <= 8


def test_the_idle_bill_s_dashboard_and_mails_are_those_of_the_parameters() -> None:
    def items(**parameters: str) -> dict[str, bill.Item]:
        return {item.name: item for item in bill.idle_month(**parameters)}

    assert items(Dashboard="true")["Dashboards"].usd == 3
    assert items(NotifyEmail="a@example.com")["Alarms"].quantity == 17


def test_the_free_tier_takes_the_dashboard_and_most_of_the_alarms() -> None:
    whole = bill.idle_month(Dashboard="true")
    left = {item.name: item for item in bill.after_free_tier(whole)}

    assert left["Dashboards"].usd == left["Custom metrics"].usd == 0
    assert left["Alarms"].usd == pytest.approx(0.6)
    assert left["Secrets"].usd == 1.6
    assert bill.FREE_A_MONTH.keys() <= {item.name for item in whole}
    assert bill.total(left.values()) < 5


def test_the_watch_of_an_idle_stack_keeps_its_budget() -> None:
    watch = [item for item in bill.idle_month() if item.name.startswith("WatchEnrollments")]

    assert bill.total(watch) <= 0.35


def test_an_item_s_size_is_counted_as_dynamodb_does() -> None:
    assert item_size({"id": {"S": "abc"}}) == 5
    assert item_size({"m": {"M": {"a": {"NULL": True}}}}) == 1 + 3 + 1 + 2
    assert item_size({"n": {"N": "1500"}}) == 1 + 3


def test_a_write_costs_an_index_what_it_changes_there() -> None:
    keys = [{"AttributeName": "status"}, {"AttributeName": "acceptedAt"}]
    projection = {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["stage"]}
    index = {"KeySchema": keys, "Projection": projection}
    open_ = {"id": {"S": "1"}, "status": {"S": "PENDING"}, "acceptedAt": {"S": "now"}}

    assert index_units(index, {}, {"id": {"S": "1"}}) == 0
    assert index_units(index, {}, open_) == 1
    assert index_units(index, open_, {**open_, "approvers": {"L": []}}) == 0
    assert index_units(index, open_, {**open_, "stage": {"S": "StoreCsr"}}) == 1
    assert index_units(index, open_, {**open_, "status": {"S": "ISSUED"}}) == 2


def test_the_bare_script_makes_the_same_calls_under_another_name() -> None:
    put = AwsCall("s3", "PutObject", {"Key": "enrollments/old/a", "Body": b'{"id": "old"}'})
    poll = TsbCall("GET", "/v1/request/r-1", {"X-API-KEY": "old"}, None)

    assert renamed(put, {"old": "new"}).params == {
        "Key": "enrollments/new/a",
        "Body": b'{"id": "new"}',
    }
    assert renamed(poll, {"r-1": "r-2"}).path == "/v1/request/r-2"


def handlers(**answers: Any) -> dict[str, Any]:
    """Functions that answer so, whatever they are given; of a list one answer at each call."""

    def handler(answer: Any) -> Any:
        left = iter(answer) if isinstance(answer, list) else None
        return lambda *_: next(left) if left else answer

    return {name: SimpleNamespace(handler=handler(answer)) for name, answer in answers.items()}


ANSWERS: dict[str, Any] = {
    "accept_enrollment": {"enrollmentId": "a", "request": {}},
    "create_key": {},
    "request_csr": {
        "requestId": "r",
        "schedule": {},
        "tsbStatus": "PENDING",
        "outcome": None,
        "waitSeconds": 10,
    },
    "poll_request": [
        {
            "tsbStatus": "PENDING",
            "outcome": None,
            "pem": None,
            "waitSeconds": 10,
            "seen": "nothing",
        },
        {
            "tsbStatus": "EXECUTED",
            "outcome": None,
            "pem": "-----",
            "waitSeconds": 10,
            "seen": "all",
        },
    ],
    "store_csr": {"outcome": "ISSUED"},
    "close_enrollment": {"outcome": "ISSUED"},
}


def test_each_handler_is_timed_where_the_definition_calls_it() -> None:
    taken: dict[str, float] = {}

    work._enroll(handlers(**ANSWERS), "bench-a", taken.__setitem__)

    assert list(taken) == [
        "accept_enrollment", "create_key", "request_csr", "poll_request 1", "poll_request 2",
        "store_csr", "close_enrollment",
    ]  # fmt: skip
    assert all(seconds >= 0 for seconds in taken.values())


def test_what_is_not_issued_is_not_measured() -> None:
    rejected = {"poll_request": {**ANSWERS["poll_request"][1], "tsbStatus": "REJECTED"}}
    closed = {"close_enrollment": {"outcome": "REJECTED"}}

    with pytest.raises(work.NotIssuedError):
        work._enroll(handlers(**{**ANSWERS, **rejected, **closed}), "bench-a", lambda *_: None)
