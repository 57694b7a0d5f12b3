"""Evidence of an ended enrollment: a folder that proves itself, without AWS and without the HSM.

Both sides of one format: what KeepEvidence writes, and how an auditor verifies it years later.
`manifest.json` names every other part with its SHA-256, `manifest.sig` is the stack's signature
over it; docs/evidence.md says what each part is.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from countersign import csr, verification
from countersign import models as m
from countersign.attestation import Trust
from countersign.errors import CountersignError, EnrollmentConflictError
from countersign.spki import fingerprint
from countersign.tsb import KeyAttributes

if TYPE_CHECKING:
    from countersign.aws.objects import Objects
    from countersign.aws.records import Item, Records

TYPE = "CountersignEvidence"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
# Parts of their own, or noted after the outcome was announced, maybe after this is written.
LEFT_OUT_OF_RECORD = ("approvers", "checks", "announced")

type Folder = Mapping[str, bytes]  # parts by their path in the folder
type Sign = Callable[[bytes], bytes]


class EvidenceInvalidError(Exception):
    """A folder that does not prove what it says. `part` is the first thing that does not hold."""

    def __init__(self, part: str, why: str) -> None:
        super().__init__(f"{part}: {why}")
        self.part = part


@dataclass(frozen=True)
class Proven:
    """What a folder proves, for a person: name and value of each fact."""

    facts: dict[str, str]


# Keeping ---------------------------------------------------------------------------------------


def keep_evidence(
    event: Mapping[str, Any],
    *,
    records: "Records",
    objects: "Objects",
    evidence: "Objects",
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
    there = evidence.below(folder)
    if SIGNATURE in there:
        return folder
    record = records.get(enrollment_id) or {}
    found = objects.below(f"enrollments/{enrollment_id}/")
    aside = objects.below(f"quarantine/{enrollment_id}/")
    # The id may have been claimed again meanwhile: the record is then about another execution.
    own = record if record.get("executionArn") == execution else {}
    whole = {**_parts(event, own, found, aside), **there}
    whole.pop(MANIFEST, None)
    for name in whole.keys() - there.keys():
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


def manifest(parts: Folder) -> bytes:
    """The manifest (RFC 8785) of these parts: what they say at a glance, and each one's SHA-256."""
    event = json.loads(parts["event.json"])
    record = json.loads(parts.get("record.json", b"{}"))
    content = {
        "type": TYPE,
        "schemaVersion": m.SCHEMA_VERSION,
        "enrollmentId": event["detail"]["enrollmentId"],
        "outcome": event["detail"]["outcome"],
        "endedAt": record.get("times", {}).get("ended"),
        "codeVersion": record.get("codeVersion"),
        "parts": {
            name: {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
            for name, body in parts.items()
        },
    }
    whole: bytes = rfc8785.dumps(content)
    return whole


def _parts(
    event: Mapping[str, Any], record: "Item", found: Folder, aside: Folder
) -> dict[str, bytes]:
    parts = {"event.json": rfc8785.dumps(dict(event))}
    if record:
        kept = {name: one for name, one in record.items() if name not in LEFT_OUT_OF_RECORD}
        parts["record.json"] = rfc8785.dumps(kept)
        parts["approvals.json"] = rfc8785.dumps(_approvals(record, found))
    # On record is what was sent; what was accepted, a profile expanded, is each attempt's own.
    asked = found.get(f"request-{record.get('attempt')}.json") or found.get("request.json")
    if record and asked is not None:
        parts["request.json"] = asked
    if "checks" in record:
        parts["checks.json"] = rfc8785.dumps(record["checks"])
    shown = found.get(f"metadata/{record.get('metaDataSha256')}.json")
    if shown is not None:
        parts["metadata.json"] = shown
        parts["metadata.sig"] = base64.b64decode(record["metaDataSignature"])
    answer = _last(found, "store-csr") or _last(found, "create-key")
    if answer is not None:
        attested = json.loads(answer)
        if attested.get("xml"):
            parts["attestation.xml"] = attested["xml"].encode()
            parts["attestation.sig"] = base64.b64decode(attested.get("xmlSignature") or "")
    for name in found:
        if name.startswith("tsb/") or name in ("request.pem", "attestation-chain.pem"):
            parts[name] = found[name]
    return parts | {f"quarantine/{name}": body for name, body in aside.items()}


def _approvals(record: "Item", found: Folder) -> list[dict[str, Any]]:
    """Who said what, with the whole public key: fingerprints alone prove nothing to others."""
    keys: dict[str | None, str | None] = {}
    for answer in _answers(found, "poll-request"):
        for name in ("approvedBy", "notYetApprovedBy", "rejectedBy"):
            keys |= {fingerprint(key): key for key in json.loads(answer).get(name) or ()}
    keys[None] = None  # of whoever TSB knows by name only
    return [
        {**one, "publicKey": keys.get(one["spkiSha256"])} for one in record.get("approvers", ())
    ]


def _answers(found: Folder, state: str) -> list[bytes]:
    """TSB's answers to a state, oldest first."""
    names = [name for name in found if name.startswith(f"tsb/{state}-")]
    return [found[name] for name in sorted(names, key=lambda name: (len(name), name))]


def _last(found: Folder, state: str) -> bytes | None:
    answers = _answers(found, state)
    return answers[-1] if answers else None


# Verifying, offline ----------------------------------------------------------------------------


def verify(folder: Folder, key: bytes, *, attestation_root: str | None = None) -> Proven:
    """Check everything that a folder says, without AWS, HSM or credentials.

    Args:
        folder: its files by their path.
        key: the public key (PEM) of the stack that kept the evidence.
        attestation_root: SHA-256 (hex) of the HSM maker's root; None: the one on record.

    Raises:
        EvidenceInvalidError: names the first thing that does not hold.
    """
    said = _manifest(folder, key)
    _require_parts(folder, said["parts"])
    try:
        return Proven(_facts(folder, said, key, attestation_root))
    except (KeyError, TypeError, ValueError, CountersignError) as error:
        # Signed, so this stack wrote it: another release did, or not the stack.
        what = f"{type(error).__name__}: {error}"
        raise EvidenceInvalidError(MANIFEST, f"lists parts of an unknown form ({what})") from None


def _facts(
    folder: Folder, said: Mapping[str, Any], key: bytes, attestation_root: str | None
) -> dict[str, str]:
    event, record = _json(folder, "event.json"), _json(folder, "record.json")
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
    facts["requested by"] = record["origin"].get("principal") or f"door {record['origin']['door']}"
    if "quarantine" in record:
        facts["quarantined"] = record["quarantine"]["code"]
    if "metadata.json" in folder:
        facts |= _shown(folder, key, record)
    approvals = json.loads(folder["approvals.json"])
    facts |= _said(approvals, "approved") | _said(approvals, "declined")
    if _last(folder, "store-csr") is not None:
        facts |= _again(folder, record, approvals, attestation_root)
    if said["outcome"] == m.Outcome.ISSUED:
        _require("CSR" in facts, "tsb", "holds no answer about the key at the time of the issue")
        _require(
            event["detail"]["csr"]["sha256"] == csr.read_csr(_text(folder, "request.pem")).sha256,
            "request.pem",
            "is not the CSR that was announced",
        )
    return facts


def _manifest(folder: Folder, key: bytes) -> dict[str, Any]:
    for name in (MANIFEST, SIGNATURE):
        _require(name in folder, name, "is missing")
    if not _signed(key, folder[MANIFEST], folder[SIGNATURE]):
        # The parts give the manifest, so it can be told which of the two was changed.
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


def _shown(folder: Folder, key: bytes, record: "Item") -> dict[str, str]:
    shown, asked = folder["metadata.json"], folder["request.json"]
    _require(
        _signed(key, shown, folder["metadata.sig"]),
        "metadata.sig",
        "is no signature of this key over metadata.json",
    )
    digest = hashlib.sha256(asked).hexdigest()
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
    record: "Item",
    approvals: list[dict[str, Any]],
    attestation_root: str | None,
) -> dict[str, str]:
    """Make StoreCsr's checks again, of what TSB answered; they must come out as they did."""
    root = record.get("attestationRoot", "")
    _require(
        attestation_root in (None, root), "attestation-chain.pem", f"the root was sha256:{root}"
    )
    created = [
        key
        for answer in _answers(folder, "create-key")
        if fingerprint(key := json.loads(answer)["json"]["publicKey"])
        == record.get("publicKeySha256")
    ]
    issued = "request.pem" in folder
    pem = "request.pem" if issued else "quarantine/request.pem"
    approvers = [
        {name: value for name, value in one.items() if name != "publicKey"} for one in approvals
    ]
    returned = verification.Returned(
        asked=m.EnrollmentRequest.read(json.loads(folder["request.json"])),
        request_id=record["requestId"],
        pem=_text(folder, pem),
        created_public_key=created[-1] if created else None,
        answer=KeyAttributes.model_validate_json(_last(folder, "store-csr") or b""),
        record={**record, "approvers": approvers},
    )
    trust = Trust(root_sha256=root, chain=_text(folder, "attestation-chain.pem"))
    now = datetime.fromisoformat(record["times"]["ended"])
    verified = verification.verify(returned, trust, now=now)
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


def _json(folder: Folder, name: str) -> Any:
    return json.loads(folder.get(name, b"{}"))


def _text(folder: Folder, name: str) -> str:
    return folder.get(name, b"").decode(errors="replace")


def _require(holds: bool, part: str, why: str) -> None:
    if not holds:
        raise EvidenceInvalidError(part, why)
