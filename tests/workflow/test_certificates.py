"""From CSR to certificate: the CA's key signs under a quorum of its own, in the same loop."""

import base64
import hashlib
import io
import json
import re
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pytest import MonkeyPatch
from rich.console import Console

from countersign.evidence.bundle import EvidenceInvalidError
from countersign.evidence.verifier import verify
from countersign.verification import certificate
from countersign_cli import view
from local import tutorial
from local.approver import Approver
from local.ca import ask_for_certificate, policy
from local.engine.stack import InProcessStack
from local.template import read
from local.tsb_simulator import attestation
from local.tsb_simulator.attestation import make_attestation
from tests.ca import Ca
from tests.case import Case, Json, Result, assert_failed, group, people, token
from tests.forgeries import ASKED, OTHER, RECORD, both, changed, edit, ended, later, put, without
from tests.proofs import sealed
from tests.workflow.api import Caller
from tests.workflow.stopping import stopped_before

SIGN = ("POST", "/v1/certificate/sign")
IMPORT = ("POST", "/v1/certificate/import/plain")
HELD = ("GET", "/v1/certificate/{id}")
REQUEST = ("GET", "/v1/request/{id}")
ATTRIBUTES = ("POST", "/v1/key/attributes")
EXPIRING = "Certificate Expiring"
END = "-----END CERTIFICATE-----\n"


@dataclass
class Asked:
    """An enrollment whose CSR is stored, and whose certificate's approvers are asked."""

    case: Case
    ca: Ca
    approver: Approver  # of the CA's key
    arn: str

    def approve(self) -> None:
        self.case.approve(self.approver, label=self.ca.label)

    def end(self) -> Result:
        return self.case.end(self.arn)


def begun(case: Case, ca: Ca, person: Approver, **terms: Any) -> str:
    """The ARN of an enrollment whose CSR is approved."""
    arn = case.start(ca.request(case.request(token(group(person))), **terms))
    case.await_event("Enrollment Awaiting Approval")
    case.approve(person)
    return arn


def asked(case: Case, *, ca_policy: Json | None = None, **terms: Any) -> Asked:
    person, other = people(2)
    ca = Ca.make(case, other, policy=ca_policy or policy(other))
    arn = begun(case, ca, person, **terms)
    case.until(
        lambda: [one for one in case.stack.events(case.id) if is_of_certificate(one)],
        "question to the CA's approvers",
    )
    return Asked(case, ca, other, arn)


def is_of_certificate(event: Json) -> bool:
    return bool(event["detail"].get("step") == "certificate")


def issued(case: Case, **terms: Any) -> tuple[Ca, Result]:
    now = asked(case, **terms)
    now.approve()
    return now.ca, now.end()


def certificates(result: Result) -> list[str]:
    return [f"{one}{END}" for one in result.document["certificate"]["pem"].split(END)[:-1]]


def assert_certified(result: Result, ca: Ca) -> None:
    """Issued with a certificate: stored, announced, verified, with its CSR; nothing asked twice."""
    stored = result.document["certificate"]
    leaf, issuer = certificates(result)
    assert result.status == "SUCCEEDED"
    assert result.document["outcome"] == result.record["outcome"] == "ISSUED"
    assert result.endings[-1:] == ["Enrollment Issued"]
    assert result.ending["detail"]["certificate"] == stored
    assert result.ending["detail"]["csr"] == result.document["csr"]
    assert result.objects["certificate.pem"].decode() == stored["pem"]
    assert certificate.read(leaf).sha256 == stored["sha256"]
    assert certificate.read(issuer) == certificate.read(ca.certificate())
    assert result.count(*SIGN) == 0  # of this label; the CA's calls are counted under its own
    assert [key["deleted"] for key in result.keys] == [False]


def assert_csr_stays(result: Result) -> None:
    """The CSR is issued and evident, and its key is left alone."""
    assert result.objects["request.pem"].decode().startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert result.document["csr"]["sha256"] == result.record["csr"]["sha256"]
    assert [key["deleted"] for key in result.keys] == [False]
    assert [key["blocked"] for key in result.keys] == [False]
    assert "certificate" not in result.document
    assert "certificate" not in result.record


