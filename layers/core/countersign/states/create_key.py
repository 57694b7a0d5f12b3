"""State CreateKey: create the key under its policy, or adopt the one whose answer was lost."""

from collections.abc import Callable
from datetime import datetime, timedelta

from countersign import clocks
from countersign import models as m
from countersign.errors import (
    KEY_ALREADY_EXISTING,
    KEY_NOT_EXISTENT,
    CountersignError,
    InvalidEnrollmentError,
    KeyConflictError,
    TsbRefusedError,
)
from countersign.keys import labels
from countersign.policy.linter import dump, refuse
from countersign.policy.profiles import Profiles
from countersign.polling import DEADLINE_SECONDS
from countersign.record import Record
from countersign.request import tsb_bodies
from countersign.spki import spki_sha256
from countersign.states import ca_keys
from countersign.states.key_slots import await_slot
from countersign.states.ownership import Password, keep_chain, own, progress, require_own
from countersign.stores import Objects, Records
from countersign.tsb.client import TsbClient
from countersign.tsb.models import KeyAttributes
from countersign.verification import attestation, checks
from countersign.verification.attestation import Trust

type ReportSkew = Callable[[int], None]  # seconds by which the HSM's clock is ahead of ours


def create_key(
    event: m.CreateKeyInput,
    *,
    records: Records,
    objects: Objects,
    tsb: TsbClient,
    password: Password,
    profiles: Profiles,
    trust: Trust,
    deadline_seconds: int = DEADLINE_SECONDS,
    report_skew: ReportSkew | None = None,
) -> m.CreatedKey:
    """Create the key under its policy, or adopt the one whose answer was lost.

    The HSM's attestation is already verified here: no approver is asked about a key that could not
    pass StoreCsr, or while the chain is configured wrongly. Root and chain are put on record: where
    no CSR is ever checked, the key in the evidence is verified by these.

    Idempotent: the label is claimed first. A key that exists under it (608) is adopted only if the
    claim is ours, the key is not older than the claim, and it is what was requested. By the HSM's
    clock it may be older by as much as that may be behind (`trust.clock_skew`). So a key just like
    it that somebody made in these minutes under the same label is taken for ours; from other
    enrollments the claim protects. A key that was discarded is never adopted.

    Before anything is created, the approvers are compared with those of the CA key, if the profile
    or the request names one. Where a certificate is asked for, what that key cannot sign is refused
    here: nobody is asked for a CSR of which nothing can become. The CA key's policy is believed
    only of an answer about that label and, where a root is pinned, only if the HSM attests it. This
    function has the TSB role that may read that key's policy; AcceptEnrollment has no role.

    The key's creation lies between two moments of ours, so it shows how far the HSM's clock is off.
    That is on record and reported. Beyond what is tolerated nobody is asked: the approvals' times
    and the attestation's would mean nothing.

    Args:
        trust: which attestations are trusted, and how far the HSM's clock may be off.
        deadline_seconds: when the workflow ends a window without end.
        report_skew: told how far it is off.

    Raises:
        InvalidEnrollmentError: the CA key's approvers would approve here too, or it cannot sign
            what is asked for. The execution fails.
        KeyConflictError: the label belongs to another enrollment, or a key under it is not ours, or
            the HSM's attestation does not pass, or its clock is off (reason CLOCK_SKEW); the key
            is left as it is.
        TsbUnavailableError, TsbOutcomeUnknownError: the state machine retries.
        TsbRefusedError, TsbCredentialsError: the execution fails.
    Source: TSB REST API, POST /v1/key, POST /v1/key/attributes.
    """
    key = event.request.key
    existing = progress(event, records, {"stage": "CreateKey", "keyLabel": key.label})
    if existing is not None:
        return m.CreatedKey(label=key.label, public_key=None, public_key_sha256=None)
    secret = password(key.password.secret_arn) if key.password else None
    try:
        _check_ca_key(event, records, tsb, profiles, trust=trust, deadline_seconds=deadline_seconds)
    except InvalidEnrollmentError:
        # Of a fresh start: DiscardKey has deleted the first key, and its label is still claimed.
        claim = labels.find(key.label, records)
        if claim and claim.enrollment_id == event.enrollment_id:
            _release_in_vain(event, records, tsb, secret)
        raise
    claim = _claim(event, records, tsb, secret)
    try:
        await_slot(event.not_before)
        begun = m.now()
        answer = tsb.create_key(tsb_bodies.tsb_key(event.request, secret))
    except TsbRefusedError as error:
        if error.error_code != KEY_ALREADY_EXISTING:
            if claim.new:
                labels.release(key.label, event.enrollment_id, records)
            else:
                _release_in_vain(event, records, tsb, secret)
            raise
        answer = tsb.key_attributes(key.label, secret)
        if answer.key.label != key.label:
            raise _key_conflict(key.label, f"is taken by key {answer.key.label!r}") from error
        begun = claim.at  # an earlier try has made it
        discarded = (records.get(event.enrollment_id) or Record()).get("discardedSha256")
        is_older = answer.key.create_time < claim.at - trust.clock_skew
        if is_older or spki_sha256(answer.key.public_key) == discarded:
            labels.release(key.label, event.enrollment_id, records)
            raise _key_conflict(key.label, "was there before this enrollment began") from error
    skew = clocks.skew_seconds(answer.key.create_time, after=begun, before=m.now())
    if report_skew is not None:
        report_skew(skew)
    objects.keep_answer(event.enrollment_id, "create-key", answer.raw, decides=True)
    at = m.timestamp(m.now())
    _require_sound(
        answer, key, trust, now=datetime.fromisoformat(at), ahead=timedelta(seconds=skew)
    )
    chain = keep_chain(objects, event.enrollment_id, trust.chain)
    fingerprint = spki_sha256(answer.key.public_key)
    require_own(
        event,
        records.update(
            event.enrollment_id,
            {
                "publicKeySha256": fingerprint,
                "times.keyCreated": m.timestamp(answer.key.create_time),
                "keyVerifiedAt": at,
                "attestationRoot": trust.root_sha256,
                "maxClockSkewSeconds": int(trust.clock_skew.total_seconds()),
                **({"attestationChainSha256": chain} if chain else {}),
                **({"clockSkewSeconds": skew} if skew else {}),
            },
            when={"executionArn": event.execution_arn},
        ),
    )
    _require_clock(skew, key.label, trust)
    return m.CreatedKey(
        label=key.label, public_key=answer.key.public_key, public_key_sha256=fingerprint
    )


