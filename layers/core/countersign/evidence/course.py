"""The course of an enrollment: what its record says of itself, held against its times and request.

Each rule derives what must hold and yields in words what does not. Nothing here reads TSB's
answers: what they show is handed in, see `Course`. Pure.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from countersign import clocks
from countersign import models as m
from countersign.clocks import LONGEST_CALL
from countersign.keys import unused
from countersign.policy import rules
from countersign.record import (
    ENDED_AT_TSB,
    TIME,
    Record,
    Step,
    TsbStatus,
    approvers_asked,
    certificate_step,
    csr_step,
    intended_at,
    last_step,
    step_of,
    tolerated,
    wants_certificate,
)
from countersign.request.intake import CLOCK_TOLERANCE

ROUNDING = timedelta(seconds=2)  # whole seconds, on both sides
LONGEST_CONFIRMATION = timedelta(hours=6)  # CancelRequest's event waits so long in Lambda's queue
LONGEST_WAIT = timedelta(days=1)  # of a poll for the next; polling.Schedule.cap is 9 hours at most
# What may lie between two steps: a day of tries, twice, and the backstop's queue (14 days).
LONGEST_DELAY = timedelta(days=30)
ARN = re.compile(
    r"arn:(?P<partition>[^:]+):[^:]+:(?P<region>[^:]*):(?P<account>[0-9]{12}):.+", re.DOTALL
)
# What is on record, and what must then be there, too.
NEEDS = (
    ("times.keyCreated", "publicKeySha256", "discards"),
    ("clockSkewSeconds", "publicKeySha256"),
    ("maxClockSkewSeconds", "publicKeySha256"),
    ("keyVerifiedAt", "publicKeySha256"),
    ("keyAttestation", "keyVerifiedAt"),
    ("keyAttestation", "checks"),
    ("keyVerifiedAt", "attestationRoot"),
    ("attestationRoot", "publicKeySha256"),
    ("attestationChainSha256", "attestationRoot"),
    ("attestation", "attestationRoot"),
    ("attestation", "checks"),
    ("discardedSha256", "discards"),
    ("discards", "discardedSha256"),
    ("discards", "requestSha256"),
    ("resumed", "steps.csr.requestId"),
    ("overdue", "steps.csr.requestId"),
    ("unknownToTsbSince", "steps.csr.requestId"),
    ("cancel.confirmedAt", "steps.csr.requestId"),
)


class Course(NamedTuple):
    """What an enrollment has come to.

    Args:
        record: the enrollment's, of an accepted request.
        requested: the accepted request; None where it was not carried out.
        csr: the policy under which the CSR's approvers were asked, and who said what; None where
            nobody was asked, or an answer was not kept.
        certificate: the same of the certificate's.
    """

    record: Record
    requested: m.EnrollmentRequest | None
    csr: "Asked | None" = None
    certificate: "Asked | None" = None


class Asked(NamedTuple):
    """A policy under which people were asked, and what they said (None: unknown)."""

    policy: m.Policy
    approvers: tuple[m.Approver, ...] | None


def contradictions(course: Course) -> Iterator[str]:
    """What the record says and cannot be, in words.

    Raises:
        KeyError, ValueError, InvalidEnrollmentError: something in it has an unknown form.
    """
    for rule in (_order, _times, _states, _places, _people, _disposal):
        yield from rule(course)


def _order(course: Course) -> Iterator[str]:
    """What is there only after something else."""
    there = {name for name, value in _paths(course.record) if value is not None and value != 0}
    for later, *earlier in NEEDS:
        if later in there and not there & set(earlier):
            yield f"has {later} and no {' or '.join(earlier)}"
    if "csr" in there and wants_certificate(course.record) and "verifiedAt" not in there:
        yield "has csr of a certificate and no verifiedAt"


def _paths(content: Mapping[str, Any] | Record, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        yield f"{prefix}{name}", value
        if isinstance(value, Mapping) and name in ("times", "steps", "csr", "cancel"):
            yield from _paths(value, f"{prefix}{name}.")


# Times --------------------------------------------------------------------------------------------


def _times(course: Course) -> Iterator[str]:
    """Everything lies between the acceptance and the end, and nothing took years."""
    record = course.record
    accepted, ended = _at(record["times"]["accepted"]), _at(record["times"]["ended"])
    last_call = ended + LONGEST_CALL + ROUNDING
    steps = (csr_step(record), certificate_step(record))
    for name, text in (
        *(("intent", intended_at(step)) for step in steps),
        *(("requested", step.get("times", {}).get("requested")) for step in steps),
        ("overdue", record.get("overdue")),
        ("unknownToTsbSince", record.get("unknownToTsbSince")),
        ("verifiedAt", record.get("verifiedAt")),
        ("caAttestation.at", record.get("caAttestation", {}).get("at")),
        ("imported.at", record.get("imported", {}).get("at")),
        *(
            ()
            if unused.is_swept(record)
            else (("unusedKey.at", record.get("unusedKey", {}).get("at")),)
        ),
    ):
        if text and not accepted - ROUNDING <= _at(text) <= last_call:
            yield f"{name} is {text}, which is not between acceptance and end"
    for step in steps:
        asked, planned = (
            step.get("times", {}).get("requested"),
            step.get("times", {}).get("nextPoll"),
        )
        if not (asked and planned):
            continue
        if not _at(asked) - ROUNDING <= _at(planned) <= last_call + LONGEST_WAIT:
            yield f"nextPoll is {planned}, when nobody polls"
    confirmed = record.get("cancel", {}).get("confirmedAt")
    if confirmed and _at(confirmed) > last_call + LONGEST_CONFIRMATION:
        yield f"cancel.confirmedAt is {confirmed}, long after the end"
    yield from _origin_time(record, accepted)
    yield from _delays(record, accepted, ended)
    yield from _disposed_last(record)
    if course.csr is not None:
        yield from _window(record, csr_step(record), course.csr.policy)
    if course.certificate is not None:
        yield from _window(record, certificate_step(record), course.certificate.policy)


def _origin_time(record: Record, accepted: datetime) -> Iterator[str]:
    """The API accepts while it is called; no occurrence of a schedule is taken before its time."""
    origin = m.Origin.read(record["origin"])
    if origin.time is None:
        return
    asked = clocks.read(origin.time)
    is_called = accepted - LONGEST_CALL <= asked <= accepted + ROUNDING
    if origin.trigger == "api" and not (re.fullmatch(TIME, origin.time) and is_called):
        yield f"origin.time is {origin.time}, and the API accepted at {record['acceptedAt']}"
    if origin.trigger == "schedule" and asked > accepted + CLOCK_TOLERANCE + ROUNDING:
        yield f"origin.time is {origin.time}, which was yet to come"


def _delays(record: Record, accepted: datetime, ended: datetime) -> Iterator[str]:
    """No step took longer than its tries, so that no time can be moved by years."""
    if record.get("resumed", 0):
        return  # whenever somebody resumed it
    step = step_of(record, last_step(record))
    if step.get("status") in ENDED_AT_TSB:
        read = _at(step["times"]["nextPoll"])
        if ended > read + LONGEST_DELAY:
            yield f"ended at {record['times']['ended']}, long after TSB's last word"
    asked = csr_step(record).get("times", {}).get("requested")
    if record["attempt"] == 1 and "publicKeySha256" in record and "discards" not in record:
        made = _at(record["times"]["keyCreated"])
        if made > accepted + LONGEST_DELAY:
            yield "the key was made long after the request was accepted"
        if asked and _at(asked) > made + LONGEST_DELAY:
            yield "the approvers were asked long after the key was made"


def _disposed_last(record: Record) -> Iterator[str]:
    """Nobody is asked after the key was looked at for the last time."""
    disposed = record.get("unusedKey", {}).get("at")
    asked = [
        text
        for step in (csr_step(record), certificate_step(record))
        for text in (
            intended_at(step),
            step.get("times", {}).get("requested"),
            step.get("times", {}).get("nextPoll") if step.get("status") in ENDED_AT_TSB else None,
        )
        if text
    ]
    if disposed and asked and _at(disposed) < max(map(_at, asked)) - LONGEST_CALL:
        yield f"unusedKey.at is {disposed}, before its approvers were asked and answered"


def _window(record: Record, step: Step, policy: m.Policy) -> Iterator[str]:
    """TSB executes after the timelock. When a request expires is for TSB's own clock to say."""
    times, tokens = step["times"], policy.rule_use.tokens
    skew = timedelta(seconds=int(record.get("clockSkewSeconds", 0)))
    asked = _at(times["requested"]) + skew - tolerated(record)  # by TSB's clock, at the earliest
    locked = asked + timedelta(seconds=rules.timelock_seconds(tokens))
    if "executed" in times and _at(times["executed"]) < locked:
        yield f"the request was executed at {times['executed']}, before its timelock was over"


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


