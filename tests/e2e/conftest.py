"""One deployed stack for the whole session, and every scenario's act under way on it."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from local.stack import ROOT, Stack
from tests.e2e import canary
from tests.e2e.case import ACTS, WAIT_SCALE, Act, Case, Ran, Run, notify_rule

ACTS_AT_ONCE = 16  # each execution under way keeps one of two cores busy now and then

FEW_TESTS = 10


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    embedded = Stack(ROOT / ".stack/test", NotifyEmail="approvers@example.com")
    embedded.start()
    try:
        embedded.scale_waits(WAIT_SCALE)
        canary.plant(embedded)
        # Until its own test: a mail about each of hundreds of events would keep a core busy.
        embedded.client("events").disable_rule(**notify_rule(embedded))
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

    def wait(self) -> None:
        """Until every act that was started has ended."""
        wait(self._futures.values())

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
def idle_stack(stack: Stack, acts: Acts) -> Stack:
    """The stack when nothing is under way: what is broken now breaks nobody else's enrollment."""
    acts.wait()
    return stack


@pytest.fixture
def quiet_stack(stack: Stack, acts: Acts) -> Stack:
    """The stack when every act there is has ended."""
    for one in ACTS:
        acts.start(one)
    acts.wait()
    return stack


@pytest.fixture
def case(stack: Stack) -> Case:
    return Case(stack)
