"""Turns to create a key, as AcceptEnrollment gives them and CreateKey keeps them."""

from datetime import datetime, timedelta

from countersign import models as m
from local.approver import Approver
from tests.integration.house import House
from tests.integration.steps import Steps

KEYS_PER_MINUTE = 120
PERSON = Approver.generate("person", "ec")


def accepted(house: House, keys_per_minute: int) -> Steps:
    return Steps(house, house.request(PERSON), keys_per_minute)


def test_in_a_burst_turns_follow_at_less_than_the_rate(house: House) -> None:
    burst = [accepted(house, KEYS_PER_MINUTE) for _ in range(4)]

    turns = [datetime.fromisoformat(one.key_turn) for one in burst[1:] if one.key_turn]
    apart = [(b - a).total_seconds() for a, b in zip(turns, turns[1:], strict=False)]
    assert len(turns) == 3
    # 60 s / 120 would be 0.5 s; the rest is for those who come late.
    assert apart == [0.525, 0.525]


def test_without_a_rate_nobody_waits(house: House) -> None:
    assert [accepted(house, 0).key_turn for _ in range(2)] == [None, None]


def test_no_key_is_made_before_its_turn_though_a_wait_knows_whole_seconds_only(
    house: House,
) -> None:
    steps = accepted(house, KEYS_PER_MINUTE)
    turn = m.now() + timedelta(milliseconds=400)
    steps.key_turn = turn.isoformat()

    steps.create()

    calls = house.simulator.calls(steps.request["key"]["label"])
    (made,) = [call for call in calls if call["path"] == "/v1/key"]
    assert datetime.fromisoformat(made["at"]) >= turn
