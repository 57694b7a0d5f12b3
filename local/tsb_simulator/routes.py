"""TSB's paths: what each takes, which role it wants, what it answers."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from cryptography.hazmat.primitives import hashes

from local.tsb_simulator import bodies as b
from local.tsb_simulator import certificates, keys, policy
from local.tsb_simulator.broker import SYSTEM_KEYS, Broker, Request, Task, compact
from local.tsb_simulator.errors import TsbError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from local.tsb_simulator.switches import Switches

MANAGEMENT, OPERATION, APPROVER, SERVICE = (
    "keyManagement",
    "keyOperation",
    "approver",
    "service",
)
OPERATIONS = ("Sign", "Decrypt", "UnwrapKey", "BlockKey", "UnblockKey", "ModifyKey", "All")
DTO_NAMES = {
    "csr": "signedCertificateRequestRequest",
    "sign": "signedSignCertificateRequest",
    "selfsign": "signedSelfSignCertificateRequestDto",
    "signature": "signedSignRequest",
    "block": "signedBlockKeyRequest",
    "unblock": "signedUnblockKeyRequest",
    "modify": "signedModifyKeyRequest",
}
CERTIFICATES = ("csr", "sign", "selfsign")
LISTED = {
    "Sign": ("signature", *CERTIFICATES),
    "BlockKey": ("block",),
    "UnblockKey": ("unblock",),
    "ModifyKey": ("modify",),
    "All": tuple(DTO_NAMES),
}
SIGNED_DTOS = ("signedDecryptRequest", "signedUnwrapKeyRequest", *DTO_NAMES.values())


@dataclass(frozen=True)
class Call:
    """One call: the broker, the parsed JSON body, the variable part of the path."""

    broker: Broker
    content: Any
    part: str = ""
    fails: bool = False

    def read[T: b.Body](self, model: type[T]) -> T:
        """The body as `model`; 600 where it is not."""
        if not isinstance(self.content, dict):
            raise TsbError(600, "Invalid request. Cannot parse json string")
        return b.parse(model, self.content, self.broker.switches)


type Answer = tuple[int, Any]


@dataclass(frozen=True)
class Route:
    """A method and path template with its role and handler."""

    method: str
    template: str
    role: Callable[[Switches], tuple[str, ...]]
    handler: Callable[[Call], Answer]

    def match(self, method: str, path: str) -> str | None:
        """The variable part of the path ('' where there is none), None where it is another."""
        if method != self.method:
            return None
        start, brace, end = self.template.partition("{}")
        if not brace:
            return "" if path == self.template else None
        inner = path.removeprefix(start).removesuffix(end)
        fits = path.startswith(start) and path.endswith(end) and inner and "/" not in inner
        return unquote(inner) if fits else None


def _only(role: str) -> Callable[[Switches], tuple[str, ...]]:
    return lambda _: (role,)


def _certificate(switches: Switches) -> tuple[str, ...]:
    return (OPERATION if switches.certificate_role == "operation" else MANAGEMENT,)


def _request(switches: Switches) -> tuple[str, ...]:
    roles = {"operation": (OPERATION,), "management": (MANAGEMENT,)}
    return roles.get(switches.request_role, (OPERATION, MANAGEMENT))


# Keys ------------------------------------------------------------------------------------------


def create_key(call: Call) -> Answer:
    """`POST /v1/key`."""
    made = call.broker.create_key(call.read(b.CreateKeyBody))
    return call.broker.switches.create_http_status, call.broker.attributes(made)


def list_keys(call: Call) -> Answer:
    """`GET /v1/key`."""
    listed = call.broker.switches.system_keys == "listed"
    return 200, sorted([*call.broker.keys, *(SYSTEM_KEYS if listed else ())])


def key_attributes(call: Call) -> Answer:
    """`POST /v1/key/attributes`."""
    body = call.read(b.KeyBody)
    return 200, call.broker.attributes(call.broker.key(body.label, body.password))


def key_attributes_by_path(call: Call) -> Answer:
    """`GET /v1/key/{keyName}/attributes`, deprecated since 1.14.0."""
    return 200, call.broker.attributes(call.broker.key(call.part, None))


def delete_key(call: Call) -> Answer:
    """`DELETE /v1/key/{keyName}`."""
    call.broker.delete_key(call.part, None)
    return call.broker.switches.empty_answer_http_status, None


def delete_key_with_password(call: Call) -> Answer:
    """`POST /v1/key/deleteKey`."""
    body = call.read(b.KeyBody)
    call.broker.delete_key(body.label, body.password)
    return call.broker.switches.empty_answer_http_status, None


def change_password(call: Call) -> Answer:
    """`POST /v1/key/changePassword`."""
    body = call.read(b.ChangePasswordBody)
    call.broker.change_password(body.label, body.password, body.new_password)
    return call.broker.switches.empty_answer_http_status, None


def change_attributes(call: Call) -> Answer:
    """`PATCH /v1/key/changeAttributes`, in the newest servers."""
    changed = call.broker.change_attributes(call.read(b.ChangeAttributesBody))
    return 200, call.broker.attributes(changed)


# Certificates ----------------------------------------------------------------------------------


def _posted(call: Call, kind: str, inner: Any, name: str = "signRequestId") -> Answer:
    request = call.broker.post(kind, inner, compact(call.content), fails=call.fails)
    return call.broker.switches.create_http_status, {name: request.id}


def request_csr(call: Call) -> Answer:
    """`POST /v1/certificate/request`."""
    return _posted(call, "csr", call.read(b.CsrRequestBody).csr_sign_request)


def sign_certificate(call: Call) -> Answer:
    """`POST /v1/certificate/sign`."""
    return _posted(call, "sign", call.read(b.SignRequestBody).sign_certificate_request)


def self_sign(call: Call) -> Answer:
    """`POST /v1/certificate/selfsign`."""
    return _posted(call, "selfsign", call.read(b.SelfSignRequestBody).self_sign_certificate_request)


def _free_key(call: Call, label: str, password: str | None) -> keys.HsmKey:
    key = call.broker.key(label, password)
    call.broker.require_no_approval(key, "use")
    return key


def synchronous_csr(call: Call) -> Answer:
    """`POST /v1/certificate/synchronous/request`: leaves a self-signed certificate (1.16.1)."""
    body = call.read(b.CsrBody)
    key = _free_key(call, body.sign_key_name, body.key_password)
    certificates.check_subject(body.standard_certificate_attributes, call.broker.switches)
    switches = call.broker.switches
    info = certificates.request_info(key, body, switches)
    certificates.keep_after_csr(key, body, call.broker.clock.now(key.label), switches)
    pem = certificates.csr(key, info, body.signature_algorithm)
    return 200, {"label": key.label, "certificateSigningRequest": pem}


def synchronous_sign(call: Call) -> Answer:
    """`POST /v1/certificate/synchronous/sign`."""
    body = call.read(b.SignCertificateBody)
    key = _free_key(call, body.sign_key_name, body.key_password)
    now = call.broker.clock.now(key.label)
    pem = certificates.issue(key, body, now, call.broker.switches)
    return 200, {"label": key.label, "certificate": pem}


def synchronous_self_sign(call: Call) -> Answer:
    """`POST /v1/certificate/synchronous/selfsign`."""
    body = call.read(b.SelfSignBody)
    key = _free_key(call, body.sign_key_name, body.key_password)
    pem = certificates.self_sign(key, body, call.broker.clock.now(key.label), call.broker.switches)
    return 200, {"label": key.label, "certificate": pem}


def import_certificate(call: Call) -> Answer:
    """`POST /v1/certificate/import/plain`: takes the place of an older one without a word."""
    body = call.read(b.ImportCertificateBody)
    key = call.broker.key(body.label, None)
    key.certificate = certificates.imported(key, body.certificate, call.broker.switches)
    return 200, {"label": key.label, "certificate": body.certificate}


def get_certificate(call: Call) -> Answer:
    """`GET /v1/certificate/{keyName}`."""
    key = call.broker.key(call.part, None)
    if key.certificate is None:
        raise TsbError(402, f"The key '{key.label}' has no certificate.")
    switches = call.broker.switches
    encoded = base64.b64encode(key.certificate).decode()
    as_pem = switches.read_certificate_form == "pem"
    answer = {
        "label": key.label,
        "certificate": certificates.certificate_pem(key.certificate, switches)
        if as_pem
        else encoded,
    }
    return 200, answer | ({"rawCertificate": encoded} if switches.raw_certificate else {})


def delete_certificate(call: Call) -> Answer:
    """`DELETE /v1/certificate/{keyName}`."""
    call.broker.key(call.part, None).certificate = None
    return call.broker.switches.empty_answer_http_status, None


# Uses and changes of keys ----------------------------------------------------------------------


def sign(call: Call) -> Answer:
    """`POST /v1/sign`."""
    return _posted(call, "signature", call.read(b.SigningRequestBody).sign_request)


def block_key(call: Call) -> Answer:
    """`POST /v1/block`."""
    inner = call.read(b.BlockRequestBody).block_request
    return _posted(call, "block", inner, "blockKeyRequestId")


def unblock_key(call: Call) -> Answer:
    """`POST /v1/unblock`."""
    inner = call.read(b.UnblockRequestBody).unblock_request
    return _posted(call, "unblock", inner, "unblockKeyRequestId")


def modify_key(call: Call) -> Answer:
    """`POST /v1/modify`: other rules for a key."""
    inner = call.read(b.ModifyRequestBody).modify_request
    return _posted(call, "modify", inner, "modifyKeyRequestId")


def synchronous_sign_payload(call: Call) -> Answer:
    """`POST /v1/synchronousSign`."""
    inner = call.read(b.SynchronousSigningRequestBody).sign_request
    return 200, {"signature": call.broker.perform("signature", inner)}


def synchronous_block(call: Call) -> Answer:
    """`POST /v1/synchronousBlock`."""
    call.broker.perform("block", call.read(b.SynchronousBlockRequestBody).block_request)
    return call.broker.switches.empty_answer_http_status, None


def synchronous_unblock(call: Call) -> Answer:
    """`POST /v1/synchronousUnblock`."""
    call.broker.perform("unblock", call.read(b.SynchronousUnblockRequestBody).unblock_request)
    return call.broker.switches.empty_answer_http_status, None


def synchronous_modify(call: Call) -> Answer:
    """`POST /v1/synchronousModify`."""
    call.broker.perform("modify", call.read(b.SynchronousModifyRequestBody).modify_request)
    return call.broker.switches.empty_answer_http_status, None


# Requests --------------------------------------------------------------------------------------


def request_status(call: Call) -> Answer:
    """`GET /v1/request/{id}`."""
    return 200, call.broker.status(call.broker.request(call.part))


def cancel_request(call: Call) -> Answer:
    """`DELETE /v1/request/{id}`."""
    call.broker.cancel(call.broker.request(call.part))
    return call.broker.switches.empty_answer_http_status, None


def filtered_requests(call: Call) -> Answer:
    """`POST /v1/filteredRequests`, since 2.0.1."""
    wanted = call.read(b.FilterBody).request_status_list
    found = [
        {"id": request.id, "status": status}
        for request in list(call.broker.requests.values())
        if (status := call.broker.assess(request)) in wanted
    ]
    return 200, {"requests": found}


# Approvers -------------------------------------------------------------------------------------


def _approver(body: b.ApproverAuthentication | b.ApprovalGivenBody, switches: Switches) -> str:
    if body.approver_public_key is not None:
        keys.load_public_key(body.approver_public_key)
        return body.approver_public_key
    if body.approver_certificate is not None:
        given = b.ApprovalBody(type="certificate", value=body.approver_certificate)
        return keys.approver_key(given, switches)
    raise TsbError(600, "approverPublicKey or approverCertificate is required.")


def _authenticated(call: Call, body: b.ApproverAuthentication) -> str | None:
    """The approver whose signature over the timestamp holds; None for a trusted service."""
    switches = call.broker.switches
    try:
        moment = datetime.fromisoformat(body.timestamp)
        age = call.broker.clock.now() - moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except ValueError:
        raise TsbError(600, "Value is not valid for field timestamp.") from None
    # Written to the second, a timestamp may lie a fraction behind; never ahead.
    if not -switches.timestamp_future_seconds - 1 < age <= switches.timestamp_past_seconds:
        raise TsbError(404, "The timestamp is off.")
    approver: str | None
    if body.timestamp_signing_certificate is not None:
        certificate = certificates.base64_certificate(body.timestamp_signing_certificate)
        if _fingerprint(certificate) not in switches.timestamp_signing_certificates:
            raise TsbError(405, "The timestamp signer is not allowed.")
        signer = b.ApprovalBody(type="certificate", value=body.timestamp_signing_certificate)
        public = keys.approver_key(signer, switches)
        approver = body.approver_public_key
    else:
        public = approver = _approver(body, switches)
    content = body.timestamp.encode()
    keys.verify(public, body.timestamp_signature, content, body.timestamp_digest_algorithm)
    return approver


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _tasks(operation: str) -> Callable[[Call], Answer]:
    def tasks(call: Call) -> Answer:
        """`POST /v1/filtered…ApprovalTask`."""
        body = call.read(b.TasksBody)
        approver = _authenticated(call, body)
        broker = call.broker
        kinds = LISTED.get(operation, ())
        if operation == "Sign" and not broker.switches.sign_tasks_include_certificates:
            kinds = ("signature",)
        found: list[tuple[Request, Task]] = []
        for request in list(broker.requests.values()):
            if request.kind not in kinds or broker.assess(request) in policy.FINAL:
                continue
            found += [
                (request, task)
                for task in list(request.tasks.values())
                if approver in (None, task.approver)
                and (task.id == body.id if body.id else body.request_id in (None, request.id))
            ]
        found = _page(found, body.paging)
        for _, task in found:
            task.fetched = broker.clock.now()
        level = int(body.detail_level.removeprefix("level"))
        return 200, {"tasks": [_task(broker, *one, level) for one in found]}

    return tasks


def _page(found: list[tuple[Request, Task]], paging: b.Paging | None) -> Any:
    order = paging.sort_order if paging else "CREATION_DATE_ASC"
    by_creation = order.startswith("CREATION")
    found.sort(
        key=lambda one: one[0].created if by_creation else one[1].fetched,
        reverse=order.endswith("DESC"),
    )
    if paging is None:
        return found
    start = paging.page_number * paging.page_size
    return found[start : start + paging.page_size]


def _task(broker: Broker, request: Request, task: Task, level: int) -> dict[str, Any]:
    posted = request.posted
    signed: dict[str, Any] = dict.fromkeys(SIGNED_DTOS)
    signed[DTO_NAMES[request.kind]] = _content(posted)
    inner = request.inner
    attributes = broker.attributes(request.key) if level >= 5 else {}  # noqa: PLR2004
    levels: tuple[dict[str, Any], ...] = (
        {
            "detailLevel": f"level{level}",
            "id": task.id,
            "approvalToBeSigned": task.to_be_signed,
            "approverPublicKey": task.approver,
        },
        {
            "metaData": inner.meta_data,
            "metaDataSignature": inner.meta_data_signature,
            "payload": base64.b64encode(request.payload).decode(),
            "payloadType": "UNSPECIFIED",
        },
        {"requestBase64": base64.b64encode(posted.encode()).decode(), **signed},
        {
            "timestamp": None,
            "timestampSignature": None,
            "timestampSignatureAlgorithm": None,
            "timestampSignatureWithAlgorithm": None,
        },
        {
            "keyAttributes": attributes.get("xml"),
            "keyAttributesSignature": attributes.get("xmlSignature"),
        },
        {"requestStatus": request.status},
    )
    return {name: value for part in levels[:level] for name, value in part.items()}


def _content(posted: str) -> Any:
    return {"requestSignature": None, **json.loads(posted)}


def _open_task(broker: Broker, task_id: str, approver: str | None) -> tuple[Request, Task]:
    for request in list(broker.requests.values()):
        if broker.assess(request) in policy.FINAL:
            continue
        for task in request.tasks.values():
            if task.id == task_id and approver in (None, task.approver):
                return request, task
    raise TsbError(652, f"A task with the id '{task_id}' does not exist.")


def approve(call: Call) -> Answer:
    """`POST /v1/approval`: the signature is over the bytes of `approvalToBeSigned`."""
    body = call.read(b.ApprovalGivenBody)
    approver = _approver(body, call.broker.switches)
    with call.broker.lock:
        request, task = _open_task(call.broker, body.id, approver)
        if body.approval_to_be_signed != task.to_be_signed:
            raise TsbError(403, "approvalToBeSigned is not what was handed out.")
        content = base64.b64decode(task.to_be_signed)
        keys.verify(approver, body.signature, content, body.approval_digest_algorithm)
        call.broker.vote(request, approver, approves=True)
    return call.broker.switches.empty_answer_http_status, None


def decline(call: Call) -> Answer:
    """`PATCH /v1/task`: the approver deletes his task."""
    body = call.read(b.DeclineBody)
    approver = _authenticated(call, body)
    with call.broker.lock:
        request, task = _open_task(call.broker, body.id, approver)
        call.broker.vote(request, task.approver, approves=False)
    return call.broker.switches.empty_answer_http_status, None


# Service ---------------------------------------------------------------------------------------


def version_info(call: Call) -> Answer:
    """`GET /v1/versionInfo`; note the capital names."""
    return 200, {"Version": call.broker.switches.server_version, "Vendor": "Securosys SA"}


def license_info(_: Call) -> Answer:
    """`GET /v1/licenseInfo`."""
    return 200, {"clientFlags": ["KEY_AUTH", "REST_API", "TSB_ENGINE"]}


def statistics(call: Call) -> Answer:
    """`GET /v1/keystore/statistics`."""
    return 200, {"keyStoreStatistics": f"keys: {len(call.broker.keys)}"}


ROUTES = (
    Route("POST", "/v1/key", _only(MANAGEMENT), create_key),
    Route("GET", "/v1/key", _only(MANAGEMENT), list_keys),
    Route("POST", "/v1/key/attributes", _only(MANAGEMENT), key_attributes),
    Route("POST", "/v1/key/deleteKey", _only(MANAGEMENT), delete_key_with_password),
    Route("POST", "/v1/key/changePassword", _only(MANAGEMENT), change_password),
    Route("PATCH", "/v1/key/changeAttributes", _only(MANAGEMENT), change_attributes),
    Route("GET", "/v1/key/{}/attributes", _only(MANAGEMENT), key_attributes_by_path),
    Route("DELETE", "/v1/key/{}", _only(MANAGEMENT), delete_key),
    Route("POST", "/v1/sign", _only(OPERATION), sign),
    Route("POST", "/v1/block", _only(OPERATION), block_key),
    Route("POST", "/v1/unblock", _only(OPERATION), unblock_key),
    Route("POST", "/v1/modify", _only(MANAGEMENT), modify_key),
    Route("POST", "/v1/synchronousSign", _only(OPERATION), synchronous_sign_payload),
    Route("POST", "/v1/synchronousBlock", _only(OPERATION), synchronous_block),
    Route("POST", "/v1/synchronousUnblock", _only(OPERATION), synchronous_unblock),
    Route("POST", "/v1/synchronousModify", _only(MANAGEMENT), synchronous_modify),
    Route("POST", "/v1/certificate/request", _certificate, request_csr),
    Route("POST", "/v1/certificate/sign", _certificate, sign_certificate),
    Route("POST", "/v1/certificate/selfsign", _certificate, self_sign),
    Route("POST", "/v1/certificate/synchronous/request", _certificate, synchronous_csr),
    Route("POST", "/v1/certificate/synchronous/sign", _certificate, synchronous_sign),
    Route("POST", "/v1/certificate/synchronous/selfsign", _certificate, synchronous_self_sign),
    Route("POST", "/v1/certificate/import/plain", _certificate, import_certificate),
    Route("GET", "/v1/certificate/{}", _certificate, get_certificate),
    Route("DELETE", "/v1/certificate/{}", _certificate, delete_certificate),
    Route("GET", "/v1/request/{}", _request, request_status),
    Route("DELETE", "/v1/request/{}", _request, cancel_request),
    Route("POST", "/v1/filteredRequests", _request, filtered_requests),
    *(
        Route("POST", f"/v1/filtered{operation}ApprovalTask", _only(APPROVER), _tasks(operation))
        for operation in OPERATIONS
    ),
    Route("POST", "/v1/approval", _only(APPROVER), approve),
    Route("PATCH", "/v1/task", _only(APPROVER), decline),
    Route("GET", "/v1/versionInfo", _only(SERVICE), version_info),
    Route("GET", "/v1/licenseInfo", _only(SERVICE), license_info),
    Route("GET", "/v1/keystore/statistics", _only(SERVICE), statistics),
)
