"""One enrollment: a test starts it, acts while it is under way, and reads its result.

It works on both stacks. In this process (`local.engine`) things move only while a test waits for
something. Deployed (`local.stack`) they move by themselves.
"""

import copy
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from countersign.events import ENDINGS
from countersign.evidence.bundle import SIGNATURE
from countersign.models import now, timestamp
from countersign.record import csr_step
from countersign.verification import csr
from local import approver as approvers
from local.approver import Approver, ApproverClient, Task
from local.engine.stack import InProcessStack
from local.stack import Stack
from tests.catalogue import BY_DETAIL_TYPE, assert_documented

ROOT = Path(__file__).parents[1]
SEED = ROOT / "events/seed"
DEADLINE_SECONDS = 240  # on the deployed stack, beside all other scenarios on two cores
EVENT_SECONDS = 60  # there an event comes a second after what it announces

type Json = dict[str, Any]
type AnyStack = Stack | InProcessStack


# Requests -----------------------------------------------------------------------------------------


def seed() -> Json:
    """The vendor's own two bodies, as a raw request."""
    return {
        "key": json.loads((SEED / "create-key.json").read_text()),
        "csr": json.loads((SEED / "csr-request.json").read_text())["csrSignRequest"],
    }


def approval(approver: Approver) -> Json:
    return {"type": "public_key", "name": approver.name, "value": approver.spki}


def group(*members: Approver, quorum: int = 1) -> Json:
    return {"name": "group", "quorum": quorum, "approvals": [approval(one) for one in members]}


def token(*groups: Json, timelock: int = 0, timeout: int = 3600) -> Json:
    return {"name": "token", "timelock": timelock, "timeout": timeout, "groups": list(groups)}


def rule(*tokens: Json) -> Json:
    return {"tokens": list(tokens)}


def people(number: int) -> list[Approver]:
    return [Approver.generate(f"person {index}", "ec") for index in range(1, number + 1)]


def fresh[T](value: T) -> T:
    """A copy that can be changed."""
    return copy.deepcopy(value)


# Results ------------------------------------------------------------------------------------------


