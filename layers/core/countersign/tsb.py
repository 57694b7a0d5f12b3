"""The Transaction Security Broker's REST API, as far as an enrollment needs it.

The only importer of requests. The client never sleeps and never repeats a call, with one exception:
HTTP 401 with errorCode 631 proves that nothing was executed, so the role's next API key is tried.
Every other failure is sorted by one question: may TSB have executed the call?
Source: Securosys documentation and client code, TSB 1.17 to 2.5.
"""

import base64
import json
import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self
from urllib.parse import quote, urlsplit

import certifi
import requests
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3 import exceptions as urllib3_errors
from urllib3.connection import HTTPSConnection

from countersign.errors import (
    CountersignError,
    TsbCredentialsError,
    TsbNoAnswerError,
    TsbRefusedError,
    TsbUnavailableError,
)

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 20  # below the functions' Timeout of 30 s: we speak before Lambda kills us
MAX_TSB_TEXT = 500  # characters of TSB's own message that we repeat
# So long a rejected API key is not shown again: a TSB that refuses its own keys for a moment is no
# reason to do without them until the worker ends.
REJECTED_SECONDS = 300

TECHNICAL = (1, 2)  # "technical", "connectivity" between TSB and HSM: maybe executed
MISSING_ACCESS_TOKEN, MISSING_API_KEY = 406, 416
CLIENT_SUBSCRIPTION, ENDPOINT_NOT_LICENSED = 450, 451
INVALID_ACCESS_TOKEN, INSUFFICIENT_LOGIN = 617, 618
INVALID_API_KEY = 631
CREDENTIAL_CODES = (
    MISSING_ACCESS_TOKEN,
    MISSING_API_KEY,
    CLIENT_SUBSCRIPTION,
    ENDPOINT_NOT_LICENSED,
    INVALID_ACCESS_TOKEN,
    INSUFFICIENT_LOGIN,
    INVALID_API_KEY,
)

UNAUTHORIZED, FORBIDDEN, TOO_MANY_REQUESTS = 401, 403, 429
SERVER_ERROR, BAD_GATEWAY, UNAVAILABLE, GATEWAY_TIMEOUT = 500, 502, 503, 504
OK_BELOW = 300
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Role(StrEnum):
    """TSB's API-key roles, as far as we use them."""

    KEY_MANAGEMENT = "keyManagement"
    KEY_OPERATION = "keyOperation"
    SERVICE = "service"


@dataclass(frozen=True)
class Credentials:
    """What a role shows to TSB. Several API keys overlap while they are rolled over."""

    api_keys: tuple[str, ...] = field(default=(), repr=False)
    bearer_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Tls:
    """Whom we trust and who we are, in PEM. Without `ca_bundle`: the public CAs."""

    ca_bundle: str | None = None
    certificate: str | None = None
    private_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Exchange:
    """One call as it went, for whoever measures. No label, no id, no credential.

    Args:
        endpoint: method and path, an id in it as `{id}`.
        role: whose credentials were shown.
        milliseconds: from the first byte out to the last byte in.
        http_status: of the answer; None where there was none.
        error: the class name of what the caller is told; None for a success.
        error_code: TSB's.
        rejected_key: TSB no longer accepts the API key that was shown (401 with 631).
    """

    endpoint: str
    role: Role
    milliseconds: float
    http_status: int | None = None
    error: str | None = None
    error_code: int | None = None
    rejected_key: bool = False


class Answer(BaseModel):
    """What TSB says: unknown fields are ignored, newer versions add some. `raw` is the evidence."""

    model_config = ConfigDict(
        frozen=True,
        defer_build=True,
        extra="ignore",
        hide_input_in_errors=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )

    raw: str = Field(default="", exclude=True, repr=False)


class Key(Answer):
    """A key as the HSM reports it. `public_key` is the base64 DER SubjectPublicKeyInfo."""

    label: str
    algorithm: str
    key_size: int | None = None
    curve_oid: str | None = None
    create_time: datetime
    public_key: str
    attributes: dict[str, bool | None]
    policy: dict[str, Any] | None = None

    @field_validator("public_key")
    @classmethod
    def _base64(cls, value: str) -> str:
        base64.b64decode(value, validate=True)
        return value


class KeyAttributes(Answer):
    """A key's attributes with the HSM's signature over their XML form."""

    key: Key = Field(alias="json")
    xml: str | None = None
    xml_signature: str | None = None
    attestation_key_name: str | None = None


