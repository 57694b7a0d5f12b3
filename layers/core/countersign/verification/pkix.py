"""What CSRs and certificates have in common: PEM, names, extensions, usages, signatures.

The bytes are read here, not by a library: of what a library leaves out nobody could say that it
was requested.

Source: RFC 5280 (names, extensions), RFC 7468 (PEM), RFC 4514 (names as text).
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from countersign import der
from countersign.verification.signatures import SIGNATURE_NAMES, SIGNATURES, Signature

PEM_LINE = 64
BLANKS = re.compile(r"[ \t\r\n]+")

# In the order in which TSB writes them, the reverse of the string form CN, OU, O, …
SUBJECT_OIDS = {
    "generationQualifier": "2.5.4.44",
    "pseudonym": "2.5.4.65",
    "initials": "2.5.4.43",
    "givenName": "2.5.4.42",
    "surname": "2.5.4.4",
    "title": "2.5.4.12",
    "email": "1.2.840.113549.1.9.1",
    "country": "2.5.4.6",
    "stateOrProvinceName": "2.5.4.8",
    "locality": "2.5.4.7",
    "organizationIdentifier": "2.5.4.97",
    "organizationName": "2.5.4.10",
    "organizationUnitName": "2.5.4.11",
    "commonName": "2.5.4.3",
}
SUBJECT_NAMES = {oid: name for name, oid in SUBJECT_OIDS.items()}
KEYWORDS = {"2.5.4.3": "CN", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU",
            "2.5.4.6": "C"}  # fmt: skip  # of RFC 4514
# The types of string that mean one text only. A TeletexString does not.
CODECS = {
    0x0C: ("utf-8", re.compile(r".*", re.DOTALL)),
    0x13: ("ascii", re.compile(r"[A-Za-z0-9 '()+,\-./:=?]*")),
    0x16: ("ascii", re.compile(r".*", re.DOTALL)),
    0x1C: ("utf-32-be", re.compile(r".*", re.DOTALL)),
    0x1E: ("utf-16-be", re.compile(r".*", re.DOTALL)),
}
KEY_USAGE, EXTENDED_KEY_USAGE = "2.5.29.15", "2.5.29.37"
KEY_IDENTIFIER, ALTERNATIVE_NAMES, BASIC_CONSTRAINTS = "2.5.29.14", "2.5.29.17", "2.5.29.19"
AUTHORITY_KEY_IDENTIFIER = "2.5.29.35"
USAGE_EXTENSIONS = {KEY_USAGE: "keyUsage", EXTENDED_KEY_USAGE: "extendedKeyUsage"}
# In the order of their bits.
KEY_USAGES = (
    "DIGITAL_SIGNATURE", "CONTENT_COMMITMENT", "KEY_ENCIPHERMENT", "DATA_ENCIPHERMENT",
    "KEY_AGREEMENT", "KEY_CERT_SIGN", "CRL_SIGN", "ENCIPHER_ONLY", "DECIPHER_ONLY",
)  # fmt: skip
EXTENDED_KEY_USAGES = {
    "2.5.29.37.0": "ANY_EXTENDED_KEY_USAGE",
    "1.3.6.1.5.5.7.3.1": "SERVER_AUTH",
    "1.3.6.1.5.5.7.3.2": "CLIENT_AUTH",
    "1.3.6.1.5.5.7.3.3": "CODE_SIGNING",
    "1.3.6.1.5.5.7.3.4": "EMAIL_PROTECTION",
    "1.3.6.1.5.5.7.3.8": "TIME_STAMPING",
    "1.3.6.1.5.5.7.3.9": "OCSP_SIGNING",
}
EXTENDED_OIDS = {name: oid for oid, name in EXTENDED_KEY_USAGES.items()}
UNREADABLE = ("what cannot be read",)
type Name = tuple[tuple["Value", ...], ...]  # the values of each relative distinguished name


class Value(NamedTuple):
    """An attribute of a name; `text` is None if its type does not tell which text it is."""

    oid: str
    tag: int
    text: str | None

    @property
    def name(self) -> str:
        """TSB's name of the attribute."""
        return SUBJECT_NAMES.get(self.oid, self.oid)


