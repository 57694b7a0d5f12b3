"""CloudWatch's alarms, as AWS describes them, over series that a test has.

- An alarm is evaluated each minute over a window that slides with it; one that looks back for more
  than a day, once an hour.
  https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation-window.html
- What is missing is looked for further back first, and only then treated as the alarm says. AWS
  does not say how far back, so each alarm is evaluated for two ranges, and a test asks both.
  https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
- Metric math: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

import json
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.expanded import expanded

# Periods that CloudWatch looks back beyond EvaluationPeriods: those of AWS's tables, and more.
BEYOND = (2, 5)
DAY = 86_400

type Json = dict[str, Any]
type Key = tuple[str, str, frozenset[tuple[str, str]]]  # namespace, name, dimensions
type Value = float | None

STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "Sum": sum,
    "Maximum": max,
    "Minimum": min,
    "SampleCount": len,
}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
}


@dataclass
class Series:
    """Values by metric and time, in seconds since 1970."""

    points: dict[Key, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def put(self, key: Key, moment: float, value: float) -> None:
        """Add one value; those of a metric come in the order of time."""
        self.points[key].append((moment, value))

    def put_line(self, line: str) -> None:
        """Add what a function's log line says in the embedded metric format, if it does."""
        found = json.loads(line) if line.startswith("{") else {}
        for one in found.get("_aws", {}).get("CloudWatchMetrics", ()):
            for metric in one["Metrics"]:
                for names in one["Dimensions"]:
                    key = one["Namespace"], metric["Name"], frozenset((n, found[n]) for n in names)
                    for value in found[metric["Name"]]:
                        self.put(key, found["_aws"]["Timestamp"] / 1_000, value)

    def value(self, key: Key, statistic: str, begin: float, end: float) -> Value:
        """The statistic of a metric from `begin` until before `end`; None without any value."""
        points = self.points.get(key, [])
        first, last = (bisect_left(points, (moment, float("-inf"))) for moment in (begin, end))
        values = [value for _, value in points[first:last]]
        return STATISTICS[statistic](values) if values else None


class Alarm:
    """One alarm of the template.

    Args:
        properties: as CloudFormation gets them, references resolved.
    """

    def __init__(self, properties: Json) -> None:
        self._properties = properties
        self._metrics: dict[str, tuple[Key, str]] = {}
        self.period: int = 0
        expression = "m"
        if "MetricName" in properties:
            self._metrics["m"] = (_key(properties), properties["Statistic"])
            self.period = properties["Period"]
        for one in properties.get("Metrics", ()):
            if "Expression" in one:
                expression = _python(one["Expression"])
            else:
                self._metrics[one["Id"]] = (
                    _key(one["MetricStat"]["Metric"]),
                    one["MetricStat"]["Stat"],
                )
                self.period = one["MetricStat"]["Period"]
        self._expression = compile(expression, "an alarm", "eval")
        self.periods: int = properties["EvaluationPeriods"]
        self.needed: int = int(properties.get("DatapointsToAlarm") or self.periods)

    @property
    def reads(self) -> list[Key]:
        """The metrics that it reads."""
        return [key for key, _ in self._metrics.values()]

    def states(self, series: Series, now: float, visible: float | None = None) -> list[bool]:
        """Whether it is in ALARM when it is evaluated now, for each of the ranges in `BEYOND`.

        Args:
            series: what it reads.
            now: the end of its window.
            visible: values since then cannot be seen yet.
        """
        if self.period * self.periods > DAY:
            now -= now % 3_600
        seen = now if visible is None else min(visible, now)
        values = [
            self._value(
                series, now - (number + 1) * self.period, min(now - number * self.period, seen)
            )
            for number in range(self.periods + max(BEYOND))
        ]
        breaching = [None if one is None else self._breaches(one) for one in values]
        return [self.judges(breaching[: self.periods + number]) for number in BEYOND]

    def judges(self, breaching: list[bool | None]) -> bool:
        """Whether these data points, the newest first, lead to ALARM; None is missing."""
        known = [one for one in breaching if one is not None][: self.periods]
        if None not in breaching[: self.periods]:
            known = [bool(one) for one in breaching[: self.periods]]
        filled = self._properties["TreatMissingData"] == "breaching"
        known += [filled] * (self.periods - len(known))
        return sum(known) >= self.needed

    def _breaches(self, value: float) -> bool:
        compare = COMPARISONS[self._properties["ComparisonOperator"]]
        return compare(value, float(self._properties["Threshold"]))

    def _value(self, series: Series, begin: float, end: float) -> Value:
        known = {
            name: series.value(key, statistic, begin, end)
            for name, (key, statistic) in self._metrics.items()
        }
        value: Value = eval(self._expression, {"FILL": _fill, "IF": _if}, known)  # noqa: S307
        return value


def alarms(resolve: Callable[[Any], Any]) -> dict[str, Alarm]:
    """The alarms of the template by their logical id, without `Alarm`.

    Args:
        resolve: puts names in the place of references.
    """
    return {
        name.removesuffix("Alarm"): Alarm(resolve(one["Properties"]))
        for name, one in expanded()["Resources"].items()
        if one["Type"] == "AWS::CloudWatch::Alarm"
    }


def on(known: dict[str, Alarm], series: Series, now: float, *, visible: float) -> dict[str, bool]:
    """The alarms in ALARM for one range at least, and whether they are for all of them."""
    found = {name: alarm.states(series, now, visible) for name, alarm in known.items()}
    return {name: all(states) for name, states in found.items() if any(states)}


def _key(metric: Json) -> Key:
    dimensions = frozenset((one["Name"], one["Value"]) for one in metric["Dimensions"])
    return metric["Namespace"], metric["MetricName"], dimensions


def _python(expression: str) -> str:
    """Metric math as Python: only what our alarms use."""
    assert not re.search(r"[^\w\s(),<>=+]", expression), expression
    return re.sub(r"\bOR\b", "or", re.sub(r"\bAND\b", "and", expression))


def _fill(value: Value, otherwise: float) -> float:
    return otherwise if value is None else value


def _if(condition: bool, yes: float, no: float) -> float:  # noqa: FBT001
    return yes if condition else no
