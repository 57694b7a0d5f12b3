"""How the HTTP API shows a record."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus

from countersign import models as m
from countersign import polling
from countersign.policy import rules
from countersign.record import Record, csr_step


def next_poll(record: Record, polling_settings: polling.Schedule) -> str | None:
    """When the execution polls TSB next, to some seconds, if nothing wakes it before.

    None before TSB is asked, and after the end.
    """
    times = csr_step(record).get("times", {})
    asked_at, noted = times.get("requested"), times.get("nextPoll")
    tokens = record.get("policy", {}).get("tokens")
    if not (asked_at and noted and tokens) or "outcome" in record:
        return None
    summarized = [m.TokenSummary.read(token) for token in tokens]
    schedule = replace(
        polling_settings,
        window_seconds=rules.window_seconds(summarized),
        timelock_seconds=rules.timelock_seconds(summarized),
    )
    began = datetime.fromisoformat(asked_at)
    age = int((m.now() - began).total_seconds())
    first = int((datetime.fromisoformat(noted) - began).total_seconds())
    poll = polling.next_poll(schedule, age, noted=max(first, polling.FIRST_SECONDS))
    return m.timestamp(began + timedelta(seconds=poll))


def enrollment(record: Record, base: str) -> m.Enrollment:
    """A record as people see it."""
    requested = record.get("request")
    stored = record.get("csr") if record.get("outcome") == m.Outcome.ISSUED else None
    return m.Enrollment.read(
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
            "unusedKey": record.get("unusedKey"),
        }
    )


def summary(record: Record, base: str) -> m.EnrollmentSummary:
    """A record, or what an index holds of it, as one line."""
    at = f"{base}/enrollments/{record['id']}"
    links = {"self": at, "csr": f"{at}/csr"} if record["status"] == "ISSUED" else {"self": at}
    return m.EnrollmentSummary(
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


def _steps(record: Record) -> m.Steps:
    shown = {name: one for name, one in csr_step(record).items() if name != "intent"}
    return m.Steps(csr=m.ApprovalRequest.read(shown))


@dataclass(frozen=True)
class Answer:
    """An HTTP status and the enrollment as it is."""

    status: HTTPStatus
    enrollment: m.Enrollment


def answer(record: Record, base: str) -> Answer:
    """200 for an enrollment that has ended, 202 for one that is under way."""
    status = HTTPStatus.OK if "outcome" in record else HTTPStatus.ACCEPTED
    return Answer(status, enrollment(record, base))