def _check_ca_key(
    event: m.CreateKeyInput,
    records: Records,
    tsb: TsbClient,
    profiles: Profiles,
    *,
    trust: Trust,
    deadline_seconds: int,
) -> None:
    profile = profiles.get(event.request.profile) if event.request.profile else None
    if event.request.certificate is None and (profile is None or profile.ca_key_label is None):
        return
    _, findings = ca_keys.examine(
        event.request,
        tsb=tsb,
        profile=profile,
        directory=profiles.directory,
        trust=trust,
        deadline_seconds=deadline_seconds,
    )
    values = {"caFindings": dump(findings)}
    require_own(event, records.update(event.enrollment_id, values, when=own(event)))
    refuse(findings)


def _claim(
    event: m.CreateKeyInput, records: Records, tsb: TsbClient, secret: str | None
) -> labels.Claim:
    """The label's claim; taken over from an enrollment that ended without making a key.

    Where its calls got lost, that enrollment could not know whether there is a key.
    """
    label = event.request.key.label
    claim = labels.claim(label, event.enrollment_id, records)
    if claim.enrollment_id == event.enrollment_id:
        return claim
    holder = records.get(claim.enrollment_id) or Record()
    taken = None
    if "outcome" in holder and not _may_be_there(tsb, label, secret):
        taken = labels.take_over(label, event.enrollment_id, records, of=claim)
    if taken is None:
        raise _key_conflict(label, f"is claimed by enrollment {claim.enrollment_id}")
    return taken


def _release_in_vain(
    event: m.CreateKeyInput, records: Records, tsb: TsbClient, secret: str | None
) -> None:
    """Release a label that was claimed before, unless an earlier try has made a key under it."""
    label = event.request.key.label
    if not _may_be_there(tsb, label, secret):
        labels.release(label, event.enrollment_id, records)


def _may_be_there(tsb: TsbClient, label: str, secret: str | None) -> bool:
    try:
        tsb.key_attributes(label, secret)
    except CountersignError as error:
        return not (isinstance(error, TsbRefusedError) and error.error_code == KEY_NOT_EXISTENT)
    return True


def _require_sound(
    answer: KeyAttributes, requested: m.KeyRequest, trust: Trust, *, now: datetime, ahead: timedelta
) -> None:
    """Refuse a key that is not what was asked for, by TSB's answer or the HSM's attestation."""
    failed = checks.failed_at_creation(
        answer, requested, trust, asked_at=now - clocks.LONGEST_CALL, now=now, ahead=ahead
    )
    for check in failed:
        if check.code not in attestation.CODES:
            raise _key_conflict(requested.label, check.finding or "")
        raise KeyConflictError(
            f"the HSM does not attest key {answer.key.label!r}: {check.finding}",
            field=check.field,
            reason=check.code,
            action="Compare AttestationRoot and the chain in the TLS secret with the HSM's."
            if trust.root_sha256
            else "Have the TSB and what stands in front of it examined: the HSM's attestation says"
            " something else than was asked, or than the TSB answered.",
        )


def _require_clock(skew: int, label: str, trust: Trust) -> None:
    most = int(trust.clock_skew.total_seconds())
    if abs(skew) > most:
        raise KeyConflictError(
            f"the HSM's clock is {abs(skew)} s {'behind' if skew < 0 else 'ahead of'} ours;"
            f" {most} s are tolerated (MaxClockSkewSeconds)",
            reason="CLOCK_SKEW",
            action=f"Have the HSM's clock set. Nobody was asked; key {label!r} was made and left"
            " as it is: delete it, or choose another label.",
        )


def _key_conflict(label: str, why: str) -> KeyConflictError:
    return KeyConflictError(
        f"key label {label!r} {why}",
        field="request.key.label",
        action="Choose another label, or look up who made the key; it was left as it is.",
    )
