"""The events about an enrollment: one model for each, made from the enrollment's record.

Events are delivered at least once. Consumers read them tolerantly: a release may add a field. It
never removes a field or changes its meaning under the same `schemaVersion`. Every text and list is
bounded, so that the largest event, with the whole CSR in it, fits EventBridge's entry of 256 KB.
"""

from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from countersign import models as m
from countersign.policy import rules as policy_rules
from countersign.record import (
    Record,
    StepName,
    certificate_step,
    csr_step,
    last_step,
    policy_of,
    step_of,
)
from countersign.texts import printable

MAX_APPROVERS = 100  # listed by name; `omittedApproverCount` counts the others
MAX_GROUPS = 20
MAX_NAME = 128  # characters of an approver's, token's or group's name
MAX_PRINCIPAL = 1_024
MAX_FINDING = 1_000
MAX_SAID = 10  # names in the text for a chat
MAX_TEXT = 1_500  # characters of that text
THINGS: dict[StepName, str] = {
    "csr": "certificate signing request",
    "certificate": "certificate",
}
WORKFLOW = "countersign"  # cancels requests that TSB neither decides nor lets expire

STEP: Any = Field(
    description="Whose approval: that of the CSR, or of the certificate by the CA's key."
)


class Said(m.Model):
    """Base of everything that is put on the bus."""

    # Each function emits few kinds. The other kinds' validators would be a third of its import
    # time.
    model_config = ConfigDict(defer_build=True)

    DETAIL_TYPE: ClassVar[str] = ""
    OMITTED: ClassVar[frozenset[str]] = frozenset()  # fields that are left out where they are null

    schema_version: Literal["1"] = m.SCHEMA_VERSION

    @property
    def resources(self) -> list[str]:
        """ARNs of the resources that the event is about."""
        return []

    def dump(self) -> dict[str, Any]:
        """As `Model.dump`, without what is left out where it is null."""
        return {
            name: one
            for name, one in super().dump().items()
            if name not in self.OMITTED or one is not None
        }


class Event(Said):
    """The fields of every event about an enrollment."""

    enrollment_id: str = Field(description="Which enrollment; the id that its caller knows.")
    execution_arn: str = Field(description="The Step Functions execution that this is about.")
    origin: m.Origin = Field(
        description="The trigger that the request came through, and who asked."
    )
    key_label: str | None = Field(description="The key in the HSM; null where none was asked for.")
    reason: str | None = Field(description="Why it was asked for, in the caller's words.")
    text: str = Field(
        default="",
        description="The event in one line, for a chat: `&`, `<` and `>` are entities, and it has"
        " no quotation mark, backslash or line end, so that it can stand in a JSON text as it is.",
    )

    @property
    def resources(self) -> list[str]:
        """The execution's ARN."""
        return [self.execution_arn]

    def dump(self) -> dict[str, Any]:
        """As `Said.dump`, with the text."""
        said = [
            self.DETAIL_TYPE,
            f"key {self.key_label or 'unknown'}",
            f"enrollment {self.enrollment_id}",
            *self._said(),
            f"reason: {self.reason or 'none given'}",  # last: a caller can write it at length
        ]
        return {**super().dump(), "text": self.text or chat_text(" · ".join(said))}

    def _said(self) -> list[str]:
        """What only this kind of event has to say in a chat."""
        return []


class Accepted(Event):
    """The request is valid and its id is claimed; the key is created next."""

    DETAIL_TYPE = "Enrollment Accepted"

    attempt: int = Field(description="1, or more where an enrollment that failed early began anew.")
    request_sha256: str = Field(description="Hash (RFC 8785) by which two requests are the same.")
    accepted_at: str


class Resumed(Event):
    """It failed without a decision, and is taken up again. Nobody is asked anew."""

    DETAIL_TYPE = "Enrollment Resumed"

    step: Literal["csr", "certificate"] = STEP
    request_id: str = Field(description="TSB's request, as the approvers were asked it.")
    resumed: int = Field(description="How often: grows with each time that it is resumed.")


