"""Sends approvers and requesters mails of their own. `notify` is the operators' copy. Not a state.

What cannot be sent is said here and nowhere else: it never touches an enrollment.
"""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from countersign.aws import metrics, profiles, stack
from countersign.aws.mailer import Mailer
from countersign.letters.delivery import Undelivered, deliver
from countersign.settings import settings

logger = Logger()


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    logger.append_keys(enrollment_id=event["detail"]["enrollmentId"], event_id=event["id"])
    operators = settings().operators_email
    deliver(
        event,
        records=stack.records(),
        objects=stack.objects(),
        directory=profiles.profiles().directory,
        operators=operators,
        send=Mailer(settings().mail_from, operators).send,
        report=undelivered,
    )


def undelivered(one: Undelivered) -> None:
    """Leave a trace of a mail that somebody does not get."""
    logger.warning("not delivered", **one._asdict())
    metrics.undelivered(one.reason, one._asdict())
