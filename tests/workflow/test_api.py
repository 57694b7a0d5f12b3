"""The HTTP API over whole enrollments: what it answers meanwhile, and cancelling at every state."""

import base64
import json
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from countersign import mails
from countersign.verification import csr
from local.engine.stack import InProcessStack
from local.generate.openapi import FILE as OPENAPI
from tests.case import (
    Case,
    Result,
    assert_issued,
    decisions,
    fresh,
    group,
    people,
    token,
)
from tests.workflow import api
from tests.workflow.api import API_URL, Caller, request

KEY = "/v1/key"
ATTRIBUTES = "/v1/key/attributes"
CSR = "/v1/certificate/request"
REQUEST = "/v1/request/{id}"
DELETE_KEY = "/v1/key/deleteKey"
MEANWHILE_SECONDS = 10  # that TSB takes for an answer, so that somebody can cancel meanwhile
DAY_SECONDS = 86_400


@pytest.fixture
def user(stack: InProcessStack) -> Caller:
    return Caller(stack)


@pytest.fixture
def somebody(unrecorded_stack: InProcessStack) -> Caller:
    """Who starts no enrollment, or another one in each run."""
    return Caller(unrecorded_stack)


# One enrollment through the API -------------------------------------------------------------------


def test_post_answers_202_with_the_enrollment_and_get_shows_it_at_once(
    case: Case, user: Caller
) -> None:
    one, two = people(2)

    posted = user.call("POST", "/enrollments", case.request(token(group(one, two), timeout=60)))
    shown = user.call("GET", f"/enrollments/{case.id}")

    assert posted.status_code == 202
    assert posted.headers["Location"] == f"/v1/enrollments/{case.id}"
    assert posted.json()["links"]["self"] == posted.headers["Location"]
    assert posted.json()["status"] == "PENDING"
    assert shown.status_code == 200
    assert shown.json()["policy"] == {
        "tokens": [
            {
                "name": "token",
                "timelock": 0,
                "timeout": 60,
                "groups": [{"name": "group", "quorum": 1, "approvers": ["person 1", "person 2"]}],
            }
        ]
    }


def test_the_same_request_again_is_the_same_enrollment_and_another_is_a_conflict(
    case: Case, user: Caller
) -> None:
    (one,) = people(1)
    requested = {**case.request(token(group(one))), "reason": "OPS-42"}

    user.call("POST", "/enrollments", requested)
    again = user.call("POST", "/enrollments", requested)
    another = user.call("POST", "/enrollments", {**requested, "reason": "OPS-43"})
    case.approve(one)
    result = case.end(case.execution())
    again_when_ended = user.call("POST", "/enrollments", requested)

    assert again.status_code == 202
    assert again_when_ended.status_code == 200
    assert again_when_ended.json()["outcome"] == "ISSUED"
    assert result.count("POST", KEY) == result.count("POST", CSR) == 1
    assert another.status_code == 409
    assert another.headers["Content-Type"] == "application/problem+json"
    assert another.json()["enrollmentId"] == case.id
    assert another.json()["error"] == "EnrollmentConflictError"
    assert result.record["request"]["reason"] == "OPS-42"


def test_whoever_waits_sees_who_is_outstanding_and_when_the_next_poll_is_due(
    case: Case, user: Caller
) -> None:
    user.call("POST", "/enrollments", case.request(token(group(*people(2)))))
    case.await_calls(REQUEST, 1)
    case.until(lambda: case.step().get("approvers"), "approvers on record")

    shown = user.call("GET", f"/enrollments/{case.id}").json()

    assert [(one["name"], one["decision"]) for one in shown["steps"]["csr"]["approvers"]] == [
        ("person 1", "outstanding"),
        ("person 2", "outstanding"),
    ]
    times = shown["steps"]["csr"]["times"]
    assert times["requested"] < times["nextPoll"] < times["windowEnds"]


