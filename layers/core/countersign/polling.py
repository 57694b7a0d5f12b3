"""How long to wait before the next poll of a request. Pure arithmetic, all in seconds.

WatchEnrollments wakes an execution within a minute of any news. These polls are the insurance for
the times when it does not: the wait is a share of the request's age, whatever TSB's status is.
"""

import math
from typing import NamedTuple

FIRST_SECONDS = 10  # this poll shows that the approvers are asked, and announces it
GROWTH = 1.0  # each wait doubles the age
FLOOR_SECONDS = 60  # WatchEnrollments looks once a minute
CAP_SECONDS = 4 * 3600
# The cap is stretched for a window that it would cross in more polls than this. With those of the
# first hours and after the window there are 1,000 at most, and 500 wakes besides: at 13 history
# events a turn, and with the states around the loop, 22,000 of the 25,000 that AWS allows.
POLLS_AT_THE_CAP = 960
EXECUTED_WITHIN_SECONDS = 300  # after a timelock; TSB's timer runs once a minute
MARGIN_SECONDS = 2  # added to a time, so that TSB's clock has passed it too
DAY_SECONDS = 86_400

# Step Functions ends an execution after a year (365 days; AWS Step Functions, service quotas). What
# is waited for must leave room for everything else: the wait for a key slot, the day in which
# DiscardKey outlasts a silent TSB, twice with a fresh start, the two days of StoreCsr's retries,
# and the last wait of all. Silence is the largest that template.yaml takes. So whatever a stack is
# configured with, what the linter accepts ends within the year.
YEAR_SECONDS = 365 * DAY_SECONDS
AROUND_SECONDS = 8 * DAY_SECONDS
LONGEST_SILENCE_SECONDS = 7 * DAY_SECONDS
LONGEST_WINDOW_SECONDS = YEAR_SECONDS - AROUND_SECONDS - LONGEST_SILENCE_SECONDS  # 350 days
DEADLINE_SECONDS = 30 * DAY_SECONDS  # of a stack with the default parameters


class Schedule(NamedTuple):
    """What is known when the approvers are asked.

    Args:
        window_seconds: how long approvals are collected; 0 is without limit.
        timelock_seconds: nothing can be executed before.
        deadline_seconds: replaces the window if that is without limit.
        silence_seconds: how long after the end a TSB that does not answer is still polled.
        growth: the next wait as a share of the age.
        floor_seconds: shortest wait.
        cap_seconds: longest wait, raised for long windows.
    """

    window_seconds: int
    timelock_seconds: int
    deadline_seconds: int = DEADLINE_SECONDS
    silence_seconds: int = DAY_SECONDS
    growth: float = GROWTH
    floor_seconds: int = FLOOR_SECONDS
    cap_seconds: int = CAP_SECONDS

    @property
    def end(self) -> int:
        """The age at which no further approval is expected."""
        return self.window_seconds or self.deadline_seconds

    @property
    def overdue(self) -> int:
        """The age from which a request that TSB does not end is cancelled there."""
        # Either TSB does not end the window (its clock is off), or the window has no end.
        return self.end + (self.silence_seconds // 2 if self.window_seconds else 0)

    @property
    def last_age(self) -> int:
        """The age from which even a TSB that does not answer is not polled again."""
        return self.end + self.silence_seconds

    @property
    def cap(self) -> int:
        """The longest wait: long enough that MAX_POLLS suffice for the whole window."""
        return max(
            self.cap_seconds, self.floor_seconds, math.ceil(self.last_age / POLLS_AT_THE_CAP)
        )


def next_wait(schedule: Schedule, age_seconds: int) -> int:
    """The wait after a poll at `age_seconds`.

    Args:
        schedule: what is known of the request.
        age_seconds: for how long the approvers have been asked.
    """
    if age_seconds < schedule.timelock_seconds:
        # Nothing can be executed yet. A decline is possible but not urgent.
        return _until(schedule.timelock_seconds, age_seconds, schedule.cap)
    if age_seconds < schedule.end:
        return _until(schedule.end, age_seconds, _paced(schedule, age_seconds))
    # After the end, wait as for a new request: TSB is about to report the end.
    return _paced(schedule, age_seconds - schedule.end)


def next_poll(schedule: Schedule, age_seconds: int, *, noted: int = FIRST_SECONDS) -> int:
    """The age at which a request of this age is polled next, if nothing wakes its execution.

    It is computed again, because a poll that finds nothing new writes nothing.

    Args:
        schedule: what is known of the request.
        age_seconds: for how long the approvers have been asked.
        noted: the age of the next poll as the last poll with news wrote it down.
    """
    poll = noted
    while poll <= age_seconds:
        poll += next_wait(schedule, poll)
    return poll


def _paced(schedule: Schedule, age_seconds: int) -> int:
    return min(max(math.ceil(schedule.growth * age_seconds), schedule.floor_seconds), schedule.cap)


def _until(moment: int, age_seconds: int, wait_seconds: int) -> int:
    """`wait_seconds`, or until just after `moment` if that comes sooner or would be skipped."""
    past = moment + MARGIN_SECONDS - age_seconds
    return past if wait_seconds >= moment - age_seconds else wait_seconds
