"""The whole product in this process: an in-process stack.

The real definition (by moto's interpreter), the real functions, the TSB simulator, and moto's
table, buckets, bus, queues, keys and secrets. Nothing of ours is replaced; time passes only when
nobody has anything else to do. `local.stack.Stack` is the same deployed; both offer what a test
needs.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from local.engine.invocation import FunctionFailedError, Invocation, Order
from local.engine.resources import LISTENER, Resources
from local.engine.schedule import Process, Schedule, current
from local.engine.surroundings import ACCOUNT, REGION, TSB_URL
from local.stack import PARAMETERS
from local.tsb_simulator import control, keys
from local.tsb_simulator.simulator import Simulator

if TYPE_CHECKING:
    from local.approver import Approver

ROOT = Path(__file__).parents[2]
REDELIVERED_SECONDS = 180  # the queues' VisibilityTimeout
ASYNC_RETRIES = (60, 120)  # seconds until Lambda repeats what it was handed and what failed
RSA_KEYS: dict[int, list[rsa.RSAPrivateKey]] = defaultdict(list)

type Json = dict[str, Any]


class InProcessStack:
    """One stack and one TSB, fresh, for as many enrollments as a test likes.

    Args:
        folder: where the profiles layer of this stack lies.
        parameters: of the template, where they differ from those of the embedded stack.
    """

    def __init__(self, folder: Path, **parameters: str) -> None:
        self.folder = folder
        self.parameters = {**PARAMETERS, **parameters}
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
        self._rsa_keys = Counter[int]()  # made so far
        self._has_news = False
        self._undo: list[Callable[[], None]] = []
        self._changes: list[Callable[[], None]] = []

    # Life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring it up: from here until `stop` this process has no other AWS, TSB or time."""
        self._leave_the_account()
        self.clock.start()
        mocked = mock_aws(config={"stepfunctions": {"execute_state_machine": True}})
        mocked.start()
        self._undo.append(mocked.stop)
        self.simulator = Simulator()
        self.api_keys = self.simulator.api_keys
        self._make_profiles_layer()
        self._make_keys_quickly()
        self._undo.append(
            network.replace(lambda: self.simulator, self._hand_over, self._expect_news)
        )
        self._undo.append(
            asl.install(
                asl.Ways(
                    start=self._start_execution,
                    stop=self._stopped,
                    invoke=self._invoke,
                    wait=self._wait,
                )
            )
        )
        chain = self.simulator.broker.attestation.chain
        root = hashlib.sha256(ssl.PEM_cert_to_DER_cert(chain[-1])).hexdigest()
        given = {"TsbUrl": TSB_URL, "AttestationRoot": root, **self.parameters}
        self.resources = Resources(given)
        self.outputs = self.resources.outputs
        self._undo.append(self.resources.configure())
        _forget()
        self._put_secrets()
        self._make_ca_key()

    def reset(self) -> None:
        """Be as after `start`: what is under way ends, and nothing of it is left anywhere."""
        while self._changes:
            self._changes.pop()()
        _forget()
        self.schedule.close()
        self.schedule = Schedule(self.clock)
        for found in (self.invocations, self._orders, self._events, self._executions, self.waits):
            found.clear()
        self.resources.empty()
        self._names = itertools.count(1)
        self.clock.restart()
        self.control("POST", "/reset")
        self._rsa_keys.clear()
        self.simulator.broker._decoy = None  # or an enrollment's key would be the same
        self._make_ca_key()

    def stop(self) -> None:
        """End everything, and give this process its surroundings back."""
        self.schedule.close()
        while self._undo:
            self._undo.pop()()
        _forget()
        self.clock.stop()

    # What a test looks at and acts with ---------------------------------------------------------

    def client(self, service: str) -> Any:
        """A boto3 client of this stack's AWS."""
        return network.client(service)

    def control(self, method: str, path: str, body: Json | None = None) -> Any:
        """Call the simulator's control side, for example `("POST", "/clock", {…})`."""
        content = json.dumps(body or {}).encode()
        status, answer = control.handle(self.simulator, method, f"{control.PREFIX}{path}", content)
        if status >= 400:  # noqa: PLR2004
            raise OSError(answer["message"])  # as over the network
        return answer

    def new_name(self) -> str:
        """A name that no enrollment has yet: the same in each run."""
        return f"e2e-{next(self._names):012}"

    def until[T](self, find: Callable[[], T | None], what: str, seconds: float = 0) -> T:  # noqa: ARG002
        """Let everything move, step by step, until something is there.

        Raises:
            AssertionError: it never will be: nothing is left to happen.
        """
        while not (found := find()):
            if not self.step():
                raise AssertionError(f"no {what}, and nothing is left to happen")
        return found

    def step(self) -> bool:
        """One step of whatever is due first; False where nothing is left to happen."""
        if self._has_news:
            self._has_news = False
            self._deliver()
        return self.schedule.step() is not None or self._has_news

    def has_ended(self, arn: str) -> bool:
        """Whether this execution has ended."""
        return self._executions[arn].ended

    def history(self, arn: str) -> list[Json]:
        """The events of an execution; boto3 says the same, and takes a hundred times as long."""
        return list(self._machines().describe_execution(arn).to_history_output()["events"])

    def settle(self) -> None:
        """Let everything happen that is left to happen."""
        while self.step():
            pass

    def sleep(self, seconds: float) -> None:
        """Let so much time pass, and everything happen that is due meanwhile."""
        moment = Process(self.schedule, "a test", lambda: moment.pause("an end", seconds))
        self.schedule.add(moment)
        self.until(lambda: moment.ended, "end of a sleep")

    def at(self, function: str, call: str, nth: int = 1) -> Invocation:
        """Let everything move until the function is about to make its nth such call.

        Args:
            function: its state's name.
            call: `PutItem`, `POST /v1/key`; `its return` is after all of its work.
        """

        def existing() -> Invocation | None:
            for one in self.invocations:
                made = one.calls.count(call) if call != "its return" else nth
                if not one.ended and one.function == function and one.at == call and made == nth:
                    return one
            return None

        return self.until(existing, f"{function} at {call}")

    def call(self, function: str, event: Json, seconds: float | None = None) -> Any:
        """Invoke a function beside the workflow and wait for its result.

        Args:
            function: its logical id without `Function`: `SweepKeys`.
            event: what it is given.
            seconds: how long Lambda lets it work; None: its own timeout. A call takes 0.01 s.

        Raises:
            FunctionFailedError: it failed.
        """
        invocation = self.begin(function, event, seconds)
        self.until(lambda: invocation.ended, f"end of {function}")
        answer = invocation.answer()
        if "FunctionError" in answer:
            failure = answer["Payload"]
            raise FunctionFailedError(failure["errorType"], failure["errorMessage"])
        return answer["Payload"]

    def begin(self, function: str, event: Json, seconds: float | None = None) -> Invocation:
        """Invoke a function as `call` does, and wait for nothing."""
        return self._invocation(function, json.dumps(event), seconds=seconds)

    def strike(self, function: str, text: str, **fault: Any) -> Order:
        """Let something go wrong in the function; see `local/engine/invocation.py`."""
        order = Order(function, text, fault)
        self._orders.append(order)
        return order

    def kill_caller(self, call: Json) -> None:
        """Kill the function that waits for the answer to this call of the TSB."""
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
        """The folder of an ended enrollment as it lies there now: complete once it is signed."""
        self.settle()  # KeepEvidence is busy for dozens of steps
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
        """A client of the TSB with every role, for what is none of the product's calls."""
        # As functions do; without a CA it would read all of this machine's, which takes 0.05 s.
        tls = Tls(ca_bundle=self.simulator.broker.attestation.chain[-1])
        return TsbClient(
            TSB_URL, credentials=lambda role: Credentials(tuple(self.api_keys[role])), tls=tls
        )

    # A deploy, as a test may make one; `reset` takes it back ------------------------------------

    def configure(self, **parameters: str) -> None:
        """Deploy with other parameters; new workers read everything anew."""
        self._changes.append(self.resources.configure(**parameters))
        _forget()

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
        _forget()

    def put_secret(self, name: str, content: Json) -> None:
        """Put another value into one of the stack's secrets: `KeyOperationSecret`."""
        store = self.client("secretsmanager")
        before = store.get_secret_value(SecretId=name)["SecretString"]
        self._changes.append(lambda: store.put_secret_value(SecretId=name, SecretString=before))
        store.put_secret_value(SecretId=name, SecretString=json.dumps(content))

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
        """The status change of an execution, as Step Functions tells the account's default bus."""
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
        """An invocation that this process waits for, at its end; where ordered, beside another."""
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
        """An asynchronous invocation, repeated where it fails."""

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

    # Events -----------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Invoke the functions behind the queues for what lies there."""
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
            messages := queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
        ):
            for message in messages:
                # moto leaves the account out.
                self._events.append({"account": ACCOUNT, **json.loads(message["Body"])})
                queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def _expect_news(self) -> None:
        self._has_news = True

    # Parts ------------------------------------------------------------------------------------

    def _leave_the_account(self) -> None:
        """Whatever AWS account or endpoint the environment names is none of ours."""
        before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        for name in before:
            del os.environ[name]
        self._undo.append(lambda: os.environ.update(before))

    def _make_profiles_layer(self) -> None:
        """The reviewed files, in front of those of the checkout, as a layer of its own."""
        layer = self.folder / "layer"
        shutil.copytree(ROOT / "profiles", layer / "profiles")
        self.people = people.move_in(layer / "profiles/directory.json")
        sys.path.insert(0, str(layer))
        sys.modules.pop("profiles", None)

        def undo() -> None:
            sys.path.remove(str(layer))
            sys.modules.pop("profiles", None)

        self._undo.append(undo)

    def _make_keys_quickly(self) -> None:
        """Let this HSM have RSA keys that those of other stacks had: making one takes 0.2 s."""
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
            "caBundle": chain[-1],  # any: the network is in this process
            "certificate": None,
            "privateKey": None,
            "attestationChain": "".join(chain),
        }
        for name, value in values.items():
            store.put_secret_value(SecretId=name, SecretString=json.dumps(value))


def _forget() -> None:
    """What a function keeps while it is warm."""
    for module in (product, profiles, tsb, settings):
        for one in vars(module).values():
            if hasattr(one, "cache_clear"):
                one.cache_clear()
    secrets._kept.clear()


@contextmanager
def in_process_stack(folder: Path, **parameters: str) -> Iterator[InProcessStack]:
    """A stack that is there for a block."""
    stack = InProcessStack(folder, **parameters)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
