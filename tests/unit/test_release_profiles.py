"""A released version of a profile never changes: the list of what is released, and its command."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from local.release_profiles import RELEASED, main, unreleased


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """One released profile, and files that are none."""
    for name in ("a@1.json", "directory.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / RELEASED).write_text(f"{hashlib.sha256(b'{}').hexdigest()}  a@1.json\n")
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_releasing_adds_to_the_list_and_writes_nothing_else(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shelf / "B@1.json").write_text("{}")  # sorts before what is listed, and comes after it
    before = contents(shelf)

    assert main([], shelf) == 0

    after = contents(shelf)
    released = after.pop(RELEASED)
    listed = before.pop(RELEASED)
    assert after == before
    assert released.startswith(listed)
    assert [line.split("  ")[1] for line in released.splitlines()] == ["a@1.json", "B@1.json"]
    assert "profiles/B@1.json is released" in capsys.readouterr().out
    subprocess.run(["sha256sum", "--check", "--status", RELEASED], cwd=shelf, check=True)


def test_releasing_again_changes_nothing(shelf: Path) -> None:
    before = contents(shelf)

    assert main([], shelf) == 0

    assert contents(shelf) == before


def test_the_check_names_an_unreleased_profile_and_the_way_out(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"], shelf) == 0
    (shelf / "a@2.json").write_text("{}")
    before = contents(shelf)

    assert main(["--check"], shelf) == 1

    assert capsys.readouterr().err == (
        "profiles/a@2.json is not released: run make release-profiles\n"
    )
    assert contents(shelf) == before


@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["release", "check"])
@pytest.mark.parametrize("fate", ["changed", "gone"])
def test_a_released_version_cannot_be_released_anew(
    shelf: Path, fate: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (shelf / "a@1.json").unlink()
    if fate == "changed":
        (shelf / "a@1.json").write_text("{ }")
    (shelf / "a@2.json").write_text("{}")
    before = contents(shelf)

    assert main(arguments, shelf) == 1

    assert capsys.readouterr().err == (
        f"profiles/a@1.json was released and is {fate}:"
        " put it back, and give the change a version of its own\n"
    )
    assert contents(shelf) == before
    with pytest.raises(ValueError, match=fate):
        unreleased(shelf)
