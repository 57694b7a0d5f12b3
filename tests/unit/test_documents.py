"""The commands in our documents, as text. That they work: tests/e2e/test_documents.py."""

from pathlib import Path

from tests.e2e.commands import commands

README = Path(__file__).parents[2] / "README.md"


def test_every_trigger_has_a_command_in_the_readme() -> None:
    script = "\n".join(commands(README))

    assert all(file in script for file in (
        "events/start/request.json", "events/event/entries.json", "docs/schedule.yaml",
        "docs/nested.yaml", "events/nested/request.json",
    ))  # fmt: skip
