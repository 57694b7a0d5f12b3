"""An approver decides with `countersign approvals`, and the enrollment ends as they decided."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from countersign_cli.approvals import settings
from countersign_cli.approvals.settings import ApproverPart
from countersign_cli.exits import Exit
from countersign_cli.main import app
from local import people
from local.approver import Approver
from tests.ca import Ca
from tests.case import ROOT, Case, Json, approval, assert_ended, assert_issued, token

PASSPHRASE = "correct horse"


@pytest.fixture
def written(case: Case, tmp_path: Path) -> Callable[..., Path]:
    """The configuration of an approver, and their key in a file."""

    def write(approver: Approver, content: bytes | None = None, **part: Any) -> Path:
        (file,) = people.hand_out(
            {approver.name: approver},
            tmp_path,
            tsb_url=case.stack.tsb_url,
            ca=None,
            api_key=case.stack.api_keys["approver"][0],
            signing_key=case.stack.signing_key(),
        ).values()
        if content is not None:
            (file.parent / "key.pem").write_bytes(content)
        if part:
            made = settings.read(file)
            approver_part = ApproverPart.model_validate({**made.approver.model_dump(), **part})
            settings.write(made.model_copy(update={"approver": approver_part}), file)
        return file

    return write


def approvals(config: Path, *arguments: str, **options: Any) -> Result:
    given = ["approvals", *arguments, "--config", str(config)]
    environment = {"COUNTERSIGN_APPROVER_PASSPHRASE": PASSPHRASE, "COLUMNS": "200"}
    return CliRunner().invoke(app, given, env=environment, catch_exceptions=False, **options)


def group_of(*approvals_given: Json) -> Json:
    return {"name": "group", "quorum": 1, "approvals": list(approvals_given)}


def by_certificate(approver: Approver) -> Json:
    return {"type": "certificate", "value": approver.certificate()}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("rsa", lambda one: one.pem(PASSPHRASE)),
        ("ec", lambda one: one.pem()),
        ("ed25519", lambda one: one.pkcs12(PASSPHRASE)),
    ],
    ids=["an RSA key in PEM", "an EC key without passphrase", "an Ed25519 key in PKCS 12"],
)
@pytest.mark.parametrize("named", [approval, by_certificate])
def test_whoever_holds_the_key_shows_verifies_and_approves(
    case: Case,
    written: Callable[..., Path],
    kind: Any,
    content: Callable[[Approver], bytes],
    named: Callable[[Approver], Json],
) -> None:
    ada = Approver.generate("Ada", kind)
    config = written(ada, content(ada))
    arn = case.start(case.request(token(group_of(named(ada)))))
    case.await_request()

    listed = json.loads(approvals(config, "list", "--json").stdout)
    shown = json.loads(approvals(config, "show", case.id, "--json").stdout)
    done = approvals(config, "approve", case.id, "--expect", shown["requestSha256"], "--json")
    result = case.end(arn)

    assert [one["enrollmentId"] for one in listed["tasks"]] == [case.id]
    assert shown["requestSha256"] == result.record["acceptedSha256"]
    unknown = {one["code"] for one in shown["checks"] if one["result"] == "not shown"}
    assert unknown == {"BYTES_STAMP"}
    assert json.loads(done.stdout)["decision"] == "approved"
    assert_issued(result)


def test_a_certificate_names_whoever_says_so(case: Case, written: Callable[..., Path]) -> None:
    ada = Approver.generate("Ada", "ec")
    config = written(ada, ada.pkcs12(PASSPHRASE), named_by="certificate")
    arn = case.start(case.request(token(group_of(by_certificate(ada)))))
    case.await_request()

    done = approvals(config, "approve", case.id, input="y\n")

    assert done.exit_code == Exit.OK, done.output
    assert f"Approved: {case.label}." in done.stdout
    assert_issued(case.end(arn))


def test_the_ca_s_approver_shows_verifies_and_approves_the_certificate(
    case: Case, written: Callable[..., Path]
) -> None:
    ada, cy = Approver.generate("Ada", "ec"), Approver.generate("Cy", "rsa")
    config = written(cy)
    ca = Ca.make(case, cy)
    arn = case.start(ca.request(case.request(token(group_of(approval(ada))))))
    case.approve(ada)
    case.task(cy, ca.label)

    shown = json.loads(approvals(config, "show", case.id, "--json").stdout)
    done = approvals(config, "approve", case.id, input="y\n")
    result = case.end(arn)

    results = {one["code"]: one["result"] for one in shown["checks"]}
    assert shown["asked"] == "certificate"
    assert f"CA key label: {ca.label}" in shown["about"]
    assert "failed" not in results.values()
    assert {code for code, one in results.items() if one == "not shown"} == {
        code for code in results if code.startswith("CERTIFICATE_")
    } - {"CERTIFICATE_CSR_SHA256", "CERTIFICATE_CSR"} | {"BYTES_STAMP"}
    assert done.exit_code == Exit.OK, done.output
    assert f"Key {ca.label} may be used once, for a certificate for" in done.output
    assert result.document["certificate"] is not None


def test_a_decline_rejects(case: Case, written: Callable[..., Path]) -> None:
    ada = Approver.generate("Ada", "ec")
    config = written(ada)
    arn = case.start(case.request(token(group_of(approval(ada)))))
    case.await_request()

    hesitated = approvals(config, "decline", case.id, input="n\n")
    declined = approvals(config, "decline", case.label, "--yes", "--json")
    after = approvals(config, "list")
    again = approvals(config, "decline", case.id, "--yes")
    result = case.end(arn)

    assert hesitated.exit_code == Exit.DECLINED
    assert json.loads(declined.stdout)["decision"] == "declined"
    assert after.stdout.startswith("Nothing waits for you. ")
    assert again.exit_code == Exit.REFUSED
    assert_ended(result, "REJECTED")


def test_another_request_than_the_expected_one_is_never_signed(
    case: Case, written: Callable[..., Path]
) -> None:
    ada = Approver.generate("Ada", "ec")
    config = written(ada)
    arn = case.start(case.request(token(group_of(approval(ada)))))
    case.await_request()

    done = approvals(config, "approve", case.id, "--expect", "0" * 64, "--json")
    case.cancel()
    result = case.end(arn)

    assert done.exit_code == Exit.INVALID
    assert json.loads(done.stderr)["failed"] == ["REQUEST_EXPECTED"]
    assert "/v1/approval" not in {call["path"] for call in case.stack.control("GET", "/calls")}
    assert_ended(result, "CANCELLED")


def test_a_request_of_another_stack_is_shown_and_never_signed(
    case: Case, written: Callable[..., Path]
) -> None:
    ada = Approver.generate("Ada", "ec")
    config = written(ada)
    other = Approver.generate("other stack", "ec")
    armored = f"-----BEGIN PUBLIC KEY-----\n{other.spki}\n-----END PUBLIC KEY-----\n"
    (config.parent / "stack.pem").write_text(armored)
    arn = case.start(case.request(token(group_of(approval(ada)))))
    case.await_request()

    shown = approvals(config, "show", case.label)
    done = approvals(config, "approve", case.label, input="y\n")
    listed = approvals(config, "list")
    case.cancel()
    result = case.end(arn)

    assert shown.exit_code == done.exit_code == Exit.INVALID
    assert "STACK_SIGNATURE" in shown.stderr
    assert "failed: STACK_SIGNATURE" in listed.stdout
    assert "/v1/approval" not in {call["path"] for call in case.stack.control("GET", "/calls")}
    assert_ended(result, "CANCELLED")


def test_the_tour_ends_with_the_reader_s_own_approval(case: Case, tmp_path: Path) -> None:
    stack = case.stack
    config, *_ = people.hand_out(
        stack.people,
        tmp_path,
        tsb_url=stack.tsb_url,
        ca=None,
        api_key=stack.api_keys["approver"][0],
        signing_key=stack.signing_key(),
    ).values()
    request = json.loads((ROOT / "events/tour.json").read_text())
    case.id, case.label = request["enrollmentId"], request["key"]["label"]
    arn = case.start(request)
    case.await_request()

    done = approvals(config, "approve", "tour", input="y\n")

    assert done.exit_code == Exit.OK, done.output
    assert_issued(case.end(arn))


def test_more_tasks_than_a_page_holds_are_all_listed(
    case: Case, written: Callable[..., Path]
) -> None:
    ada = Approver.generate("Ada", "ec")
    config = written(ada)
    cases = [case, *(Case(case.stack) for _ in range(6))]
    arns = [one.start(one.request(token(group_of(approval(ada))))) for one in cases]
    for one in cases:
        one.await_request()

    listed = json.loads(approvals(config, "list", "--json").stdout)
    for one, arn in zip(cases, arns, strict=True):
        one.approve(ada)
        one.end(arn)

    assert [one["enrollmentId"] for one in listed["tasks"]] == [one.id for one in cases]