class CsrRequested(Answer):
    """The id under which approvals are collected."""

    sign_request_id: str


class BlockRequested(Answer):
    """The id under which the approvals of `ruleBlock` are collected."""

    block_key_request_id: str


class RequestStatus(Answer):
    """How a request stands. The lists hold base64 SPKIs; `status` may be one we do not know."""

    id: str
    status: str
    execution_time: datetime | None = None
    approved_by: list[str] = []
    not_yet_approved_by: list[str] = []
    rejected_by: list[str] = []
    result: str | None = None

    @field_validator("approved_by", "not_yet_approved_by", "rejected_by", mode="before")
    @classmethod
    def _none_is_nobody(cls, value: object) -> object:
        return [] if value is None else value


class _Version(Answer):
    version: str = Field(alias="Version")


class _Licence(Answer):
    client_flags: list[str]


class TsbClient:
    """One TSB.

    Args:
        url: base URL without `/v1`; https, or http on the loopback address.
        credentials: asked for a role's credentials when a call needs them.
        renewed: asked once where all of them were rejected, for credentials read anew.
        tls: see `Tls`. Verification cannot be switched off.
        proxy_url: an HTTP proxy; the call goes through its CONNECT, so it sees TLS only.
        certificate_role: the role of `/v1/certificate/**`; TSB versions differ.
        request_role: the role of `/v1/request/**`; sources differ.
        report: told about every call.
        refused: told when a call ends because no credential is accepted, or none can be read.
        connect_timeout_seconds: for the TCP and TLS handshakes.
        read_timeout_seconds: between two bytes of the answer.
        transport: instead of the network, for tests in process.

    Every call raises:
        TsbUnavailableError: surely not executed.
        TsbNoAnswerError: maybe executed.
        TsbRefusedError: TSB answered no; `error_code`, `reason`, `http_status` are its words.
        TsbCredentialsError: none of the role's credentials is accepted.
    """

    def __init__(
        self,
        url: str,
        *,
        credentials: Callable[[Role], Credentials],
        renewed: Callable[[Role], Credentials] | None = None,
        tls: Tls | None = None,
        proxy_url: str | None = None,
        certificate_role: Role = Role.KEY_OPERATION,
        request_role: Role = Role.KEY_OPERATION,
        report: Callable[[Exchange], None] | None = None,
        refused: Callable[[], None] | None = None,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
        transport: BaseAdapter | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise TsbCredentialsError(
                "the TSB's URL is not https: API keys would cross the network in the clear",
                action="Give the stack's parameter TsbUrl an https URL.",
            )
        self._url = url.rstrip("/")
        self._credentials = credentials
        self._renewed = renewed
        self._certificate_role = certificate_role
        self._request_role = request_role
        self._report = report
        self._refused = refused
        self._timeout = (connect_timeout_seconds, read_timeout_seconds)
        self._rejected: dict[str, float] = {}  # API keys, and until when they are not shown again
        self._proxies = {"https": proxy_url} if proxy_url else {}
        self._session = requests.Session()
        # No proxies, .netrc or REQUESTS_CA_BUNDLE from the environment.
        self._session.trust_env = False
        self._session.mount(self._url, transport or _VerifiedAdapter(tls or Tls()))

    def create_key(self, body: dict[str, Any]) -> KeyAttributes:
        """`POST /v1/key`. Not idempotent: a used label is refused with 608."""
        self._reconnect()
        return self._ask(
            KeyAttributes, Role.KEY_MANAGEMENT, "POST", "/v1/key", body, about=_label(body["label"])
        )

    def key_attributes(self, label: str, password: str | None = None) -> KeyAttributes:
        """`POST /v1/key/attributes`: the key, its policy and the HSM's signature. Reads only."""
        return self._ask(
            KeyAttributes,
            Role.KEY_MANAGEMENT,
            "POST",
            "/v1/key/attributes",
            {"label": label, "password": _letters(password)},
            about=_label(label),
        )

    def delete_key(self, label: str, password: str | None = None) -> None:
        """`POST /v1/key/deleteKey`; cancels the key's requests. A missing key is refused (650)."""
        self._send(
            Role.KEY_MANAGEMENT,
            "POST",
            "/v1/key/deleteKey",
            {"label": label, "password": _letters(password)},
            about=_label(label),
        )

    def list_keys(self) -> list[str]:
        """`GET /v1/key`: the labels of all keys of the partition, ours or not."""
        response = self._send(Role.KEY_MANAGEMENT, "GET", "/v1/key", None, about="")
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, list) or not all(isinstance(one, str) for one in content):
            raise _unreadable("GET /v1/key", "a list of labels", response)
        return content

    def block_key(self, label: str, password: str | None = None) -> BlockRequested:
        """`POST /v1/block`. Executed at once, or asks the approvers of `ruleBlock`, each time."""
        self._reconnect()
        body = {"blockKeyName": label, "keyPassword": _letters(password)}
        return self._ask(
            BlockRequested,
            Role.KEY_OPERATION,
            "POST",
            "/v1/block",
            {"blockRequest": body},
            about=_label(label),
        )

    def request_csr(self, csr_sign_request: dict[str, Any]) -> CsrRequested:
        """`POST /v1/certificate/request`. Not idempotent: each call asks the approvers again."""
        self._reconnect()
        return self._ask(
            CsrRequested,
            self._certificate_role,
            "POST",
            "/v1/certificate/request",
            {"csrSignRequest": csr_sign_request},
            about=_label(csr_sign_request["signKeyName"]),
        )

    def request_status(self, request_id: str) -> RequestStatus:
        """`GET /v1/request/{id}`. May itself make TSB execute what is approved (TSB 1.15.2)."""
        path = f"/v1/request/{quote(request_id, safe='')}"
        return self._ask(RequestStatus, self._request_role, "GET", path, about="")

    def cancel_request(self, request_id: str) -> None:
        """`DELETE /v1/request/{id}`: its tasks are gone, its status is CANCELLED."""
        path = f"/v1/request/{quote(request_id, safe='')}"
        self._send(self._request_role, "DELETE", path, None, about="")

    def version(self) -> str:
        """`GET /v1/versionInfo`."""
        return self._ask(_Version, Role.SERVICE, "GET", "/v1/versionInfo", about="").version

    def licence_flags(self) -> list[str]:
        """`GET /v1/licenseInfo`: approvals need `TSB_ENGINE`."""
        return self._ask(_Licence, Role.SERVICE, "GET", "/v1/licenseInfo", about="").client_flags

    def _reconnect(self) -> None:
        """Let a call whose answer cannot be asked for again have a connection of its own.

        A worker is frozen between its calls, and what is on the way drops idle connections: on one
        that was kept, "no answer" would be the rule after a quiet hour, not the exception.
        Source: https://docs.aws.amazon.com/lambda/latest/dg/best-practices.html
        """
        self._session.close()

    def _ask[T: Answer](
        self,
        model: type[T],
        role: Role,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        about: str,
    ) -> T:
        response = self._send(role, method, path, body, about=about)
        try:
            content = response.json()
            return model.model_validate({**content, "raw": response.text})
        except (ValueError, TypeError, ValidationError):
            doing = f"{method} {path}{about}"
            raise _unreadable(doing, f"{model.__name__} as JSON", response) from None

    def _send(
        self, role: Role, method: str, path: str, body: dict[str, Any] | None, *, about: str
    ) -> requests.Response:
        try:
            return self._with_credentials(f"{method} {path}{about}", role, method, path, body)
        except TsbCredentialsError:
            if self._refused is not None:
                self._refused()
            raise

    def _with_credentials(
        self, doing: str, role: Role, method: str, path: str, body: dict[str, Any] | None
    ) -> requests.Response:
        refusal: TsbCredentialsError | None = None
        # A role's keys may have been exchanged since they were read, so they are read once more.
        for read in (self._credentials, self._renewed):
            if read is None:
                break
            credentials = read(role)
            for key in self._keys(credentials):
                headers = _headers(key, credentials.bearer_token)
                response = self._exchange(doing, role, method, path, body=body, headers=headers)
                if response.status_code < OK_BELOW:
                    return response
                error = _refusal(doing, role, credentials, response)
                if (
                    key is None
                    or not isinstance(error, TsbCredentialsError)
                    or error.error_code != INVALID_API_KEY
                ):
                    raise error
                self._rejected[key] = time.monotonic() + REJECTED_SECONDS
                refusal = error
        raise refusal or _no_key_left(doing, role)

    def _keys(self, credentials: Credentials) -> Iterator[str | None]:
        """The API keys that are worth a try; None alone where the role has none."""
        if not credentials.api_keys:
            yield None
        for key in credentials.api_keys:
            if self._rejected.get(key, 0) <= time.monotonic():
                yield key

    def _exchange(
        self,
        doing: str,
        role: Role,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None,
        headers: dict[str, str],
    ) -> requests.Response:
        begun = time.monotonic()
        response: requests.Response | None = None
        error: CountersignError | None = None
        try:
            response = self._session.request(
                method,
                self._url + path,
                json=body,
                headers=headers,
                timeout=self._timeout,
                proxies=self._proxies,
                allow_redirects=False,  # would carry the API key to another place
            )
        except requests.RequestException as fault:
            error = _fault(doing, fault)
            raise error from fault
        finally:
            if self._report is not None:
                took = (time.monotonic() - begun) * 1000
                account = _account(method, path, role, took, response=response, error=error)
                self._report(account)
        return response

    def close(self) -> None:
        """Close the connections that are kept alive."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Connection(HTTPSConnection):
    """Tells a connection that was never made, the TLS handshake included, from one that broke."""

    def connect(self) -> None:
        try:
            super().connect()
        except (OSError, urllib3_errors.HTTPError) as error:
            raise urllib3_errors.NewConnectionError(self, type(error).__name__) from error


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


class _VerifiedAdapter(HTTPAdapter):
    """HTTPS with a context of our own: our CA bundle replaces the public CAs, TLS 1.2 or newer."""

    def __init__(self, tls: Tls) -> None:
        if tls.ca_bundle is None:
            self._context = ssl.create_default_context(cafile=certifi.where())
        else:
            try:
                self._context = ssl.create_default_context(cadata=tls.ca_bundle)
            except ssl.SSLError as error:
                raise TsbCredentialsError(
                    "the CA bundle in the TLS secret holds no certificate in PEM",
                    action="Put the PEM of the CA that issued TSB's certificate there, or null.",
                ) from error
        if tls.certificate is not None or tls.private_key is not None:
            _show(self._context, tls)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": _Pool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        # requests would let the tunnel's TLS decide by a context of its own.
        manager = super().proxy_manager_for(proxy, **kwargs, ssl_context=self._context)
        manager.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": _Pool}
        self.proxy_manager[proxy] = manager
        return manager

    def build_connection_pool_key_attributes(
        self,
        request: Any,
        verify: Any,  # noqa: ARG002
        cert: Any = None,  # noqa: ARG002
    ) -> tuple[Any, Any]:
        # `verify` and `cert` of a call say nothing here: the context is the only authority.
        return super().build_connection_pool_key_attributes(request, verify=True, cert=None)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ARG002
        # requests would add certifi's public CAs to our context.
        conn.cert_reqs = "CERT_REQUIRED"


def _show(context: ssl.SSLContext, tls: Tls) -> None:
    """Load the client certificate. OpenSSL reads files only: this one lies in memory, nameless."""
    mend = "Put certificate and privateKey into the TLS secret, in PEM, neither of them encrypted."
    if tls.certificate is None or tls.private_key is None:
        missing = "certificate" if tls.certificate is None else "privateKey"
        raise TsbCredentialsError(
            f"the TLS secret holds half of a client certificate: {missing} is missing", action=mend
        )
    try:
        with _in_memory(f"{tls.certificate}\n{tls.private_key}\n".encode()) as path:
            context.load_cert_chain(path, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        mismatch = "MISMATCH" in str(error).upper()
        raise TsbCredentialsError(
            "certificate and privateKey in the TLS secret do not belong together"
            if mismatch
            else "certificate or privateKey in the TLS secret cannot be read",
            action=mend,
        ) from None  # OpenSSL's error may quote what it could not read


def _no_password() -> bytes:
    # Without an answer OpenSSL would ask at the terminal.
    raise ValueError("the private key is encrypted")


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path to `content` that only this process can open, gone with the block; never on a disk."""
    descriptor = os.memfd_create("", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o400)
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _headers(api_key: str | None, bearer_token: str | None) -> dict[str, str]:
    headers = {"Accept": "application/json"}
    if api_key is not None:
        headers["X-API-KEY"] = api_key
    if bearer_token is not None:
        headers["Authorization"] = f"Bearer {bearer_token}"
    return headers


