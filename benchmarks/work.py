"""The CPU time of our handlers for one enrollment, beside a bare script that makes the same calls.

The real definition is executed, and each handler is timed while it is at work. Handlers and script
run in this process; TSB simulator and AWS emulator run in others, so only their callers' work is
counted. Pairs alternate and the median of their ratios is told: the machine is noisy.
"""

import importlib
import itertools
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable
from math import ceil
from types import SimpleNamespace
from typing import Any

import boto3

from benchmarks import enrollments
from benchmarks.bare import AwsCall, Bare, Call, Recorder, renamed
from countersign.evidence.bundle import SIGNATURE
from local.engine import asl
from local.stack import REGION, ROOT, Stack

PAIRS = 25
BUDGET = 1.5
# The functions that an enrollment without faults passes, in their order.
STATES = ("accept_enrollment", "create_key", "request_csr", "poll_request", "store_csr",
          "close_enrollment")  # fmt: skip
ASKED_AGAIN = "GET /v1/request/{id}"
LOOK = "poll_request"
DECISION_AFTER = f"{LOOK} 1"
SIGN_REQUEST_ID = "signRequestId"
EVIDENCE_SECONDS = 60
WRITE_UNIT, READ_UNIT = 1_024, 4_096  # bytes

type Json = dict[str, Any]


class RepeatedCallError(Exception):
    """TSB was asked twice for what it is to be asked once."""


class DifferentAnswersError(Exception):
    """AWS refused the bare script what it granted our handlers: the pairs are no pairs."""


class NotIssuedError(Exception):
    """The enrollment that was to be measured did not end as issued."""


def run(stack: Stack, recorder: Recorder) -> Json:
    """Measure.

    Raises:
        RepeatedCallError: TSB counted a call twice that is no poll at a request.
        DifferentAnswersError: the comparison would not be fair.
    """
    environment = _environment(stack)
    os.environ.update(environment)
    handlers = {name: importlib.import_module(f"functions.{name}") for name in STATES}
    label = enrollments.name()
    _timed(stack, handlers, label)  # reads the secrets, which warm functions keep
    label = enrollments.name()
    script = _script(stack, recorder, handlers, label)
    counted = Counter(f"{one['method']} {one['path']}" for one in enrollments.calls(stack, label))
    if repeated := {call for call, times in counted.items() if times > 1} - {ASKED_AGAIN}:
        raise RepeatedCallError(f"more than once: {sorted(repeated)}")
    bare = Bare(stack.tsb_url, str(stack.ca_certificate))
    bare.prepare([call for calls in script.values() for call in calls])
    refused = recorder.refused
    _replayed(stack, bare, script, label, enrollments.name())
    if bare.refused != refused:
        raise DifferentAnswersError(f"{bare.refused} refusals, our handlers had {refused}")
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for _ in range(PAIRS + 1):
        one, other = enrollments.name(), enrollments.name()
        pairs.append(
            (
                _timed(stack, handlers, one),
                _replayed(stack, bare, script, label, other),
            )
        )
    del pairs[0]  # warms both up
    made = [call for calls in script.values() for call in calls]
    return {
        "pairs": PAIRS,
        "ratio": statistics.median(sum(a.values()) / sum(b.values()) for a, b in pairs),
        "oursMilliseconds": statistics.median(sum(a.values()) for a, _ in pairs) * 1_000,
        "bareMilliseconds": statistics.median(sum(b.values()) for _, b in pairs) * 1_000,
        "byState": {
            name: {
                "oursMilliseconds": statistics.median(a[name] for a, _ in pairs) * 1_000,
                "bareMilliseconds": statistics.median(b[name] for _, b in pairs) * 1_000,
                "awsCalls": dict(
                    Counter(str(call) for call in script[name] if isinstance(call, AwsCall))
                ),
            }
            for name in pairs[0][0]
        },
        "awsCalls": dict(Counter(str(call) for call in made if isinstance(call, AwsCall))),
        "tsbCalls": dict(counted),
        "writes": _writes(stack, recorder, handlers, environment["TABLE_NAME"]),
        "evidence": _evidence(stack, label),
    }


