"""Cancels an enrollment: the record decides at once, and the workflow ends at its next step.

Once `cancel` is on record the enrollment can no longer be issued, whatever TSB executes.
"""

from collections.abc import Callable

from countersign import models as m
from countersign.errors import EnrollmentConflictError
from countersign.record import Record
from countersign.stores import Records

DECIDED = ("outcome", "verifiedSha256")  # too late to cancel; see docs/decisions.md, 4
type Notify = Callable[[str], None]  # invokes the function CancelRequest for this enrollment


def cancel(enrollment_id: str, *, by: str, records: Records, notify: Notify) -> Record | None:
    """Put a cancellation on record and have TSB told.

    Idempotent: the first cancellation stays. TSB is notified again only until its confirmation is
    on record.

    Args:
        enrollment_id: the id of the enrollment.
        by: who cancels, for the record and the event.
        records: the table.
        notify: called without waiting for the result. If it fails, PollRequest notifies TSB.

    Returns:
        The record afterwards; None if there is no such enrollment.

    Raises:
        EnrollmentConflictError: it has an outcome other than CANCELLED, or is just being issued.
    """
    existing = records.update(
        enrollment_id,
        {"cancel": {"by": by, "at": m.timestamp(m.now())}, "status": m.Status.CANCELLING},
        absent=("cancel", *DECIDED),
    )
    # Decided on what the write itself has seen: what another read finds may have come later.
    record = records.get(enrollment_id) if existing is None else existing or None
    if record is None or record.get("outcome") == m.Outcome.CANCELLED:
        return record
    if existing is not None and ("outcome" in record or "cancel" not in record):
        state = f"ended as {record['outcome']}" if "outcome" in record else "is just being issued"
        raise EnrollmentConflictError(
            f"enrollment {enrollment_id} {state} and cannot be cancelled",
            action="Nothing can be taken back; to withdraw an issued CSR, do not have it signed.",
        )
    if existing is None or "confirmedAt" not in record.get("cancel", {}):
        notify(enrollment_id)
    return record
