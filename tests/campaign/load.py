"""A thousand enrollments pending at once, and a burst of a hundred, on the embedded stack."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psutil

from countersign.events import ENDINGS
from local.stack import Stack
from tests.ca import Ca
from tests.case import Case, Json, people

KEYS_PER_MINUTE = 240
# Waits are real here, so that the rate is; the first poll comes late, so that the machine keeps up.
PARAMETERS = {"KeysPerMinute": str(KEYS_PER_MINUTE), "PollFloorSeconds": "60"}
LOOK_SECONDS = 2
CERTIFIED_SHARE = 10  # each tenth asks for a certificate, too


@dataclass
class Watched:
    """The processes of a stack: the most memory that they took together."""

    most_bytes: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def watch(self, pids: list[int]) -> None:
        while not self._done.wait(LOOK_SECONDS):
            total = 0
            for pid in pids:
                with suppress(psutil.Error):
                    parent = psutil.Process(pid)
                    for one in (parent, *parent.children(recursive=True)):
                        with suppress(psutil.Error):
                            total += one.memory_info().rss
            self.most_bytes = max(self.most_bytes, total)

    def stop(self) -> None:
        self._done.set()


def start(stack: Stack, number: int, per_second: float | None, ca: Ca) -> list[Case]:
    """Start so many enrollments, all at once or at a pace; some want a certificate of this CA."""
    cases = [Case(stack) for _ in range(number)]
    requests = {case.id: case.request() for case in cases}
    requests |= {case.id: ca.request(case.request()) for case in cases[::CERTIFIED_SHARE]}
    if per_second is None:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda case: case.start(requests[case.id]), cases))
        return cases
    for case in cases:
        begun = time.monotonic()
        case.start(requests[case.id])
        time.sleep(max(1 / per_second - (time.monotonic() - begun), 0))
    return cases


def make_ca(stack: Stack) -> Ca:
    """A CA with one approver, who is nobody else's."""
    return Ca.make(Case(stack), *people(1))


def pending(stack: Stack) -> int:
    """Open requests at the TSB."""
    requests = stack.control("GET", "/state")["requests"]
    return sum(one["status"] == "PENDING" for one in requests)


def approve_all(stack: Stack) -> None:
    for one in stack.control("GET", "/state")["requests"]:
        if one["status"] == "PENDING":
            stack.control("POST", "/decide", {"requestId": one["id"], "decision": "approve"})


def all_ended(stack: Stack, cases: list[Case]) -> bool:
    """Whether all of these have ended; approves what the second quorums are asked meanwhile."""
    approve_all(stack)
    return sum(ended(stack, cases).values()) >= len(cases)


def certified(stack: Stack) -> int:
    """How many were announced with their certificate, each counted once."""
    return len(
        {
            event["detail"]["enrollmentId"]
            for event in stack.events()
            if event["detail-type"] == "Enrollment Issued" and event["detail"].get("certificate")
        }
    )


def until(poll: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if poll():
            return True
        time.sleep(LOOK_SECONDS)
    return False


def ended(stack: Stack, cases: list[Case]) -> dict[str, int]:
    """How many of these ended how, by their events; each counted once."""
    ids = {case.id for case in cases}
    told: dict[str, set[str]] = {}
    for event in stack.events():
        if event["detail"]["enrollmentId"] in ids and event["detail-type"] in ENDINGS:
            told.setdefault(event["detail-type"], set()).add(event["detail"]["enrollmentId"])
    return {name: len(which) for name, which in told.items()}


def busiest(stack: Stack, seconds: float) -> int:
    """The most keys that were created within so many seconds."""
    calls: list[Json] = stack.control("GET", "/calls")
    moments = sorted(
        datetime.fromisoformat(call["at"]).timestamp()
        for call in calls
        if call["path"] == "/v1/key" and call["executed"]
    )
    return max(
        (sum(moment <= other < moment + seconds for other in moments) for moment in moments),
        default=0,
    )


def doubled(stack: Stack, ca: Ca, certified: int) -> int:
    """Labels with more than one live key or request, and questions to the CA's approvers beyond
    those of so many certificates.
    """
    state = stack.control("GET", "/state")
    keys = [key["label"] for key in state["keys"] if not key["deleted"]]
    made = [one["label"] for one in state["requests"] if one["status"] != "CANCELLED"]
    requests = [label for label in made if label != ca.label]
    of_the_ca = len(made) - len(requests) - 1 - certified  # one is its own certificate's
    return len(keys) - len(set(keys)) + len(requests) - len(set(requests)) + of_the_ca
