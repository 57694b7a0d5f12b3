"""What is pending, whether it makes progress, and what will expire soon: for operators' alarms.

It only reads. Nothing is repaired here, because only the workflow knows what comes next.
"""

import json
from collections.abc import Callable, Iterator
from copy import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

from countersign import models as m
from countersign import polling, waits
from countersign.policy import rules
from countersign.policy.certificates import expiries
from countersign.policy.directory import Directory, PersonKey
from countersign.record import ENDED_AT_TSB, Record, csr_step
from countersign.reminders import Due, due
from countersign.stores import Records, Sighting
from countersign.tsb.models import Tls
from countersign.waits import Wait

EVERY_MINUTES = 5  # what operators are told about changes slowly
OPEN = ("PENDING", "CANCELLING")  # the status of an enrollment without an outcome
# Within this time, with all retries, the approvers are asked or the enrollment has failed; and
# within it a cancellation has reached the execution, wherever that is.
START_LIMIT = timedelta(hours=2)
SLACK = timedelta(hours=1)  # for the last poll, StoreCsr and CloseEnrollment with their retries
CLOSE_LIMIT = timedelta(minutes=30)  # from TSB's end to ours, while nothing is away
FAILING_LIMIT = timedelta(hours=1)  # polls that fail have their own patience; people have less
# A poll takes seconds. The rest is how far the age that an execution counts lags behind the clock.
TURN = timedelta(minutes=30)


def watch_enrollments(
    *,
    scheduled: str | None,
    records: Records,
    polling_settings: polling.Schedule,
    directory: Callable[[], Directory],
    report: Callable[[Sighting], None],
    fractions: Callable[[str | None], tuple[float, ...]],
) -> list[Due]:
    """Check every open enrollment and every certificate of an approver, every five minutes.

    Idempotent: reads only. It asks no TSB and needs no secret.

    Args:
        scheduled: the minute for which this run was scheduled; None: somebody wants to know now.
            By the clock, a run that comes late would be left out.
        records: the table.
        polling_settings: as in RequestCsr.
        directory: its people are checked: who can approve today, and until when.
        report: is told what was found; for metrics.
        fractions: of the window after which to remind, by profile.

    Returns: the reminders that are due, announced or not.

    Raises:
        AwsCallError: the table refused. An alarm counts the runs that fail.
    """
    if scheduled is None or datetime.fromisoformat(scheduled).minute % EVERY_MINUTES == 0:
        seen, found = _seen(records, polling_settings, directory(), fractions)
        report(seen)
        return found
    return []


def _seen(
    records: Records,
    polling_settings: polling.Schedule,
    directory: Directory,
    fractions: Callable[[str | None], tuple[float, ...]],
) -> tuple[Sighting, list[Due]]:
    seen, found = Sighting(), list[Due]()
    moment = m.now()
    waiting = {one.enrollment_id: one for one in waits.everyone(records)}
    for status in OPEN:
        for line in records.at_status(status):
            record = records.get(line["id"], consistent=False)
            if record is None or "outcome" in record:
                continue  # the index lags behind
            accepted = datetime.fromisoformat(record["acceptedAt"])
            seen.pending += 1
            seen.oldest_seconds = max(seen.oldest_seconds, int((moment - accepted).total_seconds()))
            schedule, wait = _schedule(record, polling_settings), waiting.get(record["id"])
            if (reminder := due(record, wait, fractions)) is not None:
                found.append(reminder)
            if (why := _overdue(record, wait, schedule, moment)) is not None:
                seen.overdue[record["id"]] = why
            elif (why := _unattended(record, wait, schedule, moment)) is not None:
                seen.unattended[record["id"]] = why
            for certificate in _approver_certificates(record):
                for ends in expiries(certificate):
                    _note_expiry(seen.expiring_days, "approver", ends, moment)
    for person in directory.people:
        until = [_end(key) for key in person.keys]
        known = [one for one in until if one is not None]
        # People who can no longer approve were reported before. A key without an end is not
        # reported.
        if len(known) == len(until) and any(key.valid(moment) for key in person.keys):
            _note_expiry(seen.expiring_days, "approver", max(known), moment)
    return seen, found


