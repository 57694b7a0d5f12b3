"""Whether the result is what was approved: every comparison has a name, and all are made.

StoreCsr runs it before anything is stored as issued. It runs again offline, on an evidence bundle.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from countersign import models as m
from countersign.policy.approvers import ONBOARDED, effective, identity
from countersign.record import csr_step
from countersign.request import canonical
from countersign.spki import fingerprint
from countersign.tsb.models import Key, KeyAttributes
from countersign.verification import attestation as verification_attestation
from countersign.verification import csr as verification_csr
from countersign.verification.attestation import Trust


@dataclass(frozen=True)
class Returned:
    """The result of an executed request. None of it is trusted yet.

    Args:
        requested: the accepted request.
        request_id: TSB's id of the executed request.
        pem: the CSR.
        created_public_key: the base64 DER SPKI that the HSM reported when the key was created.
        answer: the key as the HSM reports it now.
        record: the enrollment's record: what was approved, who approved, and the ids.
    """

    requested: m.EnrollmentRequest
    request_id: str
    pem: str
    created_public_key: str | None
    answer: KeyAttributes
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Verified:
    """The checks, the most important first, and the content of the CSR (None: it is not a CSR)."""

    checks: tuple[m.Check, ...]
    csr: verification_csr.Csr | None

    @property
    def failed(self) -> m.Check | None:
        """The first check that failed."""
        return next((check for check in self.checks if check.result == "failed"), None)

    @property
    def attestation(self) -> Literal["verified", "unverified", "failed"]:
        """Whether the HSM's attestation was trusted."""
        results = {
            check.result for check in self.checks if check.code in verification_attestation.CODES
        }
        if "failed" in results:
            return "failed"
        return "unverified" if "passed" not in results else "verified"


def verify(returned: Returned, trust: Trust, *, now: datetime) -> Verified:
    """Make every comparison. It raises nothing, whatever the result is.

    Args:
        returned: see `Returned`.
        trust: which attestations are trusted.
        now: the time at which the attestation chain must be valid.
    """
    requested, answer, record = returned.requested, returned.answer, returned.record
    found, csr_checks = verification_csr.check(
        returned.pem, requested.csr, public_key=answer.key.public_key
    )
    step = csr_step(record)
    asked_at = step.get("times", {}).get("requested")
    # Of the clock that the attestation's time is of, as the key's creation has shown it.
    skew = timedelta(seconds=int(record.get("clockSkewSeconds", 0)))
    approvers = [m.Approver.read(one) for one in step.get("approvers", ())]
    checks = [
        *_request_checks(returned),
        *_key_checks(returned),
        *verification_attestation.check(
            answer,
            trust,
            asked_at=datetime.fromisoformat(asked_at) + skew if asked_at else None,
            now=now,
        ),
        *csr_checks,
        *approval_checks(
            requested.key.policy, [one for one in approvers if one.decision == "approved"]
        ),
    ]
    return Verified(tuple(checks), found)


def verify_key(
    requested: m.EnrollmentRequest,
    answer: KeyAttributes,
    record: Mapping[str, Any],
    trust: Trust,
    *,
    asked_at: datetime,
    now: datetime,
) -> tuple[m.Check, ...]:
    """The comparisons of `verify` that are about the key alone, for a key whose CSR was issued.

    Args:
        requested: the accepted request.
        answer: the key as the HSM reports it now.
        record: the enrollment's record.
        trust: which attestations are trusted.
        asked_at: when the HSM was asked; an older attestation does not count.
        now: the time at which the attestation chain must be valid.
    """
    returned = Returned(
        requested=requested,
        request_id=csr_step(record)["requestId"],
        pem="",
        # The record has only the fingerprint of the created key. It is compared as well.
        created_public_key=answer.key.public_key,
        answer=answer,
        record=record,
    )
    return (
        *_request_checks(returned),
        *_key_checks(returned),
        *verification_attestation.check(answer, trust, asked_at=asked_at, now=now),
    )


def differences(reported: Key, requested: m.KeyRequest) -> dict[str, list[str]]:
    """Where the HSM's report differs from the request, by `attributes` and `policy`."""
    wanted = requested.attributes.dump()
    different = [
        f"attributes.{name}"
        for name, value in reported.attributes.items()
        if value is not None and wanted.get(name) is not None and value != wanted[name]
    ]
    different += ["algorithm"] if reported.algorithm != requested.algorithm else []
    different += ["keySize"] if requested.key_size not in (None, reported.key_size) else []
    different += ["curveOid"] if requested.curve_oid not in (None, reported.curve_oid) else []
    try:
        same = effective(m.Policy.model_validate(reported.policy)) == effective(requested.policy)
    except ValueError:  # a policy in a form that we never send
        same = False
    return {"attributes": different, "policy": [] if same else ["policy"]}


