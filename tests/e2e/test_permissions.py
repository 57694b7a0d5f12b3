"""What each function may read and write, tried with its own role on the deployed stack.

The emulator enforces the functions' roles with their boundary, and nothing else; of conditions
those on an event's names and on a mail's sender. The rest is evaluated in `tests/permissions`:
other conditions, policies of resources and keys, the other roles.
"""

import uuid
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.stack import STACK_NAME, Stack
from tests.e2e.scenarios import SENDER

pytestmark = pytest.mark.e2e

DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError")
ANSWERS = ("create-key", "poll-request", "store-csr")
SECRETS = {
    "key management": "KeyManagementSecretArn",
    "key operation": "KeyOperationSecretArn",
    "service": "ServiceSecretArn",
    "TLS": "ClientTlsSecretArn",
}

type Json = dict[str, Any]
type Clients = Callable[[str], Any]

RECORDS = {"get record", "put record", "update record"}
# Only of waits, or of mails, by dynamodb:LeadingKeys. The emulator does not know it:
# tests/permissions asks an evaluator who does.
WAITS = {"delete record"}
LOOKS_AT_KEYS = {
    "list objects", "read request.json", "emit event", "secret key management", "secret TLS",
    "key password",
}  # fmt: skip
TLS_AND_PASSWORDS = {"secret TLS", "key password"}


def kept(*names: str) -> set[str]:
    return {f"{verb} {name}" for name in names for verb in ("read", "write")}


# Each function, and all that it may do of what is tried below.
MAY: dict[str, set[str]] = {
    "AcceptEnrollment": {
        *RECORDS,
        "emit event",
        "list objects",
        *kept("request.json"),
        "read tsb/create-key-1.json",
    },
    "CreateKey": {
        "get record",
        "put record",
        "update record",
        "delete record",
        "secret key management",
        "secret key operation",  # reads the CA's certificate
        *TLS_AND_PASSWORDS,
        *kept("tsb/create-key-1.json"),
    },
    "RequestCsr": {"get record", "update record", "secret key operation", *TLS_AND_PASSWORDS},
    "PollRequest": {
        "get record",
        "update record",
        "emit event",
        "secret key operation",
        "secret TLS",
        *kept("tsb/poll-request-1.json"),
    },
    "StoreCsr": {
        "get record",
        "update record",
        "emit event",  # that the CSR is stored, where a certificate follows
        "secret key management",
        *TLS_AND_PASSWORDS,
        *kept("request.pem", "tsb/store-csr-1.json"),
    },
    "RequestCertificate": {
        "get record",
        "update record",
        "list objects",
        "read request.json",
        "read request.pem",
        *(f"read tsb/{one}-1.json" for one in ANSWERS),
        "secret key management",
        "secret key operation",
        "secret TLS",
    },
    "StoreCertificate": {
        "get record",
        "update record",
        "secret key management",
        "secret key operation",
        "secret TLS",
    },
    "DiscardKey": {
        "get record",
        "update record",
        "delete record",
        "secret key management",
        "secret key operation",
        *TLS_AND_PASSWORDS,
    },
    "CloseEnrollment": {
        *RECORDS,
        *WAITS,
        "emit event",
        "take from the backstop's queue",
        "list objects",
        "read request.json",
        "read request.pem",
        *(f"read tsb/{one}-1.json" for one in ANSWERS),
    },
    "Api": {*RECORDS, "list records", "start execution", "secret service", "secret TLS"},
    "CancelRequest": {
        "get record",
        "update record",
        "put record",
        *WAITS,
        "secret key operation",
        "secret TLS",
    },
    "Notify": set(),
    "MailPeople": {*RECORDS, *WAITS, "send mail"},
    "KeepEvidence": {
        "get record",
        "list objects",
        "read request.json",
        "read request.pem",
        *(f"read tsb/{one}-1.json" for one in ANSWERS),
    },
    "WatchEnrollments": {
        *RECORDS,
        "list records",
        "secret key operation",
        "secret TLS",
    },
    "SweepKeys": {*RECORDS, "delete record", *LOOKS_AT_KEYS},
    "AuditKeys": {*RECORDS, "list records", *LOOKS_AT_KEYS},
}


