"""The alarms' evaluator says what AWS's tables of missing data say."""

import pytest

from tests.cloudwatch import Alarm, Series

PROPERTIES = {
    "Namespace": "n",
    "MetricName": "m",
    "Dimensions": [],
    "Statistic": "Maximum",
    "Period": 60,
    "EvaluationPeriods": 3,
    "ComparisonOperator": "GreaterThanThreshold",
    "Threshold": 0,
}
KEY = ("n", "m", frozenset[tuple[str, str]]())


def is_on(points: str, needed: int, missing: str) -> bool:
    """Points as AWS writes them, the newest last: 0 within the threshold, X beyond, - missing."""
    alarm = Alarm({**PROPERTIES, "DatapointsToAlarm": needed, "TreatMissingData": missing})
    series = Series()
    for minute, one in enumerate(points.split()):
        if one != "-":
            series.put(KEY, 60 * minute + 1, float(one == "X"))
    return alarm.states(series, 60 * len(points.split()))[0]


@pytest.mark.parametrize(
    ("points", "needed", "breaching", "not_breaching"),
    [
        ("0 - X - X", 3, False, False),
        ("- - - - 0", 3, False, False),
        ("- - - - -", 3, True, False),
        ("0 X X - X", 3, True, True),
        ("- - X - -", 3, True, False),
        ("0 - X - X", 2, True, True),
        ("0 0 X 0 X", 2, True, True),
        ("0 - X - -", 2, True, False),
        ("- - - - 0", 2, True, False),
        ("- - - - X", 2, True, False),
    ],
)
def test_missing_points_are_treated_as_in_the_tables_of_aws(
    points: str, needed: int, breaching: bool, not_breaching: bool
) -> None:
    assert is_on(points, needed, "breaching") == breaching
    assert is_on(points, needed, "notBreaching") == not_breaching


def test_an_expression_fills_what_is_missing_and_looks_no_further_back() -> None:
    metric = {"Namespace": "n", "MetricName": "m", "Dimensions": []}
    alarm = Alarm(
        {
            **{name: PROPERTIES[name] for name in ("ComparisonOperator", "Threshold")},
            "Metrics": [
                {"Id": "seen", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}},
                {"Id": "silent", "Expression": "IF(FILL(seen, 0) < 1 AND 1 > 0, 1, 0)"},
            ],
            "EvaluationPeriods": 2,
            "TreatMissingData": "notBreaching",
        }
    )
    series = Series()
    series.put(KEY, 30, 1)

    assert not any(alarm.states(series, 60))
    assert not any(alarm.states(series, 120))
    assert all(alarm.states(series, 180))
