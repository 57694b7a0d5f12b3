"""What came back is not what was approved: every forgery is refused under its own code."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from countersign.evidence import verifier
from local.approver import Approver
from local.engine.stack import InProcessStack
from local.tsb_simulator.attestation import make_attestation
from tests.case import Case, Json, Result, assert_failed, assert_issued, group, token

ADA, BERT, CARL = (Approver.generate(name, "ec") for name in ("Ada", "Bert", "Carl"))
REQUEST = ("GET", "/v1/request/{id}")
ATTRIBUTES = ("POST", "/v1/key/attributes")


@dataclass(frozen=True)
class Forgery:
    """Which call is answered with what instead of the truth, and the code it is refused under."""

    code: str
    call: tuple[str, str]
    what: str = "other_key"
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
    "approval by a stranger": csr("APPROVER_NOT_IN_POLICY", "stranger"),
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


def two_of_three(case: Case) -> Json:
    """A request with a subject that can be forged."""
    request = case.request(token(group(ADA, BERT, CARL, quorum=2)))
    request["csr"]["standardCertificateAttributes"] = {
        "commonName": "example",
        "country": "CH",
        "organizationName": "Example",
    }
    return request


def forged(case: Case, forgery: Forgery) -> Result:
    """An enrollment in which TSB's answers are not what the HSM made."""
    case.fault(*forgery.call, forgery.kind, what=forgery.what, times=None)
    arn = case.start(two_of_three(case))
    case.approve(ADA, BERT)
    return case.end(arn)


def assert_refused(result: Result, code: str) -> None:
    """Refused under this code everywhere; announced, and nowhere near the issued."""
    assert_failed(result, "CsrInvalidError", "PollRequest" if code == "REQUEST_ID" else "StoreCsr")
    assert result.document["error"]["reason"] == code
    assert result.document["error"]["field"]
    assert result.record["quarantine"]["code"] == code
    failed = [one["code"] for one in result.record["checks"] if one["result"] == "failed"]
    assert failed[0] == code
    assert result.event_types == [
        "Enrollment Accepted", "Enrollment Quarantined", "Enrollment Failed"
    ]  # fmt: skip
    assert result.events[1]["detail"]["code"] == code
    assert result.events[1]["detail"]["findings"][0]["code"] == code


def test_without_a_forgery_every_check_passes_and_the_csr_is_issued(case: Case) -> None:
    arn = case.start(two_of_three(case))
    case.approve(ADA, BERT)
    result = case.end(arn)

    assert_issued(result)
    assert {one["result"] for one in result.record["checks"]} == {"passed"}
    assert result.record["attestation"] == "verified"
    assert result.event_types == ["Enrollment Accepted", "Enrollment Issued"]
    assert not result.quarantine


@pytest.mark.parametrize("what", TABLE)
def test_a_forgery_is_refused_under_its_own_code(case: Case, what: str) -> None:
    result = forged(case, TABLE[what])

    assert_refused(result, TABLE[what].code)
    # An answer about another request may be about anybody's: it is not put aside as this one's.
    aside = set() if TABLE[what].code == "REQUEST_ID" else {"request.pem", "findings.json"}
    assert set(result.quarantine) == aside


def test_an_approver_whom_tsb_does_not_show_by_a_key_is_a_stranger(case: Case) -> None:
    result = forged(case, csr("APPROVER_NOT_IN_POLICY", "unreadable_stranger"))

    assert_refused(result, "APPROVER_NOT_IN_POLICY")


@pytest.mark.parametrize("what", ["stranger", "unreadable_stranger"])
def test_who_verifies_the_evidence_sees_the_stranger_apart_from_who_were_asked(
    case: Case, shared_stack: InProcessStack, what: str
) -> None:
    result = forged(case, csr("APPROVER_NOT_IN_POLICY", what))

    facts = verifier.verify(case.evidence(result), shared_stack.signing_key()).facts

    assert (facts["outcome"], facts["agreed"]) == ("FAILED", "2 of 3 who were asked")
    assert facts["keys not in the policy"].endswith(": approved")
    assert facts["approved by"].count("key sha256:") == 2


def test_no_two_forgeries_share_a_code() -> None:
    codes = [forgery.code for forgery in TABLE.values()]

    assert len(set(codes)) == len(codes)


# Another HSM under another root -------------------------------------------------------------------


@pytest.fixture
def replace_hsm(stack: InProcessStack) -> Iterator[Callable[[], str]]:
    """Puts another HSM in the place of the one whose root is pinned; returns its chain."""
    genuine = stack.simulator.broker.attestation

    def replace() -> str:
        stack.simulator.broker.attestation = make_attestation()
        return "".join(stack.simulator.broker.attestation.chain)

    yield replace
    stack.simulator.broker.attestation = genuine


