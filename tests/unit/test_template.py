"""What only AWS reads, and emulators accept without effect: permissions, encryption, retention,
retries of a delivery. Restating is the only means there. What has an effect in the in-process stack
(which rule and queue leads where) is shown by tests/workflow; a rule's pattern is tried on events.
"""

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from moto.events.models import EventPattern

from countersign import events, polling
from countersign.models import Outcome
from countersign.policy import rules
from countersign.states.discard_key import MAX_FRESH_STARTS
from local.template import Resolver, read

ROOT = Path(__file__).parents[2]


TEMPLATE = read("template.yaml")
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]


def of(kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: one.get("Properties", {}) for name, one in RESOURCES.items() if one["Type"] == kind
    }


FUNCTIONS = of("AWS::Serverless::Function")
RETRIED_FOR_A_DAY = {"MaximumEventAgeInSeconds": 86_400, "MaximumRetryAttempts": 185}
GLOBALS = TEMPLATE["Globals"]["Function"]


def statements(function: str) -> list[dict[str, Any]]:
    return [
        statement["Fn::If"][1] if "Fn::If" in statement else statement
        for document in FUNCTIONS[function]["Policies"]
        for statement in document["Statement"]
    ]


def secrets_of(function: str) -> str:
    return str([s for s in statements(function) if "secretsmanager" in str(s["Action"])])


def test_the_state_machine_is_standard_logged_without_data_and_traced() -> None:
    machine = of("AWS::Serverless::StateMachine")["EnrollmentStateMachine"]

    assert machine["Type"] == "STANDARD"
    assert machine["Logging"]["Level"] == "ALL"
    assert machine["Logging"]["IncludeExecutionData"] is False
    assert machine["Tracing"] == {"Enabled": True}


def longest(state: dict[str, Any]) -> float:
    """Seconds in a Task at the most: each of its retriers used up, each try until its timeout."""
    seconds = float(state["TimeoutSeconds"])
    for retrier in state.get("Retry", ()):
        wait = retrier.get("IntervalSeconds", 1)
        for _ in range(retrier.get("MaxAttempts", 3)):
            seconds += min(wait, retrier.get("MaxDelaySeconds", wait)) + state["TimeoutSeconds"]
            wait *= retrier.get("BackoffRate", 2)
    return seconds


def test_whatever_the_parameters_an_execution_ends_within_the_year_that_aws_gives_it() -> None:
    parameters = TEMPLATE["Parameters"]
    silence = parameters["SilenceLimitMinutes"]["MaxValue"] * 60
    deadline = parameters["WorkflowDeadlineDays"]["MaxValue"] * polling.DAY_SECONDS
    asl = json.loads((ROOT / "statemachine/enrollment.asl.json").read_text())
    tasks = {
        name: one
        for name, one in asl["States"].items()
        if one.get("Resource", "").endswith(":lambda:invoke")
    }
    second = {"RequestCertificate", "StoreCertificate"}
    once = sum(longest(one) for name, one in tasks.items() if name not in {"PollRequest", *second})
    # A fresh start repeats three of them.
    again = sum(longest(tasks[name]) for name in ("CreateKey", "RequestCsr", "DiscardKey"))
    last = polling.Schedule(polling.LONGEST_WINDOW_SECONDS, 0, silence_seconds=silence).cap

    assert silence <= polling.LONGEST_SILENCE_SECONDS
    assert deadline <= polling.LONGEST_WINDOW_SECONDS
    assert once + again * (1 + MAX_FRESH_STARTS) + last < polling.AROUND_SECONDS
    # The caps of two waits are twice as long, and their windows share the longest one.
    assert sum(longest(tasks[name]) for name in second) + last < rules.STORING_SECONDS
    assert (
        polling.LONGEST_WINDOW_SECONDS + polling.LONGEST_SILENCE_SECONDS + polling.AROUND_SECONDS
        <= 365 * 86_400
    )


