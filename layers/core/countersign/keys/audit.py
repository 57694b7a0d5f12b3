"""AuditKeys: whether the keys of issued CSRs are still what was approved. Once a day.

It announces certificates that end soon, too.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

from countersign import events
from countersign import models as m
from countersign.errors import (
    KEY_NOT_EXISTENT,
    KEY_PASSWORD_MISMATCH,
    CountersignError,
    TsbCredentialsError,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.keys import disposal
from countersign.record import Record, request_object
from countersign.stores import Bus, Objects, Records
from countersign.tsb.client import TsbClient
from countersign.verification.attestation import Trust
from countersign.verification.checks import verify_key

MAX_AUDITED = 200  # keys per run: each takes a TSB call, a table read and a bucket read
MAX_NAMED = 100  # keys in one event
SWEEP, AUDIT = "cursor#sweep-keys", "cursor#audit-keys"  # where the previous run stopped
EXPIRY_DAYS: tuple[Literal[1, 7, 30], ...] = (1, 7, 30)  # before a certificate ends, nearest first
type More = Callable[[], bool]  # whether there is time for another key

# Keys that drifted --------------------------------------------------------------------------------


def audit_keys(
    *,
    records: Records,
    objects: Objects,
    tsb: TsbClient,
    password: disposal.Password,
    trust: Trust,
    bus: Bus,
    more: More,
) -> m.AuditedKeys:
    """Compare the key of every issued CSR, as the HSM reports it now, with what was approved.

    The comparison is the one of StoreCsr (verification/checks.py). A difference is announced as an
    event and recorded as `drift`. It is announced again only if something else differs. A
    certificate that ends within 30, 7 or 1 days is announced once each.

    Idempotent: a known difference is not announced again.

    Args:
        records: the table.
        objects: the bucket with the requests.
        tsb: with the role for key management.
        password: reads a key password.
        trust: which attestations are trusted.
        bus: receives an event for a key that differs.
        more: whether there is time for another key.

    Raises:
        TsbUnavailableError, TsbOutcomeUnknownError, TsbRefusedError, TsbCredentialsError: TSB does
            not answer, says nothing about the key or accepts no credentials; the next run goes on
            with the key after this one.
        AwsCallError: a store or the bus refused; the next run goes on in the same way.
    Source: TSB REST API, POST /v1/key/attributes.
    """
    before = position_of(records, AUDIT)
    page, position = records.newest(
        "ByStatus",
        {"status": m.Outcome.ISSUED},
        since="0",
        until="9",
        limit=MAX_AUDITED,
        after=before,
    )
    looked_at, drifted, reached = 0, list[str](), before
    try:
        for summary in page:
            if not more():
                position = reached
                break
            reached = {name: summary[name] for name in ("id", "acceptedAt")}
            record = records.get(summary["id"]) or Record()
            if record.get("outcome") == m.Outcome.ISSUED:
                announce_expiry(record, records, bus)  # before any answer of TSB is needed
                failed = _audit(record, objects, tsb, password=password, trust=trust)
                announce(record, failed, records, bus)
                drifted += [record["keyLabel"]] if failed else []
            looked_at += 1
    except CountersignError:
        # Go on after the key that could not be read: it would block every run from the other keys.
        remember(records, AUDIT, reached)
        raise
    remember(records, AUDIT, position)
    return m.AuditedKeys(looked_at=looked_at, drifted=tuple(drifted))


def _audit(
    record: Record,
    objects: Objects,
    tsb: TsbClient,
    *,
    password: disposal.Password,
    trust: Trust,
) -> tuple[m.Check, ...]:
    """The checks that fail."""
    requested = accepted(record, objects)
    if requested is None:
        return (
            m.Check(
                code="REQUEST_ACCEPTED",
                result="failed",
                field="request",
                finding="what was accepted is no longer in the bucket, or not what it was",
            ),
        )
    asked_at = m.now()
    try:
        secret = password(requested.key.password.secret_arn) if requested.key.password else None
    except TsbCredentialsError as error:
        return _unseen("KEY_UNREADABLE", "password", error.message)
    try:
        answer = tsb.key_attributes(requested.key.label, secret)
    except (TsbRefusedError, TsbUnavailableError) as error:
        if error.error_code == KEY_NOT_EXISTENT:
            return _unseen("KEY_MISSING", "label", "the HSM has no such key any more")
        if error.error_code == KEY_PASSWORD_MISMATCH:
            return _unseen("KEY_UNREADABLE", "label", error.message)
        raise  # no other answer says anything about this key
    checks = verify_key(requested, answer, record, trust, asked_at=asked_at, now=m.now())
    return tuple(check for check in checks if check.result == "failed")


def _unseen(code: str, field: str, finding: str) -> tuple[m.Check, ...]:
    return (m.Check(code=code, result="failed", field=field, finding=finding),)


def announce(record: Record, failed: tuple[m.Check, ...], records: Records, bus: Bus) -> None:
    """Tell which checks of a key failed, once for each set of them."""
    codes = [check.code for check in failed]
    if codes == record.get("drift", {}).get("codes", []):
        return
    if failed:
        bus.put(events.key_drifted(record, failed))
    drift = {"codes": codes, "at": m.timestamp(m.now())}
    records.update(record["id"], {"drift": drift}, when={"outcome": m.Outcome.ISSUED})


def announce_expiry(record: Record, records: Records, bus: Bus) -> None:
    """Tell that the enrollment's certificate ends soon: once within each of `EXPIRY_DAYS`.

    After a run that was late, only the nearest is told.
    """
    certificate = m.certificate_of(record)
    if certificate is None:
        return
    left = datetime.fromisoformat(certificate.expires) - m.now()
    due = next((days for days in EXPIRY_DAYS if left <= timedelta(days=days)), None)
    before = record.get("expiring", {}).get("days")
    if due is None or (before is not None and before <= due):
        return
    bus.put(events.certificate_expiring(record, certificate, due))
    noted = {"days": due, "at": m.timestamp(m.now())}
    records.update(record["id"], {"expiring": noted}, when={"outcome": m.Outcome.ISSUED})


# What audit and sweep have in common --------------------------------------------------------------


def accepted(record: Record, objects: Objects) -> m.EnrollmentRequest | None:
    """What the enrollment accepted, a profile expanded; None where that cannot be shown."""
    name = request_object(record["attempt"])
    kept = objects.read(f"enrollments/{record['id']}/{name}")
    if kept is None:
        return None
    digest = hashlib.sha256(kept).hexdigest()
    if digest != record.get("acceptedSha256", digest):
        return None
    try:
        return m.EnrollmentRequest.model_validate_json(kept)
    except ValueError:
        return None


def position_of(records: Records, cursor: str) -> Any:
    """Where the last run ended; None: at the end."""
    item: Any = records.get(cursor) or {}
    return item.get("after")


def remember(records: Records, cursor: str, after: Any) -> None:
    """Record where the next run begins; None: at the start."""
    if records.put({"id": cursor, "after": after}) is not None:
        records.update(cursor, {"after": after})