def test_what_was_issued_is_shown_with_its_approvals_and_handed_out(
    case: Case, user: Caller
) -> None:
    one, two = people(2)
    requested = {**case.request(token(group(one, two))), "reason": "OPS-42"}
    path = f"/enrollments/{case.id}"

    user.call("POST", "/enrollments", requested)
    too_early = user.call("GET", f"{path}/csr")
    case.approve(two)
    result = case.end(case.execution())
    shown = user.call("GET", path).json()
    pem = user.call("GET", f"{path}/csr")
    der = user.call("GET", f"{path}/csr", headers={"Accept": "application/pkcs10"})
    neither = user.call("GET", f"{path}/csr", headers={"Accept": "text/html"})
    cancelled_too_late = user.call("DELETE", path)

    assert_issued(result)
    assert decisions(result) == {"person 1": "none", "person 2": "approved"}
    assert shown["status"] == shown["outcome"] == "ISSUED"
    assert shown["csr"] == {k: v for k, v in result.document["csr"].items() if k != "pem"}
    assert shown["request"] == {k: v for k, v in requested.items() if k != "enrollmentId"}
    assert too_early.status_code == 409
    assert pem.headers["Content-Type"] == "application/x-pem-file"
    assert pem.text == result.document["csr"]["pem"]
    assert der.headers["Content-Type"] == "application/pkcs10"
    assert der.content == base64.b64decode("".join(pem.text.splitlines()[1:-1]))
    assert csr.read_csr(pem.text).sha256 == shown["csr"]["sha256"]
    assert neither.status_code == 406
    assert cancelled_too_late.status_code == 409
    assert "ISSUED" in cancelled_too_late.json()["detail"]
    # Who asked is on record and in every event.
    assert result.record["origin"]["principal"] == user.arn
    assert result.record["origin"]["trigger"] == "api"
    for event in result.events:
        announced = event["detail"]["origin"]
        assert {name: v for name, v in announced.items() if v} == result.record["origin"]


def test_whoever_starts_executions_cannot_pass_as_another_caller(case: Case) -> None:
    (one,) = people(1)
    forged = {"trigger": "api", "id": "x", "principal": "arn:aws:iam::1:user/ceo"}
    arn = case.start(case.request(token(group(one))), **forged)
    case.decline(one)
    result = case.end(arn)

    assert result.record["origin"] == {"trigger": "start", "said": forged}
    for event in result.events:
        assert event["detail"]["origin"]["principal"] is None
        assert event["detail"]["origin"]["said"]["principal"] == forged["principal"]
    shown = json.loads(result.objects[f"metadata/{result.record['metaDataSha256']}.json"])
    assert f"Requested by: unknown; the caller says {forged['principal']}" in shown["about"]
    assert f"principal {forged['principal']}" in mails.render(result.events[0]).text


# Cancelling, at every state -----------------------------------------------------------------------


def assert_cancelled(result: Result, user: Caller) -> None:
    """Cancelled for everyone who looks, by name, and never issued."""
    assert result.status == "SUCCEEDED"
    assert result.document["outcome"] == result.record["outcome"] == "CANCELLED"
    assert result.record["status"] == "CANCELLED"
    assert result.endings == ["Enrollment Cancelled"]
    assert result.ending["detail"]["cancel"]["by"] == user.arn
    assert result.document["csr"] is None
    assert "request.pem" not in result.objects
    assert not [one for one in result.requests if one["status"] in ("PENDING", "APPROVED")]


def test_cancelled_right_after_the_post(case: Case, user: Caller) -> None:
    user.call("POST", "/enrollments", case.request(token(group(*people(1)))))

    answer = user.call("DELETE", f"/enrollments/{case.id}")
    result = case.end(case.execution())

    assert answer.status_code == 202
    assert answer.json()["status"] == "CANCELLING"
    assert_cancelled(result, user)


