"""The bounded part of the exploration; `python -m tests.exploration` does all of it."""

from collections.abc import Iterator

import pytest

from countersign.states import discard_key
from local.engine.stack import InProcessStack
from tests.case import fresh
from tests.exploration.explorer import Explorer, Found, in_a_fork
from tests.exploration.scenarios import SCENARIOS

WALKS = range(2)


@pytest.fixture
def stack(shared_stack: InProcessStack) -> Iterator[InProcessStack]:
    yield shared_stack
    shared_stack.reset()


def violations(found: Found) -> dict[str, list[str]]:
    """What does not hold, with the schedule that leads there."""
    return {sentence: schedule for sentence, (schedule, _) in found.violations.items()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_everything_holds_without_a_fault(stack: InProcessStack, name: str) -> None:
    found = Explorer(stack, SCENARIOS[name]).explore(0)

    assert (found.runs, found.violations) == (1, {})


@pytest.mark.parametrize("name", SCENARIOS)
def test_everything_holds_on_random_walks(stack: InProcessStack, name: str) -> None:
    for seed in WALKS:
        found = in_a_fork(lambda: Explorer(stack, SCENARIOS[name]).wander(seed, 3))  # noqa: B023

        assert violations(found) == {}, seed


@pytest.mark.parametrize("choice", ["unlisted", "lost", "late", "page"])
def test_everything_holds_wherever_one_of_these_happens(stack: InProcessStack, choice: str) -> None:
    found = in_a_fork(lambda: Explorer(stack, SCENARIOS["delete"], frozenset([choice])).explore(1))

    assert found.choices[choice] == found.runs + found.pruned - 1 > 0
    assert violations(found) == {}


def test_a_defect_is_found_and_its_schedule_can_be_replayed(
    stack: InProcessStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discard_key, "MAX_FRESH_STARTS", 0)
    explorer = Explorer(stack, SCENARIOS["approve"], frozenset(["late"]))

    found = in_a_fork(lambda: explorer.explore(1))

    sentence = "one fault alone turns ISSUED into FAILED"
    ((step, choice),) = (one.split("=") for one in found.violations[sentence][0])
    assert explorer.follow({int(step): [choice]}) == [sentence]


@pytest.mark.parametrize(
    "schedule", [{49: ["cancel"]}, {55: ["stop"]}], ids=["cancelled", "stopped"]
)
def test_an_end_while_the_csr_is_verified_has_evidence_that_verifies(
    stack: InProcessStack, schedule: dict[int, list[str]]
) -> None:
    assert Explorer(stack, SCENARIOS["approve"]).follow(fresh(schedule)) == []


def test_two_stacks_that_go_on_alike_are_the_same_state(stack: InProcessStack) -> None:
    first = in_a_fork(lambda: Explorer(stack, SCENARIOS["approve"]).explore(0))
    second = Explorer(stack, SCENARIOS["approve"]).explore(0)

    assert first.states.keys() == second.states.keys()
