"""The bodies of TSB's requests, as its own request classes validate them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from local.tsb_simulator.errors import TsbError

if TYPE_CHECKING:
    from local.tsb_simulator.switches import Switches


def _joined(value: object) -> object:
    # Documents show an array of one-character strings; some vendor clients send a plain string.
    if isinstance(value, list) and all(isinstance(c, str) and len(c) == 1 for c in value):
        return "".join(value)
    return value


def _is_base64(value: str) -> str:
    base64.b64decode(value, validate=True)
    return value


Password = Annotated[str | None, BeforeValidator(_joined)]
Digest = str
Base64 = Annotated[str, Field(min_length=1), AfterValidator(_is_base64)]


class Body(BaseModel):
    """A JSON object; unknown properties are refused as Jackson does, unless switched."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=True)


def parse[T: Body](model: type[T], content: Any, switches: Switches) -> T:
    """Read a body.

    Raises:
        TsbError: 600, as bean validation and enum failures answer.
    """
    extra: Literal["ignore", "forbid"] = (
        "ignore" if switches.unknown_properties == "ignore" else "forbid"
    )
    try:
        return model.model_validate(content, extra=extra)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise TsbError(600, f"Value is not valid for field {path}: {first['msg']}") from None


class ApprovalBody(Body):
    """One approver."""

    type: Literal["public_key", "certificate", "onboarded_approver_certificate"]
    name: str | None = None
    value: str | None = None


class GroupBody(Body):
    """A group of approvers."""

    name: str | None = None
    quorum: int
    approvals: list[ApprovalBody]


class TokenBody(Body):
    """One way to fulfil a rule."""

    name: str | None = None
    timelock: int
    timeout: int
    groups: list[GroupBody] | None = None


class RuleBody(Body):
    """The ways to fulfil a rule."""

    tokens: list[TokenBody]


class KeyStatusBody(Body):
    """Whether the key is blocked."""

    blocked: bool


class RulesBody(Body):
    """A policy's rules. The status of the key has requests of its own."""

    rule_use: RuleBody | None = None
    rule_block: RuleBody | None = None
    rule_unblock: RuleBody | None = None
    rule_modify: RuleBody | None = None


class PolicyBody(RulesBody):
    """Smart Key Attributes."""

    key_status: KeyStatusBody


class AttributesBody(Body):
    """Capabilities of a key."""

    decrypt: bool
    sign: bool
    unwrap: bool
    encrypt: bool | None = None
    verify: bool | None = None
    wrap: bool | None = None
    derive: bool | None = False
    bip32: bool | None = False
    slip10: bool | None = False
    extractable: bool | None = False
    modifiable: bool | None = True
    destroyable: bool | None = False
    sensitive: bool | None = None
    copyable: bool | None = False
    rollover: bool | None = None


class CreateKeyBody(Body):
    """`POST /v1/key`."""

    label: str
    password: Password = None
    id: str | None = None
    algorithm: str | None = None
    algorithm_oid: str | None = None
    curve_oid: str | None = None
    key_size: int | None = None
    address_format: dict[str, Any] | None = None
    attributes: AttributesBody
    policy: PolicyBody | None = None


class KeyBody(Body):
    """A key and its password."""

    label: str
    password: Password = None


class ChangePasswordBody(KeyBody):
    """`POST /v1/key/changePassword`."""

    new_password: Password = None


class ChangedAttributesBody(Body):
    """Capabilities to change; what is left out stays."""

    decrypt: bool | None = None
    sign: bool | None = None
    unwrap: bool | None = None
    derive: bool | None = None
    extractable: bool | None = None
    modifiable: bool | None = None
    destroyable: bool | None = None
    sensitive: bool | None = None
    copyable: bool | None = None


class ChangeAttributesBody(KeyBody):
    """`PATCH /v1/key/changeAttributes`. Only the path is known; the body is inferred."""

    attributes: ChangedAttributesBody


