"""Runs on a schedule, beside the workflow: compares keys of issued CSRs with what was approved."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import secrets, stack, trust, tsb
from countersign.keys import audit

logger = Logger()
ENOUGH_MILLISECONDS = 60_000  # enough for one more key, with all its timeouts


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001
    audited = audit.audit_keys(
        records=stack.records(),
        objects=stack.objects(),
        tsb=tsb.tsb(),
        password=secrets.password,
        trust=trust.trust(),
        bus=stack.bus(),
        more=lambda: context.get_remaining_time_in_millis() > ENOUGH_MILLISECONDS,
    )
    logger.info("audited", extra=audited.dump())
    return audited.dump()
