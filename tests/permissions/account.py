"""The expanded template as an AWS account has it: ARNs, roles, boundary, policies, keys."""

import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from moto.iam.aws_managed_policies import aws_managed_policies_data

from local.template import Resolver
from tests.expanded import REGION, expanded

type Json = dict[str, Any]

ACCOUNT, STACK = "123456789012", "countersign"
PSEUDO = {
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::StackName": STACK,
    "AWS::URLSuffix": "amazonaws.com",
}
# Everything that a parameter adds.
PARAMETERS = {
    "TsbUrl": "https://tsb.example.com",
    "NotifyEmail": "somebody@example.com",
    "MailFrom": "countersign@example.com",
    "SubnetIds": "subnet-1",
    "SecurityGroupIds": "sg-1",
    "RequestingAccounts": "210987654321",
}
# Where a resource says which key encrypts it.
ENCRYPTED_BY = {
    "AWS::DynamoDB::Table": lambda it: it["SSESpecification"]["KMSMasterKeyId"],
    "AWS::S3::Bucket": lambda it: it["BucketEncryption"]["ServerSideEncryptionConfiguration"][0][
        "ServerSideEncryptionByDefault"
    ]["KMSMasterKeyID"],
    "AWS::SQS::Queue": lambda it: it.get("KmsMasterKeyId"),  # none: SQS's own
    "AWS::SNS::Topic": lambda it: it["KmsMasterKeyId"],
    "AWS::SecretsManager::Secret": lambda it: it["KmsKeyId"],
    "AWS::Events::EventBus": lambda it: it["KmsKeyIdentifier"],
    "AWS::Events::Archive": lambda it: it["KmsKeyIdentifier"],
    "AWS::Logs::LogGroup": lambda it: it["KmsKeyId"],
}


@dataclass(frozen=True)
class Request:
    """Somebody wants to do something.

    Args:
        who: a role's logical id, or a service: `events.amazonaws.com`.
        action: as IAM calls it.
        resource: its ARN.
        context: condition keys, beside those that every request has.
    """

    who: str
    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        context = f" {json.dumps(self.context)}" if self.context else ""
        return f"{self.who}: {self.action} {self.resource}{context}"


