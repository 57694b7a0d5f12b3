"""The main job, behind `make run`: shows people one enrollment from request to stored CSR."""

import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from rich.markup import escape

from countersign.events import ENDINGS
from countersign.evidence import bundle, verifier
from countersign.models import OutcomeDocument
from countersign.verification import csr
from local.approver import Approver, ApproverClient, shown
from local.stack import ROOT, Stack, StackError, stop_once
from local.terminal import console, steps, table

SEED = ROOT / "events/seed"
DEADLINE_SECONDS = 90
EVENT_SECONDS = 10
EVIDENCE_SECONDS = 20
PAUSE_SECONDS = 0.2
INTERRUPTED = 130

type Step = Callable[[str], AbstractContextManager[None]]


class EnrollmentFailedError(Exception):
    """The execution did not end well. The message is for people."""


def request_for(approver: Approver) -> dict[str, Any]:
    """The seed's two bodies, with the approver's public key replaced by our own."""
    text = (SEED / "create-key.json").read_text()
    key = json.loads(text)
    theirs = key["policy"]["ruleUse"]["tokens"][0]["groups"][0]["approvals"][0]["value"]
    return {
        "key": json.loads(text.replace(theirs, approver.spki)),
        "csr": json.loads((SEED / "csr-request.json").read_text())["csrSignRequest"],
        "reason": "make run",
    }


