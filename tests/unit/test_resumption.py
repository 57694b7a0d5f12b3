"""Which ended enrollments can be resumed: the rule, as a table."""

from typing import Any, cast

import pytest

from countersign import resumption
from countersign.record import Record

FAILED: dict[str, Any] = {
    "id": "web-2026-11",
    "attempt": 1,
    "outcome": "FAILED",
    "announced": "2026-11-26T12:00:00Z",
    "error": {"name": "Runtime.ImportModuleError"},
    "steps": {"csr": {"intent": "one", "requestId": "r", "status": "EXECUTED"}},
}


def failed(**different: Any) -> Record:
    """A record that can be resumed, but for what is different; None: it is absent."""
    values = {**FAILED, **different}
    return cast(Record, {name: one for name, one in values.items() if one is not None})


def step(**different: Any) -> dict[str, Any]:
    values = {**FAILED["steps"]["csr"], **different}
    return {"csr": {name: one for name, one in values.items() if one is not None}}


def disposed(result: str) -> dict[str, str]:
    return {"action": "delete", "result": result, "at": "2026-11-26T12:00:00Z"}


@pytest.mark.parametrize(
    "record",
    [
        failed(),
        failed(steps=step(status=None)),
        failed(steps=step(status="PENDING")),
        failed(steps=step(status="APPROVED")),
        failed(steps=step(intent=None)),
        failed(unusedKey=disposed("kept")),
        failed(unusedKey=disposed("started")),
        # Errors that leave the loop, and say nothing about what people agreed to.
        *(failed(error={"name": f"{name}Error"}) for name in ("TsbRefused", "InvalidEnrollment")),
        failed(error=None),
        failed(resumed=3, earlier=["arn"]),
        # The CSR is stored, and the approvers of the CA's key were surely not asked.
        failed(csr={}, steps={**step(), "certificate": {"caKeyLabel": "ca"}}),
    ],
)
def test_what_nobody_decided_can_be_resumed(record: Record) -> None:
    assert resumption.why_not(record) is None
    assert resumption.is_over(record) is None


@pytest.mark.parametrize(
    ("record", "why", "action"),
    [
        (failed(outcome=None), "has not ended", "Follow it"),
        (failed(outcome="ISSUED"), "ended as ISSUED", "another id"),
        (failed(outcome="EXPIRED"), "ended as EXPIRED", "another id"),
        (failed(steps=None), "before anybody was asked", "with the same id"),
        (failed(steps={"csr": {}}), "before anybody was asked", "with the same id"),
        (failed(steps=step(requestId=None)), "nobody knows which one", "cancel them"),
        (failed(cancel={"by": "ada"}), "was cancelled", "another id"),
        (failed(steps=step(status="REJECTED")), "request as REJECTED", "another id"),
        (failed(steps=step(status="EXPIRED")), "request as EXPIRED", "another id"),
        (failed(steps=step(status="CANCELLED")), "request as CANCELLED", "another id"),
        (failed(steps=step(status="FAILED")), "request as FAILED", "another id"),
        (
            failed(csr={}, steps={**step(), "certificate": {"caKeyLabel": "ca", "intent": "two"}}),
            "nobody knows which one",
            "cancel them",
        ),
        (failed(csr={}), "that nothing proves", "incident"),
        (failed(quarantine={"code": "REQUEST_ID"}), "not what was approved", "incident"),
        (failed(error={"name": "CsrInvalidError"}), "not what was approved", "incident"),
        *(
            (failed(unusedKey=disposed(result)), f"unusedKey: {result}", "another id")
            for result in ("deleted", "blocked", "asked", "asking", "none", "failed")
        ),
    ],
)
def test_what_was_decided_cannot_be_resumed_and_says_what_to_do(
    record: Record, why: str, action: str
) -> None:
    over, refused = resumption.is_over(record), resumption.why_not(record)

    assert over is not None
    assert refused is not None
    assert (over.message, over.action) == (refused.message, refused.action)
    assert refused.message.startswith("enrollment web-2026-11 ")
    assert why in refused.message
    assert action in refused.action


def test_an_end_that_is_not_announced_is_not_over_and_cannot_be_resumed_yet() -> None:
    refused = resumption.why_not(failed(announced=None))

    assert resumption.is_over(failed(announced=None)) is None
    assert refused is not None
    assert "not announced yet" in refused.message


def test_two_callers_name_the_same_execution_and_a_later_one_another() -> None:
    assert resumption.execution_name(failed()) == "web-2026-11-1-resume-1"
    assert resumption.execution_name(failed(attempt=2, resumed=1)) == "web-2026-11-2-resume-2"
