"""Answers that got lost on the way, whoever's: what was done is found again, and done once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient

from countersign.errors import (
    CountersignError,
    TsbNoAnswerError,
    TsbRefusedError,
    TsbUnavailableError,
)
from local.approver import Approver
from tests.integration.house import House, Json
from tests.integration.steps import Steps

ADA = Approver.generate("Ada", "ec")
KEY = ("POST", "/v1/key")
ASK = ("POST", "/v1/certificate/request")
LOST: Json = {"kind": "status", "httpStatus": 504, "executed": True}
HSM_ERROR: Json = {"errorCode": 701, "reason": "res.error.in.hsm", "message": "no such algorithm"}


@pytest.fixture
def steps(house: House) -> Steps:
    return Steps(house, house.request(ADA))


@pytest.fixture
def writing_twice(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As the SDK does by itself where the answer to a write gets lost."""
    call = BaseClient._make_api_call  # type: ignore[attr-defined]

    def twice(client: Any, operation: str, arguments: Json) -> Any:
        if operation == "UpdateItem":
            call(client, operation, arguments)
        return call(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", twice)
    yield


@pytest.mark.usefixtures("writing_twice")
def test_a_write_that_the_sdk_repeats_is_the_same_intent(steps: Steps) -> None:
    asked = steps.ask(steps.create())

    assert asked.request_id == steps.record["requestId"]
    assert steps.calls(ASK) == 1


def test_a_request_on_record_is_found_again_and_not_asked_for_twice(steps: Steps) -> None:
    key = steps.create()

    assert steps.ask(key) == steps.ask(key)
    assert steps.calls(ASK) == 1


def test_a_label_stays_claimed_where_a_lost_answer_may_have_made_the_key(steps: Steps) -> None:
    steps.fault(KEY, **LOST)
    with pytest.raises(TsbNoAnswerError):
        steps.create()
    steps.mend()
    steps.fault(KEY, kind="status", httpStatus=500, body=HSM_ERROR)
    with pytest.raises(CountersignError):
        steps.create()
    steps.mend()

    assert steps.house.records.get(f"label#{steps.request['key']['label']}")
    # Whoever is next finds the key under its own claim, and adopts it.
    assert steps.create().public_key
    assert len(steps.house.keys(steps.request)) == 1


def test_a_label_is_free_again_where_the_tries_before_made_no_key(steps: Steps) -> None:
    steps.fault(KEY, kind="status", httpStatus=503)
    with pytest.raises(TsbUnavailableError):
        steps.create()
    steps.mend()
    steps.fault(KEY, kind="status", httpStatus=500, body=HSM_ERROR)
    with pytest.raises(TsbRefusedError):
        steps.create()

    assert steps.house.records.get(f"label#{steps.request['key']['label']}") is None


def test_a_lost_answer_is_not_forgotten_whatever_goes_wrong_after_it(steps: Steps) -> None:
    steps.fault(ASK, **LOST)
    with pytest.raises(TsbNoAnswerError):
        steps.ask(steps.create())

    # The state's last error was another one: the state machine sees nothing unanswered.
    discarded = steps.discard(unanswered=False)

    assert discarded.again
    assert steps.house.keys(steps.request) == []


def test_a_csr_on_record_is_handed_out_again_whatever_became_of_its_key(steps: Steps) -> None:
    key = steps.create()
    asked = steps.ask(key)
    ADA.approve(
        steps.house.desk, ADA.await_task(steps.house.desk, steps.request["key"]["label"], 1)
    )
    stored = steps.store(key, str(asked.request_id))
    del steps.house.simulator.broker.keys[steps.request["key"]["label"]]

    assert steps.store(key, str(asked.request_id)) == stored
    assert "quarantine" not in steps.record


def test_a_refusal_at_the_first_try_lets_the_label_go(steps: Steps) -> None:
    steps.fault(KEY, kind="status", httpStatus=400, body={**HSM_ERROR, "errorCode": 606})
    with pytest.raises(TsbRefusedError):
        steps.create()

    assert steps.house.records.get(f"label#{steps.request['key']['label']}") is None


def test_a_key_is_discarded_once_however_often_the_state_runs(steps: Steps) -> None:
    steps.fault(ASK, **LOST)
    with pytest.raises(TsbNoAnswerError):
        steps.ask(steps.create())

    first, second = (steps.discard(unanswered=True) for _ in range(2))

    assert first.again
    assert second.again
    assert steps.record["discards"] == 1


def test_the_second_key_that_is_lost_is_the_last(steps: Steps) -> None:
    steps.fault(ASK, **LOST)
    ends = []
    for _ in range(2):
        with pytest.raises(TsbNoAnswerError):
            steps.ask(steps.create())
        ends.append(steps.discard(unanswered=True))

    assert [one.again for one in ends] == [True, False]
    assert not steps.discard(unanswered=True).again


def test_a_permanent_key_s_request_that_is_on_record_is_cancelled(house: House) -> None:
    request = house.request(ADA)
    request["key"]["attributes"]["destroyable"] = False
    steps = Steps(house, request)
    asked = steps.ask(steps.create())

    discarded = steps.discard(unanswered=True)

    assert not discarded.again
    assert discarded.failure is not None
    assert "its request was cancelled" in discarded.failure.cause
    assert house.simulator.broker.requests[str(asked.request_id)].status == "CANCELLED"


def test_a_key_whose_answer_was_lost_before_a_cancellation_is_deleted(
    house: House, tmp_path: Path
) -> None:
    house.adopt(tmp_path, "delete")
    steps = Steps(house, house.by_profile())
    steps.fault(KEY, **LOST)
    with pytest.raises(TsbNoAnswerError):
        steps.create()
    house.records.update(steps.id, {"cancel": {"by": "somebody", "at": "now"}})

    assert steps.create().public_key is None
    steps.discard(unanswered=False)

    assert steps.record["unusedKey"]["result"] == "deleted"
    assert house.keys(steps.request) == []
