"""The broker: keys, requests, tasks and what happens to them. In memory, thread-safe."""

from __future__ import annotations

import base64
import json
import struct
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic.alias_generators import to_camel

from local.tsb_simulator import certificates, der, keys, policy
from local.tsb_simulator.bodies import (
    BlockBody,
    BlockKey,
    ChangeAttributesBody,
    CreateKeyBody,
    CsrBody,
    ModifyBody,
    ModifyKey,
    RuleBody,
    RulesBody,
    SelfSignBody,
    SignCertificateBody,
    SigningBody,
    UnblockBody,
    UnblockKey,
)
from local.tsb_simulator.clock import Clock, iso
from local.tsb_simulator.errors import TsbError, hsm_refusal

if TYPE_CHECKING:
    from local.tsb_simulator.attestation import Attestation
    from local.tsb_simulator.switches import Switches

# 1 and 4 were seen in recorded approvals; 2 and 3 are inferred from the order of the names.
OPERATIONS = {"block": 2, "unblock": 3, "modify": 4}
OPERATION_USE = 1
TIMESTAMP_KEY = "timestamp-key"
# Documented under "system keys".
SYSTEM_KEYS = (
    "approver-mgmt-backup-key-rsa-wrapping",
    "attestation-key",
    "rfc-timestamp-key",
    TIMESTAMP_KEY,
)
PAYLOAD, POLICY = 0x1057, 0x1058  # kinds of record in what approvers sign
LONGEST_RECORD = 0xFFFF
type Change = BlockKey | UnblockKey | ModifyKey
type Inner = (
    CsrBody | SignCertificateBody | SelfSignBody | SigningBody
    | BlockBody | UnblockBody | ModifyBody
)  # fmt: skip


@dataclass
class Task:
    """What one approver is asked to sign."""

    id: str
    approver: str
    to_be_signed: str
    fetched: float = 0.0


@dataclass
class Request:
    """One use or change of a key that waits for its approvals."""

    id: str
    key: keys.HsmKey
    kind: str
    inner: Inner
    created: float
    payload: bytes
    posted: str
    tasks: dict[str, Task] = field(default_factory=dict)
    votes: tuple[policy.Vote, ...] = ()
    status: policy.Status = "PENDING"
    executed: float | None = None
    result: str | None = None
    fetched: bool = False
    fails: bool = False

    @property
    def rule(self) -> policy.Rule | None:
        """Whose approval it needs."""
        return _rule(self.key, self.kind)