def tls_days_left(tls: Tls) -> dict[str, float]:
    """By certificate towards the TSB, the days until it expires; negative after its end."""
    days_left: dict[str, float] = {}
    moment = m.now()
    for name, certificates in (("client", tls.certificate), ("ca", tls.ca_bundle)):
        for ends in expiries(certificates or ""):
            _note_expiry(days_left, name, ends, moment)
    return days_left


def _end(key: PersonKey) -> datetime | None:
    """When the key stops being valid, according to its certificate and the directory."""
    ends = expiries(key.certificate or "")
    if key.valid_to is not None:
        ends.append(datetime.combine(key.valid_to + timedelta(days=1), time.min, UTC))
    return min(ends, default=None)


def _schedule(record: Record, polling_settings: polling.Schedule) -> polling.Schedule:
    times = csr_step(record).get("times", {})
    ends, asked = times.get("windowEnds"), times.get("requested")
    window = (
        datetime.fromisoformat(ends) - datetime.fromisoformat(asked) if ends and asked else None
    )
    tokens = [m.TokenSummary.read(one) for one in record.get("policy", {}).get("tokens", ())]
    return replace(
        polling_settings,
        window_seconds=int(window.total_seconds()) if window else 0,
        timelock_seconds=rules.timelock_seconds(tokens) if tokens else 0,
    )


def _overdue(
    record: Record, wait: Wait | None, schedule: polling.Schedule, moment: datetime
) -> str | None:
    """Why the enrollment should have come further by now; None if it is in time."""
    step, stage = csr_step(record), record["stage"]
    times = step.get("times", {})
    if "cancel" in record:
        at = record["cancel"]["at"]
        late = moment - datetime.fromisoformat(at) > START_LIMIT
        return f"cancelled at {at}, and still in {stage}" if late else None
    if "requested" not in times:
        late = moment - datetime.fromisoformat(record["acceptedAt"]) > START_LIMIT
        return f"still in {stage}, nobody was asked" if late else None
    asked = datetime.fromisoformat(times["requested"])
    if moment - asked > timedelta(seconds=schedule.last_age) + SLACK:
        return f"its window and the silence after it are over, in {stage}"
    if (status := step.get("status")) in ENDED_AT_TSB:
        skew = timedelta(seconds=int(record.get("clockSkewSeconds", 0)))  # of TSB's clock
        executed = times.get("executed")
        ended = (
            datetime.fromisoformat(executed) - skew
            if executed
            else datetime.fromisoformat(times["nextPoll"])  # soon after it was seen
        )
        late = moment - ended > CLOSE_LIMIT
        return f"{status} at the TSB since {m.timestamp(ended)}, and not ended" if late else None
    if wait is not None and wait.failing:
        failing = json.loads(wait.failing)
        if moment - datetime.fromisoformat(failing["since"]) > FAILING_LIMIT:
            return f"its polls have failed since {failing['since']} with {failing['error']}"
    return None


def _unattended(
    record: Record, wait: Wait | None, schedule: polling.Schedule, moment: datetime
) -> str | None:
    """Since when the execution should have waited anew; None if its wait is current."""
    step = csr_step(record)
    requested = step.get("times", {}).get("requested")
    if requested is None or "cancel" in record or step.get("status") in ENDED_AT_TSB:
        return None
    asked = datetime.fromisoformat(requested)
    due = asked + timedelta(seconds=polling.FIRST_SECONDS)
    if wait is not None:
        began = datetime.fromisoformat(wait.since)
        age = int((began - asked).total_seconds())
        # Polls that fail become rarer at once.
        seconds = schedule.cap if wait.failing else polling.next_wait(schedule, age)
        due = began + timedelta(seconds=seconds)
    if moment - due <= TURN:
        return None
    return f"nobody can wake it since {m.timestamp(due)}: it has stopped, or waits without a token"


def _approver_certificates(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for inner in part:
            yield from _approver_certificates(inner)
    elif isinstance(part, dict):
        if part.get("type") == "certificate" and isinstance(part.get("value"), str):
            yield part["value"]
        for inner in part.values():
            yield from _approver_certificates(inner)


def _note_expiry(days_left: dict[str, float], name: str, ends: datetime, moment: datetime) -> None:
    days = (ends - moment) / timedelta(days=1)
    days_left[name] = min(days, days_left.get(name, days))
