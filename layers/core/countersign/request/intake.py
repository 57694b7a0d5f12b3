"""The request, its id and its origin, read from the input of an execution."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from countersign.errors import InvalidEnrollmentError, invalid_field
from countersign.models import Origin, StatedOrigin

NESTED_STARTER = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"  # nested workflow calls add it
ENROLLMENT_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
OWN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a caller; a trigger makes an id with a dot
CLOCK_TOLERANCE = timedelta(minutes=1)  # EventBridge Scheduler is exact to the minute
KNOWN_TO_TRIGGER = {"event": {"id", "account"}, "schedule": {"id", "time"}}  # fields of the origin
DATE_PARTS = {"{yyyy}": "%Y", "{mm}": "%m", "{dd}": "%d", "{hh}": "%H"}  # in a schedule's key label


def requested(raw: object) -> tuple[Any, StatedOrigin]:
    """The request as it will be carried out, and its origin, from a machine input.

    A schedule always sends the same text. The date of the occurrence is filled into the key's label
    here, before anything is validated or hashed. So a repeated delivery is the same request, and
    the record holds what TSB was asked for.

    Raises:
        InvalidEnrollmentError: the input is not an object, its origin is unknown, or the occurrence
            cannot be distinguished from the next one.
    """
    request, origin = split_input(raw)
    if origin.trigger != "schedule":
        return request, origin
    moment = _occurrence(origin)
    if moment is None:
        raise InvalidEnrollmentError(
            "a schedule says which it is and for what time it asks",
            field="origin.time" if origin.id else "origin.id",
            action='Give "id": "<aws.scheduler.schedule-arn>" and "time":'
            ' "<aws.scheduler.scheduled-time>" in the origin of the schedule\'s input.',
        )
    if isinstance(request, Mapping) and "enrollmentId" in request:
        raise invalid_field(
            "enrollmentId",
            "would make every occurrence of the schedule the same enrollment",
            "Leave it out: the id is the schedule's name and the scheduled time.",
        )
    return _dated(request, moment), origin


def require_due(origin: StatedOrigin, now: datetime) -> None:
    """Raise for an occurrence before its time, so that nobody can take its id in advance.

    Raises:
        InvalidEnrollmentError: the schedule's time is yet to come.
    """
    moment = _occurrence(origin) if origin.trigger == "schedule" else None
    if moment is not None and moment > now + CLOCK_TOLERANCE:
        raise InvalidEnrollmentError(
            f"the schedule's occurrence of {origin.time} is yet to come",
            field="origin.time",
            action="Wait until the schedule asks by itself.",
        )


def split_input(raw: object) -> tuple[Any, StatedOrigin]:
    """The request and the origin in a machine input, unchanged.

    A bare request comes from trigger `start`, or from trigger `workflow` if a nested call added its
    key.

    Raises:
        InvalidEnrollmentError: the input is not an object, or its origin is unknown.
    """
    if not isinstance(raw, Mapping):
        raise InvalidEnrollmentError(
            "the input is not a JSON object",
            field="request",
            action='Start with {"request": {…}} or with the request itself.',
        )
    fields = {name: value for name, value in raw.items() if name != NESTED_STARTER}
    starter = raw.get(NESTED_STARTER)
    nested = {"trigger": "workflow", "id": starter} if starter is not None else {}
    if resumed(raw) is not None:
        return None, StatedOrigin.read(fields.get("origin") or nested)
    if "request" not in fields:
        return fields, StatedOrigin.read(nested)
    unknown = sorted(fields.keys() - {"request", "origin"})
    if unknown:
        raise InvalidEnrollmentError(
            f"{unknown[0]}: unknown field beside request and origin",
            field=unknown[0],
            action="Remove it; everything that is asked for stands in request.",
        )
    return fields["request"], StatedOrigin.read(fields.get("origin") or nested)


def known(stated: StatedOrigin) -> Origin:
    """The origin of a request that the API has not claimed: what is known, and what was said.

    EventBridge writes an event's id and account, but its time is the sender's. Scheduler writes the
    schedule and the time. A nested call writes its parent itself. The API writes what it knows on
    record before it starts an execution, so what says that it came from the API did not.
    """
    trigger = "start" if stated.trigger == "api" else stated.trigger
    stands = stated.model_dump(exclude_none=True, by_alias=False, exclude={"trigger"})
    facts = KNOWN_TO_TRIGGER.get(trigger, set())
    said = {name: value for name, value in stands.items() if name not in facts}
    return Origin(
        trigger=trigger,
        **{name: value for name, value in stands.items() if name in facts},
        said=StatedOrigin(trigger=stated.trigger, **said)
        if said or trigger != stated.trigger
        else None,
    )


def resumed(raw: object) -> str | None:
    """The enrollment that an input resumes; None if it is a request.

    The input is `{"resume": "<enrollment id>"}`, with or without an origin.
    """
    if not isinstance(raw, Mapping) or raw.keys() - {"resume", "origin", NESTED_STARTER}:
        return None
    wanted = raw.get("resume")
    return wanted if isinstance(wanted, str) and ENROLLMENT_ID.fullmatch(wanted) else None


def enrollment_id(raw: object, execution_name: str) -> str:
    """The enrollment id of an input, even if the rest of it is not acceptable.

    It is the trigger's id of a schedule's occurrence, else the caller's own id, else the id of an
    event or the one that the API made from an idempotency key, else the execution's name. What a
    trigger makes has a dot, which no caller's id has, so nobody can take it in advance. A text
    that is not a valid id is hashed: the same delivery must always mean the same enrollment.
    """
    existing = resumed(raw)
    if existing is not None:
        return existing
    try:
        request, origin = split_input(raw)
    except InvalidEnrollmentError:
        request, origin = None, StatedOrigin()
    own = own_id(request)
    if own is not None and origin.trigger != "schedule":
        return own
    if origin.trigger == "event" and origin.id:
        return made_id("event", origin.id)
    if origin.trigger == "schedule" and (moment := _occurrence(origin)):
        schedule = (origin.id or "").rpartition("/")[2]  # an ARN's last part, else the whole text
        return made_id("schedule", f"{schedule}.{moment:%Y%m%dT%H%M%SZ}")
    name = origin.id if origin.trigger == "api" and origin.id else execution_name
    # Whoever starts an execution chooses its name.
    by_api = origin.trigger == "api" and is_made_by_api(name) and ENROLLMENT_ID.fullmatch(name)
    return name if by_api or OWN_ID.fullmatch(name) else made_id("start", name, hashed=True)


def made_id(trigger: str, name: str, *, hashed: bool = False) -> str:
    """The id that a trigger makes of a name: the name itself if it fits, else its hash.

    Args:
        trigger: makes the id.
        name: the same for each delivery of the same request.
        hashed: whether the name is hashed even if it fits.
    """
    whole = f"{trigger}.{name}"
    if not hashed and ENROLLMENT_ID.fullmatch(whole):
        return whole
    return f"{trigger}.{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def is_made_by_api(enrollment_id: str) -> bool:
    """Whether the API made this id. It claims an id before it starts the execution."""
    return enrollment_id.startswith("api.")


def _occurrence(origin: StatedOrigin) -> datetime | None:
    """The time that a schedule asks for, UTC; None if the schedule or the time is missing.

    It is the scheduled time, not the current one: it is the same for every delivery attempt.
    """
    try:
        moment = datetime.fromisoformat(origin.time or "")
    except ValueError:
        return None
    return moment.astimezone(UTC) if origin.id and moment.tzinfo else None


def _dated(request: Any, moment: datetime) -> Any:
    """The request with the date in its key's label, in both places that may have the label."""
    for part, field in (("key", "label"), ("csr", "signKeyName")):
        inner = request.get(part) if isinstance(request, Mapping) else None
        text = inner.get(field) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping) and isinstance(text, str):
            for placeholder, form in DATE_PARTS.items():
                text = text.replace(placeholder, f"{moment:{form}}")
            request = {**request, part: {**inner, field: text}}
    return request


def own_id(request: object) -> str | None:
    """The id that a request itself gives its enrollment."""
    own = request.get("enrollmentId") if isinstance(request, Mapping) else None
    return own if isinstance(own, str) and OWN_ID.fullmatch(own) else None
