"""The template's resources, created in moto, and the functions' environment."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from moto.dynamodb.models import dynamodb_backends
from moto.events.models import EventPattern
from moto.s3.models import s3_backends
from moto.sqs.models import sqs_backends
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from local import template
from local.engine.network import client
from local.engine.surroundings import ACCOUNT, NAME, REGION

ROOT = Path(__file__).parents[2]
STATES_ROLE = f"arn:aws:iam::{ACCOUNT}:role/states"
PSEUDO = {
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::StackName": NAME,
    "AWS::URLSuffix": "amazonaws.com",
}
LISTENER = "Listener"

type Json = dict[str, Any]


class Resources:
    """The resources of a template, created with these values for its parameters.

    Attributes:
        outputs: the stack's outputs.
        queues: URL by logical id, including the listener's queue.
        sources: the functions that queues feed, by the queue's logical id.
    """

    def __init__(self, parameters: dict[str, str]) -> None:
        read = template.read()
        self._template, self._parameters = read, parameters
        self._resources: dict[str, Json] = read["Resources"]
        # Resources that are not created here, mainly policies, are known by a name of their own.
        self._known: dict[str, dict[str, str]] = {
            name: {"Ref": name, "Arn": f"arn:aws:x:{name}", "Id": name, "Name": name}
            for name in self._resources
        }
        self._resolver = template.Resolver(read, parameters, PSEUDO, self._known)
        self._deployed = self._resolver  # with the parameters of `configure`
        self.queues: dict[str, str] = {}
        self._make_what_others_name()
        self._make_redrives()
        self._make_machine()
        self._make_rules()
        self._make_listener()
        self.sources = {
            one["EventSourceArn"].rpartition(":")[2]: one["FunctionName"]
            for one in map(self._resolver.resolve, self._of("AWS::Lambda::EventSourceMapping"))
        }
        self.outputs = {
            name: self._resolver.resolve(one["Value"])
            for name, one in read["Outputs"].items()
            if "Condition" not in one or self._resolver.holds(one["Condition"])
        }

    def empty(self) -> None:
        """Empty the stores and queues, and forget the executions."""
        for table in dynamodb_backends[ACCOUNT][REGION].tables.values():
            table.items.clear()
        for bucket in s3_backends[ACCOUNT]["aws"].buckets.values():
            bucket.keys.clear()
        for queue in sqs_backends[ACCOUNT][REGION].queues.values():
            queue._messages.clear()
        for machine in stepfunctions_parser_backends[ACCOUNT][REGION].state_machines:
            machine.executions.clear()

    def name_of(self, reference: str) -> str:
        """The logical id of the resource with this name or ARN.

        Raises:
            KeyError: there is none.
        """
        found = {value: name for name, one in self._known.items() for value in one.values()}
        return found[reference]

    def has_message(self, queue: str) -> bool:
        """Whether a message can be received now. SQS would be slower, and this is called often."""
        return bool(sqs_backends[ACCOUNT][REGION].queues[queue].messages)

    def timeout(self, function: str) -> int:
        """Seconds after which Lambda kills this function."""
        own = self._resources[f"{function}Function"]["Properties"].get("Timeout")
        return int(own or template.read()["Globals"]["Function"]["Timeout"])

    def configure(self, **parameters: str) -> Callable[[], None]:
        """Put the environments of all functions together into this process's environment.

        Args:
            parameters: of the template, if they differ from those of the stack.

        Returns:
            A function that removes them again.
        """
        given = {**self._parameters, **parameters}
        resolver = template.Resolver(self._template, given, PSEUDO, self._known)
        deployed, self._deployed = self._deployed, resolver
        values = {
            "STACK_NAME": NAME,
            "POWERTOOLS_SERVICE_NAME": NAME,
            "POWERTOOLS_TRACE_DISABLED": "true",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
        }
        for function in self._of("AWS::Serverless::Function"):
            found = function.get("Environment", {}).get("Variables", {})
            values |= {
                name: str(value)
                for name, value in resolver.resolve(found).items()
                if value != "" or name not in values
            }
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)

        def undo() -> None:
            self._deployed = deployed
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

        return undo

    def listeners(self, event: Json) -> Iterator[str]:
        """The functions that rules of the bus invoke with this event, as the stack is deployed."""
        functions = {
            one["Arn"]: name.removesuffix("Function")
            for name, one in self._known.items()
            if self._resources[name]["Type"] == "AWS::Serverless::Function"
        }
        for resource in self._resources.values():
            if resource["Type"] != "AWS::Events::Rule":
                continue
            if "Condition" in resource and not self._deployed.holds(resource["Condition"]):
                continue
            rule = self._deployed.resolve(resource["Properties"])
            pattern: Any = EventPattern.load(json.dumps(rule["EventPattern"]))
            if rule.get("EventBusName") == NAME and pattern.matches_event(event):
                yield from (
                    functions[one["Arn"]] for one in rule["Targets"] if one["Arn"] in functions
                )

    def _of(self, kind: str) -> list[Json]:
        return [one["Properties"] for one in self._resources.values() if one["Type"] == kind]

    def _make_what_others_name(self) -> None:
        make: dict[str, Callable[[str, Json], dict[str, str]]] = {
            "AWS::DynamoDB::Table": _table,
            "AWS::S3::Bucket": _bucket,
            "AWS::SQS::Queue": self._queue,
            "AWS::SNS::Topic": _topic,
            "AWS::Events::EventBus": _bus,
            "AWS::KMS::Key": _key,
            "AWS::SecretsManager::Secret": _secret,
            "AWS::Serverless::Function": _function,
            "AWS::Serverless::StateMachine": _machine,
        }
        for name, resource in self._resources.items():
            if resource["Type"] in make:
                made = make[resource["Type"]](name, resource.get("Properties", {}))
                self._known[name] |= made

    def _queue(self, name: str, properties: Json) -> dict[str, str]:
        visibility = properties.get("VisibilityTimeout")
        attributes = {"VisibilityTimeout": str(visibility)} if visibility else {}
        url = client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.queues[name] = url
        return {"Ref": url, "Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"}

    def _make_redrives(self) -> None:
        """Set where a message goes after too many failed receives."""
        for name, url in self.queues.items():
            properties = self._resources[name].get("Properties", {})
            if "RedrivePolicy" in properties:
                policy = json.dumps(self._resolver.resolve(properties["RedrivePolicy"]))
                client("sqs").set_queue_attributes(
                    QueueUrl=url, Attributes={"RedrivePolicy": policy}
                )

    def _make_machine(self) -> None:
        properties = self._resources["EnrollmentStateMachine"]["Properties"]
        text = (ROOT / properties["DefinitionUri"]).read_text()
        substitutions = self._resolver.resolve(properties["DefinitionSubstitutions"])
        for name, value in substitutions.items():
            text = text.replace(f"${{{name}}}", value)
        client("stepfunctions").create_state_machine(
            name=self._known["EnrollmentStateMachine"]["Name"],
            definition=text,
            roleArn=STATES_ROLE,
        )

    def _make_rules(self) -> None:
        """Create the rules with a queue as target. For functions see `listeners`."""
        arns = {self._known[name]["Arn"] for name in self.queues}
        for name, resource in self._resources.items():
            if resource["Type"] != "AWS::Events::Rule":
                continue
            rule = self._resolver.resolve(resource["Properties"])
            targets = [one for one in rule["Targets"] if one["Arn"] in arns]
            if targets:
                _rule(name, rule.get("EventBusName", "default"), rule["EventPattern"], targets)

    def _make_listener(self) -> None:
        """Create a queue that receives all events of the bus, like a target of the user's own."""
        made = self._queue(LISTENER, {})
        _rule(LISTENER, NAME, {"source": ["countersign"]}, [{"Id": "queue", "Arn": made["Arn"]}])


