"""The bounded part of the faults in `make campaign`: some schedules, and what always holds."""

from collections.abc import Iterator

import pytest

from local.engine.stack import InProcessStack
from tests.campaign import faults
from tests.case import Case

SEEDS = range(1, 4)
# One for each kind of fault, each where the fewest others strike: every state is struck. And what
# befalls RequestCsr as a whole: the one state that must not do its work again.
ONE_OF_EACH_KIND = faults.one_of_each_kind()
AT_THE_REQUEST = [
    faults.Schedule((faults.at_the_state("RequestCsr", name),)) for name in faults.STATE_FAULTS
]


@pytest.fixture
def stack(shared_stack: InProcessStack) -> Iterator[InProcessStack]:
    """Without a recording: what must hold under faults is said here."""
    yield shared_stack
    shared_stack.reset()


@pytest.mark.parametrize(
    "schedule", [*ONE_OF_EACH_KIND, *AT_THE_REQUEST], ids=lambda one: str(one.faults[-1])
)
def test_what_must_hold_holds_under_each_kind_of_fault(
    stack: InProcessStack, schedule: faults.Schedule
) -> None:
    result = faults.carry_out(stack, "kind", schedule)

    assert faults.violations(result) == []
    assert result.more["spared"] == []
    assert result.record["outcome"] == "ISSUED"


@pytest.mark.parametrize("seed", SEEDS)
def test_what_must_hold_holds_under_random_faults(stack: InProcessStack, seed: int) -> None:
    result = faults.carry_out(stack, str(seed), faults.drawn(seed))

    assert faults.violations(result) == [], result.more["faults"]


@pytest.fixture(scope="module")
def calls(shared_stack: InProcessStack) -> dict[str, list[str]]:
    """The calls of AWS that each state makes; DiscardKey's are those after a lost answer."""
    listened = {}
    for is_lost in (False, True):
        case = Case(shared_stack)
        orders = {state: case.strike(state, kind="listen") for state in faults.STATES}
        if is_lost:
            case.fault("POST", "/v1/certificate/request", "drop", executed=True)
        arn = case.start(case.request())
        case.await_event("Enrollment Awaiting Approval")
        case.decide("approve")
        case.end(arn)
        listened[is_lost] = {state: order.calls for state, order in orders.items()}
        shared_stack.reset()
    return {**listened[False], "DiscardKey": listened[True]["DiscardKey"]}


@pytest.mark.parametrize("state", faults.STATES)
def test_every_call_of_aws_has_its_faults(calls: dict[str, list[str]], state: str) -> None:
    # Secrets are kept for minutes: whether one is read is chance.
    made = [call for call in calls[state] if call != "GetSecretValue"]
    known = faults.AWS_CALLS[state]

    assert made[: len(known)] == known
    assert made[len(known) :] in ([], ["UpdateItem"][: state in faults.TURNS])


def test_a_seed_gives_the_same_schedule_again() -> None:
    assert faults.drawn(7) == faults.drawn(7)
    assert len({str(faults.drawn(seed)) for seed in range(50)}) > 45


def test_every_boundary_has_its_faults() -> None:
    alone = [schedule.faults[-1] for schedule in faults.systematic()]

    assert len({fault.boundary for fault in alone}) > 25


def test_every_kind_of_fault_and_every_state_are_among_the_chosen_schedules() -> None:
    everything = [schedule.faults[-1] for schedule in faults.systematic()]
    chosen = [schedule.faults[-1] for schedule in ONE_OF_EACH_KIND]

    assert sorted(one.name for one in chosen) == sorted({one.name for one in everything})
    assert {one.state for one in chosen} == {*faults.STATES, faults.EVIDENCE}
