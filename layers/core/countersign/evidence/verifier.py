"""Verifies evidence years later, without AWS and without the HSM."""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from countersign import models as m
from countersign import spki, texts
from countersign.evidence import bundle, findings
from countersign.evidence.bundle import MANIFEST, SIGNATURE, EvidenceInvalidError, Folder, require
from countersign.evidence.proof import prove
from countersign.evidence.proven import Proven
from countersign.policy import approvers, summary
from countersign.record import (
    ENDED_AT_TSB,
    Record,
    Step,
    TsbStatus,
    approvers_asked,
    certificate_step,
    csr_step,
)
from countersign.tsb.models import KeyAttributes
from countersign.verification import attestation_xml
from countersign.verification.certificate import Certificate
from countersign.verification.pkix import described

DECISIONS = ("approved", "declined", "outstanding")  # of a key that TSB lists
type PublicKey = ec.EllipticCurvePublicKey


class UnusableKeyError(ValueError):
    """What was given as the stack's public key is none. That says nothing about the evidence."""


class Verified(NamedTuple):
    """What a folder proves, for people: name and value of each fact."""

    facts: dict[str, str]


def verify(
    folder: Folder,
    key: bytes,
    *,
    attestation_roots: Collection[str] = (),
    ca_certificate: str | None = None,
) -> Verified:
    """Verify everything that a folder says, without AWS, HSM or credentials.

    Args:
        folder: its files by their path.
        key: the public key of the stack that kept the evidence, or a certificate of it; PEM or DER.
        attestation_roots: SHA-256 (hex) of the HSM maker's root certificate, or of each that the
            stack has trusted meanwhile; none: those on record.
        ca_certificate: SHA-256 (hex) of the CA's certificate that must have issued; None: the one
            that TSB answered.

    Raises:
        EvidenceInvalidError: names the first thing that is wrong.
        UnusableKeyError: `key` is no such key.
    """
    public = public_key(key)
    listed = _manifest(folder, public)
    _require_parts(folder, listed)
    parts = {name: body for name, body in folder.items() if name not in (MANIFEST, SIGNATURE)}
    named = (*bundle.ATTESTATION, *bundle.CA_ATTESTATION)
    proven = prove({name: body for name, body in parts.items() if name not in named})
    _require_attestation(parts, attestations(proven))
    require_findings(proven)
    require_shown(parts, public)
    # From its parts, so it can say nothing else than they do.
    is_derived = bundle.manifest(parts) == folder[MANIFEST]
    require(is_derived, MANIFEST, "says something else than its parts")
    for part, root in roots(proven.record) if proven.about_key and attestation_roots else ():
        said = f"the root that was believed is sha256:{root}" if root else "no root was believed"
        require(root in attestation_roots, part, said)
    if ca_certificate is not None:
        require("certificate" in proven.record, "record.json", "no certificate was issued")
        require(_issuer(proven) == ca_certificate, "certificate.pem", "is not this CA's")
    compared = bool(attestation_roots)
    return Verified(_facts(proven, len(parts), fingerprint(public), is_compared=compared))


def require_shown(parts: Folder, key: PublicKey) -> None:
    """Refuse the folder unless the stack has signed what the approvers were shown.

    Raises:
        EvidenceInvalidError: it has not.
    """
    for name in ("metadata", "certificate-metadata"):
        shown, signature = f"{name}.json", f"{name}.sig"
        if shown in parts:
            is_signed = signed(key, parts[shown], parts[signature])
            require(is_signed, signature, f"is no signature of this key over {shown}")


def require_findings(proven: Proven) -> None:
    """Refuse the folder unless its findings are what the linter can have found.

    Raises:
        EvidenceInvalidError: names what it cannot have found.
    """
    try:
        for why in findings.contradictions(proven):
            require(False, "record.json", why)
    except bundle.UNREADABLE as error:
        raise bundle.unknown_form(error) from None


