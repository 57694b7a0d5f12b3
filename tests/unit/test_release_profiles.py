"""A released version of a profile never changes: the list of what is released, and its command."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from local.release_profiles import RELEASED, main, unreleased


@pytest.fixture
def profile_store(tmp_path: Path) -> Path:
    """One released profile, and files that are none."""
    for name in ("a@1.json", "directory.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / RELEASED).write_text(f"{hashlib.sha256(b'{}').hexdigest()}  a@1.json\n")
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_releasing_adds_to_the_list_and_writes_nothing_else(
    profile_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (profile_store / "B@1.json").write_text("{}")  # sorts before what is listed, and comes after it
    before = contents(profile_store)

    assert main([], profile_store) == 0

    after = contents(profile_store)
    released = after.pop(RELEASED)
    listed = before.pop(RELEASED)
    assert after == before
    assert released.startswith(listed)
    assert [line.split("  ")[1] for line in released.splitlines()] == ["a@1.json", "B@1.json"]
    assert "profiles/B@1.json is released" in capsys.readouterr().out
    subprocess.run(["sha256sum", "--check", "--status", RELEASED], cwd=profile_store, check=True)


def test_releasing_again_changes_nothing(profile_store: Path) -> None:
    before = contents(profile_store)

    assert main([], profile_store) == 0

    assert contents(profile_store) == before


def test_the_check_names_an_unreleased_profile_and_the_way_out(
    profile_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"], profile_store) == 0
    (profile_store / "a@2.json").write_text("{}")
    before = contents(profile_store)

    assert main(["--check"], profile_store) == 1

    assert capsys.readouterr().err == (
        "profiles/a@2.json is not released: run make release-profiles\n"
    )
    assert contents(profile_store) == before


@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["release", "check"])
@pytest.mark.parametrize("fate", ["changed", "gone"])
def test_a_released_version_cannot_be_released_anew(
    profile_store: Path, fate: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (profile_store / "a@1.json").unlink()
    if fate == "changed":
        (profile_store / "a@1.json").write_text("{ }")
    (profile_store / "a@2.json").write_text("{}")
    before = contents(profile_store)

    assert main(arguments, profile_store) == 1

    assert capsys.readouterr().err == (
        f"profiles/a@1.json was released and is {fate}:"
        " put it back, and give the change a version of its own\n"
    )
    assert contents(profile_store) == before
    with pytest.raises(ValueError, match=fate):
        unreleased(profile_store)
