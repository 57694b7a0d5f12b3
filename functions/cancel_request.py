"""Notifies TSB of a cancellation. Not a state: the API invokes it without waiting."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import executions, stack, tsb
from countersign.models import CancelRequestInput
from countersign.states import cancel_request

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    payload = CancelRequestInput.read(event)
    logger.append_keys(enrollment_id=payload.enrollment_id)
    logger.info("begun")
    result = cancel_request.cancel_request(
        payload, records=stack.records(), tsb=tsb.tsb, wake=executions.wake
    )
    return result.dump()
