"""The enrollment's record, as the table keeps it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, TypedDict, cast

from pydantic import StringConstraints

# As `models.timestamp` writes it: a time without a zone would be another one for each reader.
Time = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


class TsbStatus(StrEnum):
    """TSB's words for how an approval request stands."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    EXECUTED = "EXECUTED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


# What TSB's word decides. Only EXECUTED has a CSR: after any other end there is nothing to resume.
# Of these the enrollment's outcome has the same name. FAILED is an end without a reason.
ENDED_AT_TSB = frozenset(TsbStatus) - {TsbStatus.PENDING, TsbStatus.APPROVED}
ENDED_WITHOUT_CSR = ENDED_AT_TSB - {TsbStatus.EXECUTED}
OUTCOMES_AT_TSB = ENDED_WITHOUT_CSR - {TsbStatus.FAILED}


MAX_EARLIER = 100  # executions that are remembered


class Approver(TypedDict):
    """Somebody whom the policy asks, and their decision; see `models.Approver`."""

    name: str
    spkiSha256: str | None
    decision: str


class StepTimes(TypedDict, total=False):
    """When the approvers of a step were asked, until when, the next poll, TSB's execution; UTC."""

    requested: Time
    windowEnds: Time | None
    nextPoll: Time
    executed: Time


class Step(TypedDict, total=False):
    """One approval request: what belongs to it and to no other.

    `intent` is written before TSB is asked: without `requestId`, nobody knows whether it was.
    """

    intent: str
    requestId: str
    status: str
    approvers: list[Approver]
    times: StepTimes


class Steps(TypedDict, total=False):
    """The approval requests of an enrollment."""

    csr: Step


class Cancellation(TypedDict, total=False):
    """Who cancelled and when, and when TSB confirmed it."""

    by: str
    at: Time
    confirmedAt: Time


class Times(TypedDict, total=False):
    """When what happened to the enrollment as a whole, UTC."""

    accepted: Time
    keyCreated: Time
    ended: Time


class Record(TypedDict, total=False):
    """An enrollment. What was never reached is absent; a refused request has hardly anything."""

    id: str
    kind: str
    schemaVersion: str
    codeVersion: str
    attempt: int
    executionArn: str
    origin: dict[str, Any]
    requestSha256: str
    request: dict[str, Any]
    acceptedSha256: str
    acceptedAt: Time
    profile: str
    profileSha256: str
    findings: list[dict[str, Any]]
    caFindings: list[dict[str, Any]]
    keyLabel: str
    policy: dict[str, Any]
    publicKeySha256: str
    clockSkewSeconds: (
        int  # the HSM's clock was ahead of ours when it made the key; absent: none showed
    )
    status: str
    stage: str
    steps: Steps
    times: Times
    cancel: Cancellation
    overdue: Time
    unknownToTsbSince: Time
    discards: int
    discardedSha256: str  # public key of the one that was discarded last: never adopted
    metaDataSha256: str
    metaDataSignature: str
    checks: list[dict[str, Any]]
    attestation: str
    attestationRoot: str
    attestationChainSha256: str  # of the chain that was verified; absent: there was none
    verifiedSha256: str
    csr: dict[str, Any]
    quarantine: dict[str, Any]
    unusedKey: dict[str, Any]
    drift: dict[str, Any]
    outcome: str
    error: dict[str, Any] | None
    announced: str
    resumed: int  # how often this attempt was resumed, or an execution could not resume it
    earlier: list[str]  # executions that carried it out before, whose ends were announced


def csr_step(record: Mapping[str, Any] | Record) -> Step:
    """The approval request of the CSR; empty where none was prepared."""
    return cast(Record, record).get("steps", {}).get("csr", {})


def approvers_asked(record: Mapping[str, Any] | Record) -> bool:
    """Whether approvers were asked, or may have been."""
    step = csr_step(record)
    return "intent" in step or "requestId" in step


def chain_object(sha256: str) -> str:
    """The object, below the enrollment's prefix, of an attestation chain.

    It is named for its hash: nobody can take the place of the one that is verified later.
    """
    return f"attestation-chain/{sha256}.pem"


def request_object(attempt: int) -> str:
    """The object, below the enrollment's prefix, of what an attempt accepted.

    Each attempt keeps its own: a profile without version may mean another one each time.
    """
    return "request.json" if attempt == 1 else f"request-{attempt}.json"
