"""KeepEvidence: writes the evidence of an enrollment that has ended."""

from collections.abc import Callable, Mapping
from typing import Any

from countersign.errors import EnrollmentConflictError
from countersign.evidence.bundle import MANIFEST, SIGNATURE, manifest, parts
from countersign.record import Record
from countersign.stores import Objects, Records

type Sign = Callable[[bytes], bytes]

# Keeping ---------------------------------------------------------------------------------------


def keep_evidence(
    event: Mapping[str, Any],
    *,
    records: Records,
    objects: Objects,
    evidence: Objects,
    sign: Sign,
) -> str:
    """Write the evidence of an enrollment that has ended, whatever its outcome.

    Idempotent: what lies there first stays, and a folder with its signature is complete.

    Args:
        event: the outcome's event, from the bus.
        records: the table.
        objects: the bucket with what was asked, answered and issued.
        evidence: the bucket of the evidence.
        sign: by the stack's signing key.

    Returns:
        The folder: `<enrollment id>/<execution's name>/`.

    Raises:
        EnrollmentConflictError: the folder holds another manifest than its parts give.
        AwsCallError: a store or the key refused; the message is delivered again.
    """
    detail = event["detail"]
    enrollment_id, execution = detail["enrollmentId"], detail["executionArn"]
    folder = f"{enrollment_id}/{execution.rpartition(':')[2]}/"
    existing = evidence.below(folder)
    if SIGNATURE in existing:
        return folder
    record = records.get(enrollment_id) or Record()
    found = objects.below(f"enrollments/{enrollment_id}/")
    aside = objects.below(f"quarantine/{enrollment_id}/")
    # The id may have been claimed again meanwhile: the record is then about another execution.
    own = record if record.get("executionArn") == execution else {}
    whole = {**parts(event, own, found, aside), **existing}
    whole.pop(MANIFEST, None)
    for name in whole.keys() - existing.keys():
        # Of an event that was delivered twice at once, the first to write a part has written it.
        whole[name] = evidence.keep_first(f"{folder}{name}", whole[name])
    made = manifest(whole)
    if evidence.keep_first(f"{folder}{MANIFEST}", made) != made:
        raise EnrollmentConflictError(
            f"the evidence in {folder} has a manifest that its parts do not give",
            action="Find out who wrote there; only KeepEvidence may.",
        )
    evidence.keep_first(f"{folder}{SIGNATURE}", sign(made))
    return folder