def test_functions_state_memory_timeout_tracing_and_architecture() -> None:
    assert GLOBALS["MemorySize"] == 512
    assert GLOBALS["Timeout"] == 30
    assert GLOBALS["Tracing"] == "Active"
    assert GLOBALS["Architectures"] == [{"Ref": "Architecture"}]
    assert TEMPLATE["Parameters"]["Architecture"]["Default"] == "arm64"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_a_role_and_a_log_group_of_its_own(name: str) -> None:
    group = FUNCTIONS[name]["LoggingConfig"]["LogGroup"]["Ref"]

    assert "Role" not in FUNCTIONS[name]
    assert FUNCTIONS[name]["Policies"]
    assert group == name.replace("Function", "LogGroup")
    assert RESOURCES[group]["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert "KmsKeyId" in RESOURCES[group]["Properties"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_may_do_anything_to_everything(name: str) -> None:
    for statement in statements(name):
        assert statement["Resource"] != "*"
        assert "*" not in str(statement["Action"])


@pytest.mark.parametrize(
    ("function", "may_read", "may_not_read"),
    [
        ("AcceptEnrollmentFunction", [], ["Secret"]),
        ("CreateKeyFunction", ["KeyManagementSecret", "KeyOperationSecret"], ["ServiceSecret"]),
        (
            "RequestCertificateFunction",
            ["KeyManagementSecret", "KeyOperationSecret"],
            ["ServiceSecret", "key-password"],
        ),
        (
            "StoreCertificateFunction",
            ["KeyManagementSecret", "KeyOperationSecret"],
            ["ServiceSecret", "key-password"],
        ),
        ("StoreCsrFunction", ["KeyManagementSecret"], ["KeyOperationSecret", "ServiceSecret"]),
        ("DiscardKeyFunction", ["KeyManagementSecret", "KeyOperationSecret"], ["ServiceSecret"]),
        ("SweepKeysFunction", ["KeyManagementSecret"], ["KeyOperationSecret", "ServiceSecret"]),
        ("AuditKeysFunction", ["KeyManagementSecret"], ["KeyOperationSecret", "ServiceSecret"]),
        ("CloseEnrollmentFunction", [], ["Secret"]),
        ("ApiFunction", ["ServiceSecret"], ["KeyManagementSecret", "KeyOperationSecret"]),
        ("NotifyFunction", [], ["Secret"]),
        ("MailPeopleFunction", [], ["Secret"]),
        ("KeepEvidenceFunction", [], ["Secret"]),
    ],
)
def test_a_function_reads_the_secrets_of_its_roles_only(
    function: str, may_read: list[str], may_not_read: list[str]
) -> None:
    granted = secrets_of(function)

    assert all(secret in granted for secret in may_read)
    assert not any(secret in granted for secret in may_not_read)


@pytest.mark.parametrize(
    ("function", "variable", "condition"),
    [
        ("RequestCsrFunction", "CERTIFICATE_ROLE", "CertificatesByManagement"),
        ("PollRequestFunction", "REQUEST_ROLE", "RequestsByManagement"),
        ("CancelRequestFunction", "REQUEST_ROLE", "RequestsByManagement"),
    ],
)
def test_the_role_of_a_path_switches_environment_and_permission_together(
    function: str, variable: str, condition: str
) -> None:
    variables = FUNCTIONS[function]["Environment"]["Variables"]
    management = {"Fn::GetAtt": "KeyManagementSecret.Id"}
    operation = {"Fn::GetAtt": "KeyOperationSecret.Id"}
    either = {"Fn::If": [condition, management, operation]}
    (granted,) = (s for s in statements(function) if "secretsmanager" in str(s["Action"]))

    assert variables[variable] == {"Fn::If": [condition, "keyManagement", "keyOperation"]}
    assert variables["KEY_MANAGEMENT_SECRET_ARN"] == {"Fn::If": [condition, management, ""]}
    assert variables["KEY_OPERATION_SECRET_ARN"] == {"Fn::If": [condition, "", operation]}
    assert either in granted["Resource"]
    assert management not in granted["Resource"]
    assert operation not in granted["Resource"]


def test_every_function_that_calls_the_tsb_can_go_through_a_vpc_and_a_proxy() -> None:
    callers = {
        name for name, one in FUNCTIONS.items() if "TSB_URL" in one["Environment"]["Variables"]
    }
    network = {
        name: {"Fn::Split": [",", {"Ref": name}]} for name in ("SubnetIds", "SecurityGroupIds")
    }

    assert callers
    for name, one in FUNCTIONS.items():
        if name in callers:
            assert one["VpcConfig"] == {"Fn::If": ["InVpc", network, {"Ref": "AWS::NoValue"}]}
            assert one["Environment"]["Variables"]["TSB_PROXY_URL"] == {"Ref": "TsbProxyUrl"}
        else:
            assert "VpcConfig" not in one
    for parameter in ("SubnetIds", "SecurityGroupIds", "TsbProxyUrl"):
        assert TEMPLATE["Parameters"][parameter]["Default"] == ""


def test_executions_that_end_without_close_reach_it_through_a_queue() -> None:
    rule = of("AWS::Events::Rule")["BackstopRule"]
    queue = of("AWS::SQS::Queue")["BackstopQueue"]
    source = of("AWS::Lambda::EventSourceMapping")["BackstopQueueSource"]

    assert rule["EventPattern"]["detail"]["status"] == ["ABORTED", "TIMED_OUT", "FAILED"]
    assert rule["EventPattern"]["detail"]["stateMachineArn"] == [{"Ref": "EnrollmentStateMachine"}]
    assert rule["Targets"][0]["DeadLetterConfig"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 5
    assert queue["VisibilityTimeout"] >= 6 * GLOBALS["Timeout"]
    assert source["EventSourceArn"] == {"Fn::GetAtt": "BackstopQueue.Arn"}
    assert source["FunctionName"] == {"Ref": "CloseEnrollmentFunction"}


def test_a_request_by_event_starts_the_machine_with_its_origin_and_cannot_get_lost() -> None:
    rule = of("AWS::Events::Rule")["RequestedRule"]
    (target,) = rule["Targets"]

    assert rule["EventBusName"] == {"Ref": "Bus"}
    assert target["Arn"] == {"Ref": "EnrollmentStateMachine"}
    assert target["RetryPolicy"] == RETRIED_FOR_A_DAY
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": "RequestsDeadLetterQueue.Arn"}}


def takes(rule: str, event: dict[str, Any]) -> bool:
    """Whether EventBridge gives the event to the rule's targets."""
    pattern = of("AWS::Events::Rule")[rule]["EventPattern"]
    return bool(EventPattern.load(json.dumps(pattern)).matches_event(cast(Any, event)))


@pytest.mark.parametrize(
    ("different", "taken"),
    [
        ({}, True),
        ({"source": "their.release"}, True),
        ({"source": "countersign"}, False),
        ({"replay-name": "last-week"}, False),
        ({"detail-type": "Enrollment Accepted"}, False),
    ],
    ids=str,
)
def test_no_event_of_ours_and_no_replay_can_start_an_enrollment(
    different: dict[str, Any], taken: bool
) -> None:
    event = {"source": "ci", "detail-type": "Enrollment Requested", "detail": {}} | different

    assert takes("RequestedRule", event) is taken


@pytest.mark.parametrize("sample", sorted((ROOT / "events/emitted").glob("*.json")), ids=str)
def test_each_event_goes_to_mail_and_each_outcome_to_its_evidence(sample: Path) -> None:
    event = json.loads(sample.read_text())
    kind = event["detail-type"]

    assert takes("NotifyRule", event) is (kind in {one.DETAIL_TYPE for one in events.CATALOGUE})
    assert takes("EvidenceRule", event) is (
        kind in {f"Enrollment {one.title()}" for one in Outcome}
    )
    assert not takes("RequestedRule", event)
    assert not takes("NotifyRule", {**event, "source": "somebody.else"})
    assert not takes("EvidenceRule", {**event, "source": "somebody.else"})


def test_other_accounts_may_ask_and_cannot_say_how_an_enrollment_ended() -> None:
    statement = of("AWS::Events::EventBusPolicy")["BusPolicy"]["Statement"]

    assert TEMPLATE["Parameters"]["RequestingAccounts"]["Default"] == ""
    assert RESOURCES["BusPolicy"]["Condition"] == "OtherAccountsMayAsk"
    assert statement["Principal"] == {"AWS": {"Fn::Split": [",", {"Ref": "RequestingAccounts"}]}}
    assert statement["Action"] == "events:PutEvents"


@pytest.mark.parametrize(
    ("role", "service"),
    [("RequestedRuleRole", "events"), ("ScheduleRole", "scheduler")],
)
def test_a_trigger_may_start_the_state_machine_and_nothing_else(role: str, service: str) -> None:
    properties = of("AWS::IAM::Role")[role]
    (trust,) = properties["AssumeRolePolicyDocument"]["Statement"]
    granted = properties["Policies"][0]["PolicyDocument"]["Statement"]

    assert trust["Principal"] == {"Service": f"{service}.amazonaws.com"}
    assert trust["Condition"]["StringEquals"]["aws:SourceAccount"] == {"Ref": "AWS::AccountId"}
    assert {"Effect": "Allow", "Action": "states:StartExecution",
            "Resource": {"Ref": "EnrollmentStateMachine"}} in granted  # fmt: skip
    assert "*" not in str(granted)


def test_a_schedule_is_off_flexible_and_cannot_get_lost_until_somebody_says_otherwise() -> None:
    template = read("docs/schedule.yaml")
    schedule = template["Resources"]["Schedule"]["Properties"]

    assert template["Parameters"]["State"]["Default"] == "DISABLED"
    assert schedule["State"] == {"Ref": "State"}
    assert schedule["FlexibleTimeWindow"]["Mode"] == "FLEXIBLE"
    assert schedule["Target"]["RetryPolicy"] == RETRIED_FOR_A_DAY
    assert "RequestsDeadLetterQueueArn" in str(schedule["Target"]["DeadLetterConfig"])


def test_a_parent_may_start_look_and_stop_and_nothing_else() -> None:
    role = read("docs/nested.yaml")["Resources"]["DeliveryRole"]["Properties"]
    (policy,) = role["Policies"]
    start, poll, rule = policy["PolicyDocument"]["Statement"]

    assert start["Action"] == "states:StartExecution"
    assert poll["Action"] == ["states:DescribeExecution", "states:StopExecution"]
    assert ":execution:${Name}:*" in poll["Resource"]["Fn::Sub"][0]
    # Source: Step Functions, IAM policies for nested executions, run a job (.sync).
    assert rule["Action"] == ["events:PutTargets", "events:PutRule", "events:DescribeRule"]
    assert rule["Resource"]["Fn::Sub"].endswith(
        ":rule/StepFunctionsGetEventsForStepFunctionsExecutionRule"
    )


def test_what_other_stacks_import_is_exported_under_the_stack_s_name() -> None:
    imported = {
        name
        for path in ("docs/nested.yaml", "docs/schedule.yaml", "docs/chat.yaml")
        for name in re.findall(r"\$\{Countersign\}-(\w+)", (ROOT / path).read_text())
    }
    exported = {
        output["Export"]["Name"]["Fn::Sub"].removeprefix("${AWS::StackName}-")
        for output in TEMPLATE["Outputs"].values()
        if "Export" in output
    }

    assert imported == exported


def test_what_is_stored_is_encrypted_versioned_private_and_kept() -> None:
    bucket = of("AWS::S3::Bucket")["CsrBucket"]
    table = of("AWS::DynamoDB::Table")["EnrollmentsTable"]

    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert "aws:kms" in str(bucket["BucketEncryption"])
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"]["SSEType"] == "KMS"
    for name in ("CsrBucket", "EvidenceBucket", "EnrollmentsTable", "StackKey"):
        assert RESOURCES[name]["DeletionPolicy"] == "RetainExceptOnCreate"


def test_the_bus_and_its_archive_are_encrypted_with_the_stack_s_key() -> None:
    for kind in ("AWS::Events::EventBus", "AWS::Events::Archive"):
        for one in of(kind).values():
            assert one["KmsKeyIdentifier"] == {"Fn::GetAtt": "StackKey.Arn"}


@pytest.mark.parametrize(
    ("parameter", "one", "other"),
    [
        ("SubnetIds", "subnet-0a1b2c3d", "sg-0a1b2c3d"),
        ("SecurityGroupIds", "sg-0a1b2c3d", "subnet-0a1b2c3d"),
        ("ApiVpcEndpointIds", "vpce-0a1b2c3d", "vpc-0a1b2c3d"),
        ("ApiCallerAccounts", "123456789012", "12345678901"),
        ("RequestingAccounts", "123456789012", "arn:aws:iam::123456789012:root"),
    ],
)
def test_a_list_that_no_service_would_take_is_refused_before_anything_exists(
    parameter: str, one: str, other: str
) -> None:
    declared = TEMPLATE["Parameters"][parameter]

    def is_taken(value: str) -> bool:
        return re.search(declared["AllowedPattern"], value) is not None

    assert all(map(is_taken, ("", one, f"{one},{one}")))
    wrong = (other, f"{one}, {one}", f" {one}", f"{one},", f"{one};{one}", f"{one},{other}")
    assert not any(map(is_taken, wrong))
    assert "without blanks" in declared["ConstraintDescription"]


def test_every_queue_is_encrypted_and_has_a_policy() -> None:
    """With the stack's key, but for the queue that is for what this key could not encrypt."""
    covered = [
        queue["Ref"]
        for policy in of("AWS::SQS::QueuePolicy").values()
        for queue in policy["Queues"]
    ]

    for name, queue in of("AWS::SQS::Queue").items():
        if name == "BusDeadLetterQueue":
            assert queue["SqsManagedSseEnabled"] is True
            assert "KmsMasterKeyId" not in queue
        else:
            assert queue["KmsMasterKeyId"] == {"Ref": "StackKey"}
        assert name in covered


def test_the_state_machine_s_name_is_what_policies_name() -> None:
    machine = of("AWS::Serverless::StateMachine")["EnrollmentStateMachine"]
    named = "${AWS::StackName}-enrollment"

    assert machine["Name"] == {"Fn::Sub": named}
    assert f"execution:{named}:*" in str(statements("CloseEnrollmentFunction"))


def test_buckets_queues_and_topics_refuse_plain_http() -> None:
    kinds = ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy")
    for policy in (one for kind in kinds for one in of(kind).values()):
        denied = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
        assert denied[0]["Condition"] == {"Bool": {"aws:SecureTransport": False}}


# Every action that may be allowed on every resource, and why it has to be.
EVERYWHERE = {
    "xray:PutTraceSegments": "X-Ray has no resource-level permissions for traces",
    "xray:PutTelemetryRecords": "likewise",
    "xray:GetSamplingRules": "likewise",
    "xray:GetSamplingTargets": "likewise",
    "logs:CreateLogDelivery": "vended logs have no resource-level permissions",
    "logs:GetLogDelivery": "likewise",
    "logs:UpdateLogDelivery": "likewise",
    "logs:DeleteLogDelivery": "likewise",
    "logs:ListLogDeliveries": "likewise",
    "logs:PutResourcePolicy": "likewise",
    "logs:DescribeResourcePolicies": "likewise",
    "logs:DescribeLogGroups": "likewise",
    "states:SendTaskSuccess": "with WakeAnything=true: AWS's reference lists no resource for it",
    "ec2:CreateNetworkInterface": "Lambda makes them in a VPC; nothing to name before",
    "ec2:DescribeNetworkInterfaces": "EC2 has no resource-level permissions for Describe",
    "ec2:DescribeSubnets": "likewise",
    "ec2:DeleteNetworkInterface": "Lambda's own interfaces, made above",
    "ec2:AssignPrivateIpAddresses": "likewise",
    "ec2:UnassignPrivateIpAddresses": "likewise",
}


def allowed_everywhere(part: object) -> set[str]:
    """The actions of all Allow statements on `*` in a part of the template."""
    if isinstance(part, list):
        return set().union(*map(allowed_everywhere, part))
    if not isinstance(part, dict):
        return set()
    found = set().union(*map(allowed_everywhere, part.values()))
    if part.get("Effect") == "Allow" and part.get("Resource") in ("*", ["*"]):
        actions = part["Action"]
        found |= {actions} if isinstance(actions, str) else set(actions)
    return found


def test_what_is_allowed_on_every_resource_is_a_short_list_with_reasons() -> None:
    # In a key's own policy `*` is that key.
    roles = {name: one for name, one in RESOURCES.items() if one["Type"] != "AWS::KMS::Key"}

    assert allowed_everywhere(roles) == set(EVERYWHERE)


def test_every_function_has_the_boundary_and_interfaces_only_in_a_vpc() -> None:
    boundary = of("AWS::IAM::ManagedPolicy")["FunctionsBoundary"]["PolicyDocument"]

    assert GLOBALS["PermissionsBoundary"] == {"Ref": "FunctionsBoundary"}
    assert not any("PermissionsBoundary" in one for one in FUNCTIONS.values())
    making, leaving = (one for one in boundary["Statement"] if "ec2:" in str(one))
    assert making["Fn::If"][0] == "InVpc"
    # Lambda deletes what a function has left, with its role, up to 20 minutes later.
    assert "ec2:DeleteNetworkInterface" in leaving["Action"]


def test_subnets_and_security_groups_are_given_together_or_not_at_all() -> None:
    def refused(**given: str) -> list[str]:
        parameters = {"SubnetIds": "", "SecurityGroupIds": "", **given}
        rules = TEMPLATE["Rules"]
        conditions = {
            **{name: rule["RuleCondition"] for name, rule in rules.items()},
            **{f"{name} holds": rule["Assertions"][0]["Assert"] for name, rule in rules.items()},
        }
        template = {"Parameters": {}, "Conditions": conditions}
        resolver = Resolver(template, parameters, {}, {})
        return [
            name for name in rules if resolver.holds(name) and not resolver.holds(f"{name} holds")
        ]

    assert refused() == refused(SubnetIds="subnet-1", SecurityGroupIds="sg-1") == []
    assert refused(SubnetIds="subnet-1") == ["SubnetsNeedGroups"]
    assert refused(SecurityGroupIds="sg-1") == ["GroupsNeedSubnets"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_environment_variables_hold_names_and_numbers_but_no_secret(name: str) -> None:
    variables = FUNCTIONS[name]["Environment"]["Variables"] | GLOBALS["Environment"]["Variables"]

    assert "resolve:secretsmanager" not in str(variables)
    assert not [one for one in TEMPLATE["Parameters"].values() if "NoEcho" in one]
    assert all(one.endswith("_SECRET_ARN") for one in variables if "SECRET" in one)


API = of("AWS::Serverless::Api")["EnrollmentsApi"]


def test_the_api_takes_signed_calls_only() -> None:
    assert API["Auth"]["DefaultAuthorizer"] == "AWS_IAM"
    assert not any(
        "Auth" in event["Properties"] for event in FUNCTIONS["ApiFunction"]["Events"].values()
    )


def test_the_api_can_be_private_and_then_refuses_every_other_way_in() -> None:
    endpoint = API["EndpointConfiguration"]
    private = [one["Fn::If"] for one in API["Auth"]["ResourcePolicy"]["CustomStatements"][1:]][-1]

    assert endpoint["Type"] == {"Fn::If": ["ApiIsPrivate", "PRIVATE", "REGIONAL"]}
    assert private[0] == "ApiIsPrivate"
    assert private[1]["Effect"] == "Deny"
    assert private[1]["Condition"] == {
        "StringNotEquals": {"aws:SourceVpce": {"Fn::Split": [",", {"Ref": "ApiVpcEndpointIds"}]}}
    }


def test_other_accounts_may_call_the_api_where_a_parameter_names_them() -> None:
    others = API["Auth"]["ResourcePolicy"]["CustomStatements"][1]["Fn::If"]

    assert others[0] == "ApiHasOtherCallers"
    assert others[1]["Principal"] == {"AWS": {"Fn::Split": [",", {"Ref": "ApiCallerAccounts"}]}}


def test_the_api_is_throttled_and_logs_who_called_but_not_what() -> None:
    (methods,) = API["MethodSettings"]

    assert methods["ThrottlingRateLimit"] == {"Ref": "ApiRateLimit"}
    assert methods["LoggingLevel"] == "OFF"
    assert "$context.identity.userArn" in API["AccessLogSetting"]["Format"]
    assert json.loads(API["AccessLogSetting"]["Format"])


def test_what_the_gateway_refuses_by_itself_is_problem_details_too() -> None:
    for kind in ("DEFAULT_4XX", "DEFAULT_5XX"):
        answer = API["GatewayResponses"][kind]
        text = answer["ResponseTemplates"]["application/json"]
        filled = text.replace("$context.error.messageString", '"Forbidden"')
        assert json.loads(filled)["type"] == "about:blank"
        assert answer["ResponseParameters"]["Headers"] == {
            "Content-Type": "'application/problem+json'"
        }


def test_the_openapi_file_names_the_routes_of_the_template() -> None:
    described = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
    events = FUNCTIONS["ApiFunction"]["Events"].values()

    assert {(path, method.upper()) for path, one in described.items() for method in one} == {
        (event["Properties"]["Path"], event["Properties"]["Method"]) for event in events
    }


def test_every_target_of_a_rule_has_a_dead_letter_queue_that_the_rule_may_send_to() -> None:
    policies = list(of("AWS::SQS::QueuePolicy").values())
    allowed = [s for p in policies for s in p["PolicyDocument"]["Statement"]]

    for name, rule in of("AWS::Events::Rule").items():
        for target in rule["Targets"]:
            queue = target["DeadLetterConfig"]["Arn"]
            assert any(
                queue == s["Resource"]
                for s in allowed
                if s.get("Condition")
                == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": f"{name}.Arn"}}}
            )


def test_only_who_has_something_to_say_may_put_events_and_on_our_bus_only() -> None:
    speakers = {
        "AcceptEnrollmentFunction",
        "PollRequestFunction",
        "StoreCsrFunction",
        "CloseEnrollmentFunction",
        "WatchEnrollmentsFunction",
        "SweepKeysFunction",
        "AuditKeysFunction",
    }

    for name in FUNCTIONS:
        granted = [s for s in statements(name) if "events:PutEvents" in s["Action"]]
        assert [s["Resource"] for s in granted] == (
            [{"Fn::GetAtt": "Bus.Arn"}] if name in speakers else []
        )
        has_bus = "BUS_NAME" in FUNCTIONS[name]["Environment"]["Variables"]
        assert has_bus is (name in speakers)


def test_mail_is_off_until_an_address_is_given() -> None:
    assert TEMPLATE["Parameters"]["NotifyEmail"]["Default"] == ""
    assert TEMPLATE["Conditions"]["Notifies"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "NotifyEmail"}, ""]}]
    }
    ours = {name: one for name, one in RESOURCES.items() if name.startswith("Notify")}
    assert len(ours) == 10
    assert {one["Condition"] for one in ours.values()} == {"Notifies"}


