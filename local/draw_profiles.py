"""JSON Schemas of the profiles' files, for editors, and docs/profiles.md's table of findings.

`python -m local.draw_profiles` writes, `--check` fails where a file differs.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from countersign.models import Model
from countersign.policy.directory import Directory
from countersign.policy.findings import CODES
from countersign.policy.profiles import Profile

ROOT = Path(__file__).parents[1]
SHELF = ROOT / "profiles"
DOCS = ROOT / "docs/profiles.md"
TABLE = re.compile(r"(?<=<!-- findings -->\n).*?(?=<!-- /findings -->)", re.DOTALL)


def schema(model: type[Model], title: str) -> str:
    """The JSON Schema of a file, as an editor wants it."""
    content: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(by_alias=True),
        "title": title,
    }
    return json.dumps(content, indent=2) + "\n"


def findings() -> str:
    """The linter's findings as a Markdown table."""
    rows = [
        "| Code | Level | For production | Found when | Way out | May be waived when |",
        "|---|---|---|---|---|---|",
    ]
    rows += [
        f"| `{code}` | {entry.level} | {entry.production} | {entry.meaning} | {entry.action}"
        f" | {entry.waiver or 'never'} |"
        for code, entry in CODES.items()
    ]
    return "\n".join(rows) + "\n"


def drawn() -> dict[Path, str]:
    """Every file as it should be."""
    return {
        SHELF / "schemas/profile.json": schema(Profile, "A profile of Countersign"),
        SHELF / "schemas/directory.json": schema(Directory, "The approvers of Countersign"),
        DOCS: TABLE.sub(lambda _: findings(), DOCS.read_text()),
    }


def main() -> int:
    """Write the files, or with `--check` compare them; 1 where one differs."""
    files = drawn()
    if "--check" in sys.argv[1:]:
        differ = [file for file, text in files.items() if not _is(file, text)]
        for file in differ:
            print(f"{file.relative_to(ROOT)} is out of date: run `make draw`", file=sys.stderr)
        return 1 if differ else 0
    for file, text in files.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return 0


def _is(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
