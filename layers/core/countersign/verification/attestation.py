"""The HSM's attestation of a key: its attributes as XML, signed by the HSM's attestation key.

TSB returns it together with the key's attributes as JSON. It is a proof only up to a pinned root.
The chain below the root is configured, because TSB does not return it here.
Source: TSB documentation, signed key attributes. The layout of the XML is known only from
documents.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from xml.etree import ElementTree  # nosec B405

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from countersign.clocks import TOLERATED
from countersign.models import Check, Policy
from countersign.policy import approvers
from countersign.tsb.models import KeyAttributes

CODES = (
    "ATTESTATION_ROOT",
    "ATTESTATION_SIGNATURE",
    "ATTESTATION_FORMAT",
    "ATTESTATION_KEY",
    "ATTESTATION_ATTRIBUTES",
    "ATTESTATION_POLICY",
    "ATTESTATION_TIME",
)
RULES = ("rule_use", "rule_block", "rule_unblock", "rule_modify")


@dataclass(frozen=True)
class Trust:
    """Which attestations are trusted.

    Args:
        root_sha256: fingerprint (hex SHA-256 of the DER) of the HSM vendor's root certificate.
            Empty: attestations are kept but not verified.
        chain: in PEM, from the attestation key's certificate to the root.
        clock_skew: how far the HSM's clock may be from ours.
    """

    root_sha256: str = ""
    chain: str = ""
    clock_skew: timedelta = TOLERATED


def check(
    answer: KeyAttributes, trust: Trust, *, asked_at: datetime | None, now: datetime
) -> list[Check]:
    """Whether the HSM's attestation says the same as TSB's JSON. Every comparison is made.

    Args:
        answer: TSB's answer with `xml`, `xml_signature` and the JSON that belongs to them.
        trust: which attestations are trusted.
        asked_at: when the approvers were asked, by the HSM's clock as far as that is known. An
            older attestation proves nothing about the time since then.
        now: the time at which the chain must be valid.
    """
    if not trust.root_sha256:
        why = "no attestation root is configured"
        return [Check(code=code, result="skipped", finding=why) for code in CODES]
    chain = _chain(trust.chain)
    found = {
        "ATTESTATION_ROOT": _root(chain, trust.root_sha256, now),
        "ATTESTATION_SIGNATURE": _signature(answer, chain),
        "ATTESTATION_FORMAT": [],
    }
    try:
        said = _parse(answer.xml or "")
    except ValueError as error:
        found["ATTESTATION_FORMAT"] = [f"the attestation {error}"]
    else:
        found |= {
            "ATTESTATION_KEY": _key(answer, said),
            "ATTESTATION_ATTRIBUTES": _attributes(answer, said),
            "ATTESTATION_POLICY": _policy(answer, said),
            "ATTESTATION_TIME": _time(said, asked_at, trust.clock_skew),
        }
    return [
        Check(code=code, result="skipped")
        if code not in found
        else Check(code=code, result="failed", field="xml", finding="; ".join(found[code]))
        if found[code]
        else Check(code=code)
        for code in CODES
    ]


def _chain(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return []


def _root(chain: list[x509.Certificate], root_sha256: str, now: datetime) -> list[str]:
    if not chain:
        return ["the attestation chain holds no certificate in PEM"]
    if chain[-1].fingerprint(hashes.SHA256()).hex() != root_sha256:
        return ["the attestation chain ends in another root than the pinned one"]
    issuers = [*chain[1:], chain[-1]]
    for certificate, issuer in zip(chain, issuers, strict=True):
        try:
            name = certificate.subject.rfc4514_string()
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return ["a certificate of the attestation chain is not issued by the next one"]
        if not _may_issue(issuer):
            return [f"what issued {name} is no CA"]
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return [f"{name} is not valid now"]
    return []


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False


def _signature(answer: KeyAttributes, chain: list[x509.Certificate]) -> list[str]:
    if not chain or not answer.xml or not answer.xml_signature:
        return ["there is no signed attestation"]
    try:
        signature = base64.b64decode(answer.xml_signature, validate=True)
        key = chain[0].public_key()
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, answer.xml.encode(), padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, answer.xml.encode(), ec.ECDSA(hashes.SHA256()))
        else:
            return ["the attestation key is neither RSA nor EC"]
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):  # ValueError: no base64 or UTF-8
        return ["the attestation is not signed by the attestation key of the chain"]
    return []


class _WithoutDtd(ElementTree.TreeBuilder):
    """Refuses a document type declaration before any entity can be expanded."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        raise ValueError("has a document type definition")