# Issued -------------------------------------------------------------------------------------------


def test_a_certificate_is_issued_under_two_quorums_and_imported(case: Case) -> None:
    ca, result = issued(case)

    assert_certified(result, ca)
    assert certificates(result)[0] == ca.certificate(case.label)
    assert result.endings == ["Enrollment Issued"]
    assert result.document["certificate"]["imported"]["result"] == "imported"
    assert result.event_types == [
        "Enrollment Accepted",
        "Enrollment Awaiting Approval",
        "Enrollment Csr Stored",
        "Enrollment Awaiting Approval",
        "Enrollment Issued",
    ]
    assert [one["detail"].get("step") for one in result.events] == [
        None,
        "csr",
        None,
        "certificate",
        "certificate",
    ]


def test_who_approved_is_told_per_step(case: Case) -> None:
    _, result = issued(case)

    steps = result.record["steps"]
    assert [one["decision"] for one in steps["csr"]["approvers"]] == ["approved"]
    assert [one["name"] for one in steps["csr"]["approvers"]] == ["person 1"]
    assert [one["name"] for one in steps["certificate"]["approvers"]] == ["person 2"]
    assert [one["name"] for one in result.document["approvers"]] == ["person 2"]


def test_approvers_of_the_ca_see_whose_certificate_it_is(case: Case) -> None:
    now = asked(case)
    (task,) = now.approver.tasks(case.approver_client)
    shown = json.loads(base64.b64decode(task["metaData"]))

    assert shown["type"] == "Certificate"
    assert shown["enrollmentId"] == case.id
    assert f"CA key label: {now.ca.label}" in shown["about"]
    assert f"CSR: sha256:{case.record()['csr']['sha256']}" in shown["about"]


def test_a_certificate_that_is_not_to_be_imported_is_only_stored(case: Case) -> None:
    ca, result = issued(case, **{"import": False})

    assert_certified(result, ca)
    assert result.document["certificate"]["imported"] is None
    assert result.count(*IMPORT) == 0


def test_a_whole_subject_and_a_validity_go_to_a_newer_tsb(
    case: Case, stack: InProcessStack
) -> None:
    stack.configure(TsbNewerCertificates="true")
    stack.control("PUT", "/switches", {"newerSignProperties": True})
    person, other = people(2)
    ca = Ca.make(case, other)
    request = case.request(token(group(person)))
    request["csr"]["standardCertificateAttributes"] |= {"country": "CH", "locality": "Bern"}
    arn = case.start(ca.request(request, validity=400))
    case.approve(person)
    case.approve(other, label=ca.label)
    result = case.end(arn)

    assert_certified(result, ca)
    found = certificate.read(certificates(result)[0])
    assert (found.ends - found.begins).days == 400
    assert [one.name for part in found.name for one in part] == [
        "country", "locality", "commonName",
    ]  # fmt: skip


def test_a_ca_s_certificate_may_itself_sign(case: Case) -> None:
    usages = {"keyUsage": ["KEY_CERT_SIGN", "CRL_SIGN"], "certificateAuthority": True}
    ca, result = issued(case, **usages)

    assert_certified(result, ca)


@pytest.mark.parametrize("algorithm", ["EC", "ED"])
def test_the_ca_s_key_decides_the_signature(case: Case, algorithm: str) -> None:
    curve = {"EC": "1.3.132.0.34", "ED": "1.3.101.112"}[algorithm]
    name = {"EC": "SHA256_WITH_ECDSA", "ED": "EDDSA"}[algorithm]
    person, other = people(2)
    ca = Ca.make(
        case,
        other,
        key={"algorithm": algorithm, "curveOid": curve, "keySize": None, "algorithmOid": None},
        signatureAlgorithm=name,
    )
    arn = begun(case, ca, person)
    case.approve(other, label=ca.label)
    result = case.end(arn)

    assert_certified(result, ca)
    assert result.record["steps"]["certificate"]["signatureAlgorithm"] == name


