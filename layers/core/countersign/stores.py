"""What the states need from table, bucket, bus and metrics. `aws/` implements it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from countersign.errors import AwsCallError
from countersign.record import Record

type Item = Mapping[str, Any]


class Records(Protocol):
    """Items by id. Every write is conditional.

    A write whose condition does not hold changes nothing and returns the item as it is. A write
    that took place returns None.
    """

    def get(self, item_id: str, *, consistent: bool = True) -> Record | None:
        """The item as it stands now, or None. Not consistent, it may be a second old, for half."""

    def newest(
        self,
        index: str,
        partition: Item,
        *,
        since: str,
        until: str,
        limit: int,
        after: Item | None = None,
    ) -> tuple[list[Record], Item | None]:
        """A page of an index's partition, newest first, and where it ended; None on the last."""

    def page(
        self, index: str, partition: Item, *, sort: str, limit: int, after: Item | None = None
    ) -> tuple[list[Record], Item | None]:
        """A page of an index's partition in the order of its sort key, and where it ended."""

    def at_status(self, status: str) -> Iterator[Record]:
        """What the list shows of every enrollment with this status, oldest first."""

    def take_slot(self, item_id: str, now: int, interval: int) -> int:
        """The next free slot of a queue, in milliseconds since 1970 like `now`."""

    def put(self, item: Item, *, when: Item | None = None) -> Record | None:
        """Write a whole item: where there is none, or where the one there has the values `when`."""

    def update(
        self,
        item_id: str,
        values: Item,
        *,
        when: Item | None = None,
        absent: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
    ) -> Record | None:
        """Set some attributes of an item that exists."""

    def delete(self, item_id: str, *, when: Item | None = None) -> None:
        """Delete an item, or only one that has the values `when`."""


class Objects(Protocol):
    """Objects of a bucket. No object is ever overwritten."""

    bucket: str

    def put_once(self, key: str, body: bytes, content_type: str) -> str | None:
        """Write an object, unless this very object exists; return its version id.

        Raises:
            FileExistsError: another object exists under this key; it stays.
        """

    def keep_first(
        self, key: str, body: bytes, content_type: str = "application/octet-stream"
    ) -> bytes:
        """Write an object unless one exists; return the content that is stored then."""

    def keep_answer(
        self, enrollment_id: str, state: str, raw: str, *, decides: bool = False
    ) -> None:
        """Keep TSB's answer unchanged, once; beyond a limit only what decides."""

    def read(self, key: str) -> bytes | None:
        """An object's content as it is now; None if there is no object."""

    def below(self, prefix: str) -> dict[str, bytes]:
        """All objects below a prefix, by the rest of their key."""


class Announcement(Protocol):
    """An event as the bus accepts it."""

    DETAIL_TYPE: ClassVar[str]

    @property
    def resources(self) -> list[str]:
        """ARNs that the event is about."""

    def dump(self) -> dict[str, Any]:
        """The event's detail."""


class Bus(Protocol):
    """Where events are put, at least once."""

    def put(self, event: Announcement) -> None:
        """Emit one event."""


@dataclass
class Sighting:
    """What was found, as numbers that can raise an alarm.

    Args:
        pending: open enrollments.
        oldest_seconds: the age of the oldest.
        overdue: ids of enrollments that should have come further by now, and why.
        unattended: ids of open requests whose execution no longer waits where it can be woken, and
            since when.
        expiring_days: by certificate, the days until it expires; negative after its end.
    """

    pending: int = 0
    oldest_seconds: int = 0
    overdue: dict[str, str] = field(default_factory=dict)
    unattended: dict[str, str] = field(default_factory=dict)
    expiring_days: dict[str, float] = field(default_factory=dict)


@dataclass
class Run:
    """What one run of the watch over open requests did.

    Args:
        open: waits that were looked at.
        woken: executions whose wait ended.
        failed: requests about which TSB gave no answer that could be read.
        silent_since: since when nothing could be learned from TSB about any request, whatever it
            answered; None while something can, and while nothing is open.
        longest_unseen_seconds: how long the round over all waits has taken so far.
        refused: why Step Functions let nobody be woken; None if it did.
    """

    open: int = 0
    woken: int = 0
    failed: int = 0
    silent_since: str | None = None
    longest_unseen_seconds: int = 0
    refused: AwsCallError | None = None
