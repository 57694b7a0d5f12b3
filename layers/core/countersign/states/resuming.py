"""AcceptEnrollment of an execution that resumes an enrollment, instead of beginning one."""

import hashlib
import json
from datetime import datetime
from typing import Any

from countersign import events, polling, resumption
from countersign import models as m
from countersign.errors import EnrollmentConflictError
from countersign.evidence import bundle
from countersign.record import (
    MAX_EARLIER,
    Record,
    last_step,
    policy_of,
    request_object,
    step_of,
    wants_certificate,
)
from countersign.spki import fingerprint
from countersign.states import schedules
from countersign.states.ownership import has_ended
from countersign.stores import Bus, Objects, Records
from countersign.tsb.models import KeyAttributes

MAX_ANSWERS = 20  # of CreateKey that are kept; see aws/objects.py
OF_THE_END = ("outcome", "error", "announced", "times.ended", "unusedKey", "unknownToTsbSince")


def resume(
    enrollment_id: str,
    execution_arn: str,
    *,
    records: Records,
    objects: Objects,
    bus: Bus,
    polling_settings: polling.Schedule,
) -> m.Resumed:
    """Take the enrollment over from the execution that failed, and announce that.

    Nobody is asked. The workflow goes on with PollRequest, as if it had never stopped.

    Idempotent: a repeated call finds the enrollment taken over, and announces it again.

    Args:
        enrollment_id: which enrollment.
        execution_arn: the execution that resumes it.
        records: the table.
        objects: the bucket, with the accepted request and TSB's answers.
        bus: receives the event that the enrollment was resumed.
        polling_settings: how to wait, as the stack is configured.

    Returns:
        What the state machine knew before the enrollment failed.

    Raises:
        EnrollmentConflictError: it cannot be resumed, or another execution was faster, or what is
            kept of it is not what the record says. Nothing was changed.
        AwsCallError: a store or the bus refused; the state machine retries.
    """
    record = records.get(enrollment_id)
    if record is None:
        raise EnrollmentConflictError(
            f"there is no enrollment {enrollment_id}", action="Compare the id with its record."
        )
    is_own = record.get("executionArn") == execution_arn
    if execution_arn in record.get("earlier", ()) or (is_own and "outcome" in record):
        raise has_ended(enrollment_id)  # it was stopped, and this function still runs
    refused = None if is_own else resumption.why_not(record)
    if refused is not None:
        raise refused
    # Both are read before anything is written.
    request, key = _accepted_request(record, objects), _key(record, objects)
    if not is_own:
        record = _taken_over(record, execution_arn, records)
    bus.put(events.resumed(record))
    name = last_step(record)
    step = step_of(record, name)
    # As it was when they were asked: of the CA's key only the summary is on record.
    schedule = schedules.schedule(
        m.PolicySummary.read(policy_of(record, name)).tokens,
        polling_settings,
        is_one_of_two=wants_certificate(record),
    )
    age = m.now() - datetime.fromisoformat(step["times"]["requested"])
    return m.Resumed(
        enrollment_id=enrollment_id,
        attempt=record["attempt"],
        request=request,
        step=name,
        key=key,
        request_id=step["requestId"],
        schedule=schedules.handed_over(schedule),
        wait_seconds=polling.FIRST_SECONDS,
        # Not beyond the age at which an endless request is cancelled: so the TSB has time to say
        # how it ended, however late the enrollment is resumed.
        age_seconds=min(int(age.total_seconds()), schedule.overdue),
    )


def give_up(record: Record, execution_arn: str, records: Records) -> None:
    """Note that this execution ended without having taken the enrollment over.

    Its function may still run and must not take it over any more. Its name cannot be used again,
    so the next execution gets another one. Where somebody else has taken it over, nothing is noted.
    """
    if resumption.why_not(record) is None:
        records.update(
            record["id"],
            {
                "resumed": record.get("resumed", 0) + 1,
                "earlier": [*record.get("earlier", ()), execution_arn][-MAX_EARLIER:],
            },
            **_unchanged(record),
        )


def _taken_over(record: Record, execution_arn: str, records: Records) -> Record:
    values: dict[str, Any] = {
        "executionArn": execution_arn,
        "earlier": [*record.get("earlier", ()), record["executionArn"]][-MAX_EARLIER:],
        "resumed": record.get("resumed", 0) + 1,
        "status": m.Status.PENDING,
        "stage": "AcceptEnrollment",
    }
    existing = records.update(record["id"], values, **_unchanged(record), remove=OF_THE_END)
    # Ours is there already where the SDK repeated the write, because its first answer got lost.
    if existing is not None and existing.get("executionArn") != execution_arn:
        raise EnrollmentConflictError(
            f"enrollment {record['id']} was changed at the same moment; it was not resumed",
            action="Look at its record: another execution may have resumed it.",
        )
    return Record(**{**record, **values})  # type: ignore[typeddict-item]  # the end is of no use


def _unchanged(record: Record) -> dict[str, Any]:
    """The condition of a write: the enrollment has still the end that was read."""
    names = ("executionArn", "attempt", "outcome", "announced", "resumed", "unusedKey")
    return {
        "when": {name: record[name] for name in names if name in record},  # type: ignore[literal-required]
        "absent": tuple(name for name in names if name not in record),
    }


def _accepted_request(record: Record, objects: Objects) -> dict[str, Any]:
    name = f"enrollments/{record['id']}/{request_object(record['attempt'])}"
    kept = objects.read(name)
    if kept is None or hashlib.sha256(kept).hexdigest() != record["acceptedSha256"]:
        raise _not_as_recorded(f"what lies at {name} is not the request that was accepted")
    request: dict[str, Any] = json.loads(kept)
    return request


def _key(record: Record, objects: Objects) -> m.CreatedKey:
    """The key as CreateKey reported it, from TSB's answer: StoreCsr compares the whole key."""
    for number in range(1, MAX_ANSWERS + 1):
        name = f"tsb/create-key-{number}.json"
        answer = objects.read(f"enrollments/{record['id']}/{name}")
        if answer is None:
            break
        # What somebody else has put there is no answer.
        found = bundle.answers({name: answer}, "create-key", KeyAttributes)
        public_key = found[0].key.public_key if found else ""
        if fingerprint(public_key) == record["publicKeySha256"]:
            return m.CreatedKey(
                label=record["keyLabel"],
                public_key=public_key,
                public_key_sha256=record["publicKeySha256"],
            )
    raise _not_as_recorded("no answer of the TSB is kept about the key that is on record")


def _not_as_recorded(why: str) -> EnrollmentConflictError:
    return EnrollmentConflictError(
        f"{why}; nothing was changed",
        action="Find out who wrote there; only this workflow may.",
    )
