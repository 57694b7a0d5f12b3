"""The stack as a function may use it: its stores, its bus, and the TSB with its credentials.

Made when first asked for, and kept for the warm invocations.
"""

from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from countersign.aws import functions
from countersign.aws.bus import Bus
from countersign.aws.executions import Executions
from countersign.aws.objects import Objects
from countersign.aws.records import Records
from countersign.polling import Schedule
from countersign.request import Rules
from countersign.settings import settings

if TYPE_CHECKING:
    from countersign.attestation import Trust
    from countersign.aws.topic import Topic
    from countersign.profiles import Profiles
    from countersign.tsb import Tls, TsbClient

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
def profiles() -> "Profiles":
    """The reviewed files, from the layer that is built from the folder of the same name."""
    from countersign.profiles import Profiles  # noqa: PLC0415  CloseEnrollment has no use for it

    return Profiles(resources.files("profiles"))


def rules() -> Rules:
    """What this stack accepts."""
    return Rules(
        profiles=profiles(),
        key_password_prefix=settings().key_password_prefix,
        allow_raw_policy=settings().allow_raw_policy,
    )


@cache
def evidence() -> Objects:
    """The bucket of the evidence."""
    return Objects(settings().evidence_bucket_name)


@cache
def bus() -> Bus:
    """The bus."""
    return Bus(settings().bus_name)


@cache
def topic() -> "Topic":
    """The topic of the mails."""
    from countersign.aws.topic import Topic  # noqa: PLC0415  one function sends mail

    return Topic(settings().topic_arn)


@cache
def executions() -> Executions:
    """The state machine's executions."""
    return Executions(settings().state_machine_arn)


def cancel_request(enrollment_id: str) -> None:
    """Let the function of this name tell TSB, without waiting for it."""
    given: dict[str, Any] = {"enrollmentId": enrollment_id}
    functions.hand_over(settings().cancel_request_function, given)


def tsb(read_timeout_seconds: int | None = None) -> "TsbClient":
    """The TSB; a role's secret is read when a call needs the role, so only if it is allowed.

    The same client, with its kept-alive connection, until the TLS secret says something else.

    Args:
        read_timeout_seconds: where somebody waits who will not wait for the client's own.
    """
    from countersign.aws import metrics  # noqa: PLC0415
    from countersign.errors import TsbCredentialsError  # noqa: PLC0415

    try:
        return _client(tls(), read_timeout_seconds)
    except TsbCredentialsError:
        metrics.credentials_refused()
        raise


@lru_cache(maxsize=1)
def _client(shown: "Tls", read_timeout_seconds: int | None) -> "TsbClient":
    # Here, because most calls of the API need no TSB, and a person waits for them.
    from countersign.aws import metrics, secrets  # noqa: PLC0415
    from countersign.tsb import READ_TIMEOUT_SECONDS, Role, TsbClient  # noqa: PLC0415

    arns = settings().secret_arns
    return TsbClient(
        settings().tsb_url,
        credentials=lambda role: secrets.credentials(arns[role]),
        renewed=lambda role: secrets.credentials(arns[role], anew=True),
        tls=shown,
        proxy_url=settings().tsb_proxy_url or None,
        certificate_role=Role(settings().certificate_role),
        request_role=Role(settings().request_role),
        report=metrics.tsb_call,
        refused=metrics.credentials_refused,
        read_timeout_seconds=read_timeout_seconds or READ_TIMEOUT_SECONDS,
    )


def tls() -> "Tls":
    """Whom we trust and who we are, towards the TSB."""
    from countersign.aws import secrets  # noqa: PLC0415

    return secrets.tls(settings().secret_arns["clientTls"])


def sign(content: bytes) -> bytes:
    """A signature by the stack's signing key."""
    from countersign.aws.signing import SigningKey  # noqa: PLC0415

    return SigningKey(settings().signing_key_arn).sign(content)


def trust() -> "Trust":
    """Whose attestations are believed, as the stack is configured."""
    from countersign.attestation import Trust  # noqa: PLC0415  two functions need it
    from countersign.aws import secrets  # noqa: PLC0415

    root = settings().attestation_root
    chain = secrets.attestation_chain(settings().secret_arns["clientTls"]) if root else ""
    return Trust(root_sha256=root, chain=chain)


def password(secret_arn: str) -> str:
    """A key password."""
    from countersign.aws import secrets  # noqa: PLC0415

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
