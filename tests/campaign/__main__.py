"""`python -m tests.campaign PART`: minutes on a stack of its own, and a report.

`faults --seed N` replays one random schedule; `faults --random N` says how many are drawn.
"""

import argparse
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local.stack import ROOT, Stack
from local.terminal import steps
from tests.campaign import faults

if TYPE_CHECKING:
    from tests.e2e.case import Run

REPORTS = ROOT / "docs/campaign"
AT_ONCE = 12
WAIT_SCALE = 0.01
RANDOM = 300

type Row = dict[str, Any]


def main() -> int:
    """Carry out a part; 1 where something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seed", type=int, help="one random schedule alone")
    parser.add_argument("--random", type=int, default=RANDOM, help="how many are drawn")
    arguments = parser.parse_args()
    stack = Stack(ROOT / f".stack/campaign-{arguments.part}")
    try:
        with steps() as step:
            stack.start(step)
        stack.scale_waits(WAIT_SCALE)
        return PARTS[arguments.part](stack, arguments)
    finally:
        stack.stop()


def _faults(stack: Stack, arguments: argparse.Namespace) -> int:
    begun = time.monotonic()
    if arguments.seed is not None:
        rows = _carry_out(stack, {str(arguments.seed): faults.drawn(arguments.seed)})
        print(rows)
        return 1 if rows[0]["violations"] else 0
    schedules = {f"s{number}": one for number, one in enumerate(faults.systematic())}
    systematic = _carry_out(stack, schedules)
    run, answer = faults.started_twice(faults.new_case(stack, "twice"))
    systematic.append({**faults.row(run), **answer})
    drawn = _carry_out(stack, {str(seed): faults.drawn(seed) for seed in range(arguments.random)})
    took = time.monotonic() - begun
    _write("faults.md", _faults_report(systematic, drawn, took))
    broken = [row for row in (*systematic, *drawn) if row["violations"]]
    for row in broken:
        print(row)
    print(f"{len(systematic)} systematic, {len(drawn)} random, {len(broken)} broken, {took:.0f} s")
    return 1 if broken else 0


def _carry_out(stack: Stack, schedules: dict[str, list[faults.Fault]]) -> list[Row]:
    def one(item: tuple[str, list[faults.Fault]]) -> Row:
        name, schedule = item
        try:
            run: Run = faults.carry_out(faults.new_case(stack, name), schedule)
        except AssertionError as error:
            told = [f"{fault.boundary}: {fault.name}" for fault in schedule]
            return {"name": name, "faults": told, "violations": [str(error)[:300]]}
        return {"name": name, **faults.row(run)}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, schedules.items()))


def _faults_report(systematic: list[Row], drawn: list[Row], took: float) -> str:
    rows = [*systematic, *drawn]
    broken = sum(bool(row["violations"]) for row in rows)
    lines = [
        "# Faults at every boundary",
        "",
        f"{len(systematic)} systematic schedules and {len(drawn)} random ones (seeds 0 to"
        f" {len(drawn) - 1}) on the embedded stack, {took:.0f} s; {_where()}.",
        f"Schedules in which something did not hold: **{broken}**.",
        "",
        "What must hold: at most one live key and one live approval request, exactly one kind of"
        " outcome event, the same outcome on record, no ISSUED without the verified CSR of the live"
        " key in S3, no key that no record names. Replay a seed with"
        " `python -m tests.campaign faults --seed N`.",
        "",
        "## One fault at a time",
        "",
        "| Boundary: fault | Outcome | Error | Keys made (live) | Requests made (live) | Outcome"
        " events | Holds |",
        "|---|---|---|---|---|---|---|",
        *(_line(row) for row in systematic),
        "",
        "## Random schedules",
        "",
        "| Outcome | Schedules | Faults in them | Outcome events more than once |",
        "|---|---|---|---|",
    ]
    by_outcome: dict[str, list[Row]] = {}
    for row in drawn:
        error = f" ({row['error']})" if row.get("error") else ""
        by_outcome.setdefault(f"{row.get('outcome')}{error}", []).append(row)
    for outcome, group in sorted(by_outcome.items()):
        number = sum(len(row["faults"]) for row in group)
        repeated = sum(row.get("events", 0) > 1 for row in group)
        lines.append(f"| {outcome} | {len(group)} | {number} | {repeated} |")
    seen = Counter(name.rpartition(": ")[0] for row in drawn for name in row["faults"])
    lines += ["", f"{sum(seen.values())} faults at {len(seen)} boundaries.", ""]
    for row in rows:
        if row["violations"]:
            lines.append(f"- **{row.get('name')}** {row['faults']}: {row['violations']}")
    return "\n".join(lines).rstrip() + "\n"


def _line(row: Row) -> str:
    holds = "yes" if not row["violations"] else "**no**: " + "; ".join(row["violations"])
    cells = [
        "; ".join(row["faults"]),
        row.get("outcome"),
        row.get("error") or "",
        f"{row.get('keysMade')} ({row.get('keysAlive')})",
        f"{row.get('requestsMade')} ({row.get('requestsAlive')})",
        row.get("events"),
        holds,
    ]
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def _where() -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()}"
        f" {platform.machine()}, CPython {platform.python_version()}"
    )


def _write(name: str, text: str) -> None:
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / name).write_text(text)


PARTS: dict[str, Callable[[Stack, argparse.Namespace], int]] = {"faults": _faults}

if __name__ == "__main__":
    sys.exit(main())
