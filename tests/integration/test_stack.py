"""The embedded stack's own manners: where it starts, what it leaves alone, how it gives up."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import requests

from local import hashes, stack, surroundings
from local.processes import Recorded
from local.stack import Stack, StackError
from tests.integration.server import Server, say

NOBODY = "http://127.0.0.1:9"
QUICKLY_SECONDS = 8  # what fails at once, with an interpreter's start; a neighbor takes a minute
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
# What a laptop may have in its environment, and that has nothing to do with this stack.
HOSTILE = {
    "HTTP_PROXY": NOBODY,
    "https_proxy": NOBODY,
    "NO_PROXY": "intranet.example",
    "AWS_PROFILE": "nope",
    "AWS_SESSION_TOKEN": "another's",
    "AWS_ENDPOINT_URL": "https://nowhere.invalid",
    "AWS_CONFIG_FILE": "/missing",
    "AWS_CA_BUNDLE": "/missing",
    "AWS_MAX_ATTEMPTS": "many",
}


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """What a test, or the stack, changes in the environment ends with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def tool(path: Path, script: str) -> Path:
    """A program in the place of uv."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(SLEEP, start_new_session=True)
    yield process
    process.kill()
    process.wait()


# Surroundings ------------------------------------------------------------------------------------


def test_this_machine_is_reached_past_every_proxy() -> None:
    os.environ.update(HOSTILE)
    surroundings.leave()

    with Server([say(200, b"{}")] * 2) as server:
        assert requests.get(server.url, timeout=5).ok
        assert stack._http("GET", server.url) == {}
    assert os.environ["NO_PROXY"].split(",")[0] == "intranet.example"


def test_another_account_s_settings_are_none_of_the_stack_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.environ.update(HOSTILE)
    surroundings.leave()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # made before the environment changed
    listed = b"<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>"

    with Server([say(200, listed)]) as server:
        mine = Stack(tmp_path)
        mine.endpoint = server.url
        assert mine.client("s3").list_buckets()["Buckets"] == []
    assert b"x-amz-security-token" not in server.requests[0].lower()


def test_the_shell_of_the_tour_forgets_other_stacks(tmp_path: Path) -> None:
    mine = Stack(tmp_path)
    mine.endpoint = "http://127.0.0.1:4566"
    os.environ.update({**HOSTILE, "COUNTERSIGN_URL": "https://real.example", "HOME": str(tmp_path)})

    file = stack._environment(mine, tmp_path / "approver.json")
    shown = subprocess.run(
        ["sh", "-c", f". '{file}' && env"], capture_output=True, text=True, check=True
    ).stdout
    seen = dict(line.split("=", 1) for line in shown.splitlines())

    assert seen["AWS_ENDPOINT_URL"] == mine.endpoint
    assert not seen.keys() & {"AWS_PROFILE", "AWS_SESSION_TOKEN", "COUNTERSIGN_URL"}
    assert seen["AWS_CONFIG_FILE"] == os.devnull
    assert "127.0.0.1" in seen["no_proxy"]


# Others' processes -------------------------------------------------------------------------------


def recorded_in(folder: Path, *processes: Recorded) -> None:
    (folder / "stack.json").write_text(json.dumps({"processes": [p.dump() for p in processes]}))


def test_down_leaves_a_process_alone_that_has_the_number_of_an_ended_one(
    sleeper: "subprocess.Popen[bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "FOLDER", tmp_path)
    started = Recorded.of(sleeper.pid).started
    recorded_in(tmp_path, Recorded(sleeper.pid, started - 3600))

    assert stack._running() == []  # `up` may start
    stack._down()

    assert sleeper.poll() is None
    assert not (tmp_path / "stack.json").exists()


def test_down_ends_what_was_started(
    sleeper: "subprocess.Popen[bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "FOLDER", tmp_path)
    recorded_in(tmp_path, Recorded.of(sleeper.pid))
    (tmp_path / "run").mkdir()

    assert [one.pid for one in stack._running()] == [sleeper.pid]
    stack._down()

    assert sleeper.wait(5) is not None
    assert stack._running() == []
    assert (tmp_path / "run").exists()  # of a `make run` beside it


def test_a_folder_has_one_stack_at_a_time(tmp_path: Path) -> None:
    first = Stack(tmp_path)
    first._claim_folder()
    try:
        with pytest.raises(StackError, match="another process uses"):
            Stack(tmp_path).start()
    finally:
        first.stop()
    again = Stack(tmp_path)
    again._claim_folder()
    again.stop()


# Giving up ---------------------------------------------------------------------------------------


def test_the_first_failure_ends_the_others_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SAM builds for a minute; the emulator's interpreter cannot be prepared.
    script = 'case "$*" in *build*) exec sleep 60;; tool*) exit 0;; esac; echo broken; exit 1'
    monkeypatch.setattr(stack, "UV", tool(tmp_path / "uv", script))
    began = time.monotonic()

    with pytest.raises(StackError, match="broken"):
        Stack(tmp_path / "stack").start()

    assert time.monotonic() - began < QUICKLY_SECONDS


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("error: No space left on device (os error 28)", "the disk is full"),
        ("  cause: Failed to fetch: https://pypi.org/simple/", "HTTPS_PROXY"),
        ("invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
    ],
)
def test_a_known_cause_is_one_sentence_with_the_way_out(
    said: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "UV", tool(tmp_path / "uv", f"echo '{said}'; exit 1"))

    with pytest.raises(StackError) as error:
        Stack(tmp_path / "stack").start()

    assert told in str(error.value)
    assert "run it again" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StackError, match="file.*Not a directory"):
        Stack(tmp_path / "file" / "stack").start()


# Hashes ------------------------------------------------------------------------------------------


def test_hashes_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "layer/b c").mkdir(parents=True)
    (tmp_path / "layer/b c/ü.py").write_text("x")
    (tmp_path / "layer/B").write_text("y")
    lines = list(hashes.lines(tmp_path, ["layer"]))
    (tmp_path / "sums").write_text("\n".join([*lines, ""]))

    subprocess.run(["sha256sum", "-c", "sums"], cwd=tmp_path, check=True, capture_output=True)
    assert [line.split("  ")[1] for line in lines] == ["layer/B", "layer/b c/ü.py"]
