"""The HSM's keys: real ones, with their attributes, their policy and the HSM's word on them."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import NameOID

from local.tsb_simulator.attestation import Attestation, Layout, write_xml
from local.tsb_simulator.bodies import ApprovalBody
from local.tsb_simulator.clock import iso
from local.tsb_simulator.errors import TsbError
from local.tsb_simulator.policy import Group, Rule, Token

if TYPE_CHECKING:
    from local.tsb_simulator.bodies import CreateKeyBody, RuleBody, RulesBody
    from local.tsb_simulator.switches import Switches

type PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
type PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

ALGORITHM_OIDS = {
    "RSA": "1.2.840.113549.1.1.1",
    "EC": "1.2.840.10045.2.1",
    "ED": "1.3.101.112",
}
ED25519 = "1.3.101.112"
CURVES: dict[str, ec.EllipticCurve] = {
    "1.3.132.0.33": ec.SECP224R1(),
    "1.3.132.0.10": ec.SECP256K1(),
    "1.2.840.10045.3.1.7": ec.SECP256R1(),
    "1.3.132.0.34": ec.SECP384R1(),
    "1.3.132.0.35": ec.SECP521R1(),
    "1.3.36.3.3.2.8.1.1.7": ec.BrainpoolP256R1(),
    "1.3.36.3.3.2.8.1.1.11": ec.BrainpoolP384R1(),
    "1.3.36.3.3.2.8.1.1.13": ec.BrainpoolP512R1(),
}
TIME_STEP = 60
RULES = ("rule_use", "rule_block", "rule_unblock", "rule_modify")
ARMOUR = re.compile(r"-----(BEGIN|END) [A-Z ]+-----")
HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "SHA-224": hashes.SHA224,
    "SHA-256": hashes.SHA256,
    "SHA-384": hashes.SHA384,
    "SHA-512": hashes.SHA512,
    "SHA3-224": hashes.SHA3_224,
    "SHA3-256": hashes.SHA3_256,
    "SHA3-384": hashes.SHA3_384,
    "SHA3-512": hashes.SHA3_512,
}


@dataclass(frozen=True)
class Rules:
    """Whose approval each operation needs; None: nobody's."""

    use: Rule | None = None
    block: Rule | None = None
    unblock: Rule | None = None
    modify: Rule | None = None


@dataclass
class HsmKey:
    """A key in the HSM. `rules` is what the policy means; `policy` is as posted, and as the HSM
    changed it since. A key without a policy never gets one.
    """

    label: str
    password: str | None
    algorithm: str
    curve_oid: str | None
    key_size: int
    attributes: dict[str, bool]
    policy: dict[str, Any] | None
    rules: Rules
    blocked: bool
    private: PrivateKey = field(repr=False)
    created: float
    pkcs11_id: str | None = None
    certificate: bytes | None = None
    deleted: bool = False
    was_extractable: bool = False
    uses: int = 0

    @property
    def spki(self) -> bytes:
        """DER SubjectPublicKeyInfo."""
        return spki(self.private.public_key())

    def require_password(self, given: str | None) -> None:
        """Refuse a wrong key password (620)."""
        if self.password != given:
            raise TsbError(620, f"Key password mismatch for key '{self.label}'.")


def spki(key: PublicKey) -> bytes:
    """The DER SubjectPublicKeyInfo of a key."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def create(body: CreateKeyBody, now: float, switches: Switches) -> HsmKey:
    """Make a key as `POST /v1/key` asks.

    Raises:
        TsbError: 600 to 610 for what the HSM cannot or must not make.
    """
    if not body.label or len(body.label.encode()) > switches.label_max_length:
        raise TsbError(610, "The key name is not valid.")
    given = body.attributes.model_dump(by_alias=True)
    _check_attributes(given, body.policy is not None)
    rules = Rules() if body.policy is None else read_rules(body.policy, switches)
    private, size = _generate(body, switches)
    return HsmKey(
        label=body.label,
        password=body.password,
        algorithm=_algorithm(body),
        curve_oid=_curve_oid(body, switches),
        key_size=size,
        attributes={name: bool(value) for name, value in given.items()},
        policy=None if body.policy is None else echoed(body.policy, switches),
        rules=rules,
        blocked=bool(body.policy and body.policy.key_status.blocked),
        private=private,
        created=now,
        pkcs11_id=body.id,
    )


def _algorithm(body: CreateKeyBody) -> str:
    by_oid = {oid: name for name, oid in ALGORITHM_OIDS.items()}
    name = body.algorithm or by_oid.get(body.algorithm_oid or "", "")
    if name not in ALGORITHM_OIDS:
        raise TsbError(600, "Value is not valid for field algorithm (asymmetric keys only here).")
    return name


def _curve_oid(body: CreateKeyBody, switches: Switches) -> str | None:
    """What the HSM reports as the key's curve."""
    if _algorithm(body) == "EC":
        return body.curve_oid
    reported = _algorithm(body) == "ED" and switches.ed_curve_oid == "reported"
    return ED25519 if reported else None


