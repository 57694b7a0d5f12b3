"""Write the files that are made from code and data, so that none of them can lie.

`python -m local.generate` writes those that are out of date. With `--check` it names them instead,
writes nothing, and ends with 1.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks import readme
from local.generate import approvals, definition, events, openapi, probe, profiles, workflow

ROOT = Path(__file__).parents[2]

# What should be in which file; None where no file should be.
type Generator = Callable[[], Mapping[Path, str | None]]

# Each runs when the files of those before it are written. It may read them, and each that fills a
# block of a page keeps the other blocks.
GENERATORS: tuple[Generator, ...] = (
    definition.files,
    workflow.files,
    openapi.files,
    events.files,
    profiles.files,
    probe.files,
    approvals.files,
    readme.files,
)


def main(
    arguments: Sequence[str] | None = None, generators: Iterable[Generator] = GENERATORS
) -> int:
    """Write the files that differ, or with `--check` only name them; 1 where it names one."""
    parser = argparse.ArgumentParser(prog="python -m local.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="name stale files, write nothing")
    check = parser.parse_args(arguments).check
    named: set[Path] = set()
    for generator in generators:
        for path, text in generator().items():
            if _content(path) == text:
                continue
            if not check:
                _write(path, text)
            if path not in named:
                named.add(path)
                _report(path, check=check)
    return 1 if check and named else 0


def _content(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _write(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _report(path: Path, *, check: bool) -> None:
    name = path.relative_to(ROOT)
    if check:
        print(f"{name} is out of date: run make generate", file=sys.stderr)
    else:
        print(name)


if __name__ == "__main__":
    sys.exit(main())
