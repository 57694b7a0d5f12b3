"""`countersign probe` as a user starts it, against a simulator on the network, over TLS."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from typer.testing import CliRunner, Result

from countersign_cli.exits import Exit
from countersign_cli.main import app
from countersign_cli.probe import command
from countersign_cli.probe.session import PREFIX, Pace
from local.approver import Approver
from tests.integration.server import Server, say
from tests.integration.simulator import ROLES, SECONDS, Tsb, running

BINARY = Path(sys.executable).with_name("countersign")
PASSPHRASE = "canary passphrase"


@pytest.fixture(scope="module")
def tsb() -> Iterator[Tsb]:
    # Larger keys than these take a while.
    with running("certificateRole=management", "rsaKeySizes=[2048]") as started:
        yield started


@pytest.fixture
def tokens(tsb: Tsb, tmp_path: Path) -> Path:
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps(tsb.tokens))
    return file


@pytest.fixture(autouse=True)
def _nobody_waits(tsb: Tsb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Instead of waiting, the simulator's clock moves."""
    passed = [0.0]

    def wait(seconds: float) -> None:
        passed[0] += seconds
        tsb.control("POST", "/clock", {"advanceSeconds": seconds})

    def pace() -> Pace:
        tsb.control("POST", "/reset")
        return Pace(now=lambda: time.time() + passed[0], wait=wait)

    monkeypatch.setattr(command, "Pace", pace)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of the tests' own process
    monkeypatch.chdir(tmp_path)
    for name in (*ROLES, "bearer", "passphrase"):
        monkeypatch.delenv(f"COUNTERSIGN_PROBE_{name.upper()}", raising=False)


@pytest.fixture
def probe(tsb: Tsb, tokens: Path) -> Callable[..., Result]:
    def run(*more: str, url: str = tsb.url, **options: Any) -> Result:
        arguments = ["probe", url, "--ca", tsb.ca, "--tokens", str(tokens), *more]
        return CliRunner().invoke(app, arguments, catch_exceptions=False, **options)

    return run


def assert_no_secret(text: str, *secrets: str) -> None:
    for secret in secrets:
        assert secret not in text


