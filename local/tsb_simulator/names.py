"""Subjects as the vendor's published code makes them: joined, unescaped, and read by keytool.

The code joins `KEY=value` with a comma and a blank, and hands the text to a modified Java keytool.
So a value with a comma is read as two, or refused. This module reads the text as keytool does.
Source: the vendor's published client code; Java 17's X500Name, whose answers are in
tests/unit/golden/names.json and subjects.json.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from local.tsb_simulator import der

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local.tsb_simulator.bodies import SubjectBody

# In the order of the vendor's code; pseudonym is taken and not written there.
KEYWORDS = (
    ("common_name", "CN"),
    ("organization_unit_name", "OU"),
    ("organization_name", "O"),
    ("organization_identifier", "2.5.4.97"),
    ("locality", "L"),
    ("state_or_province_name", "ST"),
    ("country", "C"),
    ("email", "EMAILADDRESS"),
    ("title", "T"),
    ("surname", "SURNAME"),
    ("given_name", "GIVENNAME"),
    ("initials", "INITIALS"),
    ("generation_qualifier", "GENERATION"),
)
# What keytool reads before an equals sign. Whoever injects one may choose any of them.
OIDS = {
    "CN": "2.5.4.3", "SURNAME": "2.5.4.4", "SERIALNUMBER": "2.5.4.5", "C": "2.5.4.6",
    "L": "2.5.4.7", "ST": "2.5.4.8", "S": "2.5.4.8", "STREET": "2.5.4.9", "O": "2.5.4.10",
    "OU": "2.5.4.11", "T": "2.5.4.12", "GIVENNAME": "2.5.4.42", "INITIALS": "2.5.4.43",
    "GENERATION": "2.5.4.44", "DNQUALIFIER": "2.5.4.46", "DNQ": "2.5.4.46",
    "EMAIL": "1.2.840.113549.1.9.1", "EMAILADDRESS": "1.2.840.113549.1.9.1",
    "UID": "0.9.2342.19200300.100.1.1", "DC": "0.9.2342.19200300.100.1.25",
    "IP": "1.3.6.1.4.1.42.2.11.2.1",
}  # fmt: skip
# The order in a certificate is the reverse.
DN_ORDER = tuple((attribute, OIDS.get(keyword, keyword)) for attribute, keyword in KEYWORDS)[::-1]
IA5 = {OIDS["EMAIL"], OIDS["DC"]}
DOTTED = re.compile(r"(?:OID\.)?([0-2](?:\.\d+)+)")
ESCAPABLE, UNESCAPED = ',=\n+<>#;\\" ', ',+<>;"'
CONTROLS = "".join(map(chr, range(ord(" ") + 1)))  # what Java's trim takes away
HEX_DIGITS = "0123456789abcdefABCDEF"


class NotADistinguishedNameError(Exception):
    """keytool refuses the text; the message says why."""


def joined(subject: SubjectBody) -> str:
    """The text that the vendor's code makes of a subject. An empty value is written as well."""
    return ", ".join(
        f"{keyword}={value}"
        for attribute, keyword in KEYWORDS
        if (value := getattr(subject, attribute)) is not None
    )


def escaped(subject: SubjectBody, order: Sequence[tuple[str, str]] = DN_ORDER) -> bytes:
    """The DER of a subject as it was meant: one value for each attribute that is not empty."""
    return der.tlv(
        der.SEQUENCE,
        *(
            der.tlv(
                der.SET,
                der.tlv(der.SEQUENCE, der.oid(oid), der.text(value, email=attribute == "email")),
            )
            for attribute, oid in order
            if (value := getattr(subject, attribute))
        ),
    )


def encode(text: str) -> bytes:
    """The DER of the name that keytool reads in `text`; the last part of the text comes first.

    Raises:
        NotADistinguishedNameError: keytool reads none. Java could hold U+0000; the argument of a
            process cannot, and neither could a certificate's reader.
    """
    if "\0" in text:
        raise NotADistinguishedNameError("a character U+0000")
    parts = [_rdn(part) for part in _split(text, ",;")]
    return der.tlv(der.SEQUENCE, *reversed(parts))


def _split(text: str, separators: str) -> Iterator[str]:
    """Cut where a separator is neither escaped nor in quotes.

    Only one open quote protects, as in Java: with two, a quoted part has ended.
    """
    start, quotes = 0, 0
    for at, character in enumerate(text):
        before = text[start:at]
        escaped = (len(before) - len(before.rstrip("\\"))) % 2 == 1
        if character == '"' and not escaped:
            quotes += 1
        elif character in separators and not escaped and quotes != 1:
            yield text[start:at]
            start, quotes = at + 1, 0
    yield text[start:]


