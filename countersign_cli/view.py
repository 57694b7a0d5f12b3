"""What people see: an enrollment, a list of them, one line about one, an error.

Pure: it turns the API's documents into what rich can print. Foreign text (names, labels, reasons)
is never read as markup, and characters that control a terminal are shown as code points.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from countersign.texts import printable

type Json = dict[str, Any]

PIPE_WIDTH = 10_000  # when the output is not a terminal, nothing is wrapped
BAR_WIDTH = 24
LISTED = ("id", "status", "", "key", "accepted", "closes / ended", "asked by")
WIDE = 120  # columns of a terminal that has room for all of these; another one for the rest
NOT_NARROW = ("key", "accepted", "asked by")
FOLDED = ("", "key", "asked by")
LATE = timedelta(minutes=1)  # a poll that is overdue for less than this is shown as due
UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))

STATUS_STYLES = {
    "ISSUED": "bold green",
    "REJECTED": "bold red",
    "FAILED": "bold red",
    "EXPIRED": "bold yellow",
    "CANCELLED": "bold yellow",
    "CANCELLING": "yellow",
    "PENDING": "bold cyan",
}
STAGES = {
    "AcceptEnrollment": "accepted",
    "CreateKey": "creating the key",
    "RequestCsr": "asking for the CSR",
    "PollRequest": "waiting for the approvers",
    "StoreCsr": "verifying and storing the CSR",
    "RequestCertificate": "asking for the certificate",
    "StoreCertificate": "verifying and importing the certificate",
    "DiscardKey": "discarding the key",
    "CloseEnrollment": "closing",
}
UNDECIDED = ("outstanding", "none")
DECISIONS = {  # sign, style
    "approved": ("✓", "green"),
    "declined": ("✗", "red"),
    "outstanding": ("·", "cyan"),
    "none": (" ", "dim"),
}


def console(*, error: bool = False) -> Console:
    """The current standard output or standard error."""
    made = Console(stderr=error, highlight=False, emoji=False, markup=False)
    if not made.is_terminal:
        made.width = PIPE_WIDTH
    return made


def clean(value: object) -> str:
    """One printable line: no control, escape or direction-changing characters."""
    return printable(str(value))


def trouble(message: str, action: str) -> Text:
    """An error in two lines: what is wrong, and what to do."""
    return Text.assemble(("error  ", "bold red"), clean(message), f"\n       {clean(action)}")


# One enrollment --------------------------------------------------------------------------------


def enrollment(document: Json, now: datetime) -> Group:
    """All that people want to know about one enrollment, approvers by name."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(document, now):
        facts.add_row(name, value)
    return Group(_headline(document), facts)


def line(document: Json) -> str:
    """The same in one line, for logs. Two lines are equal if nothing happened in between."""
    ended = bool(document.get("outcome"))
    closes = _times(document).get("windowEnds")
    said = [
        f"{decision}: {_names(document, decision)}"
        for decision in ("approved", "declined", "outstanding")
        if any(one["decision"] == decision for one in _people(document))
    ]
    parts = [document["enrollmentId"], document["status"], ending(document), *said]
    return clean("  ".join([*parts, *([f"closes {closes}"] if closes and not ended else [])]))


def ending(document: Json) -> str:
    """How the enrollment ended and why, as a sentence; before its end, how it goes on."""
    return ENDINGS.get(document["status"], _doing)(document)


def _rejected(document: Json) -> str:
    return f"declined by {_names(document, 'declined')}{_missing(document)}"


def _expired(document: Json) -> str:
    silent = [one["name"] for one in _people(document) if one["decision"] in UNDECIDED]
    return f"no answer in time from {', '.join(silent) or 'nobody on record'}{_missing(document)}"


def _cancelled(document: Json) -> str:
    by = (document.get("cancel") or {}).get("by")
    return f"cancelled by {by}" if by else "cancelled at the TSB"


def _failed(document: Json) -> str:
    error = document.get("error") or {}
    return f"{error.get('name', 'failed')}: {error.get('message', 'no cause on record')}"


ENDINGS: dict[str, Callable[[Json], str]] = {
    "ISSUED": lambda _: "the CSR is approved, verified and stored",
    "REJECTED": _rejected,
    "EXPIRED": _expired,
    "CANCELLED": _cancelled,
    "FAILED": _failed,
    "CANCELLING": lambda _: "cancelled at the TSB; the workflow ends at its next poll",
}


def _headline(document: Json) -> Text:
    status = document["status"]
    return Text.assemble(
        (clean(document["enrollmentId"]), "bold"),
        "  ",
        (clean(status), STATUS_STYLES.get(status, "bold")),
        "  ",
        clean(ending(document)),
    )


