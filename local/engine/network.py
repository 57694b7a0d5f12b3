"""Redirects what leaves this process to simulators in it: boto3's calls, TSB calls, sleep.

It also corrects moto's answers that differ from AWS, where the product depends on them.
"""

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import formatdate
from functools import cache
from http.client import RemoteDisconnected
from io import BytesIO
from typing import Any

import boto3
import botocore.client
import requests
import requests.adapters
import urllib3
from botocore.exceptions import ClientError, ParamValidationError
from botocore.validate import ParamValidator
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms.utils import ECDSAPrivateKey
from urllib3.exceptions import NewConnectionError, ProtocolError

from local.engine import shortcuts
from local.engine.invocation import AwsCall, Invocation
from local.engine.schedule import FOR_EVER, current
from local.engine.surroundings import REGION, TSB_URL
from local.tsb_simulator.simulator import Reply, Simulator

LATE_SECONDS = 1  # after the function has given up
_SILENCE = Reply(200, b"", delay_seconds=FOR_EVER)
_PAGE = Reply(404, b"404 page not found\n", content_type="text/plain")  # as Traefik answers

READS = ("Get", "Query", "List", "Describe")

type Json = dict[str, Any]


class Executed:
    """How many calls to AWS were executed in this process so far that may have changed a store."""

    writes = 0


@cache
def client(service: str) -> Any:
    """A boto3 client, one for all stacks: creating it takes longer than all of its calls."""
    return boto3.client(service, region_name=REGION)  # type: ignore[call-overload]


def replace(  # noqa: PLR0915  one place for all replacements
    simulator: Callable[[], Simulator],
    hand_over: Callable[[str, str], None],
    announced: Callable[[], None],
) -> Callable[[], None]:
    """Keep this process's calls in this process, until the returned function is called.

    Args:
        simulator: returns the TSB at `TSB_URL`.
        hand_over: invokes a function asynchronously: its name, its event as JSON text.
        announced: called after an event was put on a bus.
    """
    replaced: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, new: Any) -> Any:
        old = getattr(owner, name)
        replaced.append((owner, name, old))
        setattr(owner, name, new)
        return old

    def undo() -> None:
        while replaced:
            setattr(*replaced.pop())

    def send(adapter: Any, request: Any, *args: Any, **options: Any) -> requests.Response:
        if not request.url.startswith(TSB_URL):
            answer: requests.Response = real_send(adapter, request, *args, **options)
            return answer
        return _exchange(simulator(), adapter, request, options.get("timeout"))

    def executed(made: Any, operation: str, parameters: Json) -> Any:
        Executed.writes += not operation.startswith(READS)
        model = made.meta.service_model
        # What botocore refuses before any call.
        report = ParamValidator().validate(parameters, model.operation_model(operation).input_shape)
        if report.has_errors():
            raise ParamValidationError(report=report.generate_report())
        try:
            answer = shortcuts.answer(model.service_name, operation, parameters)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise made.exceptions.from_code(code)(error.response, operation) from None
        return real_call(made, operation, parameters) if answer is None else answer

    def call(made: Any, operation: str, parameters: Json) -> Any:
        process = current()
        if not isinstance(process, Invocation):
            return executed(made, operation, parameters)
        known = AwsCall(made.meta.service_model.service_name, operation, parameters)
        if known.service == "lambda":
            text = parameters["Payload"].decode()
            process.aws(known, lambda: hand_over(parameters["FunctionName"], text))
            return {"StatusCode": 202}
        answer = process.aws(known, lambda: executed(made, operation, parameters))
        if operation == "PutEvents":
            announced()
        return answer

    def sleep(seconds: float) -> None:
        process = current()
        if process is None:
            real_sleep(seconds)
        elif seconds > 0:
            process.pause("after a moment", seconds)

    def monotonic() -> float:
        # What a function keeps for minutes (secrets, rejected API keys) must age in virtual time,
        # too.
        return time.time() if isinstance(current(), Invocation) else real_monotonic()

    def submit(pool: Any, work: Any, *args: Any, **options: Any) -> Future[Any]:
        """A function's threads take turns in its own process: only that one has virtual time."""
        if not isinstance(current(), Invocation):
            begun: Future[Any] = real_submit(pool, work, *args, **options)
            return begun
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **options))
        except Exception as error:  # noqa: BLE001  as a pool keeps it for whoever asks
            done.set_exception(error)
        return done

    real_submit = put(ThreadPoolExecutor, "submit", submit)
    real_send = put(requests.adapters.HTTPAdapter, "send", send)
    real_call = put(botocore.client.BaseClient, "_make_api_call", call)
    real_sleep = put(time, "sleep", sleep)
    real_monotonic = put(time, "monotonic", monotonic)
    put(ECDSAPrivateKey, "sign", _sign)
    shortcuts.take(put)
    return undo


def _sign(key: Any, message: bytes, signing_algorithm: str) -> bytes:
    """KMS Sign of a digest. moto ignores MessageType and hashes the digest again."""
    assert signing_algorithm == "ECDSA_SHA_256", signing_algorithm  # noqa: S101
    assert len(message) == hashlib.sha256().digest_size, "the product signs digests"  # noqa: S101
    signature: bytes = key.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))
    return signature


def _exchange(simulator: Simulator, adapter: Any, request: Any, timeout: Any) -> requests.Response:
    """A call to the TSB, through all of requests except the socket."""
    process, number, fault = current(), None, ""
    if isinstance(process, Invocation):
        number = process.number
        fault = process.tsb(request.method, request.path_url)
    body = request.body or b""
    limit: float = getattr(timeout, "total", timeout)  # our client's counts the whole call

    def executed() -> Reply:
        return simulator.handle(
            request.method,
            request.path_url,
            {name.lower(): value for name, value in request.headers.items()},
            body.encode() if isinstance(body, str) else body,
            client_port=number,
        )

    if fault == "refused":
        refused = NewConnectionError(None, "refused")  # type: ignore[arg-type]
        raise requests.ConnectionError(refused, request=request)
    if fault == "late":
        assert process is not None  # noqa: S101  only an invocation has a fault
        process.follow("the TSB", limit + LATE_SECONDS, executed)
    reply = _SILENCE if fault == "late" else _PAGE if fault == "page" else executed()
    if fault == "repeat":
        reply = executed()
    if fault in ("dropped", "unreadable"):
        reply = Reply(200, b"<html>", drop=fault == "dropped", content_type="text/html")
    if reply.delay_seconds and process is not None:
        process.pause("an answer that takes its time", min(reply.delay_seconds, limit))
        if reply.delay_seconds >= limit:
            raise requests.ReadTimeout(request=request)
    if reply.drop:
        gone = RemoteDisconnected("Remote end closed connection without response")
        raise requests.ConnectionError(ProtocolError("Connection aborted.", gone), request=request)
    if isinstance(process, Invocation):
        process.answers.append(reply.body)
    return _received(adapter, request, reply, formatdate(simulator.broker.clock.now(), usegmt=True))


def _received(adapter: Any, request: Any, reply: Reply, date: str) -> requests.Response:
    length = len(reply.body)
    body = reply.body[: length // 2] if reply.truncate else reply.body
    raw = urllib3.HTTPResponse(
        body=BytesIO(body),
        headers={"Content-Type": reply.content_type, "Content-Length": str(length), "Date": date},
        status=reply.status,
        preload_content=False,
        request_method=request.method,
    )
    response: requests.Response = adapter.build_response(request, raw)
    return response
