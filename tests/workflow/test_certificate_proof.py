"""What comes back of the CA is compared with what was approved, and evident afterwards."""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from countersign.evidence.bundle import EvidenceInvalidError
from countersign.evidence.verifier import verify
from countersign.verification import certificate
from local.ca import policy
from local.engine.stack import InProcessStack
from tests.ca import Ca
from tests.case import Case, group, people, token
from tests.forgeries import (
    ASKED,
    OTHER,
    RECORD,
    both,
    changed,
    edit,
    ended,
    later,
    not_canonical,
    put,
    without,
)
from tests.proofs import sealed
from tests.workflow.api import Caller
from tests.workflow.certifying import (
    ATTRIBUTES,
    REQUEST,
    asked,
    assert_csr_stays,
    assert_failed_later,
    assert_quarantined,
    issued,
)

# Forgeries ----------------------------------------------------------------------------------------

FORGERIES = {
    "certificate_other_key": {"CERTIFICATE_PUBLIC_KEY"},
    "certificate_other_signer": {"CERTIFICATE_SIGNATURE"},
    "certificate_broken_signature": {"CERTIFICATE_SIGNATURE"},
    "certificate_other_algorithm": {"CERTIFICATE_SIGNATURE_ALGORITHM"},
    "certificate_other_issuer": {"CERTIFICATE_ISSUER"},
    "certificate_other_authority": {"CERTIFICATE_AUTHORITY_KEY"},
    "certificate_other_subject": {"CERTIFICATE_SUBJECT"},
    "certificate_ca": {"CERTIFICATE_BASIC_CONSTRAINTS"},
    "certificate_changed_usage": {"CERTIFICATE_KEY_USAGE"},
    "certificate_missing_usage": {"CERTIFICATE_EXTENDED_KEY_USAGE"},
    "certificate_dropped_criticality": {"CERTIFICATE_CRITICALITY"},
    "certificate_added_san": {"CERTIFICATE_EXTENSION"},
    "certificate_other_identifier": {"CERTIFICATE_KEY_IDENTIFIER"},
    "certificate_later": {"CERTIFICATE_BEGIN"},
    "certificate_longer": {"CERTIFICATE_VALIDITY"},
    "certificate_negative_serial": {"CERTIFICATE_SERIAL"},
    "certificate_other_encoding": {"CERTIFICATE_ENCODING"},
    "certificate_chain": {"CERTIFICATE_FORMAT"},
    "stranger": {"CERTIFICATE_APPROVER_NOT_IN_POLICY"},
    "too_few": {"CERTIFICATE_APPROVAL_QUORUM"},
}


@pytest.mark.parametrize(("what", "codes"), FORGERIES.items(), ids=FORGERIES)
def test_a_forgery_is_refused_by_the_check_that_only_it_fails(
    case: Case, what: str, codes: set[str]
) -> None:
    now = asked(case)
    now.ca.fault(*REQUEST, "forge", what=what, times=None)
    now.approve()
    result = now.end()

    failed = {
        one["code"] for one in result.record["certificateChecks"] if one["result"] == "failed"
    }
    assert failed == codes
    assert_quarantined(result, *codes)


CA_FORGERIES = {
    "other_public_key": "CERTIFICATE_CA_KEY",
    "other_root": "CERTIFICATE_CA_ATTESTATION",
    "other_key_attested": "CERTIFICATE_CA_ATTESTATION",
}


@pytest.mark.parametrize(("what", "code"), CA_FORGERIES.items(), ids=CA_FORGERIES)
def test_another_ca_key_than_was_asked_for_is_refused(
    case: Case, stack: InProcessStack, what: str, code: str
) -> None:
    now = asked(case)
    now.ca.fault(*ATTRIBUTES, "forge", what=what, times=None)
    now.approve()
    result = now.end()

    assert_quarantined(result, code)
    # What the HSM attests about another key says nothing about this one.
    assert "CA attested" not in verify(case.evidence(result), stack.signing_key()).facts


def test_what_was_attested_of_the_ca_before_its_approvers_agreed_proves_nothing_later(
    case: Case, stack: InProcessStack
) -> None:
    """The answer about the CA's key that RequestCertificate kept comes again at the end."""
    now = asked(case)
    stack.clock.advance(1200)
    now.approve()
    folder = case.evidence(now.end())
    before = folder["tsb/request-certificate-1.json"]
    attested = json.loads(before)
    replayed = {
        **folder,
        "tsb/store-certificate-1.json": before,
        "ca-attestation.xml": attested["xml"].encode(),
        "ca-attestation.sig": base64.b64decode(attested["xmlSignature"]),
    }
    parts = {name: body for name, body in replayed.items() if not name.startswith("manifest.")}

    with pytest.raises(EvidenceInvalidError, match="CERTIFICATE_CA_ATTESTATION"):
        verify(sealed(stack, parts), stack.signing_key())


