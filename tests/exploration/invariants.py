"""What must hold at every end, whatever has gone wrong on the way."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, cast

from countersign import resumption
from countersign.errors import TsbOutcomeUnknownError
from countersign.events import ENDINGS
from countersign.evidence import bundle, verifier
from countersign.keys import unused
from countersign.record import Record, last_step, step_of
from countersign.verification import certificate, csr
from tests.case import Case, Json
from tests.exploration.choices import EVENTS, OPEN, Walk
from tests.exploration.scenarios import Scenario

ACCEPTED = (200, 202)
END = "-----END CERTIFICATE-----"
MOST_STEPS = 2_000
ASKING = ("/v1/certificate/request", "/v1/certificate/sign")
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
    made = [*state["requests"], *_of_the_ca(walk)]
    requests = [one for one in made if one["status"] in OPEN and one["kind"] != "block"]
    outcome = record.get("outcome")
    told = _told(walk)
    acknowledged = any(_is_acknowledged(one) for one in walk.cancels)
    happened = {one.partition("=")[2] for one in walk.made}

    if len(alive) > 1:
        yield "more than one live key"
    twins = _twins(walk, made)
    known = [one for one in requests if one["id"] not in twins]
    if len(known) > 1:
        yield "more than one open request"
    is_at_ca = last_step(record) == "certificate"  # whose key is not ours to delete
    is_told = (is_at_ca or not scenario.destroyable) and _is_told_unconfirmed(record)
    if outcome in ("ISSUED", "REJECTED", "EXPIRED", "CANCELLED") and known and not is_told:
        yield f"a request is left open after {outcome}"
    if outcome == "FAILED" and not _speaks_of_requests(record, requests):
        yield "a request is left open, and the record does not say so"
    # The API answered its caller that nothing was started; the same call again starts it.
    unstarted = scenario.by_api and "executionArn" not in record
    if record and outcome is None and not unstarted:
        yield "no outcome on record"
    yield from _announced(walk, record, told)
    if outcome == "ISSUED":
        yield from _issued(walk, record, alive, made)
        if acknowledged:
            yield "issued after an acknowledged cancel"
    elif walk.ca_label is not None:
        yield from _stays(walk, record, alive)
    elif "request.pem" in walk.case.objects(f"enrollments/{walk.case.id}/") and "csr" in record:
        yield f"a CSR on record for {outcome}"
    executed = [one for one in state["requests"] if one["status"] == "EXECUTED"]
    if executed and outcome == "FAILED" and not alive and record.get("discards", 0) == 0:
        yield "what people agreed to is thrown away: the key is deleted"
    faults = happened - set(EVENTS)
    # Nobody knows whether approvers were asked, and the key cannot be deleted: it says so.
    is_kept = not scenario.destroyable or "csr" in record
    unknown = is_kept and _error(record) == TsbOutcomeUnknownError.__name__
    if (
        len(walk.made) == len(faults) == 1
        and outcome != scenario.outcome
        and not (unknown or unstarted)
    ):
        yield f"one fault alone turns {scenario.outcome} into {outcome}"
    if not walk.made and outcome != scenario.outcome:
        yield f"without any fault it ends as {outcome}, not as {scenario.outcome}"
    yield from _proven(walk, record)
    # Last, because they go on from here.
    yield from _disposed(walk, scenario, record, alive)
    yield from _claim(walk, record, alive)


def _twins(walk: Walk, requests: list[Json]) -> set[str]:
    """The ids of requests of which no answer to us ever spoke.

    Something between us and the TSB has made two calls of one, which HTTP forbids (RFC 9110,
    9.2.2). Our side sent one call and got one answer, and TSB's list of requests names no key: so
    nobody can know of the other. It is of the same key, shows the same to its approvers, and never
    counts as the approval. It ends with the key, or else with its window. So an end may leave it
    open, and an end that leaves what it knows open must speak of all requests of the key.
    """
    twins = set[str]()
    for label, kind, path in zip(walk.labels, ("csr", "sign"), ASKING, strict=False):
        sent = [
            one["clientPort"]
            for one in walk.stack.simulator.calls(label)
            if one["path"] == path and one["executed"]
        ]
        made = [one["id"] for one in requests if one["kind"] == kind]
        answered = dict(zip(sent, made, strict=True))  # of two from one call, the last
        twins |= set(made) - set(answered.values())
    return twins


def _of_the_ca(walk: Walk) -> list[Json]:
    """The requests that the CA's approvers were asked for this enrollment."""
    if walk.ca_label is None:
        return []
    found = walk.stack.control("GET", f"/state?label={walk.ca_label}")["requests"]
    return [one for one in found if one["kind"] == "sign"]


def _speaks_of_requests(record: Json, requests: list[Json]) -> bool:
    """Whether the failure names the key of each request that is left open."""
    action = (record.get("error") or {}).get("action") or ""
    return all(f"equests of key {one['label']!r}" in action for one in requests)


