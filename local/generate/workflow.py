"""The picture of the state machine in docs/architecture.md, from its definition."""

import json
import re
from pathlib import Path
from typing import Any

from local.generate.pages import filled

ROOT = Path(__file__).parents[2]
DEFINITION = ROOT / "statemachine/enrollment.asl.json"
PAGE = ROOT / "docs/architecture.md"

SHAPES = {
    "Task": '{name}["{label}"]',
    "Choice": '{name}{{"{label}"}}',
    "Wait": '{name}(["{label}"])',
    "Succeed": '{name}(("{label}"))',
    "Fail": '{name}(("{label}")):::failed',
}


def files() -> dict[Path, str]:
    """The page with the picture."""
    picture = mermaid(json.loads(DEFINITION.read_text()))
    block = f"```mermaid\n{picture}\n```\n"
    return {PAGE: filled(PAGE.read_text(), "workflow", block)}


def mermaid(definition: dict[str, Any]) -> str:
    """The definition as a Mermaid flowchart: thick is the way of an issued CSR, dotted a Catch."""
    states: dict[str, dict[str, Any]] = definition["States"]
    lines = ["flowchart TD"]
    for name, state in states.items():
        shape = SHAPES[state["Type"]].format(name=name, label=_words(name))
        lines.append(f"    {shape.replace('{{', '{').replace('}}', '}')}")
    for name, state in states.items():
        lines += [
            f'    {name} -->|"{_condition(choice["Condition"])}"| {choice["Next"]}'
            for choice in state.get("Choices", [])
        ]
        if "Default" in state:
            lines.append(f'    {name} -->|"else"| {state["Default"]}')
        if "Next" in state:
            lines.append(f"    {name} --> {state['Next']}")
        lines += [
            f'    {name} -.->|"{_errors(catch["ErrorEquals"])}"| {catch["Next"]}'
            for catch in state.get("Catch", [])
        ]
    lines.append("    classDef failed stroke:#b3261e,stroke-width:2px")
    return "\n".join(lines)


def _words(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r" \1", name)


def _condition(expression: str) -> str:
    inner = expression.strip("{}% ").replace("$states.input.", "").replace("$", "")
    return inner.replace('"', "'").replace("<", "&lt;")


def _errors(names: list[str]) -> str:
    if names == ["States.ALL"]:
        return "any other error" if names else ""
    ours = [name for name in names if "." not in name]
    shown = ours[:2]
    return ", ".join(shown) + (" …" if len(names) > len(shown) else "")
