"""Many enrollments at once on the embedded stack: time, memory, calls, and what limits them.

All of a size are open at the same time, waiting for their approval, before the first is decided.
How long that takes is the emulator's speed on this machine, not AWS's; what must hold is that
nothing of ours grows faster than the number of enrollments.
"""

import json
import shutil
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks import enrollments
from countersign import waits
from local.stack import ROOT, Stack

SIZES = (1, 10, 100, 300, 1_000)
STARTED_AT_ONCE = 40  # more would wait for the emulator's six workers until their Tasks time out
SECONDS_EACH = 0.2  # the emulator needs less for the states before the wait
OPEN_SECONDS, END_SECONDS = 600, 900
FLOOR_SECONDS = 10
POLL_SECONDS = 1.0
PROFILED_SECONDS = 10
PROFILED_FROM = 100

type Json = dict[str, Any]


def run(stack: Stack, size: int) -> Json:
    """`size` enrollments, all open at once, all issued at the end."""
    # Nothing is polled before all are open.
    stack.scale_waits(max(0.2, size * SECONDS_EACH / FLOOR_SECONDS))
    stack.control("DELETE", "/calls")
    names = [enrollments.name() for _ in range(size)]
    spent = _cpu(stack)
    with _memory(stack) as memory:
        began = time.monotonic()
        with _profiled(stack, size) as profile:
            arns = _open(stack, names)
        opened = time.monotonic()
        watched = _watched(stack)
        stack.scale_waits(1)  # a Task that the busy emulator timed out is tried again in time
        for name in names:
            stack.control("POST", "/decide", {"label": name, "decision": "approve"})
        decided = time.monotonic()
        runs = _watch_until_all_ended(stack)
        closed = time.monotonic()
    machines = stack.client("stepfunctions")
    ends = [machines.describe_execution(executionArn=arn) for arn in arns]
    outcomes = Counter(json.loads(end.get("output") or "{}").get("outcome", "none") for end in ends)
    calls = [one for one in stack.control("GET", "/calls") if one["role"] != "approver"]
    after = _cpu(stack)
    return {
        "enrollments": size,
        "outcomes": dict(outcomes),
        "secondsUntilAllOpen": opened - began,
        "secondsInAll": closed - began,
        "watch": watched,
        "watchRunsUntilAllWereWoken": runs,
        "secondsUntilAllEnded": closed - decided,
        "emulatorCpuSeconds": after["emulator"] - spent["emulator"],
        "workersCpuSeconds": after["workers"] - spent["workers"],
        "simulatorCpuSeconds": after["simulator"] - spent["simulator"],
        "peakMegabytes": max(memory["peak"], 0),
        "tsbCalls": dict(Counter(f"{one['method']} {one['path']}" for one in calls)),
        "profile": profile,
    }


def _watched(stack: Stack) -> Json:
    """A run of WatchEnrollments while nothing is decided: its time, and all calls to the TSB."""
    _watch(stack)  # warms the function
    calls, began = _asked(stack), time.monotonic()
    _watch(stack)
    seconds = time.monotonic() - began
    return {
        "seconds": seconds,
        "tsbCalls": _asked(stack) - calls,
    }


def _watch_until_all_ended(stack: Stack) -> int:
    """Run WatchEnrollments as its schedule would; how many runs until nothing waited any more."""
    runs = 0
    deadline = time.monotonic() + END_SECONDS
    while _running(stack):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all have ended within {END_SECONDS} s")
        if _waiting(stack):
            _watch(stack)
            runs += 1
        time.sleep(POLL_SECONDS)
    return runs


def _watch(stack: Stack) -> None:
    function = stack.outputs["WatchEnrollmentsFunctionName"]
    answer = stack.client("lambda").invoke(FunctionName=function)
    if "FunctionError" in answer:
        raise RuntimeError(answer["Payload"].read().decode())


