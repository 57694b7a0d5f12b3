"""The certificate and its quorum, of TSB's answers and by its checks, made again. Pure."""

from collections.abc import Mapping
from copy import replace
from datetime import datetime, timedelta
from typing import Any

from countersign import models as m
from countersign.evidence import bundle
from countersign.evidence.answered import (
    MOST_SKEW_SECONDS,
    approvals_answered,
    has_checked,
    trust_in,
)
from countersign.evidence.asked import people_asked, require_shown
from countersign.evidence.bundle import Folder, require, require_equal, sha256
from countersign.evidence.checked import (
    require_another_request,
    require_passed,
    require_same,
    results_of,
    results_on_record,
)
from countersign.evidence.proven import Proven, Second
from countersign.policy import summary
from countersign.record import CertificateStep, Record, certificate_step, intended_at, tolerated
from countersign.request import tsb_bodies
from countersign.spki import fingerprint
from countersign.tsb.models import CertificateOfKey, KeyAttributes, RequestStatus
from countersign.verification import certificate, echo, issuing


def second_quorum(folder: Folder, proven: Proven) -> Second:
    """The second quorum, and StoreCertificate's checks of what it led to."""
    record, requested = proven.record, proven.requested
    step = certificate_step(record)
    assert requested is not None  # noqa: S101  for the type checker  # nosec B101
    asked, csr = requested.certificate, require_passed(proven)
    if asked is None:
        raise bundle.EvidenceInvalidError("request.json", "asks for no certificate")
    require_equal("record.json", "caKeyLabel", step["caKeyLabel"], asked.ca_key_label)
    policy, about_ca = _ca_as_asked(folder, step)
    people = people_asked(policy, step["policy"], "tsb/request-certificate")
    named = certificate.usages(asked, requested.csr)
    wanted = tsb_bodies.certificate_meta_data(
        requested,
        terms=summary.CertificateTerms(
            policy=m.PolicySummary.read(step["policy"]),
            signature_algorithm=step["signatureAlgorithm"],
            usages=(*named[0], *named[1]),
            csr_sha256=csr.sha256,
        ),
        enrollment_id=record["id"],
        requester=m.Origin.read(record["origin"]).requester,
    )
    require_shown(folder, "certificate-metadata.json", step["metaDataSha256"], wanted)
    decided, executed = approvals_answered(
        folder,
        step,
        people,
        bundle.ca_keys(folder),
        "certificate-approvers.json",
    )
    second = Second(policy, decided, about_ca=about_ca)
    _require_attested(folder, record, about_ca)
    if not has_checked(record, "certificate"):
        if "certificateChecks" in record:
            require_another_request(folder, "certificate", record["certificateChecks"], step)
        return second
    aside, written = record.get("quarantine", {}), record["certificateChecks"]
    found = [
        _certified(folder, replace(proven, second=second), answer, key, held)
        for answer in executed
        for key in bundle.answers(folder, "store-certificate", KeyAttributes)
        for held in bundle.answers(folder, "ca-certificate", CertificateOfKey)
    ]
    require(bool(found), "tsb", "has no answers of an executed request and about the CA's key")
    # The CA may have got another certificate between two tries of StoreCertificate.
    issued = [one for one in found if one[0].chain.encode() == folder.get("certificate.pem")]
    same = (one for one in (*issued, *found) if results_of(one[0]) == results_on_record(written))
    verified, signed = next(same, found[0])
    require_same(verified, written, "certificate-checks.json")
    failed = verified.failed
    require_equal("record.json", "quarantine.code", aside.get("code"), failed and failed.code)
    if aside:
        is_same = folder["quarantine/certificate.pem"] == signed.pem.encode(
            errors="backslashreplace"
        )
        require(is_same, "quarantine/certificate.pem", "is not what TSB answered")
        omitted = {"usagesOmitted": True} if record.get("usagesOmitted") else {}
        is_same = bundle.read(folder, "quarantine/findings.json") == {
            "certificateChecks": written,
            "caAttestation": record["caAttestation"],
            **omitted,
        }
        part = "quarantine/findings.json"
        require(is_same, part, "says something else than certificate-checks.json")
    elif verified.certificate is not None and "verifiedSha256" in record:
        digest = verified.certificate.sha256
        require_equal("record.json", "verifiedSha256", record["verifiedSha256"], digest)
    held = _at_key(folder, requested.key.label)
    is_at_key = verified.certificate is not None and verified.certificate.der in held
    return replace(
        second, verified=verified, pem=signed.pem, about_ca=signed.answer, is_at_key=is_at_key
    )


def _at_key(folder: Folder, label: str) -> list[bytes]:
    """The certificates that TSB has shown at the new key, before the import and after it."""
    shown = bundle.answers(folder, "import-certificate", CertificateOfKey)
    return [one.bytes for one in shown if one.label == label]


def _ca_as_asked(folder: Folder, step: CertificateStep) -> tuple[m.Policy, KeyAttributes]:
    """The CA key's policy under which its approvers were asked, from TSB's answer about the key."""
    for answer in bundle.answers(folder, "request-certificate", KeyAttributes):
        policy = echo.as_policy(answer.key.policy)
        is_it = (
            answer.key.label == step["caKeyLabel"]
            and fingerprint(answer.key.public_key) == step["publicKeySha256"]
            and issuing.policy_sha256(answer) == step["policySha256"]
        )
        if is_it and policy is not None:
            return policy, answer
    part = "tsb/request-certificate"
    raise bundle.EvidenceInvalidError(part, "no answer is about the CA key that is on record")


