"""How what is announced travels: the backstop's queues, and mail."""

import html
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from local.caller import Caller
from local.stack import ROOT, Stack
from tests.case import Case, Json, Result, assert_issued, group, people, token
from tests.e2e.scenarios import (
    REMINDING,
    SENDER,
    ResultOf,
    deployed,
    long_scenario,
    mails,
    scenario,
    watch,
)

pytestmark = pytest.mark.e2e

ACCEPTED = "Enrollment Accepted"
AWAITING = "Enrollment Awaiting Approval"
ISSUED = "Enrollment Issued"
TRIES = 9  # of CloseEnrollment, before the state machine gives up


# The backstop -------------------------------------------------------------------------------------


@long_scenario
def unannounced(case: Case) -> Result:
    stack, (person,) = deployed(case), people(1)
    for _ in range(TRIES + 1):  # the last is the backstop's
        case.strike("CloseEnrollment", kind="aws", operation="PutEvents", when="entry")
    with received_once(stack):
        arn = case.start(case.request(token(group(person))))
        case.approve(person)
        result = case.end(arn, event=False)
        case.until(lambda: is_dead_letter(stack, arn), "message in the dead-letter queue")
    # As docs/events.md has the operator do it.
    stack.client("sqs").start_message_move_task(
        SourceArn=stack.outputs["BackstopDeadLetterQueueArn"],
        DestinationArn=stack.outputs["BackstopQueueArn"],
    )
    result.more["told later"] = case.await_event(ISSUED)
    result.more["noted"] = case.until(lambda: case.record().get("announced"), "note of it")
    return result


def test_an_outcome_that_cannot_be_told_waits_in_the_dead_letter_queue_and_is_told_later(
    stack: Stack, result: ResultOf
) -> None:
    ended = result(unannounced)
    told = ended.more["told later"]["detail"]

    assert ended.status == "FAILED"
    assert ended.entered[-1] == "CloseFailed"
    assert ended.error == "AwsCallError"
    assert ended.failures == [("CloseEnrollment", "AwsCallError")] * TRIES
    assert ended.endings == []
    assert ended.record["outcome"] == "ISSUED"
    assert "announced" not in ended.record
    assert told["executionArn"] == ended.arn
    assert told["csr"]["pem"] == ended.objects["request.pem"].decode()
    assert ended.more["noted"]
    assert not is_dead_letter(stack, ended.arn)


@contextmanager
def received_once(stack: Stack) -> Iterator[None]:
    """The backstop's messages are received once, and dead letters a second later."""
    sqs, url = stack.client("sqs"), stack.outputs["BackstopQueueUrl"]
    names = ["VisibilityTimeout", "RedrivePolicy"]
    before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    once = json.dumps({**json.loads(before["RedrivePolicy"]), "maxReceiveCount": 1})
    attributes = {"VisibilityTimeout": "1", "RedrivePolicy": once}
    sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
    try:
        yield
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes=before)


def is_dead_letter(stack: Stack, arn: str) -> bool:
    """Whether the backstop gave up on this execution."""
    answer = stack.client("sqs").receive_message(
        QueueUrl=stack.outputs["BackstopDeadLetterQueueUrl"],
        MaxNumberOfMessages=10,
        VisibilityTimeout=0,
    )
    return any(arn in message["Body"] for message in answer.get("Messages", ()))


# Mail ---------------------------------------------------------------------------------------------


@scenario
def mailed(case: Case) -> Result:
    (person,) = people(1)
    mailbox = Mailbox(case)
    arn = case.start(case.request(token(group(person))))
    case.await_event(AWAITING)
    case.approve(person)
    result = case.end(arn)
    result.more["mails"] = case.until(mailbox.two_mails, "two mails")
    return result


def test_people_get_readable_mail(result: ResultOf) -> None:
    ended = result(mailed)
    received = ended.more["mails"]

    assert_issued(ended)
    assert sorted(received) == [
        f"[Countersign] Awaiting Approval: {ended.label}",
        f"[Countersign] Issued: {ended.label}",
    ]
    awaiting = received[f"[Countersign] Awaiting Approval: {ended.label}"]
    assert "Still to decide:\n  person 1\n" in awaiting
    assert ended.step["times"]["windowEnds"] in awaiting
    assert ended.document["csr"]["pem"].strip() in received[f"[Countersign] Issued: {ended.label}"]


@scenario
def told_by_name(case: Case) -> Result:
    """Barbara asks by profile, Ada agrees when both approvers have been reminded."""
    stack = deployed(case)
    barbara = Caller(stack, "barbara.liskov")
    asked = case.by_profile() | {"profile": REMINDING["name"], "reason": "a <b>release</b>"}
    assert barbara.call("POST", "/enrollments", asked).status_code == 202
    case.until(lambda: len(letters(case)) == 2 or None, "mails to two approvers")

    def reminded() -> bool:
        watch(case)
        return len(letters(case)) == 5

    case.until(reminded, "mails that remind")
    case.approve(stack.people["Ada Lovelace"])
    watch(case)
    result = case.end(case.execution())
    case.until(lambda: len(letters(case)) == 7 or None, "mails about the end")
    result.more["letters"] = letters(case)
    return result


def letters(case: Case) -> list[Json]:
    """The mails to people about the case's key, in order."""
    return [one for one in mails(deployed(case)) if case.label in one["Subject"]]


ADA, GRACE, BARBARA = (
    f"{name}@example.com" for name in ("ada.lovelace", "grace.hopper", "barbara.liskov")
)


