"""How an enrollment ends: the outcome, its document, its event. CloseEnrollment is the only exit.

An execution can also end without that state (stopped, timed out, CloseEnrollment failed). The
backstop's queue then delivers the status-change event of Step Functions.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from countersign import events, waits
from countersign import models as m
from countersign.errors import (
    AwsCallError,
    CountersignError,
    EnrollmentConflictError,
    InvalidEnrollmentError,
    TsbRefusedError,
)
from countersign.evidence import bundle, ended, quarantine
from countersign.evidence.bundle import EvidenceInvalidError
from countersign.evidence.issued import prove_issued
from countersign.record import (
    ENDED_AT_TSB,
    Record,
    StepName,
    TsbStatus,
    approvers_asked,
    certificate_step,
    last_step,
    step_of,
    wants_certificate,
)
from countersign.request import canonical, intake
from countersign.states import documents, ownership, resuming
from countersign.stores import Bus, Objects, Records
from countersign.tsb.models import RequestStatus

BACKSTOP = ""  # as the state of a failure: none of the workflow's
ENDED = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")  # of an execution
DELIVERED_AT_LEAST_ONCE = ("event", "schedule")  # each with an id of its own in the origin
ROUNDS = 5  # an intent, a status, a cancellation and a CSR may come in between, each once
OUR_ERRORS = {error.__name__ for error in CountersignError.__subclasses__()}
type Report = Callable[[m.OutcomeDocument, Record], None]  # what has just been announced
type Describe = Callable[[str], Mapping[str, Any] | None]  # DescribeExecution's answer, by ARN


def closing(event: Mapping[str, Any], describe: Describe) -> m.CloseEnrollmentInput:
    """What to close, from the state machine's payload or from the backstop's queue.

    A message of the queue only says which execution to look at. How it ended, and with which input,
    is what Step Functions says when asked.

    Args:
        event: the state's payload, or an SQS event with one Step Functions status-change event.
        describe: asks Step Functions about an execution; None if there is no such execution.

    Raises:
        AwsCallError: Step Functions does not say that this execution has ended. What it says may be
            some seconds old, so the message is delivered again. One that was made up ends in the
            dead-letter queue, which raises an alarm.
    Source: Amazon EventBridge, Step Functions execution status change events.
    """
    if "Records" not in event:
        return m.CloseEnrollmentInput.read(event)
    message = _json_or_none(event["Records"][0]["body"])
    known = describe(message["detail"]["executionArn"])
    if known is None or known["status"] not in ENDED:
        said = "knows no such execution" if known is None else f"says {known['status']}"
        raise AwsCallError(
            f"a message says that an execution has ended, and Step Functions {said}:"
            f" {message['detail']['executionArn']}",
            action="Nothing; it is delivered again. If it ends in the dead-letter queue, find out"
            " who may put such events on the account's default bus.",
        )
    return m.CloseEnrollmentInput(
        execution=m.Execution(
            arn=known["executionArn"], name=known["name"], input=_json_or_none(known.get("input"))
        ),
        failure=m.CaughtError(
            state=BACKSTOP,
            error=known.get("error") or f"Execution{known['status'].title().replace('_', '')}",
            cause=known.get("cause")
            or f"the execution ended as {known['status']} before the enrollment was closed",
        ),
    )


def close_enrollment(
    event: m.CloseEnrollmentInput,
    *,
    records: Records,
    objects: Objects,
    bus: Bus,
    code_version: str,
    report: Report | None = None,
) -> m.OutcomeDocument:
    """Record the outcome, announce it, and record that it was announced.

    The outcome is what is on record: a CSR, a cancellation, TSB's decision. `event` says which
    execution it is and, where nothing of these is on record, why it failed. A CSR on record counts
    only if its object is there and every check passes again.

    Idempotent: the first outcome on record stays. An announced outcome is not announced again,
    unless the record of the announcement was lost (events are at least once).

    Args:
        event: how the workflow ended.
        objects: the bucket, with the CSR and TSB's answers.
        code_version: version of the running code, for the record.

    Raises:
        EnrollmentConflictError: the execution says that it has an outcome, and nothing on record
            says so. Nothing is recorded or announced; the execution fails, and the backstop says
            so.
        AwsCallError: table or bus refused; the state machine retries, and after it the backstop.
    """
    closed_before = _closed_before(event)
    if closed_before is not None:
        return closed_before
    enrollment_id = intake.enrollment_id(event.execution.input, event.execution.name)
    record = records.get(enrollment_id)
    is_resumed = intake.resumed(event.execution.input) is not None
    if record is None and (is_resumed or intake.is_made_by_api(enrollment_id)):
        return _refused(Record(id=enrollment_id), event, bus)
    if record is None:
        refused_record = _refused_record(enrollment_id, event, code_version)
        record = records.put(refused_record) or records.get(enrollment_id) or Record()
    record = _decided(record, event, records, objects, code_version)
    if _is_own(record, event):
        if approvers_asked(record) or "cancel" in record:
            waits.remove(enrollment_id, records)
        return _announced(record, event, records=records, bus=bus, report=report)
    refused = _refused(record, event, bus)
    if is_resumed and event.execution.arn not in record.get("earlier", ()):
        resuming.give_up(record, event.execution.arn, records)
    return refused


def _refused(record: Record, event: m.CloseEnrollmentInput, bus: Bus) -> m.OutcomeDocument:
    """The document of an execution that does not carry out the enrollment, announced."""
    conflict = m.Failure(
        name=EnrollmentConflictError.__name__,
        message=f"enrollment {record['id']} is carried out by another execution",
        action="Follow that execution; its ARN is on the record.",
    )
    refused = m.OutcomeDocument(
        enrollment_id=record["id"],
        outcome=m.Outcome.FAILED,
        error=failure(event.failure) if event.failure else conflict,
    )
    # An earlier execution's end was announced before the id could be claimed or resumed again.
    if event.execution.arn not in record.get("earlier", ()):
        bus.put(events.ended(refused, {}, event.execution.arn, _origin(event)))
    return refused


def _announced(
    record: Record,
    event: m.CloseEnrollmentInput,
    *,
    records: Records,
    bus: Bus,
    report: Report | None,
) -> m.OutcomeDocument:
    """The document of an ended enrollment, announced unless that is on record."""
    closed = documents.document(record)
    if "announced" in record:
        return closed
    origin = record.get("origin") or _origin(event)
    if "quarantine" in record:
        bus.put(events.quarantined(record, event.execution.arn))
    bus.put(events.ended(closed, record, event.execution.arn, origin))
    records.update(
        record["id"],
        {"announced": m.timestamp(m.now())},
        when={**_owner(record), "outcome": record["outcome"]},
        absent=("announced",),
    )
    if report is not None:
        report(closed, record)
    return closed


def _decided(
    record: Record,
    event: m.CloseEnrollmentInput,
    records: Records,
    objects: Objects,
    code_version: str,
) -> Record:
    """The record with its outcome: the first one stays, and so does what another execution owns.

    Raises:
        EnrollmentConflictError: nothing on record says what the execution says.
        AwsCallError: others changed the record each time; the state machine retries.
    """
    for _ in range(ROUNDS):
        if "outcome" in record or not _is_own(record, event):
            return record
        decided = _on_record(record, event, objects) or _failed(record, event)
        values = {
            "outcome": decided["outcome"],
            "status": decided["outcome"],
            "times.ended": m.timestamp(m.now()),
            "codeVersion": code_version,
            # A trigger's claim may have none: so it is known whose end this was.
            "executionArn": event.execution.arn,
            **({"error": decided["error"].dump()} if decided["error"] else {}),
        }
        # What would decide otherwise may have been written since the record was read: a function
        # of an execution that was stopped still runs.
        facts = ("csr", "certificate", "cancel", "executionArn")
        said = _asked(record)
        existing = records.update(
            record["id"],
            values,
            when={**_owner(record), **{name: one for name, one in said.items() if one}},
            absent=(
                "outcome",
                *(one for one in facts if one not in record),
                *(name for name, one in said.items() if not one),
            ),
        )
        record = existing if existing is not None else records.get(record["id"]) or Record()
    if "outcome" in record:
        return record
    raise AwsCallError(
        f"the record of enrollment {record['id']} was changed by others each time",
        action="Nothing; the state machine tries again.",
    )


def _asked(record: Record) -> dict[str, str | None]:
    """Whether somebody was about to ask, and how each request stands, by the attribute's name."""
    steps: tuple[StepName, ...] = ("csr", "certificate") if wants_certificate(record) else ("csr",)
    return {
        f"steps.{name}.{field}": one
        for name in steps
        for field, one in (
            ("intent", step_of(record, name).get("intent")),
            ("status", step_of(record, name).get("status")),
        )
    }


