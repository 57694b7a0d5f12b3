"""Mails to single people, through SES."""

from countersign.aws.clients import client, named_errors
from countersign.letters.text import Letter


class Mailer:
    """Mails from one address.

    Args:
        sender: an identity that is verified in SES, or an address of one.
        answers: where answers go; empty: to the sender.
    """

    def __init__(self, sender: str, answers: str) -> None:
        self._sender = sender
        self._answers = answers

    def send(self, to: str, letter: Letter, enrollment_id: str) -> None:
        """Send a mail to one address. Not idempotent, so the SDK repeats nothing.

        Raises:
            AwsCallError: SES refused (its code is the reason), or did not answer: then the mail may
                have been sent.
        Source: Amazon SES API v2, SendEmail.
        """

        def utf8(data: str) -> dict[str, str]:
            return {"Data": data, "Charset": "UTF-8"}

        with named_errors(f"sending a mail about enrollment {enrollment_id}"):
            client("sesv2", attempts=1).send_email(
                FromEmailAddress=self._sender,
                Destination={"ToAddresses": [to]},
                **({"ReplyToAddresses": [self._answers]} if self._answers else {}),
                Content={
                    "Simple": {
                        "Subject": utf8(letter.subject),
                        "Body": {"Text": utf8(letter.text), "Html": utf8(letter.html)},
                    }
                },
                EmailTags=[{"Name": "enrollmentId", "Value": enrollment_id}],
            )