def _facts(document: Json, now: datetime) -> Iterator[tuple[str, RenderableType]]:
    times = document.get("times") or {}
    error = document.get("error") or {}
    yield "key", Text(clean(document.get("keyLabel") or "not created yet"))
    if document.get("reason"):
        yield "reason", Text(clean(document["reason"]))
    if document.get("profile"):
        yield "profile", Text(clean(document["profile"]))
    yield "asked by", Text(clean(_origin(document.get("origin") or {})))
    if named := _said(document.get("origin") or {}):
        yield "caller says", Text(clean(named))
    if times.get("accepted"):
        yield "accepted", _moment(times["accepted"], now)
    yield from _approvals(document)
    asked = _times(document)
    if not document.get("outcome") and asked.get("requested"):
        yield from _deadlines(document, asked, now)
    for one in document.get("findings") or []:
        if one["level"] == "warning" and not one.get("waiver"):
            yield "warning", Text(clean(f"{one['path']}: {one['sentence']}"), style="yellow")
    if times.get("ended"):
        yield "ended", _moment(times["ended"], now)
    yield from _results(document, now)
    if error.get("field"):
        yield "field", Text(clean(error["field"]))
    if error.get("errorCode") is not None:
        yield "TSB says", Text(clean(f"{error['errorCode']} {error.get('reason') or ''}"))
    if error.get("action"):
        yield "what to do", Text(clean(error["action"]), style="bold")


def _results(document: Json, now: datetime) -> Iterator[tuple[str, RenderableType]]:
    csr, certificate = document.get("csr"), document.get("certificate")
    if csr:
        yield "CSR", Text(clean(f"s3://{csr['bucket']}/{csr['key']}"))
        yield "SHA-256", Text(clean(csr["sha256"]))
        yield "get it", Text(clean(f"countersign csr {document['enrollmentId']}"), style="bold")
    if not certificate:
        return
    yield "certificate", Text(clean(f"s3://{certificate['bucket']}/{certificate['key']}"))
    yield "SHA-256", Text(clean(certificate["sha256"]))
    yield "expires", _moment(certificate["expires"], now)
    imported = certificate.get("imported") or {}
    if imported:
        style = "" if imported["result"] == "imported" else "bold red"
        yield "import", Text(clean(imported["result"]), style=style)
    command = f"countersign certificate {document['enrollmentId']}"
    yield "get it", Text(clean(command), style="bold")


def _doing(document: Json) -> str:
    if document.get("outcome"):
        return ""
    stage = document.get("stage") or "AcceptEnrollment"
    if stage in ("RequestCsr", "RequestCertificate") and _times(document).get("requested"):
        stage = "PollRequest"  # asked already, and nobody has decided yet
    return STAGES.get(stage, stage)


def _origin(origin: Json) -> str:
    who = origin.get("principal") or origin.get("account") or origin.get("id") or ""
    return " ".join(part for part in (origin.get("trigger", "?"), who) if part)


def _said(origin: Json) -> str:
    """Whom the caller names, unchecked."""
    said = origin.get("said") or {}
    return str(said.get("principal") or said.get("id") or "")


def _approvals(document: Json) -> Iterator[tuple[str, RenderableType]]:
    """The policy's groups with their people, and each one's decision."""
    people = {one["name"]: one for one in _people(document)}
    groups = [
        ("or " if index and not number else "", group)
        for index, token in enumerate(_policy(document).get("tokens") or ())
        for number, group in enumerate(token["groups"])
    ]
    named = dict.fromkeys(name for _, group in groups for name in group["approvers"])
    width = max((cell_len(clean(name)) for name in [*people, *named]), default=0)
    heading = "approvals"
    for alternative, group in groups:
        names, quorum = group["approvers"], group["quorum"]
        have = sum(people.get(name, {}).get("decision") == "approved" for name in names)
        yield (
            heading,
            Text.assemble(
                f"{alternative}{clean(group['name'])} needs {quorum} of {len(names)}, has ",
                (str(have), "green" if have >= quorum else "bold"),
            ),
        )
        heading = ""
        for name in names:
            yield "", _person(people.get(name, {"name": name, "decision": "none"}), width)
    for name, one in people.items():
        if name not in named:
            unknown = ("  not in the policy", "bold red") if groups else ""
            yield heading, Text.assemble(_person(one, width), unknown)
            heading = ""


def _person(one: Json, width: int) -> Text:
    sign, style = DECISIONS.get(one["decision"], ("?", "bold"))
    word = "" if one["decision"] == "none" else clean(one["decision"])
    return Text.assemble(
        (f"{sign} ", style), set_cell_size(clean(one["name"]), width + 2), (word, style)
    )


def _deadlines(document: Json, times: Json, now: datetime) -> Iterator[tuple[str, RenderableType]]:
    tokens = _policy(document).get("tokens") or ()
    timelock = min((token["timelock"] for token in tokens), default=0)
    opens = _read(times["requested"]) + timedelta(seconds=timelock)
    if opens > now:
        yield "timelock", Text(f"not executed before {_clock(opens, now)}, in {span(opens - now)}")
    if times.get("windowEnds"):
        yield "window", _window(times, now)
    else:
        yield "window", Text("without an end")
    if times.get("nextPoll"):
        yield "next poll", _next_poll(_read(times["nextPoll"]) - now)