@dataclass
class Result:
    """The result of an execution: everything that a test may check."""

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
    announced_by: str  # this execution, or its child if it is a parent
    quarantine: dict[str, bytes] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> Json:
        """The CSR's approval request on record; empty where there is none."""
        return dict(csr_step(self.record))

    def count(self, method: str, path: str) -> int:
        """The number of calls of this endpoint that TSB executed."""
        return sum(
            call["method"] == method and call["path"] == path and call["executed"]
            for call in self.calls
        )

    @property
    def event_types(self) -> list[str]:
        """The types of all events about the enrollment, in order."""
        return [event["detail-type"] for event in self.events]

    @property
    def endings(self) -> list[str]:
        """The types of the events about its end: one for each execution."""
        return [kind for kind in self.event_types if kind in ENDINGS]

    @property
    def ending(self) -> Json:
        """The event of this execution's end."""
        (event,) = [one for one in self.events if is_ending(one, self.announced_by)]
        return event

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Each failed task: its state and its error. A wait that times out has not failed."""
        found, state = [], ""
        for event in self.history:
            if event["type"] == "TaskStateEntered":
                state = event["stateEnteredEventDetails"]["name"]
            elif event["type"] in ("TaskFailed", "TaskTimedOut"):
                details = event.get("taskFailedEventDetails") or event["taskTimedOutEventDetails"]
                if (state, details["error"]) != TIMED_OUT:
                    found.append((state, details["error"]))
        return found


TIMED_OUT = ("WaitForApproval", "States.Timeout")  # the regular end of a wait that nobody wakes


def is_ending(event: Json, arn: str) -> bool:
    """Whether the event announces the end of this execution."""
    return event["detail-type"] in ENDINGS and event["detail"]["executionArn"] == arn


class Case:
    """One enrollment with a key label of its own."""

    def __init__(self, stack: AnyStack, name: str | None = None) -> None:
        self.stack = stack
        self.id = name or stack.new_name()
        self.label = f"key.{self.id}"
        self.approver_client = ApproverClient(
            stack.tsb_url, stack.api_keys["approver"][0], stack.ca_certificate
        )
        self.started: list[str] = []  # the ARNs of its executions
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

    def by_profile(self, profile: str = "trial@1") -> Json:
        """A request by one of the shipped profiles. `trial` has unused keys deleted."""
        prefix = {"trial": "trial", "code-signing": "SUB"}[profile.partition("@")[0]]
        self.label = f"{prefix}.{self.id}"
        return {
            "enrollmentId": self.id,
            "profile": profile,
            "key": {"label": self.label},
            "csr": {"standardCertificateAttributes": {"commonName": self.id}},
        }

    def fault(self, method: str, path: str, kind: str, **more: Any) -> None:
        """Let TSB misbehave for this case's key; see `local/tsb_simulator/faults.py`."""
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

    def no_more_faults(self) -> None:
        """Let TSB behave again for this case's key."""
        self.stack.control("DELETE", f"/faults?label={self.label}")

    def strike(self, function: str, **fault: Any) -> Any:
        """Order a fault in a function; see `local/engine/invocation.py`."""
        return self.stack.strike(function, self.id, **fault)

    def start(self, request: Json | Any, **origin: Any) -> str:
        """Start an execution; return its ARN."""
        return self.start_input({"request": request, **({"origin": origin} if origin else {})})

    def start_input(self, given: Any) -> str:
        """Start an execution with this input; return its ARN."""
        answer = self._machines.start_execution(
            stateMachineArn=self.stack.outputs["EnrollmentStateMachineArn"],
            name=uuid.uuid4().hex,
            input=json.dumps(given),
        )
        self.started.append(str(answer["executionArn"]))
        return self.started[-1]

    # Meanwhile -------------------------------------------------------------------------------

    def approve(self, *members: Approver, label: str | None = None) -> None:
        """Let these people sign their tasks, as soon as TSB has them."""
        for one in members:
            one.approve(self.approver_client, self.task(one, label))

    def decline(self, *members: Approver, label: str | None = None) -> None:
        for one in members:
            one.decline(self.approver_client, self.task(one, label))

    def task(self, approver: Approver, label: str | None = None, *, asked: bool = True) -> Task:
        """The task that waits for this approver, as soon as there is one.

        Args:
            approver: whose.
            label: of another key than the case's: the CA's.
            asked: whether there is a request of the case's key before.
        """

        def of_this_key() -> Task | None:
            tasks = approver.tasks(self.approver_client)
            return next((t for t in tasks if approvers.label(t) == (label or self.label)), None)

        if asked:
            self.await_request()  # cheaper to poll for than a task
        return self.until(of_this_key, f"task for {approver.name}")

    def decide(self, decision: str) -> None:
        """Decide for any outstanding approver, without their key."""
        self.await_request()
        self.stack.control("POST", "/decide", {"label": self.label, "decision": decision})

    def cancel(self, by: str = "Ada") -> None:
        """Put a cancellation on record, as the API does."""
        self.write(cancel={"by": by, "at": timestamp(now())}, status="CANCELLING")

    def advance(self, seconds: int) -> None:
        """Let TSB's clock advance for this case's key."""
        self.stack.control("POST", "/clock", {"advanceSeconds": seconds, "label": self.label})

    def state(self) -> Json:
        """The keys and requests that TSB has under this case's label."""
        return dict(self.stack.control("GET", f"/state?label={self.label}"))

    def await_request(self) -> Json:
        """TSB's newest request for this case's key, as soon as there is one."""
        found = self.until(lambda: self.state()["requests"], "request at TSB")
        return dict(found[-1])

    def await_calls(self, path: str, number: int, method: str = "GET") -> list[Json]:
        """The calls of an endpoint, as soon as there are that many."""

        def enough() -> list[Json] | None:
            calls = [
                call
                for call in self.stack.control("GET", f"/calls?label={self.label}")
                if call["path"] == path and call["method"] == method
            ]
            return calls if len(calls) >= number else None

        return list(self.until(enough, f"{number} calls of {path}"))

    def until[T](
        self, find: Callable[[], T | None], what: str, seconds: float = DEADLINE_SECONDS
    ) -> T:
        """What `find` finds, as soon as it does."""
        return self.stack.until(find, f"{what} for {self.id}", seconds)

    def execution(self) -> str:
        """The ARN of the execution that carries out the case, as soon as it is on record."""
        return str(self.until(lambda: self.record().get("executionArn"), "execution on record"))

    # After -----------------------------------------------------------------------------------

    def end(self, arn: str, *, event: bool = True, seconds: float = DEADLINE_SECONDS) -> Result:
        """Wait for the execution's end (and its event), and collect everything about it.

        All events must match the catalogue of events.
        """
        try:
            self.until(lambda: self.stack.has_ended(arn), "end", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{arn} still runs:\n{self._story(arn)}") from None
        machine = self.stack.outputs["EnrollmentStateMachineArn"].rpartition(":")[2]
        announced_by = arn if f":{machine}:" in arn else self.execution()
        if event:
            self.until(
                lambda: [one for one in self.stack.events(self.id) if is_ending(one, announced_by)],
                f"event of the end of {announced_by}",
                EVENT_SECONDS,
            )
        return self._result(arn, announced_by)

    def evidence(self, result: Result) -> dict[str, bytes]:
        """The folder of the ended enrollment, as soon as it is signed."""

        def signed() -> dict[str, bytes] | None:
            folder = self.stack.evidence(result.document["enrollmentId"], result.arn)
            return folder if SIGNATURE in folder else None

        return self.until(signed, "signed evidence", EVENT_SECONDS)

    def await_event(self, detail_type: str) -> Json:
        """The first event of this type, as soon as it is delivered."""

        def of_type() -> list[Json]:
            return [one for one in self.stack.events(self.id) if one["detail-type"] == detail_type]

        return self.until(of_type, detail_type)[0]

    def record(self, item_id: str | None = None) -> Json:
        """The enrollment's record, or another item, as it is now; empty if there is none."""
        answer = self.stack.client("dynamodb").get_item(
            TableName=self.stack.outputs["EnrollmentsTableName"],
            Key={"id": {"S": item_id or self.id}},
            ConsistentRead=True,
        )
        read = TypeDeserializer().deserialize
        return {name: read(value) for name, value in answer.get("Item", {}).items()}

    def step(self) -> Json:
        """The CSR's approval request as the record has it; empty where there is none."""
        return dict(csr_step(self.record()))

    def write(self, **values: Any) -> None:
        """Change the record behind the workflow's back; a dot reaches into a map."""
        write = TypeSerializer().serialize
        self.stack.client("dynamodb").update_item(
            TableName=self.stack.outputs["EnrollmentsTableName"],
            Key={"id": {"S": self.id}},
            UpdateExpression="SET "
            + ", ".join(
                f"{'.'.join(f'#{part}' for part in path.split('.'))} = :v{number}"
                for number, path in enumerate(values)
            ),
            ExpressionAttributeNames={
                f"#{part}": part for path in values for part in path.split(".")
            },
            ExpressionAttributeValues={
                f":v{number}": write(value) for number, value in enumerate(values.values())
            },
        )

    def stop(self, arn: str) -> None:
        # Without a cause: moto forgets it, and DescribeExecution has it on AWS.
        self._machines.stop_execution(executionArn=arn)

    def status(self, arn: str) -> str:
        return str(self._machines.describe_execution(executionArn=arn)["status"])

    def history(self, arn: str) -> list[Json]:
        return self.stack.history(arn)

    def _story(self, arn: str) -> str:
        return "\n".join(
            f"{event['id']:>4} {event['type']} {event.get('stateEnteredEventDetails', {})}"
            f"{event.get('taskFailedEventDetails', '')}"
            for event in self.history(arn)[-60:]
        )

    def _result(self, arn: str, announced_by: str) -> Result:
        now = self._machines.describe_execution(executionArn=arn)
        history = self.history(arn)
        # MiniStack gives a failed execution an output; AWS does not.
        text = now["output"] if now["status"] == "SUCCEEDED" else now.get("cause", "")
        state = self.state()
        announced = self.stack.events(self.id)
        for one in announced:
            if one["detail-type"] in BY_DETAIL_TYPE:  # a forged event in our name has no such type
                assert_documented(one)
        return Result(
            status=now["status"],
            document=json.loads(text) if text.startswith("{") else {},
            error=now.get("error"),
            entered=entered(history),
            history=history,
            record=self.record(),
            events=announced,
            calls=list(self.stack.control("GET", f"/calls?label={self.label}")),
            keys=state["keys"],
            requests=state["requests"],
            objects=self.objects(f"enrollments/{self.id}/"),
            quarantine=self.objects(f"quarantine/{self.id}/"),
            label=self.label,
            arn=arn,
            announced_by=announced_by,
        )

    def objects(self, prefix: str) -> dict[str, bytes]:
        """The objects below a prefix of the bucket, by the rest of their key."""
        s3, bucket = self.stack.client("s3"), self.stack.outputs["CsrBucketName"]
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        return {
            one["Key"].removeprefix(prefix): s3.get_object(Bucket=bucket, Key=one["Key"])[
                "Body"
            ].read()
            for one in listed
        }


def entered(history: list[Json]) -> list[str]:
    """The states of an execution, in the order in which it entered them."""
    return [
        event["stateEnteredEventDetails"]["name"]
        for event in history
        if event["type"].endswith("StateEntered")
    ]


def output(history: list[Json], state: str) -> Json:
    """The output of a state of an execution; the last one, if it was left more than once."""
    left = [event.get("stateExitedEventDetails", {}) for event in history]
    return dict(json.loads([one for one in left if one.get("name") == state][-1]["output"]))


def decisions(result: Result) -> dict[str, str]:
    return {one["name"]: one["decision"] for one in result.document["approvers"]}


def assert_issued(result: Result) -> None:
    """Issued, announced, stored; one key, one request, nothing requested twice."""
    stored = result.document["csr"]
    assert result.status == "SUCCEEDED"
    assert result.document["outcome"] == result.record["outcome"] == "ISSUED"
    assert result.document["error"] is None
    assert result.endings == ["Enrollment Issued"]
    assert result.ending["detail"]["csr"] == stored
    assert result.ending["source"] == "countersign"
    assert result.objects["request.pem"].decode() == stored["pem"]
    assert stored["pem"].startswith("-----BEGIN CERTIFICATE REQUEST-----\n")
    assert csr.read_csr(stored["pem"]).sha256 == stored["sha256"]
    assert csr.read_csr(stored["pem"]).public_key_sha256 == result.record["publicKeySha256"]
    assert [key["deleted"] for key in result.keys] == [False]
    assert [request["status"] for request in result.requests] == ["EXECUTED"]
    assert result.record["announced"]


def assert_ended(result: Result, outcome: str) -> None:
    """Ended without approval: no CSR anywhere, one key, one request."""
    assert result.status == "SUCCEEDED"
    assert result.document["outcome"] == result.record["outcome"] == outcome
    assert result.document["csr"] is None
    assert result.document["error"] is None
    assert result.endings == [f"Enrollment {outcome.title()}"]
    assert "request.pem" not in result.objects
    assert len(result.keys) == len(result.requests) == 1


def assert_failed(result: Result, name: str, state: str | None) -> None:
    """Failed for this reason, in this state; same report everywhere; nothing stored as issued."""
    error = result.document["error"]
    assert result.status == "FAILED"
    assert (error["name"], error["state"]) == (name, state)
    assert result.error == name
    assert error["action"]
    assert result.document["outcome"] == result.record["outcome"] == "FAILED"
    assert result.document["csr"] is None
    assert result.record["error"] == error
    assert result.endings == ["Enrollment Failed"]
    assert result.ending["detail"]["error"] == error
    assert "request.pem" not in result.objects
