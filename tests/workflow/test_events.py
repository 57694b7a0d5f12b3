"""What is announced of an enrollment as it goes on.

That an event is as its schema and its sample say is looked at wherever a test sees an execution's
end: tests/catalogue.py.
"""

from tests.case import Case, group, people, token

ACCEPTED = "Enrollment Accepted"
AWAITING = "Enrollment Awaiting Approval"
PROGRESSED = "Enrollment Approval Progressed"
ISSUED = "Enrollment Issued"


def test_an_enrollment_can_be_followed_by_its_events(case: Case) -> None:
    one, two, three = people(3)
    requested = case.request(token(group(one, two, three, quorum=2), timeout=86_400))
    arn = case.start({**requested, "reason": "ticket OPS-42"}, trigger="start", id="OPS-42-run-7")
    case.await_event(AWAITING)
    case.approve(one)
    case.await_event(PROGRESSED)
    case.approve(three)
    result = case.end(arn)

    assert result.event_types == [ACCEPTED, AWAITING, PROGRESSED, ISSUED]
    for event in result.events:
        assert event["resources"] == [arn] == [event["detail"]["executionArn"]]
        assert event["detail"]["schemaVersion"] == "1"
        assert event["detail"]["keyLabel"] == case.label
        assert event["detail"]["reason"] == "ticket OPS-42"
        assert event["detail"]["origin"]["said"]["id"] == "OPS-42-run-7"
    accepted, awaiting, progressed, issued = (event["detail"] for event in result.events)
    assert accepted["requestSha256"] == result.record["requestSha256"]
    assert awaiting["outstanding"] == ["person 1", "person 2", "person 3"]
    assert awaiting["windowEnds"] == result.step["times"]["windowEnds"]
    assert awaiting["requestId"] == progressed["requestId"] == result.requests[0]["id"]
    assert progressed["outstanding"] == ["person 2", "person 3"]
    assert progressed["openGroups"] == [
        {"token": "token", "group": "group", "quorum": 2, "approved": 1}
    ]
    assert issued["pending"] == ["person 2"]
