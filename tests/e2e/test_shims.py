"""Each shim of `local/emulator.py` is still needed; one that is not any more should go."""

import json
import subprocess
from functools import cache

import pytest

from local.stack import ROOT, Stack

pytestmark = pytest.mark.e2e

SHIMS = [
    "class_names", "capped_retries", "idempotent_start", "universal_schedule", "nested_failures",
    "archives", "api_extensions", "role_boundaries", "metric_math", "bus_policies",
    "moved_messages", "secure_loopback", "bounded_workers", "clean_interpreter", "api_hosts",
]  # fmt: skip


@cache
def needed(python: str) -> dict[str, bool]:
    """By shim's name, as the unmodified emulator behaves."""
    answer = subprocess.run(
        [python, "tests/e2e/upstream.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, bool] = json.loads(answer.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("shim", SHIMS)
def test_the_emulator_still_needs_this_shim(stack: Stack, shim: str) -> None:
    assert needed(stack.emulator_python)[shim]


def test_every_shim_is_looked_at(stack: Stack) -> None:
    assert list(needed(stack.emulator_python)) == SHIMS
