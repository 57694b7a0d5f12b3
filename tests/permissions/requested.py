"""What IAM is asked while the stack works: by functions, by their platform, and by AWS's services.

The functions' own calls were recorded (`calls.json`). What AWS does by itself is derived from the
expanded template, by the rule of the AWS page beside it.
"""

import json
from collections.abc import Iterator
from typing import Any

from local.template import ROOT, read
from tests.expanded import REGION
from tests.permissions import calls
from tests.permissions.account import ACCOUNT, PARAMETERS, STACK, Account, Request

type Json = dict[str, Any]

EVENTS, SCHEDULER, LAMBDA = (
    "events.amazonaws.com",
    "scheduler.amazonaws.com",
    "lambda.amazonaws.com",
)
LOGS, STATES = f"logs.{REGION}.amazonaws.com", "states.amazonaws.com"
API_GATEWAY = "apigateway.amazonaws.com"
OURS = {"aws:SourceAccount": ACCOUNT}
MANAGED_RULE = "StepFunctionsGetEventsForStepFunctionsExecutionRule"
# AWS's reference lists no resource for it, so the evaluator refuses any policy but `*`. IAM itself
# asks for the state machine's ARN: https://github.com/NOAA-OWP/hydrovis/issues/837 has its refusal,
# https://github.com/aws/aws-cdk/pull/8486 has tried it. test_permissions.py looks at it by itself.
SEND_TASK_SUCCESS = "states:SendTaskSuccess"
# Who may say one thing only.
REMINDER = {"events:detail-type": "Enrollment Reminder", "events:source": "countersign"}
LEADING_KEYS = "dynamodb:LeadingKeys"
REQUESTED = {"events:detail-type": "Enrollment Requested", "events:source": "somebody"}


def by_parameters() -> dict[str, tuple[Account, list[Request]]]:
    """For each set of parameters that was recorded: the account, and all that must be allowed.

    What AWS does by itself does not depend on them, and comes once.
    """
    found = {}
    for parameters, recorded in calls.recorded().items():
        account = Account(**(calls.ROLES if parameters == calls.BY_MANAGEMENT else {}))
        asked = [*of_functions(account, recorded)]
        if parameters == calls.DEFAULTS:
            asked += of_aws(account)
        keys = [key for one in asked for key in uses_of_key(account, one)]
        found[parameters] = account, list({str(one): one for one in (*asked, *keys)}.values())
    return found


# Functions ------------------------------------------------------------------------------------


def of_functions(account: Account, recorded: dict[str, set[str]]) -> Iterator[Request]:
    """What functions called, by the workflow's tests."""
    for function, made in recorded.items():
        for one in made:
            action, resource, *leading = one.split(" ")
            if action == SEND_TASK_SUCCESS:
                continue
            if action == "ses:SendEmail":
                yield from _mails(f"{function}FunctionRole", action)
                continue
            of_table = action.startswith("dynamodb:") and "/index/" not in resource
            context = {LEADING_KEYS: leading[0] if leading else "ID"} if of_table else {}
            if (function, action) == ("WatchEnrollments", "events:PutEvents"):
                context = REMINDER
            yield Request(f"{function}FunctionRole", action, arn_of(account, resource), context)


def _mails(role: str, action: str) -> Iterator[Request]:
    """SES asks for the identity that is verified: the sender's address, or its domain.

    Source: https://docs.aws.amazon.com/ses/latest/dg/sending-authorization-overview.html.
    """
    sender = PARAMETERS["MailFrom"]
    for identity in (sender, sender.partition("@")[2]):
        arn = f"arn:aws:ses:{REGION}:{ACCOUNT}:identity/{identity}"
        yield Request(role, action, arn, {"ses:FromAddress": sender})


def arn_of(account: Account, resource: str) -> str:
    """The ARN of what `calls.json` calls a resource."""
    if "/key-password/" in resource:
        return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{STACK}{resource}-a1B2c3"
    if resource == "EnrollmentStateMachine/EXECUTION":
        machine = account.arn("EnrollmentStateMachine")
        return f"{machine.replace(':stateMachine:', ':execution:')}:EXECUTION"
    name, slash, path = resource.partition("/")
    return f"{account.arn(name)}{slash}{path}"


