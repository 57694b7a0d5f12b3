"""Every alarm over metrics that the real functions emit: each fires in time, none without cause.

The functions run in the in-process stack; CloudWatch is `tests/cloudwatch.py`. Metrics of Lambda
and SQS are made from the stack's invocations and queues, as AWS describes them. A value is visible
to alarms a minute after it was emitted.
"""

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_aws_sdk,
)

from countersign import models as m
from local.approver import Approver
from local.engine.invocation import FunctionFailedError
from local.engine.stack import InProcessStack, forget
from local.engine.surroundings import NAME
from tests.case import Case, group, people, token
from tests.cloudwatch import Series, alarms, on

ROOT = Path(__file__).parents[2]
MINUTE, HOUR, DAY = 60, 3_600, 86_400
LAG = MINUTE  # until an emitted value is seen
ACTIVATION = 15 * MINUTE  # of an idle queue's metrics, at most (SQS, monitoring with CloudWatch)

type Json = dict[str, Any]


def resolve(value: Any) -> Any:
    """The part of an alarm with names in the place of references, as the in-process stack has."""
    match value:
        case {"Ref": "AWS::StackName"}:
            return NAME
        case {"Ref": str(name)}:
            return name.removesuffix("Function")
        case {"Fn::GetAtt": str(path)}:
            return path.removesuffix(".QueueName")
        case dict():
            return {name: resolve(one) for name, one in value.items()}
        case list():
            return [resolve(one) for one in value]
    return value


ALARMS = alarms(resolve)
QUEUES = [
    dict(dimensions)["QueueName"]
    for alarm in ALARMS.values()
    for _, _, dimensions in alarm.reads
    if "QueueName" in dict(dimensions)
]


def promises() -> dict[str, int]:
    """Seconds within which each alarm fires, as the operator's page says."""
    page = (ROOT / "docs/operations.md").read_text()
    units = {"minutes": MINUTE, "hours": HOUR, "days": DAY}
    found = re.findall(r"^\| `(\w+)Alarm` \|[^|]*?\b(\d+) (minutes|hours|days)", page, re.MULTILINE)
    return {name: int(number) * units[unit] for name, number, unit in found}


PROMISES = promises()


class Operated:
    """A stack whose metrics and alarms are seen from minute to minute."""

    def __init__(self, stack: InProcessStack) -> None:
        self.stack = stack
        self.is_watched = True
        self.fired: dict[str, float] = {}  # when each alarm was first in ALARM, for every range
        self.seen: set[str] = set()  # those that were, for one range at least
        self._series = Series()
        self._lines = io.StringIO()
        self._invocations = 0
        self._filled: dict[str, float] = {}  # since when each queue has had a message

    def open(self, number: int, window: int = 30 * DAY) -> list[Case]:
        """So many open requests, each with a wait that can be woken."""
        with redirect_stdout(self._lines):
            cases = [Case(self.stack) for _ in range(number)]
            for case in cases:
                case.start(case.request(token(group(*people(1)), timeout=window)))
            for case in cases:
                case.until(lambda case=case: case.record(f"wait#{case.id}"), "wait")  # type: ignore[misc]
        self.minutes(15, each=5)  # a new stack is silent until its first metric has come
        self.seen.clear()
        self.fired.clear()
        return cases

    def pass_time(self, seconds: float) -> None:
        """Let time pass without a look at anything; executions and messages go on."""
        self.stack.expect_news()  # queues that are listened to are asked all the time
        with redirect_stdout(self._lines):
            self.stack.sleep(seconds)
        self._collect()

    def minutes(self, number: int, *, each: int = 1, only: tuple[str, ...] = ()) -> None:
        """Let so many minutes pass, with a run of the watch in each `each`-th one of them."""
        for _ in range(0, number, each):
            begun = self.stack.clock.now
            if self.is_watched:
                self.watch()
            self.pass_time(max(begun + each * MINUTE - self.stack.clock.now, 0))
            found = self.on(only or tuple(ALARMS))
            self.seen |= found.keys()
            for name in (name for name, surely in found.items() if surely):
                self.fired.setdefault(name, self.stack.clock.now)

    def on(self, only: tuple[str, ...]) -> dict[str, bool]:
        """The alarms that are in ALARM now, for one range at least, and whether for all."""
        # An alarm that looks at now sees what was emitted a minute ago, and nothing since.
        known = {name: ALARMS[name] for name in only}
        return on(known, self._series, self.stack.clock.now, visible=self.stack.clock.now - LAG)

    def until(self, names: set[str], seconds: float) -> None:
        """Let minutes pass until these alarms have fired, or so much time has passed."""
        ends = self.stack.clock.now + seconds
        while not names <= self.fired.keys() and self.stack.clock.now < ends:
            self.minutes(1)

    def watch(self) -> None:
        """One run of WatchEnrollments, as its schedule starts it."""
        event = {"scheduledTime": m.timestamp(datetime.fromtimestamp(self.stack.clock.now, UTC))}
        self.run("WatchEnrollments", event)

    def run(self, function: str, event: Json) -> None:
        """Invoke a function; a failure is a metric only."""
        with redirect_stdout(self._lines), suppress(FunctionFailedError):
            self.stack.call(function, event)
        self._collect()

    def _collect(self) -> None:
        now = self.stack.clock.now
        for line in self._lines.getvalue().splitlines():
            self._series.put_line(line)
        self._lines.seek(0)
        self._lines.truncate()
        for one in self.stack.invocations[self._invocations :]:
            key = ("AWS/Lambda", "Errors", frozenset({("FunctionName", one.function)}))
            self._series.put(key, now, float(one.error is not None))
        self._invocations = len(self.stack.invocations)
        for queue in QUEUES:
            if not self.stack.resources.has_message(queue):
                self._filled.pop(queue, None)
            elif now - self._filled.setdefault(queue, now) >= ACTIVATION:
                name = "ApproximateNumberOfMessagesVisible"
                self._series.put(("AWS/SQS", name, frozenset({("QueueName", queue)})), now, 1)