class Extension(NamedTuple):
    """An extension; `value` is its DER."""

    oid: str
    critical: bool
    value: bytes

    @property
    def whole(self) -> bytes:
        """The extension in DER."""
        return der.write(
            der.SEQUENCE,
            der.write_oid(self.oid),
            der.write(der.BOOLEAN, der.TRUE) if self.critical else b"",
            der.write(der.OCTET_STRING, self.value),
        )


# PEM ----------------------------------------------------------------------------------------------


def unarmored(pem: str, *headers: str, most: int) -> bytes:
    """The DER in a text that is exactly one object in PEM, under one of these headers.

    Raises:
        ValueError: it is something else, or longer than `most` characters.
    """
    text = pem.strip(" \t\r\n") if len(pem) <= most else ""
    for header in headers:
        begin, end = f"-----BEGIN {header}-----", f"-----END {header}-----"
        if text.startswith(begin) and text.endswith(end):
            body = BLANKS.sub("", text[len(begin) : len(text) - len(end)])
            try:
                return base64.b64decode(body, validate=True)
            except ValueError:  # not ASCII, or no base64
                break
    raise ValueError("is not one object in PEM")


def armored(content: bytes, header: str) -> str:
    """PEM as RFC 7468 wants it, in lines of 64 characters."""
    body = base64.b64encode(content).decode()
    lines = [body[at : at + PEM_LINE] for at in range(0, len(body), PEM_LINE)]
    return "\n".join([f"-----BEGIN {header}-----", *lines, f"-----END {header}-----", ""])


# Reading ------------------------------------------------------------------------------------------


def exactly(number: int, element: der.Element, tag: int) -> list[der.Element]:
    """The elements inside, which must be so many.

    Raises:
        der.DerError: there are more or fewer, or it has another tag.
    """
    found = element.inside(tag)
    if len(found) != number:
        raise der.DerError(f"a part has {len(found)} elements, not {number}")
    return found


def name(element: der.Element) -> Name:
    """A distinguished name.

    Raises:
        der.DerError: it is none.
    """
    return tuple(
        tuple(_value(one) for one in rdn.inside(der.SET)) for rdn in element.inside(der.SEQUENCE)
    )


def _value(element: der.Element) -> Value:
    oid, value = exactly(2, element, der.SEQUENCE)
    return Value(der.dotted(oid.of(der.OID)), value.tag, _text(value))


def _text(value: der.Element) -> str | None:
    codec, allowed = CODECS.get(value.tag, ("", None))
    if allowed is None:
        return None
    try:
        text = value.content.decode(codec)
    except ValueError:
        return None
    return text if allowed.fullmatch(text) else None


def string(tag: int | None, text: str) -> bytes:
    """A text as a string of this type."""
    codec, _ = CODECS[tag or 0]
    return der.write(tag or 0, text.encode(codec))


def extension(element: der.Element) -> Extension:
    """An extension.

    Raises:
        der.DerError: it is none.
    """
    match element.inside(der.SEQUENCE):
        case [oid, value]:
            critical = False
        case [oid, flag, value]:
            critical = flag.of(der.BOOLEAN) != der.FALSE
        case _:
            raise der.DerError("an extension has other parts than name, criticality and value")
    return Extension(der.dotted(oid.of(der.OID)), critical, value.of(der.OCTET_STRING))


def values(extensions: Iterable[Extension], *oids: str) -> list[bytes]:
    """The values of the extensions of these kinds."""
    return [one.value for one in extensions if one.oid in oids]


def key_usages(extensions: Iterable[Extension]) -> tuple[str, ...]:
    """TSB's names of the key usages; none where there is no such extension."""
    found = values(extensions, KEY_USAGE)
    if not found:
        return ()
    try:
        unused, *octets = der.element(found[0], der.BIT_STRING).content or b"\0"
    except der.DerError:
        return UNREADABLE
    bits = "".join(f"{octet:08b}" for octet in octets)[: len(octets) * 8 - unused]
    return tuple(
        KEY_USAGES[index] if index < len(KEY_USAGES) else f"bit {index}"
        for index, bit in enumerate(bits)
        if bit == "1"
    )


