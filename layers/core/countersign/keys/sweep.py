"""SweepKeys: finds keys in the HSM that no enrollment accounts for."""

from datetime import datetime, timedelta

from countersign import events, resumption
from countersign import models as m
from countersign.errors import (
    CountersignError,
)
from countersign.keys import disposal, labels, unused
from countersign.keys.audit import MAX_NAMED, SWEEP, More, accepted, position_of, remember
from countersign.record import Record
from countersign.stores import Bus, Objects, Records
from countersign.tsb.client import TsbClient

MAX_SWEPT = 1_000  # labels per run: two table reads for each of our labels
# TSB's own keys. They are in every partition, and TSB refuses to show them.
# Source: TSB documentation, tsb/Concepts/system_keys.
SYSTEM_KEYS = {
    "approver-mgmt-backup-key-rsa-wrapping",
    "attestation-key",
    "rfc-timestamp-key",
    "timestamp-key",
}

# Keys that no enrollment accounts for -----------------------------------------------------------


def sweep_keys(
    mode: str,
    prefix: str,
    *,
    records: Records,
    objects: Objects,
    tsb: TsbClient,
    password: disposal.Password,
    clock_skew: timedelta,
    bus: Bus,
    more: More,
) -> m.SweptKeys:
    """Report the keys that no enrollment accounts for, and delete those that should be deleted.

    It deletes only an enrollment's own key (`disposal.own_key`), and only if the enrollment ended
    without a CSR and its profile wants the key deleted. Other keys of the partition are at most
    reported.

    Idempotent: a deleted key is not found again. Each run reports the remaining keys again.

    Args:
        mode: `off`, `report` or `delete`.
        prefix: of the labels to check; other labels are not even reported.
        records: the table.
        objects: the bucket with the requests.
        tsb: with the role for key management.
        password: reads a key password.
        clock_skew: how far the HSM's clock may be from ours.
        bus: receives an event if something was found.
        more: whether there is time for another key.

    Raises:
        TsbUnavailableError, TsbOutcomeUnknownError, TsbRefusedError, TsbCredentialsError: TSB did
            not list the keys; the next run asks again.
        AwsCallError: a store or the bus refused; the next run begins where this one did.
    Source: TSB REST API, GET /v1/key.
    """
    if mode == "off":
        return m.SweptKeys(looked_at=0, keys=(), omitted_count=0)
    # First list the keys, then read the claims: a key is created after its label is claimed.
    listed = set(tsb.list_keys()) - SYSTEM_KEYS
    labels = sorted(label for label in listed if label.startswith(prefix))
    after = position_of(records, SWEEP) or ""
    todo = [label for label in labels if label > after][:MAX_SWEPT]
    found: list[m.UnaccountedKey] = []
    looked_at, last = 0, after
    for label in todo:
        if not more():
            break
        one, own = _unaccounted(label, records, objects)
        if one is not None and own is not None and mode == "delete":
            one = _swept(
                one, *own, records=records, tsb=tsb, password=password, clock_skew=clock_skew
            )
        found += [one] if one else []
        looked_at, last = looked_at + 1, label
    swept = m.SweptKeys(
        looked_at=looked_at,
        keys=tuple(found[:MAX_NAMED]),
        omitted_count=len(found[MAX_NAMED:]),
    )
    if found:
        bus.put(events.KeysUnaccounted.read({"mode": mode, **swept.dump()}))
    remember(records, SWEEP, last if labels and last < labels[-1] else None)
    return swept


type Own = tuple[Record, m.EnrollmentRequest]  # a record and what it accepted: may be deleted


def _unaccounted(
    label: str, records: Records, objects: Objects
) -> tuple[m.UnaccountedKey | None, Own | None]:
    """What is wrong with a key, if anything; and whose it is, where it should be gone."""
    claim = labels.find(label, records)
    if claim is None:
        return m.UnaccountedKey(label=label, why="unclaimed"), None
    enrollment_id = claim.enrollment_id
    unrecorded = m.UnaccountedKey(label=label, why="unrecorded", enrollment_id=enrollment_id)
    record = records.get(enrollment_id)
    if record is None or record.get("keyLabel") != label:
        return unrecorded, None
    if not _is_unused(record):
        return None, None
    requested = accepted(record, objects)
    if requested is None:
        return unrecorded, None
    if requested.unused_key == "delete" and requested.key.attributes.destroyable:
        return unrecorded.model_copy(update={"why": "unused"}), (record, requested)
    disposed = record.get("unusedKey", {}).get("result")
    blocked = requested.unused_key != "block" or disposed in ("blocked", "asked")
    return None if blocked else unrecorded.model_copy(update={"why": "unblocked"}), None


def _is_unused(record: Record) -> bool:
    """Whether the enrollment ended without a CSR, for good, and long enough ago."""
    if "outcome" not in record or record["outcome"] == m.Outcome.ISSUED or "csr" in record:
        return False
    if resumption.is_over(record) is None:
        return False  # what people may have agreed to can be taken up again
    return datetime.fromisoformat(record["times"]["ended"]) <= m.now() - unused.GRACE


def _swept(
    one: m.UnaccountedKey,
    record: Record,
    requested: m.EnrollmentRequest,
    *,
    records: Records,
    tsb: TsbClient,
    password: disposal.Password,
    clock_skew: timedelta,
) -> m.UnaccountedKey:
    """Delete the key of an ended enrollment, unless the id has been claimed again meanwhile."""
    note = {"action": "delete", "result": "started", "at": m.timestamp(m.now())}
    own = {name: record[name] for name in ("attempt", "outcome")}
    if records.update(record["id"], {"unusedKey": note}, when=own, absent=("csr",)) is not None:
        return one.model_copy(update={"problem": "the enrollment has just begun anew"})
    try:
        secret = password(requested.key.password.secret_arn) if requested.key.password else None
        disposal.delete(
            requested, record, records=records, tsb=tsb, secret=secret, clock_skew=clock_skew
        )
    except CountersignError as error:
        failed = {**note, "result": "failed", "reason": error.message}
        records.update(record["id"], {"unusedKey": failed}, when=own)
        return one.model_copy(update={"problem": f"{type(error).__name__}: {error.message}"})
    records.update(record["id"], {"unusedKey": {**note, "result": "deleted"}}, when=own)
    labels.release(one.label, record["id"], records)
    return one.model_copy(update={"deleted": True})