def _request_checks(returned: Returned) -> list[m.Check]:
    recorded = returned.record.get
    request_id = csr_step(returned.record).get("requestId")
    own = canonical.sha256(canonical.accepted(returned.requested))
    return [
        _check(
            "REQUEST_ID",
            request_id == returned.request_id,
            "requestId",
            f"TSB executed request {returned.request_id}, on record is {request_id}",
        ),
        # An enrollment that was under way when approvers were first shown the request has no hash.
        _check(
            "REQUEST_ACCEPTED",
            recorded("acceptedSha256") == own,
            "request",
            "what the approvers were shown is not the request that this is compared with",
        )
        if "acceptedSha256" in returned.record
        else m.Check(
            code="REQUEST_ACCEPTED", result="skipped", finding="the approvers were shown no request"
        ),
    ]


def _key_checks(returned: Returned) -> list[m.Check]:
    key, requested = returned.answer.key, returned.requested.key
    different = differences(key, requested)
    safe = key.attributes.get("extractable") is False and key.attributes.get("neverExtractable")
    status = (key.policy or {}).get("keyStatus") or {}
    same = key.public_key == returned.created_public_key and fingerprint(
        key.public_key
    ) == returned.record.get("publicKeySha256")
    return [
        _check("KEY_LABEL", key.label == requested.label, "label", "the HSM reports another key"),
        _check(
            "KEY_PUBLIC_KEY",
            same,
            "publicKey",
            "the key has another public key now than when it was created",
        ),
        _check(
            "KEY_EXTRACTABLE",
            safe is True,
            "attributes.extractable",
            "the HSM does not report the key as never extractable",
        ),
        _check(
            "KEY_BLOCKED",
            status.get("blocked") is False,
            "policy.keyStatus.blocked",
            "the HSM does not report the key as usable: it was blocked",
        ),
        _check(
            "KEY_ATTRIBUTES",
            not different["attributes"],
            next(iter(different["attributes"]), "attributes"),
            f"not as accepted: {', '.join(different['attributes'])}",
        ),
        _check(
            "KEY_POLICY",
            not different["policy"],
            "policy",
            "the key's policy in the HSM is not the accepted one: it was changed",
        ),
    ]


def approval_checks(accepted: m.Policy, approved: list[m.Approver]) -> list[m.Check]:
    """Whether the people who approved are in the policy, are enough, and are different people.

    Only TSB knows the key of an onboarded approver. So a key that is not in the policy counts as
    one of theirs, as long as there are no more such keys than onboarded approvers.
    """
    person = {one.spki_sha256: _person(one) for one in approved if one.spki_sha256}
    members = [
        identity(approval)
        for token in accepted.rule_use.tokens
        for group in token.groups or ()
        for approval in group.approvals
    ]
    onboarded = {one for one in members if one.startswith(ONBOARDED)}
    unknown = person.keys() - members
    hidden = len(unknown) if len(unknown) <= len(onboarded) else 0

    def fulfilled(count: Callable[[set[str]], int]) -> bool:
        return any(
            all(
                count(own & person.keys()) + min(hidden, len(own & onboarded)) >= group.quorum
                for group in token.groups or ()
                for own in [{identity(approval) for approval in group.approvals}]
            )
            for token in accepted.rule_use.tokens
        )

    enough = fulfilled(len)
    distinct = fulfilled(lambda keys: len({person[key] for key in keys}))
    unknown_keys = ", ".join(f"sha256:{digest[:16]}" for digest in sorted(unknown))
    return [
        _check(
            "APPROVER_NOT_IN_POLICY",
            len(unknown) <= len(onboarded),
            "approvedBy",
            f"approved by {unknown_keys}, whom the policy does not name",
        ),
        _check(
            "APPROVAL_QUORUM",
            enough,
            "approvedBy",
            f"the {len(approved)} approvals fulfil no token of ruleUse",
        ),
        _check(
            "APPROVAL_SAME_PERSON",
            distinct or not enough,
            "approvedBy",
            "the quorum is reached only where one person's keys are counted twice",
        ),
    ]


def _person(approver: m.Approver) -> str:
    """The identity of an approver: two spellings of a name are one person."""
    return " ".join(approver.name.casefold().split())


def _check(code: str, holds: bool, field: str, finding: str) -> m.Check:
    if holds:
        return m.Check(code=code)
    return m.Check(code=code, result="failed", field=field, finding=finding)
