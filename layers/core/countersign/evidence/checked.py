"""The checks of the CSR, made again of TSB's answers. Pure."""

from collections.abc import Iterator
from copy import replace
from datetime import datetime
from typing import Any

from countersign import models as m
from countersign.evidence import bundle, quarantine
from countersign.evidence.answered import has_checked, trust_in_key
from countersign.evidence.bundle import Folder, require, require_equal
from countersign.evidence.proven import Proven
from countersign.record import Step, StepName, csr_step, tolerated, wants_certificate
from countersign.tsb.models import KeyAttributes, RequestStatus
from countersign.verification import checks, issuing
from countersign.verification.attestation import NOT_HELD
from countersign.verification.checks import Verified
from countersign.verification.csr import Csr


def csr_checked(
    folder: Folder,
    proven: Proven,
    created: KeyAttributes | None,
    executed: list[RequestStatus],
    *,
    now: datetime,
) -> Proven:
    """StoreCsr's checks of what TSB answered; they come out as they are on record."""
    record, written = proven.record, proven.record["checks"]
    aside = record.get("quarantine", {})
    if not has_checked(record, "csr"):
        require_another_request(folder, "csr", written, csr_step(record))
        is_unchecked = "attestation" not in record
        require(is_unchecked, "record.json", "has attestation, and nobody has checked a CSR")
        return proven
    found = [
        (answer, key, verified)
        for answer, key in _pairs(folder, executed)
        for verified in [_verified(folder, proven, created, answer, key, now=now)]
    ]
    require(bool(found), "tsb", "has no answers of an executed request and about its key")
    same = (one for one in found if results_of(one[2]) == results_on_record(written))
    answer, key, verified = next(same, found[0])
    require_same(verified, written)
    failed = verified.failed
    require_equal("record.json", "attestation", record.get("attestation"), verified.attestation)
    if failed or "certificateChecks" not in record:  # else it is the certificate's
        require_equal("record.json", "quarantine.code", aside.get("code"), failed and failed.code)
    pem = answer.result or ""
    if failed and aside:
        put_aside = folder["quarantine/request.pem"]
        is_same = put_aside == pem.encode(errors="backslashreplace")
        require(is_same, "quarantine/request.pem", "is not what TSB answered")
        noted = {
            "checks": written,
            "attestation": record["attestation"],
            "attestationRoot": record["attestationRoot"],
            **{name: one for name, one in record.items() if name == "attestationChainSha256"},
        }
        # Those of an older release say less.
        names = ("verifiedAt", "maxClockSkewSeconds", "keyAttestation")
        more = {name: one for name, one in record.items() if name in names}
        is_same = bundle.read(folder, "quarantine/findings.json") in (noted, noted | more)
        require(is_same, "quarantine/findings.json", "says something else than checks.json")
    elif verified.csr is not None and "verifiedSha256" in record and not wants_certificate(record):
        require_equal(
            "record.json", "verifiedSha256", record["verifiedSha256"], verified.csr.sha256
        )
    return Proven(
        record, proven.requested, proven.approvers, verified=verified, pem=pem, about_key=key
    )


def require_another_request(folder: Folder, name: StepName, written: list[Any], step: Step) -> None:
    """PollRequest's check alone has failed: TSB answered for another request."""
    part = "checks.json" if name == "csr" else "certificate-checks.json"
    asked = step["requestId"]
    ids = {one.id for one in bundle.answers(folder, "poll-request", RequestStatus)} - {asked}
    possible = [[quarantine.another_request(name, one, asked).dump()] for one in sorted(ids)]
    require(bool(possible), "tsb/poll-request", "every answer is for the request on record")
    require(written in possible, part, "is not what PollRequest says of TSB's answers")


def _pairs(
    folder: Folder, executed: list[RequestStatus]
) -> Iterator[tuple[RequestStatus, KeyAttributes]]:
    for key in bundle.answers(folder, "store-csr", KeyAttributes):
        for answer in executed:
            yield answer, key


def _verified(
    folder: Folder,
    proven: Proven,
    created: KeyAttributes | None,
    answer: RequestStatus,
    key: KeyAttributes,
    *,
    now: datetime,
) -> Verified:
    record, step = proven.record, csr_step(proven.record)
    assert proven.requested is not None  # noqa: S101  for the type checker  # nosec B101
    people = [one.dump() for one in proven.approvers or ()]
    returned = checks.Returned(
        requested=proven.requested,
        request_id=answer.id,
        pem=answer.result or "",
        created_public_key=created.key.public_key if created else None,
        answer=key,
        record={**record, "steps": {**record["steps"], "csr": {**step, "approvers": people}}},
    )
    trust = replace(trust_in_key(folder, record), clock_skew=tolerated(record))
    return checks.verify(returned, trust, now=now)


def results_of(verified: Verified | issuing.Verified) -> dict[str, str]:
    """The result of each check that was made again, by its code."""
    return {one.code: one.result for one in verified.checks}


def results_on_record(written: list[Any]) -> dict[str, str]:
    """The result of each check on record, by its code."""
    return {one["code"]: one["result"] for one in written}


def require_same(
    verified: Verified | issuing.Verified, written: list[Any], part: str = "checks.json"
) -> None:
    """The checks that were made again are those on record, in the same words and order.

    Raises:
        EvidenceInvalidError: they are not; names the check.
    """
    recorded = results_on_record(written)
    require(len(recorded) == len(written), part, "has a check twice")
    for check in verified.checks:
        on_record = recorded.pop(check.code, None)
        require(
            on_record == check.result,
            part,
            f"{check.code} is on record as {on_record},"
            f" made again it is {check.result}: {check.finding or 'nothing found'}",
        )
    require(not recorded, part, f"has checks that nobody makes: {', '.join(recorded)}")
    # The first failed one is the error, so their order counts as well.
    for check, one in zip(verified.checks, written, strict=True):
        is_said = _in_our_words(check) == _in_our_words(m.Check.read(one))
        require(is_said, part, f"{one['code']} says {one}, made again {check.dump()}")


def _in_our_words(check: m.Check) -> dict[str, Any]:
    """A check without the words of a library, which another release of it may choose otherwise."""
    ours, mark, _ = (check.finding or "").partition(NOT_HELD)
    return {**check.dump(), **({"finding": ours + mark} if mark else {})}


def require_passed(proven: Proven) -> Csr:
    """The CSR, all of whose checks have passed.

    Raises:
        EvidenceInvalidError: one has failed, or none was made.
    """
    verified = proven.verified
    if verified is None or verified.csr is None:
        raise bundle.EvidenceInvalidError("checks.json", "nothing shows that the CSR was verified")
    failed = verified.failed
    require(failed is None, "request.pem", f"was issued although {failed and failed.code}")
    return verified.csr