def _account(
    method: str,
    path: str,
    role: Role,
    milliseconds: float,
    *,
    response: requests.Response | None,
    error: CountersignError | None,
) -> Exchange:
    status = response.status_code if response is not None else None
    if response is not None and response.status_code >= OK_BELOW:
        error = _refusal("", role, Credentials(), response)
    code = error.error_code if error else None
    under_request = path.startswith("/v1/request/")
    return Exchange(
        endpoint=f"{method} {'/v1/request/{id}' if under_request else path}",
        role=role,
        milliseconds=milliseconds,
        http_status=status,
        error=type(error).__name__ if error else None,
        error_code=code,
        rejected_key=code == INVALID_API_KEY,
    )


def _refusal(
    doing: str, role: Role, shown: Credentials, response: requests.Response
) -> CountersignError:
    """What a status of 300 and above means. Source: TSB's error table."""
    try:
        content = response.json()
    except ValueError:
        content = None
    said = content if isinstance(content, dict) else {}
    code = said.get("errorCode") if isinstance(said.get("errorCode"), int) else None
    status = response.status_code
    words = str(said.get("message") or "")[:MAX_TSB_TEXT]
    message = f"{doing}: HTTP {status}" + (f", {words}" if words else "")
    details: dict[str, Any] = {
        "error_code": code,
        "reason": str(said["reason"])[:MAX_TSB_TEXT] if said.get("reason") else None,
        "http_status": status,
    }
    if status in (TOO_MANY_REQUESTS, UNAVAILABLE):
        return TsbUnavailableError(message, action="Wait; it is tried again.", **details)
    if status in (BAD_GATEWAY, GATEWAY_TIMEOUT) or (
        status >= SERVER_ERROR and (code is None or code in TECHNICAL)
    ):
        return TsbNoAnswerError(message, action="See in TSB's log what it did.", **details)
    if code in CREDENTIAL_CODES or status in (UNAUTHORIZED, FORBIDDEN):
        what, action = _not_accepted(role, shown, code, status, doing)
        return TsbCredentialsError(f"{message}: {what}", action=action, **details)
    return TsbRefusedError(
        message, action="Look errorCode up in TSB's documentation; mend the cause.", **details
    )


