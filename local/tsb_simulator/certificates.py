"""CSRs and certificates as the vendor's modified Java keytool writes them.

Source: the vendor's own sample CSR, and its published client code: header NEW CERTIFICATE REQUEST,
extensions in the order EKU, KU, SAN, SKI, both usages critical, PrintableString where possible.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import secrets
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from local.tsb_simulator import der, names
from local.tsb_simulator.bodies import SelfSignBody, SubjectBody
from local.tsb_simulator.errors import TsbError, hsm_refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.tsb_simulator.bodies import CsrBody, SignCertificateBody
    from local.tsb_simulator.keys import HsmKey
    from local.tsb_simulator.switches import Switches

HEADER = "NEW CERTIFICATE REQUEST"
CSR_BEGINS = ("-----BEGIN NEW CERTIFICATE REQUEST-----", "-----BEGIN CERTIFICATE REQUEST-----")
DEFAULT_DAYS = 90
LONGEST_FILE_LABEL = 200  # characters; about what a file system leaves of 255
SECONDS_PER_DAY = 86_400
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
        raise hsm_refusal("The signature Algorithm is not valid for this key type.")


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
        TsbError: 701 for a subject that keytool cannot read, or a label that is no file's name.
    """
    _check_label(key, switches)
    return _request_info(
        key.spki,
        _name(body.standard_certificate_attributes, switches),
        _extensions(
            key.spki, body.key_usage, body.extended_key_usage, body.subject_alternative_names
        ),
    )


def _check_label(key: HsmKey, switches: Switches) -> None:
    limited = switches.label_in_certificate_calls == "limited"
    if limited and ("/" in key.label or len(key.label) > LONGEST_FILE_LABEL):
        raise hsm_refusal("Could not issue certificate: no file of that name can be made.")


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


def read_csr(text: str) -> x509.CertificateSigningRequest:
    """A CSR as keytool reads it: by lines, under either PEM header, and its signature verified.

    Raises:
        TsbError: 628 for what is no CSR (also for one on a single line), 411 for one whose own
            signature does not hold.
    """
    lines = iter(text.splitlines())
    body = ""
    for line in lines:
        if line.startswith(CSR_BEGINS):
            body = "".join(takewhile(lambda one: not one.startswith("-----END"), lines))
            break
    try:
        request = x509.load_der_x509_csr(base64.b64decode("".join(body.split()), validate=True))
    except ValueError:
        raise TsbError(628, "The CSR could not be parsed.") from None
    if not request.is_signature_valid:
        raise TsbError(411, "The signature of the CSR is not valid.")
    return request


def require_certificate(ca: HsmKey, now: float) -> bytes:
    """The certificate of a CA key (402 where it has none that is valid now)."""
    if ca.certificate is None:
        raise TsbError(402, "The CA key has no certificate; self-sign or import one first.")
    begin, end = der.validity(ca.certificate)
    if not begin <= now <= end:
        raise TsbError(402, "The CA key's certificate is not valid now.")
    return ca.certificate


def issue(ca: HsmKey, body: SignCertificateBody, now: float, switches: Switches) -> str:
    """A certificate by a CA key for a CSR; PEM.

    The subject is the asked one; without one it is the CSR's. Extensions of the CSR are not copied.

    Raises:
        TsbError: 628 or 411 for the CSR, 402 for the CA key's certificate, 701 for the subject.
    """
    request = read_csr(body.certificate_signing_request)
    issuer = der.subject(require_certificate(ca, now))
    if switches.issued_issuer == "other":
        issuer = names.encode("CN=CA-Key")
    asked = None if switches.sign_subject == "csr" else _asked_subject(body, switches)
    spki = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    identifier = der.tlv(der.SEQUENCE, der.tlv(0x80, _key_identifier(ca.spki)))
    made = _certificate(
        ca,
        body,
        issuer=issuer,
        subject=asked or request.subject.public_bytes(),
        spki=spki,
        now=now,
        switches=switches,
        extensions=_extension("2.5.29.35", identifier, critical=False),
    )
    return certificate_pem(made, switches)


