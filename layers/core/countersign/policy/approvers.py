"""The approvers that a policy (TSB's Smart Key Attributes) asks, by their keys' fingerprints."""

from functools import lru_cache

from countersign.models import (
    Approval,
    Approver,
    GroupSummary,
    Policy,
    PolicySummary,
    TokenSummary,
)
from countersign.policy.certificates import approver_public_key, certificate_common_name
from countersign.policy.rules import Names, approvals_of, unnamed
from countersign.spki import spki_sha256

ONBOARDED = "onboarded "  # prefix of the identity of an approver whose key only TSB knows


def approvers(policy: Policy, names: Names) -> tuple[Approver, ...]:
    """Everybody whom `ruleUse` asks, once each, in the order of the policy.

    Args:
        policy: the policy of the key to be used.
        names: people's names in the directory. Approvers who are not in it have the name in the
            policy.
    """
    known: dict[str, Approver] = {}
    for _, approval in approvals_of(policy.rule_use, ""):
        known.setdefault(identity(approval), named(approval, names))
    return tuple(known.values())


def summary(policy: Policy, names: Names) -> PolicySummary:
    """`ruleUse` for people: how many of which approvers, by the directory's names."""
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


def people(policy: Policy, shown: PolicySummary) -> set[frozenset[str]]:
    """Which approvers of `ruleUse` are one person, by the names in its summary.

    Raises:
        ValueError: it is the summary of another policy.
    """
    names = [name for token in shown.tokens for group in token.groups for name in group.approvers]
    found: dict[str, set[str]] = {}
    for (_, approval), name in zip(approvals_of(policy.rule_use, ""), names, strict=True):
        found.setdefault(name, set()).add(identity(approval))
    return {frozenset(one) for one in found.values()}


@lru_cache(maxsize=1024)  # a policy has the same few keys in every rule
def identity(approval: Approval) -> str:
    """The fingerprint of the approver's key, or the name if only TSB knows the key.

    Raises:
        ValueError: the value of the approval is neither a public key nor a certificate.
    """
    if approval.type == "onboarded_approver_certificate":
        return f"{ONBOARDED}{approval.name}"
    return spki_sha256(approver_public_key(approval.type, approval.value or ""))


def approver(approval: Approval) -> Approver:
    """The approver that an approval of a policy names, with the decision outstanding."""
    if approval.type == "onboarded_approver_certificate":
        return Approver(name=approval.name or "", spki_sha256=None)
    digest = identity(approval)
    return Approver(name=given_name(approval) or unnamed(digest), spki_sha256=digest)


def given_name(approval: Approval) -> str | None:
    """The name that a policy gives an approver: its own, else that in the certificate."""
    if not approval.name and approval.type == "certificate":
        return certificate_common_name(approval.value or "")
    return approval.name or None


def named(approval: Approval, names: Names) -> Approver:
    """As `approver`, with the directory's name if there is one."""
    one = approver(approval)
    return one.model_copy(update={"name": names.get(one.spki_sha256 or "", one.name)})
