"""Sends each event of the bus as a readable mail. A rule's SNS target cannot set a subject."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign import mails
from countersign.aws.topic import Topic
from countersign.settings import settings

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    logger.append_keys(enrollment_id=event["detail"]["enrollmentId"], event_id=event["id"])
    Topic(settings().topic_arn).publish(mails.render(event))
