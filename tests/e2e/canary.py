"""Whether anything secret has got where it must not be: every place that the stack writes to."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.stack import Stack
from tests.e2e.scenarios import mails
from tests.integration.pki import ClientCa

PUBLIC = (
    "caBundle",
    "certificate",
    "attestationChain",
)  # what a TLS secret holds beside its private key
SHORTEST = 8  # anything shorter is found by chance
TOKEN = "canary-bearer-token-c0ffee"  # TSB ignores it, unless told otherwise


def plant(stack: Stack) -> None:
    """Beside the API keys: a bearer token and a client certificate with its key, in use."""
    secrets = stack.client("secretsmanager")
    identity = ClientCa().issue()
    more = {
        "KeyManagementSecretArn": {"bearerToken": TOKEN},
        "KeyOperationSecretArn": {"bearerToken": TOKEN},
        "ClientTlsSecretArn": {
            "certificate": identity.certificate,
            "privateKey": identity.private_key,
        },
    }
    for output, values in more.items():
        arn = stack.outputs[output]
        value = json.loads(secrets.get_secret_value(SecretId=arn)["SecretString"])
        secrets.put_secret_value(SecretId=arn, SecretString=json.dumps({**value, **values}))


def secrets(stack: Stack) -> set[str]:
    """All that Secrets Manager holds, in the forms in which it could be written down."""
    client = stack.client("secretsmanager")
    found: set[str] = set()
    for one in client.list_secrets()["SecretList"]:
        text = client.get_secret_value(SecretId=one["ARN"])["SecretString"]
        for value in _values(text):
            found.add(value)
            found.add(json.dumps(list(value))[1:-1])  # TSB wants passwords letter by letter
            found |= {line for line in value.splitlines() if not line.startswith("-----")}
    return {value for value in found if len(value) >= SHORTEST}


def _values(text: str) -> Iterator[str]:
    try:
        content = json.loads(text)
    except ValueError:
        yield text
        return
    for name, value in content.items():
        if name not in PUBLIC:
            yield from value if isinstance(value, list) else [value] if value else []


def places(stack: Stack) -> Iterator[tuple[str, str]]:
    """Every place and what stands there."""
    yield from _logs(stack)
    yield from _executions(stack)
    table = stack.client("dynamodb").get_paginator("scan")
    for page in table.paginate(TableName=stack.outputs["EnrollmentsTableName"]):
        for item in page["Items"]:
            yield f"table {item['id']['S']}", json.dumps(item)
    for bucket in ("CsrBucketName", "EvidenceBucketName"):
        yield from _objects(stack.client("s3"), stack.outputs[bucket])
    for event in stack.events():
        yield f"event {event['id']}", json.dumps(event)
    for mail in mails(stack):
        yield f"mail {mail['Subject']}", json.dumps(mail)
    for name, url in stack.outputs.items():
        if name.endswith("QueueUrl"):
            answer = stack.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
            yield f"queue {name}", json.dumps(answer.get("Messages", []))


def _objects(s3: Any, bucket: str) -> Iterator[tuple[str, str]]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for one in page.get("Contents", []):
            body = s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()
            yield f"object {one['Key']}", body.decode(errors="replace")


def _logs(stack: Stack) -> Iterator[tuple[str, str]]:
    for log in Path(stack.folder).glob("*.log"):
        yield f"file {log.name}", log.read_text(errors="replace")
    logs = stack.client("logs")
    for page in logs.get_paginator("describe_log_groups").paginate():
        for group in page["logGroups"]:
            lines = logs.get_paginator("filter_log_events").paginate(
                logGroupName=group["logGroupName"]
            )
            for part in lines:
                text = "\n".join(event["message"] for event in part["events"])
                yield f"log {group['logGroupName']}", text


def _executions(stack: Stack) -> Iterator[tuple[str, str]]:
    machines = stack.client("stepfunctions")
    arn = stack.outputs["EnrollmentStateMachineArn"]
    for page in machines.get_paginator("list_executions").paginate(stateMachineArn=arn):
        for one in page["executions"]:
            described: Any = machines.describe_execution(executionArn=one["executionArn"])
            yield f"execution {one['name']}", json.dumps(described, default=str)
            history = machines.get_paginator("get_execution_history")
            for part in history.paginate(executionArn=one["executionArn"]):
                yield f"history {one['name']}", json.dumps(part["events"], default=str)


def leaks(stack: Stack) -> list[str]:
    """Each place with a secret in it."""
    hidden = secrets(stack)
    return sorted({where for where, text in places(stack) if any(one in text for one in hidden)})
