"""docs/deployer-policy.json: what the deploying role needs, and nothing that no resource needs.

What CloudFormation calls for a type of resource is what the type's own schema lists for its
handlers (create, read, update, delete), here completed from the services' lists of actions:
https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schema.html,
https://docs.aws.amazon.com/service-authorization/latest/reference/. Nobody has deployed with this
policy yet.
"""

import fnmatch
import json
from collections.abc import Iterator
from typing import Any

import pytest

from local.template import ROOT
from tests.expanded import expanded

type Json = dict[str, Any]

POLICY: Json = json.loads((ROOT / "docs/deployer-policy.json").read_text())
RESOURCES: dict[str, Json] = expanded()["Resources"]
REGISTRY: dict[str, Json] = json.loads((ROOT / "events/registry.template.json").read_text())[
    "Resources"
]
EVERY = {**REGISTRY, **RESOURCES}
HERE = "REGION:ACCOUNT"
TAGS = "TagResource UntagResource ListTagsForResource"
# By type: the ARN that CloudFormation's calls are about (`{}` is the logical id), and the calls.
NEEDED: dict[str, tuple[str, str]] = {
    "AWS::ApiGateway::Account": ("arn:aws:apigateway:REGION::/account", "apigateway: GET PATCH"),
    "AWS::ApiGateway::Deployment": (
        "arn:aws:apigateway:REGION::/restapis/x/deployments",
        "apigateway: GET POST PATCH DELETE",
    ),
    "AWS::ApiGateway::RestApi": (
        "arn:aws:apigateway:REGION::/restapis",
        "apigateway: GET POST PUT PATCH DELETE UpdateRestApiPolicy",
    ),
    "AWS::ApiGateway::Stage": (
        "arn:aws:apigateway:REGION::/restapis/x/stages/v1",
        "apigateway: GET POST PUT PATCH DELETE",
    ),
    "AWS::CloudFormation::Stack": (
        f"arn:aws:cloudformation:{HERE}:stack/STACK-{{}}-X/0",
        "cloudformation: CreateStack UpdateStack DeleteStack DescribeStacks TagResource",
    ),
    "AWS::CloudWatch::Alarm": (
        f"arn:aws:cloudwatch:{HERE}:alarm:STACK-{{}}-X",
        f"cloudwatch: PutMetricAlarm DescribeAlarms DeleteAlarms {TAGS}",
    ),
    "AWS::CloudWatch::Dashboard": (
        "arn:aws:cloudwatch::ACCOUNT:dashboard/STACK",
        "cloudwatch: PutDashboard GetDashboard DeleteDashboards",
    ),
    "AWS::DynamoDB::Table": (
        f"arn:aws:dynamodb:{HERE}:table/STACK-{{}}-X",
        "dynamodb: CreateTable UpdateTable DeleteTable DescribeTable DescribeTimeToLive"
        " UpdateTimeToLive"
        " DescribeContributorInsights DescribeContinuousBackups UpdateContinuousBackups"
        " DescribeKinesisStreamingDestination GetResourcePolicy"
        " TagResource UntagResource ListTagsOfResource",
    ),
    "AWS::EventSchemas::Registry": (
        f"arn:aws:schemas:{HERE}:registry/STACK",
        f"schemas: CreateRegistry UpdateRegistry DeleteRegistry DescribeRegistry {TAGS}",
    ),
    "AWS::EventSchemas::Schema": (
        f"arn:aws:schemas:{HERE}:schema/STACK/countersign@EnrollmentIssued",
        f"schemas: CreateSchema UpdateSchema DeleteSchema DescribeSchema {TAGS}",
    ),
    "AWS::Events::Archive": (
        f"arn:aws:events:{HERE}:archive/{{}}-X",
        "events: CreateArchive UpdateArchive DeleteArchive DescribeArchive",
    ),
    "AWS::Events::EventBus": (
        f"arn:aws:events:{HERE}:event-bus/STACK",
        "events: CreateEventBus UpdateEventBus DeleteEventBus DescribeEventBus"
        f" PutPermission {TAGS}",
    ),
    "AWS::Events::EventBusPolicy": (
        f"arn:aws:events:{HERE}:event-bus/STACK",
        "events: PutPermission RemovePermission DescribeEventBus",
    ),
    "AWS::Events::Rule": (
        f"arn:aws:events:{HERE}:rule/STACK/STACK-{{}}-X",
        "events: PutRule DeleteRule DescribeRule PutTargets RemoveTargets"
        f" ListTargetsByRule {TAGS}",
    ),
    "AWS::IAM::ManagedPolicy": (
        "arn:aws:iam::ACCOUNT:policy/STACK-{}-X",
        "iam: CreatePolicy DeletePolicy GetPolicy CreatePolicyVersion DeletePolicyVersion"
        " GetPolicyVersion ListPolicyVersions",
    ),
    "AWS::IAM::Role": (
        "arn:aws:iam::ACCOUNT:role/STACK-{}-X",
        "iam: CreateRole DeleteRole GetRole UpdateRole UpdateAssumeRolePolicy TagRole UntagRole"
        " PutRolePermissionsBoundary PutRolePolicy GetRolePolicy DeleteRolePolicy"
        " ListRolePolicies ListAttachedRolePolicies AttachRolePolicy DetachRolePolicy PassRole",
    ),
    "AWS::KMS::Key": (
        f"arn:aws:kms:{HERE}:key/0",
        "kms: CreateKey DescribeKey EnableKey DisableKey EnableKeyRotation DisableKeyRotation"
        " GetKeyRotationStatus GetKeyPolicy PutKeyPolicy UpdateKeyDescription ScheduleKeyDeletion"
        " TagResource UntagResource ListResourceTags"
        # What the services need of whoever creates something with the key.
        " CreateGrant Decrypt GenerateDataKey",
    ),
    "AWS::Lambda::EventInvokeConfig": (
        f"arn:aws:lambda:{HERE}:function:STACK-SweepKeysFunction-X",
        "lambda: PutFunctionEventInvokeConfig UpdateFunctionEventInvokeConfig"
        " DeleteFunctionEventInvokeConfig GetFunctionEventInvokeConfig",
    ),
    "AWS::Lambda::EventSourceMapping": (
        f"arn:aws:lambda:{HERE}:event-source-mapping:0",
        "lambda: CreateEventSourceMapping UpdateEventSourceMapping DeleteEventSourceMapping"
        " GetEventSourceMapping TagResource UntagResource ListTags",
    ),
    "AWS::Lambda::Function": (
        f"arn:aws:lambda:{HERE}:function:STACK-{{}}-X",
        "lambda: CreateFunction DeleteFunction GetFunction GetFunctionConfiguration"
        " UpdateFunctionCode UpdateFunctionConfiguration GetFunctionCodeSigningConfig"
        " GetFunctionRecursionConfig GetRuntimeManagementConfig TagResource UntagResource ListTags",
    ),
    "AWS::Lambda::LayerVersion": (
        f"arn:aws:lambda:{HERE}:layer:STACK-core",
        "lambda: PublishLayerVersion GetLayerVersion DeleteLayerVersion",
    ),
    "AWS::Lambda::Permission": (
        f"arn:aws:lambda:{HERE}:function:STACK-api",
        "lambda: AddPermission RemovePermission GetPolicy",
    ),
    "AWS::Logs::LogGroup": (
        f"arn:aws:logs:{HERE}:log-group:/aws/lambda/STACK-api",
        "logs: CreateLogGroup DeleteLogGroup DescribeLogGroups PutRetentionPolicy"
        f" DeleteRetentionPolicy AssociateKmsKey DisassociateKmsKey {TAGS}",
    ),
    "AWS::S3::Bucket": (
        "arn:aws:s3:::STACK-{}-x",
        "s3: CreateBucket DeleteBucket ListBucket PutBucketTagging GetBucketTagging"
        " PutBucketVersioning GetBucketVersioning PutBucketPublicAccessBlock"
        " GetBucketPublicAccessBlock PutBucketOwnershipControls GetBucketOwnershipControls"
        " PutEncryptionConfiguration GetEncryptionConfiguration PutLifecycleConfiguration"
        " GetLifecycleConfiguration PutBucketObjectLockConfiguration"
        " GetBucketObjectLockConfiguration",
    ),
    "AWS::S3::BucketPolicy": (
        "arn:aws:s3:::STACK-csrbucket-x",
        "s3: PutBucketPolicy GetBucketPolicy DeleteBucketPolicy",
    ),
    "AWS::SNS::Subscription": (
        f"arn:aws:sns:{HERE}:STACK-NotifyTopic-X",
        "sns: Subscribe Unsubscribe GetSubscriptionAttributes ListSubscriptionsByTopic",
    ),
    "AWS::SNS::Topic": (
        f"arn:aws:sns:{HERE}:STACK-{{}}-X",
        "sns: CreateTopic DeleteTopic GetTopicAttributes SetTopicAttributes"
        f" ListSubscriptionsByTopic GetDataProtectionPolicy {TAGS}",
    ),
    "AWS::SNS::TopicPolicy": (f"arn:aws:sns:{HERE}:STACK-NotifyTopic-X", "sns: SetTopicAttributes"),
    "AWS::SQS::Queue": (
        f"arn:aws:sqs:{HERE}:STACK-{{}}-X",
        "sqs: CreateQueue DeleteQueue GetQueueUrl GetQueueAttributes SetQueueAttributes"
        " TagQueue UntagQueue ListQueueTags",
    ),
    "AWS::SQS::QueuePolicy": (f"arn:aws:sqs:{HERE}:STACK-Queue-X", "sqs: SetQueueAttributes"),
    "AWS::SSM::Parameter": (
        f"arn:aws:ssm:{HERE}:parameter/countersign/STACK/name",
        "ssm: PutParameter GetParameters DeleteParameter AddTagsToResource RemoveTagsFromResource",
    ),
    "AWS::Scheduler::Schedule": (
        f"arn:aws:scheduler:{HERE}:schedule/default/STACK-sweep-keys",
        "scheduler: CreateSchedule UpdateSchedule DeleteSchedule GetSchedule",
    ),
    "AWS::Scheduler::ScheduleGroup": (
        f"arn:aws:scheduler:{HERE}:schedule-group/STACK",
        f"scheduler: CreateScheduleGroup DeleteScheduleGroup GetScheduleGroup {TAGS}",
    ),
    "AWS::SecretsManager::Secret": (
        f"arn:aws:secretsmanager:{HERE}:secret:{{}}-X",
        "secretsmanager: CreateSecret UpdateSecret DeleteSecret DescribeSecret"
        " TagResource UntagResource",
    ),
    "AWS::StepFunctions::StateMachine": (
        f"arn:aws:states:{HERE}:stateMachine:STACK-enrollment",
        "states: CreateStateMachine UpdateStateMachine DeleteStateMachine DescribeStateMachine"
        f" ValidateStateMachineDefinition {TAGS}",
    ),
}
# Beside: the stack itself, SAM's packages, the API's tags, rules of the default bus, what services
# look up for whoever calls them, and a group's schedules, which EventBridge Scheduler deletes too.
BESIDE = {
    f"arn:aws:cloudformation:{HERE}:stack/STACK/0": (
        "cloudformation: CreateChangeSet DeleteChangeSet DescribeChangeSet ExecuteChangeSet"
        " DescribeStacks DescribeStackEvents GetTemplate GetTemplateSummary ListStackResources"
    ),
    "arn:aws:cloudformation:REGION:aws:transform/Serverless-2016-10-31": (
        "cloudformation: CreateChangeSet"
    ),
    f"arn:aws:cloudformation:{HERE}:stack/aws-sam-cli-managed-default/0": (
        "cloudformation: CreateChangeSet DescribeStacks"
    ),
    "arn:aws:s3:::aws-sam-cli-managed-default-x": (
        "s3: CreateBucket GetBucketLocation GetBucketPolicy GetBucketTagging GetObject"
        " GetObjectVersion ListBucket PutBucketPolicy PutBucketPublicAccessBlock PutBucketTagging"
        " PutBucketVersioning PutEncryptionConfiguration PutLifecycleConfiguration PutObject"
    ),
    "arn:aws:apigateway:REGION::/tags/x": "apigateway: GET PUT DELETE",
    f"arn:aws:events:{HERE}:rule/STACK-BackstopRule-X": "events: PutRule",
    "*": "ec2: DescribeSecurityGroups DescribeSubnets DescribeVpcs",
    "arn:aws:iam::ACCOUNT:role/aws-service-role/ops.apigateway.amazonaws.com/x": (
        "iam: CreateServiceLinkedRole"
    ),
    f"arn:aws:scheduler:{HERE}:schedule/STACK/*": "scheduler: DeleteSchedule",
}