def of_lambda(account: Account) -> Iterator[Request]:
    """What Lambda does with a function's role, or before it has the role."""
    for name, function in account.of("AWS::Lambda::Function").items():
        role = f"{name}Role"
        # https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
        yield Request(LAMBDA, "sts:AssumeRole", account.arn(role))
        # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html
        (group,) = [
            account.arn(one)
            for one, found in account.of("AWS::Logs::LogGroup").items()
            if found["LogGroupName"] == function["LoggingConfig"]["LogGroup"]
        ]
        for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
            yield Request(role, action, f"{group}:log-stream:2026/11/26/[$LATEST]0123")
        # https://docs.aws.amazon.com/lambda/latest/dg/services-xray.html
        if function["TracingConfig"]["Mode"] == "Active":
            yield Request(role, "xray:PutTraceSegments", "*")
            yield Request(role, "xray:PutTelemetryRecords", "*")
        # https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
        if "VpcConfig" in function:
            for action in (
                "CreateNetworkInterface",
                "DescribeNetworkInterfaces",
                "DescribeSubnets",
                "DeleteNetworkInterface",
                "AssignPrivateIpAddresses",
                "UnassignPrivateIpAddresses",
            ):
                for resource in _network(action):
                    yield Request(role, f"ec2:{action}", resource)
        # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
        if "DeadLetterConfig" in function:
            yield Request(role, "sqs:SendMessage", function["DeadLetterConfig"]["TargetArn"])
    # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    for source in account.of("AWS::Lambda::EventSourceMapping").values():
        for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes"):
            (role,) = [
                f"{name}Role"
                for name in account.of("AWS::Lambda::Function")
                if account.arn(name).endswith(f":{source['FunctionName']}")
            ]
            yield Request(role, f"sqs:{action}", source["EventSourceArn"])


def _network(action: str) -> tuple[str, ...]:
    arn = f"arn:aws:ec2:{REGION}:{ACCOUNT}:"
    if action.startswith("Describe"):
        return ("*",)
    if action == "CreateNetworkInterface":
        return (
            f"{arn}network-interface/eni-1",
            f"{arn}subnet/subnet-1",
            f"{arn}security-group/sg-1",
        )
    return (f"{arn}network-interface/eni-1",)


# Services -------------------------------------------------------------------------------------


def of_aws(account: Account) -> Iterator[Request]:
    """What AWS does by itself, for us and for our neighbors."""
    yield from of_lambda(account)
    yield from of_rules(account)
    yield from of_schedules(account)
    yield from of_the_state_machine(account)
    yield from of_api_gateway(account)
    yield from of_others(account)
    yield from of_the_bus(account)
    yield from of_log_groups(account)


def of_rules(account: Account) -> Iterator[Request]:
    """What EventBridge does with a rule's targets."""
    for name, rule in account.of("AWS::Events::Rule").items():
        of_rule = {**OURS, "aws:SourceArn": account.arn(name)}
        for target in rule["Targets"]:
            if "RoleArn" in target:
                # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-identity-based.html
                role = account.name_of(target["RoleArn"])
                yield Request(EVENTS, "sts:AssumeRole", target["RoleArn"], of_rule)
                yield Request(role, _delivery(target["Arn"]), target["Arn"])
            else:
                # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
                yield Request(EVENTS, _delivery(target["Arn"]), target["Arn"], of_rule)
            # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
            yield Request(EVENTS, "sqs:SendMessage", target["DeadLetterConfig"]["Arn"], of_rule)
    # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-encryption-event-bus-dlq.html
    for name, bus in account.of("AWS::Events::EventBus").items():
        of_bus = {**OURS, "aws:SourceArn": account.arn(name)}
        yield Request(EVENTS, "sqs:SendMessage", bus["DeadLetterConfig"]["Arn"], of_bus)


def of_schedules(account: Account) -> Iterator[Request]:
    """What EventBridge Scheduler does with schedules of this stack, and with `docs/schedule.yaml`.

    Sources: https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
    (the source's ARN is the schedule group's),
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html
    (dead letters with the schedule's own role).
    """
    group = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/"
    for schedule in account.of("AWS::Scheduler::Schedule").values():
        target = schedule["Target"]
        source = {**OURS, "aws:SourceArn": f"{group}{schedule.get('GroupName', 'default')}"}
        yield Request(SCHEDULER, "sts:AssumeRole", target["RoleArn"], source)
        yield Request(account.name_of(target["RoleArn"]), _delivery(target["Arn"]), target["Arn"])
    source = {**OURS, "aws:SourceArn": account.arn("ScheduleGroup")}
    yield Request(SCHEDULER, "sts:AssumeRole", account.arn("ScheduleRole"), source)
    yield Request("ScheduleRole", "states:StartExecution", account.arn("EnrollmentStateMachine"))
    yield Request("ScheduleRole", "sqs:SendMessage", account.arn("RequestsDeadLetterQueue"))


