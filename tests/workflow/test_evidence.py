"""One folder per ended enrollment: what it proves, and that nothing in it can be changed unseen."""

import base64
import hashlib
import json
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from typer.testing import CliRunner

from countersign.evidence import verifier
from countersign.evidence.bundle import EvidenceInvalidError
from countersign_cli.exits import Exit
from countersign_cli.main import app
from local.approver import Approver
from local.engine.invocation import FunctionFailedError
from local.engine.stack import InProcessStack
from tests import forgeries
from tests.case import Case, Json, Result, group, token
from tests.proofs import sealed
from tests.workflow.api import Caller

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


def declined(case: Case) -> Result:
    arn = case.start(case.request(token(group(ADA, BERT, quorum=2))))
    case.decline(ADA)
    return case.end(arn)


def cancelled_by_ada(case: Case) -> Result:
    arn = case.start(case.request(token(group(ADA))))
    case.await_request()
    assert isinstance(case.stack, InProcessStack)
    Caller(case.stack).call("DELETE", f"/enrollments/{case.id}")
    return case.end(arn)


def failed_after_the_approval(case: Case) -> Result:
    case.fault("POST", "/v1/key/attributes", "status", httpStatus=503, times=None)
    return approved_by_one(case)


def asked_twice_without_an_answer(case: Case) -> Result:
    case.fault("POST", "/v1/certificate/request", "drop", executed=True, times=2)
    return case.end(case.start(case.request(token(group(ADA)))))


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
def rejected(shared_stack: InProcessStack) -> Kept:
    return once(shared_stack, declined)


@pytest.fixture(scope="module")
def cancelled(shared_stack: InProcessStack) -> Kept:
    return once(shared_stack, cancelled_by_ada)


@pytest.fixture(scope="module")
def failed(shared_stack: InProcessStack) -> Kept:
    return once(shared_stack, failed_after_the_approval)


@pytest.fixture(scope="module")
def unanswered(shared_stack: InProcessStack) -> Kept:
    return once(shared_stack, asked_twice_without_an_answer)


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
    assert facts["policy"] == '2 of "Ada", "Bert", "Carl"'
    assert facts["agreed"] == "2 of 3 who were asked"
    assert facts["key"].startswith(f"{result.label}, ")
    assert facts["approved by"].startswith('"Ada" (key sha256:')
    assert "Bert" in facts["approved by"]
    assert "Carl" not in facts["approved by"]
    requested = hashlib.sha256(folder["request.json"]).hexdigest()
    assert facts["request"] == f"sha256:{requested}, shown to the approvers"


