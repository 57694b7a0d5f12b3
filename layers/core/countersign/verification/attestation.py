"""The HSM's attestation of a key: its attributes as XML, signed by the HSM's attestation key.

TSB returns it together with the key's attributes as JSON. It is a proof only up to a pinned root.
The chain below the root is configured, because TSB does not return it here.
Source: TSB documentation, signed key attributes; RFC 5280, section 6, for the chain, which is
verified by `cryptography`.
"""

import base64
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store
from cryptography.x509.verification import Policy as ChainPolicy
from pydantic.alias_generators import to_camel

from countersign.algorithms import ED25519
from countersign.clocks import LONGEST_CALL, RESOLUTION, TOLERATED
from countersign.models import Check, KeyRequest
from countersign.tsb.models import KeyAttributes
from countersign.verification import attestation_xml, public_keys
from countersign.verification.attestation_xml import Attested, plain

CODES = (
    "ATTESTATION_ROOT",
    "ATTESTATION_SIGNATURE",
    "ATTESTATION_FORMAT",
    "ATTESTATION_KEY",
    "ATTESTATION_CREATION",
    "ATTESTATION_ATTRIBUTES",
    "ATTESTATION_POLICY",
    "ATTESTATION_TIME",
)
GENERATED = "generated"  # in the HSM; what was imported is known elsewhere
# Asked for where they are meant, and never reported by any TSB that was recorded.
NEVER_REPORTED = frozenset({"encrypt", "verify", "wrap", "bip32", "slip10"})
# True of keys for which nobody asked for it, and why the key can do no more with it. Whatever else
# is true and was not asked for is refused. What an HSM grants by itself can be asked for.
# Source: recorded answers; PKCS #11, 4.9.
GRANTS_NOTHING = {
    "sensitive": "its value leaves the HSM only encrypted, if at all",
    "alwayssensitive": "it has always been sensitive",
    "neverextractable": "it has never been extractable",
    "ekasign": "it signs under its policy, and signing was asked for",
    "unique": "there is no copy of it",
    "local": "it was generated in this HSM",
    "token": "it is kept",  # nosec B105  an attribute, not a password
    "private": "it is used after a login only",
    "alwaysauthenticate": "each use needs an authentication",
    "wrapwithtrusted": "only a trusted key may wrap it, if at all",
}
MAX_CHAIN = 8  # certificates
NOT_HELD = "the attestation chain does not hold: "  # what follows is in the library's words
WEAKEST_RSA, WEAKEST_CURVE = 2048, 224  # bits of an attestation key
DIGESTS = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
type PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Trust(NamedTuple):
    """Which attestations are trusted.

    Args:
        root_sha256: fingerprint (hex SHA-256 of the DER) of the HSM vendor's root certificate.
            Empty: attestations are compared and kept, but who signed them is not verified.
        chain: in PEM, from the attestation key's certificate to the root.
        clock_skew: how far the HSM's clock may be from ours.
    """

    root_sha256: str = ""
    chain: str = ""
    clock_skew: timedelta = TOLERATED


def check(
    answer: KeyAttributes,
    trust: Trust,
    *,
    requested: KeyRequest,
    created_at: datetime | None,
    asked_at: datetime | None,
    now: datetime,
    ahead: timedelta = timedelta(),
) -> list[Check]:
    """Whether the HSM attests the key that was requested. Every comparison is made.

    Without a pinned root nobody knows who says it. What it says is compared all the same, where it
    can be read: it is no proof, and may not contradict TSB's answer or the request.

    Args:
        answer: TSB's answer with `xml`, `xml_signature` and the JSON that belongs to them.
        trust: which attestations are trusted.
        requested: what was asked for. What the HSM does not say is no agreement.
        created_at: when the key was made, as TSB answered then. None: nobody knows.
        asked_at: when the HSM was asked for it. An older attestation proves nothing about the time
            since then. None: when the key was made.
        now: the time at which the chain must be valid. A later attestation is none yet.
        ahead: of our clock is the HSM's, as far as that is known.
    """
    found = signer_checks(answer, trust, now) if trust.root_sha256 else {}
    try:
        said = attestation_xml.read(answer.xml or "")
    except ValueError as error:
        if trust.root_sha256:
            found["ATTESTATION_FORMAT"] = [f"the attestation {error}"]
    else:
        found |= {
            "ATTESTATION_FORMAT": [],
            "ATTESTATION_KEY": _key(answer, said, requested.label),
            "ATTESTATION_CREATION": _creation(said, created_at),
            "ATTESTATION_ATTRIBUTES": _attributes(answer, said, requested),
            "ATTESTATION_POLICY": _policy(said, requested),
            "ATTESTATION_TIME": _time(said, asked_at, now, ahead, trust.clock_skew),
        }
    why = None if trust.root_sha256 else "no attestation root is configured"
    return [
        Check(code=code, result="skipped", finding=why)
        if code not in found
        else Check(code=code, result="failed", field="xml", finding="; ".join(found[code]))
        if found[code]
        else Check(code=code)
        for code in CODES
    ]


