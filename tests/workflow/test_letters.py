"""Mails to approvers and requesters by name: who gets which, and that nobody gets it twice.

moto's SES keeps what was sent.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from moto.ses.models import ses_backends

from local.engine.schedule import Process
from local.engine.stack import InProcessStack
from local.engine.surroundings import ACCOUNT, REGION
from tests.ca import TERMS, Ca
from tests.case import Case, assert_issued, group, people, token
from tests.workflow.api import Caller

SENDER, OPERATORS = "countersign@example.com", "operators@example.com"
ADA, GRACE, ALAN = "ada.lovelace@example.com", "grace.hopper@example.com", "alan.turing@example.com"
BARBARA, EDSGER = "barbara.liskov@example.com", "edsger.dijkstra@example.com"

type Json = dict[str, Any]


class Post:
    """What was sent since the stack was fresh."""

    def __init__(self, stack: InProcessStack) -> None:
        self.stack = stack
        self._backend = ses_backends[ACCOUNT][REGION]

    def verify(self, sender: str) -> None:
        self._backend.verify_email_identity(sender)

    def clear(self) -> None:
        self._backend.sent_messages.clear()
        self._backend.email_identities.clear()

    def of(self, case: Case) -> list[tuple[str, str]]:
        """Who got what, in order; the case's label left out."""
        return [
            (address, one.subject.removeprefix("[Countersign] ").replace(case.label, "LABEL"))
            for one in self._backend.sent_messages
            for address in one.destinations["ToAddresses"]
        ]

    def text(self, number: int) -> str:
        """The plain text of a mail as one line; moto keeps the HTML only."""
        calls = (call for one in self.stack.invocations for call in one.aws_calls)
        sent = [one.parameters for one in calls if one.operation == "SendEmail"]
        return " ".join(sent[number]["Content"]["Simple"]["Body"]["Text"]["Data"].split())

    def await_mails(self, case: Case, number: int) -> list[tuple[str, str]]:
        """The mails, as soon as there are so many."""
        self.stack.until(lambda: len(self.of(case)) >= number, f"mail number {number}")
        return self.of(case)


@pytest.fixture
def post(stack: InProcessStack) -> Iterator[Post]:
    found = Post(stack)
    found.verify(SENDER)
    stack.configure(MailFrom=SENDER, NotifyEmail=OPERATORS)
    yield found
    stack.settle()  # an open wait has a digest of keys that are others in each run
    found.clear()


def change_directory(stack: InProcessStack, name: str, **different: Any) -> None:
    """Release the directory with one person changed."""
    content = json.loads((stack.folder / "layer/profiles/directory.json").read_text())
    (person,) = [one for one in content["people"] if one["name"] == name]
    person |= different
    stack.release_profile("directory", content)


def request_as(case: Case, stack: InProcessStack, name: str, profile: str = "trial@1") -> str:
    """Ask through the API as this person of the directory; the ARN of the execution."""
    caller = Caller(stack, name)
    change_directory(stack, "Barbara Liskov", principals=[caller.arn])
    assert caller.call("POST", "/enrollments", case.by_profile(profile)).status_code == 202
    return case.execution()