def extended_key_usages(extensions: Iterable[Extension]) -> tuple[str, ...]:
    """TSB's names of the extended key usages, in their order."""
    found = values(extensions, EXTENDED_KEY_USAGE)
    if not found:
        return ()
    try:
        oids = [
            der.dotted(one.of(der.OID))
            for one in der.element(found[0], der.SEQUENCE).inside(der.SEQUENCE)
        ]
    except der.DerError:
        return UNREADABLE
    return tuple(EXTENDED_KEY_USAGES.get(oid, oid) for oid in oids)


def key_bits(public_key: der.Element) -> bytes:
    """The key in a SubjectPublicKeyInfo.

    Raises:
        der.DerError: it is none.
    """
    return der.bits(exactly(2, public_key, der.SEQUENCE)[1].of(der.BIT_STRING))


def identifier(bits: bytes) -> bytes:
    """RFC 5280, 4.2.1.2, method 1: SHA-1 of the public key's bits. It names; it secures nothing."""
    return hashlib.sha1(bits, usedforsecurity=False).digest()


# What was asked, written --------------------------------------------------------------------------


def usage_extensions(key_usage: Sequence[str], extended: Sequence[str]) -> list[Extension]:
    """The extensions that TSB makes of usages; none of those that are empty."""
    made = list[Extension]()
    if key_usage:
        bits = [usage in key_usage for usage in KEY_USAGES]
        size = max(index for index, bit in enumerate(bits) if bit) + 1
        number = sum(1 << (-size % 8 + size - 1 - index) for index, bit in enumerate(bits) if bit)
        content = bytes((-size % 8,)) + number.to_bytes((size + 7) // 8)
        made.append(Extension(KEY_USAGE, True, der.write(der.BIT_STRING, content)))
    if extended:
        usages = (der.write_oid(EXTENDED_OIDS[usage]) for usage in extended)
        made.append(Extension(EXTENDED_KEY_USAGE, True, der.write(der.SEQUENCE, *usages)))
    return made


# Signatures ---------------------------------------------------------------------------------------


def unsigned(public_key: bytes, algorithm: bytes, signature: bytes, signed: bytes) -> str | None:
    """Why a signature does not count; None if it is the key's.

    Args:
        public_key: the DER SubjectPublicKeyInfo.
        algorithm: the DER AlgorithmIdentifier.
        signature: its bytes.
        signed: what it is over.
    """
    known = SIGNATURE_NAMES.get(algorithm)
    if known is None:
        return "cannot be verified: unknown algorithm"
    scheme = SIGNATURES[known]
    try:
        key = load_der_public_key(public_key)
        match key, scheme.key:
            case rsa.RSAPublicKey(), "RSA":
                digest = _digest(scheme)
                pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
                padded = pss if scheme.pss else padding.PKCS1v15()
                key.verify(signature, signed, padded, digest)
            case ec.EllipticCurvePublicKey(), "EC":
                key.verify(signature, signed, ec.ECDSA(_digest(scheme)))
            case ed25519.Ed25519PublicKey(), "ED":
                key.verify(signature, signed)
            case _:
                return "is of an algorithm that its key cannot make"
    except InvalidSignature:
        return "does not hold"
    except Exception:  # noqa: BLE001  whatever the library makes of a key from outside
        return "cannot be verified: its key is of no kind that can be read"
    return None


def _digest(algorithm: Signature) -> hashes.HashAlgorithm:
    made: hashes.HashAlgorithm = getattr(hashes, algorithm.digest)()
    return made


# For people ---------------------------------------------------------------------------------------


def described(shown: Name) -> str:
    """A name in RFC 4514 form; a text that cannot be read is a question mark."""
    return ",".join(
        "+".join(f"{KEYWORDS.get(one.oid, one.oid)}={_escaped(one.text)}" for one in part)
        for part in reversed(shown)
    )


def _escaped(text: str | None) -> str:
    if text is None:
        return "?"
    escaped = re.sub(r'([\\",+;<>])', r"\\\1", text).replace("\0", r"\00")
    begin = "\\" if escaped.startswith(("#", " ")) else ""
    return begin + (escaped[:-1] + r"\ " if escaped[1:].endswith(" ") else escaped)