class SubjectBody(Body):
    """`standardCertificateAttributes`."""

    common_name: str
    country: str | None = None
    state_or_province_name: str | None = None
    locality: str | None = None
    organization_name: str | None = None
    organization_identifier: str | None = None
    organization_unit_name: str | None = None
    email: str | None = None
    title: str | None = None
    surname: str | None = None
    given_name: str | None = None
    initials: str | None = None
    pseudonym: str | None = None
    generation_qualifier: str | None = None


KeyUsage = Literal[
    "DIGITAL_SIGNATURE", "CONTENT_COMMITMENT", "KEY_ENCIPHERMENT", "DATA_ENCIPHERMENT",
    "KEY_AGREEMENT", "KEY_CERT_SIGN", "CRL_SIGN", "ENCIPHER_ONLY", "DECIPHER_ONLY",
]  # fmt: skip
ExtendedKeyUsage = Literal[
    "ANY_EXTENDED_KEY_USAGE", "SERVER_AUTH", "CLIENT_AUTH", "CODE_SIGNING", "EMAIL_PROTECTION",
    "TIME_STAMPING", "OCSP_SIGNING",
]  # fmt: skip


class CsrBody(Body):
    """`csrSignRequest`, and the flat body of the synchronous call."""

    sign_key_name: str
    key_password: Password = None
    signature_algorithm: str
    validity: int = 0
    standard_certificate_attributes: SubjectBody
    key_usage: list[KeyUsage] | None = None
    extended_key_usage: list[ExtendedKeyUsage] | None = None
    subject_alternative_names: list[dict[str, str]] | None = None
    meta_data: str | None = None
    meta_data_signature: str | None = None


class SignCertificateBody(Body):
    """`signCertificateRequest`."""

    sign_key_name: str
    key_password: Password = None
    signature_algorithm: str
    common_name: str | None = None
    standard_certificate_attributes: SubjectBody | None = None
    certificate_authority: bool = False
    certificate_signing_request: str
    validity: int | None = None
    copy_extensions: Literal["NO_COPY", "COPY"] = "NO_COPY"
    key_usage: list[KeyUsage] | None = None
    extended_key_usage: list[ExtendedKeyUsage] | None = None
    meta_data: str | None = None
    meta_data_signature: str | None = None


class SelfSignBody(Body):
    """`selfSignCertificateRequest`."""

    sign_key_name: str
    key_password: Password = None
    signature_algorithm: str
    common_name: str | None = None
    standard_certificate_attributes: SubjectBody | None = None
    certificate_authority: bool = False
    validity: int | None = None
    key_usage: list[KeyUsage] | None = None
    extended_key_usage: list[ExtendedKeyUsage] | None = None
    meta_data: str | None = None
    meta_data_signature: str | None = None


class SigningBody(Body):
    """`signRequest`: a payload to be signed."""

    payload: Base64
    payload_type: str = "UNSPECIFIED"
    sign_key_name: str
    key_password: Password = None
    meta_data: str | None = None
    meta_data_signature: str | None = None
    signature_algorithm: str
    signature_type: Literal["DER", "ETH"] | None = None


class BlockKey(Body):
    """Which key to block. Each request names its key differently on the wire, and alike here."""

    sign_key_name: str = Field(alias="blockKeyName")
    key_password: Password = None


class BlockBody(BlockKey):
    """`blockRequest`."""

    meta_data: str | None = None
    meta_data_signature: str | None = None


class UnblockKey(Body):
    """Which key to unblock."""

    sign_key_name: str = Field(alias="unblockKeyName")
    key_password: Password = None


class UnblockBody(UnblockKey):
    """`unblockRequest`."""

    meta_data: str | None = None
    meta_data_signature: str | None = None


class ModifyKey(Body):
    """Which key to give other rules."""

    sign_key_name: str = Field(alias="modifyKeyName")
    key_password: Password = None
    policy: RulesBody


class ModifyBody(ModifyKey):
    """`modifyRequest`."""

    meta_data: str | None = None
    meta_data_signature: str | None = None


class SigningRequestBody(Body):
    """`POST /v1/sign`."""

    sign_request: SigningBody
    request_signature: dict[str, Any] | None = None