def signer_checks(answer: KeyAttributes, trust: Trust, now: datetime) -> dict[str, list[str]]:
    """Whether somebody whom we trust says it, whatever it is: findings by the check's code."""
    chain = _chain(trust.chain)
    return {
        "ATTESTATION_ROOT": _root(chain, trust.root_sha256, now),
        "ATTESTATION_SIGNATURE": _signature(answer, chain),
        "ATTESTATION_FORMAT": [],
    }


def attested(
    answer: KeyAttributes, trust: Trust, *, label: str, now: datetime, ahead: timedelta
) -> Attested | None:
    """What the HSM attests about a key that was not requested here; None: no root is pinned.

    Args:
        answer: TSB's, which has just arrived.
        trust: which attestations are trusted.
        label: the key's.
        now: when it arrived.
        ahead: of our clock is the HSM's, as far as that is known.

    Raises:
        ValueError: it is not attested, or the attestation is about another key, or of another time;
            says why.
    """
    if not trust.root_sha256:
        return None
    for why in (one for found in signer_checks(answer, trust, now).values() for one in found):
        raise ValueError(why)
    try:
        said = attestation_xml.read(answer.xml or "")
    except ValueError as error:
        raise ValueError(f"the attestation {error}") from None
    for why in (
        *_key(answer, said, label),
        *_time(said, now - LONGEST_CALL, now, ahead, trust.clock_skew),
    ):
        raise ValueError(f"the attestation: {why}")
    return said


def asked_attributes(requested: KeyRequest) -> dict[str, bool]:
    """The attributes that were asked for, by TSB's names; null stands for TSB's default."""
    given = requested.attributes
    return {
        to_camel(name): value
        for name, field in type(given).model_fields.items()
        for value in [getattr(given, name)]
        for value in [field.default if value is None else value]
        if value is not None
    }


def not_asked(attributes: Mapping[str, object], requested: KeyRequest) -> list[str]:
    """The attributes that let a key do more than was asked, by the names that people know.

    Args:
        attributes: what is said of the key; what is neither false nor empty counts as granted.
        requested: what was asked for.
    """
    wanted = {plain(name) for name in asked_attributes(requested)}
    known = {plain(name): to_camel(name) for name in type(requested.attributes).model_fields}
    granted = [
        known.get(plain(name), "an attribute of another name")
        for name, value in attributes.items()
        if plain(name) not in {*wanted, *GRANTS_NOTHING} and value not in (None, False, "false", "")
    ]
    return sorted({*granted})


# Who says it --------------------------------------------------------------------------------------


def _chain(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except Exception:  # noqa: BLE001  whatever the library makes of a text from outside
        return []


def _root(chain: list[x509.Certificate], root_sha256: str, now: datetime) -> list[str]:
    if not chain:
        return ["the attestation chain holds no certificate in PEM"]
    if chain[-1].fingerprint(hashes.SHA256()).hex() != root_sha256:
        return ["the attestation chain ends in another root than the pinned one"]
    try:
        verifier = (
            PolicyBuilder()
            .store(Store([chain[-1]]))
            .time(now)
            .max_chain_depth(MAX_CHAIN)
            .extension_policies(ca_policy=_issuers(), ee_policy=_signers())
            .build_client_verifier()
        )
        verified = verifier.verify(chain[0], chain[1:-1]).chain
        weak = _weak(chain[0])
    except Exception as error:  # noqa: BLE001  a certificate that the library cannot read, too
        return [f"{NOT_HELD}{error}"]
    if verified != chain:
        return ["the attestation chain holds certificates that do not belong to it"]
    return [f"the attestation key is too weak: {weak}"] if weak else []


def _issuers() -> ExtensionPolicy:
    def may_issue(_: ChainPolicy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
        if usage is not None and not usage.key_cert_sign:
            raise ValueError("an issuer may not sign certificates")

    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, may_issue)
    )


