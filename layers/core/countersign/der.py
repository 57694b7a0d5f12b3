"""DER, as far as requests and public keys need it: read strictly, and written.

Everything that reads the bytes of DER reads them here, so that one place decides what is none.
Source: ITU-T X.690, DER.
"""

from collections.abc import Iterable
from typing import NamedTuple

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
SEQUENCE, SET = 0x30, 0x31
FIRST_CONTEXT = 0xA0  # [0], constructed
FALSE, TRUE = b"\0", b"\xff"
SHORT_LENGTH = 0x80  # a smaller length is one byte
MOST_LENGTH_BYTES = 3  # 16 MB, more than anything that is read here
MOST_ARC_BYTES = 20  # of an object identifier; a UUID (2.25.…) takes 19
HIGH_TAG = 0x1F  # the tag goes on in the next byte: nothing here has such a one


class DerError(ValueError):
    """The bytes are not DER of the expected kind; the message says why, and never quotes them."""


class Element(NamedTuple):
    """One element: its tag, what is inside, and the whole of it."""

    tag: int
    content: bytes
    whole: bytes

    def inside(self, tag: int) -> "list[Element]":
        """The elements inside.

        Raises:
            DerError: it has another tag, or holds something else.
        """
        return elements(self.of(tag))

    def of(self, tag: int) -> bytes:
        """What is inside.

        Raises:
            DerError: it has another tag.
        """
        if self.tag != tag:
            raise DerError(f"an element has tag {self.tag:#04x} where {tag:#04x} belongs")
        return self.content


def elements(content: bytes) -> list[Element]:
    """The elements that stand one after the other.

    Raises:
        DerError: the bytes are something else, or a length is not written as DER writes it.
    """
    found, at = list[Element](), 0
    while at < len(content):
        begin, end = _content(content, at)
        found.append(Element(content[at], content[begin:end], content[at:end]))
        at = end
    return found


def element(content: bytes, tag: int) -> Element:
    """The only element.

    Raises:
        DerError: there is none, more than one, or one of another tag.
    """
    match elements(content):
        case [Element(tag=found) as only] if found == tag:
            return only
        case _:
            raise DerError(f"is not one element of tag {tag:#04x}")


def _content(content: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at a place begins and ends."""
    header = content[at : at + 2]
    if len(header) < 2 or header[0] & HIGH_TAG == HIGH_TAG:  # noqa: PLR2004
        raise DerError("an element has no header")
    length, begin = header[1], at + 2
    if length >= SHORT_LENGTH:
        own = content[begin : begin + (length & 0x7F)]
        length, begin = int.from_bytes(own), begin + len(own)
        if not 0 < len(own) <= MOST_LENGTH_BYTES or not own[0] or length < SHORT_LENGTH:
            raise DerError("a length is not written as DER writes it")
        if len(own) != header[1] & 0x7F:
            raise DerError("an element ends before its length")
    if begin + length > len(content):
        raise DerError("an element is longer than what holds it")
    return begin, begin + length


def dotted(content: bytes) -> str:
    """An object identifier, of the content of its element.

    Raises:
        DerError: it is none, or longer than any that is in use.
    """
    arcs, arc, length = list[int](), 0, 0
    for byte in content:
        if not length and byte == SHORT_LENGTH:
            raise DerError("an object identifier has a leading zero")
        arc, length = arc << 7 | byte & 0x7F, length + 1
        if length > MOST_ARC_BYTES:
            raise DerError("an object identifier is too long")
        if byte < SHORT_LENGTH:
            arcs.append(arc)
            arc, length = 0, 0
    if length or not arcs:
        raise DerError("an object identifier is cut off")
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def number(content: bytes) -> int:
    """A number that is not negative, of the content of an INTEGER.

    Raises:
        DerError: it is none.
    """
    if not content or content[0] >= SHORT_LENGTH:
        raise DerError("a number is negative or missing")
    if len(content) > 1 and not content[0] and content[1] < SHORT_LENGTH:
        raise DerError("a number has a leading zero")
    return int.from_bytes(content)


def bits(content: bytes) -> bytes:
    """The bytes of a BIT STRING of whole bytes, of the content of its element.

    Raises:
        DerError: it is not made of whole bytes.
    """
    if not content or content[0]:
        raise DerError("a bit string is not made of whole bytes")
    return content[1:]


def write(tag: int, *parts: bytes) -> bytes:
    """An element of these parts."""
    content = b"".join(parts)
    size = len(content)
    if size < SHORT_LENGTH:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, SHORT_LENGTH | len(length))) + length + content


def write_oid(dotted_oid: str) -> bytes:
    """An object identifier."""
    first, second, *rest = map(int, dotted_oid.split("."))
    return write(OID, *(_arc(arc) for arc in (first * 40 + second, *rest)))


def write_set(parts: Iterable[bytes]) -> bytes:
    """A SET OF, in the order that DER demands."""
    return write(SET, *sorted(parts))


def _arc(arc: int) -> bytes:
    septets = [arc & 0x7F]
    while arc := arc >> 7:
        septets.append(SHORT_LENGTH | arc & 0x7F)
    return bytes(reversed(septets))
