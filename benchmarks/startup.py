"""What a cold start costs: CPU time until a function has answered its first event.

A fresh process runs AWS's own runtime client on the layers and functions as they are built. It is
given a real event, and makes all the calls of its work (benchmarks/first_calls.py), which the
measuring process answers on the loopback address (benchmarks/answers.py). Beside it runs the least
that makes the same calls (benchmarks/minimum.py). Import and first call are measured together: what
is not loaded at the import is loaded before somebody has an answer.

Pairs alternate, and medians of ratios are reported: the machine is noisy.
"""

import compileall
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import first_calls, minimum
from benchmarks.answers import Answers
from benchmarks.first_calls import Recorded
from benchmarks.runtime_api import RuntimeApi
from local.stack import ROOT, UV

ROUNDS = 5
BUDGET = 1.3
TOP = 10
# The runtime's own packages: boto3 and AWS's runtime client, as uv.lock pins them.
RUNTIME = ROOT / ".tools/runtime"
BUILD = ROOT / ".aws-sam/build"
ANSWER_SECONDS = 60
VARIANTS = ("ours", "minimum", "oursWithoutBytecode")
PHASES = ("import", "firstCall", "together")

type Json = dict[str, Any]


class StartupError(Exception):
    """A function does not start or answer, or makes other calls; the message says what it said."""


@dataclass(frozen=True)
class Taken:
    """What one cold start took, in seconds: the processor's, and on the clock."""

    cpu: dict[str, float]
    wall: dict[str, float]


def run(progress: Callable[[str], None] = lambda _: None) -> Json:
    """Measure every case of every function; the build must be there.

    Raises:
        StartupError: a function fails, or makes other calls than were recorded.
    """
    _make_runtime()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        answers = Answers(folder)
        try:
            recorded = first_calls.record(folder, answers.ca_bundle)
            bench = _Bench(folder, recorded, answers)
            measured = {}
            for case in sorted(recorded.calls):
                progress(case)
                measured[case] = bench.measure(case)
        finally:
            answers.stop()
    return {"rounds": ROUNDS, "budget": BUDGET, "functions": measured}


