"""What the HTTP API does: submit, show, list, cancel, resume, return the CSR, report TSB's health.

Routes and parameters are in functions/api.py.
"""

import base64
import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from countersign import models as m
from countersign import polling, resumption
from countersign.api.cancellation import Notify, cancel
from countersign.api.models import Enrollment, EnrollmentList, Health, TsbHealth
from countersign.api.problems import CERTIFICATE_DER, DER, JSON, PEM, ProblemError, invalid
from countersign.api.views import Answer, answer, enrollment, next_poll, summary
from countersign.errors import (
    CountersignError,
    EnrollmentConflictError,
    InvalidEnrollmentError,
)
from countersign.record import Record, last_step
from countersign.request import intake, validation
from countersign.states import accept_enrollment, ownership
from countersign.stores import Item, Records

MAX_BODY_BYTES = 128 * 1024  # half of what an execution takes, see aws/executions.py
APPROVALS = "TSB_ENGINE"  # flag of the license; without it TSB asks nobody
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
EVER = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
type Start = Callable[[str, dict[str, Any]], bool]  # whether this name's execution has this input


class Tsb(Protocol):
    """The calls of the TSB's client that a health check needs."""

    clock_skew_seconds: int | None

    def version(self) -> str:
        """The version of the TSB."""

    def license_flags(self) -> list[str]:
        """The features that the TSB is licensed for."""


class Caller(NamedTuple):
    """Who signed the call, according to API Gateway. `principal` is an IAM ARN."""

    principal: str
    account: str | None

    @property
    def lasting(self) -> str:
        """The principal without a role session's name, which differs in every retried job."""
        session = re.fullmatch(r"(arn:[^:]+:sts::\d+:assumed-role/[^/]+)/.*", self.principal)
        return session[1] if session else self.principal


# Submitting ------------------------------------------------------------------------------------


def body(content_type: str | None, text: str | None) -> Any:
    """The JSON value of a body.

    Raises:
        ProblemError: 415 not JSON, 413 too large, 400 cannot be parsed.
    """
    media_type = (content_type or JSON).partition(";")[0].strip().lower()
    if media_type != JSON:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the body must be {JSON}",
            f"Send the header Content-Type: {JSON}.",
        )
    size = len((text or "").encode("utf-8", "surrogatepass"))
    if size > MAX_BODY_BYTES:
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body has {size} bytes; {MAX_BODY_BYTES} are the limit",
            "Send a smaller request.",
        )
    try:
        return json.loads(text or "", parse_constant=_no_constant, object_pairs_hook=m.unique)
    except (ValueError, RecursionError) as error:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"the body cannot be parsed as JSON: {getattr(error, 'msg', type(error).__name__)}",
            "Send one JSON object, encoded as UTF-8.",
        ) from None


def _no_constant(name: str) -> None:
    raise ValueError(name)  # Python has NaN and Infinity, JSON has not


def submit(
    raw: Any,
    idempotency_key: str | None,
    caller: Caller,
    *,
    base: str,
    records: Records,
    start: Start,
    rules: validation.Rules,
) -> Answer:
    """Claim the enrollment, then start its execution.

    Idempotent for the same id. The id is the body's `enrollmentId`, else it is made from the caller
    and `Idempotency-Key`. A repeated call starts the execution again while none is on record.

    Returns:
        202 while the enrollment is open, 200 when it has ended.

    Raises:
        InvalidEnrollmentError: nothing was created.
        EnrollmentConflictError: the id belongs to another request.
        AwsCallError: maybe claimed, but not started; repeating the call starts it.
    """
    enrollment_id = intake.own_id(raw) or _id(idempotency_key, caller)
    origin = m.Origin(
        trigger="api",
        id=enrollment_id,
        principal=caller.principal,
        account=caller.account,
        time=m.timestamp(m.now()),
    )
    try:
        record, own, _ = accept_enrollment.accept(
            enrollment_id,
            raw,
            origin,
            requester=caller.principal,
            requester_known=True,
            records=records,
            rules=rules,
        )
        if own:
            _start(record, start)
    except InvalidEnrollmentError:
        raise  # no id was claimed
    except CountersignError as error:
        error.enrollment_id = enrollment_id
        raise
    return answer(record, base)


def _id(idempotency_key: str | None, caller: Caller) -> str:
    if idempotency_key is None:
        return intake.made_id("api", uuid.uuid4().hex)
    told_apart = json.dumps([caller.account, caller.lasting, idempotency_key])
    return intake.made_id("api", told_apart, hashed=True)


