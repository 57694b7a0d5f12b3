"""State AcceptEnrollment."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import rules, stack
from countersign.models import AcceptEnrollmentInput
from countersign.settings import settings
from countersign.states import accept_enrollment

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    payload = AcceptEnrollmentInput.read(event)
    logger.append_keys(execution_arn=payload.execution.arn)
    result = accept_enrollment.accept_enrollment(
        payload,
        records=stack.records(),
        objects=stack.objects(),
        bus=stack.bus(),
        rules=rules.rules(),
        polling_settings=stack.polling_settings(),
        keys_per_minute=settings().keys_per_minute,
    )
    logger.info("accepted", enrollment_id=result.enrollment_id)
    return result.dump()
