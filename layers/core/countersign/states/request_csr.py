"""State RequestCsr: request the CSR from TSB once, so that the approvers are asked once."""

import base64
import hashlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from countersign import models as m
from countersign import polling
from countersign.errors import (
    AwsCallError,
    RequestNotSentError,
    TsbCredentialsError,
    TsbOutcomeUnknownError,
    TsbRefusedError,
    TsbUnavailableError,
    invalid_field,
)
from countersign.policy import approvers, rules
from countersign.record import Record, TsbStatus, csr_step
from countersign.request import canonical, tsb_bodies
from countersign.states import schedules
from countersign.states.ownership import Password, own, progress, put_once, require_own
from countersign.stores import Item, Objects, Records
from countersign.tsb.client import TsbClient

type Sign = Callable[[bytes], bytes]  # a signature by the stack's signing key over this content


def request_csr(
    event: m.RequestCsrInput,
    *,
    records: Records,
    objects: Objects,
    tsb: TsbClient,
    password: Password,
    sign: Sign,
    polling_settings: polling.Schedule,
    names: rules.Names,
) -> m.RequestedCsr:
    """Request the CSR from TSB. This asks the approvers, so it happens only once.

    The call is not idempotent at the TSB, so an intent is recorded first. If another invocation's
    intent is on record without a request id, this function refuses to guess. If the request id is
    on record, it returns that id.

    The metadata for the approvers is signed and stored before the intent is recorded. If an AWS
    service refuses before that, nobody was asked, and the state machine may retry.

    Args:
        polling_settings: how to wait, as the stack is configured; window and timelock are added
            here.
        names: people's names in the directory, by the fingerprints of their keys.
        sign: signs the metadata with the stack's signing key.

    Raises:
        InvalidEnrollmentError: the workflow cannot wait as long as the policy asks; nobody was
            asked, and the execution fails.
        RequestNotSentError: an AWS service refused before TSB was called; the state machine
            retries.
        TsbOutcomeUnknownError: it is unknown whether TSB has the request; the key is discarded.
        TsbUnavailableError: TSB did not execute the call; the state machine retries.
        TsbRefusedError, TsbCredentialsError: the execution fails.
    Source: TSB REST API, POST /v1/certificate/request.
    """
    tokens = event.request.key.policy.rule_use.tokens
    for one in rules.too_long(tokens, polling_settings.deadline_seconds):
        # Accepted before the stack's deadline was shortened, or by an older release.
        raise invalid_field(
            f"key.policy.ruleUse.tokens.{one.token}.{one.field}",
            str(one),
            "Send the request again with a shorter time; nobody was asked.",
        )
    schedule = schedules.schedule(event.request, polling_settings)
    if event.key.public_key is None:
        return _requested(None, schedule)
    intent = f"{m.timestamp(m.now())} {uuid.uuid4().hex}"
    with _nobody_asked():
        asking, noted = _prepare(event, records, objects, password, sign, names=names)
        existing = progress(
            event,
            records,
            {"stage": "RequestCsr", "steps.csr.intent": intent, **noted},
            absent=("steps.csr.intent", "steps.csr.requestId"),
        )
    # Ours is there already where the SDK repeated the write, because its first answer got lost.
    step = csr_step(existing or {})
    if existing is None or (step.get("intent") == intent and "cancel" not in existing):
        request_id = _ask(event, records, tsb, asking, intent, schedule=schedule, names=names)
        return _requested(request_id, schedule)
    if "cancel" in existing:
        return _requested(None, schedule)
    if "requestId" in step:
        return _requested(step["requestId"], schedule)
    raise TsbOutcomeUnknownError(
        f"a CSR for key {event.request.key.label!r} was asked for and no answer is on record",
        action="Nothing; the key is discarded where it can be, which cancels its requests.",
    )


@contextmanager
def _nobody_asked() -> Iterator[None]:
    try:
        yield
    except AwsCallError as error:
        raise RequestNotSentError(
            f"the approvers were not asked: {error.message}",
            reason=error.reason,
            http_status=error.http_status,
            action=error.action,
        ) from error


def _prepare(
    event: m.RequestCsrInput,
    records: Records,
    objects: Objects,
    password: Password,
    sign: Sign,
    *,
    names: rules.Names,
) -> tuple[dict[str, Any], Item]:
    """The body for TSB, and the values for the record."""
    key = event.request.key
    origin = (records.get(event.enrollment_id) or Record()).get("origin", {})
    shown = tsb_bodies.meta_data(
        event.request,
        enrollment_id=event.enrollment_id,
        names=names,
        requester=m.Origin.read(origin).requester,
    )
    digest = hashlib.sha256(shown).hexdigest()
    signature = sign(shown)
    put_once(objects, f"enrollments/{event.enrollment_id}/metadata/{digest}.json", shown)
    body = tsb_bodies.tsb_csr(
        event.request,
        password(key.password.secret_arn) if key.password else None,
        shown=shown,
        signature=signature,
    )
    return body, {
        "acceptedSha256": canonical.sha256(canonical.accepted(event.request)),
        "metaDataSha256": digest,
        "metaDataSignature": base64.b64encode(signature).decode(),
        # By the names of this moment, as the approvers are shown them.
        "policy": approvers.summary(key.policy, names).dump(),
    }


def _ask(
    event: m.RequestCsrInput,
    records: Records,
    tsb: TsbClient,
    body: dict[str, Any],
    intent: str,
    *,
    schedule: polling.Schedule,
    names: rules.Names,
) -> str:
    key, when = event.request.key, {**own(event), "steps.csr.intent": intent}
    try:
        answer = tsb.request_csr(body)
    except (TsbUnavailableError, TsbRefusedError, TsbCredentialsError):
        # Surely not executed: without this, the retry would find an intent and discard the key.
        records.update(event.enrollment_id, {}, when=when, remove=("steps.csr.intent",))
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
                "steps.csr.requestId": answer.sign_request_id,
                "steps.csr.status": TsbStatus.PENDING,
                "steps.csr.approvers": [
                    one.dump() for one in approvers.approvers(key.policy, names)
                ],
                "steps.csr.times.requested": m.timestamp(moment),
                "steps.csr.times.windowEnds": ends or None,
                "steps.csr.times.nextPoll": m.timestamp(
                    moment + timedelta(seconds=polling.FIRST_SECONDS)
                ),
            },
            when=when,
        ),
    )
    return answer.sign_request_id


def _requested(request_id: str | None, schedule: polling.Schedule) -> m.RequestedCsr:
    """The result; without a request the enrollment was cancelled before anybody was asked."""
    return m.RequestedCsr(
        request_id=request_id,
        tsb_status=TsbStatus.PENDING if request_id else None,
        outcome=None if request_id else "CANCELLED",
        wait_seconds=polling.FIRST_SECONDS,
        schedule=schedules.handed_over(schedule),
    )
