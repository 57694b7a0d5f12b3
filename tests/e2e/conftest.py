"""One deployed stack for the whole session, and every scenario under way on it."""

import inspect
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from local.stack import DIRECTORY, ROOT, Stack, Step
from tests.case import Case, Result
from tests.catalogue import assert_documented
from tests.e2e import canary
from tests.e2e.scenarios import REMINDING, SCENARIOS, SENDER, WAIT_SCALE, ResultOf, Scenario

FEW_TESTS = 10
# Each more starts workers of its own, at a second of processor time for each function.
SCENARIOS_AT_ONCE = 5


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Tests that poll at no scenario go first: meanwhile those are under way."""
    items.sort(key=lambda item: "result" in inspect.signature(item.obj).parameters)


@pytest.fixture(scope="session", autouse=True)
def _under_way(result: ResultOf) -> None:
    """Scenarios begin before the first test."""


class StackUnderTest(Stack):
    """A stack with a profile more, and whose directory has people as users of this account."""

    def build(self, step: Step, folder: Path = ROOT) -> None:
        super().build(step, folder)
        profiles = DIRECTORY.parent
        trial = json.loads((profiles / "trial@1.json").read_text())
        (profiles / f"{REMINDING['name']}@1.json").write_text(json.dumps(trial | REMINDING))
        DIRECTORY.write_text(DIRECTORY.read_text().replace("::123456789012:", "::000000000000:"))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    # Evidence is locked as on AWS; it ends with the emulator all the same.
    deployed = StackUnderTest(
        ROOT / ".stack/test",
        NotifyEmail="approvers@example.com",
        MailFrom=SENDER,
        EvidenceRetentionDays="1",
    )
    deployed.start()
    try:
        deployed.client("sesv2").create_email_identity(EmailIdentity=SENDER)
        deployed.scale_waits(WAIT_SCALE)
        canary.plant(deployed)
        yield deployed
        for event in deployed.events():
            if event["detail-type"] != "Enrollment Requested":  # others', and a forgery
                assert_documented(event)
        # Whatever the tests did: no secret got out.
        assert canary.leaks(deployed) == []
    finally:
        deployed.stop()


@pytest.fixture(scope="session")
def result(stack: Stack, request: pytest.FixtureRequest) -> Iterator[ResultOf]:
    """What came of a scenario. All begin at once; of a few tests only those that they look at."""
    begun: dict[Scenario, Future[Result]] = {}
    with ThreadPoolExecutor(SCENARIOS_AT_ONCE) as pool:

        def begin(scenario: Scenario) -> Future[Result]:
            if scenario not in begun:
                begun[scenario] = pool.submit(scenario, Case(stack))
            return begun[scenario]

        if len(request.session.items) > FEW_TESTS:
            for scenario in SCENARIOS:
                begin(scenario)
        yield lambda scenario: begin(scenario).result()
        for future in begun.values():
            future.cancel()


@pytest.fixture
def case(stack: Stack) -> Case:
    return Case(stack)
