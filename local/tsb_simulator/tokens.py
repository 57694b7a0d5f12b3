"""Access tokens: JSON Web Tokens with an expiry, signed with a secret of this simulator (HS256)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets

from local.tsb_simulator.errors import TsbError

HEADER = {"alg": "HS256", "typ": "JWT"}


class Tokens:
    """Issues tokens and knows its own again."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._revoked: set[str] = set()

    def issue(self, expires: float) -> str:
        """A token that is good until this epoch second."""
        claims = {"sub": "countersign", "exp": int(expires), "jti": secrets.token_hex(8)}
        signed = ".".join(_encode(json.dumps(part).encode()) for part in (HEADER, claims))
        return f"{signed}.{self._signature(signed)}"

    def revoke(self, token: str) -> None:
        """Accept it no longer."""
        self._revoked.add(token)

    def check(self, authorization: str | None, now: float) -> None:
        """Refuse what is no valid token: 406 missing, 617 invalid or expired."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TsbError(406, "The access token is missing.", status=401)
        signed, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature, self._signature(signed)) or token in self._revoked:
            raise TsbError(617, "The access token is not valid.", status=401)
        claims = json.loads(_decode(signed.partition(".")[2]))
        if claims["exp"] <= now:
            raise TsbError(617, "The access token is not valid.", status=401)

    def _signature(self, signed: str) -> str:
        return _encode(hmac.digest(self._secret, signed.encode(), hashlib.sha256))


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
