"""One run of WatchEnrollments over the table and its index: whom it asks, and whom it wakes."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, cast

import pytest
import time_machine

from countersign import models as m
from countersign import waits
from countersign.aws.records import Records
from countersign.errors import (
    AwsCallError,
    CountersignError,
    TsbCredentialsError,
    TsbOutcomeUnknownError,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.record import Record
from countersign.stores import Run
from countersign.tsb.models import RequestStatus

PENDING, EXECUTED = "PENDING", "EXECUTED"
MINUTE = timedelta(minutes=1)


def status(name: str, value: str, **more: Any) -> RequestStatus:
    return RequestStatus.model_validate({"id": name, "status": value, **more})


class World:
    """The table with some waits, what TSB says of each, and whoever was woken."""

    def __init__(self, records: Records, number: int) -> None:
        self.records = records
        self.answers: dict[str, RequestStatus | Exception] = {}
        self.asked: list[str] = []
        self.woken: list[str] = []
        self.dead: set[str] = set()
        for one in range(number):
            self.add(f"r-{one:04}")

    def add(self, name: str) -> None:
        self.answers[name] = status(name, PENDING)
        wait = {
            "id": f"wait#{name}",
            "enrollmentId": name,
            "requestId": name,
            "token": name,
            "seen": status(name, PENDING).digest,
            "since": f"2026-01-01T00:00:00.{name[2:]}Z",
            "waiting": "yes",
            "failing": "",
        }
        self.records.put(cast("Record", wait))

    def run(self, limit: int = 300, *, ask: waits.Ask | None = None, **more: Any) -> Run:
        runs: list[Run] = []
        try:
            waits.wake_the_decided(
                records=self.records,
                ask=ask or self._ask,
                wake=self._wake,
                limit=limit,
                report=runs.append,
                **{"many": map, **more},
            )
        finally:
            (self.last,) = runs
        return self.last

    def _ask(self, request_id: str) -> RequestStatus:
        self.asked.append(request_id)
        answer = self.answers[request_id]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _wake(self, token: str) -> bool:
        if token in self.dead:
            raise AwsCallError("no", action="x")
        self.woken.append(token)
        return True

    def decide(self, names: Iterable[str]) -> None:
        for name in names:
            self.answers[name] = status(name, EXECUTED)


def test_only_those_with_news_are_woken(records: Records) -> None:
    world = World(records, 20)
    world.decide(["r-0003", "r-0017"])

    run = world.run()

    assert sorted(world.woken) == ["r-0003", "r-0017"]
    assert (run.open, run.woken, run.failed, run.silent_since) == (20, 2, 0, None)


def test_the_order_of_a_list_is_no_news(records: Records) -> None:
    world = World(records, 1)
    seen = status("r-0000", PENDING, approvedBy=["a", "b"], notYetApprovedBy=["c", "d"])
    records.update("wait#r-0000", {"seen": seen.digest})
    world.answers["r-0000"] = status(
        "r-0000", PENDING, approvedBy=["b", "a"], notYetApprovedBy=["d", "c"]
    )

    world.run()

    assert world.woken == []


@pytest.mark.parametrize(
    "refused",
    [
        TsbRefusedError("no", action="x", error_code=609),
        TsbUnavailableError("gone", action="x", error_code=651),
    ],
    ids=["refused", "not existent"],
)
def test_a_refusal_in_tsb_s_own_words_is_news_for_whoever_can_judge_it(
    records: Records, refused: CountersignError
) -> None:
    world = World(records, 1)
    world.answers["r-0000"] = refused

    world.run()

    assert world.woken == ["r-0000"]


@pytest.mark.parametrize(
    "silent",
    [
        TsbOutcomeUnknownError("a page", action="x"),
        TsbUnavailableError("later", action="x", error_code=700),
        TsbCredentialsError("no", action="x"),
    ],
    ids=["unreadable", "wrapper", "credentials"],
)
def test_one_answer_that_says_nothing_keeps_no_other_from_being_woken(
    records: Records, silent: CountersignError
) -> None:
    world = World(records, 30)
    world.decide([f"r-{one:04}" for one in range(30)])
    world.answers["r-0004"] = silent

    run = world.run()

    assert len(world.woken) == 29
    assert "r-0004" not in world.woken
    assert (run.failed, run.silent_since) == (1, None)


def test_one_dead_token_keeps_no_other_from_being_woken(records: Records) -> None:
    world = World(records, 30)
    world.decide([f"r-{one:04}" for one in range(30)])
    world.dead.add("r-0000")

    with pytest.raises(AwsCallError):  # an alarm counts it
        world.run()

    assert (world.last.woken, len(world.woken)) == (29, 29)


def test_a_tsb_that_is_away_costs_one_batch_and_is_silent_since_then(records: Records) -> None:
    world = World(records, 300)
    for name in world.answers:
        world.answers[name] = TsbUnavailableError("away", action="x")

    with time_machine.travel("2026-11-26T12:00:00Z", tick=False) as clock:
        first = world.run()
        asked = len(world.asked)
        clock.shift(MINUTE)
        second = world.run()
        for name in world.answers:
            world.answers[name] = status(name, PENDING)
        clock.shift(MINUTE)
        third = world.run()

    assert asked == waits.AT_ONCE
    assert first.silent_since == second.silent_since == "2026-11-26T12:00:00Z"
    assert third.silent_since is None


def test_a_run_asks_at_most_so_many_and_the_next_one_goes_on_there(records: Records) -> None:
    world = World(records, 250)

    with time_machine.travel("2026-11-26T12:00:00Z", tick=False) as clock:
        runs = []
        for _ in range(3):
            runs.append(world.run(limit=100))
            clock.shift(MINUTE)

    assert [run.open for run in runs] == [100, 100, 100]
    assert sorted(world.asked[:250]) == sorted(world.answers)  # each once, before any again
    assert runs[2].longest_unseen_seconds == 120


def test_how_long_a_round_takes_is_told_anew_in_each_round(records: Records) -> None:
    world = World(records, 250)

    with time_machine.travel("2026-11-26T12:00:00Z", tick=False) as clock:
        unseen = []
        for _ in range(12):
            unseen.append(world.run(limit=100).longest_unseen_seconds)
            clock.shift(MINUTE)

    assert max(unseen) == 120  # 250 of 100 a minute; it grew with every round
    assert unseen.count(120) > 1


def test_the_first_is_asked_about_alone(records: Records) -> None:
    """Its call reads the secrets; at once with it, seven others would each read them."""
    world, batches = World(records, 20), []

    def counted(ask: Callable[[waits.Wait], Any], batch: Iterable[waits.Wait]) -> Iterable[Any]:
        asked = list(batch)
        batches.append(len(asked))
        return [ask(one) for one in asked]

    world.run(many=counted)

    assert batches == [1, 7, 8, 4]


def test_a_wait_that_another_release_has_written_keeps_no_other_from_being_woken(
    records: Records,
) -> None:
    world = World(records, 3)
    world.decide(world.answers)
    records.update("wait#r-0001", {}, remove=("failing",))

    world.run()

    assert sorted(world.woken) == sorted(world.answers)


def test_a_run_stops_in_time_and_the_next_one_goes_on_there(records: Records) -> None:
    world = World(records, 40)
    with time_machine.travel("2026-11-26T12:00:00Z", tick=False) as clock:

        def slowly(request_id: str) -> RequestStatus:
            clock.shift(3)  # eight of them take 24 s, so there is time for two batches
            return world._ask(request_id)

        first = world.run(ask=slowly)
        world.run()

    assert first.open == 2 * waits.AT_ONCE
    assert world.asked[:40] == sorted(world.answers)


def test_news_that_is_not_taken_up_wakes_after_one_two_four_and_sixty_minutes(
    records: Records,
) -> None:
    world = World(records, 1)
    world.decide(["r-0000"])
    minutes = []

    with time_machine.travel("2026-11-26T12:00:00Z", tick=False) as clock:
        for minute in range(4 * 60):
            if world.run().woken:
                minutes.append(minute)
            clock.shift(MINUTE)

    assert minutes == [0, 1, 3, 7, 15, 31, 63, 123, 183]


def test_it_is_remembered_also_of_those_that_a_run_does_not_look_at(records: Records) -> None:
    world = World(records, 30)
    world.decide(world.answers)

    with time_machine.travel("2026-11-26T12:00:00Z", tick=False) as clock:
        for _ in range(60):
            world.run(limit=10)  # each is looked at every three minutes
            clock.shift(MINUTE)

    assert max(world.woken.count(name) for name in world.answers) <= 6


def test_other_news_wakes_at_once(records: Records) -> None:
    world = World(records, 1)
    world.answers["r-0000"] = status("r-0000", PENDING, approvedBy=["a"])

    with time_machine.travel("2026-11-26T12:00:00Z", tick=False):
        world.run()
        world.decide(["r-0000"])
        world.run()

    assert world.woken == ["r-0000", "r-0000"]


def test_a_note_stays_small_and_is_written_only_with_news(records: Records) -> None:
    world = World(records, 3)
    world.run()

    assert records.get(waits.NOTE) is None  # a quiet run writes nothing

    world.decide(["r-0000"])
    world.run()
    assert set((records.get(waits.NOTE) or {})["woken"]) == {"r-0000"}  # type: ignore[typeddict-item]
    waits.remove("r-0000", records)
    with time_machine.travel(m.now() + timedelta(hours=2), tick=False):
        world.run()
    assert (records.get(waits.NOTE) or {})["woken"] == {}  # type: ignore[typeddict-item]


def test_two_runs_at_once_do_no_harm(records: Records) -> None:
    world = World(records, 10)
    world.decide(["r-0001"])

    def inner(_: str) -> RequestStatus:
        if not world.woken:
            world.run()
        return world._ask(_)

    world.run(ask=inner)

    assert set(world.woken) == {"r-0001"}


def test_by_list_only_what_has_left_pending_is_asked_about(records: Records) -> None:
    world = World(records, 20)
    world.decide(["r-0003"])
    pending = frozenset(world.answers) - {"r-0003", "r-0004"}

    run = world.run(pending=lambda: pending, by_list=True)

    assert world.asked == ["r-0003", "r-0004"]
    assert (world.woken, run.open, run.silent_since) == (["r-0003"], 20, None)


def test_a_list_that_cannot_be_had_is_no_reason_to_ask_nobody(records: Records) -> None:
    world = World(records, 3)
    world.decide(["r-0001"])

    def refused() -> frozenset[str]:
        raise TsbRefusedError("unknown path", action="x")

    world.run(pending=refused, by_list=True)

    assert world.woken == ["r-0001"]
