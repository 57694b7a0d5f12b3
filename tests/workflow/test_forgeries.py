"""What came back is not what was approved: every forgery is refused under its own code."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from countersign.attestation import Trust
from countersign.errors import CsrInvalidError, KeyConflictError
from local.approver import Approver
from local.tsb_simulator.attestation import make_attestation
from tests.integration.house import Ended, House

ADA, BERT, CARL = (Approver.generate(name, "ec") for name in ("Ada", "Bert", "Carl"))
REQUEST = ("GET", "/v1/request/{id}")
ATTRIBUTES = ("POST", "/v1/key/attributes")


@dataclass(frozen=True)
class Forgery:
    """Who answers with what instead of the truth, and the code under which it is refused."""

    code: str
    call: tuple[str, str] | None = None
    what: str = ""
    kind: str = "forge"


def csr(code: str, what: str) -> Forgery:
    return Forgery(code, REQUEST, what)


def key(code: str, what: str) -> Forgery:
    return Forgery(code, ATTRIBUTES, what)


TABLE = {
    "no CSR at all": csr("CSR_FORMAT", "not_pem"),
    "another key": csr("CSR_PUBLIC_KEY", "other_key"),
    "broken signature": csr("CSR_SIGNATURE", "broken_signature"),
    "weaker algorithm": csr("CSR_SIGNATURE_ALGORITHM", "weaker_algorithm"),
    "added subject attribute": csr("CSR_SUBJECT_ADDED", "added_subject"),
    "dropped subject attribute": csr("CSR_SUBJECT_DROPPED", "dropped_subject"),
    "changed subject attribute": csr("CSR_SUBJECT_VALUE", "other_subject"),
    "reordered subject attributes": csr("CSR_SUBJECT_ORDER", "reordered_subject"),
    "changed usage": csr("CSR_KEY_USAGE", "changed_usage"),
    "dropped extended usage": csr("CSR_EXTENDED_KEY_USAGE", "missing_extension"),
    "dropped criticality": csr("CSR_CRITICALITY", "dropped_criticality"),
    "added SAN": csr("CSR_ALTERNATIVE_NAMES", "added_san"),
    "added basicConstraints": csr("CSR_BASIC_CONSTRAINTS", "extra_extension"),
    "other id": Forgery("REQUEST_ID", REQUEST, kind="request_id"),
    "approval by a stranger": csr("APPROVAL_STRANGER", "stranger"),
    "approval by too few": csr("APPROVAL_QUORUM", "too_few"),
    "key replaced after creation": key("KEY_PUBLIC_KEY", "other_public_key"),
    "policy weakened after creation": key("KEY_POLICY", "weaker_policy"),
    "key made extractable": key("KEY_EXTRACTABLE", "extractable"),
    "key blocked": key("KEY_BLOCKED", "blocked"),
    "attestation by another HSM": key("ATTESTATION_SIGNATURE", "other_root"),
    "attestation of another key": key("ATTESTATION_KEY", "other_key_attested"),
    "attributes that are not attested": key("ATTESTATION_ATTRIBUTES", "attributes_not_attested"),
    "attestation from before": key("ATTESTATION_TIME", "old_attestation"),
}


def forged(house: House, forgery: Forgery) -> Ended:
    request = house.request(ADA, BERT, CARL, quorum=2)
    if forgery.call:
        house.fault(request, *forgery.call, kind=forgery.kind, what=forgery.what or "other_key")
    return house.enroll(request, ADA, BERT)


def assert_refused(ended: Ended, code: str) -> None:
    """Refused under this code everywhere; put aside, announced, and nowhere near the issued."""
    assert isinstance(ended.error, CsrInvalidError)
    assert ended.error.reason == code
    assert ended.document.outcome == "FAILED"
    assert ended.document.error is not None
    assert ended.document.error.reason == code
    assert ended.record["quarantine"]["code"] == code
    assert ended.failed[0] == code
    assert f"enrollments/{ended.id}/request.pem" not in ended.objects
    assert ended.event_types == [
        "Enrollment Accepted", "Enrollment Quarantined", "Enrollment Failed"
    ]  # fmt: skip
    assert ended.events[1]["detail"]["code"] == code
    assert ended.events[1]["detail"]["findings"][0]["code"] == code


def test_without_a_forgery_every_check_passes_and_the_csr_is_issued(house: House) -> None:
    ended = house.enroll(house.request(ADA, BERT, CARL, quorum=2), ADA, BERT)

    assert ended.document.outcome == "ISSUED"
    assert {one["result"] for one in ended.record["checks"]} == {"passed"}
    assert ended.record["attestation"] == "verified"
    assert ended.event_types == ["Enrollment Accepted", "Enrollment Issued"]
    assert not [name for name in ended.objects if name.startswith("quarantine/")]


@pytest.mark.parametrize("what", TABLE)
def test_a_forgery_is_refused_under_its_own_code(house: House, what: str) -> None:
    ended = forged(house, TABLE[what])

    assert_refused(ended, TABLE[what].code)
    aside = {name for name in ended.objects if name.startswith("quarantine/")}
    expected = set() if TABLE[what].code == "REQUEST_ID" else {"request.pem", "findings.json"}
    assert aside == {f"quarantine/{ended.id}/{name}" for name in expected}


def test_an_approver_whom_tsb_does_not_show_by_a_key_is_a_stranger(house: House) -> None:
    ended = forged(house, csr("APPROVAL_STRANGER", "unreadable_stranger"))

    assert_refused(ended, "APPROVAL_STRANGER")


def test_no_two_forgeries_share_a_code() -> None:
    codes = [forgery.code for forgery in TABLE.values()]

    assert len(set(codes)) == len(codes)


@pytest.fixture
def another_hsm(house: House) -> Iterator[Callable[[], None]]:
    """Puts another HSM, under another root, in the place of the one whose root is pinned."""
    genuine = house.simulator.broker.attestation

    def replace() -> None:
        house.simulator.broker.attestation = make_attestation()

    yield replace
    house.simulator.broker.attestation = genuine


def test_an_attestation_up_to_another_root_is_refused(
    house: House, another_hsm: Callable[[], None]
) -> None:
    # Whoever could replace the HSM could write the secret with the chain, and not the pin.
    pin = house.trust.root_sha256

    ended = house.enroll(
        house.request(ADA),
        ADA,
        trust=lambda: Trust(root_sha256=pin, chain=house.trust.chain),
        after_creation=another_hsm,
    )

    assert_refused(ended, "ATTESTATION_ROOT")
    assert ended.record["attestation"] == "failed"


def test_a_key_that_is_not_attested_bothers_no_approver(
    house: House, another_hsm: Callable[[], None]
) -> None:
    pinned = house.trust
    another_hsm()
    request = house.request(ADA)

    ended = house.enroll(request, trust=lambda: pinned)

    assert isinstance(ended.error, KeyConflictError)
    assert ended.error.reason == "ATTESTATION_SIGNATURE"
    calls = house.simulator.calls(request["key"]["label"])
    assert [call["path"] for call in calls] == ["/v1/key"]


def same_person(house: House) -> Callable[[str], None]:
    """The directory knows both keys, and both are Ada's."""

    def rename(enrollment_id: str) -> None:
        approvers = (house.records.get(enrollment_id) or {})["approvers"]
        names = {"Bert": "ada "}
        house.records.update(
            enrollment_id,
            {
                "approvers": [
                    {**one, "name": names.get(one["name"], one["name"])} for one in approvers
                ]
            },
        )

    return rename


def test_an_approval_by_one_person_under_two_keys_is_refused(house: House) -> None:
    request = house.request(ADA, BERT, CARL, quorum=2)

    ended = house.enroll(request, ADA, BERT, before_store=same_person(house))

    assert_refused(ended, "APPROVAL_SAME_PERSON")


def test_a_request_that_is_not_the_approved_one_is_refused(house: House) -> None:
    def another(enrollment_id: str) -> None:
        house.records.update(enrollment_id, {"acceptedSha256": "0" * 64})

    assert_refused(house.enroll(house.request(ADA), ADA, before_store=another), "REQUEST_ACCEPTED")


def test_without_a_pinned_root_the_record_says_that_nothing_was_verified(house: House) -> None:
    ended = house.enroll(house.request(ADA), ADA, trust=Trust)

    assert ended.document.outcome == "ISSUED"
    assert ended.record["attestation"] == "unverified"
    skipped = [one["code"] for one in ended.record["checks"] if one["result"] == "skipped"]
    assert all(code.startswith("ATTESTATION_") for code in skipped)
    assert skipped
