"""What a certificate (X.509) says, and whether it is what was requested.

As for a CSR the bytes are read here, and at the end what was requested is rebuilt as a certificate
and compared byte for byte. What TSB may choose: the serial number, the time of the beginning, the
order of the extensions and of the extended usages, whether there is a subject key identifier,
whether CA:TRUE is critical, the type of each string of the subject, the lines of the PEM.

Source: RFC 5280; the vendor's own certificate for what its engine makes (90 days where no validity
can be asked for, midnight as the beginning, serial number 0).
"""

import hashlib
from collections.abc import Callable, Iterable
from copy import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from countersign import clocks, der
from countersign.models import CertificateRequest, Check, CsrRequest
from countersign.verification import csr, pkix
from countersign.verification.pkix import (
    AUTHORITY_KEY_IDENTIFIER,
    BASIC_CONSTRAINTS,
    EXTENDED_KEY_USAGE,
    KEY_IDENTIFIER,
    KEY_USAGE,
    USAGE_EXTENSIONS,
    Extension,
    Name,
)
from countersign.verification.signatures import SIGNATURE_NAMES, SIGNATURES

MAX_BYTES = 16 * 1024  # our limit; that of an 8,192-bit RSA key takes 4 KB
HEADER = "CERTIFICATE"
VERSION = der.write(der.FIRST_CONTEXT, der.write(der.INTEGER, b"\2"))  # v3
EXTENSIONS = der.FIRST_CONTEXT + 3
KEY_IDENTIFIER_TAG = 0x80  # in an authority key identifier
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
TIME_FORMS = {UTC_TIME: "%y%m%d%H%M%SZ", GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}
LAST_UTC_YEAR = 2049  # RFC 5280, 4.1.2.5: later times are written as GeneralizedTime
MAX_SERIAL_BYTES = 20  # RFC 5280, 4.1.2.2
DAY = timedelta(days=1)  # an engine may begin at the midnight before
KNOWN = {*USAGE_EXTENSIONS, KEY_IDENTIFIER, AUTHORITY_KEY_IDENTIFIER, BASIC_CONSTRAINTS}
type Differences = list[tuple[str, str]]  # each: the field, and how it differs


class Certificate(NamedTuple):
    """A certificate as it was read.

    Args:
        der: all of it.
        signed: the part that the signature covers.
        serial: the content of the serial number.
        algorithm: the DER AlgorithmIdentifier of the signature; `inner` is the one that is signed.
        issuer: in DER, like `subject`.
        begins: the first moment at which it is valid; `ends`: the last one.
        name: the subject; `issuer_name`: the issuer.
        public_key: the DER SubjectPublicKeyInfo.
        key_bits: the key in it.
        extensions: in their order.
        signature: its bytes.
    """

    der: bytes
    signed: bytes
    serial: bytes
    algorithm: bytes
    inner: bytes
    issuer: bytes
    issuer_name: Name
    begins: datetime
    ends: datetime
    subject: bytes
    name: Name
    public_key: bytes
    key_bits: bytes
    extensions: tuple[Extension, ...]
    signature: bytes

    def values(self, *oids: str) -> list[bytes]:
        """The values of the extensions of these kinds."""
        return pkix.values(self.extensions, *oids)

    @property
    def pem(self) -> str:
        """As RFC 7468 wants it."""
        return pkix.armored(self.der, HEADER)

    @property
    def sha256(self) -> str:
        """The hash of the DER."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def self_issued(self) -> bool:
        """Whether subject and issuer are one name, in whatever types its strings are written."""
        return self.issuer == self.subject or _texts(self.issuer_name) == _texts(self.name)

    @property
    def key_identifier(self) -> bytes:
        """By which certificates that it signs name its key."""
        found = self.values(KEY_IDENTIFIER)
        return (
            der.element(found[0], der.OCTET_STRING).content
            if found
            else pkix.identifier(self.key_bits)
        )


class Asked(NamedTuple):
    """What a certificate is compared with.

    Args:
        requested: what was asked for.
        csr_request: what the CSR was asked with; its usages count where the certificate's do not
            say any.
        csr: the verified CSR.
        ca: the CA's own certificate.
        ca_public_key: the DER SubjectPublicKeyInfo of the CA's key, as the HSM reports it.
        signature_algorithm: TSB's name.
        made_at: when TSB signed it.
        usages_omitted: whether this TSB's engine is known to leave usages out.
    """

    requested: CertificateRequest
    csr_request: CsrRequest
    csr: csr.Request
    ca: Certificate
    ca_public_key: bytes
    signature_algorithm: str
    made_at: datetime
    usages_omitted: bool = False

    @property
    def key_usage(self) -> tuple[str, ...]:
        """The key usages to be found."""
        return usages(self.requested, self.csr_request)[0]

    @property
    def extended_key_usage(self) -> tuple[str, ...]:
        """The extended key usages to be found."""
        return usages(self.requested, self.csr_request)[1]


def usages(
    requested: CertificateRequest, csr_request: CsrRequest
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The usages and extended usages that a certificate is asked for: its own, else the CSR's."""
    own, extended = requested.key_usage, requested.extended_key_usage
    return (
        (csr_request.key_usage if own is None else own) or (),
        (csr_request.extended_key_usage if extended is None else extended) or (),
    )


