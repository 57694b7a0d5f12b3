"""Other ends than a certificate: decisions, faults, lost answers, a changed trust, the import."""

import hashlib
import json
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pytest import MonkeyPatch

from countersign.evidence.bundle import EvidenceInvalidError
from countersign.evidence.verifier import verify
from countersign.verification import certificate
from local.ca import policy
from local.engine.stack import InProcessStack
from local.tsb_simulator import attestation
from local.tsb_simulator.attestation import make_attestation
from tests.ca import Ca
from tests.case import Case, Json, Result, assert_failed, group, people, token
from tests.workflow.api import Caller
from tests.workflow.certifying import (
    ATTRIBUTES,
    HELD,
    IMPORT,
    REQUEST,
    SIGN,
    asked,
    assert_certified,
    assert_csr_stays,
    assert_ended_later,
    assert_failed_later,
    begun,
    certificates,
    issued,
)
from tests.workflow.stopping import stopped_before

# Other ends of the second step --------------------------------------------------------------------


def test_declined_by_the_ca_s_approvers(case: Case) -> None:
    now = asked(case)
    case.decline(now.approver, label=now.ca.label)

    result = now.end()
    assert_ended_later(result, "REJECTED")
    assert result.ending["detail"]["declinedBy"] == ["person 2"]


def test_what_the_ca_s_approvers_decided_while_a_stopped_enrollment_is_closed_counts(
    case: Case, stack: InProcessStack
) -> None:
    now = asked(case)
    case.decline(now.approver, label=now.ca.label)
    result = stopped_before(case, stack, now.arn, stack.at("PollRequest", "UpdateItem"))

    assert result.record["outcome"] == "REJECTED"
    assert result.record["steps"]["certificate"]["status"] == "REJECTED"
    verify(stack.evidence(case.id, now.arn), stack.signing_key())


def test_the_ca_s_window_closes(case: Case, stack: InProcessStack) -> None:
    now = asked(case)
    stack.clock.advance(3601)

    assert_ended_later(now.end(), "EXPIRED")


def test_cancelled_while_the_ca_s_approvers_are_asked(case: Case) -> None:
    now = asked(case)
    case.cancel()

    assert_ended_later(now.end(), "CANCELLED")
    assert now.ca.requests()[-1]["status"] == "CANCELLED"


def test_cancelled_by_the_api_in_the_second_step(case: Case, stack: InProcessStack) -> None:
    """The CSR is verified and stored: it is not too late, and the CA's approvers are let go."""
    now = asked(case)
    answer = Caller(stack).call("DELETE", f"/enrollments/{case.id}")
    stack.settle()

    assert answer.status_code == 202
    assert now.ca.requests()[-1]["status"] == "CANCELLED"
    result = now.end()
    assert_ended_later(result, "CANCELLED")
    assert result.record["cancel"]["confirmedAt"]


def test_a_fault_that_decides_lets_the_ca_s_approvers_go(case: Case) -> None:
    """The answer is another request's: the true one is cancelled, and the key left alone."""
    now = asked(case)
    now.ca.fault(*REQUEST, "request_id")
    result = now.end()

    assert_failed_later(result, "CsrInvalidError", "PollRequest")
    assert now.ca.requests()[-1]["status"] == "CANCELLED"
    assert "DiscardKey" in result.entered


def cancelled_in(state: str, case: Case, stack: InProcessStack) -> tuple[Result, Ca]:
    """An enrollment that is cancelled before this state first writes to the table."""
    person, other = people(2)
    ca = Ca.make(case, other)
    arn = begun(case, ca, person)
    stack.at(state, "UpdateItem")
    case.cancel()
    result = case.end(arn)
    assert result.document["outcome"] == "CANCELLED"
    return result, ca


def test_cancelled_before_the_ca_s_approvers_are_asked(case: Case, stack: InProcessStack) -> None:
    result, ca = cancelled_in("RequestCertificate", case, stack)

    assert not [one for one in ca.requests() if one["kind"] == "sign"]
    assert_csr_stays(result)


def test_cancelled_before_the_csr_is_stored(case: Case, stack: InProcessStack) -> None:
    result, _ = cancelled_in("StoreCsr", case, stack)

    assert result.document["csr"] is None


