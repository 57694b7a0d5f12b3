"""What TSB answered: about the key when it was made, and who approved. Pure."""

from collections.abc import Mapping
from copy import replace
from datetime import datetime, timedelta
from typing import Any

from countersign import models as m
from countersign.clocks import LONGEST_CALL
from countersign.evidence import bundle
from countersign.evidence.bundle import Folder, require, require_equal, sha256
from countersign.evidence.quarantine import CHECKS, OTHER_REQUEST
from countersign.policy import rules
from countersign.record import ENDED_AT_TSB, Record, Step, StepName, TsbStatus
from countersign.spki import fingerprint
from countersign.tsb.models import KeyAttributes, RequestStatus
from countersign.verification import checks
from countersign.verification.attestation import Trust

KEPT_ANSWERS = 20  # of a state, beside those that decide; see aws/objects.py
MOST_SKEW_SECONDS = (
    900  # what MaxClockSkewSeconds in template.yaml can be: beyond it nobody is asked
)


def key_at_creation(
    folder: Folder, record: Record, requested: m.EnrollmentRequest, *, now: datetime
) -> KeyAttributes | None:
    """TSB's answer about the key when it was created: one that passes CreateKey's checks.

    Root and chain on record are those of CreateKey, until StoreCsr trusts others.
    """
    if "publicKeySha256" not in record:
        return None
    answers = [
        one
        for one in bundle.answers(folder, "create-key", KeyAttributes)
        if fingerprint(one.key.public_key) == record["publicKeySha256"]
        and one.key.label == requested.key.label
    ]
    require(bool(answers), "tsb/create-key", "no answer is about the key that is on record")
    timely = [
        one for one in answers if m.timestamp(one.key.create_time) == record["times"]["keyCreated"]
    ]
    require(bool(timely), "tsb/create-key", "the key was made at another time")
    before = record.get("keyAttestation")
    trust = (
        trust_in_key(folder, record)
        if before is None
        else trust_in(folder, bundle.KEY_CHAIN, before["root"], before.get("chainSha256"))
    )
    verified_at = record.get("keyVerifiedAt")  # an older release did not say
    at = None if verified_at is None else datetime.fromisoformat(verified_at)
    failed: list[m.Check] = []
    for one in reversed(timely):  # the oldest
        failed = checks.failed_at_creation(
            one,
            requested.key,
            replace(trust, clock_skew=timedelta(seconds=MOST_SKEW_SECONDS)),
            asked_at=None if at is None else at - LONGEST_CALL,
            now=at or now,
            ahead=timedelta(seconds=int(record.get("clockSkewSeconds", 0))),
        )
        if not failed:
            return one
    why = "; ".join(f"{one.code}: {one.finding}" for one in failed)
    raise bundle.EvidenceInvalidError("tsb/create-key", why)


def require_discarded(folder: Folder, record: Record, requested: m.EnrollmentRequest) -> None:
    """TSB has answered about each key that was made and deleted, as its request's answer got lost.

    The last one is what was asked for, by the HSM's words too. What root it was believed by is on
    record no more, so nobody's signature is made sure of.

    Raises:
        EvidenceInvalidError: there is no answer about the last one, or there are fewer.
    """
    made = {
        fingerprint(one.key.public_key): one
        for one in bundle.answers(folder, "create-key", KeyAttributes)
        if one.key.label == requested.key.label
    }
    digest, is_kept = record.get("discardedSha256"), "publicKeySha256" in record
    least = record.get("discards", 0) + is_kept
    why = "answers are about fewer keys than were made"
    require(len(made) >= least, "tsb/create-key", why)
    if digest is not None:
        require(digest in made, "tsb/create-key", "no answer is about the key that was discarded")
        created = m.timestamp(made[digest].key.create_time)
        is_same = is_kept or record["times"].get("keyCreated") == created
        require(is_same, "tsb/create-key", "the discarded key was made at another time")
        for one in checks.failed_at_creation(
            made[digest],
            requested.key,
            Trust(root_sha256="", chain="", clock_skew=timedelta(seconds=MOST_SKEW_SECONDS)),
            asked_at=None,
            now=datetime.fromisoformat(record["times"]["ended"]),
            ahead=timedelta(),
        ):
            require(False, "tsb/create-key", f"the discarded key: {one.code}: {one.finding}")


