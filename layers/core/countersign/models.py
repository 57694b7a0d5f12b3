"""The models of the request, of the states' payloads and of the outcome.

The models are strict and frozen. They are written in camelCase everywhere. They are read with
`read`, which raises `InvalidEnrollmentError`: a bare pydantic error would reach Step Functions as
`ValidationError`, a name that nobody catches, and could quote its input.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from countersign.errors import refusal

SCHEMA_VERSION: Literal["1"] = "1"


class Model(BaseModel):
    """A strict, frozen value that travels as camelCase JSON."""

    model_config = ConfigDict(
        frozen=True,
        defer_build=True,  # a function uses ten of forty models; building all takes 15 ms
        extra="forbid",
        hide_input_in_errors=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    NAME: ClassVar[str] = ""

    @classmethod
    def read(cls, raw: object) -> Self:
        """Validate `raw`.

        Raises:
            InvalidEnrollmentError: names the path of the first offending field; never the value.
        """
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            findings = [_finding(cls.NAME, detail) for detail in error.errors(include_input=False)]
        raise refusal(
            findings,
            field=findings[0][0],
            action="Correct the named fields and send the request again; nothing was created.",
        )

    def dump(self) -> dict[str, Any]:
        """The value as a JSON-compatible dictionary with camelCase names."""
        return self.model_dump(mode="json")


def _finding(name: str, detail: Any) -> tuple[str, str]:
    path = ".".join(str(part) for part in detail["loc"])
    text = {
        "extra_forbidden": "unknown field; remove it",
        "missing": "missing; it is required",
    }.get(detail["type"], detail["msg"])
    return ".".join(part for part in (name, path) if part) or "request", text


def now() -> datetime:
    """The current time, UTC."""
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC with `Z`, to the second, as TSB and EventBridge write it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


EnrollmentId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Seconds = Annotated[int, Field(ge=0, strict=True)]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
# It is part of every event, so it must fit into one. An AWS ARN is shorter.
OriginText = Annotated[str, StringConstraints(max_length=1024)]
# Strict: what is accepted must be exactly what was requested. "yes" is not a boolean.
Flag = Annotated[bool, Field(strict=True)]


# Requests --------------------------------------------------------------------------------------


class Approval(Model):
    """One approver of a group: a public key, a certificate, or a name that TSB knows."""

    type: Literal["public_key", "certificate", "onboarded_approver_certificate"]
    name: str | None = None
    value: str | None = None


class Group(Model):
    """`quorum` of these approvers must agree."""

    name: str
    quorum: Annotated[int, Field(ge=1, strict=True)]
    approvals: Annotated[tuple[Approval, ...], Field(min_length=1)]


class Token(Model):
    """All groups must agree, after `timelock` and before `timeout` seconds (0: no limit)."""

    name: str
    timelock: Seconds
    timeout: Seconds
    groups: tuple[Group, ...] | None


class Rule(Model):
    """Any one of the tokens suffices; without a token the rule can never be fulfilled."""

    tokens: tuple[Token, ...]


class KeyStatus(Model):
    """Whether the key is blocked from the start."""

    blocked: Flag


class Policy(Model):
    """TSB's Smart Key Attributes, as in `POST /v1/key`."""

    rule_use: Rule
    rule_block: Rule | None = None
    rule_unblock: Rule | None = None
    rule_modify: Rule | None = None
    key_status: KeyStatus


class SecretReference(Model):
    """A reference to a password. A plain one would stay in the execution history for 90 days."""

    secret_arn: str


class KeyAttributes(Model):
    """Capabilities of the key, as in `POST /v1/key`. TSB has a default for each one left out."""

    decrypt: Flag
    sign: Flag
    unwrap: Flag
    encrypt: Flag | None = None
    verify: Flag | None = None
    wrap: Flag | None = None
    derive: Flag | None = False
    bip32: Flag | None = False
    slip10: Flag | None = False
    extractable: Flag | None = False
    modifiable: Flag | None = True
    destroyable: Flag | None = False
    sensitive: Flag | None = None
    copyable: Flag | None = False


class KeyRequest(Model):
    """The body of `POST /v1/key`."""

    label: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    password: SecretReference | None = None
    id: str | None = None
    algorithm: Literal["RSA", "EC", "ED"]
    algorithm_oid: str | None = None
    curve_oid: str | None = None
    key_size: Annotated[int, Field(strict=True)] | None = None
    attributes: KeyAttributes
    policy: Policy


class Subject(Model):
    """TSB's `standardCertificateAttributes`."""

    common_name: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"\S")]
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] | None = None
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


