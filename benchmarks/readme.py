"""What waiting and a stack cost, for the pages: from schedule, price file and measurement."""

import json
from bisect import bisect_left
from itertools import takewhile
from pathlib import Path
from typing import Any

from benchmarks import bill, history
from benchmarks.approvals import DAY, HOUR, MINUTE, Scenario
from benchmarks.pollers import CALLBACK, ours
from countersign_cli.prices import prices
from local.generate.pages import filled

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PERFORMANCE = ROOT / "docs/performance.md"
CERTIFICATES = ROOT / "docs/certificates.md"
RESULTS = Path(__file__).with_name("results.json")
AGES = {
    "4 minutes": 4 * MINUTE,
    "1 hour": HOUR,
    "24 hours": DAY,
    "7 days": 7 * DAY,
    "30 days": 30 * DAY,
}


def files() -> dict[Path, str]:
    """README.md with what an enrollment and a stack cost; docs/performance.md with the waiting;
    docs/certificates.md with a second quorum.
    """
    return {
        README: filled(README.read_text(), "price", price()),
        PERFORMANCE: filled(PERFORMANCE.read_text(), "waiting", waiting()),
        CERTIFICATES: filled(CERTIFICATES.read_text(), "quorums", quorums()),
    }


def polls_until(age: int, window_seconds: int) -> int:
    """How often our schedule has polled when it sees what ended at `age`."""
    scenario = Scenario("", "", window_seconds, 0, (age,))
    before = list(takewhile(lambda one: one < age, ours().ages(scenario)))
    return bisect_left(before, age) + 1


def waiting() -> str:
    """What waiting costs by the age at which the request ends."""
    lines = [
        "| Decided after | Polls | Transitions | History events |"
        " USD (0.025 per 1,000 transitions) |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, age in AGES.items():
        polls = polls_until(age, max(age, 7 * DAY))
        transitions = polls * CALLBACK.transitions
        events = history.events(history.path(polls, "ISSUED")).total()
        usd = transitions * prices()["stateTransition"]
        lines.append(f"| {name} | {polls:,} | {transitions:,} | {events:,} | {usd:.4f} |")
    return "\n".join(lines) + "\n"


def quorums() -> str:
    """What two quorums cost where each decides at the same age of its request."""
    lines = [
        "| Each decided after | Polls | Transitions | History events | USD |"
        " of it for the certificate |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, age in AGES.items():
        polls = polls_until(age, max(age, 7 * DAY))
        paths = history.path(polls, "ISSUED"), history.path_of_two(polls, polls)
        one, two = (history.transitions(path) * prices()["stateTransition"] for path in paths)
        events = history.events(paths[1]).total()
        counted = f"{2 * polls:,} | {history.transitions(paths[1]):,} | {events:,}"
        lines.append(f"| {name} | {counted} | {two:.4f} | {two - one:.4f} |")
    return "\n".join(lines) + "\n"


def price() -> str:
    """What an enrollment and a stack cost in all."""
    results: dict[str, Any] = json.loads(RESULTS.read_text())
    all_in = {
        name: bill.total(bill.enrollment(results, polls_until(AGES[name], 7 * DAY), cold=True))
        for name in ("4 minutes", "24 hours")
    }
    idle = bill.total(bill.idle_month())
    return (
        f"Everything included (Lambda with a cold start at every call, DynamoDB, S3, KMS, secrets,"
        f" logs), one enrollment costs about **USD {all_in['4 minutes']:.4f}** when it is approved"
        f" within 4 minutes and **USD {all_in['24 hours']:.3f}** after 24 hours; a stack that does"
        f" nothing costs **USD {idle:.2f}** a month. AWS list prices of {prices().region},"
        f" {prices().as_of}; itemised in [`benchmarks/report.md`](benchmarks/report.md).\n"
    )
