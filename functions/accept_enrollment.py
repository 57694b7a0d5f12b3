"""State AcceptEnrollment."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign import (
    enrollment,
    lint,  # noqa: F401  at start-up, which has a whole CPU
)
from countersign.aws import stack
from countersign.models import AcceptEnrollmentInput
from countersign.settings import settings

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    given = AcceptEnrollmentInput.read(event)
    logger.append_keys(execution_arn=given.execution.arn)
    result = enrollment.accept_enrollment(
        given,
        records=stack.records(),
        objects=stack.objects(),
        bus=stack.bus(),
        rules=stack.rules(),
        keys_per_minute=settings().keys_per_minute,
    )
    logger.info("accepted", enrollment_id=result.enrollment_id)
    return result.dump()
