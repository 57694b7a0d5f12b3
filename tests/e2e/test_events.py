"""What is said about an enrollment, to whom, and what happens where it cannot be said."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jsonschema
import pytest

from countersign import events
from local.draw_events import SAMPLES, slug
from local.stack import STACK_NAME, Stack
from tests.e2e.case import (
    ROOT,
    WAIT_SCALE,
    Case,
    Json,
    Ran,
    Run,
    act,
    assert_issued,
    group,
    notify_rule,
    people,
    token,
)

pytestmark = pytest.mark.e2e

ACCEPTED = "Enrollment Accepted"
AWAITING = "Enrollment Awaiting Approval"
PROGRESSED = "Enrollment Approval Progressed"
ISSUED = "Enrollment Issued"


@act
def followed(case: Case) -> Run:
    one, two, three = people(3)
    request = case.request(token(group(one, two, three, quorum=2), timeout=86_400))
    arn = case.start({**request, "reason": "ticket OPS-42"}, door="start", id="OPS-42-run-7")
    case.await_event(AWAITING)
    case.approve(one)
    case.await_event(PROGRESSED)
    case.approve(three)
    return case.end(arn)


def test_an_enrollment_can_be_followed_by_its_events(ran: Ran) -> None:
    run = ran(followed)
    accepted, awaiting, progressed, issued = (event["detail"] for event in run.events)

    assert run.event_types == [ACCEPTED, AWAITING, PROGRESSED, ISSUED]
    for event in run.events:
        assert event["resources"] == [run.arn] == [event["detail"]["executionArn"]]
        assert event["detail"]["schemaVersion"] == "1"
        assert event["detail"]["keyLabel"] == run.label
        assert event["detail"]["reason"] == "ticket OPS-42"
        assert event["detail"]["origin"]["id"] == "OPS-42-run-7"
    assert accepted["requestSha256"] == run.record["requestSha256"]
    assert awaiting["outstanding"] == ["person 1", "person 2", "person 3"]
    assert awaiting["windowEnds"] == run.record["times"]["windowEnds"]
    assert awaiting["requestId"] == progressed["requestId"] == run.requests[0]["id"]
    assert progressed["outstanding"] == ["person 2", "person 3"]
    assert progressed["openGroups"] == [
        {"token": "token", "group": "group", "quorum": 2, "approved": 1}
    ]
    assert issued["undecided"] == ["person 2"]


@pytest.mark.usefixtures("idle_stack")
def test_whatever_the_bus_refuses_holds_up_no_decision_and_is_told_later(case: Case) -> None:
    stack = case.stack
    (person,) = people(1)
    with bus_closed_to(stack, "PollRequestFunction", "CloseEnrollmentFunction"):
        arn = case.start(case.request(token(group(person))))
        case.await_calls("/v1/request/{id}", 2)
        case.approve(person)
        run = case.end(arn, event=False)
        case.until(lambda: is_dead_letter(stack, arn), "message in the dead-letter queue")

    # The look that could not tell that approval is awaited was repeated, and went by TSB's word.
    assert run.entered.count("IsSilentTooLong") >= 1
    assert run.requests[0]["status"] == "EXECUTED"
    assert run.status == "FAILED"
    assert run.entered[-1] == "CloseFailed"
    assert run.error == "AwsCallError"
    assert run.event_types == [ACCEPTED]
    assert run.record["outcome"] == "ISSUED"
    assert "announced" not in run.record

    # As docs/events.md has the operator do it.
    stack.client("sqs").start_message_move_task(
        SourceArn=stack.outputs["BackstopDeadLetterQueueArn"],
        DestinationArn=stack.outputs["BackstopQueueArn"],
    )
    told = case.await_event(ISSUED)

    assert told["detail"]["executionArn"] == arn
    assert told["detail"]["csr"]["pem"] == run.objects["request.pem"].decode()
    assert case.until(lambda: case.record().get("announced"), "note that it was announced")
    assert not is_dead_letter(stack, arn)


@contextmanager
def bus_closed_to(stack: Stack, *functions: str) -> Iterator[None]:
    """EventBridge denies these functions' roles; waits are short, the backstop tries once."""
    iam, sqs, url = stack.client("iam"), stack.client("sqs"), stack.outputs["BackstopQueueUrl"]
    roles = [physical_id(stack, f"{function}Role") for function in functions]
    denied = {"Effect": "Deny", "Action": "events:PutEvents", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    for role in roles:
        iam.put_role_policy(RoleName=role, PolicyName="closed", PolicyDocument=policy)
    names = ["VisibilityTimeout", "RedrivePolicy"]
    before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    once = json.dumps({**json.loads(before["RedrivePolicy"]), "maxReceiveCount": 1})
    attributes = {"VisibilityTimeout": "1", "RedrivePolicy": once}
    sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
    stack.scale_waits(WAIT_SCALE / 10)
    try:
        yield
    finally:
        stack.scale_waits(WAIT_SCALE)
        sqs.set_queue_attributes(QueueUrl=url, Attributes=before)
        for role in roles:
            iam.delete_role_policy(RoleName=role, PolicyName="closed")


def physical_id(stack: Stack, logical_id: str) -> str:
    answer = stack.client("cloudformation").describe_stack_resource(
        StackName=STACK_NAME, LogicalResourceId=logical_id
    )
    return str(answer["StackResourceDetail"]["PhysicalResourceId"])


def is_dead_letter(stack: Stack, arn: str) -> bool:
    """Whether the backstop gave up on this execution."""
    answer = stack.client("sqs").receive_message(
        QueueUrl=stack.outputs["BackstopDeadLetterQueueUrl"],
        MaxNumberOfMessages=10,
        VisibilityTimeout=0,
    )
    return any(arn in message["Body"] for message in answer.get("Messages", ()))


@pytest.mark.usefixtures("idle_stack")
def test_people_get_readable_mail(case: Case) -> None:
    stack = case.stack
    sns, sqs = stack.client("sns"), stack.client("sqs")
    topic = stack.outputs["NotifyTopicArn"]
    url, arn_of_mailbox = mailbox(sqs, f"mailbox-{case.id}", topic)
    all_but_accepted = {"detailType": [{"anything-but": [ACCEPTED]}]}
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=arn_of_mailbox,
        Attributes={"FilterPolicy": json.dumps(all_but_accepted)},
    )
    (person,) = people(1)

    stack.client("events").enable_rule(**notify_rule(stack))
    try:
        arn = case.start(case.request(token(group(person))))
        case.await_event(AWAITING)
        case.approve(person)
        run = case.end(arn)
        mails: dict[str, str] = {}
        case.until(lambda: receive(sqs, url, mails, case.label) == 2, "two mails", 20)
    finally:
        stack.client("events").disable_rule(**notify_rule(stack))

    assert_issued(run)
    assert sorted(mails) == [
        f"[Countersign] Awaiting Approval: {case.label}",
        f"[Countersign] Issued: {case.label}",
    ]
    awaiting = mails[f"[Countersign] Awaiting Approval: {case.label}"]
    assert "Still to decide:\n  person 1\n" in awaiting
    assert run.record["times"]["windowEnds"] in awaiting
    assert run.document["csr"]["pem"].strip() in mails[f"[Countersign] Issued: {case.label}"]


