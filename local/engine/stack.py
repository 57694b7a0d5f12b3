"""The in-process stack: the whole product in this process.

It has the real definition (run by moto's interpreter), the real functions, the TSB simulator, and
moto's table, buckets, bus, queues, keys and secrets. None of our code is replaced. Time passes only
when nothing else is left to do. `local.stack.Stack` is the same product, deployed. Both offer what
a test needs.
"""

import hashlib
import itertools
import json
import os
import shutil
import ssl
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from moto import mock_aws
from moto.s3.models import FakeKey, s3_backends
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from countersign import settings
from countersign.aws import profiles, secrets, tsb
from countersign.aws import stack as product
from countersign.tsb.client import TsbClient
from countersign.tsb.models import Credentials, Tls
from local import people
from local.engine import asl, network
from local.engine.clock import Clock
from local.engine.invocation import AwsCall, FunctionFailedError, Invocation, Order
from local.engine.resources import LISTENER, Resources
from local.engine.schedule import Process, Schedule, current
from local.engine.surroundings import ACCOUNT, REGION, TSB_URL
from local.stack import PARAMETERS
from local.tsb_simulator import control, keys
from local.tsb_simulator.simulator import Simulator
from local.tsb_simulator.switches import Switches

if TYPE_CHECKING:
    from local.approver import Approver

ROOT = Path(__file__).parents[2]
REDELIVERED_SECONDS = 180  # the queues' VisibilityTimeout
ASYNC_RETRIES = (60, 120)  # seconds until Lambda repeats a failed asynchronous invocation
RSA_KEYS: dict[int, list[rsa.RSAPrivateKey]] = defaultdict(list)

type Json = dict[str, Any]


class _Refusing:
    """A table that has no capacity."""

    def update_item(self, **_: Any) -> None:
        error: Any = {
            "Error": {"Code": "ProvisionedThroughputExceededException", "Message": "too much"},
            "ResponseMetadata": {"HTTPStatusCode": 400, "RequestId": "x"},
        }
        raise ClientError(error, "UpdateItem")


