"""What people read: one golden mail for each event's sample."""

import json
from pathlib import Path
from typing import Any

import pytest

from countersign import events, mails
from local.generate.events import SAMPLES, slug

GOLDEN = Path(__file__).parent / "mails"

type Json = dict[str, Any]


def sample(event: type[events.Event], **different: Any) -> Json:
    whole: Json = json.loads((SAMPLES / f"{slug(event)}.json").read_text())
    return {**whole, "detail": {**whole["detail"], **different}}


@pytest.mark.parametrize("event", events.CATALOGUE, ids=slug)
def test_a_mail_reads_as_its_golden_file(event: type[events.Event]) -> None:
    mail = mails.render(sample(event))

    assert f"Subject: {mail.subject}\n\n{mail.text}" == (GOLDEN / f"{slug(event)}.txt").read_text()


def test_every_golden_mail_is_of_an_event() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {slug(one) for one in events.CATALOGUE}


@pytest.mark.parametrize("event", events.CATALOGUE, ids=slug)
def test_a_subject_is_short_printable_ascii_whatever_the_label(event: type[events.Event]) -> None:
    label = "Schlüssel\r\nBcc: everybody@example.com \u2028" + "x" * 200

    subject = mails.render(sample(event, keyLabel=label)).subject

    assert len(subject) <= 99
    assert subject.isascii()
    assert subject.isprintable()
    assert subject.startswith("[Countersign] ")


def test_a_reason_cannot_look_like_a_line_of_ours() -> None:
    reason = "x\n\nStill to decide:\n  nobody\u2028what to do: approve\u202e"

    text = mails.render(sample(events.AwaitingApproval, reason=reason)).text

    assert text.count("\nStill to decide:\n") == 1
    assert "\u2028" not in text
    assert "\u202e" not in text


def test_a_failure_mail_says_what_to_do() -> None:
    text = mails.render(sample(events.Failed)).text

    assert "what to do:    Look errorCode up" in text


@pytest.mark.parametrize(
    "event", [events.Issued, events.Rejected, events.Expired, events.Cancelled]
)
def test_those_who_said_nothing_may_stand_down(event: type[events.Event]) -> None:
    text = mails.render(sample(event, pending=["Grace Hopper"])).text

    assert text.rstrip().endswith("stand down:\n  Grace Hopper")


def test_a_mail_of_a_quorum_under_a_timelock_says_so() -> None:
    whole = sample(events.ApprovalProgressed, tsbStatus="APPROVED", outstanding=[], openGroups=[])

    text = mails.render(whole).text

    assert text.startswith("The quorum has agreed. The HSM signs as soon as the timelock")
    assert "Still to decide" not in text


@pytest.mark.parametrize(
    ("by", "words"),
    [
        (None, "Cancelled by somebody at the TSB, which does not say who."),
        ("countersign", "Cancelled by the workflow at 10:00: the TSB neither decided nor"),
        ("arn:aws:iam::111122223333:user/ada", "by arn:aws:iam::111122223333:user/ada at 10:00."),
    ],
)
def test_a_cancellation_mail_says_by_whom(by: str | None, words: str) -> None:
    cancel = by and {"by": by, "at": "10:00"}

    assert words in mails.render(sample(events.Cancelled, cancel=cancel)).text
