"""How an enrollment ends: the outcome, its document, its event. CloseEnrollment is the only exit.

An execution can also end without that state (stopped, timed out, CloseEnrollment failed). The
backstop's queue then delivers the status-change event of Step Functions.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from countersign import events
from countersign import models as m
from countersign.errors import CountersignError, InvalidEnrollmentError, TsbRefusedError
from countersign.record import Record, TsbStatus, csr_step
from countersign.request import canonical, intake
from countersign.states import ownership
from countersign.stores import Bus, Records

BACKSTOP = ""  # as the state of a failure: none of the workflow's
DECIDED_BY_TSB = (TsbStatus.REJECTED, TsbStatus.EXPIRED, TsbStatus.CANCELLED)
DELIVERED_AT_LEAST_ONCE = ("event", "schedule")  # each with an id of its own in the origin
MAX_TEXT = 4_000  # characters of a message; the whole document must fit a Cause of 32 KB
MAX_SHORT_TEXT = 500
MAX_APPROVERS_IN_FAILURE = 100
OUR_ERRORS = {error.__name__ for error in CountersignError.__subclasses__()}
type Report = Callable[[m.OutcomeDocument, Record], None]  # what has just been announced
type DescribeInput = Callable[[str], str]  # the input (JSON text) of the execution with this ARN


def closing(event: Mapping[str, Any], describe_input: DescribeInput) -> m.CloseEnrollmentInput:
    """What to close, from the state machine's payload or from the backstop's queue.

    Args:
        event: the state's payload, or an SQS event with one Step Functions status-change event.
        describe_input: called if the status-change event has left out the input (over 248 KiB).
    Source: Amazon EventBridge, Step Functions execution status change events.
    """
    if "Records" not in event:
        return m.CloseEnrollmentInput.read(event)
    detail = json.loads(event["Records"][0]["body"])["detail"]
    arn = detail["executionArn"]
    text = detail.get("input")
    return m.CloseEnrollmentInput(
        execution=m.Execution(
            arn=arn,
            name=detail["name"],
            input=_json_or_none(text if text is not None else describe_input(arn)),
        ),
        failure=m.CaughtError(
            state=BACKSTOP,
            error=detail.get("error") or f"Execution{detail['status'].title().replace('_', '')}",
            cause=detail.get("cause")
            or f"the execution ended as {detail['status']} before the enrollment was closed",
        ),
    )


def close_enrollment(
    given: m.CloseEnrollmentInput,
    *,
    records: Records,
    bus: Bus,
    code_version: str,
    report: Report | None = None,
) -> m.OutcomeDocument:
    """Record the outcome, announce it, and record that it was announced.

    Idempotent: the first outcome on record stays. An announced outcome is not announced again,
    unless the record of the announcement was lost (events are at least once).

    Args:
        given: how the workflow ended.
        code_version: version of the running code, for the record.

    Raises:
        AwsCallError: table or bus refused; the state machine retries, and after it the backstop.
    """
    closed_before = _closed_before(given)
    if closed_before is not None:
        return closed_before
    enrollment_id = intake.enrollment_id(given.execution.input, given.execution.name)
    ending = _ending(given)
    record = records.get(enrollment_id)
    if record is None:
        refused_record = {
            **_refused_record(enrollment_id, given, ending),
            "codeVersion": code_version,
        }
        existing = records.put(refused_record)
        record = existing or records.get(enrollment_id) or Record()
    if not _is_own(record, given):
        refused = m.OutcomeDocument(
            enrollment_id=enrollment_id, outcome=m.Outcome.FAILED, error=ending["error"]
        )
        bus.put(events.ended(refused, {}, given.execution.arn, _origin(given)))
        return refused
    if "outcome" not in record:
        ending = _proven(record, given) or ending
        ended_at = m.timestamp(m.now())
        values = {
            "outcome": ending["outcome"],
            "status": ending["outcome"],
            "times.ended": ended_at,
            "codeVersion": code_version,
            **({"error": ending["error"].dump()} if ending["error"] else {}),
        }
        records.update(enrollment_id, values, absent=("outcome",))
        record = records.get(enrollment_id) or Record()
    closed = document(record)
    if "announced" not in record:
        origin = record.get("origin") or _origin(given)
        if "quarantine" in record:
            bus.put(events.quarantined(record, given.execution.arn))
        bus.put(events.ended(closed, record, given.execution.arn, origin))
        records.update(enrollment_id, {"announced": m.timestamp(m.now())}, absent=("announced",))
        if report is not None:
            report(closed, record)
    return closed


def document(record: Record) -> m.OutcomeDocument:
    """The outcome document of a record; `outcome` is None while it is open."""
    failed = record.get("outcome") == m.Outcome.FAILED
    approvers = csr_step(record).get("approvers", [])
    return m.OutcomeDocument(
        enrollment_id=record["id"],
        outcome=record.get("outcome"),
        csr=record.get("csr") if record.get("outcome") == m.Outcome.ISSUED else None,
        approvers=tuple(
            m.Approver.read(one)
            for one in (approvers[:MAX_APPROVERS_IN_FAILURE] if failed else approvers)
        ),
        error=record.get("error"),
    )


def failure(caught: m.CaughtError) -> m.Failure:
    """The failure in what a Catch passed on; tolerates any `cause`.

    Only the messages of our own errors are repeated: other exceptions may quote anything.
    """
    cause = _json_or_none(caught.cause)
    said = cause if isinstance(cause, dict) else {}
    name = said.get("errorType") or caught.error
    content = _json_or_none(said.get("errorMessage"))
    if name in OUR_ERRORS and isinstance(content, dict) and "message" in content:
        return m.Failure(
            name=name,
            state=caught.state or None,
            message=str(content["message"])[:MAX_TEXT],
            field=_short(content.get("field")),
            error_code=content.get("errorCode"),
            reason=_short(content.get("reason")),
            http_status=content.get("httpStatus"),
            action=_short(content.get("action")),
        )
    request_id = said.get("requestId")
    return m.Failure(
        name=name,
        state=caught.state or None,
        message=(
            f"{name} in state {caught.state}"
            if caught.state
            else str(caught.cause or name)[:MAX_TEXT]
        ),
        action=(
            f"Search the function's log for request {request_id}."
            if request_id
            else "Look at the execution's history for what happened."
        ),
    )


def _closed_before(given: m.CloseEnrollmentInput) -> m.OutcomeDocument | None:
    """The document in the cause of an execution that ended in state EnrollmentFailed.

    The backstop receives these executions too. For a refused request no record says that it was
    announced.
    """
    cause = _json_or_none(given.failure.cause) if given.failure else None
    if isinstance(cause, dict) and "enrollmentId" in cause:
        return m.OutcomeDocument.read(cause)
    return None


def _proven(record: Record, given: m.CloseEnrollmentInput) -> dict[str, Any] | None:
    """The end that is on record already, whatever went wrong on the way here.

    A CSR on record is verified and stored, and can no longer be cancelled (`verifiedSha256`). The
    backstop knows only how the execution died, so a cancellation or TSB's decision is taken from
    the record.
    """
    if "csr" in record:
        return {"outcome": m.Outcome.ISSUED, "error": None}
    if given.failure is None or given.failure.state != BACKSTOP:
        return None
    if "cancel" in record:
        return {"outcome": m.Outcome.CANCELLED, "error": None}
    status = csr_step(record).get("status")
    if status in DECIDED_BY_TSB:
        return {"outcome": m.Outcome(status), "error": None}
    return None


def _ending(given: m.CloseEnrollmentInput) -> dict[str, Any]:
    if given.failure is not None:
        return {"outcome": m.Outcome.FAILED, "error": failure(given.failure)}
    if given.csr is not None:
        return {"outcome": m.Outcome.ISSUED, "error": None}
    if given.status in DECIDED_BY_TSB:
        return {"outcome": m.Outcome(given.status), "error": None}
    refused = TsbRefusedError(
        f"TSB ended the request as {given.status}",
        action="See the HSM's log for the time of the request; TSB gives no reason.",
    )
    return {
        "outcome": m.Outcome.FAILED,
        "error": m.Failure(
            name=type(refused).__name__,
            message=refused.message,
            state="PollRequest",
            action=refused.action,
        ),
    }


def _refused_record(
    enrollment_id: str, given: m.CloseEnrollmentInput, ending: dict[str, Any]
) -> Record:
    """A request that was never accepted: kept without the request, which may hold anything."""
    moment = m.timestamp(m.now())
    return {
        "id": enrollment_id,
        "kind": ownership.KIND,
        "schemaVersion": m.SCHEMA_VERSION,
        "attempt": 1,
        "executionArn": given.execution.arn,
        "origin": _origin(given),
        "status": ending["outcome"],
        "stage": "AcceptEnrollment",
        "acceptedAt": moment,
        "times": {"ended": moment},
        "outcome": ending["outcome"],
        "error": ending["error"].dump() if ending["error"] else None,
    }


def _is_own(record: Record, given: m.CloseEnrollmentInput) -> bool:
    """Whether this execution carries out the record, or a trigger claimed it for this execution."""
    if "executionArn" in record:
        own = record["executionArn"] == given.execution.arn
        return bool(own or _is_refused_again(record, given))
    # The execution of an earlier attempt may be reported late; its name differs.
    if given.execution.name != ownership.execution_name(record):
        return False
    try:
        raw, _ = intake.requested(given.execution.input)
        return bool(canonical.sha256(raw) == record.get("requestSha256"))
    except (InvalidEnrollmentError, AttributeError):
        return False


def _is_refused_again(record: Record, given: m.CloseEnrollmentInput) -> bool:
    """Whether a request that was refused before was delivered once more: one refusal, one word."""
    origin = _origin(given)
    return (
        "requestSha256" not in record
        and origin["trigger"] in DELIVERED_AT_LEAST_ONCE
        and "id" in origin
        and record.get("origin") == origin
    )


def _origin(given: m.CloseEnrollmentInput) -> dict[str, Any]:
    """The origin of a request that was never accepted, without the principal: it is unverified."""
    try:
        _, origin = intake.split_input(given.execution.input)
    except InvalidEnrollmentError:
        origin = m.Origin()
    known = origin.model_copy(update={"principal": None})
    return known.model_dump(mode="json", exclude_none=True)


def _short(text: str | None) -> str | None:
    """The text, cut: a field's path repeats names that a caller made up, however long they are."""
    return text and text[:MAX_SHORT_TEXT]


def _json_or_none(text: object) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return None
