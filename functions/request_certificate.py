"""State RequestCertificate."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import profiles, stack, trust, tsb
from countersign.aws.signing import SigningKey
from countersign.models import RequestCertificateInput
from countersign.settings import settings
from countersign.states import request_certificate

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    payload = RequestCertificateInput.read(event)
    logger.append_keys(enrollment_id=payload.enrollment_id, execution_arn=payload.execution_arn)
    logger.info("begun")  # links the invocation's request and trace ids to the enrollment
    result = request_certificate.request_certificate(
        payload,
        records=stack.records(),
        objects=stack.objects(),
        tsb=tsb.tsb(),
        sign=SigningKey(settings().signing_key_arn).sign,
        polling_settings=stack.polling_settings(),
        profiles=profiles.profiles(),
        trust=trust.trust(),
        newer=settings().tsb_newer_certificates,
    )
    return result.dump()
