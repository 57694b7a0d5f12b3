"""The looks at a request: how many, how late, and at which moments, for any policy."""

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from countersign import polling
from countersign.polling import DAY_SECONDS, Schedule, first_wait, next_wait
from tests.definitions import slower

MAX_POLLS = 1_500
EVENTS_PER_LOOK = (
    9  # ChooseNext 2, WaitForApproval 2, PollRequest 5; counted by benchmarks/truth.py
)
EVENTS_AROUND = 60  # the other states, with retries
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
    age, wait = 0, first_wait(schedule)
    while True:
        age += wait
        yield age, wait
        if age >= schedule.last_age:
            return
        wait = next_wait(schedule, age, "PENDING")


def silent_looks(schedule: Schedule) -> Iterator[int]:
    """The same while TSB never answers: the state machine does this arithmetic."""
    age, wait = 0, first_wait(schedule)
    while age < schedule.last_age:
        age += wait
        yield age
        wait = slower(wait, schedule.growth, schedule.cap)


@given(schedules, st.integers(0, 400 * DAY_SECONDS))
def test_what_is_said_of_the_next_poll_is_when_it_comes(schedule: Schedule, age: int) -> None:
    coming = next((poll for poll, _ in polls(schedule) if poll > age), None)

    if coming is not None:
        assert polling.next_poll(schedule, age, "PENDING") == coming


@given(schedules)
def test_no_window_outgrows_the_execution_history(schedule: Schedule) -> None:
    for number in (len(list(polls(schedule))), len(list(silent_looks(schedule)))):
        assert number <= MAX_POLLS
        assert EVENTS_PER_LOOK * number + EVENTS_AROUND < 14_000


@given(schedules.filter(lambda one: 0 < one.window_seconds <= 7 * DAY_SECONDS))
def test_a_window_of_up_to_a_week_stays_below_ten_thousand_events(schedule: Schedule) -> None:
    schedule = replace(schedule, silence_seconds=DAY_SECONDS)

    assert EVENTS_PER_LOOK * len(list(polls(schedule))) + EVENTS_AROUND <= 10_000


@given(schedules)
def test_every_wait_is_positive_and_never_above_the_cap(schedule: Schedule) -> None:
    for _, wait in polls(schedule):
        assert 0 < wait <= schedule.cap + polling.MARGIN_SECONDS


@given(schedules)
def test_the_first_look_tells_the_approvers_and_waits_for_no_timelock(schedule: Schedule) -> None:
    assert first_wait(schedule) == polling.FLOOR_SECONDS


@given(schedules)
def test_a_look_follows_the_end_of_window_and_timelock_at_once(schedule: Schedule) -> None:
    ages = [age for age, _ in polls(schedule)]
    for moment in filter(None, (schedule.end, schedule.timelock_seconds)):
        assert 0 < min(age for age in ages if age > moment) - moment <= 5


@given(schedules)
def test_an_execution_is_noticed_after_a_tenth_of_its_age_on_average(schedule: Schedule) -> None:
    before = 0
    for age, wait in polls(schedule):
        reference = before if before < schedule.end else before - schedule.end
        if before >= max(50, schedule.timelock_seconds):
            longest = max(schedule.floor_seconds, schedule.growth * reference + 1)
            assert wait <= max(longest, polling.MARGIN_SECONDS + longest)
        before = age


@given(schedules)
def test_waits_grow_with_the_age(schedule: Schedule) -> None:
    schedule = replace(schedule, timelock_seconds=0)
    waits = [wait for age, wait in polls(schedule) if age < schedule.end]

    assert waits[:-1] == sorted(waits[:-1])


@given(schedules, st.integers(0, YEAR_SECONDS))
def test_what_has_just_been_approved_is_polled_at_the_pace_of_tsb_s_timer(
    schedule: Schedule, age: int
) -> None:
    if age >= schedule.timelock_seconds:
        assert next_wait(schedule, age, "APPROVED", is_news=True) == polling.EXECUTION_SECONDS
    if 0 <= age - schedule.timelock_seconds < polling.EXECUTED_WITHIN_SECONDS:
        assert next_wait(schedule, age, "APPROVED") == polling.EXECUTION_SECONDS


@given(schedules, st.sampled_from(["PENDING", "APPROVED"]))
def test_the_bound_of_polls_holds_for_every_status_and_policy(
    schedule: Schedule, status: str
) -> None:
    # A policy "2 of 2 at once, or 1 of 2 after 7 days" makes TSB say APPROVED for days.
    age, number = polling.first_wait(schedule), 1
    while age < schedule.last_age:
        age, number = age + next_wait(schedule, age, status), number + 1

    assert number <= MAX_POLLS


def test_the_seed_s_ten_minutes_are_looked_at_like_this() -> None:
    schedule = Schedule(window_seconds=600, timelock_seconds=0, silence_seconds=600)

    assert [age for age, _ in polls(schedule)] == [
        10, 20, 30, 40, 50, 60, 72, 87, 105, 126, 152, 183, 220, 264, 317, 381, 458, 550, 602,
        612, 622, 632, 642, 652, 663, 676, 692, 711, 734, 761, 794, 833, 880, 936, 1004, 1085,
        1182, 1299,
    ]  # fmt: skip


@given(schedules, st.floats(0.1, 1), st.integers(1, 60), st.integers(10, 3_600))
def test_any_pace_that_the_stack_s_parameters_allow_fits_too(
    schedule: Schedule, growth: float, floor: int, cap: int
) -> None:
    schedule = replace(schedule, growth=growth, floor_seconds=floor, cap_seconds=cap)

    for number in (len(list(polls(schedule))), len(list(silent_looks(schedule)))):
        assert EVENTS_PER_LOOK * number + EVENTS_AROUND < 14_000
