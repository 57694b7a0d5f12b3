"""What a CSR (PKCS #10) says, and whether it is what was requested.

Source: RFC 2986 (PKCS #10), RFC 5280 (extensions), RFC 7468 (PEM); the vendor's own CSR for the
header, the criticality of the usages and the subject key identifier.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from countersign.errors import CsrInvalidError
from countersign.models import Check, CsrRequest

MAX_BYTES = 64 * 1024  # our limit; the CSR of an 8,192-bit RSA key is 3 KB
PEM = re.compile(
    r"\s*-----BEGIN (NEW )?CERTIFICATE REQUEST-----\s+([A-Za-z0-9+/=\s]+?)"
    r"-----END (NEW )?CERTIFICATE REQUEST-----\s*"
)

# In the order in which TSB writes them, the reverse of the string form CN, OU, O, …
SUBJECT_OIDS = {
    "generationQualifier": NameOID.GENERATION_QUALIFIER,
    "pseudonym": NameOID.PSEUDONYM,
    "initials": NameOID.INITIALS,
    "givenName": NameOID.GIVEN_NAME,
    "surname": NameOID.SURNAME,
    "title": NameOID.TITLE,
    "email": NameOID.EMAIL_ADDRESS,
    "country": NameOID.COUNTRY_NAME,
    "stateOrProvinceName": NameOID.STATE_OR_PROVINCE_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
    "organizationName": NameOID.ORGANIZATION_NAME,
    "organizationUnitName": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "commonName": NameOID.COMMON_NAME,
}
SUBJECT_NAMES = {oid: name for name, oid in SUBJECT_OIDS.items()}
KEY_USAGES = {
    "DIGITAL_SIGNATURE": "digital_signature",
    "CONTENT_COMMITMENT": "content_commitment",
    "KEY_ENCIPHERMENT": "key_encipherment",
    "DATA_ENCIPHERMENT": "data_encipherment",
    "KEY_AGREEMENT": "key_agreement",
    "KEY_CERT_SIGN": "key_cert_sign",
    "CRL_SIGN": "crl_sign",
    "ENCIPHER_ONLY": "_encipher_only",  # the public properties raise an error without key agreement
    "DECIPHER_ONLY": "_decipher_only",
}
USAGE_EXTENSIONS = {
    ExtensionOID.KEY_USAGE: "keyUsage",
    ExtensionOID.EXTENDED_KEY_USAGE: "extendedKeyUsage",
}
KNOWN_EXTENSIONS = {
    *USAGE_EXTENSIONS,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.BASIC_CONSTRAINTS,
}
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"  # the PKCS #10 attribute that holds the extensions
EXTENDED_KEY_USAGES = {
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "ANY_EXTENDED_KEY_USAGE",
    ExtendedKeyUsageOID.SERVER_AUTH: "SERVER_AUTH",
    ExtendedKeyUsageOID.CLIENT_AUTH: "CLIENT_AUTH",
    ExtendedKeyUsageOID.CODE_SIGNING: "CODE_SIGNING",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "EMAIL_PROTECTION",
    ExtendedKeyUsageOID.TIME_STAMPING: "TIME_STAMPING",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSP_SIGNING",
}
type Request = x509.CertificateSigningRequest
type Differences = list[tuple[str, str]]  # each: the field, and how it differs


@dataclass(frozen=True)
class Csr:
    """The content of a CSR. `sha256` is the hash of the DER; `subject` is in RFC 4514 form.

    `pem` has the header of RFC 7468, `CERTIFICATE REQUEST`. CAs differ on the vendor's `NEW …`.
    """

    pem: str
    sha256: str
    subject: str
    key: str
    public_key_sha256: str
    key_usage: tuple[str, ...]
    extended_key_usage: tuple[str, ...]


def read_csr(pem: str) -> Csr:
    """The content of any CSR. Nothing is compared.

    Raises:
        CsrInvalidError: the text is not exactly one CSR in PEM.
    """
    return _describe(_parse(pem))


def check(pem: str, requested: CsrRequest, *, public_key: str) -> tuple[Csr | None, list[Check]]:
    """Compare a CSR with the request. Every comparison is made, and nothing is trusted before.

    Args:
        pem: as TSB returned it, with either header.
        requested: TSB's `csrSignRequest`. A usage that is None or empty means no such extension.
        public_key: the base64 DER SPKI that the HSM reports for the key.

    Returns:
        The content of the CSR (None if it is not a CSR), and the checks in the order of `CHECKS`.
    """
    try:
        request = _parse(pem)
    except CsrInvalidError as error:
        failed = Check(code="CSR_FORMAT", result="failed", field="pem", finding=error.message)
        return None, [failed, *(Check(code=code, result="skipped") for code in CHECKS)]
    found = {
        code: compare(
            request, requested, public_key
        )  # a list: one attribute may differ, or several
        for code, compare in CHECKS.items()
    }
    checks = [
        Check(code=code, result="failed", field=differ[0][0], finding=_sentence(differ))
        if differ
        else Check(code=code)
        for code, differ in found.items()
    ]
    return _describe(request), [Check(code="CSR_FORMAT"), *checks]


def _parse(pem: str) -> Request:
    match = PEM.fullmatch(pem) if len(pem) <= MAX_BYTES else None
    if match is None:
        raise _no_csr("is not one CSR in PEM")
    try:
        der = base64.b64decode("".join(match[2].split()), validate=True)
        request = x509.load_der_x509_csr(der)
        # Parse here what is otherwise parsed lazily, so that no later step fails on it.
        list(request.extensions)
        request.public_key()
        list(request.subject)
        list(request.attributes)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
    ):
        raise _no_csr("does not parse as PKCS #10") from None
    if request.public_bytes(Encoding.DER) != der:
        raise _no_csr("is followed by something that is no CSR")
    if der[-len(request.signature) - 1]:  # unused bits of the BIT STRING; nothing else checks them
        raise _no_csr("has a signature that is not made of whole bytes")
    return request


# The comparisons, by the code of their check -----------------------------------------------------


def _public_key(request: Request, _: CsrRequest, public_key: str) -> Differences:
    own = base64.b64encode(_spki(request)).decode() == public_key
    return [] if own else [("publicKey", "the CSR is for another key than the HSM reports")]


def _signature(request: Request, _: CsrRequest, __: str) -> Differences:
    try:
        holds = request.is_signature_valid
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        holds = False
    return [] if holds else [("signature", "the CSR's own signature does not hold")]


def _signature_algorithm(request: Request, requested: CsrRequest, _: str) -> Differences:
    found = _algorithm(request)
    wanted = requested.signature_algorithm
    if found == wanted.removesuffix("_DETERMINISTIC"):
        return []
    return [("signatureAlgorithm", f"the CSR is signed with {found}, not {wanted}")]


def _algorithm(request: Request) -> str:
    """TSB's name of the signature algorithm that a CSR states."""
    key = request.public_key()
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EDDSA"
    try:
        digest = request.signature_hash_algorithm
        pss = isinstance(request.signature_algorithm_parameters, padding.PSS)
    except (ValueError, UnsupportedAlgorithm):
        return f"algorithm {request.signature_algorithm_oid.dotted_string}"
    name = digest.name.upper().replace("-", "_") if digest else "NONE"
    name = name.replace("SHA3_", "SHA3")
    suffix = "ECDSA" if isinstance(key, ec.EllipticCurvePublicKey) else "RSA"
    return f"{name}_WITH_{suffix}" + ("_PSS" if pss else "")


