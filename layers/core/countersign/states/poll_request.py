"""State PollRequest: read the state of the approval."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from countersign import events, polling
from countersign import models as m
from countersign.errors import (
    REQUEST_NOT_EXISTENT,
    AwsCallError,
    CsrInvalidError,
    TsbCredentialsError,
    TsbOutcomeUnknownError,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.evidence.quarantine import CHECKS, another_request, csr_invalid
from countersign.policy import rules
from countersign.record import Record, StepName, TsbStatus, step_of, wants_certificate
from countersign.states import cancel_request
from countersign.states.ownership import has_ended, not_own, own
from countersign.stores import Bus, Item, Objects, Records
from countersign.tsb.client import TsbClient
from countersign.tsb.models import RequestStatus

WAITING = (TsbStatus.PENDING, TsbStatus.APPROVED)
UNKNOWN_FOR = timedelta(minutes=15)  # until "there is no such request" is believed
MAX_STATUS = 50  # characters of a status that nobody knows
NOTHING_SEEN = "nothing"  # the state machine's `seen` before the first poll


def poll_request(
    event: m.PollRequestInput,
    *,
    records: Records,
    objects: Objects,
    bus: Bus,
    tsb: TsbClient,
    names: Callable[[], rules.Names],
) -> m.PolledRequest:
    """Read TSB's request and decide how long to wait before the next poll.

    Idempotent: it reads, and writes the record and the evidence only if something changed. A
    request that TSB neither decides nor lets expire is cancelled there after the deadline, so that
    TSB's own answer still ends it. An enrollment that was cancelled on record ends here, even if
    TSB cannot be notified: it could not be issued any more anyway.

    The state of the approval is announced last, and only while the request is open. If the bus
    refuses, the state machine polls again with the old `seen`. So a failing bus delays neither a
    decision of TSB nor a deadline.

    Raises:
        AwsCallError: a store or the bus refused; the state machine polls again later.
        TsbUnavailableError, TsbOutcomeUnknownError: TSB did not answer, or said what this product
            does not understand; the state machine polls again later.
        TsbRefusedError: TSB has not known the request for long, or keeps it open long after its
            end.
        CsrInvalidError: TSB answers with the id of another request.
    Source: TSB REST API, GET /v1/request/{id}.
    """
    record = records.get(event.enrollment_id) or Record()
    if "cancel" in record:
        return _cancelled(event, records, tsb)
    if _is_stored(event, record):
        return m.PolledRequest(
            tsb_status=TsbStatus.EXECUTED, wait_seconds=0, seen=event.seen, pem=record["csr"]["pem"]
        )
    answer = _read(event, record, records, tsb)
    if answer.id != event.request_id:
        raise _another_request(event, answer, records, objects)
    status = _status(answer)
    schedule = polling.Schedule(
        **event.schedule.model_dump(by_alias=False, exclude={"slowest_seconds", "last_age_seconds"})
    )
    seen = answer.digest
    is_news = seen != event.seen
    wait_seconds = polling.next_wait(schedule, event.age_seconds)
    news: events.Event | None = None
    if is_news:
        objects.keep_answer(
            event.enrollment_id, "poll-request", answer.raw, decides=status not in WAITING
        )
        requested = tuple(
            m.Approver.read(one) for one in step_of(record, event.step).get("approvers", ())
        )
        decided = rules.decided(
            requested,
            approved=answer.approved_by,
            outstanding=answer.not_yet_approved_by,
            declined=answer.rejected_by,
            names=names,
        )
        values = {
            "stage": "PollRequest",
            f"steps.{event.step}.status": status,
            f"steps.{event.step}.answerSha256": answer.sha256,
            f"steps.{event.step}.approvers": [one.dump() for one in decided],
            **_executed(answer, event.step),
            # After TSB's last word there is none: then it is the time of this one.
            f"steps.{event.step}.times.nextPoll": m.timestamp(
                m.now() + timedelta(seconds=wait_seconds if status in WAITING else 0)
            ),
        }
        _record(event, record, values, records)
        if status in WAITING:
            first = event.seen == NOTHING_SEEN
            news = events.waiting(record, decided, status, step=event.step, first=first)
    if status in WAITING:
        _end_the_endless(event, schedule, records, tsb, status)
    if news is not None:
        bus.put(news)
    return m.PolledRequest(
        tsb_status=status,
        wait_seconds=wait_seconds,
        seen=seen,
        pem=answer.result if status == TsbStatus.EXECUTED else None,
    )


def _is_stored(event: m.PollRequestInput, record: Record) -> bool:
    """Whether it was resumed after its CSR was stored: TSB need not know that request any more."""
    is_own = record.get("executionArn") == event.execution_arn
    return is_own and event.step == "csr" and "csr" in record and wants_certificate(record)


def _read(
    event: m.PollRequestInput, record: Record, records: Records, tsb: TsbClient
) -> RequestStatus:
    """TSB's answer. One that says for a quarter of an hour that there is no such request is final.

    Requests do vanish for a moment: TSB's clients treat 651 as normal for ids just listed.

    Raises:
        TsbRefusedError: TSB does not know the request, and has not for long.
        TsbUnavailableError, TsbOutcomeUnknownError: the state machine polls again later.
    """
    since = record.get("unknownToTsbSince")
    try:
        answer = tsb.request_status(event.request_id)
    except TsbUnavailableError as error:
        if error.error_code != REQUEST_NOT_EXISTENT:
            raise
        now = m.now()
        if since is None:
            mark = {"unknownToTsbSince": m.timestamp(now)}
            records.update(event.enrollment_id, mark, when=own(event))
        elif now - datetime.fromisoformat(since) >= UNKNOWN_FOR:
            raise TsbRefusedError(
                f"TSB has said since {since} that there is no request {event.request_id}",
                error_code=error.error_code,
                reason=error.reason,
                http_status=error.http_status,
                action="See in TSB's log what became of it. Key and enrollment are kept.",
            ) from error
        raise
    if since is not None:
        records.update(event.enrollment_id, {}, when=own(event), remove=("unknownToTsbSince",))
    return answer


def _status(answer: RequestStatus) -> TsbStatus:
    """TSB's word; one that nobody knows is no decision."""
    try:
        return TsbStatus(answer.status)
    except ValueError:
        raise TsbOutcomeUnknownError(
            f"TSB reports status {answer.status[:MAX_STATUS]!r} for request {answer.id}, which this"
            " product does not know",
            action="Compare the TSB's version with those this product knows.",
        ) from None