@pytest.mark.parametrize("end", ["REJECTED", "CANCELLED", "EXPIRED"])
def test_a_ca_s_key_that_the_hsm_does_not_attest_is_told_at_no_end(
    case: Case, stack: InProcessStack, end: str
) -> None:
    """No certificate was checked; that its approvers were these is the HSM's word all the same."""
    now = asked(case)
    if end == "REJECTED":
        case.decline(now.approver, label=now.ca.label)
    elif end == "CANCELLED":
        Caller(stack).call("DELETE", f"/enrollments/{case.id}")
    result = now.end()
    folder, root = case.evidence(result), result.record["caAttestation"]["root"]
    attested = json.loads(folder["tsb/request-certificate-1.json"])
    forged = base64.b64encode(b"\1" * 384).decode()
    unsigned = {
        **folder,
        "tsb/request-certificate-1.json": json.dumps(attested | {"xmlSignature": forged}).encode(),
        "ca-attestation.sig": base64.b64decode(forged),
    }
    parts = {name: body for name, body in unsigned.items() if not name.startswith("manifest.")}

    facts = verify(folder, stack.signing_key(), attestation_roots=[root]).facts
    assert facts["outcome"] == result.document["outcome"] == end
    assert facts["CA attestation"] == f"root sha256:{root}"
    with pytest.raises(EvidenceInvalidError, match="CERTIFICATE_CA_ATTESTATION"):
        verify(sealed(stack, parts), stack.signing_key())


def test_a_ca_s_key_of_which_no_part_speaks_is_told_at_no_end(
    case: Case, stack: InProcessStack
) -> None:
    """What RequestCertificate notes of it, it notes whole, and never where it asks nobody."""
    person, other = people(2)
    ca = Ca.make(case, other, validity=91)
    arn = case.start(ca.request(case.request(token(group(person), timeout=0))))
    case.await_event("Enrollment Awaiting Approval")
    stack.clock.advance(2 * 86_400)  # then its certificate ends too early
    case.approve(person)
    folder = case.evidence(case.end(arn))
    step = {"publicKeySha256": OTHER, "policySha256": OTHER, "signatureAlgorithm": "EDDSA"}
    told = edit(RECORD, **{f"steps__certificate__{name}": one for name, one in step.items()})
    parts = {name: body for name, body in told(folder).items() if not name.startswith("manifest.")}

    with pytest.raises(EvidenceInvalidError, match="only a part of what is known of the CA"):
        verify(sealed(stack, parts), stack.signing_key())


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        ((), "asked long after that was noted"),
        (("steps__certificate__intent",), "CERTIFICATE_CA_ATTESTATION"),
    ],
    ids=["asked", "and noted"],
)
def test_a_ca_s_approvers_were_asked_when_its_key_was_attested(
    case: Case, stack: InProcessStack, moved: tuple[str, ...], said: str
) -> None:
    """An attestation of another day would tell who approves now by the rules of that day."""
    now = asked(case)
    case.decline(now.approver, label=now.ca.label)
    folder = case.evidence(now.end())
    times = (
        *(path.replace("csr", "certificate") for path in ASKED),
        *moved,
    )
    parts = later(*times, by=timedelta(days=1))(folder)
    parts = {name: body for name, body in parts.items() if not name.startswith("manifest.")}

    with pytest.raises(EvidenceInvalidError, match=said):
        verify(sealed(stack, parts), stack.signing_key())


@pytest.mark.parametrize("name", ["caAttestation", "chainSha256"])
def test_a_ca_s_key_of_which_an_older_release_kept_no_root_is_unverified(
    case: Case, stack: InProcessStack, name: str
) -> None:
    now = asked(case)
    case.decline(now.approver, label=now.ca.label)
    folder = case.evidence(now.end())
    parts = {one: body for one, body in folder.items() if not one.startswith("manifest.")}
    if name == "caAttestation":
        older = without("ca-attestation-chain.pem")(edit(RECORD, caAttestation=...)(parts))
        facts = verify(sealed(stack, older), stack.signing_key()).facts
        assert facts["CA attestation"] == "unverified"
        return
    older = without("ca-attestation-chain.pem")(edit(RECORD, caAttestation__chainSha256=...)(parts))
    with pytest.raises(EvidenceInvalidError, match="CERTIFICATE_CA_ATTESTATION"):
        verify(sealed(stack, older), stack.signing_key())


