"""Faults at every boundary of an enrollment, one by one and in random company, and what must hold.

A boundary is a call of the TSB, a call of an AWS service, or a state. A schedule says which faults
befall one enrollment and what its approvers do; a random one is given by its seed alone, so that it
can be replayed: `python -m tests.campaign faults --seed 17`.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from countersign import csr, evidence
from local.caller import Caller
from local.stack import REGION, Stack
from tests.e2e.case import Case, Json, Run
from tests.e2e.test_doors import parent, put_event
from tests.e2e.test_keys import by_profile

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
# The calls that each state makes, in order, beside those of the secrets; a turn to create a key is
# two UpdateItems where the queue had run empty.
AWS_CALLS: dict[str, list[str]] = {
    "AcceptEnrollment": ["PutItem", "PutObject", "PutEvents", "UpdateItem"],
    "CreateKey": ["UpdateItem", "PutItem", "PutObject", "UpdateItem"],
    "RequestCsr": ["GetItem", "Sign", "PutObject", "UpdateItem", "UpdateItem"],
    "PollRequest": ["GetItem", "PutObject", "UpdateItem", "PutEvents"],
    "StoreCsr": ["GetItem", "PutObject", "PutObject", "UpdateItem", "PutObject", "UpdateItem"],
    "DiscardKey": ["GetItem", "GetItem", "UpdateItem", "UpdateItem", "UpdateItem"],
    "CloseEnrollment": ["GetItem", "UpdateItem", "GetItem", "PutEvents", "UpdateItem"],
}
TURNS = ("AcceptEnrollment", "DiscardKey")
AWS_FAULTS = {
    "refused": "before",
    "executed, then refused": "after",
    "executed twice": "repeat",
    "failed entry": "entry",  # of PutEvents alone
}
STATE_FAULTS: dict[str, Json] = {
    "killed before": {"kind": "die", "when": "before"},
    "killed after": {"kind": "die", "when": "after"},
    "run twice at once": {"kind": "twice"},
}
# At Lambda's timeout of 30 s; real time, so once for each state.
HANGS: dict[str, Json] = {
    "killed at its timeout, before": {"kind": "hang", "when": "before"},
    "killed at its timeout, after": {"kind": "hang", "when": "after"},
}
STATES = tuple(AWS_CALLS)
# Beside the workflow, behind a queue that delivers again after 180 s; the first call of each kind.
EVIDENCE = "KeepEvidence"
EVIDENCE_CALLS = ["ListObjectsV2", "GetItem", "GetObject", "PutObject", "Sign"]
EVIDENCE_SECONDS = 400
ENDS = {f"Enrollment {one}" for one in ("Issued", "Rejected", "Expired", "Cancelled", "Failed")}
OPEN = ("PENDING", "APPROVED")
DECIDE_SECONDS = 0.5
LOOK_SECONDS = 10  # the first look comes within, on two cores with a dozen at once
BY_PROFILE, DECLINED = 0.5, 0.6  # of the random ones; the latter of those by profile


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, at one boundary."""

    boundary: str
    name: str
    state: str
    tsb: Json | None = field(default=None, hash=False)
    worker: Json | None = field(default=None, hash=False)

    def arm(self, case: Case) -> Path | None:
        """Order it for this enrollment; a file that is there once it has struck, or None.

        None for a fault of TSB's: its account of calls tells.
        """
        if self.worker is not None:
            return case.stack.strike(self.state, case.id, **self.worker)
        method, path = TSB_CALLS[self.state]
        case.fault(method, path, **(self.tsb or {}))
        return None


def at_the_tsb(state: str, name: str) -> Fault:
    method, path = TSB_CALLS[state]
    return Fault(f"{state}: {method} {path}", name, state, tsb=(TSB_FAULTS | SLOW)[name])


def refused(state: str) -> Fault:
    method, path = TSB_CALLS[state]
    order = {"kind": "refused", "path": path.partition("{")[0]}
    return Fault(f"{state}: {method} {path}", "connection refused", state, worker=order)


def at_aws(state: str, number: int, name: str) -> Fault:
    calls = EVIDENCE_CALLS if state == EVIDENCE else AWS_CALLS[state]
    operation = calls[number]
    skip = calls[:number].count(operation)
    order = {"kind": "aws", "operation": operation, "skip": skip, "when": AWS_FAULTS[name]}
    return Fault(f"{state}: {operation} {skip + 1}", name, state, worker=order)


