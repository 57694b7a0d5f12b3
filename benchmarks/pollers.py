"""The pollers that a user could run instead of ours, and what a poll of each costs.

A poller is an endless list of ages at which it looks, in seconds since the approvers were asked.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from math import ceil, log

from benchmarks.approvals import Scenario
from countersign import polling
from countersign_cli.prices import Prices

EVENT_LIMIT = 25_000  # Step Functions fails an execution that reaches it
P95 = 0.95

type Ages = Callable[[Scenario], Iterator[float]]


@dataclass(frozen=True)
class Look:
    """What one poll adds to an execution."""

    transitions: int
    events: int


# WaitForApproval 2 events, PollRequest 5, ChooseNext 2.
LOOP = Look(transitions=3, events=9)
# TaskScheduled, TaskStarted, TaskFailed; a retry is billed as one transition.
RETRY = Look(transitions=1, events=3)


@dataclass(frozen=True)
class Poller:
    """A name, its ages, and what its polls cost."""

    name: str
    ages: Ages
    poll: Look = LOOP


def ours(name: str = "Countersign", **polling_settings: float) -> Poller:
    """The schedule of `polling.py`, or one with another pace."""

    def ages(scenario: Scenario) -> Iterator[float]:
        schedule = replace(
            polling.Schedule(scenario.window_seconds, scenario.timelock_seconds),
            **polling_settings,  # type: ignore[arg-type]
        )
        age, wait = 0, polling.first_wait(schedule)
        while True:
            age += wait
            yield age
            locked = scenario.timelock_seconds
            status = "APPROVED" if locked and age >= locked else "PENDING"
            wait = polling.next_wait(schedule, age, status)

    return Poller(name, ages)


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


def square_root(factor: float) -> Poller:
    """A wait of `factor` times the age's square root: what theory asks for a falling hazard."""

    def ages(_: Scenario) -> Iterator[float]:
        age = 0
        while True:
            paced = min(polling.GROWTH * age, factor * age**0.5)
            age += ceil(min(max(polling.FLOOR_SECONDS, paced), polling.CAP_SECONDS))
            yield age

    return Poller(f"{factor:g} × root of age", ages)


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
    return of_ages(ages, scenario.ends, poller.poll, prices)


def of_ages(ages: Sequence[float], ends: Sequence[float], poll: Look, prices: Prices) -> Waiting:
    """The same for ages that are known, the last of them at or after the last end."""
    seen = [bisect_left(ages, end) for end in ends]
    polls = [index + 1 for index in seen]
    delays = sorted(ages[index] - end for index, end in zip(seen, ends, strict=True))
    mean = sum(polls) / len(polls)
    return Waiting(
        polls=mean,
        transitions=mean * poll.transitions,
        events=mean * poll.events,
        usd=mean * poll.transitions * prices["stateTransition"],
        delay_seconds=sum(delays) / len(delays),
        delay_p95_seconds=delays[int(P95 * len(delays))],
        over_the_limit=sum(n * poll.events >= EVENT_LIMIT for n in polls) / len(polls),
    )


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