class CsrRequest(Model):
    """The `csrSignRequest` of `POST /v1/certificate/request`."""

    sign_key_name: str | None = None
    key_password: SecretReference | None = None
    signature_algorithm: str
    validity: Annotated[int, Field(strict=True)] | None = None  # a TSB field; PKCS #10 has none
    standard_certificate_attributes: Subject
    key_usage: tuple[KeyUsage, ...] | None = None
    extended_key_usage: tuple[ExtendedKeyUsage, ...] | None = None


Reason = Annotated[str, StringConstraints(max_length=1000)]
UnusedKey = Literal["keep", "delete", "block"]


class RawRequest(Model):
    """A raw request brings its own policy. Only stacks with AllowRawPolicy accept it."""

    NAME = "request"

    enrollment_id: EnrollmentId | None = None
    key: KeyRequest
    csr: CsrRequest
    reason: Reason | None = None


class EnrollmentRequest(RawRequest):
    """A request as it is carried out: a raw request, or a request by profile after expansion.

    `profile` is the profile's name and version. `unused_key` says what becomes of a key whose CSR
    was not issued. Only a profile sets them, never a caller.
    """

    profile: str | None = None
    unused_key: UnusedKey | None = None


SubjectName = Literal[
    "commonName", "country", "stateOrProvinceName", "locality", "organizationName",
    "organizationIdentifier", "organizationUnitName", "email", "title", "surname", "givenName",
    "initials", "pseudonym", "generationQualifier",
]  # fmt: skip


class AskedKey(Model):
    """The key's label, and the settings that the profile lets a caller override."""

    label: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    password: SecretReference | None = None
    key_size: Annotated[int, Field(strict=True)] | None = None
    curve_oid: str | None = None


class AskedCsr(Model):
    """The subject's open fields, and the settings that the profile lets a caller override."""

    key_password: SecretReference | None = None
    signature_algorithm: str | None = None
    validity: Annotated[int, Field(strict=True)] | None = None
    standard_certificate_attributes: dict[SubjectName, str] = {}
    key_usage: tuple[KeyUsage, ...] | None = None
    extended_key_usage: tuple[ExtendedKeyUsage, ...] | None = None


class ProfileRequest(Model):
    """A request by profile: the values that the profile leaves open, and a reason."""

    NAME = "request"

    enrollment_id: EnrollmentId | None = None
    profile: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}(@[1-9][0-9]{0,3})?$")
    ]
    key: AskedKey
    csr: AskedCsr = AskedCsr()
    reason: Reason | None = None


class LintFinding(Model):
    """One finding of the linter about a policy. `waiver`: the reason why it is accepted."""

    code: str
    level: Literal["error", "warning", "info"]
    path: str
    sentence: str
    action: str
    waiver: str | None = None


class Origin(Model):
    """The trigger that a request came through, and who sent it."""

    NAME = "origin"

    trigger: Literal["start", "api", "schedule", "event", "workflow"] = "start"
    id: OriginText | None = None
    principal: OriginText | None = None
    account: OriginText | None = None
    time: OriginText | None = None


# State -----------------------------------------------------------------------------------------


class Outcome(StrEnum):
    """How an enrollment ends."""

    ISSUED = "ISSUED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class Approver(Model):
    """Somebody whom the policy asks, and what they decided."""

    name: str
    spki_sha256: str | None  # None for a name that only TSB can resolve
    decision: Literal["approved", "declined", "outstanding", "none"] = "outstanding"


class OpenGroup(Model):
    """A group of the use rule whose quorum is not reached: `approved` of `quorum` have approved."""

    token: str
    group: str
    quorum: int
    approved: int


class Check(Model):
    """One comparison of the result with what was approved.

    `code` is stable, `field` is what differs, and `finding` says in a sentence how it differs. A
    check is skipped if another failure leaves nothing to compare, or if it is not configured.
    """

    code: str
    result: Literal["passed", "failed", "skipped"] = "passed"
    field: str | None = None
    finding: str | None = None


class CsrLocation(Model):
    """Where the verified CSR is stored. `sha256` is the hash of the DER."""

    bucket: str
    key: str
    version_id: str | None
    sha256: str


class StoredCsr(CsrLocation):
    """The verified CSR and where it is stored."""

    pem: str


class Failure(Model):
    """Why an enrollment failed, from the error that ended it."""

    name: str
    message: str
    state: str | None = None
    field: str | None = None
    error_code: int | None = None
    reason: str | None = None
    http_status: int | None = None
    action: str | None = None