def _evidence(stack: Stack, label: str) -> Json:
    """What KeepEvidence, which runs deployed behind its queue, read and wrote of an enrollment."""
    deadline = time.monotonic() + EVIDENCE_SECONDS
    parts: dict[str, bytes] = {}
    while SIGNATURE not in parts:
        if time.monotonic() > deadline:
            raise NotIssuedError(f"no signed evidence of {label}, only {sorted(parts)}")
        time.sleep(1)
        parts = stack.evidence(label, _arn(label))
    listed = stack.client("s3").list_objects_v2(
        Bucket=stack.outputs["CsrBucketName"], Prefix=f"enrollments/{label}/"
    )
    return {"parts": len(parts), "sources": listed["KeyCount"]}


def _arn(label: str) -> str:
    return f"arn:aws:states:{REGION}:000000000000:execution:bench:{label}"


def _environment(stack: Stack) -> dict[str, str]:
    """What the deployed functions are told, all of them together, and where AWS is."""
    functions = stack.client("lambda")
    told: dict[str, str] = {}
    for function in functions.list_functions()["Functions"]:
        variables = function.get("Environment", {}).get("Variables", {})
        told.update({name: value for name, value in variables.items() if value})
    return {
        **told,
        "AWS_ENDPOINT_URL": stack.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "POWERTOOLS_TRACE_DISABLED": "true",
    }


def _definition() -> str:
    """The real one; where a function's ARN belongs, it has the name of the function's module."""
    text = (ROOT / "statemachine/enrollment.asl.json").read_text().replace("${Partition}", "aws")
    for name in STATES:
        function = name.title().replace("_", "")
        text = text.replace(f"${{{function}FunctionArn}}", f"arn:aws:lambda:::function:{name}")
    return text


def _enroll(handlers: dict[str, Any], label: str, after: Callable[[str, float], None]) -> None:
    """One enrollment through our handlers, as the definition has them called.

    Args:
        handlers: the functions' modules, by name.
        label: of the key, and the enrollment's id.
        after: called with the name of each step that is done, and its handler's CPU seconds.

    Raises:
        NotIssuedError: a handler failed, or the enrollment ended otherwise.
    """
    arn, polls = _arn(label), itertools.count(1)
    context = SimpleNamespace(
        function_name="bench",
        memory_limit_in_mb=512,
        invoked_function_arn=arn,
        aws_request_id=label,
    )
    failed: list[str] = []

    def invoke(name: str, text: str) -> Json:
        event = json.loads(text)
        before = time.process_time()
        try:
            result = handlers[name].handler(event, context)
        except Exception as error:  # noqa: BLE001  as Lambda would
            failed.append(f"{name}: {error!r}")
            failure = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return {"FunctionError": "Unhandled", "Payload": failure}
        taken = time.process_time() - before
        after(f"{name} {next(polls)}" if name == LOOK else name, taken)
        return {"StatusCode": 200, "Payload": json.loads(json.dumps(result))}

    given = {"request": {**enrollments.request(label), "enrollmentId": label}}
    ended = asl.execute(_definition(), arn, given, invoke, lambda _: _Table())
    if failed or ended.get("outcome") != "ISSUED":
        raise NotIssuedError(f"the enrollment ended as {ended}, with {failed}")


class _Table:
    """Takes the wait's item: AWS writes it for the state machine, so it is no work of ours."""

    def update_item(self, **_: Any) -> Json:
        return {}


def _timed(stack: Stack, handlers: dict[str, Any], label: str) -> dict[str, float]:
    """CPU seconds of each handler's work, by step."""
    taken: dict[str, float] = {}

    def after(name: str, seconds: float) -> None:
        taken[name] = seconds
        _decide(stack, label, name)

    _enroll(handlers, label, after)
    return taken


