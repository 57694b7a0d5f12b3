"""The waits of executions that can be woken, and who wakes them.

A wait is an item of its own in the table, `wait#<id>`.

The state WaitForApproval writes it: the token, the request, and what PollRequest has seen last. It
is the only place that holds the token: record and evidence never do. Whoever has the token can end
the wait, and nothing else: PollRequest reads the truth from the TSB then.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import batched, chain
from typing import Any, NamedTuple

from countersign import models as m
from countersign.errors import (
    REQUEST_NOT_EXISTENT,
    AwsCallError,
    CountersignError,
    TsbCredentialsError,
    TsbRefusedError,
)
from countersign.record import Record
from countersign.stores import Item, Records, Run
from countersign.tsb.models import RequestStatus

INDEX = "Waiting"
NOTE = "watch#note"  # the item in which a run leaves what the next one has to know
AT_ONCE = 8  # calls to the TSB
TSB_TIMEOUT_SECONDS = 8  # of one of them
SECONDS = 45  # for all of them; the next run is a minute away
PAGE = 1_000  # items; DynamoDB ends a page of 1 MB before
LONGEST_PAUSE_MINUTES = 60  # between two wakes for the same news
MOST_NOTED = 1_000  # wakes; the note stays far below the 400 KB of an item
type Wake = Callable[[str], bool]  # ends the wait with this token; False: it has ended already


class Wait(NamedTuple):
    """An execution that waits for its approvers.

    Args:
        enrollment_id: whose it is.
        request_id: of the TSB.
        token: ends the wait.
        seen: the digest of the answer that PollRequest saw last.
        since: when the wait began.
        failing: since when and why the polls have failed, as JSON; empty while they do not.
    """

    enrollment_id: str
    request_id: str
    token: str
    seen: str
    since: str
    failing: str


type Ask = Callable[[str], RequestStatus]  # TSB's answer about the request with this id
type List = Callable[[], frozenset[str]]  # the ids of the requests that TSB lists as PENDING
type Many = Callable[[Callable[[Wait], Any], Iterable[Wait]], Iterable[Any]]  # `map`, at once


def wake_the_decided(
    *,
    records: Records,
    ask: Ask,
    wake: Wake,
    limit: int,
    many: Many,
    report: Callable[[Run], None],
    pending: List = frozenset,
    by_list: bool = False,
) -> None:
    """Look once at what is open, and wake each execution about whose request there is news.

    It changes no enrollment: PollRequest reads the truth. So a wake too many costs one poll, and
    one too few costs the time until the insurance poll. Two runs at once do no harm.

    At most `limit` requests are asked about, those first that have not been looked at for longest:
    the next run goes on where this one stopped. One answer that cannot be read, or one token that
    is dead, keeps no other from being woken. A TSB that does not answer a whole batch is away, and
    is asked no more in this run.

    News that an execution has not taken up (its poll fails) wakes it again after 1, 2, 4 … 60
    minutes only.

    Args:
        records: the table.
        ask: asks the TSB.
        wake: ends a wait.
        limit: how many requests are asked about.
        many: maps a function over a batch, at once if it can.
        report: is told what the run did; for metrics.
        pending: lists what is PENDING.
        by_list: whether it is asked first. Then only the other requests are asked about, and who
            has approved meanwhile is seen by the next poll. A list that cannot be had: all.

    Raises:
        AwsCallError: the table refused, or Step Functions let somebody not be woken; nothing is
            lost, and the next run begins here again. An alarm counts the runs that fail.
    """
    ends = m.now() + timedelta(seconds=SECONDS)
    existing: dict[str, Any] = dict(records.get(NOTE) or {})
    page, ended, left = _page(records, existing.get("after"), limit)
    done = Run()
    unchanged = _listed(pending) if page and by_list else frozenset[str]()
    woken: dict[str, Any] = {}
    last: Wait | None = None
    for batch in _batches(page):
        if m.now() > ends:
            break
        answers = list(many(lambda one: _asked(one, ask, unchanged), batch))
        last = batch[-1]
        done.open += len(batch)
        done.failed += sum(digest is None for digest, _ in answers)
        if done.open > 1 and not any(spoke for _, spoke in answers):
            break
        for wait, (digest, _) in zip(batch, answers, strict=True):
            if digest is None or digest == wait.seen:
                continue
            before = existing.get("woken", {}).get(wait.enrollment_id)
            noted, is_due = _next(before, digest)
            woken[wait.enrollment_id] = noted
            if is_due:
                done.woken += _woken(wait, wake, done)
    if page and done.failed == done.open:
        done.silent_since = existing.get("silentSince") or (m.timestamp(m.now()) if last else None)
    if last is None:
        ended = existing.get("after")
    elif last is not page[-1]:
        ended = {"id": _id(last.enrollment_id), "since": last.since}
    looked_at = {wait.enrollment_id for wait in page[: done.open]}
    woken = {**_elsewhere(existing, looked_at), **woken}
    _leave(records, existing, done, woken, ended, begins_anew=done.open > left)
    report(done)
    if done.refused is not None:
        raise done.refused


def _page(records: Records, after: Item | None, limit: int) -> tuple[list[Wait], Item | None, int]:
    """The waits to look at; where the next run begins, None: at the first one; and how many of the
    waits belong to the round that is under way.
    """
    found, ended = oldest(records, after=after, limit=limit)
    if after is None or ended is not None or len(found) == limit:
        return found, ended, len(found)
    begin, ended = oldest(records, after=None, limit=limit - len(found))
    seen = {one.enrollment_id for one in found}
    again = [one for one in begin if one.enrollment_id not in seen]
    return [*found, *again], ended, len(found)


def _batches(page: list[Wait]) -> Iterator[tuple[Wait, ...]]:
    """What is asked at once. The first alone: else eight calls at once would each read the secrets
    that a function keeps for five minutes.
    """
    first, rest = tuple(page[:1]), tuple(page[1:AT_ONCE])
    begin = (one for one in (first, rest) if one)
    return chain(begin, batched(page[AT_ONCE:], AT_ONCE, strict=False))


def _listed(pending: List) -> frozenset[str]:
    try:
        return pending()
    except CountersignError:
        return frozenset()


def _asked(wait: Wait, ask: Ask, unchanged: frozenset[str]) -> tuple[str | None, bool]:
    """What to compare with the digest seen last, None for nothing; and whether TSB spoke at all."""
    if wait.request_id in unchanged:
        return wait.seen, True
    try:
        return ask(wait.request_id).digest, True
    except TsbCredentialsError:
        return None, False
    except CountersignError as error:
        code = error.error_code
        # That there is no such request is TSB's word, and PollRequest's to judge.
        decides = isinstance(error, TsbRefusedError) or code == REQUEST_NOT_EXISTENT
        return f"code {code}" if decides else None, code is not None


def _next(before: dict[str, Any] | None, digest: str) -> tuple[dict[str, Any], bool]:
    """What to note of this news, and whether to wake for it now."""
    now = m.now()
    if before is None or before["digest"] != digest:
        times = 1
    elif datetime.fromisoformat(before["next"]) > now:
        return before, False
    else:
        times = before["times"] + 1
    pause = min(2 ** (times - 1), LONGEST_PAUSE_MINUTES)
    following = m.timestamp(now + timedelta(minutes=pause))
    return {"digest": digest, "times": times, "next": following}, True


def _elsewhere(existing: dict[str, Any], looked_at: set[str]) -> dict[str, Any]:
    """What was noted of waits that this run did not look at, the newest of it.

    Some of them have ended: what could have been repeated long ago is forgotten.
    """
    since = m.timestamp(m.now() - timedelta(minutes=LONGEST_PAUSE_MINUTES))
    kept = {
        name: one
        for name, one in existing.get("woken", {}).items()
        if name not in looked_at and one["next"] > since
    }
    newest = sorted(kept, key=lambda name: str(kept[name]["next"]))[-MOST_NOTED:]
    return {name: kept[name] for name in newest}


def _woken(wait: Wait, wake: Wake, done: Run) -> bool:
    try:
        return wake(wait.token)
    except AwsCallError as error:
        done.refused = error  # a later run tries again
        return False


def _leave(
    records: Records,
    existing: dict[str, Any],
    done: Run,
    woken: dict[str, Any],
    after: Item | None,
    *,
    begins_anew: bool,
) -> None:
    """Leave the note for the next run, if it says anything new.

    Args:
        begins_anew: the round was finished, and another begun.
    """
    now = m.timestamp(m.now())
    begun = existing.get("roundBegan", now)
    unseen = datetime.fromisoformat(now) - datetime.fromisoformat(begun)
    done.longest_unseen_seconds = int(unseen.total_seconds()) if done.open else 0
    note: dict[str, Any] = {"woken": woken}
    if after is not None:
        note |= {"after": dict(after), "roundBegan": now if begins_anew else begun}
    if done.silent_since is not None:
        note["silentSince"] = done.silent_since
    if {name: one for name, one in existing.items() if name != "id"} == note or (
        not existing and note == {"woken": {}}
    ):
        return
    if records.put({"id": NOTE, **note}) is not None:
        records.update(
            NOTE, note, remove=tuple({"after", "roundBegan", "silentSince"} - note.keys())
        )


def oldest(records: Records, *, after: Item | None, limit: int) -> tuple[list[Wait], Item | None]:
    """A page of the waits, oldest first, and where it ended; None on the last page."""
    items, ended = records.page(INDEX, {"waiting": "yes"}, sort="since", limit=limit, after=after)
    return [_read(one) for one in items], ended


def everyone(records: Records) -> Iterator[Wait]:
    """Every wait, oldest first."""
    after: Item | None = None
    while True:
        page, after = oldest(records, after=after, limit=PAGE)
        yield from page
        if after is None:
            return


def wake_cancelled(enrollment_id: str, records: Records, wake: Wake) -> None:
    """End the wait of an enrollment that was cancelled on record, and let it not sleep again.

    The mark stops an execution that is about to wait: it may have read the record before the
    cancellation was there. Idempotent.

    Raises:
        AwsCallError: it may still wait; the insurance poll ends it.
    """
    if "cancel" not in (records.get(enrollment_id) or Record()):
        return
    item_id, mark = _id(enrollment_id), {"cancelled": m.timestamp(m.now())}
    if records.update(item_id, mark) is not None and records.put({"id": item_id, **mark}):
        records.update(item_id, mark)  # it was not there, and then it was
    token: Any = (records.get(item_id) or {}).get("token")
    if token is not None:
        wake(token)
    if "outcome" in (records.get(enrollment_id) or Record()):
        remove(enrollment_id, records)  # CloseEnrollment came before the mark


def remove(enrollment_id: str, records: Records) -> None:
    """Delete the wait of an enrollment that has ended. Idempotent."""
    records.delete(_id(enrollment_id))


def _id(enrollment_id: str) -> str:
    return f"wait#{enrollment_id}"


def _read(item: Record) -> Wait:
    # A wait may be hours old, and have been written by the release before this one.
    names = ("enrollmentId", "requestId", "token", "seen", "since", "failing")
    return Wait(*(str(item.get(name, "")) for name in names))
