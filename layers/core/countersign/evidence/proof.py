"""What the parts of a folder prove together. Pure.

Facts are derived: approvals, request and CSR from TSB's own answers, the checks by making them
again. What is on record beside a fact is compared with it. KeepEvidence asks before it signs,
CloseEnrollment before it announces a CSR, and the verifier years later.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise, zip_longest
from typing import Any

import rfc8785
from pydantic import TypeAdapter, ValidationError

from countersign import models as m
from countersign.clocks import LONGEST_CALL
from countersign.errors import CsrInvalidError
from countersign.evidence import bundle, course, quarantine
from countersign.evidence.bundle import Folder, require
from countersign.evidence.course import ROUNDING, Asked, Course
from countersign.evidence.quarantine import OTHER_REQUEST
from countersign.policy import approvers, rules, summary
from countersign.record import (
    ENDED_AT_TSB,
    MAX_EARLIER,
    OUTCOMES_AT_TSB,
    CertificateStep,
    Record,
    Step,
    StepName,
    TsbStatus,
    certificate_step,
    csr_step,
    last_step,
    step_of,
    wants_certificate,
)
from countersign.request import canonical, intake, tsb_bodies
from countersign.spki import fingerprint
from countersign.tsb.models import CertificateOfKey, KeyAttributes, RequestStatus
from countersign.verification import certificate, checks, echo, issuing
from countersign.verification.attestation import NOT_HELD, Trust
from countersign.verification.checks import Verified
from countersign.verification.csr import Csr

CANONICAL = (
    "record.json", "request.json", "approvers.json", "checks.json", "certificate-approvers.json",
    "certificate-checks.json",
)  # RFC 8785  # fmt: skip
KEPT_ANSWERS = 20  # of a state, beside those that decide; see aws/objects.py
# What CloseEnrollment puts on record of a request that was never accepted.
OF_A_REFUSAL = {
    "id", "kind", "schemaVersion", "codeVersion", "attempt", "executionArn", "origin", "status",
    "stage", "acceptedAt", "times", "outcome", "error", "announced",
}  # fmt: skip
STEPS = (
    ("profileSha256", "profile"),
    ("publicKeySha256", "requestSha256"),
    ("metaDataSha256", "requestSha256"),
    ("requestId", "publicKeySha256"),
    ("requestId", "metaDataSha256"),
    ("requestId", "intent"),
    ("checks", "requestId"),
    ("quarantine", "checks"),
    ("csr", "checks"),
)  # each: what is on record, and what must then be on record, too
STEPS_OF_CERTIFICATE = (
    ("policySha256", "csr"),
    ("requestId", "policySha256"),
    ("requestId", "metaDataSha256"),
    ("requestId", "intent"),
    ("certificateChecks", "requestId"),
    ("certificate", "certificateChecks"),
    ("caAttestation", "certificateChecks"),
    ("imported", "certificate"),
)
OF_A_CERTIFICATE = {
    "certificate", "certificateChecks", "imported", "usagesOmitted", "caAttestation",
}  # fmt: skip
MOST_SKEW_SECONDS = (
    900  # what MaxClockSkewSeconds in template.yaml can be: beyond it nobody is asked
)
EXECUTION = re.compile(r"arn:[^:]+:states:[^:]+:[0-9]{12}:execution:[^:]+:[^:/]+")


@dataclass(frozen=True)
class Proven:
    """What the parts prove.

    Args:
        record: the enrollment's, every claim in it compared; the rest is testimony of the stack.
        requested: the accepted request; None where none was accepted or carried out.
        approvers: everybody who was asked, with the decision that TSB reports; None where the
            answer that reports it was not kept.
        verified: the checks of the CSR, made again; None where StoreCsr did not come so far.
        pem: the CSR as TSB answered it; empty where it was not verified.
        about_key: TSB's answer that says what the key was in the end, with the attestation.
        second: the certificate and the second quorum; None where nobody was asked for one.
    """

    record: Record
    requested: m.EnrollmentRequest | None = None
    approvers: tuple[m.Approver, ...] | None = ()
    verified: Verified | None = None
    pem: str = ""
    about_key: KeyAttributes | None = None
    second: "Second | None" = None


@dataclass(frozen=True)
class Second:
    """What the parts prove of the approval of the certificate.

    Args:
        policy: of the CA's key, as its approvers were asked.
        approvers: everybody who was asked, with the decision that TSB reports.
        verified: the checks of the certificate, made again; None where there were none.
        pem: the certificate as TSB answered it.
        about_ca: TSB's answer about the CA's key: the one that counts, with the attestation.
        is_at_key: whether TSB has shown the certificate at the new key.
    """

    policy: m.Policy
    approvers: tuple[m.Approver, ...] | None
    verified: issuing.Verified | None = None
    pem: str = ""
    about_ca: KeyAttributes | None = None
    is_at_key: bool = False


def prove(folder: Folder) -> Proven:
    """What the parts of an enrollment that has ended prove.

    Args:
        folder: all parts but manifest, signature and the attestation's.

    Raises:
        EvidenceInvalidError: names the first part that does not agree with another.
    """
    try:
        record = _record(folder)
        ended = datetime.fromisoformat(record["times"]["ended"])
        proven = _derived(folder, record, now=ended)
        _end(folder, proven)
    except bundle.UNREADABLE as error:
        raise bundle.unknown_form(error) from None
    return proven


def prove_issued(record: Record, found: Folder, *, now: datetime) -> Csr:
    """Whether what is on record is verified and stored: CSR, certificate, every check made again.

    Args:
        record: an enrollment's that has not ended yet, with a CSR, and maybe a certificate.
        found: the objects below its prefix.
        now: the time at which the attestation chain must be valid.

    Returns:
        The CSR, as TSB answered it.

    Raises:
        EvidenceInvalidError: it is not.
    """
    try:
        folder = bundle.parts(record, found, {})
        proven = _derived(folder, _record(folder), now=now)
        csr = _require_passed(proven)
        if "certificate" in record:
            _require_certificate(folder, proven)
    except bundle.UNREADABLE as error:
        raise bundle.unknown_form(error) from None
    return csr


def _record(folder: Folder) -> Record:
    for name in CANONICAL:
        if name in folder:
            form = rfc8785.dumps(bundle.read(folder, name))
            require(folder[name] == form, name, "is not in canonical form (RFC 8785)")
    record: Record = bundle.read(folder, "record.json")
    are_apart = not {"checks", "certificateChecks"} & record.keys()
    require(are_apart, "record.json", "has checks, which are a part of their own")
    if "checks.json" in folder:
        record["checks"] = bundle.read(folder, "checks.json")
    if "certificate-checks.json" in folder:
        record["certificateChecks"] = bundle.read(folder, "certificate-checks.json")
    _equal("record.json", "kind", record.get("kind"), "enrollment")
    _require_form(record)
    wanted = bundle.expected(record)
    for name in sorted(wanted - folder.keys()):
        require(False, name, "is missing; by record.json there is one")
    optional = {"request.json"} if "acceptedSha256" in record else set()
    own = bundle.own_answers(record, folder)
    for name in sorted(folder.keys() - wanted - optional):
        is_answer = bundle.TSB_ANSWER.fullmatch(name) is not None
        require(is_answer, name, "is a part that record.json does not speak of")
        require(name in own, name, "is no answer of TSB that record.json rests on")
    return record


def _require_form(record: Record) -> None:
    """Everything on record has its type, and what people are told of it the form of its model.

    Raises:
        EvidenceInvalidError: the id is none, or leads to another folder; a value has another type.
        InvalidEnrollmentError, KeyError: something else has another form.
    """
    try:
        _form().validate_python(record, strict=True)
    except ValidationError as error:
        field = ".".join(map(str, error.errors(include_input=False)[0]["loc"]))
        raise bundle.EvidenceInvalidError("record.json", f"{field} has an unknown form") from None
    said = record.get("schemaVersion")
    require(said == m.SCHEMA_VERSION, "record.json", f"schemaVersion {said!r} is not known here")
    is_id = intake.ENROLLMENT_ID.fullmatch(record["id"]) is not None
    require(is_id, "record.json", "its id is none")
    _require_place(record)
    if record.get("error") is not None:
        m.Failure.read(record["error"])
    if "cancel" in record:
        m.Cancellation.read(record["cancel"])
    if "imported" in record:
        m.ImportedCertificate.read(record["imported"])
    for one in (*record.get("findings", ()), *record.get("caFindings", ())):
        m.LintFinding.read(one)


def _require_place(record: Record) -> None:
    """Where the enrollment came from and which execution carried it out, as far as parts name it.

    An id is the caller's own, or made of what the trigger knows. Each attempt but the first, and
    each resume, leaves the execution before it in `earlier`.

    Raises:
        EvidenceInvalidError: two of them contradict each other.
    """
    origin, earlier = m.Origin.read(record["origin"]), record.get("earlier", [])
    executions = [*earlier, record["executionArn"]]
    is_own = EXECUTION.fullmatch(executions[-1]) is not None and executions[-1] not in earlier
    require(is_own, "record.json", "executionArn is no execution of its own")
    are_own = all(EXECUTION.fullmatch(one) for one in earlier) and len({*earlier}) == len(earlier)
    require(are_own, "record.json", "earlier has what is no execution of its own")
    before = record["attempt"] - 1 + record.get("resumed", 0)
    is_known = len(earlier) == min(before, MAX_EARLIER)
    require(is_known, "record.json", f"has {before} executions before, and earlier {len(earlier)}")
    if "request" not in record:
        return  # refused, and what was sent is not kept
    own = record["request"].get("enrollmentId", record["id"])
    _equal("record.json", "request.enrollmentId", own, record["id"])
    if origin.trigger == "api":
        _equal("record.json", "origin.id", origin.id, record["id"])
        is_made = "enrollmentId" in record["request"] or intake.is_made_by_api(record["id"])
        require(is_made, "record.json", "its id is neither the caller's nor one of the API")
        require(origin.said is None, "record.json", "the API passes on nothing that callers say")
        return
    require(origin.principal is None, "record.json", "names a requester whom only the API knows")
    if before > MAX_EARLIER:
        return  # the first execution is not known
    said = origin.said or m.StatedOrigin()
    stated = {
        "trigger": origin.said.trigger if origin.said else origin.trigger,
        "id": origin.id or said.id,
        "time": origin.time or said.time,
    }
    made = intake.enrollment_id(
        {
            "request": record["request"],
            "origin": {name: one for name, one in stated.items() if one is not None},
        },
        executions[0].rpartition(":")[2],
    )
    _equal("record.json", "id", record["id"], made)


@cache
def _form() -> TypeAdapter[Record]:
    return TypeAdapter(Record)  # 10 ms, for those who prove something


def _derived(folder: Folder, record: Record, *, now: datetime) -> Proven:
    _require_steps(record)
    if "requestSha256" not in record:  # refused: nothing was done
        require(folder.keys() == {"record.json"}, "record.json", "has parts of a refused request")
        is_refusal = record.keys() <= OF_A_REFUSAL and record["outcome"] == m.Outcome.FAILED
        require(is_refusal, "record.json", "says more than that a request was refused")
        return Proven(record)
    sent = record["request"]
    _equal("record.json", "requestSha256", record["requestSha256"], canonical.sha256(sent))
    if "request.json" not in folder:
        return Proven(record)
    requested = _requested(folder, record)
    people = _people(requested.key.policy, record["policy"], "request.json")
    if "metadata.json" in folder:
        wanted = tsb_bodies.meta_data(
            requested,
            enrollment_id=record["id"],
            names=_names(requested.key.policy, record["policy"]),
            requester=m.Origin.read(record["origin"]).requester,
        )
        _require_shown(folder, "metadata.json", record["metaDataSha256"], wanted)
    created = _created(folder, record, requested, now=now)
    keys = bundle.public_keys(folder, folder["request.json"])
    decided, executed = _approvals(folder, csr_step(record), people, keys, "approvers.json")
    proven = Proven(record, requested, decided, about_key=created)
    if "checks.json" in folder:
        then = datetime.fromisoformat(record["verifiedAt"]) if "verifiedAt" in record else now
        proven = _checked(folder, proven, created, executed, now=then)
    if "policy" in certificate_step(record):
        proven = replace(proven, second=_second(folder, proven))
    return proven


def _require_steps(record: Record) -> None:
    """What a step left on record is there only after what the steps before it left."""
    reached = record.keys() | csr_step(record).keys()
    is_wanted = wants_certificate(record)
    result = "certificate" if is_wanted else "csr"
    for later, earlier in (*STEPS, (result, "verifiedSha256"), ("verifiedSha256", result)):
        is_there = later not in reached or earlier in reached
        require(is_there, "record.json", f"has {later} and no {earlier}")
    step, following = certificate_step(record), {*certificate_step(record), *record}
    for later, earlier in STEPS_OF_CERTIFICATE:
        is_there = later not in following or earlier in following
        require(is_there, "record.json", f"has {later} of a certificate and no {earlier}")
    is_asked = is_wanted or not step.keys() | record.keys() & OF_A_CERTIFICATE
    require(is_asked, "record.json", "has a certificate for which nobody asked")


# What was asked ---------------------------------------------------------------------------------


def _requested(folder: Folder, record: Record) -> m.EnrollmentRequest:
    """The accepted request: what was sent, a profile expanded."""
    body, sent = folder["request.json"], record["request"]
    _equal("request.json", "acceptedSha256", record["acceptedSha256"], _sha256(body))
    requested = m.EnrollmentRequest.read(bundle.read(folder, "request.json"))
    _equal("request.json", "key.label", record["keyLabel"], requested.key.label)
    _equal("request.json", "profile", record.get("profile"), requested.profile)
    signs = requested.csr.sign_key_name or requested.key.label
    _equal("request.json", "signKeyName", signs.casefold(), requested.key.label.casefold())
    is_same = wants_certificate(record) == (requested.certificate is not None)
    require(is_same, "request.json", "differs from record.json on whether a certificate is wanted")
    if "profile" in sent:
        asked = m.ProfileRequest.read(sent)
        values = asked.model_dump(mode="json", exclude_unset=True)
        accepted = canonical.accepted(requested)
        for name in ("key", "csr", "reason"):
            is_same = _within(values.get(name), accepted.get(name))
            require(is_same, "request.json", f"{name} is another than was sent")
        named = (requested.profile or "").partition("@")
        is_named = asked.profile in (requested.profile, named[0])
        require(is_named, "request.json", "the profile is another than was sent")
    else:
        require(canonical.canonical(sent) == body, "request.json", "is not what was sent")
    return requested


def _within(asked: Any, accepted: Any) -> bool:
    """Whether everything that was asked is in what was accepted."""
    if asked is None:
        return True
    if isinstance(asked, Mapping):
        return isinstance(accepted, Mapping) and all(
            _within(value, accepted.get(name)) for name, value in asked.items()
        )
    return bool(asked == accepted)


def _people(policy: m.Policy, summed_up: Any, part: str) -> tuple[m.Approver, ...]:
    """Whom a policy asks. Names are the directory's, so they are the record's to say."""
    on_record = m.PolicySummary.read(summed_up)
    is_same = _nameless(approvers.summary(policy, {})) == _nameless(on_record)
    require(is_same, part, "has another policy than record.json sums up")
    written = [
        name for token in on_record.tokens for group in token.groups for name in group.approvers
    ]
    people: dict[str, m.Approver] = {}
    for (_, approval), name in zip(rules.approvals_of(policy.rule_use, ""), written, strict=True):
        one = approvers.approver(approval)
        is_known = one.spki_sha256 is not None or one.name == name
        require(is_known, part, "names another onboarded approver than record.json")
        people.setdefault(approvers.identity(approval), one.model_copy(update={"name": name}))
    return tuple(people.values())


def _nameless(summary: m.PolicySummary) -> list[Any]:
    return [
        (token.name, token.timelock, token.timeout)
        + tuple((group.name, group.quorum, len(group.approvers)) for group in token.groups)
        for token in summary.tokens
    ]


def _names(policy: m.Policy, summed_up: Any) -> rules.Names:
    """The directory's names at the time, by key: where a name on record is not the policy's own."""
    written = [
        name
        for token in m.PolicySummary.read(summed_up).tokens
        for group in token.groups
        for name in group.approvers
    ]
    people = [approvers.approver(one) for _, one in rules.approvals_of(policy.rule_use, "")]
    return {
        one.spki_sha256: name
        for one, name in zip(people, written, strict=True)
        if one.spki_sha256 is not None and one.name != name
    }


def _require_shown(folder: Folder, part: str, digest: str, wanted: bytes) -> None:
    """The approvers were shown what the request, made known anew, gives: every line of it.

    Raises:
        EvidenceInvalidError: names the first difference.
    """
    _equal(part, "metaDataSha256", digest, _sha256(folder[part]))
    shown, derived = bundle.read(folder, part), json.loads(wanted)
    for name in sorted({*shown, *derived} - {"about"}):
        _equal(part, name, shown.get(name), derived.get(name))
    for line, said in zip_longest(derived["about"], shown["about"]):
        why = f"does not say {line!r}" if line else f"says {said!r} as well"
        require(line == said, part, why)
    require(folder[part] == wanted, part, "is not in canonical form (RFC 8785)")


# What TSB answered ------------------------------------------------------------------------------


def _created(
    folder: Folder, record: Record, requested: m.EnrollmentRequest, *, now: datetime
) -> KeyAttributes | None:
    """TSB's answer about the key when it was created: one that passes CreateKey's checks.

    Root and chain on record are those of CreateKey until StoreCsr puts its own there. Then the
    attestation of its answer is verified by these, and of this one only what it says is compared.
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
    trust = Trust() if _has_checked(record) else _trust_in_key(folder, record)
    failed: list[m.Check] = []
    for one in reversed(timely):  # the oldest
        failed = checks.failed_at_creation(
            one,
            requested.key,
            replace(trust, clock_skew=timedelta(seconds=MOST_SKEW_SECONDS)),
            now=datetime.fromisoformat(record["keyVerifiedAt"])
            if "keyVerifiedAt" in record
            else now,
            ahead=timedelta(seconds=int(record.get("clockSkewSeconds", 0))),
        )
        if not failed:
            return one
    why = "; ".join(f"{one.code}: {one.finding}" for one in failed)
    raise bundle.EvidenceInvalidError("tsb/create-key", why)


