"""One deployed stack for the whole session, and every scenario's act under way on it."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from local.stack import ROOT, Stack
from tests.e2e.case import ACTS, Act, Case, Ran, Run

WAIT_SCALE = 0.05  # a wait of 10 s lasts 0.5 s; TSB's own clock is advanced where it matters
ACTS_AT_ONCE = 16  # each execution under way keeps one of two cores busy now and then


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    embedded = Stack(ROOT / ".stack/test")
    embedded.start()
    try:
        embedded.scale_waits(WAIT_SCALE)
        yield embedded
    finally:
        embedded.stop()


@pytest.fixture(scope="session")
def acts(stack: Stack) -> Iterator[dict[Act, Future[Run]]]:
    """Every act, under way since the first test asked for one."""
    with ThreadPoolExecutor(ACTS_AT_ONCE) as pool:
        futures = {one: pool.submit(one, Case(stack)) for one in ACTS}
        yield futures
        for future in futures.values():
            future.cancel()


@pytest.fixture(scope="session")
def ran(acts: dict[Act, Future[Run]]) -> Ran:
    """What came of an act."""
    return lambda one: acts[one].result()


@pytest.fixture
def quiet_stack(stack: Stack, acts: dict[Act, Future[Run]]) -> Stack:
    """The stack when every act has ended: what is broken now breaks nobody else's enrollment."""
    wait(acts.values())
    return stack


@pytest.fixture
def case(stack: Stack) -> Case:
    return Case(stack)