@pytest.fixture
def operated(shared_stack: InProcessStack) -> Iterator[Operated]:
    yield Operated(shared_stack)
    shared_stack.reset()


# What may happen ----------------------------------------------------------------------------------


def tsb_answers(operated: Operated, _: list[Case], **fault: Any) -> None:
    operated.stack.control("POST", "/faults", {"times": None, "fault": fault})


def away(operated: Operated, cases: list[Case]) -> None:
    tsb_answers(operated, cases, kind="drop")


def unavailable(operated: Operated, cases: list[Case]) -> None:
    tsb_answers(operated, cases, kind="status", httpStatus=503)


def login_page(operated: Operated, cases: list[Case]) -> None:
    tsb_answers(operated, cases, kind="status", httpStatus=200, body="<html>")


def hsm_away(operated: Operated, cases: list[Case]) -> None:
    body = {"errorCode": 701, "reason": "res.error.hsm", "message": "x"}
    tsb_answers(operated, cases, kind="status", httpStatus=500, body=body)


def key_revoked(operated: Operated, cases: list[Case]) -> None:
    body = {"errorCode": 631, "reason": "res.error.invalid.api.key", "message": "x"}
    tsb_answers(operated, cases, kind="status", httpStatus=401, body=body)


def one_key_revoked(operated: Operated, _: list[Case]) -> None:
    keys = ["revoked", *operated.stack.api_keys["keyOperation"]]
    operated.stack.put_secret("KeyOperationSecret", {"apiKeys": keys, "bearerToken": None})
    forget()


def tls_secret_gone(operated: Operated, _: list[Case]) -> None:
    operated.stack.put_secret("ClientTlsSecret", [])  # type: ignore[arg-type]
    forget()


def certificate_expires(operated: Operated, _: list[Case]) -> None:
    der = Approver.generate("tsb", "ec").certificate(20)
    pem = f"-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n"
    operated.stack.put_secret("ClientTlsSecret", {"caBundle": pem})
    forget()


def watcher_dead(operated: Operated, _: list[Case]) -> None:
    operated.is_watched = False


def broken(function: str, **fault: Any) -> Callable[[Operated, list[Case]], None]:
    """Every invocation of the function fails."""

    def befall(operated: Operated, _: list[Case]) -> None:
        kind = fault or {"kind": "error", "name": "Runtime.ImportModuleError", "when": "before"}
        for _number in range(200):
            operated.stack.strike(function, "", **kind)

    return befall


def approved(befall: Callable[[Operated, list[Case]], None]) -> Callable[..., None]:
    """The same, and the first request is approved."""

    def both(operated: Operated, cases: list[Case]) -> None:
        befall(operated, cases)
        cases[0].decide("approve")

    return both


def stopped(operated: Operated, cases: list[Case]) -> None:
    """The execution of the first request never moves again, and nobody says so."""
    operated.stack._executions[cases[0].started[0]].end()


def tls_secret_gone_meanwhile(operated: Operated, cases: list[Case]) -> None:
    tls_secret_gone(operated, cases)
    stopped(operated, cases)


def clock_off(operated: Operated, _: list[Case]) -> None:
    operated.stack.control("POST", "/clock", {"advanceSeconds": HOUR})
    case = Case(operated.stack)
    case.start(case.request(token(group(*people(1)))))