class BlockRequestBody(Body):
    """`POST /v1/block`."""

    block_request: BlockBody
    request_signature: dict[str, Any] | None = None


class UnblockRequestBody(Body):
    """`POST /v1/unblock`."""

    unblock_request: UnblockBody
    request_signature: dict[str, Any] | None = None


class ModifyRequestBody(Body):
    """`POST /v1/modify`."""

    modify_request: ModifyBody
    request_signature: dict[str, Any] | None = None


class SynchronousSigningBody(SigningBody):
    """`signRequest` of the synchronous call. Its meta data reaches nobody."""

    signed_approvals: list[Base64] = []


class SynchronousBlockBody(BlockKey):
    """`blockRequest` of the synchronous call: nobody is shown meta data."""

    signed_approvals: list[Base64] = []


class SynchronousUnblockBody(UnblockKey):
    """`unblockRequest` of the synchronous call."""

    signed_approvals: list[Base64] = []


class SynchronousModifyBody(ModifyKey):
    """`modifyRequest` of the synchronous call."""

    signed_approvals: list[Base64] = []


class SynchronousSigningRequestBody(Body):
    """`POST /v1/synchronousSign`."""

    sign_request: SynchronousSigningBody
    request_signature: dict[str, Any] | None = None


class SynchronousBlockRequestBody(Body):
    """`POST /v1/synchronousBlock`."""

    block_request: SynchronousBlockBody
    request_signature: dict[str, Any] | None = None


class SynchronousUnblockRequestBody(Body):
    """`POST /v1/synchronousUnblock`."""

    unblock_request: SynchronousUnblockBody
    request_signature: dict[str, Any] | None = None


class SynchronousModifyRequestBody(Body):
    """`POST /v1/synchronousModify`."""

    modify_request: SynchronousModifyBody
    request_signature: dict[str, Any] | None = None


class CsrRequestBody(Body):
    """`POST /v1/certificate/request`."""

    csr_sign_request: CsrBody
    request_signature: dict[str, Any] | None = None


class SignRequestBody(Body):
    """`POST /v1/certificate/sign`."""

    sign_certificate_request: SignCertificateBody
    request_signature: dict[str, Any] | None = None


class SelfSignRequestBody(Body):
    """`POST /v1/certificate/selfsign`."""

    self_sign_certificate_request: SelfSignBody
    request_signature: dict[str, Any] | None = None


class ImportCertificateBody(Body):
    """`POST /v1/certificate/import/plain`."""

    label: str
    certificate: str


class FilterBody(Body):
    """`POST /v1/filteredRequests`."""

    request_status_list: list[
        Literal["PENDING", "APPROVED", "EXECUTED", "FAILED", "EXPIRED", "REJECTED", "CANCELLED"]
    ]


class Paging(Body):
    """A page of tasks."""

    page_number: Annotated[int, Field(ge=0)]
    page_size: Annotated[int, Field(ge=1)]
    sort_order: Literal[
        "CREATION_DATE_ASC", "CREATION_DATE_DESC", "LAST_FETCHED_DATE_ASC", "LAST_FETCHED_DATE_DESC"
    ] = "CREATION_DATE_ASC"


class ApproverAuthentication(Body):
    """Who asks for tasks: a signature over the timestamp's text."""

    timestamp: str
    timestamp_signature: str
    timestamp_digest_algorithm: Digest
    approver_public_key: str | None = None
    approver_certificate: str | None = None
    timestamp_signing_certificate: str | None = None


class TasksBody(ApproverAuthentication):
    """`POST /v1/filtered…ApprovalTask`."""

    id: str | None = None
    request_id: str | None = None
    detail_level: Literal["level1", "level2", "level3", "level4", "level5", "level6"] = "level1"
    paging: Paging | None = None


class DeclineBody(ApproverAuthentication):
    """`PATCH /v1/task`."""

    id: str


class ApprovalGivenBody(Body):
    """`POST /v1/approval`."""

    id: str
    approval_to_be_signed: str
    signature: str
    approval_digest_algorithm: Digest
    approver_public_key: str | None = None
    approver_certificate: str | None = None