def _has_checked(record: Record) -> bool:
    """Whether StoreCsr has made its checks; PollRequest makes one, of the answer's id."""
    aside = record.get("quarantine", {})
    is_another = aside.get("code") == OTHER_REQUEST["csr"] and "prefix" not in aside
    return "checks" in record and not is_another


def _trust_in_key(folder: Folder, record: Record) -> Trust:
    """What was trusted about the key; an older release put it on record with the CSR's checks."""
    root, digest = record.get("attestationRoot", ""), record.get("attestationChainSha256")
    is_timed = not root or _has_checked(record) or "keyVerifiedAt" in record
    require(is_timed, "record.json", "says not when the key was verified")
    return _trust(folder, "attestation-chain.pem", root, digest)


def _approvals(
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


# The checks, made again -------------------------------------------------------------------------


def _checked(
    folder: Folder,
    proven: Proven,
    created: KeyAttributes | None,
    executed: list[RequestStatus],
    *,
    now: datetime,
) -> Proven:
    """StoreCsr's checks of what TSB answered; they come out as they are on record."""
    record, written = proven.record, proven.record["checks"]
    aside = record.get("quarantine", {})
    if not _has_checked(record):
        _another_request(folder, "csr", written, csr_step(record))
        is_unchecked = "attestation" not in record
        require(is_unchecked, "record.json", "has attestation, and nobody has checked a CSR")
        return proven
    found = [
        (answer, key, verified)
        for answer, key in _pairs(folder, executed)
        for verified in [_verified(folder, proven, created, answer, key, now=now)]
    ]
    require(bool(found), "tsb", "has no answers of an executed request and about its key")
    same = (one for one in found if _results(one[2]) == _recorded(written))
    answer, key, verified = next(same, found[0])
    _require_same(verified, written)
    failed = verified.failed
    _equal("record.json", "attestation", record.get("attestation"), verified.attestation)
    if failed or "certificateChecks" not in record:  # else it is the certificate's
        _equal("record.json", "quarantine.code", aside.get("code"), failed and failed.code)
    pem = answer.result or ""
    if failed and aside:
        put_aside = folder["quarantine/request.pem"]
        is_same = put_aside == pem.encode(errors="backslashreplace")
        require(is_same, "quarantine/request.pem", "is not what TSB answered")
        noted = {
            "checks": written,
            "attestation": record["attestation"],
            "attestationRoot": record["attestationRoot"],
            **{name: one for name, one in record.items() if name == "attestationChainSha256"},
        }
        # Those of an older release say less.
        names = ("verifiedAt", "maxClockSkewSeconds")
        more = {name: one for name, one in record.items() if name in names}
        is_same = bundle.read(folder, "quarantine/findings.json") in (noted, noted | more)
        require(is_same, "quarantine/findings.json", "says something else than checks.json")
    elif verified.csr is not None and "verifiedSha256" in record and not wants_certificate(record):
        _equal("record.json", "verifiedSha256", record["verifiedSha256"], verified.csr.sha256)
    return Proven(
        record, proven.requested, proven.approvers, verified=verified, pem=pem, about_key=key
    )


def _another_request(folder: Folder, name: StepName, written: list[Any], step: Step) -> None:
    """PollRequest's check alone has failed: TSB answered for another request."""
    part = "checks.json" if name == "csr" else "certificate-checks.json"
    asked = step["requestId"]
    ids = {one.id for one in bundle.answers(folder, "poll-request", RequestStatus)} - {asked}
    possible = [[quarantine.another_request(name, one, asked).dump()] for one in sorted(ids)]
    require(bool(possible), "tsb/poll-request", "every answer is for the request on record")
    require(written in possible, part, "is not what PollRequest says of TSB's answers")


def _pairs(
    folder: Folder, executed: list[RequestStatus]
) -> Iterator[tuple[RequestStatus, KeyAttributes]]:
    for key in bundle.answers(folder, "store-csr", KeyAttributes):
        for answer in executed:
            yield answer, key


def _verified(
    folder: Folder,
    proven: Proven,
    created: KeyAttributes | None,
    answer: RequestStatus,
    key: KeyAttributes,
    *,
    now: datetime,
) -> Verified:
    record, step = proven.record, csr_step(proven.record)
    assert proven.requested is not None  # noqa: S101  for the type checker  # nosec B101
    people = [one.dump() for one in proven.approvers or ()]
    returned = checks.Returned(
        requested=proven.requested,
        request_id=answer.id,
        pem=answer.result or "",
        created_public_key=created.key.public_key if created else None,
        answer=key,
        record={**record, "steps": {**record["steps"], "csr": {**step, "approvers": people}}},
    )
    trust = replace(_trust_in_key(folder, record), clock_skew=course.tolerated(record))
    return checks.verify(returned, trust, now=now)


def _trust(folder: Folder, part: str, root: str, digest: str | None) -> Trust:
    """What was trusted: this root, and the chain in this part."""
    chain = folder.get(part, b"")
    if chain:
        _equal(part, "attestationChainSha256", digest, _sha256(chain))
    return Trust(root_sha256=root, chain=chain.decode(errors="replace"))


def _results(verified: Verified | issuing.Verified) -> dict[str, str]:
    return {one.code: one.result for one in verified.checks}


def _recorded(written: list[Any]) -> dict[str, str]:
    return {one["code"]: one["result"] for one in written}


def _require_same(
    verified: Verified | issuing.Verified, written: list[Any], part: str = "checks.json"
) -> None:
    recorded = _recorded(written)
    require(len(recorded) == len(written), part, "has a check twice")
    for check in verified.checks:
        on_record = recorded.pop(check.code, None)
        require(
            on_record == check.result,
            part,
            f"{check.code} is on record as {on_record},"
            f" made again it is {check.result}: {check.finding or 'nothing found'}",
        )
    require(not recorded, part, f"has checks that nobody makes: {', '.join(recorded)}")
    # The first failed one is the error, so their order counts as well.
    for check, one in zip(verified.checks, written, strict=True):
        is_said = _in_our_words(check) == _in_our_words(m.Check.read(one))
        require(is_said, part, f"{one['code']} says {one}, made again {check.dump()}")


def _in_our_words(check: m.Check) -> dict[str, Any]:
    """A check without the words of a library, which another release of it may choose otherwise."""
    ours, mark, _ = (check.finding or "").partition(NOT_HELD)
    return {**check.dump(), **({"finding": ours + mark} if mark else {})}


# The certificate --------------------------------------------------------------------------------


def _second(folder: Folder, proven: Proven) -> Second:
    """The second quorum, and StoreCertificate's checks of what it led to."""
    record, requested = proven.record, proven.requested
    step = certificate_step(record)
    assert requested is not None  # noqa: S101  for the type checker  # nosec B101
    asked, csr = requested.certificate, _require_passed(proven)
    if asked is None:
        raise bundle.EvidenceInvalidError("request.json", "asks for no certificate")
    _equal("record.json", "caKeyLabel", step["caKeyLabel"], asked.ca_key_label)
    policy, about_ca = _ca_as_asked(folder, step)
    people = _people(policy, step["policy"], "tsb/request-certificate")
    named = certificate.usages(asked, requested.csr)
    wanted = tsb_bodies.certificate_meta_data(
        requested,
        terms=summary.CertificateTerms(
            policy=m.PolicySummary.read(step["policy"]),
            signature_algorithm=step["signatureAlgorithm"],
            usages=(*named[0], *named[1]),
            csr_sha256=csr.sha256,
        ),
        enrollment_id=record["id"],
        requester=m.Origin.read(record["origin"]).requester,
    )
    _require_shown(folder, "certificate-metadata.json", step["metaDataSha256"], wanted)
    decided, executed = _approvals(
        folder,
        step,
        people,
        bundle.ca_keys(folder),
        "certificate-approvers.json",
    )
    second = Second(policy, decided, about_ca=about_ca)
    if "certificateChecks" not in record:
        return second
    aside, written = record.get("quarantine", {}), record["certificateChecks"]
    if aside.get("code") == OTHER_REQUEST["certificate"] and "prefix" not in aside:
        _another_request(folder, "certificate", written, step)
        return second
    found = [
        _certified(folder, replace(proven, second=second), answer, key, held)
        for answer in executed
        for key in bundle.answers(folder, "store-certificate", KeyAttributes)
        for held in bundle.answers(folder, "ca-certificate", CertificateOfKey)
    ]
    require(bool(found), "tsb", "has no answers of an executed request and about the CA's key")
    # The CA may have got another certificate between two tries of StoreCertificate.
    issued = [one for one in found if one[0].chain.encode() == folder.get("certificate.pem")]
    same = (one for one in (*issued, *found) if _results(one[0]) == _recorded(written))
    verified, signed = next(same, found[0])
    _require_same(verified, written, "certificate-checks.json")
    failed = verified.failed
    _equal("record.json", "quarantine.code", aside.get("code"), failed and failed.code)
    if aside:
        is_same = folder["quarantine/certificate.pem"] == signed.pem.encode(
            errors="backslashreplace"
        )
        require(is_same, "quarantine/certificate.pem", "is not what TSB answered")
        omitted = {"usagesOmitted": True} if record.get("usagesOmitted") else {}
        is_same = bundle.read(folder, "quarantine/findings.json") == {
            "certificateChecks": written,
            "caAttestation": record["caAttestation"],
            **omitted,
        }
        part = "quarantine/findings.json"
        require(is_same, part, "says something else than certificate-checks.json")
    elif verified.certificate is not None and "verifiedSha256" in record:
        digest = verified.certificate.sha256
        _equal("record.json", "verifiedSha256", record["verifiedSha256"], digest)
    is_at_key = verified.certificate is not None and verified.certificate.der in _at_key(folder)
    return replace(
        second, verified=verified, pem=signed.pem, about_ca=signed.answer, is_at_key=is_at_key
    )


def _at_key(folder: Folder) -> list[bytes]:
    """The certificates that TSB has shown at the new key, before the import and after it."""
    return [one.bytes for one in bundle.answers(folder, "import-certificate", CertificateOfKey)]


def _ca_as_asked(folder: Folder, step: CertificateStep) -> tuple[m.Policy, KeyAttributes]:
    """The CA key's policy under which its approvers were asked, from TSB's answer about the key."""
    for answer in bundle.answers(folder, "request-certificate", KeyAttributes):
        policy = echo.as_policy(answer.key.policy)
        is_it = (
            answer.key.label == step["caKeyLabel"]
            and fingerprint(answer.key.public_key) == step["publicKeySha256"]
            and issuing.policy_sha256(answer) == step["policySha256"]
        )
        if is_it and policy is not None:
            return policy, answer
    part = "tsb/request-certificate"
    raise bundle.EvidenceInvalidError(part, "no answer is about the CA key that is on record")


def _certified(
    folder: Folder,
    proven: Proven,
    answer: RequestStatus,
    key: KeyAttributes,
    held: CertificateOfKey,
) -> tuple[issuing.Verified, issuing.Signed]:
    record = proven.record
    said = record["caAttestation"]
    trust = replace(
        _trust(folder, bundle.CA_CHAIN, said["root"], said.get("chainSha256")),
        clock_skew=course.tolerated(said),
    )
    now = datetime.fromisoformat(said["at"])
    assert proven.requested is not None  # noqa: S101  for the type checker  # nosec B101
    people = [one.dump() for one in (proven.second and proven.second.approvers) or ()]
    step = {**certificate_step(record), "approvers": people}
    signed = issuing.Signed(
        requested=proven.requested,
        request_id=answer.id,
        pem=answer.result or "",
        csr_pem=_require_passed(proven).pem,
        answer=key,
        held=held,
        record={**record, "steps": {**record["steps"], "certificate": step}},
    )
    return issuing.verify(signed, trust, now=now), signed


def _require_certificate(folder: Folder, proven: Proven) -> None:
    """The certificate on record is the one that TSB answered, and every check passed."""
    record, second = proven.record, proven.second
    verified = second.verified if second else None
    if verified is None or verified.certificate is None:
        part = "certificate-checks.json"
        raise bundle.EvidenceInvalidError(part, "nothing shows that the certificate was verified")
    failed, found = verified.failed, verified.certificate
    require(failed is None, "certificate.pem", f"was issued although {failed and failed.code}")
    stored = m.StoredCertificate.read(record["certificate"])
    body = folder["certificate.pem"].decode()
    require(body == verified.chain, "certificate.pem", "is not what TSB answered")
    _equal("record.json", "certificate.pem", stored.pem, body)
    _equal("record.json", "certificate.sha256", stored.sha256, found.sha256)
    _equal("record.json", "verifiedSha256", record.get("verifiedSha256"), found.sha256)
    _equal("record.json", "certificate.expires", stored.expires, m.timestamp(found.ends))
    name = f"enrollments/{record['id']}/certificate.pem"
    _equal("record.json", "certificate.key", stored.key, name)
    _require_imported(folder, proven, record.get("imported"), found.der)


def _require_imported(
    folder: Folder, proven: Proven, imported: Mapping[str, Any] | None, der: bytes
) -> None:
    """It was to be imported, and what the key is said to have, and had before, TSB has shown.

    An import is on record before it is asked for. Only `started` may stand beside TSB's answer that
    shows the certificate: the function died then.
    """
    asked = proven.requested.certificate if proven.requested else None
    shown = _at_key(folder)
    if imported is None:
        require(not shown, "record.json", "says nothing of an import that TSB has answered")
        return
    is_asked = asked is not None and asked.import_
    require(is_asked, "record.json", "imported what was not to be imported")
    result = imported["result"]
    is_there = result != "imported" or der in shown
    require(is_there, "tsb/import-certificate", "no answer shows the certificate at its key")
    is_failed = result == "failed"
    is_gone = not (is_failed and der in shown)
    require(is_gone, "record.json", "the import is told as failed, and TSB shows the certificate")
    is_explained = is_failed is (imported.get("error") is not None)
    require(is_explained, "record.json", "imported.error does not go with its result")
    replaced = imported.get("replacedSha256")
    was_there = replaced is None or replaced in map(_sha256, shown)
    require(was_there, "tsb/import-certificate", "no answer shows what is said to be replaced")


# The end ----------------------------------------------------------------------------------------


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


def _end(folder: Folder, proven: Proven) -> None:
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
        _require_passed(proven)
        _require_stored(folder, proven)
    if "certificate" in record:
        _require_certificate(folder, proven)
    _equal("record.json", "status", record["status"], outcome)
    _require_one_bucket(record)
    _require_key_left(record)
    name = (error or {}).get("name")
    is_invalid = outcome == m.Outcome.FAILED and "quarantine" in record
    if is_invalid or name == CsrInvalidError.__name__:
        require("quarantine" in record, "record.json", "no check has failed, and error says so")
        told = quarantine.failure(record).dump()
        for field in (*told, *(error or {}).keys() - told.keys()):
            _equal("record.json", f"error.{field}", (error or {}).get(field), told.get(field))
    # Who makes the checks writes both at once.
    for noted, stored in (("checks", "csr"), ("certificateChecks", "certificate")):
        is_stored = noted not in record or {"quarantine", stored} & record.keys()
        require(bool(is_stored), "record.json", f"has passed all of {noted} and no {stored}")
    _in_order(record)
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
    _equal("record.json", "quarantine.prefix", prefix, aside)


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
    before = [record["times"]["accepted"], step.get("intent", "").partition(" ")[0]]
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
    is_earlier = all(one <= ended + course.tolerated(record) for one in executed)
    require(is_earlier, "record.json", "TSB has executed what was cancelled before")


def _require_passed(proven: Proven) -> Csr:
    verified = proven.verified
    if verified is None or verified.csr is None:
        raise bundle.EvidenceInvalidError("checks.json", "nothing shows that the CSR was verified")
    failed = verified.failed
    require(failed is None, "request.pem", f"was issued although {failed and failed.code}")
    return verified.csr


def _require_stored(folder: Folder, proven: Proven) -> None:
    record, verified = proven.record, proven.verified
    assert verified is not None  # noqa: S101  for the type checker  # nosec B101
    stored, found = m.StoredCsr.read(record["csr"]), verified.csr
    body = folder["request.pem"].decode()
    require(found is not None and body == found.pem, "request.pem", "is not what TSB answered")
    _equal("record.json", "csr.pem", stored.pem, body)
    digest = found.sha256 if found else None
    _equal("record.json", "csr.sha256", stored.sha256, digest)
    if not wants_certificate(record):
        _equal("record.json", "verifiedSha256", record.get("verifiedSha256"), digest)
    _equal("record.json", "csr.key", stored.key, f"enrollments/{record['id']}/request.pem")


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
    texts = [
        times.get("accepted"),
        *_own_times(csr_step(record)),
        record.get("verifiedAt"),
        *_own_times(certificate_step(record)),
        record.get("caAttestation", {}).get("at"),
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
        _equal("record.json", "acceptedAt", record["acceptedAt"], times["accepted"])
    if "publicKeySha256" in record:
        skew = timedelta(seconds=int(record.get("clockSkewSeconds", 0)))
        created = datetime.fromisoformat(times["keyCreated"]) - skew
        asked = step.get("requested")
        last = datetime.fromisoformat(asked) if asked else last_call
        # An attempt adopts the key that the one before it has made.
        is_early = record["attempt"] == 1 and created < own[0] - ROUNDING
        is_between = not is_early and created <= last + ROUNDING
        require(is_between, "record.json", "the key was not made in this enrollment's time")


def _own_times(step: Step) -> list[str | None]:
    """When its approvers were to be asked, were asked, and when TSB's last word was read."""
    times = step.get("times", {})
    is_over = step.get("status") in ENDED_AT_TSB
    asked = step.get("intent", "").partition(" ")[0]
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
    _equal("record.json", "windowEnds", times["windowEnds"], ends)
    if "executed" in times:
        executed = datetime.fromisoformat(times["executed"]) - timedelta(seconds=skew_seconds)
        tolerated = course.tolerated(record)
        is_later = executed >= asked - tolerated
        require(is_later, "record.json", "the request was executed before it was made")
        is_read = executed <= datetime.fromisoformat(times["nextPoll"]) + tolerated
        require(is_read, "record.json", "the request was executed after TSB had said so")


def _equal(part: str, name: str, one: Any, other: Any) -> None:
    require(one == other, part, f"{name} is {one!r}, and by the other parts {other!r}")


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
