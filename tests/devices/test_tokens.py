"""`countersign approvals` with a key on a PKCS #11 token: SoftHSM2, as Debian packages it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import exceptions

from countersign_cli.approvals import settings, tokens
from countersign_cli.approvals.settings import ApproverPart, Settings, StackPart, TokenPart, TsbPart
from countersign_cli.exits import Exit
from local.approver import Approver
from tests import asking
from tests.integration.simulator import SECONDS, Tsb, running

BINARY = Path(sys.executable).with_name("countersign")
MODULE = "/usr/lib/softhsm/libsofthsm2.so"  # where Debian puts it
PIN, SO_PIN = "canary-1234", "5678"
STACK = ec.generate_private_key(ec.SECP256R1())
KINDS: tuple[Any, ...] = ("rsa", "ec", "ed25519")


@dataclass(frozen=True)
class Tokens:
    """Tokens of one SoftHSM, and whose keys are on them."""

    environment: dict[str, str]
    approvers: dict[str, Approver]


@pytest.fixture(scope="module")
def tsb() -> Iterator[Tsb]:
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """A token for each kind of key, two of one label, one with two keys, one with a certificate
    instead of a public key.
    """
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    environment = {**os.environ, "SOFTHSM2_CONF": str(conf), "COUNTERSIGN_APPROVER_PIN": PIN}
    approvers: dict[str, Approver] = {}

    def softhsm(*arguments: str) -> str:
        done = subprocess.run(
            ["softhsm2-util", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stderr
        return done.stdout

    def make(label: str, *keys: tuple[str, Approver]) -> None:
        softhsm("--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN)
        (slot,) = _slots(softhsm("--show-slots"), label)
        for number, (name, approver) in enumerate(keys, start=1):
            file = folder / f"{label}-{name}.pem"
            file.write_bytes(approver.pem())
            softhsm(
                "--import", str(file), "--slot", slot, "--label", name, "--id", f"{number:02}",
                "--pin", PIN,
            )  # fmt: skip
            file.unlink()

    for kind in KINDS:
        approvers[kind] = Approver.generate(kind, kind)
        make(kind, ("approver", approvers[kind]))
    approvers["two"] = Approver.generate("two", "ec")
    make("two", ("approver", approvers["two"]), ("other", Approver.generate("other", "ec")))
    approvers["card"] = Approver.generate("card", "ec")
    make("card", ("approver", approvers["card"]))
    _only_certificate(environment, "card", approvers["card"])
    make("twin", ("approver", Approver.generate("twin", "ec")))
    softhsm("--init-token", "--free", "--label", "twin", "--pin", PIN, "--so-pin", SO_PIN)
    return Tokens(environment, approvers)


def _slots(shown: str, label: str) -> list[str]:
    """The numbers of the slots whose token has this label."""
    found, slot = [], ""
    for line in shown.splitlines():
        if line.startswith("Slot "):
            slot = line.split()[1]
        if line.strip().startswith("Label:") and line.partition(":")[2].strip() == label:
            found.append(slot)
    return found


def _only_certificate(environment: dict[str, str], label: str, approver: Approver) -> None:
    """As cards often are: a certificate beside the private key, and no public key."""
    script = f"""
import base64, pkcs11
from pkcs11 import Attribute, CertificateType, ObjectClass
token = pkcs11.lib({MODULE!r}).get_token(token_label={label!r})
with token.open(rw=True, user_pin={PIN!r}) as session:
    for one in list(session.get_objects({{Attribute.CLASS: ObjectClass.PUBLIC_KEY}})):
        one.destroy()
    session.create_object({{
        Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.TOKEN: True,
        Attribute.CERTIFICATE_TYPE: CertificateType.X_509, Attribute.ID: b"\\x01",
        Attribute.SUBJECT: b"0\\x00", Attribute.VALUE: base64.b64decode({approver.certificate()!r}),
    }})
