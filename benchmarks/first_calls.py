"""What each function is given, and what AWS and the TSB answer it: one real call of each.

Enrollments walk through the real definition in the in-process stack: one is issued, one cancelled,
one goes on to a certificate, one stays open. Each function's call is written down with the answers
that it got, as a worker makes it that keeps nothing yet. A fresh process can so be given the same
event and answers.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import botocore.client
import requests.adapters
import urllib3
from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from benchmarks.bare import AwsCall, TsbCall, tsb_call
from local import ca, template, tutorial
from local.approver import Approver, ApproverClient
from local.engine.invocation import Invocation
from local.engine.schedule import current
from local.engine.stack import ROOT, InProcessStack, forget, in_process_stack
from local.tsb_simulator.simulator import Simulator

PROFILE = "trial@1"
SENDER = "countersign@example.com"
ISSUED, CANCELLED, CERTIFIED, OPEN = "issued", "cancelled", "certified", "open"
ATTRIBUTES = "/v1/key/attributes"
KEY = "/v1/key"
SUBMIT = ROOT / "events/api/submit.json"

type Json = dict[str, Any]


class NotRecordedError(Exception):
    """The enrollments went another way than the benchmark needs; the message says which."""


@dataclass(frozen=True)
class Exchange:
    """A call and its answer: of AWS as boto3 hands it out, of the TSB as it comes over the wire.

    `refused`: AWS's answer is that of a ClientError.
    """

    call: AwsCall | TsbCall
    answer: Json
    refused: bool = False


@dataclass
class FirstCall:
    """One invocation of a function, and all that it asked others."""

    function: str
    event: Json
    exchanges: list[Exchange] = field(default_factory=list)
    result: Any = None


@dataclass(frozen=True)
class Recorded:
    """What a measured process needs.

    Attributes:
        calls: by the name of the case: the function's, or with what it found.
        environment: of all functions together.
        profiles: the folder with the profiles layer.
        simulator: the TSB, with its keys.
    """

    calls: dict[str, FirstCall]
    environment: dict[str, str]
    profiles: Path
    simulator: Simulator

    def exchanges(self, case: str) -> list[Exchange]:
        """The calls of a case, and the answers that they get now."""
        return [self._renewed(one) for one in self.calls[case].exchanges]

    def _renewed(self, one: Exchange) -> Exchange:
        """With a new attestation: the HSM signs its time, and an old one would not be believed.

        A key that the call makes is made now: else the HSM's clock would seem to be behind by the
        age of these records.
        """
        call, broker = one.call, self.simulator.broker
        if not isinstance(call, TsbCall) or call.path not in (ATTRIBUTES, KEY):
            return one
        key = broker.keys.get(json.loads(call.body or "{}").get("label"))
        if key is None:
            return one  # the key was deleted afterwards
        if call.path == KEY:
            key = replace(key, created=time.time())
        body = json.dumps(broker.attributes(key)).encode()
        return replace(one, answer={**one.answer, "body": body})


def record(folder: Path, ca_bundle: str) -> Recorded:
    """Let each function work once.

    Args:
        folder: for what the stack needs; the profiles layer stays there.
        ca_bundle: what the TLS secret says of the TSB's CA.

    Raises:
        NotRecordedError: a call is missing.
    """
    with in_process_stack(folder, SweepKeys="report", SweepKeyPrefix="trial.") as stack:
        _trust(stack, ca_bundle)
        # The in-process stack has no topic, because it does not run Notify.
        topic = stack.client("sns").create_topic(Name="mails")["TopicArn"]
        os.environ["TOPIC_ARN"] = topic
        # Nor does it run MailPeople.
        stack.client("sesv2").create_email_identity(EmailIdentity=SENDER)
        os.environ["MAIL_FROM"] = SENDER
        with _listening() as made, redirect_stdout(StringIO()):  # the functions' own logs
            _walk(stack)
        environment = {name: os.environ[name] for name in _variables() if name in os.environ}
        simulator = stack.simulator
    return Recorded(_chosen(made), environment, folder / "layer", simulator)


def _variables() -> set[str]:
    """The names of what the template tells any of its functions."""
    read = template.read()
    return {
        name
        for properties in (
            read["Globals"]["Function"],
            *(one.get("Properties", {}) for one in read["Resources"].values()),
        )
        for name in properties.get("Environment", {}).get("Variables", {})
    }


def _trust(stack: InProcessStack, ca_bundle: str) -> None:
    store = stack.client("secretsmanager")
    before = json.loads(store.get_secret_value(SecretId="ClientTlsSecret")["SecretString"])
    stack.put_secret("ClientTlsSecret", {**before, "caBundle": ca_bundle})


def _walk(stack: InProcessStack) -> None:
    issued = _start(stack, ISSUED)
    _until_polled(stack, ISSUED, times=3)  # the second and third poll find nothing new
    stack.control("POST", "/decide", {"label": f"trial.{ISSUED}", "decision": "approve"})
    stack.until(lambda: stack.has_ended(issued), "end")
    _start(stack, CANCELLED)
    _until_polled(stack, CANCELLED, times=1)
    _cancel(stack, CANCELLED)
    stack.call("CancelRequest", {"enrollmentId": CANCELLED})
    stack.settle()  # and DiscardKey deletes its key
    _certify(stack)
    # One after the other: what runs beside would share what it read with the one that is measured.
    for function, event in (
        ("SweepKeys", {}),
        ("AuditKeys", {}),
        ("Notify", stack.events(ISSUED)[-1]),
        ("MailPeople", stack.events(ISSUED)[-1]),
        ("Api", _submission()),
    ):
        stack.call(function, event)
    _start(stack, OPEN)
    _until_polled(stack, OPEN, times=1)
    stack.call("WatchEnrollments", {})


def _certify(stack: InProcessStack) -> None:
    """A CA, and an enrollment that goes on to a certificate: the tutorial's bodies."""
    person = Approver.generate(CERTIFIED, "ec")

    def client(role: str) -> ApproverClient:
        return ApproverClient(stack.tsb_url, stack.api_keys[role][0], stack.ca_certificate)

    client("keyManagement").send("POST", "/v1/key", tutorial.ca_key(person))
    ca.ask_for_certificate(client("keyOperation"), tutorial.CA_LABEL)
    stack.control("POST", "/decide", {"label": tutorial.CA_LABEL, "decision": "approve"})
    request = {**tutorial.request(person), "enrollmentId": CERTIFIED}
    arn = _start(stack, CERTIFIED, request)
    for label in (request["key"]["label"], tutorial.CA_LABEL):

        def is_asked(label: str = label) -> bool:
            requests = stack.control("GET", f"/state?label={label}")["requests"]
            return any(one["status"] == "PENDING" for one in requests)

        stack.until(is_asked, f"question about {label}")
        stack.control("POST", "/decide", {"label": label, "decision": "approve"})
    stack.until(lambda: stack.has_ended(arn), "end")