def _waiting(stack: Stack) -> int:
    """How many executions wait with a token."""
    answer = stack.client("dynamodb").query(
        TableName=stack.outputs["EnrollmentsTableName"],
        IndexName=waits.INDEX,
        KeyConditionExpression="waiting = :yes",
        ExpressionAttributeValues={":yes": {"S": "yes"}},
        Select="COUNT",
    )
    return int(answer["Count"])


def _asked(stack: Stack) -> int:
    calls = stack.control("GET", "/calls")
    return sum(one["path"] == "/v1/request/{id}" for one in calls)


def _open(stack: Stack, names: list[str]) -> list[str]:
    """Start all, as fast as the emulator takes them, and wait until TSB holds a request of each."""
    arns: list[str] = []

    def requested() -> int:
        calls = stack.control("GET", "/calls")
        return sum(one["path"] == "/v1/certificate/request" for one in calls)

    for name in names:
        while len(arns) - STARTED_AT_ONCE >= 0 and len(arns) - requested() >= STARTED_AT_ONCE:
            time.sleep(POLL_SECONDS)
        arns.append(enrollments.start(stack, name))
    enrollments.until(lambda: requested() >= len(names), "request of each", OPEN_SECONDS)
    return arns


def _running(stack: Stack) -> bool:
    arn = stack.outputs["EnrollmentStateMachineArn"]
    machines = stack.client("stepfunctions")
    return bool(machines.list_executions(stateMachineArn=arn, statusFilter="RUNNING")["executions"])


def _processes(stack: Stack) -> dict[str, psutil.Process]:
    found = [psutil.Process(pid) for pid in stack.pids]
    names = {process: " ".join(process.cmdline()) for process in found}
    return {
        kind: next(process for process in found if part in names[process])
        for kind, part in (("emulator", "emulator.py"), ("simulator", "tsb_simulator"))
    }


def _cpu(stack: Stack) -> dict[str, float]:
    """CPU seconds so far; of workers also those that have ended."""
    emulator, simulator = (_processes(stack)[kind] for kind in ("emulator", "simulator"))
    own = emulator.cpu_times()
    workers = own.children_user + own.children_system
    for child in emulator.children(recursive=True):
        with suppress(psutil.Error):
            workers += sum(child.cpu_times()[:2])
    return {
        "emulator": own.user + own.system,
        "workers": workers,
        "simulator": sum(simulator.cpu_times()[:2]),
    }


@contextmanager
def _memory(stack: Stack) -> Iterator[dict[str, float]]:
    """The peak of the emulator's own memory meanwhile, in MB: it holds the executions."""
    emulator = _processes(stack)["emulator"]
    seen = {"peak": 0.0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            with suppress(psutil.Error):
                seen["peak"] = max(seen["peak"], emulator.memory_info().rss / 1e6)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@contextmanager
def _profiled(stack: Stack, size: int) -> Iterator[Json]:
    """Where the emulator's time goes, by py-spy, while enrollments are opened."""
    result: Json = {}
    program = shutil.which("py-spy")
    if size < PROFILED_FROM or program is None:
        yield result
        return
    folded = ROOT / ".stack/bench/profile.txt"
    with subprocess.Popen(
        [
            *(program, "record", "--pid", str(_processes(stack)["emulator"].pid)),
            *("--duration", str(PROFILED_SECONDS), "--format", "raw"),
            *("--output", str(folded)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as spy:
        yield result
        spy.wait()
    result.update(_read_profile(folded))


def _read_profile(folded: Path) -> Json:
    """Shares of the samples by what of the emulator's modules stands innermost on the stack."""
    samples: dict[str, int] = defaultdict(int)
    for line in folded.read_text().splitlines():
        stack, _, number = line.rpartition(" ")
        frames = [frame for frame in stack.split(";") if "ministack" in frame]
        samples[frames[-1].rpartition(":")[0] if frames else "elsewhere"] += int(number)
    whole = sum(samples.values()) or 1
    top = sorted(samples.items(), key=lambda one: -one[1])[:10]
    return {"samples": whole, "shares": {name: number / whole for name, number in top}}
