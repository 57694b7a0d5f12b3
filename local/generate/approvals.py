"""docs/approvers.md's table of what `countersign approvals` checks."""

from pathlib import Path

from countersign_cli.approvals.checks import TITLES
from local.generate.pages import filled

DOCS = Path(__file__).parents[2] / "docs/approvers.md"


def files() -> dict[Path, str]:
    """The page with its table."""
    rows = ["| About | What holds if it passes | Name |", "|---|---|---|"]
    before = ""
    for code, (about, title) in TITLES.items():
        rows.append(f"| {'' if about == before else about} | {title} | `{code}` |")
        before = about
    return {DOCS: filled(DOCS.read_text(), "checks", "\n".join(rows) + "\n")}