def test_it_is_too_late_to_cancel_once_the_certificate_is_verified(
    case: Case, stack: InProcessStack
) -> None:
    now = asked(case)
    now.approve()
    stack.at("StoreCertificate", "UpdateItem", 3)  # it notes that the import begins
    answer = Caller(stack).call("DELETE", f"/enrollments/{case.id}")

    assert answer.status_code == 409
    assert "is just being issued" in answer.json()["detail"]
    assert_certified(now.end(), now.ca)


def test_cancelled_while_the_verified_certificate_is_stored(
    case: Case, stack: InProcessStack
) -> None:
    """Its object is there, and neither its checks nor the certificate are on record."""
    now = asked(case)
    now.approve()
    stack.at("StoreCertificate", "UpdateItem", 2)
    case.cancel()
    result = now.end()

    assert result.document["outcome"] == "CANCELLED"
    assert "certificate.pem" in result.objects
    assert "certificateChecks" not in result.record
    assert_csr_stays(result)


def test_the_hsm_fails_to_sign(case: Case) -> None:
    person, other = people(2)
    ca = Ca.make(case, other)
    ca.fault(*SIGN, "hsm_error")
    arn = begun(case, ca, person)
    case.approve(other, label=ca.label)
    result = case.end(arn)

    assert_failed_later(result, "TsbRefusedError", "PollRequest")
    assert_csr_stays(result)


@pytest.mark.parametrize("code", [600, 628])
def test_a_tsb_that_refuses_the_question(case: Case, code: int) -> None:
    person, other = people(2)
    ca = Ca.make(case, other)
    refusal = {"errorCode": code, "reason": "res.error", "message": "no"}
    ca.fault(*SIGN, "status", httpStatus=400, body=refusal)
    result = case.end(begun(case, ca, person))

    assert_failed_later(result, "TsbRefusedError", "RequestCertificate")
    assert_csr_stays(result)


def test_a_key_whose_csr_is_issued_is_never_disposed_of(case: Case, stack: InProcessStack) -> None:
    """Its profile has unused keys deleted; the CA's approvers decline."""
    other = stack.people["Alan Turing"]
    ca = Ca.make(case, other)
    content = profile_of(stack, ca, unusedKey="delete")
    stack.release_profile("trial@2", content)
    arn = case.start(case.by_profile("trial@2"))
    case.approve(stack.people["Ada Lovelace"])
    case.decline(other, label=ca.label)
    result = case.end(arn)

    assert_ended_later(result, "REJECTED")
    assert "unusedKey" not in result.record


def profile_of(stack: InProcessStack, ca: Ca, **different: Any) -> Json:
    """Profile `trial` with a certificate of this CA."""
    content = json.loads((stack.folder / "layer/profiles/trial@1.json").read_text())
    return {
        **content,
        "version": 2,
        "caKeyLabel": ca.label,
        "certificate": {"validity": 90},
        **different,
    }


def test_a_profile_asks_for_the_certificate(case: Case, stack: InProcessStack) -> None:
    other = stack.people["Alan Turing"]
    ca = Ca.make(case, other)
    stack.release_profile("trial@2", profile_of(stack, ca))
    arn = case.start(case.by_profile("trial@2"))
    case.approve(stack.people["Ada Lovelace"])
    case.approve(other, label=ca.label)

    assert_certified(case.end(arn), ca)


def test_a_profile_decides_the_certificate(case: Case) -> None:
    terms = {"caKeyLabel": "ca", "validity": 90}
    result = case.end(case.start({**case.by_profile(), "certificate": terms}))

    assert_failed(result, "InvalidEnrollmentError", "AcceptEnrollment")
    assert "decides this" in result.document["error"]["message"]


def test_in_production_the_ca_s_approvers_are_other_people(
    case: Case, stack: InProcessStack
) -> None:
    ada = stack.people["Ada Lovelace"]
    ca = Ca.make(case, ada)
    waivers = {"lint": {"levels": {"ca-approvers-overlap": "error"}}}
    stack.release_profile("trial@2", profile_of(stack, ca, **waivers))
    result = case.end(case.start(case.by_profile("trial@2")))

    assert_failed(result, "InvalidEnrollmentError", "CreateKey")
    assert "Ada Lovelace also approves for CA key" in result.document["error"]["message"]


