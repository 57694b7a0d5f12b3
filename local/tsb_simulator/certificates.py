"""CSRs and certificates as the vendor's modified Java keytool writes them.

Source: the vendor's own sample CSR, and its published client code: header NEW CERTIFICATE REQUEST,
extensions in the order EKU, KU, SAN, SKI, both usages critical, PrintableString where possible.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from local.tsb_simulator import der, names
from local.tsb_simulator.errors import TsbError, hsm_refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.tsb_simulator.bodies import CsrBody, SelfSignBody, SignCertificateBody, SubjectBody
    from local.tsb_simulator.keys import HsmKey
    from local.tsb_simulator.switches import Switches

HEADER = "NEW CERTIFICATE REQUEST"
DEFAULT_DAYS = 90
EKU_OIDS = {
    "ANY_EXTENDED_KEY_USAGE": "2.5.29.37.0",
    "SERVER_AUTH": "1.3.6.1.5.5.7.3.1",
    "CLIENT_AUTH": "1.3.6.1.5.5.7.3.2",
    "CODE_SIGNING": "1.3.6.1.5.5.7.3.3",
    "EMAIL_PROTECTION": "1.3.6.1.5.5.7.3.4",
    "TIME_STAMPING": "1.3.6.1.5.5.7.3.8",
    "OCSP_SIGNING": "1.3.6.1.5.5.7.3.9",
}
KU_BITS = (
    "DIGITAL_SIGNATURE", "CONTENT_COMMITMENT", "KEY_ENCIPHERMENT", "DATA_ENCIPHERMENT",
    "KEY_AGREEMENT", "KEY_CERT_SIGN", "CRL_SIGN", "ENCIPHER_ONLY", "DECIPHER_ONLY",
)  # fmt: skip
# name: (kind of key, hash, OID of the signature algorithm)
ALGORITHMS: dict[str, tuple[str, type[hashes.HashAlgorithm] | None, str]] = {
    "SHA224_WITH_RSA": ("RSA", hashes.SHA224, "1.2.840.113549.1.1.14"),
    "SHA256_WITH_RSA": ("RSA", hashes.SHA256, "1.2.840.113549.1.1.11"),
    "SHA384_WITH_RSA": ("RSA", hashes.SHA384, "1.2.840.113549.1.1.12"),
    "SHA512_WITH_RSA": ("RSA", hashes.SHA512, "1.2.840.113549.1.1.13"),
    "SHA256_WITH_ECDSA": ("EC", hashes.SHA256, "1.2.840.10045.4.3.2"),
    "SHA384_WITH_ECDSA": ("EC", hashes.SHA384, "1.2.840.10045.4.3.3"),
    "SHA512_WITH_ECDSA": ("EC", hashes.SHA512, "1.2.840.10045.4.3.4"),
    "EDDSA": ("ED", None, "1.3.101.112"),
}


def check_algorithm(key: HsmKey, name: str) -> None:
    """Refuse an algorithm that the key cannot make, as the HSM does (701)."""
    known = ALGORITHMS.get(name)
    if known is None or known[0] != key.algorithm:
        raise hsm_refusal("KEY_FUNCTION_NOT_PERMITTED")


def check_subject(subject: SubjectBody, switches: Switches) -> None:
    """Refuse a subject that TSB refuses (411), as far as that is known or switched."""
    if not subject.common_name.strip():
        raise TsbError(411, "The common name must not be blank.")
    longest = switches.common_name_max_length
    if longest is not None and len(subject.common_name) > longest:
        raise TsbError(411, "The common name is too long.")
    if switches.country_length_check and subject.country and len(subject.country) != len("CH"):
        raise TsbError(411, "The country is not two letters.")
    if subject.organization_identifier is not None and not switches.organization_identifier:
        raise TsbError(600, "Unrecognized field organizationIdentifier.")


def request_info(key: HsmKey, body: CsrBody, switches: Switches) -> bytes:
    """The CertificationRequestInfo (DER) that approvers agree to: RFC 2986, version 0.

    Raises:
        TsbError: 701 for a subject that keytool cannot read.
    """
    return _request_info(
        key.spki,
        _name(body.standard_certificate_attributes, switches),
        _extensions(
            key.spki, body.key_usage, body.extended_key_usage, body.subject_alternative_names
        ),
    )


def _name(subject: SubjectBody, switches: Switches) -> bytes:
    if switches.subject_building == "escaped":
        return names.escaped(subject)
    try:
        return names.encode(names.joined(subject))
    except names.NotADistinguishedNameError as error:
        raise hsm_refusal(f"Could not issue certificate: {error}") from None


def csr(key: HsmKey, info: bytes, algorithm: str) -> str:
    """Sign a CertificationRequestInfo; PEM."""
    return der.pem(HEADER, _signed(key, info, algorithm))


def forged_csr(key: HsmKey, other: HsmKey, body: CsrBody, what: str) -> str:
    """A CSR that differs from what was asked in one way; correctly encoded all the same."""
    if what == "not_pem":
        return "approved, thank you"
    requested, algorithm = _other_body(body, what)
    signer = other if what == "other_key" else key
    subject = requested.standard_certificate_attributes
    order = names.DN_ORDER[::-1] if what == "reordered_subject" else names.DN_ORDER
    extra = b""
    if what == "extra_extension":
        extra = _extension("2.5.29.19", der.tlv(der.SEQUENCE, der.BOOLEAN_TRUE), critical=True)
    info = _request_info(
        signer.spki,
        names.escaped(subject, order),
        extra
        + _extensions(
            signer.spki,
            requested.key_usage,
            requested.extended_key_usage,
            requested.subject_alternative_names,
            critical=what != "dropped_criticality",
        ),
    )
    made = _signed(signer, info, algorithm)
    if what == "broken_signature":
        made = made[:-1] + bytes([made[-1] ^ 1])
    return der.pem(HEADER, made)


def _other_body(body: CsrBody, what: str) -> tuple[CsrBody, str]:
    """The body that would have led to this forgery, and the algorithm that it is signed with."""
    subject = body.standard_certificate_attributes
    subjects: dict[str, dict[str, Any]] = {
        "other_subject": {"common_name": "Somebody Else"},
        "added_subject": {"organization_unit_name": "Shadow IT"},
        "dropped_subject": {"country": None},
    }
    others: dict[str, dict[str, Any]] = {
        "missing_extension": {"extended_key_usage": None},
        "changed_usage": {"key_usage": ["KEY_CERT_SIGN"]},
        "added_san": {
            "subject_alternative_names": [{"sanType": "DNS", "sanValue": "evil.example"}]
        },
    }
    changes = others.get(what, {})
    if what in subjects:
        changes = {"standard_certificate_attributes": subject.model_copy(update=subjects[what])}
    weaker = "SHA224_WITH_RSA" if what == "weaker_algorithm" else body.signature_algorithm
    return body.model_copy(update=changes), weaker


def issue(ca: HsmKey, body: SignCertificateBody, now: float, switches: Switches) -> str:
    """A certificate by a CA key for a CSR; PEM.

    Raises:
        TsbError: 628 malformed CSR, 402 the CA key holds no certificate yet.
    """
    try:
        request = x509.load_pem_x509_csr(body.certificate_signing_request.encode())
    except ValueError:
        raise TsbError(628, "The CSR could not be parsed.") from None
    if ca.certificate is None:
        raise TsbError(402, "The CA key has no certificate; self-sign or import one first.")
    subject = request.subject
    if switches.sign_subject == "commonName" and body.common_name:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, body.common_name)])
    builder = _builder(
        subject, ca.certificate.subject, request.public_key(), now, body.validity or DEFAULT_DAYS
    )
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.private.public_key()), critical=False
    )
    return _certificate(ca, builder, body)


def self_sign(key: HsmKey, body: SelfSignBody, now: float) -> str:
    """A certificate of a key by itself, kept on the key; PEM."""
    subject = body.standard_certificate_attributes
    name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, body.common_name or key.label)])
        if subject is None
        else _x509_name(subject)
    )
    pem = _certificate(
        key,
        _builder(name, name, key.private.public_key(), now, body.validity or DEFAULT_DAYS),
        body,
    )
    key.certificate = x509.load_pem_x509_certificate(pem.encode())
    return pem


def _builder(
    subject: x509.Name, issuer: x509.Name, public: Any, now: float, days: int
) -> x509.CertificateBuilder:
    start = datetime.fromtimestamp(int(now), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _certificate(
    key: HsmKey, builder: x509.CertificateBuilder, body: SignCertificateBody | SelfSignBody
) -> str:
    check_algorithm(key, body.signature_algorithm)
    if body.certificate_authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), False)
    if body.key_usage:
        builder = builder.add_extension(
            x509.KeyUsage(*(name in body.key_usage for name in KU_BITS)), critical=True
        )
    if body.extended_key_usage:
        usages = [x509.ObjectIdentifier(EKU_OIDS[name]) for name in body.extended_key_usage]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=True)
    digest = ALGORITHMS[body.signature_algorithm][1]
    made = builder.sign(key.private, digest() if digest else None)  # type: ignore[arg-type]
    return made.public_bytes(Encoding.PEM).decode()


def _request_info(spki: bytes, name: bytes, extensions: bytes) -> bytes:
    attributes = der.tlv(
        der.SEQUENCE,
        der.oid("1.2.840.113549.1.9.14"),
        der.tlv(der.SET, der.tlv(der.SEQUENCE, extensions)),
    )
    return der.tlv(der.SEQUENCE, der.integer(0), name, spki, der.tlv(0xA0, attributes))


def sign(key: HsmKey, content: bytes, algorithm: str) -> bytes:
    """A signature as Java's `Signature` makes it: PKCS #1 v1.5, DER for ECDSA, or Ed25519."""
    check_algorithm(key, algorithm)
    digest = ALGORITHMS[algorithm][1]
    private = key.private
    if isinstance(private, rsa.RSAPrivateKey) and digest:
        return private.sign(content, padding.PKCS1v15(), digest())
    if isinstance(private, ec.EllipticCurvePrivateKey) and digest:
        return private.sign(content, ec.ECDSA(digest()))
    return private.sign(content)  # type: ignore[call-arg]