def test_the_tsb_is_told_at_once_and_once_and_cancelling_twice_is_the_same_as_once(
    case: Case, stack: InProcessStack, user: Caller
) -> None:
    path = f"/enrollments/{case.id}"
    # Nothing can be executed before the timelock, so the next poll is far away.
    requested = case.request(
        token(group(*people(1)), timelock=DAY_SECONDS, timeout=2 * DAY_SECONDS)
    )
    user.call("POST", "/enrollments", requested)
    case.await_calls(REQUEST, 1)

    now = stack.clock.now
    first = user.call("DELETE", path)
    case.await_calls(REQUEST, 1, "DELETE")
    case.until(lambda: case.record()["cancel"].get("confirmedAt"), "note that TSB was told")
    told_after_seconds = stack.clock.now - now
    at_once = case.state()["requests"]
    again = user.call("DELETE", path)
    result = case.end(case.execution())
    when_ended = user.call("DELETE", path)

    assert_cancelled(result, user)
    assert [one["status"] for one in at_once] == ["CANCELLED"]
    assert told_after_seconds < 1
    assert result.count("DELETE", REQUEST) == 1
    assert (first.status_code, again.status_code, when_ended.status_code) == (202, 202, 200)
    assert again.json()["cancel"]["at"] == first.json()["cancel"]["at"]
    assert when_ended.json()["outcome"] == "CANCELLED"


def cancelled_during(case: Case, user: Caller, method: str, path: str) -> Result:
    """An enrollment that is cancelled while this call of TSB is under way."""
    (one,) = people(1)
    case.fault(method, path, "delay", seconds=MEANWHILE_SECONDS)
    user.call("POST", "/enrollments", case.request(token(group(one))))
    if path == ATTRIBUTES:  # StoreCsr's: the TSB has executed already
        case.approve(one)
    case.await_calls(path, 1, method)
    answer = user.call("DELETE", f"/enrollments/{case.id}")
    assert answer.status_code == 202
    assert answer.json()["status"] == "CANCELLING"
    return case.end(case.execution())


DURING = {
    "CreateKey": ("POST", KEY),
    "RequestCsr": ("POST", CSR),
    "PollRequest": ("GET", REQUEST),
    "StoreCsr": ("POST", ATTRIBUTES),
}


@pytest.mark.parametrize("state", DURING)
def test_cancelled_during_a_state(case: Case, user: Caller, state: str) -> None:
    result = cancelled_during(case, user, *DURING[state])

    assert_cancelled(result, user)
    assert result.count("POST", CSR) == (0 if state == "CreateKey" else 1)
    assert result.count("DELETE", REQUEST) <= 2  # one of CancelRequest, one of PollRequest
    if state == "StoreCsr":  # never issued, though the TSB has executed it
        assert result.requests[0]["status"] == "EXECUTED"


def test_cancelled_while_the_verified_csr_is_stored(
    case: Case, user: Caller, stack: InProcessStack
) -> None:
    """Its object is there already; the record decides."""
    (one,) = people(1)
    user.call("POST", "/enrollments", case.request(token(group(one))))
    case.approve(one)
    late = stack.at("StoreCsr", "UpdateItem", 2)
    late.due = stack.clock.now + 5
    answer = user.call("DELETE", f"/enrollments/{case.id}")
    result = case.end(case.execution())

    assert answer.status_code == 202
    assert result.objects.pop("request.pem")
    assert_cancelled(result, user)
    assert not {"checks", "csr", "verifiedSha256"} & result.record.keys()


def test_cancelled_after_the_last_state_that_could_tell_the_tsb(
    case: Case, user: Caller, stack: InProcessStack
) -> None:
    case.fault("GET", REQUEST, "status", httpStatus=503, times=None)
    arn = case.start(case.request(token(group(*people(1)))))
    case.await_request()
    case.advance(-100 * DAY_SECONDS)  # the TSB does not end it by itself
    stack.at("DiscardKey", "its return")
    case.no_more_faults()
    answer = user.call("DELETE", f"/enrollments/{case.id}")
    case.end(arn)
    case.until(lambda: case.record()["cancel"].get("confirmedAt"), "confirmation")

    assert answer.status_code == 202
    assert case.record()["outcome"] == "CANCELLED"
    assert [one["status"] for one in case.state()["requests"]] == ["CANCELLED"]


