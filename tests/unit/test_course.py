"""What a record cannot say of itself: the rules that no forgery of a whole folder shows alone."""

from typing import Any, cast, is_typeddict

import pytest
from pydantic import TypeAdapter, ValidationError

from countersign import models as m
from countersign import record as record_module
from countersign.evidence.course import Asked, Course, contradictions
from countersign.keys import unused
from countersign.record import Record
from local.approver import Approver
from tests.case import group, token

ADA = Approver.generate("Ada", "ec")
MACHINE = "arn:aws:states:eu-central-1:123456789012:execution:m"


def requested(**different: Any) -> m.EnrollmentRequest:
    """A request with a timelock of an hour."""
    locked = token(group(ADA), timelock=3600, timeout=7200)
    return m.EnrollmentRequest.read(
        {
            "key": {
                "label": "key",
                "algorithm": "EC",
                "curveOid": "1.3.132.0.34",
                "attributes": {
                    "decrypt": False,
                    "sign": True,
                    "unwrap": False,
                    "destroyable": True,
                },
                "policy": {"ruleUse": {"tokens": [locked]}, "keyStatus": {"blocked": False}},
            },
            "csr": {
                "signatureAlgorithm": "SHA384_WITH_ECDSA",
                "standardCertificateAttributes": {"commonName": "x"},
            },
        }
    ).model_copy(update=different)


def record(**different: Any) -> Record:
    """Executed after its timelock, then stopped."""
    whole: dict[str, Any] = {
        "executionArn": f"{MACHINE}:e",
        "attempt": 1,
        "origin": {"trigger": "start"},
        "request": {},
        "requestSha256": "0",
        "acceptedAt": "2026-11-26T12:00:00Z",
        "publicKeySha256": "0",
        "stage": "PollRequest",
        "outcome": "FAILED",
        "error": {"name": "x", "message": "y", "state": None},
        "times": {
            "accepted": "2026-11-26T12:00:00Z",
            "keyCreated": "2026-11-26T12:00:01Z",
            "ended": "2026-11-26T13:10:00Z",
        },
        "steps": {
            "csr": {
                "requestId": "r",
                "status": "EXECUTED",
                "times": {
                    "requested": "2026-11-26T12:00:05Z",
                    "executed": "2026-11-26T13:00:30Z",
                    "nextPoll": "2026-11-26T13:01:00Z",
                },
            }
        },
    }
    return cast(Record, {**whole, **different})


def told(record: Record, request: m.EnrollmentRequest | None = None) -> str:
    request = request or requested()
    approved = (m.Approver(name="Ada", spki_sha256="0", decision="approved"),)
    found = Course(record, request, csr=Asked(request.key.policy, approved))
    return "; ".join(contradictions(found))


def test_a_course_that_can_be_contradicts_nothing() -> None:
    assert told(record()) == ""


def test_nothing_is_executed_before_the_timelock_is_over() -> None:
    early = record()
    early["steps"]["csr"]["times"]["executed"] = "2026-11-26T12:50:00Z"

    assert "before its timelock was over" in told(early)
    assert told({**early, "clockSkewSeconds": -360}) == ""  # by TSB's clock it was then


@pytest.mark.parametrize(
    ("different", "says"),
    [
        (
            {"origin": {"trigger": "schedule", "id": "s", "time": "2026-11-26T12:02:00Z"}},
            "was yet to come",
        ),
        (
            {
                "origin": {
                    "trigger": "api",
                    "principal": "arn:aws:iam::999999999999:user/x",
                    "account": "123456789012",
                }
            },
            "origin.principal is",
        ),
        ({"resumed": 1, "earlier": [f"{MACHINE}2:e"]}, "of another state machine"),
        ({"stage": "DiscardKey"}, "stage is DiscardKey"),
        ({"stage": "CreateKey"}, "stage is CreateKey"),
        ({"clockSkewSeconds": 3, "publicKeySha256": None}, "has clockSkewSeconds"),
    ],
)
def test_what_cannot_be_is_said(different: dict[str, Any], says: str) -> None:
    assert says in told(record(**different))


def test_a_password_lies_where_the_execution_ran() -> None:
    key = requested().key

    def protected(account: str) -> m.EnrollmentRequest:
        arn = f"arn:aws:secretsmanager:eu-central-1:{account}:secret:x"
        secret = m.SecretReference(secret_arn=arn)
        return requested(key=key.model_copy(update={"password": secret}))

    assert told(record(), protected("123456789012")) == ""
    assert "of another partition, region or account" in told(record(), protected("1" * 12))


def disposal(result: str, **more: Any) -> m.DisposedKey:
    return m.DisposedKey.read(
        {"action": "delete", "result": result, "at": "2026-11-26T13:05:00Z", **more}
    )


def test_the_approvers_of_a_block_were_asked_by_a_request_of_its_own() -> None:
    wanted, rejected = requested(unused_key="block"), record(outcome="REJECTED", error=None)
    own = rejected["steps"]["csr"]["requestId"]

    def asked(request_id: str) -> m.DisposedKey:
        said = {"action": "block", "result": "asked", "requestId": request_id}
        return m.DisposedKey.read({**said, "at": "2026-11-26T13:05:00Z"})

    assert unused.is_possible(asked("another"), wanted, rejected)
    assert not unused.is_possible(asked(own), wanted, rejected)


def test_what_people_may_have_agreed_to_was_kept() -> None:
    wanted = requested(unused_key="delete")
    failed = record(error={"name": "TsbUnavailableError", "message": "x", "state": "StoreCsr"})
    kept = disposal("kept", reason=unused.undecided("TsbUnavailableError"))

    assert unused.is_possible(kept, wanted, failed)
    assert unused.is_possible(disposal("started"), wanted, failed)
    assert not unused.is_possible(disposal("deleted"), wanted, failed)
    assert not unused.is_possible(disposal("kept"), wanted, failed)


def test_a_decided_end_disposes_of_the_key_as_the_request_wants() -> None:
    wanted = requested(unused_key="delete")
    rejected = record(outcome="REJECTED", error=None)
    rejected["steps"]["csr"]["status"] = "REJECTED"
    undecided = disposal("kept", reason=unused.undecided("TsbUnavailableError"))

    assert unused.is_possible(disposal("deleted"), wanted, rejected)
    assert not unused.is_possible(undecided, wanted, rejected)
    assert not unused.is_possible(disposal("none", reason=unused.NO_KEY), wanted, rejected)
    assert not unused.is_possible(disposal("deleted", reason="x"), wanted, rejected)
    assert not unused.is_possible(disposal("deleted"), requested(), rejected)


DICTIONARIES = [one for one in vars(record_module).values() if is_typeddict(one)]


@pytest.mark.parametrize("form", DICTIONARIES, ids=lambda one: one.__name__)
def test_nothing_on_record_has_a_name_that_no_release_writes(form: type) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(form).validate_python({"nobody": "wrote this"})

    assert "extra_forbidden" in {one["type"] for one in refused.value.errors()}
