"""boto3 clients, created at first use and kept for warm invocations."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from countersign.errors import AwsCallError

# Whatever hangs, a call ends before the functions' Timeout of 30 s: our error is raised before
# Lambda kills us. It takes at most ATTEMPTS x (connect + read), the SDK's waits between the
# attempts (13 s, if the service asks for them), and S3's waits for "100 Continue" (1 s each). Where
# a service says nothing at all, it takes 12 s. A host may have several addresses (S3 has eight),
# and each of them has the time to connect.
CONNECT_TIMEOUT_SECONDS = 1
READ_TIMEOUT_SECONDS = 3
ATTEMPTS = 3


@cache
def client(service: str, *, attempts: int = ATTEMPTS) -> Any:
    """The boto3 client of `service`. A call that hangs is an `AwsCallError` in `named_errors`.

    Args:
        service: as boto3 names it.
        attempts: 1 for a call that must not be repeated where its answer was lost.
    """
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"total_max_attempts": attempts, "mode": "standard"},
    )
    return boto3.client(service, config=config)  # type: ignore[call-overload]


@contextmanager
def named_errors(doing: str) -> Iterator[None]:
    """Turn the SDK's exceptions into one name that the state machine knows.

    Raises:
        AwsCallError: names the action and the service's error code.
    """
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        raise AwsCallError(
            f"{doing}: AWS answered {code}",
            reason=code,
            http_status=status,
            action="Look up the code; AccessDenied means the stack's roles were changed.",
        ) from error
    except (BotoCoreError, ResponseParserError) as error:
        raise AwsCallError(
            f"{doing}: {type(error).__name__}",
            action="Check the network path from the function to the AWS endpoint.",
        ) from error
