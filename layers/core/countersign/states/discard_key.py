"""State DiscardKey: dispose of a key that has no CSR."""

import json
from datetime import timedelta

from countersign import clocks
from countersign import models as m
from countersign.errors import (
    TsbOutcomeUnknownError,
)
from countersign.keys import disposal, labels
from countersign.record import Record, approvers_asked, csr_step
from countersign.states.key_slots import next_slot
from countersign.states.ownership import Password, not_own, own, require_own
from countersign.stores import Records
from countersign.tsb.client import TsbClient

MAX_FRESH_STARTS = 1  # after a lost answer; a second loss is no accident
DISCARDED = (  # of a key that is gone
    "steps.csr.intent",
    "steps.csr.requestId",
    "publicKeySha256",
    "clockSkewSeconds",
    "keyVerifiedAt",
    "attestationRoot",
    "maxClockSkewSeconds",
    "attestationChainSha256",
)


def discard_key(
    event: m.DiscardKeyInput,
    *,
    records: Records,
    tsb: TsbClient,
    password: Password,
    keys_per_minute: int = 0,
    fresh_start_after: timedelta = timedelta(minutes=5),
    clock_skew: timedelta = clocks.TOLERATED,
) -> m.DiscardedKey:
    """Dispose of a key that has no CSR, or replace it if TSB's answer was lost.

    The request for the CSR may have got no answer: the state machine says so, or the record has the
    intent and no request id. Then the fresh key is deleted, which cancels its requests at the TSB,
    and CreateKey may start over once. After that, or if the key cannot be deleted, the enrollment
    fails and names the key. If the request id is on record, only the state machine does not know of
    it: nothing is thrown away. In every other case the enrollment ends as it would without this
    state, and the key is kept, deleted or blocked as its profile says (keys/disposal.py).

    Idempotent: a key that is gone counts as deleted.

    Args:
        event: the key, and why it has no CSR.
        records: the table.
        tsb: with the roles for key management and requests.
        password: reads a key password.
        keys_per_minute: how many keys may be created; 0 is without limit.
        fresh_start_after: when the next key is created at the earliest. A TSB under load may
            execute the lost call late; it finds no key then, and asks nobody. Looking for its
            request is not possible: TSB's list (POST /v1/filteredRequests) names no key.

    Raises:
        KeyDisposalError: retried a few times. The outcome stays, whatever the result.
        TsbUnavailableError, TsbOutcomeUnknownError, TsbCredentialsError: only after an unanswered
            request; retried for a day.
        TsbRefusedError, KeyConflictError: only after an unanswered request; the execution fails.
    Source: TSB REST API, POST /v1/key/deleteKey (deleting a key cancels its requests).
    """
    key = event.request.key
    record = records.get(event.enrollment_id) or Record()
    # The error that came last need not be about the answer that was lost first.
    step = csr_step(record)
    is_lost = "requestId" not in step and (event.unanswered or "intent" in step)
    if not is_lost:
        disposal.dispose(event, records=records, tsb=tsb, password=password, clock_skew=clock_skew)
        return m.DiscardedKey(
            again=False,
            tsb_status=event.tsb_status,
            outcome=event.outcome,
            failure=event.failure,
        )
    if record.get("executionArn") != event.execution_arn:
        raise not_own(event)
    if not key.attributes.destroyable:
        why = f"key {key.label!r} is permanent (not destroyable); may have an open request"
        return _unanswered(event, why)
    secret = password(key.password.secret_arn) if key.password else None
    disposal.delete(
        event.request, record, records=records, tsb=tsb, secret=secret, clock_skew=clock_skew
    )
    # Run again after its own update it finds none of these, and counts nothing.
    again = approvers_asked(record) or "publicKeySha256" in record
    discards = record.get("discards", 0) + again
    gone = {"discardedSha256": record["publicKeySha256"]} if "publicKeySha256" in record else {}
    require_own(
        event,
        records.update(
            event.enrollment_id,
            {"stage": "DiscardKey", "discards": discards, **gone},
            when=own(event),
            remove=DISCARDED,
        ),
    )
    if discards > MAX_FRESH_STARTS:
        labels.release(key.label, event.enrollment_id, records)
        lost = event.failure is None or event.failure.error == TsbOutcomeUnknownError.__name__
        if not lost and not approvers_asked(record):  # RequestCsr never came so far
            return m.DiscardedKey(again=False, failure=event.failure)
        return _unanswered(event, f"it was asked twice; key {key.label!r} was deleted both times")
    # The next key is a new one: one older than this moment is not ours to adopt.
    labels.renew(key.label, event.enrollment_id, records)
    return m.DiscardedKey(
        again=True,
        failure=event.failure,
        not_before=next_slot(records, keys_per_minute, after=fresh_start_after),
    )


def _unanswered(event: m.DiscardKeyInput, why: str) -> m.DiscardedKey:
    error = TsbOutcomeUnknownError(
        f"TSB did not answer the request for a CSR: {why}",
        action=f"See at the TSB which requests of key {event.request.key.label!r} are open, and"
        " cancel them.",
    )
    failure = m.CaughtError(
        state=event.failure.state if event.failure else "RequestCsr",
        error=type(error).__name__,
        cause=json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}),
    )
    return m.DiscardedKey(again=False, failure=failure)
