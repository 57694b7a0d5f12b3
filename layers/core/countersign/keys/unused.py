"""What can have become of a key without a CSR, and why it was left as it is. Pure.

DiscardKey and SweepKeys decide by it, and whoever verifies evidence compares with it.
"""

from datetime import datetime, timedelta

from countersign import models as m
from countersign import resumption
from countersign.record import Record, approvers_asked, certificate_step, csr_step

GRACE = timedelta(hours=1)  # after its end an enrollment may still work on its key
NO_KEY = "no key was made"
GONE = "there is no key (any more)"
NOT_KNOWN = "whether the approvers of ruleBlock were asked is unknown; nobody asks twice"


def undecided(error: str | None) -> str:
    """Why a key is kept after an end that nobody decided, whatever its profile says."""
    return f"nobody decided ({error}): key and request are kept, to be taken up again"


def why_kept(requested: m.EnrollmentRequest, record: Record, *, has_failed: bool) -> str | None:
    """Why the key is kept although the profile wants something else; None if it is not.

    Args:
        requested: the accepted request.
        record: the enrollment's.
        has_failed: whether an error has ended it.
    """
    action = requested.unused_key
    if action == "delete" and not requested.key.attributes.destroyable:
        return "the key is permanent (not destroyable)"
    if action != "block":
        return None
    rule = requested.key.policy.rule_block
    if rule is not None and not rule.tokens:
        return "ruleBlock is frozen: nobody can block this key"
    if has_failed and "cancel" not in record and not approvers_asked(record):
        return "nobody was asked to use it; the same id can be started again with this key"
    return None


def is_possible(said: m.DisposedKey, requested: m.EnrollmentRequest, record: Record) -> bool:
    """Whether DiscardKey, or SweepKeys after it, can have put this on record.

    `started` says that a function died, which no other part shows.
    """
    is_deletable = requested.unused_key == "delete" and bool(requested.key.attributes.destroyable)
    if is_swept(record):
        return is_deletable and said.result in ("started", "deleted", "failed")
    # A cancellation may have come after the key was looked at.
    before = Record(**{name: one for name, one in record.items() if name != "cancel"})  # type: ignore[typeddict-item]
    wanted, has_key = requested.unused_key or "keep", "publicKeySha256" in record
    if said.action != wanted:
        return False
    if not resumption.is_decided(before, "any error") and _is_undecided(said.reason):
        return said.result == "kept"
    error = record.get("error") or {}
    if error.get("state") and not resumption.is_decided(record, error["name"]):
        return said.result == "started"
    reasons = {
        why_kept(requested, one, has_failed=has_failed)
        for one in (record, before)
        for has_failed in (True, False)
    }
    is_of = {
        "started": True,
        "kept": said.reason in ({None} if wanted == "keep" else reasons - {None}),
        "none": said.reason == (GONE if wanted == "block" else NO_KEY)
        and (wanted == "block" or not has_key),
        "deleted": is_deletable,
        "blocked": wanted == "block",
        "asked": wanted == "block" and said.request_id not in (None, *_requests(record)),
        "asking": wanted == "block" and requested.key.policy.rule_block is not None,
        "failed": (said.error or said.reason) is not None and (wanted != "keep" or not has_key),
    }
    may_have_reason = said.result in ("kept", "none", "failed")
    return bool(is_of[said.result]) and (said.reason is None or may_have_reason)


def _requests(record: Record) -> tuple[str | None, ...]:
    """TSB's ids of the requests for CSR and certificate: a block has one of its own."""
    return csr_step(record).get("requestId"), certificate_step(record).get("requestId")


def is_swept(record: Record) -> bool:
    """Whether SweepKeys has deleted the key, or tried to, after the enrollment had ended."""
    said = record.get("unusedKey", {})
    if said.get("action") != "delete" or not said.get("at"):
        return False
    ended = datetime.fromisoformat(record["times"]["ended"])
    return datetime.fromisoformat(said["at"]) >= ended + GRACE


def _is_undecided(reason: str | None) -> bool:
    begin, _, end = undecided("\0").partition("\0")
    text = reason or ""
    return text.startswith(begin) and text.endswith(end)