def test_a_quarantined_certificate_has_the_findings_of_the_first_try(
    case: Case, stack: InProcessStack
) -> None:
    """It is killed before it writes the record, and tried again later."""
    now = asked(case)
    now.ca.fault(*ATTRIBUTES, "forge", what="other_root", times=None)
    now.approve()
    stack.at("StoreCertificate", "UpdateItem").kill()
    result = now.end()

    assert_quarantined(result, "CERTIFICATE_CA_ATTESTATION")
    facts = verify(case.evidence(result), stack.signing_key()).facts
    assert facts["outcome"] == "FAILED"
    assert facts["CA attestation"].startswith("failed, root sha256:")
    assert "CA attested" not in facts


def test_a_ca_policy_that_changed_since_is_refused(case: Case) -> None:
    """The CA's approvers change their rule while they are asked."""
    now = asked(case)
    now.ca.modify(policy(now.approver, timeout=7200))
    now.approve()
    result = now.end()

    assert_quarantined(result, "CERTIFICATE_CA_POLICY")


def test_a_certificate_that_outlives_its_ca_s_is_refused(case: Case) -> None:
    """The CA got a shorter certificate while its approvers were asked."""
    now = asked(case)
    now.ca.certify(validity=30)
    now.approve()
    result = now.end()

    assert_quarantined(result, "CERTIFICATE_BEYOND_CA")


def test_a_ca_that_is_none_any_more_is_refused(case: Case) -> None:
    now = asked(case)
    now.ca.certify(certificateAuthority=False)
    now.approve()
    result = now.end()

    assert_quarantined(result, "CERTIFICATE_CA")


def test_an_answer_about_another_request_is_refused(case: Case) -> None:
    now = asked(case)
    now.ca.fault(*REQUEST, "request_id", times=None)
    now.approve()
    result = now.end()

    assert_failed_later(result, "CsrInvalidError", "PollRequest")
    assert result.record["quarantine"] == {"code": "CERTIFICATE_REQUEST_ID"}
    assert_csr_stays(result)


# Evidence -----------------------------------------------------------------------------------------


def test_an_expiry_before_its_window_was_over_is_told_of_the_step(
    case: Case, stack: InProcessStack
) -> None:
    now = asked(case)
    # The HSM's clock alone.
    stack.control("POST", "/clock", {"advanceSeconds": 86_400, "label": now.ca.label})
    folder = case.evidence(now.end())

    facts = verify(folder, stack.signing_key()).facts
    assert facts["outcome"] == "EXPIRED"
    assert "TSB let it expire before" in facts["CA window"]
    assert "window" not in facts


def test_the_evidence_proves_both_quorums(case: Case, stack: InProcessStack) -> None:
    ca, result = issued(case)
    facts = verify(case.evidence(result), stack.signing_key()).facts

    assert facts["approved by"].startswith('"person 1" ')
    assert facts["CA approved by"].startswith('"person 2" ')
    assert facts["CA key"].startswith(f"{ca.label}, sha256:")
    assert facts["certificate"].startswith(f"sha256:{result.document['certificate']['sha256']}")
    assert facts["issued by"].startswith("CN=Approver-Intermediate-CA, sha256:")
    assert facts["imported"].startswith("imported at ")
    parts = {name: one for name, one in case.evidence(result).items() if "manifest" not in name}
    died = sealed(stack, edit(RECORD, imported__result="started")(parts))
    assert verify(died, stack.signing_key()).facts["imported"].endswith("shown it at the key")


STEP = "steps__certificate__"


def told_another_validity(folder: dict[str, bytes]) -> dict[str, bytes]:
    name = "certificate-metadata.json"
    shown = folder[name].replace(b"Validity: 90 days", b"Validity: 1 day")
    assert shown != folder[name]
    digest = hashlib.sha256(shown).hexdigest()
    return edit(RECORD, **{f"{STEP}metaDataSha256": digest})({**folder, name: shown})


