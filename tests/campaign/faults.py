"""Faults at every boundary of an enrollment, one by one and in random company, and what must hold.

A boundary is a call of the TSB, a call of an AWS service, or a state. A schedule is a list of
faults that befall one enrollment; a random one is given by its seed alone, so that it can be
replayed: `python -m tests.campaign faults --seed 17`.
"""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from countersign import csr
from local.stack import Stack
from tests.e2e.case import Case, Json, Run

TSB_CALLS = {
    "CreateKey": ("POST", "/v1/key"),
    "RequestCsr": ("POST", "/v1/certificate/request"),
    "PollRequest": ("GET", "/v1/request/{id}"),
    "StoreCsr": ("POST", "/v1/key/attributes"),
    "DiscardKey": ("POST", "/v1/key/deleteKey"),
}
NEVER_SAID = {"errorCode": 2, "reason": "res.error.connectivity", "message": "no HSM"}
TSB_FAULTS: dict[str, Json] = {
    "503": {"kind": "status", "httpStatus": 503},
    "429": {"kind": "status", "httpStatus": 429},
    "500 no HSM": {"kind": "status", "httpStatus": 500, "body": NEVER_SAID},
    "500 after": {"kind": "status", "httpStatus": 500, "body": NEVER_SAID, "executed": True},
    "502 HTML after": {"kind": "status", "httpStatus": 502, "body": "<html>", "executed": True},
    "504 after": {"kind": "status", "httpStatus": 504, "executed": True},
    "200 HTML after": {"kind": "status", "httpStatus": 200, "body": "<html>", "executed": True},
    "reset before": {"kind": "drop"},
    "reset after": {"kind": "drop", "executed": True},
    "half an answer": {"kind": "truncate"},
}
# Beyond the client's read time-out of 20 s; real time, so once for each call.
SLOW: dict[str, Json] = {"slower than the limit": {"kind": "delay", "seconds": 23}}
# The calls that each state makes, in order, beside those of the secrets.
AWS_CALLS: dict[str, list[str]] = {
    "AcceptEnrollment": ["PutItem", "PutObject", "PutEvents", "UpdateItem"],
    "CreateKey": ["UpdateItem", "PutItem", "PutObject", "UpdateItem"],
    "RequestCsr": ["UpdateItem", "UpdateItem"],
    "PollRequest": ["GetItem", "PutObject", "UpdateItem", "PutEvents"],
    "StoreCsr": ["PutObject", "UpdateItem", "PutObject", "UpdateItem"],
    "DiscardKey": ["GetItem", "UpdateItem", "UpdateItem", "UpdateItem"],
    "CloseEnrollment": ["GetItem", "UpdateItem", "PutEvents", "UpdateItem"],
}
WHENS = ("before", "after", "repeat")
STATES = tuple(AWS_CALLS)
ENDS = {f"Enrollment {one}" for one in ("Issued", "Rejected", "Expired", "Cancelled", "Failed")}
OPEN = ("PENDING", "APPROVED")
DECIDE_SECONDS = 0.5


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, at one boundary."""

    boundary: str
    name: str
    state: str
    tsb: Json | None = field(default=None, hash=False)
    worker: Json | None = field(default=None, hash=False)

    def arm(self, case: Case) -> None:
        """Order it for this enrollment."""
        if self.tsb is not None:
            method, path = TSB_CALLS[self.state]
            case.fault(method, path, **self.tsb)
        if self.worker is not None:
            case.stack.strike(self.state, case.id, **self.worker)


def at_the_tsb(state: str, name: str) -> Fault:
    method, path = TSB_CALLS[state]
    return Fault(f"{state}: {method} {path}", name, state, tsb=(TSB_FAULTS | SLOW)[name])


def at_aws(state: str, number: int, when: str) -> Fault:
    operation = AWS_CALLS[state][number]
    skip = AWS_CALLS[state][:number].count(operation)
    order = {"kind": "aws", "operation": operation, "skip": skip, "when": when}
    name = {"before": "refused", "after": "executed, then refused", "repeat": "executed twice"}
    return Fault(f"{state}: {operation} {skip + 1}", name[when], state, worker=order)


def at_the_state(state: str, name: str) -> Fault:
    orders: dict[str, Json] = {
        "killed before": {"kind": "die", "when": "before"},
        "killed after": {"kind": "die", "when": "after"},
        "run twice at once": {"kind": "twice"},
    }
    return Fault(state, name, state, worker=orders[name])


# DiscardKey is reached through a lost answer only.
LOST = at_the_tsb("RequestCsr", "reset after")


def systematic() -> Iterator[list[Fault]]:
    """Every fault at every boundary, alone (and after a lost answer, where DiscardKey is meant)."""
    alone = [
        *(at_the_tsb(state, name) for state in TSB_CALLS for name in (*TSB_FAULTS, *SLOW)),
        *(
            at_aws(state, number, when)
            for state, calls in AWS_CALLS.items()
            for number in range(len(calls))
            for when in WHENS
        ),
        *(
            at_the_state(state, name)
            for state in STATES
            for name in ("killed before", "killed after", "run twice at once")
        ),
    ]
    for fault in alone:
        yield [LOST, fault] if fault.state == "DiscardKey" else [fault]


def drawn(seed: int) -> list[Fault]:
    """A random schedule of one to four faults; the same for the same seed."""
    chance = random.Random(seed)
    faults: list[Fault] = []
    for _ in range(chance.randint(1, 4)):
        kind = chance.choice(("tsb", "aws", "state"))
        if kind == "tsb":
            faults.append(
                at_the_tsb(chance.choice(list(TSB_CALLS)), chance.choice(list(TSB_FAULTS)))
            )
        elif kind == "aws":
            state = chance.choice(STATES)
            number = chance.randrange(len(AWS_CALLS[state]))
            faults.append(at_aws(state, number, chance.choice(WHENS)))
        else:
            name = chance.choice(("killed before", "killed after", "run twice at once"))
            faults.append(at_the_state(chance.choice(STATES), name))
    return faults


class Approvers:
    """Somebody approves whatever is asked for a key, as long as this is open."""

    def __init__(self, stack: Stack, label: str) -> None:
        self._stack = stack
        self._label = label
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._approve, daemon=True)

    def __enter__(self) -> "Approvers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _approve(self) -> None:
        decision = {"decision": "approve"}
        while not self._done.wait(DECIDE_SECONDS):
            for one in self._stack.control("GET", f"/state?label={self._label}")["requests"]:
                if one["status"] in OPEN:
                    # Decided, or gone with its key, meanwhile: nothing to do.
                    with suppress(OSError):
                        self._stack.control("POST", "/decide", {"requestId": one["id"], **decision})


def new_case(stack: Stack, name: str) -> Case:
    case = Case(stack)
    case.id = f"campaign-{name}-{case.id.removeprefix('e2e-')}"
    case.label = f"key.{case.id}"
    return case


def carry_out(case: Case, faults: list[Fault]) -> Run:
    """One enrollment under these faults, to its end and its announcement."""
    for fault in faults:
        fault.arm(case)
    with Approvers(case.stack, case.label):
        run = case.end(case.start(case.request()), event=False)
    deadline = time.monotonic() + 60
    while not _outcomes(case) and time.monotonic() < deadline:
        time.sleep(0.2)
    run.events = case.stack.events(case.id)
    run.record = case.record()
    run.more["faults"] = [f"{fault.boundary}: {fault.name}" for fault in faults]
    return run


def _outcomes(case: Case) -> list[str]:
    return [e["detail-type"] for e in case.stack.events(case.id) if e["detail-type"] in ENDS]


def violations(run: Run) -> list[str]:
    """What does not hold that must hold whatever went wrong."""
    found = []
    alive = [key for key in run.keys if not key["deleted"]]
    # An approver may have been quicker than DiscardKey: what was executed for a key that is gone
    # stays EXECUTED at TSB, and is no approval of anything that lives.
    asked = [one for one in run.requests if one["status"] in OPEN]
    told = {event["detail-type"] for event in run.events if event["detail-type"] in ENDS}
    outcome = run.record.get("outcome")
    executed = {one["id"] for one in run.requests if one["status"] == "EXECUTED"}
    if len(alive) > 1:
        found.append(f"{len(alive)} live keys")
    if len(asked) > (outcome != "ISSUED"):
        found.append(f"{len(asked)} open approval requests")
    if not told:
        found.append("no outcome event")
    if len(told) > 1:
        found.append(f"contradicting events: {sorted(told)}")
    if outcome is None:
        found.append("no outcome on record")
    elif told and told != {f"Enrollment {outcome.title()}"}:
        found.append(f"on record {outcome}, told {sorted(told)}")
    if outcome == "ISSUED":
        found += _not_issued(run, alive)
        if run.record["requestId"] not in executed:
            found.append("issued by a request that TSB did not execute")
    elif "request.pem" in run.objects and run.record.get("csr"):
        found.append(f"a CSR on record for {outcome}")
    if outcome == "FAILED" and alive and run.record.get("keyLabel") != run.label:
        found.append("an orphan key that no record names")
    return found


def _not_issued(run: Run, alive: list[Json]) -> list[str]:
    pem = run.objects.get("request.pem", b"").decode()
    if not pem:
        return ["issued without a CSR in S3"]
    stored = run.record["csr"]
    read = csr.read_csr(pem)
    found = []
    if read.sha256 != stored["sha256"]:
        found.append("the CSR in S3 is not the one on record")
    if read.public_key_sha256 != run.record["publicKeySha256"] or not alive:
        found.append("the CSR's key is not the live key")
    return found


def row(run: Run) -> dict[str, Any]:
    """What the report says of a run."""
    return {
        "faults": run.more["faults"],
        "outcome": run.record.get("outcome"),
        "error": (run.record.get("error") or {}).get("name"),
        "keysMade": len(run.keys),
        "keysAlive": sum(not key["deleted"] for key in run.keys),
        "requestsMade": len(run.requests),
        "requestsOpen": sum(one["status"] in OPEN for one in run.requests),
        "events": sum(event["detail-type"] in ENDS for event in run.events),
        "violations": violations(run),
        "id": run.record.get("id"),
    }


def started_twice(case: Case) -> tuple[Run, Json]:
    """The same request at two doors at once: one enrollment, and one that says so."""
    with Approvers(case.stack, case.label):
        arns = [case.start(case.request()) for _ in range(2)]
        runs = [case.end(arn, event=False) for arn in arns]
    case.await_event("Enrollment Issued")
    twins = [run for run in runs if run.document.get("duplicate")]
    run = next(run for run in runs if run not in twins)
    run.events, run.record = case.stack.events(case.id), case.record()
    run.more["faults"] = ["door: delivered twice at once"]
    return run, {"duplicates": len(twins)}
