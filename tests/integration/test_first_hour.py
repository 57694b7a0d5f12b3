"""The tour of README and docs, on a stack of its own, in a copy of the project."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.stack import ROOT
from tests.e2e.commands import TOUR, Shell, page

ASKED = "until countersign approvals list | grep -q {}; do sleep 1; done"
# What a reader waits for, before the block in which this text stands.
BEFORE = {
    "README.md": {"approvals list": ASKED.format("tour")},
    "docs/getting-started.md": {
        "approvals list": ASKED.format("first"),
        "approvals decline": ASKED.format("second"),
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What git has of the project, or would have; and the tools, which are nobody's."""
    folder = tmp_path_factory.mktemp("a first hour") / "countersign"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".tools").symlink_to(ROOT / ".tools")
    try:
        yield folder
    finally:
        subprocess.run(["make", "down"], cwd=folder, check=False, capture_output=True)


def test_a_reader_comes_to_a_csr_and_proves_it(folder: Path) -> None:
    """README and tour one after the other, as they are, on one stack."""
    readme, tour = (page(ROOT / document, BEFORE[document]) for document in TOUR)
    assert readme.endswith("make down\n")
    assert tour.startswith("make up\n")
    script = readme.removesuffix("make down\n") + tour.removeprefix("make up\n")

    said = Shell(folder, answer="y").run(script, seconds=900)

    assert "CN = tour.example" in said
    assert "CN = first.example" in said
    assert "CANCELLED" in said
    assert "Ada Lovelace" in said
    assert not (folder / ".stack/stack.json").exists()
