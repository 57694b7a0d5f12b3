"""Every poller in every scenario, and the curves between them."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.approvals import SCENARIOS, Scenario
from benchmarks.oracle import WORTHS, best_ages
from benchmarks.pollers import (
    EVENT_LIMIT,
    FIXED,
    JOB_POLLER,
    LOOP,
    Poller,
    Waiting,
    at_the_delay_of,
    evaluate,
    fixed,
    mixed,
    of_ages,
    ours,
    retry,
    square_root,
)
from countersign_cli.prices import Prices, prices

__all__ = ["EVENT_LIMIT", "Comparison", "Curves", "at_the_delay_of", "compare", "price_without"]

OURS = ours()
RETRY = retry(10, 1.2, 900)
NAMED = (*FIXED, JOB_POLLER, RETRY)
OTHER_PACES = (
    ours("growth 0.1", growth=0.1),
    ours("growth 0.3", growth=0.3),
    ours("growth 0.5", growth=0.5),
    ours("floor 5 s", floor_seconds=5),
    ours("floor 30 s", floor_seconds=30),
    ours("cap 300 s", cap_seconds=300),
    ours("cap 600 s", cap_seconds=600),
    ours("cap 1,800 s", cap_seconds=1_800),
    square_root(4),
)
INTERVALS = [2 * 1.25**step for step in range(34)]
GRID_TOLERANCE = 1.03  # the oracle stands on a grid of ages, and its curve is drawn between points
FACTORS = [2 ** (step / 2) for step in range(-6, 5)]


@dataclass(frozen=True)
class Curves:
    """A scenario's points: ours, the named rivals, and the curves through all intervals."""

    ours: Waiting
    named: dict[str, Waiting]
    paces: dict[str, Waiting]
    fixed: list[Waiting]
    retry: list[Waiting]
    oracle: list[Waiting]


@dataclass(frozen=True)
class Comparison:
    """By scenario, and for all of them together."""

    scenarios: dict[str, Curves]
    mixture: Curves


class OracleError(Exception):
    """A poller did better than the best possible one: one of the two is computed wrongly."""


def compare() -> Comparison:
    """Compute everything.

    Raises:
        OracleError: see there.
    """
    by_name = {scenario.name: _curves(scenario, prices()) for scenario in SCENARIOS}
    for name, curves in by_name.items():
        _require_best(name, curves)
    parts = list(by_name.values())
    return Comparison(
        scenarios=by_name,
        mixture=Curves(
            ours=mixed([one.ours for one in parts]),
            named=_mixed([one.named for one in parts]),
            paces=_mixed([one.paces for one in parts]),
            fixed=_zipped([one.fixed for one in parts]),
            retry=_zipped([one.retry for one in parts]),
            oracle=_zipped([one.oracle for one in parts]),
        ),
    )


def price_without(compared: Comparison, omitted_count: Sequence[str]) -> float:
    """Our price over the fixed interval's at our delay, where some scenarios never happen."""
    rest = [one for name, one in compared.scenarios.items() if name not in omitted_count]
    own = mixed([one.ours for one in rest])
    return own.usd / at_the_delay_of(own, _zipped([one.fixed for one in rest]))


def _require_best(name: str, curves: Curves) -> None:
    longest = max(one.delay_seconds for one in curves.oracle)
    shortest = min(one.delay_seconds for one in curves.oracle)
    for one in (curves.ours, *curves.fixed, *curves.paces.values()):
        if shortest <= one.delay_seconds <= longest:
            best = at_the_delay_of(one, curves.oracle)
            if one.usd < best / GRID_TOLERANCE:
                raise OracleError(f"{name}: {one.usd} at {one.delay_seconds} s, the best is {best}")


def _curves(scenario: Scenario, at: Prices) -> Curves:
    def all_of(pollers: Sequence[Poller]) -> dict[str, Waiting]:
        return {poller.name: evaluate(poller, scenario, at) for poller in pollers}

    return Curves(
        ours=evaluate(OURS, scenario, at),
        named=all_of(NAMED),
        paces=all_of(OTHER_PACES),
        fixed=[evaluate(fixed(seconds), scenario, at) for seconds in INTERVALS],
        retry=[evaluate(retry(10 * factor, 1.2, 900 * factor), scenario, at) for factor in FACTORS],
        oracle=[
            of_ages(best_ages(scenario.ends, worth), scenario.ends, LOOP, at) for worth in WORTHS
        ],
    )


def _mixed(parts: Sequence[dict[str, Waiting]]) -> dict[str, Waiting]:
    return {name: mixed([part[name] for part in parts]) for name in parts[0]}


def _zipped(parts: Sequence[list[Waiting]]) -> list[Waiting]:
    return [mixed(points) for points in zip(*parts, strict=True)]
