"""Before the approvers are asked: what AWS refuses there has asked nobody, and is tried again."""

from countersign.errors import AwsCallError, NotAskedError
from local.approver import Approver
from tests.integration.house import House, Json

ADA = Approver.generate("Ada", "ec")
ASK = "/v1/certificate/request"


def asked(house: House, request: Json) -> int:
    """How often TSB was asked for this request's CSR."""
    calls = house.simulator.calls(request["key"]["label"])
    return sum(call["path"] == ASK for call in calls)


def refuse(_: bytes) -> bytes:
    raise AwsCallError("signing: AWS answered Throttling", reason="Throttling", action="Wait.")


def test_a_key_service_that_refuses_has_asked_nobody(house: House) -> None:
    request = house.request(ADA)

    ended = house.enroll(request, sign=refuse)

    assert isinstance(ended.error, NotAskedError)
    assert ended.error.reason == "Throttling"
    assert asked(house, request) == 0
    assert "intent" not in ended.record
    assert ended.document.error is not None
    assert ended.document.error.name == "NotAskedError"


def test_the_enrollment_can_be_started_again_and_keeps_its_key(house: House) -> None:
    request = house.request(ADA)
    house.enroll(request, sign=refuse)

    ended = house.enroll(request, ADA)

    assert ended.document.outcome == "ISSUED"
    assert ended.record["attempt"] == 2
    assert asked(house, request) == 1
