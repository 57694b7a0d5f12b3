"""The Transaction Security Broker's REST API, as far as an enrollment needs it.

The client never sleeps and never repeats a call. There is one exception: HTTP 401 with errorCode
631 proves that nothing was executed, so the role's next API key is tried.
Source: Securosys documentation and client code, TSB 1.17 to 2.5.
"""

import base64
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote

from requests.adapters import BaseAdapter

from countersign import clocks
from countersign.errors import (
    REQUEST_NOT_EXISTENT,
    CountersignError,
    InvalidEnrollmentError,
    TsbCredentialsError,
    TsbOutcomeUnknownError,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.record import ENDED_AT_TSB
from countersign.tsb.failures import (
    INVALID_API_KEY,
    Call,
    Kind,
    about_key,
    exchange,
    failure,
    no_key_left,
)
from countersign.tsb.models import (
    REQUEST_ID,
    Answer,
    BlockRequested,
    CertificateOfKey,
    CertificateRequested,
    Credentials,
    CsrRequested,
    Exchange,
    KeyAttributes,
    License,
    ListedRequests,
    Reply,
    RequestStatus,
    Role,
    Tls,
    Version,
)
from countersign.tsb.transport import (
    CONNECT_TIMEOUT_SECONDS,
    NETWORK,
    TIMEOUT_SECONDS,
    VerifiedAdapter,
    base_url,
    letters,
    send,
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
        timeout_seconds: for a whole call, from the handshakes to the answer's last byte, the tries
            with further API keys included.
        transport: replaces the network, for tests in process.

    Every call raises (`failures.failure` decides which):
        TsbUnavailableError: TSB did not execute the call. On a read also: TSB answers with a code
            that decides nothing, such as 651 or 701; `error_code` has it.
        TsbOutcomeUnknownError: TSB may have executed the call, or never have seen it.
        TsbRefusedError: TSB refused, in its own words; `error_code`, `reason` and `http_status`
            are TSB's. On a read only after 609 and 650.
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
        timeout_seconds: float = TIMEOUT_SECONDS,
        transport: BaseAdapter | None = None,
    ) -> None:
        # By which the clock of whoever answered last is ahead of ours; None: it said no time.
        self.clock_skew_seconds: int | None = None
        self._url = base_url(url)
        self._credentials = credentials
        self._renewed = renewed
        self._certificate_role = certificate_role
        self._request_role = request_role
        self._report = report
        self._refused = refused
        self._connect_seconds, self._seconds = connect_timeout_seconds, timeout_seconds
        self._rejected: dict[str, float] = {}  # API keys, and until when they are not sent again
        self._proxies = {"https": proxy_url} if proxy_url else {}
        # No `requests.Session`: it would keep cookies from one role's call to the next, follow
        # `Location` far enough to read an unbounded body, choose another adapter by the URL, and
        # read proxies, .netrc and REQUESTS_CA_BUNDLE of the environment.
        self._adapter = transport or VerifiedAdapter(tls or Tls())

    def create_key(self, body: dict[str, Any]) -> KeyAttributes:
        """`POST /v1/key`. Not idempotent: a used label is refused with 608."""
        self._reconnect()
        call = Call(Kind.CREATE, "POST", "/v1/key", Role.KEY_MANAGEMENT, about_key(body["label"]))
        return self._ask(KeyAttributes, call, body)

    def key_attributes(self, label: str, password: str | None = None) -> KeyAttributes:
        """`POST /v1/key/attributes`: the key, its policy and the HSM's signature. Reads only."""
        path, about = "/v1/key/attributes", about_key(label)
        call = Call(Kind.READ, "POST", path, Role.KEY_MANAGEMENT, about)
        return self._ask(KeyAttributes, call, {"label": label, "password": letters(password)})

    def delete_key(self, label: str, password: str | None = None) -> None:
        """`POST /v1/key/deleteKey`. Cancels the key's requests. A missing key is refused (650)."""
        path, about = "/v1/key/deleteKey", about_key(label)
        call = Call(Kind.REMOVE, "POST", path, Role.KEY_MANAGEMENT, about)
        body = {"label": label, "password": letters(password)}
        self._send(call, body, read=_done, expected="TSB's confirmation")

    def list_keys(self) -> list[str]:
        """`GET /v1/key`: the labels of all keys of the partition, ours, others' and TSB's own."""
        call = Call(Kind.READ, "GET", "/v1/key", Role.KEY_MANAGEMENT)
        return self._send(call, None, read=_labels, expected="a list of labels")

    def block_key(self, label: str, password: str | None = None) -> BlockRequested:
        """`POST /v1/block`. Blocks at once, or asks the approvers of `ruleBlock` at each call."""
        self._reconnect()
        call = Call(Kind.CREATE, "POST", "/v1/block", Role.KEY_OPERATION, about_key(label))
        body = {"blockKeyName": label, "keyPassword": letters(password)}
        return self._ask(BlockRequested, call, {"blockRequest": body})

    def request_csr(self, csr_sign_request: dict[str, Any]) -> CsrRequested:
        """`POST /v1/certificate/request`. Not idempotent: each call asks the approvers again."""
        self._reconnect()
        path, about = "/v1/certificate/request", about_key(csr_sign_request["signKeyName"])
        call = Call(Kind.CREATE, "POST", path, self._certificate_role, about)
        return self._ask(CsrRequested, call, {"csrSignRequest": csr_sign_request})

    def request_certificate(self, sign_certificate_request: dict[str, Any]) -> CertificateRequested:
        """`POST /v1/certificate/sign`. Not idempotent: each call asks the CA's approvers again."""
        self._reconnect()
        path, about = "/v1/certificate/sign", about_key(sign_certificate_request["signKeyName"])
        call = Call(Kind.CREATE, "POST", path, self._certificate_role, about)
        body = {"signCertificateRequest": sign_certificate_request}
        return self._ask(CertificateRequested, call, body)

    def certificate(self, label: str) -> CertificateOfKey:
        """`GET /v1/certificate/{keyName}`: the certificate that TSB holds for a key. Reads only.

        A key without one is refused with 402 (inferred: the vendor's code has it for such a CA
        key).
        """
        path = f"/v1/certificate/{quote(label, safe='')}"
        call = Call(Kind.READ, "GET", path, self._certificate_role, about_key(label))
        return self._ask(CertificateOfKey, call)

    def import_certificate(self, label: str, certificate: bytes) -> None:
        """`POST /v1/certificate/import/plain`. An older certificate of the key is overwritten.

        Idempotent. What the key has afterwards only `certificate` says.
        """
        path, about = "/v1/certificate/import/plain", about_key(label)
        call = Call(Kind.REMOVE, "POST", path, self._certificate_role, about)
        body = {"label": label, "certificate": base64.b64encode(certificate).decode()}
        self._send(call, body, read=_done, expected="TSB's confirmation")

    def request_status(self, request_id: str) -> RequestStatus:
        """`GET /v1/request/{id}`. May itself make TSB execute what is approved (TSB 1.15.2)."""
        return self._ask(RequestStatus, self._about_request(Kind.READ, "GET", request_id))

    def pending_requests(self) -> frozenset[str]:
        """The ids of all PENDING requests, by `POST /v1/filteredRequests` (TSB 2.0.1).

        It says nothing about who has approved. Raises as every read does.
        """
        call = Call(Kind.READ, "POST", "/v1/filteredRequests", self._request_role)
        listed = self._ask(ListedRequests, call, {"requestStatusList": ["PENDING"]})
        return frozenset(one.id for one in listed.requests if one.status == "PENDING")

    def cancel_request(self, request_id: str) -> str | None:
        """`DELETE /v1/request/{id}`, and the proof that nobody can approve the request any more.

        No answer to DELETE proves that: of a success no body is documented, and what TSB says of a
        request that has ended differs. So the status is read back, within the time of one call.

        Idempotent.

        Returns:
            The status with which the request ended: CANCELLED, or what it was before. None: TSB
            says in its own words that there is no such request.

        Raises:
            TsbOutcomeUnknownError: also where TSB still reports the request as open.
        """
        ends = self._ends()
        failed: CountersignError | None = None
        delete = self._about_request(Kind.REMOVE, "DELETE", request_id)
        try:
            self._send(delete, None, read=_done, expected="TSB's confirmation", ends=ends)
        except (TsbRefusedError, TsbOutcomeUnknownError) as error:
            failed = error
        call = self._about_request(Kind.READ, "GET", request_id)
        try:
            answer = self._ask(RequestStatus, call, ends=ends)
        except TsbRefusedError:
            return None
        except TsbUnavailableError as error:
            # Requests vanish for a moment. Unless TSB took the cancellation, or answered with the
            # same words, this one may be back in the next.
            codes = {error.error_code, failed.error_code if failed else REQUEST_NOT_EXISTENT}
            if codes == {REQUEST_NOT_EXISTENT}:
                return None
            raise
        if answer.id == request_id and answer.status in ENDED_AT_TSB:
            return answer.status
        raise TsbOutcomeUnknownError(
            f"{failed.message if failed else delete}: TSB reports {answer.status} afterwards",
            error_code=failed.error_code if failed else None,
            action="It is tried again; if it lasts, cancel the request at the TSB by hand.",
        )

    def version(self) -> str:
        """`GET /v1/versionInfo`."""
        return self._ask(Version, Call(Kind.READ, "GET", "/v1/versionInfo", Role.SERVICE)).version

    def license_flags(self) -> list[str]:
        """`GET /v1/licenseInfo`: approvals need `TSB_ENGINE`."""
        call = Call(Kind.READ, "GET", "/v1/licenseInfo", Role.SERVICE)
        return self._ask(License, call).client_flags

    def _about_request(self, kind: Kind, method: str, request_id: str) -> Call:
        """A call of `/v1/request/{id}`.

        Raises:
            InvalidEnrollmentError: no TSB gave this id. Its URL would be another path.
        """
        if not re.fullmatch(REQUEST_ID, request_id):
            raise InvalidEnrollmentError(
                f"{request_id[:100]!r} is no id of a request at the TSB",
                field="requestId",
                action="Find out who wrote it: TSB's ids are checked when they arrive.",
            )
        return Call(kind, method, f"/v1/request/{request_id}", self._request_role)

    def _reconnect(self) -> None:
        """Use a new connection for a call whose answer cannot be requested again.

        A worker is frozen between its invocations, and the network drops idle connections. On a
        kept connection, "no answer" would be the rule after a quiet hour, not the exception.
        Source: https://docs.aws.amazon.com/lambda/latest/dg/best-practices.html
        """
        self._adapter.close()

    def _ends(self) -> float:
        """When a call that begins now must have ended."""
        return time.monotonic() + self._seconds

    def _ask[T: Answer](
        self,
        model: type[T],
        call: Call,
        body: dict[str, Any] | None = None,
        *,
        ends: float | None = None,
    ) -> T:
        expected = f"{model.__name__} as JSON"
        return self._send(call, body, read=model.read, expected=expected, ends=ends)

    def _send[T](
        self,
        call: Call,
        body: dict[str, Any] | None,
        *,
        read: Callable[[Reply], T],
        expected: str,
        ends: float | None = None,
    ) -> T:
        """Make a call; `read` reads an answer of success, and raises ValueError for another."""
        ends = self._ends() if ends is None else ends
        refusal: TsbCredentialsError | None = None
        try:
            # A role's keys may have been replaced since they were read, so they are read once more.
            for credentials in self._shown(call.role):
                for key in self._keys(credentials):
                    try:
                        return self._exchange(
                            call, body, credentials, key, read=read, expected=expected, ends=ends
                        )
                    except TsbCredentialsError as error:
                        if key is None or error.error_code != INVALID_API_KEY:
                            raise
                        self._rejected[key] = time.monotonic() + REJECTED_SECONDS
                        refusal = error
            raise refusal or no_key_left(call)
        except TsbCredentialsError:
            if self._refused is not None:
                self._refused()
            raise

    def _shown(self, role: Role) -> Iterator[Credentials]:
        """The credentials of a role, as they were read, then freshly read."""
        yield self._credentials(role)
        if self._renewed is not None:
            yield self._renewed(role)

    def _keys(self, credentials: Credentials) -> Iterator[str | None]:
        """The API keys to try; only None if the role has no API key."""
        if not credentials.api_keys:
            yield None
        for key in credentials.api_keys:
            if self._rejected.get(key, 0) <= time.monotonic():
                yield key

    def _exchange[T](
        self,
        call: Call,
        body: dict[str, Any] | None,
        credentials: Credentials,
        api_key: str | None,
        *,
        read: Callable[[Reply], T],
        expected: str,
        ends: float,
    ) -> T:
        begun, begun_at = time.monotonic(), datetime.now(UTC)
        reply: Reply | None = None
        error: CountersignError | None = None
        try:
            reply = send(
                self._adapter,
                call.method,
                self._url + call.path,
                body,
                headers=_headers(api_key, credentials.bearer_token),
                proxies=self._proxies,
                connect_seconds=self._connect_seconds,
                seconds=ends - begun,
            )
            self.clock_skew_seconds = (
                clocks.skew_seconds(reply.date, after=begun_at, before=datetime.now(UTC))
                if reply.date
                else None
            )
            if reply.succeeded:
                return read(reply)
            error = failure(call, credentials, reply)
            raise error
        except NETWORK as fault:
            error = failure(call, credentials, reply or fault, expected=expected)
            raise error from (None if reply else fault)
        finally:
            if self._report is not None:
                took = (time.monotonic() - begun) * 1000
                self._report(exchange(call, took, reply, error))

    def close(self) -> None:
        """Close the connections that are kept alive."""
        self._adapter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _headers(api_key: str | None, bearer_token: str | None) -> dict[str, str]:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    if api_key is not None:
        headers["X-API-KEY"] = api_key
    if bearer_token is not None:
        headers["Authorization"] = f"Bearer {bearer_token}"
    return headers


def _done(reply: Reply) -> None:
    """A success of which TSB documents no body: none, or any JSON. A page is not TSB's."""
    if reply.body != b"":
        reply.json()


def _labels(reply: Reply) -> list[str]:
    content = reply.json()
    if not isinstance(content, list) or not all(isinstance(one, str) for one in content):
        raise ValueError("no list of texts")
    return content