def _owner(record: Record) -> dict[str, Any]:
    """The condition of a write to this enrollment: this attempt, carried out by this execution."""
    return {name: one for name, one in record.items() if name in ("attempt", "executionArn")}


def failure(caught: m.CaughtError) -> m.Failure:
    """The failure in what a Catch passed on; tolerates any `cause`.

    Only the messages of our own errors are repeated: other exceptions may quote anything.
    """
    return m.bounded(_said(caught))


def _said(caught: m.CaughtError) -> m.Failure:
    cause = _json_or_none(caught.cause)
    said = cause if isinstance(cause, dict) else {}
    name = said.get("errorType") or caught.error
    content = _json_or_none(said.get("errorMessage"))
    if name in OUR_ERRORS and isinstance(content, dict) and "message" in content:
        return m.Failure(
            name=name,
            state=caught.state or None,
            message=str(content["message"]),
            field=content.get("field"),
            error_code=content.get("errorCode"),
            reason=content.get("reason"),
            http_status=content.get("httpStatus"),
            action=content.get("action"),
        )
    request_id = said.get("requestId")
    return m.Failure(
        name=name,
        state=caught.state or None,
        message=(f"{name} in state {caught.state}" if caught.state else str(caught.cause or name)),
        action=(
            f"Search the function's log for request {request_id}."
            if request_id
            else "Look at the execution's history for what happened."
        ),
    )


