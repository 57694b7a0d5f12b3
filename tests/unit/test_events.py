"""What is said: schemas, samples, sizes. That it is said is shown by tests/e2e/test_events.py."""

import json
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from countersign import events
from countersign import models as m
from countersign.policy import approvers as policy_approvers
from countersign.policy.rules import open_groups
from countersign.record import Record
from countersign.request import intake
from countersign.states import close_enrollment, documents
from countersign.verification import csr
from local.generate import events as generated
from local.generate.events import SAMPLES, slug

ROOT = Path(__file__).parents[2]
ENTRY_BYTES = 256 * 1024  # Source: Amazon EventBridge, PutEvents: the size of an entry
ARN = "arn:aws:states:eu-central-1:111122223333:execution:countersign:web-2026-11"
SECRET_WORDS = ("password", "apikey", "api_key", "token_", "bearer", "privatekey", "secretarn")

type Json = dict[str, Any]


EVERY = (*events.CATALOGUE, *events.OF_KEYS)


def sample(event: type[events.Said]) -> Json:
    found: Json = json.loads((SAMPLES / f"{slug(event)}.json").read_text())
    return found


def test_schemas_registry_and_pages_are_what_the_models_say() -> None:
    assert {path: path.read_text() for path in generated.files()} == generated.files()


def test_every_event_has_one_sample_and_every_sample_an_event() -> None:
    assert {path.stem for path in SAMPLES.iterdir()} == {slug(one) for one in EVERY}


@pytest.mark.parametrize("event", EVERY, ids=slug)
def test_a_sample_is_what_its_schema_and_its_model_say(event: type[events.Said]) -> None:
    schema = generated.schema(event)
    jsonschema.Draft4Validator.check_schema(schema)

    jsonschema.Draft4Validator(schema).validate(sample(event))
    assert event.read(sample(event)["detail"]).dump() == sample(event)["detail"]


@pytest.mark.parametrize("event", EVERY, ids=slug)
def test_a_schema_refuses_what_lacks_a_field_and_allows_what_has_one_more(
    event: type[events.Said],
) -> None:
    validator = jsonschema.Draft4Validator(generated.schema(event))
    whole = sample(event)

    assert validator.is_valid({**whole, "detail": {**whole["detail"], "later": 1}})
    for name in whole["detail"]:
        less = {key: value for key, value in whole["detail"].items() if key != name}
        assert not validator.is_valid({**whole, "detail": less}), name
    assert not validator.is_valid({**whole, "detail-type": "Enrollment Approved"})


@pytest.mark.parametrize("event", events.CATALOGUE, ids=slug)
def test_an_event_correlates_and_holds_no_secret(event: type[events.Event]) -> None:
    whole = sample(event)
    text = json.dumps(generated.schema(event)).lower()

    assert whole["resources"] == [whole["detail"]["executionArn"]]
    assert whole["detail"]["enrollmentId"]
    assert whole["detail"]["schemaVersion"] == "1"
    assert not [word for word in SECRET_WORDS if word in text]


@given(st.text())
def test_a_text_for_a_chat_stands_in_json_as_it_is_and_pages_nobody(reason: str) -> None:
    detail = {**sample(events.AwaitingApproval)["detail"], "reason": reason, "text": ""}
    text = events.AwaitingApproval.read(detail).dump()["text"]

    assert json.loads(f'{{"text": "{text}"}}')["text"] == text
    assert "<" not in text
    assert len(text.splitlines()) == 1


# Sizes --------------------------------------------------------------------------------------------

WIDE = "\U0001f511"  # four bytes of UTF-8


ORIGIN = dict.fromkeys(("id", "principal", "account", "time"), WIDE * 1024)


