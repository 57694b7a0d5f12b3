"""That the search at the session's end (conftest.py) would find what it looks for."""

import pytest

from local.stack import Stack
from tests.e2e import canary
from tests.e2e.case import Case, Ran, Run, act, group, people, token

pytestmark = pytest.mark.e2e

KINDS = {"log", "execution", "history", "table", "object", "event"}


@act
def watched(case: Case) -> Run:
    (one,) = people(1)
    arn = case.start(case.request(token(group(one))))
    case.approve(one)
    return case.end(arn)


def test_the_search_sees_an_enrollment_in_every_kind_of_place(stack: Stack, ran: Ran) -> None:
    run = ran(watched)
    label = run.label.removeprefix("key.")
    seen = {where.split(" ")[0] for where, text in canary.places(stack) if label in text}

    assert seen >= KINDS


def test_the_search_knows_api_keys_tokens_and_private_keys(stack: Stack) -> None:
    hidden = canary.secrets(stack)

    assert stack.api_keys["keyOperation"][0] in hidden
    assert canary.TOKEN in hidden
    assert any("PRIVATE KEY" in one for one in hidden)
    assert not any("BEGIN CERTIFICATE" in one for one in hidden)
