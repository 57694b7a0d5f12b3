"""From CSR to certificate: the CA's key signs under a quorum of its own, in the same loop."""

import base64
import io
import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from countersign.verification import certificate
from countersign_cli import view
from local import tutorial
from local.approver import Approver
from local.ca import ask_for_certificate, policy
from local.engine.stack import InProcessStack
from local.template import read
from tests.ca import Ca
from tests.case import Case, Json, assert_failed, group, people, token
from tests.workflow.api import Caller
from tests.workflow.certifying import (
    EXPIRING,
    IMPORT,
    asked,
    assert_certified,
    assert_csr_stays,
    assert_failed_later,
    assert_quarantined,
    begun,
    certificates,
    issued,
)

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
