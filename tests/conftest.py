"""Options of all tests, and what keeps them quick."""

import gc
from collections.abc import Iterator
from functools import cache

import botocore.loaders
import hypothesis
import pytest

from local.engine.stack import InProcessStack, in_process_stack

# Each test has AWS clients of its own. A loader of its own for each would read a megabyte of JSON,
# which describes the service, anew: a tenth of the time that tests compute.
botocore.loaders.create_loader = cache(botocore.loaders.create_loader)

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write the workflow's recordings anew")


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessStack]:
    """One stack in this process for all tests that want one; each resets it afterwards."""
    with in_process_stack(tmp_path_factory.mktemp("stack")) as started:
        yield started


def pytest_collection_finish() -> None:
    # What is loaded by now stays: the collector need not go through all of it again and again.
    gc.collect()
    gc.freeze()
