"""TSB's credentials, by reference: read when needed, kept for a few minutes, never shown."""

import json
import time
from typing import Any

from countersign.aws.clients import client, named_errors
from countersign.errors import AwsCallError, TsbCredentialsError
from countersign.tsb.models import Credentials, Tls

KEEP_SECONDS = 300  # a replaced key or certificate reaches warm functions within 5 minutes

_kept: dict[str, tuple[float, str]] = {}


def credentials(secret_arn: str, *, anew: bool = False) -> Credentials:
    """API keys and bearer token of a role; `anew` skips the cache and asks Secrets Manager.

    Raises:
        TsbCredentialsError: the secret has no value, or its value has not the expected form.
    """
    if anew:
        _kept.pop(secret_arn, None)
    content = _object(secret_arn)
    keys = content.get("apiKeys") or []
    if not isinstance(keys, list):
        raise _misshapen(secret_arn, "apiKeys is no list")
    return Credentials(
        api_keys=tuple(_header(secret_arn, "apiKeys", key) for key in keys),
        bearer_token=(
            _header(secret_arn, "bearerToken", content["bearerToken"])
            if content.get("bearerToken")
            else None
        ),
    )


def tls(secret_arn: str) -> Tls:
    """CA bundle and client certificate, in PEM; each may be missing.

    Raises:
        TsbCredentialsError: the secret has no value, or its value has not the expected form.
    """
    content = _object(secret_arn)
    for name in ("caBundle", "certificate", "privateKey"):
        if not isinstance(content.get(name), str | None):
            raise _misshapen(secret_arn, f"{name} is no text")
    return Tls(
        ca_bundle=content.get("caBundle") or None,
        certificate=content.get("certificate") or None,
        private_key=content.get("privateKey") or None,
    )


def attestation_chain(secret_arn: str) -> str:
    """The chain (PEM) from the HSM's attestation key to its maker's root; empty: not configured."""
    return str(_object(secret_arn).get("attestationChain") or "")


def password(secret_arn: str) -> str:
    """A key password: the unchanged text of the secret."""
    return _text(secret_arn)


def _object(secret_arn: str) -> dict[str, Any]:
    try:
        content = json.loads(_text(secret_arn))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _misshapen(secret_arn, "it holds no JSON object")
    return content


def _header(secret_arn: str, name: str, value: object) -> str:
    """The value as an HTTP header can hold it, without the line end of a pasted file."""
    text = value.strip() if isinstance(value, str) else ""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise _misshapen(secret_arn, f"{name} holds something that no HTTP header can carry")
    return text


def _misshapen(secret_arn: str, what: str) -> TsbCredentialsError:
    return TsbCredentialsError(
        f"secret {secret_arn}: {what}",
        action="Put a value there of the form that the secret's description shows.",
    )


def _text(secret_arn: str) -> str:
    kept = _kept.get(secret_arn)
    if kept and kept[0] > time.monotonic():
        return kept[1]
    try:
        with named_errors(f"reading secret {secret_arn}"):
            answer = client("secretsmanager").get_secret_value(SecretId=secret_arn)
    except AwsCallError as error:
        if error.reason != "ResourceNotFoundException":
            raise
        raise _misshapen(secret_arn, "it has no value yet") from error
    text: str = answer["SecretString"]
    _kept[secret_arn] = (time.monotonic() + KEEP_SECONDS, text)
    return text
