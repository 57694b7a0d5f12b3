"""`countersign approvals` as an approver starts it, against a TSB on the network, over TLS."""

import base64
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from countersign.evidence import verifier
from countersign_cli.approvals import keys, settings
from countersign_cli.approvals.client import Client, calls_to
from countersign_cli.approvals.settings import ApproverPart, Settings, StackPart, TokenPart, TsbPart
from countersign_cli.exits import CommandError, Exit
from countersign_cli.main import app
from local.approver import Approver
from tests import asking
from tests.integration.server import Act, Server, say
from tests.integration.simulator import SECONDS, Json, Tsb, running

BINARY = Path(sys.executable).with_name("countersign")
PASSPHRASE = "canary passphrase"
STACK = ec.generate_private_key(ec.SECP256R1())
STACK_PEM = STACK.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
ADA = Approver.generate("Ada", "ec")
CONFIG = "approver.toml"


@pytest.fixture(scope="module")
def tsb() -> Iterator[Tsb]:
    with running() as started:
        yield started


@pytest.fixture(autouse=True)
def desk(tsb: Tsb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the approver sits: their files are in the current folder."""
    tsb.control("POST", "/reset")
    (tmp_path / "stack.pem").write_bytes(STACK_PEM)
    (tmp_path / "me.pem").write_bytes(ADA.pem(PASSPHRASE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEY_OF_ADA", tsb.tokens["approver"])
    monkeypatch.setenv("COUNTERSIGN_APPROVER_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def config(tsb: Tsb, desk: Path) -> Path:
    settings.write(
        Settings(
            tsb=TsbPart(url=tsb.url, ca=tsb.ca, api_key="env:API_KEY_OF_ADA"),
            stack=StackPart(signing_key="stack.pem"),
            approver=ApproverPart(key="me.pem"),
        ),
        desk / CONFIG,
    )
    return desk / CONFIG


def approvals(*arguments: str, **options: Any) -> Result:
    given = ["approvals", *arguments, "--config", CONFIG]
    done = CliRunner().invoke(app, given, catch_exceptions=False, **options)
    assert PASSPHRASE not in done.output
    assert os.environ["API_KEY_OF_ADA"] not in done.output
    return done


def asked(tsb: Tsb, request: Json) -> None:
    tsb.call("/v1/key", request["key"], "management")
    tsb.call("/v1/certificate/request", asking.body(request, STACK), "operation")


def client(tsb: Tsb, **different: Any) -> Client:
    held = keys.read(Path("me.pem"), lambda _: PASSPHRASE)
    calls = calls_to(tsb.url, tsb.ca, tsb.tokens["approver"])
    return Client(calls, held, stack=verifier.public_key(STACK_PEM), **different)


# Setting up ---------------------------------------------------------------------------------------


def test_setup_asks_checks_each_answer_and_writes_a_file_without_secrets(
    tsb: Tsb, desk: Path
) -> None:
    asked(tsb, asking.raw(ADA))
    answers = [
        "http://tsb.example", "none",  # not https
        tsb.url, "none",  # not of a public CA
        tsb.url, tsb.ca,
        "me.pem",  # a private key
        "stack.pem", "y",
        "nothing.pem",
        "stack.pem",  # a public key
        "me.pem", "public key",
        "env:NOT_SET",
        "env:API_KEY_OF_ADA",
    ]  # fmt: skip

    done = approvals("setup", input="\n".join([*answers, ""]))
    listed = approvals("list")

    written = desk / CONFIG
    assert done.exit_code == Exit.OK, done.output
    assert done.output.count("error") == 6
    assert verifier.fingerprint(verifier.public_key(STACK_PEM)) in done.output
    assert "1 requests wait for you" in done.output
    assert written.stat().st_mode & 0o777 == 0o600
    assert os.environ["API_KEY_OF_ADA"] not in written.read_text()
    assert "web" in listed.stdout


def test_setup_does_not_go_on_with_a_stack_key_that_nobody_has_compared(
    tsb: Tsb, desk: Path
) -> None:
    done = approvals("setup", input="\n".join([tsb.url, tsb.ca, "stack.pem", "n", ""]))

    assert done.exit_code == Exit.DECLINED
    assert not (desk / CONFIG).exists()


def test_setup_warns_of_a_key_that_anybody_can_read(tsb: Tsb, desk: Path) -> None:
    (desk / "open.pem").write_bytes(ADA.pem())
    answers = [tsb.url, tsb.ca, "stack.pem", "y", "open.pem", "n", ""]

    done = approvals("setup", input="\n".join(answers))

    assert done.exit_code == Exit.DECLINED
    assert "it has no passphrase" in done.output


# Deciding -----------------------------------------------------------------------------------------


def test_on_a_terminal_the_passphrase_is_typed_unseen_and_the_answer_decides(
    tsb: Tsb, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asking.raw(ADA)
    asked(tsb, request)
    monkeypatch.delenv("COUNTERSIGN_APPROVER_PASSPHRASE")
    ours, theirs = pty.openpty()
    arguments = [str(BINARY), "approvals", "approve", "web", "--config", str(config)]
    with subprocess.Popen(
        arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        seen = ""
        for prompt, typed in (("Passphrase of", PASSPHRASE), ("[y/N]", "y"), ("Approved", "")):
            while prompt not in seen:
                assert select.select([ours], [], [], SECONDS)[0], seen
                seen += os.read(ours, 4096).decode()
            os.write(ours, f"{typed}\n".encode())
        process.wait(SECONDS)
        os.close(ours)

    assert process.returncode == Exit.OK
    assert PASSPHRASE not in seen
    assert asking.digest(request) in seen
    (found,) = tsb.control("GET", f"/state?label={asking.LABEL}")["requests"]
    assert found["status"] == "EXECUTED"


@pytest.mark.usefixtures("config")
def test_a_request_is_named_by_its_task_where_two_have_one_name(tsb: Tsb) -> None:
    asked(tsb, asking.raw(ADA))
    tsb.call("/v1/certificate/request", asking.body(asking.raw(ADA), STACK), "operation")

    both = approvals("show", "web")
    ids = [one["taskId"] for one in json.loads(approvals("list", "--json").stdout)["tasks"]]
    one = approvals("show", ids[0])

    assert both.exit_code == Exit.USAGE
    assert all(known in both.output for known in ids)
    assert one.exit_code == Exit.OK


def test_what_is_gone_meanwhile_is_said_to_be(tsb: Tsb) -> None:
    asked(tsb, asking.raw(ADA))
    at_home = client(tsb)
    found = at_home.find("web")
    at_home.decline(found)

    with pytest.raises(CommandError) as gone:
        at_home.approve(found)

    assert gone.value.code == Exit.REFUSED
    assert "652" in gone.value.message
    assert "was decided, has ended, or was cancelled" in gone.value.action


# The TSB and the way to it ------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [timedelta(minutes=5), -timedelta(hours=2)])
def test_a_clock_that_is_wrong_is_set_by_the_tsb_s(tsb: Tsb, wrong: timedelta) -> None:
    asked(tsb, asking.raw(ADA))

    listed = client(tsb, now=lambda: datetime.now(UTC) + wrong).listed()

    assert len(listed.examined) == 1


def refusal(code: int, status: int = 400) -> Act:
    return say(status, json.dumps({"errorCode": code, "message": "no \x1b[2J"}).encode())


def against(acts: list[Act], *arguments: str, desk: Path) -> tuple[Result, list[bytes]]:
    with Server(acts) as server:
        text = (desk / CONFIG).read_text()
        lines = [
            f'url = "{server.url}"' if line.startswith("url = ") else line
            for line in text.splitlines()
        ]
        (desk / CONFIG).write_text("\n".join(lines))
        return approvals(*arguments), server.requests


@pytest.mark.usefixtures("config")
def test_a_tsb_without_the_highest_detail_level_is_asked_for_the_next(desk: Path) -> None:
    done, requests = against([refusal(600), say(200, b'{"tasks": []}')], "list", desk=desk)

    assert done.exit_code == Exit.OK
    assert [b'"level6"' in one for one in requests] == [True, False]
    assert b'"level5"' in requests[1]


@pytest.mark.parametrize(
    ("act", "code", "says"),
    [
        (refusal(631, 401), Exit.ACCESS, "API key"),
        (refusal(403), Exit.REFUSED, "the TSB knows this key"),
        (say(200, b"<html>", Content_Type="text/html"), Exit.NETWORK, "no TSB"),
        (say(502, b"<html>"), Exit.NETWORK, "no TSB"),
        (say(200, b'{"jobs": []}'), Exit.NETWORK, "no TSB"),
    ],
)
@pytest.mark.usefixtures("config")
def test_what_the_tsb_refuses_is_said_with_what_to_do(
    desk: Path, act: Act, code: Exit, says: str
) -> None:
    done, _ = against([act], "list", desk=desk)

    assert done.exit_code == code
    assert says in done.output
    assert "\x1b" not in done.output


def test_a_tsb_that_is_not_there_is_said_to_be(config: Path) -> None:
    text = config.read_text()
    (line,) = [one for one in text.splitlines() if one.startswith("url = ")]
    config.write_text(text.replace(line, 'url = "https://127.0.0.1:9"'))

    assert approvals("list").exit_code == Exit.NETWORK


# Keys and settings --------------------------------------------------------------------------------


def test_a_key_that_cannot_be_used_is_said_to_be_with_the_reason(desk: Path) -> None:
    weak = Approver("weak", rsa.generate_private_key(65537, 1024))  # noqa: S505  that is the point
    eve = Approver.generate("Eve", "ec")
    files: dict[str, tuple[bytes, str]] = {
        "weak.pem": (weak.pem(), "has 1024 bits"),
        "public.pem": (STACK_PEM, "holds no private key"),
        "noise.bin": (b"noise", "the passphrase is wrong"),
        "locked.p12": (ADA.pkcs12("another one"), "the passphrase is wrong"),
        "locked.pem": (ADA.pem("another one"), "cannot be opened with this passphrase"),
    }
    for name, (content, why) in files.items():
        (desk / name).write_bytes(content)
        with pytest.raises(CommandError) as unusable:
            keys.read(desk / name, lambda _: PASSPHRASE)
        assert why in unusable.value.message
    (desk / "eve.der").write_bytes(base64.b64decode(eve.certificate()))
    own = keys.read(desk / "me.pem", lambda _: PASSPHRASE)
    for name, why in (
        ("eve.der", "of another key"),
        ("me.pem", "no certificate"),
        ("x", "No such"),
    ):
        with pytest.raises(CommandError) as unusable:
            own.with_certificate(desk / name)
        assert why in unusable.value.message


@pytest.mark.usefixtures("config")
def test_nobody_is_asked_where_nobody_can_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUNTERSIGN_APPROVER_PASSPHRASE")

    done = approvals("list")

    assert done.exit_code == Exit.USAGE
    assert "COUNTERSIGN_APPROVER_PASSPHRASE" in done.output


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("[stack]", "[stacks]"), "stack"),
        (lambda text: f"{text}\nkeys = 1", "keys"),
        (lambda text: text.replace("key = ", "# "), "key"),
        (lambda text: f'{text}\n[approver.token]\nmodule = "x"\nlabel = "y"', "either"),
        (lambda text: f"{text}\nkey = 1", "TOML"),
        (lambda text: text.replace("env:API_KEY_OF_ADA", "tsb-x-token_1"), "no reference"),
        (lambda text: text.replace("stack.pem", "me.pem"), "private key"),
        (lambda text: text.replace("stack.pem", "nowhere.pem"), "nowhere.pem"),
    ],
)
def test_a_configuration_that_does_not_hold_is_refused(
    config: Path, change: Callable[[str], str], says: str
) -> None:
    config.write_text(change(config.read_text()))

    done = approvals("list")

    assert done.exit_code == Exit.USAGE
    assert says in done.output
    assert "tsb-x-token_1" not in done.output


def test_without_a_configuration_setup_is_named() -> None:
    assert "countersign approvals setup" in approvals("list").output


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(TEXTS, TEXTS, TEXTS)
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, url: str, label: str, named: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    token = TokenPart(module="/m.so", label=label, object=named)
    made = Settings(
        tsb=TsbPart(url=url),
        stack=StackPart(signing_key="/k.pem"),
        approver=ApproverPart(token=token),
    )

    settings.write(made, file)

    assert settings.read(file) == made
