"""The command line against the API, from the first poll to the last: every command, one program.

How it signs, and what else can stand at the other end: tests/integration/test_command_line.py.
"""

import importlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from countersign_cli import watch
from countersign_cli.exits import Exit
from countersign_cli.main import app
from local.engine.stack import InProcessStack
from tests.case import ROOT, Case, Json, decisions, group, people, token
from tests.workflow.api import API_URL, Caller

SECRET_KEY = "canary-secret-key"

type Countersign = Callable[..., Result]


@pytest.fixture
def user(stack: InProcessStack, monkeypatch: pytest.MonkeyPatch) -> Caller:
    """Who sits at the shell; while a command watches, time passes."""
    for file in (ROOT / "functions").glob("*.py"):
        # A logger writes where standard output is when it is made: not into a command's.
        importlib.import_module(f"functions.{file.stem}")
    caller = Caller(stack, "ada")
    caller.answer_everybody(monkeypatch)
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=time.monotonic, sleep=stack.sleep))
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDWORKFLOW",
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "eu-central-1",
        "COUNTERSIGN_URL": API_URL,
        "COLUMNS": "120",
    }.items():
        monkeypatch.setenv(name, value)
    return caller


def countersign(*arguments: str, **environment: str) -> Result:
    done = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)
    assert SECRET_KEY not in done.output
    return done


def documents(done: Result) -> list[Json]:
    """The lines of JSON that a command printed, without what functions measured meanwhile."""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line for line in lines if "_aws" not in line]


def written(folder: Path, request: Json) -> str:
    """A file with this request."""
    file = folder / "request.json"
    file.write_text(json.dumps(request))
    return str(file)


def test_a_cancelled_enrollment_says_so_in_every_command(
    case: Case, user: Caller, tmp_path: Path
) -> None:
    file = written(tmp_path, case.request(token(group(*people(1)))))

    first = countersign("submit", file, "--json")
    second = countersign("submit", file, "--json")
    case.await_request()
    pending = countersign("status", case.id, "--json")
    early = countersign("csr", case.id)
    cancel = countersign("cancel", case.id)
    watched = countersign("status", case.id, "--watch", "--json", "--timeout", "10m")
    result = case.end(case.execution())
    late = countersign("csr", case.id)
    again = countersign("cancel", case.id)

    assert (first.exit_code, second.exit_code) == (Exit.OK, Exit.OK)
    assert (pending.exit_code, early.exit_code) == (Exit.PENDING, Exit.PENDING)
    assert (cancel.exit_code, again.exit_code) == (Exit.OK, Exit.OK)
    assert (watched.exit_code, late.exit_code) == (Exit.CANCELLED, Exit.CANCELLED)
    assert json.loads(first.stdout)["enrollmentId"] == case.id
    assert json.loads(second.stdout)["enrollmentId"] == case.id
    shown = documents(watched)[-1]
    assert shown["status"] == result.document["outcome"] == "CANCELLED"
    assert shown["cancel"]["by"] == user.arn
    assert len(result.requests) == 1


@pytest.mark.usefixtures("user")
def test_a_terminal_shows_the_approvals_as_they_come(
    case: Case, stack: InProcessStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, two = people(2)
    file = written(tmp_path, case.request(token(group(one, two, quorum=2))))

    def on_record(*expected: str) -> None:
        def seen() -> bool:
            found = case.step().get("approvers", [])
            return tuple(approver["decision"] for approver in found) == expected

        case.until(seen, f"{expected} on record")

    def nobody_decides() -> None:
        on_record("outstanding", "outstanding")

    def one_approves() -> None:
        case.approve(one)
        on_record("approved", "outstanding")

    def two_declines() -> None:
        case.decline(two)

    before_each_look = iter([nobody_decides, one_approves, two_declines])

    def pause(seconds: float) -> None:
        for act in before_each_look:
            return act()
        return stack.sleep(seconds)

    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    watched = countersign("submit", file, "--watch", FORCE_COLOR="1", TERM="xterm", LINES="40")
    result = case.end(case.execution())
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", watched.stdout)

    assert watched.exit_code == Exit.REJECTED
    assert result.document["outcome"] == "REJECTED"
    assert decisions(result) == {"person 1": "approved", "person 2": "declined"}
    in_this_order = (
        "· person 1  outstanding", "closes in", "✓ person 1  approved", "✗ person 2  declined",
        "declined by person 2; group has 1 of the 2 it needs",
    )  # fmt: skip
    for words in in_this_order:
        assert words in screen
        screen = screen.partition(words)[2]


@pytest.mark.usefixtures("user")
def test_what_the_api_refuses_is_explained(case: Case, tmp_path: Path) -> None:
    file = written(tmp_path, case.request(token(group(*people(1), quorum=2))))

    invalid = countersign("submit", file)
    unknown = countersign("status", "nobody-knows-it")

    assert (invalid.exit_code, unknown.exit_code) == (Exit.REFUSED, Exit.REFUSED)
    assert len(invalid.stderr.splitlines()) == len(unknown.stderr.splitlines()) == 2
    assert "key.policy.ruleUse.tokens.0.groups.0.quorum" in invalid.stderr
    assert "nobody-knows-it" in unknown.stderr
