"""Who waits for the approvers, and what each poll of theirs costs: ours, and its rivals.

A poller is an endless list of ages at which it polls, in seconds since the approvers were asked.
Ours is woken besides, by WatchEnrollments, which looks once a minute at everything that is open.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from copy import replace
from dataclasses import dataclass
from itertools import takewhile
from math import log

from benchmarks.approvals import Scenario
from countersign import polling
from countersign_cli.prices import Prices

EVENT_LIMIT = 25_000  # Step Functions fails an execution that reaches it
P95 = 0.95

# WatchEnrollments runs once a minute. AWS promises a schedule to the minute, not to the second, so
# each run begins anywhere within its minute; and a run of 300 requests takes four seconds, of which
# the one concerned has waited half.
# Source: https://docs.aws.amazon.com/scheduler/latest/UserGuide/what-is-scheduler.html
RUN_EVERY_SECONDS, WITHIN_THE_RUN_SECONDS = 60, 2
# Fractions of these run evenly over 0-1 and independently of each other (Roberts' R3 sequence).
R3 = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)

type Ages = Callable[[Scenario], Iterator[float]]


@dataclass(frozen=True)
class Turn:
    """What one poll adds to an execution."""

    transitions: int
    events: int


# WaitForApproval 6 events, PollRequest 5, ChooseNext 2.
CALLBACK = Turn(transitions=3, events=13)
# The same with a Wait, which nobody can wake: 2 instead of 6.
LOOP = Turn(transitions=3, events=9)
# TaskScheduled, TaskStarted, TaskFailed; a retry is billed as one transition.
RETRY = Turn(transitions=1, events=3)


@dataclass(frozen=True)
class Poller:
    """A name, its ages, what its polls cost, and whether it is woken besides."""

    name: str
    ages: Ages
    turn: Turn = LOOP
    watched: bool = False


def ours(name: str = "Countersign", *, watched: bool = True, **settings: float) -> Poller:
    """The schedule of `polling.py`, or one with another pace, with or without the watcher."""

    def ages(scenario: Scenario) -> Iterator[float]:
        schedule = replace(
            polling.Schedule(scenario.window_seconds, scenario.timelock_seconds),
            **settings,  # type: ignore[arg-type]
        )
        age = polling.FIRST_SECONDS
        while True:
            yield age
            age += polling.next_wait(schedule, age)

    return Poller(name, ages, CALLBACK, watched)


def a_share_of_the_age(name: str = "a fifth of the age") -> Poller:
    """What Countersign did before it was woken: a plain wait of a fifth of the age."""
    return replace(
        ours(name, watched=False, growth=0.2, floor_seconds=10, cap_seconds=900), turn=LOOP
    )


def fixed(seconds: float, name: str | None = None) -> Poller:
    """A loop of Wait, Task and Choice at one pace, the classic job poller."""

    def ages(_: Scenario) -> Iterator[float]:
        number = 0
        while True:
            number += 1
            yield number * seconds

    return Poller(name or f"every {seconds:g} s", ages)


def retry(interval: float, backoff: float, longest: float) -> Poller:
    """A Task that fails while the request is pending, and its Retry's three parameters."""

    def ages(_: Scenario) -> Iterator[float]:
        age, wait = 0.0, interval
        yield age  # the Task's own first try
        while True:
            age += min(wait, longest)
            yield age
            wait *= backoff

    return Poller(f"retry {interval:g} s × {backoff:g}", ages, RETRY)


FIXED = tuple(fixed(seconds) for seconds in (5, 30, 60, 300, 600))
JOB_POLLER = fixed(60, "job poller (60 s)")


@dataclass(frozen=True)
class Waiting:
    """What waiting costs, means over a scenario; delays from TSB's end to the poll that sees it."""

    polls: float
    transitions: float
    events: float
    usd: float
    delay_seconds: float
    delay_p95_seconds: float
    over_the_limit: float  # share of executions that would die of their history


def evaluate(poller: Poller, scenario: Scenario, prices: Prices) -> Waiting:
    """Let a poller wait through a scenario."""
    last = scenario.ends[-1]
    # One age past the last end as well: that poll sees it.
    ages = list(takewhile(lambda age: age < last, poller.ages(scenario)))
    ages.append(next(age for age in poller.ages(scenario) if age >= last))
    return of_ages(ages, scenario.ends, poller.turn, prices, watched=poller.watched)


def of_ages(
    ages: Sequence[float],
    ends: Sequence[float],
    turn: Turn,
    prices: Prices,
    *,
    watched: bool = False,
) -> Waiting:
    """The same for ages that are known, the last of them at or after the last end."""
    seen = [bisect_left(ages, end) for end in ends]
    polls = [index + 1 for index in seen]
    delays = [ages[index] - end for index, end in zip(seen, ends, strict=True)]
    if watched:  # the poll that sees the end is the one that the watcher wakes, or its own
        delays = [min(own, until_the_run(number)) for number, own in enumerate(delays)]
    delays.sort()
    mean = sum(polls) / len(polls)
    return Waiting(
        polls=mean,
        transitions=mean * turn.transitions,
        events=mean * turn.events,
        usd=mean * turn.transitions * prices["stateTransition"],
        delay_seconds=sum(delays) / len(delays),
        delay_p95_seconds=delays[int(P95 * len(delays))],
        over_the_limit=sum(n * turn.events >= EVENT_LIMIT for n in polls) / len(polls),
    )


def until_the_run(number: int) -> float:
    """Seconds from the end of the `number`th quantile to the poll that a run's wake leads to."""
    ended, this_run, next_run = ((number + 1) * step % 1 for step in R3)
    minutes = this_run - ended if this_run > ended else 1 + next_run - ended
    return minutes * RUN_EVERY_SECONDS + WITHIN_THE_RUN_SECONDS


def mixed(parts: Sequence[Waiting]) -> Waiting:
    """All scenarios, each as likely as another: nobody knows beforehand which one it will be.

    The 95th percentile of a mixture is not a mean; the worst scenario's stands for it.
    """
    number = len(parts)
    return Waiting(
        polls=sum(part.polls for part in parts) / number,
        transitions=sum(part.transitions for part in parts) / number,
        events=sum(part.events for part in parts) / number,
        usd=sum(part.usd for part in parts) / number,
        delay_seconds=sum(part.delay_seconds for part in parts) / number,
        delay_p95_seconds=max(part.delay_p95_seconds for part in parts),
        over_the_limit=sum(part.over_the_limit for part in parts) / number,
    )


def at_the_delay_of(point: Waiting, curve: Sequence[Waiting]) -> float:
    """The price on a curve at a point's delay, between its neighbours as on double-log paper."""
    ordered = sorted(curve, key=lambda one: one.delay_seconds)
    for left, right in zip(ordered, ordered[1:], strict=False):
        if left.delay_seconds <= point.delay_seconds <= right.delay_seconds:
            span = right.delay_seconds / left.delay_seconds
            share = log(point.delay_seconds / left.delay_seconds) / log(span) if span > 1 else 0
            return float(left.usd * (right.usd / left.usd) ** share)
    raise ValueError(f"no curve at a delay of {point.delay_seconds} s")
