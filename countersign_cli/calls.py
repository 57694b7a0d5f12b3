"""Calls of any path with any role's token, or with none, and whatever comes back.

TLS, the bounds on time and bytes, and what a missing answer means are those of the product's
client. That client turns a refusal into an error; here the refusal is what was asked for.
"""

import json
import time
from dataclasses import dataclass, field, fields
from typing import Any

from requests.adapters import BaseAdapter

from countersign.tsb.failures import CREDENTIAL_CODES, FORBIDDEN, UNAUTHORIZED, Call, Kind, failure
from countersign.tsb.models import Credentials, Reply, Role, Tls
from countersign.tsb.transport import NETWORK, VerifiedAdapter, base_url, send

MANAGEMENT, OPERATION, SERVICE = "keyManagement", "keyOperation", "service"
APPROVER = "approver"
CONNECT_SECONDS = 10
SECONDS = 60  # an HSM may need this long for a key of 8,192 bits

type Json = dict[str, Any]


@dataclass(frozen=True)
class Tokens:
    """The credentials, by role. None: there is none."""

    management: str | None = field(default=None, repr=False)
    operation: str | None = field(default=None, repr=False)
    service: str | None = field(default=None, repr=False)
    approver: str | None = field(default=None, repr=False)
    bearer: str | None = field(default=None, repr=False)

    def of(self, role: str | None) -> str | None:
        """The API key of a role."""
        return {
            MANAGEMENT: self.management,
            OPERATION: self.operation,
            SERVICE: self.service,
            APPROVER: self.approver,
        }.get(role or "")

    @property
    def secrets(self) -> tuple[str, ...]:
        """All of them."""
        values = (getattr(self, one.name) for one in fields(self))
        return tuple(value for value in values if value)


@dataclass(frozen=True)
class Said:
    """An answer. `code` is TSB's errorCode; `content` is its JSON, None where it is none."""

    status: int
    code: int | None
    content: Any
    reply: Reply = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether it is a success of TSB's: without a body, or with JSON. A page is not TSB's."""
        return self.reply.succeeded and (self.reply.body == b"" or self.content is not None)

    @property
    def not_allowed(self) -> bool:
        """Whether the credentials were refused."""
        return self.status in (UNAUTHORIZED, FORBIDDEN) or self.code in CREDENTIAL_CODES

    def __str__(self) -> str:
        return f"HTTP {self.status}" + (f", {self.code}" if self.code is not None else "")


class Calls:
    """One TSB.

    Args:
        url: base URL without `/v1`; https, or http on the loopback address.
        tokens: what is shown to it.
        tls: see `Tls`. Verification cannot be switched off.
        proxy_url: an HTTP proxy.
        transport: replaces the network, for tests in process.

    Raises:
        TsbCredentialsError: URL, CA bundle or client certificate are of no use.
    """

    def __init__(
        self,
        url: str,
        tokens: Tokens,
        *,
        tls: Tls | None = None,
        proxy_url: str | None = None,
        transport: BaseAdapter | None = None,
    ) -> None:
        self.tokens = tokens
        self.log: list[Json] = []  # method, path, role and answer of each call; nothing else
        self._url = base_url(url)
        self._proxies = {"https": proxy_url} if proxy_url else {}
        self._adapter = transport or VerifiedAdapter(tls or Tls())

    def ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        role: str | None,
        bearer: bool = True,
    ) -> Said:
        """Make one call.

        Args:
            method: of HTTP.
            path: from `/v1` on.
            body: sent as JSON.
            role: whose API key is shown; None: none.
            bearer: whether the bearer token is shown.

        Raises:
            TsbUnavailableError, TsbOutcomeUnknownError, TsbCredentialsError: no answer came.
        """
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if api_key := self.tokens.of(role):
            headers["X-API-KEY"] = api_key
        if bearer and self.tokens.bearer:
            headers["Authorization"] = f"Bearer {self.tokens.bearer}"
        begun = time.monotonic()
        said: Said | None = None
        try:
            self._adapter.close()  # a kept connection may be gone: an answer is never lost to that
            reply = send(
                self._adapter,
                method,
                self._url + path,
                body,
                headers=headers,
                proxies=self._proxies,
                connect_seconds=CONNECT_SECONDS,
                seconds=SECONDS,
            )
            said = _read(reply)
        except NETWORK as fault:
            call = Call(Kind.CREATE, method, path, Role.SERVICE)
            raise failure(call, Credentials(), fault) from None
        finally:
            self.log.append(
                {
                    "call": f"{method} {_template(path)}",
                    "role": role,
                    "httpStatus": said.status if said else None,
                    "errorCode": said.code if said else None,
                    "milliseconds": round((time.monotonic() - begun) * 1000),
                }
            )
        return said

    def close(self) -> None:
        """Close the connection."""
        self._adapter.close()


def _read(reply: Reply) -> Said:
    try:
        content = reply.json()
    except ValueError:
        content = None
    code = content.get("errorCode") if isinstance(content, dict) else None
    return Said(reply.status, code if type(code) is int else None, content, reply)


def _template(path: str) -> str:
    """The path without ids and labels."""
    known = ("/v1/request/", "/v1/certificate/")
    last = path.rpartition("/")[2]
    named = path.startswith(known) and last not in ("request", "sign", "selfsign", "plain")
    return path[: -len(last)] + "{}" if named else path


def compact(content: Any) -> str:
    """JSON on one line."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)
