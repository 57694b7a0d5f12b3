"""What an approver's signature covers: the records of TSB's `approvalToBeSigned`.

Little endian: the length of what follows (four bytes), then records of kind and length (two bytes
each) and value, padded with zeros to four bytes. Source: two recorded approvals, decoded; the
vendor's classes name the kinds.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

OPERATION, TEXT, SECONDS = 0x003B, 0x1002, 0x0107
STAMP, STAMP_SIGNATURE = 0x1054, 0x1056
PAYLOADS = PAYLOAD, POLICY_PAYLOAD = 0x1057, 0x1058
# 1 and 4 were seen in recorded approvals; 2 and 3 are inferred from the order of the names.
OPERATIONS = {1: "use the key", 2: "block the key", 3: "unblock the key", 4: "change its policy"}
USE = 1
MAX_BYTES = 256 * 1024  # ours: two payloads of the longest record, and small change
NUMBER = struct.Struct("<I")
HEADER = struct.Struct("<HH")
EPOCH_SECONDS = struct.Struct("<Q")

type Record = tuple[int, bytes]


class LengthError(ValueError):
    """A length says something else than what is there."""


class RecordError(ValueError):
    """A record is unknown, missing, there twice, or not of its kind's form."""


@dataclass(frozen=True)
class Approval:
    """What a signature would approve.

    Args:
        operation: see `OPERATIONS`.
        label: of the key.
        payload: what the key would sign; None: not in there.
        policy: whether the payload is a policy, to which the key's would be changed.
        asked_at: when the HSM was asked, by its own time stamp; None: there is none.
        stamped: the payload that the time stamp covers.
    """

    operation: int
    label: str
    payload: bytes | None
    policy: bool
    asked_at: datetime | None
    stamped: bytes | None

    @property
    def doing(self) -> str:
        """The operation in words."""
        return OPERATIONS.get(self.operation, f"operation {self.operation}, which nobody knows")


def read(content: bytes) -> Approval:
    """Read all of the bytes; what is not understood is refused.

    Raises:
        LengthError: a length lies, or something follows the end.
        RecordError: a record is unknown, missing, there twice, or has another form.
    """
    found = _once(_records(content), {OPERATION, TEXT}, {STAMP, STAMP_SIGNATURE, *PAYLOADS})
    payload, is_policy = _payload(found)
    asked_at, stamped = None, None
    if STAMP in found:
        stamp = _once(_records(found[STAMP]), {SECONDS}, {TEXT, *PAYLOADS})
        asked_at, (stamped, _) = _moment(stamp[SECONDS]), _payload(stamp)
    return Approval(
        operation=_number(found[OPERATION]),
        label=_text(found[TEXT]),
        payload=payload,
        policy=is_policy,
        asked_at=asked_at,
        stamped=stamped,
    )


def payloads(content: bytes) -> list[bytes]:
    """What stands in the payload records, those of the time stamp first.

    Raises:
        LengthError, RecordError: as `read`.
    """
    found = read(content)
    return [one for one in (found.stamped, found.payload) if one is not None]


def _payload(found: dict[int, bytes]) -> tuple[bytes | None, bool]:
    if PAYLOAD in found and POLICY_PAYLOAD in found:
        raise RecordError("it holds two payloads")
    return found.get(PAYLOAD, found.get(POLICY_PAYLOAD)), POLICY_PAYLOAD in found


def _once(records: Iterator[Record], needed: set[int], known: set[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for kind, value in records:
        if kind not in needed | known:
            raise RecordError(f"it holds a record of the unknown kind {kind:#06x}")
        if kind in found:
            raise RecordError(f"it holds two records of the kind {kind:#06x}")
        found[kind] = value
    if missing := needed - found.keys():
        raise RecordError(f"it holds no record of the kind {min(missing):#06x}")
    return found


def _records(content: bytes) -> Iterator[Record]:
    if len(content) > MAX_BYTES:
        raise LengthError(f"it has more than {MAX_BYTES} bytes")
    if len(content) < NUMBER.size:
        raise LengthError("it ends before its length")
    (length,) = NUMBER.unpack_from(content)
    if length != len(content) - NUMBER.size:
        raise LengthError(
            f"its length says {length} bytes, and {len(content) - NUMBER.size} follow"
        )
    at = NUMBER.size
    while at < len(content):
        if at + HEADER.size > len(content):
            raise LengthError("a record ends before its length")
        kind, length = HEADER.unpack_from(content, at)
        begin, end = at + HEADER.size, at + HEADER.size + length
        at = end + -length % 4
        if at > len(content):
            raise LengthError(f"a record says {length} bytes, which are not there")
        if any(content[end:at]):
            raise RecordError("what pads a record is not zero")
        yield kind, content[begin:end]


def _number(value: bytes) -> int:
    if len(value) != NUMBER.size:
        raise RecordError(f"the operation has {len(value)} bytes")
    return int(NUMBER.unpack(value)[0])


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise RecordError("the key's label is no UTF-8") from None


def _moment(value: bytes) -> datetime:
    if len(value) != EPOCH_SECONDS.size:
        raise RecordError(f"the time has {len(value)} bytes")
    try:
        return datetime.fromtimestamp(EPOCH_SECONDS.unpack(value)[0], UTC)
    except (ValueError, OverflowError, OSError):
        raise RecordError("the time is out of any calendar") from None