class InProcessStack:
    """One new stack and one new TSB, for any number of enrollments.

    Args:
        folder: where the profiles layer of this stack is.
        parameters: of the template, if they differ from those of the embedded stack.
    """

    def __init__(self, folder: Path, **parameters: str) -> None:
        self.folder = folder
        self.parameters = {**PARAMETERS, "FreshStartSeconds": "300", **parameters}
        self.configured: dict[str, str] = {}  # by `configure`, since the last reset
        self.clock = Clock()
        self.schedule = Schedule(self.clock)
        self.tsb_url = TSB_URL
        self.ca_certificate = folder / "ca.pem"
        self.outputs: dict[str, str] = {}
        self.people: dict[str, Approver] = {}
        self.waits: dict[str, list[float]] = {}
        self.invocations: list[Invocation] = []
        self._orders: list[Order] = []
        self._numbers = itertools.count(50_000)
        self._names = itertools.count(1)
        self._executions: dict[str, Process] = {}
        self._events: list[Json] = []
        self._rsa_keys = Counter[int]()  # created so far
        self._has_news = False
        self.refused_waits = 0
        self._undo: list[Callable[[], None]] = []
        self._changes: list[Callable[[], None]] = []

    # Life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the stack. Until `stop` this process has no other AWS, TSB or time."""
        self._leave_the_account()
        self.clock.start()
        self._note_secrets()
        mocked = mock_aws(config={"stepfunctions": {"execute_state_machine": True}})
        mocked.start()
        self._undo.append(mocked.stop)
        self.simulator = Simulator()
        self.api_keys = self.simulator.api_keys
        self._make_profiles_layer()
        self._make_keys_quickly()
        self._undo.append(
            network.replace(lambda: self.simulator, self._hand_over, self.expect_news)
        )
        self._undo.append(
            asl.install(
                asl.Ways(
                    start=self._start_execution,
                    stop=self._stopped,
                    invoke=self._invoke,
                    wait=self._wait,
                    wake=self._wake,
                    client=self._client,
                )
            )
        )
        chain = self.simulator.broker.attestation.chain
        root = hashlib.sha256(ssl.PEM_cert_to_DER_cert(chain[-1])).hexdigest()
        given = {"TsbUrl": TSB_URL, "AttestationRoot": root, **self.parameters}
        self.resources = Resources(given)
        self.outputs = self.resources.outputs
        self._undo.append(self.resources.configure())
        forget()
        self._put_secrets()
        self._make_ca_key()

    def reset(self) -> None:
        """Return to the state after `start`. Everything under way ends, and nothing remains."""
        while self._changes:
            self._changes.pop()()
        self.configured.clear()
        self.refused_waits = 0
        forget()
        self.schedule.close()
        self.schedule = Schedule(self.clock)
        for found in (self.invocations, self._orders, self._events, self._executions, self.waits):
            found.clear()
        self.resources.empty()
        self._names = itertools.count(1)
        self.clock.restart()
        self.control("POST", "/reset")
        self.control("PUT", "/switches", Switches().model_dump(by_alias=True))
        self._rsa_keys.clear()
        self.simulator.broker._decoy = None  # otherwise an enrollment's key would be the same
        self._make_ca_key()

    def stop(self) -> None:
        """End everything, and restore this process's surroundings."""
        self.schedule.close()
        while self._undo:
            self._undo.pop()()
        forget()
        self.clock.stop()

    # What tests read and call -------------------------------------------------------------------

    def client(self, service: str) -> Any:
        """A boto3 client of this stack."""
        return network.client(service)

    def control(self, method: str, path: str, body: Json | None = None) -> Any:
        """Call the simulator's control API, for example `("POST", "/clock", {…})`."""
        content = json.dumps(body or {}).encode()
        status, answer = control.handle(self.simulator, method, f"{control.PREFIX}{path}", content)
        if status >= 400:  # noqa: PLR2004
            raise OSError(answer["message"])  # as over the network
        return answer

    def new_name(self) -> str:
        """A name that no enrollment has yet. It is the same in each run."""
        return f"e2e-{next(self._names):012}"

    def until[T](self, find: Callable[[], T | None], what: str, seconds: float = 0) -> T:  # noqa: ARG002
        """Let everything move, step by step, until `find` finds something.

        Raises:
            AssertionError: nothing is left to happen, so it never will.
        """
        while not (found := find()):
            if not self.step():
                raise AssertionError(f"no {what}, and nothing is left to happen")
        return found

    def step(self) -> bool:
        """One step of the process that is due first; False if nothing is left to happen."""
        return self.next() is not None and self.schedule.step() is not None

    def next(self) -> Process | None:
        """The process that moves at the next step; None if nothing is left to happen."""
        while self._has_news:
            self._has_news = False
            self._deliver()
            self._receive()  # a queue keeps its messages for four days only
        return self.schedule.next()

    def has_ended(self, arn: str) -> bool:
        """Whether this execution has ended."""
        return self._executions[arn].ended

    def history(self, arn: str) -> list[Json]:
        """The events of an execution. boto3 returns the same and takes a hundred times as long."""
        return list(self._machines().describe_execution(arn).to_history_output()["events"])

    def position(self, process: Process) -> Json:
        """Where an execution stands: state, input, variables. Empty for any other process."""
        for arn, one in self._executions.items():
            if one is process:
                env: Any = self._machines().describe_execution(arn).exec_worker.env
                known = env.variable_store
                return {
                    "state": env.next_state_name,
                    "input": env.states.get_input(),
                    "variables": {**known._outer_scope, **known._inner_scope},
                }
        return {}

    def settle(self) -> None:
        """Let everything happen that is left to happen."""
        while self.step():
            pass

    def sleep(self, seconds: float) -> None:
        """Let so much time pass, with everything that is due meanwhile."""
        moment = Process(self.schedule, "a test", lambda: moment.pause("an end", seconds))
        self.schedule.add(moment)
        self.until(lambda: moment.ended, "end of a sleep")

    def at(self, function: str, call: str, nth: int = 1) -> Invocation:
        """Let everything move until just before the function's nth such call.

        Args:
            function: the name of its state.
            call: `PutItem`, `POST /v1/key`; `its return` means after all of its work.
        """

        def existing() -> Invocation | None:
            for one in self.invocations:
                made = one.calls.count(call) if call != "its return" else nth
                if not one.ended and one.function == function and one.at == call and made == nth:
                    return one
            return None

        return self.until(existing, f"{function} at {call}")

    def watch(self) -> Process:
        """Run WatchEnrollments each minute from now on, as its schedule does.

        It never ends by itself: whoever lets everything settle ends the process before.
        """

        def work() -> None:
            while True:
                process.pause("the next minute", 60)
                moment = datetime.fromtimestamp(self.clock.now, UTC)
                event = {"scheduledTime": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}
                self._invocation("WatchEnrollments", json.dumps(event))

        process = self.schedule.add(Process(self.schedule, "the schedule of the watch", work))
        return process

    def call(self, function: str, event: Json, seconds: float | None = None) -> Any:
        """Invoke a function beside the workflow and wait for its result.

        Args:
            function: its logical id without `Function`: `SweepKeys`.
            event: its event.
            seconds: how long Lambda lets it run; None: its own timeout. A call takes 0.01 s.

        Raises:
            FunctionFailedError: the function failed.
        """
        invocation = self.begin(function, event, seconds)
        self.until(lambda: invocation.ended, f"end of {function}")
        answer = invocation.answer()
        if "FunctionError" in answer:
            failure = answer["Payload"]
            raise FunctionFailedError(failure["errorType"], failure["errorMessage"])
        return answer["Payload"]

    def begin(self, function: str, event: Json, seconds: float | None = None) -> Invocation:
        """Invoke a function as `call` does, without waiting."""
        return self._invocation(function, json.dumps(event), seconds=seconds)

    def strike(self, function: str, text: str, **fault: Any) -> Order:
        """Order a fault in the function; see `local/engine/invocation.py`."""
        order = Order(function, text, fault)
        self._orders.append(order)
        return order

    def refuse_waits(self, times: int) -> None:
        """Let the table refuse the next so many waits that WaitForApproval writes."""
        self.refused_waits = times

    def kill_caller(self, call: Json) -> None:
        """Kill the function that waits for the answer to this call to the TSB."""
        (caller,) = [one for one in self.invocations if one.number == call["clientPort"]]
        caller.kill()

    def events(self, enrollment_id: str | None = None) -> list[Json]:
        """What the bus has delivered (about an enrollment) so far, oldest first."""
        self._receive()
        return [
            event
            for event in self._events
            if enrollment_id in (None, event["detail"].get("enrollmentId"))
        ]

    def signing_key(self) -> bytes:
        """The public key (PEM) of the stack."""
        key = self.outputs["SigningKeyArn"]
        public = load_der_public_key(self.client("kms").get_public_key(KeyId=key)["PublicKey"])
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def evidence(self, enrollment_id: str, execution_arn: str) -> dict[str, bytes]:
        """The evidence folder of an ended enrollment as it is now; complete once it is signed."""
        self.settle()  # KeepEvidence takes dozens of steps
        prefix = f"{enrollment_id}/{execution_arn.rpartition(':')[2]}/"
        return {
            key.removeprefix(prefix): body
            for key, body in self.objects("evidence").items()
            if key.startswith(prefix)
        }

    def objects(self, bucket: str = "csr") -> dict[str, bytes]:
        """Everything in the bucket of the CSRs, or of the evidence, by key."""
        name = self.outputs[f"{bucket.title()}BucketName"]
        found = s3_backends[ACCOUNT]["aws"].buckets[name].keys
        existing = {key: found[key] for key in found}
        return {key: one.value for key, one in existing.items() if isinstance(one, FakeKey)}

    def tsb(self) -> TsbClient:
        """A client of the TSB with every role, for calls that the product does not make."""
        # As in functions. Without a CA it would read all of this machine's CAs, which takes 0.05 s.
        tls = Tls(ca_bundle=self.simulator.broker.attestation.chain[-1])
        return TsbClient(
            TSB_URL, credentials=lambda role: Credentials(tuple(self.api_keys[role])), tls=tls
        )

    # Deploys by tests; `reset` undoes them ------------------------------------------------------

    def configure(self, **parameters: str) -> None:
        """Deploy with other parameters. New workers read everything again."""
        self._changes.append(self.resources.configure(**parameters))
        self.configured |= parameters
        forget()

    def release_profile(self, name: str, content: Json) -> None:
        """Deploy another file of the profiles layer: `trial@2`, `directory`."""
        file = self.folder / f"layer/profiles/{name}.json"
        before = file.read_bytes() if file.exists() else None

        def undo() -> None:
            if before is None:
                file.unlink()
            else:
                file.write_bytes(before)

        self._changes.append(undo)
        file.write_text(json.dumps(content))
        forget()

    def put_secret(self, name: str, content: Json) -> None:
        """Put another value into one of the stack's secrets: `KeyOperationSecret`."""
        store = self.client("secretsmanager")
        before = store.get_secret_value(SecretId=name)["SecretString"]
        self._changes.append(lambda: store.put_secret_value(SecretId=name, SecretString=before))
        store.put_secret_value(SecretId=name, SecretString=json.dumps(content))

    def _client(self, service: str) -> Any:
        """The client with which a state calls AWS."""
        if self.refused_waits:
            self.refused_waits -= 1
            return _Refusing()
        return network.client(service)

    def _machines(self) -> Any:
        return stepfunctions_parser_backends[ACCOUNT][REGION]

    # Executions and functions -----------------------------------------------------------------

    def _start_execution(self, arn: str, run: Callable[[], None]) -> None:
        def work() -> None:
            run()
            self._announce(arn)

        self.waits[arn] = []
        process = self.schedule.add(Process(self.schedule, f"execution {arn[-20:]}", work))
        self._executions[arn] = process
        process.step()

    def _stopped(self, arn: str) -> None:
        self._executions[arn].end()
        self._announce(arn)

    def _announce(self, arn: str) -> None:
        """Put an execution's status change on the account's default bus, as Step Functions does."""
        found = self._machines().describe_execution(arn).to_describe_output()
        names = ("executionArn", "stateMachineArn", "name", "status", "input", "error", "cause")
        detail = {name: found.get(name) for name in names}
        entry = {
            "Source": "aws.states",
            "DetailType": "Step Functions Execution Status Change",
            "Detail": json.dumps(detail),
        }
        self.client("events").put_events(Entries=[entry])
        self._has_news = True

    def _invoke(self, arn: str, function: str, event: str) -> Json:
        execution = self._executions[arn]
        execution.pause(function)
        return self._invoke_for(execution, function, event).answer()

    def _invoke_for(self, process: Process, function: str, event: str) -> Invocation:
        """Invoke a function (twice, if ordered) and let this process wait for it."""
        order = self._order(function, event)
        invocations = [self._invocation(function, event, order)]
        if order and order.fault["kind"] == "twice":
            order.struck = True
            invocations.insert(0, self._invocation(function, event))
        for invocation in invocations:
            process.await_end(invocation)
        return invocations[-1]

    def _invocation(
        self,
        function: str,
        event: str,
        order: Order | None = None,
        seconds: float | None = None,
    ) -> Invocation:
        order = order or self._order(function, event)
        invocation = Invocation(
            self.schedule,
            function,
            event,
            number=next(self._numbers),
            timeout=seconds or self.resources.timeout(function),
            order=order,
        )
        self.invocations.append(invocation)
        self.schedule.add(invocation)
        return invocation

    def _order(self, function: str, event: str) -> Order | None:
        for order in self._orders:
            if not order.taken and order.function == function and order.text in event:
                order.taken = True
                return order
        return None

    def _hand_over(self, function: str, event: str) -> None:
        """An asynchronous invocation, repeated if it fails."""

        def work() -> None:
            process = current()
            assert process is not None  # noqa: S101  for the type checker
            for seconds in (*ASYNC_RETRIES, None):
                invocation = self._invocation(function, event)
                process.await_end(invocation)
                if invocation.error is None or seconds is None:
                    return
                process.pause(f"{function} once more", seconds)

        self.schedule.add(Process(self.schedule, f"{function} without waiting", work))

    def _wait(self, arn: str, seconds: float) -> None:
        self.waits[arn].append(seconds)
        self._executions[arn].pause(f"after {seconds:.0f} s", seconds)

    def _wake(self, arn: str) -> None:
        self._executions[arn].due = self.clock.now

    # Events -----------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Invoke the functions of the queues with the messages there."""
        self._receive()  # a queue keeps a message for days, and a wait may take a year
        queues = self.client("sqs")
        for queue, function in self.resources.sources.items():
            url = self.resources.queues[queue]
            while self.resources.has_message(queue) and (
                messages := queues.receive_message(QueueUrl=url).get("Messages")
            ):
                self._consume(url, function, messages[0])

    def _consume(self, url: str, function: str, message: Json) -> None:
        def work() -> None:
            process = current()
            assert process is not None  # noqa: S101  for the type checker
            event = {"Records": [{"messageId": message["MessageId"], "body": message["Body"]}]}
            invocation = self._invoke_for(process, function, json.dumps(event))
            if invocation.error is None:
                handle = message["ReceiptHandle"]
                self.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=handle)
            else:
                process.pause("the next delivery", REDELIVERED_SECONDS)
                self._has_news = True

        self.schedule.add(Process(self.schedule, f"a message for {function}", work))

    def _receive(self) -> None:
        queues, url = self.client("sqs"), self.resources.queues[LISTENER]
        while self.resources.has_message(LISTENER) and (
            messages := queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages")
        ):
            for message in messages:
                # moto omits the account.
                event = {"account": ACCOUNT, **json.loads(message["Body"])}
                self._events.append(event)
                for function in self.resources.listeners(event):
                    self._hand_over(function, json.dumps(event))
                queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def expect_news(self) -> None:
        """Deliver what lies in the queues before the next step."""
        self._has_news = True

    # Parts ------------------------------------------------------------------------------------

    def _leave_the_account(self) -> None:
        """Remove every AWS account and endpoint from the environment."""
        before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        for name in before:
            del os.environ[name]
        self._undo.append(lambda: os.environ.update(before))

    def _make_profiles_layer(self) -> None:
        """Put a copy of the reviewed files, as a layer of its own, before those of the checkout."""
        layer = self.folder / "layer"
        shutil.copytree(ROOT / "profiles", layer / "profiles")
        self.people = people.move_in(layer / "profiles/directory.json")
        sys.path.insert(0, str(layer))
        sys.modules.pop("profiles", None)

        def undo() -> None:
            sys.path.remove(str(layer))
            sys.modules.pop("profiles", None)

        self._undo.append(undo)

    def _note_secrets(self) -> None:
        """Count a secret that is still known as read: here all functions share what is known."""
        before, secrets._kept = secrets._kept, _Known()

        def undo() -> None:
            secrets._kept = before

        self._undo.append(undo)

    def _make_keys_quickly(self) -> None:
        """Let this HSM reuse RSA keys of other stacks: creating one takes 0.2 s."""
        generate, used = keys.generate_rsa, self._rsa_keys

        def next_of(bits: int) -> rsa.RSAPrivateKey:
            pool = RSA_KEYS[bits]
            if used[bits] == len(pool):
                pool.append(generate(bits))
            used[bits] += 1
            return pool[used[bits] - 1]

        keys.generate_rsa = next_of

        def undo() -> None:
            keys.generate_rsa = generate

        self._undo.append(undo)

    def _make_ca_key(self) -> None:
        with self.tsb() as tsb:
            people.make_ca_key(tsb, self.people)
        self.simulator.forget_calls()

    def _put_secrets(self) -> None:
        store = self.client("secretsmanager")
        values: dict[str, Json] = {
            f"{role[0].upper()}{role[1:]}Secret": {
                "apiKeys": self.api_keys[role],
                "bearerToken": None,
            }
            for role in ("keyManagement", "keyOperation", "service")
        }
        chain = self.simulator.broker.attestation.chain
        values["ClientTlsSecret"] = {
            "caBundle": chain[-1],  # any certificate will do: the network is in this process
            "certificate": None,
            "privateKey": None,
            "attestationChain": "".join(chain),
        }
        for name, value in values.items():
            store.put_secret_value(SecretId=name, SecretString=json.dumps(value))


class _Known(dict[str, tuple[float, str]]):
    """The secrets that functions know. On Lambda each function would have read them itself."""

    def get(self, arn: str, default: Any = None) -> Any:
        process = current()
        if isinstance(process, Invocation):
            read = AwsCall("secretsmanager", "GetSecretValue", {"SecretId": arn})
            process.aws_calls.append(read)
        return super().get(arn, default)


def forget() -> None:
    """Forget what a function keeps while it is warm."""
    for module in (product, profiles, tsb, settings):
        for one in vars(module).values():
            if hasattr(one, "cache_clear"):
                one.cache_clear()
    secrets._kept.clear()


@contextmanager
def in_process_stack(folder: Path, **parameters: str) -> Iterator[InProcessStack]:
    """A stack that exists for a `with` block."""
    stack = InProcessStack(folder, **parameters)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
