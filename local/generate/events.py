"""What the bus says, written down: JSON Schemas, the registry's template, docs/events.md.

All from the models in `countersign/events.py` and the samples in `events/emitted`.
"""

import json
from pathlib import Path
from typing import Any

from countersign import events
from countersign.aws.bus import SOURCE
from local.generate.pages import filled

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "events/schemas"
SAMPLES = ROOT / "events/emitted"
REGISTRY = ROOT / "events/registry.template.json"
PAGE = ROOT / "docs/events.md"

BY_NAME = ("properties", "definitions")  # maps of names that are nobody's keywords
# Titles repeat the names; draft 4 has no const, and what it stands beside says the same as enum.
LEFT_OUT = ("title", "default", "additionalProperties", "const")

type Json = dict[str, Any]


def slug(event: type[events.Said]) -> str:
    """The name of an event's files: `Enrollment Issued` is `enrollment-issued`."""
    return event.DETAIL_TYPE.lower().replace(" ", "-")


def schema(event: type[events.Said]) -> Json:
    """The whole event as EventBridge delivers it, in draft 4: the one that its registry takes.

    Unknown fields are allowed: a later release may add some.
    """
    detail = event.model_json_schema(mode="serialization", ref_template="#/definitions/{model}")
    definitions = detail.pop("$defs", {})
    text = {"type": "string"}
    envelope = {
        "version": text,
        "id": {**text, "description": "The same when an event is delivered twice."},
        "detail-type": {"enum": [event.DETAIL_TYPE]},
        "source": {"enum": [SOURCE]},
        "account": text,
        "time": {**text, "format": "date-time"},
        "region": text,
        "resources": {
            "type": "array",
            "items": text,
            "description": "The execution's ARN, where it is about one.",
        },
        "detail": {"$ref": f"#/definitions/{event.__name__}"},
    }
    whole = _draft_4(
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "description": event.__doc__,
            "type": "object",
            "properties": envelope,
            "required": list(envelope),
            "definitions": {event.__name__: detail, **definitions},
        }
    )
    described = whole["definitions"][event.__name__]
    described["required"] = [one for one in described["required"] if one not in event.OMITTED]
    return {"title": event.DETAIL_TYPE, **whole}


def _draft_4(node: Any) -> Any:
    """pydantic's dialect (2020-12) in draft 4's words. All fields are written always."""
    if isinstance(node, list):
        return [_draft_4(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {
        name: {key: _draft_4(inner) for key, inner in value.items()}
        if name in BY_NAME
        else _draft_4(value)
        for name, value in node.items()
        if name not in LEFT_OUT
    }
    if "properties" in found:
        found["required"] = list(found["properties"])
    return found


def registry() -> Json:
    """A nested stack's template: EventBridge's registry with a schema for each event."""
    schemas = {
        event.DETAIL_TYPE.replace(" ", ""): {
            "Type": "AWS::EventSchemas::Schema",
            "Properties": {
                "RegistryName": {"Fn::GetAtt": ["Registry", "RegistryName"]},
                "SchemaName": f"{SOURCE}@{event.DETAIL_TYPE.replace(' ', '')}",
                "Description": event.__doc__,
                "Type": "JSONSchemaDraft4",
                "Content": json.dumps(schema(event)),
            },
        }
        for event in (*events.CATALOGUE, *events.OF_KEYS)
    }
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "The events of Countersign; made by `make generate`.",
        "Parameters": {"RegistryName": {"Type": "String"}},
        "Resources": {
            "Registry": {
                "Type": "AWS::EventSchemas::Registry",
                "Properties": {
                    "RegistryName": {"Ref": "RegistryName"},
                    "Description": "What Countersign says about its enrollments.",
                },
            },
            **schemas,
        },
    }


def page() -> str:
    """docs/events.md with a line for each event, and every event's fields and a sample."""
    rows = "".join(
        f"| [`{one.DETAIL_TYPE}`](#{slug(one)}) | {_summary(one)} |\n" for one in events.CATALOGUE
    )
    table = f"| Event | Meaning |\n|---|---|\n{rows}"
    sections = "\n".join(_section(event) for event in events.CATALOGUE) + "\n" + _types()
    return filled(filled(PAGE.read_text(), "catalogue", table), "events", sections)


def _summary(event: type[events.Event]) -> str:
    return (event.__doc__ or "").replace("\n", " ")


def _section(event: type[events.Event]) -> str:
    whole = schema(event)
    detail = whole["definitions"][event.__name__]
    common = events.Event.model_fields
    rows = [
        f"| `{name}` | {_type(field)} | {field.get('description', '')} |"
        for name, field in detail["properties"].items()
        if name not in {info.alias for info in common.values()}
    ]
    sample = json.loads((SAMPLES / f"{slug(event)}.json").read_text())
    return "\n".join(
        [
            f"## {event.DETAIL_TYPE}",
            "",
            _summary(event),
            f"[Schema](../events/schemas/{slug(event)}.schema.json),"
            f" [sample](../events/emitted/{slug(event)}.json)",
            "",
            "| Field | Type | Meaning |",
            "|---|---|---|",
            *rows,
            "",
            "<details><summary>detail of the sample</summary>",
            "",
            "```json",
            json.dumps(sample["detail"], indent=2, ensure_ascii=False),
            "```",
            "",
            "</details>",
            "",
        ]
    )


def _types() -> str:
    """What the fields' types are, each once."""
    shared: Json = {}
    for event in events.CATALOGUE:
        shared |= {
            name: definition
            for name, definition in schema(event)["definitions"].items()
            if name != event.__name__ and "properties" in definition
        }
    rows = []
    for name, definition in sorted(shared.items()):
        fields = ", ".join(
            f"`{field}` ({_type(what)})" for field, what in definition["properties"].items()
        )
        about = definition["description"].replace("\n", " ")
        rows.append(f"| `{name}` | {about} | {fields} |")
    return "\n".join(["## Types", "", "| Type | Meaning | Fields |", "|---|---|---|", *rows, ""])


def _type(field: Json) -> str:
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"])
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        return f"`{field['$ref'].removeprefix('#/definitions/')}`"
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    return str(field["type"])


def files() -> dict[Path, str | None]:
    """Every file about events, by path; None where a schema's event is gone."""
    return {
        **dict.fromkeys(sorted(SCHEMAS.glob("*"))),
        **{
            SCHEMAS / f"{slug(one)}.schema.json": _json(schema(one))
            for one in (*events.CATALOGUE, *events.OF_KEYS)
        },
        REGISTRY: _json(registry()),
        PAGE: page(),
    }


def _json(content: Json) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