def undelivered(text: str) -> list[tuple[str, str]]:
    """Name and reason of each mail that was not sent, from the metrics in the log."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return list(
        dict.fromkeys((one["person"], one["reason"]) for one in lines if "MailsUndelivered" in one)
    )


ASKED = [(ADA, "Please decide: LABEL"), (GRACE, "Please decide: LABEL")]


def test_every_mail_of_an_enrollment_from_asked_to_outcome(
    case: Case, stack: InProcessStack, post: Post
) -> None:
    arn = request_as(case, stack, "barbara")
    case.await_event("Enrollment Awaiting Approval")
    assert post.await_mails(case, 2) == ASKED
    case.approve(stack.people["Ada Lovelace"])
    result = case.end(arn)
    stack.settle()

    assert_issued(result)
    assert post.of(case) == [
        *ASKED,
        (GRACE, "Nothing more to decide: LABEL"),
        (BARBARA, "Issued: LABEL"),
    ]


def test_the_second_quorum_is_asked_and_stood_down_by_name_as_the_first(
    case: Case, stack: InProcessStack, post: Post
) -> None:
    ada, alan = stack.people["Ada Lovelace"], stack.people["Alan Turing"]
    ca = Ca.make(case, alan, stack.people["Edsger Dijkstra"])
    content = json.loads((stack.folder / "layer/profiles/trial@1.json").read_text())
    terms = {"certificate": TERMS, "caKeyLabel": ca.label, "version": 2}
    stack.release_profile("trial@2", content | terms)
    arn = request_as(case, stack, "barbara", "trial@2")
    post.await_mails(case, 2)
    case.approve(ada)
    assert post.await_mails(case, 5)[2:] == [
        (GRACE, "Nothing more to decide: LABEL"),
        (ALAN, "Please decide: LABEL"),
        (EDSGER, "Please decide: LABEL"),
    ]
    stack.sleep(1_900)  # of the CA key's 3,600
    stack.call("WatchEnrollments", {})
    assert post.await_mails(case, 7)[5:] == [(ALAN, REMINDER), (EDSGER, REMINDER)]
    case.approve(alan, label=ca.label)
    result = case.end(arn)
    stack.settle()

    assert result.document["certificate"] is not None
    assert post.of(case)[7:] == [
        (EDSGER, "Nothing more to decide: LABEL"),
        (BARBARA, "Issued: LABEL"),
    ]
    assert "agree to a certificate signing request until" in post.text(0)
    assert "agree to a certificate until" in post.text(3)
    assert f"CA key label: {ca.label}" in post.text(3)
    assert f"/{case.id}/certificate.pem" in post.text(8)


DAY = 86_400  # the window of profile `code-signing`
REMINDER = "Reminder, please decide: LABEL"


@pytest.fixture
def watch(post: Post) -> Iterator[Callable[[], None]]:
    """Runs the watch from now on, and ends it before `post` lets everything settle."""
    started: list[Process] = []
    yield lambda: started.append(post.stack.watch())
    for one in started:
        one.end()


def reminders(case: Case) -> list[tuple[float, list[str]]]:
    """The fraction and the names of each reminder's event."""
    said = [one["detail"] for one in case.stack.events(case.id) if "fraction" in one["detail"]]
    return [(one["fraction"], one["reminded"]) for one in said]


