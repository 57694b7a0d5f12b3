"""Runs every few minutes: what is pending, what is stuck, what expires. Not a state."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign import watch
from countersign.aws import metrics, profiles, stack

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    seen = watch.watch_enrollments(
        records=stack.records(),
        tls=stack.tls(),
        polling_settings=stack.polling_settings(),
        directory=profiles.profiles().directory,
    )
    metrics.sighting(seen)
    logger.info("seen", pending=seen.pending, overdue=seen.overdue)
