"""What is pending, whether it makes progress, and what will expire soon: for operators' alarms.

It only reads. Nothing is repaired here, because only the workflow knows what comes next.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

from countersign import models as m
from countersign.policy.certificates import expiries
from countersign.policy.directory import Directory, PersonKey
from countersign.polling import Schedule
from countersign.record import Record, csr_step
from countersign.stores import Records, Sighting
from countersign.tsb.models import Tls

OPEN = ("PENDING", "CANCELLING")  # the status of an enrollment without an outcome
# Within this time, with all retries, the approvers are asked or the enrollment has failed.
START_LIMIT = timedelta(hours=2)
SLACK = timedelta(hours=1)  # for the last poll, StoreCsr and CloseEnrollment with their retries
POLLED_WITHIN_SECONDS = 3600  # PollMissingAlarm expects a poll within this time


def watch_enrollments(
    *, records: Records, tls: Tls, polling_settings: Schedule, directory: Directory
) -> Sighting:
    """Check every open enrollment and every certificate on which the next steps depend.

    Idempotent: reads only.

    Args:
        records: the table.
        tls: its certificates are checked as well.
        polling_settings: as in RequestCsr.
        directory: its people are checked: who can approve today, and until when.
    """
    seen = Sighting()
    moment = m.now()
    for status in OPEN:
        for line in records.at_status(status):
            _observe(line, polling_settings, moment, seen)
            for certificate in _approver_certificates(records.get(line["id"])):
                for ends in expiries(certificate):
                    _note_expiry(seen, "approver", ends, moment)
    for person in directory.people:
        until = [_end(key) for key in person.keys]
        known = [one for one in until if one is not None]
        # People who can no longer approve were reported before. A key without an end is not
        # reported.
        if len(known) == len(until) and any(key.valid(moment) for key in person.keys):
            _note_expiry(seen, "approver", max(known), moment)
    for name, certificates in (("client", tls.certificate), ("ca", tls.ca_bundle)):
        for ends in expiries(certificates or ""):
            _note_expiry(seen, name, ends, moment)
    return seen


def _end(key: PersonKey) -> datetime | None:
    """When the key stops being valid, according to its certificate and the directory."""
    ends = expiries(key.certificate or "")
    if key.valid_to is not None:
        ends.append(datetime.combine(key.valid_to + timedelta(days=1), time.min, UTC))
    return min(ends, default=None)


def _observe(record: Record, polling_settings: Schedule, moment: datetime, seen: Sighting) -> None:
    accepted = datetime.fromisoformat(record["acceptedAt"])
    seen.pending += 1
    seen.oldest_seconds = max(seen.oldest_seconds, int((moment - accepted).total_seconds()))
    requested = csr_step(record).get("times", {}).get("requested")
    if requested is None:
        if moment - accepted > START_LIMIT:
            seen.overdue[record["id"]] = f"still in {record['stage']}, nobody was asked"
        return
    asked = datetime.fromisoformat(requested)
    ends = csr_step(record).get("times", {}).get("windowEnds")
    window = int((datetime.fromisoformat(ends) - asked).total_seconds()) if ends else 0
    schedule = replace(polling_settings, window_seconds=window)
    if moment - asked > timedelta(seconds=schedule.last_age) + SLACK:
        seen.overdue[record["id"]] = (
            f"its window and the silence after it are over, in {record['stage']}"
        )
    if schedule.cap <= POLLED_WITHIN_SECONDS < (moment - asked).total_seconds():
        seen.polls_due += 1


def _approver_certificates(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for inner in part:
            yield from _approver_certificates(inner)
    elif isinstance(part, dict):
        if part.get("type") == "certificate" and isinstance(part.get("value"), str):
            yield part["value"]
        for inner in part.values():
            yield from _approver_certificates(inner)


def _note_expiry(seen: Sighting, name: str, ends: datetime, moment: datetime) -> None:
    days = (ends - moment) / timedelta(days=1)
    seen.expiring_days[name] = min(days, seen.expiring_days.get(name, days))
