"""What the parts of a folder say together, and what is on record beside it. Pure.

Facts are derived: approvals, request and CSR from TSB's own answers, the checks by making them
again. What is on record beside a fact is compared with it.
"""

import re
from copy import replace
from datetime import datetime
from functools import cache

from pydantic import TypeAdapter, ValidationError

from countersign import models as m
from countersign.evidence import bundle
from countersign.evidence.answered import (
    approvals_answered,
    key_at_creation,
)
from countersign.evidence.asked import accepted_request, names_asked, people_asked, require_shown
from countersign.evidence.bundle import Folder, require, require_equal
from countersign.evidence.certified import second_quorum
from countersign.evidence.checked import csr_checked
from countersign.evidence.proven import Proven
from countersign.record import MAX_EARLIER, Record, certificate_step, csr_step, wants_certificate
from countersign.request import canonical, intake, tsb_bodies

# What CloseEnrollment puts on record of a request that was never accepted.
OF_A_REFUSAL = {
    "id", "kind", "schemaVersion", "codeVersion", "attempt", "executionArn", "origin", "status",
    "stage", "acceptedAt", "times", "outcome", "error", "announced",
}  # fmt: skip
EXECUTION = re.compile(r"arn:[^:]+:states:[^:]+:[0-9]{12}:execution:[^:]+:[^:/]+")
OF_A_CERTIFICATE = {
    "certificate", "certificateChecks", "imported", "usagesOmitted", "caAttestation",
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
# RequestCertificate notes them at once; without them nothing speaks of the CA's key.
OF_THE_CA = {"policy", "policySha256", "publicKeySha256", "signatureAlgorithm"}
STEPS_OF_CERTIFICATE = (
    ("policySha256", "csr"),
    ("requestId", "policySha256"),
    ("requestId", "metaDataSha256"),
    ("requestId", "intent"),
    ("certificateChecks", "requestId"),
    ("certificate", "certificateChecks"),
    ("caAttestation", "policySha256"),
    ("imported", "certificate"),
)


def record_of(folder: Folder) -> Record:
    """The record, with the checks that are parts of their own; it has what no release leaves out.

    Raises:
        EvidenceInvalidError: it has another form, or the folder has other parts than it speaks of.
        One of `bundle.UNREADABLE`: something has a form that nobody looked for.
    """
    record: Record = bundle.read(folder, "record.json")
    are_apart = not {"checks", "certificateChecks"} & record.keys()
    require(are_apart, "record.json", "has checks, which are a part of their own")
    if "checks.json" in folder:
        record["checks"] = bundle.read(folder, "checks.json")
    if "certificate-checks.json" in folder:
        record["certificateChecks"] = bundle.read(folder, "certificate-checks.json")
    require_equal("record.json", "kind", record.get("kind"), "enrollment")
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


def derived(folder: Folder, record: Record, *, now: datetime) -> Proven:
    """What the parts say together, held against what is on record.

    Args:
        folder: the parts, as `bundle.parts` gives them.
        record: theirs, see `record_of`.
        now: the time at which the attestation chain must be valid, unless the record says when it
            was verified.

    Raises:
        EvidenceInvalidError: names the first part that does not agree with another.
        One of `bundle.UNREADABLE`: something has a form that nobody looked for.
    """
    _require_steps(record)
    if "requestSha256" not in record:  # refused: nothing was done
        require(folder.keys() == {"record.json"}, "record.json", "has parts of a refused request")
        is_refusal = record.keys() <= OF_A_REFUSAL and record["outcome"] == m.Outcome.FAILED
        require(is_refusal, "record.json", "says more than that a request was refused")
        return Proven(record)
    sent = record["request"]
    require_equal("record.json", "requestSha256", record["requestSha256"], canonical.sha256(sent))
    if "request.json" not in folder:
        return Proven(record)
    requested = accepted_request(folder, record)
    people = people_asked(requested.key.policy, record["policy"], "request.json")
    if "metadata.json" in folder:
        wanted = tsb_bodies.meta_data(
            requested,
            enrollment_id=record["id"],
            names=names_asked(requested.key.policy, record["policy"]),
            requester=m.Origin.read(record["origin"]).requester,
        )
        require_shown(folder, "metadata.json", record["metaDataSha256"], wanted)
    created = key_at_creation(folder, record, requested, now=now)
    keys = bundle.public_keys(folder, folder["request.json"])
    decided, executed = approvals_answered(folder, csr_step(record), people, keys, "approvers.json")
    proven = Proven(record, requested, decided, about_key=created)
    if "checks.json" in folder:
        then = datetime.fromisoformat(record["verifiedAt"]) if "verifiedAt" in record else now
        proven = csr_checked(folder, proven, created, executed, now=then)
    if "policy" in certificate_step(record):
        proven = replace(proven, second=second_quorum(folder, proven))
    return proven


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
    require_equal("record.json", "request.enrollmentId", own, record["id"])
    if origin.trigger == "api":
        require_equal("record.json", "origin.id", origin.id, record["id"])
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
    require_equal("record.json", "id", record["id"], made)


@cache
def _form() -> TypeAdapter[Record]:
    return TypeAdapter(Record)  # 10 ms, for those who prove something


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
    is_whole = step.keys() & OF_THE_CA in (set(), OF_THE_CA)
    require(is_whole, "record.json", "says only a part of what is known of the CA's key")
    is_asked = is_wanted or not step.keys() | record.keys() & OF_A_CERTIFICATE
    require(is_asked, "record.json", "has a certificate for which nobody asked")
