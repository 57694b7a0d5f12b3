"""Which ended enrollments can be resumed: approvers were asked, and nobody has decided anything.

Of such an end the key and the request at the TSB are kept. Resuming asks nobody again: it reads
what the TSB has made of the request. Where the CSR is stored and the approvers of the CA's key were
surely not asked, it goes on by asking them.
"""

from countersign import models as m
from countersign.errors import CsrInvalidError, EnrollmentConflictError
from countersign.record import (
    ENDED_WITHOUT_CSR,
    Record,
    approvers_asked,
    last_step,
    step_of,
    wants_certificate,
)

KEPT = (None, "kept", "started")  # results of `unusedKey` that leave the key as it was
ANOTHER = "Start another enrollment, with another id."
DECIDED = f"That is decided. {ANOTHER}"


def is_decided(record: Record, error: str | None) -> bool:
    """Whether an end without a CSR is a decision: one of `_decisions`, or no error ended it.

    After any other end people may have agreed, so that key and request are kept. Asked before the
    outcome is on record; `is_over` asks after.

    Args:
        record: the enrollment's.
        error: the name of the error that ended it, if one did.
    """
    return error is None or any(holds for holds, _, _ in _decisions(record, error))


def _decisions(record: Record, error: str | None) -> tuple[tuple[bool, str, str], ...]:
    """What leaves nothing to be taken up: whether it holds, in words, and what to do."""
    status = step_of(record, last_step(record)).get("status")
    return (
        (
            not approvers_asked(record),
            "failed before anybody was asked",
            "Start it again with the same id.",
        ),
        ("cancel" in record, "was cancelled", DECIDED),
        (
            status in ENDED_WITHOUT_CSR,
            f"failed after the TSB had ended its request as {status}",
            DECIDED,
        ),
        (
            "quarantine" in record or error == CsrInvalidError.__name__,
            "failed because what came back is not what was approved",
            "Treat it as a security incident; see docs/operations.md.",
        ),
    )


def why_not(record: Record) -> EnrollmentConflictError | None:
    """Why this enrollment cannot be resumed now, and what to do; None if it can.

    Pure: it reads the record and nothing else.
    """
    over = is_over(record)
    if over is not None or "announced" in record:
        return over
    return _refusal(
        record,
        "has an end that is not announced yet",
        "Try again in some minutes. If it stays so, see BackstopDeadLetterAlarm.",
    )


def is_over(record: Record) -> EnrollmentConflictError | None:
    """Why this enrollment can never be resumed, or need not be; None if its key must be kept."""
    outcome, name = record.get("outcome"), (record.get("error") or {}).get("name")
    disposed = record.get("unusedKey", {}).get("result")
    rules = (
        (outcome is None, "has not ended", "Follow it; its execution is on the record."),
        (outcome != m.Outcome.FAILED, f"ended as {outcome}", DECIDED),
        *_decisions(record, name),
        (
            "csr" in record and not wants_certificate(record),
            "has a CSR on record that nothing proves",
            "Treat it as a security incident; see docs/operations.md.",
        ),
        (
            "requestId" not in step_of(record, last_step(record)),
            "got no answer to its request, so nobody knows which one at the TSB it is",
            f"See at the TSB which requests of the key are open and cancel them. {ANOTHER}",
        ),
        (disposed not in KEPT, f"has no usable key any more (unusedKey: {disposed})", ANOTHER),
    )
    found = (_refusal(record, why, action) for holds, why, action in rules if holds)
    return next(found, None)


def _refusal(record: Record, why: str, action: str) -> EnrollmentConflictError:
    return EnrollmentConflictError(
        f"enrollment {record['id']} {why}: it cannot be resumed", action=action
    )


def execution_name(record: Record) -> str:
    """How the API names the execution that resumes this enrollment: the same for two callers."""
    return f"{record['id']}-{record['attempt']}-resume-{record.get('resumed', 0) + 1}"
