"""What each state decides. One function per state, in the order of the state machine.

Every function may run twice and says how it copes. Stores, bus and TSB are handed in; nothing here
knows where they are.
"""

import base64
import hashlib
import json
import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from countersign import cancel, claim, events, outcome, policy, polling, request
from countersign import models as m
from countersign.errors import (
    KEY_ALREADY_EXISTING,
    KEY_NOT_EXISTENT,
    AwsCallError,
    CountersignError,
    CsrInvalidError,
    EnrollmentConflictError,
    KeyConflictError,
    NotAskedError,
    TsbCredentialsError,
    TsbNoAnswerError,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.spki import spki_sha256

if TYPE_CHECKING:
    from countersign.attestation import Trust
    from countersign.aws.bus import Bus
    from countersign.aws.objects import Objects
    from countersign.aws.records import Item, Records
    from countersign.profiles import Profiles
    from countersign.tsb import Key, KeyAttributes, RequestStatus, TsbClient
    from countersign.verification import Verified

CLOCK_SKEW = timedelta(seconds=60)  # between our clock and the HSM's
TURN_MARGIN = 0.05  # some come late, and then close together: a minute forgives three seconds
MAX_FRESH_STARTS = 1  # after a lost answer; a second loss is no accident
DISCARDED = ("intent", "requestId", "publicKeySha256")  # of a key that is gone
WAITING = ("PENDING", "APPROVED")
NOTHING_SEEN = "nothing"  # the state machine's `seen` before the first look

type Password = Callable[[str], str]  # the text of the secret at this ARN
type Sign = Callable[[bytes], bytes]  # a signature by the stack's signing key over this content


def accept_enrollment(
    given: m.AcceptEnrollmentInput,
    *,
    records: "Records",
    objects: "Objects",
    bus: "Bus",
    rules: request.Rules,
    keys_per_minute: int = 0,
) -> m.Accepted | m.OutcomeDocument:
    """Validate the request, claim its enrollment id and say so, before anything else exists.

    Idempotent: an execution finds its own claim again, and the request as it was accepted then (a
    profile without version may mean a newer one by now), says again that it was accepted, and takes
    a later turn.

    Args:
        given: the execution and its input.
        records: the table.
        objects: the bucket.
        bus: hears that it was accepted.
        rules: what requests are held against.
        keys_per_minute: how many keys may be created; 0 is as many as anybody asks for.

    Returns:
        The claimed enrollment, or, for a request that another execution carries out already, that
        enrollment's document with `duplicate`.

    Raises:
        InvalidEnrollmentError: the request cannot be accepted.
        EnrollmentConflictError: the id belongs to another request.
        AwsCallError: a store or the bus refused; the state machine retries.
    """
    raw, origin = request.asked(given.execution.input)
    moment = m.now()
    # A principal that anybody may write here can only speak against him who wrote it.
    reading = request.read(raw, rules=rules, requester=origin.principal, moment=moment)
    enrollment_id = request.enrollment_id(given.execution.input, given.execution.name)
    record = claim.initial_record(
        enrollment_id,
        raw,
        reading,
        # Whoever may start executions can write anything here. The API, which knows its callers,
        # has claimed before, and what it wrote stays.
        origin.model_copy(update={"principal": None}),
        names=rules.profiles.directory.names,
        execution_arn=given.execution.arn,
    )
    record, own = claim.claim(record, records)
    if not own:
        return outcome.document(record).model_copy(update={"duplicate": True})
    accepted = _accepted(record, reading, objects)
    bus.put(events.accepted(record))
    return m.Accepted(
        enrollment_id=enrollment_id,
        attempt=record["attempt"],
        request=accepted,
        key_turn=_key_turn(records, keys_per_minute),
    )


def _accepted(record: "Item", reading: request.Reading, objects: "Objects") -> dict[str, Any]:
    """The request that this attempt carries out: what it accepted first, as the record knows it."""
    attempt, ours = record["attempt"], request.canonical(reading.raw)
    # Each attempt keeps what it asked: a profile without version may mean another one each time.
    name = "request.json" if attempt == 1 else f"request-{attempt}.json"
    kept = objects.keep_first(f"enrollments/{record['id']}/{name}", ours, "application/json")
    digest = hashlib.sha256(kept).hexdigest()
    if digest != record.get("acceptedSha256", hashlib.sha256(ours).hexdigest()):
        raise EnrollmentConflictError(
            f"what lies at {name} is not what the record says was accepted; it was left as it is",
            action="Find out who wrote it; only this workflow may. Or, where a profile was released"
            " or the directory changed at this moment, start again with the same id.",
        )
    accepted: dict[str, Any] = json.loads(kept)
    return accepted


def _key_turn(records: "Records", keys_per_minute: int) -> str | None:
    """The moment of the next free turn to create a key: an HSM makes so many and no more."""
    if not keys_per_minute:
        return None
    now = m.now()
    interval = math.ceil(60_000 * (1 + TURN_MARGIN) / keys_per_minute)
    milliseconds = int(now.timestamp() * 1000)
    turn = records.take_turn("turn#create-key", milliseconds, interval)
    moment = now + timedelta(milliseconds=turn - milliseconds)
    if moment <= now:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _await_turn(turn: str | None) -> None:
    """Wait out what the Wait state could not: Step Functions cuts its timestamp to whole seconds.

    Source: https://docs.aws.amazon.com/step-functions/latest/dg/state-wait.html
    """
    left = (datetime.fromisoformat(turn) - m.now()).total_seconds() if turn else 0
    time.sleep(min(max(left, 0), 1))


def create_key(
    given: m.CreateKeyInput,
    *,
    records: "Records",
    objects: "Objects",
    tsb: "TsbClient",
    password: Password,
    profiles: "Profiles",
    trust: "Trust",
) -> m.CreatedKey:
    """Create the key under its policy, or adopt the one that a lost answer left behind.

    What the HSM attests is verified here already: a key that could not pass StoreCsr, or a chain
    that is not configured well, shall bother no approver.

    Idempotent: the label is claimed first; a key found under it (608) is adopted only if the claim
    is ours, it is not older than the claim, and it is what was asked. Before anything is created
    the approvers are held against those of the CA key, where the profile names one: this function
    has the role that may read its policy, and AcceptEnrollment has none.

    Args:
        trust: whose attestations are believed.

    Raises:
        InvalidEnrollmentError: the CA key's approvers would approve here too; the execution fails.
        KeyConflictError: the label belongs to another enrollment, or a key under it is not ours,
            or the HSM does not attest it.
        TsbUnavailableError, TsbNoAnswerError: the state machine retries.
        TsbRefusedError, TsbCredentialsError: the execution fails.
    Source: TSB REST API, POST /v1/key, POST /v1/key/attributes.
    """
    key = given.request.key
    there = _progress(given, records, {"stage": "CreateKey", "keyLabel": key.label})
    if there is not None:
        return m.CreatedKey(label=key.label, public_key=None, public_key_sha256=None)
    _check_ca_key(given, records, tsb, profiles)
    claimed_at, first = _claim_label(given, records)
    secret = password(key.password.secret_arn) if key.password else None
    try:
        _await_turn(given.key_turn)
        answer = tsb.create_key(request.tsb_key(given.request, secret))
    except TsbRefusedError as error:
        if error.error_code != KEY_ALREADY_EXISTING:
            # Claimed before: an earlier try may have made a key whose answer got lost.
            if first or not _may_be_there(tsb, key.label, secret):
                _release_label(given, records)
            raise
        answer = tsb.key_attributes(key.label, secret)
        if answer.key.create_time < claimed_at - CLOCK_SKEW:
            _release_label(given, records)
            raise _key_conflict(key.label, "was there before this enrollment began") from error
    objects.keep_answer(given.enrollment_id, "create-key", answer.raw)
    _require_as_asked(answer.key, key)
    _require_attested(answer, trust)
    fingerprint = spki_sha256(answer.key.public_key)
    _require_own(
        given,
        records.update(
            given.enrollment_id,
            {
                "publicKeySha256": fingerprint,
                "times.keyCreated": m.timestamp(answer.key.create_time),
            },
            when={"executionArn": given.execution_arn},
        ),
    )
    return m.CreatedKey(
        label=key.label, public_key=answer.key.public_key, public_key_sha256=fingerprint
    )


def _check_ca_key(
    given: m.CreateKeyInput, records: "Records", tsb: "TsbClient", profiles: "Profiles"
) -> None:
    profile = profiles.get(given.request.profile) if given.request.profile else None
    if profile is None or profile.ca_key_label is None:
        return
    from countersign.lint import dump, lint_ca_key, refuse  # noqa: PLC0415  one state of many

    unread, ca_policy = None, None
    try:
        reported = tsb.key_attributes(profile.ca_key_label).key.policy
        if reported and reported.get("ruleUse") is not None:
            ca_policy = m.Policy.model_validate(reported)
    except TsbRefusedError as error:
        unread = f"TSB answers {error.error_code}, {error.reason}"
    except ValueError:
        unread = "its policy has a form that this product does not know"
    findings = lint_ca_key(
        given.request.key.policy,
        ca_policy,
        directory=profiles.directory,
        profile=profile,
        unread=unread,
    )
    values = {"caFindings": dump(findings)}
    _require_own(given, records.update(given.enrollment_id, values, when=_own(given)))
    refuse(findings)


def _claim_label(given: m.CreateKeyInput, records: "Records") -> tuple[datetime, bool]:
    """When this enrollment claimed the label, which no key of ours predates; whether just now."""
    label = given.request.key.label
    claim = {
        "id": f"label#{label}",
        "enrollmentId": given.enrollment_id,
        "claimedAt": m.timestamp(m.now()),
    }
    there = records.put(claim)
    if there is None:
        return datetime.fromisoformat(claim["claimedAt"]), True
    if there["enrollmentId"] != given.enrollment_id:
        raise _key_conflict(label, f"is claimed by enrollment {there['enrollmentId']}")
    return datetime.fromisoformat(there["claimedAt"]), False


def _may_be_there(tsb: "TsbClient", label: str, secret: str | None) -> bool:
    try:
        tsb.key_attributes(label, secret)
    except CountersignError as error:
        return not (isinstance(error, TsbRefusedError) and error.error_code == KEY_NOT_EXISTENT)
    return True


def _release_label(given: m.CreateKeyInput, records: "Records") -> None:
    records.delete(f"label#{given.request.key.label}", when={"enrollmentId": given.enrollment_id})


def _require_as_asked(reported: "Key", asked: m.KeyRequest) -> None:
    """The HSM's word against the request: attributes, algorithm, size and policy."""
    from countersign import verification  # noqa: PLC0415  the loop's function need not load it

    different = [
        name for part in verification.differences(reported, asked).values() for name in part
    ]
    if different:
        raise _key_conflict(asked.label, f"is not what was asked: {', '.join(different)} differ")


def _require_attested(answer: "KeyAttributes", trust: "Trust") -> None:
    from countersign import attestation  # noqa: PLC0415  the loop's function need not load it

    for check in attestation.check(answer, trust, asked_at=None, now=m.now()):
        if check.result == "failed":
            raise KeyConflictError(
                f"the HSM does not attest key {answer.key.label!r}: {check.finding}",
                field=check.field,
                reason=check.code,
                action="Compare AttestationRoot and the chain in the TLS secret with the HSM's.",
            )


def _key_conflict(label: str, why: str) -> KeyConflictError:
    return KeyConflictError(
        f"key label {label!r} {why}",
        field="request.key.label",
        action="Choose another label, or look up who made the key; it was left as it is.",
    )


def request_csr(
    given: m.RequestCsrInput,
    *,
    records: "Records",
    objects: "Objects",
    tsb: "TsbClient",
    password: Password,
    sign: Sign,
    pace: polling.Schedule,
    names: policy.Names,
) -> m.RequestedCsr:
    """Ask TSB for the CSR: from here on the approvers are asked, so it happens once.

    Not idempotent at the TSB, so an intent is recorded first. Entered again with another
    invocation's intent and no request id it refuses to guess; with the id it returns it.

    What the approvers are shown is signed and kept before the intent is recorded: up to there an
    AWS service that refuses has asked nobody, and the state machine may try again.

    Args:
        pace: how to wait, as the stack is configured; window and timelock are put in here.
        names: the directory's, by the fingerprint of people's keys.
        sign: by the stack's signing key, over the meta data.

    Raises:
        NotAskedError: an AWS service refused before TSB was called; the state machine retries.
        TsbNoAnswerError: nobody knows whether TSB holds a request; the key is discarded.
        TsbUnavailableError: surely not executed; the state machine retries.
        TsbRefusedError, TsbCredentialsError: the execution fails.
    Source: TSB REST API, POST /v1/certificate/request.
    """
    asked = given.request.key.policy
    schedule = replace(
        pace,
        window_seconds=policy.window_seconds(asked),
        timelock_seconds=policy.timelock_seconds(asked),
    )
    if given.key.public_key is None:
        return _requested(None, m.Outcome.CANCELLED, schedule)
    intent = f"{m.timestamp(m.now())} {uuid.uuid4().hex}"
    with _nobody_asked():
        asking, noted = _prepare(given, records, objects, password, sign)
        there = _progress(
            given,
            records,
            {"stage": "RequestCsr", "intent": intent, **noted},
            absent=("intent", "requestId"),
        )
    # Ours is there already where the SDK repeated the write, because its first answer got lost.
    if there is None or (there.get("intent") == intent and "cancel" not in there):
        request_id = _ask(given, records, tsb, asking, intent, schedule=schedule, names=names)
        return _requested(request_id, "PENDING", schedule)
    if "cancel" in there:
        return _requested(None, m.Outcome.CANCELLED, schedule)
    if "requestId" in there:
        return _requested(there["requestId"], "PENDING", schedule)
    raise TsbNoAnswerError(
        f"a CSR for key {given.request.key.label!r} was asked for and no answer is on record",
        action="Nothing; the key is discarded where it can be, which cancels its requests.",
    )


@contextmanager
def _nobody_asked() -> Iterator[None]:
    try:
        yield
    except AwsCallError as error:
        raise NotAskedError(
            f"the approvers were not asked: {error.message}",
            reason=error.reason,
            http_status=error.http_status,
            action=error.action,
        ) from error


def _prepare(
    given: m.RequestCsrInput,
    records: "Records",
    objects: "Objects",
    password: Password,
    sign: Sign,
) -> tuple[dict[str, Any], "Item"]:
    """The body for TSB, and what the record shall say of it."""
    key = given.request.key
    origin = (records.get(given.enrollment_id) or {}).get("origin", {})
    shown = request.meta_data(
        given.request, enrollment_id=given.enrollment_id, requester=origin.get("principal")
    )
    digest = hashlib.sha256(shown).hexdigest()
    signature = sign(shown)
    _put_once(objects, f"enrollments/{given.enrollment_id}/metadata/{digest}.json", shown)
    body = request.tsb_csr(
        given.request,
        password(key.password.secret_arn) if key.password else None,
        shown=shown,
        signature=signature,
    )
    return body, {
        "acceptedSha256": request.sha256(request.accepted(given.request)),
        "metaDataSha256": digest,
        "metaDataSignature": base64.b64encode(signature).decode(),
    }


def _ask(
    given: m.RequestCsrInput,
    records: "Records",
    tsb: "TsbClient",
    body: dict[str, Any],
    intent: str,
    *,
    schedule: polling.Schedule,
    names: policy.Names,
) -> str:
    key, when = given.request.key, {**_own(given), "intent": intent}
    try:
        answer = tsb.request_csr(body)
    except (TsbUnavailableError, TsbRefusedError, TsbCredentialsError):
        # Surely not executed: without this, the retry would find an intent and discard the key.
        records.update(given.enrollment_id, {"stage": "RequestCsr"}, when=when, remove=("intent",))
        raise
    moment = m.now()
    ends = schedule.window_seconds and m.timestamp(
        moment + timedelta(seconds=schedule.window_seconds)
    )
    _require_own(
        given,
        records.update(
            given.enrollment_id,
            {
                "requestId": answer.sign_request_id,
                "tsbStatus": "PENDING",
                "approvers": [one.dump() for one in policy.approvers(key.policy, names)],
                "times.requested": m.timestamp(moment),
                "times.windowEnds": ends or None,
                "times.nextLook": m.timestamp(
                    moment + timedelta(seconds=polling.first_wait(schedule))
                ),
            },
            when=when,
        ),
    )
    return answer.sign_request_id


def _requested(request_id: str | None, status: str, schedule: polling.Schedule) -> m.RequestedCsr:
    return m.RequestedCsr(
        request_id=request_id,
        status=status,
        wait_seconds=polling.first_wait(schedule),
        schedule=m.Schedule(
            **asdict(schedule),
            slowest_seconds=schedule.cap,
            last_age_seconds=schedule.last_age,
        ),
    )


def poll_request(
    given: m.PollRequestInput,
    *,
    records: "Records",
    objects: "Objects",
    bus: "Bus",
    tsb: "TsbClient",
    names: policy.Names,
) -> m.PolledRequest:
    """Read TSB's request and decide how long to wait before the next look.

    Idempotent: reads; writes the record and the evidence only when something changed. A request
    that TSB neither decides nor lets expire is cancelled there once the deadline has passed, so
    that TSB's own answer still ends it. An enrollment that was cancelled on record ends here, also
    where TSB cannot be told: from then on it could not be issued anyway.

    How the approval stands is told last, and only while it is open: a bus that refuses makes the
    state machine look again, with the old `seen`, and keeps no decision of TSB's from being acted
    on, nor a deadline.

    Raises:
        AwsCallError: a store or the bus refused; the state machine looks again later.
        TsbUnavailableError, TsbNoAnswerError: the state machine looks again later.
        TsbRefusedError: TSB does not know the request, or goes on waiting after its end.
        CsrInvalidError: TSB answers with another request's id.
    Source: TSB REST API, GET /v1/request/{id}.
    """
    record = records.get(given.enrollment_id) or {}
    if "cancel" in record:
        return _cancelled(given, records, tsb)
    answer = tsb.request_status(given.request_id)
    if answer.id != given.request_id:
        raise _another_request(given, answer, records, objects)
    schedule = polling.Schedule(
        **given.schedule.model_dump(by_alias=False, exclude={"slowest_seconds", "last_age_seconds"})
    )
    wait_seconds = polling.next_wait(schedule, given.age_seconds, answer.status)
    lists = (answer.approved_by, answer.not_yet_approved_by, answer.rejected_by)
    seen = hashlib.sha256(json.dumps([answer.status, *lists]).encode()).hexdigest()[:16]
    news: events.Event | None = None
    if seen != given.seen:
        objects.keep_answer(given.enrollment_id, "poll-request", answer.raw)
        asked = tuple(m.Approver.read(one) for one in record.get("approvers", ()))
        decided = policy.decided(
            asked,
            approved=answer.approved_by,
            outstanding=answer.not_yet_approved_by,
            declined=answer.rejected_by,
            names=names,
        )
        _require_own(
            given,
            records.update(
                given.enrollment_id,
                {
                    "stage": "PollRequest",
                    "tsbStatus": answer.status,
                    "approvers": [one.dump() for one in decided],
                    **_executed(answer),
                    "times.nextLook": m.timestamp(m.now() + timedelta(seconds=wait_seconds)),
                },
                when=_own(given),
            ),
        )
        if answer.status in WAITING:
            first = given.seen == NOTHING_SEEN
            news = events.waiting(record, decided, answer.status, first=first)
    if answer.status in WAITING:
        _end_the_endless(given, schedule, records, tsb, answer.status)
    if news is not None:
        bus.put(news)
    return m.PolledRequest(
        status=answer.status,
        wait_seconds=wait_seconds,
        seen=seen,
        pem=answer.result if answer.status == "EXECUTED" else None,
    )


def _cancelled(given: m.PollRequestInput, records: "Records", tsb: "TsbClient") -> m.PolledRequest:
    """The end of a cancelled enrollment: TSB is told here where CancelRequest could not."""
    with suppress(TsbUnavailableError, TsbNoAnswerError, TsbCredentialsError):
        cancel.cancel_request(
            m.CancelRequestInput(enrollment_id=given.enrollment_id),
            records=records,
            tsb=lambda: tsb,
        )
    return m.PolledRequest(status=m.Outcome.CANCELLED, wait_seconds=0, seen=given.seen)


def _executed(answer: "RequestStatus") -> "Item":
    """When TSB executed; its own timer does, so it tells how long the people took."""
    moment = answer.execution_time
    return {"times.executed": m.timestamp(moment)} if moment else {}


def _another_request(
    given: m.PollRequestInput, answer: "RequestStatus", records: "Records", objects: "Objects"
) -> CsrInvalidError:
    objects.keep_answer(given.enrollment_id, "poll-request", answer.raw)
    check = m.Check(
        code="REQUEST_ID",
        result="failed",
        field="id",
        finding=f"TSB answers for request {answer.id} when asked for {given.request_id}",
    )
    records.update(
        given.enrollment_id,
        {"checks": [check.dump()], "quarantine": {"code": check.code}},
        when=_own(given),
    )
    return _invalid(
        check, "Have the TSB and what stands in front of it examined: answers are mixed up."
    )


def _end_the_endless(
    given: m.PollRequestInput,
    schedule: polling.Schedule,
    records: "Records",
    tsb: "TsbClient",
    status: str,
) -> None:
    if given.age_seconds >= schedule.last_age:
        raise TsbRefusedError(
            f"TSB still reports {status} for request {given.request_id}, long after its end",
            action="Cancel the request at the TSB by hand and have its clock examined.",
        )
    # A window that TSB does not end (its clock is off), or one without an end of its own.
    overdue = (
        schedule.window_seconds + schedule.silence_seconds // 2
        if schedule.window_seconds
        else schedule.deadline_seconds
    )
    if given.age_seconds >= overdue:
        try:
            tsb.cancel_request(given.request_id)
        except TsbRefusedError:
            return  # it has just ended; the next look says how
        # Who cancelled: TSB's CANCELLED names nobody.
        records.update(given.enrollment_id, {"overdue": m.timestamp(m.now())}, when=_own(given))


def store_csr(
    given: m.StoreCsrInput,
    *,
    records: "Records",
    objects: "Objects",
    tsb: "TsbClient",
    password: Password,
    trust: "Trust",
) -> m.StoredResult:
    """Verify what came back against what was approved, and keep it only if every check passes.

    Idempotent: a CSR on record is handed out again, whatever became of its key since; the object is
    written once, finding it there with the same SHA-256 counts. The write of `verifiedSha256`
    decides against a cancellation: whichever is first on record wins. Who approved is read from the
    record, where PollRequest put TSB's answer.

    Args:
        trust: whose attestations are believed.

    Raises:
        CsrInvalidError: `reason` is the code of the first check that failed; CSR and findings are
            in quarantine, nothing is stored as issued.
        TsbUnavailableError, TsbNoAnswerError, TsbCredentialsError: the state machine retries.
    Source: TSB REST API, POST /v1/key/attributes.
    """
    from countersign import verification  # noqa: PLC0415  the loop's function need not load it

    asked = given.request
    record = records.get(given.enrollment_id) or {}
    if "csr" in record and record.get("executionArn") == given.execution_arn:
        return m.StoredResult(status="ISSUED", csr=m.StoredCsr.read(record["csr"]))
    secret = password(asked.key.password.secret_arn) if asked.key.password else None
    answer = tsb.key_attributes(asked.key.label, secret)
    objects.keep_answer(given.enrollment_id, "store-csr", answer.raw)
    returned = verification.Returned(
        asked=asked,
        request_id=given.request_id,
        pem=given.pem or "",
        created_public_key=given.key.public_key,
        answer=answer,
        record=record,
    )
    verified = verification.verify(returned, trust, now=m.now())
    if trust.chain:
        objects.keep_first(
            f"enrollments/{given.enrollment_id}/attestation-chain.pem", trust.chain.encode()
        )
    noted = {
        "checks": [check.dump() for check in verified.checks],
        "attestation": verified.attestation,
        "attestationRoot": trust.root_sha256,
    }
    checked = verified.csr
    if verified.failed is not None or checked is None:
        raise _quarantined(given, verified, noted, records, objects)
    there = _progress(
        given, records, {"stage": "StoreCsr", "verifiedSha256": checked.sha256, **noted}
    )
    if there is not None:
        return m.StoredResult(status="CANCELLED", csr=None)
    name = f"enrollments/{given.enrollment_id}/request.pem"
    stored = m.StoredCsr(
        bucket=objects.bucket,
        key=name,
        version_id=_put_once(objects, name, checked.pem.encode(), "application/x-pem-file"),
        sha256=checked.sha256,
        pem=checked.pem,
    )
    _require_own(
        given, records.update(given.enrollment_id, {"csr": stored.dump()}, when=_own(given))
    )
    return m.StoredResult(status="ISSUED", csr=stored)


def _quarantined(
    given: m.StoreCsrInput,
    verified: "Verified",
    noted: "Item",
    records: "Records",
    objects: "Objects",
) -> CsrInvalidError:
    """Put CSR and findings aside and say so on the record: CloseEnrollment announces it."""
    failed = verified.failed or m.Check(code="CSR_FORMAT", result="failed", field="pem")
    prefix = f"quarantine/{given.enrollment_id}/"
    pem = (given.pem or "").encode(errors="backslashreplace")  # JSON can hold what UTF-8 cannot
    objects.keep_first(f"{prefix}request.pem", pem)
    objects.keep_first(f"{prefix}findings.json", json.dumps(noted, indent=2).encode())
    records.update(
        given.enrollment_id,
        {
            "stage": "StoreCsr",
            "quarantine": {"code": failed.code, "bucket": objects.bucket, "prefix": prefix},
            **noted,
        },
        when=_own(given),
    )
    return _invalid(failed, f"Treat it as a security incident; what came back lies at {prefix}.")


def _invalid(failed: m.Check, action: str) -> CsrInvalidError:
    return CsrInvalidError(
        f"{failed.code}: {failed.finding}", field=failed.field, reason=failed.code, action=action
    )


def _put_once(
    objects: "Objects", name: str, body: bytes, content_type: str = "application/json"
) -> str | None:
    try:
        return objects.put_once(name, body, content_type)
    except FileExistsError as error:
        raise EnrollmentConflictError(
            f"another object lies at {name} already; it was left as it is",
            action="Find out who wrote it; only this workflow may.",
        ) from error


def discard_key(
    given: m.DiscardKeyInput,
    *,
    records: "Records",
    tsb: "TsbClient",
    password: Password,
    keys_per_minute: int = 0,
) -> m.DiscardedKey:
    """What becomes of a key that has no CSR.

    Where the request for one got no answer (the state machine says so, or the record, which has the
    intent and no id), the fresh key is deleted, which cancels whatever TSB
    holds, and CreateKey may start over once; after that, and for a key that cannot be deleted, the
    enrollment fails, naming the key. In every other case the enrollment ends as it would without
    this state, and the key is kept, deleted or blocked as its profile says (unused.py).

    Idempotent: a key that is gone counts as deleted.

    Raises:
        KeyNotSettledError: tried a few times more; whatever comes of it, the outcome stays.
        TsbUnavailableError, TsbNoAnswerError, TsbCredentialsError: of an unanswered request only;
            retried for a day.
        TsbRefusedError, KeyConflictError: likewise; the execution fails.
    Source: TSB REST API, POST /v1/key/deleteKey (deleting a key cancels its requests).
    """
    from countersign import unused  # noqa: PLC0415  the loop's function need not load it

    key = given.request.key
    record = records.get(given.enrollment_id) or {}
    # The error that came last need not be about the answer that was lost first.
    if not given.unanswered and not ("intent" in record and "requestId" not in record):
        unused.settle(given, records=records, tsb=tsb, password=password)
        return m.DiscardedKey(again=False, status=given.status, failure=given.failure)
    if record.get("executionArn") != given.execution_arn:
        raise _not_own(given)
    if not key.attributes.destroyable:
        unused.cancel_open(record, None, tsb)
        asked = "its request was cancelled" if "requestId" in record else "may have an open request"
        return _unanswered(given, f"key {key.label!r} is permanent (not destroyable); {asked}")
    secret = password(key.password.secret_arn) if key.password else None
    unused.delete(given.request, record, records=records, tsb=tsb, secret=secret)
    # Run again after its own update it finds none of these, and counts nothing.
    discards = record.get("discards", 0) + bool(record.keys() & DISCARDED)
    _require_own(
        given,
        records.update(
            given.enrollment_id,
            {"stage": "DiscardKey", "discards": discards},
            when=_own(given),
            remove=DISCARDED,
        ),
    )
    if discards > MAX_FRESH_STARTS:
        unused.release_label(record, records)
        return _unanswered(given, f"it was asked twice; key {key.label!r} was deleted both times")
    # The next key is a new one: one older than this moment is not ours to adopt.
    records.update(
        f"label#{key.label}",
        {"claimedAt": m.timestamp(m.now())},
        when={"enrollmentId": given.enrollment_id},
    )
    return m.DiscardedKey(
        again=True,
        failure=given.failure,
        key_turn=_key_turn(records, keys_per_minute),
    )


def _unanswered(given: m.DiscardKeyInput, why: str) -> m.DiscardedKey:
    error = TsbNoAnswerError(
        f"TSB did not answer the request for a CSR: {why}",
        action="See at the TSB which requests of this key are open and cancel them.",
    )
    failure = m.CaughtError(
        state=given.failure.state if given.failure else "RequestCsr",
        error=type(error).__name__,
        cause=json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}),
    )
    return m.DiscardedKey(again=False, failure=failure)


# What the functions above have in common -------------------------------------------------------

type Step = m.CreateKeyInput | m.PollRequestInput


def _own(given: Step) -> "Item":
    return {"executionArn": given.execution_arn}


def _progress(
    given: Step, records: "Records", values: "Item", *, absent: tuple[str, ...] = ()
) -> "Item | None":
    """Record a step unless the enrollment was cancelled; the record where it was not written."""
    there = records.update(
        given.enrollment_id, values, when=_own(given), absent=("cancel", *absent)
    )
    if there is not None and there.get("executionArn") != given.execution_arn:
        raise _not_own(given)
    return there


def _require_own(given: Step, there: "Item | None") -> None:
    if there is not None:
        raise _not_own(given)


def _not_own(given: Step) -> EnrollmentConflictError:
    return EnrollmentConflictError(
        f"enrollment {given.enrollment_id} is carried out by another execution",
        action="Follow that execution; its ARN is on the record.",
    )
