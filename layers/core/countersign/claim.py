"""Whose an enrollment id is. Every door claims the same way, before anything else exists."""

from typing import TYPE_CHECKING, Any

from countersign import models as m
from countersign import policy, request
from countersign.errors import EnrollmentConflictError

if TYPE_CHECKING:
    from countersign.aws.records import Item, Records

ASKED = {"intent", "requestId"}  # approvers were asked, or may have been
KIND = "enrollment"  # one partition of the index by time; see docs/decisions.md
READ_BY_EXECUTION = (
    "executionArn", "acceptedSha256", "findings", "profile", "profileSha256", "policy",
)  # fmt: skip
ROUNDS = 3  # a claim can be lost to a rival at most once per rule of `claim`


def initial_record(
    enrollment_id: str,
    raw: dict[str, Any],
    reading: request.Reading,
    origin: m.Origin,
    *,
    names: policy.Names,
    execution_arn: str | None = None,
) -> "Item":
    """The whole record as a claim writes it.

    Args:
        enrollment_id: see `request.enrollment_id`.
        raw: the request as it was sent; kept as it is.
        reading: the same, as the validator understood it.
        origin: the door, and who stood there.
        names: the directory's, by the fingerprint of people's keys.
        execution_arn: None where the door claims before the execution is started.
    """
    accepted_at = m.timestamp(m.now())
    return {
        "id": enrollment_id,
        "kind": KIND,
        "schemaVersion": m.SCHEMA_VERSION,
        "attempt": 1,
        **({"executionArn": execution_arn} if execution_arn else {}),
        "origin": origin.model_dump(mode="json", exclude_none=True),
        "requestSha256": request.sha256(raw),
        "request": raw,
        **_read(reading),
        "keyLabel": reading.request.key.label,
        "policy": policy.summary(reading.request.key.policy, names).dump(),
        "status": "PENDING",
        "stage": "AcceptEnrollment",
        "acceptedAt": accepted_at,  # beside times.accepted: an index key is a top-level attribute
        "times": {"accepted": accepted_at},
    }


def _read(reading: request.Reading) -> "Item":
    """What the validator found: of a profile without version, which one it was."""
    from countersign import lint  # noqa: PLC0415  whoever closes an enrollment need not load it

    profile = {"profile": reading.request.profile, "profileSha256": reading.profile_sha256}
    return {
        "acceptedSha256": request.sha256(reading.raw),
        "findings": lint.dump(reading.findings),
        **({} if reading.profile_sha256 is None else profile),
    }


def execution_name(record: "Item") -> str:
    """How a door that can name its executions names the one of this record."""
    return f"{record['id']}-{record['attempt']}"


def claim(record: "Item", records: "Records") -> tuple["Item", bool]:
    """Put the record where its id is free, or find out whose the id is.

    Idempotent: the claim that is there already is found again.

    Args:
        record: see `initial_record`. Without `executionArn` it is a door's claim, which leaves an
            enrollment that waits for its execution as it is; with it, that of an execution, which
            takes such an enrollment over.
        records: the table.

    Returns:
        The record that stands, and whether it is the caller's to carry out. Where it is not, an
        enrollment of the same request is under way or has ended.

    Raises:
        EnrollmentConflictError: the id belongs to another request, which stays untouched.
    """
    arn = record.get("executionArn")
    there = records.put(record)
    for _ in range(ROUNDS):
        if there is None:
            return record, True
        if arn is not None and there.get("executionArn") == arn:
            return there, True
        # A refused request claimed nothing: the corrected one may take its id.
        if there.get("requestSha256") not in (None, record["requestSha256"]):
            break
        if there.get("outcome") == m.Outcome.FAILED and not there.keys() & ASKED:
            record = {**record, "attempt": there["attempt"] + 1}
            there = records.put(record, when={name: there[name] for name in ("attempt", "outcome")})
        elif "executionArn" in there or "outcome" in there:
            return there, False
        elif arn is None:
            return there, True
        else:
            # What the door wrote stays: it knows who asked. But what the request means is what its
            # execution reads.
            taken = {name: record[name] for name in READ_BY_EXECUTION if name in record}
            record = {**there, **taken}
            there = records.update(
                record["id"],
                taken,
                when={name: there[name] for name in ("requestSha256", "attempt")},
                absent=("executionArn", "outcome"),
            )
    raise EnrollmentConflictError(
        f"enrollment id {record['id']} belongs to another request",
        field="request.enrollmentId",
        action="Choose another enrollmentId, or repeat the first request to get its enrollment.",
    )
