"""When people approve: the ages at which TSB's request ends, as evenly spaced quantiles.

Not drawn: the quantiles of a distribution carry no noise, so every run computes the same figures.
Nobody has published how long HSM approvals take; the shapes are assumptions, each with its reason.
Ages in seconds since the approvers were asked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, sqrt
from statistics import NormalDist

MINUTE, HOUR, DAY = 60, 3_600, 86_400
QUANTILES = 2_000
# A whole number of golden-ratio steps pairs a second quantity evenly with the first (Weyl).
GOLDEN = (sqrt(5) - 1) / 2
TSB_TIMER_SECONDS = 60  # TSB executes and expires once a minute


@dataclass(frozen=True)
class Scenario:
    """A way in which approvals come.

    Args:
        name: a word for tables and plots.
        why: where the shape comes from.
        window_seconds: how long approvals are collected.
        timelock_seconds: before this nothing is executed.
        ends: ages at which TSB's request is final, ascending.
    """

    name: str
    why: str
    window_seconds: int
    timelock_seconds: int
    ends: tuple[float, ...]


def _quantiles(end: Callable[[float, float], float]) -> tuple[float, ...]:
    """`end` of (p, u): p runs evenly over 0–1, u is even over 0–1 and independent of p."""
    return tuple(sorted(end((n + 0.5) / QUANTILES, (n * GOLDEN) % 1.0) for n in range(QUANTILES)))


def _minutes(p: float, _: float) -> float:
    # sigma 1.5: one of twenty takes longer than 47 minutes.
    return min(4 * MINUTE * exp(1.5 * NormalDist().inv_cdf(p)), DAY)


def _morning(p: float, u: float) -> float:
    requested = 9 * HOUR + 8 * HOUR * p  # somewhen in the working day, 9 to 17
    approved = DAY + 8 * HOUR + 2 * HOUR * u  # the next one, between 8 and 10
    return approved - requested


SCENARIOS = (
    Scenario(
        "minutes",
        "Somebody sits there: median 4 min, a long tail (log-normal, one of 20 over 47 min).",
        DAY,
        0,
        _quantiles(_minutes),
    ),
    Scenario(
        "next morning",
        "Asked between 9 and 17, approved the next day between 8 and 10.",
        7 * DAY,
        0,
        _quantiles(_morning),
    ),
    Scenario(
        "within 24 h",
        "Any moment of a day is as likely as another.",
        DAY,
        0,
        _quantiles(lambda p, _: p * DAY),
    ),
    Scenario(
        "within 7 days",
        "Any moment of a week is as likely as another.",
        7 * DAY,
        0,
        _quantiles(lambda p, _: p * 7 * DAY),
    ),
    Scenario(
        "timelocked 24 h",
        "Approved early; TSB's timer executes within a minute after the timelock.",
        2 * DAY,
        DAY,
        _quantiles(lambda p, _: DAY + p * TSB_TIMER_SECONDS),
    ),
    Scenario(
        "declined late",
        "The decision that ends it comes in the last third of a week.",
        7 * DAY,
        0,
        _quantiles(lambda p, _: (2 / 3 + p / 3) * 7 * DAY),
    ),
    Scenario(
        "expires",
        "Nobody decides; TSB's timer expires it within a minute after its 24 h.",
        DAY,
        0,
        _quantiles(lambda p, _: DAY + p * TSB_TIMER_SECONDS),
    ),
)
