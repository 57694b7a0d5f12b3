"""One enrollment on the shared stack: how a test starts it, decides for it, and looks at its end.

Executions wait, so they wait together: a test's `@act` function runs in the background from the
start of the session, next to all others; the test itself looks at what came of it.
"""

import copy
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from countersign import csr
from countersign.events import ENDINGS
from local.approver import Approver, Desk
from local.stack import Stack

ROOT = Path(__file__).parents[2]
SEED = ROOT / "events/seed"
DEADLINE_SECONDS = 240  # for one scenario, next to all the others on two cores
WAIT_SCALE = 0.05  # a wait of 10 s lasts 0.5 s; TSB's own clock is advanced where it matters
EVENT_SECONDS = 60  # an event comes a second after what it tells, next to all the others later
LOOK_SECONDS = 0.5  # dozens look at one emulator

type Json = dict[str, Any]


def seed() -> Json:
    """The vendor's own two bodies, as machine request."""
    return {
        "key": json.loads((SEED / "create-key.json").read_text()),
        "csr": json.loads((SEED / "csr-request.json").read_text())["csrSignRequest"],
    }


def approval(approver: Approver) -> Json:
    return {"type": "public_key", "name": approver.name, "value": approver.spki}


def group(*approvers: Approver, quorum: int = 1) -> Json:
    return {"name": "group", "quorum": quorum, "approvals": [approval(one) for one in approvers]}


def token(*groups: Json, timelock: int = 0, timeout: int = 3600) -> Json:
    return {"name": "token", "timelock": timelock, "timeout": timeout, "groups": list(groups)}


def rule(*tokens: Json) -> Json:
    return {"tokens": list(tokens)}


@dataclass
class Run:
    """What came of an execution: everything that a test may look at."""

    status: str
    document: Json
    error: str | None
    entered: list[str]
    history: list[Json]
    record: Json
    events: list[Json]
    calls: list[Json]
    keys: list[Json]
    requests: list[Json]
    objects: dict[str, bytes]
    label: str
    arn: str
    teller: str  # the execution that speaks of the end: where this one is a parent, its child
    quarantine: dict[str, bytes] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def count(self, method: str, path: str) -> int:
        """Calls of this endpoint that TSB executed."""
        return sum(
            call["method"] == method and call["path"] == path and call["executed"]
            for call in self.calls
        )

    @property
    def event_types(self) -> list[str]:
        """Everything that was said about the enrollment, in its order."""
        return [event["detail-type"] for event in self.events]

    @property
    def endings(self) -> list[str]:
        """What was said of its end: one event for each execution."""
        return [kind for kind in self.event_types if kind in ENDINGS]

    @property
    def ending(self) -> Json:
        """The event of this execution's end."""
        (event,) = [one for one in self.events if is_ending(one, self.teller)]
        return event