class _Bench:
    """The processes to measure, and what they find around them."""

    def __init__(self, folder: Path, recorded: Recorded, answers: Answers) -> None:
        self._recorded, self._answers = recorded, answers
        self._minimums = folder / "minimums"
        self._minimums.mkdir()
        for number, first in enumerate(recorded.calls.values()):
            module = self._minimums / f"minimum_{number}.py"
            module.write_text(minimum.source(first, answers.tsb, folder / "ca.pem"))
        compileall.compile_dir(self._minimums, quiet=1)
        self._plain = folder / "build"
        shutil.copytree(BUILD, self._plain, ignore=shutil.ignore_patterns("__pycache__"))

    def measure(self, case: str) -> Json:
        """All variants of one case, in turn."""
        taken: dict[str, list[Taken]] = {variant: [] for variant in VARIANTS}
        for _ in range(ROUNDS):
            for variant in VARIANTS:
                taken[variant].append(self._run(case, variant, {})[0])
        cpu = {variant: [one.cpu for one in found] for variant, found in taken.items()}
        wall = {variant: [one.wall for one in found] for variant, found in taken.items()}
        return {
            "milliseconds": {variant: _medians(found) for variant, found in cpu.items()},
            "wallMilliseconds": {variant: _medians(found) for variant, found in wall.items()},
            "toMinimum": {phase: _ratios(cpu["ours"], cpu["minimum"], phase) for phase in PHASES},
            "toWithoutBytecode": _ratios(cpu["ours"], cpu["oursWithoutBytecode"], "together"),
            "imports": self._dearest(case, "ours"),
            "importsOfMinimum": self._dearest(case, "minimum"),
        }

    def _run(self, case: str, variant: str, environment: dict[str, str]) -> tuple[Taken, str]:
        """What one cold start took, and what it wrote to its standard error."""
        first = self._recorded.calls[case]
        self._answers.expect(self._recorded.exchanges(case))
        clock: list[float] = [time.monotonic()]
        spent: list[float] = [0.0]
        process: subprocess.Popen[str]

        def note() -> None:
            spent.append(_cpu_seconds(process.pid))
            clock.append(time.monotonic())

        api = RuntimeApi(first.event, note)
        with (
            tempfile.TemporaryFile("w+") as said,
            subprocess.Popen(
                [
                    *(str(RUNTIME / "bin/python"), "-m", "awslambdaric"),
                    f"{self._module(case, variant)}.handler",
                ],
                env={
                    **self._environment(variant),
                    **environment,
                    "AWS_LAMBDA_RUNTIME_API": api.address,
                },
                cwd=BUILD / "PollRequestFunction",
                stdout=subprocess.DEVNULL,
                stderr=said,
                text=True,
            ) as process,
        ):
            try:
                answered = api.answered.wait(ANSWER_SECONDS)
            finally:
                process.kill()
                api.stop()
            process.wait()
            said.seek(0)
            text = said.read()
        silence = "" if answered else f"no answer within {ANSWER_SECONDS} s"
        wrong = api.failed or self._answers.unexpected or silence or self._answers.left
        if wrong:
            raise StartupError(f"{case}, {variant}: {wrong}\n{text[-2_000:]}")
        return Taken(_phases(spent), _phases(clock)), text

    def _module(self, case: str, variant: str) -> str:
        if variant == "minimum":
            return f"minimum_{list(self._recorded.calls).index(case)}"
        return self._recorded.calls[case].function

    def _environment(self, variant: str) -> dict[str, str]:
        build = self._plain if variant == "oursWithoutBytecode" else BUILD
        function = build / "PollRequestFunction"  # all functions share one folder
        paths = [
            self._minimums if variant == "minimum" else function,
            build / "CoreLayer/python",
            build / "DependenciesLayer/python",
            self._recorded.profiles,
        ]
        return {
            **self._recorded.environment,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(str(path) for path in paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": self._answers.aws,
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "TSB_URL": self._answers.tsb,
            "POWERTOOLS_TRACE_DISABLED": "true",
            "LAMBDA_TASK_ROOT": str(function),
        }

    def _dearest(self, case: str, variant: str) -> list[Json]:
        """The imports with the most time of their own, the first call's too, in milliseconds."""
        _, text = self._run(case, variant, {"PYTHONPROFILEIMPORTTIME": "1"})
        found = []
        for line in text.splitlines():
            own, _, rest = line.removeprefix("import time:").partition("|")
            if line.startswith("import time:") and own.strip().isdigit():
                module = rest.partition("|")[2].strip()
                found.append({"module": module, "own": int(own) / 1_000})
        return sorted(found, key=lambda one: -float(str(one["own"])))[:TOP]


def _phases(moments: list[float]) -> dict[str, float]:
    begun, ready, answered = moments
    return {"import": ready - begun, "firstCall": answered - ready, "together": answered - begun}


def _medians(found: list[dict[str, float]]) -> dict[str, float]:
    """Milliseconds by phase."""
    return {phase: statistics.median(one[phase] for one in found) * 1_000 for phase in PHASES}


def _ratios(some: list[dict[str, float]], others: list[dict[str, float]], phase: str) -> Json:
    """The median of the pairs' ratios, and between which values the middle half of them lies."""
    found = [a[phase] / b[phase] for a, b in zip(some, others, strict=True)]
    low, median, high = statistics.quantiles(found, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def _cpu_seconds(pid: int) -> float:
    """What a process has used so far, to the nanosecond. `/proc/<pid>/stat` counts in 10 ms."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(one.read_text().split()[0]) for one in threads) / 1e9


def _make_runtime() -> None:
    """An environment of what Lambda's runtime has, with bytecode, as uv.lock pins it."""
    exported = subprocess.run(
        [str(UV), "export", "--frozen", "--only-group", "runtime", "--quiet", "--no-header"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    noted = RUNTIME / "requirements.txt"
    if noted.exists() and noted.read_text() == exported:
        return
    subprocess.run([str(UV), "venv", "--quiet", "--clear", str(RUNTIME)], cwd=ROOT, check=True)
    noted.write_text(exported)
    subprocess.run(
        [str(UV), "pip", "install", "--quiet", "--compile-bytecode", "--require-hashes",
         "--python", str(RUNTIME), "-r", str(noted)],
        cwd=ROOT, check=True,
    )  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(run(print), indent=1))
