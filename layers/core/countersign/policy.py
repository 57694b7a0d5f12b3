"""What a policy (TSB's Smart Key Attributes) asks for: of whom, how many, and by when.

A rule's tokens are alternatives, a token's groups must all agree, a group needs `quorum` of its
approvers. Source: TSB documentation, Smart Key Attributes.
"""

from collections.abc import Iterator
from typing import Any

from countersign.csr import approver_public_key, certificate_common_name, spki_sha256
from countersign.errors import InvalidEnrollmentError
from countersign.models import (
    Approval,
    Approver,
    Group,
    GroupSummary,
    OpenGroup,
    Policy,
    PolicySummary,
    Rule,
    Token,
    TokenSummary,
)

TIME_STEP_SECONDS = 60  # TSB counts minutes: timelock and timeout must be multiples (else code 600)
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


def approvers(policy: Policy) -> tuple[Approver, ...]:
    """Everybody whom `ruleUse` asks, once each, in the order of the policy."""
    known: dict[str, Approver] = {}
    for _, _, approval in _approvals(policy.rule_use, ""):
        known.setdefault(_identity(approval), _approver(approval))
    return tuple(known.values())


def summary(policy: Policy) -> PolicySummary:
    """`ruleUse` for people: how many of whom, by name."""
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
                        approvers=tuple(_approver(approval).name for approval in group.approvals),
                    )
                    for group in token.groups or ()
                ),
            )
            for token in policy.rule_use.tokens
        )
    )


def decided(
    asked: tuple[Approver, ...], *, approved: list[str], declined: list[str], outstanding: list[str]
) -> tuple[Approver, ...]:
    """`asked` with what TSB's three lists of base64 SPKIs say of each.

    A key that the policy does not name is kept under its fingerprint: hiding it would hide that
    a stranger approved.
    """
    said: dict[str, Any] = {}
    for decision, keys in (
        ("outstanding", outstanding),
        ("declined", declined),
        ("approved", approved),
    ):
        said.update({spki_sha256(key): decision for key in keys})
    result = [
        approver.model_copy(update={"decision": said.pop(approver.spki_sha256 or "", "none")})
        for approver in asked
    ]
    strangers = (
        Approver(name=f"key sha256:{digest[:16]}", spki_sha256=digest, decision=decision)
        for digest, decision in said.items()
    )
    return (*result, *strangers)


def open_groups(policy: Policy, approvers: tuple[Approver, ...]) -> tuple[OpenGroup, ...]:
    """The groups of the use rule whose quorum `approvers` have not reached; none once a token has.

    Tokens are alternatives, so each is listed with what it lacks. The approval of a name that only
    TSB can resolve is counted under no group: TSB reports keys.
    """
    approved = {one.spki_sha256 for one in approvers if one.decision == "approved"}
    found: list[OpenGroup] = []
    for token in policy.rule_use.tokens:
        lacking = [
            OpenGroup(token=token.name, group=group.name, quorum=group.quorum, approved=number)
            for group in token.groups or ()
            if (number := len({_identity(one) for one in group.approvals} & approved))
            < group.quorum
        ]
        if not lacking:
            return ()
        found += lacking
    return tuple(found)


def check(policy: Policy) -> None:
    """Refuse a policy under which a CSR could never be approved, or that TSB would refuse.

    Raises:
        InvalidEnrollmentError: with the path of the field.
    """
    if policy.key_status.blocked:
        raise _invalid(
            "key.policy.keyStatus.blocked",
            "a blocked key can sign nothing, so its CSR would never be made",
            "Set it to false; block the key after it has been used.",
        )
    if not policy.rule_use.tokens:
        raise _invalid(
            "key.policy.ruleUse.tokens",
            "a rule without tokens can never be fulfilled",
            "Add a token with a group of approvers.",
        )
    for name, attribute in RULES.items():
        rule: Rule | None = getattr(policy, attribute)
        if rule is not None:
            _check_rule(rule, f"key.policy.{name}", asks_somebody=name == "ruleUse")
    _check_names(policy)


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
                [group.quorum, sorted(_identity(approval) for approval in group.approvals)]
                for group in token.groups or ()
            ),
        ]
        for token in rule.tokens
    )


