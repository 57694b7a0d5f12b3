"""What the HTTP API shows."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
)

from countersign.models import (
    SCHEMA_VERSION,
    Approver,
    Cancellation,
    CertificateLocation,
    CsrLocation,
    DisposedKey,
    Failure,
    LintFinding,
    Model,
    Moment,
    Origin,
    Outcome,
    PolicySummary,
    ProfileRequest,
    RawRequest,
    Status,
)


class Times(Model):
    """When what happened to the enrollment as a whole, UTC."""

    accepted: Moment | None = None
    key_created: Moment | None = None
    ended: Moment | None = None


class ApprovalTimes(Model):
    """When what happened to a request, UTC. Without a limit `window_ends` is None."""

    requested: Moment | None = None
    window_ends: Moment | None = None
    next_poll: Moment | None = Field(
        default=None,
        description="When TSB is polled at the latest. News wakes the workflow within a minute.",
    )
    executed: Moment | None = None


class ApprovalRequest(Model):
    """What approvers are asked: TSB's id and status of it, who they are and what they decided."""

    request_id: str | None = None
    status: str | None = None
    approvers: tuple[Approver, ...] = ()
    times: ApprovalTimes = Field(default_factory=ApprovalTimes)


class CertificateApproval(ApprovalRequest):
    """What the approvers of the CA's key are asked; `policy` says who of them must agree."""

    ca_key_label: str
    policy: PolicySummary | None = None


class Steps(Model):
    """The approval requests of an enrollment; `certificate` only where one is asked for."""

    csr: ApprovalRequest
    certificate: CertificateApproval | None = None

    @model_serializer(mode="wrap")
    def _only_what_there_is(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        shown: dict[str, Any] = handler(self)
        return {name: one for name, one in shown.items() if one is not None}


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
    certificate: CertificateLocation | None = None
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
    """What the TSB reports about its version and its license.

    `clock_skew_seconds`: by how much the clock of whoever answered for it is ahead of ours; None if
    its answers say no time. The HSM's own clock is measured with each key.
    """

    version: str
    license: tuple[str, ...]
    clock_skew_seconds: int | None = None


class Health(Model):
    """Countersign can reach the TSB, and the TSB is licensed to ask approvers."""

    status: Literal["ok"] = "ok"
    tsb: TsbHealth