class Broker:
    """TSB's state. Every public method answers as the HSM's clock stands for the key."""

    def __init__(self, switches: Switches, attestation: Attestation) -> None:
        self.switches = switches
        self.clock = Clock()
        self.attestation = attestation
        self.lock = threading.RLock()
        self.keys: dict[str, keys.HsmKey] = {}
        self.deleted: list[keys.HsmKey] = []
        self.requests: dict[str, Request] = {}
        self._timestamp_key = ec.generate_private_key(ec.SECP256R1())
        self._decoy: keys.HsmKey | None = None

    def reset(self) -> None:
        """Forget everything."""
        with self.lock:
            self.keys.clear()
            self.deleted.clear()
            self.requests.clear()
            self.clock.reset()

    # Keys ------------------------------------------------------------------------------------

    def create_key(self, body: CreateKeyBody) -> keys.HsmKey:
        """Make a key; 608 where the label is used."""
        with self.lock:
            self._require_free(body.label)
        made = keys.create(body, self.clock.now(body.label), self.switches)
        with self.lock:
            self._require_free(body.label)
            self.keys[body.label] = made
        return made

    def _require_free(self, label: str) -> None:
        gone = {key.label for key in self.deleted}
        reusable = self.switches.label_reusable_after_delete
        taken = self._find(label) is not None or label in SYSTEM_KEYS
        if taken or (not reusable and label in gone):
            raise TsbError(608, "Could not create key. The key name is already in use.")

    def _find(self, label: str) -> keys.HsmKey | None:
        if self.switches.label_matching == "ignoreCase":
            return next(
                (k for name, k in self.keys.items() if name.casefold() == label.casefold()), None
            )
        return self.keys.get(label)

    def key(self, label: str, password: str | None) -> keys.HsmKey:
        """A key that is there (650), opened with its password (620); TSB's own are not ours (701).

        Raises:
            TsbError: see above.
        """
        if label in SYSTEM_KEYS:
            raise hsm_refusal("HSM error: status: PKCS#11: KEY_FUNCTION_NOT_PERMITTED")
        found = self._find(label)
        if found is None:
            raise TsbError(650, f"A key with the name '{label}' does not exist.")
        found.require_password(password)
        return found

    def attributes(self, key: keys.HsmKey) -> dict[str, Any]:
        """The signed attributes."""
        kept = self.switches.attestation_time == "created"
        moment = key.created if kept else self.clock.now(key.label)
        return keys.answer(key, self.attestation, moment, self.switches.attestation_layout)

    def delete_key(self, label: str, password: str | None) -> None:
        """Delete a destroyable key, and cancel its requests."""
        with self.lock:
            key = self.key(label, password)
            if not key.attributes["destroyable"]:
                code = self.switches.indestructible_delete_code
                raise TsbError(code, "KEY_FUNCTION_NOT_PERMITTED")
            if key.policy is not None and self.switches.ska_delete_needs_approval:
                raise hsm_refusal("The provided approvals are insufficient")
            for request in self.requests.values():
                if request.key is key and self.assess(request) not in policy.FINAL:
                    self._end(request, "CANCELLED")
            key.deleted = True
            self.deleted.append(self.keys.pop(key.label))

    def change_password(self, label: str, password: str | None, new: str | None) -> None:
        """Give a modifiable key another password (701 where it is not modifiable)."""
        with self.lock:
            key = self.key(label, password)
            _require_modifiable(key)
            key.password = new

    def change_attributes(self, body: ChangeAttributesBody) -> keys.HsmKey:
        """Give a modifiable key other capabilities; its policy has requests of its own."""
        with self.lock:
            key = self.key(body.label, body.password)
            _require_modifiable(key)
            changes = body.attributes.model_dump(by_alias=True, exclude_none=True)
            keys.change_attributes(key, changes)
            return key

    # Requests --------------------------------------------------------------------------------

    def post(self, kind: str, inner: Inner, posted: str, *, fails: bool = False) -> Request:
        """Take a request for a use of a key, or for changing it.

        Everybody whom the rule names gets a task.
        """
        with self.lock:
            key = self.key(inner.sign_key_name, inner.key_password)
            self._check_use(key, inner, "post")
            if isinstance(inner, CsrBody):
                payload = self._csr_payload(key, inner, posted)
            elif isinstance(inner, SigningBody):
                payload = base64.b64decode(inner.payload)
            elif isinstance(inner, ModifyKey):
                payload = _policy_payload(inner.policy, self.switches)
            else:
                payload = posted.encode()
            request = Request(
                id=str(uuid.uuid4()),
                key=key,
                kind=kind,
                inner=inner,
                created=self.clock.now(key.label),
                payload=payload,
                posted=posted,
                fails=fails,
            )
            for approver in request.rule.approvers if request.rule else ():
                signed = base64.b64encode(self._to_be_signed(request)).decode()
                request.tasks[approver] = Task(str(uuid.uuid4()), approver, signed)
            self.requests[request.id] = request
            self.assess(request)
            return request

    def _csr_payload(self, key: keys.HsmKey, inner: CsrBody, posted: str) -> bytes:
        """What the approvers of a CSR agree to: its to-be-signed part, where there will be one."""
        try:
            info = certificates.request_info(key, inner, self.switches)
            as_posted = self.switches.csr_approval_payload == "request"
            return posted.encode() if as_posted else info
        except TsbError:
            if self.switches.subject_refused == "post":
                raise
            return posted.encode()

    def perform(self, kind: str, inner: SigningBody | Change) -> str | None:
        """Use or change a key at once; what the synchronous calls do.

        Raises:
            TsbError: 701 where the key's policy wants approvals.
        """
        with self.lock:
            key = self.key(inner.sign_key_name, inner.key_password)
            self._check_use(key, inner, "post")
            self.require_no_approval(key, kind)
            self._check_use(key, inner, "execution")
            return self._carry_out(key, inner)

    def require_no_approval(self, key: keys.HsmKey, kind: str) -> None:
        """Refuse a synchronous call whose rule is not fulfilled without anybody's approval (701).

        A rule may be: none, one without groups, one whose quorum is 0.
        """
        if self.switches.synchronous_policy == "alwaysFulfilled":
            return
        found = policy.assess(_rule(key, kind), (), 0.0, empty_tokens=self.switches.empty_tokens)
        if found.status != "EXECUTED":
            raise hsm_refusal("Error creating signature. The provided approvals are insufficient.")

    def _check_use(self, key: keys.HsmKey, inner: Inner | Change, moment: str) -> None:
        if isinstance(inner, BlockKey | UnblockKey | ModifyKey):
            if key.policy is None:
                raise TsbError(614, f"The key '{key.label}' is no SKA key.")
            if isinstance(inner, ModifyKey):
                keys.read_rules(inner.policy, self.switches)
            return
        if self.switches.forbidden_use == moment and (key.blocked or not key.attributes["sign"]):
            raise hsm_refusal()
        if self.switches.algorithm_check == moment:
            certificates.check_algorithm(key, inner.signature_algorithm)
        if moment == "post" and isinstance(inner, SignCertificateBody):
            self._check_issuing(key, inner)
        if moment == "post" and isinstance(inner, CsrBody):
            certificates.check_subject(inner.standard_certificate_attributes, self.switches)
            least = self.switches.csr_validity_minimum
            if least is not None and inner.validity < least:
                raise TsbError(600, "Value is not valid for field validity.")
            if inner.subject_alternative_names and not self.switches.subject_alternative_names:
                raise TsbError(600, "Unrecognized field subjectAlternativeNames.")

    def _check_issuing(self, ca: keys.HsmKey, inner: SignCertificateBody) -> None:
        newer = {"validity", "standard_certificate_attributes", "copy_extensions"}
        found = sorted(newer & inner.model_fields_set)
        if found and not self.switches.newer_sign_properties:
            raise TsbError(600, f"Unrecognized field {to_camel(found[0])}.")
        if inner.common_name is None and inner.standard_certificate_attributes is None:
            raise TsbError(600, "Value is not valid for field commonName.")
        if inner.copy_extensions == "COPY":
            raise TsbError(611, "Copying extensions is not simulated.")
        certificates.read_csr(inner.certificate_signing_request)
        certificates.require_certificate(ca, self.clock.now(ca.label))

    def request(self, request_id: str) -> Request:
        """A request that is there (651); 609 for what is no UUID."""
        try:
            uuid.UUID(request_id)
        except ValueError:
            raise TsbError(609, "The id is not a valid UUID.") from None
        found = self.requests.get(request_id)
        forgets = self.switches.cancelled_requests == "forgotten"
        if found is None or (forgets and found.status == "CANCELLED"):
            raise TsbError(651, f"A request with the id '{request_id}' does not exist.")
        return found

    def assess(self, request: Request) -> policy.Status:
        """Bring a request up to the clock; executes it when it may be."""
        with self.lock:
            if request.status in policy.FINAL:
                return request.status
            now = self.clock.now(request.key.label)
            found = policy.assess(
                request.rule,
                request.votes,
                now - request.created,
                empty_tokens=self.switches.empty_tokens,
                timeout_stops_approved=self.switches.timeout_stops_approved,
                timer_interval=self.switches.timer_interval_seconds,
            )
            if found.status == "EXECUTED":
                self._execute(request, now)
            elif found.status in policy.FINAL:
                self._end(request, found.status)
            else:
                request.status = found.status
                if found.status == "APPROVED" and self.switches.approved_after_quorum == "tasksGo":
                    request.tasks.clear()
            return request.status

    def _execute(self, request: Request, now: float) -> None:
        request.executed = now
        try:
            if request.fails:
                raise hsm_refusal("simulated HSM error")
            self._check_use(request.key, request.inner, "execution")
            request.result = self.made(request, now)
            self._end(request, "EXECUTED")
        except TsbError:
            self._end(request, "FAILED")

    def made(self, request: Request, now: float) -> str | None:
        """What the execution of a request gives."""
        inner, key = request.inner, request.key
        if isinstance(inner, CsrBody):
            info = certificates.request_info(key, inner, self.switches)
            if self.switches.csr_leaves_certificate:
                certificates.keep_after_csr(key, inner, now, self.switches)
            return certificates.csr(key, info, inner.signature_algorithm)
        if not isinstance(inner, SignCertificateBody | SelfSignBody):
            return self._carry_out(key, inner)
        if isinstance(inner, SignCertificateBody):
            return certificates.issue(key, inner, now, self.switches)
        pem = certificates.self_sign(key, inner, now, self.switches)
        return pem if self.switches.self_sign_result == "certificate" else "true"

    def _carry_out(self, key: keys.HsmKey, inner: SigningBody | Change) -> str | None:
        """Sign a payload (base64), or change the key (nothing)."""
        if isinstance(inner, SigningBody):
            if inner.signature_type == "ETH":
                raise TsbError(611, "Signatures of type ETH are not simulated.")
            payload = base64.b64decode(inner.payload)
            signature = certificates.sign(key, payload, inner.signature_algorithm)
            return base64.b64encode(signature).decode()
        if isinstance(inner, ModifyKey):
            key.rules = keys.read_rules(inner.policy, self.switches)
            rules = keys.echoed(inner.policy, self.switches)
            key.policy = {**rules, "keyStatus": {"blocked": key.blocked}}
        else:
            key.blocked = isinstance(inner, BlockKey)
            key.policy = {**(key.policy or {}), "keyStatus": {"blocked": key.blocked}}
        return None

    def _end(self, request: Request, status: policy.Status) -> None:
        request.status = status
        request.tasks.clear()

    def cancel(self, request: Request) -> None:
        """`DELETE /v1/request/{id}`."""
        with self.lock:
            if self.assess(request) not in policy.FINAL:
                self._end(request, "CANCELLED")
            elif self.switches.cancel_final_request == "refuse":
                raise hsm_refusal("The request has ended.")
            elif self.switches.cancel_final_request == "overwrite":
                self._end(request, "CANCELLED")

    def vote(self, request: Request, approver: str, *, approves: bool) -> None:
        """Count one approver's decision; his task is gone."""
        with self.lock:
            age = self.clock.now(request.key.label) - request.created
            request.tasks.pop(approver, None)
            request.votes = (*request.votes, policy.Vote(age, approver, approves))
            self.assess(request)

    def status(self, request: Request) -> dict[str, Any]:
        """The request status object."""
        with self.lock:
            status = self.assess(request)
            age = self.clock.now(request.key.label) - request.created
            open_for = policy.outstanding(request.rule, request.votes, age)
            if status in policy.FINAL and self.switches.lists_after_end == "emptied":
                open_for = ()
            result = request.result if not (self.switches.fetch_once and request.fetched) else None
            request.fetched = request.fetched or result is not None
            answer: dict[str, Any] = {
                "id": request.id,
                "status": status,
                "executionTime": iso(request.executed) if request.executed else None,
                "approvedBy": _voters(request, approves=True),
                "notYetApprovedBy": list(open_for),
                "rejectedBy": _voters(request, approves=False),
                "result": result,
            }
            if self.switches.input_offline_hsm:
                answer["inputOfflineHsm"] = None
            return answer

    def decoy(self) -> keys.HsmKey:
        """A key that nobody asked for, for forgeries."""
        with self.lock:
            if self._decoy is None:
                body = CreateKeyBody.model_validate(
                    {
                        "label": "decoy",
                        "algorithm": "RSA",
                        "keySize": 2048,
                        "attributes": {"decrypt": False, "sign": True, "unwrap": False},
                    }
                )
                self._decoy = keys.create(body, self.clock.now(), self.switches)
            return self._decoy

    def _to_be_signed(self, request: Request) -> bytes:
        """The bytes that an approver signs: little-endian records, padded to four bytes.

        Source: two recorded approvals, of a signature and of a policy's change, decoded. For a CSR
        the payload is its to-be-signed part (inferred).
        """
        payload = _record(PAYLOAD, request.payload)
        if isinstance(request.inner, ModifyKey):
            payload = _record(POLICY, request.payload)
        stamp = _sized(
            payload
            + _record(0x0107, struct.pack("<Q", int(request.created)))
            + _text(TIMESTAMP_KEY)
        )
        algorithm = der.tlv(der.SEQUENCE, der.oid("1.2.840.10045.4.3.2"), der.NULL)
        signature = self._timestamp_key.sign(stamp, ec.ECDSA(hashes.SHA256()))
        operation = OPERATIONS.get(request.kind, OPERATION_USE)
        return _sized(
            _number(0x003B, operation)
            + _text(request.key.label)
            + _record(0x1054, stamp)
            + _record(0x1056, der.tlv(der.SEQUENCE, algorithm, der.bit_string(signature)))
            + payload
        )


