"""Which end the facts give, and whether everything else on record fits it. Pure."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from countersign import models as m
from countersign.clocks import LONGEST_CALL
from countersign.errors import CsrInvalidError
from countersign.evidence import bundle, course, quarantine
from countersign.evidence.answered import MOST_SKEW_SECONDS, has_checked
from countersign.evidence.bundle import Folder, require, require_equal
from countersign.evidence.certified import require_certificate
from countersign.evidence.checked import require_passed
from countersign.evidence.course import ROUNDING, Asked, Course
from countersign.evidence.proven import Proven
from countersign.policy import rules
from countersign.record import (
    ENDED_AT_TSB,
    OUTCOMES_AT_TSB,
    Record,
    Step,
    certificate_step,
    csr_step,
    intended_at,
    last_step,
    step_of,
    tolerated,
    wants_certificate,
)
from countersign.tsb.models import RequestStatus


def end_on_record(record: Record, is_kept: Callable[[str], bool]) -> m.Outcome | None:
    """The end that is on record, whatever went wrong on the way to it. The first that holds:

    What was asked for, a CSR or a certificate, is verified and stored, and can no longer be
    cancelled. Who cancelled was answered that the enrollment ends as CANCELLED, so it does. A check
    that failed is no other failure. TSB's decision on the last request counts where its answer is
    kept. None: only the execution knows why it failed.

    Args:
        record: an enrollment's; what is issued in it was verified again.
        is_kept: whether an answer of TSB about its last request, with this status, is kept.
    """
    result = "certificate" if wants_certificate(record) else "csr"
    status = step_of(record, last_step(record)).get("status", "")
    if result in record:
        return m.Outcome.ISSUED
    if "cancel" in record:
        return m.Outcome.CANCELLED
    if "quarantine" in record:
        return m.Outcome.FAILED
    return m.Outcome(status) if status in OUTCOMES_AT_TSB and is_kept(status) else None


def require_end(folder: Folder, proven: Proven) -> None:
    """The outcome is the one that the facts give, and the times are in order."""
    record, step = proven.record, step_of(proven.record, last_step(proven.record))
    own = [
        one
        for one in bundle.answers(folder, "poll-request", RequestStatus)
        if one.id == step.get("requestId")
    ]
    given = end_on_record(record, {one.status for one in own}.__contains__) or m.Outcome.FAILED
    outcome, error = m.Outcome(record["outcome"]), record.get("error")
    is_given = outcome == given and (error is not None) is (outcome == m.Outcome.FAILED)
    require(
        is_given,
        "record.json",
        f"nothing says that the enrollment is {outcome}; by what is on record it is {given}",
    )
    if "csr" in record:
        require_passed(proven)
        _require_stored(folder, proven)
    if "certificate" in record:
        require_certificate(folder, proven)
    require_equal("record.json", "status", record["status"], outcome)
    _require_one_bucket(record)
    _require_key_left(record)
    name = (error or {}).get("name")
    is_invalid = outcome == m.Outcome.FAILED and "quarantine" in record
    if is_invalid or name == CsrInvalidError.__name__:
        require("quarantine" in record, "record.json", "no check has failed, and error says so")
        told = quarantine.failure(record).dump()
        for field in (*told, *(error or {}).keys() - told.keys()):
            require_equal(
                "record.json", f"error.{field}", (error or {}).get(field), told.get(field)
            )
    # Who makes the checks writes both at once.
    for noted, stored in (("checks", "csr"), ("certificateChecks", "certificate")):
        is_stored = noted not in record or {"quarantine", stored} & record.keys()
        require(bool(is_stored), "record.json", f"has passed all of {noted} and no {stored}")
    _in_order(record)
    _asked_at_once(csr_step(record))
    _asked_at_once(certificate_step(record))
    if "cancel" in record:
        _in_time(record, own)
    if proven.requested is not None and "requested" in csr_step(record).get("times", {}):
        _in_window(record, csr_step(record), proven.requested.key.policy)
    if proven.second is not None and "requested" in certificate_step(record).get("times", {}):
        _in_window(record, certificate_step(record), proven.second.policy)
    if "requestSha256" in record:
        for why in course.contradictions(_course(proven)):
            require(False, "record.json", why)


def _course(proven: Proven) -> Course:
    """What the record's own rules need of the other parts."""
    record, second, requested = proven.record, proven.second, proven.requested
    is_asked = requested is not None and "requested" in csr_step(record).get("times", {})
    is_at_ca = second is not None and "requested" in certificate_step(record).get("times", {})
    return Course(
        record,
        requested,
        csr=Asked(requested.key.policy, proven.approvers) if requested and is_asked else None,
        certificate=Asked(second.policy, second.approvers) if second and is_at_ca else None,
    )