# States -------------------------------------------------------------------------------------------


def _states(course: Course) -> Iterator[str]:
    """The record has come to the state that wrote last, and to the one that failed."""
    record = course.record
    stage, failed_in = record["stage"], (record.get("error") or {}).get("state")
    possible = _reached(record)
    is_left = stage == "DiscardKey" and not {"unusedKey", "discards"} & record.keys()
    if not possible[stage] or is_left:
        yield f"stage is {stage}, to which its record has not come"
    if failed_in is not None and not possible.get(failed_in, False):
        yield f"error.state is {failed_in}, in which this record cannot have failed"
    is_touched = "unusedKey" in record and not unused.is_swept(record)
    if is_touched and failed_in in ("AcceptEnrollment", "CreateKey"):
        yield f"has unusedKey, and {failed_in} leaves its key alone"


def _reached(record: Record) -> dict[str, bool]:
    """Which states an enrollment with this record can have come to last."""
    csr, following = csr_step(record), certificate_step(record)
    is_made = bool({"publicKeySha256", "discards"} & record.keys())
    is_at_ca = last_step(record) == "certificate"
    asks = csr.get("status") in (None, TsbStatus.PENDING) and not is_at_ca
    last = following if is_at_ca else csr
    goes_on = wants_certificate(record) and "csr" in record
    return {
        "AcceptEnrollment": bool(record.get("resumed", 0))
        or not (is_made or approvers_asked(record)),
        "CreateKey": not approvers_asked(record),
        "RequestCsr": is_made and asks and "csr" not in record,
        "PollRequest": "requestId" in last and (is_at_ca or "csr" not in record or goes_on),
        "StoreCsr": csr.get("status") == TsbStatus.EXECUTED and not is_at_ca,
        "RequestCertificate": goes_on and following.get("status") in (None, TsbStatus.PENDING),
        "StoreCertificate": following.get("status") == TsbStatus.EXECUTED,
        "DiscardKey": is_made or "request" in record,
    }


