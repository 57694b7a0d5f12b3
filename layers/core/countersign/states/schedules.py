"""How an enrollment waits for its approvers."""

from dataclasses import asdict, replace

from countersign import models as m
from countersign import polling
from countersign.policy import rules


def schedule(request: m.EnrollmentRequest, polling_settings: polling.Schedule) -> polling.Schedule:
    """The stack's settings, with window and timelock of the request's policy."""
    tokens = request.key.policy.rule_use.tokens
    return replace(
        polling_settings,
        window_seconds=rules.window_seconds(tokens),
        timelock_seconds=rules.timelock_seconds(tokens),
    )


def handed_over(schedule: polling.Schedule) -> m.Schedule:
    """The schedule as the state machine keeps it."""
    return m.Schedule(
        **asdict(schedule),
        slowest_seconds=schedule.cap,
        last_age_seconds=schedule.last_age,
    )
