"""Maps whatever came instead of the expected answer to the one error that says what TSB did.

Only TSB decides, and only in its own words: a refusal is a JSON object with an integer `errorCode`.
Everything else (a proxy's 404, a login page, JSON of a shape that we do not know) says nothing
about the call.
"""

import base64
import json
import ssl
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from urllib3 import exceptions as urllib3_errors

from countersign.errors import (
    KEY_NOT_EXISTENT,
    NO_CERTIFICATE,
    CountersignError,
    TsbCredentialsError,
    TsbOutcomeUnknownError,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.tsb.models import Credentials, Exchange, Reply, Role

MAX_TSB_TEXT = 500  # characters of TSB's own message that an error repeats
MAX_CODE = 2**31 - 1  # TSB's codes are Java's `int`
TECHNICAL = (1, 2)  # "technical", "connectivity" between TSB and HSM: may be executed
MISSING_ACCESS_TOKEN, MISSING_API_KEY = 406, 416
CLIENT_SUBSCRIPTION, ENDPOINT_NOT_LICENSED = 450, 451
INVALID_UUID = 609
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
# Of a read. 651 is not among them: ids that were just listed do vanish and come back.
FINAL_CODES = (INVALID_UUID, KEY_NOT_EXISTENT)
WRAPPERS = range(700, 705)  # TSB wraps any fault behind it in one of these codes
UNAUTHORIZED, FORBIDDEN, TOO_MANY_REQUESTS = 401, 403, 429
SERVER_ERROR, BAD_GATEWAY, UNAVAILABLE, GATEWAY_TIMEOUT = 500, 502, 503, 504


class Kind(StrEnum):
    """What it means to make a call again."""

    READ = "read"  # nothing
    CREATE = "create"  # it executes something anew: a key, a question to the approvers
    REMOVE = "remove"  # nothing where the first one was executed


class Call(NamedTuple):
    """One call, as errors and metrics name it.

    Args:
        kind: what it means to make it again.
        method: of HTTP.
        path: from `/v1` on.
        role: whose credentials are sent.
        about: the key that it is about, see `about_key`.
    """

    kind: Kind
    method: str
    path: str
    role: Role
    about: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path}{self.about}"

    @property
    def endpoint(self) -> str:
        """Method and path, with `{id}` for an id or a key's label."""
        path = self.path
        if path.startswith("/v1/request/"):
            path = "/v1/request/{id}"
        elif self.method == "GET" and path.startswith("/v1/certificate/"):
            path = "/v1/certificate/{id}"
        return f"{self.method} {path}"


def failure(
    call: Call, shown: Credentials, happened: Reply | Exception, *, expected: str = ""
) -> CountersignError:
    """The error for anything but the expected answer. It maps everything and raises nothing.

    An answer that is not TSB's is an unknown outcome for every kind of call: nobody knows how far
    the call came, and even a read may let TSB execute what is approved (TSB 1.15.2). States that
    read ask again after this name as after TsbUnavailableError, so a name of its own has no use.

    Args:
        call: the call.
        shown: the credentials that were sent.
        happened: the answer, or what the network raised.
        expected: what an answer of success should have been.
    Source: TSB's error table.
    """
    if isinstance(happened, Exception):
        return _fault(call, happened)
    if happened.succeeded:
        return TsbOutcomeUnknownError(
            f"{call}: TSB's answer is not {expected}",
            http_status=happened.status,
            action="Find out what answers at TsbUrl; compare TSB's version with those this product"
            " knows.",
        )
    return _refusal(call, shown, happened)


def exchange(
    call: Call, milliseconds: float, reply: Reply | None, error: CountersignError | None
) -> Exchange:
    """One call, for metrics."""
    code = error.error_code if error else None
    return Exchange(
        endpoint=call.endpoint,
        role=call.role,
        milliseconds=milliseconds,
        http_status=reply.status if reply else None,
        error=type(error).__name__ if error else None,
        error_code=code,
        rejected_key=code == INVALID_API_KEY,
    )


def _refusal(call: Call, shown: Credentials, reply: Reply) -> CountersignError:
    """The error for an answer that is no success."""
    said, code, status = _said(reply), _code(reply), reply.status
    words = str(said.get("message") or "")[:MAX_TSB_TEXT]
    message = f"{call}: HTTP {status}" + (f", {words}" if words else "")
    details: dict[str, Any] = {
        "error_code": code,
        "reason": str(said["reason"])[:MAX_TSB_TEXT] if said.get("reason") else None,
        "http_status": status,
    }
    if status == TOO_MANY_REQUESTS or (status == UNAVAILABLE and call.kind is not Kind.CREATE):
        return TsbUnavailableError(message, action="Wait; it is tried again.", **details)
    if code is None and status < SERVER_ERROR:
        return TsbOutcomeUnknownError(
            f"{message}; this is not TSB's answer",
            action="Find out what answers in TSB's place: a proxy, an ingress, a login page.",
            **details,
        )
    if code is None or code in TECHNICAL or status in (BAD_GATEWAY, GATEWAY_TIMEOUT):
        return TsbOutcomeUnknownError(message, action="See in TSB's log what it did.", **details)
    if code in CREDENTIAL_CODES or status in (UNAUTHORIZED, FORBIDDEN):
        what, action = not_accepted(call, shown, code, status)
        return TsbCredentialsError(f"{message}: {what}", action=action, **details)
    return _by_code(call, code, status)(
        message, action="Look errorCode up in TSB's documentation; remove the cause.", **details
    )


