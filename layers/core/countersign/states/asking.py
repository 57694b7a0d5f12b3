"""How approvers are asked: once, whatever happens. RequestCsr and RequestCertificate share it.

TSB's call is not idempotent, so an intent is recorded before it. If another invocation's intent is
on record without a request id, nobody knows whether the approvers were asked, and nobody guesses.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

from countersign import models as m
from countersign import polling
from countersign.errors import (
    AwsCallError,
    RequestNotSentError,
    TsbCredentialsError,
    TsbOutcomeUnknownError,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.policy import approvers, rules
from countersign.record import StepName, TsbStatus, step_of
from countersign.states import schedules
from countersign.states.ownership import own, progress, require_own
from countersign.stores import Item, Records


class Question(NamedTuple):
    """What approvers are asked.

    Args:
        stage: the state that asks, for the record.
        policy: of the key whose use they approve.
        ask: asks the TSB; the id of its request.
        noted: what is recorded before.
        unanswered: what to say where it is unknown whether they were asked.
    """

    stage: str
    policy: m.Policy
    ask: Callable[[], str]
    noted: Item
    unanswered: TsbOutcomeUnknownError


def ask_once(
    event: m.CreateKeyInput,
    prepare: Callable[[], Question],
    *,
    records: Records,
    schedule: polling.Schedule,
    names: rules.Names,
    step: StepName,
) -> str | None:
    """Ask the approvers, unless they were asked or the enrollment was cancelled.

    Args:
        event: the claimed enrollment.
        prepare: makes the question. If an AWS service refuses there, nobody was asked.
        records: the table.
        schedule: how to wait for the answer.
        names: people's names in the directory.
        step: which approval request it is.

    Returns:
        TSB's id of the request, the recorded one where they were asked before; None if cancelled.

    Raises:
        RequestNotSentError: an AWS service refused before TSB was called; the state machine
            retries.
        TsbOutcomeUnknownError: it is unknown whether TSB has the request.
        TsbUnavailableError: TSB did not execute the call; the state machine retries.
        TsbRefusedError, TsbCredentialsError: nobody was asked; the execution fails.
        EnrollmentConflictError: another execution owns the enrollment, or it has ended.
    """
    at, intent = f"steps.{step}", f"{m.timestamp(m.now())} {uuid.uuid4().hex}"
    with nobody_asked():
        question = prepare()
        existing = progress(
            event,
            records,
            {"stage": question.stage, f"{at}.intent": intent, **question.noted},
            absent=(f"{at}.intent", f"{at}.requestId"),
        )
    # Ours is there already where the SDK repeated the write, because its first answer got lost.
    found = step_of(existing or {}, step)
    if existing is None or (found.get("intent") == intent and "cancel" not in existing):
        when = {**own(event), f"{at}.intent": intent}
        return _ask(event, question, records, at, when, schedule=schedule, names=names)
    if "cancel" in existing:
        return None
    if "requestId" in found:
        return found["requestId"]
    raise question.unanswered


@contextmanager
def nobody_asked() -> Iterator[None]:
    """What an AWS service refuses in here, it refused before anybody was asked.

    Raises:
        RequestNotSentError: an AWS service refused; the state machine retries.
    """
    try:
        yield
    except AwsCallError as error:
        raise RequestNotSentError(
            f"the approvers were not asked: {error.message}",
            reason=error.reason,
            http_status=error.http_status,
            action=error.action,
        ) from error


def _ask(
    event: m.CreateKeyInput,
    question: Question,
    records: Records,
    at: str,
    when: Item,
    *,
    schedule: polling.Schedule,
    names: rules.Names,
) -> str:
    try:
        request_id = question.ask()
    except (TsbUnavailableError, TsbRefusedError, TsbCredentialsError):
        # Surely not executed: without this, the retry would find an intent and give up.
        records.update(event.enrollment_id, {}, when=when, remove=(f"{at}.intent",))
        raise
    moment = m.now()
    ends = schedule.window_seconds and m.timestamp(
        moment + timedelta(seconds=schedule.window_seconds)
    )
    require_own(
        event,
        records.update(
            event.enrollment_id,
            {
                f"{at}.requestId": request_id,
                f"{at}.status": TsbStatus.PENDING,
                f"{at}.approvers": [
                    one.dump() for one in approvers.approvers(question.policy, names)
                ],
                f"{at}.times.requested": m.timestamp(moment),
                f"{at}.times.windowEnds": ends or None,
                f"{at}.times.nextPoll": m.timestamp(
                    moment + timedelta(seconds=polling.FIRST_SECONDS)
                ),
            },
            when=when,
        ),
    )
    return request_id


def requested(request_id: str | None, schedule: polling.Schedule) -> m.RequestedApproval:
    """The state's result; without a request the enrollment was cancelled before."""
    return m.RequestedApproval(
        request_id=request_id,
        tsb_status=TsbStatus.PENDING if request_id else None,
        outcome=None if request_id else "CANCELLED",
        wait_seconds=polling.FIRST_SECONDS,
        schedule=schedules.handed_over(schedule),
    )
