"""How an enrollment stands, how it and its key ended: outcome, checks, failures, disposals."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from countersign.models.base import SCHEMA_VERSION, Model, Moment, cut
from countersign.models.request import UnusedKey

# Of an error, in bytes of its JSON; the whole document of a failure: see `states/documents.py`.
MAX_TEXT = 4_000
MAX_SHORT_TEXT = 500
MAX_ERROR_NAME = 256


class Outcome(StrEnum):
    """How an enrollment ends."""

    ISSUED = "ISSUED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class Status(StrEnum):
    """The state of an enrollment: PENDING or CANCELLING while it is open, then its outcome.

    It is on the record as well, because the list is filtered by it.
    """

    PENDING = "PENDING"
    CANCELLING = "CANCELLING"
    ISSUED = "ISSUED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class Cancellation(Model):
    """Who cancelled and when; `confirmed_at`: when TSB confirmed it."""

    by: str
    at: Moment
    confirmed_at: Moment | None = None


class Approver(Model):
    """Somebody whom the policy asks, and what they decided."""

    name: str
    spki_sha256: str | None  # None for a name that only TSB can resolve
    decision: Literal["approved", "declined", "outstanding", "none"] = "outstanding"


class OpenGroup(Model):
    """A group of the use rule whose quorum is not reached: `approved` of `quorum` have approved."""

    token: str
    group: str
    quorum: int
    approved: int


class Check(Model):
    """One comparison of the result with what was approved.

    `code` is stable, `field` is what differs, and `finding` says in a sentence how it differs. A
    check is skipped if another failure leaves nothing to compare, or if it is not configured.
    """

    code: str
    result: Literal["passed", "failed", "skipped"] = "passed"
    field: str | None = None
    finding: str | None = None


class CsrLocation(Model):
    """Where the verified CSR is stored. `sha256` is the hash of the DER."""

    bucket: str
    key: str
    version_id: str | None
    sha256: str


class StoredCsr(CsrLocation):
    """The verified CSR and where it is stored."""

    pem: str


class ImportedCertificate(Model):
    """Whether the certificate is at its key in the HSM, as read back from there.

    `started` remains where nobody could find out. `replaced_sha256`: of the certificate that the
    key had before; it is kept with TSB's answers.
    """

    result: Literal["started", "imported", "failed"]
    at: Moment
    replaced_sha256: str | None = None
    error: "Failure | None" = None


class CertificateLocation(CsrLocation):
    """Where the verified certificate is stored, and whether it was imported to its key.

    `sha256` is the hash of the DER; `expires` is its notAfter. `imported` is None where the request
    wants none.
    """

    expires: Moment
    imported: ImportedCertificate | None = None


class StoredCertificate(CertificateLocation):
    """The verified certificate and where it is stored. `pem`: it, then the CA's."""

    pem: str


class Failure(Model):
    """Why an enrollment failed, from the error that ended it."""

    name: str
    message: str
    state: str | None = None
    field: str | None = None
    error_code: int | None = None
    reason: str | None = None
    http_status: int | None = None
    action: str | None = None


def bounded(failure: Failure) -> Failure:
    """The failure with its texts cut: a field's path repeats names that a caller made up."""
    return failure.model_copy(
        update={
            "name": cut(failure.name, MAX_ERROR_NAME),
            "message": cut(failure.message, MAX_TEXT),
            **{
                name: text and cut(text, MAX_SHORT_TEXT)
                for name in ("state", "field", "reason", "action")
                for text in [getattr(failure, name)]
            },
        }
    )


class DisposedKey(Model):
    """What became of a key whose CSR was not issued.

    `action` is what the profile wants. `started` and `asking` remain if a function died; then the
    result is unknown. `asked`: the approvers of `ruleBlock` decide on the TSB request `request_id`.
    `none`: there is no such key.
    """

    action: UnusedKey
    result: Literal["started", "asking", "none", "kept", "deleted", "blocked", "asked", "failed"]
    at: Moment
    reason: str | None = None
    request_id: str | None = None
    error: Failure | None = None


class UnaccountedKey(Model):
    """A key that no enrollment accounts for.

    `why` is one of four. `unclaimed`: no enrollment claims the label, as far as is known.
    `unrecorded`: the enrollment that claimed the label, or its request, is not on record. `unused`:
    the key should have been deleted when its enrollment ended without a CSR. `unblocked`: the key
    should have been blocked. `deleted`: whether this run deleted the key. `problem`: why it could
    not be deleted although it should be.
    """

    label: str
    why: Literal["unclaimed", "unrecorded", "unused", "unblocked"]
    enrollment_id: str | None = None
    deleted: bool = False
    problem: str | None = None


class SweptKeys(Model):
    """What a run of SweepKeys found. `omitted_count`: how many keys are not named."""

    looked_at: int
    keys: tuple[UnaccountedKey, ...]
    omitted_count: int


class AuditedKeys(Model):
    """What a run of AuditKeys checked. `drifted`: labels of the keys that differ, whether announced
    now or known before.
    """

    looked_at: int
    drifted: tuple[str, ...]


class OutcomeDocument(Model):
    """What a caller gets at the end. The outcome's event has the same fields (events.py)."""

    schema_version: str = SCHEMA_VERSION
    enrollment_id: str
    outcome: Outcome | None
    csr: StoredCsr | CsrLocation | None = None
    certificate: StoredCertificate | None = None
    approvers: tuple[Approver, ...] = ()
    error: Failure | None = None
    duplicate: bool | None = None

    def dump(self) -> dict[str, Any]:
        """As `Model.dump`; `duplicate` only if it is true, `certificate` only if there is one."""
        document = super().dump()
        if not self.duplicate:
            del document["duplicate"]
        if self.certificate is None:
            del document["certificate"]
        return document


def has_csr(record: Mapping[str, Any]) -> bool:
    """Whether a verified CSR can be handed out: at the end, or before it for a certificate."""
    wants_more = "certificate" in record.get("steps", {})
    return "csr" in record and (wants_more or record.get("outcome") == Outcome.ISSUED)


def certificate_of(record: Mapping[str, Any]) -> StoredCertificate | None:
    """The certificate of an enrollment that has ended with one; None for any other."""
    if "certificate" not in record or record.get("outcome") != Outcome.ISSUED:
        return None
    return StoredCertificate.read({**record["certificate"], "imported": record.get("imported")})
