"""What is put on the bus, and what comes of a bus that refuses: on moto, by our own clients."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from countersign import enrollment, events, outcome, request
from countersign import models as m
from countersign.aws.bus import Bus
from countersign.aws.clients import client
from countersign.aws.objects import Objects
from countersign.aws.records import Records
from countersign.errors import AwsCallError
from countersign.profiles import Profiles

ROOT = Path(__file__).parents[2]
ARN = "arn:aws:states:eu-central-1:111122223333:execution:countersign:e1"

type Json = dict[str, Any]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        client.cache_clear()
        client("dynamodb").create_table(
            TableName="enrollments",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        client("s3").create_bucket(
            Bucket="csrs", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        open_bus()
        yield
    client.cache_clear()


def open_bus() -> None:
    bus, queue = client("events"), client("sqs").create_queue(QueueName="listener")["QueueUrl"]
    arn = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    bus.create_event_bus(Name="bus")
    rule = {"Name": "all", "EventBusName": "bus"}
    bus.put_rule(**rule, EventPattern=json.dumps({"source": ["countersign"]}))
    target = {"Id": "listener", "Arn": arn["Attributes"]["QueueArn"]}
    bus.put_targets(Rule="all", EventBusName="bus", Targets=[target])


def emitted() -> list[Json]:
    """Everything that was emitted since the last look."""
    queue, found = client("sqs").get_queue_url(QueueName="listener")["QueueUrl"], []
    while messages := client("sqs").receive_message(QueueUrl=queue).get("Messages"):
        found += [json.loads(one["Body"]) for one in messages]
    return found


def request_of(**different: Any) -> Json:
    given: Json = json.loads((ROOT / "events/states/0.1.0/accept-enrollment.json").read_text())
    asked: Json = given["execution"]["input"]["request"]
    return {**asked, **different}


def accept(asked: Json, bus: str = "bus", **origin: str) -> m.Accepted | m.OutcomeDocument:
    execution = m.Execution(arn=ARN, name="e1", input={"request": asked, "origin": origin})
    return enrollment.accept_enrollment(
        m.AcceptEnrollmentInput(execution=execution),
        records=Records("enrollments"),
        objects=Objects("csrs"),
        bus=Bus(bus),
        rules=request.Rules(Profiles(ROOT / "profiles"), "", allow_raw_policy=True),
    )


def close(bus: str = "bus", request: Any = None, **how: Any) -> m.OutcomeDocument:
    execution = m.Execution(arn=ARN, name="e1", input=request or {"request": request_of()})
    return outcome.close_enrollment(
        m.CloseEnrollmentInput(execution=execution, **how),
        records=Records("enrollments"),
        bus=Bus(bus),
        code_version="layer:7",
    )


def record() -> Json:
    return Records("enrollments").get("web-2026-11") or {}


@pytest.mark.usefixtures("aws")
def test_what_is_accepted_is_told_again_when_the_state_runs_again() -> None:
    accept(request_of(), door="start", id="OPS-42")
    accept(request_of(), door="start", id="OPS-42")

    told = emitted()
    assert [one["detail-type"] for one in told] == ["Enrollment Accepted"] * 2
    assert told[0]["detail"] == told[1]["detail"]
    assert told[0]["detail"]["origin"]["id"] == "OPS-42"
    assert told[0]["resources"] == [ARN]


@pytest.mark.usefixtures("aws")
def test_an_acceptance_that_cannot_be_told_is_repeated() -> None:
    with pytest.raises(AwsCallError):
        accept(request_of(), bus="missing")

    accept(request_of())

    assert [one["detail-type"] for one in emitted()] == ["Enrollment Accepted"]


@pytest.mark.usefixtures("aws")
def test_an_outcome_that_cannot_be_told_is_on_record_and_told_later_once() -> None:
    accept(request_of())
    emitted()
    with pytest.raises(AwsCallError):
        close(bus="missing", status="EXPIRED")
    before = record()

    # As the backstop has it: the execution failed, and the outcome that is on record stays.
    failed = m.CaughtError(state="", error="AwsCallError", cause="{}")
    documents = [close(failure=failed), close(failure=failed)]

    assert before["outcome"] == "EXPIRED"
    assert "announced" not in before
    assert [one.outcome for one in documents] == ["EXPIRED", "EXPIRED"]
    assert [one["detail-type"] for one in emitted()] == ["Enrollment Expired"]
    assert record()["announced"]


CSR: Json = {
    "bucket": "csrs", "key": "enrollments/web-2026-11/request.pem", "versionId": "1",
    "sha256": "0" * 64, "pem": "-----BEGIN CERTIFICATE REQUEST-----",
}  # fmt: skip
DIED = m.CaughtError(state="", error="ExecutionAborted", cause="the execution ended as ABORTED")
LOST = m.CaughtError(state="StoreCsr", error="Lambda.Unknown", cause="")


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("known", "how", "outcome"),
    [
        ({"csr": CSR, "tsbStatus": "EXECUTED"}, DIED, "ISSUED"),
        ({"csr": CSR, "tsbStatus": "EXECUTED"}, LOST, "ISSUED"),
        ({"cancel": {"by": "somebody", "at": "2026-11-24T09:00:00Z"}}, DIED, "CANCELLED"),
        ({"tsbStatus": "REJECTED"}, DIED, "REJECTED"),
        ({"tsbStatus": "EXECUTED"}, DIED, "FAILED"),
        ({"tsbStatus": "REJECTED"}, LOST, "FAILED"),
        ({}, DIED, "FAILED"),
    ],
)
def test_an_end_on_record_counts_whatever_became_of_the_execution(
    known: Json, how: m.CaughtError, outcome: str
) -> None:
    accept(request_of())
    Records("enrollments").update("web-2026-11", {"stage": "StoreCsr", **known})

    assert close(failure=how).outcome == outcome
    assert record()["outcome"] == outcome
    assert [one["detail-type"] for one in emitted()][1:] == [f"Enrollment {outcome.title()}"]


@pytest.mark.usefixtures("aws")
def test_a_cancelled_enrollment_says_who_cancelled() -> None:
    accept(request_of())
    emitted()
    cancel = {"by": "arn:aws:iam::111122223333:user/ada", "at": "2026-11-24T10:31:00Z"}
    Records("enrollments").update("web-2026-11", {"cancel": cancel})

    close(status="CANCELLED")

    (told,) = emitted()
    assert told["detail"]["cancel"] == {**cancel, "told": None}
    assert events.Cancelled.read(told["detail"])


@pytest.mark.usefixtures("aws")
def test_a_refused_request_repeats_no_principal_that_anybody_could_have_written() -> None:
    forged = {"door": "api", "id": "x", "principal": "arn:aws:iam::111122223333:user/ceo"}
    request = {"request": request_of(surprise=1), "origin": forged}
    caught = m.CaughtError(state="AcceptEnrollment", error="InvalidEnrollmentError", cause="{}")

    close(request=request, failure=caught)

    (told,) = emitted()
    assert told["detail-type"] == "Enrollment Failed"
    assert "ceo" not in f"{told}{record()}"
