"""The HTTP API behind API Gateway: who may call, and that calls and answers pass through as sent.

What the API answers is shown by tests/workflow/test_api.py.
"""

import base64
from typing import Any

import pytest
import requests

from local.caller import Caller, Signature
from local.stack import Stack
from tests.case import Case, Result, assert_issued, group, people, token
from tests.e2e.scenarios import ResultOf, deployed, scenario

pytestmark = pytest.mark.e2e

REQUEST = "/v1/request/{id}"
TIMELOCK_SECONDS = 600


@scenario
def submitted(case: Case) -> Result:
    (one,) = people(1)
    user = Caller(deployed(case), case.id)
    requested, path = case.request(token(group(one))), f"/enrollments/{case.id}"
    said: dict[str, Any] = {"user": user.arn}
    said["posted"] = user.call("POST", "/enrollments", requested)
    said["another body"] = user.call("POST", "/enrollments", {**requested, "reason": "another"})
    case.approve(one)
    result = case.end(case.execution())
    said["again"] = user.call("POST", "/enrollments", requested)
    said["shown"] = user.call("GET", path)
    said["listed"] = user.call("GET", "/enrollments?status=ISSUED&limit=100")
    said["pem"] = user.call("GET", f"{path}/csr")
    said["der"] = user.call("GET", f"{path}/csr", headers={"Accept": "application/pkcs10"})
    result.more = said
    return result


def test_a_submission_and_its_csr_pass_through(result: ResultOf) -> None:
    issued = result(submitted)
    posted, pem, der = (issued.more[name] for name in ("posted", "pem", "der"))

    assert_issued(issued)
    assert posted.status_code == 202
    assert posted.headers["Location"] == f"/v1/enrollments/{issued.record['id']}"
    assert posted.json()["status"] == "PENDING"
    assert issued.more["again"].status_code == 200
    assert issued.more["shown"].json()["status"] == "ISSUED"
    listed = issued.more["listed"].json()["enrollments"]
    assert issued.record["id"] in [one["enrollmentId"] for one in listed]
    assert pem.headers["Content-Type"] == "application/x-pem-file"
    assert pem.text == issued.document["csr"]["pem"]
    assert der.headers["Content-Type"] == "application/pkcs10"
    assert der.content == base64.b64decode("".join(pem.text.splitlines()[1:-1]))


def test_the_api_s_own_refusals_pass_through(result: ResultOf) -> None:
    refused = result(submitted).more["another body"]

    assert refused.status_code == 409
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["error"] == "EnrollmentConflictError"


def test_who_asked_is_whom_the_signature_names(result: ResultOf) -> None:
    issued = result(submitted)

    assert issued.record["origin"]["principal"] == issued.more["user"]
    assert issued.record["origin"]["trigger"] == "api"


@scenario
def cancelled(case: Case) -> Result:
    (one,) = people(1)
    user = Caller(deployed(case), case.id)
    # Nothing can be executed before the timelock, so the next poll is seconds away.
    requested = case.request(token(group(one), timelock=TIMELOCK_SECONDS, timeout=6000))
    user.call("POST", "/enrollments", requested)
    case.await_calls(REQUEST, 1)
    answer = user.call("DELETE", f"/enrollments/{case.id}")
    case.await_calls(REQUEST, 1, "DELETE")
    looked = case.state()["requests"]
    result = case.end(case.execution())
    result.more = {"user": user.arn, "answer": answer, "at once": looked}
    return result


def test_a_cancellation_is_told_to_the_tsb_at_once(result: ResultOf) -> None:
    ended = result(cancelled)

    assert ended.more["answer"].status_code == 202
    assert ended.more["answer"].json()["status"] == "CANCELLING"
    assert [one["status"] for one in ended.more["at once"]] == ["CANCELLED"]
    assert ended.count("DELETE", REQUEST) == 1
    assert ended.document["outcome"] == ended.record["outcome"] == "CANCELLED"
    assert ended.endings == ["Enrollment Cancelled"]
    assert ended.ending["detail"]["cancel"]["by"] == ended.more["user"]


# Refused before anybody is asked ------------------------------------------------------------------


class Unsigned(requests.auth.AuthBase):
    def __call__(self, call: requests.PreparedRequest) -> requests.PreparedRequest:
        return call


def test_unsigned_and_wrongly_signed_calls_are_refused(stack: Stack) -> None:
    user = Caller(stack, "somebody")
    stranger = Caller(stack, "stranger", may_call=False)
    for wrong in (Unsigned(), Signature(user.access_key, "wrong"), stranger.signature):
        for method, path in (
            ("GET", "/health"),
            ("POST", "/enrollments"),
            ("DELETE", "/enrollments/x"),
            ("POST", "/enrollments/x/resume"),
        ):
            answer = user.call(method, path, {} if method == "POST" else None, auth=wrong)
            assert answer.status_code == 403, (wrong, method, path)