def test_cancelled_while_the_key_is_discarded(case: Case, user: Caller) -> None:
    case.fault("POST", CSR, "drop", executed=True)
    result = cancelled_during(case, user, "POST", DELETE_KEY)

    assert_cancelled(result, user)
    assert result.count("POST", KEY) == result.count("POST", CSR) == 1


def test_cancelled_on_record_is_cancelled_even_where_the_tsb_cannot_be_told(
    case: Case, user: Caller
) -> None:
    (one,) = people(1)
    case.fault("DELETE", REQUEST, "status", httpStatus=503, times=None)
    requested = case.request(token(group(one), timelock=600, timeout=6000))
    user.call("POST", "/enrollments", requested)
    case.await_request()
    user.call("DELETE", f"/enrollments/{case.id}")
    case.approve(one)
    case.advance(600)
    result = case.end(case.execution())

    assert result.document["outcome"] == "CANCELLED"
    assert result.endings == ["Enrollment Cancelled"]
    assert result.ending["detail"]["cancel"]["by"] == user.arn
    assert "request.pem" not in result.objects
    assert "confirmedAt" not in result.record["cancel"]


def test_what_has_ended_shows_no_cancellation(case: Case, user: Caller) -> None:
    (one,) = people(1)
    user.call("POST", "/enrollments", case.request(token(group(one))))
    case.decline(one)
    before = case.end(case.execution()).record
    answer = user.call("DELETE", f"/enrollments/{case.id}")

    assert answer.status_code == 409
    assert "ended as REJECTED" in answer.json()["detail"]
    assert case.record() == before


# Many at once, and the list -----------------------------------------------------------------------

MANY, REPEATED = 30, 6


def test_submissions_with_repeated_keys_are_one_enrollment_each_in_a_list_of_pages(
    unrecorded_stack: InProcessStack, somebody: Caller
) -> None:
    case = Case(unrecorded_stack)
    requested = case.request(token(group(*people(1))))
    del requested["enrollmentId"]
    submissions = []
    for number in range(MANY):
        body = fresh(requested)
        body["key"]["label"] = body["csr"]["signKeyName"] = f"{case.label}.{number}"
        key = {"Idempotency-Key": f"{case.id}-{number}"}
        submissions.append(request("POST", "/enrollments", body, key))

    answers = somebody.call_at_once(*submissions, *submissions[:REPEATED])
    first = somebody.call("GET", "/enrollments?limit=25").json()
    last = somebody.call("GET", f"/enrollments?limit=25&next={first['next']}").json()

    assert Counter(answer.status_code for answer in answers) == {202: MANY + REPEATED}
    ids = Counter(answer.json()["enrollmentId"] for answer in answers)
    assert sorted(ids.values()) == [1] * (MANY - REPEATED) + [2] * REPEATED
    listed = [*first["enrollments"], *last["enrollments"]]
    assert last["next"] is None
    assert len(listed) == MANY  # nobody is on both pages
    assert {one["enrollmentId"] for one in listed} == set(ids)
    times = [one["times"]["accepted"] for one in listed]
    assert times == sorted(times, reverse=True)


def test_the_list_can_be_asked_by_status_and_time(case: Case, user: Caller) -> None:
    (one,) = people(1)
    user.call("POST", "/enrollments", case.request(token(group(one))))
    case.approve(one)
    issued = case.end(case.execution())
    other = Case(case.stack)
    user.call("POST", "/enrollments", other.request(token(group(one))))
    user.call("DELETE", f"/enrollments/{other.id}")
    other.end(other.execution())
    at = issued.record["times"]["accepted"]

    by_status = user.call("GET", "/enrollments?status=CANCELLED&limit=100").json()["enrollments"]
    by_time = user.call("GET", f"/enrollments?from={at}&to={at}&limit=100").json()["enrollments"]

    assert [one["enrollmentId"] for one in by_status] == [other.id]
    assert {one["status"] for one in by_status} == {"CANCELLED"}
    assert [one["enrollmentId"] for one in by_time] == [case.id]
    assert {one["times"]["accepted"] for one in by_time} == {at}


