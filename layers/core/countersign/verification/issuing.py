"""A CA's key and what it signed: whether it can sign what is asked for, and whether it did.

Before anybody is asked the first question is put, after TSB has signed the second. What is read of
the CA's key is TSB's answer then, not what this product remembers.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import rfc8785

from countersign import der
from countersign import models as m
from countersign.algorithms import SIGNATURES
from countersign.policy.rules import executable
from countersign.record import CaAttestation, certificate_step, trusted
from countersign.spki import fingerprint
from countersign.tsb.models import CertificateOfKey, KeyAttributes
from countersign.verification import attestation, certificate, checks, csr, echo, pkix
from countersign.verification.attestation import Trust
from countersign.verification.certificate import Asked, Certificate

OWN_CHECKS = ("CERTIFICATE_REQUEST_ID", "CERTIFICATE_CA_KEY", "CERTIFICATE_CA_ATTESTATION",
              "CERTIFICATE_CA_POLICY", "CERTIFICATE_CA")  # fmt: skip
DEFAULT_SIGNATURES = {
    "RSA": "SHA256_WITH_RSA",
    "EC": "SHA256_WITH_ECDSA",
    "ED": "EDDSA",
}


class CaKey(NamedTuple):
    """A CA's key that can be used under a policy, and the CA's own certificate.

    Args:
        answer: TSB's, about the key.
        policy: whose approval its use needs.
        certificate: the one that TSB holds for it.
        verified_at: when the HSM's attestation was verified.
    """

    answer: KeyAttributes
    policy: m.Policy
    certificate: Certificate
    verified_at: datetime

    @property
    def public_key(self) -> bytes:
        """The DER SubjectPublicKeyInfo, as the HSM reports it."""
        return base64.b64decode(self.answer.key.public_key)


def policy_of(
    answer: KeyAttributes,
    label: str,
    trust: Trust,
    *,
    now: datetime,
    ahead: timedelta = timedelta(),
) -> m.Policy | None:
    """A CA key's policy; None if nobody is asked before it signs.

    Args:
        answer: TSB's.
        label: the CA key's.
        trust: which attestations are trusted.
        now: when the answer arrived. An earlier attestation may be of another policy.
        ahead: of our clock is the HSM's, as far as that is known.

    Raises:
        ValueError: it is not to be believed, or cannot be read; says why.
    """
    if answer.key.label != label:
        raise ValueError("TSB answers about another key")
    said = attestation.attested(answer, trust, label=label, now=now, ahead=ahead)
    policy = None if answer.key.policy is None else echo.read(answer.key.policy)
    if said is not None and said.policy != policy:
        raise ValueError("its policy in TSB's answer is another one than the HSM attests")
    return None if policy is None else echo.as_policy(answer.key.policy)


def read(
    answer: KeyAttributes, held: CertificateOfKey, label: str, trust: Trust, *, now: datetime
) -> CaKey:
    """The CA's key in TSB's two answers.

    Raises:
        ValueError: it cannot be used, or is not to be believed; says why.
    """
    policy = policy_of(answer, label, trust, now=now)
    if policy is None:
        raise ValueError("asks nobody before it signs; its certificates would need no approval")
    if held.label != label:
        raise ValueError("TSB answers with the certificate of another key")
    try:
        return CaKey(answer, policy, certificate.parse(held.der), now)
    except ValueError as error:
        raise ValueError(f"its certificate {error}") from None


def why_not(ca: CaKey, requested: m.EnrollmentRequest, *, now: datetime) -> str | None:
    """Why this key cannot sign what is asked for now; None if it can.

    Args:
        ca: the CA's key.
        requested: the accepted request, which asks for a certificate.
        now: the moment at which it would sign at the earliest.
    """
    asked = requested.certificate
    assert asked is not None  # noqa: S101  for the type checker  # nosec B101
    key, ends = ca.answer.key, ca.certificate.ends
    unfit = certificate.unfit_ca(ca.certificate, ca.public_key, now)
    algorithm = signature_algorithm(asked, key.algorithm)
    rules = (
        (unfit is not None, f"its certificate {unfit}"),
        (
            asked.certificate_authority and not _may_issue_cas(ca.certificate),
            "its certificate leaves no room for another CA below it (path length 0)",
        ),
        (
            now + timedelta(days=asked.validity) > ends,
            f"its certificate ends at {ends:%Y-%m-%dT%H:%M:%SZ}, before {asked.validity} days"
            " are over",
        ),
        (key.attributes.get("sign") is not True, "may not sign (attribute sign)"),
        (ca.policy.key_status.blocked, "is blocked"),
        (
            not any(executable(token) for token in ca.policy.rule_use.tokens),
            "has a use rule that can never be fulfilled",
        ),
        (
            algorithm not in SIGNATURES.get(key.algorithm, ()),
            f"cannot make {algorithm or 'any signature'}: it is of algorithm {key.algorithm}",
        ),
    )
    return next((why for holds, why in rules if holds), None)


def _may_issue_cas(ca: Certificate) -> bool:
    try:
        return certificate.may_issue_cas(ca)
    except der.DerError:
        return False


def signature_algorithm(asked: m.CertificateRequest, key_algorithm: str) -> str:
    """The algorithm that is asked for: the request's, else SHA-256 as the key can make it."""
    return asked.signature_algorithm or DEFAULT_SIGNATURES.get(key_algorithm, "")