def has_checked(record: Record, name: StepName) -> bool:
    """Whether the step's result was checked; PollRequest alone checks only the answer's id."""
    aside = record.get("quarantine", {})
    is_another = aside.get("code") == OTHER_REQUEST[name] and "prefix" not in aside
    return CHECKS[name] in record and not is_another


def trust_in_key(folder: Folder, record: Record) -> Trust:
    """What was trusted about the key in the end."""
    root, digest = record.get("attestationRoot", ""), record.get("attestationChainSha256")
    is_timed = not root or "keyVerifiedAt" in record
    require(is_timed, "record.json", "says not when the key was verified")
    return trust_in(folder, bundle.ATTESTATION_CHAIN, root, digest)


def approvals_answered(
    folder: Folder,
    step: Step,
    people: tuple[m.Approver, ...],
    keys: Mapping[str, str],
    part: str,
) -> tuple[tuple[m.Approver, ...] | None, list[RequestStatus]]:
    """Who decided what (None: that answer was not kept), and TSB's answers of an execution."""
    if "requestId" not in step:
        return (), []
    written = bundle.read(folder, part)
    own = [
        one
        for one in bundle.answers(folder, "poll-request", RequestStatus)
        if one.id == step["requestId"]
    ]
    said = {one["spkiSha256"]: one["name"] for one in written}
    status = step["status"]
    possible = [
        rules.decided(
            people,
            approved=one.approved_by,
            outstanding=one.not_yet_approved_by,
            declined=one.rejected_by,
            names=lambda: said,
        )
        for one in own
        if one.status == status and _as_recorded(one, step)
    ]
    if status == TsbStatus.PENDING and "answerSha256" not in step:
        possible.append(people)  # as it was asked
    is_dropped = status not in ENDED_AT_TSB and len(own) >= KEPT_ANSWERS
    is_said = bool(possible) or is_dropped
    require(is_said, "tsb/poll-request", f"no answer says that the request is {status}")
    ends = {(one.digest, one.execution_time, one.result) for one in own if _has_ended(one)}
    require(len(ends) <= 1, "tsb/poll-request", "two answers say otherwise how the request ended")
    for decided in possible:
        if [_with_key(one, keys) for one in decided] == written:
            return decided, [one for one in own if one.status == TsbStatus.EXECUTED]
    # Of an approval that many people moved, only the first answers and the last are kept. What one
    # in between said is unknown, and only who was asked is compared.
    asked = [{**_with_key(one, keys), "decision": ""} for one in people]
    is_same = asked == [{**one, "decision": ""} for one in written[: len(asked)]]
    require(is_same and is_dropped, part, "is not what TSB answered")
    return None, []


def _as_recorded(answer: RequestStatus, step: Step) -> bool:
    """Whether it is the answer that the record names (an older release named none)."""
    moment = answer.execution_time
    is_named = answer.sha256 == step.get("answerSha256", answer.sha256)
    return is_named and step["times"].get("executed") == (m.timestamp(moment) if moment else None)


def _has_ended(answer: RequestStatus) -> bool:
    return answer.status in ENDED_AT_TSB


def _with_key(one: m.Approver, keys: Mapping[str, str]) -> dict[str, Any]:
    return {**one.dump(), "publicKey": keys.get(one.spki_sha256 or "")}


def trust_in(folder: Folder, part: str, root: str, digest: str | None) -> Trust:
    """What was trusted: this root, and the chain in this part."""
    chain = folder.get(part, b"")
    if chain:
        require_equal(part, "attestationChainSha256", digest, sha256(chain))
    return Trust(root_sha256=root, chain=chain.decode(errors="replace"))
