"""The installed command line against the deployed API, as a real IAM user would use it.

Every command over a whole enrollment: tests/workflow/test_command_line.py.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner
from typer.testing import Result as CommandResult

from countersign.verification import csr
from countersign_cli.exits import Exit
from countersign_cli.main import app
from local.caller import Caller
from local.stack import REGION, STACK_NAME, Stack
from tests.case import ROOT, Case, Result, assert_issued, group, people, token
from tests.e2e.scenarios import ResultOf, deployed, scenario

pytestmark = pytest.mark.e2e

BINARY = Path(sys.executable).with_name("countersign")
SECONDS = 140
MAY_LOOK = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "cloudformation:DescribeStacks", "Resource": "*"}],
}


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

    def begin(
        self, *command: str, folder: Path = ROOT, **environment: str
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> CommandResult:
        """Run one command in this process: a process of its own takes a second to begin."""
        environment = {**self.environment, **environment}
        done = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)
        assert self.secret not in done.output
        return done

    def end(self, begun: "subprocess.Popen[str]") -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        told, said = begun.communicate(timeout=SECONDS)
        assert self.secret not in told + said
        assert "Traceback" not in said
        return begun.returncode, told, said


# At a shell ---------------------------------------------------------------------------------------

COMMANDS = """set -eu
countersign submit request.json
countersign status ID --watch
countersign csr ID --out ID.csr
countersign list --status issued --since 7d
"""


@scenario
def at_the_shell(case: Case) -> Result:
    one, two = people(2)
    folder = Path(tempfile.mkdtemp(prefix="countersign-"))
    request = case.request(token(group(one, two, quorum=2)))
    (folder / "request.json").write_text(json.dumps({**request, "reason": f"for {case.id}"}))
    user = User(deployed(case), case.id)
    shell = user.begin("bash", "-c", COMMANDS.replace("ID", case.id), folder=folder)
    case.approve(one, two)
    code, told, said = user.end(shell)
    result = case.end(case.execution())
    result.more = {"code": code, "stdout": told, "stderr": said, "folder": folder}
    return result


def test_the_commands_bring_a_csr_to_whoever_asked(result: ResultOf) -> None:
    ended = result(at_the_shell)
    lines = ended.more["stdout"].splitlines()

    assert ended.more["code"] == 0, ended.more["stderr"]
    assert_issued(ended)
    assert lines[0] == ended.record["id"]
    assert any("ISSUED" in line and "approved: person 1, person 2" in line for line in lines)
    stored = (ended.more["folder"] / f"{ended.record['id']}.csr").read_text()
    assert stored == ended.document["csr"]["pem"]
    assert csr.read_csr(stored).public_key_sha256 == ended.record["publicKeySha256"]
    listed = [line for line in lines if line.startswith(ended.record["id"]) and ended.label in line]
    assert ["ISSUED" in line for line in listed] == [True]


def test_who_asked_is_on_record(result: ResultOf) -> None:
    record = result(at_the_shell).record

    assert record["origin"]["trigger"] == "api"
    assert record["origin"]["principal"].endswith(f":user/{record['id']}")


# What AWS refuses, and what is not there ----------------------------------------------------------


def test_what_aws_refuses_is_explained(stack: Stack) -> None:
    user = User(stack, "lister")
    stranger = User(stack, "lister-stranger", may_call=False)
    nobody = User(stack, "lister-nobody", may_call=False, may_look=False)
    without_stage = stack.api_url.rpartition("/")[0]

    # It is reached, and knows no such enrollment.
    by_url = user.run("status", "nobody-knows-it", "--url", stack.api_url)
    assert by_url.exit_code == Exit.REFUSED

    told = {
        "elsewhere": user.run("list", "--region", "eu-west-3"),
        "other stack": user.run("list", "--stack", "other"),
        "not allowed": stranger.run("list"),
        "no stack": nobody.run("list"),
        "bad secret": user.run("list", "--url", stack.api_url, AWS_SECRET_ACCESS_KEY="wrong"),
        "no stage": user.run("list", "--url", without_stage),
    }

    assert {name: done.exit_code for name, done in told.items()} == dict.fromkeys(told, Exit.ACCESS)
    words = {name: done.stderr for name, done in told.items()}
    assert all(len(said.splitlines()) == 2 for said in words.values())
    assert "there is no stack countersign in eu-west-3" in words["elsewhere"]
    assert "there is no stack other" in words["other stack"]
    assert "not allowed: " in words["not allowed"]
    assert "execute-api:Invoke" in words["not allowed"]
    assert f"may not read stack {STACK_NAME}" in words["no stack"]
    assert "does not accept the credentials" in words["bad secret"]
