"""Draw the state machine into the README, from its definition, so that the picture cannot lie.

`python -m local.draw_workflow` writes, `--check` fails where the README shows another workflow.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DEFINITION = ROOT / "statemachine/enrollment.asl.json"
README = ROOT / "README.md"
PICTURE = re.compile(r"(?<=<!-- workflow -->\n).*?(?=<!-- /workflow -->)", re.DOTALL)

SHAPES = {
    "Task": '{name}["{label}"]',
    "Choice": '{name}{{"{label}"}}',
    "Wait": '{name}(["{label}"])',
    "Succeed": '{name}(("{label}"))',
    "Fail": '{name}(("{label}")):::failed',
}


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


def _block() -> str:
    picture = mermaid(json.loads(DEFINITION.read_text()))
    return f"```mermaid\n{picture}\n```\n"


def main() -> int:
    """Write the picture, or with `--check` compare it; 1 where it differs."""
    text = README.read_text()
    drawn = PICTURE.sub(lambda _: _block(), text)
    if "--check" in sys.argv[1:]:
        if drawn != text:
            print("README.md shows another workflow: run `make draw`", file=sys.stderr)
            return 1
        return 0
    README.write_text(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
