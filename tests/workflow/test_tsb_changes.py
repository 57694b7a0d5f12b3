"""What operators change at the TSB itself, by its own calls and approvals, and how it answers."""

import json
from typing import Any

import pytest

from local.approver import Approver
from local.engine.stack import InProcessStack
from local.tsb_simulator.attestation import Layout
from tests.case import Case, Json, assert_issued, group, rule, token

ADA, BERT = (Approver.generate(name, "ec") for name in ("Ada", "Bert"))
RULES = ("ruleBlock", "ruleUnblock", "ruleModify")


def issue(case: Case) -> None:
    """An issued CSR, and a key whose other rules name Bert."""
    request = case.request(token(group(ADA)))
    request["key"]["policy"].update(dict.fromkeys(RULES, rule(token(group(BERT)))))
    arn = case.start(request)
    case.approve(ADA)
    assert_issued(case.end(arn))


def change(
    case: Case, stack: InProcessStack, path: str, body: Json, role: str = "keyOperation"
) -> None:
    """Ask TSB for a change, and let Bert approve it."""
    headers = {"x-api-key": stack.api_keys[role][0]}
    reply = stack.simulator.handle("POST", path, headers, json.dumps(body).encode())
    (request_id,) = json.loads(reply.body).values()
    (task,) = BERT.tasks(case.approver_client, request_id)
    BERT.approve(case.approver_client, task)


def drifted(stack: InProcessStack) -> bool:
    """Whether AuditKeys finds the only key changed."""
    answer: Any = stack.call("AuditKeys", {})
    return bool(answer["drifted"])


def drift(case: Case) -> list[str]:
    return list(case.record()["drift"]["codes"])


def test_a_key_that_is_blocked_has_drifted_until_it_is_unblocked(
    case: Case, stack: InProcessStack
) -> None:
    issue(case)
    assert not drifted(stack)

    change(case, stack, "/v1/block", {"blockRequest": {"blockKeyName": case.label}})
    assert drifted(stack)
    assert drift(case) == ["KEY_BLOCKED", "KEY_POLICY", "ATTESTATION_POLICY"]

    change(case, stack, "/v1/unblock", {"unblockRequest": {"unblockKeyName": case.label}})
    assert not drifted(stack)
    assert drift(case) == []


def test_a_key_with_other_rules_has_drifted(case: Case, stack: InProcessStack) -> None:
    issue(case)
    rules = dict.fromkeys(("ruleUse", *RULES), rule(token(group(BERT))))
    body = {"modifyRequest": {"modifyKeyName": case.label, "policy": rules}}

    change(case, stack, "/v1/modify", body, "keyManagement")

    assert drifted(stack)
    assert drift(case) == ["KEY_POLICY", "ATTESTATION_POLICY"]


@pytest.mark.parametrize("layout", ["recorded", "flat"])
def test_names_beyond_ascii_are_read_in_raw_utf_8_and_in_both_layouts(
    case: Case, stack: InProcessStack, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack.simulator.switches, "attestation_layout", layout)
    jurg = Approver.generate("Jürg Müller ✓ 'J'", "ec")
    arn = case.start(case.request(token(group(jurg))))

    case.approve(jurg)

    assert_issued(case.end(arn))