class DisposedKey(Model):
    """What became of a key whose CSR was not issued.

    `action` is what the profile wants. `started` and `asking` remain if a function died; then the
    result is unknown. `asked`: the approvers of `ruleBlock` decide on the TSB request `request_id`.
    `none`: there is no such key.
    """

    action: UnusedKey
    result: Literal["started", "asking", "none", "kept", "deleted", "blocked", "asked", "failed"]
    at: Moment
    reason: str | None = None
    request_id: str | None = None
    error: Failure | None = None


class UnaccountedKey(Model):
    """A key that no enrollment accounts for.

    `why` is one of four. `unclaimed`: no enrollment claims the label, as far as is known.
    `unrecorded`: the enrollment that claimed the label, or its request, is not on record. `unused`:
    the key should have been deleted when its enrollment ended without a CSR. `unblocked`: the key
    should have been blocked. `deleted`: whether this run deleted the key. `problem`: why it could
    not be deleted although it should be.
    """

    label: str
    why: Literal["unclaimed", "unrecorded", "unused", "unblocked"]
    enrollment_id: str | None = None
    deleted: bool = False
    problem: str | None = None


class SweptKeys(Model):
    """What a run of SweepKeys found. `omitted_count`: how many keys are not named."""

    looked_at: int
    keys: tuple[UnaccountedKey, ...]
    omitted_count: int


class AuditedKeys(Model):
    """What a run of AuditKeys checked. `drifted`: labels of the keys that differ, whether announced
    now or known before.
    """

    looked_at: int
    drifted: tuple[str, ...]


class OutcomeDocument(Model):
    """What a caller gets at the end. The outcome's event has the same fields (events.py)."""

    schema_version: str = SCHEMA_VERSION
    enrollment_id: str
    outcome: Outcome | None
    csr: StoredCsr | None = None
    approvers: tuple[Approver, ...] = ()
    error: Failure | None = None
    duplicate: bool | None = None

    def dump(self) -> dict[str, Any]:
        """As `Model.dump`, with `duplicate` only if it is true."""
        document = super().dump()
        if not self.duplicate:
            del document["duplicate"]
        return document


# Views for people ------------------------------------------------------------------------------


class Status(StrEnum):
    """The state of an enrollment: PENDING or CANCELLING while it is open, then its outcome.

    It is on the record as well, because the list is filtered by it.
    """

    PENDING = "PENDING"
    CANCELLING = "CANCELLING"
    ISSUED = "ISSUED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class GroupSummary(Model):
    """`quorum` of these approvers, by name, must agree."""

    name: str
    quorum: int
    approvers: tuple[str, ...]


class TokenSummary(Model):
    """All groups must agree, after `timelock` and before `timeout` seconds (0: no limit)."""

    name: str
    timelock: int
    timeout: int
    groups: tuple[GroupSummary, ...]


class PolicySummary(Model):
    """Who must approve the use of the key: any one of the tokens suffices."""

    tokens: tuple[TokenSummary, ...]


class Cancellation(Model):
    """Who cancelled and when; `confirmed_at`: when TSB confirmed it."""

    by: str
    at: Moment
    confirmed_at: Moment | None = None


class Times(Model):
    """When what happened to the enrollment as a whole, UTC."""

    accepted: Moment | None = None
    key_created: Moment | None = None
    ended: Moment | None = None


class ApprovalTimes(Model):
    """When what happened to a request, UTC. Without a limit `window_ends` is None."""

    requested: Moment | None = None
    window_ends: Moment | None = None
    next_poll: Moment | None = Field(default=None, description="Planned.")
    executed: Moment | None = None


class ApprovalRequest(Model):
    """What approvers are asked: TSB's id and status of it, who they are and what they decided."""

    request_id: str | None = None
    status: str | None = None
    approvers: tuple[Approver, ...] = ()
    times: ApprovalTimes = ApprovalTimes()


class Steps(Model):
    """The approval requests of an enrollment."""

    csr: ApprovalRequest


class EnrollmentSummary(Model):
    """One line of the list."""

    enrollment_id: str
    status: Status
    stage: str
    outcome: Outcome | None
    attempt: int
    key_label: str | None
    origin: Origin
    times: Times
    steps: Steps
    cancel: Cancellation | None
    error: Failure | None
    links: dict[str, str]


