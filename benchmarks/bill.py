"""What an enrollment, an idle month and a fleet cost, item by item, at AWS list prices.

Calls, sizes and CPU time were measured by `make bench` on the embedded stack; what only AWS can say
is assumed below, each with its reason. Nothing here is an AWS invoice.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import history
from countersign_cli.prices import prices

TEMPLATE = Path(__file__).parents[1] / "template.yaml"

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
# WatchEnrollments runs every five minutes and says four things where nothing is pending.
WATCHES_A_MONTH = 12 * 24 * 30
WATCH_METRICS = 4  # Pending, OldestPending, Overdue, PollsDue; a certificate has one more
WATCH_SECONDS = 0.1  # assumed: two queries of an empty index, in a function that is warm
GB = 1e9

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


def idle_month() -> list[Item]:
    """What a stack costs that does nothing, from the resources in its template."""
    price, text = prices(), TEMPLATE.read_text()

    def count(kind: str) -> int:
        return len(re.findall(rf"^ +Type: {re.escape(kind)}$", text, re.MULTILINE))

    queues = count("AWS::Lambda::EventSourceMapping")
    return [
        _item("KMS key", count("AWS::KMS::Key"), "keys", price["kmsKeyMonth"]),
        _item("Secrets", count("AWS::SecretsManager::Secret"), "secrets", price["secretMonth"]),
        _item("Alarms", text.count("MetricName: "), "alarm metrics", price["alarmMonth"]),
        _item(
            "Dashboards", count("AWS::CloudWatch::Dashboard"), "dashboards", price["dashboardMonth"]
        ),
        _item("Custom metrics", WATCH_METRICS, "metrics", price["metricMonth"]),
        _item(
            "WatchEnrollments, Lambda time",
            WATCHES_A_MONTH * WATCH_SECONDS * MEMORY_GB,
            "GB-s",
            price["lambdaGbSecondArm64"],
        ),
        _item("WatchEnrollments, secret", WATCHES_A_MONTH, "calls", price["secretRequest"]),
        _item(
            "WatchEnrollments, logs",
            WATCHES_A_MONTH * (1 + WATCH_METRICS) * INVOCATION_LOG_BYTES / GB,
            "GB",
            price["logsGb"],
        ),
        _item(
            "Queues that are listened to",
            queues * QUEUE_REQUESTS_A_MONTH,
            "requests",
            price["sqsRequest"],
        ),
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