def _start(record: Record, start: Start) -> None:
    given = {"request": record["request"], "origin": record["origin"]}
    if not any(start(name, given) for name in ownership.execution_names(record)):
        raise EnrollmentConflictError(
            f"the names of executions of enrollment {record['id']} are taken by others",
            field="request.enrollmentId",
            action="Choose another enrollmentId, and find out who starts executions by hand.",
        )


def show(
    enrollment_id: str, *, base: str, records: Records, polling_settings: polling.Schedule
) -> Enrollment:
    """One enrollment, with the time of the next poll.

    Args:
        enrollment_id: the id of the enrollment.
        base: the path under which this API was called.
        records: the table.
        polling_settings: how the stack waits.

    Raises:
        ProblemError: 404.
    """
    record = _get(enrollment_id, records)
    shown = enrollment(record, base)
    due = next_poll(record, polling_settings)
    name = last_step(record)
    step = getattr(shown.steps, name)
    times = step.times.model_copy(update={"next_poll": due})
    steps = shown.steps.model_copy(update={name: step.model_copy(update={"times": times})})
    return shown.model_copy(update={"steps": steps})


def enrollments(
    *,
    status: m.Status | None,
    since: str | None,
    until: str | None,
    limit: int,
    token: str | None,
    base: str,
    records: Records,
) -> EnrollmentList:
    """A page of the list, newest first.

    Raises:
        ProblemError: 422, a time or a page token that is not valid.
    """
    first = _moment("query.from", since) if since is not None else EVER[0]
    last = _moment("query.to", until) if until is not None else EVER[1]
    if first > last:
        return EnrollmentList(enrollments=(), next=None)
    found, ended = records.newest(
        "ByStatus" if status else "ByTime",
        {"status": status} if status else {"kind": ownership.KIND},
        since=first,
        until=last,
        limit=limit,
        after=_place(token, first, last) if token is not None else None,
    )
    return EnrollmentList(
        enrollments=tuple(summary(record, base) for record in found),
        next=_token(ended) if ended else None,
    )


def _moment(field: str, text: str) -> str:
    try:
        if not RFC_3339.fullmatch(text):
            raise ValueError(text)
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (OverflowError, ValueError):
        raise invalid(field, "is no moment like 2026-11-24T09:00:00Z") from None
    # strftime would write the year 1 without leading zeros.
    return f"{moment.replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def _token(place: Item) -> str:
    text = f"{place['acceptedAt']} {place['id']}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(token: str, first: str, last: str) -> Item:
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        accepted_at, _, enrollment_id = text.decode().partition(" ")
    except ValueError:  # not base64, not ASCII, not UTF-8
        accepted_at, enrollment_id = "", ""
    # DynamoDB refuses a start key outside of the queried range.
    if not (intake.ENROLLMENT_ID.fullmatch(enrollment_id) and first <= accepted_at <= last):
        raise invalid("query.next", "is no token of a list with these filters")
    return {"id": enrollment_id, "acceptedAt": accepted_at}


def csr(enrollment_id: str, accept: str, *, records: Records) -> tuple[str, bytes]:
    """The issued CSR: its media type, and its PEM or DER.

    Where a certificate was asked for, it is there before the enrollment has ended, and after any
    outcome.

    Args:
        enrollment_id: the id of the enrollment.
        accept: the `Accept` header. Its first type decides, as in API Gateway, which returns binary
            answers by it.
        records: the table.

    Raises:
        ProblemError: 404 unknown, 409 pending or ended without one, 406.
    """
    wants_der = _wants_der(accept, DER, "a CSR")
    record = _get(enrollment_id, records)
    if not m.has_csr(record):
        raise _not_there(record, "CSR")
    return _as_asked(record["csr"]["pem"], DER if wants_der else None)


def certificate(enrollment_id: str, accept: str, *, records: Records) -> tuple[str, bytes]:
    """The issued certificate: PEM with the CA's after it, or its DER alone.

    Args and errors are those of `csr`.
    """
    wants_der = _wants_der(accept, CERTIFICATE_DER, "a certificate")
    record = _get(enrollment_id, records)
    stored = m.certificate_of(record)
    if stored is None:
        raise _not_there(record, "certificate")
    return _as_asked(stored.pem, CERTIFICATE_DER if wants_der else None)


def _wants_der(accept: str, der: str, what: str) -> bool:
    types = [one.partition(";")[0].strip().lower() for one in accept.split(",")]
    if types[0] != der and not {PEM, "*/*", "application/*", ""} & set(types):
        raise ProblemError(
            HTTPStatus.NOT_ACCEPTABLE,
            f"{what} is handed out as PEM or DER only",
            f"Accept {PEM} or {der}.",
        )
    return types[0] == der


