"""When a key may be created: an HSM makes so many a minute and no more."""

import math
import time
from datetime import datetime, timedelta

from countersign import models as m
from countersign.stores import Records

SLOT_MARGIN = 0.05  # some come late, and then close together: a minute forgives three seconds


def next_slot(records: Records, keys_per_minute: int) -> str | None:
    """The moment of the next free turn to create a key: an HSM makes so many and no more."""
    if not keys_per_minute:
        return None
    now = m.now()
    interval = math.ceil(60_000 * (1 + SLOT_MARGIN) / keys_per_minute)
    milliseconds = int(now.timestamp() * 1000)
    turn = records.take_slot("slot#create-key", milliseconds, interval)
    moment = now + timedelta(milliseconds=turn - milliseconds)
    if moment <= now:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def await_slot(turn: str | None) -> None:
    """Wait out what the Wait state could not: Step Functions cuts its timestamp to whole seconds.

    Source: https://docs.aws.amazon.com/step-functions/latest/dg/state-wait.html
    """
    left = (datetime.fromisoformat(turn) - m.now()).total_seconds() if turn else 0
    time.sleep(min(max(left, 0), 1))
