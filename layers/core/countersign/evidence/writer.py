"""KeepEvidence: writes the evidence of ended enrollments."""

from collections.abc import Callable, Mapping
from typing import Any

from countersign.errors import EnrollmentConflictError
from countersign.evidence import bundle, verifier
from countersign.evidence.bundle import MANIFEST, SIGNATURE, EvidenceInvalidError, Folder
from countersign.evidence.proof import prove
from countersign.models import Outcome
from countersign.record import Record
from countersign.request import intake
from countersign.stores import Objects, Records

type Sign = Callable[[bytes], bytes]
type ReportConflict = Callable[[], None]  # what an alarm counts
type ReportLeftOut = Callable[[list[str]], None]  # paths below the enrollment's prefix

WHO_WROTE = (
    "Nothing was signed. Find out who wrote to the bus, the table or the buckets; only this"
    " workflow may. Then redrive the queue."
)


def keep_evidence(
    event: Mapping[str, Any],
    *,
    records: Records,
    objects: Objects,
    evidence: Objects,
    sign: Sign,
    public_key: verifier.PublicKey,
    attestation_root: str,
    report_conflict: ReportConflict | None = None,
    report_left_out: ReportLeftOut | None = None,
) -> str | None:
    """Write the evidence of an enrollment that has ended, whatever its outcome.

    The event only says where to look: id and execution. What is signed is what table, bucket and
    TSB's kept answers say together, and only if the public verifier confirms it.

    Idempotent: parts that exist stay. A folder with its signature is complete.

    Args:
        event: the outcome's event, from the bus.
        records: the table.
        objects: the bucket with requests, TSB's answers and issued CSRs.
        evidence: the bucket of the evidence.
        sign: signs with the stack's signing key.
        public_key: of that key.
        attestation_root: the one that the stack is configured with; empty: none. The record says
            which one was believed, and whoever may write there could have named their own.
        report_conflict: told where the sources contradict each other.
        report_left_out: told which answers in the bucket nothing on record rests on.

    Returns:
        The folder: `<enrollment id>/<execution's name>/`. None where the enrollment was begun or
        taken up again since: how that execution ended is on record no more.

    Raises:
        EnrollmentConflictError: nobody's workflow has ended this enrollment, or its sources
            contradict each other. Nothing is signed.
        AwsCallError: a store or the key refused; the message is delivered again.
    """
    enrollment_id, execution = _where(event)
    record = (records.get(enrollment_id) if enrollment_id else None) or Record()
    try:
        # The record's own execution has taken over from those: its end is the one on record.
        if record.get("executionArn") != execution and execution in _earlier(record):
            return None
        if record.get("executionArn") != execution or "outcome" not in record:
            raise EvidenceInvalidError("record", "no such execution has ended this enrollment")
        is_issued = record["outcome"] == Outcome.ISSUED
        # No other part of the folder names the bucket.
        for name in ("csr", "certificate", "quarantine"):
            place: Any = record.get(name, {})
            is_here = place.get("bucket", objects.bucket) == objects.bucket
            bundle.require(is_here, "record.json", f"{name} names another bucket than this stack's")
        bundle.require(
            # Of what was verified last: since the CSR was, the stack's may have been changed.
            not is_issued or verifier.roots(record)[-1][1] == attestation_root,
            "record.json",
            "names another attestation root than this stack's AttestationRoot",
        )
        return _kept(
            record,
            objects=objects,
            evidence=evidence,
            sign=sign,
            key=public_key,
            report_left_out=report_left_out,
        )
    except EvidenceInvalidError as error:
        if report_conflict is not None:
            report_conflict()
        raise EnrollmentConflictError(
            f"the evidence of {enrollment_id or 'what is no id'} does not hold: {error}",
            action=WHO_WROTE,
        ) from error


def _earlier(record: Record) -> list[str]:
    """The executions that carried out the enrollment before.

    Raises:
        EvidenceInvalidError: somebody else wrote what is on record.
    """
    earlier = record.get("earlier", [])
    bundle.require(isinstance(earlier, list), "record.json", "earlier has an unknown form")
    return earlier


def _where(event: Mapping[str, Any]) -> tuple[str | None, str]:
    """The enrollment's id, if it is one (a `/` would lead to another's folder), and the execution.

    An event that has neither says nothing.
    """
    detail = event.get("detail")
    said = detail if isinstance(detail, Mapping) else {}
    enrollment_id = said.get("enrollmentId")
    is_id = isinstance(enrollment_id, str) and intake.ENROLLMENT_ID.fullmatch(enrollment_id)
    return enrollment_id if is_id else None, str(said.get("executionArn", ""))


def _kept(
    record: Record,
    *,
    objects: Objects,
    evidence: Objects,
    sign: Sign,
    key: verifier.PublicKey,
    report_left_out: ReportLeftOut | None,
) -> str:
    enrollment_id = record["id"]
    folder = f"{enrollment_id}/{record['executionArn'].rpartition(':')[2]}/"
    existing = evidence.below(folder)
    if SIGNATURE in existing:
        return folder
    found = objects.below(f"enrollments/{enrollment_id}/")
    aside = objects.below(f"quarantine/{enrollment_id}/")
    made = bundle.parts(record, found, aside)
    left_out = sorted(filter(bundle.TSB_ANSWER.fullmatch, found.keys() - made.keys()))
    if left_out and report_left_out is not None:
        report_left_out(left_out)
    # Before anything is written: nobody can take a part out of the folder again.
    made |= _confirmed(made, key)
    foreign = existing.keys() - made.keys() - {MANIFEST}
    bundle.require(
        not foreign, ", ".join(sorted(foreign)), f"is not the stack's, and lies in {folder}"
    )
    # If an event is delivered twice at once, the first version of each part stays.
    whole = {
        name: existing[name] if name in existing else evidence.keep_first(f"{folder}{name}", body)
        for name, body in made.items()
    }
    named = (*bundle.ATTESTATION, *bundle.CA_ATTESTATION)
    if whole != made:
        signed = {name: one for name, one in whole.items() if name not in named}
        is_same = whole == signed | _confirmed(signed, key)
        bundle.require(is_same, folder, "has parts of two kinds")
    listed = bundle.manifest(whole)
    if evidence.keep_first(f"{folder}{MANIFEST}", listed) != listed:
        raise EvidenceInvalidError(MANIFEST, f"what lies in {folder} is not what its parts give")
    evidence.keep_first(f"{folder}{SIGNATURE}", sign(listed))
    return folder


def _confirmed(parts: Folder, key: verifier.PublicKey) -> dict[str, bytes]:
    """The attestation's parts, once the others are as the public verifier wants them."""
    proven = prove(parts)
    verifier.require_shown(parts, key)
    verifier.require_findings(proven)
    return verifier.attestations(proven)
