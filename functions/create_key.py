"""State CreateKey."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import metrics, profiles, secrets, stack, trust, tsb
from countersign.models import CreateKeyInput
from countersign.states import create_key

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    payload = CreateKeyInput.read(event)
    logger.append_keys(enrollment_id=payload.enrollment_id, execution_arn=payload.execution_arn)
    logger.info("begun")  # links the invocation's request and trace ids to the enrollment
    result = create_key.create_key(
        payload,
        records=stack.records(),
        objects=stack.objects(),
        tsb=tsb.tsb(),
        password=secrets.password,
        profiles=profiles.profiles(),
        trust=trust.trust(),
        deadline_seconds=stack.polling_settings().deadline_seconds,
        report_skew=metrics.clock_skew,
    )
    return result.dump()
