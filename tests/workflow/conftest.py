"""One stack in this process for all tests, fresh for each; what each did is held against its
recording, every end that it led to is verified, and the calls to AWS are held against those whose
permissions are evaluated.
"""

from collections.abc import Iterator

import pytest
from pytest_socket import disable_socket

from local.engine.stack import InProcessStack
from tests.case import Case
from tests.catalogue import assert_documented
from tests.permissions import calls
from tests.proofs import unproven
from tests.workflow.recordings import path_of, recording

RECORDED_CALLS = pytest.StashKey[calls.Calls]()


@pytest.fixture(autouse=True)
def _no_sockets() -> None:
    disable_socket(allow_unix_socket=True)


@pytest.fixture
def stack(shared_stack: InProcessStack, request: pytest.FixtureRequest) -> Iterator[InProcessStack]:
    yield shared_stack
    try:
        for event in shared_stack.events():
            assert_documented(event)
        compare(request, recording(shared_stack))
        compare_calls(request.config, shared_stack)
        # A test that writes where only the workflow may is marked: then the evidence must not hold.
        is_forged = request.node.get_closest_marker("forged") is not None
        assert bool(found := unproven(shared_stack)) == is_forged, found
    finally:
        shared_stack.reset()


@pytest.fixture
def unrecorded_stack(
    shared_stack: InProcessStack, request: pytest.FixtureRequest
) -> Iterator[InProcessStack]:
    """For what is no enrollment."""
    yield shared_stack
    try:
        compare_calls(request.config, shared_stack)
    finally:
        shared_stack.reset()


@pytest.fixture
def case(stack: InProcessStack) -> Case:
    return Case(stack)


def compare(request: pytest.FixtureRequest, recorded: str) -> None:
    """Hold what a test did against its recording, or write it down."""
    file = path_of(request.node.module.__name__, request.node.name)
    if request.config.getoption("--record"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(recorded)
        return
    assert file.exists(), f"no recording {file.name}: make record"
    assert recorded == file.read_text()


def compare_calls(config: pytest.Config, stack: InProcessStack) -> None:
    """Hold the functions' calls to AWS against those written down, or write them down."""
    made = calls.made(stack)
    if config.getoption("--record"):
        calls.merge(config.stash.setdefault(RECORDED_CALLS, {}), made)
        return
    for parameters, by_function in made.items():
        for function, found in by_function.items():
            new = found - calls.recorded().get(parameters, {}).get(function, set())
            assert not new, f"{function} makes new calls: make record"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if RECORDED_CALLS in session.config.stash:
        calls.write(session.config.stash[RECORDED_CALLS])