def test_an_attestation_up_to_another_root_is_refused(
    case: Case, stack: InProcessStack, replace_hsm: Callable[[], str]
) -> None:
    # Whoever could replace the HSM could write the secret with the chain, and not the pin.
    secret = stack.client("secretsmanager").get_secret_value(SecretId="ClientTlsSecret")
    arn = case.start(case.request(token(group(ADA))))
    case.await_request()
    content = {**json.loads(secret["SecretString"]), "attestationChain": replace_hsm()}
    stack.put_secret("ClientTlsSecret", content)
    stack.configure()  # new workers: those that are warm keep a secret for a while
    case.approve(ADA)
    result = case.end(arn)

    assert_refused(result, "ATTESTATION_ROOT")
    assert result.record["attestation"] == "failed"


def test_a_key_that_is_not_attested_bothers_no_approver(
    case: Case, replace_hsm: Callable[[], str]
) -> None:
    replace_hsm()
    result = case.end(case.start(case.request(token(group(ADA)))))

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert result.document["error"]["reason"] == "ATTESTATION_SIGNATURE"
    assert [call["path"] for call in result.calls] == ["/v1/key"]


def test_a_key_whose_attestation_was_not_made_for_it_bothers_no_approver(case: Case) -> None:
    case.fault("POST", "/v1/key", "forge", what="old_attestation", times=None)
    result = case.end(case.start(case.request(token(group(ADA)))))

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert result.document["error"]["reason"] == "ATTESTATION_TIME"
    assert [call["path"] for call in result.calls] == ["/v1/key"]


def test_without_a_pinned_root_the_record_says_that_nothing_was_verified(
    case: Case, stack: InProcessStack
) -> None:
    stack.configure(AttestationRoot="")
    arn = case.start(case.request(token(group(ADA))))
    case.approve(ADA)
    result = case.end(arn)

    assert_issued(result)
    assert result.record["attestation"] == "unverified"
    skipped = [one["code"] for one in result.record["checks"] if one["result"] == "skipped"]
    assert all(code.startswith("ATTESTATION_") for code in skipped)
    assert skipped


def test_without_a_pinned_root_the_attestation_may_not_contradict_the_answer(
    case: Case, stack: InProcessStack
) -> None:
    stack.configure(AttestationRoot="")
    result = forged(case, key("ATTESTATION_KEY", "other_key_attested"))

    assert_refused(result, "ATTESTATION_KEY")
    assert result.record["attestation"] == "failed"


def test_without_a_pinned_root_a_key_that_is_attested_otherwise_bothers_no_approver(
    case: Case, stack: InProcessStack
) -> None:
    stack.configure(AttestationRoot="")
    case.fault("POST", "/v1/key", "forge", what="attributes_not_attested", times=None)
    result = case.end(case.start(case.request(token(group(ADA)))))

    assert_failed(result, "KeyConflictError", "CreateKey")
    assert result.document["error"]["reason"] == "ATTESTATION_ATTRIBUTES"
    assert "says something else than was asked" in result.document["error"]["action"]


def test_a_chain_that_is_configured_no_more_proves_nothing(
    case: Case, stack: InProcessStack
) -> None:
    secret = stack.client("secretsmanager").get_secret_value(SecretId="ClientTlsSecret")
    arn = case.start(case.request(token(group(ADA))))
    case.await_request()
    assert case.record()["attestationChainSha256"]
    content = {**json.loads(secret["SecretString"]), "attestationChain": ""}
    stack.put_secret("ClientTlsSecret", content)
    stack.configure()
    case.approve(ADA)
    result = case.end(arn)

    assert_refused(result, "ATTESTATION_ROOT")
    assert "attestationChainSha256" not in result.record
    assert "attestation-chain.pem" not in case.evidence(result)


# A record that says something else than what was approved -----------------------------------------


@pytest.mark.forged
def test_an_approval_by_one_person_under_two_keys_is_refused(
    case: Case, stack: InProcessStack
) -> None:
    arn = case.start(two_of_three(case))
    case.approve(ADA, BERT)
    stack.at("StoreCsr", "GetItem")
    ada, bert, carl = case.step()["approvers"]
    case.write(**{"steps.csr.approvers": [ada, {**bert, "name": "ada "}, carl]})
    result = case.end(arn)

    assert_refused(result, "APPROVAL_SAME_PERSON")


@pytest.mark.forged
def test_a_request_that_is_not_the_approved_one_is_refused(
    case: Case, stack: InProcessStack
) -> None:
    arn = case.start(case.request(token(group(ADA))))
    case.approve(ADA)
    stack.at("StoreCsr", "GetItem")
    case.write(acceptedSha256="0" * 64)
    result = case.end(arn)

    assert_refused(result, "REQUEST_ACCEPTED")