def _signers() -> ExtensionPolicy:
    def may_sign(_: ChainPolicy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
        signs = usage is None or usage.digital_signature or usage.content_commitment
        if not signs and not (usage and usage.key_cert_sign):  # the root itself may be the key
            raise ValueError("the attestation key may not sign")

    return ExtensionPolicy.permit_all().may_be_present(
        x509.KeyUsage, Criticality.AGNOSTIC, may_sign
    )


def _weak(certificate: x509.Certificate) -> str | None:
    match certificate.public_key():
        case rsa.RSAPublicKey() as key if key.key_size < WEAKEST_RSA:
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey() as key if key.key_size < WEAKEST_CURVE:
            return f"EC {key.curve.name}"
    return None


def _signature(answer: KeyAttributes, chain: list[x509.Certificate]) -> list[str]:
    if not chain or not answer.xml or not answer.xml_signature:
        return ["there is no signed attestation"]
    try:
        key = chain[0].public_key()
        signature = base64.b64decode("".join(answer.xml_signature.split()), validate=True)
        content = answer.xml.encode()
    except Exception:  # noqa: BLE001  no base64, no Unicode, no key that the library can read
        return ["the attestation's signature cannot be read"]
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return ["the attestation key is neither RSA nor EC nor Ed25519"]
    if any(_verifies(key, signature, content)):
        return []
    return ["the attestation is not signed by the attestation key of the chain"]


def _verifies(key: PublicKey, signature: bytes, content: bytes) -> Iterator[bool]:
    """Whether a signature is the key's, by each scheme that an HSM may use with such a key."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        yield _holds(key, signature, content)
        return
    for digest in DIGESTS:
        if isinstance(key, ec.EllipticCurvePublicKey):
            yield _holds(key, signature, content, ec.ECDSA(digest()))
            continue
        pss = padding.PSS(padding.MGF1(digest()), padding.PSS.AUTO)
        for padded in (padding.PKCS1v15(), pss):
            yield _holds(key, signature, content, padded, digest())


def _holds(key: Any, *how: Any) -> bool:
    try:
        key.verify(*how)
    except InvalidSignature:
        return False
    return True


# What is said -------------------------------------------------------------------------------------


def _key(answer: KeyAttributes, said: Attested, label: str) -> list[str]:
    differ = [] if said.label == label else ["it is about a key of another label"]
    if said.public_key != "".join(answer.key.public_key.split()):
        differ.append("it is about another public key than TSB's answer")
    return differ


def _creation(said: Attested, created_at: datetime | None) -> list[str]:
    differ = []
    if said.creation not in ("", GENERATED):
        differ.append("the key was not generated in the HSM: its creation is another one")
    if said.created and created_at and abs(said.created - created_at) > RESOLUTION:
        differ.append("the key was created at another time than when it was made")
    return differ


def _attributes(answer: KeyAttributes, said: Attested, requested: KeyRequest) -> list[str]:
    differ = [] if said.algorithm == requested.algorithm else ["algorithm is not what was asked"]
    facts = _facts(answer)
    differ += [
        f"{name} is not that of the public key"
        for name, found in (("key_size", said.key_size), ("curve_oid", said.curve_oid))
        if found not in ("", facts.get(name))
    ]
    wanted = {
        plain(name): (name, value)
        for name, value in (asked_attributes(requested) | {"neverExtractable": True}).items()
    }
    claimed = {plain(name): value for name, value in answer.key.attributes.items()}
    for name, (shown, value) in wanted.items():
        found = said.attributes.get(name)
        if found is None and shown in NEVER_REPORTED and claimed.get(name) is None:
            continue
        if found != str(value).lower():
            differ.append(f"{shown} was asked to be {value}, {found or 'nothing'} is attested")
    differ += [
        f"{one} was not asked for and is attested" for one in not_asked(said.attributes, requested)
    ]
    return differ + [
        f"{name} is {value} in TSB's answer and not in the attestation"
        for name, value in answer.key.attributes.items()
        if value is not None
        and plain(name) not in wanted
        and said.attributes.get(plain(name)) != str(value).lower()
    ]


def _facts(answer: KeyAttributes) -> dict[str, str]:
    """What the public key says about itself; KEY_TYPE compares that with what was asked."""
    try:
        key = public_keys.read(base64.b64decode(answer.key.public_key))
    except ValueError:
        return {}
    curve = ED25519 if key.algorithm == "ED" else key.curve_oid or ""
    return {"key_size": str(key.bits), "curve_oid": curve}


def _policy(said: Attested, requested: KeyRequest) -> list[str]:
    if said.policy is None:
        return ["no policy is attested"]
    return [
        f"the attested policy is not the accepted one: {field} differs"
        for field in said.policy.differences(requested.policy)
    ]


def _time(
    said: Attested,
    asked_at: datetime | None,
    now: datetime,
    ahead: timedelta,
    tolerated: timedelta,
) -> list[str]:
    if said.at is None:
        return ["it says no time"]
    if said.at - now > max(ahead, timedelta()) + tolerated:  # it may have been set since
        return ["its time is still to come"]
    old = asked_at is not None and asked_at - said.at > tolerated - ahead
    return ["it was made before it was asked for"] if old else []