# Reading ------------------------------------------------------------------------------------------


def read(pem: str) -> Certificate:
    """The only certificate in a PEM text.

    Raises:
        ValueError: it is not exactly one certificate; says why.
    """
    try:
        content = pkix.unarmored(pem, HEADER, most=MAX_BYTES)
    except ValueError:
        raise ValueError("is not one certificate in PEM") from None
    return parse(content)


def parse(content: bytes) -> Certificate:
    """A certificate in DER, of version 3.

    Raises:
        ValueError: it is none; says why.
    """
    try:
        return _parsed(content)
    except ValueError as error:
        raise ValueError(f"is no X.509 certificate of version 3: {error}") from None


def _parsed(content: bytes) -> Certificate:
    whole = der.element(content, der.SEQUENCE)
    info, algorithm, signature = pkix.exactly(3, whole, der.SEQUENCE)
    version, serial, inner, issuer, validity, subject, key, extensions = pkix.exactly(
        8, info, der.SEQUENCE
    )
    if version.whole != VERSION:
        raise der.DerError("its version is another one")
    begins, ends = (_time(one) for one in pkix.exactly(2, validity, der.SEQUENCE))
    (listed,) = pkix.exactly(1, extensions, EXTENSIONS)
    return Certificate(
        der=content,
        signed=info.whole,
        serial=serial.of(der.INTEGER),
        algorithm=algorithm.whole,
        inner=inner.whole,
        issuer=issuer.whole,
        issuer_name=pkix.name(issuer),
        begins=begins,
        ends=ends,
        subject=subject.whole,
        name=pkix.name(subject),
        public_key=key.whole,
        key_bits=pkix.key_bits(key),
        extensions=tuple(pkix.extension(one) for one in listed.inside(der.SEQUENCE)),
        signature=der.bits(signature.of(der.BIT_STRING)),
    )


def _time(element: der.Element) -> datetime:
    form = TIME_FORMS.get(element.tag)
    try:
        text = element.content.decode("ascii")
        moment = datetime.strptime(text, form or "").replace(tzinfo=UTC)
    except ValueError:
        raise der.DerError("a time is none") from None
    if element.tag == UTC_TIME and moment.year > LAST_UTC_YEAR:  # Python's pivot is 1969
        moment = moment.replace(year=moment.year - 100)
    return moment


def _written(moment: datetime) -> bytes:
    tag = UTC_TIME if moment.year <= LAST_UTC_YEAR else GENERALIZED_TIME
    return der.write(tag, moment.strftime(TIME_FORMS[tag]).encode())