def test_mail_is_encrypted_and_what_cannot_be_sent_is_kept() -> None:
    rule = of("AWS::Events::Rule")["NotifyRule"]
    topic = of("AWS::SNS::Topic")["NotifyTopic"]
    function = FUNCTIONS["NotifyFunction"]

    assert rule["EventBusName"] == {"Ref": "Bus"}
    assert topic["KmsMasterKeyId"] == {"Ref": "StackKey"}
    assert function["DeadLetterQueue"]["TargetArn"] == rule["Targets"][0]["DeadLetterConfig"]["Arn"]
    assert [s["Action"] for s in statements("NotifyFunction")] == [
        "sns:Publish",
        ["kms:GenerateDataKey", "kms:Decrypt"],
    ]


def test_event_schemas_are_registered_where_wanted() -> None:
    nested = RESOURCES["EventSchemas"]
    registry = json.loads((ROOT / nested["Properties"]["TemplateURL"]).read_text())
    schemas = [
        one["Properties"]
        for one in registry["Resources"].values()
        if one["Type"] == "AWS::EventSchemas::Schema"
    ]

    assert nested["Condition"] == "RegistersEventSchemas"
    assert TEMPLATE["Parameters"]["RegisterEventSchemas"]["Default"] == "false"
    assert set(nested["Properties"]["Parameters"]) == set(registry["Parameters"])
    assert {json.loads(one["Content"])["title"] for one in schemas} == {
        one.DETAIL_TYPE for one in (*events.CATALOGUE, *events.OF_KEYS)
    }
    assert {one["Type"] for one in schemas} == {"JSONSchemaDraft4"}
    assert all(re.fullmatch(r"countersign@[A-Z][A-Za-z]+", one["SchemaName"]) for one in schemas)


