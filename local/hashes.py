"""`python -m local.hashes FOLDER NAME...`: the SHA-256 of all files below these folders of FOLDER.

The lines are those of sha256sum, which Linux has and macOS has not; both check them
(`sha256sum -c`, `shasum -a 256 -c`).
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path


def lines(folder: Path, names: list[str]) -> Iterator[str]:
    """A line for each file, in the order of their paths as bytes, whatever the machine's locale."""
    files = [one for name in names for one in (folder / name).rglob("*") if one.is_file()]
    for path in sorted(file.relative_to(folder).as_posix() for file in files):
        yield f"{hashlib.sha256((folder / path).read_bytes()).hexdigest()}  {path}"


if __name__ == "__main__":
    print(*lines(Path(sys.argv[1]), sys.argv[2:]), sep="\n")