def calls(listed: str) -> list[str]:
    service, _, names = listed.partition(": ")
    return [f"{service}:{name}" for name in names.split()]


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def granting(action: str, arn: str) -> Iterator[Json]:
    for one in POLICY["Statement"]:
        # IAM compares actions without regard to case, and resources with it.
        if any(
            fnmatch.fnmatch(action.lower(), name.lower()) for name in listed(one["Action"])
        ) and any(fnmatch.fnmatchcase(arn, resource) for resource in listed(one["Resource"])):
            yield one


def needs() -> set[tuple[str, str]]:
    """Every call, and what it is about."""
    found = {(action, arn) for arn, beside in BESIDE.items() for action in calls(beside)}
    for name, resource in EVERY.items():
        arn, called = NEEDED[resource["Type"]]
        # S3 has no capitals.
        own = arn.format(name.lower() if ":s3:" in arn else name)
        found |= {(action, own) for action in calls(called)}
    return found


@pytest.mark.parametrize("kind", sorted({one["Type"] for one in EVERY.values()}))
def test_whatever_a_type_of_resource_needs_is_allowed(kind: str) -> None:
    assert kind in NEEDED, "add what CloudFormation calls for it, here and in the policy"
    for name, one in EVERY.items():
        if one["Type"] == kind:
            arn, called = NEEDED[kind]
            own = arn.format(name.lower() if ":s3:" in arn else name)
            for action in calls(called):
                assert list(granting(action, own)), f"{action} on {own}"