def _require_modifiable(key: keys.HsmKey) -> None:
    if not key.attributes["modifiable"]:
        raise hsm_refusal()


def _rule(key: keys.HsmKey, kind: str) -> policy.Rule | None:
    return {
        "block": key.rules.block,
        "unblock": key.rules.unblock,
        "modify": key.rules.modify,
    }.get(kind, key.rules.use)


def _policy_payload(rules: RulesBody, switches: Switches) -> bytes:
    """What approvers of other rules sign: times in minutes, approvers as DER public keys."""
    kinds = (
        (0x104E, rules.rule_use),
        (0x104F, rules.rule_block),
        (0x1050, rules.rule_unblock),
        (0x1051, rules.rule_modify),
    )
    return _sized(
        b"".join(_record(kind, _rule_payload(rule, switches)) for kind, rule in kinds if rule)
    )


def _rule_payload(rule: RuleBody, switches: Switches) -> bytes:
    content = _number(0x0059, len(rule.tokens))
    for token in rule.tokens:
        content += _text(token.name)
        content += _number(0x0055, token.timelock // 60) + _number(0x0055, token.timeout // 60)
        content += _number(0x005A, len(token.groups or ()))
        for group in token.groups or ():
            content += _text(group.name) + _number(0x005B, group.quorum)
            content += _number(0x0003, len(group.approvals))
            for approval in group.approvals:
                key = base64.b64decode(keys.approver_key(approval, switches))
                content += _text(approval.name) + _record(0x1052, key)
    return _sized(content)


def _text(value: str | None) -> bytes:
    return _record(0x1002, (value or "").encode())


def _sized(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def _number(kind: int, value: int) -> bytes:
    return _record(kind, struct.pack("<I", value))


def _record(kind: int, content: bytes) -> bytes:
    if len(content) > LONGEST_RECORD:
        raise TsbError(612, "The payload is too long to be approved.")
    padding = b"\0" * (-len(content) % 4)
    return struct.pack("<HH", kind, len(content)) + content + padding


def _voters(request: Request, *, approves: bool) -> list[str]:
    latest = {vote.approver: vote.approves for vote in request.votes}
    return [approver for approver, said in latest.items() if said is approves]


def compact(content: Any) -> str:
    """JSON as TSB hands it to approvers."""
    return json.dumps(content, separators=(",", ":"))
