"""How an enrollment waits for its approvers."""

import math
from collections.abc import Sequence
from copy import replace

from countersign import models as m
from countersign import polling
from countersign.policy import rules

type Tokens = Sequence[m.Token | m.TokenSummary]


def schedule(
    tokens: Tokens, polling_settings: polling.Schedule, *, is_one_of_two: bool
) -> polling.Schedule:
    """The stack's settings, with window and timelock of a key's use rule.

    Args:
        tokens: of the use rule of the key that approvers are asked about.
        polling_settings: how to wait, as the stack is configured.
        is_one_of_two: whether the execution waits for two quorums, one after the other. Each has
            half of the polls then: both have to fit one history.
    """
    found = replace(
        polling_settings,
        window_seconds=rules.window_seconds(tokens),
        timelock_seconds=rules.timelock_seconds(tokens),
    )
    if not is_one_of_two:
        return found
    half = math.ceil(found.last_age / (polling.POLLS_AT_THE_CAP // 2))
    return replace(found, cap_seconds=max(found.cap_seconds, half))


def handed_over(schedule: polling.Schedule) -> m.Schedule:
    """The schedule as the state machine keeps it."""
    return m.Schedule(
        **schedule._asdict(),
        slowest_seconds=schedule.cap,
        last_age_seconds=schedule.last_age,
    )
