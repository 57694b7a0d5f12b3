"""Just enough DER to write what Java's keytool writes, byte for byte."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime

SEQUENCE, SET, INTEGER, BIT_STRING, OCTET_STRING = 0x30, 0x31, 0x02, 0x03, 0x04
BOOLEAN_TRUE, NULL = b"\x01\x01\xff", b"\x05\x00"
UTF8_STRING, PRINTABLE_STRING, IA5_STRING = 0x0C, 0x13, 0x16
PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]*")
LINE_LENGTH = 64


def tlv(tag: int, *parts: bytes) -> bytes:
    """Wrap parts into one element."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:  # noqa: PLR2004 - the short form of a DER length
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


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
        return tlv(0x17, when.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, when.strftime("%Y%m%d%H%M%SZ").encode())


def pem(header: str, content: bytes) -> str:
    """Write PEM as the vendor does: 64 characters a line, line feeds, one at the end too."""
    body = base64.b64encode(content).decode()
    lines = [body[i : i + LINE_LENGTH] for i in range(0, len(body), LINE_LENGTH)]
    return "\n".join([f"-----BEGIN {header}-----", *lines, f"-----END {header}-----", ""])
