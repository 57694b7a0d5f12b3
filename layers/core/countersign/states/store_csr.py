"""State StoreCsr: verify the CSR, and store it only if every check passes."""

from datetime import datetime
from typing import Any

from countersign import events
from countersign import models as m
from countersign.record import Record, trusted
from countersign.states.ownership import (
    Password,
    keep_chain,
    progress,
    put_once,
)
from countersign.states.quarantining import put_in_quarantine
from countersign.stores import Bus, Objects, Records
from countersign.tsb.client import TsbClient
from countersign.verification import checks
from countersign.verification.attestation import Trust


def store_csr(
    event: m.StoreCsrInput,
    *,
    records: Records,
    objects: Objects,
    tsb: TsbClient,
    password: Password,
    trust: Trust,
    bus: Bus,
) -> m.StoredResult:
    """Compare the CSR with what was approved, and store it only if every check passes.

    Idempotent: a CSR on record is returned again, whatever has become of its key since. The object
    is written once; an existing object with the same SHA-256 counts as written. Then one write puts
    the checks and the CSR on record: no end finds the one without the other. If the enrollment is
    cancelled at the same time, the first on record wins: `verifiedSha256` or the cancellation.
    Who approved is read from the record, where PollRequest stored TSB's answer.

    Where a certificate follows, the enrollment can still be cancelled. The CSR is announced, and
    announced again where this state is entered again.

    Args:
        trust: which attestations are trusted.
        bus: receives the event that the CSR is stored, where a certificate follows.

    Raises:
        CsrInvalidError: `reason` is the code of the first check that failed. CSR and findings are
            in quarantine; nothing is stored as issued.
        TsbUnavailableError, TsbOutcomeUnknownError, TsbCredentialsError: the state machine retries.
    Source: TSB REST API, POST /v1/key/attributes.
    """
    requested = event.request
    record = records.get(event.enrollment_id) or Record()
    if "csr" in record and record.get("executionArn") == event.execution_arn:
        return _stored(event, record, bus)
    secret = password(requested.key.password.secret_arn) if requested.key.password else None
    answer = tsb.key_attributes(requested.key.label, secret)
    at = m.timestamp(m.now())
    objects.keep_answer(event.enrollment_id, "store-csr", answer.raw, decides=True)
    returned = checks.Returned(
        requested=requested,
        request_id=event.request_id,
        pem=event.pem or "",
        created_public_key=event.key.public_key,
        answer=answer,
        record=record,
    )
    verified = checks.verify(returned, trust, now=datetime.fromisoformat(at))
    kept = record.get("attestationChainSha256")
    digest = keep_chain(objects, event.enrollment_id, trust.chain, kept=kept)
    noted: dict[str, Any] = {
        "checks": [check.dump() for check in verified.checks],
        "attestation": verified.attestation,
        "attestationRoot": trust.root_sha256,
        "maxClockSkewSeconds": int(trust.clock_skew.total_seconds()),
        **({"attestationChainSha256": digest} if digest else {}),
        **_trusted_before(record, trust.root_sha256, digest),
        "verifiedAt": at,
    }
    checked = verified.csr
    if verified.failed is not None or checked is None:
        raise put_in_quarantine(
            event,
            "StoreCsr",
            "request.pem",
            noted,
            records=records,
            objects=objects,
            absent=("csr", "outcome"),
            remove=(
                "attestationChainSha256",
            ),  # CreateKey's, of a chain that is configured no more
        )
    if progress(event, records, {"stage": "StoreCsr"}) is not None:
        return m.StoredResult(outcome="CANCELLED")
    name = f"enrollments/{event.enrollment_id}/request.pem"
    stored = m.StoredCsr(
        bucket=objects.bucket,
        key=name,
        version_id=put_once(objects, name, checked.pem.encode(), "application/x-pem-file"),
        sha256=checked.sha256,
        pem=checked.pem,
    )
    if requested.certificate is None:
        noted["verifiedSha256"] = checked.sha256  # too late to cancel
    if progress(event, records, {"csr": stored.dump(), **noted}) is not None:
        return m.StoredResult(outcome="CANCELLED")
    return _stored(event, {**record, "csr": stored.dump()}, bus)


def _trusted_before(record: Record, root: str, chain: str | None) -> dict[str, Any]:
    """By what CreateKey has verified the key, where that is not what is trusted now."""
    if "keyAttestation" in record:
        return {"keyAttestation": record["keyAttestation"]}
    before = trusted(record.get("attestationRoot", ""), record.get("attestationChainSha256"))
    is_changed = "keyVerifiedAt" in record and before != trusted(root, chain)
    return {"keyAttestation": before} if is_changed else {}


def _stored(event: m.StoreCsrInput, record: Record, bus: Bus) -> m.StoredResult:
    if event.request.certificate is None:
        return m.StoredResult(outcome="ISSUED")
    bus.put(events.csr_stored(record))
    return m.StoredResult(outcome=None, next="certificate")
