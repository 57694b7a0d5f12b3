"""The simulated HSM's attestation: a root of its own, and a key below it that signs attributes.

Source: two recorded attestations of a TSB of 2024 (keys of kind ED); layout and size of the
signature are theirs. Where an EC key's curve stands is inferred.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal
from xml.sax.saxutils import escape

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

LIFE = timedelta(days=3650)
KEY_BITS = 3072  # the recorded signatures have 384 bytes
RULES = {
    "rule_use": "ruleUse",
    "rule_block": "ruleBlock",
    "rule_unblock": "ruleUnblock",
    "rule_modify": "ruleModify",
}
QUOTES = {"'": "&apos;", '"': "&quot;"}
type Layout = Literal["recorded", "flat"]


class Attestation:
    """The HSM's attestation key and the chain up to this simulator's own root."""

    name = "attestation-key"

    def __init__(
        self, chain: list[str], private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    ) -> None:
        self.chain = chain
        self._private = private

    def sign(self, content: bytes) -> str:
        """Base64 signature with SHA-256: PKCS #1 v1.5 for RSA, DER for ECDSA."""
        if isinstance(self._private, rsa.RSAPrivateKey):
            signature = self._private.sign(content, padding.PKCS1v15(), hashes.SHA256())
        else:
            signature = self._private.sign(content, ec.ECDSA(hashes.SHA256()))
        return base64.b64encode(signature).decode()


@cache
def usual_key() -> rsa.RSAPrivateKey:
    """The attestation key of all simulators of this process: making one takes a while."""
    return rsa.generate_private_key(65537, KEY_BITS)


def make_attestation(key: rsa.RSAPrivateKey | None = None) -> Attestation:
    """A fresh root above an attestation key, by default a fresh one too.

    The chain is PEM, the attestation key's certificate first.
    """
    root_key = ec.generate_private_key(ec.SECP384R1())
    key = key or rsa.generate_private_key(65537, KEY_BITS)
    root = _certificate("Simulated HSM Root", root_key.public_key(), "Simulated HSM Root", root_key)
    leaf = _certificate("attestation-key", key.public_key(), "Simulated HSM Root", root_key)
    chain = [one.public_bytes(Encoding.PEM).decode() for one in (leaf, root)]
    return Attestation(chain, key)


def _certificate(
    subject: str,
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=subject == issuer, path_length=None), critical=True)
        .sign(signer, hashes.SHA384())
    )


def write_xml(content: dict[str, Any], uses: int, layout: Layout) -> str:
    """A key's attributes as XML.

    Args:
        content: the JSON of the same attributes.
        uses: how often the key was used.
        layout: `recorded` as the HSM writes it, or `flat` as the documents describe it.
    """
    return _recorded(content, uses) if layout == "recorded" else _flat(content, uses)


def _recorded(content: dict[str, Any], uses: int) -> str:
    """One element a line behind tabs, and an empty line at the end."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<private_key creation="generated">',
        _line(1, "label", content["label"]),
        _line(1, "create_time", content["createTime"]),
        _line(1, "attest_time", content["attestTime"]),
        _line(1, "key_use_count", uses),
        _line(1, "algorithm", content["algorithm"]),
        _line(1, "algorithm_oid", content["algorithmOid"]),
        *([_line(1, "curve_oid", content["curveOid"])] if content["curveOid"] else ()),
        _line(1, "public_key", content["publicKey"]),
        "\t<attributes>",
        *(
            _line(2, _snake(name), str(value).lower())
            for name, value in {**content["attributes"], "unique": True}.items()
            if value is not None
        ),
        "\t</attributes>",
    ]
    policy = content["policy"]
    if policy is not None:
        blocked = (policy.get("keyStatus") or {}).get("blocked", False)
        lines += [
            "\t<policy>",
            "\t\t<key_status>",
            _line(3, "blocked", str(blocked).lower()),
            "\t\t</key_status>",
        ]
        for tag, name in RULES.items():
            if policy.get(name) is not None:
                lines += [f"\t\t<{tag}>", *_tokens(policy[name]), f"\t\t</{tag}>"]
        lines.append("\t</policy>")
    return "\n".join([*lines, "</private_key>", "", ""])


def _tokens(rule: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for token in rule["tokens"]:
        lines += [
            f"\t\t\t<token name={_quoted(token)}>",
            _line(4, "timelock", token["timelock"]),
            _line(4, "timeout", token["timeout"]),
        ]
        for group in token.get("groups") or ():
            lines += [f"\t\t\t\t<group name={_quoted(group)}>", _line(5, "quorum", group["quorum"])]
            lines += [
                f'\t\t\t\t\t<approval type="{approval["type"]}" name={_quoted(approval)}>'
                f"{approval.get('value') or ''}</approval>"
                for approval in group["approvals"]
            ]
            lines.append("\t\t\t\t</group>")
        lines.append("\t\t\t</token>")
    return lines


def _line(depth: int, tag: str, value: object) -> str:
    return "\t" * depth + f"<{tag}>{escape(str(value), QUOTES)}</{tag}>"


def _quoted(named: dict[str, Any]) -> str:
    return f'"{escape(named.get("name") or "", QUOTES)}"'


def _snake(name: str) -> str:
    return re.sub(r"(?=[A-Z])", "_", name).lower()


def _flat(content: dict[str, Any], uses: int) -> str:
    """One line, times and quorum as XML attributes, JSON's names of the key's attributes."""
    fields = "".join(
        f"<{tag}>{escape(str(content[name]))}</{tag}>"
        for tag, name in (
            ("label", "label"),
            ("create_time", "createTime"),
            ("attest_time", "attestTime"),
            ("algorithm", "algorithm"),
            ("algorithm_oid", "algorithmOid"),
            ("key_size", "keySize"),
            ("public_key", "publicKey"),
        )
    )
    attributes = "".join(
        f"<{name}>{str(value).lower()}</{name}>"
        for name, value in content["attributes"].items()
        if value is not None
    )
    policy = content["policy"] or {}
    blocked = str((policy.get("keyStatus") or {}).get("blocked", False)).lower()
    rules = f"<key_status><blocked>{blocked}</blocked></key_status>" + "".join(
        f"<{tag}>{_flat_rule(rule)}</{tag}>"
        for tag, name in RULES.items()
        if (rule := policy.get(name)) is not None
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<private_key>{fields}<key_use_count>{uses}</key_use_count>"
        f"<attributes>{attributes}</attributes>"
        + (f"<policy>{rules}</policy>" if content["policy"] is not None else "")
        + "</private_key>"
    )


def _flat_rule(rule: dict[str, Any]) -> str:
    return "".join(
        f'<token name={_quoted(token)} timelock="{token["timelock"]}"'
        f' timeout="{token["timeout"]}">'
        + "".join(
            f'<group name={_quoted(group)} quorum="{group["quorum"]}">'
            + "".join(
                f'<approval type="{approval["type"]}" name={_quoted(approval)}>'
                f"{approval.get('value') or ''}</approval>"
                for approval in group["approvals"]
            )
            + "</group>"
            for group in token.get("groups") or ()
        )
        + "</token>"
        for token in rule["tokens"]
    )