def ca_certificate_by_another(
    folder: dict[str, bytes], issuer: x509.Name | None = None
) -> dict[str, bytes]:
    """The CA's key and name until 2060, signed by somebody, wherever the certificate stands."""
    leaf, held = x509.load_pem_x509_certificates(folder["certificate.pem"])
    builder = (
        x509.CertificateBuilder()
        .subject_name(held.subject)
        .issuer_name(issuer or held.subject)
        .public_key(held.public_key())
        .serial_number(1)
        .not_valid_before(held.not_valid_before_utc)
        .not_valid_after(datetime(2060, 1, 1, tzinfo=UTC))
    )
    for one in held.extensions:
        builder = builder.add_extension(one.value, one.critical)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    pem = made.public_bytes(Encoding.PEM).decode()
    chain = leaf.public_bytes(Encoding.PEM).decode() + pem
    changes = both(
        edit("tsb/ca-certificate-1.json", certificate=pem),
        put("certificate.pem", chain.encode()),
        edit(RECORD, certificate__pem=chain),
    )
    return changes(folder)


AS_FAILED = both(
    without("certificate.pem", "tsb/import-certificate-1.json"),
    ended("FAILED", "TsbUnavailableError"),
    edit(RECORD, certificate=..., imported=...),
)
SECOND = "tsb/poll-request-4.json"  # two are the CSR's, and one found it open
EXTRA = "tsb/poll-request-5.json"


def named(folder: dict[str, bytes]) -> dict[str, bytes]:
    """The record names TSB's answer as it is now."""
    digest = hashlib.sha256(folder[SECOND]).hexdigest()
    return edit(RECORD, **{f"{STEP}answerSha256": digest})(folder)


def put_off(name: str, seconds: int) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    """A time on record, by so many seconds."""

    def change(folder: dict[str, bytes]) -> dict[str, bytes]:
        found = json.loads(folder[RECORD])
        for one in name.split("__"):
            found = found[one]
        later = datetime.fromisoformat(found) + timedelta(seconds=seconds)
        return edit(RECORD, **{name: f"{later:%Y-%m-%dT%H:%M:%SZ}"})(folder)

    return change


def also_rejected(folder: dict[str, bytes]) -> dict[str, bytes]:
    return {**folder, EXTRA: changed(folder, SECOND, status="REJECTED")[SECOND]}


def rejected_with_the_certificate(folder: dict[str, bytes]) -> dict[str, bytes]:
    """The executed answer lies beside another one that says the contrary, and is on record."""
    executed = folder[SECOND]
    told = both(
        edit(SECOND, status="REJECTED", result=None, executionTime=None),
        named,
        AS_FAILED,
        ended("REJECTED"),
        edit(RECORD, **{f"{STEP}status": "REJECTED", f"{STEP}times__executed": ...}),
        without(
            *(name for name in folder if name.startswith(("tsb/store-c", "tsb/ca-", "tsb/import-")))
        ),
    )
    return {**told(folder), EXTRA: executed}