def test_the_vendor_s_engine_of_the_samples_passes_but_for_its_usages(
    case: Case, stack: InProcessStack
) -> None:
    """One line, serial number 0, from midnight on: as the documents' own sample."""
    quirks = {"issuedPem": "oneLine", "issuedSerial": "zero", "issuedStart": "midnight"}
    stack.control("PUT", "/switches", quirks)
    ca, result = issued(case)

    assert_certified(result, ca)
    (serial,) = [
        one for one in result.record["certificateChecks"] if one["code"] == "CERTIFICATE_SERIAL"
    ]
    assert "the serial number is 0" in serial["finding"]


@pytest.mark.parametrize(
    ("quirk", "code"),
    [
        ({"issuedIssuer": "other"}, "CERTIFICATE_ISSUER"),
        ({"issuedUsages": "missing"}, "CERTIFICATE_KEY_USAGE"),
    ],
)
def test_what_else_is_odd_in_the_samples_is_refused(
    case: Case, stack: InProcessStack, quirk: Json, code: str
) -> None:
    stack.control("PUT", "/switches", quirk)
    now = asked(case)
    now.approve()
    result = now.end()

    assert_quarantined(result, code)


def test_missing_usages_pass_where_the_stack_knows_its_tsb(
    case: Case, stack: InProcessStack
) -> None:
    stack.configure(TsbOmitsUsages="true")
    stack.control("PUT", "/switches", {"issuedUsages": "missing"})
    ca, result = issued(case)

    assert_certified(result, ca)
    assert result.record["usagesOmitted"] is True


# API and command line -----------------------------------------------------------------------------


def test_the_api_hands_the_certificate_out(case: Case, stack: InProcessStack) -> None:
    user, path = Caller(stack), f"/enrollments/{case.id}"
    now = asked(case)
    open_, early = user.call("GET", path).json(), user.call("GET", f"{path}/certificate")
    csr = user.call("GET", f"{path}/csr")
    now.approve()
    result = now.end()
    shown = user.call("GET", path).json()
    pem = user.call("GET", f"{path}/certificate")
    der = user.call("GET", f"{path}/certificate", headers={"Accept": "application/pkix-cert"})

    assert early.status_code == 409
    assert csr.text == result.document["csr"]["pem"]
    assert open_["status"] == "PENDING"
    assert open_["links"].keys() == {"self", "csr"}
    assert open_["steps"]["certificate"]["caKeyLabel"] == now.ca.label
    assert open_["steps"]["certificate"]["approvers"][0]["decision"] == "outstanding"
    assert open_["steps"]["certificate"]["times"]["nextPoll"]
    assert "intent" not in open_["steps"]["certificate"]
    assert pem.text == result.document["certificate"]["pem"]
    assert der.content == certificate.read(certificates(result)[0]).der
    assert shown["links"]["certificate"].endswith(f"{path}/certificate")
    assert shown["certificate"]["sha256"] == result.document["certificate"]["sha256"]
    assert user.call("GET", f"{path}/certificate", headers={"Accept": "a/b"}).status_code == 406


def test_without_a_certificate_there_is_none(case: Case, stack: InProcessStack) -> None:
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.approve(person)
    case.end(arn)
    answer = Caller(stack).call("GET", f"/enrollments/{case.id}/certificate")

    assert answer.status_code == 409
    assert "there is no certificate" in answer.json()["detail"]


def test_what_people_see_of_the_second_step(case: Case, stack: InProcessStack) -> None:
    now = asked(case)
    document = Caller(stack).call("GET", f"/enrollments/{case.id}").json()
    shown = text(view.enrollment(document, datetime.now(UTC)))

    assert re.search(r"person 2 +outstanding", shown)
    assert "not in the policy" not in shown
    assert "person 1  " not in shown
    now.approve()
    now.end()
    document = Caller(stack).call("GET", f"/enrollments/{case.id}").json()
    shown = text(view.enrollment(document, datetime.now(UTC)))
    assert f"countersign certificate {case.id}" in shown
    assert "imported" in shown


def text(shown: Any) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(shown)
    return console.export_text()


