"""Times from outside, and how far the HSM's clock is from ours, as its own answers show. Pure."""

import math
from datetime import UTC, datetime, timedelta

TOLERATED = timedelta(seconds=300)  # of a stack with the default parameters
RESOLUTION = timedelta(seconds=1)  # TSB writes whole seconds
# Of a function: Timeout in template.yaml. Its calls to TSB end before.
LONGEST_CALL = timedelta(seconds=30)


def skew_seconds(shown: datetime, *, after: datetime, before: datetime) -> int:
    """By how much a clock is ahead of ours, or behind (negative), at the least; 0: none.

    Whole seconds, rounded away from zero.

    Args:
        shown: what it showed, in whole seconds, at a moment between the next two.
        after: of our clock.
        before: of our clock.
    """
    if shown > before:
        return math.ceil((shown - before).total_seconds())
    return min(0, math.floor((shown + RESOLUTION - after).total_seconds()))


def read(text: str) -> datetime:
    """A time in ISO 8601, in UTC.

    Raises:
        ValueError: it is none, or says no zone.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return in_utc(moment)


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC.

    Raises:
        ValueError: there it lies before the first day of the calendar, or after the last one.
    """
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("no moment in UTC") from error