# Refused before anything starts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "status", "field"),
    [
        ("{nope", {}, 400, None),
        ("", {}, 400, None),
        ('{"key": NaN}', {}, 400, None),
        ("[" * 50_000, {}, 400, None),
        ("{}", {"Content-Type": "text/plain"}, 415, None),
        ('"' + "x" * 128 * 1024 + '"', {}, 413, None),
        ("[]", {}, 422, "request"),
        ('{"csr": {}, "surprise": 1}', {}, 422, "request.key"),
        ('{"enrollmentId": "label#mine"}', {}, 422, "request.enrollmentId"),
        ("{}", {"Idempotency-Key": "x" * 300}, 422, "header.idempotency-key"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_input_is_refused_with_its_field(
    somebody: Caller, body: str, headers: dict[str, str], status: int, field: str | None
) -> None:
    answer = somebody.call("POST", "/enrollments", body, headers=headers)

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["action"]
    assert field in ([None] if field is None else [one["field"] for one in problem["errors"]])


def test_a_request_that_cannot_be_approved_is_refused_before_anything_exists(
    case: Case, user: Caller
) -> None:
    requested = case.request(token(group(*people(1)), timeout=601))

    answer = user.call("POST", "/enrollments", requested)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "request.key.policy.ruleUse.tokens.0.timeout"
    assert user.call("GET", f"/enrollments/{case.id}").status_code == 404
    assert user.call("DELETE", f"/enrollments/{case.id}").status_code == 404
    assert user.call("GET", f"/enrollments/{case.id}/csr").status_code == 404


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "query.limit"),
        ("status=DONE", "query.status"),
        ("from=yesterday", "query.from"),
        ("to=2026-11-24T00:00:00", "query.to"),
        ("next=!", "query.next"),
        ("next=bGFiZWwjeCB5", "query.next"),
    ],
)
def test_a_list_that_cannot_be_is_refused_with_its_parameter(
    somebody: Caller, query: str, field: str
) -> None:
    answer = somebody.call("GET", f"/enrollments?{query}")

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_health_says_what_the_tsb_is_or_what_is_wrong(stack: InProcessStack, user: Caller) -> None:
    fine = user.call("GET", "/health")
    refusal = {"kind": "status", "httpStatus": 503}
    stack.control("POST", "/faults", {"method": "GET", "path": "/v1/versionInfo", "fault": refusal})
    ill = user.call("GET", "/health")

    assert fine.status_code == 200
    assert fine.json()["tsb"]["version"]
    assert ill.status_code == 503
    assert "TsbUnavailableError" in ill.json()["detail"]
    assert ill.headers["Content-Type"] == "application/problem+json"


def test_health_says_how_far_the_clock_of_the_tsb_is_off(
    stack: InProcessStack, user: Caller
) -> None:
    fine = user.call("GET", "/health")
    stack.control("POST", "/clock", {"advanceSeconds": -90})
    tolerated = user.call("GET", "/health")
    stack.control("POST", "/clock", {"advanceSeconds": -600})
    ill = user.call("GET", "/health")

    assert fine.json()["tsb"]["clockSkewSeconds"] == 0
    assert -91 <= tolerated.json()["tsb"]["clockSkewSeconds"] <= -88
    assert ill.status_code == 503
    assert "s behind ours" in ill.json()["detail"]


# Which API calls, and under which path ------------------------------------------------------------


