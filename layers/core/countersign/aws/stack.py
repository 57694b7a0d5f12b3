"""The stack's parts that functions use: its stores, its bus, its executions.

They are created at first use and kept for warm invocations.
"""

from functools import cache
from typing import Any

from countersign.aws import functions, secrets
from countersign.aws.bus import Bus
from countersign.aws.executions import Executions
from countersign.aws.objects import Objects
from countersign.aws.records import Records
from countersign.polling import Schedule
from countersign.settings import settings
from countersign.tsb.models import Tls

SECONDS_PER_MINUTE = 60
SECONDS_PER_DAY = 86_400


@cache
def records() -> Records:
    """The table of enrollments."""
    return Records(settings().table_name)


@cache
def objects() -> Objects:
    """The bucket."""
    return Objects(settings().bucket_name)


@cache
def evidence() -> Objects:
    """The bucket of the evidence."""
    return Objects(settings().evidence_bucket_name)


@cache
def bus() -> Bus:
    """The bus."""
    return Bus(settings().bus_name)


@cache
def executions() -> Executions:
    """The state machine's executions."""
    return Executions(settings().state_machine_arn)


def cancel_request(enrollment_id: str) -> None:
    """Let the function CancelRequest notify TSB, without waiting for it."""
    event: dict[str, Any] = {"enrollmentId": enrollment_id}
    functions.hand_over(settings().cancel_request_function, event)


def polling_settings() -> Schedule:
    """How to wait, as the stack is configured. Window and timelock come from the policy."""
    return Schedule(
        window_seconds=0,
        timelock_seconds=0,
        deadline_seconds=settings().workflow_deadline_days * SECONDS_PER_DAY,
        silence_seconds=settings().silence_limit_minutes * SECONDS_PER_MINUTE,
        growth=settings().poll_growth,
        floor_seconds=settings().poll_floor_seconds,
        cap_seconds=settings().poll_cap_seconds,
    )


def tls() -> Tls:
    """The CAs that we trust in calls to the TSB, and our client certificate."""
    return secrets.tls(settings().secret_arns["clientTls"])
