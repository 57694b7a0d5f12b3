"""The stack as a function may use it: its stores, its bus, and the TSB with its credentials.

Made when first asked for, and kept for the warm invocations.
"""

from functools import cache

from countersign.aws import secrets
from countersign.aws.bus import Bus
from countersign.aws.objects import Objects
from countersign.aws.records import Records
from countersign.polling import Schedule
from countersign.settings import settings
from countersign.tsb import Credentials, Role, TsbClient

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
def bus() -> Bus:
    """The bus."""
    return Bus(settings().bus_name)


@cache
def tsb() -> TsbClient:
    """The TSB; a role's secret is read when a call needs the role, so only if it is allowed."""
    return TsbClient(
        settings().tsb_url,
        credentials=_credentials,
        tls=secrets.tls(settings().secret_arns["clientTls"]),
        certificate_role=Role(settings().certificate_role),
    )


def password(secret_arn: str) -> str:
    """A key password."""
    return secrets.password(secret_arn)


def pace() -> Schedule:
    """How to wait, as the stack is configured; window and timelock are the policy's."""
    return Schedule(
        window_seconds=0,
        timelock_seconds=0,
        deadline_seconds=settings().workflow_deadline_days * SECONDS_PER_DAY,
        silence_seconds=settings().silence_limit_minutes * SECONDS_PER_MINUTE,
        growth=settings().poll_growth,
        floor_seconds=settings().poll_floor_seconds,
        cap_seconds=settings().poll_cap_seconds,
    )


def _credentials(role: Role) -> Credentials:
    return secrets.credentials(settings().secret_arns[role])
