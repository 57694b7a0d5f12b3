"""Our documents, as text. That their commands work: tests/e2e/test_documents.py."""

import json
import re
from pathlib import Path

from countersign.models import OutcomeDocument
from tests.e2e.commands import commands
from tests.unit.test_architecture import LOWER_FIRST

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()


def paths() -> set[str]:
    """What stands in backticks and is a path: with a slash or an ending, and nothing to fill in."""
    quoted = re.findall(r"`([^`\s]+)`", ARCHITECTURE.replace("```", ""))
    return {one for one in quoted if re.search(r"/|\.[a-z]+$", one) and "<" not in one}


def test_the_readme_s_outcome_document_is_one() -> None:
    section = (ROOT / "README.md").read_text().split("**outcome document**")[1]
    block = section.split("```json\n")[1].split("```")[0]

    assert OutcomeDocument.read(json.loads(block)).outcome == "ISSUED"


def test_every_trigger_has_a_command_in_the_readme() -> None:
    script = "\n".join(commands(ROOT / "README.md"))

    assert all(file in script for file in (
        "events/start/request.json", "events/event/entries.json", "docs/schedule.yaml",
        "docs/nested.yaml", "events/nested/request.json",
    ))  # fmt: skip


def test_every_path_of_the_architecture_exists() -> None:
    # From the project's folder, from the layer's, or, as in links, from the page's own.
    roots = (ROOT, ROOT / "layers/core", ROOT / "docs")
    missing = {one for one in paths() if not any((root / one).exists() for root in roots)}

    assert len(paths()) > 50
    assert not missing


def test_the_architecture_lists_the_rooms_lowest_first() -> None:
    rooms = re.findall(r"^\| `countersign/(\w+)(?:/|\.py)` \|", ARCHITECTURE, re.MULTILINE)

    assert rooms == LOWER_FIRST
