"""Every poller in every scenario, and the curves between them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from benchmarks.approvals import SCENARIOS, Scenario
from benchmarks.oracle import WORTHS, best_ages
from benchmarks.pollers import (
    FIXED,
    JOB_POLLER,
    LOOP,
    Poller,
    Waiting,
    a_share_of_the_age,
    at_the_delay_of,
    evaluate,
    fixed,
    mixed,
    of_ages,
    ours,
    retry,
)
from countersign_cli.prices import Prices, prices

OURS = ours()
RETRY = retry(10, 1.2, 900)
SHARE = a_share_of_the_age()
NAMED = (*FIXED, JOB_POLLER, RETRY, SHARE)
OTHER_PACES = (
    ours("without the watcher", watched=False),
    ours("growth 0.5", growth=0.5),
    ours("growth 2", growth=2),
    ours("floor 30 s", floor_seconds=30),
    ours("cap 1 h", cap_seconds=3_600),
    ours("cap 12 h", cap_seconds=43_200),
)
INTERVALS = [2 * 1.25**step for step in range(34)]
FACTORS = [2 ** (step / 2) for step in range(-10, 5)]


@dataclass(frozen=True)
class Curves:
    """A scenario's points: ours, the named rivals, and the curves through all of a kind."""

    ours: Waiting
    named: dict[str, Waiting]
    paces: dict[str, Waiting]
    rivals: dict[str, list[Waiting]]
    oracle: list[Waiting]

    def cheapest(self) -> tuple[str, float]:
        """Our price over that of the cheapest rival with the same mean delay, and which it is."""
        prices = {
            name: at_the_delay_of(self.ours, curve)
            for name, curve in self.rivals.items()
            if reaches(curve, self.ours)
        }
        name = min(prices, key=lambda one: prices[one])
        return name, self.ours.usd / prices[name]


@dataclass(frozen=True)
class Comparison:
    """By scenario, and for all of them together."""

    scenarios: dict[str, Curves]
    mixture: Curves


def compare() -> Comparison:
    """Compute everything."""
    by_name = {scenario.name: _curves(scenario, prices()) for scenario in SCENARIOS}
    return Comparison(scenarios=by_name, mixture=together(list(by_name.values())))


def together(parts: Sequence[Curves]) -> Curves:
    """Scenarios, each as likely as another."""
    return Curves(
        ours=mixed([one.ours for one in parts]),
        named=_mixed([one.named for one in parts]),
        paces=_mixed([one.paces for one in parts]),
        rivals={name: _zipped([one.rivals[name] for one in parts]) for name in parts[0].rivals},
        oracle=_zipped([one.oracle for one in parts]),
    )


def reaches(curve: Sequence[Waiting], point: Waiting) -> bool:
    """Whether a curve has a point of this delay."""
    delays = [one.delay_seconds for one in curve]
    return min(delays) <= point.delay_seconds <= max(delays)


def _curves(scenario: Scenario, at: Prices) -> Curves:
    def all_of(pollers: Sequence[Poller]) -> dict[str, Waiting]:
        return {poller.name: evaluate(poller, scenario, at) for poller in pollers}

    def curve(pollers: Iterable[Poller]) -> list[Waiting]:
        return [evaluate(poller, scenario, at) for poller in pollers]

    return Curves(
        ours=evaluate(OURS, scenario, at),
        named=all_of(NAMED),
        paces=all_of(OTHER_PACES),
        rivals={
            "fixed interval": curve(fixed(seconds) for seconds in INTERVALS),
            "failing Task": curve(retry(10 * one, 1.2, 900 * one) for one in FACTORS),
            "failing Task, fixed interval": curve(retry(one, 1, one) for one in INTERVALS),
            "share of the age": curve(
                replace(
                    ours("", watched=False, growth=0.2 * one, floor_seconds=10 * one,
                         cap_seconds=900 * one),
                    turn=LOOP,
                )
                for one in FACTORS
            ),
        },
        oracle=[
            of_ages(best_ages(scenario.ends, worth), scenario.ends, LOOP, at) for worth in WORTHS
        ],
    )  # fmt: skip


def _mixed(parts: Sequence[dict[str, Waiting]]) -> dict[str, Waiting]:
    return {name: mixed([part[name] for part in parts]) for name in parts[0]}


def _zipped(parts: Sequence[list[Waiting]]) -> list[Waiting]:
    return [mixed(points) for points in zip(*parts, strict=True)]
