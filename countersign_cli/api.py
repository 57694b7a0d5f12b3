"""Signed calls to the HTTP API, and a message for every way in which a call can fail.

No call is repeated here: people run the command again, and a watch polls again by itself.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from countersign.request.intake import ENROLLMENT_ID
from countersign_cli.account import SIGN_IN, Account
from countersign_cli.exits import CommandError, Exit

SERVICE = "execute-api"
REGION_IN_HOST = re.compile(r"\.execute-api\.([a-z0-9-]+)\.")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
TIMEOUT_SECONDS = (5, 35)  # connect; read: above API Gateway's own 29 s
PEM, DER = "application/x-pem-file", "application/pkcs10"
CERTIFICATE_DER = "application/pkix-cert"
NOT_SIGNED = ("user-agent", "accept", "accept-encoding", "connection", "content-length")
# API Gateway's error types and response types for credentials that it does not accept.
NOT_ACCEPTED = (
    "InvalidSignatureException",
    "ExpiredTokenException",
    "UnrecognizedClientException",
    "IncompleteSignatureException",
    "INVALID_SIGNATURE",
    "EXPIRED_TOKEN",
)
AGAIN_LATER = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)

type Json = dict[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """Where the API is.

    Args:
        url: its base URL, without a slash at the end.
        region: the region for which calls are signed.
        through: where to connect instead of the URL's host. The call still names that host.
        ca_bundle: the CAs to trust instead of the usual ones.
    """

    url: str
    region: str
    through: str | None = None
    ca_bundle: str | None = None


def find(account: Account, *, url: str | None, stack: str) -> Endpoint:
    """The API at this URL, else the one in the stack's outputs.

    Raises:
        CommandError: the URL is not an https URL, or the stack's outputs have no URL.
    """
    given = (url or account.api_url(stack)).rstrip("/")
    parts = urlsplit(given)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise CommandError(
            f"{given} is no https:// URL",
            action="Give the API's URL as the stack's output ApiUrl has it.",
            code=Exit.USAGE,
        )
    named = REGION_IN_HOST.search(f"{parts.hostname}.")
    # If all AWS calls go to another endpoint (an emulator), the stack's API is there too.
    through = None if url else os.environ.get("AWS_ENDPOINT_URL")
    region = named[1] if named else account.region
    return Endpoint(given, region, through, account.ca_bundle)


class _SigV4(requests.auth.AuthBase):
    """Signs the bytes as they are sent. Being an `auth`, it also keeps .netrc out of the call."""

    def __init__(self, credentials: Credentials, region: str, through: str | None) -> None:
        self._signer = SigV4Auth(credentials, SERVICE, region)
        self._through = through

    def __call__(self, call: requests.PreparedRequest) -> requests.PreparedRequest:
        url = str(call.url)
        headers = {k: v for k, v in call.headers.items() if k.lower() not in NOT_SIGNED}
        signed = AWSRequest(method=call.method, url=url, data=call.body, headers=headers)
        self._signer.add_auth(signed)
        call.headers.update(dict(signed.headers.items()))
        if self._through:
            parts = urlsplit(url)
            call.headers["Host"] = parts.netloc
            call.url = self._through.rstrip("/") + url.removeprefix(
                f"{parts.scheme}://{parts.netloc}"
            )
        return call


class Api:
    """The API's calls, one method each.

    Every method raises CommandError. If the API refuses, it has the API's message (REFUSED). If the
    credentials do not suffice (ACCESS) or nothing answers (NETWORK), it says what to do.

    Args:
        endpoint: where the API is.
        credentials: called for every call, because temporary credentials expire.
    """

    def __init__(self, endpoint: Endpoint, credentials: Callable[[], Credentials]) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._session = requests.Session()

    def submit(self, request: Json, idempotency_key: str | None) -> Json:
        """Request an enrollment. The same key (or enrollmentId) means the same enrollment."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._json("POST", "/enrollments", body=request, headers=headers)

    def status(self, enrollment_id: str) -> Json:
        """The state of an enrollment."""
        return self._json("GET", self._path(enrollment_id))

    def csr(self, enrollment_id: str, *, der: bool) -> bytes:
        """The CSR of an issued enrollment, as PEM or DER."""
        path, accept = f"{self._path(enrollment_id)}/csr", {"Accept": DER if der else PEM}
        return self._call("GET", path, headers=accept).content

    def certificate(self, enrollment_id: str, *, der: bool) -> bytes:
        """The certificate of an issued enrollment: PEM with the CA's after it, or its DER."""
        accept = {"Accept": CERTIFICATE_DER if der else PEM}
        return self._call("GET", f"{self._path(enrollment_id)}/certificate", headers=accept).content

    def cancel(self, enrollment_id: str) -> Json:
        """Cancel an enrollment that has no outcome yet. Cancelling again is not an error."""
        return self._json("DELETE", self._path(enrollment_id))

    def resume(self, enrollment_id: str) -> Json:
        """Resume an enrollment that failed without a decision. Nobody is asked again."""
        return self._json("POST", f"{self._path(enrollment_id)}/resume")

    def enrollments(self, filters: dict[str, str]) -> Iterator[Json]:
        """All matching enrollments, newest first. Further pages are fetched when needed."""
        wanted = dict(filters)
        while True:
            page = self._json("GET", "/enrollments", query=wanted)
            yield from page["enrollments"]
            if not page.get("next"):
                return
            wanted["next"] = page["next"]

    def _path(self, enrollment_id: str) -> str:
        if not ENROLLMENT_ID.fullmatch(enrollment_id):
            raise CommandError(
                f"{enrollment_id!r} is no enrollment id",
                action="An id has 1 to 64 of A-Z a-z 0-9 _ -; see: countersign list",
                code=Exit.USAGE,
            )
        return f"/enrollments/{enrollment_id}"

    def _json(self, method: str, path: str, **more: Any) -> Json:
        answer = self._call(method, path, **more)
        try:
            document = answer.json()
        except requests.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise self._not_ours(answer)
        return document

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        try:
            answer = self._session.request(
                method,
                f"{self._endpoint.url}{path}",
                json=body,
                params=query,
                headers=headers,
                auth=_SigV4(self._credentials(), self._endpoint.region, self._endpoint.through),
                timeout=TIMEOUT_SECONDS,
                # Passed with the call: a session's own would lose against REQUESTS_CA_BUNDLE.
                verify=self._endpoint.ca_bundle,
                allow_redirects=False,  # a signature is valid for one host only
            )
        except requests.exceptions.SSLError as error:
            raise CommandError(
                f"{self._endpoint.url} shows no certificate that can be trusted: {_cause(error)}",
                action="Have the proxy's CA in AWS_CA_BUNDLE, or correct --url.",
                code=Exit.NETWORK,
            ) from None
        except requests.Timeout:
            raise CommandError(
                f"{self._endpoint.url} does not answer in time",
                action="Run it again; see the network and, for a private API, the VPC endpoint.",
                code=Exit.NETWORK,
            ) from None
        except requests.RequestException as error:
            raise CommandError(
                f"{self._endpoint.url} cannot be reached: {_cause(error)}",
                action="Check the network, --url and --region, and run it again.",
                code=Exit.NETWORK,
            ) from None
        except OSError as error:  # requests' own word on REQUESTS_CA_BUNDLE
            raise CommandError(
                f"the CAs to trust cannot be read: {error}",
                action="Correct REQUESTS_CA_BUNDLE, or set AWS_CA_BUNDLE.",
                code=Exit.USAGE,
            ) from None
        if not answer.ok or answer.is_redirect:
            raise self._refused(answer)
        return answer

    def _refused(self, answer: requests.Response) -> CommandError:
        try:
            told = answer.json()
        except requests.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            told = {}
        if "problem" in answer.headers.get("Content-Type", "") and "status" in told:
            return _problem(told)
        # From here on the answer is from API Gateway: as the template defines it, or its default.
        message = str(told.get("detail") or told.get("message") or answer.reason)
        if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            name = answer.headers.get("x-amzn-ErrorType", "").partition(":")[0]
            return self._forbidden(name or str(told.get("title")), message)
        if answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return CommandError(
                "the request is larger than the API takes",
                action="Make it smaller: name approvers by public key, not by certificate.",
                code=Exit.REFUSED,
            )
        if answer.status_code in AGAIN_LATER:
            return CommandError(
                f"the API answers {answer.status_code}: {message}",
                action="Run it again in a minute; if it stays, look at the API function's log.",
                code=Exit.NETWORK,
            )
        return self._not_ours(answer)

    def _forbidden(self, name: str, message: str) -> CommandError:
        """Source: AWS, "How do I troubleshoot HTTP 403 errors from API Gateway?"."""
        if name in ("MissingAuthenticationTokenException", "MISSING_AUTHENTICATION_TOKEN"):
            # The call is always signed, so API Gateway does not know the path.
            return CommandError(
                f"there is no such path at {self._endpoint.url}",
                action="Give the URL as the stack's output ApiUrl has it, stage included.",
                code=Exit.ACCESS,
            )
        if "Signature expired" in message or "Signature not yet current" in message:
            return CommandError(
                f"this machine's clock is off: {message}",
                action="Set the clock (NTP) and run it again.",
                code=Exit.ACCESS,
            )
        if "scoped to a valid region" in message:
            return CommandError(
                f"the API is not in {self._endpoint.region}",
                action="Give --region with the region of the API.",
                code=Exit.ACCESS,
            )
        if name in NOT_ACCEPTED or "security token" in message:
            return CommandError(
                f"the API does not accept the credentials: {message}",
                action=SIGN_IN,
                code=Exit.ACCESS,
            )
        return CommandError(
            f"not allowed: {message}",
            action="Have execute-api:Invoke on this API allowed to you; its resource policy may"
            " exclude accounts, and a private API everything outside of its VPC endpoints.",
            code=Exit.ACCESS,
        )

    def _not_ours(self, answer: requests.Response) -> CommandError:
        kind = answer.headers.get("Content-Type", "nothing").split(";")[0]
        return CommandError(
            f"{self._endpoint.url} answers {answer.status_code} with {kind}, not as Countersign's"
            " API does",
            action="Give the URL as the stack's output ApiUrl has it, stage included.",
            code=Exit.ACCESS,
        )


def _problem(told: Json) -> CommandError:
    """The error with the API's own message."""
    message = str(told.get("detail") or told.get("title"))
    for one in told.get("errors") or ():
        if one["detail"] not in message:
            message += f"; {one['field']}: {one['detail']}"
    ours = told["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR
    fallback = "Run it again in a minute." if ours else "Correct it and run it again."
    return CommandError(
        message,
        action=str(told.get("action") or fallback),
        code=Exit.NETWORK if ours else Exit.REFUSED,
        problem=told,
    )


def _cause(error: BaseException) -> str:
    """The innermost reason inside the errors of urllib3 and requests."""
    while True:
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
