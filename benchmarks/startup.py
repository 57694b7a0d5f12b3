"""What a cold start costs: CPU time of importing each function, from the layers as they are built.

Pairs alternate, medians of ratios are told: the machine is noisy. boto3 and the runtime client lie
where the runtime has them, with their bytecode; the layers and functions are the build's own.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.minimum import MINIMUM, TEXTBOOK
from benchmarks.runtime_api import RuntimeApi
from local.stack import ROOT, UV

ROUNDS = 7
BUDGET = 1.3
TOP = 10
# The runtime's own: boto3 as in requirements of the functions' interpreter, AWS's runtime client.
RUNTIME = ROOT / ".tools/runtime"
RUNTIME_PACKAGES = ("boto3<2", "awslambdaric==4.2.2")
BUILD = ROOT / ".aws-sam/build"
READY_SECONDS = 60

type Json = dict[str, Any]


class StartupError(Exception):
    """A function does not start; the message is what it said."""


def functions() -> list[str]:
    """Every function, by its file's name."""
    return sorted(file.stem for file in (ROOT / "functions").glob("*.py"))


def run(progress: Callable[[str], None] = lambda _: None) -> Json:
    """Measure every function; the build must be there.

    Raises:
        StartupError: a function does not import.
    """
    _make_runtime()
    with tempfile.TemporaryDirectory() as folder:
        plain = _without_bytecode(Path(folder))
        measured = {}
        for name in functions():
            progress(name)
            measured[name] = _function(name, plain)
        return {"rounds": ROUNDS, "budget": BUDGET, "functions": measured}


def _function(name: str, plain: Path) -> Json:
    module = f"import {name}"
    variants = {
        "ours": (module, BUILD),
        "minimum": (MINIMUM[name], BUILD),
        "textbook": (TEXTBOOK, BUILD),
        "oursWithoutBytecode": (module, plain),
        "minimumWithoutBytecode": (MINIMUM[name], plain),
    }
    taken: dict[str, list[float]] = {variant: [] for variant in variants}
    taken["init"] = []
    api = RuntimeApi()
    try:
        for _ in range(ROUNDS):
            for variant, (code, build) in variants.items():
                taken[variant].append(_cpu_seconds(code, build))
            taken["init"].append(_init_seconds(name, api))
    finally:
        api.stop()
    return {
        "milliseconds": {
            variant: statistics.median(values) * 1_000 for variant, values in taken.items()
        },
        "toMinimum": _ratio(taken["ours"], taken["minimum"]),
        "toTextbook": _ratio(taken["ours"], taken["textbook"]),
        "toWithoutBytecode": _ratio(taken["ours"], taken["oursWithoutBytecode"]),
        "imports": _dearest(module),
        "importsOfMinimum": _dearest(MINIMUM[name]),
    }


def _ratio(one: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def _environment(build: Path) -> dict[str, str]:
    function = build / "PollRequestFunction"  # all functions share one folder
    layers = [build / "CoreLayer/python", build / "DependenciesLayer/python"]
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": ":".join(str(path) for path in [function, *layers]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "POWERTOOLS_TRACE_DISABLED": "true",
        "LAMBDA_TASK_ROOT": str(function),
    }


def _cpu_seconds(code: str, build: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _python(["-c", code], build)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def _python(arguments: list[str], build: Path) -> str:
    done = subprocess.run(
        [str(RUNTIME / "bin/python"), *arguments],
        env=_environment(build),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StartupError(done.stderr)
    return done.stderr


def _init_seconds(name: str, api: RuntimeApi) -> float:
    """CPU time of AWS's own runtime client until it asks for the first invocation."""
    api.expect()
    with subprocess.Popen(
        [str(RUNTIME / "bin/python"), "-m", "awslambdaric", f"{name}.handler"],
        env={**_environment(BUILD), "AWS_LAMBDA_RUNTIME_API": api.address},
        cwd=BUILD / "PollRequestFunction",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            if not api.ready.wait(READY_SECONDS) or api.failed:
                raise StartupError(f"{name}: {api.failed or 'the runtime never got ready'}")
            return sum(psutil.Process(process.pid).cpu_times()[:2])
        finally:
            process.kill()


def _dearest(code: str) -> list[Json]:
    """The imports with the most time of their own, from `-X importtime`, in milliseconds."""
    found = []
    for line in _python(["-X", "importtime", "-c", code], BUILD).splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if own.strip().isdigit():
            found.append({"module": rest.partition("|")[2].strip(), "own": int(own) / 1_000})
    return sorted(found, key=lambda one: -float(str(one["own"])))[:TOP]


def _make_runtime() -> None:
    if not (RUNTIME / "bin/python").exists():
        for command in (
            ["venv", "--quiet", str(RUNTIME)],
            ["pip", "install", "--quiet", "--compile-bytecode", "--python", str(RUNTIME),
             *RUNTIME_PACKAGES],
        ):  # fmt: skip
            subprocess.run([str(UV), *command], cwd=ROOT, check=True)


def _without_bytecode(folder: Path) -> Path:
    plain = folder / "build"
    shutil.copytree(BUILD, plain, ignore=shutil.ignore_patterns("__pycache__"))
    return plain


if __name__ == "__main__":
    print(json.dumps(run(print), indent=1))
