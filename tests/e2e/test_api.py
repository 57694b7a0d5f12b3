"""The HTTP API on the deployed stack: who may call it, what it answers, and cancelling."""

import base64
import json
import os
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from countersign import csr
from local.caller import Caller, Signature
from local.draw_openapi import FILE as OPENAPI
from local.stack import REGION, ROOT, Stack
from tests.e2e.case import (
    Act,
    Case,
    Json,
    Ran,
    Run,
    act,
    assert_issued,
    decisions,
    fresh,
    group,
    people,
    token,
)

pytestmark = pytest.mark.e2e

README = ROOT / "README.md"
KEY = "/v1/key"
ATTRIBUTES = "/v1/key/attributes"
CSR = "/v1/certificate/request"
REQUEST = "/v1/request/{id}"
DELETE_KEY = "/v1/key/deleteKey"
MEANWHILE_SECONDS = 15  # that TSB takes for an answer, so that somebody can cancel meanwhile
DAY_SECONDS = 86_400


def caller(case: Case) -> Caller:
    return Caller(case.stack, case.id)


# One enrollment through the API ------------------------------------------------------------------


@act
def through_the_api(case: Case) -> Run:
    one, two = people(2)
    user = caller(case)
    request = {**case.request(token(group(one, two, quorum=1))), "reason": "OPS-42"}
    path = f"/enrollments/{case.id}"
    said: dict[str, Any] = {"user": user.arn, "request": request}
    said["posted"] = user.call("POST", "/enrollments", request)
    said["shown at once"] = user.call("GET", path)
    said["again"] = user.call("POST", "/enrollments", request)
    said["another body"] = user.call("POST", "/enrollments", {**request, "reason": "OPS-43"})
    said["too early"] = user.call("GET", f"{path}/csr")
    case.await_calls(REQUEST, 1)
    said["waiting"] = case.until(
        lambda: (shown := user.call("GET", path).json())["approvals"] and shown, "approvals"
    )
    case.approve(two)
    run = case.end(said["waiting"]["executionArn"])
    said["issued"] = user.call("GET", path).json()
    said["pem"] = user.call("GET", f"{path}/csr")
    said["der"] = user.call("GET", f"{path}/csr", headers={"Accept": "application/pkcs10"})
    said["neither"] = user.call("GET", f"{path}/csr", headers={"Accept": "text/html"})
    said["again when ended"] = user.call("POST", "/enrollments", request)
    said["cancelled too late"] = user.call("DELETE", path)
    run.more = said
    return run


def test_post_answers_202_with_the_enrollment_and_where_it_is(ran: Ran) -> None:
    run = ran(through_the_api)
    posted = run.more["posted"]

    assert posted.status_code == 202
    assert posted.headers["Location"] == f"/v1/enrollments/{run.record['id']}"
    assert posted.json()["links"]["self"] == posted.headers["Location"]
    assert posted.json()["status"] == "PENDING"


def test_get_works_the_moment_post_has_answered(ran: Ran) -> None:
    shown = ran(through_the_api).more["shown at once"]

    assert shown.status_code == 200
    assert shown.json()["policy"] == {
        "tokens": [
            {
                "name": "token",
                "timelock": 0,
                "timeout": 3600,
                "groups": [{"name": "group", "quorum": 1, "approvers": ["person 1", "person 2"]}],
            }
        ]
    }


def test_the_same_request_again_is_the_same_enrollment(ran: Ran) -> None:
    run = ran(through_the_api)

    assert run.more["again"].status_code == 202
    assert run.more["again when ended"].status_code == 200
    assert run.more["again when ended"].json()["outcome"] == "ISSUED"
    assert run.count("POST", KEY) == run.count("POST", CSR) == 1


def test_another_request_under_the_same_id_is_a_conflict_and_changes_nothing(ran: Ran) -> None:
    run = ran(through_the_api)
    refused = run.more["another body"]

    assert refused.status_code == 409
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["enrollmentId"] == run.record["id"]
    assert refused.json()["error"] == "EnrollmentConflictError"
    assert run.record["request"]["reason"] == "OPS-42"


