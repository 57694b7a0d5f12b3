"""Cancelling: the record decides at once, TSB is told at once, the workflow ends at its next look.

Once `cancel` is on record the enrollment can no longer be issued, whatever TSB executes.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from countersign import models as m
from countersign.errors import EnrollmentConflictError, TsbRefusedError

if TYPE_CHECKING:
    from countersign.aws.records import Item, Records
    from countersign.tsb import TsbClient

DECIDED = ("outcome", "verifiedSha256")  # too late to cancel; see docs/decisions.md, 4

type Tell = Callable[[str], None]  # lets the function CancelRequest work for this enrollment


def cancel(enrollment_id: str, *, by: str, records: "Records", tell: Tell) -> "Item | None":
    """Put a cancellation on record and have TSB told.

    Idempotent: the first cancellation stays; TSB is told again only until it is on record that it
    knows.

    Args:
        enrollment_id: which.
        by: who cancels, for the record and the event.
        records: the table.
        tell: called without waiting for what comes of it. PollRequest makes up for it.

    Returns:
        The record as it is then; None where there is no such enrollment.

    Raises:
        EnrollmentConflictError: it has another outcome than CANCELLED, or is just being issued.
    """
    there = records.update(
        enrollment_id,
        {"cancel": {"by": by, "at": m.timestamp(m.now())}, "status": m.Status.CANCELLING},
        absent=("cancel", *DECIDED),
    )
    record = records.get(enrollment_id)
    if record is None or record.get("outcome") == m.Outcome.CANCELLED:
        return record
    if "outcome" in record or "cancel" not in record:
        state = f"ended as {record['outcome']}" if "outcome" in record else "is just being issued"
        raise EnrollmentConflictError(
            f"enrollment {enrollment_id} {state} and cannot be cancelled",
            action="Nothing can be taken back; to withdraw an issued CSR, do not have it signed.",
        )
    if there is None or "told" not in record["cancel"]:
        tell(enrollment_id)
    return record


def cancel_request(
    given: m.CancelRequestInput, *, records: "Records", tsb: Callable[[], "TsbClient"]
) -> m.CancelledRequest:
    """Cancel at the TSB what was cancelled on record, so that nobody is asked any longer.

    Idempotent: what TSB was told is on record; a request that has ended there already counts.
    Without a request id on record there is nothing to cancel yet: RequestCsr finds the cancellation
    before it asks, or PollRequest at its first look.

    Raises:
        TsbUnavailableError, TsbNoAnswerError: Lambda repeats it; PollRequest makes up for it.
    Source: TSB REST API, DELETE /v1/request/{id}.
    """
    record = records.get(given.enrollment_id) or {}
    if "requestId" not in record or "cancel" not in record or "outcome" in record:
        return m.CancelledRequest(told=False)
    if "told" not in record["cancel"]:
        # Refused: it has ended at the TSB. `cancel` on record keeps it from being issued.
        with suppress(TsbRefusedError):
            tsb().cancel_request(record["requestId"])
        records.update(
            given.enrollment_id,
            {"cancel.told": m.timestamp(m.now())},
            when={"requestId": record["requestId"]},
        )
    return m.CancelledRequest(told=True)
