"""The insurance polls of a request: how many, and at which moments, for any policy."""

from collections.abc import Iterator
from copy import replace

from hypothesis import given
from hypothesis import strategies as st

from countersign import polling
from countersign.polling import DAY_SECONDS, FIRST_SECONDS, Schedule, next_wait
from tests.definitions import slower

MAX_POLLS = 1_000
MAX_WAKES = 500  # of an execution; then it waits without a token
EVENTS_A_TURN = 13  # WaitForApproval 6, PollRequest 5, ChooseNext 2; counted by benchmarks/truth.py
EVENTS_AROUND = 1_500  # the other states, with every retry
YEAR_SECONDS = polling.LONGEST_WINDOW_SECONDS
DEADLINE_SECONDS = 30 * DAY_SECONDS

minutes = st.integers(1, YEAR_SECONDS // 60).map(lambda number: number * 60)
schedules = st.builds(
    lambda window, timelock, silence: Schedule(
        window_seconds=window,
        timelock_seconds=timelock if timelock < (window or DEADLINE_SECONDS) else 0,
        silence_seconds=silence,
    ),
    window=st.one_of(st.just(0), st.integers(1, 60).map(lambda number: number * 60), minutes),
    timelock=st.one_of(st.just(0), minutes),
    silence=st.sampled_from([600, 3_600, DAY_SECONDS, 7 * DAY_SECONDS]),
)


def polls(schedule: Schedule) -> Iterator[tuple[int, int]]:
    """(age, wait before it) of each poll at a request that nobody decides and TSB never ends."""
    age, wait = 0, FIRST_SECONDS
    while True:
        age += wait
        yield age, wait
        if age >= schedule.last_age:
            return
        wait = next_wait(schedule, age)


def silent_polls(schedule: Schedule) -> Iterator[int]:
    """The same while TSB never answers: the state machine does this arithmetic."""
    age, wait = 0, FIRST_SECONDS
    while age < schedule.last_age:
        age += wait
        yield age
        wait = slower(wait, schedule.growth, schedule.cap)


@given(schedules, st.integers(0, 400 * DAY_SECONDS))
def test_what_is_said_of_the_next_poll_is_when_it_comes(schedule: Schedule, age: int) -> None:
    coming = next((poll for poll, _ in polls(schedule) if poll > age), None)

    if coming is not None:
        assert polling.next_poll(schedule, age) == coming


@given(schedules, st.integers(0, 100), st.integers(0, 400 * DAY_SECONDS))
def test_polls_after_a_wake_are_counted_from_what_was_noted_then(
    schedule: Schedule, woken_at: int, later: int
) -> None:
    noted = woken_at + next_wait(schedule, woken_at)
    coming = noted
    while coming <= later:
        coming += next_wait(schedule, coming)

    assert polling.next_poll(schedule, later, noted=noted) == coming


@given(schedules)
def test_no_window_outgrows_the_execution_history(schedule: Schedule) -> None:
    for number in (len(list(polls(schedule))), len(list(silent_polls(schedule)))):
        assert number <= MAX_POLLS
        assert EVENTS_A_TURN * (number + MAX_WAKES) + EVENTS_AROUND < 22_000


@given(schedules.filter(lambda one: 0 < one.window_seconds <= 7 * DAY_SECONDS))
def test_a_window_of_up_to_a_week_stays_below_fifteen_hundred_events(schedule: Schedule) -> None:
    schedule = replace(schedule, silence_seconds=DAY_SECONDS)

    assert EVENTS_A_TURN * len(list(polls(schedule))) + 60 <= 1_500


@given(schedules)
def test_every_wait_is_positive_and_never_above_the_cap(schedule: Schedule) -> None:
    for _, wait in polls(schedule):
        assert 0 < wait <= schedule.cap + polling.MARGIN_SECONDS


@given(schedules)
def test_a_poll_follows_the_end_of_window_and_timelock_at_once(schedule: Schedule) -> None:
    ages = [age for age, _ in polls(schedule)]
    for moment in filter(None, (schedule.end, schedule.timelock_seconds)):
        assert 0 < min(age for age in ages if age > moment) - moment <= 5


@given(schedules)
def test_waits_grow_with_the_age(schedule: Schedule) -> None:
    schedule = replace(schedule, timelock_seconds=0)
    waits = [wait for age, wait in polls(schedule) if age < schedule.end]

    assert waits[:-1] == sorted(waits[:-1])


def test_the_seed_s_ten_minutes_are_looked_at_like_this() -> None:
    schedule = Schedule(window_seconds=600, timelock_seconds=0, silence_seconds=600)

    assert [age for age, _ in polls(schedule)] == [
        10, 70, 140, 280, 560, 602, 662, 724, 848, 1096, 1592,
    ]  # fmt: skip


@given(schedules, st.floats(0.5, 4), st.integers(1, 3_600), st.integers(60, 43_200))
def test_any_pace_that_the_stack_s_parameters_allow_fits_too(
    schedule: Schedule, growth: float, floor: int, cap: int
) -> None:
    schedule = replace(schedule, growth=growth, floor_seconds=floor, cap_seconds=cap)

    for number in (len(list(polls(schedule))), len(list(silent_polls(schedule)))):
        assert EVENTS_A_TURN * (number + MAX_WAKES) + EVENTS_AROUND < 22_000