def test_whoever_waits_sees_who_is_outstanding_and_when_the_next_look_is_due(ran: Ran) -> None:
    shown = ran(through_the_api).more["waiting"]

    assert [(one["name"], one["decision"]) for one in shown["approvals"]] == [
        ("person 1", "outstanding"),
        ("person 2", "outstanding"),
    ]
    assert shown["times"]["requested"] < shown["times"]["nextLook"]
    assert shown["times"]["nextLook"] < shown["times"]["windowEnds"]


def test_what_was_issued_is_shown_with_its_approvals_and_handed_out(ran: Ran) -> None:
    run = ran(through_the_api)
    shown, pem, der = (run.more[name] for name in ("issued", "pem", "der"))

    assert_issued(run)
    assert decisions(run) == {"person 1": "none", "person 2": "approved"}
    assert shown["status"] == shown["outcome"] == "ISSUED"
    assert shown["csr"] == {k: v for k, v in run.document["csr"].items() if k != "pem"}
    assert shown["request"] == {k: v for k, v in run.more["request"].items() if k != "enrollmentId"}
    assert pem.headers["Content-Type"] == "application/x-pem-file"
    assert pem.text == run.document["csr"]["pem"]
    assert der.headers["Content-Type"] == "application/pkcs10"
    assert der.content == base64.b64decode("".join(pem.text.splitlines()[1:-1]))
    assert csr.read_csr(pem.text).sha256 == shown["csr"]["sha256"]


def test_there_is_no_csr_before_it_is_issued_nor_in_another_form(ran: Ran) -> None:
    run = ran(through_the_api)

    assert run.more["too early"].status_code == 409
    assert run.more["neither"].status_code == 406


def test_an_issued_enrollment_cannot_be_cancelled(ran: Ran) -> None:
    refused = ran(through_the_api).more["cancelled too late"]

    assert refused.status_code == 409
    assert "ISSUED" in refused.json()["detail"]


def test_the_caller_is_on_record_and_in_the_event(ran: Ran) -> None:
    run = ran(through_the_api)

    assert run.record["origin"]["principal"] == run.more["user"]
    assert run.record["origin"]["door"] == "api"
    for event in run.events:
        said = event["detail"]["origin"]
        assert {name: value for name, value in said.items() if value} == run.record["origin"]


@act
def claims_to_be_the_api(case: Case) -> Run:
    (one,) = people(1)
    request = case.request(token(group(one)))
    forged = {"door": "api", "id": "x", "principal": "arn:aws:iam::1:user/ceo"}
    arn = case.start(request, **forged)
    case.decline(one)
    return case.end(arn)


def test_whoever_starts_executions_cannot_pass_as_another_caller(ran: Ran) -> None:
    run = ran(claims_to_be_the_api)

    assert "principal" not in run.record["origin"]
    assert "ceo" not in str(run.events)


# Cancelling, at every state ----------------------------------------------------------------------


def assert_cancelled(run: Run) -> None:
    """Cancelled for everyone who looks, by name, and never issued."""
    assert run.more["answer"].status_code == 202
    assert run.more["answer"].json()["status"] == "CANCELLING"
    assert run.status == "SUCCEEDED"
    assert run.document["outcome"] == run.record["outcome"] == run.record["status"] == "CANCELLED"
    assert run.endings == ["Enrollment Cancelled"]
    assert run.ending["detail"]["cancel"]["by"] == run.more["user"]
    assert run.document["csr"] is None
    assert "request.pem" not in run.objects
    assert not [one for one in run.requests if one["status"] in ("PENDING", "APPROVED")]


def cancelled(case: Case, user: Caller, arn: str | None = None) -> Run:
    answer = user.call("DELETE", f"/enrollments/{case.id}")
    arn = arn or str(case.until(lambda: case.record().get("executionArn"), "execution"))
    run = case.end(arn)
    run.more.update(user=user.arn, answer=answer)
    return run


@act
def cancelled_at_once(case: Case) -> Run:
    (one,) = people(1)
    user = caller(case)
    user.call("POST", "/enrollments", case.request(token(group(one))))
    return cancelled(case, user)


def test_cancelled_right_after_the_post(ran: Ran) -> None:
    run = ran(cancelled_at_once)

    assert_cancelled(run)


