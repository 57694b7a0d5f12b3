"""Misbehaviour on demand: which calls go wrong, how often, and how."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Forgery = Literal[
    # of the CSR
    "other_key", "other_subject", "added_subject", "dropped_subject", "reordered_subject",
    "missing_extension", "changed_usage", "dropped_criticality", "added_san", "extra_extension",
    "broken_signature", "weaker_algorithm", "not_pem",
    # of the certificate
    "certificate_other_key", "certificate_other_signer", "certificate_broken_signature",
    "certificate_other_algorithm", "certificate_other_issuer", "certificate_other_authority",
    "certificate_other_subject", "certificate_ca", "certificate_changed_usage",
    "certificate_missing_usage", "certificate_dropped_criticality", "certificate_added_san",
    "certificate_other_identifier", "certificate_later", "certificate_longer",
    "certificate_negative_serial", "certificate_other_encoding", "certificate_chain",
    # of the approvals
    "stranger", "unreadable_stranger", "too_few",
    # of the key's attributes
    "other_public_key", "weaker_policy", "extractable", "blocked",
    # of their attestation
    "other_root", "other_key_attested", "attributes_not_attested", "old_attestation",
]  # fmt: skip


class Fault(BaseModel):
    """What goes wrong with a call.

    - `status`: answer `httpStatus` with `body` (JSON, or text), having executed the call or not.
    - `drop`: end the TCP connection without an answer, having executed the call or not.
    - `delay`: answer after `seconds`.
    - `truncate`: send half of the announced body, then end the connection.
    - `forge`: the CSR, the certificate, the approvals or the key's attested attributes differ as
      `what` says (forgeries.py); the HSM itself seems to say so, unless the attestation is what is
      forged.
    - `request_status`: the status of a request reads `status`.
    - `request_id`: the answer carries another request's id.
    - `hsm_error`: the request that is posted here will be FAILED when it is executed.
    """

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=True)

    kind: Literal[
        "status", "drop", "delay", "truncate", "forge", "request_status", "request_id",
        "hsm_error",
    ]  # fmt: skip
    http_status: int = 503
    body: Any = None
    executed: bool = False
    seconds: float = 0
    what: Forgery = "other_key"
    status: str = "FROBNICATED"


class FaultRule(BaseModel):
    """Which calls a fault befalls; what is not given matches all. `times` null: for ever."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=True)

    label: str | None = None
    method: str | None = None
    path: str | None = None
    skip: Annotated[int, Field(ge=0)] = 0
    times: Annotated[int, Field(ge=1)] | None = 1
    fault: Fault


@dataclass
class _Armed:
    rule: FaultRule
    skip: int
    left: int | None


class Faults:
    """The faults that are armed, by id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: dict[str, _Armed] = {}

    def arm(self, rule: FaultRule) -> str:
        """Add a rule; its id."""
        with self._lock:
            rule_id = uuid.uuid4().hex[:8]
            self._armed[rule_id] = _Armed(rule, rule.skip, rule.times)
            return rule_id

    def clear(self, label: str | None = None) -> None:
        """Remove all rules, or those of one key label."""
        with self._lock:
            self._armed = {
                rule_id: one
                for rule_id, one in self._armed.items()
                if label is not None and one.rule.label != label
            }

    def strike(self, method: str, template: str, label: str | None) -> Fault | None:
        """The fault that befalls this call, counted."""
        with self._lock:
            for one in self._armed.values():
                rule = one.rule
                if (
                    rule.label in (None, label)
                    and rule.method in (None, method)
                    and rule.path in (None, template)
                    and one.left != 0
                ):
                    if one.skip:
                        one.skip -= 1
                        continue
                    if one.left is not None:
                        one.left -= 1
                    return rule.fault
        return None