"""
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


type Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tsb: Tsb, hsm: Tokens, tmp_path: Path) -> Run:
    """Start `countersign approvals` with the token of a label."""
    tsb.control("POST", "/reset")
    public = STACK.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "stack.pem").write_bytes(public)

    def start(
        *arguments: str, token: dict[str, Any], pin: str = PIN, **part: Any
    ) -> "subprocess.CompletedProcess[str]":
        place = TokenPart.model_validate({"module": MODULE, **token})
        settings.write(
            Settings(
                tsb=TsbPart(url=tsb.url, ca=tsb.ca, api_key="env:API_KEY"),
                stack=StackPart(signing_key="stack.pem"),
                approver=ApproverPart(token=place, **part),
            ),
            tmp_path / "approver.toml",
        )
        environment = {
            **hsm.environment,
            "API_KEY": tsb.tokens["approver"],
            "COUNTERSIGN_APPROVER_PIN": pin,
        }
        done = subprocess.run(
            [str(BINARY), "approvals", *arguments, "--config", str(tmp_path / "approver.toml")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )
        assert PIN not in done.stdout + done.stderr
        return done

    return start


def asked(tsb: Tsb, request: asking.Json) -> str:
    """Ask for a request; returns its SHA-256."""
    tsb.call("/v1/key", request["key"], "management")
    tsb.call("/v1/certificate/request", asking.body(request, STACK), "operation")
    return asking.digest(request)


def status(tsb: Tsb) -> str:
    (found,) = tsb.control("GET", f"/state?label={asking.LABEL}")["requests"]
    return str(found["status"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_on_a_token_approves(tsb: Tsb, hsm: Tokens, run: Run, kind: str) -> None:
    digest = asked(tsb, asking.raw(hsm.approvers[kind]))

    done = run("approve", "web", "--expect", digest, "--json", token={"label": kind})

    assert done.returncode == Exit.OK, done.stderr
    assert json.loads(done.stdout)["decision"] == "approved"
    assert status(tsb) == "EXECUTED"


def test_a_key_on_a_token_declines(tsb: Tsb, hsm: Tokens, run: Run) -> None:
    asked(tsb, asking.raw(hsm.approvers["ec"]))

    done = run("decline", "web", "--yes", token={"label": "ec"})

    assert done.returncode == Exit.OK, done.stderr
    assert status(tsb) == "REJECTED"


def test_a_card_with_a_certificate_alone_is_known_by_it(tsb: Tsb, hsm: Tokens, run: Run) -> None:
    request = asking.raw(hsm.approvers["card"])
    (token,) = request["key"]["policy"]["ruleUse"]["tokens"]
    certificate = hsm.approvers["card"].certificate()
    token["groups"][0]["approvals"] = [{"type": "certificate", "value": certificate}]
    digest = asked(tsb, request)

    place = {"label": "card"}
    done = run("approve", "web", "--expect", digest, token=place, named_by="certificate")

    assert done.returncode == Exit.OK, done.stderr
    assert status(tsb) == "EXECUTED"


def test_one_key_of_several_is_named(hsm: Tokens, tsb: Tsb, run: Run) -> None:
    digest = asked(tsb, asking.raw(hsm.approvers["two"]))

    any_key = run("list", token={"label": "two"})
    none = run("list", token={"label": "two", "object": "mine"})
    named = run("approve", "web", "--expect", digest, token={"label": "two", "object": "approver"})

    assert any_key.returncode == none.returncode == Exit.USAGE
    assert "approver, other" in any_key.stderr
    assert "0 private keys" in none.stderr
    assert named.returncode == Exit.OK, named.stderr


def test_two_tokens_of_one_label_are_told_apart_by_their_serial_numbers(run: Run) -> None:
    both = run("list", token={"label": "twin"})
    serials = both.stderr.partition("label twin: ")[2].split("\n")[0].split(", ")
    each = [run("list", token={"label": "twin", "serial": one}) for one in serials]

    assert both.returncode == Exit.USAGE
    assert len(serials) == 2
    # One of them holds a key, the other is empty.
    assert sorted(one.returncode for one in each) == [Exit.OK, Exit.USAGE]
    assert any("0 private keys" in one.stderr for one in each)


def test_a_wrong_pin_is_tried_once_and_said_to_be_wrong(run: Run) -> None:
    done = run("list", token={"label": "ec"}, pin="canary-0000")

    assert done.returncode == Exit.ACCESS
    assert "the PIN is wrong" in done.stderr
    assert "canary-0000" not in done.stderr


def test_a_pin_too_short_is_said_to_be(run: Run) -> None:
    assert "the PIN" in run("list", token={"label": "ec"}, pin="1").stderr


@pytest.mark.parametrize("kind", tokens.REASONS, ids=lambda kind: kind.__name__)
def test_what_a_token_says_is_said_for_people(kind: type[exceptions.PKCS11Error]) -> None:
    # SoftHSM never locks a token and cannot be unplugged: what a module says stands for it.
    said = tokens._refused(kind())

    assert said.code == Exit.ACCESS
    assert said.message != kind.__name__
    assert kind.__name__ not in said.message + said.action


def test_a_locked_token_is_said_to_be() -> None:
    said = tokens._refused(exceptions.PinLocked())

    assert "locked" in said.message
    assert "PUK" in said.action


def test_what_no_list_knows_is_told_by_its_name() -> None:
    assert "DeviceMemory" in tokens._refused(exceptions.DeviceMemory()).message


@pytest.mark.parametrize("module", ["/nowhere/lib.so", "/etc/hostname"])
def test_a_module_that_is_none_is_said_to_be(run: Run, module: str) -> None:
    done = run("list", token={"label": "ec", "module": module})

    assert done.returncode == Exit.USAGE
    assert f"{module} is no PKCS #11 module" in done.stderr


def test_a_token_that_is_not_there_is_named_with_those_that_are(run: Run) -> None:
    done = run("list", token={"label": "nobody"})

    assert done.returncode == Exit.USAGE
    assert "there is no token nobody" in done.stderr
    assert "rsa (" in done.stderr


def test_setup_takes_a_token(tsb: Tsb, hsm: Tokens, run: Run, tmp_path: Path) -> None:
    run("list", token={"label": "rsa"})  # the stack's key lies there
    answers = [tsb.url, tsb.ca, str(tmp_path / "stack.pem"), "y", "token", MODULE, "rsa", "", "",
               "neither", "token", MODULE, "rsa", "", "", "public key",
               "env:API_KEY", ""]  # fmt: skip
    config = tmp_path / "new" / "approver.toml"

    done = subprocess.run(
        [str(BINARY), "approvals", "setup", "--config", str(config)],
        env={**hsm.environment, "API_KEY": tsb.tokens["approver"]},
        input="\n".join(answers),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )

    assert done.returncode == Exit.OK, done.stderr
    assert settings.read(config).approver.token == TokenPart(module=MODULE, label="rsa")
