"""Disposal of a key whose CSR was not issued: kept, deleted or blocked, as its profile says.

Nothing here decides or changes an outcome: a failure is noted on the record. A key is deleted only
if it is the enrollment's own, see `own_key`. TSB has no conditional delete. If somebody puts
another key under the label between the check and the call, that key is lost.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from countersign import models as m
from countersign import resumption
from countersign.errors import (
    KEY_NOT_EXISTENT,
    AwsCallError,
    CountersignError,
    EnrollmentConflictError,
    KeyConflictError,
    KeyDisposalError,
    TsbOutcomeUnknownError,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.keys import labels, unused
from countersign.record import (
    ENDED_AT_TSB,
    Record,
    TsbStatus,
    last_step,
    step_of,
    wants_certificate,
)
from countersign.spki import spki_sha256
from countersign.stores import Records
from countersign.tsb.client import TsbClient
from countersign.tsb.models import Key

RETRIED = (TsbUnavailableError, TsbOutcomeUnknownError, AwsCallError)
ASKED = ("asking", "asked")  # the approvers of ruleBlock may have been asked, or were asked
type Password = Callable[[str], str]  # the text of the secret at this ARN
type Done = dict[str, Any]  # fields of a `DisposedKey`: the result


def dispose(
    event: m.DiscardKeyInput,
    *,
    records: Records,
    tsb: TsbClient,
    password: Password,
    clock_skew: timedelta,
) -> None:
    """Keep, delete or block the key of an enrollment that ends without a CSR, and record it.

    After an end that nobody decided, key and request are kept, whatever the profile says: what
    people may have agreed to can be taken up again. Otherwise a request that may still be open at
    the TSB is cancelled; if the key was deleted, TSB itself has cancelled it. The enrollment does
    not wait for the approvers of `ruleBlock`: they are asked, and it ends.

    Idempotent: a key that is gone counts as deleted, one that is blocked as blocked. The approvers
    of `ruleBlock` are asked only once, even if a function dies in between.

    Raises:
        KeyDisposalError: recorded; the state machine retries a few times, then goes on.
        EnrollmentConflictError: the record belongs to another execution.
    Source: TSB REST API, POST /v1/key/deleteKey, POST /v1/block, DELETE /v1/request/{id}.
    """
    record = records.get(event.enrollment_id) or Record()
    action = event.request.unused_key or "keep"
    # With an outcome, the backstop was faster. With a CSR, StoreCsr's answer was lost and the key
    # is in use. In both cases the key is left alone.
    before = record.get("unusedKey", {"action": action, "result": "started"})
    existing = _note(event, records, action, before, absent=("csr", "outcome"))
    if existing is not None:
        if existing.get("executionArn") == event.execution_arn:
            _withdraw(event, existing, tsb)
            return
        raise EnrollmentConflictError(
            f"enrollment {event.enrollment_id} is carried out by another execution",
            action="Follow that execution; its ARN is on the record.",
        )
    error = event.failure.error if event.failure else None
    if not resumption.is_decided(record, error):
        reason = unused.undecided(error)
        _note(event, records, action, {"result": "kept", "reason": reason})
        return
    done: Done = before if before["result"] in ASKED else {"result": "failed"}
    errors: list[CountersignError] = []
    try:
        done = _act(
            event,
            action,
            record,
            records=records,
            tsb=tsb,
            password=password,
            clock_skew=clock_skew,
        )
    except CountersignError as error:
        errors.append(error)
    if done["result"] != "deleted":
        try:
            cancel_open(record, tsb)
        except CountersignError as error:
            errors.append(error)
    _note(event, records, action, done, error=errors[0] if errors else None)
    if done["result"] == "deleted" or (done["result"] == "none" and not errors):
        labels.release(event.request.key.label, event.enrollment_id, records)
    again = next((one for one in errors if isinstance(one, RETRIED)), None)
    if again is not None:
        raise KeyDisposalError(again.message, action=again.action) from again


def _withdraw(event: m.DiscardKeyInput, record: Record, tsb: TsbClient) -> None:
    """Cancel the open request for a certificate; its key has a CSR, and is left alone.

    Raises:
        KeyDisposalError: the request may be open; the state machine retries a few times.
    """
    is_open = wants_certificate(record) and "csr" in record and "outcome" not in record
    error = event.failure.error if event.failure else None
    if not is_open or not resumption.is_decided(record, error):
        return
    try:
        cancel_open(record, tsb)
    except RETRIED as failed:
        raise KeyDisposalError(failed.message, action=failed.action) from failed


def own_key(
    requested: m.EnrollmentRequest,
    record: Record,
    *,
    records: Records,
    tsb: TsbClient,
    secret: str | None,
    clock_skew: timedelta,
) -> Key | None:
    """The enrollment's own key as the HSM reports it; None if there is none (any more).

    The key is its own if the enrollment holds the claim of the label and the public key is the one
    on record. If CreateKey ended before it could record a public key, the rule of adoption applies:
    the key is not older than the claim, and it is what was requested. By the HSM's clock it may be
    older by `clock_skew`, as far as that may be behind: a key that somebody made in these minutes
    under the label that the enrollment has claimed, and just as requested, is taken for its own.

    Raises:
        KeyConflictError: another key exists under the label; it is left alone.
        TsbUnavailableError, TsbOutcomeUnknownError, TsbRefusedError, TsbCredentialsError: see
            TsbClient.
    """
    label = requested.key.label
    claim = labels.find(label, records)
    if claim is None or claim.enrollment_id != record.get("id"):
        return None
    try:
        answer = tsb.key_attributes(label, secret)
    except TsbRefusedError as error:
        if error.error_code != KEY_NOT_EXISTENT:
            raise
        return None
    key = answer.key
    if key.label != label:
        return None  # a TSB that ignores the case of letters has another enrollment's key
    if "publicKeySha256" in record:
        own = spki_sha256(key.public_key) == record["publicKeySha256"]
    else:
        # After a lost answer alone; without it DiscardKey starts in nine tenths of the time.
        from countersign.verification import checks  # noqa: PLC0415

        different = checks.differences(answer, requested.key)
        own = key.create_time >= claim.at - clock_skew and not any(different.values())
    if not own:
        raise KeyConflictError(
            f"another key than the enrollment's own lies under label {label!r}",
            field="request.key.label",
            action="Look up who made it; it was left as it is.",
        )
    return key


def delete(
    requested: m.EnrollmentRequest,
    record: Record,
    *,
    records: Records,
    tsb: TsbClient,
    secret: str | None,
    clock_skew: timedelta,
) -> bool:
    """Delete the enrollment's own key; TSB cancels its requests. Idempotent.

    Returns:
        Whether there was a key.

    Raises: as `own_key`.
    """
    if (
        own_key(requested, record, records=records, tsb=tsb, secret=secret, clock_skew=clock_skew)
        is None
    ):
        return False
    try:
        tsb.delete_key(requested.key.label, secret)
    except TsbRefusedError as error:
        if error.error_code != KEY_NOT_EXISTENT:
            raise
    return True


def _act(
    event: m.DiscardKeyInput,
    action: m.UnusedKey,
    record: Record,
    *,
    records: Records,
    tsb: TsbClient,
    password: Password,
    clock_skew: timedelta,
) -> Done:
    requested = event.request
    if action == "keep" and "publicKeySha256" in record:
        return {"result": "kept"}
    reason = unused.why_kept(requested, record, has_failed=event.failure is not None)
    if reason is not None:
        return {"result": "kept", "reason": reason}
    secret = password(requested.key.password.secret_arn) if requested.key.password else None
    if action == "keep":
        existing = own_key(
            requested, record, records=records, tsb=tsb, secret=secret, clock_skew=clock_skew
        )
        return {"result": "kept"} if existing else {"result": "none", "reason": unused.NO_KEY}
    if action == "delete":
        # Also if no key is on record: CreateKey's answer may have been lost before a cancellation.
        deleted = delete(
            requested, record, records=records, tsb=tsb, secret=secret, clock_skew=clock_skew
        )
        if deleted or "publicKeySha256" in record:
            return {"result": "deleted"}
        return {"result": "none", "reason": unused.NO_KEY}
    return _block(event, record, records=records, tsb=tsb, secret=secret, clock_skew=clock_skew)


def _block(
    event: m.DiscardKeyInput,
    record: Record,
    *,
    records: Records,
    tsb: TsbClient,
    secret: str | None,
    clock_skew: timedelta,
) -> Done:
    key = own_key(
        event.request, record, records=records, tsb=tsb, secret=secret, clock_skew=clock_skew
    )
    if key is None:
        return {"result": "none", "reason": unused.GONE}
    if ((key.policy or {}).get("keyStatus") or {}).get("blocked"):
        return {"result": "blocked"}
    return _blocked(event, record.get("unusedKey", {}), records=records, tsb=tsb, secret=secret)


def _blocked(
    event: m.DiscardKeyInput,
    before: Done,
    *,
    records: Records,
    tsb: TsbClient,
    secret: str | None,
) -> Done:
    """The result of asking TSB to block the key, now or earlier."""
    approvers = event.request.key.policy.rule_block is not None
    unknown: Done = {"result": "failed", "reason": unused.NOT_KNOWN}
    request_id = before.get("requestId")
    if request_id is None and before.get("result") == "asking":
        return unknown
    if request_id is None:
        if approvers:
            _note(event, records, "block", {"result": "asking"})
        try:
            request_id = tsb.block_key(event.request.key.label, secret).block_key_request_id
        except TsbOutcomeUnknownError:
            if approvers:
                return unknown
            raise
    # Recorded before the poll, which may fail.
    requested: Done = {"result": "asked", "requestId": request_id}
    _note(event, records, "block", requested)
    with suppress(CountersignError):
        status = tsb.request_status(str(request_id)).status
        if status == TsbStatus.EXECUTED:
            return {**requested, "result": "blocked"}
        if status in ENDED_AT_TSB:
            return {**requested, "result": "failed", "reason": f"TSB ended the request as {status}"}
    return requested


def cancel_open(record: Record, tsb: TsbClient) -> None:
    """Cancel what may still ask approvers: for the use of this key, or of the CA's.

    Whether it has ended is on record: PollRequest writes each status there before it returns it.

    Raises:
        TsbUnavailableError, TsbOutcomeUnknownError, TsbCredentialsError: the request may be open.
    """
    step = step_of(record, last_step(record))
    confirmed = "confirmedAt" in record.get("cancel", {})
    if "requestId" not in step or confirmed or step.get("status") in ENDED_AT_TSB:
        return
    tsb.cancel_request(step["requestId"])


def _note(
    event: m.DiscardKeyInput,
    records: Records,
    action: m.UnusedKey,
    done: Done,
    *,
    absent: tuple[str, ...] = (),
    error: CountersignError | None = None,
) -> Record | None:
    said = error and m.Failure(
        name=type(error).__name__,
        message=error.message,
        state="DiscardKey",
        field=error.field,
        error_code=error.error_code,
        reason=error.reason,
        http_status=error.http_status,
        action=error.action,
    )
    disposed = m.DisposedKey.read({**done, "action": action, "at": m.timestamp(m.now())})
    values = disposed.model_copy(update={"error": said}).model_dump(mode="json", exclude_none=True)
    return records.update(
        event.enrollment_id,
        {"stage": "DiscardKey", "unusedKey": values},
        when={"executionArn": event.execution_arn},
        absent=absent,
    )
