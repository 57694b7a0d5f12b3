"""What the mails to approvers and requesters say: a golden text and page for each of them."""

import re
from copy import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from countersign import models as m
from countersign.letters import text
from countersign.letters.text import Facts, Letter

GOLDEN = Path(__file__).parent / "letters"
NOW = datetime(2026, 11, 27, 9, 12, tzinfo=UTC)
ODD = "OPS-42\n\nSHA-256: 00 <img src=x onerror=alert(1)> \u202e https://evil.example"


def approver(name: str, decision: str) -> m.Approver:
    return m.Approver.read({"name": name, "spkiSha256": "a" * 64, "decision": decision})


OF_THE_CSR = Facts(
    enrollment_id="release-2027-01",
    key_label="SUB.release-2027",
    about=(
        ("Approve", "a certificate signing request (CSR), signed once with a new HSM key"),
        ("Subject commonName", "Release signing 2027"),
        ("Key label", "SUB.release-2027"),
        ("Agreement", '2 of "Ada Lovelace", "Grace Hopper", "Alan Turing"'),
        ("Enrollment", "release-2027-01"),
        ("Requested by", "barbara"),
        ("Reason", ODD),
    ),
    request_id="6d5a37e9-9b7b-49d3-a1a0-8a3509eabc44",
    sha256="5d41402abc4b2a76b9719d911017c592" * 2,
    approvers=(
        approver("Ada Lovelace", "approved"),
        approver("Grace Hopper", "outstanding"),
        approver("Alan Turing", "outstanding"),
    ),
    window_ends=m.timestamp(NOW + timedelta(hours=5, minutes=10)),
    operators="pki@example.com",
)
OF_THE_CERTIFICATE = replace(
    OF_THE_CSR,
    what="certificate",
    about=(
        ("Approve", "a certificate, signed once with the CA's key for a verified CSR"),
        ("CA key label", "CA.code-signing"),
        ("Key label", "SUB.release-2027"),
        ("CSR", f"sha256:{'c0' * 32}"),
    ),
    approvers=(approver("Katherine Johnson", "outstanding"),),
    window_ends=m.timestamp(NOW + timedelta(days=2)),
    operators="",
)
STORED = [("CSR", "s3://bucket/enrollments/release-2027-01/request.pem"),
          ("CSR, SHA-256 (DER)", "c0" * 32)]  # fmt: skip
# All mails of one enrollment, in their order.
LETTERS: dict[str, Letter] = {
    "asked": text.asked(OF_THE_CSR, "Grace Hopper", NOW),
    "reminder": text.reminder(OF_THE_CSR, "Grace Hopper", NOW),
    "stand-down": text.stand_down(OF_THE_CSR, "Alan Turing", m.Outcome.ISSUED),
    "asked-certificate": text.asked(OF_THE_CERTIFICATE, "Katherine Johnson", NOW),
    "last-reminder": text.last_reminder(OF_THE_CERTIFICATE, "Barbara Liskov", NOW),
    "stand-down-certificate": text.stand_down(
        OF_THE_CERTIFICATE, "Katherine Johnson", m.Outcome.EXPIRED
    ),
    "outcome": text.outcome(OF_THE_CERTIFICATE, "Barbara Liskov", m.Outcome.ISSUED, STORED),
    "outcome-failed": text.outcome(
        OF_THE_CSR, "Barbara Liskov", m.Outcome.FAILED, [("What happened", ODD)]
    ),
}


@pytest.mark.parametrize("name", LETTERS)
def test_a_mail_reads_as_its_golden_files(name: str) -> None:
    letter = LETTERS[name]

    assert f"Subject: {letter.subject}\n\n{letter.text}" == (GOLDEN / f"{name}.txt").read_text()
    assert letter.html == (GOLDEN / f"{name}.html").read_text()


def test_every_golden_file_is_of_a_mail() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(LETTERS)


@pytest.mark.parametrize("name", LETTERS)
def test_what_a_caller_wrote_is_no_line_no_markup_and_no_link(name: str) -> None:
    letter = LETTERS[name]

    assert not re.findall(
        r"<(?:a|img|script|link|iframe)\b|\b(?:href|src|on\w+)=[\"']", letter.html
    )
    assert not [line for line in letter.text.splitlines() if line.startswith("SHA-256: 00")]
    assert "\u202e" not in letter.text + letter.html


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (timedelta(days=3), "(in 3 days)"),
        (timedelta(hours=47, minutes=59), "(in 47 h)"),
        (timedelta(minutes=59, seconds=59), "(in 59 min)"),
        (timedelta(seconds=30), "(now)"),
        (-timedelta(days=1), "(now)"),
    ],
    ids=str,
)
def test_a_window_s_end_is_said_in_utc_and_from_now(left: timedelta, said: str) -> None:
    facts = replace(OF_THE_CSR, window_ends=m.timestamp(NOW + left))

    line = text.asked(facts, "Ada", NOW).text.replace("\n", " ")

    assert f"{NOW + left:%d %B %Y, %H:%M} UTC {said}." in line


def test_without_an_end_none_is_said() -> None:
    facts = replace(OF_THE_CSR, window_ends=None)

    assert "agree to a certificate signing request." in text.asked(facts, "Ada", NOW).text
    assert "It counts at any time." in text.reminder(facts, "Ada", NOW).text.replace("\n", " ")


def test_a_command_and_a_hash_are_on_lines_of_their_own() -> None:
    lines = LETTERS["asked"].text.splitlines()

    assert "Command:      countersign approvals show release-2027-01" in lines
    assert f"SHA-256:      {OF_THE_CSR.sha256}" in lines