def main() -> int:
    """Run everything. Returns 0 if the CSR is in S3, 1 after a failure, 130 if interrupted."""
    stop_once()
    stack = Stack(ROOT / ".stack/run")
    try:
        with steps() as step:
            stack.start(step)
            account = enroll(stack, step)
        table("the CSR", account)
    except (StackError, EnrollmentFailedError) as error:
        console.print(f"\n[red]failed[/]  {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        console.print("\ninterrupted")
        return INTERRUPTED
    finally:
        stack.stop()
        console.print("\n[dim]everything that was started is stopped[/]")
    return 0


def enroll(stack: Stack, step: Step) -> dict[str, str]:
    """One enrollment, from request to stored CSR; what people want to see of it, by heading.

    Raises:
        EnrollmentFailedError: it did not end well; says why.
    """
    approver = Approver.generate("ApproverKey1")
    approver_client = ApproverClient(
        stack.tsb_url, stack.api_keys["approver"][0], stack.ca_certificate
    )
    request = {**request_for(approver), "enrollmentId": f"run-{int(time.time())}"}
    machines = stack.client("stepfunctions")
    arn = machines.start_execution(
        stateMachineArn=stack.outputs["EnrollmentStateMachineArn"],
        input=json.dumps({"request": request}),
    )["executionArn"]
    trouble: list[Exception] = []

    def approve() -> None:
        try:
            with step("approver: fetches the task, verifies what it shows, signs its bytes"):
                task = approver.await_task(approver_client, request["key"]["label"])
                shown(task, stack.signing_key())
                approver.approve(approver_client, task)
        except Exception as error:
            trouble.append(error)

    person = threading.Thread(target=approve, daemon=True)
    person.start()
    ended = follow(machines, arn, step)
    if ended["status"] != "SUCCEEDED" or json.loads(ended["output"])["outcome"] != "ISSUED":
        raise EnrollmentFailedError(explain(machines, arn, ended, trouble))
    document = OutcomeDocument.read(json.loads(ended["output"]))
    with step("the event from the bus"):
        event = ending(stack, request["enrollmentId"])
    with step("the evidence, verified offline"):
        proven = proven_by(stack, request["enrollmentId"], arn)
    return _account(stack, request, document, event, proven)


def follow(machines: Any, arn: str, step: Step) -> Any:
    """Show each state while the execution is in it; return the ended execution."""
    current, number = ExitStack(), 0
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while time.monotonic() < deadline:
            # Called before the history: if the execution has ended by now, the history has all
            # states.
            now = machines.describe_execution(executionArn=arn)
            history = machines.get_execution_history(executionArn=arn, maxResults=1000)["events"]
            entered = [
                event["stateEnteredEventDetails"]["name"]
                for event in history
                if event["type"].endswith("StateEntered")
            ]
            for name in entered[number:]:
                current.close()
                current = ExitStack()
                current.enter_context(step(f"state {name}"))
            number = len(entered)
            if now["status"] != "RUNNING":
                return now
            time.sleep(PAUSE_SECONDS)
    finally:
        current.close()
    raise EnrollmentFailedError(f"still running after {DEADLINE_SECONDS} s, in state {entered[-1]}")


def explain(machines: Any, arn: str, ended: Any, trouble: list[Exception]) -> str:
    """Why an execution issued no CSR: each failed state with its error, for people."""
    history = machines.get_execution_history(executionArn=arn, maxResults=1000)["events"]
    lines = [f"the execution is {ended['status']}"]
    name = "?"
    for event in history:
        name = event.get("stateEnteredEventDetails", {}).get("name", name)
        if event["type"] in ("TaskFailed", "TaskTimedOut", "LambdaFunctionFailed"):
            details = event.get("taskFailedEventDetails", {})
            lines.append(f"state {name}: {details.get('error')}: {_words(details.get('cause'))}")
    if ended["status"] == "SUCCEEDED":
        lines.append(f"outcome: {json.loads(ended['output'])['outcome']}")
    lines += [f"the approver: {error}" for error in trouble]
    return "\n        ".join(lines)


def _words(cause: str | None) -> str:
    """The message for people in the innermost JSON of a Cause."""
    text = cause or ""
    for field in ("errorMessage", "message"):
        try:
            text = json.loads(text)[field]
        except (ValueError, KeyError, TypeError):
            break
    return text


def ending(stack: Stack, enrollment_id: str) -> dict[str, Any]:
    """The event of the end, as soon as it is delivered."""
    deadline = time.monotonic() + EVENT_SECONDS
    while time.monotonic() < deadline:
        for event in stack.events(enrollment_id):
            if event["detail-type"] in ENDINGS:
                return event
        time.sleep(PAUSE_SECONDS)
    raise EnrollmentFailedError("the bus delivered no event")


def proven_by(stack: Stack, enrollment_id: str, arn: str) -> dict[str, str]:
    """What the evidence proves, with only the folder and the public key."""
    deadline = time.monotonic() + EVIDENCE_SECONDS
    while time.monotonic() < deadline:
        folder = stack.evidence(enrollment_id, arn)
        if bundle.SIGNATURE in folder:
            return verifier.verify(folder, stack.signing_key()).facts
        time.sleep(PAUSE_SECONDS)
    raise EnrollmentFailedError("no evidence was kept")


def _account(
    stack: Stack,
    request: dict[str, Any],
    document: OutcomeDocument,
    event: dict[str, Any],
    proven: dict[str, str],
) -> dict[str, str]:
    """What people want to see of the result, read back from S3."""
    stored = document.csr
    assert stored is not None  # noqa: S101  it was issued
    answer = stack.client("s3").get_object(
        Bucket=stored.bucket, Key=stored.key, VersionId=stored.version_id
    )
    requested = request["csr"]
    spki = stack.client("dynamodb").get_item(
        TableName=stack.outputs["EnrollmentsTableName"], Key={"id": {"S": document.enrollment_id}}
    )["Item"]["publicKeySha256"]["S"]
    checked = csr.read_csr(answer["Body"].read().decode())
    said = [one["detail-type"] for one in stack.events(document.enrollment_id)]
    approvals = ", ".join(f"{one.name} {one.decision}" for one in document.approvers)
    return {
        "subject": checked.subject,
        "key": f"{checked.key}, label {request['key']['label']}, SPKI SHA-256 {spki}",
        "key usage": f"{', '.join(checked.key_usage)} (asked: {', '.join(requested['keyUsage'])})",
        "extended key usage": ", ".join(checked.extended_key_usage),
        "SHA-256": checked.sha256,
        "approvals": approvals,
        "checks": proven["checks"],
        "attestation": proven["attestation"],
        "evidence": f"{proven['parts']}, signed by {proven['signed by']}",
        "lies at": f"s3://{stored.bucket}/{stored.key} (version {stored.version_id})",
        "events": " → ".join(said) + f", from {event['source']}, at {event['time']}",
    }


if __name__ == "__main__":
    sys.exit(main())
