"""What the operator's alarms rest on: the sighting, and the metrics in the log."""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from countersign import models as m
from countersign import settings
from countersign.aws import metrics
from countersign.aws.records import Records
from countersign.errors import (
    AwsCallError,
    CountersignError,
    TsbCredentialsError,
    TsbOutcomeUnknownError,
    TsbUnavailableError,
)
from countersign.policy.certificates import expiries
from countersign.policy.directory import Directory
from countersign.polling import Schedule
from countersign.record import Record, StepTimes
from countersign.stores import Run, Sighting
from countersign.tsb.models import Exchange, RequestStatus, Role, Tls
from countersign.waits import Ask, Wake, wake_the_decided
from countersign.watch import tls_days_left, watch_enrollments
from local.approver import Approver

HOUR = timedelta(hours=1)
PACE = Schedule(window_seconds=0, timelock_seconds=0)

type Json = dict[str, Any]


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


def put_wait(records: Records, name: str, ago: timedelta, failing: str = "") -> None:
    """The wait of an enrollment, which began so long ago."""
    since = m.timestamp(datetime.now(UTC) - ago)
    names = {"enrollmentId": name, "requestId": "x", "token": "x", "seen": "x", "failing": failing}
    records.put({"id": f"wait#{name}", "waiting": "yes", "since": since, **names})


def requested(ago: timedelta, window: timedelta | None, status: str | None = None) -> Json:
    """The times of a request to approvers, and TSB's word on it."""
    return {
        "steps": {
            "csr": {
                **({"status": status} if status else {}),
                "times": {
                    **({"nextPoll": m.timestamp(datetime.now(UTC) - ago + HOUR)} if status else {}),
                    "requested": m.timestamp(datetime.now(UTC) - ago),
                    "windowEnds": m.timestamp(datetime.now(UTC) - ago + window) if window else None,
                },
            }
        },
    }


def certificate(days: int) -> str:
    return Approver.generate("somebody", "ec").certificate(days)


def poll(
    records: Records,
    polling_settings: Schedule = PACE,
    directory: Directory | None = None,
) -> Sighting:
    (seen,) = sightings(records, None, polling_settings, directory)
    return seen


def sightings(
    records: Records,
    scheduled: str | None,
    polling_settings: Schedule = PACE,
    directory: Directory | None = None,
) -> list[Sighting]:
    found: list[Sighting] = []
    watch_enrollments(
        scheduled=scheduled,
        records=records,
        polling_settings=polling_settings,
        directory=lambda: directory or Directory(),
        report=found.append,
        fractions=lambda _: (),
    )
    return found


def test_it_looks_at_everything_each_fifth_minute_and_when_somebody_asks(records: Records) -> None:
    minutes = [f"2026-11-27T03:{minute:02}:37Z" for minute in range(60)]

    assert [len(sightings(records, one)) for one in minutes] == [1, 0, 0, 0, 0] * 12
    assert len(sightings(records, None)) == 1


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
    put(records, "just ended", 2 * HOUR, **requested(HOUR * 1.4, day, "REJECTED"))
    put(records, "not closed", 2 * HOUR, **requested(HOUR * 1.6, day, "REJECTED"))
    cancel = {"by": "Ada", "at": m.timestamp(datetime.now(UTC) - 3 * HOUR)}
    put(records, "not cancelled", 9 * HOUR, status="CANCELLING", cancel=cancel)

    overdue = poll(records).overdue

    assert set(overdue) == {
        "forgotten",
        "no limit, forgotten",
        "never asked",
        "not closed",
        "not cancelled",
    }
    assert overdue["not closed"].startswith("REJECTED at the TSB since")
    assert overdue["forgotten"] == "its window and the silence after it are over, in PollRequest"
    assert overdue["never asked"] == "still in RequestCsr, nobody was asked"


def test_open_requests_that_nobody_can_wake_are_counted(records: Records) -> None:
    day = 24 * HOUR
    put(records, "not asked", HOUR)
    put(records, "just asked", HOUR / 6, **requested(HOUR / 6, day))
    put(records, "approved", 3 * HOUR, **requested(3 * HOUR, day, "EXECUTED"))
    for name in ("waits", "waited too long", "waits without a token", "waits at the cap"):
        put(records, name, 10 * HOUR, **requested(10 * HOUR, day))
    put_wait(records, "waits", 2 * HOUR)
    put_wait(records, "waits at the cap", 4.4 * HOUR)
    put_wait(records, "waited too long", 4.6 * HOUR)
    put(records, "young", HOUR, **requested(HOUR, day))
    put_wait(records, "young", HOUR * 0.8)  # waited for twelve minutes then

    assert set(poll(records).unattended) == {"waits without a token", "waited too long", "young"}


def test_a_timelock_and_polls_that_fail_are_waited_for_as_the_execution_does(
    records: Records,
) -> None:
    tokens = [{"name": "x", "timelock": 30 * 3_600, "timeout": 50 * 3_600, "groups": []}]
    put(records, "locked", 3 * HOUR, policy={"tokens": tokens}, **requested(3 * HOUR, 50 * HOUR))
    put(records, "fails", 3 * HOUR, **requested(3 * HOUR, 50 * HOUR))
    since = m.timestamp(datetime.now(UTC) - HOUR / 2)
    for name, failing in (
        ("locked", ""),
        ("fails", json.dumps({"since": since, "error": "ImportError"})),
    ):
        put_wait(records, name, 2.9 * HOUR, failing)

    seen = poll(records)

    assert not seen.unattended
    assert not seen.overdue