def _not_there(record: Record, what: str) -> ProblemError:
    outcome = record.get("outcome")
    said = f"ended as {outcome}: there is no {what}" if outcome else "is not yet issued"
    return ProblemError(
        HTTPStatus.CONFLICT,
        f"enrollment {record['id']} {said}",
        "See the enrollment for the reason." if outcome else "Ask again when it is ISSUED.",
    )


def _as_asked(pem: str, der: str | None) -> tuple[str, bytes]:
    """The media type and the content; of a chain in PEM, DER is the first one."""
    if der is None:
        return PEM, pem.encode()
    return der, base64.b64decode("".join(pem.split("-----")[2].split()))


def _get(enrollment_id: str, records: Records) -> Record:
    record = records.get(enrollment_id)
    if record is None:
        raise _unknown(enrollment_id)
    return record


def _unknown(enrollment_id: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.NOT_FOUND,
        f"there is no enrollment {enrollment_id}",
        "Compare the id with the one that POST /enrollments answered.",
    )


# Cancelling, resuming, health ------------------------------------------------------------------


def cancelled(
    enrollment_id: str,
    caller: Caller,
    *,
    base: str,
    records: Records,
    start: Start,
    notify: Notify,
) -> Answer:
    """Cancel an enrollment; see `cancellation.cancel`.

    Returns:
        202 while the workflow has not ended the enrollment, 200 when it is CANCELLED.

    Raises:
        EnrollmentConflictError: too late.
        ProblemError: 404.
        AwsCallError: maybe cancelled; repeating the call is harmless.
    """
    record = cancel(enrollment_id, by=caller.principal, records=records, notify=notify)
    if record is None:
        raise _unknown(enrollment_id)
    if "executionArn" not in record and "outcome" not in record:
        # The id is claimed, and no execution is on record. Only an execution can end and announce
        # the enrollment.
        _start(record, start)
    return answer(record, base)


def resumed(
    enrollment_id: str, caller: Caller, *, base: str, records: Records, start: Start
) -> Answer:
    """Start the execution that resumes an enrollment which failed without a decision.

    Idempotent: until that execution has taken the enrollment over, a repeated call starts nothing
    more.

    Returns:
        202, with the enrollment as it still is: the execution takes it over within seconds.

    Raises:
        EnrollmentConflictError: it cannot be resumed, see `resumption.why_not`; or somebody else
            has started an execution of that name.
        ProblemError: 404.
        AwsCallError: maybe started; repeating the call is harmless.
    """
    record = _get(enrollment_id, records)
    refused = resumption.why_not(record)
    if refused is not None:
        raise refused
    origin = m.Origin(
        trigger="api",
        id=enrollment_id,
        principal=caller.principal,
        account=caller.account,  # without the time, so that a repeated call has the same input
    )
    name = resumption.execution_name(record)
    if not start(
        name, {"resume": enrollment_id, "origin": origin.model_dump(mode="json", exclude_none=True)}
    ):
        raise EnrollmentConflictError(
            f"execution {name} was started by somebody else",
            action="Look at it: it resumes this enrollment, or has its name for another reason."
            " In that case start an execution of another name with the same input.",
        )
    return Answer(HTTPStatus.ACCEPTED, enrollment(record, base))


def health(tsb: Tsb, clock_skew: timedelta) -> Health:
    """Whether the TSB can be reached, is licensed to ask approvers and has the right time. Reads
    only.

    Args:
        tsb: the TSB.
        clock_skew: how far its clock may be from ours.

    Raises:
        ProblemError: 503, with what is wrong.
    """
    try:
        version, license_flags = tsb.version(), tuple(tsb.license_flags())
    except CountersignError as error:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE, f"{type(error).__name__}: {error.message}", error.action
        ) from error
    skew = tsb.clock_skew_seconds
    if skew is not None and abs(skew) > clock_skew.total_seconds():
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"the TSB's clock is {abs(skew)} s {'behind' if skew < 0 else 'ahead of'} ours;"
            f" {clock_skew.total_seconds():.0f} s are tolerated",
            "Have the clocks of the TSB, its HSM and what stands in front of it set.",
        )
    if APPROVALS not in license_flags:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"TSB's license lacks {APPROVALS}: it asks no approvers",
            "Have the TSB licensed for approvals.",
        )
    return Health(tsb=TsbHealth(version=version, license=license_flags, clock_skew_seconds=skew))
