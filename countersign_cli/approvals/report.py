"""What an approver reads: a list of what waits, one request with its checks; and as JSON."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from countersign.models import timestamp
from countersign_cli.approvals.checks import Check, Examined
from countersign_cli.view import clean, span

SIGNS = {"passed": ("✓", "green"), "failed": ("✗", "bold red"), "not shown": ("?", "yellow")}

type Json = dict[str, Any]


def document(examined: Examined) -> Json:
    """One task, for scripts and for the page."""
    shown, approval = examined.shown, examined.approval
    return {
        "taskId": examined.task.id,
        "enrollmentId": shown.enrollment_id if shown else None,
        "asked": shown.kind if shown else None,
        "keyLabel": clean(approval.label) if approval else None,
        "operation": approval.doing if approval else None,
        "requestSha256": shown.sha256 if shown else None,
        "about": list(shown.about) if shown else [],
        "closes": timestamp(examined.closes) if examined.closes else None,
        "verdict": verdict(examined),
        "checks": [
            {
                "code": one.code,
                "about": one.about,
                "title": one.title,
                "result": one.result,
                "finding": one.finding,
            }
            for one in examined.checks
        ],
    }


def verdict(examined: Examined) -> str:
    """What the checks come to, in a sentence."""
    failed, unknown = len(examined.failed), len(examined.not_shown)
    if failed:
        return f"Do not approve: {_times(failed, 'check')} failed"
    passed = f"{_times(len(examined.checks) - unknown, 'check')} passed"
    return f"{passed}, {unknown} cannot be made: this TSB does not show what they need"


def question(examined: Examined) -> str:
    """What an approval says, to be confirmed before it is signed."""
    shown, approval = examined.shown, examined.approval
    label, digest = (approval.label if approval else "?"), (shown.sha256 if shown else "?")
    what = "a certificate for " if shown and shown.kind == "certificate" else ""
    return (
        f"Key {clean(label)} may be used once, for {what}{about(examined, 'Subject commonName')}.\n"
        f"SHA-256 of the request:\n{digest}\nSign this with your key?"
    )


def listing(every: Iterable[Examined], now: datetime) -> Table:
    """A line for each task."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("id", "key", "closes", "checks", "asked by"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "id")
    for one in every:
        failed = [check.code for check in one.failed]
        style = "bold red" if failed else "green"
        table.add_row(
            Text(one.shown.enrollment_id if one.shown else clean(one.task.id), style="bold"),
            Text(clean(one.approval.label) if one.approval else "?"),
            Text(_closes(one, now)),
            Text(f"failed: {', '.join(failed)}" if failed else "passed", style=style),
            Text(about(one, "Requested by")),
        )
    return table


def request(examined: Examined, now: datetime, *, briefly: bool = False) -> RenderableType:
    """One request with everything that was checked about it.

    Args:
        examined: the task and its checks.
        now: for the time that is left.
        briefly: of the checks that passed, only how many; every other one is told all the same.
    """
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    shown = examined.shown
    for line in shown.about if shown else ():
        name, _, value = line.partition(": ")
        facts.add_row(Text(name), Text(value))
    facts.add_row("SHA-256", Text(shown.sha256 if shown else "not shown", style="bold"))
    facts.add_row("Closes", Text(_closes(examined, now)))
    facts.add_row("Task", Text(clean(examined.task.id)))
    style = "bold red" if examined.failed else "bold"
    parts: list[RenderableType] = [facts]
    if briefly:
        told = [one for one in examined.checks if one.result != "passed"]
        parts += [Text(), _checks(told)] if told else []
    else:
        for heading in dict.fromkeys(one.about for one in examined.checks):
            about_it = [one for one in examined.checks if one.about == heading]
            parts += [Text(f"\n{heading}", style="bold"), _checks(about_it)]
    return Group(*parts, Text(f"\n{verdict(examined)}", style=style))


def about(examined: Examined, name: str) -> str:
    """A line's value of the stack's own summary; empty: there is none."""
    lines = examined.shown.about if examined.shown else ()
    return next((one.partition(": ")[2] for one in lines if one.startswith(f"{name}: ")), "")


def _checks(every: Iterable[Check]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in every:
        sign, style = SIGNS[one.result]
        table.add_row(Text(sign, style=style), _line(one, style))
    return table


def _line(check: Check, style: str) -> Text:
    if check.result == "passed":
        return Text(check.title)
    what = {"failed": "failed", "not shown": "not known"}[check.result]
    return Text.assemble(check.title, (f"  {what}: {check.finding} [{check.code}]", style))


def _closes(examined: Examined, now: datetime) -> str:
    if examined.closes is None:
        return "no end is known"
    left = examined.closes - now
    when = f"{examined.closes:%Y-%m-%d %H:%M} UTC"
    return f"{when}, in {span(left)}" if left.total_seconds() > 0 else f"{when}, closed"


def _times(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
