"""The template as CloudFormation gets it, with everything that SAM adds by itself."""

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from local.template import ROOT, read

type Json = dict[str, Any]

REGION = "eu-central-1"
UV = ROOT / ".tools/bin/uv"


@cache
def expanded(path: str = "template.yaml", region: str = REGION, **parameters: str) -> Json:
    """The expanded template, conditions and references as they stand. Do not change it.

    Args:
        path: of a SAM template below the project's root.
        region: SAM asks for one; what it writes differs by partition only.
        parameters: SAM writes those that an API's `Auth` refers to in their place.
    """
    template = json.loads(json.dumps(read(path), default=str))
    globals_ = template.get("Globals", {}).values()
    for properties in (*globals_, *(one["Properties"] for one in template["Resources"].values())):
        # What `sam build` and `sam package` put in the place of a path.
        for name in ("CodeUri", "ContentUri", "DefinitionUri"):
            if isinstance(properties.get(name), str):
                properties[name] = f"s3://packages/{Path(path).stem}/{name}"
    expander = _expander(region)
    assert expander.stdin is not None
    assert expander.stdout is not None
    asked = json.dumps({"template": template, "parameters": parameters})
    print(asked, file=expander.stdin, flush=True)
    found: Json = json.loads(expander.stdout.readline())
    return found


@cache
def _expander(region: str) -> subprocess.Popen[str]:
    """A process that expands one template after the other: to load the translator takes longest."""
    return subprocess.Popen(
        [UV, "run", "--quiet", "--frozen", "--script", ROOT / "local/expand.py"],
        env={**os.environ, "AWS_DEFAULT_REGION": region},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
