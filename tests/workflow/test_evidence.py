"""One folder per ended enrollment: what it proves, and that nothing in it can be changed unseen."""

import hashlib
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from countersign.evidence import bundle, verifier
from countersign.evidence.bundle import EvidenceInvalidError
from countersign_cli.exits import Exit
from countersign_cli.main import app
from local.approver import Approver
from local.engine.invocation import FunctionFailedError
from local.engine.stack import InProcessStack
from tests.case import Case, Json, Result, group, token

ADA, BERT, CARL = (Approver.generate(name, "ec") for name in ("Ada", "Bert", "Carl"))
OFFSETS_PER_FILE = 40

type Folder = dict[str, bytes]
type Kept = tuple[Result, Folder]  # how an enrollment ended, and its evidence


def approved_by_two_of_three(case: Case) -> Result:
    arn = case.start(case.request(token(group(ADA, BERT, CARL, quorum=2))))
    case.approve(ADA, BERT)
    return case.end(arn)


def approved_by_one(case: Case) -> Result:
    arn = case.start(case.request(token(group(ADA))))
    case.approve(ADA)
    return case.end(arn)


def approved_and_forged(case: Case) -> Result:
    case.fault("GET", "/v1/request/{id}", "forge", what="added_san", times=None)
    return approved_by_one(case)


def once(stack: InProcessStack, scenario: Callable[[Case], Result]) -> Kept:
    """Go through a scenario for all tests of this module that only read its evidence."""
    case = Case(stack)
    result = scenario(case)
    folder = case.evidence(result)
    stack.reset()
    return result, folder


@pytest.fixture(scope="module")
def issued(shared_stack: InProcessStack) -> Kept:
    return once(shared_stack, approved_by_two_of_three)


@pytest.fixture(scope="module")
def forged(shared_stack: InProcessStack) -> Kept:
    return once(shared_stack, approved_and_forged)


@pytest.fixture(scope="module")
def key(shared_stack: InProcessStack) -> bytes:
    """The public key of the stack, as an auditor has it."""
    return shared_stack.signing_key()


@pytest.fixture(scope="module")
def root(shared_stack: InProcessStack) -> str:
    """The fingerprint of the HSM maker's root, as an auditor has it."""
    chain = shared_stack.control("GET", "/attestation")["chain"]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(chain[-1])).hexdigest()


def invalid(folder: Folder, key: bytes, **more: Any) -> EvidenceInvalidError:
    with pytest.raises(EvidenceInvalidError) as caught:
        verifier.verify(folder, key, **more)
    return caught.value


def test_an_issued_csr_is_proven_from_its_folder_alone(issued: Kept, key: bytes, root: str) -> None:
    result, folder = issued

    facts = verifier.verify(folder, key).facts

    assert facts["enrollment"] == result.document["enrollmentId"]
    assert facts["outcome"] == "ISSUED"
    assert facts["checks"].endswith("all passed, made again")
    assert facts["attestation"] == f"verified, root sha256:{root}"
    assert facts["approved by"].startswith("Ada (key sha256:")
    assert "Bert" in facts["approved by"]
    assert "Carl" not in facts["approved by"]
    requested = hashlib.sha256(folder["request.json"]).hexdigest()
    assert facts["request"] == f"sha256:{requested}, shown to the approvers"


def test_a_folder_holds_everything_that_was_asked_answered_and_decided(issued: Kept) -> None:
    result, folder = issued

    assert set(folder) == {
        "manifest.json", "manifest.sig", "event.json", "record.json", "request.json",
        "approvers.json", "checks.json", "metadata.json", "metadata.sig", "attestation.xml",
        "attestation.sig", "attestation-chain.pem", "request.pem", "tsb/create-key-1.json",
        "tsb/poll-request-1.json", "tsb/store-csr-1.json",
    }  # fmt: skip
    assert folder["request.pem"] == result.objects["request.pem"]
    record = json.loads(folder["record.json"])
    assert record["origin"]["trigger"] == "start"
    assert record["codeVersion"] == "CoreLayer"  # deployed, its ARN with the version
    assert record["steps"]["csr"]["times"]["requested"] <= record["times"]["ended"]
    approvals = {one["name"]: one for one in json.loads(folder["approvers.json"])}
    assert approvals["Ada"]["publicKey"] == ADA.spki
    assert approvals["Carl"]["decision"] == "none"