def generate_rsa(bits: int) -> rsa.RSAPrivateKey:
    """A fresh RSA key; it takes a while."""
    return rsa.generate_private_key(65537, bits)


def _generate(body: CreateKeyBody, switches: Switches) -> tuple[PrivateKey, int]:
    match _algorithm(body):
        case "RSA":
            if body.key_size not in switches.rsa_key_sizes:
                raise TsbError(603, f"Key size {body.key_size} is not supported for RSA.")
            return generate_rsa(body.key_size), body.key_size
        case "EC":
            curve = CURVES.get(body.curve_oid or "")
            if curve is None:
                raise TsbError(600, f"Value '{body.curve_oid}' is not valid for field curveOid.")
            return ec.generate_private_key(curve), curve.key_size
        case _:
            if body.curve_oid not in (None, ED25519):
                raise TsbError(600, f"Value '{body.curve_oid}' is not valid for field curveOid.")
            return ed25519.Ed25519PrivateKey.generate(), 256


def change_attributes(key: HsmKey, changes: dict[str, bool]) -> None:
    """Change capabilities. A key that could once leave the HSM says so for ever.

    Raises:
        TsbError: 606 for a key that can do nothing, or that could leave the HSM although it could
            not before.
    """
    changed = {**key.attributes, **changes}
    _check_attributes(changed, key.policy is not None)
    if changed["extractable"] and not key.attributes["extractable"]:
        raise TsbError(606, "A key cannot become extractable.")
    key.was_extractable = key.was_extractable or key.attributes["extractable"]
    key.attributes = changed


def _check_attributes(attributes: dict[str, Any], ruled: bool) -> None:
    if not (attributes["decrypt"] or attributes["sign"] or attributes["unwrap"]):
        raise TsbError(606, "At least one of decrypt, sign, unwrap must be true.")
    if ruled and attributes["extractable"]:
        raise TsbError(606, "A key with a policy must not be extractable.")


def read_rules(body: RulesBody, switches: Switches) -> Rules:
    """What a policy's rules mean.

    Raises:
        TsbError: 401 to 604 for rules that TSB does not take.
    """
    for name in RULES:
        _check(getattr(body, name), switches)
    return Rules(
        use=_rule(body.rule_use, switches),
        block=_rule(body.rule_block, switches),
        unblock=_rule(body.rule_unblock, switches),
        modify=_rule(body.rule_modify, switches),
    )


def echoed(body: RulesBody, switches: Switches) -> dict[str, Any]:
    """A policy as TSB repeats it.

    TSB reads it from the HSM's attestation. There an approver is a public key or a certificate,
    and a certificate is named by its CN, however the approver was named when the key was created.
    Source: the vendor's code that makes the JSON from the XML; for onboarded approvers inferred.
    """
    content = body.model_dump(by_alias=True, exclude_unset=True)
    if switches.echoed_approvals == "asPosted":
        return content
    for name in ("ruleUse", "ruleBlock", "ruleUnblock", "ruleModify"):
        for token in (content.get(name) or {}).get("tokens", ()):
            for group in token.get("groups") or ():
                group["approvals"] = [_attested(one, switches) for one in group["approvals"]]
    return content


def _attested(approval: dict[str, Any], switches: Switches) -> dict[str, Any]:
    if approval["type"] == "public_key":
        return approval
    certificate = _certificate(ApprovalBody.model_validate(approval), switches)
    return {
        "type": "certificate",
        "name": str(_common_name(certificate)),
        "value": base64.b64encode(certificate.public_bytes(Encoding.DER)).decode(),
    }


def _check(rule: RuleBody | None, switches: Switches) -> None:
    for token in rule.tokens if rule else ():
        if token.timelock % TIME_STEP or token.timeout % TIME_STEP:
            raise TsbError(600, "timelock and timeout must be divisible by 60.")
        for group in token.groups or ():
            if not group.approvals:
                raise TsbError(401, "Group does not contain any approval.")
            count = len(group.approvals)
            if switches.quorum_out_of_range == "refuse" and not 0 < group.quorum <= count:
                raise TsbError(600, "quorum is out of range.")
            for approval in group.approvals:
                approver_key(approval, switches)


