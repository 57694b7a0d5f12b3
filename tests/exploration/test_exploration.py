"""The bounded part of the exploration; `python -m tests.exploration` does all of it."""

from collections.abc import Iterator

import pytest

from countersign.states import discard_key
from local.engine.stack import InProcessStack
from tests.case import fresh
from tests.exploration.explorer import Explorer, Found, in_a_fork
from tests.exploration.known import KNOWN
from tests.exploration.scenarios import SCENARIOS

WALKS = range(2)


@pytest.fixture
def stack(shared_stack: InProcessStack) -> Iterator[InProcessStack]:
    yield shared_stack
    shared_stack.reset()


def unexpected(found: Found) -> dict[str, list[str]]:
    """What does not hold and nobody knows of, with the schedule that leads there."""
    return {
        sentence: schedule
        for sentence, (schedule, _) in found.violations.items()
        if sentence not in KNOWN
    }


@pytest.mark.parametrize("name", SCENARIOS)
def test_everything_holds_without_a_fault(stack: InProcessStack, name: str) -> None:
    found = Explorer(stack, SCENARIOS[name]).explore(0)

    assert (found.runs, found.violations) == (1, {})


@pytest.mark.parametrize("name", SCENARIOS)
def test_everything_holds_on_random_walks(stack: InProcessStack, name: str) -> None:
    for seed in WALKS:
        found = in_a_fork(lambda: Explorer(stack, SCENARIOS[name]).wander(seed, 3, 120))  # noqa: B023

        assert unexpected(found) == {}, seed


@pytest.mark.parametrize("choice", ["unlisted", "lost", "late", "page"])
def test_everything_holds_wherever_one_of_these_happens(stack: InProcessStack, choice: str) -> None:
    found = in_a_fork(lambda: Explorer(stack, SCENARIOS["delete"], frozenset([choice])).explore(1))

    assert found.choices[choice] == found.runs + found.pruned - 1 > 0
    assert unexpected(found) == {}


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
    "sentence",
    [
        pytest.param(sentence, marks=pytest.mark.xfail(strict=True, reason=known.owner))
        for sentence, known in KNOWN.items()
    ],
)
def test_what_is_known_not_to_hold_holds(stack: InProcessStack, sentence: str) -> None:
    known = KNOWN[sentence]

    found = Explorer(stack, SCENARIOS[known.scenario]).follow(fresh(known.schedule))

    assert sentence not in found


def test_two_stacks_that_go_on_alike_are_the_same_state(stack: InProcessStack) -> None:
    first = in_a_fork(lambda: Explorer(stack, SCENARIOS["approve"]).explore(0))
    second = Explorer(stack, SCENARIOS["approve"]).explore(0)

    assert first.states.keys() == second.states.keys()
