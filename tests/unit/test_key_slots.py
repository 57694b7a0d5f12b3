"""Turns to create a key: never more than so many a minute, and nobody is left out."""

from collections.abc import Iterator

import boto3
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from moto import mock_aws

from countersign.aws import clients
from countersign.aws.records import Records

NOW, SECOND = 1_800_000_000_000, 1_000


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    clients.client.cache_clear()
    with mock_aws():
        boto3.client("dynamodb").create_table(
            TableName="table",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        yield Records("table")
    clients.client.cache_clear()


def test_the_first_turn_is_now_and_the_others_follow_at_the_rate(records: Records) -> None:
    turns = [records.take_slot("turn#x", NOW, SECOND) for _ in range(5)]

    assert turns == [NOW + number * SECOND for number in range(5)]


def test_after_a_pause_the_turn_is_now_again_and_none_is_saved_up(records: Records) -> None:
    records.take_slot("turn#x", NOW, SECOND)
    later = NOW + 3600 * SECOND

    assert [records.take_slot("turn#x", later, SECOND) for _ in range(2)] == [
        later,
        later + SECOND,
    ]


def test_queues_do_not_know_of_each_other(records: Records) -> None:
    assert records.take_slot("turn#x", NOW, SECOND) == records.take_slot("turn#y", NOW, SECOND)


@hypothesis_settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    pauses=st.lists(st.integers(0, 3_000), min_size=1, max_size=12),
    interval=st.integers(10, 2_000),
    queue=st.uuids(),
)
def test_no_two_turns_are_closer_than_the_rate_and_none_is_in_the_past(
    records: Records, pauses: list[int], interval: int, queue: object
) -> None:
    now, turns = NOW, []
    for pause in pauses:
        now += pause
        turns.append(records.take_slot(f"turn#{queue}", now, interval))
        assert turns[-1] >= now

    assert all(after - before >= interval for before, after in zip(turns, turns[1:], strict=False))
