"""Who owns an enrollment: the claim of its id, and the writes that only its execution may do."""

import hashlib
from collections.abc import Callable
from typing import cast

from countersign import models as m
from countersign.errors import EnrollmentConflictError
from countersign.record import MAX_EARLIER, Record, approvers_asked, chain_object
from countersign.stores import Item, Objects, Records

type Password = Callable[[str], str]  # the text of the secret at this ARN


def put_once(
    objects: Objects, name: str, body: bytes, content_type: str = "application/json"
) -> str | None:
    """Write an object, unless this very object exists; return its version id.

    Raises:
        EnrollmentConflictError: another object exists under this key; it stays.
    """
    try:
        return objects.put_once(name, body, content_type)
    except FileExistsError as error:
        raise EnrollmentConflictError(
            f"another object lies at {name} already; it was left as it is",
            action="Find out who wrote it; only this workflow may.",
        ) from error


def keep_chain(
    objects: Objects, enrollment_id: str, pem: str, *, kept: str | None = None
) -> str | None:
    """Keep the attestation chain that is verified; its SHA-256, None where it is empty.

    Args:
        kept: the SHA-256 of the one that is kept already.

    Raises:
        EnrollmentConflictError: something else lies in its place.
    """
    chain = pem.encode()
    if not chain:
        return None
    digest = hashlib.sha256(chain).hexdigest()
    if digest != kept:
        name = f"enrollments/{enrollment_id}/{chain_object(digest)}"
        put_once(objects, name, chain, "application/x-pem-file")
    return digest


# What the states have in common ----------------------------------------------------------------

type Step = m.CreateKeyInput | m.PollRequestInput


def own(event: Step) -> Item:
    """The condition of a write to the record: this execution owns the enrollment."""
    return {"executionArn": event.execution_arn}


def progress(
    event: Step, records: Records, values: Item, *, absent: tuple[str, ...] = ()
) -> Record | None:
    """Record a step unless the enrollment was cancelled; the record where it was not written.

    Raises:
        EnrollmentConflictError: another execution owns the enrollment, or it has ended: this
            function still runs although its execution was given up.
    """
    existing = records.update(
        event.enrollment_id, values, when=own(event), absent=("cancel", "outcome", *absent)
    )
    if existing is not None and existing.get("executionArn") != event.execution_arn:
        raise not_own(event)
    if existing is not None and "outcome" in existing:
        raise has_ended(event.enrollment_id)
    return existing


def require_own(event: Step, existing: Record | None) -> None:
    """Raise where a write found the enrollment in the hands of another execution."""
    if existing is not None:
        raise not_own(event)


def not_own(event: Step) -> EnrollmentConflictError:
    """The error of an execution that does not own the enrollment."""
    return EnrollmentConflictError(
        f"enrollment {event.enrollment_id} is carried out by another execution",
        action="Follow that execution; its ARN is on the record.",
    )


def has_ended(enrollment_id: str) -> EnrollmentConflictError:
    """The error of a function that still runs after the enrollment's end."""
    return EnrollmentConflictError(
        f"enrollment {enrollment_id} has ended; nothing more is done for it",
        action="Look at its outcome.",
    )


KIND = "enrollment"  # one partition of the index by time; see docs/decisions.md
READ_BY_EXECUTION = (
    "executionArn", "acceptedSha256", "findings", "profile", "profileSha256", "policy",
)  # fmt: skip
ROUNDS = 3  # each rule of `claim` can lose to a rival at most once


def _may_start_again(record: Record) -> bool:
    """Whether an enrollment failed before anybody was asked, and everybody knows that it ended."""
    failed = record.get("outcome") == m.Outcome.FAILED
    return failed and "announced" in record and not approvers_asked(record)


def execution_names(record: Record) -> list[str]:
    """How a trigger that can name its executions may name the one of this record.

    The first name that no other enrollment's execution has. Anybody who may start executions can
    take one; all of them are only taken on purpose.
    """
    name = f"{record['id']}-{record['attempt']}"
    return [name, *(f"{name}-{letter}" for letter in "bcd")]


def claim(record: Record, records: Records) -> tuple[Record, bool]:
    """Put the record where its id is free, or find out whose the id is.

    Idempotent: an existing claim of the same execution is found again.

    Args:
        record: see `accept_enrollment.initial_record`. Without `executionArn` it is the claim of a
            trigger: an enrollment that waits for its execution stays as it is. With `executionArn`
            it is the claim of an execution, which takes over such an enrollment.
        records: the table.

    Returns:
        The stored record, and whether the caller must carry it out. If not, an enrollment of the
        same request is under way or has ended.

    Raises:
        EnrollmentConflictError: the id belongs to another request, which stays untouched; or this
            execution has ended, and its function still runs.
    """
    arn = record.get("executionArn")
    existing = records.put(record)
    for _ in range(ROUNDS):
        if existing is None:
            return record, True
        if arn is not None and arn in (existing.get("executionArn"), *existing.get("earlier", ())):
            if "outcome" in existing or arn != existing.get("executionArn"):
                raise has_ended(record["id"])  # it was stopped, and this function still runs
            return existing, True
        # A refused request has not claimed its id: the corrected request may use it.
        if existing.get("requestSha256") not in (None, record["requestSha256"]):
            break
        if _may_start_again(existing):
            earlier = [*existing.get("earlier", ()), existing.get("executionArn", "")]
            record = {
                **record,
                "attempt": existing["attempt"] + 1,
                "earlier": earlier[-MAX_EARLIER:],
            }
            existing = records.put(
                record, when={name: existing[name] for name in ("attempt", "outcome", "announced")}
            )
        elif "executionArn" in existing or "outcome" in existing:
            return existing, False
        elif arn is None:
            return existing, True
        else:
            # What the trigger wrote stays: it knows who asked. But what the request means is what
            # its execution reads.
            taken = {name: one for name, one in record.items() if name in READ_BY_EXECUTION}
            record = cast(Record, {**existing, **taken})
            existing = records.update(
                record["id"],
                taken,
                when={name: existing[name] for name in ("requestSha256", "attempt")},
                absent=("executionArn", "outcome"),
            )
    raise EnrollmentConflictError(
        f"enrollment id {record['id']} belongs to another request",
        field="request.enrollmentId",
        action="Choose another enrollmentId, or repeat the first request to get its enrollment.",
    )
