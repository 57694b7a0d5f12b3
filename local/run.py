"""The main job, behind `make run`: shows people one enrollment from request to stored CSR.

`python -m local.run FILE` also writes what was shown to this file, as SVG.
"""

import json
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from rich.markup import escape

from countersign.events import ENDINGS
from countersign.evidence import bundle, verifier
from countersign.models import OutcomeDocument
from countersign.verification import csr
from local.approver import Approver, ApproverClient, shown
from local.stack import ROOT, Stack, StackError, stop_once
from local.terminal import WIDTH, console, steps, table

SEED = ROOT / "events/seed"
DEADLINE_SECONDS = 90
EVENT_SECONDS = 10
EVIDENCE_SECONDS = 20
PAUSE_SECONDS = 0.2
WORKING = ("TaskStateEntered", "WaitStateEntered")  # the others take no time
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
    if sys.argv[1:]:
        console.record, console.width = True, WIDTH
    try:
        with steps() as step:
            stack.start(step)
            account, pem = enroll(stack, step)
            with step("stop everything that was started"):
                stack.stop()
    except (StackError, EnrollmentFailedError) as error:
        console.print(f"\n[red]failed[/]  {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        console.print("\ninterrupted")
        return INTERRUPTED
    finally:
        stack.stop()
    table("the CSR", account)
    console.print(f"\n{pem}\n[bold]next[/]  make up   [dim]to ask and to decide yourself[/]")
    if sys.argv[1:]:
        record(Path(sys.argv[1]))
    return 0


def record(file: Path) -> None:
    """Write what was shown, and is no wider than a terminal."""
    lines = console.export_text(clear=False).splitlines()
    assert max(map(len, lines)) <= WIDTH, max(lines, key=len)  # noqa: S101  for who changes it
    svg = console.export_svg(title="make run", unique_id="run")
    # Nothing is fetched from elsewhere: a reader's own font will do.
    file.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


def enroll(stack: Stack, step: Step) -> tuple[dict[str, str], str]:
    """One enrollment, from request to stored CSR; what people want to see of it, and the PEM.

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
    signed = threading.Event()

    def approve() -> None:
        try:
            with step("the approver fetches the task, verifies what it shows, signs"):
                task = approver.await_task(approver_client, request["key"]["label"])
                shown(task, stack.signing_key())
                approver.approve(approver_client, task)
            signed.set()
        except Exception as error:
            trouble.append(error)

    def watch(state: str) -> None:
        """Have the watcher, which looks each minute, look now: nobody here waits for a minute."""
        if state == "WaitForApproval" and signed.is_set():
            signed.clear()
            with step("the watcher sees it and wakes the execution"):
                watcher = stack.outputs["WatchEnrollmentsFunctionName"]
                stack.client("lambda").invoke(FunctionName=watcher)

    person = threading.Thread(target=approve, daemon=True)
    person.start()
    ended = follow(machines, arn, step, watch)
    if ended["status"] != "SUCCEEDED" or json.loads(ended["output"])["outcome"] != "ISSUED":
        raise EnrollmentFailedError(explain(machines, arn, ended, trouble))
    document = OutcomeDocument.read(json.loads(ended["output"]))
    with step("the event from the bus"):
        event = ending(stack, request["enrollmentId"])
    with step("the evidence, verified offline"):
        proven = proven_by(stack, request["enrollmentId"], arn)
    return _account(stack, request, document, event, proven)


def follow(
    machines: Any, arn: str, step: Step, meanwhile: Callable[[str], None] = lambda _: None
) -> Any:
    """Show each state while the execution is in it; return the ended execution.

    Args:
        meanwhile: called again and again with the state that was entered last.
    """
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
                if event["type"] in WORKING
            ]
            for name in entered[number:]:
                current.close()
                current = ExitStack()
                current.enter_context(step(f"state {name}"))
            number = len(entered)
            if now["status"] != "RUNNING":
                return now
            meanwhile(entered[-1] if entered else "")
            time.sleep(PAUSE_SECONDS)
    finally:
        current.close()
    raise EnrollmentFailedError(
        f"still running after {DEADLINE_SECONDS} s, in state {entered[-1:]}"
    )


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
) -> tuple[dict[str, str], str]:
    """What people want to see of the result, and its PEM, read back from S3."""
    stored = document.csr
    assert stored is not None  # noqa: S101  it was issued
    answer = stack.client("s3").get_object(
        Bucket=stored.bucket, Key=stored.key, VersionId=stored.version_id
    )
    spki = stack.client("dynamodb").get_item(
        TableName=stack.outputs["EnrollmentsTableName"], Key={"id": {"S": document.enrollment_id}}
    )["Item"]["publicKeySha256"]["S"]
    pem = answer["Body"].read().decode()
    checked = csr.read_csr(pem)
    approvals = ", ".join(f"{one.name} {one.decision}" for one in document.approvers)
    # Hashes without what could be said of them too: a line that is folded cannot be copied.
    return {
        "subject": checked.subject,
        "usages": ", ".join([*checked.key_usage, *checked.extended_key_usage]),
        "key": f"{checked.key}, {request['key']['label']}",
        "key SHA-256": spki,
        "CSR SHA-256": checked.sha256,
        "approvals": approvals,
        "checks": f"{proven['checks']}; attestation {proven['attestation'].partition(',')[0]}",
        "evidence": proven["parts"],
        "bucket": stored.bucket,
        "object": stored.key,
        "event": f"{event['detail-type']}, from {event['source']}, at {event['time']}",
    }, pem


if __name__ == "__main__":
    sys.exit(main())