def ses_refuses(operated: Operated, _: list[Case]) -> None:
    """The sender is not verified, as no recipient is in the sandbox: SES says the same."""
    operated.stack.configure(MailFrom="nobody@example.com")
    case = Case(operated.stack)
    case.start(case.by_profile())


def message_in(queue: str) -> Callable[[Operated, list[Case]], None]:
    """What a service could not deliver. The in-process stack has no such services."""

    def befall(operated: Operated, _: list[Case]) -> None:
        url = operated.stack.resources.queues[queue]
        operated.stack.client("sqs").send_message(QueueUrl=url, MessageBody="{}")

    return befall


def forged_event(operated: Operated, cases: list[Case]) -> None:
    arn = "arn:aws:states:x:1:execution:m:e"
    detail = {"enrollmentId": cases[0].id, "executionArn": arn, "outcome": "ISSUED"}
    entry = {
        "EventBusName": operated.stack.outputs["BusName"],
        "Source": "countersign",
        "DetailType": "Enrollment Issued",
        "Detail": json.dumps(detail),
    }
    operated.stack.client("events").put_events(Entries=[entry])
    operated.stack.expect_news()


# What befalls the stack, and the alarms that say so. Others may follow from the same cause.
OUTAGES: dict[str, tuple[Callable[[Operated, list[Case]], None], set[str], set[str]]] = {
    "TSB is away": (away, {"TsbSilent"}, set()),
    "TSB answers 503": (unavailable, {"TsbSilent"}, set()),
    "a login page answers": (login_page, {"TsbSilent"}, set()),
    "the HSM is away": (hsm_away, {"TsbSilent"}, set()),
    "no API key is accepted": (key_revoked, {"TsbCredentials", "TsbKeyRejected"}, {"TsbSilent"}),
    "one API key is refused": (one_key_revoked, {"TsbKeyRejected"}, set()),
    "the TLS secret has no value": (tls_secret_gone, {"TsbCredentials"}, {"WatchSilent"}),
    "no TLS secret, and an execution has stopped": (
        tls_secret_gone_meanwhile,
        {"TsbCredentials", "WaitMissing"},
        {"WatchSilent"},
    ),
    "a certificate expires": (certificate_expires, {"CertificateExpiring"}, set()),
    "the watch is dead": (watcher_dead, {"WatchSilent"}, set()),
    "the watch fails": (broken("WatchEnrollments"), {"WatchSilent"}, set()),
    "the table refuses the watch": (
        broken("WatchEnrollments", kind="aws", operation="Query", when="before"),
        {"WatchSilent"},
        set(),
    ),
    "nobody may be woken": (
        approved(
            broken("WatchEnrollments", kind="aws", operation="SendTaskSuccess", when="before")
        ),
        {"WatchSilent"},
        set(),
    ),
    "an execution has stopped": (stopped, {"WaitMissing"}, set()),
    "PollRequest fails": (approved(broken("PollRequest")), {"EnrollmentOverdue"}, set()),
    "StoreCsr fails": (approved(broken("StoreCsr")), {"EnrollmentOverdue"}, set()),
    "CloseEnrollment fails": (
        approved(broken("CloseEnrollment")),
        {"BackstopDeadLetter"},
        {"EnrollmentOverdue"},
    ),
    "KeepEvidence fails": (approved(broken("KeepEvidence")), {"EvidenceDeadLetter"}, set()),
    "somebody forges an event": (forged_event, {"EvidenceConflict"}, {"EvidenceDeadLetter"}),
    "the HSM's clock is off": (clock_off, {"EnrollmentFailed"}, set()),
    "a request is not started": (
        message_in("RequestsDeadLetterQueue"),
        {"RequestsDeadLetter"},
        set(),
    ),
    "the bus cannot encrypt": (message_in("BusDeadLetterQueue"), {"BusDeadLetter"}, set()),
    "a mail is not sent": (message_in("NotifyDeadLetterQueue"), {"NotifyDeadLetter"}, set()),
    "SES refuses a mail by name": (ses_refuses, {"MailUndelivered"}, set()),
    "a mail by name is not sent": (message_in("MailDeadLetterQueue"), {"MailDeadLetter"}, set()),
}


# Each with one open request; those that depend on how many are open, with more.
CASES = [
    *((outage, 1) for outage in OUTAGES),
    *(
        (outage, number)
        for number in (2, 5)
        for outage in (
            "TSB is away",
            "the HSM is away",
            "the watch is dead",
            "an execution has stopped",
            "PollRequest fails",
        )
    ),
    ("TSB is away", 100),
]