def _start(stack: InProcessStack, enrollment_id: str, request: Json | None = None) -> str:
    given = {"request": request or _request(enrollment_id)}
    answer = stack.client("stepfunctions").start_execution(
        stateMachineArn=stack.outputs["EnrollmentStateMachineArn"],
        name=enrollment_id,
        input=json.dumps(given),
    )
    return str(answer["executionArn"])


def _request(enrollment_id: str) -> Json:
    return {
        "enrollmentId": enrollment_id,
        "profile": PROFILE,
        "key": {"label": f"trial.{enrollment_id}"},
        "csr": {"standardCertificateAttributes": {"commonName": enrollment_id}},
        "reason": "make bench",
    }


def _submission() -> Json:
    event: Json = json.loads(SUBMIT.read_text())
    # The function answers its own API only; so is the API called in the in-process stack.
    context = {**event["requestContext"], "apiId": "EnrollmentsApi"}
    return {**event, "requestContext": context, "body": json.dumps(_request("submitted"))}


def _until_polled(stack: InProcessStack, enrollment_id: str, times: int) -> None:
    def polls() -> bool:
        made = stack.control("GET", f"/calls?label=trial.{enrollment_id}")
        return bool(sum(one["path"] == "/v1/request/{id}" for one in made) >= times)

    stack.until(polls, f"poll {times} of {enrollment_id}")
    waiting = [one for one in stack.invocations if one.function == "PollRequest"]
    stack.until(lambda: all(one.ended for one in waiting), "end of a poll")


