"""A CA in the HSM, made as the vendor's tutorial makes it: its key, then its own certificate.

Source: TSB documentation, Tutorials/Certificate/with-ska/SelfSignedCertificate.
"""

import copy
import json
from pathlib import Path
from typing import Any

from local.approver import Approver, ApproverClient

SEED = Path(__file__).parents[1] / "events/seed"
COMMON_NAME, VALIDITY_DAYS = "Approver-Intermediate-CA", 3650


def policy(*members: Approver, quorum: int = 1, timeout: int = 3600) -> dict[str, Any]:
    """A policy whose every rule asks so many of these people."""
    approvals = [{"type": "public_key", "name": one.name, "value": one.spki} for one in members]
    group = {"name": "Group1", "quorum": quorum, "approvals": approvals}
    rule = {"tokens": [{"name": "Token1", "timelock": 0, "timeout": timeout, "groups": [group]}]}
    names = ("ruleUse", "ruleBlock", "ruleUnblock", "ruleModify")
    return {**{name: copy.deepcopy(rule) for name in names}, "keyStatus": {"blocked": False}}


def make_key(client: ApproverClient, label: str, policy: dict[str, Any], **different: Any) -> None:
    """Create the CA's key: the seed's body with this label and policy.

    Args:
        client: with an API key of role key management.
        label: of the key.
        policy: whose approval its use needs.
        different: fields of the body other than the seed's.
    """
    body = json.loads((SEED / "create-key.json").read_text())
    client.send("POST", "/v1/key", {**body, **different, "label": label, "policy": policy})


def ask_for_certificate(client: ApproverClient, label: str, **different: Any) -> str:
    """Ask for the CA's self-signed certificate; TSB's id of the request.

    Args:
        client: with an API key of the role of `/v1/certificate/**`.
        label: of the CA's key, whose approvers are asked.
        different: fields of `selfSignCertificateRequest` other than the tutorial's.
    """
    inner = {
        "signKeyName": label,
        "keyPassword": None,
        "validity": VALIDITY_DAYS,
        "signatureAlgorithm": "SHA256_WITH_RSA",
        "commonName": COMMON_NAME,
        "certificateAuthority": True,
        "keyUsage": ["DIGITAL_SIGNATURE", "KEY_CERT_SIGN"],
        "extendedKeyUsage": ["ANY_EXTENDED_KEY_USAGE"],
        **different,
    }
    body = {"selfSignCertificateRequest": inner}
    return str(client.send("POST", "/v1/certificate/selfsign", body)["signRequestId"])
