"""KeepEvidence: writes the evidence of ended enrollments."""

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

    Idempotent: parts that exist stay. A folder with its signature is complete.

    Args:
        event: the outcome's event, from the bus.
        records: the table.
        objects: the bucket with requests, TSB's answers and issued CSRs.
        evidence: the bucket of the evidence.
        sign: signs with the stack's signing key.

    Returns:
        The folder: `<enrollment id>/<execution's name>/`.

    Raises:
        EnrollmentConflictError: the folder's manifest does not match its parts.
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
    # The id may have been claimed again meanwhile. Then the record is about another execution.
    own = record if record.get("executionArn") == execution else {}
    whole = {**parts(event, own, found, aside), **existing}
    whole.pop(MANIFEST, None)
    for name in whole.keys() - existing.keys():
        # If an event is delivered twice at once, the first version of each part stays.
        whole[name] = evidence.keep_first(f"{folder}{name}", whole[name])
    made = manifest(whole)
    if evidence.keep_first(f"{folder}{MANIFEST}", made) != made:
        raise EnrollmentConflictError(
            f"the evidence in {folder} has a manifest that its parts do not give",
            action="Find out who wrote there; only KeepEvidence may.",
        )
    evidence.keep_first(f"{folder}{SIGNATURE}", sign(made))
    return folder