class Waiting(Event):
    """The state of the approval."""

    step: Literal["csr", "certificate"] = STEP
    request_id: str = Field(description="TSB's id of the request that the approvers decide.")
    tsb_status: Literal["PENDING", "APPROVED"] = Field(
        description="APPROVED: the quorum is reached, and TSB waits for the timelock."
    )
    window_ends: str | None = Field(description="Until when approvals count; null: no limit.")
    approvers: tuple[m.Approver, ...] = Field(description="Everybody who is asked.")
    omitted_approver_count: int = Field(description=f"Those beyond the first {MAX_APPROVERS}.")
    outstanding: tuple[str, ...] = Field(description="Names of those who have yet to decide.")
    open_groups: tuple[m.OpenGroup, ...] = Field(description="What the quorum still lacks.")

    def _said(self) -> list[str]:
        return [
            f"{THINGS[self.step]}",
            f"still to decide: {', '.join(self.outstanding[:MAX_SAID]) or 'nobody'}",
            f"until {self.window_ends or 'it is cancelled'}",
        ]


class AwaitingApproval(Waiting):
    """The approvers have been asked. Sent with the first poll that finds the request open."""

    DETAIL_TYPE = "Enrollment Awaiting Approval"


class ApprovalProgressed(Waiting):
    """Somebody approved or declined, and the request is still open."""

    DETAIL_TYPE = "Enrollment Approval Progressed"


class Reminder(Waiting):
    """A part of the window is over, and approvals are still missing."""

    DETAIL_TYPE = "Enrollment Reminder"

    fraction: float = Field(description="How much of the window is over, as the profile has it.")
    last: bool = Field(description="Whether no other reminder follows.")
    reminded: tuple[str, ...] = Field(
        description="Names of those outstanding whose group still lacks its quorum."
    )


class CsrStored(Event):
    """The CSR is approved, verified and stored; the certificate is asked for next."""

    DETAIL_TYPE = "Enrollment Csr Stored"

    request_id: str = Field(description="TSB's request for the CSR.")
    csr: m.StoredCsr = Field(description="Where the verified CSR lies, and the CSR itself.")
    ca_key_label: str = Field(description="The CA's key, whose approvers are asked next.")


class Ended(Event):
    """How an enrollment ended; the outcome document is in it."""

    outcome: m.Outcome
    step: Literal["csr", "certificate"] = STEP
    request_id: str | None = Field(description="TSB's request; null where none was made.")
    csr: m.StoredCsr | m.CsrLocation | None = Field(
        description="Where the verified CSR lies, and the CSR itself; where a certificate was asked"
        " for, after any outcome."
    )
    approvers: tuple[m.Approver, ...] = Field(description="Everybody who was asked.")
    omitted_approver_count: int = Field(description=f"Those beyond the first {MAX_APPROVERS}.")
    pending: tuple[str, ...] = Field(
        description="Names of those who said nothing; nothing is asked of them any more."
    )
    error: m.Failure | None

    def _said(self) -> list[str]:
        return [f"{self.error.name}: {self.error.message}"] if self.error else []


class Issued(Ended):
    """Approved, verified and stored."""

    DETAIL_TYPE = "Enrollment Issued"
    OMITTED = frozenset({"certificate"})

    outcome: Literal[m.Outcome.ISSUED]
    csr: m.StoredCsr = Field(description="Where the verified CSR lies, and the CSR itself.")
    certificate: m.StoredCertificate | None = Field(
        default=None,
        description="Only where one was asked for: where it lies, itself and the CA's, and whether"
        " it was imported to its key.",
    )
    error: None


class Rejected(Ended):
    """So many approvers declined that the quorum is out of reach."""

    DETAIL_TYPE = "Enrollment Rejected"

    outcome: Literal[m.Outcome.REJECTED]
    csr: m.StoredCsr | None
    declined_by: tuple[str, ...] = Field(description="Names of those who declined.")
    open_groups: tuple[m.OpenGroup, ...] = Field(description="What the quorum lacked.")
    error: None


class Expired(Ended):
    """TSB reports that the approval window is over."""

    DETAIL_TYPE = "Enrollment Expired"

    outcome: Literal[m.Outcome.EXPIRED]
    csr: m.StoredCsr | None
    window_ends: str | None = Field(description="When the window closed.")
    open_groups: tuple[m.OpenGroup, ...] = Field(description="What the quorum lacked.")
    error: None


