"""The installed command line against the deployed API, as a real IAM user would use it."""

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cli.exits import Exit
from countersign import csr
from local.caller import Caller
from local.stack import REGION, STACK_NAME, Stack
from tests.e2e.case import (
    ROOT,
    Case,
    Ran,
    Run,
    act,
    assert_issued,
    decisions,
    group,
    people,
    token,
)

pytestmark = pytest.mark.e2e

BINARY = Path(sys.executable).with_name("countersign")
SECONDS = 140
README_ID = "web-2026-11"
MAY_LOOK = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "cloudformation:DescribeStacks", "Resource": "*"}],
}

type Json = dict[str, Any]


class User:
    """An IAM user at a shell, who may call the API and look at the stack, unless told otherwise."""

    def __init__(
        self, stack: Stack, name: str, *, may_call: bool = True, may_look: bool = True
    ) -> None:
        caller = Caller(stack, name, may_call=may_call)
        if may_look:
            stack.client("iam").put_user_policy(
                UserName=name, PolicyName="look", PolicyDocument=json.dumps(MAY_LOOK)
            )
        self.secret = caller.environment["AWS_SECRET_ACCESS_KEY"]
        self.environment = {
            "PATH": f"{BINARY.parent}:{os.environ['PATH']}",
            "HOME": "/nonexistent",
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": stack.endpoint,
            "COLUMNS": "120",
            **caller.environment,
        }

    def run(
        self, *command: str, folder: Path = ROOT, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            command,
            check=False,
            cwd=folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert self.secret not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def countersign(self, *arguments: str, **more: Any) -> "subprocess.CompletedProcess[str]":
        return self.run("countersign", *arguments, **more)


def written(case: Case, request: Json) -> Path:
    """A folder with this case's request where the README has its own."""
    folder = Path(tempfile.mkdtemp(prefix="countersign-"))
    (folder / "events").mkdir()
    text = json.dumps({**request, "reason": f"because of {case.id}"})
    (folder / "events/request.json").write_text(text)
    return folder


def readme_commands() -> str:
    section = (ROOT / "README.md").read_text().split("\n## Command line\n")[1]
    return section.split("```sh\n")[1].split("```")[0]


@act
def readme_at_the_shell(case: Case) -> Run:
    one, two = people(2)
    folder = written(case, case.request(token(group(one, two, quorum=2))))
    script = "set -eu\n" + readme_commands().replace(README_ID, case.id)
    user = User(case.stack, case.id)
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=user.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    case.approve(one, two)
    told, said = shell.communicate(timeout=SECONDS)
    run = case.end(case.record()["executionArn"])
    run.more.update(code=shell.returncode, stdout=told, stderr=said, folder=folder)
    return run


def test_the_readme_s_commands_bring_a_csr_to_the_reader(ran: Ran) -> None:
    run = ran(readme_at_the_shell)
    lines = run.more["stdout"].splitlines()

    assert run.more["code"] == 0, run.more["stderr"]
    assert_issued(run)
    assert lines[0] == run.record["id"]
    assert "PENDING" in lines[1]
    assert any("ISSUED" in line and "approved: person 1, person 2" in line for line in lines)
    stored = (run.more["folder"] / f"{run.record['id']}.csr").read_text()
    assert stored == run.document["csr"]["pem"]
    assert csr.read_csr(stored).public_key_sha256 == run.record["publicKeySha256"]
    assert run.record["id"] in lines[-1]


def test_who_asked_is_on_record(ran: Ran) -> None:
    record = ran(readme_at_the_shell).record

    assert record["origin"]["door"] == "api"
    assert record["origin"]["principal"].endswith(f":user/{record['id']}")


@act
def watched_on_a_terminal(case: Case) -> Run:
    one, two = people(2)
    folder = written(case, case.request(token(group(one, two, quorum=2))))
    terminal, its_end = pty.openpty()
    watching = subprocess.Popen(
        ["countersign", "submit", "events/request.json", "--watch"],
        cwd=folder,
        env={**User(case.stack, case.id).environment, "TERM": "xterm", "LINES": "40"},
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
    )
    os.close(its_end)
    screen = Screen(terminal)

    def await_words(words: str) -> None:
        case.until(lambda: words in screen.text or watching.poll() is not None, f"{words!r} shown")
        assert words in screen.text, screen.text

    await_words("· person 1  outstanding")
    case.approve(one)
    await_words("✓ person 1  approved")
    case.decline(two)
    code = watching.wait(SECONDS)
    run = case.end(case.record()["executionArn"])
    run.more.update(code=code, screen=screen.text)
    return run


class Screen:
    """Everything that a terminal has been told to show, without its control sequences."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._seen = bytearray()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._seen.decode(errors="replace"))

    def _read(self) -> None:
        with suppress(OSError):  # EIO: the program has ended
            while part := os.read(self._terminal, 65_536):
                self._seen += part
        os.close(self._terminal)


def test_a_terminal_shows_the_approvals_as_they_come(ran: Ran) -> None:
    run = ran(watched_on_a_terminal)

    assert run.more["code"] == Exit.REJECTED
    assert run.document["outcome"] == "REJECTED"
    assert decisions(run) == {"person 1": "approved", "person 2": "declined"}
    assert "closes in" in run.more["screen"]
    assert "✗ person 2  declined" in run.more["screen"]
    assert "declined by person 2; group has 1 of the 2 it needs" in run.more["screen"]


@act
def cancelled_at_the_shell(case: Case) -> Run:
    user, (one,) = User(case.stack, case.id), people(1)
    folder = written(case, case.request(token(group(one))))
    submit = ("submit", "events/request.json", "--json")
    first = user.countersign(*submit, folder=folder)
    second = user.countersign(*submit, folder=folder)
    case.await_request()
    pending = user.countersign("status", case.id, "--json")
    early = user.countersign("csr", case.id)
    cancel = user.countersign("cancel", case.id)
    watch = user.countersign("status", case.id, "--watch", "--json", "--timeout", "2m")
    run = case.end(case.record()["executionArn"])
    late = user.countersign("csr", case.id)
    run.more.update(
        first=first, second=second, pending=pending, early=early, cancel=cancel, watch=watch,
        late=late, again=user.countersign("cancel", case.id),
    )  # fmt: skip
    return run


def test_a_cancelled_enrollment_says_so_in_every_command(ran: Ran) -> None:
    run = ran(cancelled_at_the_shell)
    codes = {name: done.returncode for name, done in run.more.items()}

    assert codes == {
        "first": Exit.OK,
        "second": Exit.OK,
        "pending": Exit.PENDING,
        "early": Exit.PENDING,
        "cancel": Exit.OK,
        "watch": Exit.CANCELLED,
        "late": Exit.CANCELLED,
        "again": Exit.OK,
    }
    assert json.loads(run.more["first"].stdout)["enrollmentId"] == run.record["id"]
    assert json.loads(run.more["second"].stdout)["enrollmentId"] == run.record["id"]
    shown = json.loads(run.more["watch"].stdout.splitlines()[-1])
    assert shown["status"] == run.document["outcome"] == "CANCELLED"
    assert shown["cancel"]["by"].endswith(f":user/{run.record['id']}")
    assert len(run.requests) == 1


def test_what_the_api_refuses_is_explained(stack: Stack, tmp_path: Path) -> None:
    case = Case(stack)
    request = case.request(token(group(*people(1), quorum=2)))
    (tmp_path / "request.json").write_text(json.dumps(request))
    user = User(stack, case.id)
    stranger = User(stack, f"{case.id}-stranger", may_call=False)
    nobody = User(stack, f"{case.id}-nobody", may_call=False, may_look=False)
    by_url = ("--url", stack.api_url)

    told = {
        "invalid": user.countersign("submit", str(tmp_path / "request.json")),
        "unknown": user.countersign("status", "nobody-knows-it"),
        "by url": user.countersign("status", "nobody-knows-it", *by_url),
        "elsewhere": user.countersign("list", "--region", "eu-west-3"),
        "other stack": user.countersign("list", "--stack", "other"),
        "not allowed": stranger.countersign("list"),
        "no stack": nobody.countersign("list"),
        "bad secret": user.countersign("list", *by_url, AWS_SECRET_ACCESS_KEY="wrong"),
        "no stage": user.countersign("list", "--url", by_url[1].rpartition("/")[0]),
        "gone": user.countersign("list", "--url", "http://127.0.0.1:9"),
    }

    assert {name: done.returncode for name, done in told.items()} == {
        "invalid": Exit.REFUSED,
        "unknown": Exit.REFUSED,
        "by url": Exit.REFUSED,
        "elsewhere": Exit.ACCESS,
        "other stack": Exit.ACCESS,
        "not allowed": Exit.ACCESS,
        "no stack": Exit.ACCESS,
        "bad secret": Exit.ACCESS,
        "no stage": Exit.ACCESS,
        "gone": Exit.NETWORK,
    }
    assert all(len(done.stderr.splitlines()) == 2 for done in told.values())
    words = {name: done.stderr for name, done in told.items()}
    assert "key.policy.ruleUse.tokens.0.groups.0.quorum" in words["invalid"]
    assert "there is no stack countersign in eu-west-3" in words["elsewhere"]
    assert "there is no stack other" in words["other stack"]
    assert "not allowed: " in words["not allowed"]
    assert "execute-api:Invoke" in words["not allowed"]
    assert f"may not read stack {STACK_NAME}" in words["no stack"]
    assert "does not accept the credentials" in words["bad secret"]
