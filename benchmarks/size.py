"""How large the layers are, by package, and what each package is there for."""

from importlib.metadata import Distribution, PathDistribution
from pathlib import Path
from typing import Any

from local.stack import ROOT

BUILD = ROOT / ".aws-sam/build"
BUDGET_MEGABYTES = 40
BYTECODE = ".pyc"

# A unit test keeps this complete.
WHAT_FOR = {
    "annotated-types": "pydantic's constraints",
    "aws-lambda-powertools": "structured logs; routes of the API",
    "certifi": "the public CAs, where no own one is given",
    "cffi": "loaded by cryptography",
    "charset-normalizer": "asked for by requests",
    "cryptography": "parses and verifies CSRs, reads approvers' keys and certificates",
    "idna": "asked for by requests",
    "jmespath": "asked for by Powertools",
    "pycparser": "asked for by cffi, never imported",
    "pydantic": "validates requests, payloads and TSB's answers",
    "pydantic-core": "pydantic's engine",
    "requests": "talks to TSB",
    "rfc8785": "the canonical form whose hash makes two requests the same",
    "typing-extensions": "asked for by pydantic and Powertools",
    "typing-inspection": "asked for by pydantic",
    "urllib3": "requests' connections; tells what was never sent from what was",
}


def run() -> dict[str, Any]:
    """Bytes by package, source and bytecode apart; the build must be there."""
    dependencies = BUILD / "DependenciesLayer/python"
    core = BUILD / "CoreLayer/python"
    packages = {
        found.metadata["Name"].lower().replace("_", "-"): _of(found, dependencies)
        for found in map(PathDistribution, dependencies.glob("*.dist-info"))
    }
    packages["countersign"] = _sum(path for path in core.rglob("*") if path.is_file())
    whole = _sum(
        path for layer in (dependencies, core) for path in layer.parent.rglob("*") if path.is_file()
    )
    return {"budgetMegabytes": BUDGET_MEGABYTES, "packages": packages, "whole": whole}


def _of(distribution: Distribution, folder: Path) -> dict[str, int]:
    files = {folder / str(file) for file in distribution.files or ()}
    compiled = {
        path
        for file in files
        if file.suffix == ".py"
        for path in (file.parent / "__pycache__").glob(f"{file.stem}.*{BYTECODE}")
    }
    return _sum(path for path in files | compiled if path.is_file())


def _sum(paths: Any) -> dict[str, int]:
    sizes = {"bytes": 0, "bytecode": 0}
    for path in set(paths):
        sizes["bytecode" if path.suffix == BYTECODE else "bytes"] += path.stat().st_size
    return sizes
