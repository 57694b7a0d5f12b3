"""docs/first-contact.md's table of what `countersign probe` asks."""

from pathlib import Path

from countersign_cli.probe.run import CHAPTERS
from local.generate.pages import filled

DOCS = Path(__file__).parents[2] / "docs/first-contact.md"


def files() -> dict[Path, str]:
    """The page with its table."""
    rows = [
        "| | Name in the report | Asks | Assumed | Why it is not known |",
        "|---|---|---|---|---|",
    ]
    for title, chapter in CHAPTERS.items():
        rows += [
            f"| {title if one is chapter[0] else ''} | `{one.name}` | {one.asks}"
            f" | {_text(one.assumed)} | {one.source} |"
            for one in chapter
        ]
    return {DOCS: filled(DOCS.read_text(), "questions", "\n".join(rows) + "\n")}


def _text(assumed: object) -> str:
    if isinstance(assumed, bool):
        return "yes" if assumed else "no"
    return ", ".join(map(str, assumed)) if isinstance(assumed, list) else str(assumed)
