"""Before the approvers are asked: what AWS refuses there has asked nobody, and is tried again."""

from tests.case import Case, assert_failed, group, people, token

KEY = "/v1/key"
CSR = "/v1/certificate/request"
TRIES = 9  # of RequestCsr, before the state machine gives up


def key_service_refuses(case: Case, *, times: int) -> None:
    """Let KMS refuse the signature over what the approvers would be shown."""
    for _ in range(times):
        case.strike("RequestCsr", kind="aws", operation="Sign", when="before")


def test_a_key_service_that_refuses_has_asked_nobody(case: Case) -> None:
    key_service_refuses(case, times=TRIES)

    result = case.end(case.start(case.request()))

    assert_failed(result, "RequestNotSentError", "RequestCsr")
    assert result.document["error"]["reason"] == "InternalServerError"  # KMS's own word
    assert result.failures == [("RequestCsr", "RequestNotSentError")] * TRIES
    assert [call for call in result.calls if call["path"] == CSR] == []
    assert "intent" not in result.record


def test_the_enrollment_can_be_started_again_and_keeps_its_key(case: Case) -> None:
    (person,) = people(1)
    request = case.request(token(group(person)))
    key_service_refuses(case, times=TRIES)
    case.end(case.start(request))

    arn = case.start(request)
    case.approve(person)
    result = case.end(arn)

    assert result.document["outcome"] == "ISSUED"
    assert result.record["attempt"] == 2
    assert result.count("POST", KEY) == result.count("POST", CSR) == 1
    assert [key["deleted"] for key in result.keys] == [False]
