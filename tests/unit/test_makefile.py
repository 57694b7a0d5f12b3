"""The Makefile on the machines that people have."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SEEN = ("UV_PYTHON_DOWNLOADS", "XDG_CACHE_HOME", "XDG_DATA_HOME")
# Options that GNU's tools have and macOS' have not.
GNU_ONLY = re.compile(
    r"sha256sum|xargs -d|sed -i|sed -r|date -d|readlink -f|stat -c|grep -P|mktemp --|base64 -w"
)


def exported(**environment: str) -> dict[str, str]:
    """What a recipe finds in its environment."""
    shown = "".join(f"@echo {name}=$${name};" for name in SEEN).replace(";@", ";")
    command = ["make", "-s", "--eval", f"shown:;{shown}", "shown"]
    told = subprocess.run(
        command,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    pairs = [line.partition("=") for line in told.stdout.splitlines()]
    return {name: value for name, _, value in pairs if value}


def test_an_interpreter_is_fetched_everywhere_but_in_ci(tmp_path: Path) -> None:
    assert "UV_PYTHON_DOWNLOADS" not in exported(HOME=str(tmp_path))
    assert exported(HOME=str(tmp_path), CI="true")["UV_PYTHON_DOWNLOADS"] == "never"
    assert "python-downloads" not in (ROOT / "pyproject.toml").read_text()


def test_what_is_fetched_goes_to_home_where_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert "XDG_CACHE_HOME" not in exported(HOME=str(tmp_path))
    assert exported(XDG_CACHE_HOME=str(tmp_path))["XDG_CACHE_HOME"] == str(tmp_path)
    for home in ({}, {"HOME": str(tmp_path / "file")}):
        assert exported(**home) == {
            "XDG_CACHE_HOME": f"{ROOT}/.tools/cache",
            "XDG_DATA_HOME": f"{ROOT}/.tools/data",
        }


@pytest.mark.parametrize("file", ["Makefile", ".ci/run"])
def test_commands_are_those_of_macos_too(file: str) -> None:
    assert not GNU_ONLY.findall((ROOT / file).read_text())


def test_the_forge_runs_what_ci_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["ci"]["steps"]
    commands = re.findall(r"^make .*$", (ROOT / ".ci/run").read_text(), re.MULTILINE)

    assert commands
    assert [step["run"] for step in steps if "run" in step] == commands
    # A tag of somebody else's action can be moved.
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps if "uses" in step)


def test_make_names_every_command_that_the_pages_for_contributors_name() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = set(re.findall(r"^  make ([a-z-]+)", told.stdout, re.MULTILINE))
    pages = ["CONTRIBUTING.md", "docs/release.md", "SECURITY.md"]
    named = {
        name
        for page in pages
        for name in re.findall(
            r"(?:`|^|then )make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE
        )
    }

    assert named
    assert named <= listed
