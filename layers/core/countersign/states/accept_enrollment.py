"""State AcceptEnrollment: validate the request and claim its enrollment id.

The API accepts in the same way before it starts the execution.
"""

import hashlib
import json
from typing import Any

from countersign import events, polling
from countersign import models as m
from countersign.errors import EnrollmentConflictError, InvalidEnrollmentError
from countersign.policy import approvers, linter
from countersign.policy.rules import Names
from countersign.record import Record, Steps, request_object
from countersign.request import canonical, intake, validation
from countersign.states import documents, ownership, resuming
from countersign.states.key_slots import next_slot
from countersign.states.ownership import KIND
from countersign.stores import Bus, Objects, Records


def accept_enrollment(
    event: m.AcceptEnrollmentInput,
    *,
    records: Records,
    objects: Objects,
    bus: Bus,
    rules: validation.Rules,
    polling_settings: polling.Schedule,
    keys_per_minute: int = 0,
) -> m.Accepted | m.Resumed | m.OutcomeDocument:
    """Validate the request, claim its enrollment id and announce it, before creating anything else.

    An input that names an enrollment to resume takes that over instead; see `resuming.resume`.

    Idempotent: a repeated execution finds its own claim and the request as it was accepted first (a
    profile without version may mean a newer one by now). It announces the acceptance again and
    takes a later key slot.

    Args:
        event: the execution and its input.
        records: the table.
        objects: the bucket.
        bus: receives the event that the enrollment was accepted.
        rules: what this stack accepts.
        polling_settings: how to wait, as the stack is configured; for an enrollment that is
            resumed.
        keys_per_minute: how many keys may be created; 0 is without limit.

    Returns:
        The claimed enrollment, or the resumed one. If another execution already carries out the
        request: the document of that enrollment, with `duplicate`.

    Raises:
        InvalidEnrollmentError: the request cannot be accepted.
        EnrollmentConflictError: the id belongs to another request, or cannot be resumed.
        AwsCallError: a store or the bus refused; the state machine retries.
    """
    resumed = intake.resumed(event.execution.input)
    if resumed is not None:
        return resuming.resume(
            resumed,
            event.execution.arn,
            records=records,
            objects=objects,
            bus=bus,
            polling_settings=polling_settings,
        )
    raw, stated = intake.requested(event.execution.input)
    intake.require_due(stated, m.now())
    enrollment_id = intake.enrollment_id(event.execution.input, event.execution.name)
    claimed = _claimed_by_api(enrollment_id, stated, event.execution.arn, records)
    record, own, reading = accept(
        enrollment_id,
        raw,
        # The API knows its callers. It has claimed the id before, and what it wrote stays.
        intake.known(stated),
        # What was said is compared too. There it can only harm its author.
        requester=claimed or stated.principal,
        requester_known=claimed is not None,
        records=records,
        rules=rules,
        execution_arn=event.execution.arn,
    )
    if not own:
        return documents.document(record).model_copy(update={"duplicate": True})
    accepted = _accepted(record, reading, objects)
    bus.put(events.accepted(record))
    return m.Accepted(
        enrollment_id=record["id"],
        attempt=record["attempt"],
        request=accepted,
        not_before=next_slot(records, keys_per_minute),
    )


def accept(
    enrollment_id: str,
    raw: Any,
    origin: m.Origin,
    *,
    requester: str | None,
    requester_known: bool,
    records: Records,
    rules: validation.Rules,
    execution_arn: str | None = None,
) -> tuple[Record, bool, validation.Reading]:
    """Parse, expand and lint a request, then claim its id: every trigger accepts in this way.

    Args:
        enrollment_id: see `intake.enrollment_id`.
        raw: the request as it was sent.
        origin: the trigger, and who sent the request.
        requester: the AWS principal who asks, or says so; compared with the approvers.
        requester_known: False if the trigger does not know who asks.
        records: the table.
        rules: what this stack accepts.
        execution_arn: None if the trigger claims the id before the execution is started.

    Returns:
        The stored record, whether the caller must carry it out, and the validated request.

    Raises:
        InvalidEnrollmentError: the request cannot be accepted; nothing was created.
        EnrollmentConflictError: the id belongs to another request.
    """
    reading = validation.read(
        raw,
        rules=rules,
        requester=requester,
        moment=m.now(),
        requester_known=requester_known,
    )
    names = rules.profiles.directory.names
    record = initial_record(
        enrollment_id, raw, reading, origin, names=names, execution_arn=execution_arn
    )
    return *ownership.claim(record, records), reading