def attestations(proven: Proven) -> dict[str, bytes]:
    """The parts that are the HSM's word on the key, and on the CA's."""
    about_ca = proven.second.about_ca if proven.second else None
    return bundle.attestation(proven.about_key) | bundle.attestation(
        about_ca, bundle.CA_ATTESTATION
    )


def roots(record: Record) -> list[tuple[str, str]]:
    """The attestation roots that were believed, by the parts of their chains; an empty text: none.

    Of the key when it was made, where that is told apart, and in the end; then the same of the CA's
    key. The last one is what was trusted last.
    """
    said, ca = record.get("attestationRoot", ""), record.get("caAttestation", {})
    before, asked = record.get("keyAttestation"), ca.get("asked")
    believed = [(bundle.KEY_CHAIN, before["root"])] if before else []
    believed.append((bundle.ATTESTATION_CHAIN, said))
    if "policy" in certificate_step(record):
        believed += [(bundle.CA_ASKED_CHAIN, asked["root"])] if asked else []
        believed.append((bundle.CA_CHAIN, ca.get("root", "")))
    return believed


def public_key(content: bytes) -> PublicKey:
    """The stack's public key, from PEM or DER, bare or in a certificate.

    Raises:
        UnusableKeyError: it is none.
    """
    for read in (
        load_pem_public_key,
        load_der_public_key,
        lambda pem: x509.load_pem_x509_certificate(pem).public_key(),
        lambda der: x509.load_der_x509_certificate(der).public_key(),
    ):
        try:
            key = read(content)
        except (ValueError, UnsupportedAlgorithm):
            continue
        if isinstance(key, ec.EllipticCurvePublicKey):
            return key
        raise UnusableKeyError("is a public key of another kind; the stack's is EC (NIST P-256)")
    if b"PRIVATE KEY-----" in content:
        raise UnusableKeyError("is a private key; the stack's public key is wanted")
    raise UnusableKeyError("is no public key and no certificate, in PEM or DER")


def signed(key: PublicKey, content: bytes, signature: bytes) -> bool:
    """Whether the stack has signed this: ECDSA with SHA-256."""
    try:
        key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def fingerprint(key: PublicKey) -> str:
    """SHA-256 (hex) of the key's DER."""
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def _manifest(folder: Folder, key: PublicKey) -> Mapping[str, Any]:
    """The parts that the manifest lists, once its signature is known to be the stack's."""
    for name in (MANIFEST, SIGNATURE):
        require(name in folder, name, "is missing")
    if not signed(key, folder[MANIFEST], folder[SIGNATURE]):
        # The manifest is computed from the parts, so it is clear which of the two was changed.
        parts = {name: body for name, body in folder.items() if name not in (MANIFEST, SIGNATURE)}
        try:
            genuine = bundle.manifest(parts) == folder[MANIFEST]
        except bundle.UNREADABLE:
            genuine = False
        if genuine:
            raise EvidenceInvalidError(SIGNATURE, f"is no signature of this key over {MANIFEST}")
        raise EvidenceInvalidError(MANIFEST, f"is not what {SIGNATURE} signs")
    try:
        said: dict[str, Any] = bundle.read(folder, MANIFEST)
        known = (said["type"], said["schemaVersion"]) == (bundle.TYPE, m.SCHEMA_VERSION)
        listed: Mapping[str, Any] = {name: one["sha256"] for name, one in said["parts"].items()}
    except bundle.UNREADABLE:
        known, listed = False, {}
    require(known, MANIFEST, "is of a kind or version that this program does not know")
    return listed


def _require_parts(folder: Folder, listed: Mapping[str, Any]) -> None:
    for name, digest in sorted(listed.items()):
        require(name in folder, name, "is missing")
        is_same = hashlib.sha256(folder[name]).hexdigest() == digest
        require(is_same, name, f"was changed since {MANIFEST} was signed")
    for name in sorted(folder.keys() - listed.keys() - {MANIFEST, SIGNATURE}):
        raise EvidenceInvalidError(name, f"is not in {MANIFEST}: it was added")


