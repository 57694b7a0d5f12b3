"""The vendor's tutorial as one command, behind `make tutorial`: from CA to imported certificate.

The bodies are the vendor's, verbatim but for the approvers' keys: those of the three pages about
keys with Smart Key Attributes. What the pages do by hand is done here: the CA by its own approver,
everything else by one enrollment.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rich.markup import escape

from countersign.verification import certificate, pkix
from local import ca
from local.approver import Approver, ApproverClient, shown
from local.run import (
    INTERRUPTED,
    EnrollmentFailedError,
    Step,
    explain,
    follow,
    proven_by,
    request_for,
)
from local.stack import ROOT, Stack, StackError, stop_once
from local.terminal import console, steps, table

CA_LABEL = "CA.approver.securosys.com"
END = "-----END CERTIFICATE-----\n"
# `signCertificateRequest` of the third page; its TSB cannot be told a validity: 90 days.
TERMS: dict[str, Any] = {
    "caKeyLabel": CA_LABEL,
    "validity": 90,
    "signatureAlgorithm": "SHA256_WITH_RSA",
    "certificateAuthority": False,
    "keyUsage": ["DIGITAL_SIGNATURE"],
    "extendedKeyUsage": ["ANY_EXTENDED_KEY_USAGE"],
}


def ca_key(approver: Approver) -> dict[str, Any]:
    """The body of the first page: the seed's with the CA's label, under the CA's approver."""
    return {**request_for(approver)["key"], "label": CA_LABEL}


def request(approver: Approver) -> dict[str, Any]:
    """The second page's two bodies, and the third page's terms."""
    return {**request_for(approver), "certificate": TERMS, "reason": "make tutorial"}


def verified(chain: str) -> str:
    """What openssl says of a certificate with its CA's after it.

    Raises:
        EnrollmentFailedError: openssl does not accept it, or is not there.
    """
    leaf, issuer = (one + END for one in chain.split(END)[:2])
    with tempfile.TemporaryDirectory() as folder:
        for name, pem in (("leaf.pem", leaf), ("ca.pem", issuer)):
            (Path(folder) / name).write_text(pem)
        command = ["openssl", "verify", "-verbose", "-CAfile", "ca.pem", "leaf.pem"]
        try:
            said = subprocess.run(  # noqa: S603  its arguments are ours
                command, cwd=folder, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise EnrollmentFailedError("there is no openssl on PATH to ask") from None
    if said.returncode:
        raise EnrollmentFailedError(f"openssl verify: {said.stdout}{said.stderr}".strip())
    return said.stdout.strip()


def main() -> int:
    """Run everything. Returns 0 if the chain is accepted, 1 after a failure, 130 if interrupted."""
    stop_once()
    stack = Stack(ROOT / ".stack/tutorial")
    try:
        with steps() as step:
            stack.start(step)
            account = walk(stack, step)
        table("from CA to certificate", account)
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


def walk(stack: Stack, step: Step) -> dict[str, str]:
    """The three pages; what people want to see of them, by heading.

    Raises:
        EnrollmentFailedError: it did not end well; says why.
    """
    ca_approver, sub_approver = (Approver.generate("ApproverKey1") for _ in range(2))
    management, operation, approving = (
        ApproverClient(stack.tsb_url, stack.api_keys[role][0], stack.ca_certificate)
        for role in ("keyManagement", "keyOperation", "approver")
    )
    with step("page 1: the CA's key, and its own certificate"):
        management.send("POST", "/v1/key", ca_key(ca_approver))
        ca.ask_for_certificate(operation, CA_LABEL)
        ca_approver.approve(approving, ca_approver.await_task(approving, CA_LABEL))
    asked = {**request(sub_approver), "enrollmentId": f"tutorial-{int(time.time())}"}
    machines = stack.client("stepfunctions")
    arn = machines.start_execution(
        stateMachineArn=stack.outputs["EnrollmentStateMachineArn"],
        input=json.dumps({"request": asked}),
    )["executionArn"]
    trouble: list[Exception] = []

    def approve(person: Approver, label: str, who: str) -> None:
        try:
            with step(f"{who} verifies the task and signs"):
                task = person.await_task(approving, label)
                shown(task, stack.signing_key())
                person.approve(approving, task)
        except Exception as error:
            trouble.append(error)

    def people() -> None:
        approve(sub_approver, asked["key"]["label"], "page 2: the key's approver")
        approve(ca_approver, CA_LABEL, "page 3: the CA's approver")

    threading.Thread(target=people, daemon=True).start()
    ended = follow(machines, arn, step)
    if ended["status"] != "SUCCEEDED" or json.loads(ended["output"])["outcome"] != "ISSUED":
        raise EnrollmentFailedError(explain(machines, arn, ended, trouble))
    stored = json.loads(ended["output"])["certificate"]
    with step("the evidence, verified offline"):
        proven = proven_by(stack, asked["enrollmentId"], arn)
    with step("openssl's word on the chain"):
        word = verified(stored["pem"])
    leaf = certificate.read(stored["pem"].split(END)[0] + END)
    issuer, _, digest = proven["issued by"].partition(", sha256:")
    return {
        "subject": pkix.described(leaf.name),
        "valid until": stored["expires"],
        "SHA-256": stored["sha256"],
        "CSR: agreed": proven["approved by"],
        "checks": proven["checks"],
        "CA: agreed": proven["CA approved by"],
        "its checks": proven["certificate checks"],
        "issued by": issuer,
        "its SHA-256": digest,
        "imported": proven["imported"].removeprefix("imported "),
        "openssl verify": word,
        "lies at": f"s3://{stored['bucket']}/{stored['key']}",
    }


if __name__ == "__main__":
    sys.exit(main())
