"""State StoreCertificate."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import stack, trust, tsb
from countersign.models import StoreCertificateInput
from countersign.settings import settings
from countersign.states import store_certificate

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    payload = StoreCertificateInput.read(event)
    logger.append_keys(enrollment_id=payload.enrollment_id, execution_arn=payload.execution_arn)
    logger.info("begun")  # links the invocation's request and trace ids to the enrollment
    result = store_certificate.store_certificate(
        payload,
        records=stack.records(),
        objects=stack.objects(),
        tsb=tsb.tsb(),
        trust=trust.trust(),
        usages_omitted=settings().tsb_omits_usages,
    )
    return result.dump()
