"""How soon something is done after something else."""

from local.engine.stack import InProcessStack
from tests.case import Case, group, people, token

CSR = "/v1/certificate/request"
REQUEST = "/v1/request/{id}"
MINUTE, HOUR, DAY = 60, 3_600, 86_400


def test_a_fresh_key_is_made_when_a_late_call_has_found_none(
    case: Case, stack: InProcessStack
) -> None:
    # A TSB under load may execute a call whose answer got lost minutes later.
    case.fault("POST", CSR, "drop", executed=True)
    (person,) = people(1)
    arn = case.start(case.request(token(group(person))))
    discarded = stack.at("DiscardKey", "its return")
    moment = stack.clock.now
    stack.until(lambda: discarded.ended, "end of DiscardKey")
    stack.at("CreateKey", "POST /v1/key")

    assert stack.clock.now - moment > 4 * MINUTE
    case.await_calls(CSR, 2, "POST")
    case.approve(person)
    assert case.end(arn).document["outcome"] == "ISSUED"


def test_what_stays_approved_is_polled_ever_more_rarely(case: Case, stack: InProcessStack) -> None:
    # Another timelock may hold it back for days.
    case.fault("GET", REQUEST, "request_status", status="APPROVED", times=None)
    arn = case.start(case.request(token(group(*people(1)), timeout=7 * DAY)))
    polls = [len(case.await_calls(REQUEST, 1))]
    for _ in range(2):
        stack.sleep(12 * HOUR)
        polls.append(len(case.await_calls(REQUEST, 1)))
    case.stop(arn)

    assert polls[1] - polls[0] < 100
    assert polls[2] - polls[1] <= 12 * 4
