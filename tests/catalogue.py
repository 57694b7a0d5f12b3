"""Whether an event is what the catalogue says: its schema, its model, the fields of its sample."""

import json
from functools import cache
from typing import Any

import jsonschema

from countersign import events
from local.generate.events import SAMPLES, SCHEMAS, slug

BY_DETAIL_TYPE = {one.DETAIL_TYPE: one for one in (*events.CATALOGUE, *events.OF_KEYS)}

type Json = dict[str, Any]


def assert_documented(event: Json) -> None:
    """Fail where an event of ours is another than its documents say."""
    model = BY_DETAIL_TYPE[event["detail-type"]]
    validator, sample = _documents(model)
    validator.validate(event)
    model.read(event["detail"])
    assert event["detail"].keys() ^ sample["detail"].keys() <= model.OMITTED


@cache
def _documents(model: type[events.Said]) -> tuple[jsonschema.Draft4Validator, Json]:
    schema = json.loads((SCHEMAS / f"{slug(model)}.schema.json").read_text())
    sample = json.loads((SAMPLES / f"{slug(model)}.json").read_text())
    return jsonschema.Draft4Validator(schema), sample
