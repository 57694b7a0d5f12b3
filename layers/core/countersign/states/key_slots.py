"""When a key may be created: an HSM creates only so many keys a minute."""

import math
import time
from datetime import datetime, timedelta

from countersign import models as m
from countersign.stores import Records

SLOT_MARGIN = 0.05  # some calls come late, and then close together: 3 s of slack a minute


def next_slot(
    records: Records, keys_per_minute: int, *, after: timedelta = timedelta()
) -> str | None:
    """The time of the next free slot to create a key; None if that is now.

    Args:
        records: the table.
        keys_per_minute: how many keys may be created; 0 is without limit.
        after: no slot before so much time has passed is wanted.
    """
    now = m.now()
    if not keys_per_minute:
        return _written(now + after) if after else None
    interval = math.ceil(60_000 * (1 + SLOT_MARGIN) / keys_per_minute)
    milliseconds = int(now.timestamp() * 1000)
    turn = records.take_slot("slot#create-key", milliseconds, interval)
    moment = now + max(timedelta(milliseconds=turn - milliseconds), after)
    return _written(moment) if moment > now else None


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def await_slot(turn: str | None) -> None:
    """Wait for the rest of a second: Step Functions cuts a Wait's timestamp to whole seconds.

    Source: https://docs.aws.amazon.com/step-functions/latest/dg/state-wait.html
    """
    left = (datetime.fromisoformat(turn) - m.now()).total_seconds() if turn else 0
    time.sleep(min(max(left, 0), 1))
