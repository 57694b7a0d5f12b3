"""Requests as a stack puts them to a TSB, for tests of those who are asked."""

from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from countersign import models as m
from countersign.request import canonical, tsb_bodies
from local.approver import Approver

LABEL = "SUB.web"

type Json = dict[str, Any]


def raw(approver: Approver, *, label: str = LABEL, **csr: Any) -> Json:
    """A request for a CSR that this approver decides about alone, within an hour."""
    group = {
        "name": "g",
        "quorum": 1,
        "approvals": [{"type": "public_key", "name": approver.name, "value": approver.spki}],
    }
    token = {"name": "t", "timelock": 0, "timeout": 3600, "groups": [group]}
    return {
        "key": {
            "label": label,
            "algorithm": "EC",
            "curveOid": "1.2.840.10045.3.1.7",
            "attributes": {"decrypt": False, "sign": True, "unwrap": False},
            "policy": {"ruleUse": {"tokens": [token]}, "keyStatus": {"blocked": False}},
        },
        "csr": {
            "signatureAlgorithm": "SHA256_WITH_ECDSA",
            "validity": 365,
            "standardCertificateAttributes": {"commonName": "web.example", "country": "CH"},
            "keyUsage": ["DIGITAL_SIGNATURE"],
            "extendedKeyUsage": ["SERVER_AUTH"],
            **csr,
        },
        "reason": "OPS-42",
    }


def body(request: Json, stack: ec.EllipticCurvePrivateKey, *, enrollment_id: str = "web") -> Json:
    """The call by which a stack with this signing key asks for it."""
    accepted = m.EnrollmentRequest.read(request)
    shown = tsb_bodies.meta_data(accepted, enrollment_id=enrollment_id, names={}, requester="ada")
    signature = stack.sign(shown, ec.ECDSA(hashes.SHA256()))
    asked = tsb_bodies.tsb_csr(accepted, None, shown=shown, signature=signature)
    return {"csrSignRequest": asked}


def digest(request: Json) -> str:
    """The SHA-256 that everybody shows."""
    return canonical.sha256(canonical.accepted(m.EnrollmentRequest.read(request)))