def _is_told_unconfirmed(record: Json) -> bool:
    """Whether a cancellation says that TSB has not confirmed it, where nobody can know the request.

    The answer with its id got lost, TSB lists no requests of a key, and this key cannot be deleted.
    """
    step = step_of(record, last_step(record))
    is_lost = "intent" in step and "requestId" not in step
    return is_lost and "cancel" in record and "confirmedAt" not in record["cancel"]


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
    if walk.ca_label is not None:
        yield from _certified(walk, record, executed)


def _certified(walk: Walk, record: Json, executed: set[str]) -> Iterator[str]:
    """The certificate is verified, stored, of this key, and at the key if the record says so."""
    stored = record.get("certificate")
    pem = walk.case.objects(f"enrollments/{walk.case.id}/").get("certificate.pem", b"").decode()
    if stored is None or not pem:
        yield "issued without a stored certificate"
        return
    leaf = certificate.read(pem.partition(END)[0] + END)
    if not leaf.sha256 == stored["sha256"] == record.get("verifiedSha256"):
        yield "the stored certificate is not the one that was verified"
    if hashlib.sha256(leaf.public_key).hexdigest() != record.get("publicKeySha256"):
        yield "the certificate is of another key than the record's"
    if record["steps"]["certificate"].get("requestId") not in executed:
        yield "a certificate by a request that the TSB did not execute"
    key = walk.stack.simulator.broker.keys[walk.case.label]
    said = record.get("imported", {}).get("result")
    # `started` says that nobody knows: a function that outlives its stopped execution may import
    # when the end is on record already.
    if said != "started" and (said == "imported") is not (key.certificate == leaf.der):
        yield "the record says of the import what the TSB does not show"


def _stays(walk: Walk, record: Json, alive: list[Json]) -> Iterator[str]:
    """What is left of a CSR whose certificate was not issued: all of it."""
    if "certificate" in record:
        yield f"a certificate on record for {record.get('outcome')}"
    if "csr" not in record:
        return
    if "request.pem" not in walk.case.objects(f"enrollments/{walk.case.id}/"):
        yield "a CSR on record that is not stored"
    if not alive or any(one["blocked"] for one in alive):
        yield "the key of a stored CSR is disposed of"


def _claim(walk: Walk, record: Json, alive: list[Json]) -> Iterator[str]:
    """A label is claimed as long as there is its key.

    Nothing of an enrollment runs for certain after its execution was stopped, and CloseEnrollment
    cannot ask the TSB whether there is a key: released before a key is made, the claim would leave
    that key to nobody. So the claim of what was stopped may outlive a key, and hinders nobody: the
    next enrollment that wants the label gets it (docs/decisions.md, 86).
    """
    claim = walk.case.record(f"label#{walk.case.label}")
    if alive and not claim:
        yield "a live key whose label nobody claims"
    if claim and not alive and not (_is_stopped(walk, record) and _makes_way(walk)):
        yield "a label stays claimed for a key that is not there"
    if claim and claim["enrollmentId"] != record.get("id"):
        yield "a label is claimed by nobody that exists"


def _is_stopped(walk: Walk, record: Json) -> bool:
    arn = record.get("executionArn")
    return arn in walk.stack.waits and walk.case.status(arn) == "ABORTED"


def _makes_way(walk: Walk) -> bool:
    """Whether another enrollment makes a key under the label."""
    other = Case(walk.stack, "another")
    other.label = walk.case.label
    arn = other.start(other.request())
    walk.stack.until(
        lambda: walk.stack.has_ended(arn) or "publicKeySha256" in other.record(), "key"
    )
    return "publicKeySha256" in other.record()


def _disposed(walk: Walk, scenario: Scenario, record: Json, alive: list[Json]) -> Iterator[str]:
    """A key that the profile wants gone is gone, or the record says why not.

    Two kinds of ends never come to DiscardKey: what failed in CreateKey (the same id can be started
    again with that key), and what was stopped. Of these SweepKeys finds the key, unless the
    enrollment can be resumed.
    """
    outcome = record.get("outcome")
    if (
        outcome in (None, "ISSUED")
        or "csr" in record
        or not alive
        or scenario.unused_key not in ("delete", "block")
    ):
        return
    said = record.get("unusedKey", {})
    explained = "error" in said or "reason" in said or said.get("result") in ("asked", "failed")
    done = scenario.unused_key == "block" and all(one["blocked"] for one in alive)
    failed_in = (record.get("error") or {}).get("state")
    is_left = failed_in == "CreateKey" or _is_stopped(walk, record)
    if not (done or explained or (is_left and _is_accounted_for(walk, cast(Record, record)))):
        yield f"an unused key is left that the profile wants gone ({scenario.unused_key})"


def _is_accounted_for(walk: Walk, record: Record) -> bool:
    """Whether the enrollment can be resumed with its key, or SweepKeys finds that key unused."""
    if resumption.is_over(record) is None:
        return True
    walk.stack.clock.advance(2 * unused.GRACE.total_seconds())
    found = walk.stack.call("SweepKeys", {})["keys"]
    return [one["why"] for one in found if one["label"] == walk.case.label] in (
        ["unused"],
        ["unblocked"],
    )


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