# A CA's own certificate ---------------------------------------------------------------------------


def unfit_ca(ca: Certificate, public_key: bytes, moment: datetime) -> str | None:
    """Why nothing that is signed with this key would chain to this certificate; None if it does.

    Where it names itself as its issuer, its own key must have signed it. What another CA has signed
    cannot be verified here: that one's key is not known.

    Args:
        ca: the certificate that TSB holds for the CA's key.
        public_key: the DER SubjectPublicKeyInfo of the CA's key, as the HSM reports it.
        moment: when it must be valid.
    """
    if ca.public_key != public_key:
        return "is for another key than the CA's"
    if not _is_ca(ca):
        return "is no CA's (no basicConstraints with CA:TRUE)"
    usage = pkix.key_usages(ca.extensions)
    if usage and "KEY_CERT_SIGN" not in usage:
        return "may not sign certificates (key usage)"
    if invalid := _invalid_at(ca, moment):
        return invalid
    try:
        known = ca.key_identifier
    except der.DerError:
        known = b""
    if not known:
        return "has a subject key identifier that cannot be read"
    return _unsigned_by_itself(ca, public_key) if ca.self_issued else None


def _invalid_at(ca: Certificate, moment: datetime) -> str | None:
    if not ca.begins <= moment + clocks.TOLERATED:
        return f"is not valid before {ca.begins:%Y-%m-%dT%H:%M:%SZ}"
    return f"has expired at {ca.ends:%Y-%m-%dT%H:%M:%SZ}" if moment > ca.ends else None


def _unsigned_by_itself(ca: Certificate, public_key: bytes) -> str | None:
    if ca.inner != ca.algorithm:
        return "has two signature algorithms, and they differ"
    why = pkix.unsigned(public_key, ca.algorithm, ca.signature, ca.signed)
    return why and f"names itself as its issuer, and its signature {why}"


def may_issue_cas(ca: Certificate) -> bool:
    """Whether its path length leaves room for another CA below it."""
    return not any(
        der.number(one.content) == 0
        for value in ca.values(BASIC_CONSTRAINTS)
        for one in der.element(value, der.SEQUENCE).inside(der.SEQUENCE)
        if one.tag == der.INTEGER
    )


def _is_ca(found: Certificate) -> bool:
    values = found.values(BASIC_CONSTRAINTS)
    try:
        parts = [der.element(one, der.SEQUENCE).inside(der.SEQUENCE) for one in values]
        return len(parts) == 1 and bool(parts[0]) and parts[0][0].of(der.BOOLEAN) == der.TRUE
    except der.DerError:
        return False


# The comparisons, by the code of their check ------------------------------------------------------


def check(pem: str, asked: Asked | None) -> tuple[Certificate | None, list[Check]]:
    """Compare a certificate with the request. Every comparison is made.

    Args:
        pem: as TSB returned it.
        asked: what it is compared with; None: the CA's certificate is of no use, and nothing can
            be compared.

    Returns:
        The certificate (None if it is none), and the checks in the order of `CHECKS`.
    """
    try:
        found = read(pem)
    except ValueError as error:
        failed = Check(
            code=FORMAT, result="failed", field="certificate", finding=f"TSB's result {error}"
        )
        return None, [failed, *(Check(code=code, result="skipped") for code in CHECKS)]
    checks = [Check(code=FORMAT)]
    for code, compare in CHECKS.items():
        others_failed = any(one.result == "failed" for one in checks)
        if asked is None or (code == ENCODING and others_failed):
            checks.append(Check(code=code, result="skipped"))
            continue
        differ = compare(found, asked)
        checks.append(
            Check(code=code, result="failed", field=differ[0][0], finding=_sentence(differ))
            if differ
            else Check(code=code, finding=_note(code, found, asked))
        )
    return found, checks


