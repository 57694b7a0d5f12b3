"""The TSB with the stack's credentials."""

from functools import lru_cache

from countersign.aws import metrics, secrets, stack
from countersign.errors import TsbCredentialsError
from countersign.settings import settings
from countersign.tsb.client import TsbClient
from countersign.tsb.models import Role, Tls
from countersign.tsb.transport import TIMEOUT_SECONDS


def tsb(timeout_seconds: int | None = None, *, report: bool = True) -> TsbClient:
    """The TSB. A role's secret is read, and must be readable, only when a call needs the role.

    The same client, with its kept-alive connection, is returned until the TLS secret changes.

    Args:
        timeout_seconds: of a call, for callers that cannot wait for the client's default.
        report: whether each call is a metric, or only what goes wrong; a log line a call is dear
            where there are millions.
    """
    try:
        return _client(stack.tls(), timeout_seconds, report)
    except TsbCredentialsError:
        metrics.credentials_refused()
        raise


@lru_cache(maxsize=1)
def _client(shown: Tls, timeout_seconds: int | None, report: bool) -> TsbClient:
    arns = settings().secret_arns
    return TsbClient(
        settings().tsb_url,
        credentials=lambda role: secrets.credentials(arns[role]),
        renewed=lambda role: secrets.credentials(arns[role], anew=True),
        tls=shown,
        proxy_url=settings().tsb_proxy_url or None,
        certificate_role=Role(settings().certificate_role),
        request_role=Role(settings().request_role),
        report=metrics.tsb_call if report else metrics.tsb_fault,
        refused=metrics.credentials_refused,
        timeout_seconds=timeout_seconds or TIMEOUT_SECONDS,
    )
