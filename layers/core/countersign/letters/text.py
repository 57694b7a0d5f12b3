"""What a mail to one person says, as plain text and as HTML made from the same blocks.

Texts that a caller may have made up are put on one line, and escaped in the HTML, so that they can
neither look like a line of ours nor be a link or a picture.
"""

import html
import re
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from countersign import models as m
from countersign.record import StepName
from countersign.texts import printable

SUBJECT_CHARACTERS = 120
COLUMN = 14  # of the plain text's labels
HASH = re.compile("[0-9a-f]{64}")
LINE = 78  # of the plain text's sentences
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
OUTCOMES = {
    m.Outcome.ISSUED: "was approved, verified and stored",
    m.Outcome.REJECTED: "was rejected: so many declined that the quorum is out of reach",
    m.Outcome.EXPIRED: "expired: the quorum did not agree in time",
    m.Outcome.CANCELLED: "was cancelled",
    m.Outcome.FAILED: "failed",
}
THINGS: dict[StepName, str] = {
    "csr": "certificate signing request",
    "certificate": "certificate",
}
DECISIONS = {"approved": "approved", "declined": "declined"}  # others have said nothing yet


class Letter(NamedTuple):
    """A mail: its subject on one line, and one content in two forms."""

    subject: str
    text: str
    html: str


class Facts(NamedTuple):
    """What the mails about one enrollment have to say.

    Args:
        enrollment_id: which enrollment.
        key_label: the key in the HSM; None where the request was refused.
        what: what the approvers are asked to agree to, or the requester came for.
        about: the lines that the approvers' app shows, label and value; signed by the stack.
        request_id: TSB's request, by which an approver's client finds it.
        sha256: of the request, which the approvers' client shows too.
        approvers: everybody who is asked, and what they decided.
        window_ends: until when approvals count; None: no limit.
        operators: whom to tell if something looks wrong; empty: whoever sent the mail.
    """

    enrollment_id: str
    key_label: str | None
    what: StepName = "csr"
    about: tuple[tuple[str, str], ...] = ()
    request_id: str | None = None
    sha256: str | None = None
    approvers: tuple[m.Approver, ...] = ()
    window_ends: str | None = None
    operators: str = ""

    @property
    def label(self) -> str:
        """What the subject calls it."""
        return self.key_label or self.enrollment_id

    @property
    def thing(self) -> str:
        """What it is about, in words."""
        return THINGS[self.what]


def asked(facts: Facts, name: str, moment: datetime) -> Letter:
    """To an approver: please decide."""
    return _letter(
        f"Please decide: {facts.label}",
        name,
        [
            f"You are asked to agree to a {facts.thing}{_until(facts.window_ends, moment)}.",
            *_decide(facts),
        ],
    )


def reminder(facts: Facts, name: str, moment: datetime) -> Letter:
    """To an approver who has not decided, and whose group still needs somebody."""
    return _letter(
        f"Reminder, please decide: {facts.label}",
        name,
        [
            f"Your decision on a {facts.thing} is still missing. It counts"
            f"{_until(facts.window_ends, moment) or ' at any time'}.",
            *_decide(facts),
        ],
    )


def stand_down(facts: Facts, name: str, outcome: m.Outcome) -> Letter:
    """To an approver who was asked and had not decided when it ended."""
    return _letter(
        f"Nothing more to decide: {facts.label}",
        name,
        [
            f"You were asked to agree to a {facts.thing}."
            f" It {OUTCOMES[outcome]}. There is nothing left for you to do.",
            [("Key label", facts.label), ("Enrollment", facts.enrollment_id)],
            _wrong(facts),
        ],
    )


def last_reminder(facts: Facts, name: str, moment: datetime) -> Letter:
    """To the requester: it is about to expire, and who has not decided."""
    return _letter(
        f"Still waiting for approvals: {facts.label}",
        name,
        [
            f"Your request for a {facts.thing} still lacks approvals, which count"
            f"{_until(facts.window_ends, moment)}. The approvers were reminded.",
            [("Key label", facts.label), ("Enrollment", facts.enrollment_id)],
            *_people(facts),
        ],
    )


def outcome(facts: Facts, name: str, ended: m.Outcome, more: Sequence[tuple[str, str]]) -> Letter:
    """To the requester: how it ended.

    Args:
        more: what belongs to this end: where the CSR lies, or what went wrong and what to do.
    """
    return _letter(
        f"{ended.title()}: {facts.label}",
        name,
        [
            f"Your request for a {facts.thing} {OUTCOMES[ended]}.",
            [("Key label", facts.label), ("Enrollment", facts.enrollment_id), *more],
            *_people(facts, "Who was asked:"),
        ],
    )