def _closed_before(event: m.CloseEnrollmentInput) -> m.OutcomeDocument | None:
    """The document in the cause of an execution that ended in state EnrollmentFailed.

    The backstop receives these executions too. For a refused request no record says that it was
    announced.
    """
    if event.failure is None or event.failure.state != BACKSTOP:
        return None  # what a function says about itself is no document
    cause = _json_or_none(event.failure.cause)
    if isinstance(cause, dict) and "enrollmentId" in cause:
        return m.OutcomeDocument.read(cause)
    return None


def _on_record(
    record: Record, event: m.CloseEnrollmentInput, objects: Objects
) -> dict[str, Any] | None:
    """The end that is on record already, whatever went wrong on the way here.

    See `ended.end_on_record`. What is issued counts where it is verified again, and TSB's decision
    where its answer is kept.
    """
    if "csr" in record and not _holds(record, objects):
        if wants_certificate(record):
            return None  # not even its CSR may be handed out
        record = Record(**{name: one for name, one in record.items() if name != "csr"})  # type: ignore[typeddict-item]
    outcome = ended.end_on_record(record, lambda status: _is_kept(status, record, objects))
    if outcome == m.Outcome.FAILED:
        return {"outcome": outcome, "error": quarantine.failure(record)}
    if outcome is not None:
        return {"outcome": outcome, "error": None}
    status = step_of(record, last_step(record)).get("status")
    if status == TsbStatus.FAILED and event.failure is None:
        return {"outcome": m.Outcome.FAILED, "error": _failed_at_tsb()}
    return None


def _is_kept(status: str, record: Record, objects: Objects) -> bool:
    """Whether the answer that the record names is kept, and says so."""
    kept = bundle.own_answers(record, objects.below(f"enrollments/{record['id']}/"))
    return any(
        (answer.id, answer.status) == (step_of(record, last_step(record)).get("requestId"), status)
        for answer in bundle.answers(kept, "poll-request", RequestStatus)
    )


def _holds(record: Record, objects: Objects) -> bool:
    """Whether what is on record is what people approved: what is kept of it is verified again."""
    found = objects.below(f"enrollments/{record['id']}/")
    try:
        prove_issued(record, found, now=m.now())
    except EvidenceInvalidError:
        return False
    return True