def policy_sha256(answer: KeyAttributes) -> str:
    """A hash of what a key's policy means, whatever the order and the names in it.

    Raises:
        ValueError: it has none that can be read.
    """
    rules = echo.read(answer.key.policy).rules
    text: bytes = rfc8785.dumps({name: _plain(rule) for name, rule in rules.items()})
    return hashlib.sha256(text).hexdigest()


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


# After it has signed ------------------------------------------------------------------------------


class Signed(NamedTuple):
    """The result of an executed request for a certificate. None of it is trusted yet.

    Args:
        requested: the accepted request.
        request_id: TSB's id of the executed request.
        pem: the certificate.
        csr_pem: the verified CSR.
        answer: the CA's key as the HSM reports it now.
        held: the certificate that TSB holds for the CA's key now.
        record: the enrollment's: the CA's key as its approvers were asked, and who approved.
    """

    requested: m.EnrollmentRequest
    request_id: str
    pem: str
    csr_pem: str
    answer: KeyAttributes
    held: CertificateOfKey
    record: Mapping[str, Any]


class Verified(NamedTuple):
    """The checks, the most important first, and the two certificates (None: it is none)."""

    checks: tuple[m.Check, ...]
    certificate: Certificate | None
    ca: Certificate | None

    @property
    def failed(self) -> m.Check | None:
        """The first check that failed."""
        return next((check for check in self.checks if check.result == "failed"), None)

    @property
    def chain(self) -> str:
        """The certificate, then the CA's, in PEM."""
        return "".join(one.pem for one in (self.certificate, self.ca) if one is not None)


