"""What comes back otherwise than it was asked for, approved or made; well-formed all the same."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from local.tsb_simulator import certificates, keys
from local.tsb_simulator.attestation import make_attestation
from local.tsb_simulator.bodies import CsrBody, SignCertificateBody

if TYPE_CHECKING:
    from local.tsb_simulator.broker import Broker, Request
    from local.tsb_simulator.faults import Forgery

LONG_AGO = 86_400


def forge(broker: Broker, answer: dict[str, Any], what: Forgery, part: str) -> dict[str, Any]:
    """The answer of a request's status, or of a key's attributes, as `what` says."""
    if "json" in answer:
        return _attributes(broker, broker.keys[answer["json"]["label"]], what)
    if "approvedBy" in answer and answer["status"] == "EXECUTED":
        return {**answer, **_status(broker, broker.request(part), answer, what)}
    return answer


def _status(
    broker: Broker, request: Request, answer: dict[str, Any], what: Forgery
) -> dict[str, Any]:
    if what == "stranger":
        stranger = base64.b64encode(broker.decoy().spki).decode()
        return {"approvedBy": [*answer["approvedBy"], stranger]}
    if what == "unreadable_stranger":
        return {"approvedBy": [*answer["approvedBy"], "approver-name@email.com"]}
    if what == "too_few":
        return {"approvedBy": answer["approvedBy"][1:]}
    if isinstance(request.inner, SignCertificateBody) and what.startswith("certificate_"):
        now = request.executed or broker.clock.now(request.key.label)
        forged = certificates.forged_certificate(
            request.key, broker.decoy(), request.inner, now, what
        )
        return {"result": forged}
    if not isinstance(request.inner, CsrBody):
        return {}
    forged = certificates.forged_csr(request.key, broker.decoy(), request.inner, what)
    return {"result": forged}


def _attributes(broker: Broker, key: keys.HsmKey, what: Forgery) -> dict[str, Any]:
    """What the HSM would say of another key, in the place of this one or beside the true JSON."""
    now, decoy = broker.clock.now(key.label), broker.decoy()
    extractable = replace(key, attributes={**key.attributes, "extractable": True})
    changed = {
        "other_public_key": replace(key, private=decoy.private),
        "weaker_policy": replace(key, policy=_weaker(key.policy)),
        "extractable": extractable,
        "blocked": replace(key, policy={**(key.policy or {}), "keyStatus": {"blocked": True}}),
    }
    attested = {"other_key_attested": decoy, "attributes_not_attested": extractable}
    ours = make_attestation() if what == "other_root" else broker.attestation
    moment = now - LONG_AGO if what == "old_attestation" else now
    layout = broker.switches.attestation_layout
    said = keys.answer(changed.get(what, key), ours, moment, layout)
    if what in attested:
        other = keys.answer(attested[what], ours, moment, layout)
        return {**said, "xml": other["xml"], "xmlSignature": other["xmlSignature"]}
    return said


def _weaker(policy: dict[str, Any] | None) -> dict[str, Any]:
    """A policy whose use needs one approval less, or nobody's at all."""
    whole = policy or {}
    tokens = [
        {
            **token,
            "groups": [
                {**group, "quorum": group["quorum"] - 1}
                for group in token["groups"]
                if group["quorum"] > 1
            ],
        }
        for token in whole["ruleUse"]["tokens"]
    ]
    return {**whole, "ruleUse": {"tokens": tokens}}
