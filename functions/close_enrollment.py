"""State CloseEnrollment, and the backstop for executions that ended without it."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import executions, metrics, stack
from countersign.settings import settings
from countersign.states import close_enrollment

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    payload = close_enrollment.closing(event, executions.describe)
    logger.append_keys(execution_arn=payload.execution.arn)
    result = close_enrollment.close_enrollment(
        payload,
        records=stack.records(),
        objects=stack.objects(),
        bus=stack.bus(),
        code_version=settings().code_version,
        report=metrics.closed,
    )
    logger.info("closed", enrollment_id=result.enrollment_id, outcome=result.outcome)
    return result.dump()
