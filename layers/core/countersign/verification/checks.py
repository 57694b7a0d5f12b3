"""Whether the result is what was approved: every comparison has a name, and all are made.

StoreCsr runs it before anything is stored as issued. It runs again offline, on an evidence bundle.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from countersign import models as m
from countersign.clocks import LONGEST_CALL
from countersign.policy import certificates
from countersign.policy.approvers import ONBOARDED, identity
from countersign.record import csr_step
from countersign.request import canonical
from countersign.spki import fingerprint
from countersign.texts import same_person
from countersign.tsb.models import KeyAttributes
from countersign.verification import attestation as verification_attestation
from countersign.verification import attestation_xml, echo, public_keys
from countersign.verification import csr as verification_csr
from countersign.verification.attestation import NEVER_REPORTED, Trust, asked_attributes
from countersign.verification.attestation_xml import plain

APPROVALS = ("APPROVER_NOT_IN_POLICY", "APPROVAL_QUORUM", "APPROVAL_SAME_PERSON")


class Returned(NamedTuple):
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


class Verified(NamedTuple):
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
            check.code: check.result
            for check in self.checks
            if check.code in verification_attestation.CODES
        }
        if "failed" in results.values():
            return "failed"
        return "verified" if results.get("ATTESTATION_ROOT") == "passed" else "unverified"


def verify(returned: Returned, trust: Trust, *, now: datetime) -> Verified:
    """Make every comparison. It raises nothing, whatever the result is.

    Args:
        returned: see `Returned`.
        trust: which attestations are trusted.
        now: when the answer arrived. The attestation chain must be valid then, and the attestation
            no older: one that was kept since the approvers were asked, or since before they agreed,
            proves nothing about the key that signed.
    """
    requested, answer, record = returned.requested, returned.answer, returned.record
    found, csr_checks = verification_csr.check(
        returned.pem, requested.csr, public_key=answer.key.public_key
    )
    step = csr_step(record)
    # Of the clock that the attestation's time is of, as the key's creation has shown it.
    skew = timedelta(seconds=int(record.get("clockSkewSeconds", 0)))
    approvers = [m.Approver.read(one) for one in step.get("approvers", ())]
    checks = [
        *_request_checks(returned),
        *_key_checks(returned),
        *verification_attestation.check(
            answer,
            trust,
            requested=requested.key,
            created_at=_created_at(record),
            asked_at=now - LONGEST_CALL,
            now=now,
            ahead=skew,
        ),
        *csr_checks,
        *approval_checks(
            requested.key.policy,
            [one for one in approvers if one.decision == "approved"],
            onboarded=_onboarded(answer, requested.key.policy),
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
        *verification_attestation.check(
            answer,
            trust,
            requested=requested.key,
            created_at=_created_at(record),
            asked_at=asked_at,
            now=now,
        ),
    )


def failed_at_creation(
    answer: KeyAttributes,
    requested: m.KeyRequest,
    trust: Trust,
    *,
    asked_at: datetime | None,
    now: datetime,
    ahead: timedelta,
) -> list[m.Check]:
    """The checks of a key, before anybody is asked to approve, that failed.

    Args:
        answer: the key as the HSM reports it when it was made, or when it was found again.
        requested: what was asked for.
        trust: which attestations are trusted.
        asked_at: when the HSM was asked; None if unknown. An older attestation does not count.
        now: the time at which the attestation chain must be valid.
        ahead: of our clock is the HSM's, as the key's creation has shown.
    """
    different = differences(answer, requested)
    attested = verification_attestation.check(
        answer,
        trust,
        requested=requested,
        created_at=answer.key.create_time,
        asked_at=asked_at,
        now=now,
        ahead=ahead,
    )
    return [
        *(
            m.Check(
                code=code,
                result="failed",
                finding=f"is not what was asked: {', '.join(what)}"
                + (" differ" if code in ("KEY_ATTRIBUTES", "KEY_POLICY") else ""),
            )
            for code, what in different.items()
            if what
        ),
        *(check for check in attested if check.result == "failed"),
    ]


def _created_at(record: Mapping[str, Any]) -> datetime | None:
    created = record.get("times", {}).get("keyCreated")
    return datetime.fromisoformat(created) if created else None


def differences(answer: KeyAttributes, requested: m.KeyRequest) -> dict[str, list[str]]:
    """Where the HSM's answer differs from the request, in words, by the code of the check.

    KEY_TYPE: what the public key is, by its own bytes. KEY_ATTRIBUTES: what TSB says about it.
    KEY_POLICY_FORMAT: why its policy cannot be read; then KEY_POLICY has nothing to compare.
    """
    found = {
        "KEY_TYPE": type_differences(answer.key.public_key, requested),
        "KEY_ATTRIBUTES": _attribute_differences(answer, requested),
        "KEY_POLICY_FORMAT": [],
    }
    try:
        policy = echo.read(answer.key.policy)
    except ValueError as error:
        return found | {"KEY_POLICY_FORMAT": [f"the key's policy cannot be read: {error}"]}
    changed = [f"policy.{name}" for name in policy.differences(requested.policy)]
    return found | {"KEY_POLICY": changed}


def type_differences(public_key: str, requested: m.KeyRequest) -> list[str]:
    """How a key is of another kind, size or curve than requested, by its own bytes."""
    try:
        # A CSR's key is compared with this one byte for byte.
        found = public_keys.read(base64.b64decode(public_key, validate=True))
    except ValueError as error:
        return [f"the public key {error}"]
    size = requested.key_size if requested.key_size is not None else found.bits
    curve = requested.curve_oid if requested.algorithm == "EC" else None
    same = (found.algorithm, found.bits, found.curve_oid) == (requested.algorithm, size, curve)
    if not same:
        asked = " ".join(
            str(one) for one in (requested.algorithm, requested.key_size, curve) if one
        )
        return [f"the public key is {found}, asked was {asked}"]
    return [] if certificates.readable(public_key) else ["the public key is no point of its curve"]


def _attribute_differences(answer: KeyAttributes, requested: m.KeyRequest) -> list[str]:
    """A claim beside a fact is compared with it; where there is a fact, it may be missing."""
    key, wanted = answer.key, asked_attributes(requested)
    said: dict[str, object] = {}
    try:
        attested = attestation_xml.read(answer.xml or "").attributes
    except ValueError:
        attested = {}
    for name in wanted:
        value = key.attributes.get(name)
        said[name] = attested.get(plain(name)) if value is None else str(value).lower()
    different = [
        f"attributes.{name}"
        for name, value in wanted.items()
        if said[name] != str(value).lower() and not (said[name] is None and name in NEVER_REPORTED)
    ]
    # Of two spellings of a name nobody knows which one counts.
    is_clear = len({plain(name) for name in key.attributes}) == len(key.attributes)
    different += [] if is_clear else ["attributes"]
    different += ["algorithm"] if key.algorithm != requested.algorithm else []
    different += [
        f"attributes.{name}"
        for name in verification_attestation.not_asked(key.attributes, requested)
    ]
    different += ["keySize"] if _claims_another(key.key_size, _bits(answer, requested)) else []
    different += ["curveOid"] if _claims_another(key.curve_oid, requested.curve_oid) else []
    return different


def _bits(answer: KeyAttributes, requested: m.KeyRequest) -> int | None:
    """The size of the key by its own bytes. Of an Ed25519 key nobody knows what an HSM says."""
    try:
        found = public_keys.read(base64.b64decode(answer.key.public_key))
    except ValueError:
        return requested.key_size
    return None if found.algorithm == "ED" else found.bits


def _claims_another(claim: object, wanted: object) -> bool:
    return None not in (claim, wanted) and claim != wanted


def _onboarded(answer: KeyAttributes, requested: m.Policy) -> dict[str, str]:
    """The keys of onboarded approvers, as far as TSB shows them."""
    try:
        return echo.read(answer.key.policy).onboarded(requested)
    except ValueError:
        return {}


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
    different = differences(returned.answer, requested)
    safe = key.attributes.get("extractable") is False and key.attributes.get("neverExtractable")
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
            _blocked(key.policy) is False,
            "policy.keyStatus.blocked",
            "the HSM does not report the key as usable: it was blocked",
        ),
        _check(
            "KEY_TYPE",
            not different["KEY_TYPE"],
            "publicKey",
            "; ".join(different["KEY_TYPE"]),
        ),
        _check(
            "KEY_ATTRIBUTES",
            not different["KEY_ATTRIBUTES"],
            next(iter(different["KEY_ATTRIBUTES"]), "attributes"),
            f"not as accepted: {', '.join(different['KEY_ATTRIBUTES'])}",
        ),
        _check(
            "KEY_POLICY_FORMAT",
            not different["KEY_POLICY_FORMAT"],
            "policy",
            "; ".join(different["KEY_POLICY_FORMAT"]),
        ),
        _check(
            "KEY_POLICY",
            not different["KEY_POLICY"],
            "policy",
            "the key's policy in the HSM is not the accepted one: it was changed"
            f" ({', '.join(different['KEY_POLICY'])})",
        )
        if "KEY_POLICY" in different
        else m.Check(code="KEY_POLICY", result="skipped"),
    ]


def _blocked(policy: object) -> bool | None:
    try:
        return echo.read(policy).blocked
    except ValueError:
        return None


def approval_checks(
    accepted: m.Policy,
    approved: list[m.Approver],
    *,
    onboarded: Mapping[str, str] | None = None,
) -> list[m.Check]:
    """Whether the people who approved are in the policy, are enough, and are different people.

    A key that is not in the policy counts as an onboarded approver's whose key TSB does not show,
    as long as there are no more such keys than such approvers.

    Args:
        accepted: the policy.
        approved: who approved.
        onboarded: fingerprints of the keys of onboarded approvers, by the names in the policy.
    """
    shown = {f"{ONBOARDED}{name}": key for name, key in (onboarded or {}).items()}
    person = {one.spki_sha256: same_person(one.name) for one in approved if one.spki_sha256}

    def known(approval: m.Approval) -> str:
        return shown.get(one := identity(approval), one)

    members = {
        known(approval)
        for token in accepted.rule_use.tokens
        for group in token.groups or ()
        for approval in group.approvals
    }
    unshown = {one for one in members if one.startswith(ONBOARDED)}
    unknown = person.keys() - members
    hidden = len(unknown) if len(unknown) <= len(unshown) else 0

    def fulfilled(count: Callable[[set[str]], int]) -> bool:
        return any(
            all(
                count(own & person.keys()) + min(hidden, len(own & unshown)) >= group.quorum
                for group in token.groups or ()
                for own in [{known(approval) for approval in group.approvals}]
            )
            for token in accepted.rule_use.tokens
        )

    enough = fulfilled(len)
    distinct = fulfilled(lambda keys: len({person[key] for key in keys}))
    unknown_keys = ", ".join(f"sha256:{digest[:16]}" for digest in sorted(unknown))
    return [
        _check(
            "APPROVER_NOT_IN_POLICY",
            len(unknown) <= len(unshown),
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


def _check(code: str, holds: bool, field: str, finding: str) -> m.Check:
    if holds:
        return m.Check(code=code)
    return m.Check(code=code, result="failed", field=field, finding=finding)
