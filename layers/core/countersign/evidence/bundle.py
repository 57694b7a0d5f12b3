"""The parts of the evidence of an ended enrollment: a folder that can be verified by itself.

`manifest.json` names every other part with its SHA-256. `manifest.sig` is the stack's signature
over the manifest. docs/evidence.md explains each part. What the parts prove together is in
`proof.py` and `issued.py`.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import rfc8785

from countersign import models as m
from countersign.errors import CountersignError
from countersign.evidence.quarantine import OTHER_REQUEST
from countersign.policy.certificates import approver_public_key
from countersign.policy.rules import approvals_of
from countersign.record import (
    ENDED_AT_TSB,
    Record,
    Step,
    Trusted,
    TsbStatus,
    certificate_step,
    chain_object,
    csr_step,
    request_object,
    wants_certificate,
)
from countersign.spki import fingerprint
from countersign.stores import Item
from countersign.tsb.models import Answer, KeyAttributes, Reply, RequestStatus
from countersign.verification import echo

TYPE = "CountersignEvidence"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
ATTESTATION = ("attestation.xml", "attestation.sig")  # of the key
CA_ATTESTATION = ("ca-attestation.xml", "ca-attestation.sig")  # of the CA's key
ATTESTATION_CHAIN, CA_CHAIN = "attestation-chain.pem", "ca-attestation-chain.pem"
# By which it was verified at first, where another chain is trusted in the end.
KEY_CHAIN, CA_ASKED_CHAIN = "attestation-chain-created.pem", "ca-attestation-chain-asked.pem"
# What the states keep of TSB's answers. The folder takes nothing else from there: a key of S3 may
# be `tsb/../../name`, and a copy of it would then lie outside of the folder.
TSB_ANSWER = re.compile(
    r"tsb/(?P<state>create-key|poll-request|store-csr|request-certificate|store-certificate"
    r"|ca-certificate|import-certificate)-(?P<number>[1-9][0-9]?|[0-9a-f]{64})\.json"
)

# Parts of their own, or noted after the outcome was announced, maybe after this is written.
LEFT_OUT_OF_RECORD = ("checks", "certificateChecks", "announced")
type Folder = Mapping[str, bytes]  # parts by their path in the folder


class EvidenceInvalidError(Exception):
    """A folder that does not prove what it says. `part` is the first thing that is wrong."""

    def __init__(self, part: str, why: str) -> None:
        super().__init__(f"{part}: {why}")
        self.part = part


# What reading a part of another form raises. The times in it may be beyond the calendar.
UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError,
              CountersignError)  # fmt: skip


def require(holds: bool, part: str, why: str) -> None:
    """Refuse the folder unless this holds.

    Raises:
        EvidenceInvalidError: it does not.
    """
    if not holds:
        raise EvidenceInvalidError(part, why)


def require_equal(part: str, name: str, one: Any, other: Any) -> None:
    """Refuse a folder in which a part names something otherwise than the others do.

    Raises:
        EvidenceInvalidError: they differ; says both.
    """
    require(one == other, part, f"{name} is {one!r}, and by the other parts {other!r}")


def sha256(body: bytes) -> str:
    """The SHA-256 of a part in hex."""
    return hashlib.sha256(body).hexdigest()


def manifest(parts: Folder) -> bytes:
    """The manifest (RFC 8785) of these parts: a summary, and the SHA-256 of each part."""
    record = read(parts, "record.json")
    content = {
        "type": TYPE,
        "schemaVersion": m.SCHEMA_VERSION,
        "enrollmentId": record["id"],
        "executionArn": record["executionArn"],
        "outcome": record["outcome"],
        "endedAt": record["times"]["ended"],
        "codeVersion": record.get("codeVersion"),
        "parts": {
            name: {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
            for name, body in parts.items()
        },
    }
    whole: bytes = rfc8785.dumps(content)
    return whole


def read(folder: Folder, name: str) -> Any:
    """A part as JSON, as strictly as TSB's answers: no name twice, nothing nested too deeply.

    Raises:
        KeyError: there is no such part.
        ValueError: it is no such JSON.
    """
    return Reply(HTTPStatus.OK, folder[name]).json()


def parts(record: Record, found: Folder, aside: Folder) -> dict[str, bytes]:
    """The parts of the evidence by their path, but for attestation, manifest and signature.

    The record says which there are. Whatever else lies in the bucket is left where it is.

    Args:
        record: the enrollment's.
        found: the objects below its prefix.
        aside: the objects below its prefix in quarantine.

    Raises:
        EvidenceInvalidError: the record has a form that this code does not know.
    """
    try:
        return _parts(record, found, aside)
    except UNREADABLE as error:
        raise unknown_form(error) from None


def unknown_form(error: Exception) -> EvidenceInvalidError:
    """What another release wrote, or something other than the stack."""
    return EvidenceInvalidError(
        "record.json", f"has parts of an unknown form ({type(error).__name__}: {error})"
    )


def _parts(record: Record, found: Folder, aside: Folder) -> dict[str, bytes]:
    parts, own = {"record.json": rfc8785.dumps(_kept(record))}, own_answers(record, found)
    # On record is what was sent; what was accepted, a profile expanded, is each attempt's own.
    accepted = found.get(request_object(record.get("attempt", 1)))
    if accepted is not None and hashlib.sha256(accepted).hexdigest() == record.get(
        "acceptedSha256"
    ):
        parts["request.json"] = accepted
    if "metaDataSha256" in record:
        parts["metadata.json"] = found.get(f"metadata/{record['metaDataSha256']}.json", b"")
        parts["metadata.sig"] = _decoded(record.get("metaDataSignature", ""))
    if "requestId" in csr_step(record):
        keys = public_keys(own, accepted)
        parts["approvers.json"] = rfc8785.dumps(_with_keys(csr_step(record), keys))
    if "checks" in record:
        parts["checks.json"] = rfc8785.dumps(record["checks"])
    parts |= _of_the_certificate(record, found, own)
    parts |= own
    wanted = expected(record)
    places = {
        "request.pem": "request.pem",
        "certificate.pem": "certificate.pem",
        ATTESTATION_CHAIN: chain_object(record.get("attestationChainSha256", "")),
        KEY_CHAIN: chain_object(record.get("keyAttestation", {}).get("chainSha256", "")),
        CA_CHAIN: chain_object(record.get("caAttestation", {}).get("chainSha256", "")),
        CA_ASKED_CHAIN: chain_object(_asked(record).get("chainSha256", "")),
    }
    for name, place in places.items():
        if name in wanted and place in found:
            parts[name] = found[place]
    for name in ("request.pem", "certificate.pem", "findings.json"):
        if f"quarantine/{name}" in wanted and name in aside:
            parts[f"quarantine/{name}"] = aside[name]
    return parts


def _of_the_certificate(record: Record, found: Folder, own: Folder) -> dict[str, bytes]:
    """The parts about the second quorum: what its approvers were shown, and what they said."""
    step, parts = certificate_step(record), dict[str, bytes]()
    if "metaDataSha256" in step:
        parts["certificate-metadata.json"] = found.get(
            f"metadata/{step['metaDataSha256']}.json", b""
        )
        parts["certificate-metadata.sig"] = _decoded(step.get("metaDataSignature", ""))
    if "requestId" in step:
        parts["certificate-approvers.json"] = rfc8785.dumps(_with_keys(step, ca_keys(own)))
    if "certificateChecks" in record:
        parts["certificate-checks.json"] = rfc8785.dumps(record["certificateChecks"])
    return parts


def _asked(record: Record) -> Trusted:
    return record.get("caAttestation", {}).get("asked", {})


def expected(record: Record) -> set[str]:
    """The parts that a folder with this record must have, but for those of TSB and attestation."""
    step, following, aside = (
        csr_step(record),
        certificate_step(record),
        record.get("quarantine", {}),
    )
    is_certificate = str(aside.get("code", "")).startswith("CERTIFICATE_")
    said = {
        "record.json": True,
        # The record is written first. A fault may have ended the enrollment in between.
        "request.json": bool({"publicKeySha256", "metaDataSha256", "checks", "csr"} & record.keys())
        or "requestId" in step,
        "metadata.json": "metaDataSha256" in record,
        "metadata.sig": "metaDataSha256" in record,
        "approvers.json": "requestId" in step,
        "checks.json": "checks" in record,
        ATTESTATION_CHAIN: "attestationChainSha256" in record,
        KEY_CHAIN: "chainSha256" in record.get("keyAttestation", {}),
        CA_CHAIN: "chainSha256" in record.get("caAttestation", {}),
        CA_ASKED_CHAIN: "chainSha256" in _asked(record),
        "request.pem": "csr" in record,
        "certificate-metadata.json": "metaDataSha256" in following,
        "certificate-metadata.sig": "metaDataSha256" in following,
        "certificate-approvers.json": "requestId" in following,
        "certificate-checks.json": "certificateChecks" in record,
        "certificate.pem": "certificate" in record,
        "quarantine/request.pem": "prefix" in aside and not is_certificate,
        "quarantine/certificate.pem": "prefix" in aside and is_certificate,
        "quarantine/findings.json": "prefix" in aside,
    }
    return {name for name, is_expected in said.items() if is_expected}


def attestation(
    answer: KeyAttributes | None, names: tuple[str, str] = ATTESTATION
) -> dict[str, bytes]:
    """The parts that are the HSM's word on a key, as TSB's answer has it, under these names."""
    if answer is None or not answer.xml:
        return {}
    xml, signature = names
    return {xml: answer.xml.encode(), signature: _decoded(answer.xml_signature or "")}


def _kept(record: Record) -> Item:
    kept = {name: one for name, one in record.items() if name not in LEFT_OUT_OF_RECORD}
    if "steps" in record:
        kept["steps"] = {
            step: {name: one for name, one in said.items() if name != "approvers"}
            for step, said in record["steps"].items()
            if isinstance(said, Mapping)
        }
    return kept


def _with_keys(step: Step, keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """Who said what, with the whole public key: fingerprints alone prove nothing to others."""
    return [
        {**one, "publicKey": keys.get(one["spkiSha256"] or "")} for one in step.get("approvers", ())
    ]


def public_keys(folder: Folder, accepted: bytes | None) -> dict[str, str]:
    """Public keys by fingerprint: of those whom TSB's answers name, and of the policy's people.

    Raises:
        InvalidEnrollmentError, ValueError: `accepted` is no request.
    """
    rule = m.EnrollmentRequest.read(json.loads(accepted or b"{}")).key.policy.rule_use
    return _by_fingerprint(folder, rule)


def ca_keys(folder: Folder) -> dict[str, str]:
    """As `public_keys`, of the approvers of the CA's key: its policy is in TSB's answer about it.

    Raises:
        ValueError: the answer has no policy that can be read.
    """
    rules = [
        policy.rule_use
        for answer in answers(folder, "request-certificate", KeyAttributes)
        for policy in [echo.as_policy(answer.key.policy)]
        if policy is not None
    ]
    tokens = tuple(token for rule in rules for token in rule.tokens)
    return _by_fingerprint(folder, m.Rule(tokens=tokens))


def _by_fingerprint(folder: Folder, rule: m.Rule) -> dict[str, str]:
    policy = [
        approver_public_key(one.type, one.value or "")
        for _, one in approvals_of(rule, "")
        if one.type != "onboarded_approver_certificate"
    ]
    named = [
        key
        for answer in answers(folder, "poll-request", RequestStatus)
        for key in (*answer.approved_by, *answer.not_yet_approved_by, *answer.rejected_by)
    ]
    return {digest: key for key in (*named, *policy) if (digest := fingerprint(key))}


def own_answers(record: Record, found: Folder) -> dict[str, bytes]:
    """TSB's answers that belong to what is on record, by their path.

    Of a request the record names the answer that it rests on, and an ended request has one end. So
    another last word is no part of the evidence: it came after the end of the enrollment, a later
    poll read it again, or nobody of the stack has put it there.
    """
    return {
        name: body
        for name, body in found.items()
        if (kept := TSB_ANSWER.fullmatch(name)) and _is_own(record, kept["state"], body)
    }


def _is_own(record: Record, state: str, body: bytes) -> bool:
    executed = TsbStatus.EXECUTED
    match state:
        case "poll-request":
            return _is_of_a_request(record, body)
        case "store-csr":
            return csr_step(record).get("status") == executed
        case "request-certificate":
            return wants_certificate(record)
        case "store-certificate" | "ca-certificate":
            return certificate_step(record).get("status") == executed
        case "import-certificate":
            return "certificate" in record
    return "keyLabel" in record


def _is_of_a_request(record: Record, body: bytes) -> bool:
    """Whether an answer is about a request on record, and its last word the one on record."""
    try:
        answer = RequestStatus.read(Reply(HTTPStatus.OK, body))
    except ValueError:
        return False
    for step in (csr_step(record), certificate_step(record)):
        if answer.id == step.get("requestId"):
            is_open = answer.status in frozenset(TsbStatus) - ENDED_AT_TSB
            # An older release named none.
            return is_open or (
                answer.sha256 == step.get("answerSha256", answer.sha256)
                and answer.status == step.get("status")
            )
    aside = record.get("quarantine", {})
    return "prefix" not in aside and aside.get("code") in OTHER_REQUEST.values()


def answers[A: Answer](folder: Folder, state: str, form: type[A]) -> list[A]:
    """TSB's kept answers in a state, newest first. What cannot be read is no answer of TSB.

    One that is named for its SHA-256 came when all numbers were taken.
    """
    found: dict[tuple[int, str], A] = {}
    for name, body in folder.items():
        kept = TSB_ANSWER.fullmatch(name)
        if kept and kept["state"] == state:
            with suppress(ValueError):
                number = kept["number"]
                found[len(number), number] = form.read(Reply(HTTPStatus.OK, body))
    return [found[number] for number in sorted(found, reverse=True)]


def _decoded(signature: str) -> bytes:
    """The bytes of a signature; empty if it is none."""
    try:
        return base64.b64decode(signature, validate=True)
    except ValueError:
        return b""
