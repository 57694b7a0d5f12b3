"""The claim of a key label: of two enrollments only one may make the key.

It is an item of the table, `label#<label in lower case>`, with the enrollment's id and the time of
the claim. Whether TSB tells labels apart by their case alone is unknown, so claims never do.
"""

from datetime import datetime
from typing import Any, NamedTuple

from countersign import models as m
from countersign.stores import Records


class Claim(NamedTuple):
    """Whose a label is, and since when: no key of theirs is older.

    Args:
        enrollment_id: the enrollment's.
        at: when it claimed the label, UTC.
        new: whether it has just done so.
    """

    enrollment_id: str
    at: datetime
    new: bool = False


def claim(label: str, enrollment_id: str, records: Records) -> Claim:
    """Claim the label unless somebody has; the claim that stands."""
    at = m.timestamp(m.now())
    item = {"id": _id(label), "enrollmentId": enrollment_id, "claimedAt": at}
    existing = records.put(item)
    if existing is None:
        return Claim(enrollment_id, datetime.fromisoformat(at), new=True)
    return _read(existing)


def find(label: str, records: Records) -> Claim | None:
    """The claim of a label; None where nobody has claimed it."""
    item = records.get(_id(label))
    return None if item is None else _read(item)


def renew(label: str, enrollment_id: str, records: Records) -> None:
    """Let the claim begin now: a key that is older is not the enrollment's."""
    records.update(
        _id(label), {"claimedAt": m.timestamp(m.now())}, when={"enrollmentId": enrollment_id}
    )


def take_over(label: str, enrollment_id: str, records: Records, *, of: Claim) -> Claim | None:
    """Claim a label that another enrollment has claimed in vain; None if that changed meanwhile."""
    at = m.timestamp(m.now())
    existing = records.update(
        _id(label),
        {"enrollmentId": enrollment_id, "claimedAt": at},
        when={"enrollmentId": of.enrollment_id, "claimedAt": m.timestamp(of.at)},
    )
    return Claim(enrollment_id, datetime.fromisoformat(at), new=True) if existing is None else None


def release(label: str, enrollment_id: str, records: Records) -> None:
    """Let others use the label. Idempotent; a claim of somebody else stays."""
    records.delete(_id(label), when={"enrollmentId": enrollment_id})


def _id(label: str) -> str:
    return f"label#{label.casefold()}"


def _read(item: Any) -> Claim:
    return Claim(item["enrollmentId"], datetime.fromisoformat(item["claimedAt"]))
