"""The caller's AWS account: the credentials, the region, and the URL of the stack's API."""

import os
from pathlib import Path
from typing import Any

import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.credentials import Credentials

from countersign_cli.exits import CommandError, Exit

OUTPUT = "ApiUrl"
CONFIG = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 3})

SIGN_IN = "Sign in as for the aws command line (aws sso login, …), or give another --profile."
# AWS error codes for credentials that are unknown, expired, or cannot be checked.
CREDENTIALS_CODES = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "AuthFailure",
    "OptInRequired",
}


class Account:
    """An AWS session, set up as by the aws command line.

    Args:
        profile: of the AWS configuration files; None: the one of the environment.
        region: None: the one of environment and profile.
    """

    def __init__(self, profile: str | None = None, region: str | None = None) -> None:
        self._profile = profile
        self._session = botocore.session.Session(profile=profile)
        # botocore reads only AWS_DEFAULT_REGION. For the aws command line AWS_REGION has
        # precedence.
        self._region = region or os.environ.get("AWS_REGION")

    @property
    def region(self) -> str:
        """The region.

        Raises:
            CommandError: none is configured.
        """
        region = self._region or self._ask(lambda: self._session.get_config_variable("region"))
        if not region:
            raise CommandError(
                "no AWS region is configured",
                action="Give --region REGION, or set AWS_REGION.",
                code=Exit.ACCESS,
            )
        return str(region)

    @property
    def ca_bundle(self) -> str | None:
        """The file of CAs that AWS_CA_BUNDLE, else the profile's `ca_bundle`, names.

        Raises:
            CommandError: the configuration cannot be read, or there is no such file.
        """
        file = self._ask(lambda: self._session.get_config_variable("ca_bundle"))
        if file and not Path(file).expanduser().is_file():
            raise CommandError(
                f"there is no file {file}, where the CAs should be",
                action="Correct AWS_CA_BUNDLE, or ca_bundle in the AWS configuration.",
                code=Exit.USAGE,
            )
        return str(Path(file).expanduser()) if file else None

    def credentials(self) -> Credentials:
        """The current credentials. Temporary ones are renewed while a watch goes on.

        Raises:
            CommandError: there are none, or they cannot be renewed.
        """
        found = self._ask(self._session.get_credentials)
        if found is None:
            raise CommandError("no AWS credentials found", action=SIGN_IN, code=Exit.ACCESS)
        frozen = self._ask(found.get_frozen_credentials)
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)

    def api_url(self, stack: str) -> str:
        """The URL of the API, from the outputs of this CloudFormation stack.

        Raises:
            CommandError: the stack does not exist here, is not a Countersign stack, or may not be
                read.
        """
        region = self.region
        self.credentials()
        try:
            client: Any = self._session.create_client(
                "cloudformation", region_name=region, config=CONFIG
            )
            found = client.describe_stacks(StackName=stack)["Stacks"][0]
        except boto.ClientError as error:
            raise _refused(error, stack, region) from None
        except boto.BotoCoreError as error:
            raise self._trouble(error) from None
        outputs = {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])}
        if OUTPUT not in outputs:
            raise CommandError(
                f"stack {stack} in {region} has no output {OUTPUT}",
                action="Name Countersign's stack with --stack, deploy it anew, or give --url.",
                code=Exit.ACCESS,
            )
        return str(outputs[OUTPUT])

    def _ask(self, question: Any) -> Any:
        try:
            return question()
        except boto.BotoCoreError as error:
            raise self._trouble(error) from None

    def _trouble(self, error: boto.BotoCoreError) -> CommandError:
        match error:
            case boto.ProfileNotFound():
                return CommandError(
                    f"profile {self._profile or os.environ.get('AWS_PROFILE')} is not configured",
                    action="See which there are: aws configure list-profiles",
                    code=Exit.ACCESS,
                )
            case (
                boto.UnauthorizedSSOTokenError()
                | boto.SSOTokenLoadError()
                | boto.TokenRetrievalError()
            ):
                named = f" --profile {self._profile}" if self._profile else ""
                return CommandError(
                    "the SSO session has ended",
                    action=f"Sign in again: aws sso login{named}",
                    code=Exit.ACCESS,
                )
            case boto.ConnectionError() | boto.HTTPClientError():
                return CommandError(
                    f"AWS cannot be reached: {error}",
                    action="Check the network, proxy and --region, and run it again.",
                    code=Exit.NETWORK,
                )
            case _:
                return CommandError(
                    f"the AWS configuration does not work: {error}",
                    action=SIGN_IN,
                    code=Exit.ACCESS,
                )


def _refused(error: boto.ClientError, stack: str, region: str) -> CommandError:
    told = error.response.get("Error", {})
    code, message = told.get("Code", ""), told.get("Message", "")
    if code == "ValidationError" and "does not exist" in message:
        return CommandError(
            f"there is no stack {stack} in {region} of this account",
            action="Name it with --stack, look in another --region or --profile, or give --url.",
            code=Exit.ACCESS,
        )
    if code in CREDENTIALS_CODES:
        return CommandError(
            f"AWS does not accept the credentials: {message}", action=SIGN_IN, code=Exit.ACCESS
        )
    if code in ("AccessDenied", "AccessDeniedException"):
        return CommandError(
            f"these credentials may not read stack {stack}: {message}",
            action="Give the API's URL with --url, or have cloudformation:DescribeStacks allowed.",
            code=Exit.ACCESS,
        )
    return CommandError(
        f"CloudFormation refuses to show stack {stack}: {code}: {message}",
        action="Run it again later, or give the API's URL with --url.",
        code=Exit.NETWORK if code.startswith(("Throttl", "Internal", "Service")) else Exit.ACCESS,
    )