def _require_attested(folder: Folder, record: Record, answer: KeyAttributes) -> None:
    """The HSM attests the CA's key as its approvers were asked.

    Raises:
        EvidenceInvalidError: it does not. A record of an older release says not by which root.
    """
    said = record.get("caAttestation")
    if said is None:
        return
    step, before = certificate_step(record), said.get("asked")
    trust = (
        trust_in(folder, bundle.CA_CHAIN, said["root"], said.get("chainSha256"))
        if before is None
        else trust_in(folder, bundle.CA_ASKED_CHAIN, before["root"], before.get("chainSha256"))
    )
    # The intent is of the call that asked. Without it nobody was asked, and the time is that of the
    # attestation.
    at = intended_at(step) or said["at"]
    try:
        issuing.policy_of(
            answer,
            step["caKeyLabel"],
            replace(trust, clock_skew=timedelta(seconds=MOST_SKEW_SECONDS)),
            now=datetime.fromisoformat(at),
            ahead=timedelta(seconds=int(record.get("clockSkewSeconds", 0))),
        )
    except ValueError as error:
        part, why = "tsb/request-certificate", f"CERTIFICATE_CA_ATTESTATION: {error}"
        raise bundle.EvidenceInvalidError(part, why) from error


def _certified(
    folder: Folder,
    proven: Proven,
    answer: RequestStatus,
    key: KeyAttributes,
    held: CertificateOfKey,
) -> tuple[issuing.Verified, issuing.Signed]:
    record = proven.record
    said = record["caAttestation"]
    trust = replace(
        trust_in(folder, bundle.CA_CHAIN, said["root"], said.get("chainSha256")),
        clock_skew=tolerated(said),
    )
    now = datetime.fromisoformat(said["at"])
    assert proven.requested is not None  # noqa: S101  for the type checker  # nosec B101
    people = [one.dump() for one in (proven.second and proven.second.approvers) or ()]
    step = {**certificate_step(record), "approvers": people}
    signed = issuing.Signed(
        requested=proven.requested,
        request_id=answer.id,
        pem=answer.result or "",
        csr_pem=require_passed(proven).pem,
        answer=key,
        held=held,
        record={**record, "steps": {**record["steps"], "certificate": step}},
    )
    return issuing.verify(signed, trust, now=now), signed


def require_certificate(folder: Folder, proven: Proven) -> None:
    """The certificate on record is the one that TSB answered, and every check passed."""
    record, second = proven.record, proven.second
    verified = second.verified if second else None
    if verified is None or verified.certificate is None:
        part = "certificate-checks.json"
        raise bundle.EvidenceInvalidError(part, "nothing shows that the certificate was verified")
    failed, found = verified.failed, verified.certificate
    require(failed is None, "certificate.pem", f"was issued although {failed and failed.code}")
    stored = m.StoredCertificate.read(record["certificate"])
    body = folder["certificate.pem"].decode()
    require(body == verified.chain, "certificate.pem", "is not what TSB answered")
    require_equal("record.json", "certificate.pem", stored.pem, body)
    require_equal("record.json", "certificate.sha256", stored.sha256, found.sha256)
    require_equal("record.json", "verifiedSha256", record.get("verifiedSha256"), found.sha256)
    require_equal("record.json", "certificate.expires", stored.expires, m.timestamp(found.ends))
    name = f"enrollments/{record['id']}/certificate.pem"
    require_equal("record.json", "certificate.key", stored.key, name)
    _require_imported(folder, proven, record.get("imported"), found.der)


def _require_imported(
    folder: Folder, proven: Proven, imported: Mapping[str, Any] | None, der: bytes
) -> None:
    """It was to be imported, and what the key is said to have, and had before, TSB has shown.

    An import is on record before it is asked for. Only `started` may stand beside TSB's answer that
    shows the certificate: the function died then.
    """
    asked = proven.requested.certificate if proven.requested else None
    assert proven.requested is not None  # noqa: S101  for the type checker  # nosec B101
    shown = _at_key(folder, proven.requested.key.label)
    if imported is None:
        require(not shown, "record.json", "says nothing of an import that TSB has answered")
        return
    is_asked = asked is not None and asked.import_
    require(is_asked, "record.json", "imported what was not to be imported")
    result = imported["result"]
    is_there = result != "imported" or der in shown
    require(is_there, "tsb/import-certificate", "no answer shows the certificate at its key")
    is_failed = result == "failed"
    is_gone = not (is_failed and der in shown)
    require(is_gone, "record.json", "the import is told as failed, and TSB shows the certificate")
    is_explained = is_failed is (imported.get("error") is not None)
    require(is_explained, "record.json", "imported.error does not go with its result")
    replaced = imported.get("replacedSha256")
    was_there = replaced is None or replaced in map(sha256, shown)
    require(was_there, "tsb/import-certificate", "no answer shows what is said to be replaced")