# Places and people --------------------------------------------------------------------------------


def _places(course: Course) -> Iterator[str]:
    """What AWS names lies where the execution ran. Who calls the API may be of another account."""
    record = course.record
    machine, _, _ = record["executionArn"].rpartition(":")
    own = _place(record["executionArn"])
    if any(one.rpartition(":")[0] != machine for one in record.get("earlier", ())):
        yield "earlier has an execution of another state machine"
    requested = course.requested
    passwords = (requested.key.password, requested.csr.key_password) if requested else ()
    named = [record.get("codeVersion", ""), *(one.secret_arn for one in passwords if one)]
    for one in named:
        if one.startswith("arn:") and _place(one) != own:
            yield f"{one} is of another partition, region or account than its execution"
    origin, cancelled = m.Origin.read(record["origin"]), record.get("cancel", {}).get("by")
    for name, arn, account in (
        ("origin.principal", origin.principal, origin.account),
        ("cancel.by", cancelled, None),
    ):
        if arn is None or not arn.startswith("arn:"):
            continue
        partition, _, of = _place(arn)
        if partition != own[0] or (account or of) != of:
            yield f"{name} is {arn}, which is of another partition or account"
    if cancelled is not None and not cancelled.strip():
        yield "was cancelled by nobody"


def _place(arn: str) -> tuple[str, str, str]:
    """Partition, region and account.

    Raises:
        ValueError: it is no ARN.
    """
    found = ARN.fullmatch(arn)
    if found is None:
        raise ValueError("an ARN is none")
    return found["partition"], found["region"], found["account"]


def _people(course: Course) -> Iterator[str]:
    """Somebody did what ended a request. Whose lists TSB leaves empty, it says nothing about."""
    for step, asked, checked in (
        (csr_step(course.record), course.csr, "checks"),
        (certificate_step(course.record), course.certificate, "certificateChecks"),
    ):
        if asked is None or asked.approvers is None:
            continue
        said = {one.decision for one in asked.approvers}
        status = step.get("status")
        if status == TsbStatus.REJECTED and "declined" not in said and said != {"none"}:
            yield "was rejected, and nobody has declined"
        # Where they were made, the checks say whether the quorum agreed.
        if status == TsbStatus.EXECUTED and checked not in course.record and "approved" not in said:
            yield "was executed, and nobody has approved"


# The key ------------------------------------------------------------------------------------------


def _disposal(course: Course) -> Iterator[str]:
    """What became of the key is what DiscardKey makes of this request and this end."""
    if "unusedKey" not in course.record:
        return  # nothing is said, as after a fault
    said = m.DisposedKey.read(course.record["unusedKey"])
    if course.requested is None:
        yield "has unusedKey of a request that was not carried out"
    elif not unused.is_possible(said, course.requested, course.record):
        yield f"unusedKey is {said.action}, {said.result}, {said.reason}: it cannot be"