def _delivery(arn: str) -> str:
    """What delivering to a target is called."""
    service = arn.split(":")[2]
    return {
        "sqs": "sqs:SendMessage",
        "lambda": "lambda:InvokeFunction",
        "states": "states:StartExecution",
    }[service]


def of_the_state_machine(account: Account) -> Iterator[Request]:
    """What Step Functions does with the state machine's role."""
    ((name, machine),) = account.of("AWS::StepFunctions::StateMachine").items()
    role = account.name_of(machine["RoleArn"])
    # https://docs.aws.amazon.com/step-functions/latest/dg/procedure-create-iam-role.html
    source = {**OURS, "aws:SourceArn": account.arn(name)}
    yield Request(STATES, "sts:AssumeRole", machine["RoleArn"], source)
    # https://docs.aws.amazon.com/step-functions/latest/dg/connect-lambda.html
    definition = json.loads((ROOT / "statemachine/enrollment.asl.json").read_text())
    for state in definition["States"].values():
        if state["Type"] == "Task":
            service = state["Resource"].rpartition(":::")[2]
            if service == "aws-sdk:dynamodb:updateItem.waitForTaskToken":
                table = account.arn("EnrollmentsTable")
                yield Request(role, "dynamodb:UpdateItem", table, {LEADING_KEYS: "wait#ID"})
                continue
            assert service == "lambda:invoke", f"which action is {service}?"
            placeholder = state["Arguments"]["FunctionName"].strip("${}")
            function = machine["DefinitionSubstitutions"][placeholder]
            yield Request(role, "lambda:InvokeFunction", function)
    # https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html
    for action in (
        "CreateLogDelivery",
        "GetLogDelivery",
        "UpdateLogDelivery",
        "DeleteLogDelivery",
        "ListLogDeliveries",
        "PutResourcePolicy",
        "DescribeResourcePolicies",
        "DescribeLogGroups",
    ):
        yield Request(role, f"logs:{action}", "*")
    # https://docs.aws.amazon.com/step-functions/latest/dg/xray-iam.html
    for action in (
        "PutTraceSegments",
        "PutTelemetryRecords",
        "GetSamplingRules",
        "GetSamplingTargets",
    ):
        yield Request(role, f"xray:{action}", "*")


def of_api_gateway(account: Account) -> Iterator[Request]:
    """What API Gateway does: it invokes by the function's policy, and logs with a role."""
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-control-access-using-iam-policies-to-invoke-api.html
    function, api = account.arn("ApiFunction"), account.arn("EnrollmentsApi")
    ((_, described),) = account.of("AWS::ApiGateway::RestApi").items()
    for path, methods in described["Body"]["paths"].items():
        for method in methods:
            called = f"{api}/v1/{method.upper()}{path.replace('{id}', 'ID')}"
            source = {**OURS, "aws:SourceArn": called}
            yield Request(API_GATEWAY, "lambda:InvokeFunction", function, source)
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html
    yield Request(API_GATEWAY, "sts:AssumeRole", account.arn("ApiGatewayLogsRole"), OURS)
    stream = f"{account.arn('EnrollmentsApiLogGroup')}:log-stream:0123"
    for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
        yield Request("ApiGatewayLogsRole", action, stream)


def of_others(account: Account) -> Iterator[Request]:
    """What the stack's neighbors do: other accounts, and a workflow that nests ours.

    Sources: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-cross-account.html,
    https://docs.aws.amazon.com/step-functions/latest/dg/stepfunctions-iam.html.
    """
    asker = f"arn:aws:iam::{PARAMETERS['RequestingAccounts']}:role/asker"
    allow = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": "*"}
    account.others[asker] = {"Version": "2012-10-17", "Statement": [allow]}
    yield Request(asker, "events:PutEvents", account.arn("Bus"), REQUESTED)

    parent = f"arn:aws:iam::{ACCOUNT}:role/parent"
    nested = account.imported(read("docs/nested.yaml"))["DeliveryRole"]
    (policy,) = nested["Properties"]["Policies"]
    account.others[parent] = policy["PolicyDocument"]
    execution = arn_of(account, "EnrollmentStateMachine/EXECUTION")
    rule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{MANAGED_RULE}"
    yield Request(parent, "states:StartExecution", account.arn("EnrollmentStateMachine"))
    for action in ("states:DescribeExecution", "states:StopExecution"):
        yield Request(parent, action, execution)
    for action in ("events:PutTargets", "events:PutRule", "events:DescribeRule"):
        yield Request(parent, action, rule)