def _rdn(text: str) -> bytes:
    # A SET OF, so sorted by encoding.
    return der.tlv(der.SET, *sorted(_attribute(part) for part in _split(text, "+")))


def _attribute(text: str) -> bytes:
    keyword, equals, value = text.partition("=")
    if not equals:
        raise NotADistinguishedNameError(f"no equals sign in '{text}'")
    keyword = keyword.strip(CONTROLS).upper()
    dotted = DOTTED.fullmatch(keyword)
    oid = dotted.group(1) if dotted else OIDS.get(keyword)
    if oid is None:
        raise NotADistinguishedNameError(f"invalid keyword '{keyword}'")
    value = value.lstrip(" \n")
    if value.startswith("#"):
        encoded = _hexadecimal(value[1:])
    elif value.startswith('"'):
        encoded = _string(_quoted(value), oid)
    else:
        encoded = _string(_plain(value), oid)
    return der.tlv(der.SEQUENCE, der.oid(oid), encoded)


def _string(read: tuple[str, bool], oid: str) -> bytes:
    value, with_hexadecimal = read
    if oid in IA5 and value:
        return der.tlv(der.IA5_STRING, value.encode("ascii", "replace"))
    if with_hexadecimal:
        return der.tlv(der.UTF8_STRING, value.encode())
    return der.text(value)


def _hexadecimal(digits: str) -> bytes:
    """A value given as the hexadecimal digits of its DER."""
    if not re.fullmatch(r"([0-9A-Fa-f]{2})+", digits):
        raise NotADistinguishedNameError("a value that begins with # is not hexadecimal")
    encoded = bytes.fromhex(digits)
    if len(encoded) < len(der.NULL) or der.length(encoded) != len(encoded):
        raise NotADistinguishedNameError("a value that begins with # is no DER")
    return encoded


def _plain(value: str) -> tuple[str, bool]:
    """Unescape; blanks at the end are dropped. True where bytes were given in hexadecimal."""
    characters: list[str] = []
    blanks, at, with_hexadecimal, ends_in_byte = 0, 0, False, False
    last_blanks = 0  # those before the last bytes
    while at < len(value):
        character, is_byte = value[at], False
        if character == "\\":
            character, at, is_byte = _escaped(value, at, ESCAPABLE)
        elif character in UNESCAPED:
            raise NotADistinguishedNameError(f"character '{character}' appears without escape")
        elif character == " ":
            blanks, at, ends_in_byte = blanks + 1, at + 1, False
            continue
        else:
            at += 1
        if is_byte and not ends_in_byte:
            last_blanks = len(characters)
        characters += [" "] * blanks + [character]
        blanks, ends_in_byte = 0, is_byte
        with_hexadecimal = with_hexadecimal or is_byte
    if ends_in_byte:  # Java forgets the blanks before bytes that end a value
        characters[last_blanks:] = [one for one in characters[last_blanks:] if one != " "]
    return _decoded(characters), with_hexadecimal


def _quoted(value: str) -> tuple[str, bool]:
    characters: list[str] = []
    at, with_hexadecimal = 1, False
    while value[at : at + 1] != '"':
        if at >= len(value):
            raise NotADistinguishedNameError("a quoted string does not end in a quote")
        if value[at] == "\\":
            found, at, is_byte = _escaped(value, at, ESCAPABLE.rstrip(" "))
            with_hexadecimal = with_hexadecimal or is_byte
            characters.append(found)
        else:
            characters.append(value[at])
            at += 1
    if value[at + 1 :].strip(" \n"):
        raise NotADistinguishedNameError("something stands behind the closing quote")
    return _decoded(characters).strip(CONTROLS), with_hexadecimal


def _escaped(value: str, at: int, escapable: str) -> tuple[str, int, bool]:
    """What an escape stands for, where the text goes on, and whether it was a byte."""
    following = value[at + 1 : at + 2]
    if following and following in HEX_DIGITS:
        pair = value[at + 1 : at + 3]
        if len(pair) < len("00") or pair[1] not in HEX_DIGITS:
            raise NotADistinguishedNameError("an escaped byte needs two hexadecimal digits")
        # Bytes above ASCII are kept apart until all of them are there.
        return bytes.fromhex(pair).decode(errors="surrogateescape"), at + 3, True
    if not following or following not in escapable:
        raise NotADistinguishedNameError(f"invalid escaped character '{following}'")
    return following, at + 2, False


def _decoded(characters: list[str]) -> str:
    return "".join(characters).encode(errors="surrogateescape").decode(errors="replace")
