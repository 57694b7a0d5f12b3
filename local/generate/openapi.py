"""docs/openapi.json, from the routes of functions/api.py."""

import json
import tomllib
from pathlib import Path
from typing import Any

from functions.api import PROBLEM, app

ROOT = Path(__file__).parents[2]
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
# API Gateway says these before the function is body.
GATEWAY = {
    "403": "The call is not signed, wrongly signed, or the caller may not make it.",
    "429": "More calls than the stack takes; slow down.",
}
REF = "#/components/schemas/"


def files() -> dict[Path, str]:
    """The API's description as a file."""
    return {FILE: json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"}


def openapi() -> dict[str, Any]:
    """The API as OpenAPI 3.1 has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    api: dict[str, Any] = json.loads(
        app.get_openapi_json_schema(
            title="Countersign",
            version=project["version"],
            description=project["description"],
        )
    )
    example = json.loads(EXAMPLE.read_text())
    api["servers"] = [SERVER]
    api["security"] = [{"sigv4": []}]
    api["components"]["securitySchemes"] = {"sigv4": SIGNED}
    for path in api["paths"].values():
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
    body = api["paths"]["/enrollments"]["post"]["requestBody"]["content"]["application/json"]
    body["example"] = example
    api["paths"] = dict(sorted(api["paths"].items()))
    _drop_powertools_own(api)
    _drop_titles(api["paths"])
    _drop_titles(api["components"])
    return api


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


def _drop_powertools_own(api: dict[str, Any]) -> None:
    """Powertools adds the schemas of its own error bodies, which this API never sends."""
    for path in api["paths"].values():
        for operation in path.values():
            if "HTTPValidationError" in json.dumps(operation["responses"].get("422")):
                del operation["responses"]["422"]
    schemas = api["components"]["schemas"]
    while unused := [name for name in schemas if f'"{REF}{name}"' not in json.dumps(api)]:
        for name in unused:
            del schemas[name]