def check_unsigned(
    info: bytes, requested: CertificateRequest, csr_request: CsrRequest, request: csr.Request
) -> list[Check]:
    """As `check`, of what will be signed: the DER of a TBSCertificate.

    What belongs to the CA (issuer, its key, its end) is not compared, nor the moment of signing.

    Args:
        info: the bytes that the CA's key would sign.
        requested: as in `Asked`, like `csr_request`.
        csr_request: what the CSR was asked with.
        request: the CSR.
    """
    try:
        parts = pkix.exactly(8, der.element(info, der.SEQUENCE), der.SEQUENCE)
        unsigned = der.write(der.BIT_STRING, b"\0")
        found = _parsed(der.write(der.SEQUENCE, info, parts[2].whole, unsigned))
    except ValueError as error:
        return [
            Check(
                code=FORMAT,
                result="failed",
                field="certificate",
                finding=f"is no certificate's content: {error}",
            )
        ]
    asked = Asked(
        requested=requested,
        csr_request=csr_request,
        csr=request,
        ca=found,  # of the CA nothing is looked at
        ca_public_key=b"",
        signature_algorithm="",
        made_at=found.begins,
    )
    checks = [Check(code=FORMAT)]
    for code in OF_THE_REQUEST:
        differ = CHECKS[code](found, asked)
        checks.append(
            Check(code=code, result="failed", field=differ[0][0], finding=_sentence(differ))
            if differ
            else Check(code=code)
        )
    return checks


def _sentence(differ: Differences) -> str:
    return "; ".join(f"{field}: {how}" for field, how in differ)


def _note(code: str, found: Certificate, asked: Asked) -> str | None:
    """What somebody may want to know of a check that passed."""
    if code == SERIAL and not any(found.serial):
        return "the serial number is 0: RFC 5280 wants a positive one, and one CA's must differ"
    if code in USAGES and asked.usages_omitted and not found.values(KEY_USAGE, EXTENDED_KEY_USAGE):
        return "the usages are missing, as this TSB is known to leave them out (TsbOmitsUsages)"
    return None


def _public_key(found: Certificate, asked: Asked) -> Differences:
    same = found.public_key == asked.csr.public_key
    return [] if same else [("publicKey", "the certificate is for another key than the CSR")]


def _signature(found: Certificate, asked: Asked) -> Differences:
    why = pkix.unsigned(asked.ca_public_key, found.algorithm, found.signature, found.signed)
    return [("signature", f"the CA key's signature {why}")] if why else []


def _signature_algorithm(found: Certificate, asked: Asked) -> Differences:
    wanted = asked.signature_algorithm
    if found.inner != found.algorithm:
        return [("signatureAlgorithm", "stands in it twice, and differs")]
    if found.algorithm in SIGNATURES[wanted].identifiers:
        return []
    name = SIGNATURE_NAMES.get(found.algorithm, "an unknown algorithm")
    return [("signatureAlgorithm", f"the certificate is signed with {name}, not {wanted}")]


def _issuer(found: Certificate, asked: Asked) -> Differences:
    same = found.issuer == asked.ca.subject
    return [] if same else [("issuer", "is not the subject of the CA's certificate")]


def _authority_key(found: Certificate, asked: Asked) -> Differences:
    values = found.values(AUTHORITY_KEY_IDENTIFIER)
    same = values == [_authority(asked)]
    return [] if same else [("authorityKeyIdentifier", "does not name the CA's key")]


def _authority(asked: Asked) -> bytes:
    return der.write(der.SEQUENCE, der.write(KEY_IDENTIFIER_TAG, asked.ca.key_identifier))


def _texts(name: Name) -> list[list[tuple[str, str | None]]]:
    return [[(one.oid, one.text) for one in part] for part in name]


def _subject(found: Certificate, asked: Asked) -> Differences:
    is_read = all(one.text is not None for part in found.name for one in part)
    same = is_read and _texts(found.name) == _texts(asked.csr.subject)
    said = pkix.described(found.name)
    return [] if same else [("subject", f"is {said}, and the CSR's is another one")]


