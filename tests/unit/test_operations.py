"""The operator's page names everything that an operator can meet."""

import json
import re

import pytest

from countersign.errors import CountersignError
from local.tsb_simulator.errors import CODES
from tests.unit.test_template import RESOURCES, ROOT, of

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


def test_every_alarm_has_its_time_and_three_steps() -> None:
    listed = {re.findall(r"`(\w+)`", row[0])[0]: row[1:] for row in rows("Alarms")}

    assert set(listed) == set(ALARMS)
    assert all(len(steps) == 4 and all(steps) for steps in listed.values())


def test_a_request_that_could_not_be_started_is_started_as_itself_not_put_again() -> None:
    # An event that is put has an id of its own, and the enrollment's id is made of it.
    (row,) = [row for row in rows("Alarms") if "`RequestsDeadLetterAlarm`" in row[0]]
    (line,) = re.findall(
        r"^- `RequestsDeadLetterQueue`.*\n.*", section("Dead letters"), re.MULTILINE
    )

    for text in (row[4], line):
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


def test_the_dashboard_shows_every_alarm_and_is_json() -> None:
    text = of("AWS::CloudWatch::Dashboard")["OperatorsDashboard"]["DashboardBody"]["Fn::Sub"]
    body = json.loads(text)

    always = {name for name in ALARMS if "Condition" not in RESOURCES[name]}

    assert set(re.findall(r"\$\{(\w+)\.Arn\}", text)) == always
    for widget in body["widgets"]:
        assert widget["x"] + widget["width"] <= 24


def test_alarms_and_dashboard_read_metrics_that_are_emitted() -> None:
    source = (ROOT / "layers/core/countersign/aws/metrics.py").read_text()
    emitted = set(re.findall(r'\("(\w+)", (?:MetricUnit|seen|"\w+", "\w+")', source))
    dashboard = of("AWS::CloudWatch::Dashboard")["OperatorsDashboard"]["DashboardBody"]["Fn::Sub"]
    read = {
        one["MetricName"] for one in ALARMS.values() if one.get("Namespace") == "Countersign"
    } | {
        metric["MetricStat"]["Metric"]["MetricName"]
        for one in ALARMS.values()
        for metric in one.get("Metrics", ())
        if metric.get("MetricStat", {}).get("Metric", {}).get("Namespace") == "Countersign"
    }

    assert read <= emitted
    for name in emitted - {"EnrollmentFailures", "CertificateDaysLeft"}:
        assert name in dashboard
