"""The HSM's keys against what is on record: those nobody accounts for, and those that drifted.

Both run beside the workflow, by schedule. A run looks at a bounded number of keys and goes on where
the one before stopped; what fails in between is looked at again by the next one.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from countersign import events, unused, verification
from countersign import models as m
from countersign.errors import (
    KEY_NOT_EXISTENT,
    CountersignError,
    TsbCredentialsError,
    TsbRefusedError,
)

if TYPE_CHECKING:
    from countersign.attestation import Trust
    from countersign.aws.bus import Bus
    from countersign.aws.objects import Objects
    from countersign.aws.records import Item, Records
    from countersign.tsb import TsbClient

MAX_SWEPT = 1_000  # labels of one run: two reads of the table each, for those that are ours
MAX_AUDITED = 200  # keys of one run: a call of TSB, a read of the table and of the bucket each
MAX_NAMED = 100  # keys in one event
GRACE = timedelta(hours=1)  # after its end an enrollment may still be at work on its key
SWEEP, AUDIT = "cursor#sweep-keys", "cursor#audit-keys"  # where the run before stopped

type More = Callable[[], bool]  # whether there is time for another key


# Keys that no enrollment accounts for -----------------------------------------------------------


def sweep_keys(
    mode: str,
    prefix: str,
    *,
    records: "Records",
    objects: "Objects",
    tsb: "TsbClient",
    password: unused.Password,
    bus: "Bus",
    more: More,
) -> m.SweptKeys:
    """Report the keys that no enrollment accounts for, and delete those that should be gone.

    Deleted is only the own key (`unused.own_key`) of an enrollment that ended without a CSR and
    whose profile wants it deleted. Whatever else lies in the partition is named at most.

    Idempotent: what is deleted is found no more; what is reported is reported by each run.

    Args:
        mode: `off`, `report` or `delete`.
        prefix: of the labels to look at; the others are not even named.
        records: the table.
        objects: the bucket with what was asked.
        tsb: its key management.
        password: reads a key password.
        bus: told where something was found.
        more: whether there is time for another key.

    Raises:
        TsbUnavailableError, TsbNoAnswerError, TsbRefusedError, TsbCredentialsError: TSB did not
            say which keys there are; the next run asks again.
        AwsCallError: a store or the bus refused; the next run begins where this one did.
    Source: TSB REST API, GET /v1/key.
    """
    if mode == "off":
        return m.SweptKeys(looked_at=0, keys=(), left_out=0)
    # First the keys, then the claims: a key is made after its label is claimed.
    labels = sorted(label for label in tsb.list_keys() if label.startswith(prefix))
    after = (records.get(SWEEP) or {}).get("after") or ""
    todo = [label for label in labels if label > after][:MAX_SWEPT]
    found: list[m.UnaccountedKey] = []
    looked_at, last = 0, after
    for label in todo:
        if not more():
            break
        one, own = _unaccounted(label, records, objects)
        if one is not None and own is not None and mode == "delete":
            one = _swept(one, *own, records=records, tsb=tsb, password=password)
        found += [one] if one else []
        looked_at, last = looked_at + 1, label
    swept = m.SweptKeys(
        looked_at=looked_at,
        keys=tuple(found[:MAX_NAMED]),
        left_out=len(found[MAX_NAMED:]),
    )
    if found:
        bus.put(events.KeysUnaccounted.read({"mode": mode, **swept.dump()}))
    _remember(records, SWEEP, last if labels and last < labels[-1] else None)
    return swept


type Own = tuple["Item", m.EnrollmentRequest]  # a record and what it accepted: may be deleted


def _unaccounted(
    label: str, records: "Records", objects: "Objects"
) -> tuple[m.UnaccountedKey | None, Own | None]:
    """What is wrong with a key, if anything; and whose it is, where it should be gone."""
    claim = records.get(f"label#{label}")
    if claim is None:
        return m.UnaccountedKey(label=label, why="unclaimed"), None
    enrollment_id = claim["enrollmentId"]
    unrecorded = m.UnaccountedKey(label=label, why="unrecorded", enrollment_id=enrollment_id)
    record = records.get(enrollment_id)
    if record is None or record.get("keyLabel") != label:
        return unrecorded, None
    if not _is_unused(record):
        return None, None
    asked = _accepted(record, objects)
    if asked is None:
        return unrecorded, None
    if asked.unused_key == "delete" and asked.key.attributes.destroyable:
        return unrecorded.model_copy(update={"why": "unused"}), (record, asked)
    settled = record.get("unusedKey", {}).get("result")
    blocked = asked.unused_key != "block" or settled in ("blocked", "asked")
    return None if blocked else unrecorded.model_copy(update={"why": "unblocked"}), None


def _is_unused(record: "Item") -> bool:
    """Whether the enrollment ended without a CSR, and long enough ago."""
    if "outcome" not in record or record["outcome"] == m.Outcome.ISSUED or "csr" in record:
        return False
    return datetime.fromisoformat(record["times"]["ended"]) <= m.now() - GRACE


def _swept(
    one: m.UnaccountedKey,
    record: "Item",
    asked: m.EnrollmentRequest,
    *,
    records: "Records",
    tsb: "TsbClient",
    password: unused.Password,
) -> m.UnaccountedKey:
    """Delete the key of an ended enrollment, unless the id is claimed again meanwhile."""
    note = {"action": "delete", "result": "started", "at": m.timestamp(m.now())}
    own = {name: record[name] for name in ("attempt", "outcome")}
    if records.update(record["id"], {"unusedKey": note}, when=own, absent=("csr",)) is not None:
        return one.model_copy(update={"problem": "the enrollment has just begun anew"})
    try:
        secret = password(asked.key.password.secret_arn) if asked.key.password else None
        unused.delete(asked, record, records=records, tsb=tsb, secret=secret)
    except CountersignError as error:
        failed = {**note, "result": "failed", "reason": error.message}
        records.update(record["id"], {"unusedKey": failed}, when=own)
        return one.model_copy(update={"problem": f"{type(error).__name__}: {error.message}"})
    records.update(record["id"], {"unusedKey": {**note, "result": "deleted"}}, when=own)
    unused.release_label(record, records)
    return one.model_copy(update={"deleted": True})


# Keys that drifted --------------------------------------------------------------------------------


def audit_keys(
    *,
    records: "Records",
    objects: "Objects",
    tsb: "TsbClient",
    password: unused.Password,
    trust: "Trust",
    bus: "Bus",
    more: More,
) -> m.AuditedKeys:
    """Compare the key of every issued CSR, as the HSM reports it now, with what was approved.

    The comparison is StoreCsr's own (verification.py). A difference is an event, and is on record
    as `drift`; it is announced again only when something else differs.

    Idempotent: what is announced already is known.

    Args:
        records: the table.
        objects: the bucket with what was asked.
        tsb: its key management.
        password: reads a key password.
        trust: whose attestations are believed.
        bus: told of a key that differs.
        more: whether there is time for another key.

    Raises:
        TsbUnavailableError, TsbNoAnswerError, TsbCredentialsError: TSB does not speak, or a key's
            password cannot be read; the next run goes on with the key behind this one.
        AwsCallError: a store or the bus refused; as above.
    Source: TSB REST API, POST /v1/key/attributes.
    """
    before = (records.get(AUDIT) or {}).get("after")
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
            record = records.get(summary["id"]) or {}
            if record.get("outcome") == m.Outcome.ISSUED:
                failed = _audit(record, objects, tsb, password=password, trust=trust)
                _announce(record, failed, records, bus)
                drifted += [record["keyLabel"]] if failed else []
            looked_at += 1
    except CountersignError:
        # Behind the key that could not be looked at: it would keep every run from all the others.
        _remember(records, AUDIT, reached)
        raise
    _remember(records, AUDIT, position)
    return m.AuditedKeys(looked_at=looked_at, drifted=tuple(drifted))


def _audit(
    record: "Item",
    objects: "Objects",
    tsb: "TsbClient",
    *,
    password: unused.Password,
    trust: "Trust",
) -> tuple[m.Check, ...]:
    """The checks that fail."""
    asked = _accepted(record, objects)
    if asked is None:
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
        secret = password(asked.key.password.secret_arn) if asked.key.password else None
    except TsbCredentialsError as error:
        return _unseen("KEY_UNREADABLE", "password", error.message)
    try:
        answer = tsb.key_attributes(asked.key.label, secret)
    except TsbRefusedError as error:
        if error.error_code == KEY_NOT_EXISTENT:
            return _unseen("KEY_MISSING", "label", "the HSM has no such key any more")
        return _unseen("KEY_UNREADABLE", "label", error.message)
    checks = verification.verify_key(asked, answer, record, trust, asked_at=asked_at, now=m.now())
    return tuple(check for check in checks if check.result == "failed")


def _unseen(code: str, field: str, finding: str) -> tuple[m.Check, ...]:
    return (m.Check(code=code, result="failed", field=field, finding=finding),)


def _announce(record: "Item", failed: tuple[m.Check, ...], records: "Records", bus: "Bus") -> None:
    codes = [check.code for check in failed]
    if codes == record.get("drift", {}).get("codes", []):
        return
    if failed:
        bus.put(events.key_drifted(record, failed))
    drift = {"codes": codes, "at": m.timestamp(m.now())}
    records.update(record["id"], {"drift": drift}, when={"outcome": m.Outcome.ISSUED})


# What both have in common -------------------------------------------------------------------------


def _accepted(record: "Item", objects: "Objects") -> m.EnrollmentRequest | None:
    """What the enrollment accepted, a profile expanded; None where that cannot be shown."""
    attempt = record["attempt"]
    name = "request.json" if attempt == 1 else f"request-{attempt}.json"
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


def _remember(records: "Records", cursor: str, after: Any) -> None:
    """Where the next run begins; None: from the start."""
    if records.put({"id": cursor, "after": after}) is not None:
        records.update(cursor, {"after": after})
