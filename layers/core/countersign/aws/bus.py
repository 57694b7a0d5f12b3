"""The bus: what happened to an enrollment, for everyone who needs to know."""

import json
from typing import Any

from countersign.aws.clients import client, named_errors
from countersign.errors import AwsCallError

SOURCE = "countersign"


class Bus:
    """Events of source `countersign` on the stack's own bus."""

    def __init__(self, name: str) -> None:
        self._name = name

    def put(self, detail_type: str, detail: dict[str, Any], resources: list[str]) -> None:
        """Emit one event; at least once, because a lost answer is repeated by the SDK.

        Raises:
            AwsCallError: EventBridge refused, was silent, or took the call but not the entry.
        """
        entry = {
            "EventBusName": self._name,
            "Source": SOURCE,
            "DetailType": detail_type,
            "Detail": json.dumps(detail),
            "Resources": resources,
        }
        with named_errors(f"emitting {detail_type}"):
            answer = client("events").put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            failed = answer["Entries"][0]
            raise AwsCallError(
                f"emitting {detail_type}: EventBridge did not take the entry",
                reason=failed.get("ErrorCode"),
                action="Look up the code; the outcome is on record and will be announced again.",
            )
