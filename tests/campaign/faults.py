"""Faults at every boundary of an enrollment, one by one and in random company, and what must hold.

A boundary is a call of the TSB, a call of an AWS service, or a state. A schedule says which faults
befall one enrollment and what its approvers do; a random one is given by its seed alone, so that it
can be replayed: `python -m tests.campaign faults --seed 17`. All of it is on the in-process stack,
where the same schedule takes the same course again.
"""

import json
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from countersign.events import ENDINGS
from countersign.evidence import bundle, verifier
from countersign.verification import csr
from local import template
from local.engine.invocation import Order
from local.engine.resources import STATES_ROLE
from local.engine.stack import InProcessStack
from local.engine.surroundings import ACCOUNT, REGION
from tests.case import ROOT, Case, Json, Result

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
# Beyond the client's read time-out of 20 s.
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
# At Lambda's timeout of 30 s.
HANGS: dict[str, Json] = {
    "killed at its timeout, before": {"kind": "hang", "when": "before"},
    "killed at its timeout, after": {"kind": "hang", "when": "after"},
}
STATES = tuple(AWS_CALLS)
# Beside the workflow, behind a queue that delivers again after 180 s; the first call of each kind.
EVIDENCE = "KeepEvidence"
EVIDENCE_CALLS = ["ListObjectsV2", "GetItem", "GetObject", "PutObject", "Sign"]
OPEN = ("PENDING", "APPROVED")
# What the approvers' decision may find: RequestCsr at work, the first wait, looks behind it.
DECIDED_AFTER = (0, 5, 60)  # seconds
BY_PROFILE, DECLINED = 0.5, 0.6  # of the random ones; the latter of those by profile


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, at one boundary."""

    boundary: str
    name: str
    state: str
    tsb: Json | None = field(default=None, hash=False)
    worker: Json | None = field(default=None, hash=False)

    def arm(self, case: Case) -> Order | None:
        """Order it for this enrollment; None for a fault of TSB's."""
        if self.worker is not None:
            order: Order = case.strike(self.state, **self.worker)
            return order
        method, path = TSB_CALLS[self.state]
        case.fault(method, path, **(self.tsb or {}))
        return None

    def has_struck(self, order: Order | None, result: Result) -> bool:
        """Whether it has; of a fault of TSB's, its account of calls tells."""
        if order is not None:
            return order.struck
        return any(
            (call["method"], call["path"]) == TSB_CALLS[self.state] and call["fault"] is not None
            for call in result.calls
        )

    def __str__(self) -> str:
        return f"{self.boundary}: {self.name}"


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
            raw request, whose unused keys are kept.
        after_seconds: how long the approvers take.
    """

    faults: tuple[Fault, ...]
    decision: str = "approve"
    by_profile: bool = False
    after_seconds: float = 0

    @property
    def patience(self) -> float:
        """Seconds until the decision: what befalls a poll that finds the request open needs one."""
        looked_at = any(fault.state == "PollRequest" for fault in self.faults)
        return max(DECIDED_AFTER) if looked_at else self.after_seconds

    @property
    def told(self) -> list[str]:
        """What the report says of it."""
        requested = [f"{self.decision}, unused key deleted"] if self.by_profile else []
        return [*map(str, self.faults), *requested]


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


def one_of_each_kind() -> list[Schedule]:
    """Of the systematic ones, one for each kind of fault; no state gets more than its share.

    A kind is what goes wrong (`503`, `executed twice`, `killed before`), wherever it does. Of the
    schedules with this kind it is the first one at the state that was struck least so far.
    """
    by_kind: dict[str, list[Schedule]] = {}
    for schedule in systematic():
        by_kind.setdefault(schedule.faults[-1].name, []).append(schedule)
    struck = dict.fromkeys((*STATES, EVIDENCE), 0)
    chosen = []
    # The kinds with the fewest states first: the others can make up for it.
    for schedules in sorted(by_kind.values(), key=lambda some: len({_state(s) for s in some})):
        schedule = min(schedules, key=lambda one: struck[_state(one)])
        struck[_state(schedule)] += 1
        chosen.append(schedule)
    return chosen


def _state(schedule: Schedule) -> str:
    return schedule.faults[-1].state


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
    decision = "decline" if declined else "approve"
    return Schedule(tuple(faults), decision, by_profile, chance.choice(DECIDED_AFTER))


def carry_out(stack: InProcessStack, name: str, schedule: Schedule) -> Result:
    """One enrollment under these faults, to its end and to the end of whatever follows it."""
    case = Case(stack, f"campaign-{name}")
    requested = case.by_profile() if schedule.by_profile else case.request()
    orders = [fault.arm(case) for fault in schedule.faults]
    arn = case.start(requested)
    result = decided(stack, case, arn, schedule.decision, after_seconds=schedule.patience)
    result.more["faults"] = schedule.told
    result.more["spared"] = [
        str(fault)
        for fault, order in zip(schedule.faults, orders, strict=True)
        if not fault.has_struck(order, result)
    ]
    result.more["struck"] = len(orders) - len(result.more["spared"])
    return result


def decided(
    stack: InProcessStack,
    case: Case,
    arn: str,
    decision: str = "approve",
    *,
    after_seconds: float = 0,
) -> Result:
    """The end of an execution whose approvers decide so whatever they are asked."""
    since: dict[str, float] = {}

    def has_ended() -> bool:
        for one in case.state()["requests"]:
            asked_at = since.setdefault(one["id"], stack.clock.now)
            if one["status"] in OPEN and stack.clock.now - asked_at >= after_seconds:
                # Decided, or gone with its key, meanwhile: nothing to do.
                with suppress(OSError):
                    decided_so = {"requestId": one["id"], "decision": decision}
                    stack.control("POST", "/decide", decided_so)
        return stack.has_ended(arn)

    case.until(has_ended, "end")
    return settled(stack, case, arn)


def settled(stack: InProcessStack, case: Case, arn: str) -> Result:
    """What came of an execution, once everything that follows it has happened, too."""
    stack.settle()
    result = case.end(arn, event=False)
    claim = case.record(f"label#{case.label}")
    result.more["claim"] = claim.get("enrollmentId", "nobody")
    result.more["evidence"] = stack.evidence(case.id, result.record.get("executionArn", arn))
    result.more["signingKey"] = stack.signing_key()
    return result


def violations(result: Result) -> list[str]:
    """What does not hold that must hold whatever went wrong."""
    found = []
    alive = [key for key in result.keys if not key["deleted"]]
    # An approver may have been quicker than DiscardKey: what was executed for a key that is gone
    # stays EXECUTED at TSB, and is no approval of anything that lives.
    requested = [one for one in result.requests if one["status"] in OPEN]
    told = {event["detail-type"] for event in result.events if event["detail-type"] in ENDINGS}
    outcome = result.record.get("outcome")
    executed = {one["id"] for one in result.requests if one["status"] == "EXECUTED"}
    if len(alive) > 1:
        found.append(f"{len(alive)} live keys")
    if len(requested) > (outcome != "ISSUED"):
        found.append(f"{len(requested)} open approval requests")
    if not told:
        found.append("no outcome event")
    if len(told) > 1:
        found.append(f"contradicting events: {sorted(told)}")
    if outcome is None:
        found.append("no outcome on record")
    elif told and told != {f"Enrollment {outcome.title()}"}:
        found.append(f"on record {outcome}, told {sorted(told)}")
    if outcome == "ISSUED":
        found += _not_issued(result, alive)
        if result.step.get("requestId") not in executed:
            found.append("issued by a request that TSB did not execute")
    elif "request.pem" in result.objects and result.record.get("csr"):
        found.append(f"a CSR on record for {outcome}")
    if alive and result.more.get("claim") not in (None, result.record.get("id")):
        found.append(f"an orphan key: its label is claimed by {result.more['claim']!r}")
    unused = result.record.get("unusedKey") or {}
    if outcome != "ISSUED" and alive and _wanted(result) == "delete" and not unused.get("error"):
        found.append("an unused key is there that the profile wants deleted")
    return found + _not_proven(result)


def _wanted(result: Result) -> str:
    requested = json.loads(result.objects.get("request.json", b"{}"))
    return str(requested.get("unusedKey", "keep"))


def _not_proven(result: Result) -> list[str]:
    try:
        proven = verifier.verify(result.more["evidence"], result.more["signingKey"])
    except bundle.EvidenceInvalidError as error:
        return [f"evidence: {error}"]
    said = proven.facts["outcome"]
    return [] if said == result.record.get("outcome") else [f"the evidence says {said}"]


def _not_issued(result: Result, alive: list[Json]) -> list[str]:
    pem = result.objects.get("request.pem", b"").decode()
    if not pem:
        return ["issued without a CSR in S3"]
    stored = result.record["csr"]
    read = csr.read_csr(pem)
    found = []
    if read.sha256 != stored["sha256"]:
        found.append("the CSR in S3 is not the one on record")
    if read.public_key_sha256 != result.record["publicKeySha256"] or not alive:
        found.append("the CSR's key is not the live key")
    return found


def row(result: Result) -> dict[str, Any]:
    """What the report says of a result."""
    return {
        "faults": result.more["faults"],
        "outcome": result.record.get("outcome"),
        "error": (result.record.get("error") or {}).get("name"),
        "keysMade": len(result.keys),
        "keysAlive": sum(not key["deleted"] for key in result.keys),
        "requestsMade": len(result.requests),
        "requestsOpen": sum(one["status"] in OPEN for one in result.requests),
        "events": sum(event["detail-type"] in ENDINGS for event in result.events),
        "struck": result.more["struck"],
        "spared": result.more["spared"],
        "violations": violations(result),
        "id": result.record.get("id"),
    }


# Delivered twice at once, at every trigger ------------------------------------------------------


def _by_execution(_: InProcessStack, case: Case, requested: Json) -> None:
    case.start(requested)


def _by_api(stack: InProcessStack, _: Case, requested: Json) -> None:
    sample = json.loads((ROOT / "events/api/submit.json").read_text())
    stack.begin("Api", {**sample, "body": json.dumps(requested)})


def _by_event(_: InProcessStack, case: Case, requested: Json) -> None:
    # What the template's rule makes of an event.
    (target,) = template.read()["Resources"]["RequestedRule"]["Properties"]["Targets"]
    text = str(target["InputTransformer"]["InputTemplate"])
    event = {"id": str(uuid.uuid4()), "account": ACCOUNT, "time": "2026-11-26T12:00:00Z"}
    for name, value in {**event, "detail": json.dumps(requested)}.items():
        text = text.replace(f"<{name}>", value)
    case.start_input(json.loads(text))


def _by_schedule(_: InProcessStack, case: Case, requested: Json) -> None:
    # The Scheduler delivers an occurrence again with the same input.
    arn = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/{requested['enrollmentId']}"
    unnamed = {name: value for name, value in requested.items() if name != "enrollmentId"}
    case.start(unnamed, trigger="schedule", id=arn, time="2026-11-24T09:00:00Z")
    case.id = f"{requested['enrollmentId']}-20261124T090000Z"


def _by_workflow(stack: InProcessStack, case: Case, requested: Json) -> None:
    # docs/nested.asl.json asks in the middle of its own work.
    machines, text = stack.client("stepfunctions"), (ROOT / "docs/nested.asl.json").read_text()
    machine = machines.create_state_machine(
        name=f"parent-{uuid.uuid4()}",
        roleArn=STATES_ROLE,
        definition=text.replace(
            "${EnrollmentStateMachineArn}", stack.outputs["EnrollmentStateMachineArn"]
        ),
    )
    machines.start_execution(
        stateMachineArn=machine["stateMachineArn"],
        name=case.id,
        input=json.dumps({"request": requested}),
    )


TRIGGERS: dict[str, Callable[[InProcessStack, Case, Json], None]] = {
    "execution": _by_execution,
    "API": _by_api,
    "event": _by_event,
    "schedule": _by_schedule,
    "other state machine": _by_workflow,
}


def delivered_twice(stack: InProcessStack, trigger: str) -> Result:
    """The same request at a trigger twice at once: one enrollment comes of it."""
    case = Case(stack, f"campaign-{trigger.replace(' ', '-')}")
    requested = case.request()
    for _ in range(2):
        TRIGGERS[trigger](stack, case, requested)
    result = decided(stack, case, case.execution())
    result.more |= {
        "faults": [f"trigger: {trigger}: delivered twice at once"],
        "struck": 1,
        "spared": [],
    }
    return result
