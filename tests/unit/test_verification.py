"""Who approved is enough, and who he is: rules against every subset of approvers."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from countersign import models as m
from countersign.spki import spki_sha256
from countersign.verification.checks import approval_checks
from local.approver import Approver

PEOPLE = [
    Approver(name, ec.generate_private_key(ec.SECP256R1()))
    for name in ("Ada", "Bert", "Carl", "Dora", "Emil")
]


def policy(*tokens: list[tuple[int, list[Any]]]) -> m.Policy:
    """Tokens of groups, each a quorum and its members: people, or names that only TSB knows."""
    return m.Policy.read(
        {
            "ruleUse": {
                "tokens": [
                    {
                        "name": "t",
                        "timelock": 0,
                        "timeout": 0,
                        "groups": [
                            {
                                "name": "g",
                                "quorum": quorum,
                                "approvals": [
                                    {"type": "onboarded_approver_certificate", "name": one}
                                    if isinstance(one, str)
                                    else {
                                        "type": "public_key",
                                        "name": one.name,
                                        "value": one.spki,
                                    }
                                    for one in members
                                ],
                            }
                            for quorum, members in groups
                        ],
                    }
                    for groups in tokens
                ]
            },
            "keyStatus": {"blocked": False},
        }
    )


def said(*people: Approver, names: dict[str, str] | None = None) -> list[m.Approver]:

    return [
        m.Approver(
            name=(names or {}).get(one.name, one.name),
            spki_sha256=spki_sha256(one.spki),
            decision="approved",
        )
        for one in people
    ]


def failed(rules: m.Policy, approved: list[m.Approver]) -> list[str]:
    checks = approval_checks(rules, approved)
    return [one.code for one in checks if one.result == "failed"]


ADA, BERT, CARL, DORA, EMIL = PEOPLE


def test_all_groups_of_one_token_must_agree() -> None:
    rules = policy([(1, [ADA, BERT]), (1, [CARL])], [(3, [ADA, BERT, DORA])])

    assert failed(rules, said(ADA, CARL)) == []
    assert failed(rules, said(ADA, BERT, DORA)) == []
    assert failed(rules, said(ADA, BERT)) == ["APPROVAL_QUORUM"]
    assert failed(rules, said()) == ["APPROVAL_QUORUM"]


def test_a_stranger_is_named_and_counts_for_nothing() -> None:
    rules = policy([(2, [ADA, BERT])])

    assert failed(rules, said(ADA, EMIL)) == ["APPROVER_NOT_IN_POLICY", "APPROVAL_QUORUM"]
    assert failed(rules, said(ADA, BERT, EMIL)) == ["APPROVER_NOT_IN_POLICY"]


@pytest.mark.parametrize("spelling", ["Ada", "ada", " ADA ", "A\u0064a"])
def test_two_keys_of_one_person_are_one_person(spelling: str) -> None:
    rules = policy([(2, [ADA, BERT, CARL])])
    names = {"Bert": spelling}

    assert failed(rules, said(ADA, BERT, names=names)) == ["APPROVAL_SAME_PERSON"]
    assert failed(rules, said(ADA, BERT, CARL, names=names)) == []


def test_a_key_that_the_policy_does_not_show_counts_as_an_onboarded_approver_s() -> None:
    rules = policy([(2, [ADA, "onboarded one"])])

    assert failed(rules, said(ADA, EMIL)) == []
    assert failed(rules, said(EMIL)) == ["APPROVAL_QUORUM"]
    assert failed(rules, said(ADA, DORA, EMIL)) == ["APPROVER_NOT_IN_POLICY", "APPROVAL_QUORUM"]


members = st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=4, unique_by=lambda one: one.name)
groups = members.flatmap(lambda some: st.tuples(st.integers(1, len(some)), st.just(some)))
tokens = st.lists(st.lists(groups, min_size=1, max_size=3), min_size=1, max_size=3)


@given(tokens, st.sets(st.sampled_from(range(len(PEOPLE)))))
def test_a_quorum_is_what_the_words_say(
    rules: list[list[tuple[int, list[Approver]]]], approved: set[int]
) -> None:
    people = [PEOPLE[index] for index in approved]
    enough = any(
        all(len([one for one in some if one in people]) >= quorum for quorum, some in groups_)
        for groups_ in rules
    )
    known = {one.name for groups_ in rules for _, some in groups_ for one in some}

    found = failed(policy(*rules), said(*people))

    assert ("APPROVAL_QUORUM" not in found) == enough
    assert ("APPROVER_NOT_IN_POLICY" in found) == any(one.name not in known for one in people)
    assert "APPROVAL_SAME_PERSON" not in found