def _not_accepted(
    role: Role, shown: Credentials, code: int | None, status: int, doing: str
) -> tuple[str, str]:
    """What is wrong with the credentials that were shown, and what to do.

    TSB has one code, 631, for a revoked API key and, in some versions, for a valid one of another
    role; only HTTP 403 tells the latter.
    """
    secret = f"the secret of role {role}"
    parameter = _role_parameter(doing)
    other_role = (
        f"set the stack's parameter {parameter} to the role that this TSB wants there"
        if parameter
        else f"put one of this role into {secret}"
    )
    if status == FORBIDDEN and code in (None, INVALID_API_KEY):
        return (
            f"TSB knows the API key of role {role} and wants another role here",
            f"{other_role[0].upper()}{other_role[1:]}.",
        )
    ended = _expiry(shown.bearer_token)
    unlicensed = (
        "TSB's licence does not include this call",
        "Have it added to the licence; GET /v1/licenseInfo shows what is included.",
    )
    said = {
        MISSING_API_KEY: (
            f"TSB wants an API key and {secret} holds none",
            f"Put an API key into {secret}.",
        ),
        MISSING_ACCESS_TOKEN: (
            f"TSB wants an access token and {secret} holds none",
            f"Put a token into {secret} as bearerToken.",
        ),
        INVALID_ACCESS_TOKEN: (
            f"the access token expired at {ended}" if ended else "the access token is not accepted",
            f"Put a new token into {secret} as bearerToken.",
        ),
        INSUFFICIENT_LOGIN: (
            "the access token does not say enough about who we are",
            f"Put a token with the claims that TSB asks for into {secret} as bearerToken.",
        ),
        CLIENT_SUBSCRIPTION: unlicensed,
        ENDPOINT_NOT_LICENSED: unlicensed,
        INVALID_API_KEY: (
            f"the API keys of role {role} were revoked, or are not of the role wanted here",
            f"Put a valid API key into {secret}; if it is valid, {other_role}.",
        ),
    }
    refused = f"the credentials of role {role} are not accepted", f"Put valid ones into {secret}."
    return said.get(code or 0, refused)


