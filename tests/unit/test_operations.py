"""The operator's page names everything that an operator can meet."""

import json
import re
from collections import Counter
from typing import Any

import pytest

from countersign.errors import CountersignError
from local.tsb_simulator.errors import CODES
from tests.unit.test_template import RESOURCES, ROOT, TEMPLATE, of

PAGE = (ROOT / "docs/operations.md").read_text()
STATES = json.loads((ROOT / "statemachine/enrollment.asl.json").read_text())["States"]
ALARMS = of("AWS::CloudWatch::Alarm")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """The table of a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_error_name_says_what_happened_what_was_kept_and_what_to_do() -> None:
    listed = {name for row in rows("Error names") for name in re.findall(r"`([\w.]+)`", row[0])}
    caught = {
        name
        for state in STATES.values()
        for rule in (*state.get("Retry", ()), *state.get("Catch", ()))
        for name in rule["ErrorEquals"]
    }
    ours = {error.__name__ for error in CountersignError.__subclasses__()}

    assert (ours | caught) - {"States.ALL"} <= listed
    assert all(len(row) == 4 and all(row) for row in rows("Error names"))


def test_every_alarm_has_three_steps() -> None:
    listed = {re.findall(r"`(\w+)`", row[0])[0]: row[1:] for row in rows("Alarms")}

    assert set(listed) == set(ALARMS)
    assert all(len(steps) == 3 and all(steps) for steps in listed.values())


def test_a_request_that_could_not_be_started_is_started_as_itself_not_put_again() -> None:
    # An event that is put has an id of its own, and the enrollment's id is made of it.
    (row,) = [row for row in rows("Alarms") if "`RequestsDeadLetterAlarm`" in row[0]]
    (line,) = re.findall(
        r"^- `RequestsDeadLetterQueue`.*\n.*", section("Dead letters"), re.MULTILINE
    )

    for text in (row[3], line):
        assert "(triggers.md#what-could-not-be-started)" in text
    assert "\n## What could not be started\n" in (ROOT / "docs/triggers.md").read_text()


def test_every_code_of_the_tsb_says_what_to_do_once() -> None:
    codes = [int(code) for row in rows("TSB's codes") for code in re.findall(r"\d+", row[0])]

    assert sorted(codes) == sorted(CODES)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_is_heard_where_a_topic_is_given(name: str) -> None:
    assert ALARMS[name]["AlarmActions"]["Fn::If"][0] == "AlarmsAreHeard"
    assert ALARMS[name]["AlarmDescription"]
    assert ALARMS[name]["TreatMissingData"]


POLL_CAP = int(TEMPLATE["Parameters"]["PollCapSeconds"]["Default"])


def retries(state: str, error: str) -> list[int]:
    """When a state that fails with an error fails again, in seconds after the first time."""
    (rule,) = (one for one in STATES[state]["Retry"] if error in one["ErrorEquals"])
    moments = [0]
    for number in range(20):
        wait = rule["IntervalSeconds"] * rule["BackoffRate"] ** number
        moments.append(moments[-1] + min(wait, rule["MaxDelaySeconds"]))
    return moments


def fires(alarm: dict[str, Any], moments: list[int]) -> bool:
    """Whether one error at each of these moments sets off an alarm that counts errors."""
    period = alarm.get("Period") or alarm["Metrics"][0]["MetricStat"]["Period"]
    errors = Counter(moment // period for moment in moments)
    breaching = {one for one, count in errors.items() if count > alarm["Threshold"]}
    needed, among = alarm.get("DatapointsToAlarm", 1), alarm["EvaluationPeriods"]
    return any(
        sum(first + later in breaching for later in range(among)) >= needed for first in breaching
    )


@pytest.mark.parametrize("name", ["TsbUnreachableAlarm", "TsbSilentAlarm", "ApprovedWaitingAlarm"])
def test_one_enrollment_alone_is_enough_to_hear_of_a_fault_that_lasts(name: str) -> None:
    # What is old is polled at the cap, and each poll takes its time.
    polls = [number * (POLL_CAP + 30) for number in range(8)]

    assert fires(ALARMS[name], polls)
    assert fires(ALARMS[name], retries("StoreCsr", "TsbUnavailableError"))
    assert not fires(ALARMS[name], [0, 30])


def test_the_dashboard_shows_every_alarm_and_is_json() -> None:
    text = of("AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"]["Fn::Sub"]
    body = json.loads(text)

    always = {name for name in ALARMS if "Condition" not in RESOURCES[name]}

    assert set(re.findall(r"\$\{(\w+)\.Arn\}", text)) == always
    for widget in body["widgets"]:
        assert widget["x"] + widget["width"] <= 24


def test_alarms_and_dashboard_read_metrics_that_are_emitted() -> None:
    emitted = set(
        re.findall(
            r'_emit\(\s*"(\w+)"', (ROOT / "layers/core/countersign/aws/metrics.py").read_text()
        )
    ) | {"TimeToQuorum", "ExecutedToIssued"}
    dashboard = of("AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"]["Fn::Sub"]
    read = {
        one["MetricName"] for one in ALARMS.values() if one.get("Namespace") == "Countersign"
    } | {
        metric["MetricStat"]["Metric"]["MetricName"]
        for one in ALARMS.values()
        for metric in one.get("Metrics", ())
        if metric.get("MetricStat", {}).get("Metric", {}).get("Namespace") == "Countersign"
    }

    assert read <= emitted
    for name in emitted - {"EnrollmentFailures", "CertificateDaysLeft", "PollsDue"}:
        assert name in dashboard