class Account:
    """An account with one stack.

    Args:
        parameters: of the template, beside `PARAMETERS`.
    """

    def __init__(self, **parameters: str) -> None:
        template = expanded()
        self._names: dict[str, dict[str, str]] = {}
        self.resources: dict[str, Json] = template["Resources"]
        for _ in range(2):  # some names have others in them
            self._names = {name: _names(name, one) for name, one in self.resources.items()}
            resolver = Resolver(template, {**PARAMETERS, **parameters}, PSEUDO, self._names)
            self.resources = {
                name: {**one, "Properties": resolver.resolve(one.get("Properties", {}))}
                for name, one in template["Resources"].items()
                if "Condition" not in one or resolver.holds(one["Condition"])
            }

        exported = (one for one in template["Outputs"].values() if "Export" in one)
        self._exports = {
            resolver.resolve(one["Export"]["Name"]): resolver.resolve(one["Value"])
            for one in exported
        }
        # Principals that are no role of this stack, and what lets them do something.
        self.others: dict[str, Json] = {}

    def imported(self, template: Json) -> Json:
        """Another template in this account, with its references resolved and ours imported."""

        def put(value: Any) -> Any:
            if isinstance(value, list):
                return [put(one) for one in value]
            if not isinstance(value, dict):
                return value
            if "Fn::ImportValue" in value:
                return self._exports[
                    value["Fn::ImportValue"]["Fn::Sub"].replace("${Countersign}", STACK)
                ]
            return {name: put(one) for name, one in value.items()}

        names = {name: _names(name, one) for name, one in template["Resources"].items()}
        found: Json = Resolver(template, {}, PSEUDO, names).resolve(put(template["Resources"]))
        return found

    def arn(self, name: str) -> str:
        """The ARN of a resource."""
        return self._names[name]["Arn"]

    def of(self, kind: str) -> dict[str, Json]:
        """The properties of all resources of a type, by logical id."""
        found = self.resources.items()
        return {name: one["Properties"] for name, one in found if one["Type"] == kind}

    def name_of(self, arn: str) -> str:
        """The logical id of the resource with this ARN, or that it begins with; empty for none."""
        found = [name for name in self._names if arn == self.arn(name)] or [
            name
            for name in self._names
            if arn.startswith((f"{self.arn(name)}/", f"{self.arn(name)}:"))
        ]
        return found[0] if found else ""

    def is_encrypted(self, arn: str) -> bool:
        """Whether the stack's key encrypts what has this ARN."""
        one = self.resources.get(self.name_of(arn))
        if not one or one["Type"] not in ENCRYPTED_BY:
            return False
        key = ENCRYPTED_BY[one["Type"]](one["Properties"])
        return key in self._names["StackKey"].values()

    def policies(self, role: str) -> dict[str, Json]:
        """The policies of a role by name, with AWS's own."""
        found = self.resources[role]["Properties"]
        managed = {
            arn: _policies_of_aws()[arn.rpartition("/")[2]]["Document"]
            for arn in found.get("ManagedPolicyArns", ())
        }
        return managed | self.own_policies(role)

    def own_policies(self, role: str) -> dict[str, Json]:
        """The policies of a role that the template writes."""
        found = self.resources[role]["Properties"].get("Policies", ())
        return {one["PolicyName"]: one["PolicyDocument"] for one in found}

    def boundary(self, role: str) -> Json | None:
        """The permissions boundary of a role."""
        found = self.resources[role]["Properties"].get("PermissionsBoundary")
        for name, one in self.of("AWS::IAM::ManagedPolicy").items():
            if found == self._names[name]["Ref"]:
                return dict(one["PolicyDocument"])
        assert not found, found
        return None

    def resource_policy(self, arn: str) -> Json | None:
        """The policy of the resource that an ARN names; None if it has none."""
        for name, policy in self.resource_policies.items():
            if arn == self.arn(name) or arn.startswith(f"{self.arn(name)}/"):
                return policy
        return None

    @cached_property
    def resource_policies(self) -> dict[str, Json]:
        """The policy of each resource that has one, by the resource's logical id."""
        found: dict[str, list[Json]] = {
            name: one["KeyPolicy"]["Statement"] for name, one in self.of("AWS::KMS::Key").items()
        }
        for name, one in self.of("AWS::IAM::Role").items():
            found[name] = one["AssumeRolePolicyDocument"]["Statement"]
        for one in self.of("AWS::SQS::QueuePolicy").values():
            for queue in map(self._referred, one["Queues"]):
                statements = one["PolicyDocument"]["Statement"]
                found[queue] = [s for s in statements if self.arn(queue) in listed(s["Resource"])]
        for one in self.of("AWS::S3::BucketPolicy").values():
            found[self._referred(one["Bucket"])] = one["PolicyDocument"]["Statement"]
        for one in self.of("AWS::SNS::TopicPolicy").values():
            for topic in map(self._referred, one["Topics"]):
                found[topic] = one["PolicyDocument"]["Statement"]
        for one in self.of("AWS::Events::EventBusPolicy").values():
            found.setdefault(self._referred(one["EventBusName"]), []).append(one["Statement"])
        for one in self.of("AWS::Lambda::Permission").values():
            function = self._referred(one["FunctionName"])
            found.setdefault(function, []).append(self._permission(function, one))
        return {
            name: {"Version": "2012-10-17", "Statement": statements}
            for name, statements in found.items()
        }

    def _referred(self, reference: str) -> str:
        """The logical id of the resource that a policy is attached to."""
        (name,) = [
            name
            for name, one in self._names.items()
            if reference in (one["Ref"], one["Arn"])
            and self.resources[name]["Type"] != "AWS::Scheduler::ScheduleGroup"  # named as the bus
        ]
        return name

    def simulation(self, request: Request) -> Json:
        """A request as the evaluator takes it."""
        is_role = request.who in self.resources
        found: Json = {
            "request": {
                "principal": self.arn(request.who) if is_role else request.who,
                "action": request.action,
                "resource": {"resource": request.resource, "accountId": ACCOUNT},
                "contextVariables": {"aws:SecureTransport": "true", **request.context},
            },
            "identityPolicies": [],
            "serviceControlPolicies": [],
            "resourceControlPolicies": [],
        }
        if is_role:
            policies = self.policies(request.who).items()
            found["identityPolicies"] = [{"name": n, "policy": one} for n, one in policies]
            if boundary := self.boundary(request.who):
                found["permissionBoundaryPolicies"] = [{"name": "boundary", "policy": boundary}]
        elif request.who in self.others:
            found["identityPolicies"] = [{"name": "theirs", "policy": self.others[request.who]}]
        if policy := self.resource_policy(request.resource):
            if ":role/" in request.resource:  # a trust policy leaves out its own role
                statements = [{**one, "Resource": "*"} for one in policy["Statement"]]
                policy = {**policy, "Statement": statements}
            found["resourcePolicy"] = policy
        return found

    def _permission(self, function: str, given: Json) -> Json:
        """A Lambda permission as the statement that Lambda makes of it.

        Source: https://docs.aws.amazon.com/lambda/latest/dg/permissions-function-services.html.
        """
        statement: Json = {
            "Effect": "Allow",
            "Principal": {"Service": given["Principal"]},
            "Action": given["Action"],
            "Resource": self.arn(function),
        }
        condition: Json = {}
        if "SourceArn" in given:
            condition["ArnLike"] = {"AWS:SourceArn": given["SourceArn"]}
        if "SourceAccount" in given:
            condition["StringEquals"] = {"AWS:SourceAccount": given["SourceAccount"]}
        return {**statement, "Condition": condition} if condition else statement


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@cache
def _policies_of_aws() -> Json:
    return dict(json.loads(aws_managed_policies_data))