# What the stack trusts is changed between the two steps -------------------------------------------


@pytest.fixture
def replace_hsm(stack: InProcessStack) -> Iterator[Callable[[], str]]:
    """Puts another HSM in the place of the one that is there, and has the stack trust its root."""
    broker, genuine = stack.simulator.broker, stack.simulator.broker.attestation

    def replace() -> str:
        broker.attestation = make_attestation()
        chain = broker.attestation.chain
        root = hashlib.sha256(ssl.PEM_cert_to_DER_cert(chain[-1])).hexdigest()
        secret = stack.client("secretsmanager").get_secret_value(SecretId="ClientTlsSecret")
        content = {**json.loads(secret["SecretString"]), "attestationChain": "".join(chain)}
        stack.put_secret("ClientTlsSecret", content)
        stack.configure(AttestationRoot=root)
        return root

    yield replace
    broker.attestation = genuine


def test_another_root_and_chain_since_the_csr_was_stored_are_those_of_the_certificate(
    case: Case, stack: InProcessStack, replace_hsm: Callable[[], str]
) -> None:
    now = asked(case)
    former, root = case.record()["attestationRoot"], replace_hsm()
    now.approve()
    result = now.end()
    folder = case.evidence(result)
    facts = verify(folder, stack.signing_key()).facts

    assert_certified(result, now.ca)
    assert facts["attestation"] == f"verified, root sha256:{former}"
    before = f"; when it was asked for, by root sha256:{former}"
    assert facts["CA attestation"] == f"root sha256:{root}{before}"
    assert verify(folder, stack.signing_key(), attestation_roots=[former, root])
    assert folder["attestation-chain.pem"] != folder["ca-attestation-chain.pem"]
    for believed in (former, root):
        with pytest.raises(EvidenceInvalidError):
            verify(folder, stack.signing_key(), attestation_roots=[believed])


@pytest.mark.parametrize("pinned", [True, False])
def test_a_root_that_is_pinned_only_in_one_of_the_steps(
    case: Case, stack: InProcessStack, *, pinned: bool
) -> None:
    chain = stack.simulator.broker.attestation.chain
    root = hashlib.sha256(ssl.PEM_cert_to_DER_cert(chain[-1])).hexdigest()
    stack.configure(AttestationRoot=root if pinned else "")
    now = asked(case)
    stack.configure(AttestationRoot="" if pinned else root)
    now.approve()
    result = now.end()
    facts = verify(case.evidence(result), stack.signing_key()).facts

    assert_certified(result, now.ca)
    before = f"unverified; when it was asked for, by root sha256:{root}"
    assert facts["CA attestation"] == (before if pinned else f"root sha256:{root}")


def test_what_was_verified_stays_so_when_its_chain_expires(
    case: Case, stack: InProcessStack, replace_hsm: Callable[[], str], monkeypatch: MonkeyPatch
) -> None:
    """The CA's approvers take longer than the chain of the first step is valid."""
    with monkeypatch.context() as patch:
        patch.setattr(attestation, "LIFE", timedelta(days=3))
        replace_hsm()
    person, other = people(2)
    ca = Ca.make(case, other, policy=policy(other, timeout=8 * 86_400))
    arn = begun(case, ca, person)
    case.until(lambda: case.record()["steps"]["certificate"].get("requestId"), "question")
    stack.clock.advance(4 * 86_400)
    replace_hsm()
    case.approve(other, label=ca.label)
    stack.at("StoreCertificate", "UpdateItem").kill()  # its chain is kept; it is tried again
    result = case.end(arn)

    assert_certified(result, ca)
    assert verify(case.evidence(result), stack.signing_key()).facts["outcome"] == "ISSUED"


def test_the_chain_of_a_first_try_is_found_by_the_second(
    case: Case, stack: InProcessStack, replace_hsm: Callable[[], str]
) -> None:
    """Another HSM since the key was made; StoreCsr dies when it has kept its chain."""
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    case.await_calls(REQUEST[1], 1)
    former, root = case.record()["attestationRoot"], replace_hsm()
    stack.at("StoreCsr", "UpdateItem").kill()
    result = case.end(arn)

    folder = case.evidence(result)
    facts = verify(folder, stack.signing_key(), attestation_roots=[former, root]).facts
    assert facts["outcome"] == "ISSUED"
    before = f"; when it was made, by root sha256:{former}"
    assert facts["attestation"] == f"verified, root sha256:{root}{before}"
    with pytest.raises(EvidenceInvalidError, match=former):
        verify(folder, stack.signing_key(), attestation_roots=[root])