ONLY_A_CSR = both(
    without(
        "certificate.pem",
        "certificate-metadata.json",
        "certificate-metadata.sig",
        "certificate-approvers.json",
        "certificate-checks.json",
        "ca-attestation-chain.pem",
    ),
    edit(RECORD, steps__certificate=..., certificate=..., imported=..., caAttestation=...),
)
FORGED = {
    "another CA key": (
        edit(RECORD, **{f"{STEP}publicKeySha256": OTHER}),
        "tsb/request-certificate",
    ),
    "another CA policy": (
        edit(RECORD, **{f"{STEP}policySha256": OTHER}),
        "tsb/request-certificate",
    ),
    "another quorum": (
        edit(RECORD, **{f"{STEP}policy__tokens__0__groups__0__quorum": 2}),
        "tsb/request-certificate",
    ),
    "another CA": (edit(RECORD, **{f"{STEP}caKeyLabel": "CA.other"}), RECORD),
    "a CA key under another policy": (
        edit(
            "tsb/request-certificate-1.json", json__policy__ruleUse__tokens__0__groups__0__quorum=2
        ),
        "tsb/request-certificate",
    ),
    "approvers who were shown something else": (
        edit("certificate-metadata.json", reason="OPS-43"),
        "certificate-metadata.json",
    ),
    "approvers who were shown other names": (
        edit(RECORD, **{f"{STEP}policy__tokens__0__groups__0__approvers__0": "other"}),
        "certificate-metadata.json",
    ),
    "what was shown, signed by nobody": (
        put("certificate-metadata.sig", b"0"),
        "certificate-metadata.sig",
    ),
    "approvers who were told another validity": (
        told_another_validity,
        "certificate-metadata.json",
    ),
    "somebody who did not approve": (
        edit("certificate-approvers.json", **{"0__decision": "none"}),
        "certificate-approvers.json",
    ),
    "another certificate": (put("certificate.pem", b"other"), "certificate.pem"),
    "another certificate in the record": (edit(RECORD, certificate__pem="other"), RECORD),
    "another end of its validity": (
        edit(RECORD, certificate__expires="2030-01-01T00:00:00Z"),
        RECORD,
    ),
    "another digest that was verified": (edit(RECORD, verifiedSha256=OTHER), RECORD),
    "an answer of TSB with another certificate": (
        both(edit(SECOND, result="other"), named),
        "certificate-checks.json",
    ),
    "another last word of TSB": (also_rejected, EXTRA),
    "a rejection with an executed certificate beside it": (rejected_with_the_certificate, EXTRA),
    "a certificate of which the record says nothing": (ONLY_A_CSR, "tsb/ca-certificate-1.json"),
    "approvers who read like others": (
        not_canonical("certificate-approvers.json"),
        "certificate-approvers.json",
    ),
    "checks that read like others": (
        not_canonical("certificate-checks.json"),
        "certificate-checks.json",
    ),
    "a check as failed": (
        edit("certificate-checks.json", **{"0__result": "failed"}),
        "certificate-checks.json",
    ),
    "a passed check that says more": (
        edit("certificate-checks.json", **{"0__finding": "nothing is wrong"}),
        "certificate-checks.json",
    ),
    "a check that nobody makes": (
        edit("certificate-checks.json", **{"0__code": "CERTIFICATE_NEW"}),
        "certificate-checks.json",
    ),
    "an import that nobody saw": (
        without("tsb/import-certificate-1.json"),
        "tsb/import-certificate",
    ),
    "an import that TSB has shown and the record leaves out": (edit(RECORD, imported=...), RECORD),
    "an import as failed that TSB has shown": (edit(RECORD, imported__result="failed"), RECORD),
    "an import with an error": (
        edit(RECORD, imported__error={"name": "TsbRefusedError", "message": "x"}),
        RECORD,
    ),
    "no time of the CSR's checks": (edit(RECORD, verifiedAt=...), RECORD),
    "a certificate's end in a state of the CSR": (edit(RECORD, stage="StoreCsr"), RECORD),
    "an import of another form": (edit(RECORD, imported__result="perhaps"), RECORD),
    "another algorithm": (
        edit(RECORD, **{f"{STEP}signatureAlgorithm": "SHA512_WITH_RSA"}),
        "certificate-metadata.json",
    ),
    "a window that was longer": (
        edit(RECORD, **{f"{STEP}times__windowEnds": "2030-01-01T00:00:00Z"}),
        RECORD,
    ),
    "another CA's attestation": (put("ca-attestation.sig", b"0"), "ca-attestation.sig"),
    "another root of the CA's attestation": (
        edit(RECORD, caAttestation__root=OTHER),
        "tsb/request-certificate",
    ),
    "another chain of the CA's attestation": (
        put("ca-attestation-chain.pem", b"other"),
        "ca-attestation-chain.pem",
    ),
    "no root of the CA's attestation": (
        edit(RECORD, caAttestation__root=""),
        "certificate-checks.json",
    ),
    "checks of the certificate before anybody was asked": (
        edit(RECORD, caAttestation__at="2026-11-26T11:00:00Z"),
        "certificate-checks.json",
    ),
    "checks of the certificate after the end": (
        put_off("caAttestation__at", 200),
        RECORD,
    ),
    "checks of the CSR after the CA's approvers were asked": (
        put_off("verifiedAt", 200),
        RECORD,
    ),
    "the CA's key as it was asked, attested by nobody": (
        edit("tsb/request-certificate-1.json", xmlSignature="AAAA"),
        "tsb/request-certificate",
    ),
    "checks of the certificate a day later": (
        put_off("caAttestation__at", 86_400),
        "certificate-checks.json",
    ),
    "checks of the CSR a day later": (put_off("verifiedAt", 86_400), "checks.json"),
    "no time of the certificate's checks": (
        edit(RECORD, caAttestation=...),
        "ca-attestation-chain.pem",
    ),
    "no CA certificate": (without("tsb/ca-certificate-1.json"), "tsb"),
    "another CA certificate": (
        edit("tsb/ca-certificate-1.json", label="other"),
        "certificate-checks.json",
    ),
    "a CA certificate that names itself as its issuer and was signed by another": (
        ca_certificate_by_another,
        "certificate-checks.json",
    ),
    "an issue as failed, only without its certificate": (AS_FAILED, RECORD),
    "an issue as failed, without its certificate": (
        both(AS_FAILED, edit(RECORD, verifiedSha256=...)),
        RECORD,
    ),
    "a certificate that was asked for before its CSR was executed": (
        edit(
            RECORD,
            **{
                f"{STEP}times__requested": "2026-11-26T12:00:00Z",
                f"{STEP}times__windowEnds": "2026-11-26T13:00:00Z",
            },
        ),
        RECORD,
    ),
    "an import before the certificate": (edit(RECORD, imported__at="2026-11-26T12:00:00Z"), RECORD),
    "another certificate that was replaced": (
        edit(RECORD, imported__replacedSha256=OTHER),
        "tsb/import-certificate",
    ),
    "a certificate in another bucket": (edit(RECORD, certificate__bucket="other"), RECORD),
    "nobody wanted a certificate": (edit("request.json", certificate=...), "request.json"),
}