class _AsSent:
    """Documents a request as it was sent, possibly to an older release."""

    def __get_pydantic_json_schema__(self, _: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(TypeAdapter(ProfileRequest | RawRequest).core_schema)


class Enrollment(EnrollmentSummary):
    """One enrollment, as the API shows it."""

    schema_version: str = SCHEMA_VERSION
    execution_arn: str | None
    request: Annotated[dict[str, Any], _AsSent()] | None
    reason: str | None
    profile: str | None = None
    findings: tuple[LintFinding, ...] = ()
    policy: PolicySummary | None
    csr: CsrLocation | None
    unused_key: DisposedKey | None = None


class EnrollmentList(Model):
    """Newest first. `next` is the token of the next page; None on the last page."""

    enrollments: tuple[EnrollmentSummary, ...]
    next: str | None


class Finding(Model):
    """One problem in a request: the path of the field, and the reason."""

    field: str
    detail: str


class Problem(Model):
    """Why the API did not do what the call asked for. Source: RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int | None = None
    detail: str | None = None
    instance: str | None = None
    error: str | None = None
    action: str | None = None
    enrollment_id: str | None = None
    errors: tuple[Finding, ...] = ()


class TsbHealth(Model):
    """What the TSB reports about its version and its license."""

    version: str
    licence: tuple[str, ...]


class Health(Model):
    """Countersign can reach the TSB, and the TSB is licensed to ask approvers."""

    status: Literal["ok"] = "ok"
    tsb: TsbHealth


# Payloads of the states ------------------------------------------------------------------------


class Execution(Model):
    """The Step Functions execution that runs this enrollment."""

    arn: str
    name: str
    input: Any = None
    start_time: str | None = None


class AcceptEnrollmentInput(Model):
    """The execution, with the input that it was started with."""

    execution: Execution


class Accepted(Model):
    """A claimed enrollment: its id, attempt and the request as it will be carried out."""

    enrollment_id: str
    attempt: int
    request: dict[str, Any]
    duplicate: bool = False
    not_before: Moment | None = None  # no key may be created before; None: at once


class CreateKeyInput(Model):
    """The claimed enrollment, and its key slot (`Accepted.not_before`)."""

    execution_arn: str
    enrollment_id: str
    request: EnrollmentRequest
    not_before: Moment | None = None


class CreatedKey(Model):
    """The key as the HSM reports it. `public_key` is the base64 DER SPKI; None when cancelled."""

    label: str
    public_key: str | None
    public_key_sha256: str | None


class RequestCsrInput(CreateKeyInput):
    """The claimed enrollment and its key."""

    key: CreatedKey


class Schedule(Model):
    """How long to wait for the approvers, fixed when the CSR is requested.

    The first seven fields are `polling.Schedule`. The last two are for the state machine alone: how
    slow the polls may get while TSB does not answer, and the age at which polling ends even then.
    """

    window_seconds: int
    timelock_seconds: int
    deadline_seconds: int
    silence_seconds: int
    growth: float
    floor_seconds: int
    cap_seconds: int
    slowest_seconds: int
    last_age_seconds: int


class RequestedCsr(Model):
    """TSB's request, and when to poll it. `request_id` is None if cancelled before."""

    request_id: str | None
    status: str
    wait_seconds: int
    schedule: Schedule


class PollRequestInput(Model):
    """`age_seconds`: sum of the waits so far. `seen`: fingerprint of the state recorded last."""

    execution_arn: str
    enrollment_id: str
    request_id: str
    age_seconds: int
    seen: str
    schedule: Schedule


class PolledRequest(Model):
    """TSB's status, unchanged, and the CSR as soon as there is one."""

    status: str
    wait_seconds: int
    seen: str
    pem: str | None = None


class StoreCsrInput(CreateKeyInput):
    """The executed request. Its CSR is not trusted yet."""

    key: CreatedKey
    request_id: str
    pem: str | None = None


class StoredResult(Model):
    """`csr` is None if the enrollment was cancelled before it could be issued."""

    status: Literal["ISSUED", "CANCELLED"]
    csr: StoredCsr | None


class CaughtError(Model):
    """The error as a Catch passes it on."""

    state: str
    error: str
    cause: Any = None


class CancelRequestInput(Model):
    """The enrollment that has a cancellation on record."""

    enrollment_id: EnrollmentId


class CancelledRequest(Model):
    """Whether TSB has no open request of the enrollment any more, as far as is known."""

    confirmed: bool


class DiscardKeyInput(CreateKeyInput):
    """The key whose CSR was not issued, and the reason: a status or a caught error.

    `unanswered`: it is unknown whether the request for the CSR reached TSB, so the key is replaced
    by a fresh one. Executions of the previous release came here for this reason only.
    """

    status: str | None = None
    failure: CaughtError | None = None
    unanswered: bool = True


class DiscardedKey(Model):
    """`again`: the key is gone and CreateKey may start over. The rest is passed through."""

    again: bool
    status: str | None = None
    failure: CaughtError | None = None
    not_before: Moment | None = None


class CloseEnrollmentInput(Model):
    """How the workflow ended: with a status, a stored CSR, or a caught error."""

    execution: Execution
    status: str | None = None
    csr: StoredCsr | None = None
    failure: CaughtError | None = None