@pytest.mark.parametrize("end", ["ISSUED", "REJECTED"])
def test_a_chain_that_is_put_otherwise_before_the_ca_s_approvers_are_asked_is_kept_as_well(
    case: Case, stack: InProcessStack, end: str
) -> None:
    """The secret was written again since the CSR was verified, with the same certificates."""
    person, other = people(2)
    ca = Ca.make(case, other)
    arn = begun(case, ca, person)
    stack.at("StoreCsr", "its return")
    secret = stack.client("secretsmanager").get_secret_value(SecretId="ClientTlsSecret")
    content = json.loads(secret["SecretString"])
    spaced = content["attestationChain"].replace("-----\n-----", "-----\n\n-----")
    stack.put_secret("ClientTlsSecret", {**content, "attestationChain": spaced})
    stack.configure()  # else it is read again after five minutes
    if end == "ISSUED":
        case.approve(other, label=ca.label)
    else:
        case.decline(other, label=ca.label)
    result = case.end(arn)
    folder = case.evidence(result)

    assert verify(folder, stack.signing_key()).facts["outcome"] == end
    assert folder["ca-attestation-chain.pem"].decode() == spaced
    assert folder["attestation-chain.pem"] != folder["ca-attestation-chain.pem"]


def test_a_csr_under_another_root_than_the_stack_s_asks_nobody(
    case: Case, stack: InProcessStack, replace_hsm: Callable[[], str]
) -> None:
    person, other = people(2)
    ca = Ca.make(case, other)
    arn = begun(case, ca, person)
    stack.at("StoreCsr", "its return")
    replace_hsm()
    result = case.end(arn)

    assert_failed_later(result, "EnrollmentConflictError", "RequestCertificate")
    assert "another attestation root" in result.document["error"]["message"]
    assert not [one for one in ca.requests() if one["kind"] == "sign"]
    assert_csr_stays(result)


def test_another_ca_certificate_between_two_tries_issues_the_one_that_was_stored(
    case: Case, stack: InProcessStack
) -> None:
    now = asked(case)
    now.approve()
    first = now.ca.certificate()
    stack.at("StoreCertificate", "UpdateItem", 2).kill()  # certificate.pem is written
    now.ca.certify()
    result = now.end()

    assert now.ca.certificate() != first
    assert result.document["outcome"] == "ISSUED"
    assert certificate.read(certificates(result)[1]) == certificate.read(first)
    assert verify(case.evidence(result), stack.signing_key()).facts["outcome"] == "ISSUED"


# Lost answers, deaths, silence --------------------------------------------------------------------


def test_a_lost_answer_asks_nobody_twice_and_says_what_to_look_for(case: Case) -> None:
    person, other = people(2)
    ca = Ca.make(case, other)
    ca.fault(*SIGN, "drop", executed=True)
    result = case.end(begun(case, ca, person))

    assert_failed_later(result, "TsbOutcomeUnknownError", "RequestCertificate")
    assert case.id in result.document["error"]["action"]
    assert ca.label in result.document["error"]["action"]
    assert len([one for one in ca.requests() if one["kind"] == "sign"]) == 1
    assert_csr_stays(result)


def test_a_tsb_that_says_not_now_is_asked_again(case: Case) -> None:
    person, other = people(2)
    ca = Ca.make(case, other)
    ca.fault(*SIGN, "status", httpStatus=429, times=3)
    arn = begun(case, ca, person)
    case.approve(other, label=ca.label)

    assert_certified(case.end(arn), ca)
    assert len([one for one in ca.requests() if one["kind"] == "sign"]) == 1


@pytest.mark.parametrize("call", ["GetItem", "PutObject", "UpdateItem"])
def test_a_death_before_the_question_asks_once(
    case: Case, stack: InProcessStack, call: str
) -> None:
    person, other = people(2)
    ca = Ca.make(case, other)
    arn = begun(case, ca, person)
    stack.at("RequestCertificate", call).kill()
    case.approve(other, label=ca.label)

    assert_certified(case.end(arn), ca)
    assert len([one for one in ca.requests() if one["kind"] == "sign"]) == 1