def _table(name: str, properties: Json) -> dict[str, str]:
    wanted = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    client("dynamodb").create_table(TableName=name, **{one: properties[one] for one in wanted})
    return {"Ref": name}


def _bucket(name: str, _: Json) -> dict[str, str]:
    s3, bucket = client("s3"), name.lower()
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return {"Ref": bucket}


def _bus(_: str, __: Json) -> dict[str, str]:
    client("events").create_event_bus(Name=NAME)
    return {"Ref": NAME}


def _key(_: str, properties: Json) -> dict[str, str]:
    wanted = {one: properties[one] for one in ("KeySpec", "KeyUsage") if one in properties}
    made = client("kms").create_key(**wanted)["KeyMetadata"]
    return {"Ref": made["KeyId"], "Arn": made["Arn"]}


def _secret(name: str, _: Json) -> dict[str, str]:
    arn = client("secretsmanager").create_secret(Name=name, SecretString="{}")["ARN"]
    return {"Ref": arn, "Id": arn}


def _function(name: str, _: Json) -> dict[str, str]:
    short = name.removesuffix("Function")
    return {"Ref": short, "Arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{short}"}


def _topic(name: str, _: Json) -> dict[str, str]:
    return {"Ref": client("sns").create_topic(Name=name)["TopicArn"]}


def _machine(_: str, __: Json) -> dict[str, str]:
    name = f"{NAME}-enrollment"
    return {"Ref": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{name}", "Name": name}


def _rule(name: str, bus: str, pattern: Json, targets: list[Json]) -> None:
    events = client("events")
    events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern))
    wanted = [{"Id": one["Id"], "Arn": one["Arn"]} for one in targets]
    events.put_targets(Rule=name, EventBusName=bus, Targets=wanted)