@pytest.mark.parametrize(
    ("name", "variable"),
    [("AllowRawPolicy", "ALLOW_RAW_POLICY"), ("TsbEscapesSubjects", "TSB_ESCAPES_SUBJECTS")],
)
def test_what_is_dangerous_is_refused_unless_the_stack_says_otherwise(
    name: str, variable: str
) -> None:
    parameter = TEMPLATE["Parameters"][name]
    readers = {
        name
        for name, function in FUNCTIONS.items()
        if variable in function.get("Environment", {}).get("Variables", {})
    }

    assert parameter["Default"] == "false"
    assert parameter["AllowedValues"] == ["true", "false"]
    assert readers == {"AcceptEnrollmentFunction", "ApiFunction"}


def test_the_bus_is_archived() -> None:
    archive = of("AWS::Events::Archive")["BusArchive"]

    assert archive["SourceArn"] == {"Fn::GetAtt": "Bus.Arn"}
    assert archive["RetentionDays"] == {"Ref": "ArchiveRetentionDays"}


def test_secrets_have_no_value_in_the_template_and_the_stack_s_key() -> None:
    for secret in of("AWS::SecretsManager::Secret").values():
        assert not {"SecretString", "GenerateSecretString"} & secret.keys()
        assert secret["KmsKeyId"] == {"Fn::GetAtt": "StackKey.Arn"}