@pytest.mark.parametrize(("outage", "number"), CASES)
def test_an_outage_is_told_in_time_by_its_alarm_and_by_no_other(
    operated: Operated, outage: str, number: int
) -> None:
    befall, expected, also = OUTAGES[outage]
    cases = operated.open(number)
    operated.minutes(5, each=5)
    assert not operated.seen

    begun = operated.stack.clock.now
    befall(operated, cases)
    operated.until(expected, max(PROMISES[name] for name in expected))
    took = {name: moment - begun for name, moment in operated.fired.items()}
    operated.minutes(10, each=5)

    assert {name for name in expected if took.get(name, 2 * DAY) <= PROMISES[name]} == expected
    assert expected <= operated.seen <= expected | also


def test_of_outages_of_hours_at_any_time_none_is_left_untold(operated: Operated) -> None:
    random = Random(18)
    operated.open(1, window=349 * DAY)
    alone = ("TsbSilent",)
    for _ in range(30):
        operated.pass_time(random.uniform(1, 12) * HOUR)  # quiet, so it is left out
        operated.fired.clear()
        operated.minutes(2, only=alone)
        assert not operated.fired

        begun = operated.stack.clock.now
        lasts = random.uniform(1, 24) * HOUR
        random.choice((away, unavailable, login_page, hsm_away))(operated, [])
        operated.minutes(1, only=alone)
        operated.pass_time(9 * MINUTE)  # the metric counts the seconds itself
        operated.minutes(5, only=alone)
        assert operated.fired["TsbSilent"] - begun <= PROMISES["TsbSilent"]

        operated.pass_time(begun + lasts - operated.stack.clock.now)
        operated.stack.control("DELETE", "/faults")
        operated.minutes(6, only=alone)
        assert "TsbSilent" not in operated.on(alone)


@pytest.mark.parametrize("outage", ["an execution has stopped", "nobody can be woken"])
def test_a_request_that_is_polled_every_four_hours_is_missed_all_the_same(
    operated: Operated, monkeypatch: pytest.MonkeyPatch, outage: str
) -> None:
    cases = operated.open(2)
    operated.pass_time(3 * DAY)
    operated.minutes(30, each=5)
    operated.fired.clear()
    operated.seen.clear()

    begun = operated.stack.clock.now
    if outage == "an execution has stopped":
        stopped(operated, cases)
    else:
        monkeypatch.setattr(state_task_service_aws_sdk, "boto_client_for", lambda **_: Refusing())
    operated.minutes(10 * 60, each=5)

    # At worst the wait has just begun.
    assert operated.fired["WaitMissing"] - begun <= PROMISES["WaitMissing"]
    assert operated.seen == {"WaitMissing"}


class Refusing:
    """DynamoDB for a state machine whose role may not write."""

    def update_item(self, **_: Any) -> None:
        answer: Any = {
            "Error": {"Code": "AccessDeniedException", "Message": "x"},
            "ResponseMetadata": {"HTTPStatusCode": 400, "RequestId": "x"},
        }
        raise ClientError(answer, "UpdateItem")


def test_keys_that_nobody_looks_at_are_told_after_two_days(operated: Operated) -> None:
    for function in ("SweepKeys", "AuditKeys"):
        operated.run(function, {})
    begun = operated.stack.clock.now
    away(operated, [])
    for _ in range(3):
        operated.run("SweepKeys", {})
        operated.pass_time(DAY / 2)
        operated.is_watched = False
        operated.minutes(1, only=("KeysUnwatched",))
        operated.pass_time(DAY / 2 - MINUTE)

    assert operated.fired["KeysUnwatched"] - begun <= PROMISES["KeysUnwatched"]


@pytest.mark.parametrize(("number", "days"), [(0, 1), (1, 1), (5, 0.25)])
def test_in_quiet_days_no_alarm_fires(operated: Operated, number: int, days: float) -> None:
    cases = operated.open(number)
    minutes = round(days * DAY / MINUTE)
    operated.minutes(minutes // 2, each=5)
    for case, decision in zip(cases, ("approve", "decline"), strict=False):
        case.decide(decision)
    operated.minutes(minutes // 2, each=5)

    assert not operated.seen
    assert [case.record()["status"] for case in cases[:2]] == ["ISSUED", "REJECTED"][:number]


def test_each_alarm_is_the_only_one_that_tells_of_some_outage() -> None:
    alone = {name for _, (name, *more), also in OUTAGES.values() if not more and not also}
    # Each is sooner, or says more, than the one that follows: see docs/operations.md.
    first = {"TsbCredentials", "EvidenceConflict", "BackstopDeadLetter"}

    # Keys that nobody looks at have a test of their own, for days.
    assert alone | first | {"KeysUnwatched"} == ALARMS.keys() == PROMISES.keys()
    assert not alone & first