def test_reminders_go_to_those_who_are_needed_and_the_last_to_the_requester(
    case: Case, stack: InProcessStack, post: Post, watch: Callable[[], None]
) -> None:
    request_as(case, stack, "barbara", "code-signing@1")
    post.await_mails(case, 3)
    case.approve(stack.people["Ada Lovelace"])
    stack.sleep(0.49 * DAY)
    watch()
    stack.sleep(600)
    assert len(post.of(case)) == 3
    stack.sleep(0.05 * DAY)
    assert post.of(case)[3:] == [(GRACE, REMINDER), (ALAN, REMINDER)]
    stack.sleep(0.4 * DAY)
    case.approve(stack.people["Grace Hopper"])
    stack.sleep(900)
    needed = ["Grace Hopper", "Alan Turing"]

    assert reminders(case) == [(0.5, needed), (0.9, needed)]
    assert post.of(case)[5:] == [
        (GRACE, REMINDER), (ALAN, REMINDER),
        (BARBARA, "Still waiting for approvals: LABEL"),
        (ALAN, "Nothing more to decide: LABEL"), (BARBARA, "Issued: LABEL"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fractions", "expected"), [((0.02, 0.01), [0.01, 0.02]), ((), [])], ids=str
)
def test_a_profile_says_when_to_remind(
    case: Case, post: Post, watch: Callable[[], None],
    fractions: tuple[float, ...], expected: list[float],
) -> None:  # fmt: skip
    stack = post.stack
    content = json.loads((stack.folder / "layer/profiles/code-signing@1.json").read_text())
    content["window"]["reminders"] = fractions
    stack.release_profile("code-signing@2", content | {"version": 2})
    request_as(case, stack, "barbara", "code-signing@2")
    post.await_mails(case, 3)
    watch()
    stack.sleep(0.03 * DAY)

    assert [fraction for fraction, _ in reminders(case)] == expected


def test_of_reminders_that_were_missed_the_newest_comes_and_none_after_the_window(
    case: Case, post: Post, watch: Callable[[], None]
) -> None:
    request_as(case, post.stack, "barbara", "code-signing@1")
    post.await_mails(case, 3)
    post.stack.sleep(0.95 * DAY)
    watch()
    post.stack.sleep(0.06 * DAY)

    assert [fraction for fraction, _ in reminders(case)] == [0.9]


@pytest.mark.parametrize("end", ["approved", "cancelled", "declined by one"])
def test_no_reminder_of_what_has_just_ended_or_changed(
    case: Case, post: Post, watch: Callable[[], None], end: str
) -> None:
    """The record does not know it yet: the watch runs before anybody polls."""
    stack = post.stack
    request_as(case, post.stack, "barbara", "code-signing@1")
    post.await_mails(case, 3)
    stack.sleep(0.6 * DAY)
    ada, grace = stack.people["Ada Lovelace"], stack.people["Grace Hopper"]
    if end == "approved":
        case.approve(ada, grace)
    elif end == "cancelled":
        stack.tsb().cancel_request(case.await_request()["id"])
    else:
        case.decline(ada)
    watch()
    stack.at("WatchEnrollments", "its return")
    assert reminders(case) == []
    stack.sleep(900)

    needed = [(0.5, ["Grace Hopper", "Alan Turing"])]
    assert reminders(case) == (needed if end == "declined by one" else [])


def test_a_reminder_that_comes_too_late_is_not_mailed(case: Case, post: Post) -> None:
    stack = post.stack
    arn = request_as(case, stack, "barbara", "code-signing@1")
    post.await_mails(case, 3)
    stack.sleep(0.6 * DAY)
    stack.call("WatchEnrollments", {})
    event = case.await_event("Enrollment Reminder")
    post.await_mails(case, 6)
    case.cancel()
    case.end(arn)
    stack.settle()
    event["detail"]["fraction"] = 0.9  # another mail
    stack.call("MailPeople", event)

    assert REMINDER not in {subject for _, subject in post.of(case)[6:]}


def test_after_a_kill_between_event_and_note_the_event_comes_twice_and_the_mail_once(
    case: Case, post: Post
) -> None:
    stack = post.stack
    request_as(case, post.stack, "barbara", "code-signing@1")
    post.await_mails(case, 3)
    stack.sleep(0.6 * DAY)
    run = stack.begin("WatchEnrollments", {})
    stack.until(lambda: reminders(case), "reminder")
    run.kill()
    stack.call("WatchEnrollments", {})
    stack.call("WatchEnrollments", {})
    stack.sleep(60)

    assert [fraction for fraction, _ in reminders(case)] == [0.5, 0.5]
    assert post.of(case)[3:] == [(ADA, REMINDER), (GRACE, REMINDER), (ALAN, REMINDER)]


def test_who_has_left_is_not_reminded(
    case: Case, post: Post, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = post.stack
    request_as(case, post.stack, "barbara", "code-signing@1")
    post.await_mails(case, 3)
    content = json.loads((stack.folder / "layer/profiles/directory.json").read_text())
    keys = [{**one, "validTo": "2026-01-02"} for one in content["people"][1]["keys"]]
    change_directory(stack, "Grace Hopper", keys=keys)
    stack.sleep(0.6 * DAY)
    stack.call("WatchEnrollments", {})
    stack.sleep(60)

    assert post.of(case)[3:] == [(ADA, REMINDER), (ALAN, REMINDER)]
    assert undelivered(capsys.readouterr().out) == [("Grace Hopper", "left")]


def test_a_mail_is_not_sent_again_when_its_event_comes_again(
    case: Case, stack: InProcessStack, post: Post
) -> None:
    case.start(case.by_profile())
    event = case.await_event("Enrollment Awaiting Approval")
    post.await_mails(case, 2)

    stack.call("MailPeople", event)

    assert post.of(case) == ASKED


def test_one_repeat_follows_a_kill_between_sending_and_noting_and_no_third(
    case: Case, stack: InProcessStack, post: Post, capsys: pytest.CaptureFixture[str]
) -> None:
    case.start(case.by_profile())
    event = case.await_event("Enrollment Awaiting Approval")
    stack.at("MailPeople", "UpdateItem").kill()
    assert post.of(case) == ASKED[:1]
    stack.at("MailPeople", "UpdateItem", 2).kill()  # Lambda's first repeat, a minute later
    assert post.of(case) == [ASKED[0], ASKED[0]]
    post.await_mails(case, 3)
    stack.sleep(60)
    stack.call("MailPeople", event)

    assert post.of(case) == [ASKED[0], ASKED[0], ASKED[1]]
    assert undelivered(capsys.readouterr().out) == [("Ada Lovelace", "gave-up")]


def test_two_deliveries_at_once_send_one_mail(
    case: Case, stack: InProcessStack, post: Post
) -> None:
    case.start(case.by_profile())
    event = case.await_event("Enrollment Awaiting Approval")
    stack.at("MailPeople", "SendEmail")
    rival = stack.begin("MailPeople", event)
    stack.until(lambda: rival.ended, "end of the rival")
    post.await_mails(case, 2)
    stack.sleep(600)

    assert rival.error is not None  # Lambda repeats it, in case the other one dies
    assert sorted(post.of(case)) == ASKED


def test_an_unverified_sender_leaves_a_trace_and_touches_no_outcome(
    case: Case, stack: InProcessStack, post: Post, capsys: pytest.CaptureFixture[str]
) -> None:
    post.clear()
    arn = case.start(case.by_profile())
    case.await_event("Enrollment Awaiting Approval")
    case.approve(stack.people["Ada Lovelace"])
    result = case.end(arn)
    stack.settle()

    assert_issued(result)
    assert post.of(case) == []
    assert set(undelivered(capsys.readouterr().out)) == {
        ("Ada Lovelace", "MessageRejected"),
        ("Grace Hopper", "MessageRejected"),
    }


@pytest.mark.parametrize("code", ["InternalServerError", "TooManyRequestsException"])
def test_ses_out_of_order_for_a_moment_loses_no_mail(case: Case, post: Post, code: str) -> None:
    case.strike("MailPeople", kind="aws", operation="SendEmail", when="before", code=code)
    case.start(case.by_profile())

    assert sorted(post.await_mails(case, 2)) == ASKED


def test_too_many_mails_at_a_time_are_no_tries(case: Case, post: Post) -> None:
    for _ in range(2):
        case.strike(
            "MailPeople",
            kind="aws", operation="SendEmail", when="before", code="TooManyRequestsException",
        )  # fmt: skip
    case.start(case.by_profile())

    assert sorted(post.await_mails(case, 2)) == ASKED


@pytest.mark.parametrize(
    ("different", "reason"),
    [
        ({"contact": "extension 4711"}, "no-address"),
        ({"contact": "ada@example.com, mallory@example.com"}, "no-address"),
        ({"contact": "Ada <ada@example.com>"}, "no-address"),
        ("left", "left"),
    ],
    ids=str,
)
def test_who_cannot_be_reached_or_has_left_gets_nothing(
    case: Case, post: Post, capsys: pytest.CaptureFixture[str], different: Any, reason: str
) -> None:
    stack = post.stack
    if different == "left":
        content = json.loads((stack.folder / "layer/profiles/directory.json").read_text())
        keys = content["people"][0]["keys"]
        different = {"keys": [{**one, "validTo": "2026-01-02"} for one in keys]}
    case.start(case.by_profile())
    case.await_request()  # who has left before can be asked no more
    change_directory(stack, "Ada Lovelace", **different)

    assert post.await_mails(case, 1) == ASKED[1:]
    stack.sleep(60)
    stack.call("MailPeople", case.await_event("Enrollment Awaiting Approval"))
    lines = capsys.readouterr().out.splitlines()
    said = [one for one in lines if "MailsUndelivered" in one]

    assert post.of(case) == ASKED[1:]
    assert undelivered("\n".join(said)) == [("Ada Lovelace", reason)]
    assert len(said) == 1  # the event came twice
    assert sorted(one["done"]["S"] for one in notes(stack)) == sorted([reason, "sent"])


def test_who_is_not_in_the_directory_gets_no_mail(
    case: Case, stack: InProcessStack, post: Post, capsys: pytest.CaptureFixture[str]
) -> None:
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    case.await_event("Enrollment Awaiting Approval")
    case.approve(person)
    case.end(arn)
    stack.settle()

    assert post.of(case) == []
    assert undelivered(capsys.readouterr().out) == [("person 1", "unknown-person")]


@pytest.mark.parametrize("end", ["declined", "expired", "cancelled"])
def test_those_who_were_asked_and_the_requester_are_told_every_end(
    case: Case, stack: InProcessStack, post: Post, end: str
) -> None:
    arn = request_as(case, stack, "barbara", "code-signing@1")
    post.await_mails(case, 3)
    if end == "declined":
        case.decline(stack.people["Ada Lovelace"], stack.people["Grace Hopper"])
    elif end == "expired":
        case.advance(86_401)
    else:
        case.cancel()
    case.end(arn)
    stack.settle()
    told = {"declined": "Rejected", "expired": "Expired", "cancelled": "Cancelled"}[end]
    asked = [ALAN] if end == "declined" else [ADA, GRACE, ALAN]

    assert post.of(case)[3:] == [
        *((one, "Nothing more to decide: LABEL") for one in asked),
        (BARBARA, f"{told}: LABEL"),
    ]


def test_after_a_failure_the_requester_is_told_and_nobody_stands_down(
    case: Case, stack: InProcessStack, post: Post
) -> None:
    arn = request_as(case, stack, "barbara")
    post.await_mails(case, 2)
    case.stop(arn)
    case.end(arn)
    stack.settle()

    assert post.of(case) == [*ASKED, (BARBARA, "Failed: LABEL")]


def test_without_a_sender_nothing_is_sent(case: Case, stack: InProcessStack, post: Post) -> None:
    stack.configure(MailFrom="")
    arn = case.start(case.by_profile())
    case.approve(stack.people["Ada Lovelace"])
    case.end(arn)
    stack.settle()

    assert post.of(case) == []


def test_a_note_holds_no_address_and_vanishes(
    case: Case, stack: InProcessStack, post: Post
) -> None:
    case.start(case.by_profile())
    post.await_mails(case, 2)
    stack.sleep(1)
    found = notes(stack)

    assert len(found) == 2
    assert {*found[0]} == {"id", "at", "by", "done", "expires", "tries"}
    assert "ada" not in json.dumps(found).lower()
    assert int(found[0]["expires"]["N"]) > stack.clock.now


def notes(stack: InProcessStack) -> list[Json]:
    """What the table says of mails."""
    table = stack.outputs["EnrollmentsTableName"]
    items: list[Any] = stack.client("dynamodb").scan(TableName=table)["Items"]
    return [one for one in items if one["id"]["S"].startswith("mail#")]