def largest_record() -> Record:
    """As large as a record can get: more approvers and groups than are shown, the widest texts."""
    approver = {"type": "onboarded_approver_certificate", "name": WIDE * 4_999, "value": None}
    groups = [{"name": WIDE * 5_000, "quorum": 1, "approvals": [approver]}] * 300
    rule = {"tokens": [{"name": WIDE * 5_000, "timelock": 0, "timeout": 60, "groups": groups}]}
    requested = {"ruleUse": rule, "keyStatus": {"blocked": False}}
    key = {"label": WIDE * 255, "policy": requested}
    record: Any = {
        "id": "x" * 64,
        "executionArn": ARN,
        "attempt": 1,
        "origin": {**ORIGIN, "said": ORIGIN},
        "requestSha256": "0" * 64,
        "request": {"key": key, "reason": WIDE * 1_000},
        "policy": policy_approvers.summary(m.Policy.read(requested), {}).dump(),
        "acceptedAt": "2026-11-24T10:00:00Z",
        "times": {},
        "steps": steps([]),
        "cancel": {"by": WIDE * 5_000, "at": "2026-11-24T10:00:00Z"},
    }
    return cast(Record, record)


def steps(approvers: list[Json]) -> Json:
    times = {"windowEnds": "2026-11-24T10:00:00Z"}
    return {"csr": {"requestId": "0" * 64, "approvers": approvers, "times": times}}


def crowd(decision: str) -> list[Json]:
    name = WIDE * 5_000
    return [{"name": name, "spkiSha256": "0" * 64, "decision": decision}] * 300


def largest(outcome_name: str, decision: str) -> events.Event:
    long = WIDE * m.MAX_SHORT_TEXT
    asked: Any = steps(crowd(decision))
    record = cast(Record, {**largest_record(), "outcome": outcome_name, "steps": asked})
    if outcome_name == "ISSUED":
        pem = "A" * csr.MAX_BYTES
        record["csr"] = m.StoredCsr(
            bucket="b" * 63, key="k" * 99, version_id="v" * 99, sha256="0" * 64, pem=pem
        ).dump()
    if outcome_name == "FAILED":
        message = WIDE * m.MAX_TEXT
        record["error"] = m.Failure(
            name="n" * 99, message=message, field=long, reason=long, action=long
        ).dump()
    return events.ended(documents.document(record), record, ARN, record["origin"])


def entry_bytes(event: events.Event) -> int:
    """As EventBridge counts: source, detail type, detail and resources in UTF-8."""
    detail = json.dumps(event.dump(), ensure_ascii=False)
    return len(f"countersign{event.DETAIL_TYPE}{detail}{event.execution_arn}".encode())


@pytest.mark.parametrize("decision", ["approved", "declined", "none"])
@pytest.mark.parametrize("ending", m.Outcome)
def test_the_largest_end_fits_an_entry_of_the_bus(ending: str, decision: str) -> None:
    event = largest(ending, decision)

    assert isinstance(event, events.Ended)
    assert event.omitted_approver_count + len(event.approvers) == 300
    assert 32 * 1024 < entry_bytes(event) < ENTRY_BYTES


def test_the_largest_standing_and_acceptance_fit_an_entry_of_the_bus() -> None:
    approvers = tuple(m.Approver.read(one) for one in crowd("outstanding"))
    standing = events.waiting(largest_record(), approvers, "PENDING", first=True)

    assert standing.omitted_approver_count == 200
    assert len(standing.outstanding) == 100
    assert len(standing.open_groups) == 20
    assert entry_bytes(standing) < ENTRY_BYTES
    assert entry_bytes(events.accepted(largest_record())) < ENTRY_BYTES


def test_an_origin_too_long_for_an_event_is_refused_at_the_trigger() -> None:
    with pytest.raises(Exception, match=r"origin\.principal"):
        intake.split_input({"request": {}, "origin": {"principal": "x" * 1_025}})


def test_a_refusal_that_quotes_an_endless_field_name_is_cut() -> None:
    caught = m.CaughtError(
        state="AcceptEnrollment",
        error="InvalidEnrollmentError",
        cause=json.dumps(
            {
                "errorType": "InvalidEnrollmentError",
                "errorMessage": json.dumps({"message": "m" * 200_000, "field": "f" * 200_000}),
            }
        ),
    )

    failure = close_enrollment.failure(caught)

    assert len(failure.message) == m.MAX_TEXT
    assert len(failure.field or "") == m.MAX_SHORT_TEXT


# What is too long for an execution's end ---------------------------------------------------------

LETTERS = st.sampled_from(["a", '"', "\\", "\x01", "\n", "é", "漢", WIDE])
LONG = st.builds(lambda letter, number: letter * number, LETTERS, st.integers(0, 9_000))
NUMBERS = st.none() | st.integers(-(2**63), 2**63)