def probes(stack: Stack, clients: Clients) -> dict[str, Callable[[], Any]]:
    """All that somebody who has taken over a function would try."""
    outputs = stack.outputs
    probe = f"probe-{uuid.uuid4().hex[:8]}"
    key = {"id": {"S": probe}}
    table: Json = {"TableName": outputs["EnrollmentsTableName"]}
    never: Json = {"ConditionExpression": "attribute_exists(never)"}
    bucket: Json = {"Bucket": outputs["CsrBucketName"]}
    machine = outputs["EnrollmentStateMachineArn"]
    found: dict[str, Callable[[], Any]] = {
        "get record": lambda: clients("dynamodb").get_item(**table, Key=key),
        "put record": lambda: clients("dynamodb").put_item(**table, Item=key, **never),
        "update record": lambda: clients("dynamodb").update_item(
            **table, Key=key, UpdateExpression="REMOVE x", **never
        ),
        "delete record": lambda: clients("dynamodb").delete_item(**table, Key=key, **never),
        "list records": lambda: clients("dynamodb").query(
            **table,
            IndexName="ByStatus",
            KeyConditionExpression="#s = :s",
            ExpressionAttributeNames={"#s": "status"},
            ExpressionAttributeValues={":s": {"S": "none"}},
        ),
        "scan records": lambda: clients("dynamodb").scan(**table),
        "delete table": lambda: clients("dynamodb").delete_table(TableName="elsewhere"),
        "list objects": lambda: clients("s3").list_objects_v2(**bucket),
        "delete object": lambda: clients("s3").delete_object(
            **bucket, Key=f"enrollments/{probe}/request.pem"
        ),
        "write outside enrollments": lambda: clients("s3").put_object(**bucket, Key=probe),
        "emit event": lambda: clients("events").put_events(
            Entries=[
                {
                    "EventBusName": outputs["BusName"],
                    "Source": "probe",
                    "DetailType": "Probe",
                    "Detail": "{}",
                }
            ]
        ),
        "emit event on the default bus": lambda: clients("events").put_events(
            Entries=[{"Source": "probe", "DetailType": "Probe", "Detail": "{}"}]
        ),
        "send mail": lambda: send_mail(clients, SENDER),
        "send mail as another": lambda: send_mail(clients, "boss@example.com"),
        "start execution": lambda: clients("stepfunctions").start_execution(
            stateMachineArn=machine, input='{"request": {}}'
        ),
        "change the state machine": lambda: clients("stepfunctions").update_state_machine(
            stateMachineArn=machine, tracingConfiguration={"enabled": True}
        ),
        "take from the backstop's queue": lambda: clients("sqs").get_queue_attributes(
            QueueUrl=outputs["BackstopQueueUrl"], AttributeNames=["QueueArn"]
        ),
        "write into the backstop's queue": lambda: clients("sqs").send_message(
            QueueUrl=outputs["BackstopDeadLetterQueueUrl"], MessageBody="{}"
        ),
        "change a secret": lambda: clients("secretsmanager").put_secret_value(
            SecretId=outputs["ServiceSecretArn"], SecretString="{}"
        ),
        "list secrets": lambda: clients("secretsmanager").list_secrets(),
        "delete the key": lambda: clients("kms").schedule_key_deletion(
            KeyId=outputs["StackKeyArn"], PendingWindowInDays=30
        ),
        "invoke a function": lambda: clients("lambda").invoke(FunctionName="elsewhere"),
        "open a log group": lambda: clients("logs").create_log_group(logGroupName="/elsewhere"),
        "take a role": lambda: clients("iam").list_roles(),
    }
    for name, output in SECRETS.items():
        found[f"secret {name}"] = partial(
            clients("secretsmanager").get_secret_value, SecretId=outputs[output]
        )
    found["key password"] = lambda: clients("secretsmanager").get_secret_value(
        SecretId=f"arn:aws:secretsmanager:{region(stack)}:000000000000:secret:"
        f"{outputs['KeyPasswordPrefix']}nobody-abcdef"
    )
    for name in ("request.json", "request.pem", *(f"tsb/{one}-1.json" for one in ANSWERS)):
        where = {**bucket, "Key": f"enrollments/{probe}/{name}"}
        found[f"read {name}"] = partial(clients("s3").get_object, **where)
        found[f"write {name}"] = partial(clients("s3").put_object, **where, Body=b"{}")
    return found


def send_mail(clients: Clients, sender: str) -> None:
    clients("sesv2").send_email(
        FromEmailAddress=sender,
        Destination={"ToAddresses": ["somebody@example.com"]},
        Content={"Simple": {"Subject": {"Data": "probe"}, "Body": {"Text": {"Data": "probe"}}}},
    )


def region(stack: Stack) -> str:
    return str(stack.client("s3").meta.region_name)


def allowed(probe: Callable[[], Any]) -> bool:
    try:
        probe()
    except ClientError as error:
        return error.response["Error"]["Code"] not in DENIED
    return True


def roles(stack: Stack) -> dict[str, str]:
    """Logical id and physical name of every role in the stack."""
    pages = stack.client("cloudformation").describe_stack_resources(StackName=STACK_NAME)
    return {
        one["LogicalResourceId"]: one["PhysicalResourceId"]
        for one in pages["StackResources"]
        if one["ResourceType"] == "AWS::IAM::Role"
    }


def functions(stack: Stack) -> list[str]:
    return [name.removesuffix("FunctionRole") for name in roles(stack) if "FunctionRole" in name]


def as_function(stack: Stack, function: str) -> Clients:
    arn = stack.client("iam").get_role(RoleName=roles(stack)[f"{function}FunctionRole"])
    session = stack.client("sts").assume_role(
        RoleArn=arn["Role"]["Arn"], RoleSessionName="somebody-else"
    )["Credentials"]
    return cache(
        lambda service: stack.client(
            service,
            aws_access_key_id=session["AccessKeyId"],
            aws_secret_access_key=session["SecretAccessKey"],
            aws_session_token=session["SessionToken"],
        )
    )


def test_every_function_is_in_the_table(stack: Stack) -> None:
    assert sorted(functions(stack)) == sorted(MAY)


@pytest.mark.parametrize("function", MAY)
def test_a_function_may_do_what_it_needs_and_nothing_else(stack: Stack, function: str) -> None:
    tried = probes(stack, as_function(stack, function))

    assert {name for name, probe in tried.items() if allowed(probe)} == MAY[function]
