"""State StoreCsr."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import secrets, stack, trust, tsb
from countersign.models import StoreCsrInput
from countersign.states import store_csr

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    payload = StoreCsrInput.read(event)
    logger.append_keys(enrollment_id=payload.enrollment_id, execution_arn=payload.execution_arn)
    logger.info("begun")  # links the invocation's request and trace ids to the enrollment
    result = store_csr.store_csr(
        payload,
        records=stack.records(),
        objects=stack.objects(),
        tsb=tsb.tsb(),
        password=secrets.password,
        trust=trust.trust(),
        bus=stack.bus(),
    )
    return result.dump()