def _cancel(stack: InProcessStack, enrollment_id: str) -> None:
    """Put a cancellation on record, as the API does."""
    stack.client("dynamodb").update_item(
        TableName=stack.outputs["EnrollmentsTableName"],
        Key={"id": {"S": enrollment_id}},
        UpdateExpression="SET cancel = :mark, #status = :status",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={
            ":mark": {"M": {"by": {"S": "Ada"}, "at": {"S": "2026-11-26T12:00:00Z"}}},
            ":status": {"S": "CANCELLING"},
        },
    )


@contextmanager
def _listening() -> Iterator[list[FirstCall]]:
    """All invocations meanwhile, each in a worker that keeps nothing of earlier ones."""
    made: list[FirstCall] = []
    mine: dict[Any, FirstCall] = {}
    handle = Invocation._handle
    ask_aws = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]
    ask_tsb = requests.adapters.HTTPAdapter.send

    def handled(invocation: Invocation) -> Any:
        forget()
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", invocation.function).lower()
        one = mine[invocation] = FirstCall(snake, json.loads(invocation.event))
        made.append(one)
        one.result = handle(invocation)
        return one.result

    def asked_aws(client: Any, operation: str, params: Json) -> Any:
        one = mine.get(current())
        if one is None:
            return ask_aws(client, operation, params)
        call = AwsCall(client.meta.service_model.service_name, operation, params)
        try:
            answer = ask_aws(client, operation, params)
        except ClientError as error:
            one.exchanges.append(Exchange(call, dict(error.response), refused=True))
            raise
        if "Body" not in answer:
            one.exchanges.append(Exchange(call, answer))
            return answer
        content = answer["Body"].read()
        one.exchanges.append(Exchange(call, {**answer, "Body": content}))
        return {**answer, "Body": StreamingBody(BytesIO(content), len(content))}

    def asked_tsb(adapter: Any, request: Any, *args: Any, **options: Any) -> Any:
        response = ask_tsb(adapter, request, *args, **options)
        one = mine.get(current())
        if one is None:
            return response
        kind, content = response.headers.get("Content-Type"), response.content
        answer = {"status": response.status_code, "type": kind, "body": content}
        one.exchanges.append(Exchange(tsb_call(request), answer))
        unread = urllib3.HTTPResponse(
            body=BytesIO(content),
            headers=response.raw.headers,
            status=response.status_code,
            preload_content=False,
        )
        return adapter.build_response(request, unread)

    replaced: list[tuple[Any, str, Any, Any]] = [
        (Invocation, "_handle", handle, handled),
        (botocore.client.BaseClient, "_make_api_call", ask_aws, asked_aws),
        (requests.adapters.HTTPAdapter, "send", ask_tsb, asked_tsb),
    ]
    for owner, name, _, new in replaced:
        setattr(owner, name, new)
    try:
        yield made
    finally:
        for owner, name, old, _ in replaced:
            setattr(owner, name, old)


def _chosen(made: list[FirstCall]) -> dict[str, FirstCall]:
    """One call for each case: the first of its function that suits."""
    suits: dict[str, Callable[[FirstCall], bool]] = {
        name: lambda _: True for name in sorted({one.function for one in made})
    }
    # Most polls find nothing new; the last one finds the decision, and has the most to do.
    suits["poll_request"] = lambda one: one.result["seen"] == one.event["seen"]
    suits["poll_request, executed"] = lambda one: one.result["tsbStatus"] == "EXECUTED"
    chosen = {}
    for name, suit in suits.items():
        function = name.partition(",")[0]
        found = [one for one in made if one.function == function and suit(one)]
        if not found:
            raise NotRecordedError(f"no call of {name}")
        chosen[name] = found[0]
    return chosen
