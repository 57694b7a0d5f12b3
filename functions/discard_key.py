"""State DiscardKey."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign import (
    enrollment,
    tsb,  # noqa: F401  at start-up, which has a whole CPU
)
from countersign.aws import stack
from countersign.models import DiscardKeyInput
from countersign.settings import settings

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    given = DiscardKeyInput.read(event)
    logger.append_keys(enrollment_id=given.enrollment_id, execution_arn=given.execution_arn)
    logger.info("begun")  # ties the invocation's request and trace ids to the enrollment
    result = enrollment.discard_key(
        given,
        records=stack.records(),
        tsb=stack.tsb(),
        password=stack.password,
        keys_per_minute=settings().keys_per_minute,
    )
    return result.dump()
