"""Function CancelRequest: notify the TSB of a cancellation, so that nobody is asked any longer."""

from collections.abc import Callable

from countersign import models as m
from countersign.record import Record, last_step, step_of
from countersign.stores import Records
from countersign.tsb.client import TsbClient
from countersign.waits import Wake, wake_cancelled


def cancel_request(
    event: m.CancelRequestInput,
    *,
    records: Records,
    tsb: Callable[[], TsbClient],
    wake: Wake,
) -> m.CancelledRequest:
    """Cancel the TSB request of an enrollment that was cancelled on record, and wake its execution.

    The execution is woken whatever TSB says: the cancellation is on record, so it can end.

    An enrollment that has ended as CANCELLED meanwhile may still have its request open: its last
    state may have begun before the cancellation, and not known of it.

    Idempotent: TSB's confirmation is on record. A request counts as confirmed if TSB itself reports
    that it has ended or does not exist; see TsbClient.cancel_request. Without a request id on
    record there is nothing to cancel yet. RequestCsr finds the cancellation before it asks the
    approvers, or PollRequest finds it at its first poll.

    Raises:
        TsbUnavailableError, TsbOutcomeUnknownError, TsbCredentialsError: the request may still be
            open. Lambda repeats the call; if it keeps failing, PollRequest cancels.
    Source: TSB REST API, DELETE /v1/request/{id}.
    """
    try:
        return confirm_at_tsb(event, records=records, tsb=tsb)
    finally:
        wake_cancelled(event.enrollment_id, records, wake)


def confirm_at_tsb(
    event: m.CancelRequestInput, *, records: Records, tsb: Callable[[], TsbClient]
) -> m.CancelledRequest:
    """The same for an execution that is awake: PollRequest's part. Raises as above."""
    record = records.get(event.enrollment_id) or Record()
    step = last_step(record)
    request_id = step_of(record, step).get("requestId")
    ended_otherwise = record.get("outcome", m.Outcome.CANCELLED) != m.Outcome.CANCELLED
    if request_id is None or "cancel" not in record or ended_otherwise:
        return m.CancelledRequest(confirmed=False)
    if "confirmedAt" not in record["cancel"]:
        # It may have ended as EXECUTED before: `cancel` on record prevents issuing.
        tsb().cancel_request(request_id)
        records.update(
            event.enrollment_id,
            {"cancel.confirmedAt": m.timestamp(m.now())},
            when={f"steps.{step}.requestId": request_id},
        )
    return m.CancelledRequest(confirmed=True)