def _names(name: str, resource: Json) -> dict[str, str]:  # noqa: PLR0911, PLR0912  one for each type
    """What Ref, Arn and the like of a resource are, once CloudFormation has made it."""
    given = resource.get("Properties", {})
    physical = f"{STACK}-{name}-1A2B3C4D5E6F"

    def arn(service: str, rest: str, region: str = REGION, account: str = ACCOUNT) -> str:
        return f"arn:aws:{service}:{region}:{account}:{rest}"

    def named(reference: str, found: str, **more: str) -> dict[str, str]:
        return {"Ref": reference, "Arn": found, "Id": reference, "Name": reference, **more}

    match resource["Type"]:
        case "AWS::IAM::Role":
            return named(physical, arn("iam", f"role/{physical}", region=""))
        case "AWS::IAM::ManagedPolicy":
            found = arn("iam", f"policy/{physical}", region="")
            return named(found, found)
        case "AWS::Lambda::Function":
            return named(physical, arn("lambda", f"function:{physical}"))
        case "AWS::DynamoDB::Table":
            return named(physical, arn("dynamodb", f"table/{physical}"))
        case "AWS::S3::Bucket":
            bucket = physical.lower()
            return named(bucket, f"arn:aws:s3:::{bucket}")
        case "AWS::SQS::Queue":
            url = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{physical}"
            return named(url, arn("sqs", physical), QueueName=physical)
        case "AWS::SNS::Topic":
            return named(arn("sns", physical), arn("sns", physical))
        case "AWS::KMS::Key":
            return named(f"{name}-id", arn("kms", f"key/{name}-id"))
        case "AWS::SecretsManager::Secret":
            found = arn("secretsmanager", f"secret:{name}-1A2B3C4D5E6F-a1B2c3")
            return named(found, found)
        case "AWS::Events::EventBus":
            return named(STACK, arn("events", f"event-bus/{STACK}"))
        case "AWS::Events::ApiDestination":
            return named(physical, arn("events", f"api-destination/{physical}/{name}-id"))
        case "AWS::Events::Archive":
            return named(physical, arn("events", f"archive/{physical}"))
        case "AWS::Events::Rule":
            bus = f"{STACK}/" if "EventBusName" in given else ""
            return named(f"{bus}{physical}", arn("events", f"rule/{bus}{physical}"))
        case "AWS::StepFunctions::StateMachine":
            found = arn("states", f"stateMachine:{STACK}-enrollment")
            return named(found, found) | {"Name": f"{STACK}-enrollment"}
        case "AWS::Scheduler::ScheduleGroup":
            return named(STACK, arn("scheduler", f"schedule-group/{STACK}"))
        case "AWS::Scheduler::Schedule":
            group = given.get("GroupName", "default")
            return named(physical, arn("scheduler", f"schedule/{group}/{physical}"))
        case "AWS::ApiGateway::RestApi":
            return named("a1b2c3d4e5", arn("execute-api", "a1b2c3d4e5"))
        case "AWS::Logs::LogGroup":
            group = given["LogGroupName"]
            return named(str(group), arn("logs", f"log-group:{group}"))
    return named(physical, f"arn:aws:no-matter:{name}")
