"""What SAM and CloudFormation add by themselves, as it is in the expanded template."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from local.stack import OLDEST_BOTO3
from local.template import ROOT, Resolver
from tests.expanded import expanded

type Json = dict[str, Any]

TEMPLATE = expanded()
RESOURCES: Json = TEMPLATE["Resources"]
# Every template that we publish, as CloudFormation gets it.
PUBLISHED = ("template.yaml", "docs/nested.yaml", "docs/schedule.yaml", "docs/chat.yaml")


def of(kind: str) -> dict[str, Json]:
    return {
        name: one.get("Properties", {}) for name, one in RESOURCES.items() if one["Type"] == kind
    }


# References ---------------------------------------------------------------------------------------

Branch = frozenset[tuple[str, bool]]


def references(node: Any, branch: Branch = frozenset()) -> Iterator[tuple[str, Branch]]:
    """What a part of the template refers to, and in which branch of which conditions."""
    match node:
        case {"Fn::If": [condition, yes, no]}:
            yield from references(yes, branch | {(condition, True)})
            yield from references(no, branch | {(condition, False)})
        case {"Ref": str(name)}:
            yield name, branch
        case {"Fn::GetAtt": [str(name), *_]}:
            yield name, branch
        case {"Fn::GetAtt": str(path)}:
            yield path.partition(".")[0], branch
        case {"Fn::Sub": str(text)}:
            yield from ((name, branch) for name in re.findall(r"\$\{(\w+)[.}]", text))
        case {"Fn::Sub": [str(text), dict(more)]}:
            yield from references({"Fn::Sub": text}, branch)
            yield from references(more, branch)
        case dict():
            for one in node.values():
                yield from references(one, branch)
        case list():
            for one in node:
                yield from references(one, branch)


def needed(name: str) -> Iterator[tuple[str, Branch]]:
    """The resources that this one needs."""
    resource = RESOURCES[name]
    own: Branch = frozenset({(resource["Condition"], True)} if "Condition" in resource else ())
    waits = resource.get("DependsOn", [])
    for one in [waits] if isinstance(waits, str) else waits:
        yield one, own
    for one, branch in references(resource.get("Properties", {}), own):
        if one in RESOURCES:
            yield one, branch


def all_needed(name: str, found: frozenset[str] = frozenset()) -> frozenset[str]:
    """The resources that CloudFormation creates before this one."""
    for one, _ in needed(name):
        if one not in found:
            found = all_needed(one, found | {one})
    return found


@pytest.mark.parametrize("name", RESOURCES)
def test_no_two_resources_need_each_other(name: str) -> None:
    assert name not in all_needed(name)


@pytest.mark.parametrize("name", RESOURCES)
def test_what_a_condition_may_leave_out_is_needed_under_that_condition_only(name: str) -> None:
    for one, branch in needed(name):
        if condition := RESOURCES[one].get("Condition"):
            assert (condition, True) in branch, f"{name} needs {one}"


# The API ------------------------------------------------------------------------------------------


def integrations() -> list[tuple[str, str, Json]]:
    body = of("AWS::ApiGateway::RestApi")["EnrollmentsApi"]["Body"]
    return [
        (path, method, operation)
        for path, methods in body["paths"].items()
        for method, operation in methods.items()
    ]


def test_api_gateway_calls_the_function_with_its_own_rights_for_whoever_signed() -> None:
    name = of("AWS::Lambda::Function")["ApiFunction"]["FunctionName"]["Fn::Sub"]

    assert len(integrations()) == 8
    for _, _, operation in integrations():
        integration = operation["x-amazon-apigateway-integration"]
        assert operation["security"] == [{"AWS_IAM": []}]
        # With SAM's default the callers themselves would need lambda:InvokeFunction.
        assert "credentials" not in integration
        assert integration["type"] == "aws_proxy"
        assert f":function:{name}/invocations" in integration["uri"]["Fn::Sub"]


def test_the_function_s_policy_names_this_api_s_routes_and_nobody_else() -> None:
    named = set()
    for one in of("AWS::Lambda::Permission").values():
        if one["FunctionName"] == {"Ref": "ApiFunction"}:
            text, more = one["SourceArn"]["Fn::Sub"]
            assert one["Principal"] == "apigateway.amazonaws.com"
            assert more["__ApiId__"] == {"Ref": "EnrollmentsApi"}
            named.add(text.partition("${__Stage__}/")[2])

    assert named == {
        f"{method.upper()}{path.replace('{id}', '*')}" for path, method, _ in integrations()
    }


def test_the_function_knows_the_api_that_it_answers() -> None:
    function = of("AWS::Lambda::Function")["ApiFunction"]
    (stage,) = of("AWS::ApiGateway::Stage").values()

    assert stage["RestApiId"] == {"Ref": "EnrollmentsApi"}
    assert function["Environment"]["Variables"]["API"] == {
        "Fn::Sub": f"${{AWS::AccountId}}/${{EnrollmentsApi}}/{stage['StageName']}"
    }


def deployments(**parameters: str) -> set[str]:
    resources = expanded(**parameters)["Resources"]
    return {name for name, one in resources.items() if one["Type"] == "AWS::ApiGateway::Deployment"}


@pytest.mark.parametrize("parameter", ["ApiCallerAccounts", "ApiVpcEndpointIds"])
def test_who_may_call_is_deployed_again_when_it_changes(parameter: str) -> None:
    # A stage keeps the resource policy of its deployment, and CloudFormation makes a new one only
    # under another logical id: "apigateway-resource-policies-create-attach" in API Gateway's guide.
    assert deployments(**{parameter: "one"}) != deployments(**{parameter: "other"})


def statements(node: Any) -> Iterator[Json]:
    """Every statement that allows something, wherever it is."""
    if isinstance(node, dict):
        if node.get("Effect") == "Allow" and "Action" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from statements(one)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_nobody_is_allowed_to_invoke_the_api_s_function() -> None:
    # Who may could say in an event that they are somebody else. The boundary allows nothing.
    for path in PUBLISHED:
        for name, resource in expanded(path)["Resources"].items():
            if resource["Type"] == "AWS::IAM::ManagedPolicy":
                continue
            for one in statements(resource):
                if any(re.match(r"\*|lambda:(\*|Inv)", action) for action in listed(one["Action"])):
                    for resource_ in listed(one["Resource"]):
                        assert "*" not in json.dumps(resource_), name
                        assert "ApiFunction" not in json.dumps(resource_), name


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=str
)
def test_no_page_grants_the_invocation_of_functions(page: Path) -> None:
    for snippet in re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL):
        assert "lambda:Invoke" not in snippet


# Roles --------------------------------------------------------------------------------------------

# What says for whom it assumes a role. Sources: the pages on the confused deputy of EventBridge
# Scheduler (cross-service-confused-deputy-prevention), EventBridge and Step Functions.
SAYS_FOR_WHOM = {"scheduler.amazonaws.com", "events.amazonaws.com", "states.amazonaws.com"}
# Lambda's and API Gateway's pages on these roles have no such condition.
SAYS_NOTHING = {"lambda.amazonaws.com", "apigateway.amazonaws.com"}


@pytest.mark.parametrize("path", PUBLISHED)
def test_a_service_assumes_a_role_for_this_account_only_where_it_says_for_whom(path: str) -> None:
    for name, resource in expanded(path)["Resources"].items():
        if resource["Type"] != "AWS::IAM::Role":
            continue
        for one in resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]:
            services = set(listed(one["Principal"]["Service"]))
            assert services <= SAYS_FOR_WHOM | SAYS_NOTHING, name
            if services & SAYS_FOR_WHOM:
                ours = one.get("Condition", {}).get("StringEquals", {})
                assert ours.get("aws:SourceAccount") == {"Ref": "AWS::AccountId"}, name


def test_the_role_of_the_functions_schedules_invokes_what_they_invoke_and_nothing_else() -> None:
    targets = [one["Target"] for one in of("AWS::Scheduler::Schedule").values()]
    (role,) = {attribute(one["RoleArn"]).removesuffix(".Arn") for one in targets}
    (granted,) = statements(of("AWS::IAM::Role")[role]["Policies"])

    assert len(targets) == 3
    assert granted["Action"] == "lambda:InvokeFunction"
    assert sorted(map(attribute, granted["Resource"])) == sorted(
        attribute(one["Arn"]) for one in targets
    )


def attribute(value: Json) -> str:
    found = value["Fn::GetAtt"]
    return found if isinstance(found, str) else ".".join(found)


# Names --------------------------------------------------------------------------------------------

# What is no name of a thing in an account: a field of an alarm, an API's stage, a mail's sender.
INNER_NAMES = {
    ("AWS::ApiGateway::Stage", "StageName"),
    ("AWS::CloudWatch::Alarm", "MetricName"),
    ("AWS::SNS::Topic", "DisplayName"),
    ("AWS::EventSchemas::Schema", "SchemaName"),  # within a registry
}


def of_the_stack(value: Any, template: Json) -> bool:
    """Whether a name differs from stack to stack: by the stack's name, or by its resource's."""
    own = {*template["Resources"], "AWS::StackName"}
    text = json.dumps(value)
    return (
        "Fn::ImportValue" in text
        or "${AWS::StackName}" in text
        or any(name in own for name, _ in references(value))
        or value == {"Ref": "AWS::StackName"}
    )


@pytest.mark.parametrize("path", PUBLISHED)
def test_every_name_is_the_stack_s_own_so_that_an_account_has_room_for_two(path: str) -> None:
    template = expanded(path)
    fixed = {
        f"{name}.{key}": value
        for name, one in template["Resources"].items()
        for key, value in one.get("Properties", {}).items()
        if key.endswith("Name")
        and (one["Type"], key) not in INNER_NAMES
        and not of_the_stack(value, template)
    }

    assert fixed == {}


def test_the_registry_of_schemas_has_the_stack_s_name() -> None:
    registry = json.loads((ROOT / "events/registry.template.json").read_text())
    names = {
        json.dumps(value)
        for one in registry["Resources"].values()
        for key, value in one["Properties"].items()
        if key.endswith("Name") and (one["Type"], key) not in INNER_NAMES
    }

    assert (
        names == {'{"Ref": "RegistryName"}', '{"Fn::GetAtt": ["Registry", "RegistryName"]}'} & names
    )
    assert of("AWS::CloudFormation::Stack")["EventSchemas"]["Parameters"] == {
        "RegistryName": {"Ref": "AWS::StackName"}
    }


# What policies name by the stack's name is named by CloudFormation: `<stack>-<id>-<12 letters>`, or
# shortened, and then no policy matches. Sources of the lengths: CreateFunction, CreateQueue,
# CreateTopic.
LONGEST = {"AWS::Lambda::Function": 64, "AWS::SQS::Queue": 80, "AWS::SNS::Topic": 256}


def is_name_of_a_stack(name: str) -> bool:
    """Whether the template takes a stack of this name."""
    check = RESOURCES["StackNameCheck"]["Properties"]
    value = Resolver(TEMPLATE, {}, {"AWS::StackName": name}, {}).resolve(check["Value"])
    return re.search(check["AllowedPattern"], value) is not None


def test_a_stack_s_name_that_is_too_long_is_refused_before_anything_has_a_name() -> None:
    named = {name for name, one in RESOURCES.items() if one["Type"] in LONGEST}
    kept = {name for name, one in RESOURCES.items() if "DeletionPolicy" in one} - set(
        of("AWS::Lambda::LayerVersion")
    )

    assert is_name_of_a_stack("a" * 24)
    assert not is_name_of_a_stack("a" * 25)
    for name in named:
        assert 24 + len(f"-{name}-") + 12 <= LONGEST[RESOURCES[name]["Type"]]
    for name in named | kept:
        assert "StackNameCheck" in all_needed(name), name


def test_a_stack_s_name_that_cloudformation_changes_in_names_is_refused() -> None:
    # IdentifierUtils (see below) makes one dash of several side by side. AWS's page on resource
    # custom naming: names do not contain two consecutive hyphens.
    assert is_name_of_a_stack("Pki-csr-2")
    for name in ("pki--csr", "pki---csr", "pki-", "pki--", "a" * 12 + "--" + "a" * 11):
        assert not is_name_of_a_stack(name), name


# Sources: IAM quotas, bucket naming rules, PutRule, CreateTable.
OTHERS = {
    "AWS::IAM::Role": 64,
    "AWS::IAM::ManagedPolicy": 128,
    "AWS::S3::Bucket": 63,
    "AWS::Events::Rule": 64,
    "AWS::DynamoDB::Table": 255,
}


@pytest.mark.parametrize("kind", [*LONGEST, *OTHERS])
def test_a_shortened_name_still_begins_with_the_whole_name_of_the_stack(kind: str) -> None:
    # What is too long is shared out: 13 characters and a dash are CloudFormation's own, the stack
    # and the logical id have half of the rest each, or what the other one leaves. Source:
    # IdentifierUtils of aws-cloudformation/cloudformation-cli-java-plugin.
    free = {**LONGEST, **OTHERS}[kind] - 13 - 1
    for name in of(kind):
        assert max(free // 2, free - len(name)) >= 24, name


# The longest that a service takes, of names that we give ourselves. Sources: CreateFunction,
# CreateSchedule, CreateScheduleGroup, CreateStateMachine, PublishLayerVersion, CreateEventBus,
# CreateLogGroup, PutDashboard, PutParameter (with the path).
LONGEST_GIVEN = {
    "FunctionName": 64, "Name": 64, "GroupName": 64, "StateMachineName": 80, "LayerName": 140,
    "LogGroupName": 512, "DashboardName": 255,
}  # fmt: skip


def test_names_that_we_give_fit_the_longest_stack_s_name() -> None:
    found = set()
    for name, one in RESOURCES.items():
        for key, limit in LONGEST_GIVEN.items():
            given = one.get("Properties", {}).get(key)
            if given is None or any(other in RESOURCES for other, _ in references(given)):
                continue
            text = given if isinstance(given, str) else given.get("Fn::Sub") or "${AWS::StackName}"
            assert len(text.replace("${AWS::StackName}", "s" * 24)) <= limit, name
            found.add(key)

    assert len(found) >= len(LONGEST_GIVEN) - 1


# Quotas -------------------------------------------------------------------------------------------

# The longest that stands for a reference: `<stack>-<logical id>-<12>` in an ARN.
ANY_ARN = "arn:aws:secretsmanager:ap-southeast-1:123456789012:secret:" + "s" * 64


def characters(document: Any) -> int:
    """At most as many characters as IAM counts: without white space, each reference an ARN."""

    def written(node: Any) -> Any:
        match node:
            case {"Fn::If": [_, yes, no]}:
                return max(written(yes), written(no), key=lambda one: len(json.dumps(one)))
            case {"Ref": _} | {"Fn::GetAtt": _}:
                return ANY_ARN
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{\w+\.Arn\}", ANY_ARN, text)
            case dict():
                return {key: written(one) for key, one in node.items()}
            case list():
                return [written(one) for one in node]
        return node

    return len(re.sub(r"\s", "", json.dumps(written(document))))


def test_policies_have_the_size_that_their_service_takes() -> None:
    # IAM and STS quotas: 6,144 of a managed policy, 10,240 of a role's inline policies together,
    # 2,048 of a trust policy. SQS: 8,192 of a queue's. KMS: 32,768 of a key's.
    for policy in of("AWS::IAM::ManagedPolicy").values():
        assert 1_000 < characters(policy["PolicyDocument"]) <= 6_144
    for role in of("AWS::IAM::Role").values():
        assert characters(role["AssumeRolePolicyDocument"]) <= 2_048
        assert sum(characters(one["PolicyDocument"]) for one in role.get("Policies", [])) <= 10_240
        assert len(role.get("ManagedPolicyArns", [])) <= 10
    for kind in ("AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::S3::BucketPolicy"):
        for policy in of(kind).values():
            assert characters(policy["PolicyDocument"]) <= 8_192
    for key in of("AWS::KMS::Key").values():
        assert characters(key["KeyPolicy"]) <= 32_768


def test_a_queue_has_a_policy_of_its_own_with_one_resource_in_each_statement() -> None:
    # SQS Developer Guide, "Special Information for SQS Policies": each policy must cover only a
    # single queue. It refuses statements with two resources: remind101/stacker_blueprints#71.
    policies = of("AWS::SQS::QueuePolicy").values()

    for policy in policies:
        (queue,) = policy["Queues"]
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Resource"] == {"Fn::GetAtt": f"{queue['Ref']}.Arn"}
    covered = [queue["Ref"] for policy in policies for queue in policy["Queues"]]
    assert sorted(covered) == sorted(of("AWS::SQS::Queue"))


def test_a_queue_takes_messages_of_eventbridge_only_and_says_whose() -> None:
    for policy in of("AWS::SQS::QueuePolicy").values():
        allowed, denied = policy["PolicyDocument"]["Statement"]
        ((_, condition),) = allowed["Condition"].items()

        assert allowed["Effect"] == "Allow"
        assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
        assert allowed["Action"] == "sqs:SendMessage"
        assert condition.keys() == {"aws:SourceArn"}
        assert (denied["Effect"], denied["Principal"]) == ("Deny", "*")
        assert denied["Action"] == "sqs:*"


def test_the_template_has_the_size_that_cloudformation_takes() -> None:
    # CloudFormation quotas: 1 MB in S3, 500 resources, 200 parameters and outputs.
    assert len(json.dumps(TEMPLATE)) <= 1_000_000
    assert len(RESOURCES) <= 500
    assert len(TEMPLATE["Parameters"]) <= 200
    assert len(TEMPLATE["Outputs"]) <= 200


@pytest.mark.parametrize("path", PUBLISHED)
def test_templates_are_ascii(path: str) -> None:
    # GetTemplate and DescribeStacks hand out other characters as question marks, outputs too:
    # aws-cloudformation/cloudformation-coverage-roadmap#814.
    assert [
        one for one in json.dumps(expanded(path), ensure_ascii=False) if not one.isascii()
    ] == []


def test_indexes_project_as_many_attributes_as_dynamodb_takes() -> None:
    # Quotas of DynamoDB: 100 attributes by name over all indexes of a table (20 until 2021).
    (table,) = of("AWS::DynamoDB::Table").values()
    projections = [one["Projection"] for one in table["GlobalSecondaryIndexes"]]

    assert 0 < sum(len(one.get("NonKeyAttributes", ())) for one in projections) <= 20


# Regions ------------------------------------------------------------------------------------------


def test_other_partitions_are_refused_before_anything_has_a_name() -> None:
    check = RESOURCES["RegionCheck"]["Properties"]
    partitions = botocore.session.get_session().get_available_partitions()

    assert check["Value"] == {"Ref": "AWS::Partition"}
    assert [one for one in partitions if re.search(check["AllowedPattern"], one)] == ["aws"]
    assert len(partitions) > 2
    assert "RegionCheck" in all_needed("StackNameCheck")


@pytest.mark.parametrize("path", PUBLISHED)
def test_rules_compare_parameters_only(path: str) -> None:
    # Source: "Rule functions" in CloudFormation's reference: all of them validate parameter values.
    template = expanded(path)

    for name, _ in references(template.get("Rules", {})):
        assert name in template["Parameters"]


# Key passwords ------------------------------------------------------------------------------------


def test_who_reads_key_passwords_may_decrypt_them_with_the_customer_s_own_key() -> None:
    prefix = ":secret:${AWS::StackName}/key-password/*"
    readers, decrypters = set(), set()
    for name, role in of("AWS::IAM::Role").items():
        for one in statements(role.get("Policies", [])):
            if prefix in json.dumps(one["Resource"]):
                readers.add(name)
            if one["Resource"] == {"Ref": "KeyPasswordKmsKeyArn"}:
                assert one["Action"] == "kms:Decrypt"
                assert "kms:ViaService" in one["Condition"]["StringEquals"]
                decrypters.add(name)
    boundary = list(statements(of("AWS::IAM::ManagedPolicy")["FunctionsBoundary"]))

    assert readers == decrypters != set()
    assert [one["Action"] for one in boundary if "KeyPasswordKms" in str(one["Resource"])] == [
        "kms:Decrypt"
    ]


# Retention ----------------------------------------------------------------------------------------

# What nobody can make again, and what reads or protects it; and the role that other APIs of the
# account may use by now.
KEPT = {
    "ApiGatewayAccount", "ApiGatewayLogsRole",
    "CsrBucket", "CsrBucketPolicy", "EvidenceBucket", "EvidenceBucketPolicy", "EnrollmentsTable",
    "StackKey", "SigningKey",
    "KeyManagementSecret", "KeyOperationSecret", "ServiceSecret", "ClientTlsSecret",
}  # fmt: skip


def test_what_cannot_be_made_again_outlives_the_stack_but_not_a_first_deploy_that_fails() -> None:
    policies = {
        name: (one["DeletionPolicy"], one.get("UpdateReplacePolicy"))
        for name, one in RESOURCES.items()
        if "DeletionPolicy" in one and one["Type"] != "AWS::Lambda::LayerVersion"
    }

    assert policies == dict.fromkeys(KEPT, ("RetainExceptOnCreate", "Retain"))


def test_a_bucket_is_kept_with_its_policy_and_a_store_with_its_key() -> None:
    stores = ("AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::DynamoDB::Table", "AWS::KMS::Key")
    for kind in (*stores, "AWS::SecretsManager::Secret"):
        assert of(kind).keys() <= KEPT


def test_the_table_cannot_be_deleted_by_mistake() -> None:
    table = of("AWS::DynamoDB::Table")["EnrollmentsTable"]

    assert table["DeletionProtectionEnabled"] == {"Ref": "ProtectTable"}
    assert TEMPLATE["Parameters"]["ProtectTable"]["Default"] == "true"


def lifecycle(bucket: str, **parameters: str) -> Any:
    resolver = Resolver(TEMPLATE, parameters, {}, {})
    properties = {"LifecycleConfiguration": of("AWS::S3::Bucket")[bucket]["LifecycleConfiguration"]}
    return resolver.resolve(properties).get("LifecycleConfiguration")


def test_replaced_versions_go_after_a_year_and_those_of_evidence_after_their_lock() -> None:
    (csr,) = lifecycle("CsrBucket")["Rules"]
    (evidence,) = lifecycle("EvidenceBucket", EvidenceRetentionDays="30")["Rules"]

    assert csr["NoncurrentVersionExpiration"] == {"NoncurrentDays": 365}
    assert evidence["NoncurrentVersionExpiration"] == {"NoncurrentDays": "30"}
    assert lifecycle("EvidenceBucket", EvidenceRetentionDays="0") is None
    for rule in (csr, evidence):
        assert rule["Status"] == "Enabled"
        assert not {"ExpirationInDays", "ExpirationDate", "Expiration"} & rule.keys()


# Dead letters -------------------------------------------------------------------------------------


def test_the_page_has_sqs_move_messages_only_where_sqs_can() -> None:
    # Source: API_StartMessageMoveTask: "dead-letter queues of other Amazon SQS queues only".
    page = (ROOT / "docs/operations.md").read_text()
    moved = re.findall(
        r"start-message-move-task --source-arn <(\w+)Arn> --dest\S+ <(\w+)Arn>", page
    )
    redriven = {
        (queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"].partition(".")[0], name)
        for name, queue in of("AWS::SQS::Queue").items()
        if "RedrivePolicy" in queue
    }
    alarms = re.findall(r"^\| `(\w+)Alarm` .*\[redrive\]\(#dead-letters\)", page, re.MULTILINE)

    assert set(moved) == redriven
    assert {f"{one}Queue" for one in alarms} == {source for source, _ in redriven}
    for queue in {one for pair in redriven for one in pair}:
        assert TEMPLATE["Outputs"][f"{queue}Arn"]["Value"] == {"Fn::GetAtt": f"{queue}.Arn"}
    for one in of("AWS::SQS::Queue").keys() - {one for pair in redriven for one in pair}:
        assert f"`{one}`" in page.partition("## Dead letters")[2].partition("\n## ")[0]


# boto3 --------------------------------------------------------------------------------------------


def test_the_page_names_the_oldest_boto3_that_the_emulator_s_functions_run_on() -> None:
    page = " ".join((ROOT / "docs/deploy.md").read_text().split())

    assert f"The oldest that works is {OLDEST_BOTO3} " in page
    assert "boto3" not in (ROOT / "layers/dependencies/requirements.txt").read_text()


# Alarms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", of("AWS::CloudWatch::Alarm"))
def test_an_alarm_looks_back_no_longer_than_cloudwatch_does(name: str) -> None:
    # PutMetricAlarm: at most seven days together, one day with periods below an hour; a period is
    # 10, 20, 30 or a multiple of 60 seconds.
    alarm = of("AWS::CloudWatch::Alarm")[name]
    periods = {
        one["MetricStat"]["Period"] for one in alarm.get("Metrics", ()) if "MetricStat" in one
    }
    (period,) = periods or {alarm["Period"]}

    assert period % 60 == 0
    assert alarm["EvaluationPeriods"] * period <= (7 * 86_400 if period >= 3_600 else 86_400)
    assert alarm.get("DatapointsToAlarm", 1) <= alarm["EvaluationPeriods"]
