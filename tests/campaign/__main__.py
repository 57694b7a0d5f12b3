"""`python -m tests.campaign PART`: minutes on a stack of its own, and a report.

`mutants --mutant NAME` tries one.
"""

import argparse
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from countersign.states.key_slots import SLOT_MARGIN
from local.engine.stack import InProcessStack, in_process_stack
from local.stack import ROOT, Stack, stop_once
from local.terminal import console, steps
from tests.campaign import load, mutants, outages, waits
from tests.campaign.outages import AS_DEPLOYED

REPORTS = ROOT / "docs/campaign"
PENDING, BURST = 1_000, 100
LOAD_SECONDS = 400
LOAD_END_SCALE = 0.2
IN_PROCESS = (
    "on the in-process stack (the real definition and functions in one process, virtual time)"
)

type Row = dict[str, Any]


def main() -> int:
    """Carry out a part; 1 where something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--mutant", help="those alone whose name contains this; no report")
    parser.add_argument("--pending", type=int, default=PENDING, help="enrollments under load")
    arguments = parser.parse_args()
    stop_once()
    console.file = sys.stdout  # whatever becomes of that
    return PARTS[arguments.part](arguments)


@contextmanager
def _in_process(part: str, **parameters: str) -> Iterator[InProcessStack]:
    """A stack in this process; what its functions print is in a log of its own."""
    folder = ROOT / f".stack/campaign-{part}"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory() as temporary,
        (folder / "functions.log").open("w") as log,
        redirect_stdout(log),
        in_process_stack(Path(temporary), **parameters) as stack,
    ):
        yield stack


@contextmanager
def _deployed(part: str, **parameters: str) -> Iterator[Stack]:
    stack = Stack(ROOT / f".stack/campaign-{part}", **parameters)
    try:
        with steps() as step:
            stack.start(step)
        yield stack
    finally:
        stack.stop()


def _where() -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()}"
        f" {platform.machine()}, CPython {platform.python_version()}"
    )


def _write(name: str, text: str) -> None:
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / name).write_text(text)


def _outages(_: argparse.Namespace) -> int:
    begun, rows = time.monotonic(), []
    with _in_process("outages", **AS_DEPLOYED) as stack, steps() as step:
        for outage in outages.OUTAGES:
            with step(outage.__name__.replace("_", " ")):
                rows.append(outages.row(stack, outage))
            stack.reset()
    lines = [
        "# A TSB that is away",
        "",
        f"Measured {IN_PROCESS}, {time.monotonic() - begun:.0f} s; {_where()}. An hour is an hour"
        " of that time, for us and for the TSB.",
        "",
        "| Outage | Calls refused | First end | End | Holds |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        first = " ".join(row["first"]) if row.get("first") else ""
        holds = "yes" if not row["broken"] else f"**no**: {'; '.join(row['broken'])}"
        cells = (row["name"], row.get("refused"), first, row["ended"], holds)
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    _write("outages.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    return int(any(row["broken"] for row in rows))


def _waits(_: argparse.Namespace) -> int:
    begun, waited = time.monotonic(), []
    with _in_process("waits", **AS_DEPLOYED) as stack, steps() as step:
        for tsb_ends_it in (True, False):
            for window, seconds in waits.WINDOWS.items():
                if seconds or not tsb_ends_it:
                    ends = "the TSB ends it" if tsb_ends_it else "the TSB never ends it"
                    with step(f"{window}: {ends}"):
                        found = waits.wait_through(stack, window, tsb_ends_it=tsb_ends_it)
                    waited.append(found)
                    stack.reset()
    took, released_at = time.monotonic() - begun, time.monotonic()
    with (
        _deployed("waits", **AS_DEPLOYED) as deployed,
        steps() as step,
        step("a next release, deployed over what waits"),
    ):
        ended = waits.wait_over_a_release(deployed)
    release_took = time.monotonic() - released_at
    lines = _waits_report(waited, took, ended, release_took)
    _write("waits.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    good = all(one.is_good for one in waited) and ended == waits.AFTER_THE_RELEASE
    return 0 if good else 1


def _waits_report(
    waited: list[waits.Waited], took: float, ended: dict[str, str | None], release_took: float
) -> list[str]:
    lines = [
        "# Long waits",
        "",
        f"Requests that nobody decides, waited through to their end {IN_PROCESS}, {took:.0f} s;"
        f" {_where()}. Where the TSB does not end a request (its clock is behind), the workflow"
        " itself cancels it after the window and half the silence limit (24 h).",
        "",
        "| Window | The TSB ends it | End | After, days | Looks | Events | Budget |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in waited:
        lines.append(
            f"| {one.window} | {'yes' if one.tsb_ends_it else 'no'} | {one.outcome}"
            f" | {one.days:.2f} | {one.polls:,} | {one.events:,} | {one.budget:,} |"
        )
    longest = max(waited, key=lambda one: one.events)
    lines += ["", f"By type, {longest.window}:", "", "| Type | Events |", "|---|---|"]
    lines += [f"| {name} | {number:,} |" for name, number in sorted(longest.by_type.items())]
    lines += [
        "",
        "## Over a release",
        "",
        "On the deployed stack (MiniStack): while enrollments waited, a next release (changed core,"
        f" changed definition) was deployed over them, {release_took:.0f} s.",
        "",
        "| After the release | End | As it must be |",
        "|---|---|---|",
    ]
    for name, outcome in ended.items():
        holds = "yes" if outcome == waits.AFTER_THE_RELEASE[name] else "**no**"
        lines.append(f"| {name} | {outcome} | {holds} |")
    return lines


def _mutants(arguments: argparse.Namespace) -> int:
    begun = time.monotonic()
    chosen = [one for one in mutants.MUTANTS if (arguments.mutant or "") in one.name]
    tried: list[mutants.Tried] = []
    with TemporaryDirectory() as folder, steps() as step:
        tree = mutants.Tree(Path(folder))
        with step("the tests without any mutant"):
            red = [test for tests in mutants.selections(chosen) for test in tree.failed(tests)]
        if red:
            print("red without any mutant:", *red, sep="\n  ")
            return 1
        for one in chosen:
            with step(one.name):
                tried.append(tree.tried(one))
    survivors = [one.mutant.name for one in tried if not one.noticed_by]
    if arguments.mutant is None:
        _write("mutants.md", _mutants_report(tried, time.monotonic() - begun))
    for done in tried:
        print(f"{done.mutant.name}: {', '.join(done.noticed_by) or 'NOBODY NOTICES'}")
    print(f"{len(tried)} mutants, {len(survivors)} that nobody notices")
    return 1 if survivors or not tried else 0


def _mutants_report(tried: list[mutants.Tried], took: float) -> str:
    survivors = sum(not one.noticed_by for one in tried)
    lines = [
        "# Mutants",
        "",
        f"{len(tried)} changes that break the product, each tried alone on a copy of it, {took:.0f}"
        f" s; {_where()}.",
        f"Those that no test notices: **{survivors}**.",
        "",
        "A test notices a mutant if it fails with it and passes without. That a recording of a"
        " workflow differs does not count. `tests/campaign/mutants.py` has the changes; try one"
        " with `python -m tests.campaign mutants --mutant NAME`.",
        "",
        "| Mutant | Then | File | Noticed by |",
        "|---|---|---|---|",
    ]
    for one in tried:
        cells = (
            one.mutant.name,
            one.mutant.meaning,
            f"`{one.mutant.file.removeprefix(mutants.CORE)}`",
            _noticed(one.noticed_by),
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "## What no test could notice", "", *mutants.EQUIVALENT]
    return "\n".join(lines) + "\n"


def _noticed(tests: tuple[str, ...]) -> str:
    """The test without its parameters, in its file."""
    if not tests:
        return "**nobody**"
    file, _, name = tests[0].partition("[")[0].partition("::")
    return f"`{name}` in `{file}`"


def _load(arguments: argparse.Namespace) -> int:
    with _deployed("load", **load.PARAMETERS) as stack:
        return _load_on(stack, arguments)


def _load_on(stack: Stack, arguments: argparse.Namespace) -> int:
    """A thousand at once, and what the stack makes of them."""
    watched = load.Watched()
    watcher = threading.Thread(target=watched.watch, args=(stack.pids,), daemon=True)
    watcher.start()
    ca = load.make_ca(stack)
    number, begun = arguments.pending, time.monotonic()
    per_second = load.KEYS_PER_MINUTE / 60
    many = load.start(stack, number, per_second, ca)
    all_pending = load.until(lambda: load.pending(stack) >= number, LOAD_SECONDS)
    waiting, pending_after = load.pending(stack), time.monotonic() - begun
    burst_at = time.monotonic()
    burst = load.start(stack, BURST, None, ca)
    load.until(lambda: load.pending(stack) >= number + BURST, LOAD_SECONDS)
    burst_took = time.monotonic() - burst_at
    busiest = {seconds: load.busiest(stack, seconds) for seconds in (1, 60)}
    load.approve_all(stack)
    stack.scale_waits(LOAD_END_SCALE)
    decided = time.monotonic()
    load.until(lambda: load.all_ended(stack, [*many, *burst]), LOAD_SECONDS)
    issued, certified = load.ended(stack, [*many, *burst]), load.certified(stack)
    wanted = len(many[:: load.CERTIFIED_SHARE]) + len(burst[:: load.CERTIFIED_SHARE])
    doubled = load.doubled(stack, ca, wanted)
    watched.stop()
    watcher.join()
    good = (
        all_pending
        and issued == {"Enrollment Issued": number + BURST}
        and certified == wanted
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
        f" {60 * (1 + SLOT_MARGIN) / load.KEYS_PER_MINUTE:.4g} s) | {busiest[1]} |",
        f"| ended, each counted once | {', '.join(f'{n:,} {end}' for end, n in issued.items())} |",
        f"| of them with a certificate, under a second quorum | {certified:,} of {wanted:,} |",
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


PARTS: dict[str, Callable[[argparse.Namespace], int]] = {
    "outages": _outages,
    "waits": _waits,
    "mutants": _mutants,
    "load": _load,
}

if __name__ == "__main__":
    sys.exit(main())