def _require_one_bucket(record: Record) -> None:
    """CSR, certificate and what is in quarantine lie in one bucket, each at its own place."""
    places: list[Mapping[str, Any]] = [
        record.get("csr", {}),
        record.get("certificate", {}),
        record.get("quarantine", {}),
    ]
    buckets = {one["bucket"] for one in places if "bucket" in one}
    require(len(buckets) <= 1, "record.json", "names more than one bucket")
    aside = f"quarantine/{record['id']}/"
    prefix = record.get("quarantine", {}).get("prefix", aside)
    require_equal("record.json", "quarantine.prefix", prefix, aside)


def _require_key_left(record: Record) -> None:
    """The key of an issued CSR is never disposed of, and what was discarded is never adopted."""
    disposed = record.get("unusedKey", {}).get("result")
    is_left = "csr" not in record or disposed not in ("deleted", "blocked")
    require(is_left, "record.json", f"the key of its CSR was {disposed}")
    made = record.get("publicKeySha256")
    is_fresh = made is None or record.get("discardedSha256") != made
    require(is_fresh, "record.json", "its key is the one that was discarded")


def _in_time(record: Record, own: list[RequestStatus]) -> None:
    """The cancellation was before everything that it prevents, and after what it did not prevent.

    Each state looks for it before it goes on: RequestCsr and RequestCertificate before they ask,
    PollRequest before it reads TSB's answer, the last of StoreCsr and StoreCertificate as it
    records that all checks have passed. So TSB's last word and a cancellation are both on record
    only where the one came while the other was under way, or after it and before the end.

    Args:
        record: with a cancellation.
        own: TSB's answers about its last request.

    Raises:
        EvidenceInvalidError: it was not.
    """
    require("verifiedSha256" not in record, "record.json", "was verified, and cancelled as well")
    step, cancel = step_of(record, last_step(record)), record["cancel"]
    at, times = datetime.fromisoformat(cancel["at"]), step.get("times", {})
    before = [record["times"]["accepted"], intended_at(step)]
    earliest = [datetime.fromisoformat(one) for one in before if one]
    if step.get("status") in ENDED_AT_TSB:
        earliest.append(datetime.fromisoformat(times["nextPoll"]) - LONGEST_CALL)
    is_later = at >= max(earliest) - ROUNDING
    require(is_later, "record.json", "was cancelled before what a cancellation prevents")
    is_before = at <= datetime.fromisoformat(record["times"]["ended"]) + ROUNDING
    require(is_before, "record.json", "was cancelled after its end")
    ended = at + LONGEST_CALL
    if "confirmedAt" in cancel:
        confirmed = datetime.fromisoformat(cancel["confirmedAt"])
        is_asked = "requestId" in step and confirmed >= at - ROUNDING
        require(is_asked, "record.json", "TSB has confirmed what was not cancelled")
        ended = min(ended, confirmed)
    skew = timedelta(seconds=int(record.get("clockSkewSeconds", 0)))
    executed = [one.execution_time - skew for one in own if one.execution_time]
    is_earlier = all(one <= ended + tolerated(record) for one in executed)
    require(is_earlier, "record.json", "TSB has executed what was cancelled before")


def _require_stored(folder: Folder, proven: Proven) -> None:
    record, verified = proven.record, proven.verified
    assert verified is not None  # noqa: S101  for the type checker  # nosec B101
    stored, found = m.StoredCsr.read(record["csr"]), verified.csr
    body = folder["request.pem"].decode()
    require(found is not None and body == found.pem, "request.pem", "is not what TSB answered")
    require_equal("record.json", "csr.pem", stored.pem, body)
    digest = found.sha256 if found else None
    require_equal("record.json", "csr.sha256", stored.sha256, digest)
    if not wants_certificate(record):
        require_equal("record.json", "verifiedSha256", record.get("verifiedSha256"), digest)
    require_equal("record.json", "csr.key", stored.key, f"enrollments/{record['id']}/request.pem")


