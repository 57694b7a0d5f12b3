"""What the user sees, and the report that they may send: neither holds a secret."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from countersign_cli import view
from countersign_cli.calls import Json
from countersign_cli.probe.questions import Finding, Question
from countersign_cli.probe.run import CHAPTERS, QUESTIONS, Result

REMOVED = "[removed]"
ASKS_WIDTH = 46
LONGEST_VALUE = 60  # characters of a value: some of them are TSB's own text
ASSUMED, DIFFERENT, UNKNOWN = Text("✓", "green"), Text("!", "bold yellow"), Text("?", "cyan")


def document(result: Result, calls: list[Json], secrets: Iterable[str]) -> Json:
    """The report as JSON. Whatever is shown is taken from it.

    Args:
        result: what was found.
        calls: method, path, role and status of each call.
        secrets: they are taken out, should they stand anywhere: some of the text is the TSB's.
    """
    content = {
        "kind": "countersign probe",
        "schemaVersion": "1",
        "countersign": version("countersign"),
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "stopped": result.stopped or None,
        "findings": [
            _finding(one, result.findings[one.name])
            for one in QUESTIONS
            if one.name in result.findings
        ],
        "parameters": result.parameters,
        "left": result.left,
        "ofOtherRuns": result.of_other_runs,
        "calls": calls,
    }
    cleaned: Json = without(content, sorted(secrets, key=len, reverse=True))
    return cleaned


def shown(report: Json, place: dict[str, str]) -> Group:
    """The table and what follows from it, for 80 columns.

    Args:
        report: the document.
        place: parameters that say where the TSB is; the report does not have them.
    """
    found = {one["name"]: one for one in report["findings"]}
    parts: list[RenderableType] = []
    for title, chapter in CHAPTERS.items():
        asked = [found[one.name] for one in chapter if one.name in found]
        if asked:
            parts += [Text(f"\n{title}", "bold"), _table(asked)]
    parts.append(Text("\n✓ as assumed   ! differs   ? not found out", "dim"))
    unknown = [f"{one['asks']}: {one['detail']}" for one in found.values() if one["found"] is None]
    follows = [f"{one['asks']}: {one['follows']}" for one in found.values() if one["follows"]]
    parameters = {**place, **report["parameters"]}
    parts += _listed("Not found out", unknown)
    parts += _listed("What follows", follows)
    parts += _listed("Parameters", [f"{name}={value}" for name, value in parameters.items()])
    parts += _listed("Left by other runs", report["ofOtherRuns"])
    parts += _listed("Could not be removed: do it by hand", report["left"])
    if report["stopped"]:
        parts.append(Text(f"\nNot everything was asked: {view.clean(report['stopped'])}", "yellow"))
    return Group(*parts)


def without(content: Any, secrets: list[str]) -> Any:
    """The same without these texts."""
    if isinstance(content, dict):
        return {name: without(value, secrets) for name, value in content.items()}
    if isinstance(content, list):
        return [without(value, secrets) for value in content]
    if isinstance(content, str):
        for one in secrets:
            content = content.replace(one, REMOVED)
    return content


def _finding(one: Question, answer: Finding) -> Json:
    return {
        "name": one.name,
        "asks": one.asks,
        "found": answer.value,
        "assumed": one.assumed,
        "detail": answer.detail,
        "follows": answer.follows,
        "source": one.source,
    }


def _table(asked: list[Json]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, width=1)
    table.add_column(width=ASKS_WIDTH)
    table.add_column(overflow="fold")
    for one in asked:
        value, assumed = one["found"], one["assumed"]
        mark = UNKNOWN if value is None else ASSUMED if value == assumed else DIFFERENT
        text = Text("" if value is None else _text(value))
        if mark is DIFFERENT:
            text.append(f" (assumed {_text(assumed)})", "dim")
        table.add_row(mark, view.clean(one["asks"]), text)
    return table


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return view.clean(value)[:LONGEST_VALUE]


def _listed(title: str, lines: list[str]) -> list[RenderableType]:
    if not lines:
        return []
    table = Table.grid(padding=(0, 1))
    for line in lines:
        table.add_row("-", Text(view.clean(line)))
    return [Text(f"\n{title}", "bold"), table]


def dump(report: Json) -> str:
    """The report as it is written."""
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"