def test_every_mail_by_name_comes_from_asked_to_outcome(result: ResultOf) -> None:
    ended = result(told_by_name)
    told = ended.more["letters"]
    about = "[Countersign] {}: " + ended.label

    assert_issued(ended)
    assert [(one["To"], one["Subject"]) for one in told] == [
        ([ADA], about.format("Please decide")),
        ([GRACE], about.format("Please decide")),
        ([ADA], about.format("Reminder, please decide")),
        ([GRACE], about.format("Reminder, please decide")),
        ([BARBARA], about.format("Still waiting for approvals")),
        ([GRACE], about.format("Nothing more to decide")),
        ([BARBARA], about.format("Issued")),
    ]
    assert {one["Source"] for one in told} == {SENDER}
    for one in told:
        assert shown(one["BodyHtml"]) == words(one["BodyText"])
    for one in told[:4]:
        said = words(one["BodyText"])
        assert f"SHA-256 {ended.record['acceptedSha256']}" in said
        assert "Reason a <b>release</b>" in said
    assert ended.document["csr"]["sha256"] in words(told[-1]["BodyText"])


def test_who_has_not_decided_is_reminded_by_an_event(result: ResultOf) -> None:
    ended = result(told_by_name)
    event, *_ = [one for one in ended.events if one["detail-type"] == "Enrollment Reminder"]

    assert event["source"] == "countersign"
    assert event["detail"]["fraction"] == REMINDING["window"]["reminders"][0]
    assert event["detail"]["reminded"] == ["Ada Lovelace", "Grace Hopper"]


def words(text: str) -> str:
    """All that is said, on one line; in plain text a colon stands between label and value."""
    return " ".join(text.replace(":", " ").split())


def shown(page: str) -> str:
    """What a mail's HTML shows to its reader."""
    return words(html.unescape(re.sub("<[^>]*>", " ", page.partition("<body>")[2])))


class Mailbox:
    """A queue in the place of a person's mailbox, who wants to know of all but acceptances."""

    def __init__(self, case: Case) -> None:
        self._label = case.label
        self._mails: dict[str, str] = {}
        self._sqs, topic = case.stack.client("sqs"), case.stack.outputs["NotifyTopicArn"]
        self._url = self._sqs.create_queue(QueueName=f"mailbox-{case.id}")["QueueUrl"]
        answer = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": answer["Attributes"]["QueueArn"],
            "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._sqs.set_queue_attributes(QueueUrl=self._url, Attributes={"Policy": policy})
        all_but_accepted = {"detailType": [{"anything-but": [ACCEPTED]}]}
        case.stack.client("sns").subscribe(
            TopicArn=topic,
            Protocol="sqs",
            Endpoint=answer["Attributes"]["QueueArn"],
            Attributes={"FilterPolicy": json.dumps(all_but_accepted)},
        )

    def two_mails(self) -> dict[str, str] | None:
        """What has come about the case's key, by subject, once there are two."""
        answer: Any = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            mail = json.loads(message["Body"])
            if self._label in mail["Subject"]:
                self._mails[mail["Subject"]] = mail["Message"]
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return self._mails if len(self._mails) == 2 else None


# The chat -----------------------------------------------------------------------------------------


@contextmanager
def webhook() -> Iterator[tuple[str, list[Any]]]:
    """A chat's webhook on the loopback address: its URL, and what was posted there."""
    posted: list[Any] = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/services/T0/B0/secret", posted
        finally:
            server.shutdown()


@scenario
def told_in_a_chat(case: Case) -> Result:
    """docs/chat.yaml as a stack of its own; the caller tries to page a channel and break JSON."""
    stacks, name, (person,) = case.stack.client("cloudformation"), f"chat-{case.id}", people(1)
    with webhook() as (url, posted):
        stacks.create_stack(
            StackName=name,
            TemplateBody=(ROOT / "docs/chat.yaml").read_text(),
            Parameters=[{"ParameterKey": "WebhookUrl", "ParameterValue": url}],
            Capabilities=["CAPABILITY_IAM"],
        )

        def state() -> str:
            return str(stacks.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"])

        case.until(lambda: state() != "CREATE_IN_PROGRESS", "end of the deploy")
        arn = case.start(
            {**case.request(token(group(person))), "reason": 'a "release"\\ <!channel> & more'}
        )
        case.await_event(AWAITING)
        case.approve(person)
        result = case.end(arn)
        case.until(lambda: len(about(case, posted)) >= 2, "post of both events")
        result.more |= {"deployed": state(), "posted": about(case, posted)}
        stacks.delete_stack(StackName=name)
    return result


def about(case: Case, posted: list[Any]) -> list[Any]:
    return [one for one in posted if f" · enrollment {case.id} · " in one["text"]]


def test_a_chat_is_told_in_one_text_that_pages_nobody(result: ResultOf) -> None:
    ended = result(told_in_a_chat)
    texts = [one.pop("text") for one in ended.more["posted"]]
    reason = " · reason: a 'release'/ &lt;!channel&gt; &amp; more"

    assert ended.more["deployed"] == "CREATE_COMPLETE"
    assert [text.partition(" · ")[0] for text in texts] == [AWAITING, ISSUED]
    assert all(text.endswith(reason) for text in texts)
    assert "still to decide: person 1 · until " in texts[0]
    assert ended.more["posted"] == [{"mrkdwn": False, "unfurl_links": False}] * 2