def aws_faults(operation: str) -> list[str]:
    return [name for name in AWS_FAULTS if name != "failed entry" or operation == "PutEvents"]


def at_the_state(state: str, name: str) -> Fault:
    return Fault(state, name, state, worker=(STATE_FAULTS | HANGS)[name])


@dataclass(frozen=True)
class Schedule:
    """What befalls one enrollment.

    Args:
        faults: in any order; each strikes once.
        decision: of all approvers, `approve` or `decline`.
        by_profile: asked by profile `trial`, which wants unused keys deleted; else the seed's
            whole request, whose unused keys are kept.
    """

    faults: tuple[Fault, ...]
    decision: str = "approve"
    by_profile: bool = False

    @property
    def told(self) -> list[str]:
        """What the report says of it."""
        asked = [f"{self.decision}, unused key deleted"] if self.by_profile else []
        return [f"{fault.boundary}: {fault.name}" for fault in self.faults] + asked


# DiscardKey is reached through a lost answer only.
LOST = at_the_tsb("RequestCsr", "reset after")


def systematic() -> Iterator[Schedule]:
    """Every fault at every boundary, alone (and after a lost answer, where DiscardKey is meant)."""
    alone = [
        *(at_the_tsb(state, name) for state in TSB_CALLS for name in (*TSB_FAULTS, *SLOW)),
        *(refused(state) for state in TSB_CALLS),
        *(
            at_aws(state, number, name)
            for state, calls in (*AWS_CALLS.items(), (EVIDENCE, EVIDENCE_CALLS))
            for number, operation in enumerate(calls)
            for name in aws_faults(operation)
        ),
        *(
            at_the_state(state, name)
            for state in (*STATES, EVIDENCE)
            for name in (*STATE_FAULTS, *HANGS)
        ),
    ]
    for fault in alone:
        yield Schedule((LOST, fault) if fault.state == "DiscardKey" else (fault,))


def drawn(seed: int) -> Schedule:
    """A random schedule of one to four faults; the same for the same seed."""
    chance = random.Random(seed)
    faults: list[Fault] = []
    for _ in range(chance.randint(1, 4)):
        kind = chance.choice(("tsb", "aws", "state"))
        if kind == "tsb":
            called = chance.choice(list(TSB_CALLS))
            name = chance.choice((*TSB_FAULTS, "connection refused"))
            faults.append(refused(called) if name not in TSB_FAULTS else at_the_tsb(called, name))
        elif kind == "aws":
            state = chance.choice(STATES)
            number = chance.randrange(len(AWS_CALLS[state]))
            names = aws_faults(AWS_CALLS[state][number])
            faults.append(at_aws(state, number, chance.choice(names)))
        else:
            name = chance.choice(list(STATE_FAULTS))
            faults.append(at_the_state(chance.choice(STATES), name))
    by_profile = chance.random() < BY_PROFILE
    declined = by_profile and chance.random() < DECLINED
    return Schedule(tuple(faults), "decline" if declined else "approve", by_profile)


class Approvers:
    """Somebody decides whatever is asked for a key, as long as this is open."""

    def __init__(
        self, stack: Stack, label: str, decision: str = "approve", *, after_seconds: float = 0
    ) -> None:
        self._stack = stack
        self._label = label
        self._decision = decision
        self._after = after_seconds
        self._since: dict[str, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._decide, daemon=True)

    def __enter__(self) -> "Approvers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _decide(self) -> None:
        decision = {"decision": self._decision}
        while not self._done.wait(DECIDE_SECONDS):
            for one in self._stack.control("GET", f"/state?label={self._label}")["requests"]:
                since = self._since.setdefault(one["id"], time.monotonic())
                if one["status"] in OPEN and time.monotonic() - since >= self._after:
                    # Decided, or gone with its key, meanwhile: nothing to do.
                    with suppress(OSError):
                        self._stack.control("POST", "/decide", {"requestId": one["id"], **decision})


def new_case(stack: Stack, name: str) -> Case:
    case = Case(stack)
    case.id = f"campaign-{name}-{case.id.removeprefix('e2e-')}"
    case.label = f"key.{case.id}"
    return case