def _in_order(record: Record) -> None:
    """Our own times are in order. The key's is the HSM's, as far as that clock is known to be off.

    A function outlives an execution that was stopped by one call at most. What it then made is on
    record, and was made after the end, which is FAILED.

    Raises:
        EvidenceInvalidError: they are not.
    """
    step, times = csr_step(record).get("times", {}), record["times"]
    is_failed = record["outcome"] == m.Outcome.FAILED
    last_call = datetime.fromisoformat(times["ended"]) + LONGEST_CALL * is_failed
    # Of the CA's key: when its certificate was verified, else before its approvers were asked.
    attested = record.get("caAttestation", {}).get("at")
    is_certified = has_checked(record, "certificate")
    texts = [
        times.get("accepted"),
        *_own_times(csr_step(record)),
        record.get("verifiedAt"),
        None if is_certified else attested,
        *_own_times(certificate_step(record)),
        attested if is_certified else None,
        record.get("imported", {}).get("at"),
    ]
    own = [*(datetime.fromisoformat(one) for one in texts if one), last_call]
    in_order = all(one <= following + ROUNDING for one, following in pairwise(own))
    require(in_order, "record.json", "its times are not in order")
    if "keyVerifiedAt" in record:
        # A CreateKey that was given up may still run while the next state does.
        is_before = datetime.fromisoformat(record["keyVerifiedAt"]) <= own[1] + LONGEST_CALL
        is_after = datetime.fromisoformat(record["keyVerifiedAt"]) >= own[0] - ROUNDING
        require(is_before and is_after, "record.json", "its times are not in order")
    if "accepted" in times:
        require_equal("record.json", "acceptedAt", record["acceptedAt"], times["accepted"])
    if "publicKeySha256" in record:
        skew = timedelta(seconds=int(record.get("clockSkewSeconds", 0)))
        created = datetime.fromisoformat(times["keyCreated"]) - skew
        asked = step.get("requested")
        last = datetime.fromisoformat(asked) if asked else last_call
        # An attempt adopts the key that the one before it has made.
        is_early = record["attempt"] == 1 and created < own[0] - ROUNDING
        is_between = not is_early and created <= last + ROUNDING
        require(is_between, "record.json", "the key was not made in this enrollment's time")


def _asked_at_once(step: Step) -> None:
    """One invocation notes that it asks, asks, and notes when it has asked.

    Raises:
        EvidenceInvalidError: it took longer than a function can.
    """
    intent, asked = intended_at(step), step.get("times", {}).get("requested")
    if intent and asked:
        took = datetime.fromisoformat(asked) - datetime.fromisoformat(intent)
        is_at_once = took <= LONGEST_CALL + ROUNDING
        require(is_at_once, "record.json", "its approvers were asked long after that was noted")


def _own_times(step: Step) -> list[str | None]:
    """When its approvers were to be asked, were asked, and when TSB's last word was read."""
    times = step.get("times", {})
    is_over = step.get("status") in ENDED_AT_TSB
    asked = intended_at(step)
    return [asked, times.get("requested"), times.get("nextPoll") if is_over else None]


def _in_window(record: Record, step: Step, policy: m.Policy) -> None:
    """The window is the policy's, and TSB executed nothing before it was asked.

    The clock's offset is the stack's word, so it is bounded: it decides what an old attestation is.

    Raises:
        EvidenceInvalidError: it is not.
    """
    skew_seconds = int(record.get("clockSkewSeconds", 0))
    is_tolerated = abs(skew_seconds) <= MOST_SKEW_SECONDS
    require(is_tolerated, "record.json", "the HSM's clock was further off than is tolerated")
    times = step["times"]
    asked = datetime.fromisoformat(times["requested"])
    seconds = rules.window_seconds(policy.rule_use.tokens)
    ends = m.timestamp(asked + timedelta(seconds=seconds)) if seconds else None
    require_equal("record.json", "windowEnds", times["windowEnds"], ends)
    if "executed" in times:
        executed = datetime.fromisoformat(times["executed"]) - timedelta(seconds=skew_seconds)
        allowed = tolerated(record)
        is_later = executed >= asked - allowed
        require(is_later, "record.json", "the request was executed before it was made")
        is_read = executed <= datetime.fromisoformat(times["nextPoll"]) + allowed
        require(is_read, "record.json", "the request was executed after TSB had said so")