@act
def cancelled_while_waiting(case: Case) -> Run:
    (one,) = people(1)
    user = caller(case)
    path = f"/enrollments/{case.id}"
    # Nothing can be executed before the timelock, so the next look is far away.
    request = case.request(token(group(one), timelock=DAY_SECONDS, timeout=2 * DAY_SECONDS))
    user.call("POST", "/enrollments", request)
    asked = case.await_request()
    answer = user.call("DELETE", path)
    case.await_calls(REQUEST, 1, "DELETE")
    looked = [call for call in case.state()["requests"] if call["id"] == asked["id"]]
    again = user.call("DELETE", path)
    run = case.end(str(case.record()["executionArn"]))
    ended = user.call("DELETE", path)
    run.more.update(user=user.arn, answer=answer, again=again, ended=ended, at_once=looked)
    return run


def test_the_tsb_is_told_at_once_and_once(ran: Ran) -> None:
    run = ran(cancelled_while_waiting)

    assert_cancelled(run)
    assert run.more["at_once"][0]["status"] == "CANCELLED"
    assert run.count("DELETE", REQUEST) == 1
    assert run.record["cancel"]["told"]


def test_cancelling_twice_is_the_same_as_once(ran: Ran) -> None:
    run = ran(cancelled_while_waiting)

    assert run.more["again"].status_code == 202
    assert run.more["again"].json()["cancel"]["at"] == run.more["answer"].json()["cancel"]["at"]
    assert run.more["ended"].status_code == 200
    assert run.more["ended"].json()["outcome"] == "CANCELLED"


def cancelled_during(method: str, path: str) -> Act:
    """Cancelled while this call of TSB is under way."""

    def during(case: Case) -> Run:
        (one,) = people(1)
        user = caller(case)
        case.fault(method, path, "delay", seconds=MEANWHILE_SECONDS)
        user.call("POST", "/enrollments", case.request(token(group(one))))
        if path == ATTRIBUTES:  # StoreCsr's: the TSB has executed already
            case.approve(one)
        case.await_calls(path, 1, method)
        return cancelled(case, user)

    return act(during)


DURING = {
    "CreateKey": cancelled_during("POST", KEY),
    "RequestCsr": cancelled_during("POST", CSR),
    "PollRequest": cancelled_during("GET", REQUEST),
    "StoreCsr": cancelled_during("POST", ATTRIBUTES),
}


@pytest.mark.parametrize("state", DURING)
def test_cancelled_during_a_state(ran: Ran, state: str) -> None:
    run = ran(DURING[state])

    assert_cancelled(run)
    assert run.count("POST", CSR) == (0 if state == "CreateKey" else 1)
    assert run.count("DELETE", REQUEST) <= 2  # one of CancelRequest, one of PollRequest


def test_what_is_cancelled_is_never_issued_even_where_the_tsb_has_executed(ran: Ran) -> None:
    assert ran(DURING["StoreCsr"]).requests[0]["status"] == "EXECUTED"


@act
def cancelled_while_the_key_is_discarded(case: Case) -> Run:
    (one,) = people(1)
    user = caller(case)
    case.fault("POST", CSR, "drop", executed=True)
    case.fault("POST", DELETE_KEY, "delay", seconds=MEANWHILE_SECONDS)
    user.call("POST", "/enrollments", case.request(token(group(one))))
    case.await_calls(DELETE_KEY, 1, "POST")
    return cancelled(case, user)


def test_cancelled_while_the_key_is_discarded(ran: Ran) -> None:
    run = ran(cancelled_while_the_key_is_discarded)

    assert_cancelled(run)
    assert run.count("POST", KEY) == run.count("POST", CSR) == 1


@act
def cancelled_though_the_tsb_will_not_listen(case: Case) -> Run:
    (one,) = people(1)
    user = caller(case)
    case.fault("DELETE", REQUEST, "status", httpStatus=503, times=None)
    user.call("POST", "/enrollments", case.request(token(group(one), timelock=600, timeout=6000)))
    case.await_request()
    answer = user.call("DELETE", f"/enrollments/{case.id}")
    case.approve(one)
    case.advance(600)
    run = case.end(str(case.record()["executionArn"]))
    run.more.update(user=user.arn, answer=answer)
    return run