def offsets(body: bytes) -> list[int]:
    """Every byte of a short file; of a long one a spread that has its first and last."""
    step = max(1, len(body) // OFFSETS_PER_FILE)
    return sorted({*range(0, len(body), step), len(body) - 1})


@pytest.mark.parametrize("outcome", ["issued", "forged"])
def test_whichever_byte_is_changed_the_verifier_names_its_file(
    outcome: str, key: bytes, request: pytest.FixtureRequest
) -> None:
    _, folder = request.getfixturevalue(outcome)

    for name, body in folder.items():
        for offset in offsets(body):
            for change in (0x01, 0x20, 0x80):
                changed = bytearray(body)
                changed[offset] ^= change
                found = invalid({**folder, name: bytes(changed)}, key)
                assert found.part == name, (name, offset, change)


def test_every_bit_of_the_signature_counts(issued: Kept, key: bytes) -> None:
    _, folder = issued

    for bit in range(8 * len(folder["manifest.sig"])):
        changed = bytearray(folder["manifest.sig"])
        changed[bit // 8] ^= 1 << bit % 8
        assert invalid({**folder, "manifest.sig": bytes(changed)}, key)


def test_a_file_that_is_missing_added_cut_or_lengthened_is_named(issued: Kept, key: bytes) -> None:
    _, folder = issued

    for name in folder:
        without = {other: body for other, body in folder.items() if other != name}
        assert invalid(without, key).part == name
        assert invalid({**folder, name: folder[name][:-1]}, key).part == name
        assert invalid({**folder, name: folder[name] + b"0"}, key).part == name
    assert invalid({**folder, "note.txt": b""}, key).part == "note.txt"


def test_another_key_s_signature_is_worth_nothing(issued: Kept) -> None:
    _, folder = issued
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    other_key = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    assert invalid(folder, other_key).part == "manifest.sig"
    assert invalid(folder, b"nonsense").part == "key"


@pytest.fixture(scope="module")
def resealed(shared_stack: InProcessStack) -> Callable[..., Folder]:
    """A folder as somebody could make it who may use the signing key and changes what it signs."""

    def reseal(folder: Folder, **changed: bytes) -> Folder:
        parts = {name: body for name, body in folder.items() if not name.startswith("manifest.")}
        parts |= {name.replace("_", "."): body for name, body in changed.items()}
        made = bundle.manifest(parts)
        signed = shared_stack.client("kms").sign(
            KeyId=shared_stack.outputs["SigningKeyArn"],
            Message=hashlib.sha256(made).digest(),
            MessageType="DIGEST",
            SigningAlgorithm="ECDSA_SHA_256",
        )
        return {**parts, "manifest.json": made, "manifest.sig": signed["Signature"]}

    return reseal


def edited(folder: Folder, name: str, edit: Any) -> bytes:
    content = json.loads(folder[name])
    edit(content)
    return json.dumps(content).encode()


def test_what_was_decided_wrongly_is_found_even_under_the_right_signature(
    issued: Kept, key: bytes, resealed: Callable[..., Folder]
) -> None:
    _, folder = issued

    def nobody_approved(approvals: Any) -> None:
        for one in approvals:
            one["decision"] = "none"

    def another_reason(request: Any) -> None:
        request["reason"] = "OPS-43"

    def one_was_skipped(checks: Any) -> None:
        checks[0]["result"] = "skipped"

    approvals = edited(folder, "approvers.json", nobody_approved)
    request = edited(folder, "request.json", another_reason)
    checks = edited(folder, "checks.json", one_was_skipped)

    assert verifier.verify(resealed(folder), key)
    assert "APPROVAL_QUORUM" in str(invalid(resealed(folder, approvers_json=approvals), key))
    found = invalid(resealed(folder, request_json=request), key)
    assert found.part == "metadata.json"
    assert invalid(resealed(folder, checks_json=checks), key).part == "checks.json"


def test_a_signed_folder_of_another_form_is_not_taken_for_proof(
    issued: Kept, key: bytes, resealed: Callable[..., Folder]
) -> None:
    _, folder = issued

    for name in ("record.json", "approvers.json", "checks.json", "tsb/store-csr-1.json"):
        odd = resealed({**folder, name: b'{"origin": {"trigger": "start"}}'})
        assert invalid(odd, key)


def test_the_root_that_an_auditor_pins_must_be_the_one_that_was_believed(
    issued: Kept, key: bytes, root: str
) -> None:
    _, folder = issued

    assert verifier.verify(folder, key, attestation_root=root)
    found = invalid(folder, key, attestation_root="0" * 64)
    assert found.part == "attestation-chain.pem"


def test_a_quarantined_csr_has_its_evidence_and_its_finding_is_found_again(
    forged: Kept, key: bytes
) -> None:
    _, folder = forged

    facts = verifier.verify(folder, key).facts

    assert facts["outcome"] == "FAILED"
    assert facts["quarantined"] == "CSR_ALTERNATIVE_NAMES"
    assert "CSR_ALTERNATIVE_NAMES" in facts["checks"]
    assert "request.pem" not in folder
    assert {"quarantine/request.pem", "quarantine/findings.json"} <= set(folder)


def test_a_refused_request_has_its_evidence_too(case: Case, key: bytes) -> None:
    request = case.request()
    request["key"]["policy"]["ruleUse"] = {"tokens": []}
    result = case.end(case.start(request))

    folder = case.evidence(result)

    assert set(folder) == {
        "manifest.json", "manifest.sig", "event.json", "record.json", "approvers.json"
    }  # fmt: skip
    assert verifier.verify(folder, key).facts["outcome"] == "FAILED"


# At the shell -------------------------------------------------------------------------------------


def written(folder: Folder, to: Path) -> Path:
    for name, body in folder.items():
        file = to / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(body)
    return to


def shell(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["verify", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_command_shows_what_the_folder_proves(
    issued: Kept, key: bytes, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    result, folder = issued
    (tmp_path / "key.pem").write_bytes(key)
    existing = written(folder, tmp_path / "evidence")
    as_openssl_writes = ":".join(root[at : at + 2] for at in range(0, 64, 2)).upper()

    code, text = shell(existing, "--key", tmp_path / "key.pem", "--attestation-root", root)
    assert code == Exit.OK
    assert "the evidence holds" in text
    assert result.document["enrollmentId"] in text
    told = shell(
        *(existing, "--key", tmp_path / "key.pem", "--json"),
        *("--attestation-root", f"sha256 Fingerprint={as_openssl_writes}"),
    )
    assert json.loads(told[1]) == verifier.verify(folder, key).facts


def test_the_command_names_the_first_thing_that_does_not_hold(
    issued: Kept, key: bytes, tmp_path: Path
) -> None:
    _, folder = issued
    (tmp_path / "key.pem").write_bytes(key)
    existing = written({**folder, "tsb/poll-request-1.json": b"{}"}, tmp_path / "evidence")

    code, text = shell(existing, "--key", tmp_path / "key.pem")

    assert code == Exit.INVALID
    assert "tsb/poll-request-1.json: was changed" in text
    assert shell(tmp_path / "nowhere", "--key", tmp_path / "key.pem")[0] == Exit.USAGE
    assert shell(existing, "--key", tmp_path / "nowhere")[0] == Exit.USAGE


# While it is kept ---------------------------------------------------------------------------------


def delivery(event: Json, **different: Any) -> Json:
    """The evidence queue's message about this event."""
    return {"Records": [{"messageId": "1", "body": json.dumps({**event, **different})}]}


def test_the_same_event_again_changes_nothing(case: Case, stack: InProcessStack) -> None:
    result = approved_by_two_of_three(case)
    folder = case.evidence(result)

    for again in (delivery(result.ending), delivery(result.ending, id="emitted twice")):
        stack.call("KeepEvidence", again)
        assert case.evidence(result) == folder


def test_an_event_that_is_told_twice_at_once_has_one_evidence(
    case: Case, stack: InProcessStack, key: bytes
) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.approve(ADA)
    first = stack.at("KeepEvidence", "ListObjectsV2")
    event = case.await_event("Enrollment Issued")
    second = stack.begin("KeepEvidence", delivery(event, id="emitted twice"))
    result = case.end(arn)
    folder = case.evidence(result)

    # Both had looked before either wrote.
    assert first.calls.count("PutObject") == second.calls.count("PutObject") == len(folder)
    assert first.error is second.error is None
    assert verifier.verify(folder, key)


def test_evidence_that_was_begun_is_finished(case: Case, stack: InProcessStack, key: bytes) -> None:
    # One delivery writes one part; another event's all the others, but no signature.
    broken = case.strike("KeepEvidence", kind="aws", operation="PutObject", skip=1, when="before")
    case.strike("KeepEvidence", kind="aws", operation="Sign", when="before")
    result = approved_by_one(case)
    stack.until(lambda: broken.struck, "broken delivery")
    begun = stack.objects("evidence")
    with pytest.raises(FunctionFailedError, match="signing"):
        stack.call("KeepEvidence", delivery(result.ending, id="emitted twice"))
    unsigned = stack.objects("evidence")

    folder = case.evidence(result)  # the first is delivered again

    assert len(begun) == 1
    assert begun.items() < unsigned.items() < stack.objects("evidence").items()
    assert len(unsigned) == len(folder) - 1
    assert verifier.verify(folder, key)


def test_an_id_that_was_claimed_again_has_evidence_of_what_is_left(
    case: Case, stack: InProcessStack, key: bytes
) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.approve(ADA)
    stack.at("KeepEvidence", "GetItem")
    case.write(executionArn="arn:another")
    folder = case.evidence(case.end(arn))

    assert "record.json" not in folder
    facts = verifier.verify(folder, key).facts
    assert facts["record"].startswith("none")