def mailbox(sqs: Any, name: str, topic: str) -> tuple[str, str]:
    """URL and ARN of a queue that the topic may send to."""
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    arn: str = answer["Attributes"]["QueueArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    return str(url), arn


def receive(sqs: Any, url: str, mails: dict[str, str], label: str) -> int:
    """Put what has come about a key into `mails`, by subject; how many there are."""
    answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    for message in answer.get("Messages", []):
        mail = json.loads(message["Body"])
        if label in mail["Subject"]:
            mails[mail["Subject"]] = mail["Message"]
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return len(mails)


def test_every_event_of_the_catalogue_was_emitted_as_its_schema_and_sample_say(
    quiet_stack: Stack,
) -> None:
    emitted: dict[str, list[Json]] = {}
    for event in quiet_stack.events():
        if event["detail-type"] == "Enrollment Requested":
            continue  # a forgery in our name, put by a test
        emitted.setdefault(event["detail-type"], []).append(event)

    of_keys = {one.DETAIL_TYPE for one in events.OF_KEYS}  # by schedule
    assert set(emitted) - of_keys == {one.DETAIL_TYPE for one in events.CATALOGUE}
    for one in events.CATALOGUE:
        schema = json.loads((ROOT / f"events/schemas/{slug(one)}.schema.json").read_text())
        sample = json.loads((SAMPLES / f"{slug(one)}.json").read_text())
        for event in emitted[one.DETAIL_TYPE]:
            jsonschema.Draft4Validator(schema).validate(event)
            one.read(event["detail"])
            assert event["detail"].keys() == sample["detail"].keys()
