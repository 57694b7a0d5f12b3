"""The calls to AWS that functions make, as the workflow's tests see them.

`calls.json` beside this file has them by function, as IAM's action and the template's resource:
`s3:GetObject CsrBucket/enrollments/ID/request.json`. Every workflow test holds its own calls
against it, and `make record` writes it anew.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from local.engine.invocation import AwsCall
from local.engine.resources import Resources
from local.engine.stack import InProcessStack

FILE = Path(__file__).with_name("calls.json")
# The parameters that decide which secrets a function may read, each with its other value.
ROLES = {"RequestRole": "KeyManagement", "CertificateRole": "KeyManagement"}
DEFAULTS, BY_MANAGEMENT = "as by default", "by key management"

type Calls = dict[str, dict[str, set[str]]]  # by parameters and function


@cache
def recorded() -> Calls:
    """What is written down. Do not change it."""
    found = json.loads(FILE.read_text())
    return {
        parameters: {function: set(calls) for function, calls in by_function.items()}
        for parameters, by_function in found.items()
    }


def write(calls: Calls) -> None:
    """Write down these calls, beside those that are written down. `make record` begins anew."""
    calls = {**calls}
    if FILE.exists():
        merge(calls, json.loads(FILE.read_text()))
    content = {
        parameters: {name: sorted(made) for name, made in sorted(by_function.items())}
        for parameters, by_function in sorted(calls.items())
    }
    FILE.write_text(f"{json.dumps(content, indent=1)}\n")


def merge(calls: Calls, more: Calls) -> None:
    for parameters, by_function in more.items():
        for function, made in by_function.items():
            calls.setdefault(parameters, {}).setdefault(function, set()).update(made)


def made(stack: InProcessStack) -> Calls:
    """What the functions of a stack have called since it was fresh."""
    found: dict[str, set[str]] = defaultdict(set)
    for invocation in stack.invocations:
        for call in invocation.aws_calls:
            found[invocation.function].update(_requested(stack.resources, call))
    changed = any(stack.configured.get(name) == value for name, value in ROLES.items())
    return {BY_MANAGEMENT if changed else DEFAULTS: dict(found)}


def _requested(resources: Resources, call: AwsCall) -> Iterator[str]:  # noqa: PLR0912  one for each call
    """What IAM is asked about a call.

    Raises:
        KeyError: of a resource that is not this stack's.
    """
    given, name = call.parameters, resources.name_of
    match call.service, call.operation:
        case "dynamodb", _:
            index = f"/index/{given['IndexName']}" if "IndexName" in given else ""
            leading = _leading_key(given)
            yield f"dynamodb:{call.operation} {name(given['TableName'])}{index}{leading}"
        case "s3", "ListObjectsV2":
            yield f"s3:ListBucket {name(given['Bucket'])}"
        case "s3", "GetObject" | "PutObject":
            bucket = name(given["Bucket"])
            yield f"s3:{call.operation} {bucket}/{_key(given['Key'])}"
            if call.error == "NoSuchKey":
                # S3 says so only to those who may list the bucket.
                # https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
                yield f"s3:ListBucket {bucket}"
        case "events", "PutEvents":
            for entry in given["Entries"]:
                yield f"events:PutEvents {name(entry['EventBusName'])}"
        case "secretsmanager", "GetSecretValue":
            yield f"secretsmanager:GetSecretValue {_secret(resources, given['SecretId'])}"
        case "kms", "Sign" | "GetPublicKey":
            yield f"kms:{call.operation} {name(given['KeyId'])}"
        case "sns", "Publish":
            yield f"sns:Publish {name(given['TopicArn'])}"
        case "sesv2", "SendEmail":
            yield "ses:SendEmail MailFrom"
        case "stepfunctions", "StartExecution":
            yield f"states:StartExecution {name(given['stateMachineArn'])}"
        case "stepfunctions", "SendTaskSuccess":
            yield "states:SendTaskSuccess EnrollmentStateMachine"
        case "stepfunctions", "DescribeExecution":
            yield "states:DescribeExecution EnrollmentStateMachine/EXECUTION"
        case "lambda", "Invoke":
            yield f"lambda:InvokeFunction {given['FunctionName']}Function"
        case _:
            raise AssertionError(f"which IAM action is {call.service} {call.operation}?")


def _leading_key(given: Any) -> str:
    """The kind of an item that is no enrollment, as IAM's `dynamodb:LeadingKeys` has it."""
    item = given.get("Key") or given.get("Item") or {}
    kind, sharp, _ = str(item.get("id", {}).get("S", "")).partition("#")
    return f" {kind}#ID" if sharp else ""


def _secret(resources: Resources, arn: str) -> str:
    password = "/key-password/"
    return f"{password}KEY" if password in arn else resources.name_of(arn)


def _key(key: str) -> str:
    """A key of an object without what is another in each run: ids, executions, digests."""
    *folders, file = key.split("/")
    known = ("enrollments", "quarantine", "tsb", "metadata", "attestation-chain")
    path = [one if one in known else "ID" for one in folders]
    return "/".join((*path, re.sub(r"[0-9a-f]{16,}|\d+", "N", file)))
