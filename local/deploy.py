"""What `make deploy` says before it begins: which stack, in which account and region, as whom.

Prints the region on standard output, for `sam deploy --region`: SAM by itself reads
AWS_DEFAULT_REGION and no AWS_REGION, which the command line `aws` and most SDKs prefer.
"""

import os
import re
import sys
import tomllib
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local.template import ROOT, Resolver, read


class NotDeployableError(Exception):
    """The deploy cannot begin; the message says what to do."""


def settings() -> dict[str, Any]:
    """What samconfig.toml says to `sam deploy`."""
    tables = tomllib.loads((ROOT / "samconfig.toml").read_text())["default"]
    return {
        **tables.get("global", {}).get("parameters", {}),
        **tables.get("deploy", {}).get("parameters", {}),
    }


def target(given: dict[str, Any]) -> dict[str, str]:
    """The stack, account and region of a deploy, and who deploys.

    Args:
        given: as `settings` returns it.

    Raises:
        NotDeployableError: no region or credentials, or a name that the template refuses.
    """
    stack = str(given["stack_name"])
    check = read()["Resources"]["StackNameCheck"]["Properties"]
    value = Resolver(read(), {}, {"AWS::StackName": stack}, {}).resolve(check["Value"])
    if not re.fullmatch(check["AllowedPattern"], value):
        raise NotDeployableError(f"{check['Description']} It is {stack!r}.")
    try:
        session = boto3.Session(profile_name=given.get("profile"))
        region = (
            os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or given.get("region")
            or session.region_name
        )
        if not region:
            raise NotDeployableError("no region: AWS_REGION=<region> make deploy")
        caller = session.client("sts", region_name=region).get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        raise NotDeployableError(f"no usable AWS credentials: {error}") from error
    return {"stack": stack, "account": caller["Account"], "region": region, "as": caller["Arn"]}


def main() -> int:
    """Say what is deployed where, or why nothing is; return 1 then."""
    try:
        found = target(settings())
    except NotDeployableError as error:
        print(error, file=sys.stderr)
        return 1
    for name, value in found.items():
        print(f"{name:8} {value}", file=sys.stderr)
    print(found["region"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