def test_a_death_after_the_question_guesses_nothing(case: Case, stack: InProcessStack) -> None:
    person, other = people(2)
    ca = Ca.make(case, other)
    arn = begun(case, ca, person)
    stack.at("RequestCertificate", "UpdateItem", 2).kill()
    result = case.end(arn)

    assert_failed_later(result, "TsbOutcomeUnknownError", "RequestCertificate")
    assert len([one for one in ca.requests() if one["kind"] == "sign"]) == 1
    assert_csr_stays(result)


@pytest.mark.parametrize(
    ("call", "nth"),
    [
        ("POST /v1/key/attributes", 1), ("PutObject", 1), ("PutObject", 2), ("UpdateItem", 1),
        ("PutObject", 3), ("UpdateItem", 2), ("UpdateItem", 3),
        ("POST /v1/certificate/import/plain", 1), ("UpdateItem", 4), ("its return", 1),
    ],
)  # fmt: skip
def test_store_certificate_may_die_anywhere(
    case: Case, stack: InProcessStack, call: str, nth: int
) -> None:
    now = asked(case)
    now.approve()
    stack.at("StoreCertificate", call, nth).kill()
    result = now.end()

    assert_certified(result, now.ca)
    assert result.document["certificate"]["imported"]["result"] == "imported"


def test_what_the_ca_s_approvers_agreed_to_outlasts_a_silent_tsb(case: Case) -> None:
    now = asked(case)
    now.ca.fault(*REQUEST, "drop", times=5)
    now.approve()

    assert_certified(now.end(), now.ca)


def test_a_ca_certificate_that_is_gone_is_waited_for(case: Case) -> None:
    now = asked(case)
    refusal = {"errorCode": 402, "reason": "res.error.invalid.certificate", "message": "none"}
    now.ca.fault(*HELD, "status", httpStatus=400, body=refusal, times=5)
    now.approve()

    assert_certified(now.end(), now.ca)


def test_an_enrollment_that_failed_in_the_second_step_is_resumed(case: Case) -> None:
    now = asked(case)
    case.stop(now.arn)
    failed = case.end(now.arn, event=False)
    case.until(lambda: case.record().get("announced"), "end")
    assert failed.status == "ABORTED"
    now.approve()
    arn = case.start_input({"resume": case.id})
    result = case.end(arn)

    assert_certified(result, now.ca)
    assert len([one for one in now.ca.requests() if one["kind"] == "sign"]) == 1
    (resumed,) = [one for one in result.events if one["detail-type"] == "Enrollment Resumed"]
    assert resumed["detail"]["step"] == "certificate"


@pytest.mark.parametrize("call", ["PutEvents", "its return"])
def test_a_stop_before_the_ca_s_approvers_are_asked_is_resumed(
    case: Case, stack: InProcessStack, call: str
) -> None:
    """The CSR is stored. Whether TSB still knows of its request does not matter."""
    person, other = people(2)
    ca = Ca.make(case, other)
    arn = begun(case, ca, person)
    stack.at("StoreCsr", call).kill()
    failed = stopped(case, arn)
    vanished = {"errorCode": 651, "reason": "res.error.request.not.existent", "message": "x"}
    case.fault(*REQUEST, "status", httpStatus=404, body=vanished, times=None)
    arn = case.start_input({"resume": case.id})
    case.approve(other, label=ca.label)
    result = case.end(arn)

    assert case.id in failed["error"]["action"]
    assert_certified(result, ca)
    assert len([one for one in ca.requests() if one["kind"] == "sign"]) == 1
    assert result.count("POST", "/v1/certificate/request") == 1
    assert "Enrollment Csr Stored" in result.event_types
    facts = verify(case.evidence(result), stack.signing_key()).facts
    assert (facts["outcome"], facts["CA agreed"]) == ("ISSUED", "1 of 1 who were asked")


def stopped(case: Case, arn: str) -> Json:
    """The record of an enrollment whose execution was stopped, once everybody knows."""
    case.stop(arn)
    case.end(arn, event=False)
    case.until(lambda: case.record().get("announced"), "end")
    return case.record()


