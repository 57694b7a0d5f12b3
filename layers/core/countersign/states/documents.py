"""The outcome document: what an execution hands to whoever started it."""

from typing import Any

from countersign import models as m
from countersign.record import Record, last_step, step_of

# The document of a failure is the Cause of its execution: 32,768 characters at the most, its Error
# 256 (AWS Step Functions, ExecutionFailedEventDetails). All in bytes of its JSON in UTF-8, of which
# there are never fewer than characters: 100 approvers of 117 and a name, and what the error says
# (`models.bounded`).
MAX_APPROVER_NAME = 100
MAX_FINGERPRINT = 64
MAX_APPROVERS_IN_FAILURE = 100


def document(record: Record) -> m.OutcomeDocument:
    """The outcome document of a record; `outcome` is None while it is open.

    That of a failure fits the Cause of an execution, whatever is on record: approvers beyond the
    first hundred are left out, and long texts are cut.
    """
    step = step_of(record, last_step(record))
    approvers = [m.Approver.read(one) for one in step.get("approvers", [])]
    error = record.get("error")
    if record.get("outcome") == m.Outcome.FAILED:
        return m.OutcomeDocument(
            enrollment_id=record["id"],
            outcome=m.Outcome.FAILED,
            # Without its text, which may be longer than a Cause.
            csr=_placed(record["csr"]) if m.has_csr(record) else None,
            approvers=tuple(_shortened(one) for one in approvers[:MAX_APPROVERS_IN_FAILURE]),
            error=m.bounded(m.Failure.read(error)) if error else None,
        )
    return m.OutcomeDocument(
        enrollment_id=record["id"],
        outcome=record.get("outcome"),
        csr=m.StoredCsr.read(record["csr"]) if m.has_csr(record) else None,
        certificate=m.certificate_of(record),
        approvers=tuple(approvers),
        error=error,
    )


def _placed(stored: dict[str, Any]) -> m.CsrLocation:
    return m.CsrLocation.read({name: one for name, one in stored.items() if name != "pem"})


def _shortened(approver: m.Approver) -> m.Approver:
    return approver.model_copy(
        update={
            "name": m.cut(approver.name, MAX_APPROVER_NAME),
            "spki_sha256": approver.spki_sha256 and m.cut(approver.spki_sha256, MAX_FINGERPRINT),
        }
    )