# The parts of several mails ---------------------------------------------------------------------

type Pairs = Sequence[tuple[str, str]]
type Block = str | Pairs  # a paragraph, or a table of labels and values


def _decide(facts: Facts) -> list[Block]:
    sha256 = facts.sha256 or "not known"
    return [
        "This is what your approver app shows, and what you agree to:",
        list(facts.about),
        *_people(facts),
        "How to decide: open your approver app, or run this command. Compare what it shows with"
        " this mail. Approve only if the key label, the enrollment and this SHA-256 of the request"
        " agree:",
        [
            ("Command", f"countersign approvals show {facts.enrollment_id}"),
            ("SHA-256", sha256),
        ],
        "Decline whatever differs, or whatever you did not expect."
        " This mail has no link, and answering it decides nothing.",
        _wrong(facts),
    ]


def _people(facts: Facts, heading: str = "Who is asked:") -> list[Block]:
    """Everybody who is asked, and what they have said so far."""
    said = [(one.name, DECISIONS.get(one.decision, "has not decided")) for one in facts.approvers]
    return [heading, said] if said else []


def _wrong(facts: Facts) -> str:
    whom = facts.operators or "your security team, not by answering this mail"
    return f"If anything here looks wrong, approve nothing and tell {whom}."


def _until(window_ends: str | None, moment: datetime) -> str:
    if window_ends is None:
        return ""
    ends = datetime.fromisoformat(window_ends).astimezone(UTC)
    return f" until {ends:%d %B %Y, %H:%M} UTC ({_from_now(ends - moment)})"


def _from_now(left: timedelta) -> str:
    for size, unit, least in ((DAY, "days", 2), (HOUR, "h", 1), (MINUTE, "min", 1)):
        if left >= size * least:
            return f"in {left // size} {unit}"
    return "now"


# From blocks to a mail ----------------------------------------------------------------------------


def _letter(subject: str, name: str, blocks: Sequence[Block]) -> Letter:
    line = printable(f"[Countersign] {subject}")
    if len(line) > SUBJECT_CHARACTERS:
        line = f"{line[: SUBJECT_CHARACTERS - 1]}…"
    whole = [f"{name},", *(block for block in blocks if block)]
    return Letter(
        subject=line,
        text="\n\n".join(_plain(block) for block in whole) + "\n",
        html=PAGE.replace("{title}", html.escape(line)).replace(
            "{body}", "\n".join(_marked_up(block) for block in whole)
        ),
    )


def _plain(block: Block) -> str:
    if isinstance(block, str):
        return textwrap.fill(printable(block), LINE, break_long_words=False, break_on_hyphens=False)
    width = max(COLUMN, *(len(printable(label)) + 2 for label, _ in block))
    return "\n".join(
        f"{printable(label) + ':':<{width}}{printable(value)}" for label, value in block
    )


def _marked_up(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{_safe(block)}</p>"
    rows = "".join(
        f'<tr><th scope="row">{_safe(label)}</th><td>{_value(value)}</td></tr>'
        for label, value in block
    )
    return f"<table>{rows}</table>"


def _value(text: str) -> str:
    """A hash is there to be compared, so its letters have one width."""
    return f"<code>{text}</code>" if HASH.fullmatch(text) else _safe(text)


def _safe(text: str) -> str:
    return html.escape(printable(text))


# Nothing is loaded from elsewhere. Clients that drop the style still show paragraphs and tables.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 1.5em; max-width: 42em; font: 16px/1.5 sans-serif;
  color: #1a1a1a; background: #ffffff; }
table { border-collapse: collapse; margin: 1em 0; width: 100%; }
th, td { padding: .35em .6em; border-bottom: 1px solid #d0d0d0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th { width: 11em; font-weight: 600; color: #555555; }
code { font: 14px/1.6 monospace; }
@media (max-width: 32em) {
  th, td { display: block; width: auto; padding: .35em 0; }
  th { border-bottom: 0; padding-bottom: 0; }
  td { padding-top: 0; }
}
@media (prefers-color-scheme: dark) {
  body { color: #e8e8e8; background: #1b1b1b; }
  th, td { border-color: #444444; }
  th { color: #b0b0b0; }
}
</style>
</head>
<body>
{body}
</body>
</html>
"""