def _rule(rule: RuleBody | None, switches: Switches) -> Rule | None:
    if rule is None:
        return None
    return Rule(
        tuple(
            Token(
                token.name or "",
                token.timelock,
                token.timeout,
                tuple(
                    Group(
                        group.name or "",
                        group.quorum,
                        tuple(dict.fromkeys(approver_key(a, switches) for a in group.approvals)),
                    )
                    for group in token.groups or ()
                ),
            )
            for token in rule.tokens
        )
    )


def approver_key(approval: ApprovalBody, switches: Switches) -> str:
    """The base64 SPKI by which TSB lists an approver: for a certificate, its public key.

    Raises:
        TsbError: 407, 409, 413, 414, 601, 604 or 654 for a value that is no such thing.
    """
    if approval.type == "public_key":
        value = ARMOUR.sub("", approval.value or "").strip()
    else:
        key = _certificate(approval, switches).public_key()
        value = base64.b64encode(
            key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).decode()
    load_public_key(value)
    return value


def _certificate(approval: ApprovalBody, switches: Switches) -> x509.Certificate:
    """An approver's certificate: as given, or as TSB keeps it under the approver's name."""
    value = approval.value
    if approval.type == "onboarded_approver_certificate":
        known = switches.onboarded_approvers
        if approval.name not in known:
            code = switches.unknown_approver_code
            raise TsbError(code, f"Approver '{approval.name}' does not exist.")
        value = known[approval.name]
        if value is None:
            raise TsbError(414, f"Approver '{approval.name}' is not onboarded.")
    try:
        der = base64.b64decode(ARMOUR.sub("", value or "").strip(), validate=True)
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        raise TsbError(409, "The approver's certificate could not be parsed.") from None
    if _common_name(certificate) is None:
        raise TsbError(604, "The certificate has no common name.")
    return certificate


def _common_name(certificate: x509.Certificate) -> str | None:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else None


def load_public_key(value: str) -> PublicKey:
    """Parse an approver's base64 SPKI.

    Raises:
        TsbError: 407 unparseable, 601 a kind of key that approvers cannot have.
    """
    try:
        key = load_der_public_key(base64.b64decode(value, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        raise TsbError(407, "The public key could not be parsed.") from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise TsbError(601, "Unsupported approver key type.")
    return key


def verify(public_key: str, signature: str, content: bytes, digest: str) -> None:
    """Check an approver's signature, as Java's `Signature` makes it.

    RSA is PKCS #1 v1.5, ECDSA is DER; Ed25519 hashes by itself, so any digest name is taken.

    Raises:
        TsbError: 403 where it does not hold, 600 for an unknown digest.
    """
    key = load_public_key(public_key)
    if digest not in HASHES and not isinstance(key, ed25519.Ed25519PublicKey):
        raise TsbError(600, f"Value '{digest}' is not valid for field digestAlgorithm.")
    try:
        raw = base64.b64decode(signature, validate=True)
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(raw, content, padding.PKCS1v15(), HASHES[digest]())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(raw, content, ec.ECDSA(HASHES[digest]()))
        else:
            key.verify(raw, content)
    except (InvalidSignature, ValueError):
        raise TsbError(403, "The signature is not valid.") from None


def answer(
    key: HsmKey, attestation: Attestation, now: float, layout: Layout = "recorded"
) -> dict[str, Any]:
    """The signed key attributes of `POST /v1/key` and `POST /v1/key/attributes`."""
    extractable = key.attributes["extractable"]
    never_extractable = not (extractable or key.was_extractable)
    attributes = {
        "decrypt": key.attributes["decrypt"],
        "sign": key.attributes["sign"],
        "ekaSign": None,
        "unwrap": key.attributes["unwrap"],
        "derive": key.attributes["derive"],
        "sensitive": not extractable,
        "alwaysSensitive": never_extractable,
        "extractable": extractable,
        "neverExtractable": never_extractable,
        "modifiable": key.attributes["modifiable"],
        "copyable": key.attributes["copyable"],
        "destroyable": key.attributes["destroyable"],
    }
    content = {
        "label": key.label,
        "id": key.pkcs11_id,
        "uuid": None,  # of keys outside the HSM
        "algorithm": key.algorithm,
        "algorithmOid": ALGORITHM_OIDS[key.algorithm],
        "curveOid": key.curve_oid,
        "derivedAttributes": None,
        "keySize": key.key_size,
        "createTime": iso(key.created),
        "attestTime": iso(now),
        "publicKey": base64.b64encode(key.spki).decode(),
        "addressTruncated": None,
        "attributes": attributes,
        "policy": key.policy,
    }
    xml = write_xml(content, key.uses, layout)
    return {
        "xml": xml,
        "xmlSignature": attestation.sign(xml.encode()),
        "attestationKeyName": attestation.name,
        "json": content,
    }
