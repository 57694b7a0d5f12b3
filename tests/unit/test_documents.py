"""Our documents, as text. That their commands work: tests/e2e/test_documents.py."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from countersign.models import OutcomeDocument
from tests.e2e.commands import DEPLOYED, TOUR, commands
from tests.unit.test_architecture import LOWER_FIRST

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "tests/README.md"])
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()


def paths() -> set[str]:
    """What stands in backticks and is a path: with a slash or an ending, and nothing to fill in."""
    quoted = re.findall(r"`([^`\s]+)`", ARCHITECTURE.replace("```", ""))
    return {one for one in quoted if re.search(r"/|\.[a-z]+$", one) and "<" not in one}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as a forge makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    seen: Counter[str] = Counter()
    made = set()
    for heading in headings:
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        made.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if re.match(r"https?://|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)

    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_comment_cuts_a_table(page: Path) -> None:
    """A comment ends a table: what follows it is shown as text."""
    assert re.findall(r"^ *\|.*\n *<!--.*\n *\|", page.read_text(), re.MULTILINE) == []


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {ROOT / "README.md"}
    while True:
        found = {
            (page.parent / link.partition("#")[0]).resolve()
            for page in linked
            for link in LINK.findall(page.read_text())
            if link.partition("#")[0].endswith(".md") and "//" not in link
        }
        if found <= linked:
            break
        linked |= found

    assert {*(ROOT / "docs").glob("**/*.md")} <= linked


def test_every_command_of_a_page_is_run_or_says_why_not() -> None:
    pages = {str(page.relative_to(ROOT)) for page in PAGES if commands(page)}

    # What developers run is what CI runs.
    assert pages == {*TOUR, *DEPLOYED, "CONTRIBUTING.md", "tests/README.md"}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1_500


def test_the_outcome_document_that_people_read_about_is_one() -> None:
    section = (ROOT / "docs/events.md").read_text().split("**outcome document**")[1]
    block = section.split("```json\n")[1].split("```")[0]

    assert OutcomeDocument.read(json.loads(block)).outcome == "ISSUED"


def test_every_trigger_has_a_command_on_its_page() -> None:
    script = "\n".join(commands(ROOT / "docs/triggers.md"))

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
