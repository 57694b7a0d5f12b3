"""The Transaction Security Broker's REST API, as far as an enrollment needs it.

The client never sleeps and never repeats a call. There is one exception: HTTP 401 with errorCode
631 proves that nothing was executed, so the role's next API key is tried.
Source: Securosys documentation and client code, TSB 1.17 to 2.5.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, Self
from urllib.parse import quote, urlsplit

import requests
from pydantic import ValidationError
from requests.adapters import BaseAdapter

from countersign.errors import (
    CountersignError,
    TsbCredentialsError,
)
from countersign.tsb.failures import (
    INVALID_API_KEY,
    OK_BELOW,
    about_key,
    call_fault,
    credentials_account,
    no_key_left,
    read_refusal,
    unreadable,
)
from countersign.tsb.models import (
    Answer,
    BlockRequested,
    Credentials,
    CsrRequested,
    Exchange,
    KeyAttributes,
    License,
    RequestStatus,
    Role,
    Tls,
    Version,
)
from countersign.tsb.transport import (
    CONNECT_TIMEOUT_SECONDS,
    LOOPBACK,
    READ_TIMEOUT_SECONDS,
    VerifiedAdapter,
    letters,
)

# For this time a rejected API key is not sent again. It is limited, because a TSB may refuse valid
# keys for a short time, and a worker should not do without them until it ends.
REJECTED_SECONDS = 300


class TsbClient:
    """One TSB.

    Args:
        url: base URL without `/v1`; https, or http on the loopback address.
        credentials: asked for a role's credentials when a call needs them.
        renewed: asked once for freshly read credentials, when all of them were rejected.
        tls: see `Tls`. Verification cannot be switched off.
        proxy_url: an HTTP proxy. Calls go through its CONNECT, so the proxy sees only TLS.
        certificate_role: the role of `/v1/certificate/**`; TSB versions differ.
        request_role: the role of `/v1/request/**`; sources differ.
        report: called with every call's `Exchange`.
        refused: called when a call ends because no credential is accepted or can be read.
        connect_timeout_seconds: for the TCP and TLS handshakes.
        read_timeout_seconds: between two bytes of the answer.
        transport: replaces the network, for tests in process.

    Every call raises:
        TsbUnavailableError: TSB did not execute the call.
        TsbOutcomeUnknownError: TSB may have executed the call.
        TsbRefusedError: TSB refused; `error_code`, `reason` and `http_status` are TSB's.
        TsbCredentialsError: TSB accepts none of the role's credentials.
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
        self._rejected: dict[str, float] = {}  # API keys, and until when they are not sent again
        self._proxies = {"https": proxy_url} if proxy_url else {}
        self._session = requests.Session()
        # Ignore proxies, .netrc and REQUESTS_CA_BUNDLE of the environment.
        self._session.trust_env = False
        self._session.mount(self._url, transport or VerifiedAdapter(tls or Tls()))

    def create_key(self, body: dict[str, Any]) -> KeyAttributes:
        """`POST /v1/key`. Not idempotent: a used label is refused with 608."""
        self._reconnect()
        return self._ask(
            KeyAttributes,
            Role.KEY_MANAGEMENT,
            "POST",
            "/v1/key",
            body,
            about=about_key(body["label"]),
        )

    def key_attributes(self, label: str, password: str | None = None) -> KeyAttributes:
        """`POST /v1/key/attributes`: the key, its policy and the HSM's signature. Reads only."""
        return self._ask(
            KeyAttributes,
            Role.KEY_MANAGEMENT,
            "POST",
            "/v1/key/attributes",
            {"label": label, "password": letters(password)},
            about=about_key(label),
        )

    def delete_key(self, label: str, password: str | None = None) -> None:
        """`POST /v1/key/deleteKey`. Cancels the key's requests. A missing key is refused (650)."""
        self._send(
            Role.KEY_MANAGEMENT,
            "POST",
            "/v1/key/deleteKey",
            {"label": label, "password": letters(password)},
            about=about_key(label),
        )

    def list_keys(self) -> list[str]:
        """`GET /v1/key`: the labels of all keys of the partition, ours and others'."""
        response = self._send(Role.KEY_MANAGEMENT, "GET", "/v1/key", None, about="")
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, list) or not all(isinstance(one, str) for one in content):
            raise unreadable("GET /v1/key", "a list of labels", response)
        return content

    def block_key(self, label: str, password: str | None = None) -> BlockRequested:
        """`POST /v1/block`. Blocks at once, or asks the approvers of `ruleBlock` at each call."""
        self._reconnect()
        body = {"blockKeyName": label, "keyPassword": letters(password)}
        return self._ask(
            BlockRequested,
            Role.KEY_OPERATION,
            "POST",
            "/v1/block",
            {"blockRequest": body},
            about=about_key(label),
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
            about=about_key(csr_sign_request["signKeyName"]),
        )

    def request_status(self, request_id: str) -> RequestStatus:
        """`GET /v1/request/{id}`. May itself make TSB execute what is approved (TSB 1.15.2)."""
        path = f"/v1/request/{quote(request_id, safe='')}"
        return self._ask(RequestStatus, self._request_role, "GET", path, about="")

    def cancel_request(self, request_id: str) -> None:
        """`DELETE /v1/request/{id}`: its tasks are deleted, and its status becomes CANCELLED."""
        path = f"/v1/request/{quote(request_id, safe='')}"
        self._send(self._request_role, "DELETE", path, None, about="")

    def version(self) -> str:
        """`GET /v1/versionInfo`."""
        return self._ask(Version, Role.SERVICE, "GET", "/v1/versionInfo", about="").version

    def license_flags(self) -> list[str]:
        """`GET /v1/licenseInfo`: approvals need `TSB_ENGINE`."""
        return self._ask(License, Role.SERVICE, "GET", "/v1/licenseInfo", about="").client_flags

    def _reconnect(self) -> None:
        """Use a new connection for a call whose answer cannot be requested again.

        A worker is frozen between its invocations, and the network drops idle connections. On a
        kept connection, "no answer" would be the rule after a quiet hour, not the exception.
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
            raise unreadable(doing, f"{model.__name__} as JSON", response) from None

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
        # A role's keys may have been replaced since they were read, so they are read once more.
        for read in (self._credentials, self._renewed):
            if read is None:
                break
            credentials = read(role)
            for key in self._keys(credentials):
                headers = _headers(key, credentials.bearer_token)
                response = self._exchange(doing, role, method, path, body=body, headers=headers)
                if response.status_code < OK_BELOW:
                    return response
                error = read_refusal(doing, role, credentials, response)
                if (
                    key is None
                    or not isinstance(error, TsbCredentialsError)
                    or error.error_code != INVALID_API_KEY
                ):
                    raise error
                self._rejected[key] = time.monotonic() + REJECTED_SECONDS
                refusal = error
        raise refusal or no_key_left(doing, role)

    def _keys(self, credentials: Credentials) -> Iterator[str | None]:
        """The API keys to try; only None if the role has no API key."""
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
                allow_redirects=False,  # a redirect would send the API key elsewhere
            )
        except requests.RequestException as fault:
            error = call_fault(doing, fault)
            raise error from fault
        finally:
            if self._report is not None:
                took = (time.monotonic() - begun) * 1000
                account = credentials_account(
                    method, path, role, took, response=response, error=error
                )
                self._report(account)
        return response

    def close(self) -> None:
        """Close the connections that are kept alive."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _headers(api_key: str | None, bearer_token: str | None) -> dict[str, str]:
    headers = {"Accept": "application/json"}
    if api_key is not None:
        headers["X-API-KEY"] = api_key
    if bearer_token is not None:
        headers["Authorization"] = f"Bearer {bearer_token}"
    return headers