def test_cancelled_on_record_is_cancelled_even_where_the_tsb_cannot_be_told(ran: Ran) -> None:
    run = ran(cancelled_though_the_tsb_will_not_listen)

    assert run.document["outcome"] == "CANCELLED"
    assert run.endings == ["Enrollment Cancelled"]
    assert run.ending["detail"]["cancel"]["by"] == run.more["user"]
    assert "request.pem" not in run.objects
    assert "told" not in run.record["cancel"]


# Many at once ------------------------------------------------------------------------------------

MANY, REPEATED = 40, 10


@act
def fifty_at_once(case: Case) -> Run:
    (one,) = people(1)
    user = caller(case)
    # They wait for their timelock, so that they cost nobody else a look.
    base = case.request(token(group(one), timelock=DAY_SECONDS, timeout=2 * DAY_SECONDS))
    base["key"].update(algorithm="EC", curveOid="1.2.840.10045.3.1.7")  # made in no time
    del base["key"]["keySize"]
    base["csr"]["signatureAlgorithm"] = "SHA256_WITH_ECDSA"
    bodies = []
    for number in range(MANY):
        body = fresh(base)
        del body["enrollmentId"]
        body["key"]["label"] = body["csr"]["signKeyName"] = f"{case.label}.{number}"
        bodies.append((f"{case.id}-{number}", body))

    def post(one: tuple[str, Json]) -> requests.Response:
        return user.call("POST", "/enrollments", one[1], headers={"Idempotency-Key": one[0]})

    with ThreadPoolExecutor(MANY + REPEATED) as pool:
        answers = list(pool.map(post, [*bodies, *bodies[:REPEATED]]))
    mine, pages, at = [], 0, ""
    while True:
        page = user.call("GET", f"/enrollments?limit=25{at}").json()
        mine += [one for one in page["enrollments"] if str(one["keyLabel"]).startswith(case.label)]
        pages += 1
        if page["next"] is None:
            break
        at = f"&next={page['next']}"
    for one in mine:
        user.call("DELETE", one["links"]["self"].removeprefix("/v1"))
    run = case.end(str(case.until(lambda: cancelled_execution(user, mine[0]), "end")), event=False)
    run.more.update(answers=answers, mine=mine, pages=pages)
    return run


def cancelled_execution(user: Caller, one: Json) -> str | None:
    shown = user.call("GET", one["links"]["self"].removeprefix("/v1")).json()
    return str(shown["executionArn"]) if shown["outcome"] == "CANCELLED" else None


def test_fifty_submissions_with_ten_repeated_keys_are_forty_enrollments(ran: Ran) -> None:
    found = ran(fifty_at_once).more

    assert Counter(answer.status_code for answer in found["answers"]) == {202: MANY + REPEATED}
    ids = Counter(answer.json()["enrollmentId"] for answer in found["answers"])
    assert sorted(ids.values()) == [1] * (MANY - REPEATED) + [2] * REPEATED
    assert {one["enrollmentId"] for one in found["mine"]} == set(ids)


def test_the_list_goes_through_its_pages_newest_first_and_repeats_nobody(ran: Ran) -> None:
    found = ran(fifty_at_once).more
    times = [one["times"]["accepted"] for one in found["mine"]]

    assert found["pages"] > 1
    assert len(found["mine"]) == MANY
    assert times == sorted(times, reverse=True)


# Refused before anything starts ------------------------------------------------------------------


@pytest.fixture(scope="module")
def user(stack: Stack) -> Caller:
    return Caller(stack, "somebody")


def test_unsigned_and_wrongly_signed_calls_are_refused(stack: Stack, user: Caller) -> None:
    class Unsigned(requests.auth.AuthBase):
        def __call__(self, call: requests.PreparedRequest) -> requests.PreparedRequest:
            return call

    stranger = Caller(stack, "stranger", may_call=False)
    for wrong in (Unsigned(), Signature(user.access_key, "wrong"), stranger.signature):
        for method, path in (
            ("GET", "/health"),
            ("POST", "/enrollments"),
            ("DELETE", "/enrollments/x"),
        ):
            answer = user.call(method, path, {} if method == "POST" else None, auth=wrong)
            assert answer.status_code == 403, (wrong, method, path)


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
    user: Caller, body: str, headers: dict[str, str], status: int, field: str | None
) -> None:
    answer = user.call("POST", "/enrollments", body, headers=headers)

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["action"]
    assert field in ([None] if field is None else [one["field"] for one in problem["errors"]])


