"""Verifies evidence years later, without AWS and without the HSM."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from countersign import models as m
from countersign.errors import CountersignError
from countersign.evidence.bundle import (
    MANIFEST,
    SIGNATURE,
    TYPE,
    EvidenceInvalidError,
    Folder,
    Proven,
    _last,
    json_bytes,
    manifest,
    text,
    tsb_answers,
)
from countersign.record import Record, csr_step
from countersign.spki import fingerprint
from countersign.tsb.models import KeyAttributes
from countersign.verification import checks, csr
from countersign.verification.attestation import Trust

# Verifying, offline ----------------------------------------------------------------------------


def verify(folder: Folder, key: bytes, *, attestation_root: str | None = None) -> Proven:
    """Verify everything that a folder says, without AWS, HSM or credentials.

    Args:
        folder: its files by their path.
        key: the public key (PEM) of the stack that kept the evidence.
        attestation_root: SHA-256 (hex) of the HSM vendor's root certificate; None: the one on
            record.

    Raises:
        EvidenceInvalidError: names the first thing that is wrong.
    """
    said = _manifest(folder, key)
    _require_parts(folder, said["parts"])
    try:
        return Proven(_facts(folder, said, key, attestation_root))
    except (KeyError, TypeError, ValueError, CountersignError) as error:
        # The signature is valid. So another release of the stack wrote this folder, or something
        # other than the stack used its key.
        what = f"{type(error).__name__}: {error}"
        raise EvidenceInvalidError(MANIFEST, f"lists parts of an unknown form ({what})") from None


def _facts(
    folder: Folder, said: Mapping[str, Any], key: bytes, attestation_root: str | None
) -> dict[str, str]:
    event, record = json_bytes(folder, "event.json"), json_bytes(folder, "record.json")
    facts = {
        "enrollment": said["enrollmentId"],
        "outcome": said["outcome"],
        "ended": said["endedAt"] or "unknown",
        "signed by": f"key sha256:{_fingerprint(key)}",
        "parts": f"{len(said['parts'])} files, each as its SHA-256 says",
    }
    if not record:
        return {**facts, "record": "none: the id was claimed again by another execution"}
    _require(event["detail"]["outcome"] == record.get("outcome"), "record.json", "another outcome")
    facts["requested by"] = (
        m.Origin.read(record["origin"]).requester or f"trigger {record['origin']['trigger']}"
    )
    if "quarantine" in record:
        facts["quarantined"] = record["quarantine"]["code"]
    if "metadata.json" in folder:
        facts |= _shown(folder, key, record)
    approvals = json.loads(folder["approvers.json"])
    facts |= _said(approvals, "approved") | _said(approvals, "declined")
    if _last(folder, "store-csr") is not None:
        facts |= _again(folder, record, approvals, attestation_root)
    if said["outcome"] == m.Outcome.ISSUED:
        _require("CSR" in facts, "tsb", "holds no answer about the key at the time of the issue")
        _require(
            event["detail"]["csr"]["sha256"] == csr.read_csr(text(folder, "request.pem")).sha256,
            "request.pem",
            "is not the CSR that was announced",
        )
    return facts


def _manifest(folder: Folder, key: bytes) -> dict[str, Any]:
    for name in (MANIFEST, SIGNATURE):
        _require(name in folder, name, "is missing")
    if not _signed(key, folder[MANIFEST], folder[SIGNATURE]):
        # The manifest is computed from the parts, so it is clear which of the two was changed.
        parts = {name: body for name, body in folder.items() if name not in (MANIFEST, SIGNATURE)}
        try:
            genuine = manifest(parts) == folder[MANIFEST]
        except (ValueError, KeyError, TypeError, AttributeError):
            genuine = False
        if genuine:
            raise EvidenceInvalidError(SIGNATURE, f"is no signature of this key over {MANIFEST}")
        raise EvidenceInvalidError(MANIFEST, f"is not what {SIGNATURE} signs")
    said: dict[str, Any] = json.loads(folder[MANIFEST])
    known = (said.get("type"), said.get("schemaVersion")) == (TYPE, m.SCHEMA_VERSION)
    _require(known, MANIFEST, "is of a kind or version that this program does not know")
    return said


def _require_parts(folder: Folder, listed: Mapping[str, Any]) -> None:
    for name, one in sorted(listed.items()):
        _require(name in folder, name, "is missing")
        digest = hashlib.sha256(folder[name]).hexdigest()
        _require(digest == one["sha256"], name, f"was changed since {MANIFEST} was signed")
    for name in sorted(folder.keys() - listed.keys() - {MANIFEST, SIGNATURE}):
        raise EvidenceInvalidError(name, f"is not in {MANIFEST}: it was added")


def _shown(folder: Folder, key: bytes, record: Record) -> dict[str, str]:
    shown, requested = folder["metadata.json"], folder["request.json"]
    _require(
        _signed(key, shown, folder["metadata.sig"]),
        "metadata.sig",
        "is no signature of this key over metadata.json",
    )
    digest = hashlib.sha256(requested).hexdigest()
    _require(
        digest == json.loads(shown)["requestSha256"] == record["acceptedSha256"],
        "metadata.json",
        "shows another request than request.json",
    )
    _require(
        record["metaDataSha256"] == hashlib.sha256(shown).hexdigest(),
        "metadata.json",
        "is not what the record says that the approvers were shown",
    )
    return {"request": f"sha256:{digest}, shown to the approvers"}


def _again(
    folder: Folder,
    record: Record,
    approvals: list[dict[str, Any]],
    attestation_root: str | None,
) -> dict[str, str]:
    """Make StoreCsr's checks again, of what TSB answered; they must come out as they did."""
    root, step = record.get("attestationRoot", ""), csr_step(record)
    _require(
        attestation_root in (None, root), "attestation-chain.pem", f"the root was sha256:{root}"
    )
    created = [
        key
        for answer in tsb_answers(folder, "create-key")
        if fingerprint(key := json.loads(answer)["json"]["publicKey"])
        == record.get("publicKeySha256")
    ]
    issued = "request.pem" in folder
    pem = "request.pem" if issued else "quarantine/request.pem"
    approvers = [
        {name: value for name, value in one.items() if name != "publicKey"} for one in approvals
    ]
    returned = checks.Returned(
        requested=m.EnrollmentRequest.read(json.loads(folder["request.json"])),
        request_id=step["requestId"],
        pem=text(folder, pem),
        created_public_key=created[-1] if created else None,
        answer=KeyAttributes.model_validate_json(_last(folder, "store-csr") or b""),
        record={**record, "steps": {"csr": {**step, "approvers": approvers}}},
    )
    trust = Trust(root_sha256=root, chain=text(folder, "attestation-chain.pem"))
    now = datetime.fromisoformat(record["times"]["ended"])
    verified = checks.verify(returned, trust, now=now)
    recorded = {one["code"]: one["result"] for one in json.loads(folder["checks.json"])}
    for check in verified.checks:
        _require(
            recorded.get(check.code) == check.result,
            "checks.json",
            f"{check.code} is on record as {recorded.get(check.code)},"
            f" made again it is {check.result}: {check.finding or 'nothing found'}",
        )
    failed = verified.failed
    if issued:
        _require(failed is None, "request.pem", f"was issued although {failed and failed.code}")
    attested = f"{verified.attestation}" + (f", root sha256:{root}" if root else "")
    result = f"{failed.code}: {failed.finding}" if failed else "all passed, made again"
    about = verified.csr
    return {
        "CSR": f"sha256:{about.sha256}, {about.subject}, {about.key}" if about else "none",
        "checks": f"{len(verified.checks)}, {result}",
        "attestation": attested,
    }


def _said(approvals: list[dict[str, Any]], decision: str) -> dict[str, str]:
    people = [
        f"{one['name']} (key sha256:{(one['spkiSha256'] or 'unknown')[:16]})"
        for one in approvals
        if one["decision"] == decision
    ]
    return {f"{decision} by": ", ".join(people)} if people else {}


def _signed(key: bytes, content: bytes, signature: bytes) -> bool:
    public = _public_key(key)
    try:
        public.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise EvidenceInvalidError("key", "is no public key (EC, PEM)")
    return key


def _fingerprint(pem: bytes) -> str:
    spki = _public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def _require(holds: bool, part: str, why: str) -> None:
    if not holds:
        raise EvidenceInvalidError(part, why)