def test_a_real_tsb_is_probed_and_nothing_secret_leaves(
    tsb: Tsb, probe: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Approver.generate("Ada", "ec")._private_key
    encryption = BestAvailableEncryption(PASSPHRASE.encode())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()
    (tmp_path / "me.pem").write_text(pem)
    monkeypatch.setenv("COUNTERSIGN_PROBE_PASSPHRASE", PASSPHRASE)

    result = probe("--approver", "me.pem", "--yes")

    assert result.exit_code == Exit.OK, result.output
    written = (tmp_path / "countersign-probe.json").read_text()
    report = json.loads(written)
    assert report["parameters"] == {
        "CertificateRole": "KeyManagement",
        "RequestRole": "KeyOperation",
    }
    assert f"TsbUrl={tsb.url}" in result.output
    assert not report["left"]
    assert {one["name"] for one in report["findings"] if one["found"] is None} == {
        "indestructibleDeleteCode",
        "onboarded",
    }
    assert not tsb.labels
    assert_no_secret(written, *tsb.tokens.values(), PASSPHRASE, pem.splitlines()[1], "127.0.0.1")
    assert_no_secret(result.output, *tsb.tokens.values(), PASSPHRASE, pem.splitlines()[1])


@pytest.mark.parametrize("answer", ["n\n", ""], ids=["no", "nothing"])
def test_it_says_what_it_will_make_and_makes_nothing_without_a_yes(
    answer: str, tsb: Tsb, probe: Callable[..., Result], tmp_path: Path
) -> None:
    result = probe(input=answer)

    assert result.exit_code == Exit.DECLINED
    assert f"{PREFIX}" in result.output
    assert "removed at the end" in result.output
    assert not tsb.labels
    assert not (tmp_path / "countersign-probe.json").exists()


@pytest.mark.parametrize(
    ("role", "what"),
    [
        ("management", "does not accept the API key of role management"),
        ("operation", "does not accept the API key of role operation"),
        ("approver", "does not accept the API key of role approver"),
    ],
)
def test_a_token_that_does_not_work_is_refused_by_name(
    tsb: Tsb, probe: Callable[..., Result], tokens: Path, role: str, what: str
) -> None:
    tokens.write_text(json.dumps({**tsb.tokens, role: "canary-wrong"}))

    result = probe("--yes")

    assert result.exit_code == Exit.ACCESS
    assert what in result.output
    assert f"COUNTERSIGN_PROBE_{role.upper()}" in result.output
    assert_no_secret(result.output, "canary-wrong", *tsb.tokens.values())
    assert not tsb.labels


def test_a_bearer_token_that_is_missing_is_said(tsb: Tsb, probe: Callable[..., Result]) -> None:
    tsb.control("PUT", "/switches", {"authorization": "require"})
    try:
        result = probe("--yes")
    finally:
        tsb.control("PUT", "/switches", {"authorization": "ignore"})

    assert result.exit_code == Exit.ACCESS
    assert "wants a bearer token" in result.output


def test_a_certificate_that_does_not_verify_is_refused(tsb: Tsb, tokens: Path) -> None:
    # The public CAs, which did not issue it.
    arguments = ["probe", tsb.url, "--tokens", str(tokens), "--yes"]

    result = CliRunner().invoke(app, arguments, catch_exceptions=False)

    assert result.exit_code == Exit.NETWORK
    assert "does not verify" in result.output


def test_what_is_no_tsb_is_refused(probe: Callable[..., Result]) -> None:
    with Server([say(200, b"<html>welcome</html>")]) as running:
        result = probe("--yes", url=running.url)

    assert result.exit_code == Exit.NETWORK
    assert "is no TSB" in result.output
    assert len(running.requests) == 1


@pytest.mark.parametrize(
    ("url", "exit_code"), [("http://tsb.example", Exit.REFUSED), ("https://u:p@tsb", Exit.REFUSED)]
)
def test_a_url_that_would_give_secrets_away_is_refused(
    probe: Callable[..., Result], url: str, exit_code: Exit
) -> None:
    assert probe("--yes", url=url).exit_code == exit_code


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("nonsense", "holds no key in PEM"),
        (None, "cannot be read"),
        ("public", "holds no private key"),
        ("encrypted", "cannot be opened with this passphrase"),
    ],
)
def test_an_approver_that_cannot_decide_is_refused(
    probe: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    what: str,
) -> None:
    key = Approver.generate("Ada", "ec")._private_key
    texts = {
        "public": public_pem(key),
        "encrypted": key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"another")
        ).decode(),
    }
    monkeypatch.setenv("COUNTERSIGN_PROBE_PASSPHRASE", PASSPHRASE)
    if content is not None:
        (tmp_path / "me.pem").write_text(texts.get(content, content))

    result = probe("--approver", "me.pem", "--yes")

    assert result.exit_code == Exit.USAGE
    assert what in result.output
    assert_no_secret(result.output, PASSPHRASE)


def public_pem(key: Any) -> str:
    made: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return made.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_stopped_from_outside_it_removes_what_it_made(
    tsb: Tsb, tokens: Path, tmp_path: Path, number: signal.Signals
) -> None:
    tsb.control("POST", "/reset")
    arguments = [str(BINARY), "probe", tsb.url, "--ca", tsb.ca, "--tokens", str(tokens), "--yes"]
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
    ) as process:
        deadline = time.monotonic() + SECONDS
        while not tsb.labels:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        try:
            output, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()

    assert process.returncode == Exit.INTERRUPTED
    assert not tsb.labels
    assert "interrupted" in output
    assert json.loads((tmp_path / "countersign-probe.json").read_text())["stopped"] == "interrupted"


def test_tokens_are_typed_unseen(tsb: Tsb, tmp_path: Path) -> None:
    tsb.control("POST", "/reset")
    ours, theirs = pty.openpty()
    arguments = [str(BINARY), "probe", tsb.url, "--ca", tsb.ca]
    with subprocess.Popen(
        arguments, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, start_new_session=True
    ) as process:
        os.close(theirs)
        seen = ""
        typed = [*tsb.tokens.values(), "", "n"]
        for prompt, text in zip((*ROLES, "bearer", "Begin?"), typed, strict=True):
            while prompt not in seen.rpartition("\n")[2]:
                seen += os.read(ours, 4096).decode()
            os.write(ours, f"{text}\n".encode())
        process.wait(SECONDS)
        os.close(ours)

    assert_no_secret(seen, *tsb.tokens.values())
    assert not tsb.labels