def forged_certificate(
    ca: HsmKey, other: HsmKey, body: SignCertificateBody, now: float, what: str
) -> str:
    """A certificate that differs from what was asked in one way; signed by the CA's key.

    Two differ in who signed them; one is followed by another.
    """
    request = read_csr(body.certificate_signing_request)
    spki = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    certified = other.spki if what == "certificate_other_key" else spki
    named = other if what == "certificate_other_authority" else ca
    changes: dict[str, dict[str, Any]] = {
        "certificate_changed_usage": {"key_usage": ["KEY_AGREEMENT"]},
        "certificate_missing_usage": {"extended_key_usage": ["TIME_STAMPING"]},
    }
    asked = body.model_copy(update=changes.get(what, {}))
    authority = der.tlv(der.SEQUENCE, der.tlv(0x80, _key_identifier(named.spki)))
    extensions = _extension("2.5.29.35", authority, critical=False)
    if what == "certificate_ca" or body.certificate_authority:
        value = der.tlv(der.SEQUENCE, der.BOOLEAN_TRUE)
        extensions += _extension("2.5.29.19", value, critical=False)
    extensions += _extensions(
        other.spki if what == "certificate_other_identifier" else certified,
        asked.key_usage,
        asked.extended_key_usage,
        [{"sanType": "DNS", "sanValue": "evil.example"}]
        if what == "certificate_added_san"
        else None,
        critical=what != "certificate_dropped_criticality",
    )
    stronger = {"RSA": "SHA384_WITH_RSA", "EC": "SHA384_WITH_ECDSA"}.get(ca.algorithm, "EDDSA")
    is_other = what == "certificate_other_algorithm"
    algorithm = stronger if is_other else body.signature_algorithm
    issuer = der.subject(ca.certificate or b"")
    subject = request.subject.public_bytes()
    start = now + SECONDS_PER_DAY if what == "certificate_later" else now
    days = (body.validity or DEFAULT_DAYS) + (what == "certificate_longer")
    serial = der.tlv(0x02, b"\xff") if what == "certificate_negative_serial" else der.integer(7)
    begin = der.moment(start)
    if what == "certificate_other_encoding":  # in the form for years that are far ahead
        begin = der.tlv(der.GENERALIZED_TIME, b"20" + der.content(begin))
    content = der.tlv(
        der.SEQUENCE,
        der.tlv(0xA0, der.integer(2)),
        serial,
        _algorithm(ca, algorithm),
        names.encode("CN=CA-Key") if what == "certificate_other_issuer" else issuer,
        der.tlv(der.SEQUENCE, begin, der.moment(start + days * SECONDS_PER_DAY)),
        names.encode("CN=Somebody Else") if what == "certificate_other_subject" else subject,
        certified,
        der.tlv(0xA3, der.tlv(der.SEQUENCE, extensions)),
    )
    signer = other if what == "certificate_other_signer" else ca
    signature = sign(signer, content, algorithm if signer is ca else "SHA256_WITH_RSA")
    if what == "certificate_broken_signature":
        signature = signature[:-1] + bytes([signature[-1] ^ 1])
    made = der.tlv(der.SEQUENCE, content, _algorithm(ca, algorithm), der.bit_string(signature))
    pem = der.pem("CERTIFICATE", made)
    return pem + pem if what == "certificate_chain" else pem


def self_sign(key: HsmKey, body: SelfSignBody, now: float, switches: Switches) -> str:
    """A certificate of a key by itself, kept on the key; PEM."""
    name = _asked_subject(body, switches) or names.encode("CN=" + key.label)
    key.certificate = _certificate(
        key, body, issuer=name, subject=name, spki=key.spki, now=now, switches=switches
    )
    return certificate_pem(key.certificate, switches)


def keep_after_csr(key: HsmKey, body: CsrBody, now: float, switches: Switches) -> None:
    """Leave a self-signed certificate on the key, as keytool needs one to make a CSR."""
    named = {"sign_key_name", "signature_algorithm", "standard_certificate_attributes"}
    same = body.model_dump(include=named | {"key_usage", "extended_key_usage"})
    self_sign(key, SelfSignBody.model_validate(same), now, switches)


