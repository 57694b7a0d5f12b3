"""The enrollment's record, as the table keeps it."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, TypedDict, cast

from pydantic import ConfigDict, Field, StringConstraints, with_config

from countersign import clocks

# As `models.timestamp` writes it: a time without a zone would be another one for each reader.
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
Time = Annotated[str, StringConstraints(pattern=f"^{TIME}$")]
Intent = Annotated[str, StringConstraints(pattern=f"^{TIME} [0-9a-f]{{32}}$")]  # when, and a nonce
Stage = Literal["AcceptEnrollment", "CreateKey", "RequestCsr", "PollRequest", "StoreCsr",
                "RequestCertificate", "StoreCertificate", "DiscardKey"]  # fmt: skip
# What no release of this code has written is nothing of the stack's; see `evidence/derived.py`.
closed = with_config(ConfigDict(extra="forbid"))


class TsbStatus(StrEnum):
    """TSB's words for how an approval request stands."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    EXECUTED = "EXECUTED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


type StepName = Literal["csr", "certificate"]

# What TSB's word decides. Only EXECUTED has a CSR: after any other end there is nothing to resume.
# Of these the enrollment's outcome has the same name. FAILED is an end without a reason.
ENDED_AT_TSB = frozenset(TsbStatus) - {TsbStatus.PENDING, TsbStatus.APPROVED}
ENDED_WITHOUT_CSR = ENDED_AT_TSB - {TsbStatus.EXECUTED}
OUTCOMES_AT_TSB = ENDED_WITHOUT_CSR - {TsbStatus.FAILED}


MAX_EARLIER = 100  # executions that are remembered


@closed
class Approver(TypedDict):
    """Somebody whom the policy asks, and their decision; see `models.Approver`."""

    name: str
    spkiSha256: str | None
    decision: str


@closed
class StepTimes(TypedDict, total=False):
    """When the approvers of a step were asked, until when, the next poll, TSB's execution; UTC."""

    requested: Time
    windowEnds: Time | None
    nextPoll: Time
    executed: Time


@closed
class Step(TypedDict, total=False):
    """One approval request: what belongs to it and to no other.

    `intent` is written before TSB is asked: without `requestId`, nobody knows whether it was.
    `answerSha256` is of TSB's answer that status, approvers and the time of the execution are from.
    """

    intent: Intent
    requestId: str
    status: str
    answerSha256: str
    approvers: list[Approver]
    times: StepTimes


@closed
class CertificateStep(Step, total=False):
    """The request for a certificate, with what belongs to the CA's key and not to the new one.

    `policy` and `policySha256` are of the CA key as its approvers were asked; `publicKeySha256` is
    that key's. What the CSR's approvers were shown is on the record itself.
    """

    caKeyLabel: str
    policy: dict[str, Any]
    policySha256: str
    publicKeySha256: str
    signatureAlgorithm: str
    metaDataSha256: str
    metaDataSignature: str


@closed
class Trusted(TypedDict, total=False):
    """A root and a chain that were trusted before, where they have been changed since."""

    root: str
    chainSha256: str  # absent: there was none


@closed
class CaAttestation(TypedDict, total=False):
    """By which root and chain the HSM's word on the CA's key was verified, and when.

    RequestCertificate writes it before the CA's approvers are asked, StoreCertificate in its place.
    The stack may trust another root by then than when it verified the CSR.
    """

    root: str
    chainSha256: str  # absent: there was none
    asked: Trusted  # by RequestCertificate, where StoreCertificate trusts others
    maxClockSkewSeconds: Annotated[int, Field(ge=60, le=900)]  # that were tolerated; absent: 300
    at: Time


@closed
class Steps(TypedDict, total=False):
    """The approval requests of an enrollment."""

    csr: Step
    certificate: CertificateStep  # only where one was asked for


@closed
class Cancellation(TypedDict, total=False):
    """Who cancelled and when, and when TSB confirmed it."""

    by: str
    at: Time
    confirmedAt: Time


