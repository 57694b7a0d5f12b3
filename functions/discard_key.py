"""State DiscardKey."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import secrets, stack, tsb
from countersign.models import DiscardKeyInput
from countersign.settings import settings
from countersign.states import discard_key

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    payload = DiscardKeyInput.read(event)
    logger.append_keys(enrollment_id=payload.enrollment_id, execution_arn=payload.execution_arn)
    logger.info("begun")  # links the invocation's request and trace ids to the enrollment
    result = discard_key.discard_key(
        payload,
        records=stack.records(),
        tsb=tsb.tsb(),
        password=secrets.password,
        keys_per_minute=settings().keys_per_minute,
        fresh_start_after=settings().fresh_start_after,
        clock_skew=settings().max_clock_skew,
    )
    return result.dump()