def _basic_constraints(found: Certificate, asked: Asked) -> Differences:
    values = found.values(BASIC_CONSTRAINTS)
    if asked.requested.certificate_authority:
        same = values == [CA_TRUE]
        return [] if same else [("basicConstraints", "CA:TRUE was asked for, and nothing else")]
    return [("basicConstraints", "is there, and was not asked for")] if values else []


def _key_usage(found: Certificate, asked: Asked) -> Differences:
    return _usage("keyUsage", pkix.key_usages(found.extensions), asked.key_usage, asked)


def _extended_key_usage(found: Certificate, asked: Asked) -> Differences:
    said = pkix.extended_key_usages(found.extensions)
    return _usage("extendedKeyUsage", said, asked.extended_key_usage, asked)


def _usage(name: str, found: tuple[str, ...], wanted: tuple[str, ...], asked: Asked) -> Differences:
    if sorted(found) == sorted(wanted) or (asked.usages_omitted and not found):
        return []
    says, was = ", ".join(found) or "nothing", ", ".join(wanted) or "nothing"
    return [(name, f"the certificate says {says}, asked was {was}")]


def _criticality(found: Certificate, _: Asked) -> Differences:
    return [
        (USAGE_EXTENSIONS[one.oid], "is not critical")
        for one in found.extensions
        if one.oid in USAGE_EXTENSIONS and not one.critical
    ] + [
        ("keyIdentifier", "is critical")
        for one in found.extensions
        if one.oid in (KEY_IDENTIFIER, AUTHORITY_KEY_IDENTIFIER) and one.critical
    ]


def _extensions(found: Certificate, _: Asked) -> Differences:
    oids = [one.oid for one in found.extensions]
    return [
        (
            "extensions",
            f"extension {oid} was not asked for"
            if oid not in KNOWN
            else f"extension {oid} is there {oids.count(oid)} times",
        )
        for oid in dict.fromkeys(oids)
        if oid not in KNOWN or oids.count(oid) > 1
    ]


def _key_identifier(found: Certificate, _: Asked) -> Differences:
    own = der.write(der.OCTET_STRING, pkix.identifier(found.key_bits))
    return [
        ("subjectKeyIdentifier", "is not that of the key")
        for value in found.values(KEY_IDENTIFIER)
        if value != own
    ]


def _begin(found: Certificate, asked: Asked) -> Differences:
    if found.begins > asked.made_at + clocks.TOLERATED:
        return [("notBefore", "is later than the moment at which it was signed")]
    if found.begins < asked.made_at - DAY - clocks.TOLERATED:
        return [("notBefore", "is more than a day before the moment at which it was signed")]
    return []


def _validity(found: Certificate, asked: Asked) -> Differences:
    days = (found.ends - found.begins) / DAY
    same = days == asked.requested.validity
    return [] if same else [("notAfter", f"{days:g} days, asked was {asked.requested.validity}")]


def _beyond_ca(found: Certificate, asked: Asked) -> Differences:
    within = found.ends <= asked.ca.ends
    return [] if within else [("notAfter", "is later than that of the CA's certificate")]


def _serial(found: Certificate, _: Asked) -> Differences:
    try:
        der.number(found.serial)
    except der.DerError as error:
        return [("serialNumber", str(error))]
    short = len(found.serial) <= MAX_SERIAL_BYTES
    return [] if short else [("serialNumber", f"has more than {MAX_SERIAL_BYTES} bytes")]


def _encoding(found: Certificate, asked: Asked) -> Differences:
    """Whether there is nothing in the certificate but what was read and compared."""
    same = _rebuilt(found, asked) == found.der
    return [] if same else [("certificate", "is not the bytes that the requested one has in DER")]