def test_no_forgery_of_the_second_step_verifies(case: Case, stack: InProcessStack) -> None:
    """Each under the right signature, as somebody could make it who may use the signing key."""
    _, result = issued(case)
    whole, key = case.evidence(result), stack.signing_key()
    parts = {name: one for name, one in whole.items() if not name.startswith("manifest.")}
    assert verify(sealed(stack, parts), key).facts == verify(whole, key).facts
    refused = {}
    for name, (forge, _) in FORGED.items():
        try:
            verify(sealed(stack, forge(parts)), key)
        except EvidenceInvalidError as error:
            refused[name] = error.part

    assert refused == {name: part for name, (_, part) in FORGED.items()}


def test_a_ca_certificate_that_another_ca_signed_is_known_by_its_hash(
    case: Case, stack: InProcessStack
) -> None:
    ca, result = issued(case)
    whole, key = case.evidence(result), stack.signing_key()
    own = certificate.read(ca.certificate()).sha256
    parts = {name: one for name, one in whole.items() if not name.startswith("manifest.")}
    root = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Government Root")])
    told = sealed(stack, ca_certificate_by_another(parts, root))

    facts = verify(whole, key, ca_certificate=own).facts
    assert facts["issued by"].endswith(f", sha256:{own}, signed by its own key")
    unknown = verify(told, key).facts["issued by"]
    assert unknown.endswith("signed by CN=Government Root, which was not verified")
    with pytest.raises(EvidenceInvalidError, match="not this CA's"):
        verify(told, key, ca_certificate=own)


def test_no_import_is_told_where_none_was_asked_for(case: Case, stack: InProcessStack) -> None:
    _, result = issued(case, **{"import": False})
    whole = case.evidence(result)
    parts = {name: one for name, one in whole.items() if not name.startswith("manifest.")}
    told = edit(RECORD, imported={"result": "started", "at": result.record["times"]["ended"]})

    with pytest.raises(EvidenceInvalidError, match="imported what was not to be imported"):
        verify(sealed(stack, told(parts)), stack.signing_key())


def test_the_evidence_of_a_rejected_certificate_has_its_csr(
    case: Case, stack: InProcessStack
) -> None:
    now = asked(case)
    case.decline(now.approver, label=now.ca.label)
    result = now.end()
    facts = verify(case.evidence(result), stack.signing_key()).facts

    assert facts["outcome"] == "REJECTED"
    assert facts["CSR"].startswith(f"sha256:{result.document['csr']['sha256']}")
    assert "not issued" not in facts["CSR"]
    assert facts["CA declined by"].startswith('"person 2" ')
    assert facts["certificate"] == "none was verified"


@pytest.mark.forged
def test_a_certificate_written_into_the_record_issues_nothing(case: Case) -> None:
    """Whoever may write to the table cannot have one announced that nobody approved."""
    now = asked(case)
    stored = {"bucket": "b", "key": "k", "versionId": None, "sha256": OTHER, "pem": "x"}
    case.write(certificate={**stored, "expires": "2030-01-01T00:00:00Z"})
    case.decline(now.approver, label=now.ca.label)
    result = now.end()

    assert result.record["outcome"] == "FAILED"
    assert "Enrollment Issued" not in result.event_types


@pytest.mark.forged
def test_another_certificate_written_over_the_issued_one_is_not_announced(
    case: Case, stack: InProcessStack
) -> None:
    now = asked(case)
    now.approve()
    stack.at("CloseEnrollment", "GetItem")
    case.write(**{"certificate.pem": "another"})
    result = now.end()

    assert result.record["outcome"] == "FAILED"
    assert "Enrollment Issued" not in result.event_types