def _by_code(call: Call, code: int, status: int) -> type[CountersignError]:
    """What a code decides: on a read hardly anything, and a wrapped fault nothing at all."""
    if call.kind is Kind.READ:
        # Of a key without a certificate this is no fault, and nobody need be told.
        is_none = code == NO_CERTIFICATE and call.path.startswith("/v1/certificate/")
        is_final = code in FINAL_CODES or is_none
        return TsbRefusedError if is_final else TsbUnavailableError
    is_wrapped = code in WRAPPERS or status >= SERVER_ERROR
    return TsbOutcomeUnknownError if is_wrapped else TsbRefusedError


def _said(reply: Reply) -> dict[str, Any]:
    try:
        content = reply.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _code(reply: Reply) -> int | None:
    """TSB's code; None: this is not TSB's answer."""
    code = _said(reply).get("errorCode")
    return code if type(code) is int and 0 <= code <= MAX_CODE else None  # `bool` is an `int`, too


def not_accepted(call: Call, shown: Credentials, code: int, status: int) -> tuple[str, str]:
    """The error that says what is wrong with the credentials that were sent, and what to do.

    TSB has one code, 631, for a revoked API key and, in some versions, for a valid key of another
    role. Only HTTP 403 identifies the latter.
    """
    role = call.role
    secret = f"the secret of role {role}"
    parameter = _role_parameter(call.path)
    other_role = (
        f"set the stack's parameter {parameter} to the role that this TSB wants there"
        if parameter
        else f"put one of this role into {secret}"
    )
    if status == FORBIDDEN and code == INVALID_API_KEY:
        return (
            f"TSB knows the API key of role {role} and wants another role here",
            f"{other_role[0].upper()}{other_role[1:]}.",
        )
    ended = _expiry(shown.bearer_token)
    unlicensed = (
        "TSB's license does not include this call",
        "Have it added to the license; GET /v1/licenseInfo shows what is included.",
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
    return said.get(code, refused)


def _role_parameter(path: str) -> str | None:
    if path.startswith("/v1/certificate/"):
        return "CertificateRole"
    return "RequestRole" if path.startswith("/v1/request/") else None


def _expiry(token: str | None) -> str | None:
    """When a JWT expired, read without verifying it; None if it is valid, or not a JWT."""
    try:
        payload = (token or "").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        moment = datetime.fromtimestamp(claims["exp"], UTC)
    except (IndexError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return moment.isoformat() if moment < datetime.now(UTC) else None


def no_key_left(call: Call) -> TsbCredentialsError:
    """The error when TSB has just rejected every API key of a role."""
    role = call.role
    return TsbCredentialsError(
        f"{call}: TSB has just rejected every API key of role {role}",
        error_code=INVALID_API_KEY,
        http_status=UNAUTHORIZED,
        action=f"Put a valid API key into the secret of role {role}.",
    )


def _fault(call: Call, error: Exception) -> CountersignError:
    """The error for a call without an answer: urllib3's error shows if TSB may have executed it.

    If no connection was made (name, refusal, timeout, TLS handshake), nothing was executed. After
    that, the call may have been executed. This includes a reset on a kept-alive connection,
    although TSB most likely closed it without reading the call.
    """
    chain = _error_chain(error)
    never_connected = any(
        isinstance(cause, urllib3_errors.NewConnectionError | urllib3_errors.ConnectTimeoutError)
        for cause in chain
    )
    for cause in chain:
        # With TLS 1.3 a server rejects our certificate after the handshake: it sends an alert, and
        # nothing is executed. Other TLS errors on an established connection mean that it broke.
        if isinstance(cause, ssl.SSLError) and (never_connected or _rejects_us(cause)):
            return _tls_fault(call, cause)
        if never_connected and str(cause).startswith("Tunnel connection failed"):
            return TsbUnavailableError(
                f"{call}: the proxy made no tunnel to TSB ({cause})",
                action="Allow CONNECT to TSB's host and port in the proxy at TsbProxyUrl.",
            )
    if never_connected:
        return TsbUnavailableError(
            f"{call}: no connection to TSB ({type(chain[-1]).__name__})",
            action="Check TsbUrl and the network path from the functions to TSB.",
        )
    return TsbOutcomeUnknownError(
        f"{call}: the connection ended without an answer ({type(chain[-1]).__name__})",
        action="See in TSB's log what it did.",
    )


# Messages about our client certificate, by a text in the alert of TSB's TLS.
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
    """Whether the cause is an alert about our client certificate."""
    text = str(cause).upper().replace("_", " ")
    return "ALERT" in text and ("CERTIFICATE" in text or "UNKNOWN CA" in text)


def _tls_fault(call: Call, cause: BaseException) -> CountersignError:
    text = str(cause).upper().replace("_", " ")
    if _rejects_us(cause):
        # TLS 1.2 has no alert for a missing certificate. It sends a handshake failure, see below.
        what, action = next(said for word, said in CERTIFICATE_ALERTS.items() if word in text)
        return TsbCredentialsError(f"{call}: {what}", action=action)
    if "CERTIFICATE VERIFY FAILED" in text:
        return TsbUnavailableError(
            f"{call}: TSB's certificate does not verify",
            action="Put the CA that issued it into the TLS secret (caBundle), or correct TsbUrl.",
        )
    return TsbUnavailableError(
        f"{call}: the TLS handshake failed",
        action="Check that TSB speaks TLS 1.2 or newer at TsbUrl, and whether it wants a client"
        " certificate (TLS secret).",
    )


def _error_chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        one = todo.pop(0)
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            todo += [getattr(one, "reason", None), *one.args, one.__cause__, one.__context__]
    return found


def about_key(label: object) -> str:
    """The key that a call was about, as an error names it."""
    return f" for key {label!r}"