def carry_out(case: Case, schedule: Schedule) -> Run:
    """One enrollment under these faults, to its end and its announcement."""
    asked = by_profile(case) if schedule.by_profile else case.request()
    orders = [fault.arm(case) for fault in schedule.faults]
    # What befalls a look that finds the request open needs one.
    looked_at = any(fault.state == "PollRequest" for fault in schedule.faults)
    patience = LOOK_SECONDS if looked_at else 0
    with Approvers(case.stack, case.label, schedule.decision, after_seconds=patience):
        run = case.end(case.start(asked), event=False)
    settle(case, run)
    run.more["faults"] = schedule.told
    run.more["struck"] = sum(order.exists() for order in orders if order) + sum(
        call["fault"] is not None for call in run.calls
    )
    return run


def settle(case: Case, run: Run) -> None:
    """Wait for what follows an end (its event, its evidence), and look at it then."""
    deadline = time.monotonic() + 60
    while not _outcomes(case) and time.monotonic() < deadline:
        time.sleep(0.2)
    run.events = case.stack.events(case.id)
    run.record = case.record()
    claim = case.stack.client("dynamodb").get_item(
        TableName=case.stack.outputs["EnrollmentsTableName"],
        Key={"id": {"S": f"label#{case.label}"}},
    )
    run.more["claim"] = claim.get("Item", {}).get("enrollmentId", {}).get("S", "nobody")
    gather_evidence(case, run)


def gather_evidence(case: Case, run: Run) -> None:
    """Wait for the evidence of the execution that ended last."""
    deadline = time.monotonic() + EVIDENCE_SECONDS
    kept: dict[str, bytes] = {}
    while evidence.SIGNATURE not in kept and time.monotonic() < deadline:
        time.sleep(0.5)
        kept = case.stack.evidence(case.id, run.record.get("executionArn", run.arn))
    run.more["evidence"] = kept
    run.more["signingKey"] = case.stack.signing_key()


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
    if alive and run.more.get("claim") not in (None, run.record.get("id")):
        found.append(f"an orphan key: its label is claimed by {run.more['claim']!r}")
    unused = run.record.get("unusedKey") or {}
    if outcome != "ISSUED" and alive and _wanted(run) == "delete" and not unused.get("error"):
        found.append("an unused key is there that the profile wants deleted")
    return found + _not_proven(run)


def _wanted(run: Run) -> str:
    asked = json.loads(run.objects.get("request.json", b"{}"))
    return str(asked.get("unusedKey", "keep"))


def _not_proven(run: Run) -> list[str]:
    try:
        proven = evidence.verify(run.more["evidence"], run.more["signingKey"])
    except evidence.EvidenceInvalidError as error:
        return [f"evidence: {error}"]
    said = proven.facts["outcome"]
    return [] if said == run.record.get("outcome") else [f"the evidence says {said}"]


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
        "struck": run.more["struck"],
        "violations": violations(run),
        "id": run.record.get("id"),
    }


# Delivered twice at once, at every door ---------------------------------------------------------


def _by_api(case: Case, asked: Json) -> None:
    caller = Caller(case.stack, f"{case.id}-{threading.get_ident()}")
    caller.call("POST", "/enrollments", asked).raise_for_status()


def _by_schedule(case: Case, asked: Json) -> None:
    # The Scheduler delivers an occurrence again with the same input.
    arn = f"arn:aws:scheduler:{REGION}:000000000000:schedule/default/{asked['enrollmentId']}"
    unnamed = {name: value for name, value in asked.items() if name != "enrollmentId"}
    case.start(unnamed, door="schedule", id=arn, time="2026-11-24T09:00:00Z")
    case.id = f"{asked['enrollmentId']}-20261124T090000Z"


DOORS: dict[str, Callable[[Case, Json], Any]] = {
    "execution": Case.start,
    "API": _by_api,
    "event": put_event,
    "schedule": _by_schedule,
    "other state machine": parent,
}


def delivered_twice(case: Case, door: str) -> Run:
    """The same request at a door twice at once: one enrollment comes of it."""
    asked = case.request()
    with Approvers(case.stack, case.label):
        with ThreadPoolExecutor(2) as pool:
            answered = list(pool.map(lambda _: DOORS[door](case, asked), range(2)))
        run = case.end(case.execution(), event=False)
    settle(case, run)
    run.more["faults"] = [f"door: {door}: delivered twice at once"]
    run.more["struck"] = len(answered)
    return run