def test_a_ca_that_was_put_right_is_asked_when_it_is_resumed(
    case: Case, stack: InProcessStack
) -> None:
    person, other = people(2)
    ca = Ca.make(case, other)
    arn = begun(case, ca, person)
    stack.at("StoreCsr", "its return")
    ca.certify(validity=30)
    failed = case.end(arn)
    ca.certify()
    arn = case.start_input({"resume": case.id})
    case.approve(other, label=ca.label)
    result = case.end(arn)

    assert_failed_later(failed, "InvalidEnrollmentError", "RequestCertificate")
    assert_certified(result, ca)


def test_what_was_stopped_before_the_question_can_be_cancelled_when_it_is_resumed(
    case: Case, stack: InProcessStack
) -> None:
    person, other = people(2)
    ca = Ca.make(case, other)
    arn = begun(case, ca, person)
    stack.at("StoreCsr", "its return").kill()
    stopped(case, arn)
    arn = case.start_input({"resume": case.id})
    stack.at("RequestCertificate", "UpdateItem")
    case.cancel()
    result = case.end(arn)

    assert result.document["outcome"] == "CANCELLED"
    assert not [one for one in ca.requests() if one["kind"] == "sign"]
    assert_csr_stays(result)


def test_a_ca_that_is_unfit_at_the_fresh_start_leaves_no_claim_without_a_key(case: Case) -> None:
    person, other = people(2)
    ca = Ca.make(case, other)
    case.fault("POST", "/v1/certificate/request", "drop", executed=True)
    arn = case.start(ca.request(case.request(token(group(person)))))
    case.await_calls("/v1/certificate/request", 1, "POST")
    ca.fault(*ATTRIBUTES, "forge", what="other_root", times=None)
    result = case.end(arn)

    assert_failed_later(result, "InvalidEnrollmentError", "CreateKey")
    assert [key["deleted"] for key in result.keys] == [True]
    assert case.record(f"label#{case.label}") == {}


# The import ---------------------------------------------------------------------------------------


def test_an_older_certificate_is_kept_before_it_is_replaced(
    case: Case, stack: InProcessStack
) -> None:
    stack.control("PUT", "/switches", {"csrLeavesCertificate": True})
    ca, result = issued(case)

    assert_certified(result, ca)
    imported = result.document["certificate"]["imported"]
    assert imported["result"] == "imported"
    older, newer = (
        certificate.read(
            json.loads(result.objects[f"tsb/import-certificate-{number}.json"])["certificate"]
        )
        for number in (1, 2)
    )
    assert imported["replacedSha256"] == older.sha256
    assert newer.sha256 == result.document["certificate"]["sha256"]


def test_an_import_that_is_refused_leaves_the_certificate_issued(case: Case) -> None:
    refusal = {"errorCode": 409, "reason": "res.error.parsing.certificate", "message": "no"}
    case.fault(*IMPORT, "status", httpStatus=400, body=refusal)
    ca, result = issued(case)

    assert_certified(result, ca)
    imported = result.document["certificate"]["imported"]
    assert (imported["result"], imported["error"]["errorCode"]) == ("failed", 409)


def test_an_import_that_leads_to_nothing_leaves_the_certificate_issued(case: Case) -> None:
    case.fault(*IMPORT, "status", httpStatus=200, body={})
    ca, result = issued(case)

    assert_certified(result, ca)
    assert result.document["certificate"]["imported"]["result"] == "failed"


def test_an_older_certificate_stays_where_the_import_leads_to_nothing(
    case: Case, stack: InProcessStack
) -> None:
    stack.control("PUT", "/switches", {"csrLeavesCertificate": True})
    case.fault(*IMPORT, "status", httpStatus=200, body={})
    ca, result = issued(case)

    assert_certified(result, ca)
    imported = result.document["certificate"]["imported"]
    assert imported["result"] == "failed"
    assert "shows another one" in imported["error"]["message"]


def test_a_lost_answer_to_the_import_imports_once(case: Case) -> None:
    case.fault(*IMPORT, "drop", executed=True)
    ca, result = issued(case)

    assert_certified(result, ca)
    assert result.document["certificate"]["imported"]["result"] == "imported"
    assert result.count(*IMPORT) == 1
