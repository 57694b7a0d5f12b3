"""A task: what TSB asks an approver, as it came. Nothing in it is believed before the checks.

Source: TSB REST API, POST /v1/filteredAllApprovalTask at detail level 6.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

DETAIL_LEVEL = "level6"


class Task(BaseModel):
    """One task. What this TSB does not show is None; bytes are base64."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    id: str
    approval_to_be_signed: str
    approver_public_key: str | None = None
    meta_data: str | None = None
    meta_data_signature: str | None = None
    payload: str | None = None
    request_base64: str | None = None
    key_attributes: str | None = None
    request_status: str | None = None


def read(listed: Any) -> tuple[list[Task], int]:
    """The tasks of an answer, and how many others nobody can read."""
    found, unreadable = list[Task](), 0
    for one in listed if isinstance(listed, list) else ():
        try:
            found.append(Task.model_validate(one))
        except ValidationError:
            unreadable += 1
    return found, unreadable
