"""What must hold at every end, whatever has gone wrong on the way."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from countersign.errors import TsbOutcomeUnknownError
from countersign.events import ENDINGS
from countersign.evidence import bundle, verifier
from countersign.verification import csr
from tests.case import Json
from tests.exploration.choices import EVENTS, OPEN, Walk
from tests.exploration.scenarios import Scenario

ACCEPTED = (200, 202)
MOST_STEPS = 2_000
LONGEST_SECONDS = 3 * 86_400  # window, silence limit and the day of retries


def violations(walk: Walk, scenario: Scenario) -> list[str]:
    """What does not hold, one sentence each; the same sentence for the same kind."""
    return [*_of_the_walk(walk), *_of_the_end(walk, scenario)]


def _of_the_walk(walk: Walk) -> Iterator[str]:
    if walk.steps >= MOST_STEPS:
        yield "it never ends"
    if walk.running:
        yield "an execution is left waiting for ever"


def _of_the_end(walk: Walk, scenario: Scenario) -> Iterator[str]:
    record: Json = walk.case.record()
    state = walk.case.state()
    alive = [one for one in state["keys"] if not one["deleted"]]
    requests = [
        one for one in state["requests"] if one["status"] in OPEN and one["kind"] != "block"
    ]
    outcome = record.get("outcome")
    told = _told(walk)
    acknowledged = any(_is_acknowledged(one) for one in walk.cancels)
    happened = {one.partition("=")[2] for one in walk.made}

    if len(alive) > 1:
        yield "more than one live key"
    if len(requests) > 1:
        yield "more than one open request"
    if outcome in ("ISSUED", "REJECTED", "EXPIRED", "CANCELLED") and requests:
        yield f"a request is left open after {outcome}"
    # The API answered its caller that nothing was started; the same call again starts it.
    unstarted = scenario.by_api and "executionArn" not in record
    if record and outcome is None and not unstarted:
        yield "no outcome on record"
    yield from _announced(walk, record, told)
    if outcome == "ISSUED":
        yield from _issued(walk, record, alive, state["requests"])
        if acknowledged:
            yield "issued after an acknowledged cancel"
    elif "request.pem" in walk.case.objects(f"enrollments/{walk.case.id}/") and "csr" in record:
        yield f"a CSR on record for {outcome}"
    yield from _claim(walk, record, alive)
    if "stop" not in happened:  # a key of what was stopped is left to the sweep
        yield from _disposed(scenario, record, alive)
    executed = [one for one in state["requests"] if one["status"] == "EXECUTED"]
    if executed and outcome == "FAILED" and not alive and record.get("discards", 0) == 0:
        yield "what people agreed to is thrown away: the key is deleted"
    faults = happened - set(EVENTS)
    # Nobody knows whether its approvers were asked, and its key cannot be deleted: it says so.
    unknown = not scenario.destroyable and _error(record) == TsbOutcomeUnknownError.__name__
    if (
        len(walk.made) == len(faults) == 1
        and outcome != scenario.outcome
        and not (unknown or unstarted)
    ):
        yield f"one fault alone turns {scenario.outcome} into {outcome}"
    yield from _proven(walk, record)


def _error(record: Json) -> str | None:
    return (record.get("error") or {}).get("name")


def _is_acknowledged(call: Any) -> bool:
    answer = call.answer()
    payload = answer["Payload"]
    return "FunctionError" not in answer and payload["statusCode"] in ACCEPTED


def _told(walk: Walk) -> dict[str, set[str]]:
    """The kinds of the endings that were announced, by execution."""
    told: dict[str, set[str]] = defaultdict(set)
    for event in walk.stack.events(walk.case.id):
        if event["detail-type"] in ENDINGS:
            told[event["detail"]["executionArn"]].add(event["detail-type"])
    return told


def _announced(walk: Walk, record: Json, told: dict[str, set[str]]) -> Iterator[str]:
    machines = walk.stack.client("stepfunctions")
    for arn in walk.stack.waits:
        described = machines.describe_execution(executionArn=arn)
        if '"duplicate": true' in described.get("output", "").replace(
            '"duplicate":true', '"duplicate": true'
        ):
            continue
        if not told.get(arn):
            yield "the end of an execution is not announced"
        elif len(told[arn]) > 1:
            yield f"contradicting events of one execution: {', '.join(sorted(told[arn]))}"
    own = told.get(record.get("executionArn", ""), set())
    if own and "outcome" in record and own != {f"Enrollment {record['outcome'].title()}"}:
        yield f"the record says {record['outcome']}, the event {', '.join(sorted(own))}"


def _issued(walk: Walk, record: Json, alive: list[Json], requests: list[Json]) -> Iterator[str]:
    objects = walk.case.objects(f"enrollments/{walk.case.id}/")
    pem = objects.get("request.pem", b"").decode()
    if not pem or "csr" not in record:
        yield "issued without a stored CSR"
        return
    read = csr.read_csr(pem)
    if read.sha256 != record["csr"]["sha256"]:
        yield "the stored CSR is not the one on record"
    if read.public_key_sha256 != record.get("publicKeySha256"):
        yield "the CSR is of another key than the record's"
    if not alive:
        yield "the key of an issued CSR is gone"
    executed = {one["id"] for one in requests if one["status"] == "EXECUTED"}
    if record.get("steps", {}).get("csr", {}).get("requestId") not in executed:
        yield "issued by a request that the TSB did not execute"


def _claim(walk: Walk, record: Json, alive: list[Json]) -> Iterator[str]:
    claim = walk.case.record(f"label#{walk.case.label}")
    if alive and not claim:
        yield "a live key whose label nobody claims"
    if claim and not alive:
        yield "a label stays claimed for a key that is not there"
    if claim and claim["enrollmentId"] != record.get("id"):
        yield "a label is claimed by nobody that exists"


def _disposed(scenario: Scenario, record: Json, alive: list[Json]) -> Iterator[str]:
    outcome = record.get("outcome")
    if outcome in (None, "ISSUED") or not alive or scenario.unused_key not in ("delete", "block"):
        return
    said = record.get("unusedKey", {})
    explained = "error" in said or "reason" in said or said.get("result") in ("asked", "failed")
    done = scenario.unused_key == "block" and all(one["blocked"] for one in alive)
    if not done and not explained:
        yield f"an unused key is left that the profile wants gone ({scenario.unused_key})"


def _proven(walk: Walk, record: Json) -> Iterator[str]:
    if "executionArn" not in record or "outcome" not in record:
        return
    folder = walk.stack.evidence(walk.case.id, record["executionArn"])
    try:
        facts = verifier.verify(folder, walk.stack.signing_key()).facts
    except bundle.EvidenceInvalidError:
        yield f"the evidence of {record['outcome']} does not verify"
        return
    if facts["outcome"] != record["outcome"]:
        yield f"the evidence says {facts['outcome']}, the record {record['outcome']}"