def _record(event: m.PollRequestInput, read: Record, values: Item, records: Records) -> None:
    """Put what TSB said on record, unless another invocation has put something there since.

    An invocation whose answer got lost may still run while the next one polls. What it has read is
    older, and must not overwrite what is newer.

    Raises:
        EnrollmentConflictError: another execution owns the enrollment.
        AwsCallError: another invocation was faster; the state machine polls again.
    """
    version = step_of(read, event.step).get("times", {}).get("nextPoll")
    polled = f"steps.{event.step}.times.nextPoll"
    when = {**own(event), polled: version}
    existing = records.update(event.enrollment_id, values, when=when, absent=("outcome",))
    if existing is None:
        return
    if existing.get("executionArn") != event.execution_arn:
        raise not_own(event)
    if "outcome" in existing:
        raise has_ended(event.enrollment_id)
    times = step_of(existing, event.step).get("times", {})
    if times.get("nextPoll") != values[polled]:
        raise AwsCallError(
            f"another poll of enrollment {event.enrollment_id} was faster",
            action="Nothing; the state machine polls again.",
        )


def _cancelled(event: m.PollRequestInput, records: Records, tsb: TsbClient) -> m.PolledRequest:
    """The end of a cancelled enrollment; notifies TSB if CancelRequest could not."""
    with suppress(TsbUnavailableError, TsbOutcomeUnknownError, TsbCredentialsError):
        cancel_request.confirm_at_tsb(
            m.CancelRequestInput(enrollment_id=event.enrollment_id),
            records=records,
            tsb=lambda: tsb,
        )
    return m.PolledRequest(outcome="CANCELLED", wait_seconds=0, seen=event.seen)


def _executed(answer: RequestStatus, step: StepName) -> Item:
    """When TSB executed the request. TSB's timer does it, so this shows how long people took."""
    moment = answer.execution_time
    return {f"steps.{step}.times.executed": m.timestamp(moment)} if moment else {}


def _another_request(
    event: m.PollRequestInput, answer: RequestStatus, records: Records, objects: Objects
) -> CsrInvalidError:
    objects.keep_answer(event.enrollment_id, "poll-request", answer.raw, decides=True)
    check = another_request(event.step, answer.id, event.request_id)
    records.update(
        event.enrollment_id,
        {CHECKS[event.step]: [check.dump()], "quarantine": {"code": check.code}},
        when=own(event),
    )
    return csr_invalid(check, None)


def _end_the_endless(
    event: m.PollRequestInput,
    schedule: polling.Schedule,
    records: Records,
    tsb: TsbClient,
    status: str,
) -> None:
    if event.age_seconds >= schedule.last_age:
        raise TsbRefusedError(
            f"TSB still reports {status} for request {event.request_id}, long after its end",
            action="Cancel the request at the TSB by hand and have its clock examined.",
        )
    # What the quorum has approved is not taken back because the HSM cannot execute it yet.
    if status == TsbStatus.PENDING and event.age_seconds >= schedule.overdue:
        if tsb.cancel_request(event.request_id) != TsbStatus.CANCELLED:
            return  # it has just ended otherwise; the next poll shows how
        # Record that the workflow cancelled: TSB's CANCELLED names nobody.
        records.update(event.enrollment_id, {"overdue": m.timestamp(m.now())}, when=own(event))
