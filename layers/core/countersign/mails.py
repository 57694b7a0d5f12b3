"""Mails about events: each is rendered from its event and nothing else.

Texts that a caller may have made up (names, labels, reasons) are put on one line, so that they
cannot look like a line of ours.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from countersign import events
from countersign import models as m
from countersign.texts import printable

SUBJECT_CHARACTERS = 99  # SNS: printable ASCII, fewer than 100
INDENT = "  "
HEADLINES: dict[type[events.Event], str] = {
    events.Accepted: "A certificate signing request was asked for, and is being prepared.",
    events.Resumed: "A certificate signing request that had failed is taken up again.",
    events.AwaitingApproval: "Approvers are asked to agree to a certificate signing request.",
    events.ApprovalProgressed: "Somebody has decided; the quorum is not reached yet.",
    events.CsrStored: (
        "The certificate signing request was approved, verified and stored. Its certificate is"
        " asked for next."
    ),
    events.Issued: "The certificate signing request was approved, verified and stored.",
    events.Rejected: "The certificate signing request was rejected: the quorum is out of reach.",
    events.Expired: "The certificate signing request expired: the quorum did not agree in time.",
    events.Cancelled: "The certificate signing request was cancelled.",
    events.Quarantined: (
        "SECURITY: what came back is not what was approved. It was put aside, not issued."
    ),
    events.Failed: "The certificate signing request failed. Somebody must look.",
    events.Refused: "A request was refused: its id is another enrollment's, which stays as it is.",
}


class Mail(NamedTuple):
    """The subject (one line of ASCII) and the plain text about an event of this detail type."""

    subject: str
    text: str
    detail_type: str


def render(envelope: Mapping[str, Any]) -> Mail:
    """The mail about an event from the bus.

    Args:
        envelope: the event as EventBridge delivers it.

    Raises:
        KeyError: the catalogue has no such detail type.
        InvalidEnrollmentError: the detail does not match its type.
    """
    event = events.BY_DETAIL_TYPE[envelope["detail-type"]].read(envelope["detail"])
    blocks = [[_headline(event)], list(_facts(event)), *_story(event)]
    text = "\n\n".join("\n".join(block) for block in blocks if block)
    return Mail(subject=_subject(event), text=text + "\n", detail_type=event.DETAIL_TYPE)


def _subject(event: events.Event) -> str:
    about = event.DETAIL_TYPE.removeprefix("Enrollment ")
    line = f"[Countersign] {about}: {event.key_label or event.enrollment_id}"
    ascii_only = printable(line).encode("ascii", "replace").decode()
    if len(ascii_only) <= SUBJECT_CHARACTERS:
        return ascii_only
    return ascii_only[: SUBJECT_CHARACTERS - 3] + "..."


def _headline(event: events.Event) -> str:
    line = _of_the_csr(event)
    is_second = getattr(event, "step", "csr") == "certificate"
    return line.replace("certificate signing request", "certificate") if is_second else line


def _of_the_csr(event: events.Event) -> str:
    if isinstance(event, events.AwaitingApproval) and event.window_ends:
        return (
            f"Approvers are asked to agree to a certificate signing request by {event.window_ends}."
        )
    if isinstance(event, events.Reminder):
        return f"Approvals are still missing; they count until {event.window_ends}."
    if isinstance(event, events.ApprovalProgressed) and event.tsb_status == "APPROVED":
        return "The quorum has agreed. The HSM signs as soon as the timelock has passed."
    return HEADLINES[type(event)]


def _facts(event: events.Event) -> Iterator[str]:
    asked_by = event.origin.principal or event.origin.id
    said = event.origin.said.model_dump(exclude_none=True).items() if event.origin.said else ()
    facts = {
        "key label": event.key_label,
        "reason": event.reason,
        "enrollment id": event.enrollment_id,
        "TSB request": getattr(event, "request_id", None),
        "CA key": getattr(event, "ca_key_label", None),
        "asked through": event.origin.trigger + (f" by {asked_by}" if asked_by else ""),
        "caller says": ", ".join(f"{name} {value}" for name, value in said),
    }
    for name, value in facts.items():
        if value:
            yield f"{name + ':':<15}{printable(value)}"


def _story(event: events.Event) -> Iterator[list[str]]:
    if isinstance(event, events.Waiting):
        yield _decisions(event.approvers, event.omitted_approver_count)
        yield _listed("Still to decide", event.outstanding)
        yield _open_groups("Still needed", event.open_groups)
        if event.outstanding:
            yield [
                "If your name stands under 'Still to decide': open your approver app, and approve",
                "only a task that shows this key label, this reason and this enrollment id.",
                "Decline everything else. This mail itself decides nothing.",
            ]
    if isinstance(event, events.Quarantined):
        yield _listed(
            "What does not hold", tuple(f"{one.code}: {one.finding}" for one in event.findings)
        )
        yield (
            [f"CSR and findings lie at s3://{event.bucket}/{event.prefix}."] if event.prefix else []
        )
        yield ["Find out who could change it: the TSB, what stands in front of it, or the HSM."]
    if isinstance(event, events.CsrStored):
        yield from _issued(event.csr)
    if isinstance(event, events.Ended):
        yield from _end(event)


def _end(event: events.Ended) -> Iterator[list[str]]:
    yield _decisions(event.approvers, event.omitted_approver_count)
    match event:
        case events.Issued(certificate=None):
            yield from _issued(event.csr)
        case events.Issued(certificate=m.StoredCertificate() as certificate):
            yield from _issued(certificate)
            yield [f"It expires at {certificate.expires}.", *_import(certificate)]
        case events.Rejected():
            yield _open_groups("What was missing", event.open_groups)
        case events.Expired():
            yield [f"The window closed at {event.window_ends}."] if event.window_ends else []
            yield _open_groups("What was missing", event.open_groups)
        case events.Cancelled():
            yield [f"Cancelled by {_who(event.cancel)}."]
        case events.Failed():
            yield list(_failure(event.error))
    if event.csr is not None and not isinstance(event, events.Issued):
        yield [f"Its CSR was issued before, and stays: s3://{event.csr.bucket}/{event.csr.key}."]
    if event.pending:
        yield _listed("Settled, nothing more to approve; stand down", event.pending)


def _issued(stored: m.StoredCsr | m.StoredCertificate) -> Iterator[list[str]]:
    version = f" (version {stored.version_id})" if stored.version_id else ""
    place = f"s3://{stored.bucket}/{stored.key}{version}"
    yield [f"It lies at {place},", f"SHA-256 of the DER {stored.sha256}:"]
    yield [stored.pem.strip()]


def _import(certificate: m.StoredCertificate) -> list[str]:
    done = certificate.imported
    if done is None:
        return []
    if done.result == "imported":
        return ["It was imported to its key in the HSM, and read back from there."]
    why = f": {printable(done.error.message)}" if done.error else ""
    return [f"It was not seen at its key in the HSM afterwards{why}. Import it by hand."]


def _who(cancel: m.Cancellation | None) -> str:
    if cancel is None:
        return "somebody at the TSB, which does not say who"
    if cancel.by == events.WORKFLOW:
        return f"the workflow at {cancel.at}: the TSB neither decided nor let it expire"
    return f"{printable(cancel.by)} at {cancel.at}"


def _failure(error: m.Failure) -> Iterator[str]:
    facts = {
        "error": error.name,
        "in state": error.state,
        "field": error.field,
        "TSB's code": error.error_code,
        "reason given": error.reason,
        "HTTP status": error.http_status,
        "what happened": error.message,
        "what to do": error.action,
    }
    for name, value in facts.items():
        if value is not None:
            yield f"{name + ':':<15}{printable(str(value))}"


def _listed(title: str, names: tuple[str, ...]) -> list[str]:
    return [f"{title}:", *(f"{INDENT}{printable(name)}" for name in names)] if names else []


def _decisions(approvals: tuple[m.Approver, ...], omitted_count: int) -> list[str]:
    decided = tuple(
        f"{one.name}: {one.decision}"
        for one in approvals
        if one.decision in ("approved", "declined")
    )
    more = (f"(of {omitted_count} more the record tells)",) if omitted_count else ()
    return _listed("Decided", decided + more)


def _open_groups(title: str, groups: tuple[m.OpenGroup, ...]) -> list[str]:
    lines = tuple(
        f"{one.quorum - one.approved} more of group {one.group!r}"
        f" (quorum {one.quorum}, token {one.token!r})"
        for one in groups
    )
    tokens = {one.token for one in groups}
    return _listed(f"{title} (one token suffices)" if len(tokens) > 1 else title, lines)
