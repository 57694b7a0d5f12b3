"""What an enrollment, an idle month and a fleet cost, item by item, at AWS list prices.

Calls, sizes and CPU time were measured by `make bench` on the embedded stack; what only AWS can say
is assumed below, each with its reason. Nothing here is an AWS invoice.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from benchmarks import history
from countersign import waits
from countersign_cli.prices import prices
from local.template import Resolver, read

MEMORY_GB = 512 / 1024  # template.yaml, Globals
# AWS Lambda Developer Guide: 1,769 MB are one vCPU; start-up is not held back by the memory.
VCPU = 512 / 1_769
# Assumed: a TSB in the same region, AWS's services next trigger.
TSB_SECONDS, AWS_SECONDS = 0.1, 0.01
# Assumed: one record of Step Functions' log without execution data, and Lambda's own JSON records
# (start, report, init) of an invocation, with CloudWatch's 26 bytes for each.
EVENT_LOG_BYTES, INVOCATION_LOG_BYTES = 450, 1_000
EVENT_BYTES = 4_000  # of an outcome's event in the archive: the document with its PEM
SECRETS_EACH = 2  # a function that asks TSB reads its role's credentials and the TLS secret
SIGNATURES = 2  # of what the approvers are shown, and of the evidence
EVIDENCE_LISTS = 3  # KeepEvidence looks at what is there, and at what there is to keep
QUEUE_CALLS = 3  # an outcome's message is sent, received and deleted
FUNCTIONS_WITH_SECRETS = {"create_key", "request_csr", "poll_request", "store_csr"}
# An event source of a queue asks for messages without a pause: five pollers, 20 s each.
QUEUE_REQUESTS_A_MONTH = 5 * 3 * 60 * 24 * 30
# WatchEnrollments runs each minute. Where nothing is open it reads its note and the index of waits;
# in each fifth run also that of enrollments by status, twice, and says one metric, Pending. It
# writes nothing. It reads the TLS secret when its copy is five minutes old.
RUNS_A_MONTH = 60 * 24 * 30
LOOKS_A_MONTH = RUNS_A_MONTH // 5
RUN_READS, LOOK_READS = 2, 3  # units, each query rounded up
WATCH_SECONDS = 0.1  # assumed: two or five reads of what is empty, in a function that is warm
METRIC_LOG_BYTES = 500  # Pending in the embedded metric format
# KMS: the secret, and DynamoDB's key of the table, which it keeps for five minutes.
WATCH_KMS = 2 * LOOKS_A_MONTH
IDLE_METRICS = 1  # Pending; everything else is emitted only while there is something to say

# What AWS takes off an account's bill each month, for good (read on 2026-11-27):
# https://aws.amazon.com/cloudwatch/pricing/ https://aws.amazon.com/lambda/pricing/
# https://aws.amazon.com/sqs/pricing/ https://aws.amazon.com/eventbridge/pricing/
# https://aws.amazon.com/kms/pricing/
FREE_A_MONTH = {
    "Alarms": 10,
    "Dashboards": 3,
    "Custom metrics": 10,
    "WatchEnrollments, Scheduler": 14e6,
    "WatchEnrollments, Lambda requests": 1e6,
    "WatchEnrollments, Lambda time": 400_000,
    "WatchEnrollments, logs": 5,
    "WatchEnrollments, KMS": 20_000,
    "Queues that are listened to": 1e6,
}
GB = 1e9
WATCHED_A_MINUTE = 300  # WatchRequestsPerMinute, the parameter's default
RECORD_UNITS = 1  # of an open enrollment's record, 4 to 8 KB, read eventually consistently
# A request over a kept-alive connection, TLS and all, measured with the simulator on 2026-11-27:
# 1.7 to 1.8 ms of 300, three times. `scale` measures it in the deployed function.
WATCHED_CPU_SECONDS = 0.002
WAIT_BYTES = 1_500  # of a wait as the index has it; the token is the most of it
READ_UNIT_BYTES = 4_096
OPEN_METRICS = 3  # a run says three more while something is open

type Json = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """A line of the bill."""

    name: str
    quantity: float
    unit: str
    usd: float


def total(items: Iterable[Item]) -> float:
    """The sum in USD."""
    return sum(item.usd for item in items)


def enrollment(results: Json, polls: int, *, cold: bool) -> list[Item]:
    """The bill of one issued enrollment.

    Args:
        results: of `make bench`.
        polls: how often TSB was asked; two of them find something new.
        cold: every call starts a function anew and reads its secrets, as with one enrollment now
            and then; else all are warm, as in a busy stack.
    """
    price, work = prices(), results["work"]
    states = history.path(polls, "ISSUED")
    tasks = [
        name
        for name in states
        if re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower() in _functions(work)
    ]
    more_looks = max(0, polls - 2)
    seconds = sum(_seconds(work, step) for step in work["byState"])
    seconds += more_looks * _seconds(work, "poll_request 1", only_tsb=True)
    start = _start_seconds(results)
    starts = len(tasks) + 1 if cold else 0
    secret_reads = SECRETS_EACH * (3 + polls) if cold else 0
    evidence = work["evidence"]
    put, get = (_times(work, f"s3.{name}") for name in ("PutObject", "GetObject"))
    put, get = put + evidence["parts"], get + evidence["sources"]
    writes, reads = _units(work["writes"])
    seconds += _evidence_seconds(work)
    emitted = _times(work, "eventbridge.PutEvents") + _times(work, "events.PutEvents")
    encrypted = put + get + secret_reads + len(_functions(work))
    log_bytes = history.events(states).total() * EVENT_LOG_BYTES + len(tasks) * INVOCATION_LOG_BYTES
    return [
        _item("Step Functions", len(states), "transitions", price["stateTransition"]),
        _item("Lambda requests", len(tasks) + 1, "requests", price["lambdaRequest"]),
        _item("Lambda time", seconds * MEMORY_GB, "GB-s", price["lambdaGbSecondArm64"]),
        _item("Lambda start-ups", starts * start * MEMORY_GB, "GB-s", price["lambdaGbSecondArm64"]),
        _item("Secrets Manager", secret_reads, "calls", price["secretRequest"]),
        _item("DynamoDB writes", writes, "units", price["dynamodbWriteUnit"]),
        _item("DynamoDB reads", reads, "units", price["dynamodbReadUnit"]),
        _item("S3 writes", put + EVIDENCE_LISTS, "PUT, LIST", price["s3Put"]),
        _item("S3 reads", get, "GET", price["s3Get"]),
        _item("EventBridge", emitted, "events", price["eventbridgeEvent"]),
        _item(
            "EventBridge archive", emitted * EVENT_BYTES / GB, "GB", price["eventbridgeArchiveGb"]
        ),
        _item("KMS", encrypted, "requests (at most)", price["kmsRequest"]),
        _item("KMS signatures", SIGNATURES, "requests", price["kmsAsymmetricRequest"]),
        _item("SQS", QUEUE_CALLS, "requests", price["sqsRequest"]),
        _item("CloudWatch Logs", log_bytes / GB, "GB", price["logsGb"]),
        _item("X-Ray", 1, "trace (at most)", price["xrayTrace"]),
    ]


def idle_month(**parameters: str) -> list[Item]:
    """What a stack costs that does nothing, from the resources in its template.

    Args:
        parameters: of the template, where they differ from its defaults.
    """
    price = prices()
    found = read("template.yaml")
    resolver = Resolver(found, parameters, {"AWS::NoValue": ""}, {})
    kinds = Counter[str]()
    alarm_metrics = 0
    for one in found["Resources"].values():
        if "Condition" not in one or resolver.holds(one["Condition"]):
            kinds[one["Type"]] += 1
            if one["Type"] == "AWS::CloudWatch::Alarm":
                metrics = one["Properties"].get("Metrics", [{"MetricStat": {}}])
                alarm_metrics += sum("MetricStat" in metric for metric in metrics)
    listened = kinds["AWS::Lambda::EventSourceMapping"] * QUEUE_REQUESTS_A_MONTH
    return [
        _item("KMS key", kinds["AWS::KMS::Key"], "keys", price["kmsKeyMonth"]),
        _item("Secrets", kinds["AWS::SecretsManager::Secret"], "secrets", price["secretMonth"]),
        _item("Alarms", alarm_metrics, "alarm metrics", price["alarmMonth"]),
        _item(
            "Dashboards",
            kinds["AWS::CloudWatch::Dashboard"],
            "dashboards",
            price["dashboardMonth"],
        ),
        _item("Custom metrics", IDLE_METRICS, "metrics", price["metricMonth"]),
        *watching(),
        _item("Queues that are listened to", listened, "requests", price["sqsRequest"]),
    ]


def watching(number: int = 0, cpu_seconds_each: float = WATCHED_CPU_SECONDS) -> list[Item]:
    """What WatchEnrollments costs in a month in which so many enrollments are open all the time.

    Args:
        number: open enrollments.
        cpu_seconds_each: what a request costs a run, measured by `scale`.
    """
    price, watch = prices(), "WatchEnrollments,"
    asked = min(number, WATCHED_A_MINUTE)
    batches = ceil(asked / waits.AT_ONCE)
    run = max(WATCH_SECONDS, asked * cpu_seconds_each / VCPU, batches * TSB_SECONDS)
    # An index is read eventually consistently, for half a unit.
    reads = RUN_READS + ceil(asked * WAIT_BYTES / READ_UNIT_BYTES / 2)
    units = RUNS_A_MONTH * reads + LOOKS_A_MONTH * (LOOK_READS + number * RECORD_UNITS)
    writes = RUNS_A_MONTH * (number > WATCHED_A_MINUTE)  # where the run has stopped
    secrets = LOOKS_A_MONTH * (SECRETS_EACH if number else 1)
    log_bytes = RUNS_A_MONTH * INVOCATION_LOG_BYTES + LOOKS_A_MONTH * METRIC_LOG_BYTES
    if number:
        log_bytes += RUNS_A_MONTH * METRIC_LOG_BYTES * OPEN_METRICS
    return [
        _item(f"{watch} Scheduler", RUNS_A_MONTH, "invocations", price["schedulerInvocation"]),
        _item(f"{watch} Lambda requests", RUNS_A_MONTH, "requests", price["lambdaRequest"]),
        _item(
            f"{watch} Lambda time",
            RUNS_A_MONTH * run * MEMORY_GB,
            "GB-s",
            price["lambdaGbSecondArm64"],
        ),
        _item(f"{watch} DynamoDB", units, "read units", price["dynamodbReadUnit"]),
        _item(f"{watch} DynamoDB writes", writes, "write units", price["dynamodbWriteUnit"]),
        _item(f"{watch} secret", secrets, "calls", price["secretRequest"]),
        _item(f"{watch} KMS", WATCH_KMS, "requests", price["kmsRequest"]),
        _item(f"{watch} logs", log_bytes / GB, "GB", price["logsGb"]),
    ]


def after_free_tier(items: Iterable[Item]) -> list[Item]:
    """What remains of these items in an account that has nothing else."""
    return [
        replace(
            item,
            quantity=max(item.quantity - free, 0),
            usd=item.usd * max(1 - free / item.quantity, 0) if item.quantity else 0,
        )
        for item, free in ((item, FREE_A_MONTH.get(item.name, 0)) for item in items)
    ]


def _item(name: str, quantity: float, unit: str, usd: float) -> Item:
    return Item(name, quantity, unit, quantity * usd)


def _functions(work: Json) -> set[str]:
    return {step.partition(" ")[0] for step in work["byState"]}


def _times(work: Json, call: str) -> int:
    return int(work["awsCalls"].get(call, 0))


def _seconds(work: Json, step: str, *, only_tsb: bool = False) -> float:
    """A warm call's duration: CPU time at our share of a core, and the others' answers."""
    state = work["byState"][step]
    aws = 0 if only_tsb else sum(state["awsCalls"].values())
    asks_tsb = step.partition(" ")[0] in FUNCTIONS_WITH_SECRETS
    cpu = state["oursMilliseconds"] / 1_000 / VCPU
    return float(cpu + asks_tsb * TSB_SECONDS + aws * AWS_SECONDS)


def _start_seconds(results: Json) -> float:
    """What a cold start adds: mean CPU time of the functions' Init under the real runtime client,
    and of their first call, in which clients are made. Init has a whole core, a call has our share.
    """
    measured = [one["milliseconds"]["ours"] for one in results["startup"]["functions"].values()]
    mean = {
        phase: sum(one[phase] for one in measured) / len(measured) / 1_000
        for phase in ("import", "firstCall")
    }
    return float(mean["import"] + mean["firstCall"] / VCPU)


def _evidence_seconds(work: Json) -> float:
    """KeepEvidence's warm call: its calls of AWS, and as much of the CPU as StoreCsr takes."""
    calls = EVIDENCE_LISTS + work["evidence"]["parts"] + work["evidence"]["sources"]
    cpu = work["byState"]["store_csr"]["oursMilliseconds"] / 1_000 / VCPU
    return float(cpu + calls * AWS_SECONDS)


def _units(calls: list[Json]) -> tuple[int, int]:
    """Write units of the table and its indexes, and read units."""
    writes = sum(call["writeUnits"] + call["indexUnits"] for call in calls)
    return writes, sum(call["readUnits"] for call in calls)
