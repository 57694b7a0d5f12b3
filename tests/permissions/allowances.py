"""What policies allow, statement by statement: to find what is allowed and never used."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.permissions.account import Account, Request, listed

type Json = dict[str, Any]


@dataclass(frozen=True)
class Allowance:
    """One action on one resource (patterns both), by a policy of the template.

    Args:
        policy: whose it is: a role, the boundary, or a resource.
        who: whom it concerns; empty: every function (the boundary).
        action: a pattern.
        resource: a pattern.
    """

    policy: str
    who: str
    action: str
    resource: str

    def __str__(self) -> str:
        return f"{self.policy}: {self.action} {self.resource}"

    def covers(self, request: Request) -> bool:
        """Whether this is what allows it, conditions aside."""
        is_theirs = request.who == self.who if self.who else request.who.endswith("FunctionRole")
        return (
            is_theirs
            and _matches(self.action.lower(), request.action.lower())
            and _matches(self.resource, request.resource)
        )


def of_template(account: Account) -> Iterator[Allowance]:
    """All that the template's own policies allow to roles and services of this account.

    Left out are accounts as principals: a key lets IAM decide, and a bus lets other accounts ask.
    """
    for role in account.of("AWS::IAM::Role"):
        for policy in account.own_policies(role).values():
            yield from of_statements(role, role, policy["Statement"])
    for name, one in account.of("AWS::IAM::ManagedPolicy").items():
        yield from of_statements(name, "", one["PolicyDocument"]["Statement"])
    for name, policy in account.resource_policies.items():
        for statement in policy["Statement"]:
            if statement["Effect"] == "Allow" and "Service" in statement["Principal"]:
                arn = account.arn(name)
                resources = [arn if r == "*" else r for r in listed(statement.get("Resource", arn))]
                for service in listed(statement["Principal"]["Service"]):
                    yield from of_statements(
                        name, service, [{**statement, "Resource": resources}], arn
                    )


def of_statements(
    policy: str, who: str, statements: list[Json], arn: str = ""
) -> Iterator[Allowance]:
    """What statements allow; with an ARN only that of what has it.

    A queue's policy names the queues that share it.
    """
    for one in statements:
        if one["Effect"] == "Allow":
            for action in listed(one["Action"]):
                for resource in listed(one["Resource"]):
                    if not arn or arn in resource:
                        yield Allowance(policy, who, action, resource)


def _matches(pattern: str, text: str) -> bool:
    escaped = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(escaped, text, re.DOTALL) is not None