def _claimed_by_api(
    enrollment_id: str, stated: m.StatedOrigin, execution_arn: str, records: Records
) -> str | None:
    """The caller for whom the API claimed the id before it started this execution, if it did.

    Raises:
        InvalidEnrollmentError: the API makes such ids, and has not claimed this one. Its caller can
            be known and an `Idempotency-Key` can be guessed, so others could take it first.
    """
    if stated.trigger != "api":
        return None
    record = records.get(enrollment_id) or Record()
    if "requestSha256" not in record and intake.is_made_by_api(enrollment_id):
        raise InvalidEnrollmentError(
            f"only the API makes ids like {enrollment_id}, and it has not claimed this one",
            field="origin.id",
            action="Ask through the API, or give the request an enrollmentId of your own.",
        )
    # An execution that repeats an earlier one by hand was not started by the API.
    waits_for_us = record.get("executionArn", execution_arn) == execution_arn
    caller: str | None = record.get("origin", {}).get("principal")
    return caller if waits_for_us else None


def _accepted(record: Record, reading: validation.Reading, objects: Objects) -> dict[str, Any]:
    """The request that this attempt carries out: what it accepted first, as the record knows it."""
    attempt, ours = record["attempt"], canonical.canonical(reading.raw)
    name = request_object(attempt)
    kept = objects.keep_first(f"enrollments/{record['id']}/{name}", ours, "application/json")
    digest = hashlib.sha256(kept).hexdigest()
    if digest != record.get("acceptedSha256", hashlib.sha256(ours).hexdigest()):
        raise EnrollmentConflictError(
            f"what lies at {name} is not what the record says was accepted; it was left as it is",
            action="Find out who wrote it; only this workflow may. Or, where a profile was released"
            " or the directory changed at this moment, start again with the same id.",
        )
    accepted: dict[str, Any] = json.loads(kept)
    return accepted


def initial_record(
    enrollment_id: str,
    raw: dict[str, Any],
    reading: validation.Reading,
    origin: m.Origin,
    *,
    names: Names,
    execution_arn: str | None = None,
) -> Record:
    """The whole record as a claim writes it.

    Args:
        enrollment_id: see `intake.enrollment_id`.
        raw: the request as it was sent; stored unchanged.
        reading: the same request after validation.
        origin: the trigger, and who sent the request.
        names: people's names in the directory, by the fingerprints of their keys.
        execution_arn: None if the trigger claims the id before the execution is started.
    """
    accepted_at = m.timestamp(m.now())
    return {
        "id": enrollment_id,
        "kind": KIND,
        "schemaVersion": m.SCHEMA_VERSION,
        "attempt": 1,
        **({"executionArn": execution_arn} if execution_arn else {}),
        "origin": origin.model_dump(mode="json", exclude_none=True),
        "requestSha256": canonical.sha256(raw),
        "request": raw,
        **_found(reading),
        "keyLabel": reading.request.key.label,
        "policy": approvers.summary(reading.request.key.policy, names).dump(),
        "status": m.Status.PENDING,
        "stage": "AcceptEnrollment",
        "steps": {
            "csr": {"times": {}},
            **_certificate_step(reading.request.certificate),
        },
        "acceptedAt": accepted_at,  # beside times.accepted: an index key is a top-level attribute
        "times": {"accepted": accepted_at},
    }


def _certificate_step(asked: m.CertificateRequest | None) -> Steps:
    return {"certificate": {"caKeyLabel": asked.ca_key_label, "times": {}}} if asked else {}


def _found(reading: validation.Reading) -> Record:
    """What the validator found: of a profile without version, which one it was."""
    found: Record = {
        "acceptedSha256": canonical.sha256(reading.raw),
        "findings": linter.dump(reading.findings),
    }
    if reading.request.profile is not None and reading.profile_sha256 is not None:
        found["profile"] = reading.request.profile
        found["profileSha256"] = reading.profile_sha256
    return found
