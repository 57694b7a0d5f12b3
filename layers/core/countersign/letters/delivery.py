"""Who gets which mail about an event, and that nobody gets the same one twice.

An event only says where to look: what is said, and to whom, is what the table and the metadata say
that the approvers were shown. A note of each mail is an item of its own, `mail#…`, which DynamoDB
deletes once nothing can repeat the mail.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from countersign import events
from countersign import models as m
from countersign.errors import AwsCallError
from countersign.letters import text
from countersign.letters.text import Facts, Letter
from countersign.policy import rules
from countersign.policy.directory import Directory, Person
from countersign.polling import LONGEST_WINDOW_SECONDS
from countersign.record import (
    ENDED_AT_TSB,
    Record,
    StepName,
    certificate_step,
    csr_step,
    last_step,
    policy_of,
    step_of,
    wants_certificate,
)
from countersign.stores import Objects, Records

ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
TRIES = 2  # of a mail: one more, where a function ended between sending and noting
AT_IT = timedelta(seconds=45)  # longer than the function's timeout: then nobody is any more
KEPT = timedelta(seconds=LONGEST_WINDOW_SECONDS) + timedelta(days=30)
TOO_MANY = frozenset({"TooManyRequestsException", "ThrottlingException", "LimitExceededException"})
# Where somebody decided, or nobody did in time. After a failure the request may go on at the TSB.
DECIDED = frozenset(m.Outcome) - {m.Outcome.FAILED}

type Send = Callable[[str, Letter, str], None]  # to this address, for the enrollment with this id


class Undelivered(NamedTuple):
    """A mail that somebody does not get.

    Args:
        enrollment_id: what it is about.
        person: whose it is.
        reason: a code: `no-address`, `unknown-person`, `left`, `gave-up`, or the error's of SES.
        why: in a sentence.
    """

    enrollment_id: str
    person: str
    reason: str
    why: str


class _Addressee(NamedTuple):
    """Somebody who is to get a mail.

    Args:
        name: as it is shown.
        identity: tells two of one name apart; it is hashed for the note of the mail.
        contact: their address.
        reason: why they cannot be reached; None: they can.
    """

    name: str
    identity: str
    contact: str = ""
    reason: str | None = None


class _Mail(NamedTuple):
    """A mail for somebody: `about` and who they are make it one that is sent once."""

    to: _Addressee
    about: str
    letter: Letter


def deliver(
    envelope: Mapping[str, Any],
    *,
    records: Records,
    objects: Objects,
    directory: Directory,
    operators: str,
    send: Send,
    report: Callable[[Undelivered], None],
) -> None:
    """Send the mails that belong to an event: to approvers and the requester, by name.

    Nobody gets the same mail twice, however often the event comes. Where a function ends between
    sending and noting that it has sent, one repeat follows, and no third.

    Args:
        envelope: the event as EventBridge delivers it.
        records: the table.
        objects: the bucket; it has the metadata that the approvers were shown.
        directory: the people whose contact is known.
        operators: the address to which to report what looks wrong; may be empty.
        send: sends one mail.
        report: is told of each mail that is not sent for good.

    Raises:
        AwsCallError: a store refused, or SES did not take some mails for now. Lambda repeats the
            event twice; those who have theirs get nothing more.
    """
    event = events.BY_DETAIL_TYPE[envelope["detail-type"]].read(envelope["detail"])
    record = records.get(event.enrollment_id) or Record()
    lost: AwsCallError | None = None
    mails = _mails(
        event,
        record,
        objects=objects,
        directory=directory,
        operators=operators,
    )
    for one in mails:
        try:
            _once(one, event.enrollment_id, records, send, report)
        except AwsCallError as error:
            lost = error  # the others' mails need not wait for this one
    if lost is not None:
        raise lost


# Who gets what ------------------------------------------------------------------------------------


def _mails(
    event: events.Event,
    record: Record,
    *,
    objects: Objects,
    directory: Directory,
    operators: str,
) -> Iterator[_Mail]:
    now = m.now()

    def addressed(approvers: Iterable[m.Approver]) -> Iterator[_Addressee]:
        return (_of_approver(directory, one, now) for one in approvers)

    def stood_down(step: StepName, outcome: m.Outcome) -> Iterator[_Mail]:
        """Those who were asked in this step, and have said nothing."""
        facts = _facts(record, step, objects, operators)
        silent = (one for one in facts.approvers if one.decision in ("outstanding", "none"))
        for to in addressed(silent):
            letter = text.stand_down(facts, to.name, outcome)
            yield _Mail(to, f"ended#{facts.request_id}", letter)

    if isinstance(event, events.Waiting):
        if not _is_open(record, event.step, event.request_id):
            return  # it has moved on meanwhile
        facts = _facts(record, event.step, objects, operators)
        missing = rules.needed(m.PolicySummary.read(policy_of(record, event.step)), facts.approvers)
        if isinstance(event, events.AwaitingApproval):
            for to in addressed(missing):
                letter = text.asked(facts, to.name, now)
                yield _Mail(to, f"asked#{event.request_id}", letter)
        if isinstance(event, events.Reminder):
            about = f"reminder#{event.request_id}#{event.fraction}"
            for to in addressed(missing):
                yield _Mail(to, about, text.reminder(facts, to.name, now))
            requester = _requester(directory, event, now)
            if event.last and missing and requester is not None:
                letter = text.last_reminder(facts, requester.name, now)
                yield _Mail(requester, f"requester-{about}", letter)
    csr_id = csr_step(record).get("requestId")
    if isinstance(event, events.CsrStored) and csr_id == event.request_id:
        yield from stood_down("csr", m.Outcome.ISSUED)
    if isinstance(event, events.Ended):
        is_own = record.get("outcome") == event.outcome and not isinstance(event, events.Refused)
        step = last_step(record)
        if is_own and event.outcome in DECIDED and "requestId" in step_of(record, step):
            yield from stood_down(step, event.outcome)
        requester = _requester(directory, event, now)
        if requester is not None and (is_own or isinstance(event, events.Refused)):
            facts = Facts(
                event.enrollment_id,
                event.key_label,
                what=_what(record),
                approvers=event.approvers,
                operators=operators,
            )
            about = f"outcome#{event.execution_arn.rpartition(':')[2]}"
            letter = text.outcome(facts, requester.name, event.outcome, _more(event))
            yield _Mail(requester, about, letter)


def _is_open(record: Record, name: StepName, request_id: str) -> bool:
    step = step_of(record, name)
    return (
        step.get("requestId") == request_id
        and last_step(record) == name
        and "outcome" not in record
        and "cancel" not in record
        and step.get("status") not in ENDED_AT_TSB
    )


def _facts(record: Record, name: StepName, objects: Objects, operators: str) -> Facts:
    step = step_of(record, name)
    of_ca = certificate_step(record) if name == "certificate" else record
    return Facts(
        enrollment_id=record["id"],
        key_label=record.get("keyLabel"),
        what=name,
        about=_about(record["id"], of_ca.get("metaDataSha256", ""), objects),
        request_id=step.get("requestId"),
        sha256=record.get("acceptedSha256"),
        approvers=tuple(m.Approver.read(one) for one in step.get("approvers", ())),
        window_ends=step.get("times", {}).get("windowEnds"),
        operators=operators,
    )


def _what(record: Record) -> StepName:
    """What the requester came for."""
    return "certificate" if wants_certificate(record) else "csr"


def _about(enrollment_id: str, digest: str, objects: Objects) -> tuple[tuple[str, str], ...]:
    """The lines that the approvers' app shows; none where they are not what is on record."""
    shown = objects.read(f"enrollments/{enrollment_id}/metadata/{digest}.json")
    if shown is None or hashlib.sha256(shown).hexdigest() != digest:
        return ()
    lines: list[str] = json.loads(shown)["about"]
    return tuple((label, value) for label, _, value in (one.partition(": ") for one in lines))


