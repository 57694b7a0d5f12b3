"""State RequestCsr: request the CSR from TSB once, so that the approvers are asked once."""

import base64
import hashlib
from collections.abc import Callable

from countersign import models as m
from countersign import polling
from countersign.errors import TsbOutcomeUnknownError, invalid_field
from countersign.policy import approvers, rules
from countersign.record import Record
from countersign.request import canonical, tsb_bodies
from countersign.states import asking, schedules
from countersign.states.asking import Question
from countersign.states.ownership import Password, put_once
from countersign.stores import Objects, Records
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
) -> m.RequestedApproval:
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
        InvalidEnrollmentError: the workflow cannot wait as long as the policy asks, or the
            directory says since the acceptance that other approvers are one person; nobody was
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
    schedule = schedules.schedule(
        tokens, polling_settings, is_one_of_two=event.request.certificate is not None
    )
    if event.key.public_key is None:
        return asking.requested(None, schedule)
    request_id = asking.ask_once(
        event,
        lambda: _question(event, records, objects, password, sign, tsb=tsb, names=names),
        records=records,
        schedule=schedule,
        names=names,
        step="csr",
    )
    return asking.requested(request_id, schedule)


def _question(
    event: m.RequestCsrInput,
    records: Records,
    objects: Objects,
    password: Password,
    sign: Sign,
    *,
    tsb: TsbClient,
    names: rules.Names,
) -> Question:
    key = event.request.key
    record = records.get(event.enrollment_id) or Record()
    policy = approvers.summary(key.policy, names)  # by the names that the approvers are shown
    _require_same_people(key.policy, record, policy)
    shown = tsb_bodies.meta_data(
        event.request,
        enrollment_id=event.enrollment_id,
        names=names,
        requester=m.Origin.read(record.get("origin", {})).requester,
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
    return Question(
        stage="RequestCsr",
        policy=key.policy,
        ask=lambda: tsb.request_csr(body).sign_request_id,
        noted={
            "acceptedSha256": canonical.sha256(canonical.accepted(event.request)),
            "metaDataSha256": digest,
            "metaDataSignature": base64.b64encode(signature).decode(),
            "policy": policy.dump(),
        },
        unanswered=TsbOutcomeUnknownError(
            f"a CSR for key {key.label!r} was asked for and no answer is on record",
            action="Nothing; the key is discarded where it can be, which cancels its requests.",
        ),
    )


def _require_same_people(policy: m.Policy, record: Record, shown: m.PolicySummary) -> None:
    """The linter has judged by the people of the acceptance; a new name is no other person."""
    judged = record.get("policy")
    if judged is None:
        return
    before = approvers.people(policy, m.PolicySummary.read(judged))
    if approvers.people(policy, shown) != before:
        raise invalid_field(
            "key.policy.ruleUse",
            "the directory of approvers was changed since this was accepted: keys of two people"
            " have become one person's, or the other way round",
            "Send the request again: it is judged by the directory of today. Nobody was asked.",
        )