def _role_parameter(doing: str) -> str | None:
    if "/v1/certificate/" in doing:
        return "CertificateRole"
    return "RequestRole" if "/v1/request/" in doing else None


def _expiry(token: str | None) -> str | None:
    """When a JWT expired, read without verifying it; None where it has not, or is no JWT."""
    try:
        payload = (token or "").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        moment = datetime.fromtimestamp(claims["exp"], UTC)
    except (IndexError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return moment.isoformat() if moment < datetime.now(UTC) else None


def _unreadable(doing: str, expected: str, response: requests.Response) -> TsbNoAnswerError:
    """It said yes, so it was executed; what it did is in an answer that we cannot read."""
    return TsbNoAnswerError(
        f"{doing}: TSB's answer is not {expected}",
        http_status=response.status_code,
        action="Compare the TSB's version with those this product knows.",
    )


def _no_key_left(doing: str, role: Role) -> TsbCredentialsError:
    return TsbCredentialsError(
        f"{doing}: TSB has just rejected every API key of role {role}",
        error_code=INVALID_API_KEY,
        http_status=UNAUTHORIZED,
        action=f"Put a valid API key into the secret of role {role}.",
    )


def _fault(doing: str, error: requests.RequestException) -> CountersignError:
    """Whether TSB may have executed a call that got no answer, by what urllib3 saw.

    A connection that was never made (name, refusal, time-out, TLS handshake) executed nothing.
    Everything after that may have: also a reset on a connection kept alive, although TSB has most
    likely closed it unread.
    """
    chain = _chain(error)
    never_connected = any(
        isinstance(cause, urllib3_errors.NewConnectionError | urllib3_errors.ConnectTimeoutError)
        for cause in chain
    )
    for cause in chain:
        # With TLS 1.3 a server rejects our certificate after the handshake: an alert about it, and
        # nothing executed. Other TLS errors on a connection that was made are of a broken one.
        if isinstance(cause, ssl.SSLError) and (never_connected or _rejects_us(cause)):
            return _tls_fault(doing, cause)
        if never_connected and str(cause).startswith("Tunnel connection failed"):
            return TsbUnavailableError(
                f"{doing}: the proxy made no tunnel to TSB ({cause})",
                action="Allow CONNECT to TSB's host and port in the proxy at TsbProxyUrl.",
            )
    if never_connected:
        return TsbUnavailableError(
            f"{doing}: no connection to TSB ({type(chain[-1]).__name__})",
            action="Check TsbUrl and the network path from the functions to TSB.",
        )
    return TsbNoAnswerError(
        f"{doing}: the connection ended without an answer ({type(chain[-1]).__name__})",
        action="See in TSB's log what it did.",
    )


# What TSB's TLS side says about our client certificate, by words of the alert.
CERTIFICATE_ALERTS = {
    "REQUIRED": ("TSB wants a client certificate", "Put one, with its key, into the TLS secret."),
    "EXPIRED": ("our client certificate has expired", "Put a new one into the TLS secret."),
    "REVOKED": ("our client certificate was revoked", "Put a new one into the TLS secret."),
    "UNKNOWN CA": (
        "TSB does not know the CA of our client certificate",
        "Put a client certificate by a CA that TSB trusts into the TLS secret, chain included.",
    ),
    "CERTIFICATE": (
        "TSB does not accept our client certificate",
        "Put a valid client certificate and key into the TLS secret.",
    ),
}


def _rejects_us(cause: BaseException) -> bool:
    """Whether it is an alert about our client certificate."""
    text = str(cause).upper().replace("_", " ")
    return "ALERT" in text and ("CERTIFICATE" in text or "UNKNOWN CA" in text)


def _tls_fault(doing: str, cause: BaseException) -> CountersignError:
    text = str(cause).upper().replace("_", " ")
    if _rejects_us(cause):
        # TLS 1.2 has no word for a certificate that is missing: handshake failure, below.
        what, action = next(said for word, said in CERTIFICATE_ALERTS.items() if word in text)
        return TsbCredentialsError(f"{doing}: {what}", action=action)
    if "CERTIFICATE VERIFY FAILED" in text:
        return TsbUnavailableError(
            f"{doing}: TSB's certificate does not verify",
            action="Put the CA that issued it into the TLS secret (caBundle), or mend TsbUrl.",
        )
    return TsbUnavailableError(
        f"{doing}: the TLS handshake failed",
        action="Check that TSB speaks TLS 1.2 or newer at TsbUrl, and whether it wants a client"
        " certificate (TLS secret).",
    )


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        one = todo.pop(0)
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            todo += [getattr(one, "reason", None), *one.args, one.__cause__, one.__context__]
    return found


def _label(label: object) -> str:
    return f" for key {label!r}"


def _letters(password: str | None) -> list[str] | None:
    """A password as TSB's documentation has it: an array of one-character strings."""
    return None if password is None else list(password)