def _next_poll(left: timedelta) -> Text:
    if left > timedelta(0):
        return Text(f"within a minute of news, else in {span(left)}")
    # Only changes are recorded. Later polls happen at times that are not on record.
    return Text("due" if -left < LATE else "soon; nothing has changed lately")


def _window(times: Json, now: datetime) -> RenderableType:
    ends = _read(times["windowEnds"])
    began = _read(times["requested"])
    left = ends - now
    if left <= timedelta(0):
        return Text.assemble(("closed", "yellow"), f" at {_clock(ends, now)}")
    style = "yellow" if left < (ends - began) / 5 else "cyan"
    bar = ProgressBar(
        total=(ends - began).total_seconds(),
        completed=max(0.0, (now - began).total_seconds()),
        width=BAR_WIDTH,
        complete_style=style,
        finished_style=style,
    )
    row = Table.grid(padding=(0, 1))
    row.add_row(
        bar, Text.assemble("closes in ", (span(left), f"bold {style}"), f" ({_clock(ends, now)})")
    )
    return row


def _moment(moment: str, now: datetime) -> Text:
    then = _read(moment)
    return Text.assemble(_clock(then, now), (f"  {span(now - then)} ago", "dim"))


def _missing(document: Json) -> str:
    """What was missing in the groups that did not reach their quorum."""
    people = {one["name"]: one["decision"] for one in _people(document)}
    lacking = []
    for token in _policy(document).get("tokens") or ():
        for group in token.get("groups") or ():
            have = sum(people.get(name) == "approved" for name in group["approvers"])
            if have < group["quorum"]:
                lacking.append(f"{group['name']} has {have} of the {group['quorum']} it needs")
    return f"; {', '.join(lacking)}" if lacking else ""


def _people(document: Json) -> list[Json]:
    return list(_step(document).get("approvers") or ())


def _step(document: Json) -> Json:
    """What approvers were asked last: for the CSR, or for the certificate."""
    steps = document.get("steps") or {}
    second = steps.get("certificate") or {}
    return second if second.get("requestId") else steps.get("csr") or {}


def _policy(document: Json) -> Json:
    """Under which they were asked: of the CA's key, or of the key itself."""
    return _step(document).get("policy") or document.get("policy") or {}


def _times(document: Json) -> Json:
    return _step(document).get("times") or {}


def _names(document: Json, decision: str) -> str:
    names = [one["name"] for one in _people(document) if one["decision"] == decision]
    return ", ".join(names) or "nobody on record"


# Many ------------------------------------------------------------------------------------------


def listing(documents: Iterable[Json], now: datetime, width: int = PIPE_WIDTH) -> Table:
    """One row per enrollment. A narrow terminal lacks what `status` shows as well."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    left_out = () if width >= WIDE else NOT_NARROW
    headings = [one for one in LISTED if one not in left_out]
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading not in FOLDED)
    for one in documents:
        times = one.get("times") or {}
        end = times.get("ended") or (None if one.get("outcome") else _times(one).get("windowEnds"))
        cells = (
            Text(clean(one["enrollmentId"]), style="bold"),
            Text(clean(one["status"]), style=STATUS_STYLES.get(one["status"], "")),
            Text(clean((one.get("error") or {}).get("name") or _doing(one))),
            Text(clean(one.get("keyLabel") or "")),
            Text(_clock(_read(times["accepted"]), now) if times.get("accepted") else ""),
            Text(_relative(end, now) if end else ""),
            Text(clean(_origin(one.get("origin") or {}).rpartition(":")[2])),
        )
        shown = dict(zip(LISTED, cells, strict=True))
        table.add_row(*(shown[heading] for heading in headings))
    return table


# Time ------------------------------------------------------------------------------------------


def _read(moment: str) -> datetime:
    return datetime.fromisoformat(moment).astimezone(UTC)


def _relative(moment: str, now: datetime) -> str:
    left = _read(moment) - now
    return f"in {span(left)}" if left > timedelta(0) else f"{span(-left)} ago"


def _clock(moment: datetime, now: datetime) -> str:
    """Local time; with the date only if it is another day."""
    local, today = moment.astimezone(), now.astimezone()
    day = "" if local.date() == today.date() else f"{local:%Y-%m-%d} "
    return f"{day}{local:%H:%M:%S %Z}"


def span(span: timedelta) -> str:
    """Two units at most: `6 d 3 h`, `41 min 12 s`."""
    rest = max(0, round(span.total_seconds()))
    counts: list[tuple[int, str]] = []
    for name, seconds in UNITS:
        count, rest = divmod(rest, seconds)
        if count or counts:
            counts.append((count, name))
    return " ".join(f"{count} {name}" for count, name in counts[:2] if count) or "0 s"