def _require_attestation(parts: Folder, attested: Folder) -> None:
    for name in (*bundle.ATTESTATION, *bundle.CA_ATTESTATION):
        require(name in attested or name not in parts, name, "is in no answer about the key")
        require(name in parts or name not in attested, name, "is missing")
        require(parts.get(name) == attested.get(name), name, "is not what TSB answered")


def _issuer(proven: Proven) -> str | None:
    """SHA-256 of the CA's certificate below which a certificate was issued."""
    verified = proven.second.verified if proven.second else None
    return verified.ca.sha256 if verified and verified.ca else None


# For people ---------------------------------------------------------------------------------------


def _facts(proven: Proven, number: int, signer: str, *, is_compared: bool) -> dict[str, str]:
    """What an auditor asks, in the order of the questions: who, why, which key, who agreed."""
    record = proven.record
    facts = {
        "enrollment": record["id"],
        "outcome": record["outcome"],
        **_failure(proven),
        "requested by": _requester(m.Origin.read(record["origin"])),
        **_asked(proven),
        **_agreed(proven),
        **_times(proven),
        **_result(proven),
        **_certificate(proven),
        "roots": _roots(proven, is_compared=is_compared),
        "findings": _findings(proven) if proven.requested else "",
        "kept by": f"release {record.get('codeVersion') or 'unknown'}",
        "parts": f"{number} files, each as its SHA-256 says",
        "signed by": f"key sha256:{signer}",
    }
    return {name: value for name, value in facts.items() if value}


def _failure(proven: Proven) -> dict[str, str]:
    error, aside = proven.record.get("error"), proven.record.get("quarantine")
    cancel = proven.record.get("cancel")
    return {
        **({"error": f"{error['name']}: {error['message']}"} if error else {}),
        **({"quarantined": aside["code"]} if aside else {}),
        **({"cancelled by": f"{cancel['by']}, {cancel['at']}"} if cancel else {}),
    }


def _requester(origin: m.Origin) -> str:
    through = f"trigger {origin.trigger}" + (f", {origin.id}" if origin.id else "")
    return f"{origin.requester or 'unknown'} ({through})"


def _asked(proven: Proven) -> dict[str, str]:
    requested, record = proven.requested, proven.record
    if requested is None:
        return {"request": "never accepted, or not carried out"}
    digest, discards = record.get("publicKeySha256"), record.get("discards", 0)
    gone = f"none is left: {discards} made and deleted" if discards else "none was made"
    return {
        "reason": requested.reason or "none given",
        "request": f"sha256:{record['acceptedSha256']}, {_shown(record)}",
        "profile": requested.profile or "",
        "key": f"{requested.key.label}, {summary.key(requested)}",
        "public key": f"sha256:{digest}" if digest else gone,
        "policy": _policy(m.PolicySummary.read(record["policy"])),
    }


def _shown(record: Record) -> str:
    """Whether the approvers saw the request: RequestCsr signs before it asks."""
    if "requestId" in csr_step(record):
        return "shown to the approvers"
    # A discarded key's request may have been there, too.
    was_signed = "metaDataSha256" in record
    if approvers_asked(record) or (was_signed and record.get("discards", 0)):
        return "whether the approvers saw it is unknown"
    return "shown to nobody"


def _roots(proven: Proven, *, is_compared: bool) -> str:
    """Who says that these roots are the HSM maker's."""
    believed = [root for _, root in roots(proven.record)] if proven.about_key else []
    if not any(believed):
        return "nothing is attested that could be compared" if is_compared else ""
    return "as given" if is_compared else "the stack's word: compare with --attestation-root"


def _findings(proven: Proven) -> str:
    said = [*proven.record.get("findings", ()), *proven.record.get("caFindings", ())]
    waived = [f"{one['code']} ({one['waiver']})" for one in said if one.get("waiver")]
    believed = findings.of_the_stack(proven)
    parts = (
        ", ".join(dict.fromkeys(one["code"] for one in said)) or "none",
        f"waived: {', '.join(waived)}" if waived else "",
        f"by the stack's word: {', '.join(believed)}" if believed else "",
    )
    return "; ".join(one for one in parts if one)


