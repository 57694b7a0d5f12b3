"""TSB's credentials, by reference: read when needed, kept a few minutes, never shown."""

import json
import time
from typing import Any

from countersign.aws.clients import client, named_errors
from countersign.errors import TsbCredentialsError
from countersign.tsb import Credentials, Tls

KEEP_SECONDS = 300  # a rolled key or certificate reaches warm functions within five minutes

_kept: dict[str, tuple[float, str]] = {}


def credentials(secret_arn: str) -> Credentials:
    """API keys and bearer token of a role.

    Raises:
        TsbCredentialsError: the secret holds no JSON object of the expected shape.
    """
    content = _object(secret_arn)
    return Credentials(
        api_keys=tuple(content.get("apiKeys") or ()), bearer_token=content.get("bearerToken")
    )


def tls(secret_arn: str) -> Tls:
    """CA bundle and client certificate (all PEM, each may be missing)."""
    content = _object(secret_arn)
    return Tls(
        ca_bundle=content.get("caBundle"),
        certificate=content.get("certificate"),
        private_key=content.get("privateKey"),
    )


def attestation_chain(secret_arn: str) -> str:
    """The chain (PEM) from the HSM's attestation key up to its maker's root; empty: not given."""
    return str(_object(secret_arn).get("attestationChain") or "")


def password(secret_arn: str) -> str:
    """A key password: the secret's text as it is."""
    return _text(secret_arn)


def _object(secret_arn: str) -> dict[str, Any]:
    try:
        content = json.loads(_text(secret_arn))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise TsbCredentialsError(
            f"secret {secret_arn} holds no JSON object",
            action='Put {"apiKeys": ["…"], "bearerToken": null} there, as the README shows.',
        )
    return content


def _text(secret_arn: str) -> str:
    kept = _kept.get(secret_arn)
    if kept and kept[0] > time.monotonic():
        return kept[1]
    with named_errors(f"reading secret {secret_arn}"):
        text: str = client("secretsmanager").get_secret_value(SecretId=secret_arn)["SecretString"]
    _kept[secret_arn] = (time.monotonic() + KEEP_SECONDS, text)
    return text
