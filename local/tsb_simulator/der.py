"""Just enough DER to write what Java's keytool writes, byte for byte."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime

SEQUENCE, SET, INTEGER, BIT_STRING, OCTET_STRING = 0x30, 0x31, 0x02, 0x03, 0x04
BOOLEAN_TRUE, NULL = b"\x01\x01\xff", b"\x05\x00"
UTF8_STRING, PRINTABLE_STRING, IA5_STRING = 0x0C, 0x13, 0x16
PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]*")
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
LINE_LENGTH = 64


def tlv(tag: int, *parts: bytes) -> bytes:
    """Wrap parts into one element."""
    joined = b"".join(parts)
    size = len(joined)
    if size < 0x80:  # noqa: PLR2004 - the short form of a DER length
        return bytes([tag, size]) + joined
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + joined


def integer(value: int) -> bytes:
    """Encode a non-negative INTEGER."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    """Encode an OBJECT IDENTIFIER."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (first * 40 + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(0x80 | (arc & 0x7F))
        content += bytes(reversed(septets))
    return tlv(0x06, bytes(content))


def bit_string(value: bytes) -> bytes:
    """Encode a BIT STRING of whole bytes."""
    return tlv(BIT_STRING, b"\x00", value)


def text(value: str, *, email: bool = False) -> bytes:
    """Encode a name's value: PrintableString where possible, else UTF8String; e-mail as IA5."""
    if email and value.isascii():
        return tlv(IA5_STRING, value.encode())
    if PRINTABLE.fullmatch(value):
        return tlv(PRINTABLE_STRING, value.encode())
    return tlv(UTF8_STRING, value.encode())


def moment(epoch: float) -> bytes:
    """Encode an X.509 Time: UTCTime up to 2049, GeneralizedTime after it."""
    when = datetime.fromtimestamp(int(epoch), UTC)
    if when.year < 2050:  # noqa: PLR2004 - RFC 5280, 4.1.2.5
        return tlv(UTC_TIME, when.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(GENERALIZED_TIME, when.strftime("%Y%m%d%H%M%SZ").encode())


def _header(element: bytes) -> tuple[int, int]:
    """Lengths of an element's header and content."""
    first = element[1]
    if first < 0x80:  # noqa: PLR2004  the short form of a DER length
        return 2, first
    count = first & 0x7F
    return 2 + count, int.from_bytes(element[2 : 2 + count], "big")


def length(element: bytes) -> int:
    """The length of the first element, with its header."""
    return sum(_header(element))


def content(element: bytes) -> bytes:
    """What the first element holds."""
    start, size = _header(element)
    return element[start : start + size]


def children(element: bytes) -> list[bytes]:
    """The elements that an element holds."""
    found, rest = [], content(element)
    while rest:
        found.append(rest[: length(rest)])
        rest = rest[length(rest) :]
    return found


def subject(certificate: bytes) -> bytes:
    """A certificate's subject, as it is encoded there."""
    # [0] version, serial number, algorithm, issuer, validity, subject
    return children(children(certificate)[0])[5]


def validity(certificate: bytes) -> tuple[float, float]:
    """From when until when a certificate is valid, as epoch seconds."""
    begin, end = children(children(children(certificate)[0])[4])
    return _epoch(begin), _epoch(end)


def _epoch(time: bytes) -> float:
    form = "%y%m%d%H%M%SZ" if time[0] == UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(content(time).decode(), form).replace(tzinfo=UTC).timestamp()


def pem(header: str, encoded: bytes) -> str:
    """Write PEM as the vendor does: 64 characters a line, line feeds, one at the end too."""
    body = base64.b64encode(encoded).decode()
    lines = [body[i : i + LINE_LENGTH] for i in range(0, len(body), LINE_LENGTH)]
    return "\n".join([f"-----BEGIN {header}-----", *lines, f"-----END {header}-----", ""])