def _policy(rule: m.PolicySummary) -> str:
    return " or ".join(
        " and ".join(
            f"{group.quorum} of {', '.join(map(texts.quoted, group.approvers))}"
            for group in token.groups
        )
        or "nobody has to agree"
        for token in rule.tokens
    )


def _agreed(proven: Proven) -> dict[str, str]:
    policy = proven.requested.key.policy if proven.requested else None
    return _decisions(proven.approvers, policy)


def _decisions(
    decided: tuple[m.Approver, ...] | None, policy: m.Policy | None, prefix: str = ""
) -> dict[str, str]:
    if decided is None:
        return {f"{prefix}agreed": "unknown: TSB's last answer about the approvals was not kept"}
    if not decided or policy is None:
        return {f"{prefix}agreed": "nobody was asked, as far as is known"}
    asked = approvers.approvers(policy, {})
    named, others = decided[: len(asked)], decided[len(asked) :]
    # TSB lists keys. Whose key an onboarded approver has, only TSB knows.
    hidden = sum(one.spki_sha256 is None for one in asked)
    agreed = len(_who(named, "approved")) + min(len(_who(others, "approved")), hidden)
    return {
        f"{prefix}agreed": f"{agreed} of {len(asked)} who were asked",
        f"{prefix}approved by": ", ".join(_who(named, "approved")),
        f"{prefix}declined by": ", ".join(_who(named, "declined")),
        f"{prefix}keys not in the policy": ", ".join(
            f"{one}: {decision}" for decision in DECISIONS for one in _who(others, decision)
        ),
    }


def _who(decided: tuple[m.Approver, ...], decision: str) -> list[str]:
    return [
        f"{texts.quoted(one.name)} (key sha256:{(one.spki_sha256 or 'unknown')[:16]})"
        for one in decided
        if one.decision == decision
    ]


def _times(proven: Proven) -> dict[str, str]:
    times, asked = proven.record["times"], csr_step(proven.record).get("times", {})
    named = {
        "accepted": times.get("accepted"),
        "asked": asked.get("requested"),
        "executed": asked.get("executed"),
        "ended": times["ended"],
    }
    # TSB does not say when each of them agreed: it was after they were asked, and before this.
    said = {"times": ", ".join(f"{name} {time}" for name, time in named.items() if time)}
    return said | _last_word(csr_step(proven.record))


def _last_word(step: Step, prefix: str = "") -> dict[str, str]:
    """How a request ended at the TSB, whatever became of the enrollment.

    And that it expired too early by the stack's clock. TSB's may be ahead.
    """
    times, status = step.get("times", {}), step.get("status", "")
    if status not in ENDED_AT_TSB:
        return {}
    read, ends = times["nextPoll"], times.get("windowEnds")
    said = {f"{prefix}last word": f"TSB says {status}, read at {read}"}
    if status != TsbStatus.EXPIRED or not ends or read >= ends:
        return said
    early = f"until {ends}; TSB let it expire before, at the latest at {read}"
    return said | {f"{prefix}window": early}


def _result(proven: Proven) -> dict[str, str]:
    verified, root = proven.verified, proven.record.get("attestationRoot")
    digest = proven.record.get("publicKeySha256")
    before = proven.record.get("keyAttestation", {}).get("root", "")
    by_root = (f", root sha256:{root}" if root else "") + _before("made", before, root)
    if verified is None:
        attested = ("verified" if root else "unverified") + by_root
        attested += "" if proven.about_key else ": no key is left"
        return {
            "CSR": "none was verified",
            **({"attestation": attested} if proven.requested else {}),
            "attested": _attested(proven.about_key, digest),
        }
    about, failed = verified.csr, verified.failed
    said = f"{failed.code}: {failed.finding}" if failed else "all passed, made again"
    issued = "" if "csr" in proven.record else "; not issued"
    return {
        "CSR": (f"sha256:{about.sha256}, {about.subject}, {about.key}" if about else "none")
        + issued,
        "checks": f"{len(verified.checks)}, {said}",
        "attestation": verified.attestation + by_root,
        "attested": "" if verified.attestation == "failed" else _attested(proven.about_key, digest),
    }


