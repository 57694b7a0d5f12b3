"""Function CancelRequest: tell the TSB of a cancellation, so that nobody is asked any longer."""

from collections.abc import Callable
from contextlib import suppress

from countersign import models as m
from countersign.errors import TsbRefusedError
from countersign.record import Record, csr_step
from countersign.stores import Records
from countersign.tsb.client import TsbClient


def cancel_request(
    event: m.CancelRequestInput, *, records: Records, tsb: Callable[[], TsbClient]
) -> m.CancelledRequest:
    """Cancel at the TSB what was cancelled on record, so that nobody is asked any longer.

    Idempotent: what TSB was told is on record; a request that has ended there already counts.
    Without a request id on record there is nothing to cancel yet: RequestCsr finds the cancellation
    before it asks, or PollRequest at its first poll.

    Raises:
        TsbUnavailableError, TsbOutcomeUnknownError: Lambda repeats it; PollRequest makes up for it.
    Source: TSB REST API, DELETE /v1/request/{id}.
    """
    record = records.get(event.enrollment_id) or Record()
    request_id = csr_step(record).get("requestId")
    if request_id is None or "cancel" not in record or "outcome" in record:
        return m.CancelledRequest(confirmed=False)
    if "confirmedAt" not in record["cancel"]:
        # Refused: it has ended at the TSB. `cancel` on record keeps it from being issued.
        with suppress(TsbRefusedError):
            tsb().cancel_request(request_id)
        records.update(
            event.enrollment_id,
            {"cancel.confirmedAt": m.timestamp(m.now())},
            when={"steps.csr.requestId": request_id},
        )
    return m.CancelledRequest(confirmed=True)
