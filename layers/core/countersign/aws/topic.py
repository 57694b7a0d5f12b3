"""The topic whose subscribers get mails about enrollments."""

from countersign.aws.clients import client, named_errors
from countersign.mails import Mail


class Topic:
    """An SNS topic."""

    def __init__(self, arn: str) -> None:
        self._arn = arn

    def publish(self, mail: Mail) -> None:
        """Send one mail to all subscribers, at least once.

        Its attribute `detailType` is for the subscriptions' filter policies.

        Raises:
            AwsCallError: SNS refused or did not answer. Lambda tries twice more, then the event
                goes to the dead-letter queue.
        """
        with named_errors(f"publishing {mail.subject!r}"):
            client("sns").publish(
                TopicArn=self._arn,
                Subject=mail.subject,
                Message=mail.text,
                MessageAttributes={
                    "detailType": {"DataType": "String", "StringValue": mail.detail_type}
                },
            )