def test_a_request_that_cannot_be_approved_is_refused_before_anything_exists(
    case: Case, user: Caller
) -> None:
    request = case.request(token(group(*people(1)), timeout=601))

    answer = user.call("POST", "/enrollments", request)

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
    user: Caller, query: str, field: str
) -> None:
    answer = user.call("GET", f"/enrollments?{query}")

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_the_list_can_be_asked_by_status_and_time(ran: Ran, user: Caller) -> None:
    issued, cancelled = ran(through_the_api).record, ran(cancelled_at_once).record
    at = issued["times"]["accepted"]

    by_status = user.call("GET", "/enrollments?status=CANCELLED&limit=100").json()["enrollments"]
    by_time = user.call("GET", f"/enrollments?from={at}&to={at}&limit=100").json()["enrollments"]

    assert cancelled["id"] in [one["enrollmentId"] for one in by_status]
    assert {one["status"] for one in by_status} == {"CANCELLED"}
    assert issued["id"] in [one["enrollmentId"] for one in by_time]
    assert {one["times"]["accepted"] for one in by_time} == {at}


def test_health_says_what_the_tsb_is_or_what_is_wrong(stack: Stack, user: Caller) -> None:
    fine = user.call("GET", "/health")
    refusal = {"kind": "status", "httpStatus": 503}
    stack.control("POST", "/faults", {"method": "GET", "path": "/v1/versionInfo", "fault": refusal})
    ill = user.call("GET", "/health")

    assert fine.status_code == 200
    assert fine.json()["tsb"]["version"]
    assert ill.status_code == 503
    assert "TsbUnavailableError" in ill.json()["detail"]
    assert ill.headers["Content-Type"] == "application/problem+json"


# What the README shows ---------------------------------------------------------------------------


def test_the_commands_of_the_readme_work(stack: Stack, user: Caller, tmp_path: Path) -> None:
    section = README.read_text().partition("\n## The HTTP API\n")[2]
    commands = section.partition("```sh\n")[2].partition("```")[0]
    commands = commands.replace("<ApiUrl>", stack.api_url).replace("<region>", REGION)
    commands = commands.replace("--output web.der", f"--output {tmp_path / 'web.der'}")

    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=README.parent,
        env={**os.environ, **user.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    answers = [json.loads(text) for text in ran.stdout.replace("}{", "}\n{").splitlines()]
    posted, listed, shown, cancelled, healthy = answers
    assert posted["enrollmentId"] == shown["enrollmentId"] == "web-2026-11"
    assert "web-2026-11" in [one["enrollmentId"] for one in listed["enrollments"]]
    assert json.loads((tmp_path / "web.der").read_text())["status"] == 409  # not yet issued
    assert cancelled["status"] == "CANCELLING"
    assert healthy["status"] == "ok"


# The whole of docs/openapi.json ------------------------------------------------------------------

DRAWN = json.loads(OPENAPI.read_text())
# Every call is signed on its way out; what unsigned calls get has its own test above.
del DRAWN["security"]
SCHEMA = schemathesis.openapi.from_dict(
    DRAWN,
    config=SchemathesisConfig.from_dict(
        {
            # JSON Schema cannot say all that a request must be (a quorum that can be reached, a key
            # that can be read), nor that the id is new.
            "checks": {
                "positive_data_acceptance": {
                    "expected-statuses": ["2xx", 401, 403, 404, 406, 409, 422, "5xx"]
                }
            },
            # API Gateway answers a method that no path has with 403, before anybody is asked.
            "phases": {"coverage": {"unexpected-methods": []}},
        }
    ),
)


@SCHEMA.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_api_is_as_its_openapi_file_says(
    case: schemathesis.Case[Any], stack: Stack, user: Caller
) -> None:
    answer = case.call(base_url=stack.api_url, auth=user.signature)

    assert answer.status_code != 500
    case.validate_response(answer)