def test_what_sam_and_cloudformation_need_beside_is_allowed() -> None:
    for arn, called in BESIDE.items():
        for action in calls(called):
            assert list(granting(action, arn)), f"{action} on {arn}"


def test_nothing_is_allowed_that_nothing_needs() -> None:
    assert NEEDED.keys() == {one["Type"] for one in EVERY.values()}
    used = needs()
    for one in POLICY["Statement"]:
        for action in listed(one["Action"]):
            assert any(
                fnmatch.fnmatch(name.lower(), action.lower()) and one in granting(name, arn)
                for name, arn in used
            ), f"{one['Sid']}: {action}"
        for resource in listed(one["Resource"]):
            assert any(
                fnmatch.fnmatchcase(arn, resource) and one in granting(name, arn)
                for name, arn in used
            ), f"{one['Sid']}: {resource}"


def statement(sid: str) -> Json:
    (found,) = (one for one in POLICY["Statement"] if one["Sid"] == sid)
    return dict(found)


def trusted(role: Json) -> set[str]:
    return {
        service
        for one in role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        for service in listed(one["Principal"]["Service"])
    }


def test_roles_are_passed_to_the_services_that_assume_them_and_get_the_policies_they_have() -> None:
    roles = [one for one in RESOURCES.values() if one["Type"] == "AWS::IAM::Role"]
    attached = {
        (arn if isinstance(arn, str) else arn["Fn::Sub"]).replace("${AWS::Partition}", "aws")
        for role in roles
        for arn in role["Properties"].get("ManagedPolicyArns", [])
    }

    assert set(
        statement("PassRoles")["Condition"]["StringEquals"]["iam:PassedToService"]
    ) == set().union(*map(trusted, roles))
    assert set(statement("AwsPolicies")["Condition"]["ArnEquals"]["iam:PolicyARN"]) == attached
    for action in ("iam:PassRole", "iam:AttachRolePolicy"):
        for one in granting(action, "arn:aws:iam::ACCOUNT:role/STACK-X"):
            assert "Condition" in one


def test_who_deploys_reads_no_secret_and_invokes_nothing() -> None:
    for action in (
        "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue", "lambda:InvokeFunction",
        "dynamodb:GetItem", "kms:Sign", "states:StartExecution", "events:PutEvents",
        "sqs:ReceiveMessage", "sns:Publish",
    ):  # fmt: skip
        for _, arn in needs():
            assert not list(granting(action, arn)), f"{action} on {arn}"
    for one in granting("kms:Decrypt", f"arn:aws:kms:{HERE}:key/0"):
        assert "kms:ViaService" in str(one["Condition"])


def test_it_fits_into_a_role_whatever_the_names_are() -> None:
    # 10,240 characters without white space: IAM's limit for the inline policies of a role.
    text = json.dumps(POLICY, separators=(",", ":"))
    longest = {"ACCOUNT": "1" * 12, "REGION": "ap-southeast-1", "STACK": "s" * 25}
    for placeholder, value in longest.items():
        text = text.replace(placeholder, value)

    assert len(text) <= 10_240