class Cancelled(Ended):
    """Cancelled before it was issued."""

    DETAIL_TYPE = "Enrollment Cancelled"

    outcome: Literal[m.Outcome.CANCELLED]
    csr: m.StoredCsr | None
    cancel: m.Cancellation | None = Field(
        description=f"By whom; {WORKFLOW} where the workflow did, because TSB neither decided nor"
        " let it expire; null where it was cancelled at the TSB, which names nobody."
    )
    error: None


class Failed(Ended):
    """The enrollment failed; somebody must act. `error.action` says what to do."""

    DETAIL_TYPE = "Enrollment Failed"

    outcome: Literal[m.Outcome.FAILED]
    csr: m.CsrLocation | None
    error: m.Failure


class Quarantined(Event):
    """For security: the result is not what was approved. `Enrollment Failed` follows."""

    DETAIL_TYPE = "Enrollment Quarantined"

    step: Literal["csr", "certificate"] = STEP
    request_id: str | None = Field(description="TSB's request.")
    code: str = Field(description="The first check that failed, as docs/evidence.md lists them.")
    findings: tuple[m.Check, ...] = Field(description="Every check that failed.")
    bucket: str | None = Field(
        description="Where CSR and findings lie; null where the answer was another request's."
    )
    prefix: str | None = Field(description="Below it in the bucket.")


class Refused(Failed):
    """The id belongs to another request, or cannot be resumed. Its enrollment stays untouched."""

    DETAIL_TYPE = "Enrollment Refused"


class KeyDrifted(Event):
    """For security: the key of an issued CSR in the HSM is no longer what was approved."""

    DETAIL_TYPE = "Key Drifted"

    findings: tuple[m.Check, ...] = Field(
        description="What differs: checks of docs/evidence.md, or KEY_MISSING, KEY_UNREADABLE."
    )


class CertificateExpiring(Event):
    """An issued certificate ends within 30, 7 or 1 days. Said once for each."""

    DETAIL_TYPE = "Certificate Expiring"

    certificate: m.CertificateLocation
    ca_key_label: str = Field(description="The CA's key that signed it.")
    days: Literal[30, 7, 1] = Field(description="It ends within so many days, or has ended.")


class KeysUnaccounted(Said):
    """There are keys in the HSM that no enrollment accounts for."""

    DETAIL_TYPE = "Keys Unaccounted"

    mode: Literal["report", "delete"] = Field(description="What the run was told to do.")
    looked_at: int = Field(description="How many labels this run looked at.")
    keys: tuple[m.UnaccountedKey, ...] = Field(description="The first hundred of them.")
    omitted_count: int = Field(description="How many more this run found.")


CATALOGUE: tuple[type[Event], ...] = (
    Accepted, Resumed, AwaitingApproval, ApprovalProgressed, Reminder, CsrStored,
    Issued, Rejected, Expired, Cancelled, Quarantined, Failed, Refused,
)  # fmt: skip
# Events about keys, sent on a schedule. They are not part of an enrollment's course.
OF_KEYS: tuple[type[Said], ...] = (KeyDrifted, KeysUnaccounted, CertificateExpiring)
BY_DETAIL_TYPE = {event.DETAIL_TYPE: event for event in CATALOGUE}
ENDINGS = tuple(event.DETAIL_TYPE for event in CATALOGUE if issubclass(event, Ended))


def key_drifted(record: Record, failed: tuple[m.Check, ...]) -> KeyDrifted:
    """Of an issued enrollment's record and the checks that fail now."""
    return KeyDrifted(
        **_common(record, record["executionArn"], record["origin"]),
        findings=tuple(
            one.model_copy(update={"finding": one.finding and _cut(one.finding, MAX_FINDING)})
            for one in failed
        ),
    )