def _check_rule(rule: Rule, path: str, *, asks_somebody: bool) -> None:
    for index, token in enumerate(rule.tokens):
        at = f"{path}.tokens.{index}"
        _check_time(token, at)
        if asks_somebody and not token.groups:
            raise _invalid(
                f"{at}.groups",
                "a token without groups asks nobody: the key could be used without approval",
                "Add a group of approvers.",
            )
        for number, group in enumerate(token.groups or ()):
            _check_group(group, f"{at}.groups.{number}")


def _check_time(token: Token, path: str) -> None:
    for name in ("timelock", "timeout"):
        if getattr(token, name) % TIME_STEP_SECONDS:
            raise _invalid(
                f"{path}.{name}",
                "TSB counts in minutes: the seconds must be a multiple of 60",
                "Round it to a multiple of 60.",
            )
    if token.timeout and token.timelock >= token.timeout:
        raise _invalid(
            f"{path}.timelock",
            "the timelock ends after the timeout, so nothing could ever be executed",
            "Make timelock smaller than timeout.",
        )


def _check_group(group: Group, path: str) -> None:
    for index, approval in enumerate(group.approvals):
        _check_approval(approval, f"{path}.approvals.{index}")
    distinct = {_identity(approval) for approval in group.approvals}
    if group.quorum > len(distinct):
        raise _invalid(
            f"{path}.quorum",
            f"{group.quorum} of {len(distinct)} distinct approvers can never be reached",
            "Lower the quorum or add approvers with keys of their own.",
        )


def _check_approval(approval: Approval, path: str) -> None:
    if approval.type == "onboarded_approver_certificate":
        if not approval.name:
            raise _invalid(
                f"{path}.name",
                "an onboarded approver is known by name only",
                "Give the name under which TSB onboarded the approver.",
            )
        return
    try:
        approver_public_key(approval.type, approval.value or "")
    except ValueError as error:
        raise _invalid(
            f"{path}.value",
            str(error),
            "Give the base64 of the DER, on one line, as the approver app shows it.",
        ) from None


def _check_names(policy: Policy) -> None:
    named: dict[str, str] = {}
    for name, attribute in RULES.items():
        rule: Rule | None = getattr(policy, attribute)
        for path, _, approval in _approvals(rule, f"key.policy.{name}") if rule else ():
            identity = _identity(approval)
            known = _approver(approval).name
            if named.setdefault(known, identity) != identity:
                raise _invalid(
                    f"{path}.name",
                    f"two approver keys under one name, {known!r}: nobody could tell who agreed",
                    "Give each approver key a name of its own.",
                )


def _approvals(rule: Rule, path: str) -> Iterator[tuple[str, Group, Approval]]:
    for t, token in enumerate(rule.tokens):
        for g, group in enumerate(token.groups or ()):
            for a, approval in enumerate(group.approvals):
                yield f"{path}.tokens.{t}.groups.{g}.approvals.{a}", group, approval


def _identity(approval: Approval) -> str:
    """The fingerprint of the approver's key, or the name where only TSB knows the key."""
    if approval.type == "onboarded_approver_certificate":
        return f"onboarded {approval.name}"
    return spki_sha256(approver_public_key(approval.type, approval.value or ""))


def _approver(approval: Approval) -> Approver:
    if approval.type == "onboarded_approver_certificate":
        return Approver(name=approval.name or "", spki_sha256=None)
    digest = _identity(approval)
    name = approval.name
    if not name and approval.type == "certificate":
        name = certificate_common_name(approval.value or "")
    return Approver(name=name or f"key sha256:{digest[:16]}", spki_sha256=digest)


def _invalid(field: str, reason: str, action: str) -> InvalidEnrollmentError:
    return InvalidEnrollmentError(f"{field}: {reason}", field=f"request.{field}", action=action)