def _signed(key: HsmKey, content: bytes, algorithm: str) -> bytes:
    signature = sign(key, content, algorithm)
    parameters = der.NULL if key.algorithm == "RSA" else b""
    identifier = der.tlv(der.SEQUENCE, der.oid(ALGORITHMS[algorithm][2]), parameters)
    return der.tlv(der.SEQUENCE, content, identifier, der.bit_string(signature))


def _x509_name(subject: SubjectBody) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(x509.ObjectIdentifier(oid), value)
            for attribute, oid in names.DN_ORDER
            if (value := getattr(subject, attribute))
        ]
    )


def _extensions(
    spki: bytes,
    key_usage: Sequence[str] | None,
    extended_key_usage: Sequence[str] | None,
    names: Sequence[dict[str, str]] | None,
    *,
    critical: bool = True,
) -> bytes:
    made = b""
    if extended_key_usage:
        oids = (der.oid(EKU_OIDS[name]) for name in extended_key_usage)
        made += _extension("2.5.29.37", der.tlv(der.SEQUENCE, *oids), critical=critical)
    if key_usage:
        made += _extension("2.5.29.15", _key_usage(key_usage), critical=critical)
    if names:
        general = b"".join(_general_name(name) for name in names)
        made += _extension("2.5.29.17", der.tlv(der.SEQUENCE, general), critical=False)
    identifier = der.tlv(der.OCTET_STRING, _key_identifier(spki))
    return made + _extension("2.5.29.14", identifier, critical=False)


