"""Runs beside the workflow: stores the evidence of every enrollment that has ended."""

import json
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import metrics, stack
from countersign.aws.signing import SigningKey
from countersign.evidence import verifier, writer
from countersign.settings import settings

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    ended = json.loads(event["Records"][0]["body"])
    key = SigningKey(settings().signing_key_arn)
    folder = writer.keep_evidence(
        ended,
        records=stack.records(),
        objects=stack.objects(),
        evidence=stack.evidence(),
        sign=key.sign,
        public_key=verifier.public_key(key.public_key()),
        attestation_root=settings().attestation_root,
        report_conflict=metrics.evidence_conflict,
        report_left_out=lambda names: logger.warning("left out", answers=names),
    )
    logger.info("kept", folder=folder)
