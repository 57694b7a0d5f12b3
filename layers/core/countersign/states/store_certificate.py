"""State StoreCertificate: verify the certificate, store it, and import it to its key."""

import hashlib
from copy import replace
from datetime import datetime
from typing import Literal

from countersign import models as m
from countersign.errors import (
    NO_CERTIFICATE,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.record import Record
from countersign.states.ownership import (
    has_ended,
    keep_chain,
    not_own,
    own,
    progress,
    put_once,
)
from countersign.states.quarantining import put_in_quarantine
from countersign.stores import Objects, Records
from countersign.tsb.client import TsbClient
from countersign.tsb.models import CertificateOfKey
from countersign.verification import issuing
from countersign.verification.attestation import Trust
from countersign.verification.certificate import read

PEM = "application/x-pem-file"
END = "-----END CERTIFICATE-----"


def store_certificate(
    event: m.StoreCertificateInput,
    *,
    records: Records,
    objects: Objects,
    tsb: TsbClient,
    trust: Trust,
    usages_omitted: bool = False,
) -> m.StoredResult:
    """Compare the certificate with what was approved; store and import it only if all checks pass.

    Idempotent: a certificate on record is not verified again, and one that the key has is not
    imported again. Checks and certificate are put on record in one write, after the object. If the
    enrollment is cancelled at the same time, the first on record wins: `verifiedSha256` or the
    cancellation.

    An import that TSB refuses, or that cannot be seen afterwards, leaves the certificate issued and
    is on record. An older certificate of the key is kept before it is replaced.

    Args:
        trust: which attestations are trusted.
        usages_omitted: whether this TSB is known to leave usages out of its certificates.

    Raises:
        CsrInvalidError: `reason` is the code of the first check that failed. Certificate and
            findings are in quarantine; nothing is stored as issued or imported.
        TsbUnavailableError, TsbOutcomeUnknownError, TsbCredentialsError: the state machine retries.
        TsbRefusedError: the CA's key is gone; the execution fails.
    Source: TSB REST API, POST /v1/key/attributes, GET /v1/certificate/{keyName},
        POST /v1/certificate/import/plain.
    """
    record = records.get(event.enrollment_id) or Record()
    if "certificate" not in record or record.get("executionArn") != event.execution_arn:
        stored = _stored(
            event, record, records, objects, tsb, trust=trust, usages_omitted=usages_omitted
        )
        if stored is None:
            return m.StoredResult(outcome="CANCELLED")
        record = {**record, "certificate": stored}
    asked = event.request.certificate
    done = record.get("imported", {}).get("result") in ("imported", "failed")
    if asked is not None and asked.import_ and not done:
        _import(event, record, records, objects, tsb)
    return m.StoredResult(outcome="ISSUED")


def _stored(
    event: m.StoreCertificateInput,
    record: Record,
    records: Records,
    objects: Objects,
    tsb: TsbClient,
    *,
    trust: Trust,
    usages_omitted: bool,
) -> dict[str, object] | None:
    """The certificate as it is on record now; None where the enrollment was cancelled."""
    asked = event.request.certificate
    assert asked is not None  # noqa: S101  for the type checker  # nosec B101
    answer = tsb.key_attributes(asked.ca_key_label)
    at = m.timestamp(m.now())
    objects.keep_answer(event.enrollment_id, "store-certificate", answer.raw, decides=True)
    held = _ca_certificate(tsb, asked.ca_key_label)
    objects.keep_answer(event.enrollment_id, "ca-certificate", held.raw, decides=True)
    omitted: Record = {"usagesOmitted": True} if usages_omitted else {}
    signed = issuing.Signed(
        requested=event.request,
        request_id=event.request_id,
        pem=event.pem or "",
        csr_pem=record["csr"]["pem"],
        answer=answer,
        held=held,
        record={**record, **omitted},
    )
    verified = issuing.verify(signed, trust, now=datetime.fromisoformat(at))
    kept = record.get("attestationChainSha256")
    digest = keep_chain(objects, event.enrollment_id, trust.chain, kept=kept)
    noted = {
        "certificateChecks": [check.dump() for check in verified.checks],
        "caAttestation": issuing.attestation_on_record(
            trust, digest, at, asked=record.get("caAttestation")
        ),
        **omitted,
    }
    found = verified.certificate
    if verified.failed is not None or found is None:
        raise put_in_quarantine(
            event,
            "StoreCertificate",
            "certificate.pem",
            noted,
            records=records,
            objects=objects,
            absent=("certificate", "outcome"),
        )
    if progress(event, records, {"stage": "StoreCertificate"}) is not None:
        return None
    name = f"enrollments/{event.enrollment_id}/certificate.pem"
    try:
        version_id, chain = objects.put_once(name, verified.chain.encode(), PEM), verified.chain
    except FileExistsError:
        # An earlier try wrote it, below the certificate that the CA had then.
        chain = _written_before(name, signed, objects, trust, at) or verified.chain
        version_id = put_once(objects, name, chain.encode(), PEM)
    stored = m.StoredCertificate(
        bucket=objects.bucket,
        key=name,
        version_id=version_id,
        sha256=found.sha256,
        expires=m.timestamp(found.ends),
        pem=chain,
    ).model_dump(mode="json", exclude={"imported"})
    values = {"certificate": stored, "verifiedSha256": found.sha256, **noted}
    return stored if progress(event, records, values) is None else None


def _written_before(
    name: str, signed: issuing.Signed, objects: Objects, trust: Trust, at: str
) -> str | None:
    """The chain in this object, if it passes every check as well."""
    before = (objects.read(name) or b"").decode(errors="replace")
    held = signed.held.model_copy(update={"certificate": before.partition(END)[2]})
    earlier = issuing.verify(replace(signed, held=held), trust, now=datetime.fromisoformat(at))
    return earlier.chain if earlier.failed is None else None


def _ca_certificate(tsb: TsbClient, label: str) -> CertificateOfKey:
    """The CA's own certificate. It was there when the CA's approvers were asked.

    That it is gone decides nothing: they have agreed, and it may be back.
    """
    try:
        return tsb.certificate(label)
    except TsbRefusedError as error:
        if error.error_code != NO_CERTIFICATE:
            raise
        raise TsbUnavailableError(
            f"CA key {label!r} has no certificate any more: {error.message}",
            error_code=error.error_code,
            reason=error.reason,
            http_status=error.http_status,
            action="Import the CA's certificate again; it is tried again for a day.",
        ) from error


# The import ---------------------------------------------------------------------------------------


def _import(
    event: m.StoreCertificateInput,
    record: Record,
    records: Records,
    objects: Objects,
    tsb: TsbClient,
) -> None:
    label, ours = event.request.key.label, _leaf(record["certificate"]["pem"])
    held = _before(tsb, label)
    replaced = record.get("imported", {}).get("replacedSha256")
    if held is not None and held.bytes != ours:
        objects.keep_answer(event.enrollment_id, "import-certificate", held.raw, decides=True)
        replaced = hashlib.sha256(held.bytes).hexdigest()
    _note(event, records, "started", replaced)
    error: TsbRefusedError | None = None
    if held is None or held.bytes != ours:
        try:
            tsb.import_certificate(label, ours)
            held = tsb.certificate(label)
        except TsbRefusedError as refused:
            error = refused
    if error is None and held is not None:
        objects.keep_answer(event.enrollment_id, "import-certificate", held.raw, decides=True)
        if held.bytes != ours:
            error = TsbRefusedError(
                f"TSB took the certificate of key {label!r}, and shows another one afterwards",
                action="Import it by hand (POST /v1/certificate/import/plain). It is issued and"
                " stored.",
            )
    _note(event, records, "failed" if error else "imported", replaced, error)


def _before(tsb: TsbClient, label: str) -> CertificateOfKey | None:
    """What the key has before the import; None where TSB shows nothing.

    What TSB answers about a key without a certificate is not documented, so every answer in its own
    words counts. Afterwards there is one, so the same answer decides nothing then.
    """
    try:
        return tsb.certificate(label)
    except (TsbRefusedError, TsbUnavailableError) as error:
        if error.error_code is None:
            raise
        return None


def _leaf(chain: str) -> bytes:
    """The first certificate of a chain in PEM, in DER."""
    return read(chain.partition(END)[0] + END).der


def _note(
    event: m.StoreCertificateInput,
    records: Records,
    result: Literal["started", "imported", "failed"],
    replaced: str | None,
    error: TsbRefusedError | None = None,
) -> None:
    said = error and m.Failure(
        name=type(error).__name__,
        message=error.message,
        state="StoreCertificate",
        error_code=error.error_code,
        reason=error.reason,
        http_status=error.http_status,
        action=error.action,
    )
    done = m.ImportedCertificate(
        result=result, at=m.timestamp(m.now()), replaced_sha256=replaced, error=said
    )
    existing = records.update(
        event.enrollment_id,
        {"imported": done.model_dump(mode="json", exclude_none=True)},
        when=own(event),
        absent=("outcome",),
    )
    if existing is not None:
        raise has_ended(event.enrollment_id) if "outcome" in existing else not_own(event)