@settings(max_examples=50)
@given(
    approvers=st.lists(
        st.fixed_dictionaries(
            {
                "name": LONG,
                "spkiSha256": st.none() | LONG,
                "decision": st.sampled_from(["approved", "declined", "outstanding", "none"]),
            }
        ),
        max_size=4,
    ),
    error=st.fixed_dictionaries(
        {
            **dict.fromkeys(("name", "message"), LONG),
            **dict.fromkeys(("state", "field", "reason", "action"), st.none() | LONG),
            **dict.fromkeys(("errorCode", "httpStatus"), NUMBERS),
        }
    ),
)
def test_a_failure_fits_the_cause_of_an_execution_whatever_is_on_record(
    approvers: list[Json], error: Json
) -> None:
    asked: Any = steps(approvers * 100)
    record = cast(Record, {**largest_record(), "outcome": "FAILED", "error": error, "steps": asked})

    made = documents.document(record)
    cause = json.dumps(made.dump(), ensure_ascii=False, separators=(",", ":"))

    assert len(cause.encode()) <= 32_768
    assert made.error is not None
    assert len(made.error.name) <= 256
    assert len(made.approvers) == min(100, 100 * len(approvers))
    if len(error["message"]) <= 600:  # no letter takes more than six bytes
        assert made.error.message == error["message"]


# What a quorum lacks ------------------------------------------------------------------------------


def rules(*tokens: tuple[int, ...]) -> m.Policy:
    """Tokens of groups of two approvers each, named by their numbers; a group's quorum is given."""
    names = iter("abcdefgh")
    built = [
        {
            "name": f"token {number}",
            "timelock": 0,
            "timeout": 0,
            "groups": [
                {
                    "name": f"group {index}",
                    "quorum": quorum,
                    "approvals": [public_key(next(names)), public_key(next(names))],
                }
                for index, quorum in enumerate(quorums)
            ],
        }
        for number, quorums in enumerate(tokens)
    ]
    return m.Policy.read({"ruleUse": {"tokens": built}, "keyStatus": {"blocked": False}})


KEYS: dict[str, str] = {}


def public_key(name: str) -> Json:
    from local.approver import Approver

    KEYS.setdefault(name, Approver.generate(name, "ed25519").spki)
    return {"type": "public_key", "name": name, "value": KEYS[name]}


def approved(requested: m.Policy, names: str) -> tuple[m.Approver, ...]:
    return tuple(
        one.model_copy(update={"decision": "approved" if one.name in names else "none"})
        for one in policy_approvers.approvers(requested, {})
    )


def test_each_group_below_its_quorum_is_open() -> None:
    requested = rules((2, 1))

    found = open_groups(policy_approvers.summary(requested, {}), approved(requested, "a"))

    assert [(one.group, one.quorum, one.approved) for one in found] == [
        ("group 0", 2, 1),
        ("group 1", 1, 0),
    ]


def test_alternatives_are_open_side_by_side_until_one_is_complete() -> None:
    requested = rules((1, 1), (2,))

    assert [
        one.token
        for one in open_groups(policy_approvers.summary(requested, {}), approved(requested, "ae"))
    ] == [
        "token 0",
        "token 1",
    ]
    assert open_groups(policy_approvers.summary(requested, {}), approved(requested, "ef")) == ()


# Who cancelled ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "by"),
    [
        (
            {"cancel": {"by": "arn:aws:iam::111122223333:user/ada", "at": "t"}},
            "arn:aws:iam::111122223333:user/ada",
        ),
        ({"overdue": "t"}, "countersign"),
        ({}, None),
        ({"cancel": {"by": "ada", "at": "t"}, "overdue": "t"}, "ada"),
    ],
)
def test_a_cancellation_says_by_whom(record: Json, by: str | None) -> None:
    ended: Json = {**largest_record(), "outcome": "CANCELLED"}
    del ended["cancel"]
    whole = cast(Record, {**ended, **record})

    event = events.ended(documents.document(whole), whole, ARN, {})

    assert isinstance(event, events.Cancelled)
    assert (event.cancel and event.cancel.by) == by
    assert (event.cancel and event.cancel.at) == (by and "t")
