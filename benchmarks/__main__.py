"""`make bench`: measure everything, and write `benchmarks/report.md` with its plots.

`python -m benchmarks [part …]` measures some parts anew and keeps the others' results:
startup, size, work, truth, scale-1, scale-10, … Without parts: all. `report` only writes anew.
`make generate` then puts the new prices into the README; `make bench` includes it.
"""

import json
import os
import platform
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import first_calls, scale, size, startup, truth, work
from benchmarks.bare import Recorder
from local.stack import ROOT, STACK_NAME, Stack, StackError
from local.terminal import console, steps

RESULTS = Path(__file__).with_name("results.json")
SCALE = {f"scale-{number}": number for number in scale.SIZES}
PARTS = ("startup", "size", "work", "truth", *SCALE)

ONLY_BUILT = {"startup", "size"}  # look at what is built; nothing is deployed for them

# What the bench fails of, in words for a person.
CLAIMS = (
    truth.ModelError,
    work.RepeatedCallError,
    work.DifferentAnswersError,
    work.NotIssuedError,
    startup.StartupError,
    first_calls.NotRecordedError,
    TimeoutError,
)

type Json = dict[str, Any]
type Step = Callable[[str], AbstractContextManager[None]]


def main() -> int:
    """Measure the parts that were asked for; 1 where reality differs from what we claim."""
    wanted = sys.argv[1:] or list(PARTS)
    if unknown := set(wanted) - {*PARTS, "report"}:
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        return 2
    results: Json = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    parts = [part for part in PARTS if part in wanted]
    stack = Stack(ROOT / ".stack/bench")
    try:
        with steps() as step:
            if {*parts} - ONLY_BUILT:
                stack.start(step)  # also builds
                # The emulator keeps schedules. Here WatchEnrollments runs by command only.
                stack.client("scheduler").delete_schedule(Name=f"{STACK_NAME}-watch-enrollments")
            elif parts:
                stack.build(step)
            for part in parts:
                results[part] = {"on": _machine(), **_measure(part, stack, step)}
                RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            with step("report and plots"):
                from benchmarks import report  # noqa: PLC0415  matplotlib takes its time

                report.write(results)
    except (StackError, *CLAIMS) as error:
        console.print(f"\n[red]failed[/]  {error}", markup=True)
        return 1
    except KeyboardInterrupt:
        console.print("\ninterrupted")
        return 130
    finally:
        stack.stop()
    return 0


def _machine() -> Json:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "cpu": model,
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def _measure(part: str, stack: Stack, step: Step) -> Json:
    if part in SCALE:
        with step(f"{SCALE[part]} enrollments at once"):
            return scale.run(stack, SCALE[part])
    if part == "truth":
        cases = []
        for case in truth.CASES:
            with step(f"the model beside a real execution: {case.name}"):
                cases.append(truth.run(stack, case))
        return {"cases": cases}
    if part == "startup":
        with step("start-up and first call of each function, in pairs"):
            return startup.run()
    if part == "size":
        with step("size of the layers"):
            return size.run()
    with step("work of the handlers beside a bare script"):
        return work.run(stack, Recorder())


if __name__ == "__main__":
    sys.exit(main())
