"""What the state machine hands to a function, and what it gets back."""

from typing import Any, Literal, Self, override

from countersign.errors import InvalidEnrollmentError, PayloadError
from countersign.models.base import EnrollmentId, Model, Moment
from countersign.models.request import EnrollmentRequest
from countersign.record import StepName, TsbStatus


class Payload(Model):
    """What a state's function is invoked with."""

    @override
    @classmethod
    def read(cls, raw: object) -> Self:
        """Validate `raw`.

        Raises:
            PayloadError: names the path of the first offending field; never the value.
        """
        try:
            return super().read(raw)
        except InvalidEnrollmentError as error:
            raise PayloadError(
                f"this function does not read what it was handed: {error.message}",
                field=error.field,
                action="Nothing during a release: it is tried again. Otherwise deploy again.",
            ) from None


class Execution(Model):
    """The Step Functions execution that runs this enrollment."""

    arn: str
    name: str
    input: Any = None
    start_time: str | None = None


class AcceptEnrollmentInput(Payload):
    """The execution, with the input that it was started with."""

    execution: Execution


class Accepted(Model):
    """A claimed enrollment: its id, attempt and the request as it will be carried out."""

    enrollment_id: str
    attempt: int
    request: dict[str, Any]
    duplicate: bool = False
    not_before: Moment | None = None  # no key may be created before; None: at once


class CreateKeyInput(Payload):
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


class Resumed(Model):
    """An enrollment taken over from an execution that failed: where the approvers were asked.

    `age_seconds`: of the request, as if the waits had gone on.
    """

    enrollment_id: str
    attempt: int
    request: dict[str, Any]
    resumed: Literal[True] = True
    step: StepName = "csr"
    key: CreatedKey
    request_id: str
    schedule: Schedule
    wait_seconds: int
    age_seconds: int


class RequestedApproval(Model):
    """TSB's request, and when to poll it; or, if cancelled before, the outcome alone."""

    request_id: str | None
    tsb_status: TsbStatus | None = None
    outcome: Literal["CANCELLED"] | None = None
    wait_seconds: int
    schedule: Schedule


class PollRequestInput(Payload):
    """`age_seconds`: sum of the waits so far. `seen`: fingerprint of the state recorded last.

    `step`: which approval request of the enrollment is polled.
    """

    execution_arn: str
    enrollment_id: str
    step: StepName = "csr"
    request_id: str
    age_seconds: int
    seen: str
    schedule: Schedule


class PolledRequest(Model):
    """TSB's status, and the CSR as soon as there is one; or the outcome, if it was cancelled."""

    tsb_status: TsbStatus | None = None
    outcome: Literal["CANCELLED"] | None = None
    wait_seconds: int
    seen: str
    pem: str | None = None


class StoreCsrInput(CreateKeyInput):
    """The executed request. Its CSR is not trusted yet."""

    key: CreatedKey
    request_id: str
    pem: str | None = None


class StoredResult(Model):
    """`CANCELLED` if the enrollment was cancelled before it could be issued.

    `next`: what the CSR was asked for; then there is no outcome yet.
    """

    outcome: Literal["ISSUED", "CANCELLED"] | None
    next: Literal["certificate"] | None = None


class RequestCertificateInput(CreateKeyInput):
    """The claimed enrollment, whose verified CSR is on record."""

    key: CreatedKey


class StoreCertificateInput(RequestCertificateInput):
    """The executed request. Its certificate is not trusted yet."""

    request_id: str
    pem: str | None = None


class CaughtError(Model):
    """The error as a Catch passes it on."""

    state: str
    error: str
    cause: Any = None


class CancelRequestInput(Payload):
    """The enrollment that has a cancellation on record."""

    enrollment_id: EnrollmentId


class CancelledRequest(Model):
    """Whether TSB has no open request of the enrollment any more, as far as is known."""

    confirmed: bool


class DiscardKeyInput(CreateKeyInput):
    """The key whose CSR was not issued, and the reason: TSB's status, our outcome or an error.

    `unanswered`: it is unknown whether the request for the CSR reached TSB, so the key is replaced
    by a fresh one.
    """

    tsb_status: TsbStatus | None = None
    outcome: Literal["CANCELLED"] | None = None
    failure: CaughtError | None = None
    unanswered: bool


class DiscardedKey(Model):
    """`again`: the key is gone and CreateKey may start over. The rest is passed through."""

    again: bool
    tsb_status: TsbStatus | None = None
    outcome: Literal["CANCELLED"] | None = None
    failure: CaughtError | None = None
    not_before: Moment | None = None


class CloseEnrollmentInput(Payload):
    """How the workflow ended: by TSB's status, with an outcome of ours, or by a caught error."""

    execution: Execution
    tsb_status: TsbStatus | None = None
    outcome: Literal["ISSUED", "CANCELLED"] | None = None
    failure: CaughtError | None = None
