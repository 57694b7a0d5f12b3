"""State PollRequest."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import directory, stack, tsb
from countersign.models import PollRequestInput
from countersign.states import poll_request

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    payload = PollRequestInput.read(event)
    logger.append_keys(enrollment_id=payload.enrollment_id, execution_arn=payload.execution_arn)
    logger.info("begun")  # links the invocation's request and trace ids to the enrollment
    result = poll_request.poll_request(
        payload,
        records=stack.records(),
        objects=stack.objects(),
        bus=stack.bus(),
        tsb=tsb.tsb(),
        names=directory.names,
    )
    return result.dump()
