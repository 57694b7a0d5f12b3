"""What is pending, whether it moves, and what is about to expire: for the operator's alarms.

Looks only: nothing is repaired here, because nobody knows better than the workflow what comes next.
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
# With all retries of all states the approvers are asked, or the enrollment failed, within this.
START_LIMIT = timedelta(hours=2)
SLACK = timedelta(hours=1)  # for the last poll, StoreCsr and CloseEnrollment with their retries
POLLED_WITHIN_SECONDS = 3600  # the alarm on missing looks wants one within this time


def watch_enrollments(
    *, records: Records, tls: Tls, polling_settings: Schedule, directory: Directory
) -> Sighting:
    """Look at every open enrollment and at every certificate on which the next steps depend.

    Idempotent: reads only.

    Args:
        records: the table.
        tls: whose certificates are looked at as well.
        pace: as in RequestCsr.
        directory: who of its people can approve today, and until when.
    """
    seen = Sighting()
    moment = m.now()
    for status in OPEN:
        for line in records.at_status(status):
            _look_at(line, polling_settings, moment, seen)
            for certificate in _approver_certificates(records.get(line["id"])):
                for ends in expiries(certificate):
                    _note_expiry(seen, "approver", ends, moment)
    for person in directory.people:
        until = [_end(key) for key in person.keys]
        known = [one for one in until if one is not None]
        # Who can no longer approve was told of before; who has a key without an end needs no word.
        if len(known) == len(until) and any(key.valid(moment) for key in person.keys):
            _note_expiry(seen, "approver", max(known), moment)
    for name, certificates in (("client", tls.certificate), ("ca", tls.ca_bundle)):
        for ends in expiries(certificates or ""):
            _note_expiry(seen, name, ends, moment)
    return seen


def _end(key: PersonKey) -> datetime | None:
    """From when on nobody can approve with it: by its certificate, and by the directory."""
    ends = expiries(key.certificate or "")
    if key.valid_to is not None:
        ends.append(datetime.combine(key.valid_to + timedelta(days=1), time.min, UTC))
    return min(ends, default=None)


def _look_at(record: Record, polling_settings: Schedule, moment: datetime, seen: Sighting) -> None:
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