def _parse(xml: str) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_WithoutDtd())  # noqa: S314  refuses DTDs  # nosec B314
    try:
        parser.feed(xml)
        root = parser.close()
    except ElementTree.ParseError:
        raise ValueError("is no XML") from None
    assert isinstance(root, ElementTree.Element)  # noqa: S101  for the type checker  # nosec B101
    return root


def _key(answer: KeyAttributes, said: ElementTree.Element) -> list[str]:
    facts = {"label": answer.key.label, "public_key": answer.key.public_key}
    return _differences(said, facts)


def _attributes(answer: KeyAttributes, said: ElementTree.Element) -> list[str]:
    key = answer.key
    facts = {"algorithm": key.algorithm}
    if said.find("key_size") is not None:
        facts["key_size"] = str(key.key_size)
    differences = _differences(said, facts)
    attested = {
        _plain(one.tag): (one.text or "").strip().lower() for one in said.iterfind("attributes/*")
    }
    return differences + [
        f"attribute {name} is {value} in TSB's answer, {attested.get(_plain(name), 'not')} attested"
        for name, value in key.attributes.items()
        if value is not None and attested.get(_plain(name)) != str(value).lower()
    ]


def _policy(answer: KeyAttributes, said: ElementTree.Element) -> list[str]:
    blocked = said.findtext("policy/key_status/blocked")
    status = (answer.key.policy or {}).get("keyStatus")
    attested = {
        "keyStatus": status if blocked is None else {"blocked": blocked.strip() == "true"},
        **{
            _camel(name): _rule(rule)
            for name in RULES
            if (rule := said.find(f"policy/{name}")) is not None
        },
    }
    try:
        same = approvers.effective(Policy.model_validate(attested)) == approvers.effective(
            Policy.model_validate(answer.key.policy)
        )
    except ValueError:  # a policy in a form that we never send
        same = False
    return [] if same else ["the attested policy is another than in TSB's answer"]


def _time(said: ElementTree.Element, asked_at: datetime | None, clock_skew: timedelta) -> list[str]:
    try:
        attested_at = datetime.fromisoformat((said.findtext("attest_time") or "").strip())
        old = asked_at is not None and attested_at < asked_at - clock_skew
    except (ValueError, TypeError):  # not a time, or a time without a zone
        return ["the attestation says no time"]
    return ["the attestation is older than the request for approval"] if old else []


def _rule(element: ElementTree.Element) -> dict[str, Any]:
    return {
        "tokens": [
            {
                "name": _of(token, "name"),
                "timelock": _number(token, "timelock"),
                "timeout": _number(token, "timeout"),
                "groups": [
                    {
                        "name": _of(group, "name"),
                        "quorum": _number(group, "quorum"),
                        "approvals": [
                            {
                                "type": _of(approval, "type"),
                                "name": _of(approval, "name") or None,
                                "value": (approval.findtext("value") or approval.text or "").strip()
                                or None,
                            }
                            for approval in group.iterfind("approval")
                        ],
                    }
                    for group in token.iterfind("group")
                ],
            }
            for token in element.iterfind("token")
        ]
    }


def _of(element: ElementTree.Element, name: str) -> str:
    return (element.get(name) or element.findtext(name) or "").strip()


def _number(element: ElementTree.Element, name: str) -> int | None:
    text = _of(element, name)
    return int(text) if text.isdecimal() else None


def _differences(said: ElementTree.Element, facts: Mapping[str, str]) -> list[str]:
    return [
        f"{name} is another in TSB's answer than attested"
        for name, value in facts.items()
        if "".join((said.findtext(name) or "").split()) != "".join(value.split())
    ]


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
