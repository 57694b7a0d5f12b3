"""What TSB sends and receives, with the names of its API."""

import base64
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel


class Role(StrEnum):
    """The API-key roles of TSB that we use."""

    KEY_MANAGEMENT = "keyManagement"
    KEY_OPERATION = "keyOperation"
    SERVICE = "service"


@dataclass(frozen=True)
class Credentials:
    """The credentials of a role. While API keys are being replaced, several are valid."""

    api_keys: tuple[str, ...] = field(default=(), repr=False)
    bearer_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Tls:
    """The CAs that we trust and our client certificate, in PEM. No `ca_bundle`: public CAs."""

    ca_bundle: str | None = None
    certificate: str | None = None
    private_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Exchange:
    """One completed call, for metrics. It has no label, no id and no credential.

    Args:
        endpoint: method and path, with `{id}` for an id.
        role: whose credentials were sent.
        milliseconds: from the first byte sent to the last byte received.
        http_status: of the answer; None if there was no answer.
        error: class name of the error that is raised; None for a success.
        error_code: TSB's error code.
        rejected_key: TSB no longer accepts the API key that was sent (401 with 631).
    """

    endpoint: str
    role: Role
    milliseconds: float
    http_status: int | None = None
    error: str | None = None
    error_code: int | None = None
    rejected_key: bool = False


class Answer(BaseModel):
    """TSB's answer. Unknown fields are ignored: newer versions add some. `raw` is the evidence."""

    model_config = ConfigDict(
        frozen=True,
        defer_build=True,
        extra="ignore",
        hide_input_in_errors=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )

    raw: str = Field(default="", exclude=True, repr=False)


class Key(Answer):
    """A key as the HSM reports it. `public_key` is the base64 DER SubjectPublicKeyInfo."""

    label: str
    algorithm: str
    key_size: int | None = None
    curve_oid: str | None = None
    create_time: datetime
    public_key: str
    attributes: dict[str, bool | None]
    policy: dict[str, Any] | None = None

    @field_validator("public_key")
    @classmethod
    def _base64(cls, value: str) -> str:
        base64.b64decode(value, validate=True)
        return value


class KeyAttributes(Answer):
    """A key's attributes with the HSM's signature over their XML form."""

    key: Key = Field(alias="json")
    xml: str | None = None
    xml_signature: str | None = None
    attestation_key_name: str | None = None


class CsrRequested(Answer):
    """The id under which approvals are collected."""

    sign_request_id: str


class BlockRequested(Answer):
    """The id under which the approvals of `ruleBlock` are collected."""

    block_key_request_id: str


class RequestStatus(Answer):
    """The state of a request. The lists hold base64 SPKIs; `status` may be an unknown one."""

    id: str
    status: str
    execution_time: datetime | None = None
    approved_by: list[str] = []
    not_yet_approved_by: list[str] = []
    rejected_by: list[str] = []
    result: str | None = None

    @field_validator("approved_by", "not_yet_approved_by", "rejected_by", mode="before")
    @classmethod
    def _none_is_nobody(cls, value: object) -> object:
        return [] if value is None else value


class Version(Answer):
    """`GET /v1/versionInfo`."""

    version: str = Field(alias="Version")


class License(Answer):
    """`GET /v1/licenseInfo`."""

    client_flags: list[str]
