"""`python -m tests.campaign PART`: minutes on a stack of its own, and a report.

`faults --seed N` replays one random schedule; `faults --random N` says how many are drawn.
"""

import argparse
import os
import platform
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from countersign.enrollment import TURN_MARGIN
from local.stack import ROOT, Stack, stop_once
from local.terminal import steps
from tests.campaign import faults, load, outages, waits

if TYPE_CHECKING:
    from tests.e2e.case import Run

REPORTS = ROOT / "docs/campaign"
AT_ONCE = 12
WAIT_SCALE = 0.01
INSTANTLY = 1e-6
AS_DEPLOYED = {"SilenceLimitMinutes": "1440"}  # the template's own; the tests' stack has less
RANDOM, PORTION = 300, 30
WAITS_SECONDS = 520
PENDING, BURST = 1_000, 100
LOAD_SECONDS = 400
LOAD_END_SCALE = 0.2

type Row = dict[str, Any]


def main() -> int:
    """Carry out a part; 1 where something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seed", type=int, help="one random schedule alone")
    parser.add_argument("--random", type=int, default=RANDOM, help="how many are drawn")
    parser.add_argument("--minutes", type=float, default=60, help="after which none is begun")
    parser.add_argument("--pending", type=int, default=PENDING, help="enrollments under load")
    arguments = parser.parse_args()
    stop_once()
    part, parameters, scale = PARTS[arguments.part]
    stack = Stack(ROOT / f".stack/campaign-{arguments.part}", **parameters)
    try:
        with steps() as step:
            stack.start(step)
        stack.scale_waits(scale)
        return part(stack, arguments)
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
    for row in systematic:
        if row.get("struck", 0) < len(row["faults"]):
            row["violations"].append("spared: the boundary was not reached")
    for door in faults.DOORS:
        systematic.append(faults.row(faults.delivered_twice(faults.new_case(stack, "door"), door)))
    drawn: list[Row] = []
    # In portions, so that what was carried out is reported where time runs out.
    for first in range(0, arguments.random, PORTION):
        if time.monotonic() - begun > arguments.minutes * 60:
            break
        seeds = range(first, min(first + PORTION, arguments.random))
        drawn += _carry_out(stack, {str(seed): faults.drawn(seed) for seed in seeds})
    took = time.monotonic() - begun
    _write("faults.md", _faults_report(systematic, drawn, took))
    broken = [row for row in (*systematic, *drawn) if row["violations"]]
    for row in broken:
        print(row)
    print(f"{len(systematic)} systematic, {len(drawn)} random, {len(broken)} broken, {took:.0f} s")
    return 1 if broken else 0


def _carry_out(stack: Stack, schedules: dict[str, faults.Schedule]) -> list[Row]:
    def one(item: tuple[str, faults.Schedule]) -> Row:
        name, schedule = item
        try:
            run: Run = faults.carry_out(faults.new_case(stack, name), schedule)
        except AssertionError as error:
            return {"name": name, "faults": schedule.told, "violations": [str(error)[:300]]}
        return {"name": name, **faults.row(run)}

    # Those about the evidence wait for minutes and do nothing meanwhile: beside the others.
    waits = {
        name: any(fault.state == faults.EVIDENCE for fault in schedule.faults)
        for name, schedule in schedules.items()
    }
    with ThreadPoolExecutor(AT_ONCE) as pool, ThreadPoolExecutor(len(schedules)) as beside:
        begun = [
            (beside if waits[item[0]] else pool).submit(one, item) for item in schedules.items()
        ]
        return [row.result() for row in begun]


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
        "What must hold: at most one live key, at most one open approval request (none once"
        " issued), exactly one kind of outcome event, the same outcome on record, no"
        " ISSUED without the verified CSR of the live key in S3, no key whose label nobody claims,"
        " signed evidence that verifies and says the same. Each fault is seen to have struck."
        " Replay a seed with `python -m tests.campaign faults --seed N`.",
        "",
        "## One fault at a time",
        "",
        "| Boundary: fault | Outcome | Error | Keys made (live) | Requests made (still open) |"
        " Outcome events | Holds |",
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
    struck = sum(row.get("struck", 0) for row in drawn)
    lines += [
        "",
        f"{sum(seen.values())} faults at {len(seen)} boundaries were ordered; {struck} struck, the"
        " others wait at states that the enrollment did not pass.",
        "",
    ]
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
        f"{row.get('requestsMade')} ({row.get('requestsOpen')})",
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


def _outages(stack: Stack, _: argparse.Namespace) -> int:
    begun = time.monotonic()
    with ThreadPoolExecutor(len(outages.OUTAGES)) as pool:
        rows = list(pool.map(partial(outages.row, stack), outages.OUTAGES))
    lines = [
        "# A TSB that is away",
        "",
        f"On the embedded stack, waits scaled by {WAIT_SCALE}, {time.monotonic() - begun:.0f} s;"
        f" {_where()}. An hour is the number of looks or retries that an hour has; TSB's clock is"
        " moved on by as much.",
        "",
        "| Outage | Calls refused | First end | End | Holds |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        first = " ".join(row["first"]) if row.get("first") else ""
        holds = "yes" if not row["broken"] else f"**no**: {'; '.join(row['broken'])}"
        cells = (row["name"], row.get("unanswered"), first, row["ended"], holds)
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    _write("outages.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    return int(any(row["broken"] for row in rows))


def _waits(stack: Stack, _: argparse.Namespace) -> int:
    begun = time.monotonic()
    started = {name: waits.wait_through(stack, name) for name in waits.WINDOWS}
    with TemporaryDirectory(dir=stack.folder) as folder:
        stack.release(waits.next_release(Path(folder)))
    # Whoever waits now began under the first release and ends under the second.
    waiting = {name for name, (case, arn) in started.items() if case.status(arn) == "RUNNING"}
    found = []
    for name, (case, arn) in started.items():
        run = case.end(arn, seconds=WAITS_SECONDS)
        found.append(waits.account(name, run, over_a_deploy=name in waiting))
    lines = [
        "# Long waits",
        "",
        f"Requests that nobody decides, waited through to their end on the embedded stack, waits"
        f" scaled by {INSTANTLY}, {time.monotonic() - begun:.0f} s; {_where()}. The workflow itself"
        " cancels them after the window and half the silence limit (24 h). AWS writes a TaskStarted"
        " for each TaskScheduled, MiniStack does not: the last but one column has them added. While"
        " they waited, a next release (changed core, changed definition) was deployed.",
        "",
        "| Window | End | Looks | Events here | Events on AWS | Budget | Waited over the deploy |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        over = "yes" if one.over_a_deploy else "no, was over"
        lines.append(
            f"| {one.name} | {one.outcome} | {one.looks:,} | {one.here:,} | {one.on_aws:,}"
            f" | {one.budget:,} | {over} |"
        )
    longest = max(found, key=lambda one: one.on_aws)
    lines += ["", f"By type, {longest.name}:", "", "| Type | Events |", "|---|---|"]
    lines += [f"| {name} | {number:,} |" for name, number in sorted(longest.by_type.items())]
    _write("waits.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    good = all(one.outcome == "CANCELLED" and one.on_aws < one.budget for one in found)
    return 0 if good and len(waiting) > 1 else 1


def _load(stack: Stack, arguments: argparse.Namespace) -> int:
    watched = load.Watched()
    watcher = threading.Thread(target=watched.watch, args=(stack.pids,), daemon=True)
    watcher.start()
    number, begun = arguments.pending, time.monotonic()
    per_second = load.KEYS_PER_MINUTE / 60
    many = load.start(stack, number, per_second)
    all_pending = load.until(lambda: load.pending(stack) >= number, LOAD_SECONDS)
    waiting, pending_after = load.pending(stack), time.monotonic() - begun
    burst_at = time.monotonic()
    burst = load.start(stack, BURST, None)
    load.until(lambda: load.pending(stack) >= number + BURST, LOAD_SECONDS)
    burst_took = time.monotonic() - burst_at
    busiest = {seconds: load.busiest(stack, seconds) for seconds in (1, 60)}
    load.approve_all(stack)
    stack.scale_waits(LOAD_END_SCALE)
    decided = time.monotonic()
    load.until(
        lambda: sum(load.ended(stack, [*many, *burst]).values()) >= number + BURST, LOAD_SECONDS
    )
    issued = load.ended(stack, [*many, *burst])
    doubled = load.doubled(stack)
    watched.stop()
    watcher.join()
    good = (
        all_pending
        and issued == {"Enrollment Issued": number + BURST}
        and not doubled
        and busiest[60] <= load.KEYS_PER_MINUTE
    )
    lines = [
        "# Load",
        "",
        f"On the embedded stack with KeysPerMinute={load.KEYS_PER_MINUTE}; {_where()}. Waits are"
        f" real until everything was approved, then scaled by {LOAD_END_SCALE}.",
        "",
        "| What | Measured |",
        "|---|---|",
        f"| pending at once | {waiting:,} of {number:,}, {pending_after:.0f} s after the first"
        " start |",
        f"| burst of {BURST} on top, all asked | {burst_took:.0f} s |",
        f"| most keys created within 60 s (limit {load.KEYS_PER_MINUTE}) | {busiest[60]} |",
        f"| most keys created within 1 s (a turn every"
        f" {60 * (1 + TURN_MARGIN) / load.KEYS_PER_MINUTE:.4g} s) | {busiest[1]} |",
        f"| ended, each counted once | {', '.join(f'{n:,} {end}' for end, n in issued.items())} |",
        f"| all of them ended | {time.monotonic() - decided:.0f} s after the approvals |",
        f"| labels with a second live key or request | {doubled} |",
        f"| memory of simulator, emulator and workers together, at most |"
        f" {watched.most_bytes / 2**20:,.0f} MiB |",
        f"| the whole run | {time.monotonic() - begun:.0f} s |",
        "",
        f"All as it must be: **{'yes' if good else 'no'}**.",
    ]
    (ROOT / "benchmarks").mkdir(exist_ok=True)
    (ROOT / "benchmarks/load.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0 if good else 1


type Part = Callable[[Stack, argparse.Namespace], int]

PARTS: dict[str, tuple[Part, dict[str, str], float]] = {
    "faults": (_faults, {}, WAIT_SCALE),
    "outages": (_outages, AS_DEPLOYED, WAIT_SCALE),
    "waits": (_waits, AS_DEPLOYED, INSTANTLY),
    "load": (_load, load.PARAMETERS, 1),
}

if __name__ == "__main__":
    sys.exit(main())
