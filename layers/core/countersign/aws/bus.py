"""The bus: events about enrollments, for everyone who needs them."""

import json

from countersign.aws.clients import client, named_errors
from countersign.errors import AwsCallError
from countersign.stores import Announcement

SOURCE = "countersign"


class Bus:
    """Events of source `countersign` on the stack's own bus."""

    def __init__(self, name: str) -> None:
        self._name = name

    def put(self, event: Announcement) -> None:
        """Emit one event, at least once: the SDK repeats a call whose answer was lost.

        Raises:
            AwsCallError: EventBridge refused, did not answer, or accepted the call but not the
                entry.
        """
        entry = {
            "EventBusName": self._name,
            "Source": SOURCE,
            "DetailType": event.DETAIL_TYPE,
            # As UTF-8: escapes would double or triple the number of bytes.
            "Detail": json.dumps(event.dump(), ensure_ascii=False),
            "Resources": event.resources,
        }
        with named_errors(f"emitting {event.DETAIL_TYPE}"):
            answer = client("events").put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            failed = answer["Entries"][0]
            raise AwsCallError(
                f"emitting {event.DETAIL_TYPE}: EventBridge did not take the entry",
                reason=failed.get("ErrorCode"),
                action="Look up the code; what it says is on record, and is emitted again.",
            )
