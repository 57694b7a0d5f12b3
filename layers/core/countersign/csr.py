"""What a CSR (PKCS #10) says, and whether it is what was asked. Only importer of cryptography.

Source: RFC 2986 (PKCS #10), RFC 5280 (extensions), RFC 7468 (PEM); the vendor's own CSR for the
header, the criticality of the usages and the subject key identifier.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from countersign.errors import CsrInvalidError

MAX_BYTES = 64 * 1024  # our limit; the CSR of an 8,192-bit RSA key is 3 KB
PEM = re.compile(
    r"\s*-----BEGIN (NEW )?CERTIFICATE REQUEST-----\s+([A-Za-z0-9+/=\s]+?)"
    r"-----END (NEW )?CERTIFICATE REQUEST-----\s*"
)
ARMOUR = re.compile(r"-----(BEGIN|END) (PUBLIC KEY|CERTIFICATE)-----")

SUBJECT_OIDS = {
    "commonName": NameOID.COMMON_NAME,
    "country": NameOID.COUNTRY_NAME,
    "stateOrProvinceName": NameOID.STATE_OR_PROVINCE_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "organizationName": NameOID.ORGANIZATION_NAME,
    "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
    "organizationUnitName": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "email": NameOID.EMAIL_ADDRESS,
    "title": NameOID.TITLE,
    "surname": NameOID.SURNAME,
    "givenName": NameOID.GIVEN_NAME,
    "initials": NameOID.INITIALS,
    "pseudonym": NameOID.PSEUDONYM,
    "generationQualifier": NameOID.GENERATION_QUALIFIER,
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
    "ENCIPHER_ONLY": "_encipher_only",  # the public properties raise without key agreement
    "DECIPHER_ONLY": "_decipher_only",
}
USAGE_EXTENSIONS = {
    ExtensionOID.KEY_USAGE: "keyUsage",
    ExtensionOID.EXTENDED_KEY_USAGE: "extendedKeyUsage",
}
EXTENDED_KEY_USAGES = {
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "ANY_EXTENDED_KEY_USAGE",
    ExtendedKeyUsageOID.SERVER_AUTH: "SERVER_AUTH",
    ExtendedKeyUsageOID.CLIENT_AUTH: "CLIENT_AUTH",
    ExtendedKeyUsageOID.CODE_SIGNING: "CODE_SIGNING",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "EMAIL_PROTECTION",
    ExtendedKeyUsageOID.TIME_STAMPING: "TIME_STAMPING",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSP_SIGNING",
}


@dataclass(frozen=True)
class Csr:
    """What a CSR says. `sha256` is that of the DER, `subject` is RFC 4514.

    `pem` has the header of RFC 7468, `CERTIFICATE REQUEST`: CAs differ on the vendor's `NEW …`.
    """

    pem: str
    der: bytes
    sha256: str
    subject: str
    key: str
    public_key_sha256: str
    key_usage: tuple[str, ...]
    extended_key_usage: tuple[str, ...]


def read_csr(pem: str) -> Csr:
    """What a CSR says, whoever made it; nothing is compared.

    Raises:
        CsrInvalidError: it is not one CSR in PEM, or it holds an extension besides the key usages
            and the subject key identifier.
    """
    return _describe(_parse(pem))


def check_csr(
    pem: str,
    *,
    public_key: str,
    signature_algorithm: str,
    subject: Mapping[str, str | None],
    key_usage: Sequence[str] | None,
    extended_key_usage: Sequence[str] | None,
) -> Csr:
    """Compare a CSR with what was asked; nothing in it is believed before.

    Args:
        pem: as TSB returned it, with either header.
        public_key: base64 DER SPKI that the HSM reports for the key.
        signature_algorithm: TSB's name, for example `SHA256_WITH_RSA`.
        subject: TSB's `standardCertificateAttributes`; None or missing means not in the subject.
        key_usage: TSB's names; None or empty means no such extension.
        extended_key_usage: likewise.

    Raises:
        CsrInvalidError: `field` names the first thing that is not as asked.
    """
    request = _parse(pem)
    spki = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if spki != _der(public_key):
        raise _invalid("publicKey", "the CSR is for another key than the HSM reports")
    if not _signature_holds(request):
        raise _invalid("signature", "the CSR's own signature does not hold")
    _check_algorithm(request, signature_algorithm)
    _check_subject(request, subject)
    _check_critical(request)
    found = _describe(request)
    _check_usage("keyUsage", found.key_usage, key_usage or ())
    _check_usage("extendedKeyUsage", found.extended_key_usage, extended_key_usage or ())
    return found


def spki_sha256(public_key: str) -> str:
    """The fingerprint (hex SHA-256 of the DER SPKI) of a base64 public key."""
    return hashlib.sha256(_der(public_key)).hexdigest()


def approver_public_key(kind: str, value: str) -> str:
    """The base64 DER SPKI of an approver, given as public key or as certificate.

    Args:
        kind: `public_key` or `certificate`.
        value: base64 of the DER on one line; the armour lines of PEM are tolerated, as by TSB.

    Raises:
        ValueError: says what is wrong; never quotes the value.
    """
    der = _approver_der(value)
    try:
        key = _certificate(der).public_key() if kind == "certificate" else load_der_public_key(der)
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        expected = "X.509 certificate" if kind == "certificate" else "public key (SPKI)"
        raise ValueError(f"is not the base64 of a DER {expected}") from None
    return base64.b64encode(spki).decode()


def certificate_common_name(value: str) -> str | None:
    """The CN of an approver's certificate, by which TSB names him.

    Raises:
        ValueError: the value is no certificate.
    """
    names = _certificate(_approver_der(value)).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else None


def expiries(certificates: str) -> list[datetime]:
    """When each certificate ends: of a PEM text, or of an approver's value as a policy has it.

    What cannot be read is left out: this serves a warning, and who uses the certificate says more.
    """
    try:
        if "-----BEGIN" in certificates:
            found = x509.load_pem_x509_certificates(certificates.encode())
        else:
            found = [_certificate(_approver_der(certificates))] if certificates else []
    except ValueError:
        found = []
    return [one.not_valid_after_utc for one in found]


def _certificate(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def _approver_der(value: str) -> bytes:
    try:
        return _der(ARMOUR.sub("", value).strip())
    except ValueError:
        raise ValueError("is not base64 on one line") from None


def _der(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("is not base64") from None


def _parse(pem: str) -> x509.CertificateSigningRequest:
    match = PEM.fullmatch(pem) if len(pem) <= MAX_BYTES else None
    if match is None:
        raise _invalid("pem", "TSB's result is not one CSR in PEM")
    try:
        der = base64.b64decode("".join(match[2].split()), validate=True)
        request = x509.load_der_x509_csr(der)
        # What is parsed lazily is parsed here, so that no later step meets nonsense.
        list(request.extensions)
        request.public_key()
        list(request.subject)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
    ):
        raise _invalid("pem", "TSB's result does not parse as PKCS #10") from None
    if request.public_bytes(Encoding.DER) != der:
        raise _invalid("pem", "TSB's result is followed by something that is no CSR")
    return request


def _signature_holds(request: x509.CertificateSigningRequest) -> bool:
    try:
        return request.is_signature_valid
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False


def _check_algorithm(request: x509.CertificateSigningRequest, asked: str) -> None:
    key = request.public_key()
    if isinstance(key, ed25519.Ed25519PublicKey):
        found = "EDDSA"
    else:
        digest = request.signature_hash_algorithm
        name = digest.name.upper().replace("-", "_") if digest else "NONE"
        name = name.replace("SHA3_", "SHA3")
        suffix = "ECDSA" if isinstance(key, ec.EllipticCurvePublicKey) else "RSA"
        pss = isinstance(request.signature_algorithm_parameters, padding.PSS)
        found = f"{name}_WITH_{suffix}" + ("_PSS" if pss else "")
    if found != asked.removesuffix("_DETERMINISTIC"):
        raise _invalid("signatureAlgorithm", f"the CSR is signed with {found}, not {asked}")


def _check_subject(
    request: x509.CertificateSigningRequest, asked: Mapping[str, str | None]
) -> None:
    wanted = {name: value for name, value in asked.items() if value is not None}
    found: dict[str, str] = {}
    for attribute in request.subject:
        name = SUBJECT_NAMES.get(attribute.oid, attribute.oid.dotted_string)
        if name in found:
            raise _invalid(f"subject.{name}", "stands in the subject more than once")
        found[name] = str(attribute.value)
    for name in {**wanted, **found}:
        if name not in found:
            raise _invalid(f"subject.{name}", "was asked for and is not in the subject")
        if name not in wanted:
            raise _invalid(f"subject.{name}", "is in the subject and was not asked for")
        if found[name] != wanted[name]:
            raise _invalid(f"subject.{name}", "has another value than was asked for")


def _check_critical(request: x509.CertificateSigningRequest) -> None:
    # Since TSB 1.16.1 both usages are critical: a CA may ignore what is not.
    for extension in request.extensions:
        name = USAGE_EXTENSIONS.get(extension.oid)
        if name and not extension.critical:
            raise _invalid(name, "is not critical")


def _check_usage(name: str, found: Sequence[str], asked: Sequence[str]) -> None:
    if sorted(found) != sorted(asked):
        raise _invalid(
            name,
            f"the CSR says {', '.join(found) or 'nothing'},"
            f" asked was {', '.join(asked) or 'nothing'}",
        )


def _describe(request: x509.CertificateSigningRequest) -> Csr:
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
            case x509.SubjectKeyIdentifier() as value:
                if value != x509.SubjectKeyIdentifier.from_public_key(request.public_key()):
                    raise _invalid("subjectKeyIdentifier", "is not that of the key")
            case _:
                oid = extension.oid.dotted_string
                raise _invalid("extensions", f"extension {oid} was not asked for")
    der = request.public_bytes(Encoding.DER)
    spki = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Csr(
        pem=request.public_bytes(Encoding.PEM).decode(),
        der=der,
        sha256=hashlib.sha256(der).hexdigest(),
        subject=request.subject.rfc4514_string(),
        key=_key(request),
        public_key_sha256=hashlib.sha256(spki).hexdigest(),
        key_usage=key_usage,
        extended_key_usage=extended_key_usage,
    )


def _key(request: x509.CertificateSigningRequest) -> str:
    key = request.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return "Ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else type(key).__name__


def _invalid(field: str, why: str) -> CsrInvalidError:
    return CsrInvalidError(
        f"the CSR was not stored: {field}: {why}",
        field=field,
        action="Treat it as a security incident: TSB's answer is kept beside the request in S3.",
    )