def _decide(stack: Stack, label: str, step: str) -> None:
    if step == DECISION_AFTER:
        stack.control("POST", "/decide", {"label": label, "decision": "approve"})


def _script(
    stack: Stack, recorder: Recorder, handlers: dict[str, Any], label: str
) -> dict[str, list[Call]]:
    """The calls of an enrollment, by step."""
    script: dict[str, list[Call]] = {}
    with recorder.record() as made:

        def after(name: str, _: float) -> None:
            script[name] = list(made)
            made.clear()
            _decide(stack, label, name)

        _enroll(handlers, label, after)
    return script


def _replayed(
    stack: Stack, bare: Bare, script: dict[str, list[Call]], label: str, new: str
) -> dict[str, float]:
    """CPU seconds of the bare script by step, for another enrollment."""
    names = {label: new}
    taken: dict[str, float] = {}
    for name, calls in script.items():
        put_in = [renamed(call, names) for call in calls]
        before = time.process_time()
        answers = bare.make(put_in)
        taken[name] = time.process_time() - before
        for answer in answers:
            if SIGN_REQUEST_ID in answer:
                (old,) = {
                    one["requestId"] for one in enrollments.calls(stack, label) if one["requestId"]
                }
                names[old] = answer[SIGN_REQUEST_ID]
        _decide(stack, new, name)
    return taken


def _writes(stack: Stack, recorder: Recorder, handlers: dict[str, Any], table: str) -> list[Json]:
    """Each call of the table: the units that it writes to table and indexes, or reads."""
    dynamodb = boto3.Session().client("dynamodb")  # not the session that is listened to
    indexes = dynamodb.describe_table(TableName=table)["Table"]["GlobalSecondaryIndexes"]
    found: list[Json] = []
    before: dict[str, Json] = {}

    def measure(call: AwsCall) -> None:
        if call.service != "dynamodb":
            return
        item_id = (call.params.get("Key") or call.params["Item"])["id"]
        now = dynamodb.get_item(TableName=table, Key={"id": item_id}).get("Item", {})
        was = before.get(item_id["S"], {})
        reads = call.operation == "GetItem"
        found.append(
            {
                "operation": call.operation,
                "bytes": size(now),
                "readUnits": ceil(size(now) / READ_UNIT) if reads else 0,
                "writeUnits": 0 if reads else ceil(size(now) / WRITE_UNIT),
                "indexUnits": 0 if reads else sum(index_units(one, was, now) for one in indexes),
            }
        )
        before[item_id["S"]] = now

    label = enrollments.name()
    with recorder.record(measure):
        _enroll(handlers, label, lambda name, _: _decide(stack, label, name))
    return found


def index_units(index: Any, was: Json, now: Json) -> int:
    """What a write costs an index: nothing where no attribute of it changed, and the old entry too
    where its key did.
    """
    keys = [one["AttributeName"] for one in index["KeySchema"]]
    projection = index["Projection"]

    def entry(item: Json) -> Json:
        if not item.keys() >= set(keys):
            return {}
        if projection["ProjectionType"] == "ALL":
            return item
        names = {"id", *keys, *projection.get("NonKeyAttributes", ())}
        return {name: value for name, value in item.items() if name in names}

    old, new = entry(was), entry(now)
    if old == new:
        return 0
    moved = old and any(old.get(key) != new.get(key) for key in keys)
    return ceil(size(new) / WRITE_UNIT) + (ceil(size(old) / WRITE_UNIT) if moved else 0)


def size(item: Json) -> int:
    """Bytes of a DynamoDB item, as the developer guide counts them."""
    return sum(len(name.encode()) + _value(value) for name, value in item.items())


def _value(value: Json) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return len(content.strip("-0.")) // 2 + 2
    if kind == "M":
        return 3 + len(content) + size(content)
    if kind == "L":
        return 3 + len(content) + sum(_value(one) for one in content)
    return 1  # true, false, null