def test_polls_that_have_failed_for_an_hour_are_named_with_their_error(records: Records) -> None:
    for name, since in (("short", 0.9 * HOUR), ("long", 1.1 * HOUR)):
        put(records, name, 3 * HOUR, **requested(3 * HOUR, 50 * HOUR))
        began = m.timestamp(datetime.now(UTC) - since)
        put_wait(records, name, HOUR / 2, json.dumps({"since": began, "error": "ImportError"}))

    (why,) = poll(records).overdue.items()

    assert why[0] == "long"
    assert why[1].startswith("its polls have failed since")
    assert why[1].endswith("with ImportError")


def test_the_days_that_certificates_have_left_are_seen(records: Records) -> None:
    soon, later = certificate(5), certificate(300)
    approvals = [{"type": "certificate", "value": one} for one in (later, soon)]
    request = {"key": {"policy": {"ruleUse": {"tokens": [{"groups": [{"approvals": approvals}]}]}}}}
    put(records, "x", HOUR, request=request, **requested(HOUR, 24 * HOUR))
    pem = f"-----BEGIN CERTIFICATE-----\n{later}\n-----END CERTIFICATE-----\n"

    ours = tls_days_left(Tls(ca_bundle=pem, certificate="nonsense"))

    assert 4 < poll(records).expiring_days["approver"] <= 5
    assert 299 < ours["ca"] <= 300
    assert "client" not in ours
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
    assert told["WaitsMissing"]["WaitsMissing"] == [0]


def test_an_idle_stack_emits_one_metric(lines: list[Json]) -> None:
    metrics.sighting(Sighting())
    metrics.woken(Run())
    metrics.expiring({"ca": 61})

    assert set(read(lines)) == {"Pending"}


def test_a_certificate_is_a_metric_from_sixty_days_on(lines: list[Json]) -> None:
    metrics.expiring({"ca": 59.5, "client": 365})

    told = read(lines)

    assert told["CertificateDaysLeft"]["CertificateDaysLeft"] == [59.5]
    assert told["CertificateDaysLeft"]["Certificate"] == "ca"


# Waking -------------------------------------------------------------------------------------------


def watched(records: Records, ask: Ask, wake: Wake = lambda _: True) -> Run:
    """One run over what is open."""
    runs: list[Run] = []
    wake_the_decided(records=records, ask=ask, wake=wake, limit=300, many=map, report=runs.append)
    return runs[0]


def answers(request_id: str) -> RequestStatus:
    return RequestStatus.model_validate({"id": request_id, "status": "PENDING"})


def refuses(error: type[CountersignError], **more: Any) -> Ask:
    def ask(_: str) -> RequestStatus:
        raise error("by command", action="none", **more)

    return ask


@pytest.mark.parametrize(
    "ask",
    [
        refuses(TsbUnavailableError),
        refuses(TsbOutcomeUnknownError, http_status=404),
        refuses(TsbUnavailableError, error_code=701),
        refuses(TsbCredentialsError, error_code=631),
    ],
    ids=["away", "a proxy's page", "the HSM is away", "no valid key"],
)
@pytest.mark.parametrize("number", [1, 20])
def test_tsb_is_silent_while_nothing_can_be_learned_from_it_whatever_it_answers(
    records: Records, ask: Ask, number: int
) -> None:
    for name in range(number):
        put_wait(records, str(name), HOUR)
    with time_machine.travel(datetime(2026, 11, 27, 12, tzinfo=UTC), tick=False) as clock:
        assert watched(records, answers).silent_since is None
        first = watched(records, ask)
        clock.shift(600)
        later = watched(records, ask)

        assert first.silent_since == later.silent_since == "2026-11-27T12:00:00Z"
        assert watched(records, answers).silent_since is None


def test_nothing_is_silent_where_nothing_is_open(records: Records) -> None:
    put_wait(records, "x", HOUR)
    assert watched(records, refuses(TsbUnavailableError)).silent_since is not None
    records.delete("wait#x")

    assert watched(records, answers).silent_since is None
    put_wait(records, "y", HOUR)
    with time_machine.travel(datetime.now(UTC) + HOUR, tick=False):
        assert watched(records, refuses(TsbUnavailableError)).silent_since == m.timestamp(m.now())


def test_a_request_without_an_answer_among_others_is_no_silence(records: Records) -> None:
    for name in range(20):
        put_wait(records, str(name), HOUR)

    numbers = itertools.count()

    def ask(request_id: str) -> RequestStatus:
        known = answers if next(numbers) == 0 else refuses(TsbUnavailableError, error_code=701)
        return known(request_id)

    run = watched(records, ask)

    assert (run.open, run.failed, run.silent_since) == (20, 19, None)


def test_a_run_that_may_wake_nobody_fails_after_it_has_looked_at_everything(
    records: Records,
) -> None:
    for name in ("x", "y"):
        put_wait(records, name, HOUR)
    runs: list[Run] = []

    def wake(_: str) -> bool:
        raise AwsCallError("by command", action="none")

    with pytest.raises(AwsCallError, match="by command"):
        wake_the_decided(
            records=records, ask=answers, wake=wake, limit=300, many=map, report=runs.append
        )

    assert (runs[0].open, runs[0].woken) == (2, 0)
