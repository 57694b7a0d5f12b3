"""JSON Schemas of the profiles' files, for editors, and docs/profiles.md's table of findings."""

import json
from pathlib import Path
from typing import Any

from countersign.models import Model
from countersign.policy.directory import Directory
from countersign.policy.findings import CODES
from countersign.policy.profiles import Profile
from local.generate.pages import filled

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "profiles/schemas"
DOCS = ROOT / "docs/profiles.md"


def files() -> dict[Path, str]:
    """The schemas, and the page with its table."""
    return {
        SCHEMAS / "profile.json": schema(Profile, "A profile of Countersign"),
        SCHEMAS / "directory.json": schema(Directory, "The approvers of Countersign"),
        DOCS: filled(DOCS.read_text(), "findings", findings()),
    }


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
