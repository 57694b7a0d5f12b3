"""The parts of the evidence of an ended enrollment: a folder that can be verified by itself.

`manifest.json` names every other part with its SHA-256. `manifest.sig` is the stack's signature
over the manifest. docs/evidence.md explains each part.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785

from countersign import models as m
from countersign.record import Record, csr_step, request_object
from countersign.spki import fingerprint
from countersign.stores import Item

TYPE = "CountersignEvidence"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"

# Parts of their own, or noted after the outcome was announced, maybe after this is written.
LEFT_OUT_OF_RECORD = ("checks", "announced")
type Folder = Mapping[str, bytes]  # parts by their path in the folder


class EvidenceInvalidError(Exception):
    """A folder that does not prove what it says. `part` is the first thing that is wrong."""

    def __init__(self, part: str, why: str) -> None:
        super().__init__(f"{part}: {why}")
        self.part = part


@dataclass(frozen=True)
class Proven:
    """What a folder proves, for people: name and value of each fact."""

    facts: dict[str, str]


def manifest(parts: Folder) -> bytes:
    """The manifest (RFC 8785) of these parts: a summary, and the SHA-256 of each part."""
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


def parts(
    event: Mapping[str, Any], record: Record, found: Folder, aside: Folder
) -> dict[str, bytes]:
    """The parts of the evidence by their path, but for manifest and signature."""
    parts = {"event.json": rfc8785.dumps(dict(event))}
    if record:
        parts["record.json"] = rfc8785.dumps(_kept(record))
        parts["approvers.json"] = rfc8785.dumps(approvals_of_record(record, found))
    # On record is what was sent; what was accepted, a profile expanded, is each attempt's own.
    requested = found.get(request_object(record.get("attempt", 1))) or found.get("request.json")
    if record and requested is not None:
        parts["request.json"] = requested
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


def _kept(record: Record) -> Item:
    kept = {name: one for name, one in record.items() if name not in LEFT_OUT_OF_RECORD}
    if "steps" in record:
        step = {name: one for name, one in csr_step(record).items() if name != "approvers"}
        kept["steps"] = {**record["steps"], "csr": step}
    return kept


def approvals_of_record(record: Record, found: Folder) -> list[dict[str, Any]]:
    """Who said what, with the whole public key: fingerprints alone prove nothing to others."""
    keys: dict[str | None, str | None] = {}
    for answer in tsb_answers(found, "poll-request"):
        for name in ("approvedBy", "notYetApprovedBy", "rejectedBy"):
            keys |= {fingerprint(key): key for key in json.loads(answer).get(name) or ()}
    keys[None] = None  # for approvers whom only TSB can resolve
    return [
        {**one, "publicKey": keys.get(one["spkiSha256"])}
        for one in csr_step(record).get("approvers", ())
    ]


def tsb_answers(found: Folder, state: str) -> list[bytes]:
    """TSB's answers in a state, oldest first."""
    names = [name for name in found if name.startswith(f"tsb/{state}-")]
    return [found[name] for name in sorted(names, key=lambda name: (len(name), name))]


def _last(found: Folder, state: str) -> bytes | None:
    answers = tsb_answers(found, state)
    return answers[-1] if answers else None


def json_bytes(folder: Folder, name: str) -> Any:
    """The JSON value of a part; an empty object if there is no such part."""
    return json.loads(folder.get(name, b"{}"))


def text(folder: Folder, name: str) -> str:
    """A part as text; empty if there is no such part."""
    return folder.get(name, b"").decode(errors="replace")