def test_a_folder_holds_everything_that_was_asked_answered_and_decided(issued: Kept) -> None:
    result, folder = issued

    assert set(folder) == {
        "manifest.json", "manifest.sig", "record.json", "request.json",
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


def resealed(stack: InProcessStack, folder: Folder) -> Folder:
    """A folder as somebody could make it who may use the signing key and changes what it signs."""
    return sealed(
        stack, {name: body for name, body in folder.items() if not name.startswith("manifest.")}
    )


def test_a_folder_that_is_sealed_again_is_as_good(
    issued: Kept, key: bytes, shared_stack: InProcessStack
) -> None:
    _, folder = issued

    again = resealed(shared_stack, folder)

    assert verifier.verify(again, key).facts == verifier.verify(folder, key).facts


@pytest.mark.parametrize(
    ("end", "name"), [(end, name) for end, names in forgeries.BY_END.items() for name in names]
)
def test_a_forgery_under_the_right_signature_is_refused(
    request: pytest.FixtureRequest, key: bytes, shared_stack: InProcessStack, end: str, name: str
) -> None:
    _, folder = request.getfixturevalue(end)
    forgery = forgeries.BY_END[end][name]

    found = invalid(resealed(shared_stack, forgery.made(folder)), key)

    assert found.part == forgery.part, found
    assert forgery.says in str(found)


def test_approvals_of_which_no_answer_is_kept_are_unknown(
    issued: Kept, key: bytes, shared_stack: InProcessStack
) -> None:
    _, folder = issued
    open_yet = forgeries.not_executed(folder)
    request = json.loads(open_yet["record.json"])["steps"]["csr"]["requestId"]
    answers = {
        f"tsb/poll-request-{number}.json": json.dumps({"id": request, "status": "PENDING"}).encode()
        for number in range(1, 21)
    }
    agreed = [{**one, "decision": "approved"} for one in json.loads(open_yet["approvers.json"])]
    cancelled = forgeries.both(forgeries.ended("CANCELLED"), forgeries.cancelled())
    told = cancelled({**open_yet, **answers, "approvers.json": rfc8785.dumps(agreed)})
    told = forgeries.changed(told, "record.json", steps__csr__answerSha256="0" * 64)

    facts = verifier.verify(resealed(shared_stack, told), key).facts

    assert facts["agreed"].startswith("unknown")
    assert "approved by" not in facts
    renamed = forgeries.changed(told, "approvers.json", **{"0__name": "Eve"})
    assert invalid(resealed(shared_stack, renamed), key).part == "approvers.json"


def test_a_manifest_says_only_what_its_parts_give(
    issued: Kept, key: bytes, shared_stack: InProcessStack
) -> None:
    _, folder = issued
    for field, value in (("outcome", "REJECTED"), ("enrollmentId", "other"), ("note", "")):
        listed = forgeries.changed(folder, "manifest.json", **{field: value})["manifest.json"]
        answer = shared_stack.client("kms").sign(
            KeyId=shared_stack.outputs["SigningKeyArn"],
            Message=hashlib.sha256(listed).digest(),
            MessageType="DIGEST",
            SigningAlgorithm="ECDSA_SHA_256",
        )
        found = invalid(
            {**folder, "manifest.json": listed, "manifest.sig": answer["Signature"]}, key
        )
        assert found.part == "manifest.json"
        assert "than its parts" in str(found)


def test_a_signed_folder_of_another_form_is_not_taken_for_proof(
    issued: Kept, key: bytes, shared_stack: InProcessStack
) -> None:
    _, folder = issued

    for body in (b"[]", b"null", b"1", b"{", b"", b'{"a":1}', b"\xff", b"[" * 100_000):
        for name in ("request.json", "approvers.json", "checks.json", "metadata.json"):
            assert invalid(resealed(shared_stack, {**folder, name: body}), key)
        listed = sealed(shared_stack, {"record.json": folder["record.json"]})
        assert invalid({**folder, "manifest.json": body}, key)
        assert invalid({**listed, "record.json": body}, key)


def test_the_documents_list_every_forgery() -> None:
    text = forgeries.EVIDENCE.read_text()

    for name, one in [row for rows in forgeries.BY_END.values() for row in rows.items()]:
        assert f"| {name} | `{one.part}` |" in text


def test_the_root_that_an_auditor_pins_must_be_the_one_that_was_believed(
    issued: Kept, key: bytes, root: str
) -> None:
    _, folder = issued

    assert verifier.verify(folder, key, attestation_roots=[root])
    found = invalid(folder, key, attestation_roots=["0" * 64])
    assert found.part == "attestation-chain.pem"


@pytest.mark.parametrize("end", ["issued", "forged"])
def test_a_root_of_the_creation_alone_must_be_the_auditor_s_too(
    request: pytest.FixtureRequest, key: bytes, root: str, shared_stack: InProcessStack, end: str
) -> None:
    """An HSM of one's own attests that the key was made, and the true root stands beside it."""
    _, folder = request.getfixturevalue(end)
    own, forged = forgeries.attested_by_another(folder)
    made = resealed(shared_stack, forged)

    facts = verifier.verify(made, key).facts
    found = invalid(made, key, attestation_roots=[root])

    assert facts["attestation"].endswith(f"; when it was made, by root sha256:{own}")
    assert facts["roots"] == "the stack's word: compare with --attestation-root"
    assert (found.part, own in str(found)) == ("attestation-chain-created.pem", True)
    assert verifier.verify(made, key, attestation_roots=[root, own]).facts["roots"] == "as given"


def test_the_key_of_a_rejected_request_is_verified_by_the_root_that_was_believed(
    rejected: Kept, key: bytes, root: str, shared_stack: InProcessStack
) -> None:
    _, folder = rejected
    unpinned = resealed(shared_stack, forgeries.unpinned(folder))

    assert verifier.verify(folder, key).facts["attestation"] == f"verified, root sha256:{root}"
    assert verifier.verify(folder, key, attestation_roots=[root])
    # Whether a root was pinned is the stack's word, so the command says it, and an auditor pins.
    assert verifier.verify(unpinned, key).facts["attestation"] == "unverified"
    assert "no root was believed" in str(invalid(unpinned, key, attestation_roots=[root]))


def test_a_key_of_which_an_older_release_kept_no_root_is_unverified(
    rejected: Kept, key: bytes, shared_stack: InProcessStack
) -> None:
    _, folder = rejected
    said = dict.fromkeys(("attestationRoot", "keyVerifiedAt"), ...)
    older = forgeries.changed(forgeries.unpinned(folder), "record.json", **said)

    facts = verifier.verify(resealed(shared_stack, older), key).facts

    assert facts["attestation"] == "unverified"


@pytest.mark.parametrize(
    ("end", "said"), [("issued", "EXECUTED"), ("rejected", "REJECTED"), ("cancelled", None)]
)
def test_what_the_tsb_said_last_stands_beside_the_outcome(
    request: pytest.FixtureRequest, key: bytes, end: str, said: str | None
) -> None:
    _, folder = request.getfixturevalue(end)
    read = json.loads(folder["record.json"])["steps"]["csr"]["times"]["nextPoll"]

    facts = verifier.verify(folder, key).facts

    assert facts.get("last word") == (said and f"TSB says {said}, read at {read}")


def test_where_no_key_is_left_nothing_is_attested(unanswered: Kept, key: bytes, root: str) -> None:
    _, folder = unanswered

    facts = verifier.verify(folder, key, attestation_roots=[root]).facts

    assert facts["attestation"] == "unverified: no key is left"
    assert facts["roots"] == "nothing is attested that could be compared"


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


def test_what_was_attested_when_the_key_was_made_proves_nothing_about_its_end(
    case: Case, stack: InProcessStack, key: bytes
) -> None:
    """It was kept, and comes again as the attestation of the key that has signed."""
    arn = case.start(case.request(token(group(ADA))))
    case.await_calls("/v1/request/{id}", 1)
    stack.clock.advance(1200)
    case.approve(ADA)
    folder = case.evidence(case.end(arn))
    created = json.loads(folder["tsb/create-key-1.json"])
    replayed = {
        **folder,
        "tsb/store-csr-1.json": folder["tsb/create-key-1.json"],
        "attestation.xml": created["xml"].encode(),
        "attestation.sig": base64.b64decode(created["xmlSignature"]),
    }

    assert "ATTESTATION_TIME" in str(invalid(resealed(stack, replayed), key))


def test_a_refused_request_has_its_evidence_too(case: Case, key: bytes, root: str) -> None:
    request = case.request()
    request["key"]["policy"]["ruleUse"] = {"tokens": []}
    result = case.end(case.start(request))

    folder = case.evidence(result)

    assert set(folder) == {"manifest.json", "manifest.sig", "record.json"}
    # There is no key of which a root could say something.
    facts = verifier.verify(folder, key, attestation_roots=[root]).facts
    assert facts["outcome"] == "FAILED"


@pytest.mark.parametrize("outcome", ["REJECTED", "EXPIRED"])
def test_what_the_tsb_has_decided_is_no_failure(
    case: Case, key: bytes, stack: InProcessStack, outcome: str
) -> None:
    arn = case.start(case.request(token(group(ADA), timeout=60)))
    if outcome == "REJECTED":
        case.decline(ADA)
    folder = case.evidence(case.end(arn))
    error = {"name": "TsbUnavailableError", "message": "x", "state": "PollRequest", "action": "y"}
    failed = forgeries.changed(
        folder, "record.json", outcome="FAILED", status="FAILED", error=error
    )

    found = invalid(resealed(stack, failed), key)

    assert f"by what is on record it is {outcome}" in str(found)


@pytest.mark.parametrize(
    "values",
    [{"origin": ...}, {"origin": {"trigger": "x"}}, {"error": {"name": "x"}}, {"id": "x/../y"},
     {"id": ["x"]}, {"keyLabel": "x"}, {"metaDataSignature": "x"}, {"outcome": "CANCELLED"}],
    ids=["no requester", "another trigger", "no message", "a path for an id", "a list for an id",
         "a key", "what was shown", "another outcome"],
)  # fmt: skip
def test_the_record_alone_is_of_a_form_that_can_be_shown(
    issued: Kept, key: bytes, shared_stack: InProcessStack, values: Json
) -> None:
    refusal = {"outcome": "FAILED", "status": "FAILED", "error": {"name": "x", "message": "y"}}
    record = json.loads(issued[1]["record.json"])
    early = (
        "id",
        "kind",
        "origin",
        "executionArn",
        "times",
        "attempt",
        "acceptedAt",
        "schemaVersion",
    )
    alone = {"record.json": rfc8785.dumps({name: record[name] for name in early} | refusal)}
    assert verifier.verify(resealed(shared_stack, alone), key)

    found = invalid(resealed(shared_stack, forgeries.changed(alone, "record.json", **values)), key)

    assert found.part == "record.json"


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
    code, text = shell(existing, "--key", tmp_path / "key.pem", "--ca-certificate", root)
    assert (code, "record.json: no certificate was issued" in text) == (Exit.INVALID, True)
    told = shell(
        *(existing, "--key", tmp_path / "key.pem", "--json"),
        *("--attestation-root", f"sha256 Fingerprint={as_openssl_writes}"),
    )
    facts = json.loads(told[1])
    assert list(facts.values()) == list(
        verifier.verify(folder, key, attestation_roots=[root]).facts.values()
    )
    assert {"outcome", "signedBy", "approvedBy", "publicKey"} <= facts.keys()
    assert all(name.isalpha() for name in facts)  # as jq reads them


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


@pytest.fixture
def at_hand(issued: Kept, key: bytes, tmp_path: Path) -> tuple[Path, Path]:
    """The folder of an issued CSR and the stack's key, as files."""
    (tmp_path / "key.pem").write_bytes(key)
    return written(issued[1], tmp_path / "evidence"), tmp_path / "key.pem"


def test_what_an_auditor_asks_first_comes_first_on_eighty_columns(
    at_hand: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("countersign_cli.view.PIPE_WIDTH", 80)

    code, text = shell(at_hand[0], "--key", at_hand[1])

    lines = text.splitlines()
    assert code == Exit.OK
    assert max(map(len, lines)) <= 80
    first = [line.split("  ")[0] for line in lines if not line.startswith(" ")]
    assert first[1:12] == [
        "enrollment", "outcome", "requested by", "reason", "request", "key", "public key",
        "policy", "agreed", "approved by", "times",
    ]  # fmt: skip


def test_the_key_is_taken_in_every_form(at_hand: tuple[Path, Path], tmp_path: Path) -> None:
    folder, pem = at_hand
    public = load_pem_public_key(pem.read_bytes())
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    certificate = forgeries.certificate_of(public)

    for content in (
        der,
        certificate.public_bytes(Encoding.PEM),
        certificate.public_bytes(Encoding.DER),
    ):
        (tmp_path / "key").write_bytes(content)
        assert shell(folder, "--key", tmp_path / "key")[0] == Exit.OK


def test_a_mistake_in_usage_is_no_incident(at_hand: tuple[Path, Path], tmp_path: Path) -> None:
    folder, key = at_hand
    private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (tmp_path / "empty").mkdir()
    mistakes: dict[str, tuple[object, ...]] = {
        "no SHA-256 fingerprint": (folder, "--key", key, "--attestation-root", "abc"),
        "--ca-certificate 'abc' is no": (folder, "--key", key, "--ca-certificate", "abc"),
        "it has no manifest.json": (tmp_path / "empty", "--key", key),
        "evidence in it may be": (tmp_path, "--key", key),
        "is no folder": (key, "--key", key),
    }
    for number, (content, says) in enumerate(
        (
            (b"nonsense", "is no public key"),
            (private, "is a private key"),
            (forgeries.rsa_key(), "of another kind"),
        )
    ):
        (tmp_path / f"key-{number}").write_bytes(content)
        mistakes[says] = (folder, "--key", tmp_path / f"key-{number}")

    for says, arguments in mistakes.items():
        code, text = shell(*arguments)
        assert (code, "incident" in text) == (Exit.USAGE, False), says
        assert says in " ".join(text.split())


def test_a_folder_is_read_safely(at_hand: tuple[Path, Path], tmp_path: Path) -> None:
    folder, key = at_hand
    made: dict[str, Callable[[Path], object]] = {
        "a link": lambda path: path.symlink_to(key),
        "a link to a folder": lambda path: path.symlink_to(tmp_path),
        "a pipe": os.mkfifo,
        "a second name": lambda path: os.link(folder / "record.json", path),
    }
    for what, make in made.items():
        make(folder / "tsb/0")
        code, text = shell(folder, "--key", key)
        (folder / "tsb/0").unlink()
        assert (code, "incident" in text) == (Exit.USAGE, False), what
        assert "tsb/0" in text

    with (folder / "large").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    assert "larger than any evidence" in shell(folder, "--key", key)[1]
    (folder / "large").unlink()
    assert shell(folder, "--key", key)[0] == Exit.OK


def test_what_a_file_manager_left_is_ignored_by_name_and_said_so(
    at_hand: tuple[Path, Path],
) -> None:
    folder, key = at_hand
    (folder / ".DS_Store").write_bytes(b"0")
    (folder / "tsb/desktop.ini").write_bytes(b"0")

    code, text = shell(folder, "--key", key, "--json")

    assert code == Exit.OK
    assert json.loads(text)["ignored"] == ".DS_Store, tsb/desktop.ini"
    (folder / "re\N{COMBINING ACUTE ACCENT}cord.json").write_bytes(b"{}")
    assert shell(folder, "--key", key)[0] == Exit.INVALID


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


def test_an_execution_that_the_record_does_not_know_has_no_evidence(
    case: Case, stack: InProcessStack
) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.approve(ADA)
    stack.at("KeepEvidence", "GetItem")
    case.write(executionArn=f"{arn}-another")
    case.end(arn)
    stack.settle()

    assert not stack.objects("evidence")


def test_how_an_execution_ended_is_not_made_up_once_another_has_taken_over(
    case: Case, stack: InProcessStack, key: bytes
) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.await_request()
    case.stop(arn)
    failed = case.await_event("Enrollment Failed")
    stack.settle()
    result = case.end(resumed(case))

    stack.call("KeepEvidence", delivery(failed, id="emitted late"))

    facts = verifier.verify(case.evidence(result), key).facts
    assert facts["outcome"] == "ISSUED"


# What nobody's workflow sent ----------------------------------------------------------------------


def resumed(case: Case) -> str:
    case.until(lambda: case.record().get("announced"), "announcement")
    arn = case.start_input({"resume": case.id})
    case.approve(ADA)
    return arn


def signatures(stack: InProcessStack) -> int:
    return sum(
        one.calls.count("Sign") for one in stack.invocations if one.function == "KeepEvidence"
    )


def refused(stack: InProcessStack, event: Json, capsys: pytest.CaptureFixture[str]) -> str:
    """What KeepEvidence says of an event that it does not believe; it signs and writes nothing."""
    kept, signed = stack.objects("evidence"), signatures(stack)
    capsys.readouterr()
    with pytest.raises(FunctionFailedError) as caught:
        stack.call("KeepEvidence", delivery(event))
    assert (stack.objects("evidence"), signatures(stack)) == (kept, signed)
    assert '"EvidenceConflicts":[1.0]' in capsys.readouterr().out
    return str(caught.value)


def forged_event(case: Case, arn: str, **more: Any) -> Json:
    detail = {"enrollmentId": case.id, "executionArn": arn, "outcome": "ISSUED", **more}
    return {"detail-type": "Enrollment Issued", "source": "countersign", "detail": detail}


def test_an_event_about_an_enrollment_that_never_was_is_not_signed(
    case: Case, stack: InProcessStack, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(stack, forged_event(case, "arn:aws:states:x:1:execution:m:e"), capsys)

    assert "no such execution has ended this enrollment" in said
    nothing: list[Json] = [{}, {"detail": []}, {"detail": {"enrollmentId": [], "executionArn": {}}}]
    for odd in nothing:
        assert "what is no id" in refused(stack, odd, capsys)


def test_an_event_about_an_open_enrollment_seals_nothing(
    case: Case, stack: InProcessStack, key: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.await_request()

    refused(stack, forged_event(case, arn), capsys)
    case.decline(ADA)
    result = case.end(arn)

    assert verifier.verify(case.evidence(result), key).facts["outcome"] == "REJECTED"


def test_an_event_that_lies_about_the_outcome_says_only_where_to_look(
    case: Case, stack: InProcessStack, key: bytes
) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.decline(ADA)
    case.until(lambda: case.record().get("outcome"), "outcome")
    stack.call("KeepEvidence", delivery(forged_event(case, arn, csr={"pem": "forged"})))
    result = case.end(arn)

    folder = case.evidence(result)
    assert verifier.verify(folder, key).facts["outcome"] == "REJECTED"
    assert not any(b"forged" in body for body in folder.values())


@pytest.mark.parametrize("deployed", ["", "0" * 64], ids=["none", "another"])
def test_an_issue_under_another_root_than_the_stack_s_is_not_signed(
    case: Case, stack: InProcessStack, capsys: pytest.CaptureFixture[str], deployed: str
) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.approve(ADA)
    stack.at("CloseEnrollment", "its return")
    stack.configure(AttestationRoot=deployed)
    result = case.end(arn)

    said = refused(stack, result.ending, capsys)
    stack.settle()

    assert "record.json: names another attestation root" in said
    assert not stack.objects("evidence")


def test_an_issue_in_another_bucket_than_the_stack_s_is_not_signed(
    case: Case, stack: InProcessStack, capsys: pytest.CaptureFixture[str]
) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.approve(ADA)
    stack.at("KeepEvidence", "GetItem")
    case.write(**{"csr.bucket": "another"})
    result = case.end(arn)
    stack.settle()

    assert "names another bucket" in refused(stack, result.ending, capsys)


def test_the_execution_on_record_is_no_earlier_one(
    case: Case, stack: InProcessStack, capsys: pytest.CaptureFixture[str]
) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.decline(ADA)
    stack.at("KeepEvidence", "GetItem")
    case.write(earlier=[arn])
    result = case.end(arn)
    stack.settle()

    assert "no execution of its own" in refused(stack, result.ending, capsys)
    case.write(earlier=5)
    assert "unknown form" in refused(stack, forged_event(case, "arn:another"), capsys)
    case.write(earlier=[])


def test_an_id_with_a_slash_leads_to_nobody_s_folder(
    case: Case, stack: InProcessStack, capsys: pytest.CaptureFixture[str]
) -> None:
    result = approved_by_one(case)
    case.evidence(result)

    for odd in (f"{case.id}/x", f"x/../{case.id}", f"label#{case.label}"):
        refused(stack, forged_event(case, result.arn, enrollmentId=odd), capsys)
    refused(stack, forged_event(case, f"{result.arn}/../x"), capsys)


@pytest.mark.forged
@pytest.mark.parametrize("with_object", [False, True], ids=["record", "record and object"])
def test_a_csr_written_into_the_record_of_a_rejected_enrollment_issues_nothing(
    case: Case, stack: InProcessStack, issued: Kept, *, with_object: bool
) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.decline(ADA)
    stack.at("CloseEnrollment", "GetItem")
    stored = {**issued[0].record["csr"], "key": f"enrollments/{case.id}/request.pem"}
    case.write(csr=stored, verifiedSha256=stored["sha256"], checks=issued[0].record["checks"])
    if with_object:
        stack.client("s3").put_object(
            Bucket=stored["bucket"], Key=stored["key"], Body=stored["pem"].encode()
        )
    result = case.end(arn)
    stack.settle()

    assert result.document["outcome"] == "REJECTED"
    assert result.endings == ["Enrollment Rejected"]
    assert result.ending["detail"]["csr"] is None
    assert not stack.objects("evidence")


@pytest.mark.forged
@pytest.mark.parametrize("kind", ["raw", "by profile"])
def test_a_csr_is_not_announced_where_its_request_was_written_anew(
    case: Case, stack: InProcessStack, kind: str
) -> None:
    request = case.request(token(group(ADA))) if kind == "raw" else case.by_profile()
    arn = case.start(request)
    case.approve(ADA if kind == "raw" else next(iter(stack.people.values())))
    stack.at("CloseEnrollment", "GetItem")
    place = {
        "Bucket": stack.outputs["CsrBucketName"],
        "Key": f"enrollments/{case.id}/request.json",
    }
    kept = stack.client("s3").get_object(**place)["Body"].read() + b" "
    stack.client("s3").put_object(**place, Body=kept)
    case.write(acceptedSha256=hashlib.sha256(kept).hexdigest())
    result = case.end(arn)
    stack.settle()

    assert result.record["outcome"] == "FAILED"
    assert result.record["error"]["name"] == "EnrollmentConflictError"
    assert result.endings == ["Enrollment Failed"]


@pytest.mark.forged
def test_a_csr_whose_object_is_gone_is_not_announced(case: Case, stack: InProcessStack) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.approve(ADA)
    stack.at("CloseEnrollment", "GetItem")
    name = f"enrollments/{case.id}/request.pem"
    stack.client("s3").delete_object(Bucket=stack.outputs["CsrBucketName"], Key=name)
    result = case.end(arn)
    stack.settle()

    assert result.record["outcome"] == "FAILED"
    assert result.record["error"]["name"] == "EnrollmentConflictError"
    assert result.endings == ["Enrollment Failed"]
    assert not stack.objects("evidence")


def test_what_somebody_has_put_there_first_spoils_no_evidence(
    case: Case, stack: InProcessStack, key: bytes, issued: Kept
) -> None:
    _, foreign = issued
    names = {"attestation-chain.pem": b"mine"} | {
        f"tsb/{state}-{number}.json": foreign[f"tsb/{state}-1.json"] + b" " * number
        for state in ("create-key", "poll-request", "store-csr")
        for number in range(1, 100)
    }
    for name, body in names.items():
        stack.client("s3").put_object(
            Bucket=stack.outputs["CsrBucketName"], Key=f"enrollments/{case.id}/{name}", Body=body
        )
    result = approved_by_one(case)
    folder = case.evidence(result)

    assert verifier.verify(folder, key).facts["outcome"] == "ISSUED"
    assert verifier.verify(folder, key).facts["agreed"] == "1 of 1 who were asked"


def test_what_somebody_adds_to_the_bucket_spoils_no_evidence(
    case: Case, stack: InProcessStack, key: bytes, issued: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.approve(ADA)
    stack.at("CloseEnrollment", "GetItem")
    foreign, own = issued[1], case.record()["steps"]["csr"]["requestId"]
    rejected = json.dumps({"id": own, "status": "REJECTED"}).encode()
    added = {
        "tsb/poll-request-7.json": b"[]",
        "tsb/poll-request-8.json": rejected,
        "tsb/store-csr-9.json": foreign["tsb/store-csr-1.json"],
        "tsb/store-csr-8.json": b"{",
        "tsb/poll-request-9.json": foreign["tsb/poll-request-1.json"],
        "tsb/create-key-9.json": foreign["tsb/create-key-1.json"],
        "tsb/../../key.pem": b"outside",
        "tsb/notes.txt": b"",
        "metadata/x.json": b"{}",
        "request-2.json": b"{}",
    }
    for name, body in added.items():
        stack.client("s3").put_object(
            Bucket=stack.outputs["CsrBucketName"], Key=f"enrollments/{case.id}/{name}", Body=body
        )
    result = case.end(arn)
    folder = case.evidence(result)

    assert verifier.verify(folder, key).facts["outcome"] == "ISSUED"
    assert not folder.keys() & {"tsb/../../key.pem", "tsb/notes.txt"}
    left_out = [f"tsb/poll-request-{number}.json" for number in (7, 8, 9)]
    assert not folder.keys() & {*left_out}
    assert [vars(one)["answers"] for one in caplog.records if one.msg == "left out"] == [left_out]


def test_an_answer_that_came_too_late_for_the_record_is_no_part_of_its_evidence(
    case: Case, stack: InProcessStack, key: bytes
) -> None:
    fault = case.strike("PollRequest", kind="aws", operation="UpdateItem", when="before")
    arn = case.start(case.request(token(group(ADA))))
    case.approve(ADA)
    stack.until(lambda: fault.struck, "a poll that cannot be put on record")
    case.stop(arn)
    case.await_event("Enrollment Failed")
    stack.settle()
    folder = stack.evidence(case.id, arn)

    kept = stack.objects("csr")[f"enrollments/{case.id}/tsb/poll-request-1.json"]
    assert json.loads(kept)["status"] == "EXECUTED"
    facts = verifier.verify(folder, key).facts
    assert (facts["outcome"], facts["agreed"]) == ("FAILED", "0 of 1 who were asked")
    assert not any(name.startswith("tsb/poll-request") for name in folder)
