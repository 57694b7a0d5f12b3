"""State RequestCsr."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import profiles, secrets, stack, tsb
from countersign.aws.signing import SigningKey
from countersign.models import RequestCsrInput
from countersign.settings import settings
from countersign.states import request_csr

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    payload = RequestCsrInput.read(event)
    logger.append_keys(enrollment_id=payload.enrollment_id, execution_arn=payload.execution_arn)
    logger.info("begun")  # links the invocation's request and trace ids to the enrollment
    result = request_csr.request_csr(
        payload,
        records=stack.records(),
        objects=stack.objects(),
        tsb=tsb.tsb(),
        password=secrets.password,
        sign=SigningKey(settings().signing_key_arn).sign,
        polling_settings=stack.polling_settings(),
        names=profiles.profiles().directory.names,
    )
    return result.dump()
