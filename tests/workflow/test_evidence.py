"""One folder per ended enrollment: what it proves, and that nothing in it can be changed unseen."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from cli.exits import Exit
from cli.main import app
from countersign import evidence
from countersign.aws.objects import Objects
from countersign.evidence import EvidenceInvalidError
from local.approver import Approver
from tests.integration.house import NAME, Ended, House

ADA, BERT, CARL = (Approver.generate(name, "ec") for name in ("Ada", "Bert", "Carl"))
OFFSETS_PER_FILE = 40

type Folder = dict[str, bytes]


@pytest.fixture(scope="module")
def issued(house: House) -> tuple[Ended, Folder]:
    ended = house.enroll(house.request(ADA, BERT, CARL, quorum=2), ADA, BERT)
    return ended, house.keep_evidence(ended.events[-1])


@pytest.fixture(scope="module")
def forged(house: House) -> tuple[Ended, Folder]:
    request = house.request(ADA)
    house.fault(request, "GET", "/v1/request/{id}", kind="forge", what="added_san")
    ended = house.enroll(request, ADA)
    return ended, house.keep_evidence(ended.events[-1])


def invalid(folder: Folder, key: bytes, **more: Any) -> EvidenceInvalidError:
    with pytest.raises(EvidenceInvalidError) as caught:
        evidence.verify(folder, key, **more)
    return caught.value


def test_an_issued_csr_is_proven_from_its_folder_alone(
    house: House, issued: tuple[Ended, Folder]
) -> None:
    ended, folder = issued

    facts = evidence.verify(folder, house.public_key).facts

    assert facts["enrollment"] == ended.id
    assert facts["outcome"] == "ISSUED"
    assert facts["checks"].endswith("all passed, made again")
    assert facts["attestation"] == f"verified, root sha256:{house.trust.root_sha256}"
    assert facts["approved by"].startswith("Ada (key sha256:")
    assert "Bert" in facts["approved by"]
    assert "Carl" not in facts["approved by"]
    asked = hashlib.sha256(folder["request.json"]).hexdigest()
    assert facts["request"] == f"sha256:{asked}, shown to the approvers"


def test_a_folder_holds_everything_that_was_asked_answered_and_decided(
    issued: tuple[Ended, Folder],
) -> None:
    ended, folder = issued

    assert set(folder) == {
        "manifest.json", "manifest.sig", "event.json", "record.json", "request.json",
        "approvals.json", "checks.json", "metadata.json", "metadata.sig", "attestation.xml",
        "attestation.sig", "attestation-chain.pem", "request.pem", "tsb/create-key-1.json",
        "tsb/poll-request-1.json", "tsb/store-csr-1.json",
    }  # fmt: skip
    assert folder["request.pem"] == ended.objects[f"enrollments/{ended.id}/request.pem"]
    record = json.loads(folder["record.json"])
    assert record["origin"]["door"] == "start"
    assert record["codeVersion"] == "layer:7"
    assert record["times"]["requested"] <= record["times"]["ended"]
    approvals = {one["name"]: one for one in json.loads(folder["approvals.json"])}
    assert approvals["Ada"]["publicKey"] == ADA.spki
    assert approvals["Carl"]["decision"] == "none"


def offsets(body: bytes) -> list[int]:
    """Every byte of a short file; of a long one a spread that has its first and last."""
    step = max(1, len(body) // OFFSETS_PER_FILE)
    return sorted({*range(0, len(body), step), len(body) - 1})


@pytest.mark.parametrize("outcome", ["issued", "forged"])
def test_whichever_byte_is_changed_the_verifier_names_its_file(
    house: House, outcome: str, request: pytest.FixtureRequest
) -> None:
    _, folder = request.getfixturevalue(outcome)

    for name, body in folder.items():
        for offset in offsets(body):
            for change in (0x01, 0x20, 0x80):
                changed = bytearray(body)
                changed[offset] ^= change
                found = invalid({**folder, name: bytes(changed)}, house.public_key)
                assert found.part == name, (name, offset, change)


def test_every_bit_of_the_signature_counts(house: House, issued: tuple[Ended, Folder]) -> None:
    _, folder = issued

    for bit in range(8 * len(folder["manifest.sig"])):
        changed = bytearray(folder["manifest.sig"])
        changed[bit // 8] ^= 1 << bit % 8
        assert invalid({**folder, "manifest.sig": bytes(changed)}, house.public_key)


def test_a_file_that_is_missing_added_cut_or_lengthened_is_named(
    house: House, issued: tuple[Ended, Folder]
) -> None:
    _, folder = issued

    for name in folder:
        without = {other: body for other, body in folder.items() if other != name}
        assert invalid(without, house.public_key).part == name
        assert invalid({**folder, name: folder[name][:-1]}, house.public_key).part == name
        assert invalid({**folder, name: folder[name] + b"0"}, house.public_key).part == name
    assert invalid({**folder, "note.txt": b""}, house.public_key).part == "note.txt"


def test_another_key_s_signature_is_worth_nothing(issued: tuple[Ended, Folder]) -> None:
    _, folder = issued
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    key = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    assert invalid(folder, key).part == "manifest.sig"
    assert invalid(folder, b"nonsense").part == "key"


def resealed(house: House, folder: Folder, **changed: bytes) -> Folder:
    """As somebody could who has the signing key, and changes what it signs."""
    parts = {name: body for name, body in folder.items() if not name.startswith("manifest.")}
    parts |= {name.replace("_", "."): body for name, body in changed.items()}
    made = evidence.manifest(parts)
    signature = house.signing_key.sign(made, ec.ECDSA(hashes.SHA256()))
    return {**parts, "manifest.json": made, "manifest.sig": signature}


def edited(folder: Folder, name: str, edit: Any) -> bytes:
    content = json.loads(folder[name])
    edit(content)
    return json.dumps(content).encode()


def test_what_was_decided_wrongly_is_found_even_under_the_right_signature(
    house: House, issued: tuple[Ended, Folder]
) -> None:
    _, folder = issued

    def nobody_approved(approvals: Any) -> None:
        for one in approvals:
            one["decision"] = "none"

    def another_reason(request: Any) -> None:
        request["reason"] = "OPS-43"

    approvals = edited(folder, "approvals.json", nobody_approved)
    request = edited(folder, "request.json", another_reason)

    assert evidence.verify(resealed(house, folder), house.public_key)
    assert "APPROVAL_QUORUM" in str(
        invalid(resealed(house, folder, approvals_json=approvals), house.public_key)
    )
    found = invalid(resealed(house, folder, request_json=request), house.public_key)
    assert found.part == "metadata.json"


def test_a_signed_folder_of_another_form_is_not_taken_for_proof(
    house: House, issued: tuple[Ended, Folder]
) -> None:
    _, folder = issued

    for name in ("record.json", "approvals.json", "checks.json", "tsb/store-csr-1.json"):
        odd = resealed(house, {**folder, name: b'{"origin": {"door": "start"}}'})
        assert invalid(odd, house.public_key)


def test_the_root_that_an_auditor_pins_must_be_the_one_that_was_believed(
    house: House, issued: tuple[Ended, Folder]
) -> None:
    _, folder = issued

    assert evidence.verify(folder, house.public_key, attestation_root=house.trust.root_sha256)
    found = invalid(folder, house.public_key, attestation_root="0" * 64)
    assert found.part == "attestation-chain.pem"


def test_a_quarantined_csr_has_its_evidence_and_its_finding_is_found_again(
    house: House, forged: tuple[Ended, Folder]
) -> None:
    _, folder = forged

    facts = evidence.verify(folder, house.public_key).facts

    assert facts["outcome"] == "FAILED"
    assert facts["quarantined"] == "CSR_ALTERNATIVE_NAMES"
    assert "CSR_ALTERNATIVE_NAMES" in facts["checks"]
    assert "request.pem" not in folder
    assert {"quarantine/request.pem", "quarantine/findings.json"} <= set(folder)


def test_a_refused_request_has_its_evidence_too(house: House) -> None:
    request = house.request(ADA)
    request["key"]["policy"]["ruleUse"] = {"tokens": []}
    ended = house.enroll(request)

    folder = house.keep_evidence(ended.events[-1])

    assert set(folder) == {
        "manifest.json", "manifest.sig", "event.json", "record.json", "approvals.json"
    }  # fmt: skip
    assert evidence.verify(folder, house.public_key).facts["outcome"] == "FAILED"


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
    house: House, issued: tuple[Ended, Folder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    ended, folder = issued
    (tmp_path / "key.pem").write_bytes(house.public_key)
    there = written(folder, tmp_path / "evidence")
    root = house.trust.root_sha256
    as_openssl_writes = ":".join(root[at : at + 2] for at in range(0, 64, 2)).upper()

    code, text = shell(there, "--key", tmp_path / "key.pem", "--attestation-root", root)
    assert code == Exit.OK
    assert "the evidence holds" in text
    assert ended.id in text
    told = shell(
        *(there, "--key", tmp_path / "key.pem", "--json"),
        *("--attestation-root", f"sha256 Fingerprint={as_openssl_writes}"),
    )
    assert json.loads(told[1]) == evidence.verify(folder, house.public_key).facts


def test_the_command_names_the_first_thing_that_does_not_hold(
    house: House, issued: tuple[Ended, Folder], tmp_path: Path
) -> None:
    _, folder = issued
    (tmp_path / "key.pem").write_bytes(house.public_key)
    there = written({**folder, "tsb/poll-request-1.json": b"{}"}, tmp_path / "evidence")

    code, text = shell(there, "--key", tmp_path / "key.pem")

    assert code == Exit.INVALID
    assert "tsb/poll-request-1.json: was changed" in text
    assert shell(tmp_path / "nowhere", "--key", tmp_path / "key.pem")[0] == Exit.USAGE
    assert shell(there, "--key", tmp_path / "nowhere")[0] == Exit.USAGE


def test_the_same_event_again_changes_nothing(house: House, issued: tuple[Ended, Folder]) -> None:
    ended, folder = issued

    assert house.keep_evidence(ended.events[-1]) == folder
    assert house.keep_evidence({**ended.events[-1], "id": "emitted twice"}) == folder


class LookedBefore(Objects):
    """A bucket as somebody knows it who looked before the others wrote."""

    def below(self, prefix: str) -> dict[str, bytes]:
        return {} if prefix else super().below(prefix)


def test_an_event_that_is_told_twice_at_once_has_one_evidence(
    house: House, issued: tuple[Ended, Folder]
) -> None:
    ended, folder = issued

    evidence.keep_evidence(
        {**ended.events[-1], "id": "emitted twice"},
        records=house.records,
        objects=house.objects,
        evidence=LookedBefore(f"{NAME}-evidence"),
        sign=house.sign,
    )

    assert house.keep_evidence(ended.events[-1]) == folder
    assert evidence.verify(folder, house.public_key)


def test_evidence_that_was_begun_is_finished(house: House) -> None:
    # Another event's parts came first and no signature: a function died in between.
    ended = house.enroll(house.request(ADA), ADA)
    arn = ended.record["executionArn"]
    prefix = f"{ended.id}/{arn.rpartition(':')[2]}/"
    first = json.dumps({**ended.events[-1], "id": "first"}).encode()
    house.evidence.keep_first(f"{prefix}event.json", first)

    folder = house.keep_evidence(ended.events[-1])

    assert folder["event.json"] == first
    assert evidence.verify(folder, house.public_key)


def test_an_id_that_was_claimed_again_has_evidence_of_what_is_left(house: House) -> None:
    ended = house.enroll(house.request(ADA), ADA)
    house.records.update(ended.id, {"executionArn": "arn:another"})

    folder = house.keep_evidence(ended.events[-1])

    assert "record.json" not in folder
    facts = evidence.verify(folder, house.public_key).facts
    assert facts["record"].startswith("none")
