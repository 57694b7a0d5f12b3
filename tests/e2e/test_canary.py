"""That the search at the session's end (conftest.py) would find what it looks for."""

from typing import Any

import pytest

from local.stack import Stack
from tests.case import Case, Result, group, people, token
from tests.e2e import canary
from tests.e2e.scenarios import ResultOf, scenario

pytestmark = pytest.mark.e2e

KINDS = {"log", "execution", "history", "table", "object", "event"}


@scenario
def unlucky(case: Case) -> Result:
    """What is written down where things go wrong: refusals, no answers, a forgery."""
    (one,) = people(1)
    for path in ("/v1/key", "/v1/certificate/request"):
        case.fault("POST", path, "status", httpStatus=429)
    # Not 631: a worker would send the key to nobody for five minutes.
    rejected = {"errorCode": 617, "reason": "res.error.invalid.access.token", "message": "no"}
    case.fault("GET", "/v1/request/{id}", "status", httpStatus=401, body=rejected)
    case.fault("GET", "/v1/request/{id}", "drop", skip=1)
    arn = case.start(case.request(token(group(one))))
    case.await_calls("/v1/request/{id}", 3)
    case.fault("GET", "/v1/request/{id}", "forge", what="other_key", times=None)
    case.approve(one)
    return case.end(arn)


def test_the_search_sees_an_enrollment_in_every_kind_of_place(
    stack: Stack, result: ResultOf
) -> None:
    ended = result(unlucky)
    name = ended.label.removeprefix("key.")
    seen = {where.split(" ")[0] for where, text in canary.places(stack) if name in text}

    assert ended.record["quarantine"]["code"] == "CSR_PUBLIC_KEY"
    assert seen >= KINDS


def test_the_search_knows_api_keys_tokens_passwords_and_private_keys(stack: Stack) -> None:
    hidden: Any = canary.secrets(stack)

    assert stack.api_keys["keyOperation"][0] in hidden
    assert canary.TOKEN in hidden
    assert any("PRIVATE KEY" in one for one in hidden)
    assert not any("BEGIN CERTIFICATE" in one for one in hidden)