class Case:
    """One enrollment with a key label of its own."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.id = f"e2e-{uuid.uuid4().hex[:12]}"
        self.label = f"key.{self.id}"
        self.desk = Desk(stack.tsb_url, stack.api_keys["approver"][0], stack.ca_certificate)
        self._machines = stack.client("stepfunctions")

    # Before ----------------------------------------------------------------------------------

    def request(self, *tokens: Json, destroyable: bool = True) -> Json:
        """The seed's request with this case's label and use rule."""
        request = {**seed(), "enrollmentId": self.id}
        request["key"]["label"] = self.label
        request["key"]["attributes"]["destroyable"] = destroyable
        request["csr"]["signKeyName"] = self.label
        if tokens:
            request["key"]["policy"]["ruleUse"] = rule(*tokens)
        return request

    def fault(self, method: str, path: str, kind: str, **more: Any) -> None:
        """Let TSB misbehave for this case's key."""
        outer: Json = {name: more.pop(name) for name in ("times", "skip") if name in more}
        self.stack.control(
            "POST",
            "/faults",
            {
                "label": self.label,
                "method": method,
                "path": path,
                **outer,
                "fault": {"kind": kind, **more},
            },
        )

    def start(self, request: Json | Any, **origin: Any) -> str:
        """Start an execution; its ARN."""
        given = {"request": request, **({"origin": origin} if origin else {})}
        answer = self._machines.start_execution(
            stateMachineArn=self.stack.outputs["EnrollmentStateMachineArn"], input=json.dumps(given)
        )
        return str(answer["executionArn"])

    # Meanwhile -------------------------------------------------------------------------------

    def approve(self, *approvers: Approver) -> None:
        for approver in approvers:
            approver.approve(self.desk, approver.await_task(self.desk, self.label, 100))

    def decline(self, *approvers: Approver) -> None:
        for approver in approvers:
            approver.decline(self.desk, approver.await_task(self.desk, self.label, 100))

    def decide(self, decision: str) -> None:
        """Decide for any outstanding approver, without his key."""
        self.await_request()
        self.stack.control("POST", "/decide", {"label": self.label, "decision": decision})

    def advance(self, seconds: int) -> None:
        """Let TSB's time pass for this case's key."""
        self.stack.control("POST", "/clock", {"advanceSeconds": seconds, "label": self.label})

    def state(self) -> Json:
        return dict(self.stack.control("GET", f"/state?label={self.label}"))

    def await_request(self) -> Json:
        """TSB's newest request for this case's key, as soon as there is one."""
        found = self.until(lambda: self.state()["requests"], "a request at TSB")
        return dict(found[-1])

    def await_calls(self, path: str, number: int, method: str = "GET") -> list[Json]:
        """The calls of an endpoint, as soon as there are so many."""

        def enough() -> list[Json] | None:
            calls = [
                call
                for call in self.stack.control("GET", f"/calls?label={self.label}")
                if call["path"] == path and call["method"] == method
            ]
            return calls if len(calls) >= number else None

        return list(self.until(enough, f"{number} calls of {path}"))

    def kill_caller(self, call: Json) -> None:
        """Kill the function that waits for the answer to this call."""
        for connection in psutil.net_connections("tcp"):
            if connection.pid and connection.laddr[1:] == (call["clientPort"],):
                process = psutil.Process(connection.pid)
                if "ministack-lambda" in " ".join(process.cmdline()):
                    process.kill()
                    return
        raise AssertionError(f"nobody waits for {call}")

    def until[T](
        self, look: Callable[[], T | None], what: str, seconds: float = DEADLINE_SECONDS
    ) -> T:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = look()
            if found:
                return found
            time.sleep(LOOK_SECONDS)
        raise AssertionError(f"no {what} within {seconds} s for {self.id}")

    def execution(self) -> str:
        """The ARN of the execution that carries out the case, as soon as it is on record."""
        return str(self.until(lambda: self.record().get("executionArn"), "execution on record"))

    # After -----------------------------------------------------------------------------------

    def end(self, arn: str, *, event: bool = True, seconds: float = DEADLINE_SECONDS) -> Run:
        """Wait for the execution's end (and its event), and gather everything about it."""
        deadline = time.monotonic() + seconds
        while (now := self._machines.describe_execution(executionArn=arn))["status"] == "RUNNING":
            if time.monotonic() > deadline:
                raise AssertionError(f"{arn} still runs:\n{self._story(arn)}")
            time.sleep(LOOK_SECONDS)
        machine = self.stack.outputs["EnrollmentStateMachineArn"].rpartition(":")[2]
        teller = arn if f":{machine}:" in arn else self.execution()
        if event:
            self.until(
                lambda: [one for one in self.stack.events(self.id) if is_ending(one, teller)],
                f"event of the end of {teller}",
                EVENT_SECONDS,
            )
        return self._run(arn, teller, now)

    def await_event(self, detail_type: str) -> Json:
        """The first event of this type, as soon as it is delivered."""

        def of_type() -> list[Json]:
            return [one for one in self.stack.events(self.id) if one["detail-type"] == detail_type]

        return self.until(of_type, detail_type)[0]

    def record(self) -> Json:
        from boto3.dynamodb.types import TypeDeserializer

        answer = self.stack.client("dynamodb").get_item(
            TableName=self.stack.outputs["EnrollmentsTableName"], Key={"id": {"S": self.id}}
        )
        read = TypeDeserializer().deserialize
        return {name: read(value) for name, value in answer.get("Item", {}).items()}

    def write(self, **values: Any) -> None:
        """Change the record behind the workflow's back."""
        from boto3.dynamodb.types import TypeSerializer

        write = TypeSerializer().serialize
        self.stack.client("dynamodb").update_item(
            TableName=self.stack.outputs["EnrollmentsTableName"],
            Key={"id": {"S": self.id}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
            ExpressionAttributeNames={f"#{name}": name for name in values},
            ExpressionAttributeValues={f":{name}": write(value) for name, value in values.items()},
        )

    def stop(self, arn: str) -> None:
        self._machines.stop_execution(executionArn=arn, cause="by hand")

    def status(self, arn: str) -> str:
        return str(self._machines.describe_execution(executionArn=arn)["status"])

    def history(self, arn: str) -> list[Json]:
        pages = self._machines.get_paginator("get_execution_history").paginate(executionArn=arn)
        return [event for page in pages for event in page["events"]]

    def _story(self, arn: str) -> str:
        return "\n".join(
            f"{event['id']:>4} {event['type']} {event.get('stateEnteredEventDetails', {})}"
            f"{event.get('taskFailedEventDetails', '')}"
            for event in self.history(arn)[-60:]
        )

    def _run(self, arn: str, teller: str, now: Json) -> Run:
        history = self.history(arn)
        # MiniStack gives a failed execution an output, AWS does not.
        text = now["output"] if now["status"] == "SUCCEEDED" else now.get("cause", "")
        state = self.state()
        return Run(
            status=now["status"],
            document=json.loads(text) if text.startswith("{") else {},
            error=now.get("error"),
            entered=[
                event["stateEnteredEventDetails"]["name"]
                for event in history
                if event["type"].endswith("StateEntered")
            ],
            history=history,
            record=self.record(),
            events=self.stack.events(self.id),
            calls=self.stack.control("GET", f"/calls?label={self.label}"),
            keys=state["keys"],
            requests=state["requests"],
            objects=self._objects(f"enrollments/{self.id}/"),
            quarantine=self._objects(f"quarantine/{self.id}/"),
            label=self.label,
            arn=arn,
            teller=teller,
        )

    def _objects(self, prefix: str) -> dict[str, bytes]:
        s3, bucket = self.stack.client("s3"), self.stack.outputs["CsrBucketName"]
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        return {
            one["Key"].removeprefix(prefix): s3.get_object(Bucket=bucket, Key=one["Key"])[
                "Body"
            ].read()
            for one in listed
        }


def notify_rule(stack: Stack) -> dict[str, str]:
    """The rule that has mail sent, as EventBridge's calls name it."""
    bus = stack.outputs["BusName"]
    rules = stack.client("events").list_rules(EventBusName=bus)["Rules"]
    (name,) = [rule["Name"] for rule in rules if "NotifyRule" in rule["Name"]]
    return {"Name": name, "EventBusName": bus}


def is_ending(event: Json, arn: str) -> bool:
    """Whether it is the event of the end of this execution."""
    return event["detail-type"] in ENDINGS and event["detail"]["executionArn"] == arn


def evidence_of(stack: Stack, run: Run) -> dict[str, bytes]:
    """The folder of an ended enrollment, as soon as it is signed."""
    deadline = time.monotonic() + EVENT_SECONDS
    while time.monotonic() < deadline:
        folder = stack.evidence(run.document["enrollmentId"], run.arn)
        if "manifest.sig" in folder:
            return folder
        time.sleep(LOOK_SECONDS)
    raise AssertionError(f"no evidence of {run.arn}, only {sorted(folder)}")


type Act = Callable[[Case], Run]
type Ran = Callable[[Act], Run]
ACTS: list[Act] = []


def act(function: Act) -> Act:
    """Let this run in the background from the session's start."""
    ACTS.append(function)
    return function


def fresh(request: Json) -> Json:
    """A copy that can be changed."""
    return copy.deepcopy(request)


def people(number: int) -> list[Approver]:
    return [Approver.generate(f"person {index}", "ec") for index in range(1, number + 1)]


def decisions(run: Run) -> dict[str, str]:
    return {one["name"]: one["decision"] for one in run.document["approvals"]}


def assert_issued(run: Run) -> None:
    """Issued, told, kept; one key, one request, nothing asked twice."""
    stored = run.document["csr"]
    assert run.status == "SUCCEEDED"
    assert run.document["outcome"] == run.record["outcome"] == "ISSUED"
    assert run.document["error"] is None
    assert run.endings == ["Enrollment Issued"]
    assert run.ending["detail"]["csr"] == stored
    assert run.ending["source"] == "countersign"
    assert run.objects["request.pem"].decode() == stored["pem"]
    assert stored["pem"].startswith("-----BEGIN CERTIFICATE REQUEST-----\n")
    assert csr.read_csr(stored["pem"]).sha256 == stored["sha256"]
    assert csr.read_csr(stored["pem"]).public_key_sha256 == run.record["publicKeySha256"]
    assert [key["deleted"] for key in run.keys] == [False]
    assert [request["status"] for request in run.requests] == ["EXECUTED"]
    assert run.record["announced"]


def assert_ended(run: Run, outcome: str) -> None:
    """Decided against: no CSR anywhere, one key, one request."""
    assert run.status == "SUCCEEDED"
    assert run.document["outcome"] == run.record["outcome"] == outcome
    assert run.document["csr"] is None
    assert run.document["error"] is None
    assert run.endings == [f"Enrollment {outcome.title()}"]
    assert "request.pem" not in run.objects
    assert len(run.keys) == len(run.requests) == 1
