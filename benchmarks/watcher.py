"""How late WatchEnrollments sees news, by how much is open.

It is the real function over a real table and its index, in virtual time: only the TSB is made up.
What it costs is in `bill.py`.
"""

from collections.abc import Iterable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import cast

from benchmarks.bill import TSB_SECONDS, WATCHED_A_MINUTE
from benchmarks.pollers import RUN_EVERY_SECONDS
from countersign import waits
from countersign.aws.records import Records
from countersign.record import Record
from countersign.tsb.models import RequestStatus
from local.engine.stack import InProcessStack, in_process_stack

OPEN = (1, 10, 100, 300, 1_000)
NEWS = 400  # in a virtual run
NEWS_AFTER_SECONDS = (120, 900)  # the last, of the same request


def delays(number: int) -> list[float]:
    """Seconds from news at the TSB to the wake, ascending, while so many requests are open.

    Each has news again and again, at any moment of some minutes. A run begins anywhere within its
    minute, because AWS promises a schedule to the minute.
    """
    with TemporaryDirectory() as folder, in_process_stack(Path(folder)) as stack:
        return sorted(_delays(stack, number))


def _delays(stack: InProcessStack, number: int) -> list[float]:
    table, began = Records(stack.outputs["EnrollmentsTableName"]), stack.clock.now
    chance = Random(number)  # noqa: S311  the same in each run
    names = [f"r-{one}" for one in range(number)]
    for name in names:
        table.put(_wait(name))
    news = {name: began + chance.uniform(*NEWS_AFTER_SECONDS) for name in names}
    seen: list[float] = []

    def ask(request_id: str) -> RequestStatus:
        stack.clock.advance(TSB_SECONDS / waits.AT_ONCE)
        return _status(request_id, "EXECUTED" if news[request_id] <= stack.clock.now else "PENDING")

    def wake(token: str) -> bool:
        seen.append(stack.clock.now - news[token])
        news[token] = stack.clock.now + chance.uniform(*NEWS_AFTER_SECONDS)
        return True

    run = 0
    while len(seen) < max(number, NEWS):
        begins = began + (run + chance.random()) * RUN_EVERY_SECONDS
        stack.clock.advance(max(0.0, begins - stack.clock.now))
        waits.wake_the_decided(
            records=table,
            ask=ask,
            wake=wake,
            limit=WATCHED_A_MINUTE,
            many=map,
            report=lambda _: None,
        )
        run += 1
    return seen


def _status(request_id: str, status: str) -> RequestStatus:
    return RequestStatus.model_validate({"id": request_id, "status": status})


def _wait(name: str) -> Record:
    wait = {
        "id": f"wait#{name}",
        "enrollmentId": name,
        "requestId": name,
        "token": name,
        "seen": _status(name, "PENDING").digest,
        "since": "2026-01-01T00:00:00Z",
        "failing": "",
        "waiting": "yes",
    }
    return cast("Record", wait)


def mean(numbers: Iterable[float]) -> float:
    """The mean."""
    known = list(numbers)
    return sum(known) / len(known)
