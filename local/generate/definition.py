"""The state machine's definition as JSON, which is deployed, from the YAML that people read."""

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "statemachine/enrollment.asl.yaml"
TARGET = ROOT / "statemachine/enrollment.asl.json"
SHARED = "Shared"  # holds what the states refer to, and is no field of a definition


def files() -> dict[Path, str]:
    """The definition as it is deployed."""
    source: dict[str, Any] = yaml.safe_load(SOURCE.read_text())
    del source[SHARED]
    return {TARGET: json.dumps(_joined(source), indent=2, ensure_ascii=False) + "\n"}


def _joined(node: Any) -> Any:
    """The same, where each list inside an `ErrorEquals` has become part of it."""
    if isinstance(node, list):
        return [_joined(one) for one in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _flat(inner) if key == "ErrorEquals" else _joined(inner) for key, inner in node.items()
    }


def _flat(names: list[str | list[str]]) -> list[str]:
    return [name for one in names for name in ([one] if isinstance(one, str) else one)]
