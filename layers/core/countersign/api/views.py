"""How the HTTP API shows a record."""

from datetime import datetime, timedelta
from http import HTTPStatus
from typing import NamedTuple

from countersign import models as m
from countersign import polling
from countersign.api.models import (
    ApprovalRequest,
    CertificateApproval,
    Enrollment,
    EnrollmentSummary,
    Steps,
)
from countersign.record import (
    Record,
    certificate_step,
    csr_step,
    last_step,
    policy_of,
    step_of,
    wants_certificate,
)
from countersign.states import schedules

SHOWN_OF_CSR = ("requestId", "status", "approvers", "times")
SHOWN_OF_CERTIFICATE = ("caKeyLabel", "policy", *SHOWN_OF_CSR)


def next_poll(record: Record, polling_settings: polling.Schedule) -> str | None:
    """When the execution polls TSB next, to some seconds, if nothing wakes it before.

    None before TSB is asked, and after the end.
    """
    name = last_step(record)
    times = step_of(record, name).get("times", {})
    asked_at, noted = times.get("requested"), times.get("nextPoll")
    if not (asked_at and noted) or "outcome" in record:
        return None
    tokens = m.PolicySummary.read(policy_of(record, name)).tokens
    if not tokens:
        return None
    schedule = schedules.schedule(tokens, polling_settings, is_one_of_two=wants_certificate(record))
    began = datetime.fromisoformat(asked_at)
    age = int((m.now() - began).total_seconds())
    first = int((datetime.fromisoformat(noted) - began).total_seconds())
    poll = polling.next_poll(schedule, age, noted=max(first, polling.FIRST_SECONDS))
    return m.timestamp(began + timedelta(seconds=poll))


def enrollment(record: Record, base: str) -> Enrollment:
    """A record as people see it."""
    requested = record.get("request")
    stored = record["csr"] if m.has_csr(record) else None
    certificate = m.certificate_of(record)
    return Enrollment.read(
        {
            **summary(record, base).dump(),
            "schemaVersion": record["schemaVersion"],
            "executionArn": record.get("executionArn"),
            "request": {k: v for k, v in requested.items() if k != "enrollmentId"}
            if requested
            else None,
            "reason": requested.get("reason") if requested else None,
            "profile": record.get("profile"),
            "findings": [*record.get("findings", ()), *record.get("caFindings", ())],
            "policy": record.get("policy"),
            "csr": {k: v for k, v in stored.items() if k != "pem"} if stored else None,
            "certificate": certificate.model_dump(mode="json", exclude={"pem"})
            if certificate
            else None,
            "unusedKey": record.get("unusedKey"),
        }
    )


def summary(record: Record, base: str) -> EnrollmentSummary:
    """A record, or what an index holds of it, as one line."""
    at = f"{base}/enrollments/{record['id']}"
    is_issued, wants_more = record["status"] == "ISSUED", wants_certificate(record)
    # An index does not hold the CSR: of what is still open or ended otherwise, only the whole
    # record says whether there is one.
    links = {
        "self": at,
        **({"csr": f"{at}/csr"} if is_issued or m.has_csr(record) else {}),
        **({"certificate": f"{at}/certificate"} if is_issued and wants_more else {}),
    }
    return EnrollmentSummary(
        enrollment_id=record["id"],
        status=record["status"],
        stage=record["stage"],
        outcome=record.get("outcome"),
        attempt=record["attempt"],
        key_label=record.get("keyLabel"),
        origin=record["origin"],
        times=record["times"],
        steps=_steps(record),
        cancel=record.get("cancel"),
        error=record.get("error"),
        links=links,
    )


def _steps(record: Record) -> Steps:
    shown = {name: one for name, one in csr_step(record).items() if name in SHOWN_OF_CSR}
    if not wants_certificate(record):
        return Steps(csr=ApprovalRequest.read(shown))
    second = {
        name: one for name, one in certificate_step(record).items() if name in SHOWN_OF_CERTIFICATE
    }
    return Steps(csr=ApprovalRequest.read(shown), certificate=CertificateApproval.read(second))


class Answer(NamedTuple):
    """An HTTP status and the enrollment as it is."""

    status: HTTPStatus
    enrollment: Enrollment


def answer(record: Record, base: str) -> Answer:
    """200 for an enrollment that has ended, 202 for one that is under way."""
    status = HTTPStatus.OK if "outcome" in record else HTTPStatus.ACCEPTED
    return Answer(status, enrollment(record, base))
