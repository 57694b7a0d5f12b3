"""Every action, condition key and resource of every policy that we publish exists."""

import json
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from local.template import ROOT, read
from tests.expanded import UV
from tests.permissions.account import Account

type Json = dict[str, Any]

# policy, issue, a part of its detail: why it is right as it stands.
WAIVERS = {
    ("*Key", "RESOURCE_STAR", ""): "in a key's policy, * is the key",
    ("StackKey", "MISMATCHED_TYPE", "ArnLike"): "an encryption context is text; AWS's page says so",
    ("StackKey", "UNKNOWN_CONDITION_FOR_ACTION", "kms:Describe"): "as AWS's page for logs has it",
    ("*", "RESOURCE_MISMATCH", "express:"): "ours is a standard state machine",
    ("deployer-policy.json", "INVALID_ARN", "Account"): "SAM's transform is AWS's own",
    (
        "*",
        "RESOURCE_MISMATCH",
        "SendTaskSuccess",
    ): "IAM asks for the state machine; see requested.py",
    (
        "deployer-policy.json",
        "RESOURCE_MISMATCH",
        "",
    ): "what a wildcard reaches beyond what is needed",
    ("FunctionsBoundary", "RESOURCE_STAR", "ec2:"): "Lambda makes them before they have names",
}


def policies() -> dict[str, Json]:
    """Those of the expanded template, and of the examples in docs."""
    account = Account()
    found = dict(account.resource_policies)
    for role in account.of("AWS::IAM::Role"):
        # A trust policy leaves out its role, and parliament takes it for an identity's.
        statements = [{**one, "Resource": account.arn(role)} for one in found[role]["Statement"]]
        found[role] = {**found[role], "Statement": statements}
        for name, policy in account.own_policies(role).items():
            found[f"{role}/{name}"] = policy
    for name, one in account.of("AWS::IAM::ManagedPolicy").items():
        found[name] = one["PolicyDocument"]
    for path in sorted((ROOT / "docs").glob("*.json")):
        content = json.loads(filled_in(path.read_text()))
        if "Statement" in content:
            found[path.name] = content
    for path in sorted((ROOT / "docs").glob("*.yaml")):
        for number, policy in enumerate(inline(account.imported(read(f"docs/{path.name}")))):
            found[f"{path.name}/{number}"] = policy
    return found


def filled_in(text: str) -> str:
    """A page's example with what its reader puts in."""
    for name, value in (("REGION", "eu-central-1"), ("ACCOUNT", "123456789012"), ("STACK", "pki")):
        text = text.replace(name, value)
    return text


def inline(value: Any) -> list[Json]:
    """All policy documents inside a value."""
    if isinstance(value, list):
        return [found for one in value for found in inline(one)]
    if isinstance(value, dict):
        here = [value] if "Statement" in value else []
        # A trust policy leaves out its role, and says nothing of resources.
        parts = [one for name, one in value.items() if name != "AssumeRolePolicyDocument"]
        return here + [found for one in parts for found in inline(one)]
    return []


def findings(given: dict[str, Json]) -> list[tuple[str, str, str]]:
    done = subprocess.run(
        [UV, "run", "--quiet", "--frozen", "--script", Path(__file__).with_name("names.py")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    return [(name, issue, detail) for name, issue, detail in json.loads(done.stdout)]


def waived(finding: tuple[str, str, str]) -> list[tuple[str, str, str]]:
    name, issue, detail = finding
    return [
        one for one in WAIVERS if fnmatch(name, one[0]) and issue == one[1] and one[2] in detail
    ]


def test_every_name_in_every_policy_exists() -> None:
    given = policies()
    found = findings(given)

    assert "nested.yaml/0" in given
    assert [one for one in found if not waived(one)] == []
    assert {waiver for one in found for waiver in waived(one)} == set(WAIVERS)


def test_names_that_do_not_exist_are_found() -> None:
    statement = {"Effect": "Allow", "Action": "kms:ReEncryptAll", "Resource": "*"}
    condition = {"StringEquals": {"events:origin": "x"}}
    bus = {"Effect": "Allow", "Action": "events:PutEvents", "Condition": condition}
    bus["Resource"] = "arn:aws:events:eu-central-1:123456789012:event-bus/x"
    given = {
        name: {"Version": "2012-10-17", "Statement": [one]}
        for name, one in (("action", statement), ("condition", bus))
    }

    assert {(name, issue) for name, issue, _ in findings(given)} == {
        ("action", "UNKNOWN_ACTION"),
        ("condition", "UNKNOWN_CONDITION_FOR_ACTION"),
    }