def _subject_added(request: Request, requested: CsrRequest, _: str) -> Differences:
    wanted, names = _wanted_subject(requested), [name for name, _ in _subject(request)]
    return [
        (f"subject.{name}", "is in the subject and was not asked for")
        if name not in wanted
        else (f"subject.{name}", "stands in the subject more than once")
        for name in dict.fromkeys(names)
        if name not in wanted or names.count(name) > 1
    ]


def _subject_dropped(request: Request, requested: CsrRequest, _: str) -> Differences:
    found = {name for name, _ in _subject(request)}
    return [
        (f"subject.{name}", "was asked for and is not in the subject")
        for name in _wanted_subject(requested)
        if name not in found
    ]


def _subject_value(request: Request, requested: CsrRequest, _: str) -> Differences:
    wanted = _wanted_subject(requested)
    return [
        (f"subject.{name}", "has another value than was asked for")
        for name, value in _subject(request)
        if name in wanted and value != wanted[name]
    ]


def _subject_order(request: Request, _: CsrRequest, __: str) -> Differences:
    found = [name for name, _ in _subject(request) if name in SUBJECT_OIDS]
    if any(len(list(part)) != 1 for part in request.subject.rdns):
        return [("subject", "holds several attributes where there should be one after another")]
    if found != sorted(found, key=list(SUBJECT_OIDS).index):
        return [("subject", f"is in the order {', '.join(found)}, which is not TSB's")]
    return []


def _key_usage(request: Request, requested: CsrRequest, _: str) -> Differences:
    return _usage("keyUsage", _describe(request).key_usage, requested.key_usage or ())


def _extended_key_usage(request: Request, requested: CsrRequest, _: str) -> Differences:
    found = _describe(request).extended_key_usage
    return _usage("extendedKeyUsage", found, requested.extended_key_usage or ())


def _usage(name: str, found: Sequence[str], requested: Sequence[str]) -> Differences:
    if sorted(found) == sorted(requested):
        return []
    says, was = ", ".join(found) or "nothing", ", ".join(requested) or "nothing"
    return [(name, f"the CSR says {says}, asked was {was}")]