@pytest.mark.parametrize(
    "forged",
    [
        {"apiId": "another"},
        {"accountId": "999999999999"},
        {"stage": "test-invoke-stage"},
        {"apiId": None},
    ],
    ids=str,
)
def test_a_call_of_another_api_is_refused_and_logged(
    unrecorded_stack: InProcessStack, caplog: pytest.LogCaptureFixture, forged: dict[str, Any]
) -> None:
    user = Caller(unrecorded_stack)
    own = api.event(user.session.prepare_request(request("GET", "/enrollments")), user.arn)

    context = own["requestContext"]
    fine = unrecorded_stack.call("Api", own)
    refused = unrecorded_stack.call("Api", {**own, "requestContext": context | forged})
    logged = caplog.records[-1]

    assert fine["statusCode"] == 200
    assert refused["statusCode"] == 403
    assert "its own API only (123456789012/EnrollmentsApi/v1)" in refused["body"]
    assert refused["multiValueHeaders"] == {"Content-Type": ["application/problem+json"]}
    assert (logged.levelname, logged.message) == (
        "ERROR",
        "the call was refused: it is not this API's",
    )
    assert str(next(iter(forged.values()))) in vars(logged)["called"]


@pytest.mark.parametrize("other", [{}, {"requestContext": None}, [], None, "text"], ids=str)
def test_what_is_no_call_of_an_api_is_refused_too(
    unrecorded_stack: InProcessStack, other: Any
) -> None:
    assert unrecorded_stack.call("Api", other)["statusCode"] == 403


# The first as an execute-api URL and a custom domain without a base path have it.
@pytest.mark.parametrize("base", ["", "/csr", "/pki/csr"])
def test_a_custom_domain_may_have_a_base_path(
    case: Case, stack: InProcessStack, user: Caller, base: str
) -> None:
    (one,) = people(1)
    calls = [
        request("POST", "/enrollments", case.request(token(group(one), timeout=60))),
        request("GET", f"/enrollments/{case.id}"),
        request("GET", f"/enrollments/{case.id}/csr"),
        request("DELETE", f"/enrollments/{case.id}"),
    ]

    answers = []
    for call in calls:
        own = api.event(user.session.prepare_request(call), user.arn)
        path = base + own["path"]
        mapped = {**own, "path": path, "requestContext": {**own["requestContext"], "path": path}}
        answers.append(stack.call("Api", mapped))
    stack.settle()

    assert [one["statusCode"] for one in answers] == [202, 200, 409, 202]
    assert answers[0]["multiValueHeaders"]["Location"] == [f"{base}/enrollments/{case.id}"]
    assert json.loads(answers[1]["body"])["links"]["self"] == f"{base}/enrollments/{case.id}"


def test_an_encoded_slash_leads_to_no_other_enrollment(somebody: Caller) -> None:
    # API Gateway has authorized the caller for what the id says, not for what it would become.
    answer = somebody.call("GET", "/enrollments/enrollments%2Fweb-2026-11")

    assert answer.status_code == 404
    assert answer.json()["detail"] == "there is nothing at /enrollments/enrollments/web-2026-11"


# The whole of docs/openapi.json -------------------------------------------------------------------

DESCRIPTION = json.loads(OPENAPI.read_text())
# Signing is API Gateway's: tests/e2e/test_api.py.
del DESCRIPTION["security"]
SCHEMA = schemathesis.openapi.from_dict(
    DESCRIPTION,
    config=SchemathesisConfig.from_dict(
        {
            # JSON Schema cannot say all that a request must be (a quorum that can be reached, a key
            # that can be read), nor that the id is new.
            "checks": {
                "positive_data_acceptance": {
                    "expected-statuses": ["2xx", 401, 403, 404, 406, 409, 422, "5xx"]
                }
            },
            # API Gateway answers a method that no path has, before anybody is asked.
            "phases": {"coverage": {"unexpected-methods": []}},
        }
    ),
)


@SCHEMA.parametrize()
@settings(max_examples=4, suppress_health_check=list(HealthCheck))
def test_the_api_is_as_its_openapi_file_says(
    case: schemathesis.Case[Any], somebody: Caller
) -> None:
    answer = case.call(base_url=API_URL, session=somebody.session)

    assert answer.status_code != 500
    case.validate_response(answer)
