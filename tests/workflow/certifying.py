"""Enrollments that end with a certificate, for the tests of it."""

from dataclasses import dataclass
from typing import Any

from countersign.verification import certificate
from local.approver import Approver
from local.ca import policy
from tests.ca import Ca
from tests.case import Case, Json, Result, group, people, token

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
