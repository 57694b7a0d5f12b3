"""How far a clock is off, by what it shows between two moments of ours."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.aws import metrics
from countersign.clocks import skew_seconds
from countersign.models import OutcomeDocument
from countersign.record import Record

BEGUN = datetime(2027, 1, 15, 12, 0, 0, 600_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("shown", "skew"),
    [
        (0, 0),
        (-0.6, 0),
        (2, 0),
        (2.4, 0),
        (3.4, 1),
        (90.4, 88),
        (-1.6, -1),
        (-2.6, -2),
        (-90.6, -90),
    ],
)
def test_what_a_clock_shows_between_two_moments(shown: float, skew: int) -> None:
    said = BEGUN + timedelta(seconds=shown)

    assert skew_seconds(said, after=BEGUN, before=BEGUN + timedelta(seconds=2.5)) == skew


@given(st.integers(-100_000, 100_000), st.floats(0, 30), st.floats(0, 1))
def test_a_clock_is_never_said_to_be_further_off_than_it_is(
    off: int, took: float, share: float
) -> None:
    at = BEGUN + timedelta(seconds=took * share)
    said = (at + timedelta(seconds=off)).replace(microsecond=0)
    skew = skew_seconds(said, after=BEGUN, before=BEGUN + timedelta(seconds=took))

    assert abs(skew) <= abs(off) + 1
    assert abs(off - skew) <= took + 2
    assert skew == 0 or (skew < 0) == (off < 0)


@pytest.mark.filterwarnings("ignore:Dimension service has empty name")  # no stack has a name here
def test_how_long_people_took_is_measured_by_one_clock(capsys: pytest.CaptureFixture[str]) -> None:
    times = {"requested": "2026-11-24T10:00:00Z", "executed": "2026-11-24T10:00:10Z"}
    record: Record = {
        "clockSkewSeconds": -90,
        "steps": {"csr": {"times": times}},  # type: ignore[typeddict-item]
        "times": {"ended": "2026-11-24T10:02:00Z"},
    }
    metrics.closed(OutcomeDocument(enrollment_id="web-1", outcome=None), record)

    said = capsys.readouterr().out
    assert '"TimeToQuorum":[100.0]' in said
    assert '"ExecutedToIssued":[20.0]' in said