# Keys -----------------------------------------------------------------------------------------

# What a service does with the key that encrypts a resource, by the action that leads to it.
DECRYPT, GENERATE = "kms:Decrypt", "kms:GenerateDataKey"
KEY_ACTIONS: dict[str, tuple[str, ...]] = {
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.howitworks.html:
    # on behalf of whoever reads or writes. Whether a write asks for a data key with the rights of
    # the writer the page leaves open, and names it among the least that a key's policy must allow.
    "dynamodb:GetItem": (DECRYPT,),
    "dynamodb:Query": (DECRYPT,),
    "dynamodb:PutItem": (DECRYPT, GENERATE),
    "dynamodb:UpdateItem": (DECRYPT, GENERATE),
    "dynamodb:DeleteItem": (DECRYPT, GENERATE),
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
    "s3:GetObject": (DECRYPT,),
    "s3:PutObject": (GENERATE,),
    # https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html
    "secretsmanager:GetSecretValue": (DECRYPT,),
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html:
    # the producer both, the consumer one; EventBridge by the key's policy.
    "sqs:SendMessage": (DECRYPT, GENERATE),
    "sqs:ReceiveMessage": (DECRYPT,),
    # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
    "sns:Publish": (DECRYPT, GENERATE),
}


def uses_of_key(account: Account, request: Request) -> Iterator[Request]:
    """The use of the stack's key that follows from a request."""
    service = request.action.partition(":")[0]
    is_password = "/key-password/" in request.resource  # operators make them, with the stack's key
    if not account.is_encrypted(request.resource) and not is_password:
        return
    for action in KEY_ACTIONS.get(request.action, ()):
        context = _encryption_context(service, request.resource)
        if request.who in account.resources:
            context |= {
                "kms:ViaService": f"{service}.{REGION}.amazonaws.com",
                "kms:CallerAccount": ACCOUNT,
            }
        yield Request(request.who, action, account.arn("StackKey"), {**request.context, **context})


def _encryption_context(service: str, resource: str) -> dict[str, str]:
    """What the service puts beside each use of a key. The pages are those of `KEY_ACTIONS`."""
    found = {
        "dynamodb": {
            "aws:dynamodb:tableName": resource.split("/")[1] if "/" in resource else "",
            "aws:dynamodb:subscriberId": ACCOUNT,
        },
        "s3": {"aws:s3:arn": resource.partition("/")[0]},  # the bucket's, with a bucket key
        "secretsmanager": {"SecretARN": resource, "SecretVersionId": "a-version"},
        "sqs": {"aws:sqs:arn": resource},
        "sns": {"aws:sns:topicArn": resource},
    }[service]
    return {f"kms:EncryptionContext:{name}": value for name, value in found.items()}


def of_the_bus(account: Account) -> Iterator[Request]:
    """What EventBridge does with the key of a bus and of its archive: not the caller of PutEvents.

    Sources: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-encryption-event-bus-cmkey.html,
    https://docs.aws.amazon.com/eventbridge/latest/userguide/encryption-archives.html. Both describe
    the key without any context; an archive gives the bus as context and no source.
    """
    key, bus = account.arn("StackKey"), account.arn("Bus")
    context = {"kms:EncryptionContext:aws:events:event-bus:arn": bus}
    if account.is_encrypted(bus):
        yield Request(EVENTS, "kms:DescribeKey", key)
        for action in (GENERATE, DECRYPT):
            yield Request(EVENTS, action, key, {**context, **OURS, "aws:SourceArn": bus})
    if account.is_encrypted(account.arn("BusArchive")):
        for action in (GENERATE, DECRYPT, "kms:ReEncryptFrom", "kms:ReEncryptTo"):
            yield Request(EVENTS, action, key, context)


def of_log_groups(account: Account) -> Iterator[Request]:
    """What CloudWatch Logs does with the key of a log group.

    Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html.
    """
    for name in account.of("AWS::Logs::LogGroup"):
        if account.is_encrypted(account.arn(name)):
            context = {"kms:EncryptionContext:aws:logs:arn": account.arn(name)}
            for action in (
                "Encrypt",
                "Decrypt",
                "ReEncryptFrom",
                "ReEncryptTo",
                "GenerateDataKey",
            ):
                yield Request(LOGS, f"kms:{action}", account.arn("StackKey"), context)