def _criticality(request: Request, _: CsrRequest, __: str) -> Differences:
    # Since TSB 1.16.1 both usages are critical: a CA may ignore an extension that is not.
    return [
        (USAGE_EXTENSIONS[extension.oid], "is not critical")
        for extension in request.extensions
        if extension.oid in USAGE_EXTENSIONS and not extension.critical
    ]


def _alternative_names(request: Request, _: CsrRequest, __: str) -> Differences:
    return _not_asked(request, {ExtensionOID.SUBJECT_ALTERNATIVE_NAME}, "subjectAlternativeNames")


def _basic_constraints(request: Request, _: CsrRequest, __: str) -> Differences:
    return _not_asked(request, {ExtensionOID.BASIC_CONSTRAINTS}, "basicConstraints")


def _extension(request: Request, _: CsrRequest, __: str) -> Differences:
    others = {extension.oid for extension in request.extensions} - KNOWN_EXTENSIONS
    return _not_asked(request, others, "extensions")


def _not_asked(request: Request, oids: set[x509.ObjectIdentifier], name: str) -> Differences:
    return [
        (name, f"extension {extension.oid.dotted_string} was not asked for")
        for extension in request.extensions
        if extension.oid in oids
    ]


def _key_identifier(request: Request, _: CsrRequest, __: str) -> Differences:
    own = x509.SubjectKeyIdentifier.from_public_key(request.public_key())
    return [
        ("subjectKeyIdentifier", "is not that of the key")
        for extension in request.extensions
        if extension.oid == ExtensionOID.SUBJECT_KEY_IDENTIFIER and extension.value != own
    ]


def _attribute(request: Request, _: CsrRequest, __: str) -> Differences:
    return [
        ("attributes", f"attribute {attribute.oid.dotted_string} was not asked for")
        for attribute in request.attributes
        if attribute.oid.dotted_string != EXTENSION_REQUEST
    ]


# The first failed check gives its code to the error, so the strongest check comes first.
CHECKS: dict[str, Callable[[Request, CsrRequest, str], Differences]] = {
    "CSR_PUBLIC_KEY": _public_key,
    "CSR_SIGNATURE": _signature,
    "CSR_SIGNATURE_ALGORITHM": _signature_algorithm,
    "CSR_SUBJECT_ADDED": _subject_added,
    "CSR_SUBJECT_DROPPED": _subject_dropped,
    "CSR_SUBJECT_VALUE": _subject_value,
    "CSR_SUBJECT_ORDER": _subject_order,
    "CSR_KEY_USAGE": _key_usage,
    "CSR_EXTENDED_KEY_USAGE": _extended_key_usage,
    "CSR_CRITICALITY": _criticality,
    "CSR_ALTERNATIVE_NAMES": _alternative_names,
    "CSR_BASIC_CONSTRAINTS": _basic_constraints,
    "CSR_EXTENSION": _extension,
    "CSR_KEY_IDENTIFIER": _key_identifier,
    "CSR_ATTRIBUTE": _attribute,
}


def _sentence(differ: Differences) -> str:
    return "; ".join(f"{field}: {how}" for field, how in differ)


def _wanted_subject(requested: CsrRequest) -> dict[str, str]:
    fields = requested.standard_certificate_attributes.dump()
    return {name: value for name, value in fields.items() if value is not None}


def _subject(request: Request) -> list[tuple[str, str]]:
    return [
        (SUBJECT_NAMES.get(one.oid, one.oid.dotted_string), str(one.value))
        for one in request.subject
    ]


def _spki(request: Request) -> bytes:
    return request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _describe(request: Request) -> Csr:
    key_usage: tuple[str, ...] = ()
    extended_key_usage: tuple[str, ...] = ()
    for extension in request.extensions:
        match extension.value:
            case x509.KeyUsage() as value:
                key_usage = tuple(
                    usage for usage, attribute in KEY_USAGES.items() if getattr(value, attribute)
                )
            case x509.ExtendedKeyUsage() as value:
                extended_key_usage = tuple(
                    EXTENDED_KEY_USAGES.get(usage, usage.dotted_string) for usage in value
                )
    der = request.public_bytes(Encoding.DER)
    return Csr(
        pem=request.public_bytes(Encoding.PEM).decode(),
        sha256=hashlib.sha256(der).hexdigest(),
        subject=request.subject.rfc4514_string(),
        key=_key(request),
        public_key_sha256=hashlib.sha256(_spki(request)).hexdigest(),
        key_usage=key_usage,
        extended_key_usage=extended_key_usage,
    )


def _key(request: Request) -> str:
    key = request.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return "Ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else type(key).__name__


def _no_csr(why: str) -> CsrInvalidError:
    return CsrInvalidError(
        f"TSB's result {why}",
        field="pem",
        reason="CSR_FORMAT",
        action="Treat it as a security incident: TSB's answer is kept beside the request in S3.",
    )