def certificate_expiring(
    record: Record, certificate: m.StoredCertificate, days: Literal[30, 7, 1]
) -> CertificateExpiring:
    """Of an issued enrollment's record with a certificate."""
    located = m.CertificateLocation.read(certificate.model_dump(mode="json", exclude={"pem"}))
    return CertificateExpiring(
        **_common(record, record["executionArn"], record["origin"]),
        certificate=located,
        ca_key_label=certificate_step(record)["caKeyLabel"],
        days=days,
    )


def accepted(record: Record) -> Accepted:
    """Of a record that was just claimed."""
    return Accepted(
        **_common(record, record["executionArn"], record["origin"]),
        attempt=record["attempt"],
        request_sha256=record["requestSha256"],
        accepted_at=record["acceptedAt"],
    )


def resumed(record: Record) -> Resumed:
    """Of a record that was just taken over from an execution that failed."""
    return Resumed(
        **_common(record, record["executionArn"], record["origin"]),
        step=last_step(record),
        request_id=step_of(record, last_step(record))["requestId"],
        resumed=record["resumed"],
    )


def csr_stored(record: Record) -> CsrStored:
    """Of a record whose CSR was just stored, where a certificate is asked for next."""
    return CsrStored(
        **_common(record, record["executionArn"], record["origin"]),
        request_id=csr_step(record)["requestId"],
        csr=m.StoredCsr.read(record["csr"]),
        ca_key_label=certificate_step(record)["caKeyLabel"],
    )


def waiting(
    record: Record,
    approvers: tuple[m.Approver, ...],
    tsb_status: str,
    *,
    step: StepName = "csr",
    first: bool,
) -> Waiting:
    """The event for a poll that found the request open (PENDING or APPROVED).

    Args:
        record: the enrollment's record, with the summary of its policy.
        approvers: as the poll found them.
        tsb_status: the status that TSB reports.
        step: which approval request was polled.
        first: whether it is the first such poll.
    """
    event = AwaitingApproval if first else ApprovalProgressed
    return event(**_waiting(record, approvers, tsb_status, step))


def reminder(record: Record, step: StepName, fraction: float, *, last: bool) -> Reminder:
    """The event for an open request of whose window this fraction is over.

    Args:
        record: the enrollment's record, which says what TSB says.
        step: which approval request is open.
        fraction: of the window.
        last: whether no other reminder follows.
    """
    approvers = tuple(m.Approver.read(one) for one in step_of(record, step)["approvers"])
    rules = m.PolicySummary.read(policy_of(record, step))
    return Reminder(
        **_waiting(record, approvers, step_of(record, step)["status"], step),
        fraction=fraction,
        last=last,
        reminded=_names(policy_rules.needed(rules, approvers), "outstanding"),
    )


def _waiting(
    record: Record, approvers: tuple[m.Approver, ...], tsb_status: str, step: StepName
) -> dict[str, Any]:
    return {
        **_common(record, record["executionArn"], record["origin"]),
        "step": step,
        "request_id": step_of(record, step)["requestId"],
        "tsb_status": tsb_status,
        "window_ends": step_of(record, step)["times"].get("windowEnds"),
        **_approvals(approvers),
        "outstanding": _names(approvers, "outstanding"),
        "open_groups": _open_groups(record, approvers, step),
    }


def quarantined(record: Record, execution_arn: str) -> Quarantined:
    """Of a record with checks that failed."""
    aside, step = record["quarantine"], last_step(record)
    checks = record["certificateChecks"] if step == "certificate" else record["checks"]
    failed = [m.Check.read(one) for one in checks if one["result"] == "failed"]
    return Quarantined(
        **_common(record, execution_arn, record["origin"]),
        step=step,
        request_id=step_of(record, step).get("requestId"),
        code=aside["code"],
        findings=tuple(
            one.model_copy(update={"finding": one.finding and _cut(one.finding, MAX_FINDING)})
            for one in failed
        ),
        bucket=aside.get("bucket"),
        prefix=aside.get("prefix"),
    )


