"""Draw docs/openapi.json from the routes of functions/api.py, so that it cannot lie.

`python -m local.draw_openapi` writes, `--check` fails where the file describes another API.
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from functions.api import PROBLEM, app

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs/openapi.json"
EXAMPLE = ROOT / "events/request.json"
SERVER = {
    "url": "https://{apiId}.execute-api.{region}.amazonaws.com/v1",
    "description": "The stack's output ApiUrl.",
    "variables": {"apiId": {"default": "abcdefghij"}, "region": {"default": "eu-central-1"}},
}
SIGNED = {
    "type": "apiKey",
    "name": "Authorization",
    "in": "header",
    "x-amazon-apigateway-authtype": "awsSigv4",
    "description": "AWS Signature Version 4, service execute-api.",
}
# API Gateway says these before the function is asked.
GATEWAY = {
    "403": "The call is not signed, wrongly signed, or the caller may not make it.",
    "429": "More calls than the stack takes; slow down.",
}
REF = "#/components/schemas/"


def openapi() -> dict[str, Any]:
    """The API as OpenAPI 3.1 has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    drawn: dict[str, Any] = json.loads(
        app.get_openapi_json_schema(
            title="Countersign",
            version=project["version"],
            description=project["description"],
        )
    )
    example = json.loads(EXAMPLE.read_text())
    drawn["servers"] = [SERVER]
    drawn["security"] = [{"sigv4": []}]
    drawn["components"]["securitySchemes"] = {"sigv4": SIGNED}
    for path in drawn["paths"].values():
        for operation in path.values():
            operation["responses"] |= {
                status: {
                    "description": text,
                    "content": {PROBLEM: {"schema": {"$ref": f"{REF}Problem"}}},
                }
                for status, text in GATEWAY.items()
            }
            for parameter in operation.get("parameters", []):
                _drop_null(parameter["schema"])
                if parameter["in"] == "header":  # Powertools writes it small
                    parameter["name"] = parameter["name"].title()
                if parameter["in"] == "path":
                    parameter["example"] = example["enrollmentId"]
            operation["responses"] = dict(sorted(operation["responses"].items()))
    asked = drawn["paths"]["/enrollments"]["post"]["requestBody"]["content"]["application/json"]
    asked["example"] = example
    drawn["paths"] = dict(sorted(drawn["paths"].items()))
    _drop_powertools_own(drawn)
    _drop_titles(drawn["paths"])
    _drop_titles(drawn["components"])
    return drawn


def _drop_null(schema: dict[str, Any]) -> None:
    """A parameter that may be left out cannot be null: no query or header can say that."""
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    for kind in kinds:
        schema.update(kind)


def _drop_titles(node: Any) -> None:
    """Pydantic makes a title of every field's name: noise, and `Enrollmentid` helps nobody."""
    if isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        for value in node.values():
            _drop_titles(value)
    elif isinstance(node, list):
        for value in node:
            _drop_titles(value)


def _drop_powertools_own(drawn: dict[str, Any]) -> None:
    """Powertools adds the schemas of its own error bodies, which this API never sends."""
    for path in drawn["paths"].values():
        for operation in path.values():
            if "HTTPValidationError" in json.dumps(operation["responses"].get("422")):
                del operation["responses"]["422"]
    schemas = drawn["components"]["schemas"]
    while unused := [name for name in schemas if f'"{REF}{name}"' not in json.dumps(drawn)]:
        for name in unused:
            del schemas[name]


def main() -> int:
    """Write the file, or with `--check` compare it; 1 where it differs."""
    text = json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"
    if "--check" in sys.argv[1:]:
        if not FILE.exists() or FILE.read_text() != text:
            print("docs/openapi.json describes another API: run `make draw`", file=sys.stderr)
            return 1
        return 0
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
