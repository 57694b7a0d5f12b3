"""One deployed stack for the whole session, and every scenario's act under way on it."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from local.stack import ROOT, Stack
from tests.e2e import canary
from tests.e2e.case import ACTS, Act, Case, Ran, Run

WAIT_SCALE = 0.05  # a wait of 10 s lasts 0.5 s; TSB's own clock is advanced where it matters
ACTS_AT_ONCE = 16  # each execution under way keeps one of two cores busy now and then

FEW_TESTS = 10


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    embedded = Stack(ROOT / ".stack/test")
    embedded.start()
    try:
        embedded.scale_waits(WAIT_SCALE)
        canary.plant(embedded)
        yield embedded
        # Whatever the tests did: no secret got out.
        assert canary.leaks(embedded) == []
    finally:
        embedded.stop()


class Acts:
    """The scenarios under way; each starts once, in the background."""

    def __init__(self, stack: Stack, pool: ThreadPoolExecutor) -> None:
        self._stack = stack
        self._pool = pool
        self._futures: dict[Act, Future[Run]] = {}

    def start(self, one: Act) -> Future[Run]:
        if one not in self._futures:
            self._futures[one] = self._pool.submit(one, Case(self._stack))
        return self._futures[one]

    def stop(self) -> None:
        for future in self._futures.values():
            future.cancel()


@pytest.fixture(scope="session")
def acts(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Acts]:
    """All acts from the start; of a few tests only those that they look at."""
    with ThreadPoolExecutor(ACTS_AT_ONCE) as pool:
        started = Acts(stack, pool)
        if len(request.session.items) > FEW_TESTS:
            for one in ACTS:
                started.start(one)
        yield started
        started.stop()


@pytest.fixture(scope="session")
def ran(acts: Acts) -> Ran:
    """What came of an act."""
    return lambda one: acts.start(one).result()


@pytest.fixture
def quiet_stack(stack: Stack, acts: Acts) -> Stack:
    """The stack when every act has ended: what is broken now breaks nobody else's enrollment."""
    wait([acts.start(one) for one in ACTS])
    return stack


@pytest.fixture
def case(stack: Stack) -> Case:
    return Case(stack)
