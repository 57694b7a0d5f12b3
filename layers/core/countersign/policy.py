"""What a policy (TSB's Smart Key Attributes) asks for: of whom, how many, and by when.

A rule's tokens are alternatives, a token's groups must all agree, a group needs `quorum` of its
approvers. Source: TSB documentation, Smart Key Attributes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from countersign.models import (
    Approval,
    Approver,
    GroupSummary,
    OpenGroup,
    Policy,
    PolicySummary,
    Rule,
    TokenSummary,
)
from countersign.spki import fingerprint, spki_sha256

ONBOARDED = "onboarded "  # begins the identity of an approver whose key only TSB knows
RULES = {
    "ruleUse": "rule_use",
    "ruleBlock": "rule_block",
    "ruleUnblock": "rule_unblock",
    "ruleModify": "rule_modify",
}


def window_seconds(policy: Policy) -> int:
    """How long approvals of a use are collected: the longest token; 0 is without limit."""
    timeouts = [token.timeout for token in policy.rule_use.tokens]
    return 0 if 0 in timeouts else max(timeouts)


def timelock_seconds(policy: Policy) -> int:
    """Before this no use can be executed, whoever agreed."""
    return min(token.timelock for token in policy.rule_use.tokens)


type Names = Mapping[str, str]  # of people, by the fingerprint of each of their keys


def approvers(policy: Policy, names: Names) -> tuple[Approver, ...]:
    """Everybody whom `ruleUse` asks, once each, in the order of the policy.

    Args:
        policy: whose use is asked for.
        names: the directory's; who is not in there is called what the policy calls him.
    """
    known: dict[str, Approver] = {}
    for _, approval in approvals_of(policy.rule_use, ""):
        known.setdefault(identity(approval), named(approval, names))
    return tuple(known.values())


def summary(policy: Policy, names: Names) -> PolicySummary:
    """`ruleUse` for people: how many of whom, by the directory's names."""
    return PolicySummary(
        tokens=tuple(
            TokenSummary(
                name=token.name,
                timelock=token.timelock,
                timeout=token.timeout,
                groups=tuple(
                    GroupSummary(
                        name=group.name,
                        quorum=group.quorum,
                        approvers=tuple(
                            named(approval, names).name for approval in group.approvals
                        ),
                    )
                    for group in token.groups or ()
                ),
            )
            for token in policy.rule_use.tokens
        )
    )


def decided(
    asked: tuple[Approver, ...],
    *,
    approved: list[str],
    declined: list[str],
    outstanding: list[str],
    names: Names,
) -> tuple[Approver, ...]:
    """`asked` with what TSB's three lists of base64 SPKIs say of each.

    A key that the policy does not name is kept, under the directory's name for it or its
    fingerprint: hiding it would hide that a stranger approved. So is what is no key at all.
    """
    said: dict[str, Any] = {}
    for decision, keys in (
        ("outstanding", outstanding),
        ("declined", declined),
        ("approved", approved),
    ):
        said.update({_identity(key): decision for key in keys})
    result = [
        one.model_copy(update={"decision": said.pop(one.spki_sha256 or "", "none")})
        for one in asked
    ]
    strangers = (
        Approver(name=names.get(digest, unnamed(digest)), spki_sha256=digest, decision=decision)
        for digest, decision in said.items()
    )
    return (*result, *strangers)


def _identity(listed: str) -> str:
    return fingerprint(listed) or hashlib.sha256(listed.encode()).hexdigest()


def open_groups(asked: PolicySummary, approvers: tuple[Approver, ...]) -> tuple[OpenGroup, ...]:
    """The groups of the use rule whose quorum `approvers` have not reached; none once a token has.

    Tokens are alternatives, so each is listed with what it lacks. The approval of a name that only
    TSB can resolve is counted under no group: TSB reports keys.

    Args:
        asked: the policy's summary on record; names stand for people there as in `approvers`.
        approvers: what a look at TSB found.
    """
    approved = {one.name for one in approvers if one.decision == "approved"}
    found: list[OpenGroup] = []
    for token in asked.tokens:
        lacking = [
            OpenGroup(token=token.name, group=group.name, quorum=group.quorum, approved=number)
            for group in token.groups
            if (number := len(approved & {*group.approvers})) < group.quorum
        ]
        if not lacking:
            return ()
        found += lacking
    return tuple(found)


def effective(policy: Policy) -> dict[str, Any]:
    """What the policy means, free of the names of tokens and groups and of any order.

    Two policies are the same for us when these are equal: TSB may echo a certificate's CN as name,
    and writes the HSM's order.
    """
    return {
        "blocked": policy.key_status.blocked,
        **{name: _effective_rule(getattr(policy, attribute)) for name, attribute in RULES.items()},
    }


def _effective_rule(rule: Rule | None) -> list[Any] | None:
    if rule is None:
        return None
    return sorted(
        [
            token.timelock,
            token.timeout,
            sorted(
                [group.quorum, sorted(identity(approval) for approval in group.approvals)]
                for group in token.groups or ()
            ),
        ]
        for token in rule.tokens
    )


def approvals_of(rule: Rule, path: str) -> Iterator[tuple[str, Approval]]:
    """Every approval of a rule that lies at `path`, with its own path."""
    for t, token in enumerate(rule.tokens):
        for g, group in enumerate(token.groups or ()):
            for a, approval in enumerate(group.approvals):
                yield f"{path}.tokens.{t}.groups.{g}.approvals.{a}", approval


@lru_cache(maxsize=1024)  # a policy names the same few keys in every rule
def identity(approval: Approval) -> str:
    """The fingerprint of the approver's key, or the name where only TSB knows the key.

    Raises:
        ValueError: the approval's value is neither a public key nor a certificate.
    """
    if approval.type == "onboarded_approver_certificate":
        return f"{ONBOARDED}{approval.name}"
    from countersign.csr import approver_public_key  # noqa: PLC0415  a look needs no certificate

    return spki_sha256(approver_public_key(approval.type, approval.value or ""))


def approver(approval: Approval) -> Approver:
    """The approver whom an approval of a policy names, outstanding."""
    if approval.type == "onboarded_approver_certificate":
        return Approver(name=approval.name or "", spki_sha256=None)
    digest = identity(approval)
    name = approval.name
    if not name and approval.type == "certificate":
        from countersign.csr import certificate_common_name  # noqa: PLC0415

        name = certificate_common_name(approval.value or "")
    return Approver(name=name or unnamed(digest), spki_sha256=digest)


def named(approval: Approval, names: Names) -> Approver:
    """As `approver`, under the directory's name where it knows one."""
    one = approver(approval)
    return one.model_copy(update={"name": names.get(one.spki_sha256 or "", one.name)})


def unnamed(digest: str) -> str:
    """What a key that nobody named is called."""
    return f"key sha256:{digest[:16]}"