def _requester(directory: Directory, event: events.Event, moment: datetime) -> _Addressee | None:
    """Who asked, where the trigger saw them and the directory has them."""
    principal = event.origin.principal
    if principal is None:
        return None
    found = next((one for one in directory.people if one.acts_as(principal)), None)
    return None if found is None else _of_person(found, moment)


def _of_approver(directory: Directory, approver: m.Approver, moment: datetime) -> _Addressee:
    """The person behind an approver's key. A name alone is no proof."""
    person = directory.person(directory.names.get(approver.spki_sha256 or "", ""))
    if person is None:
        key = f"key {approver.spki_sha256 or approver.name}"
        return _Addressee(approver.name, key, reason="unknown-person")
    return _of_person(person, moment)


def _of_person(person: Person, moment: datetime) -> _Addressee:
    reason = None
    if not any(key.valid(moment) for key in person.keys):
        reason = "left"
    elif not ADDRESS.fullmatch(person.contact):
        reason = "no-address"
    return _Addressee(person.name, person.name, person.contact, reason)


WHY = {
    "unknown-person": "their key is not in the directory of approvers",
    "left": "none of their keys is valid any more, according to the directory",
    "no-address": "their contact in the directory is no mail address",
    "gave-up": "it was begun twice, and nobody knows whether it was sent",
}


