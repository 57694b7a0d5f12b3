"""What TSB sends and receives, with the names of its API."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)
from pydantic.alias_generators import to_camel

from countersign import clocks

MAX_DEPTH = 32  # of nested JSON; a key's policy needs 9
ARMOR = re.compile(r"-----(BEGIN|END) CERTIFICATE-----")
REQUEST_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"  # TSB's are UUIDs; `..` would be another path


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


class Exchange(NamedTuple):
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


@dataclass(frozen=True)
class Reply:
    """An answer as it came, whoever gave it.

    Args:
        status: of HTTP.
        body: decoded from its transfer; None if it is larger than any answer of TSB.
        date: when it was given, by the clock of who gave it (header `Date`); None if it says none.
        content_type: as the header says it. Nothing depends on it: TSB's JSON is UTF-8.
    """

    status: int
    body: bytes | None
    date: datetime | None = None
    content_type: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the status says so."""
        return 200 <= self.status < 300  # noqa: PLR2004

    @cached_property
    def text(self) -> str:
        """The body's text. JSON is UTF-8 (RFC 8259), whatever the headers say; a BOM is dropped.

        Raises:
            ValueError: it is not UTF-8, or too large.
        """
        if self.body is None:
            raise ValueError("the body is too large")
        return self.body.decode("utf-8-sig")

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is not JSON, or holds what TSB never writes: a name twice in an object,
                a number that is none, text that is not Unicode, values nested deeper than
                MAX_DEPTH. Each of them breaks somebody who reads it later.
        """
        try:
            content = json.loads(self.text, object_pairs_hook=_unique)
            json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        level = [content]
        for _ in range(MAX_DEPTH):
            level = [inner for value in level for inner in _inside(value)]
        if level:
            raise ValueError("nested too deeply")
        return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


type Moment = Annotated[AwareDatetime, AfterValidator(clocks.in_utc)]
# One segment of a path: an id of TSB is asked about by its URL.
type RequestId = Annotated[str, StringConstraints(pattern=REQUEST_ID)]


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

    @classmethod
    def read(cls, reply: Reply) -> Self:
        """The answer.

        Raises:
            ValueError: it has another form.
        """
        content = reply.json()
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
        return cls.model_validate({**content, "raw": reply.text})

    @property
    def sha256(self) -> str:
        """Of the answer as it is kept."""
        return hashlib.sha256(self.raw.encode()).hexdigest()


class Key(Answer):
    """A key as the HSM reports it. `public_key` is the base64 DER SubjectPublicKeyInfo."""

    label: str
    algorithm: str
    key_size: int | None = None
    curve_oid: str | None = None
    create_time: Moment
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

    sign_request_id: RequestId


class CertificateRequested(Answer):
    """The id under which the approvals of the CA's key are collected."""

    sign_request_id: RequestId


class CertificateOfKey(Answer):
    """The certificate that TSB holds for a key: in PEM or base64, newer servers both."""

    label: str
    certificate: str
    raw_certificate: str | None = None

    @property
    def der(self) -> bytes:
        """The certificate's bytes, not looked into.

        Raises:
            ValueError: it is neither PEM nor base64.
        """
        text = ARMOR.sub("", self.certificate)
        return base64.b64decode("".join(text.split()), validate=True)

    @property
    def bytes(self) -> bytes:
        """As `der`; of what is neither PEM nor base64, the text's."""
        try:
            return self.der
        except ValueError:
            return self.certificate.encode(errors="backslashreplace")


class BlockRequested(Answer):
    """The id under which the approvals of `ruleBlock` are collected."""

    block_key_request_id: RequestId


class RequestStatus(Answer):
    """The state of a request. The lists hold base64 SPKIs; `status` may be an unknown one."""

    id: str
    status: str
    execution_time: Moment | None = None
    approved_by: list[str] = []
    not_yet_approved_by: list[str] = []
    rejected_by: list[str] = []
    result: str | None = None

    @property
    def digest(self) -> str:
        """What tells two answers apart for whoever waits. The order of a list says nothing."""
        lists = (self.approved_by, self.not_yet_approved_by, self.rejected_by)
        told = json.dumps([self.status, *map(sorted, lists)])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @field_validator("approved_by", "not_yet_approved_by", "rejected_by", mode="before")
    @classmethod
    def _none_is_nobody(cls, value: object) -> object:
        return [] if value is None else value


class ListedRequest(Answer):
    """A line of `POST /v1/filteredRequests`."""

    id: str
    status: str


class ListedRequests(Answer):
    """`POST /v1/filteredRequests`, since TSB 2.0.1."""

    requests: list[ListedRequest]


class Version(Answer):
    """`GET /v1/versionInfo`."""

    version: str = Field(alias="Version")


class License(Answer):
    """`GET /v1/licenseInfo`."""

    client_flags: list[str]
