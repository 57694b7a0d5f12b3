"""Release the profiles that are new: list them in `profiles/released.sha256`.

A listed version may no longer change (`sha256sum --check` reads the list).
`python -m local.release_profiles` adds the new versions. With `--check` it names them instead,
writes nothing, and ends with 1. A listed version that was changed or taken away fails both.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

PROFILE_STORE = Path(__file__).parents[1] / "profiles"
RELEASED = "released.sha256"


def unreleased(profile_store: Path) -> dict[str, str]:
    """The SHA-256 of each version that is not on the list, by the file's name.

    Raises:
        ValueError: a version on the list has another content now, or is gone.
    """
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(profile_store.glob("*@*.json"))
    }
    lines = _lines(profile_store)
    for line in lines:
        digest, name = line.split("  ")
        if found.get(name) != digest:
            raise ValueError(
                f"profiles/{name} was released and is {'changed' if name in found else 'gone'}:"
                " put it back, and give the change a version of its own"
            )
    released = {line.split("  ")[1] for line in lines}
    return {name: digest for name, digest in found.items() if name not in released}


def release(profile_store: Path) -> list[str]:
    """Add what is new to the end of the list; the names of what was added.

    Raises:
        ValueError: a version on the list has another content now, or is gone; nothing is added.
    """
    new = unreleased(profile_store)
    lines = [*_lines(profile_store), *(f"{digest}  {name}" for name, digest in new.items())]
    (profile_store / RELEASED).write_text("".join(f"{line}\n" for line in lines))
    return list(new)


def main(arguments: Sequence[str] | None = None, profile_store: Path = PROFILE_STORE) -> int:
    """Release what is new, or with `--check` only name it; 1 where it names one, or may not."""
    parser = argparse.ArgumentParser(prog="python -m local.release_profiles", description=__doc__)
    parser.add_argument("--check", action="store_true", help="name new profiles, write nothing")
    check = parser.parse_args(arguments).check
    try:
        names = list(unreleased(profile_store)) if check else release(profile_store)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for name in names:
        if check:
            print(f"profiles/{name} is not released: run make release-profiles", file=sys.stderr)
        else:
            print(f"profiles/{name} is released")
    return 1 if check and names else 0


def _lines(profile_store: Path) -> list[str]:
    lock = profile_store / RELEASED
    return lock.read_text().splitlines() if lock.exists() else []


if __name__ == "__main__":
    sys.exit(main())