def _key_usage(names: Sequence[str]) -> bytes:
    bits = [name in names for name in KU_BITS]
    last = max(i for i, bit in enumerate(bits) if bit)
    size = last // 8 + 1
    value = sum(1 << (size * 8 - 1 - i) for i, bit in enumerate(bits) if bit)
    return der.tlv(der.BIT_STRING, bytes([size * 8 - 1 - last]), value.to_bytes(size, "big"))


def _general_name(name: dict[str, str]) -> bytes:
    kind, value = name["sanType"], name["sanValue"]
    if kind == "IP":
        return der.tlv(0x87, ipaddress.ip_address(value).packed)
    tags = {"EMAIL": 0x81, "DNS": 0x82, "URI": 0x86}
    if kind not in tags:
        raise TsbError(600, f"Value '{kind}' is not valid for field sanType.")
    return der.tlv(tags[kind], value.encode())


def _extension(oid: str, value: bytes, *, critical: bool) -> bytes:
    flag = der.BOOLEAN_TRUE if critical else b""
    return der.tlv(der.SEQUENCE, der.oid(oid), flag, der.tlv(der.OCTET_STRING, value))


def _key_identifier(spki: bytes) -> bytes:
    """SHA-1 of the public key's bits, RFC 5280 4.2.1.2 (1)."""
    _, bits = der.children(spki)  # SEQUENCE { AlgorithmIdentifier, BIT STRING }
    return hashlib.sha1(der.content(bits)[1:], usedforsecurity=False).digest()


def base64_certificate(text: str) -> x509.Certificate:
    """A certificate from base64 without PEM armour.

    Raises:
        TsbError: 409.
    """
    try:
        return x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
    except ValueError:
        raise TsbError(409, "The certificate could not be parsed.") from None