def _more(event: events.Ended) -> list[tuple[str, str]]:
    certificate = event.certificate if isinstance(event, events.Issued) else None
    told = [
        pair
        for what, stored in (("CSR", event.csr), ("Certificate", certificate))
        if stored is not None
        for pair in (
            (what, f"s3://{stored.bucket}/{stored.key}"),
            (f"{what}, SHA-256 (DER)", stored.sha256),
        )
    ]
    if event.error is not None:
        told += [("Error", event.error.name), ("What happened", event.error.message)]
        told += [("What to do", event.error.action)] if event.error.action else []
    return told


# Once ---------------------------------------------------------------------------------------------


def _once(
    mail: _Mail,
    enrollment_id: str,
    records: Records,
    send: Send,
    report: Callable[[Undelivered], None],
) -> None:
    """Send a mail unless it was sent, or note once that somebody does not get it.

    Raises:
        AwsCallError: it was not sent, or nobody knows whether; or another invocation is at it.
    """
    whom = hashlib.sha256(mail.to.identity.encode()).hexdigest()[:16]
    note = f"mail#{enrollment_id}#{mail.about}#{whom}"
    if (reason := mail.to.reason) is not None:
        now = m.now()
        expires = int((now + KEPT).timestamp())
        item = {"id": note, "done": reason, "at": m.timestamp(now), "expires": expires}
        if records.put(item) is None:
            report(Undelivered(enrollment_id, mail.to.name, reason, WHY[reason]))
        return
    if not _begun(note, mail, enrollment_id, records, report):
        return
    done = "sent"
    try:
        send(mail.to.contact, mail.letter, enrollment_id)
    except AwsCallError as error:
        if error.reason in TOO_MANY:
            records.delete(note)  # it was not sent, so this was no try
            raise
        if error.http_status is None or error.http_status >= 500:  # noqa: PLR2004
            raise  # it may have been sent; the note stays as it would after a crash
        done = error.reason or "refused"
        report(Undelivered(enrollment_id, mail.to.name, done, error.message))
    records.update(note, {"done": done})


def _begun(
    note: str,
    mail: _Mail,
    enrollment_id: str,
    records: Records,
    report: Callable[[Undelivered], None],
) -> bool:
    """Whether the mail is to be sent now, and it is noted that it is begun."""
    now, mine = m.now(), uuid.uuid4().hex
    begun = {"at": m.timestamp(now), "by": mine}
    expires = int((now + KEPT).timestamp())
    existing: Any = records.put({"id": note, "tries": 1, "expires": expires, **begun})
    if existing is None or existing.get("by") == mine:  # ours, where the SDK repeated the write
        return True
    if "done" in existing:
        return False
    if now - datetime.fromisoformat(existing["at"]) < AT_IT:
        raise AwsCallError(
            f"another invocation is sending {note}", action="Nothing; Lambda repeats the event."
        )
    if existing["tries"] >= TRIES:
        report(Undelivered(enrollment_id, mail.to.name, "gave-up", WHY["gave-up"]))
        records.update(note, {"done": "gave-up"})
        return False
    before = {"tries": existing["tries"], "by": existing["by"]}
    rival: Any = records.update(note, {"tries": existing["tries"] + 1, **begun}, when=before)
    return rival is None or rival.get("by") == mine
