"""Runs on a schedule, beside the workflow: finds keys that no enrollment accounts for."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import secrets, stack, tsb
from countersign.keys import sweep
from countersign.settings import settings

logger = Logger()
ENOUGH_MILLISECONDS = 60_000  # enough for one more key, with all its timeouts


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001
    swept = sweep.sweep_keys(
        settings().sweep_keys,
        settings().sweep_key_prefix,
        records=stack.records(),
        objects=stack.objects(),
        tsb=tsb.tsb(),
        password=secrets.password,
        clock_skew=settings().max_clock_skew,
        bus=stack.bus(),
        more=lambda: context.get_remaining_time_in_millis() > ENOUGH_MILLISECONDS,
    )
    logger.info("swept", extra=swept.dump())
    return swept.dump()