def ended(
    closed: m.OutcomeDocument, record: Record, execution_arn: str, origin: dict[str, Any]
) -> Ended:
    """The event for a record with an outcome.

    Args:
        closed: the outcome document.
        record: the enrollment's record. It has no request if the request was refused; it is empty
            if the id belongs to another request.
        execution_arn: the execution that ended.
        origin: from the input of that execution.
    """
    event = _BY_OUTCOME[m.Outcome(closed.outcome or "")] if record else Refused
    # The record's: a failure's document is cut to what fits a Cause.
    step = step_of(record, last_step(record))
    approvers = tuple(m.Approver.read(one) for one in step.get("approvers", ()))
    return event(
        **{**_common(record, execution_arn, origin), "enrollment_id": closed.enrollment_id},
        outcome=closed.outcome,
        step=last_step(record),
        request_id=step.get("requestId"),
        csr=closed.csr,
        **_approvals(approvers),
        pending=_names(approvers, "outstanding", "none"),
        error=closed.error,
        **_more(event, approvers, record),
    )


def _more(event: type[Ended], approvers: tuple[m.Approver, ...], record: Record) -> dict[str, Any]:
    """What only this kind of end has to say."""
    step = last_step(record)
    if event is Issued:
        return {"certificate": m.certificate_of(record)}
    if event is Rejected:
        return {
            "declined_by": _names(approvers, "declined"),
            "open_groups": _open_groups(record, approvers, step),
        }
    if event is Expired:
        return {
            "window_ends": step_of(record, step).get("times", {}).get("windowEnds"),
            "open_groups": _open_groups(record, approvers, step),
        }
    if event is Cancelled:
        # Either somebody's cancellation is on record, or the workflow cancelled an endless request.
        if "cancel" in record:
            by = _cut(record["cancel"]["by"], MAX_PRINCIPAL)
            return {"cancel": {**record["cancel"], "by": by}}
        overdue = record.get("overdue")
        own = {"by": WORKFLOW, "at": overdue, "confirmedAt": overdue}
        return {"cancel": own if overdue else None}
    return {}


_BY_OUTCOME: dict[m.Outcome, type[Ended]] = {
    m.Outcome.ISSUED: Issued,
    m.Outcome.REJECTED: Rejected,
    m.Outcome.EXPIRED: Expired,
    m.Outcome.CANCELLED: Cancelled,
    m.Outcome.FAILED: Failed,
}


def _common(record: Record, execution_arn: str, origin: dict[str, Any]) -> dict[str, Any]:
    requested = record.get("request", {})
    return {
        "enrollment_id": record.get("id"),
        "execution_arn": execution_arn,
        "origin": m.Origin.read(origin),
        "key_label": requested.get("key", {}).get("label"),
        "reason": requested.get("reason"),
    }


def _approvals(approvers: tuple[m.Approver, ...]) -> dict[str, Any]:
    shown = approvers[:MAX_APPROVERS]
    return {
        "approvers": tuple(
            one.model_copy(update={"name": _cut(one.name, MAX_NAME)}) for one in shown
        ),
        "omitted_approver_count": len(approvers) - len(shown),
    }


def _names(approvers: tuple[m.Approver, ...], *decisions: str) -> tuple[str, ...]:
    found = [_cut(one.name, MAX_NAME) for one in approvers if one.decision in decisions]
    return tuple(found[:MAX_APPROVERS])


def _open_groups(
    record: Record, approvers: tuple[m.Approver, ...], step: StepName
) -> tuple[m.OpenGroup, ...]:
    # The summary: what was sent may name a profile only, and of the CA's key nothing else is there.
    rules = m.PolicySummary.read(policy_of(record, step))
    return tuple(
        one.model_copy(
            update={"token": _cut(one.token, MAX_NAME), "group": _cut(one.group, MAX_NAME)}
        )
        for one in policy_rules.open_groups(rules, approvers)[:MAX_GROUPS]
    )


# For JSON: EventBridge puts a value into an input template without escaping it. For Slack: its
# three control characters. https://docs.slack.dev/messaging/formatting-message-text
CHAT = str.maketrans({'"': "'", "\\": "/", "&": "&amp;", "<": "&lt;", ">": "&gt;"})


def chat_text(text: str) -> str:
    """The text as an event carries it for a chat."""
    return _cut(text, MAX_TEXT).translate(CHAT)


def _cut(text: str, characters: int) -> str:
    line = printable(text)
    return line if len(line) <= characters else line[: characters - 1] + "…"