def verify(signed: Signed, trust: Trust, *, now: datetime) -> Verified:
    """Make every comparison. It raises nothing, whatever the result is.

    Args:
        signed: see `Signed`.
        trust: which attestations are trusted.
        now: when the attestation chain must be valid; and the certificates, where TSB does not say
            when it signed.
    """
    asked, step = signed.requested.certificate, certificate_step(signed.record)
    assert asked is not None  # noqa: S101  for the type checker  # nosec B101
    executed = step.get("times", {}).get("executed")
    skew = timedelta(seconds=int(signed.record.get("clockSkewSeconds", 0)))
    made_at = datetime.fromisoformat(executed) - skew if executed else now
    policy, said = None, {code: list[str]() for code in OWN_CHECKS}
    if step.get("requestId") != signed.request_id:
        said["CERTIFICATE_REQUEST_ID"] = [
            f"TSB executed request {signed.request_id}, on record is {step.get('requestId')}"
        ]
    if fingerprint(signed.answer.key.public_key) != step.get("publicKeySha256"):
        said["CERTIFICATE_CA_KEY"] = ["the CA's key is another one than its approvers were asked"]
    try:
        policy = policy_of(signed.answer, asked.ca_key_label, trust, now=now, ahead=skew)
    except ValueError as error:
        said["CERTIFICATE_CA_ATTESTATION"] = [f"the CA's key: {error}"]
    try:
        same = policy_sha256(signed.answer) == step.get("policySha256")
    except ValueError:
        same = False
    if not same:
        said["CERTIFICATE_CA_POLICY"] = ["the CA key's policy is another one than was asked under"]
    ca, unfit = _ca(signed, asked.ca_key_label, made_at)
    said["CERTIFICATE_CA"] = [f"the CA's certificate {unfit}"] if unfit else []
    compared = None
    if ca is not None and unfit is None:
        compared = Asked(
            requested=asked,
            csr_request=signed.requested.csr,
            csr=csr.read(signed.csr_pem),
            ca=ca,
            ca_public_key=base64.b64decode(signed.answer.key.public_key),
            signature_algorithm=step.get("signatureAlgorithm", ""),
            made_at=made_at,
            usages_omitted=bool(signed.record.get("usagesOmitted")),
        )
    found, compared_checks = certificate.check(signed.pem, compared)
    approvers = [m.Approver.read(one) for one in step.get("approvers", ())]
    return Verified(
        checks=(
            *(_own(code, findings, trust) for code, findings in said.items()),
            *compared_checks,
            *_approvals(policy, signed.answer, approvers),
        ),
        certificate=found,
        ca=ca,
    )


def _ca(signed: Signed, label: str, moment: datetime) -> tuple[Certificate | None, str | None]:
    """The CA's certificate, and why it is of no use."""
    if signed.held.label != label:
        return None, "in TSB's answer is another key's"
    try:
        ca = certificate.parse(signed.held.der)
    except ValueError as error:
        return None, str(error)
    public_key = base64.b64decode(signed.answer.key.public_key)
    return ca, certificate.unfit_ca(ca, public_key, moment)


def _own(code: str, findings: list[str], trust: Trust) -> m.Check:
    if findings:
        return m.Check(code=code, result="failed", field="caKey", finding="; ".join(findings))
    if code == "CERTIFICATE_CA_ATTESTATION" and not trust.root_sha256:
        return m.Check(code=code, result="skipped", finding="no attestation root is configured")
    return m.Check(code=code)


def _approvals(
    policy: m.Policy | None, answer: KeyAttributes, approvers: list[m.Approver]
) -> list[m.Check]:
    if policy is None:
        return [m.Check(code=f"CERTIFICATE_{code}", result="skipped") for code in checks.APPROVALS]
    found = checks.approval_checks(
        policy,
        [one for one in approvers if one.decision == "approved"],
        onboarded=echo.read(answer.key.policy).onboarded(policy),
    )
    return [one.model_copy(update={"code": f"CERTIFICATE_{one.code}"}) for one in found]


def attestation_on_record(
    trust: Trust, chain: str | None, at: str, *, asked: CaAttestation | None = None
) -> CaAttestation:
    """How the HSM's word on the CA's key was verified, as it goes on record.

    Args:
        trust: by which it was.
        chain: the SHA-256 of the chain that is kept; None: there was none.
        at: when.
        asked: what RequestCertificate has put on record, if it did.
    """
    now = trusted(trust.root_sha256, chain)
    before = asked and asked.get("asked", trusted(asked["root"], asked.get("chainSha256")))
    return {
        **now,
        **({"asked": before} if before and before != now else {}),
        "maxClockSkewSeconds": int(trust.clock_skew.total_seconds()),
        "at": at,
    }


def subject(found: Certificate) -> str:
    """The certificate's subject in RFC 4514 form."""
    return pkix.described(found.name)