def test_what_approvers_and_auditors_see_is_signed_with_a_key_that_is_kept() -> None:
    key = of("AWS::KMS::Key")["SigningKey"]
    signers = {name for name in FUNCTIONS if "kms:Sign" in str(statements(name))}

    assert (key["KeySpec"], key["KeyUsage"]) == ("ECC_NIST_P256", "SIGN_VERIFY")
    assert RESOURCES["SigningKey"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert signers == {
        "RequestCsrFunction",
        "RequestCertificateFunction",
        "KeepEvidenceFunction",
    }


def test_evidence_is_written_through_a_queue_that_tries_again() -> None:
    rule = of("AWS::Events::Rule")["EvidenceRule"]
    queue = of("AWS::SQS::Queue")["EvidenceQueue"]
    source = of("AWS::Lambda::EventSourceMapping")["EvidenceQueueSource"]

    assert rule["Targets"][0]["DeadLetterConfig"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 5
    assert queue["VisibilityTimeout"] >= 6 * GLOBALS["Timeout"]
    assert source["EventSourceArn"] == {"Fn::GetAtt": "EvidenceQueue.Arn"}
    assert source["FunctionName"] == {"Ref": "KeepEvidenceFunction"}


def test_evidence_is_locked_by_default_and_written_by_one_function() -> None:
    bucket = of("AWS::S3::Bucket")["EvidenceBucket"]
    writers = {name for name in FUNCTIONS if "EvidenceBucket.Arn}/*" in str(statements(name))}

    assert bucket["ObjectLockEnabled"] is True
    assert TEMPLATE["Parameters"]["EvidenceRetentionDays"]["Default"] >= 3650
    assert bucket["ObjectLockConfiguration"]["Rule"]["Fn::If"][0] == "EvidenceIsLocked"
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert writers == {"KeepEvidenceFunction"}
    assert "s3:Delete" not in str(FUNCTIONS)


def test_no_function_but_the_verifier_writes_issued_csrs_or_the_quarantine() -> None:
    store, certify = "StoreCsrFunction", "StoreCertificateFunction"
    for target, writers in (
        ("/request.pem", {store}),
        ("/certificate.pem", {certify}),
        ("/quarantine/", {store, certify}),
    ):
        assert {
            name
            for name in FUNCTIONS
            for one in statements(name)
            if target in str(one["Resource"]) and "PutObject" in str(one["Action"])
        } == writers


@pytest.mark.parametrize(
    "name", ["AcceptEnrollmentFunction", "SweepKeysFunction", "AuditKeysFunction"]
)
def test_who_reads_what_may_be_missing_is_told_that_it_is(name: str) -> None:
    # Without the permission to list, S3 answers 403 instead of NoSuchKey (Objects.read).
    assert {"Fn::GetAtt": "CsrBucket.Arn"} in [
        one["Resource"] for one in statements(name) if one["Action"] == "s3:ListBucket"
    ]


def test_keys_are_swept_and_audited_by_schedule_and_nothing_is_deleted_unless_told() -> None:
    sweep, audit = FUNCTIONS["SweepKeysFunction"], FUNCTIONS["AuditKeysFunction"]

    assert TEMPLATE["Parameters"]["SweepKeys"]["Default"] == "report"
    assert TEMPLATE["Parameters"]["SweepKeys"]["AllowedValues"] == ["off", "report", "delete"]
    for function, expression in ((sweep, "SweepSchedule"), (audit, "AuditSchedule")):
        (event,) = function["Events"].values()
        assert event["Type"] == "ScheduleV2"
        assert event["Properties"]["ScheduleExpression"] == {"Ref": expression}
        assert event["Properties"]["RetryPolicy"] == {"MaximumRetryAttempts": 0}
        assert function["EventInvokeConfig"] == {"MaximumRetryAttempts": 0}
    assert sweep["Events"]["Schedule"]["Properties"]["State"] == {
        "Fn::If": ["KeysAreSwept", "ENABLED", "DISABLED"]
    }
    assert "dynamodb:DeleteItem" not in str(statements("AuditKeysFunction"))


def test_only_functions_layers_and_profiles_can_be_deployed() -> None:
    # Profiles are data in a layer of their own: a new one changes no line of code.
    layers = of("AWS::Serverless::LayerVersion")

    assert GLOBALS["CodeUri"] == "functions/"
    assert {layer["ContentUri"] for layer in layers.values()} == {
        "layers/core",
        "layers/dependencies",
        "profiles",
    }
    assert not any("CodeUri" in function for function in FUNCTIONS.values())


def test_layers_are_built_for_the_chosen_architecture() -> None:
    for layer in of("AWS::Serverless::LayerVersion").keys() - {"ProfilesLayer"}:  # only JSON
        assert RESOURCES[layer]["Metadata"]["BuildArchitecture"] == {"Ref": "Architecture"}


def test_the_outputs_name_what_a_caller_needs() -> None:
    assert {
        "ApiUrl",
        "EnrollmentStateMachineArn", "EnrollmentsTableName", "CsrBucketName", "BusName", "BusArn",
        "KeyManagementSecretArn", "KeyOperationSecretArn", "ServiceSecretArn", "ClientTlsSecretArn",
        "SigningKeyArn", "KeyPasswordPrefix",
        "BackstopDeadLetterQueueUrl", "StackKeyArn", "ScheduleGroupName",
        "ScheduleRoleArn", "RequestsDeadLetterQueueArn", "RequestsDeadLetterQueueUrl",
        "BackstopQueueArn", "BackstopDeadLetterQueueArn",
        "NotifyTopicArn", "NotifyDeadLetterQueueUrl",
    } <= set(TEMPLATE["Outputs"])  # fmt: skip
