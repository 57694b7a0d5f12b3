"""Reminders at fractions of the window: an event each, from which the mails follow."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from countersign import events
from countersign import models as m
from countersign.errors import CountersignError, InvalidEnrollmentError
from countersign.policy import rules
from countersign.policy.profiles import REMINDERS, Profile
from countersign.polling import LONGEST_WINDOW_SECONDS
from countersign.record import Record, StepName, TsbStatus, last_step, policy_of, step_of
from countersign.stores import Bus, Records
from countersign.waits import Ask, Wait

MOST = 100  # of a run; what is left comes with the next one
KEPT = timedelta(seconds=LONGEST_WINDOW_SECONDS) + timedelta(days=30)


class Due(NamedTuple):
    """A reminder that is due, and that may have been announced.

    Args:
        record: of an open enrollment.
        wait: of its execution. It says which answer of the TSB is on record.
        step: whose approvers have not decided.
        fraction: of the window that is over.
        last: whether no other one follows.
    """

    record: Record
    wait: Wait
    step: StepName
    fraction: float
    last: bool


def due(
    record: Record, wait: Wait | None, fractions: Callable[[str | None], tuple[float, ...]]
) -> Due | None:
    """The newest reminder that is due; those that it overtook never come.

    None as well where nobody waits, so that nothing on record is known to be true: while a poll is
    under way, and after 500 wakes.

    Args:
        record: an enrollment without an outcome.
        wait: of its execution.
        fractions: of the window, by the profile of the enrollment.
    """
    name = last_step(record)
    step, now = step_of(record, name), m.now()
    times = step.get("times", {})
    asked, ends = times.get("requested"), times.get("windowEnds")
    if wait is None or "cancel" in record or step.get("status") != TsbStatus.PENDING:
        return None
    if not (asked and ends) or wait.request_id != step.get("requestId"):
        return None
    begun, end = datetime.fromisoformat(asked), datetime.fromisoformat(ends)
    all_of_them = sorted(fractions(record.get("profile")))
    over = [one for one in all_of_them if begun + one * (end - begun) <= now < end]
    if not over or not _missing(record, name):
        return None
    return Due(record, wait, name, over[-1], last=over[-1] == all_of_them[-1])


def announce(found: list[Due], *, records: Records, ask: Ask, bus: Bus) -> None:
    """Announce each reminder once, if the TSB still says what is on record.

    Where it says something else the execution is woken, and the next run knows more: so nothing is
    announced about a request that has ended, and nobody is reminded who has just decided. The event
    is emitted, then noted: after a crash it may come twice, and its mails do not.

    Args:
        found: what is due, of this run.
        records: the table; the note of a reminder is an item of its own.
        ask: asks the TSB about a request. One that does not answer is asked no more in this run.
        bus: gets the events.

    Raises:
        AwsCallError: the table or the bus refused; the next run tries again.
    """
    new = (one for one in found if records.get(_note(one), consistent=False) is None)
    for one, _ in zip(new, range(MOST), strict=False):
        try:
            answer = ask(one.wait.request_id)
        except CountersignError:
            return
        if answer.digest != one.wait.seen:
            continue
        bus.put(events.reminder(one.record, one.step, one.fraction, last=one.last))
        expires = int((m.now() + KEPT).timestamp())
        records.put({"id": _note(one), "at": m.timestamp(m.now()), "expires": expires})


def _missing(record: Record, step: StepName) -> tuple[m.Approver, ...]:
    """Those who have yet to decide and whose group still lacks its quorum, by the record."""
    approvers = tuple(m.Approver.read(one) for one in step_of(record, step).get("approvers", ()))
    return rules.needed(m.PolicySummary.read(policy_of(record, step)), approvers)


def by_profile(find: Callable[[str], Profile], profile: str | None) -> tuple[float, ...]:
    """When to remind: as the profile says, or by default where there is none (any more)."""
    try:
        return REMINDERS if profile is None else find(profile).window.reminders
    except InvalidEnrollmentError:
        return REMINDERS


def _note(one: Due) -> str:
    return f"watch#reminder#{one.wait.request_id}#{one.fraction}"
