"""How far the HSM's clock is from ours, as its own answers show. Pure."""

import math
from datetime import datetime, timedelta

TOLERATED = timedelta(seconds=300)  # of a stack with the default parameters
RESOLUTION = timedelta(seconds=1)  # TSB writes whole seconds


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