def test_the_vendor_s_whole_tutorial(case: Case) -> None:
    """The bodies of the three pages, verbatim but for the approvers' keys; two quorums."""
    ca_approver, sub_approver = (Approver.generate("ApproverKey1") for _ in range(2))
    ca = Ca(case, tutorial.CA_LABEL)
    ca.client("keyManagement").send("POST", "/v1/key", tutorial.ca_key(ca_approver))
    ask_for_certificate(ca.client("keyOperation"), ca.label)
    ca_approver.approve(case.approver_client, case.task(ca_approver, ca.label, asked=False))
    request = {**tutorial.request(sub_approver), "enrollmentId": case.id}
    case.label = request["key"]["label"]
    arn = case.start(request)
    case.approve(sub_approver)
    case.approve(ca_approver, label=ca.label)
    result = case.end(arn)

    assert_certified(result, ca)
    assert certificates(result)[0] == ca.certificate(case.label)
    assert tutorial.verified(result.document["certificate"]["pem"]) == "leaf.pem: OK"


def test_openssl_accepts_the_chain(case: Case, tmp_path: Path) -> None:
    """Not with -x509_strict: the vendor's engine makes a CA:TRUE that is not critical."""
    _, result = issued(case)
    leaf, issuer = certificates(result)
    (tmp_path / "leaf.pem").write_text(leaf)
    (tmp_path / "ca.pem").write_text(issuer)
    now = int(datetime.now(UTC).timestamp())
    said = subprocess.run(  # noqa: S603
        ["openssl", "verify", "-attime", str(now), "-check_ss_sig",  # noqa: S607
         "-CAfile", "ca.pem", "leaf.pem"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert said.stdout == "leaf.pem: OK\n", said.stderr


# Before it ends -----------------------------------------------------------------------------------


def test_the_daily_audit_says_once_each_that_a_certificate_ends(
    case: Case, stack: InProcessStack
) -> None:
    issued(case)

    for _ in range(92):  # days
        stack.clock.advance(86_400)
        stack.call("AuditKeys", {})
    said = [one["detail"] for one in stack.events(case.id) if one["detail-type"] == EXPIRING]

    assert [one["days"] for one in said] == [30, 7, 1]
    assert said[0]["certificate"]["sha256"] == case.record()["certificate"]["sha256"]
    assert case.record()["expiring"]["days"] == 1


def test_an_audit_that_comes_late_says_the_nearest_only(case: Case, stack: InProcessStack) -> None:
    issued(case)
    stack.clock.advance(85 * 86_400)
    for _ in range(2):
        stack.call("AuditKeys", {})
    said = [one["detail"]["days"] for one in stack.events() if one["detail-type"] == EXPIRING]

    assert said == [7]


def test_a_schedule_brings_a_new_key_and_its_certificate_each_time(stack: InProcessStack) -> None:
    """docs/schedule.yaml as it is, but for the approver and the certificate. Nobody does anything
    but the approvers.
    """
    stack.configure(TsbNewerCertificates="true")
    stack.control("PUT", "/switches", {"newerSignProperties": True})
    person, other = people(2)
    ca, results = Ca.make(Case(stack), other), []
    for _ in range(2):
        case = Case(stack)
        occurrence = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        case.start_input(scheduled(case, ca, person, occurrence))
        case.approve(person)
        case.approve(other, label=ca.label)
        results.append(case.end(case.execution()))
        assert_certified(results[-1], ca)
        stack.clock.advance(89 * 86_400)
        stack.call("AuditKeys", {})
    expiring = [one for one in stack.events() if one["detail-type"] == EXPIRING]

    first, second = results
    assert [one.label for one in results] == ["installer-2026-11", "installer-2027-02"]
    assert first.record["publicKeySha256"] != second.record["publicKeySha256"]
    assert certificates(first)[0] == ca.certificate(first.label)  # the old key keeps its own
    assert [one["detail"]["enrollmentId"] for one in expiring] == [
        first.record["id"],
        second.record["id"],
    ]


def scheduled(case: Case, ca: Ca, person: Approver, occurrence: datetime) -> Json:
    """What EventBridge Scheduler makes of the target's input."""
    target = read("docs/schedule.yaml")["Resources"]["Schedule"]["Properties"]["Target"]
    moment = occurrence.strftime("%Y-%m-%dT%H:%M:%SZ")
    case.id = f"schedule.rotate.{moment.replace('-', '').replace(':', '')}"
    case.label = f"installer-{occurrence:%Y-%m}"
    arn = "arn:aws:scheduler:eu-central-1:123456789012:schedule/countersign/rotate"
    filled = {"<aws.scheduler.schedule-arn>": arn, "<aws.scheduler.scheduled-time>": moment}
    text: str = target["Input"]
    for name, value in filled.items():
        text = text.replace(name, value)
    made: Json = json.loads(text)
    (only,) = made["request"]["key"]["policy"]["ruleUse"]["tokens"]
    only["groups"] = [group(person)]
    terms = {"caKeyLabel": ca.label, "validity": 90, "keyUsage": ["DIGITAL_SIGNATURE"]}
    made["request"]["certificate"] = terms
    return made


# Refused before anybody is asked ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "made", "why"),
    [
        ({}, {"certified": False}, "402"),
        ({}, {"validity": 89}, "before 90 days are over"),
        ({}, {"certificateAuthority": False}, "is no CA's"),
        ({}, {"keyUsage": ["DIGITAL_SIGNATURE"]}, "may not sign certificates"),
        ({"signatureAlgorithm": "EDDSA"}, {}, "cannot make EDDSA"),
        ({"caKeyLabel": "ca.nobody"}, {}, "650"),
    ],
    ids=lambda one: str(one)[:40],
)
def test_what_the_ca_s_key_cannot_sign_is_refused_before_anybody_is_asked(
    case: Case, terms: Json, made: Json, why: str
) -> None:
    person, other = people(2)
    ca = Ca.make(case, other, **made)
    result = case.end(case.start(ca.request(case.request(token(group(person))), **terms)))

    assert_failed(result, "InvalidEnrollmentError", "CreateKey")
    assert why in result.document["error"]["message"]
    assert result.keys == result.requests == []


def test_a_ca_key_that_asks_nobody_is_refused(case: Case) -> None:
    person, other = people(2)
    ca = Ca.make(case, other, policy=policy(other) | {"ruleUse": None})
    result = case.end(case.start(ca.request(case.request(token(group(person))))))

    assert_failed(result, "InvalidEnrollmentError", "CreateKey")
    assert "asks nobody" in result.document["error"]["message"]


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"validity": 91}, "certificate.validity"),
        ({"validity": 0}, "certificate.validity"),
        ({"keyUsage": ["KEY_CERT_SIGN"]}, "certificate.keyUsage"),
        ({"certificateAuthority": True}, "certificate.keyUsage"),
        ({"keyUsage": ["CRL_SIGN", "CRL_SIGN"]}, "certificate.keyUsage"),
        ({"signatureAlgorithm": "SHA1_WITH_RSA"}, "certificate.signatureAlgorithm"),
        ({"caKeyLabel": "a/b"}, "certificate.caKeyLabel"),
        ({"import": "yes"}, "certificate.import"),
        ({"extra": 1}, "certificate.extra"),
    ],
    ids=str,
)
def test_terms_that_cannot_be_kept_are_refused_at_once(case: Case, terms: Json, field: str) -> None:
    (person,) = people(1)
    request = case.request(token(group(person)))
    request["certificate"] = {"caKeyLabel": "ca", "validity": 90, "keyUsage": []} | terms
    result = case.end(case.start(request))

    assert_failed(result, "InvalidEnrollmentError", "AcceptEnrollment")
    assert field in result.document["error"]["message"]