@closed
class Times(TypedDict, total=False):
    """When what happened to the enrollment as a whole, UTC."""

    accepted: Time
    keyCreated: Time
    ended: Time


@closed
class Record(TypedDict, total=False):
    """An enrollment. What was never reached is absent; a refused request has hardly anything."""

    id: str
    kind: str
    schemaVersion: str
    codeVersion: str
    attempt: Annotated[int, Field(ge=1)]
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
    maxClockSkewSeconds: Annotated[int, Field(ge=60, le=900)]  # that were tolerated; absent: 300
    status: str
    stage: Stage
    steps: Steps
    times: Times
    cancel: Cancellation
    overdue: Time
    unknownToTsbSince: Time
    discards: Annotated[int, Field(ge=0)]
    discardedSha256: str  # public key of the one that was discarded last: never adopted
    metaDataSha256: str
    metaDataSignature: str
    checks: list[dict[str, Any]]
    keyVerifiedAt: Time  # when CreateKey verified the key
    keyAttestation: Trusted  # by CreateKey, where StoreCsr trusts others
    attestation: str
    attestationRoot: str  # as CreateKey trusted it, then StoreCsr; empty: none was pinned
    attestationChainSha256: str  # of the chain that was verified; absent: there was none
    verifiedAt: Time  # when the CSR's checks were made
    verifiedSha256: str
    csr: dict[str, Any]
    certificateChecks: list[dict[str, Any]]
    caAttestation: CaAttestation
    usagesOmitted: bool
    certificate: dict[str, Any]
    imported: dict[str, Any]
    quarantine: dict[str, Any]
    unusedKey: dict[str, Any]
    drift: dict[str, Any]
    expiring: dict[str, Any]
    outcome: str
    error: dict[str, Any] | None
    announced: str
    resumed: Annotated[
        int, Field(ge=0)
    ]  # how often this attempt was resumed, or an execution could not resume it
    earlier: list[str]  # executions that carried it out before, whose ends were announced


def csr_step(record: Mapping[str, Any] | Record) -> Step:
    """The approval request of the CSR; empty where none was prepared."""
    return cast(Record, record).get("steps", {}).get("csr", {})


def certificate_step(record: Mapping[str, Any] | Record) -> CertificateStep:
    """The approval request of the certificate; empty where none was prepared."""
    return cast(Record, record).get("steps", {}).get("certificate", {})


def wants_certificate(record: Mapping[str, Any] | Record) -> bool:
    """Whether the enrollment ends with a certificate, not with its CSR."""
    return "certificate" in cast(Record, record).get("steps", {})


def last_step(record: Mapping[str, Any] | Record) -> StepName:
    """The approval request that was asked for last. How it ended is how the enrollment ends."""
    return "certificate" if _is_asked(certificate_step(record)) else "csr"


def step_of(record: Mapping[str, Any] | Record, name: StepName) -> Step:
    """An approval request of the enrollment."""
    return certificate_step(record) if name == "certificate" else csr_step(record)


def intended_at(step: Step) -> str:
    """When it was noted that its approvers are to be asked; empty where it was not."""
    return step.get("intent", "").partition(" ")[0]


def tolerated(noted: Record | CaAttestation) -> timedelta:
    """How far the HSM's clock might be off; a record of an older release does not say."""
    said = noted.get("maxClockSkewSeconds")
    return clocks.TOLERATED if said is None else timedelta(seconds=said)


def policy_of(record: Mapping[str, Any] | Record, name: StepName) -> dict[str, Any]:
    """The summary of the policy under which an approval request stands."""
    if name == "certificate":
        return certificate_step(record)["policy"]
    return cast(Record, record)["policy"]


def approvers_asked(record: Mapping[str, Any] | Record) -> bool:
    """Whether approvers were asked, or may have been."""
    return _is_asked(csr_step(record))


def _is_asked(step: Step) -> bool:
    return "intent" in step or "requestId" in step


def trusted(root: str, chain: str | None) -> Trusted:
    """A root and the SHA-256 of a chain, as they go on record."""
    return {"root": root, "chainSha256": chain} if chain else {"root": root}


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
