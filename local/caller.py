"""Somebody who calls the API of the embedded stack: an IAM user of its own, who signs."""

import json
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.stack import REGION, Stack

SERVICE = "execute-api"
TIMEOUT_SECONDS = 60  # the first call of many at once waits for its turn
MAY_CALL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}],
}


class Signature(requests.auth.AuthBase):
    """AWS Signature Version 4 over the bytes as they are sent."""

    def __init__(self, access_key: str, secret_key: str) -> None:
        self._signer = SigV4Auth(Credentials(access_key, secret_key), SERVICE, REGION)

    def __call__(self, call: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a call that is about to be sent."""
        # Encoded as the signature has it, not as browsers do: `:` and `!` too.
        parts = urlsplit(str(call.url))
        query = urlencode(parse_qsl(parts.query, keep_blank_values=True), quote_via=quote)
        call.url = urlunsplit(parts._replace(query=query))
        # Only what is in the request for certain: requests adds more headers on the way.
        headers = {k: v for k, v in call.headers.items() if k.lower() == "content-type"}
        signed = AWSRequest(str(call.method), str(call.url), headers, call.body)
        self._signer.add_auth(signed)
        call.headers.update(dict(signed.headers.items()))
        return call


class Caller:
    """An IAM user who may call the API, unless `may_call` is False."""

    def __init__(self, stack: Stack, name: str, *, may_call: bool = True) -> None:
        iam = stack.client("iam")
        iam.create_user(UserName=name)
        if may_call:
            iam.put_user_policy(
                UserName=name, PolicyName="call", PolicyDocument=json.dumps(MAY_CALL)
            )
        self.arn: str = iam.get_user(UserName=name)["User"]["Arn"]
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self.access_key: str = key["AccessKeyId"]
        self.environment = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        self.signature = Signature(key["AccessKeyId"], key["SecretAccessKey"])
        self._url = stack.api_url

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        auth: requests.auth.AuthBase | None = None,
    ) -> requests.Response:
        """Call the API: `body` as JSON, text as it is; signed by this user unless by `auth`."""
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        kind = {} if text is None else {"Content-Type": "application/json"}
        return requests.request(
            method,
            f"{self._url}{path}",
            data=None if text is None else text.encode(),
            headers={**kind, **(headers or {})},
            auth=auth or self.signature,
            timeout=TIMEOUT_SECONDS,
        )
