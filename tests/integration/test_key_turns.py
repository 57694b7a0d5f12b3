"""Turns to create a key, as AcceptEnrollment gives them and CreateKey keeps them."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from countersign import enrollment
from countersign import models as m
from local.approver import Approver
from tests.integration.house import House

KEYS_PER_MINUTE = 120
PERSON = Approver.generate("person", "ec")


def accepted(house: House, keys_per_minute: int) -> tuple[m.Accepted, dict[str, Any]]:
    """An accepted enrollment, and what CreateKey is given of it."""
    run = m.Execution(arn=f"arn:aws:states:{uuid.uuid4()}", name="x", input=house.request(PERSON))
    answer = enrollment.accept_enrollment(
        m.AcceptEnrollmentInput(execution=run),
        records=house.records,
        objects=house.objects,
        bus=house.bus,
        rules=house.rules,
        keys_per_minute=keys_per_minute,
    )
    assert isinstance(answer, m.Accepted)
    step = {name: answer.dump()[name] for name in ("enrollmentId", "request", "keyTurn")}
    return answer, {"executionArn": run.arn, **step}


def test_in_a_burst_turns_follow_at_less_than_the_rate(house: House) -> None:
    burst = [accepted(house, KEYS_PER_MINUTE)[0] for _ in range(4)]

    turns = [datetime.fromisoformat(one.key_turn) for one in burst[1:] if one.key_turn]
    apart = [(b - a).total_seconds() for a, b in zip(turns, turns[1:], strict=False)]
    assert len(turns) == 3
    # 60 s / 120 would be 0.5 s; the rest is for those who come late.
    assert apart == [0.525, 0.525]


def test_without_a_rate_nobody_waits(house: House) -> None:
    assert [accepted(house, 0)[0].key_turn for _ in range(2)] == [None, None]


def test_no_key_is_made_before_its_turn_though_a_wait_knows_whole_seconds_only(
    house: House,
) -> None:
    _, step = accepted(house, KEYS_PER_MINUTE)
    turn = m.now() + timedelta(milliseconds=400)
    given = m.CreateKeyInput.read({**step, "keyTurn": turn.isoformat()})
    enrollment.create_key(
        given,
        records=house.records,
        objects=house.objects,
        tsb=house.tsb,
        password=str,
        profiles=house.rules.profiles,
        trust=house.trust,
    )
    (made,) = [
        call for call in house.simulator.calls(given.request.key.label) if call["path"] == "/v1/key"
    ]

    assert datetime.fromisoformat(made["at"]) >= turn
