"""The README's tables of prices, from the schedule, the price file and the last measurement.

`python -m benchmarks.readme` writes them, `--check` fails where the README shows others.
"""

import json
import re
import sys
from bisect import bisect_left
from itertools import takewhile
from pathlib import Path
from typing import Any

from benchmarks import bill, history
from benchmarks.approvals import DAY, HOUR, MINUTE, Scenario
from benchmarks.pollers import LOOP, ours
from cli.prices import prices

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = Path(__file__).with_name("results.json")
AGES = {
    "4 minutes": 4 * MINUTE,
    "1 hour": HOUR,
    "24 hours": DAY,
    "7 days": 7 * DAY,
    "30 days": 30 * DAY,
}


def looks_until(age: int, window_seconds: int) -> int:
    """How often our schedule looks until it sees what ended at `age`."""
    scenario = Scenario("", "", window_seconds, 0, (age,))
    before = list(takewhile(lambda one: one < age, ours().ages(scenario)))
    return bisect_left(before, age) + 1


def waiting() -> str:
    """What waiting costs by the age at which the request ends."""
    lines = []
    for name, age in AGES.items():
        looks = looks_until(age, max(age, 7 * DAY))
        transitions = looks * LOOP.transitions
        events = history.events(history.path(looks, "ISSUED")).total()
        usd = transitions * prices()["stateTransition"]
        lines.append(f"| {name} | {looks:,} | {transitions:,} | {events:,} | {usd:.4f} |")
    return "\n".join(lines) + "\n"


def price() -> str:
    """What an enrollment and a stack cost in all."""
    results: dict[str, Any] = json.loads(RESULTS.read_text())
    all_in = {
        name: bill.total(bill.enrollment(results, looks_until(AGES[name], 7 * DAY), cold=True))
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


BLOCKS = {"waiting": waiting, "price": price}


def drawn(text: str) -> str:
    """The README with its blocks as they should be."""
    for name, make in BLOCKS.items():
        block = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        made = make()
        text = block.sub(made.replace("\\", r"\\"), text)
    return text


def main() -> int:
    """Write the blocks, or with `--check` compare them; 1 where they differ."""
    text = README.read_text()
    made = drawn(text)
    if "--check" in sys.argv[1:]:
        if made != text:
            print("README.md shows other prices: run `make draw`", file=sys.stderr)
            return 1
        return 0
    README.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
