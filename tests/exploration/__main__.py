"""`python -m tests.exploration`: every fault alone and every pair, then random walks; a report.

`--replay 'decline: 41=killed 77=cancel'` repeats one schedule and says what does not hold.
"""

import argparse
import gc
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from local.engine.stack import InProcessStack, in_process_stack
from local.stack import ROOT
from tests.exploration.choices import EVENTS, FAULTS
from tests.exploration.explorer import Explorer, Found, in_a_fork
from tests.exploration.scenarios import SCENARIOS, Scenario

REPORT = ROOT / "docs/campaign/exploration.md"
PAIRS, WALKS, FAULTS_OF_A_WALK = 2, 500, 3
NOWHERE = Path(os.devnull).open("w")  # noqa: SIM115  loggers keep it longer than any stack lives
REHEARSED_STEP = 60  # the approvers have been asked


@dataclass
class Part:
    """What one scenario came to."""

    scenario: str
    kind: str
    found: Found
    seconds: float


def main() -> int:
    """Explore; 1 if something does not hold that nobody knows of."""
    parser = argparse.ArgumentParser(prog="python -m tests.exploration", description=__doc__)
    parser.add_argument("--replay", help="one schedule: SCENARIO: STEP=CHOICE …")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="only this one")
    parser.add_argument("--faults", type=int, default=PAIRS, help="in one schedule, systematically")
    parser.add_argument("--walks", type=int, default=WALKS, help="random walks of a scenario")
    arguments = parser.parse_args()
    if arguments.replay:
        return _replay(arguments.replay)
    names = arguments.scenario or list(SCENARIOS)
    parts: list[Part] = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        jobs = [pool.submit(_explored, name, arguments.faults, arguments.walks) for name in names]
        for job in as_completed(jobs):
            for part in job.result():
                parts.append(part)
                print(_line(part))
                for sentence, (schedule, times) in part.found.violations.items():
                    print(f"    {times} times: {_told(part.scenario, sentence, schedule)}")
            sys.stdout.flush()
    if set(names) == set(SCENARIOS):
        REPORT.write_text(_report(parts))
    return int(any(part.found.violations for part in parts))


def on_a_stack[T](work: Callable[[InProcessStack], T]) -> T:
    """What comes of `work` on a stack in this process, whose functions are silent."""
    with (
        TemporaryDirectory() as folder,
        redirect_stdout(NOWHERE),
        in_process_stack(Path(folder)) as stack,
    ):
        return work(stack)


def _rehearse(stack: InProcessStack, scenario: Scenario) -> None:
    """Load what the walks need: what this process has not loaded, each fork would load again."""
    for file in (ROOT / "functions").glob("*.py"):
        import_module(f"functions.{file.stem}")
    for schedule in ({}, {REHEARSED_STEP: ["cancel"]}, {REHEARSED_STEP: ["watch"]}):
        Explorer(stack, scenario).follow(schedule)
        stack.reset()
    gc.collect()
    gc.freeze()  # what is there already is not copied by each fork


def _explored(name: str, faults: int, walks: int) -> list[Part]:
    scenario = SCENARIOS[name]

    def explore(stack: InProcessStack) -> list[Part]:
        _rehearse(stack, scenario)
        begun = time.monotonic()
        found = in_a_fork(lambda: Explorer(stack, scenario).explore(faults))
        parts = [Part(name, f"up to {faults}", found, time.monotonic() - begun)]
        begun, wandered = time.monotonic(), Found()
        for seed in range(walks):
            one = in_a_fork(
                lambda: Explorer(stack, scenario).wander(seed, FAULTS_OF_A_WALK)  # noqa: B023
            )
            wandered.add(one)
        took = time.monotonic() - begun
        return [*parts, Part(name, f"{FAULTS_OF_A_WALK}, random", wandered, took)]

    return on_a_stack(explore)


def _replay(text: str) -> int:
    name, _, steps = text.partition(":")
    schedule: dict[int, list[str]] = {}
    for one in steps.split():
        step, _, choice = one.partition("=")
        schedule.setdefault(int(step), []).append(choice)
    violated = on_a_stack(lambda stack: Explorer(stack, SCENARIOS[name]).follow(schedule))
    for sentence in violated:
        print(sentence)
    print(f"{len(violated)} violations")
    return int(bool(violated))


def _line(part: Part) -> str:
    found = part.found
    return (
        f"{part.scenario}, {part.kind}: {found.runs:,} ended, {found.pruned:,} pruned,"
        f" {len(found.states):,} states, {part.seconds:.0f} s"
    )


def _told(scenario: str, sentence: str, schedule: list[str]) -> str:
    return f"{sentence}: --replay '{scenario}: {' '.join(schedule)}'"


def _report(parts: list[Part]) -> str:
    parts = sorted(parts, key=lambda one: (one.kind, list(SCENARIOS).index(one.scenario)))
    total = Found()
    for part in parts:
        total.runs += part.found.runs
        total.pruned += part.found.pruned
        total.choices += part.found.choices
    lines = [
        "# What may happen at every call",
        "",
        f"{total.runs + total.pruned:,} walks of one enrollment on the in-process stack (the real"
        " definition and functions in one process, virtual time); "
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()}"
        f" {platform.machine()}, CPython {platform.python_version()}.",
        "",
        "Before each call of a store, of the TSB or of a function one of these may happen; a walk"
        " has one event at most. A walk ends early (pruned) where the whole stack is in a state"
        " that was explored before with as many choices left. Times, retry counts and repeated"
        " events do not count as part of a state. In a pair the second fault is not a killed"
        " function, a page or an unreadable answer: those leave the traces of `after` or `before`."
        " Faults of keeping the evidence come alone.",
        "",
        "| Choice | What happens | Times |",
        "|---|---|---|",
        *(
            f"| `{name}` | {text} | {total.choices[name]:,} |"
            for name, text in {**FAULTS, **EVENTS}.items()
        ),
        "",
        "| Scenario | Choices in a walk | Ended | Pruned | States | Seconds | Violations |",
        "|---|---|---|---|---|---|---|",
    ]
    for part in parts:
        found = part.found
        lines.append(
            f"| {part.scenario} | {part.kind} | {found.runs:,} | {found.pruned:,}"
            f" | {len(found.states):,} | {part.seconds:.0f} | {len(found.violations)} |"
        )
    lines += ["", "What must hold at every end: tests/exploration/invariants.py.", ""]
    shortest: dict[str, tuple[str, list[str], int]] = {}
    for part in parts:
        for sentence, (schedule, times) in part.found.violations.items():
            name, known, before = shortest.get(sentence, (part.scenario, schedule, 0))
            if len(schedule) < len(known):
                name, known = part.scenario, schedule
            shortest[sentence] = name, known, before + times
    if shortest:
        lines += ["What does not hold, with the shortest schedule:", ""]
        for sentence, (name, schedule, times) in shortest.items():
            lines.append(f"- {times:,} walks: {_told(name, sentence, schedule)}")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
