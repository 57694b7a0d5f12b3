"""What every model has: names of the wire, and one error for all that is wrong."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from countersign.errors import refusal

# What is wrong, by pydantic's name for it. Its own sentences name its types ("a valid dictionary or
# instance of Policy"), which say nothing to a caller.
SENTENCES = {
    "extra_forbidden": "unknown field; remove it",
    "missing": "missing; it is required",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must have {min_length} characters or more",
    "string_too_long": "must have {max_length} characters or fewer",
    "too_short": "must have {min_length} entries or more",
    "too_long": "must have {max_length} entries or fewer",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "value_error": "{error}",
}
SCHEMA_VERSION: Literal["1"] = "1"


class Model(BaseModel):
    """A strict, frozen value that travels as camelCase JSON."""

    model_config = ConfigDict(
        frozen=True,
        defer_build=True,  # a function uses ten of forty models; building all takes 15 ms
        extra="forbid",
        hide_input_in_errors=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    NAME: ClassVar[str] = ""

    @classmethod
    def read(cls, raw: object) -> Self:
        """Validate `raw`.

        Raises:
            InvalidEnrollmentError: names the path of the first offending field; never the value.
        """
        try:
            # One spelling for each field: two would leave open which of them counts.
            return cls.model_validate(raw, by_alias=True, by_name=False)
        except ValidationError as error:
            findings = [_finding(cls.NAME, detail) for detail in error.errors(include_input=False)]
        raise refusal(
            findings,
            field=findings[0][0],
            action="Correct the named fields. Nothing was created.",
        )

    def dump(self) -> dict[str, Any]:
        """The value as a JSON-compatible dictionary with camelCase names."""
        return self.model_dump(mode="json")


def _finding(name: str, detail: Any) -> tuple[str, str]:
    path = ".".join(str(part) for part in detail["loc"])
    return ".".join(part for part in (name, path) if part) or "request", sentence(detail)


def sentence(detail: Mapping[str, Any]) -> str:
    """What is wrong with a value, from one of pydantic's `errors()`; never the value."""
    own = SENTENCES.get(str(detail.get("type")))
    if own is None:
        return str(detail.get("msg", "is not valid"))
    return own.format(**detail.get("ctx", {}))


class DuplicateNameError(ValueError):
    """A name stands twice in a JSON object. `msg` says which, as in a JSONDecodeError."""

    def __init__(self, name: str) -> None:
        self.msg = f"the name {name[:100]!r} stands twice in an object"
        super().__init__(self.msg)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, for `json.loads(object_pairs_hook=…)`. Readers differ on which twin counts.

    Raises:
        DuplicateNameError: a name stands in it twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise DuplicateNameError(name)
        found[name] = value
    return found


def now() -> datetime:
    """The current time, UTC."""
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC with `Z`, to the second, as TSB and EventBridge write it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def cut(text: str, most_bytes: int) -> str:
    """The longest beginning of a text that takes at most so many bytes in JSON, in UTF-8."""
    left = most_bytes
    for index, letter in enumerate(text[:most_bytes]):
        left -= len(json.dumps(letter, ensure_ascii=False).encode("utf-8", "surrogatepass")) - 2
        if left < 0:
            return text[:index]
    return text[:most_bytes]


# A dot stands in ids that triggers make and in no other, so a caller cannot take one in advance.
EnrollmentId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")]
OwnId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Seconds = Annotated[int, Field(ge=0, strict=True)]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
# It is part of every event, so it must fit into one. An AWS ARN is shorter.
OriginText = Annotated[str, StringConstraints(max_length=1024)]
# Strict: what is accepted must be exactly what was requested. "yes" is not a boolean.
Flag = Annotated[bool, Field(strict=True)]
