"""The bounded part of the outages in `make campaign`: those in which an approval is at stake."""

from collections.abc import Iterator

import pytest

from local.engine.stack import InProcessStack
from tests.campaign import outages

AT_STAKE: tuple[outages.Outage, ...] = (
    outages.away_over_the_window_with_the_approval_before,
    outages.away_over_the_window_without_an_approval,
    outages.away_for_an_hour_while_the_csr_is_verified,
)


@pytest.fixture
def stack(shared_stack: InProcessStack) -> Iterator[InProcessStack]:
    """Without a recording: what must hold under faults is said here."""
    shared_stack.configure(**outages.AS_DEPLOYED)
    yield shared_stack
    shared_stack.reset()


@pytest.mark.parametrize("outage", AT_STAKE, ids=lambda one: one.__name__)
def test_an_outage_delays_and_decides_nothing(
    stack: InProcessStack, outage: outages.Outage
) -> None:
    result = outages.carry_out(stack, outage)

    assert result.record["outcome"] == outages.OUTAGES[outage]
    assert outages.broken(outage, result) == []