def _failed(record: Record, event: m.CloseEnrollmentInput) -> dict[str, Any]:
    """The failure that ended the execution; of the backstop, with what may be open.

    An execution that AWS ended, or that somebody stopped, did not get to cancel it.

    Raises:
        EnrollmentConflictError: the execution did not fail, so it must be wrong about its outcome.
    """
    if event.failure is None:
        raise EnrollmentConflictError(
            f"the execution says that enrollment {record['id']} has ended as"
            f" {event.outcome or event.tsb_status}, and its record, with what is kept of it, does"
            " not",
            action="Find out who wrote to the table or the bucket; only this workflow may.",
        )
    failed, step = failure(event.failure), step_of(record, last_step(record))
    is_left = event.failure.state == BACKSTOP and approvers_asked(record)
    if is_left and step.get("status") not in ENDED_AT_TSB:
        # Of the key's requests: something between us and the TSB may have made two calls of one.
        label = _asked_key(record)
        said = (
            f"Requests of key {label!r} may still be open at the TSB:"
            f" `countersign resume {record['id']}` takes up {step['requestId']}."
            if "requestId" in step
            else f"See at the TSB which requests of key {label!r} are open, if any."
        )
        failed = m.bounded(failed.model_copy(update={"action": said}))
    elif is_left and failed.name not in OUR_ERRORS and _may_ask_the_ca(record):
        said = f"`countersign resume {record['id']}`: the approvers of the CA's key are asked then."
        failed = m.bounded(failed.model_copy(update={"action": said}))
    return {"outcome": m.Outcome.FAILED, "error": failed}


def _may_ask_the_ca(record: Record) -> bool:
    """Whether the CSR is stored, and the approvers of the CA's key were surely not asked."""
    return wants_certificate(record) and "csr" in record and last_step(record) == "csr"


def _asked_key(record: Record) -> str:
    """The key whose approvers were asked last."""
    if last_step(record) == "certificate":
        return certificate_step(record)["caKeyLabel"]
    return record["keyLabel"]


def _failed_at_tsb() -> m.Failure:
    refused = TsbRefusedError(
        f"TSB ended the request as {TsbStatus.FAILED}",
        action="See the HSM's log for the time of the request; TSB gives no reason.",
    )
    return m.Failure(
        name=type(refused).__name__,
        message=refused.message,
        state="PollRequest",
        action=refused.action,
    )


def _refused_record(enrollment_id: str, event: m.CloseEnrollmentInput, code_version: str) -> Record:
    """A request that was never accepted: kept without the request, which may hold anything."""
    moment, failed = m.timestamp(m.now()), _failed(Record(id=enrollment_id), event)
    return {
        "id": enrollment_id,
        "kind": ownership.KIND,
        "schemaVersion": m.SCHEMA_VERSION,
        "codeVersion": code_version,
        "attempt": 1,
        "executionArn": event.execution.arn,
        "origin": _origin(event),
        "status": failed["outcome"],
        "stage": "AcceptEnrollment",
        "acceptedAt": moment,
        "times": {"ended": moment},
        "outcome": failed["outcome"],
        "error": failed["error"].dump(),
    }


def _is_own(record: Record, event: m.CloseEnrollmentInput) -> bool:
    """Whether this execution carries out the record, or a trigger claimed it for this execution."""
    if "executionArn" in record:
        own = record["executionArn"] == event.execution.arn
        return bool(own or _is_refused_again(record, event))
    # The execution of an earlier attempt may be reported late; its name differs.
    if event.execution.name not in ownership.execution_names(record):
        return False
    try:
        raw, _ = intake.requested(event.execution.input)
        return bool(canonical.sha256(raw) == record.get("requestSha256"))
    except (InvalidEnrollmentError, AttributeError):
        return False


def _is_refused_again(record: Record, event: m.CloseEnrollmentInput) -> bool:
    """Whether a request that was refused before was delivered once more: one refusal, one word."""
    origin = _origin(event)
    return (
        "requestSha256" not in record
        and origin["trigger"] in DELIVERED_AT_LEAST_ONCE
        and "id" in origin
        and record.get("origin") == origin
    )


def _origin(event: m.CloseEnrollmentInput) -> dict[str, Any]:
    """The origin of a request that was never accepted."""
    try:
        _, stated = intake.split_input(event.execution.input)
    except InvalidEnrollmentError:
        stated = m.StatedOrigin()
    return intake.known(stated).model_dump(mode="json", exclude_none=True)


def _json_or_none(text: object) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return None
