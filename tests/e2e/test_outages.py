"""The bounded part of the outages in `make campaign`: those in which an approval is at stake."""

import pytest

from tests.campaign import outages
from tests.campaign.faults import gather_evidence, new_case, violations
from tests.e2e.case import Act, Case, Ran, Run, act

pytestmark = pytest.mark.e2e

AT_STAKE: tuple[outages.Outage, ...] = (
    outages.away_over_the_window_with_the_approval_before,
    outages.away_over_the_window_without_an_approval,
    outages.away_for_an_hour_while_the_csr_is_verified,
)


def during(outage: outages.Outage) -> Act:
    def run(case: Case) -> Run:
        own = new_case(case.stack, "outage")
        run = outage(own)
        gather_evidence(own, run)
        return run

    return act(run)


ACTS = {outage: during(outage) for outage in AT_STAKE}


@pytest.mark.parametrize("outage", AT_STAKE, ids=lambda one: one.__name__)
def test_an_outage_delays_and_decides_nothing(ran: Ran, outage: outages.Outage) -> None:
    run = ran(ACTS[outage])

    assert run.record["outcome"] == outages.OUTAGES[outage]
    assert violations(run) == []
