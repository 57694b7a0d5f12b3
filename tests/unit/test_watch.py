"""What the operator's alarms rest on: the sighting, and the metrics in the log."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from countersign import models as m
from countersign import settings
from countersign.aws import clients, metrics
from countersign.aws.records import Records
from countersign.policy.certificates import expiries
from countersign.policy.directory import Directory
from countersign.polling import Schedule
from countersign.record import Record, StepTimes
from countersign.stores import Sighting
from countersign.tsb.models import Exchange, Role, Tls
from countersign.watch import watch_enrollments
from local.approver import Approver
from tests.unit.test_template import of

HOUR = timedelta(hours=1)
PACE = Schedule(window_seconds=0, timelock_seconds=0)

type Json = dict[str, Any]


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    clients.client.cache_clear()
    with mock_aws():
        properties = of("AWS::DynamoDB::Table")["EnrollmentsTable"]
        boto3.client("dynamodb").create_table(
            TableName="table",
            **{
                name: properties[name]
                for name in (
                    "BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes"
                )
            },
        )  # fmt: skip
        yield Records("table")
    clients.client.cache_clear()


def put(records: Records, name: str, accepted: timedelta, **more: Any) -> None:
    """An enrollment that was accepted so long ago."""
    moment = m.timestamp(datetime.now(UTC) - accepted)
    records.put(
        {
            "id": name,
            "status": "PENDING",
            "stage": "PollRequest",
            "acceptedAt": moment,
            "times": {"accepted": moment},
            **more,
        }
    )


def requested(ago: timedelta, window: timedelta | None) -> Json:
    """The times of a request to approvers."""
    return {
        "steps": {
            "csr": {
                "times": {
                    "requested": m.timestamp(datetime.now(UTC) - ago),
                    "windowEnds": m.timestamp(datetime.now(UTC) - ago + window) if window else None,
                }
            }
        },
    }


def certificate(days: int) -> str:
    return Approver.generate("somebody", "ec").certificate(days)


def poll(
    records: Records,
    tls: Tls | None = None,
    polling_settings: Schedule = PACE,
    directory: Directory | None = None,
) -> Sighting:
    return watch_enrollments(
        records=records,
        tls=tls or Tls(),
        polling_settings=polling_settings,
        directory=directory or Directory(),
    )


def test_open_enrollments_are_counted_and_ended_ones_are_not(records: Records) -> None:
    put(records, "young", HOUR / 60)
    put(records, "old", 3 * HOUR, **requested(2 * HOUR, 24 * HOUR))
    put(records, "starting", HOUR, stage="CreateKey")
    put(records, "cancelled by somebody", HOUR, status="CANCELLING")
    put(records, "ended", 9 * HOUR, status="ISSUED", outcome="ISSUED")

    seen = poll(records)

    assert seen.pending == 4
    assert 3 * 3600 <= seen.oldest_seconds < 3 * 3600 + 60
    assert not seen.overdue


def test_what_should_have_ended_is_overdue_with_its_reason(records: Records) -> None:
    day = 24 * HOUR
    put(records, "within silence", 40 * HOUR, **requested(30 * HOUR, 10 * HOUR))
    put(records, "forgotten", 40 * HOUR, **requested(36 * HOUR, 10 * HOUR))
    put(records, "no limit", 20 * day, **requested(20 * day, None))
    put(records, "no limit, forgotten", 40 * day, **requested(40 * day, None))
    put(records, "never asked", 3 * HOUR, stage="RequestCsr")

    overdue = poll(records).overdue

    assert set(overdue) == {"forgotten", "no limit, forgotten", "never asked"}
    assert overdue["forgotten"] == "its window and the silence after it are over, in PollRequest"
    assert overdue["never asked"] == "still in RequestCsr, nobody was asked"


def test_looks_are_due_where_the_longest_wait_is_an_hour_at_most(records: Records) -> None:
    put(records, "just asked", HOUR / 2, **requested(HOUR / 2, 24 * HOUR))
    put(records, "asked", 2 * HOUR, **requested(2 * HOUR, 24 * HOUR))
    put(records, "a year", 2 * HOUR, **requested(2 * HOUR, 365 * 24 * HOUR))

    assert poll(records).polls_due == 1
    assert poll(records, polling_settings=replace(PACE, cap_seconds=3601)).polls_due == 0


def test_the_days_that_certificates_have_left_are_seen(records: Records) -> None:
    soon, later = certificate(5), certificate(300)
    approvals = [{"type": "certificate", "value": one} for one in (later, soon)]
    request = {"key": {"policy": {"ruleUse": {"tokens": [{"groups": [{"approvals": approvals}]}]}}}}
    put(records, "x", HOUR, request=request, **requested(HOUR, 24 * HOUR))
    pem = f"-----BEGIN CERTIFICATE-----\n{later}\n-----END CERTIFICATE-----\n"

    seen = poll(records, Tls(ca_bundle=pem, certificate="nonsense"))

    assert 4 < seen.expiring_days["approver"] <= 5
    assert 299 < seen.expiring_days["ca"] <= 300
    assert "client" not in seen.expiring_days
    assert expiries("") == []


def test_the_days_that_people_of_the_directory_have_left_are_seen(records: Records) -> None:
    old = {"certificate": certificate(2), "validFrom": "2025-01-01"}
    new = {"certificate": certificate(40), "validFrom": "2026-01-01"}
    endless, leaving, lapsed = (
        {"publicKey": Approver.generate("x", "ec").spki, "validFrom": "2026-01-01", "validTo": ends}
        for ends in (None, f"{datetime.now(UTC) + 20 * 24 * HOUR:%Y-%m-%d}", "2026-01-02")
    )

    def left(*keys: Json) -> float | None:
        people = [{"name": "Ada", "contact": "x", "keys": keys}]
        seen = poll(records, directory=Directory.read({"people": people}))
        return seen.expiring_days.get("approver")

    assert left(old, new) == pytest.approx(40, abs=0.01)
    assert left(leaving) == pytest.approx(20.5, abs=0.51)
    assert left(leaving, lapsed) == pytest.approx(20.5, abs=0.51)
    assert left(lapsed) is None  # gone, as everybody knows
    assert left(leaving, endless) is None


# Metrics ------------------------------------------------------------------------------------------


@pytest.fixture
def lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[list[Json]]:
    """What was emitted, filled in when the test asks."""
    monkeypatch.setenv("STACK_NAME", "acme")
    settings.settings.cache_clear()

    class Lines(list[Json]):
        def read(self) -> "Lines":
            self[:] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
            return self

    yield Lines()
    settings.settings.cache_clear()


def read(lines: Any) -> dict[str, Json]:
    """By name of the metric, its line; the last one where there are several."""
    return {one["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"]: one for one in lines.read()}


def dimensions(line: Json) -> list[set[str]]:
    (told,) = line["_aws"]["CloudWatchMetrics"]
    assert told["Namespace"] == "Countersign"
    return [set(one) for one in told["Dimensions"]]


def test_a_call_is_told_by_endpoint_error_and_code(lines: list[Json]) -> None:
    metrics.tsb_call(
        Exchange(
            "GET /v1/request/{id}",
            Role.KEY_OPERATION,
            12.5,
            401,
            "TsbCredentialsError",
            631,
            rejected_key=True,
        )
    )

    told = read(lines)

    assert told["TsbLatency"]["TsbLatency"] == [12.5]
    assert told["TsbLatency"]["Endpoint"] == "GET /v1/request/{id}"
    assert {"service", "Error", "ErrorCode"} in dimensions(told["TsbErrors"])
    assert {"service", "Error"} in dimensions(told["TsbErrors"])
    assert told["TsbErrors"]["ErrorCode"] == "631"
    assert told["TsbKeysRejected"]["Role"] == "keyOperation"
    assert all(one["service"] == "acme" for one in told.values())


def test_an_end_is_told_by_outcome_with_the_times_that_it_took(lines: list[Json]) -> None:
    times: StepTimes = {"requested": "2026-11-24T10:00:00Z", "executed": "2026-11-24T11:00:00Z"}
    record: Record = {
        "times": {"ended": "2026-11-24T11:00:30Z"},
        "steps": {"csr": {"times": times}},
    }
    metrics.closed(m.OutcomeDocument(enrollment_id="x", outcome=m.Outcome.ISSUED), record)

    told = read(lines)

    assert told["Enrollments"]["Outcome"] == "ISSUED"
    assert told["TimeToQuorum"]["TimeToQuorum"] == [3600]
    assert told["ExecutedToIssued"]["ExecutedToIssued"] == [30]
    assert "EnrollmentFailures" not in told


def test_a_failure_is_told_by_error(lines: list[Json]) -> None:
    failure = m.Failure(name="CsrInvalidError", state="StoreCsr", message="x", action="y")
    metrics.closed(
        m.OutcomeDocument(enrollment_id="x", outcome=m.Outcome.FAILED, error=failure), {}
    )

    told = read(lines)

    assert told["EnrollmentFailures"]["Error"] == "CsrInvalidError"
    assert told["Enrollments"]["Outcome"] == "FAILED"


def test_a_sighting_names_what_is_overdue_and_says_zero_where_nothing_is(lines: list[Json]) -> None:
    metrics.sighting(Sighting(pending=2, overdue={"stuck": "because"}))

    told = read(lines)

    assert told["Pending"]["Pending"] == [2]
    assert told["Overdue"]["enrollment_id"] == "stuck"
    assert told["Overdue"]["why"] == "because"
    assert told["PollsDue"]["PollsDue"] == [0]