def _rebuilt(found: Certificate, asked: Asked) -> bytes:
    """The requested certificate in DER. What TSB may choose is as in `found`."""
    subject = (
        der.write_set([der.write(der.SEQUENCE, der.write_oid(one.oid), pkix.string(one.tag, text))])
        for part in found.name
        for one in part
        for text in [one.text or ""]
    )
    order = [one.oid for one in found.extensions]
    extensions = sorted(_asked_extensions(found, asked), key=lambda one: order.index(one.oid))
    info = der.write(
        der.SEQUENCE,
        VERSION,
        der.write(der.INTEGER, found.serial),
        found.algorithm,
        asked.ca.subject,
        der.write(der.SEQUENCE, _written(found.begins), _written(found.ends)),
        der.write(der.SEQUENCE, *subject),
        asked.csr.public_key,
        der.write(EXTENSIONS, der.write(der.SEQUENCE, *(one.whole for one in extensions))),
    )
    signature = der.write(der.BIT_STRING, b"\0", found.signature)
    return der.write(der.SEQUENCE, info, found.algorithm, signature)


def _asked_extensions(found: Certificate, asked: Asked) -> Iterable[Extension]:
    yield Extension(AUTHORITY_KEY_IDENTIFIER, False, _authority(asked))
    if found.values(KEY_IDENTIFIER):
        own = der.write(der.OCTET_STRING, pkix.identifier(found.key_bits))
        yield Extension(KEY_IDENTIFIER, False, own)
    for one in found.extensions:
        if one.oid == BASIC_CONSTRAINTS:
            yield replace(one, value=CA_TRUE)
    yield from pkix.usage_extensions(
        asked.key_usage if found.values(KEY_USAGE) else (),
        pkix.extended_key_usages(found.extensions),
    )


CA_TRUE = der.write(der.SEQUENCE, der.write(der.BOOLEAN, der.TRUE))
FORMAT, ENCODING, SERIAL = "CERTIFICATE_FORMAT", "CERTIFICATE_ENCODING", "CERTIFICATE_SERIAL"
USAGES = ("CERTIFICATE_KEY_USAGE", "CERTIFICATE_EXTENDED_KEY_USAGE")
# The first failed check gives its code to the error, so the strongest check comes first.
CHECKS: dict[str, Callable[[Certificate, Asked], Differences]] = {
    "CERTIFICATE_PUBLIC_KEY": _public_key,
    "CERTIFICATE_SIGNATURE": _signature,
    "CERTIFICATE_SIGNATURE_ALGORITHM": _signature_algorithm,
    "CERTIFICATE_ISSUER": _issuer,
    "CERTIFICATE_AUTHORITY_KEY": _authority_key,
    "CERTIFICATE_SUBJECT": _subject,
    "CERTIFICATE_BASIC_CONSTRAINTS": _basic_constraints,
    "CERTIFICATE_KEY_USAGE": _key_usage,
    "CERTIFICATE_EXTENDED_KEY_USAGE": _extended_key_usage,
    "CERTIFICATE_CRITICALITY": _criticality,
    "CERTIFICATE_EXTENSION": _extensions,
    "CERTIFICATE_KEY_IDENTIFIER": _key_identifier,
    "CERTIFICATE_BEGIN": _begin,
    "CERTIFICATE_VALIDITY": _validity,
    "CERTIFICATE_BEYOND_CA": _beyond_ca,
    SERIAL: _serial,
    ENCODING: _encoding,
}
# What follows from the request and its CSR, before there is a signature.
OF_THE_REQUEST = (
    "CERTIFICATE_PUBLIC_KEY", "CERTIFICATE_SUBJECT", "CERTIFICATE_BASIC_CONSTRAINTS",
    "CERTIFICATE_KEY_USAGE", "CERTIFICATE_EXTENDED_KEY_USAGE", "CERTIFICATE_CRITICALITY",
    "CERTIFICATE_EXTENSION", "CERTIFICATE_KEY_IDENTIFIER", "CERTIFICATE_VALIDITY",
)  # fmt: skip