def _before(when: str, before: str, root: str | None) -> str:
    """The root by which a key was believed before, where that was another one."""
    is_other = before != (root or "") and bool(before)
    return f"; when it was {when}, by root sha256:{before}" if is_other else ""


def _attested(answer: KeyAttributes | None, digest: str | None) -> str:
    """When the HSM attested this very key, and how often it had been used by then."""
    try:
        said = attestation_xml.read((answer and answer.xml) or "")
        is_about = spki.fingerprint(said.public_key) == digest
    except ValueError:
        return ""
    if not is_about:
        return ""
    at = m.timestamp(said.at) if said.at else "at no known time"
    used = "once" if said.uses == "1" else f"{said.uses} times"
    return at + (f", when the key had been used {used}" if said.uses.isdigit() else "")


def _certificate(proven: Proven) -> dict[str, str]:
    """The second quorum, and the chain from its approvals to the certificate."""
    record, second = proven.record, proven.second
    if second is None:
        return {}
    step, verified = certificate_step(record), second.verified
    times = step.get("times", {})
    facts = {
        "CA key": f"{step['caKeyLabel']}, sha256:{step['publicKeySha256']}",
        "CA policy": _policy(m.PolicySummary.read(step["policy"])),
        **_decisions(second.approvers, second.policy, "CA "),
        "CA times": ", ".join(
            f"{name} {time}"
            for name, time in (
                ("asked", times.get("requested")),
                ("executed", times.get("executed")),
            )
            if time
        ),
        **_last_word(step, "CA "),
    }
    ca_attestation = record.get("caAttestation", {})
    root, before = ca_attestation.get("root"), ca_attestation.get("asked", {}).get("root", "")
    is_bad = verified is not None and "CERTIFICATE_CA_ATTESTATION" in {
        one.code for one in verified.checks if one.result == "failed"
    }
    facts |= {
        "CA attestation": ("failed, " if is_bad else "")
        + (f"root sha256:{root}" if root else "unverified")
        + _before("asked for", before, root),
        "CA attested": "" if is_bad else _attested(second.about_ca, step["publicKeySha256"]),
    }
    if verified is None:
        return facts | {"certificate": "none was verified"}
    found, ca, failed = verified.certificate, verified.ca, verified.failed
    said = f"{failed.code}: {failed.finding}" if failed else "all passed, made again"
    is_issued = "certificate" in record
    return facts | {
        "certificate": (
            f"sha256:{found.sha256}, {described(found.name)}, until {m.timestamp(found.ends)}"
            if found
            else "none"
        )
        + ("" if is_issued else "; not issued"),
        "issued by": _described_ca(ca) if ca and is_issued else "",
        "certificate checks": f"{len(verified.checks)}, {said}",
        "imported": _import(proven) if is_issued else "",
    }


def _import(proven: Proven) -> str:
    """What became of the import: what TSB has shown, whatever the record still says."""
    said = proven.record.get("imported")
    asked = proven.requested.certificate if proven.requested else None
    if said is None:
        is_asked = asked is not None and asked.import_
        return "asked for, and nothing is known of it" if is_asked else "not asked for"
    is_shown = proven.second is not None and proven.second.is_at_key
    shown = "; TSB has shown it at the key" if is_shown and said["result"] == "started" else ""
    return f"{said['result']} at {said['at']}{shown}"


def _described_ca(ca: Certificate) -> str:
    """The CA's certificate, and whether anybody can see who signed it."""
    signed = (
        "signed by its own key"
        if ca.self_issued
        else f"signed by {described(ca.issuer_name)}, which was not verified"
    )
    return f"{described(ca.name)}, sha256:{ca.sha256}, {signed}"
