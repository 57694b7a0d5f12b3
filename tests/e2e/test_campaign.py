"""The bounded part of `make campaign`: some random schedules, and what holds whatever happens."""

import pytest

from tests.campaign import faults
from tests.e2e.case import Act, Case, Ran, Run, act

pytestmark = pytest.mark.e2e

SEEDS = range(1, 4)
STATES = faults.STATES


def under(seed: int) -> Act:
    def run(case: Case) -> Run:
        return faults.carry_out(faults.new_case(case.stack, str(seed)), faults.drawn(seed))

    return act(run)


SCHEDULES = {seed: under(seed) for seed in SEEDS}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_must_hold_holds_under_random_faults(ran: Ran, seed: int) -> None:
    run = ran(SCHEDULES[seed])

    assert faults.violations(run) == [], run.more["faults"]


def listened(case: Case) -> Run:
    notes = {state: case.stack.strike(state, case.id, kind="listen") for state in STATES}
    arn = case.start(case.request())
    case.await_event("Enrollment Awaiting Approval")
    case.decide("approve")
    run = case.end(arn)
    run.more["calls"] = {
        state: note.read_text().split() for state, note in notes.items() if note.exists()
    }
    return run


@act
def listened_to(case: Case) -> Run:
    return listened(case)


@act
def listened_to_with_a_lost_answer(case: Case) -> Run:
    case.fault("POST", "/v1/certificate/request", "drop", executed=True)
    return listened(case)


@pytest.mark.parametrize("state", STATES)
def test_every_call_of_aws_has_its_faults(ran: Ran, state: str) -> None:
    act = listened_to_with_a_lost_answer if state == "DiscardKey" else listened_to
    # Secrets are kept for minutes: whether one is read is chance.
    made = [call for call in ran(act).more["calls"][state] if call != "GetSecretValue"]
    known = faults.AWS_CALLS[state]

    assert made[: len(known)] == known
    assert made[len(known) :] in ([], ["UpdateItem"][: state in faults.TURNS])


def test_a_seed_gives_the_same_schedule_again() -> None:
    assert faults.drawn(7) == faults.drawn(7)
    assert len({str(faults.drawn(seed)) for seed in range(50)}) > 45


def test_every_boundary_has_its_faults() -> None:
    alone = [schedule.faults[-1] for schedule in faults.systematic()]

    assert len({fault.boundary for fault in alone}) > 25