def certificate_pem(certificate: bytes, switches: Switches) -> str:
    """PEM as keytool writes it, or on one line and without a last line feed."""
    if switches.issued_pem == "oneLine":
        body = base64.b64encode(certificate).decode()
        return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----"
    return der.pem("CERTIFICATE", certificate)


def _asked_subject(body: SignCertificateBody | SelfSignBody, switches: Switches) -> bytes | None:
    if body.standard_certificate_attributes is not None:
        return _name(body.standard_certificate_attributes, switches)
    if body.common_name is None:
        return None
    return _name(SubjectBody(common_name=body.common_name), switches)


def _certificate(
    key: HsmKey,
    body: SignCertificateBody | SelfSignBody,
    *,
    issuer: bytes,
    subject: bytes,
    spki: bytes,
    now: float,
    switches: Switches,
    extensions: bytes = b"",
) -> bytes:
    """A certificate (DER) with `extensions` first: keytool sorts them by name."""
    _check_label(key, switches)
    midnight = switches.issued_start == "midnight"
    start = now - now % SECONDS_PER_DAY if midnight else now
    end = start + (body.validity or DEFAULT_DAYS) * SECONDS_PER_DAY
    if body.certificate_authority:
        value = der.tlv(der.SEQUENCE, der.BOOLEAN_TRUE)
        extensions += _extension("2.5.29.19", value, critical=False)
    with_usages = switches.issued_usages == "asked"
    extensions += _extensions(
        spki,
        body.key_usage if with_usages else None,
        body.extended_key_usage if with_usages else None,
        None,
    )
    serial = 0 if switches.issued_serial == "zero" else 1 + secrets.randbits(63)
    content = der.tlv(
        der.SEQUENCE,
        der.tlv(0xA0, der.integer(2)),
        der.integer(serial),
        _algorithm(key, body.signature_algorithm),
        issuer,
        der.tlv(der.SEQUENCE, der.moment(start), der.moment(end)),
        subject,
        spki,
        der.tlv(0xA3, der.tlv(der.SEQUENCE, extensions)),
    )
    return _signed(key, content, body.signature_algorithm)


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
    key.uses += 1
    digest = ALGORITHMS[algorithm][1]
    private = key.private
    if isinstance(private, rsa.RSAPrivateKey) and digest:
        return private.sign(content, padding.PKCS1v15(), digest())
    if isinstance(private, ec.EllipticCurvePrivateKey) and digest:
        return private.sign(content, ec.ECDSA(digest()))
    return private.sign(content)  # type: ignore[call-arg]


def _signed(key: HsmKey, content: bytes, algorithm: str) -> bytes:
    signature = sign(key, content, algorithm)
    return der.tlv(der.SEQUENCE, content, _algorithm(key, algorithm), der.bit_string(signature))


def _algorithm(key: HsmKey, algorithm: str) -> bytes:
    """The AlgorithmIdentifier of a signature that the key can make (701 otherwise)."""
    check_algorithm(key, algorithm)
    parameters = der.NULL if key.algorithm == "RSA" else b""
    return der.tlv(der.SEQUENCE, der.oid(ALGORITHMS[algorithm][2]), parameters)


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


def imported(key: HsmKey, text: str, switches: Switches) -> bytes:
    """A certificate for a key, from base64 without armor and line ends; DER.

    Raises:
        TsbError: 600 for what is not base64, 409 for what is no certificate, 701 for another
            key's, where that is looked at.
    """
    try:
        encoded = base64.b64decode(text, validate=True)
    except ValueError:
        raise TsbError(600, "Value is not valid for field certificate.") from None
    certificate = base64_certificate(text)
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if switches.import_of_another_key == "refused" and public != key.spki:
        raise hsm_refusal("Public keys in reply and keystore don't match")
    return encoded


def base64_certificate(text: str) -> x509.Certificate:
    """A certificate from base64 without PEM armour.

    Raises:
        TsbError: 409.
    """
    try:
        return x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
    except ValueError:
        raise TsbError(409, "The certificate could not be parsed.") from None
