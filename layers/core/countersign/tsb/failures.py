"""Maps TSB's answer, or its absence, to an error that says whether TSB executed the call."""

import base64
import json
import ssl
from datetime import UTC, datetime
from typing import Any

import requests
from urllib3 import exceptions as urllib3_errors

from countersign.errors import (
    CountersignError,
    TsbCredentialsError,
    TsbOutcomeUnknownError,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.tsb.models import Credentials, Exchange, Role

MAX_TSB_TEXT = 500  # characters of TSB's own message that an error repeats
TECHNICAL = (1, 2)  # "technical", "connectivity" between TSB and HSM: may be executed
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


def credentials_account(
    method: str,
    path: str,
    role: Role,
    milliseconds: float,
    *,
    response: requests.Response | None,
    error: CountersignError | None,
) -> Exchange:
    """One call, for metrics."""
    status = response.status_code if response is not None else None
    if response is not None and response.status_code >= OK_BELOW:
        error = read_refusal("", role, Credentials(), response)
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


def read_refusal(
    doing: str, role: Role, shown: Credentials, response: requests.Response
) -> CountersignError:
    """The error for an HTTP status of 300 or above. Source: TSB's error table."""
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
        return TsbOutcomeUnknownError(message, action="See in TSB's log what it did.", **details)
    if code in CREDENTIAL_CODES or status in (UNAUTHORIZED, FORBIDDEN):
        what, action = not_accepted(role, shown, code, status, doing)
        return TsbCredentialsError(f"{message}: {what}", action=action, **details)
    return TsbRefusedError(
        message, action="Look errorCode up in TSB's documentation; remove the cause.", **details
    )


def not_accepted(
    role: Role, shown: Credentials, code: int | None, status: int, doing: str
) -> tuple[str, str]:
    """The error that says what is wrong with the credentials that were sent, and what to do.

    TSB has one code, 631, for a revoked API key and, in some versions, for a valid key of another
    role. Only HTTP 403 identifies the latter.
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
    return said.get(code or 0, refused)


def _role_parameter(doing: str) -> str | None:
    if "/v1/certificate/" in doing:
        return "CertificateRole"
    return "RequestRole" if "/v1/request/" in doing else None


def _expiry(token: str | None) -> str | None:
    """When a JWT expired, read without verifying it; None if it is valid, or not a JWT."""
    try:
        payload = (token or "").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        moment = datetime.fromtimestamp(claims["exp"], UTC)
    except (IndexError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return moment.isoformat() if moment < datetime.now(UTC) else None


def unreadable(doing: str, expected: str, response: requests.Response) -> TsbOutcomeUnknownError:
    """The error for a success whose answer is unreadable: the call was executed."""
    return TsbOutcomeUnknownError(
        f"{doing}: TSB's answer is not {expected}",
        http_status=response.status_code,
        action="Compare the TSB's version with those this product knows.",
    )


def no_key_left(doing: str, role: Role) -> TsbCredentialsError:
    """The error when TSB has just rejected every API key of a role."""
    return TsbCredentialsError(
        f"{doing}: TSB has just rejected every API key of role {role}",
        error_code=INVALID_API_KEY,
        http_status=UNAUTHORIZED,
        action=f"Put a valid API key into the secret of role {role}.",
    )


def call_fault(doing: str, error: requests.RequestException) -> CountersignError:
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
    return TsbOutcomeUnknownError(
        f"{doing}: the connection ended without an answer ({type(chain[-1]).__name__})",
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


def _tls_fault(doing: str, cause: BaseException) -> CountersignError:
    text = str(cause).upper().replace("_", " ")
    if _rejects_us(cause):
        # TLS 1.2 has no alert for a missing certificate. It sends a handshake failure, see below.
        what, action = next(said for word, said in CERTIFICATE_ALERTS.items() if word in text)
        return TsbCredentialsError(f"{doing}: {what}", action=action)
    if "CERTIFICATE VERIFY FAILED" in text:
        return TsbUnavailableError(
            f"{doing}: TSB's certificate does not verify",
            action="Put the CA that issued it into the TLS secret (caBundle), or correct TsbUrl.",
        )
    return TsbUnavailableError(
        f"{doing}: the TLS handshake failed",
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
