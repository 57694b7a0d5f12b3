"""What may happen at a step: a fault of the call that is due, or an event from outside."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from countersign.aws import executions
from local.engine.invocation import FunctionFailedError, Invocation
from local.engine.schedule import Process
from local.engine.stack import InProcessStack
from tests.case import Case, Json
from tests.workflow.api import Caller

STATES = (
    "AcceptEnrollment", "CreateKey", "RequestCsr", "PollRequest", "StoreCsr",
    "RequestCertificate", "StoreCertificate", "DiscardKey", "CloseEnrollment",
)  # fmt: skip
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "PutObject", "PutEvents", "StartExecution")
READS = ("/v1/key/attributes", "GET ")
# A lost invocation goes on until Lambda's time-out at the latest.
STALLED_SECONDS = 25
OPEN = ("PENDING", "APPROVED")
NEVER_HEARD_OF = FunctionFailedError("Runtime.ImportModuleError", "No module named 'x'")

# What may happen, and whether an enrollment must come through it as if nothing had happened.
FAULTS = {
    "before": "an AWS service or the TSB refuses; nothing is executed",
    "after": "executed, but the answer is an error or gets lost",
    "repeat": "executed twice",
    "entry": "the bus takes the call and answers that it has not kept the event",
    "killed": "executed, then the function is killed",
    "stalled": "Step Functions gets no answer and goes on; the function sleeps, then goes on",
    "lost": "the function has done its work, but its answer gets lost",
    "unlisted": "the function fails with a name that nobody listed",
    "page": "something in front of the TSB answers 404 with a page of its own",
    "unreadable": "executed, but the answer is HTML with status 200",
    "late": "the TSB executes the call after we gave up",
}
EVENTS = {
    "cancel": "DELETE /enrollments/{id}",
    "approve": "an approver approves",
    "decline": "everybody declines",
    "expire": "the HSM's clock passes the end of the window",
    "again": "a second execution with the same id and request",
    "stop": "somebody stops the execution",
    "backstop": "a made-up message says that the execution was aborted",
    "watch": "WatchEnrollments runs",
    "wake": "somebody ends the wait without news",
    "unkept": "the table refuses the next wait that can be woken",
    "behind": "the HSM's clock jumps back 90 s",
    "ahead": "the HSM's clock jumps ahead 90 s",
}


@dataclass
class Walk:
    """One enrollment on its way, and what has happened to it so far."""

    stack: InProcessStack
    case: Case
    start: Callable[["Walk"], None]
    window_seconds: int
    ca_label: str | None = None  # of the CA's key, where a certificate is asked for
    made: list[str] = field(default_factory=list)
    cancels: list[Invocation] = field(default_factory=list)
    stops: int = 0
    steps: int = 0

    @property
    def notes(self) -> object:
        """What a fingerprint must hold beside the stack."""
        return [one.ended for one in self.cancels], self.stops, self.stack.refused_waits

    @property
    def open_requests(self) -> list[Any]:
        broker = self.stack.simulator.broker
        return [one for one in broker.requests.values() if broker.assess(one) in OPEN]

    @property
    def labels(self) -> list[str]:
        """Of the keys whose approvers are asked."""
        return [self.case.label, *([self.ca_label] if self.ca_label else [])]

    @property
    def token(self) -> str | None:
        """What ends the wait, whether anybody still waits or not."""
        token = self.case.record(f"wait#{self.case.id}").get("token")
        return None if token is None else str(token)

    def decide(self, *, approves: bool) -> None:
        """Everybody who is asked decides so."""
        broker = self.stack.simulator.broker
        for request in self.open_requests:
            for approver in list(request.tasks):
                if broker.assess(request) in OPEN:
                    broker.vote(request, approver, approves=approves)

    @property
    def running(self) -> list[str]:
        """The ARNs of its executions that have not ended."""
        return [arn for arn in self.stack.waits if not self.stack.has_ended(arn)]


def faults(process: Process | None, walk: Walk) -> Iterator[str]:
    """What may befall the call that this process is about to make.

    The evidence is kept beside the workflow: its faults come alone. In a pair the second fault is
    one of those that leave different traces: whether a function was killed or got an error makes
    no difference to anybody but itself.
    """
    if not isinstance(process, Invocation):
        return
    call, is_state, is_first = process.at, process.function in STATES, not walk.made
    if process.is_lost or not (is_state or is_first):
        return
    if call == "the start":
        yield from ("unlisted",) if is_state and is_first else ()
    elif call == "its return":
        yield from ("lost",) if is_state else ()
    elif " /" in call:
        yield from ("before", "page", "unreadable") if is_first else ("before",)
        if not any(one in call for one in READS):
            yield from ("after", "repeat", "late")
            yield from _while_writing(is_first=is_first, is_state=is_state)
    elif call.isalnum() and call[0].isupper():
        yield "before"
        if call in WRITES:
            yield from ("after", "repeat", "entry") if call == "PutEvents" else ("after", "repeat")
            yield from _while_writing(is_first=is_first, is_state=is_state)


def _while_writing(*, is_first: bool, is_state: bool) -> Iterator[str]:
    if is_first:
        yield "killed"
    if is_state:
        yield "stalled"


def events(process: Process | None, walk: Walk) -> Iterator[str]:
    """What may come from outside before this process moves: one event in a walk.

    It comes between two states, in a wait, or before something is written: before a read it would
    be the same as before the write in front of it.
    """
    if any(one.partition("=")[2] in EVENTS for one in walk.made):
        return
    if process is None:
        yield "again"
        return
    if not walk.running:
        return
    if isinstance(process, Invocation):
        is_write = process.at in WRITES or " /" in process.at
        if process.function not in STATES or not is_write:
            return
    yield from ("again", "cancel", "stop", "backstop")
    if walk.stack.simulator.broker.requests:
        yield from ("watch", "unkept")
    if walk.token is not None:
        yield "wake"
    if walk.stack.simulator.broker.keys:
        yield from ("behind", "ahead")
    if walk.open_requests:
        yield from ("approve", "decline", "expire")


def apply(choice: str, process: Process | None, walk: Walk) -> None:
    """Let it happen. A fault takes the step of the process with it."""
    walk.made.append(f"{walk.steps}={choice}")
    if choice in EVENTS:
        _happen(choice, walk)
        return
    assert isinstance(process, Invocation)
    walk.steps += 1
    if choice == "unlisted":
        process.kill(NEVER_HEARD_OF)
    elif choice == "lost":
        process.lose()
    elif choice == "stalled":
        process.lose()
        process.due = walk.stack.clock.now + STALLED_SECONDS
    elif choice == "killed":
        walk.stack.step()
        process.kill()
    else:
        at_the_tsb = " /" in process.at
        named = {"before": "refused", "after": "dropped"} if at_the_tsb else {}
        process.next_fault = named.get(choice, choice)
        walk.stack.step()


def _happen(event: str, walk: Walk) -> None:
    stack, case = walk.stack, walk.case
    if event == "cancel":
        called = Caller(stack).begin("DELETE", f"/enrollments/{case.id}")
        walk.cancels.append(called)
        if len(walk.made) > 1:  # alone it takes its steps beside the others
            while not called.ended:
                called.step()
    elif event in ("approve", "decline"):
        walk.decide(approves=event == "approve")
    elif event in ("expire", "behind", "ahead"):
        seconds = {"expire": walk.window_seconds + 60, "behind": -90, "ahead": 90}[event]
        for label in walk.labels:
            stack.control("POST", "/clock", {"advanceSeconds": seconds, "label": label})
    elif event == "again":
        walk.start(walk)
    elif event == "watch":
        stack.begin("WatchEnrollments", {})
    elif event == "wake":
        executions.wake(walk.token or "")
    elif event == "unkept":
        stack.refuse_waits(1)
    elif event == "stop":
        walk.stops += 1
        case.stop(walk.running[0])
    elif event == "backstop":
        walk.stops += 1
        _made_up(stack, walk.running[0])


def _made_up(stack: InProcessStack, arn: str) -> None:
    """A message in the backstop's queue about an execution that still runs."""
    known: Json = stack.client("stepfunctions").describe_execution(executionArn=arn)
    detail = {"status": "ABORTED", **{one: known[one] for one in ("executionArn", "name", "input")}}
    queue = stack.resources.queues["BackstopQueue"]
    body = json.dumps({"source": "aws.states", "detail": detail})
    stack.client("sqs").send_message(QueueUrl=queue, MessageBody=body)
    stack.expect_news()
