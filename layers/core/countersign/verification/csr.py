"""What a CSR (PKCS #10) says, and whether it is what was requested.

The bytes are read here, not by a library: of what a library leaves out nobody could say that it
was requested. At the end what was requested is rebuilt as a CSR and compared byte for byte.

What TSB may choose: the order of the extensions and of the extended usages, whether there is a
subject key identifier, the type of each string, the header of the PEM and the length of its lines.

Source: RFC 2986 (PKCS #10), RFC 5280 (extensions), RFC 7468 (PEM); the vendor's own CSR for the
header, the criticality of the usages and the subject key identifier.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from copy import replace
from typing import NamedTuple

from countersign import der
from countersign.errors import CsrInvalidError
from countersign.models import Check, CsrRequest
from countersign.verification import pkix, public_keys
from countersign.verification.pkix import (
    ALTERNATIVE_NAMES,
    BASIC_CONSTRAINTS,
    KEY_IDENTIFIER,
    SUBJECT_OIDS,
    USAGE_EXTENSIONS,
    Extension,
    Name,
    Value,
)
from countersign.verification.signatures import SIGNATURE_NAMES, SIGNATURES

MAX_BYTES = 64 * 1024  # our limit; the CSR of an 8,192-bit RSA key is 3 KB
HEADERS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"  # the PKCS #10 attribute that holds the extensions
VERSION = der.write(der.INTEGER, b"\0")  # v1, the only one
type Differences = list[tuple[str, str]]  # each: the field, and how it differs


class Request(NamedTuple):
    """A CSR as it was read.

    Args:
        der: all of it.
        signed: the part that the signature covers.
        subject: the values of each relative distinguished name.
        public_key: the DER SubjectPublicKeyInfo.
        key_bits: the key in it.
        attributes: of each PKCS #10 attribute the OID and how many values it has.
        extensions: of every attribute and value that holds any, in order.
        algorithm: the DER AlgorithmIdentifier of the signature; empty before there is one.
        signature: its bytes.
    """

    der: bytes
    signed: bytes
    subject: Name
    public_key: bytes
    key_bits: bytes
    attributes: tuple[tuple[str, int], ...]
    extensions: tuple[Extension, ...]
    algorithm: bytes = b""
    signature: bytes = b""

    def values(self, *oids: str) -> list[bytes]:
        """The values of the extensions of these kinds."""
        return pkix.values(self.extensions, *oids)


class Csr(NamedTuple):
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
    return _describe(read(pem))


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
        request = read(pem)
    except CsrInvalidError as error:
        return None, _unreadable(error.message, [*CHECKS])
    return _describe(request), _compared(request, requested, public_key, [*CHECKS])


def check_unsigned(
    info: bytes, requested: CsrRequest, *, public_key: str | None
) -> tuple[Csr | None, list[Check]]:
    """As `check`, of what will be signed: the DER of a CertificationRequestInfo.

    Args:
        info: the bytes that the key would sign.
        requested: as in `check`.
        public_key: as in `check`; None: not known here, so CSR_PUBLIC_KEY is skipped.
    """
    codes = [code for code in CHECKS if code not in SIGNED_ONLY]
    try:
        request = _parse_unsigned(info)
    except der.DerError as error:
        return None, _unreadable(f"is no CertificationRequestInfo: {error}", codes)
    own = base64.b64encode(request.public_key).decode()
    checks = _compared(request, requested, public_key or own, codes)
    if public_key is None:
        unknown = Check(code=PUBLIC_KEY, result="skipped")
        checks = [unknown if one.code == PUBLIC_KEY else one for one in checks]
    return _describe(request), checks


def unsigned_public_key(info: bytes) -> str:
    """The base64 DER SPKI in a CertificationRequestInfo.

    Raises:
        DerError: it is none.
    """
    return base64.b64encode(_parse_unsigned(info).public_key).decode()


def _compared(
    request: Request, requested: CsrRequest, public_key: str, codes: list[str]
) -> list[Check]:
    checks = [Check(code="CSR_FORMAT")]
    for code in codes:
        if code == ENCODING and any(one.result == "failed" for one in checks):
            checks.append(Check(code=code, result="skipped"))  # what was compared differs already
            continue
        # A list: one attribute may differ, or several.
        differ = CHECKS[code](request, requested, public_key)
        checks.append(
            Check(code=code, result="failed", field=differ[0][0], finding=_sentence(differ))
            if differ
            else Check(code=code)
        )
    return checks


def _unreadable(why: str, codes: list[str]) -> list[Check]:
    failed = Check(code="CSR_FORMAT", result="failed", field="pem", finding=why)
    return [failed, *(Check(code=code, result="skipped") for code in codes)]


# Reading ------------------------------------------------------------------------------------------


def read(pem: str) -> Request:
    """A CSR as it was read. The only place where a CSR's text and bytes are read.

    Raises:
        CsrInvalidError: they are not exactly one CSR.
    """
    content = _content(pem)
    try:
        return _parse(content)
    except der.DerError as error:
        raise _no_csr(f"is no PKCS #10: {error}") from None


def _content(pem: str) -> bytes:
    try:
        return pkix.unarmored(pem, *HEADERS, most=MAX_BYTES)
    except ValueError:
        raise _no_csr("is not one CSR in PEM") from None


def _parse(content: bytes) -> Request:
    info, algorithm, signature = pkix.exactly(3, der.element(content, der.SEQUENCE), der.SEQUENCE)
    return replace(
        _parse_unsigned(info.whole),
        der=content,
        algorithm=algorithm.whole,
        signature=der.bits(signature.of(der.BIT_STRING)),
    )


def _parse_unsigned(info: bytes) -> Request:
    parts = pkix.exactly(4, der.element(info, der.SEQUENCE), der.SEQUENCE)
    version, subject, key, attributes = parts
    if version.whole != VERSION:
        raise der.DerError("its version is not 0")
    found = [_attribute(one) for one in attributes.inside(der.FIRST_CONTEXT)]
    return Request(
        der=info,
        signed=info,
        subject=pkix.name(subject),
        public_key=key.whole,
        key_bits=pkix.key_bits(key),
        attributes=tuple((oid, len(values)) for oid, values in found),
        extensions=tuple(
            pkix.extension(one)
            for oid, values in found
            if oid == EXTENSION_REQUEST
            for value in values
            for one in value.inside(der.SEQUENCE)
        ),
    )


def _attribute(element: der.Element) -> tuple[str, list[der.Element]]:
    oid, values = pkix.exactly(2, element, der.SEQUENCE)
    return der.dotted(oid.of(der.OID)), values.inside(der.SET)


# The comparisons, by the code of their check -----------------------------------------------------


def _public_key(request: Request, _: CsrRequest, public_key: str) -> Differences:
    own = base64.b64encode(request.public_key).decode() == public_key
    return [] if own else [("publicKey", "the CSR is for another key than the HSM reports")]


def _signature(request: Request, _: CsrRequest, __: str) -> Differences:
    why = pkix.unsigned(request.public_key, request.algorithm, request.signature, request.signed)
    return [("signature", f"the CSR's own signature {why}")] if why else []


def _signature_algorithm(request: Request, requested: CsrRequest, _: str) -> Differences:
    wanted = requested.signature_algorithm
    known = SIGNATURES.get(wanted)
    if known is not None and request.algorithm in known.identifiers:
        return []
    found = SIGNATURE_NAMES.get(request.algorithm, "an unknown algorithm")
    return [("signatureAlgorithm", f"the CSR is signed with {found}, not {wanted}")]


def _subject_added(request: Request, requested: CsrRequest, _: str) -> Differences:
    wanted, names = _wanted_subject(requested), [one.name for one in _subject(request)]
    return [
        (f"subject.{name}", "is in the subject and was not asked for")
        if name not in wanted
        else (f"subject.{name}", "stands in the subject more than once")
        for name in dict.fromkeys(names)
        if name not in wanted or names.count(name) > 1
    ]


def _subject_dropped(request: Request, requested: CsrRequest, _: str) -> Differences:
    found = {one.name for one in _subject(request)}
    return [
        (f"subject.{name}", "was asked for and is not in the subject")
        for name in _wanted_subject(requested)
        if name not in found
    ]


def _subject_value(request: Request, requested: CsrRequest, _: str) -> Differences:
    wanted = _wanted_subject(requested)
    return [
        (
            f"subject.{one.name}",
            "has another value than was asked for"
            if one.text is not None
            else "is a string of a type that does not tell its text",
        )
        for one in _subject(request)
        if one.name in wanted and one.text != wanted[one.name]
    ]


def _subject_order(request: Request, _: CsrRequest, __: str) -> Differences:
    found = [one.name for one in _subject(request) if one.name in SUBJECT_OIDS]
    if any(len(part) != 1 for part in request.subject):
        return [("subject", "holds several attributes where there should be one after another")]
    if found != sorted(found, key=list(SUBJECT_OIDS).index):
        return [("subject", f"is in the order {', '.join(found)}, which is not TSB's")]
    return []


def _key_usage(request: Request, requested: CsrRequest, _: str) -> Differences:
    return _usage("keyUsage", pkix.key_usages(request.extensions), requested.key_usage or ())


def _extended_key_usage(request: Request, requested: CsrRequest, _: str) -> Differences:
    found = pkix.extended_key_usages(request.extensions)
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
    ] + [
        ("subjectKeyIdentifier", "is critical")
        for extension in request.extensions
        if extension.oid == KEY_IDENTIFIER and extension.critical
    ]


def _alternative_names(request: Request, _: CsrRequest, __: str) -> Differences:
    return _not_asked(request, {ALTERNATIVE_NAMES}, "subjectAlternativeNames")


def _basic_constraints(request: Request, _: CsrRequest, __: str) -> Differences:
    return _not_asked(request, {BASIC_CONSTRAINTS}, "basicConstraints")


def _extensions(request: Request, _: CsrRequest, __: str) -> Differences:
    found = [extension.oid for extension in request.extensions]
    others = {*found} - {*USAGE_EXTENSIONS, KEY_IDENTIFIER, ALTERNATIVE_NAMES, BASIC_CONSTRAINTS}
    return _not_asked(request, others, "extensions") + [
        ("extensions", f"extension {oid} stands in the CSR {found.count(oid)} times")
        for oid in dict.fromkeys(found)
        if found.count(oid) > 1
    ]


def _not_asked(request: Request, oids: set[str], name: str) -> Differences:
    return [
        (name, f"extension {extension.oid} was not asked for")
        for extension in request.extensions
        if extension.oid in oids
    ]


def _key_identifier(request: Request, _: CsrRequest, __: str) -> Differences:
    return [
        ("subjectKeyIdentifier", "is not that of the key")
        for value in request.values(KEY_IDENTIFIER)
        if value != _own_identifier(request)
    ]


def _own_identifier(request: Request) -> bytes:
    return der.write(der.OCTET_STRING, pkix.identifier(request.key_bits))


def _attributes(request: Request, _: CsrRequest, __: str) -> Differences:
    differ = [
        ("attributes", f"attribute {oid} was not asked for")
        for oid, _ in request.attributes
        if oid != EXTENSION_REQUEST
    ]
    values = [number for oid, number in request.attributes if oid == EXTENSION_REQUEST]
    if values not in ([], [1]):
        differ.append(
            (
                "attributes",
                f"extensions are requested in {len(values)} attributes with {sum(values)} values;"
                " programs differ on which of them they read",
            )
        )
    return differ


def _encoding(request: Request, requested: CsrRequest, public_key: str) -> Differences:
    """Whether there is nothing in the CSR but what was read and compared.

    What stands around the signed part are three elements in strict DER, all of them read.
    """
    same = _rebuilt(request, requested, public_key) == request.signed
    return [] if same else [("pem", "is not the bytes that the requested CSR has in DER")]


def _rebuilt(request: Request, requested: CsrRequest, public_key: str) -> bytes:
    """What is signed of the requested CSR, in DER. What TSB may choose is as in `request`."""
    tags = {one.oid: one.tag for one in _subject(request)}
    names = [
        der.write_set(
            [der.write(der.SEQUENCE, der.write_oid(oid), pkix.string(tags.get(oid), text))]
        )
        for name, oid in SUBJECT_OIDS.items()
        for text in [_wanted_subject(requested).get(name)]
        if text is not None
    ]
    order = [one.oid for one in request.extensions]
    extensions = [
        one.whole
        for one in sorted(
            _asked_extensions(request, requested), key=lambda one: order.index(one.oid)
        )
    ]
    attribute = der.write(
        der.SEQUENCE,
        der.write_oid(EXTENSION_REQUEST),
        der.write(der.SET, der.write(der.SEQUENCE, *extensions)),
    )
    return der.write(
        der.SEQUENCE,
        VERSION,
        der.write(der.SEQUENCE, *names),
        base64.b64decode(public_key),
        der.write(der.FIRST_CONTEXT, attribute if extensions else b""),
    )


def _asked_extensions(request: Request, requested: CsrRequest) -> list[Extension]:
    asked = pkix.usage_extensions(
        requested.key_usage or (),
        pkix.extended_key_usages(request.extensions) if requested.extended_key_usage else (),
    )
    if request.values(KEY_IDENTIFIER):
        asked.append(Extension(KEY_IDENTIFIER, False, _own_identifier(request)))
    return asked


PUBLIC_KEY, ENCODING = "CSR_PUBLIC_KEY", "CSR_ENCODING"
SIGNED_ONLY = ("CSR_SIGNATURE", "CSR_SIGNATURE_ALGORITHM")
# The first failed check gives its code to the error, so the strongest check comes first.
CHECKS: dict[str, Callable[[Request, CsrRequest, str], Differences]] = {
    PUBLIC_KEY: _public_key,
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
    "CSR_EXTENSION": _extensions,
    "CSR_KEY_IDENTIFIER": _key_identifier,
    "CSR_ATTRIBUTE": _attributes,
    ENCODING: _encoding,
}


def _sentence(differ: Differences) -> str:
    return "; ".join(f"{field}: {how}" for field, how in differ)


def _wanted_subject(requested: CsrRequest) -> dict[str, str]:
    fields = requested.standard_certificate_attributes.dump()
    return {name: value for name, value in fields.items() if value is not None}


def _subject(request: Request) -> list[Value]:
    return [one for part in request.subject for one in part]


def _describe(request: Request) -> Csr:
    try:
        key = str(public_keys.read(request.public_key))
    except der.DerError as error:
        key = f"a key that {error}"
    return Csr(
        pem=pkix.armored(request.der, HEADERS[0]),
        sha256=hashlib.sha256(request.der).hexdigest(),
        subject=pkix.described(request.subject),
        key=key,
        public_key_sha256=hashlib.sha256(request.public_key).hexdigest(),
        key_usage=pkix.key_usages(request.extensions),
        extended_key_usage=pkix.extended_key_usages(request.extensions),
    )


def _no_csr(why: str) -> CsrInvalidError:
    return CsrInvalidError(
        f"TSB's result {why}",
        field="pem",
        reason="CSR_FORMAT",
        action="Treat it as a security incident: TSB's answer is kept beside the request in S3.",
    )