def test_a_subject_that_an_older_tsb_would_cut_is_refused(case: Case) -> None:
    (person,) = people(1)
    request = case.request(token(group(person)))
    request["csr"]["standardCertificateAttributes"]["country"] = "CH"
    request["certificate"] = {"caKeyLabel": "ca", "validity": 90, "keyUsage": []}
    result = case.end(case.start(request))

    assert "TsbNewerCertificates" in result.document["error"]["action"]
    assert "standardCertificateAttributes.country" in result.document["error"]["message"]


def test_the_new_key_s_own_label_is_no_ca_s(case: Case) -> None:
    (person,) = people(1)
    request = case.request(token(group(person)))
    terms = {"caKeyLabel": case.label.upper(), "validity": 90, "keyUsage": []}
    result = case.end(case.start({**request, "certificate": terms}))

    assert "own label" in result.document["error"]["message"]


def test_a_ca_that_changed_meanwhile_asks_nobody(case: Case, stack: InProcessStack) -> None:
    """Its certificate has expired when its approvers would be asked: the CSR stays."""
    person, other = people(2)
    ca = Ca.make(case, other, validity=91)
    arn = case.start(ca.request(case.request(token(group(person), timeout=0))))
    case.await_event("Enrollment Awaiting Approval")
    stack.clock.advance(2 * 86_400)
    case.approve(person)
    result = case.end(arn)

    assert_failed_later(result, "InvalidEnrollmentError", "RequestCertificate")
    assert "before 90 days are over" in result.document["error"]["message"]
    assert not [one for one in ca.requests() if one["kind"] == "sign"]
    assert_csr_stays(result)


# Other ends of the second step --------------------------------------------------------------------


def assert_failed_later(result: Result, name: str, state: str) -> None:
    error = result.document["error"]
    assert result.status == "FAILED"
    assert (error["name"], error["state"]) == (name, state)
    assert result.document["outcome"] == result.record["outcome"] == "FAILED"
    assert result.endings == ["Enrollment Failed"]
    assert "certificate.pem" not in result.objects


def assert_quarantined(result: Result, code: str) -> None:
    assert_failed_later(result, "CsrInvalidError", "StoreCertificate")
    assert result.document["error"]["reason"] == code
    assert result.record["quarantine"]["code"] == code
    assert "Enrollment Quarantined" in result.event_types
    assert set(result.quarantine) == {"certificate.pem", "findings.json"}
    assert result.count(*IMPORT) == 0
    assert_csr_stays(result)


def assert_ended_later(result: Result, outcome: str) -> None:
    assert result.status == "SUCCEEDED"
    assert result.document["outcome"] == result.record["outcome"] == outcome
    assert result.document["error"] is None
    assert result.endings == [f"Enrollment {outcome.title()}"]
    assert result.ending["detail"]["step"] == "certificate"
    assert_csr_stays(result)


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


def test_cancelled_before_the_ca_s_approvers_are_asked(case: Case, stack: InProcessStack) -> None:
    person, other = people(2)
    ca = Ca.make(case, other)
    arn = begun(case, ca, person)
    stack.at("RequestCertificate", "UpdateItem")
    case.cancel()
    result = case.end(arn)

    assert result.document["outcome"] == "CANCELLED"
    assert not [one for one in ca.requests() if one["kind"] == "sign"]
    assert_csr_stays(result)


def test_cancelled_before_the_csr_is_stored(case: Case, stack: InProcessStack) -> None:
    person, other = people(2)
    ca = Ca.make(case, other)
    arn = begun(case, ca, person)
    stack.at("StoreCsr", "UpdateItem")
    case.cancel()
    result = case.end(arn)

    assert result.document["outcome"] == "CANCELLED"
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
    assert facts["CA attestation"] == f"root sha256:{root}"
    assert folder["attestation-chain.pem"] != folder["ca-attestation-chain.pem"]
    for believed in (former, root):
        with pytest.raises(EvidenceInvalidError):
            verify(folder, stack.signing_key(), attestation_root=believed)


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
    assert facts["CA attestation"] == ("unverified" if pinned else f"root sha256:{root}")


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
    root = replace_hsm()
    stack.at("StoreCsr", "UpdateItem").kill()
    result = case.end(arn)

    facts = verify(case.evidence(result), stack.signing_key(), attestation_root=root).facts
    assert facts["outcome"] == "ISSUED"


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
def test_another_ca_key_than_was_asked_for_is_refused(case: Case, what: str, code: str) -> None:
    now = asked(case)
    now.ca.fault(*ATTRIBUTES, "forge", what=what, times=None)
    now.approve()
    result = now.end()

    assert_quarantined(result, code)


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

    facts = verify(folder, stack.signing_key(), attestation_root=root).facts
    assert facts["outcome"] == result.document["outcome"] == end
    assert facts["CA attestation"] == f"root sha256:{root}"
    with pytest.raises(EvidenceInvalidError, match="CERTIFICATE_CA_ATTESTATION"):
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
