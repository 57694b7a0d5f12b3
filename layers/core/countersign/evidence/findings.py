"""The linter's findings on record, held against what the linter says of the accepted policy. Pure.

Directory, profile and deadline are in no part. So what depends on them is only held against the
table of findings: it is the stack's word, and the verifier says so.
"""

from collections.abc import Iterator
from datetime import datetime

from countersign import models as m
from countersign.evidence.proven import Proven
from countersign.policy import approvers
from countersign.policy.directory import Directory, Person, PersonKey
from countersign.policy.findings import CODES
from countersign.policy.linter import UNKNOWN_REQUESTER, lint
from countersign.policy.rules import RULES, approvals_of
from countersign.record import approvers_asked

# What follows from the policy alone, word for word.
OF_THE_POLICY = {
    "key-blocked", "rule-empty", "token-asks-nobody", "time-not-minutes", "timelock-after-timeout",
    "window-endless", "window-below-fetch", "window-tight", "unblock-rule-open",
}  # fmt: skip
# What follows from it once it is known which keys are one person's; whom it names, may differ.
OF_THE_PEOPLE = {
    "quorum-unreachable", "key-twice", "person-twice", "groups-overlap", "change-rule-weaker",
    "change-rule-unclear",
}  # fmt: skip


def contradictions(proven: Proven) -> Iterator[str]:
    """What is on record of the linter's findings and cannot be, in words.

    Raises:
        KeyError, ValueError, InvalidEnrollmentError: something on record has an unknown form.
    """
    record, requested = proven.record, proven.requested
    if requested is None:
        return
    found, of_ca = (
        [m.LintFinding.read(one) for one in record.get(name, ())]  # type: ignore[attr-defined]
        for name in ("findings", "caFindings")
    )
    for one in (*found, *of_ca):
        yield from _against_the_table(one, has_profile="profile" in record)
    if any(_refuses(one) for one in found):
        yield "findings have an error that nobody waived, and the request was accepted"
    if any(_refuses(one) for one in of_ca) and approvers_asked(record):
        yield "caFindings have an error that nobody waived, and the approvers were asked"
    if record["origin"].get("principal") is None and "requester-unknown" not in _codes(found):
        yield "findings say nothing of a requester who is unknown"
    yield from _made_again(proven, requested.key.policy, found)


def of_the_stack(proven: Proven) -> tuple[str, ...]:
    """The codes on record that are the stack's word."""
    said = [*proven.record.get("findings", ()), *proven.record.get("caFindings", ())]
    read = [m.LintFinding.read(one) for one in said]
    rules = _known_rules(proven.requested.key.policy) if proven.requested else ()
    made = OF_THE_POLICY | {one.code for one in read if _is_of_the_people(one, rules)}
    return tuple(dict.fromkeys(one.code for one in read if one.code not in made))


def _against_the_table(one: m.LintFinding, *, has_profile: bool) -> Iterator[str]:
    entry = CODES.get(one.code)
    if entry is None:
        yield f"has a finding {one.code!r}, which the linter does not know"
        return
    if one.action != entry.action:
        yield f"{one.code} advises {one.action!r}, and the linter {entry.action!r}"
    if not has_profile and (one.level != entry.level or one.waiver is not None):
        yield f"{one.code} is told as {one.level}, and without a profile it is {entry.level}"
    if one.code == "requester-unknown" and one.sentence != UNKNOWN_REQUESTER:
        yield f"requester-unknown says {one.sentence!r}"
    if one.waiver is not None and entry.waiver is None:
        yield f"{one.code} is told as waived, and cannot be"


def _refuses(one: m.LintFinding) -> bool:
    return one.level == "error" and one.waiver is None


def _codes(found: list[m.LintFinding]) -> set[str]:
    return {one.code for one in found}


def _made_again(proven: Proven, policy: m.Policy, found: list[m.LintFinding]) -> Iterator[str]:
    again = lint(
        policy,
        directory=_directory(proven, policy),
        now=datetime.fromisoformat(proven.record["times"]["accepted"]),
    )
    said = [(one.code, one.path, one.sentence) for one in found if one.code in OF_THE_POLICY]
    made = [(one.code, one.path, one.sentence) for one in again if one.code in OF_THE_POLICY]
    if said != made:
        yield f"findings are {said}, and the linter finds {made}"
    rules = _known_rules(policy)
    told = sorted((one.code, one.path) for one in found if _is_of_the_people(one, rules))
    holds = sorted((one.code, one.path) for one in again if _is_of_the_people(one, rules))
    if told != holds:
        yield f"findings are {told}, and the linter finds {holds}"


def _is_of_the_people(one: m.LintFinding, rules: tuple[str, ...]) -> bool:
    return one.code in OF_THE_PEOPLE and one.path.startswith(rules)


def _known_rules(policy: m.Policy) -> tuple[str, ...]:
    """The paths of the rules whose people are known: on record are the names of ruleUse's."""
    used, of_rule = _identities(policy.rule_use), {}
    for name, attribute in RULES.items():
        of_rule[f"key.policy.{name}"] = _identities(getattr(policy, attribute))
    return tuple(path for path, identities in of_rule.items() if identities <= used)


def _identities(rule: m.Rule | None) -> set[str]:
    return {approvers.identity(one) for _, one in (approvals_of(rule, "") if rule else ())}


def _directory(proven: Proven, policy: m.Policy) -> Directory:
    """Who is who, by the names on record."""
    shown = m.PolicySummary.read(proven.record["policy"])
    names = [name for token in shown.tokens for group in token.groups for name in group.approvers]
    keys: dict[str, dict[str, PersonKey]] = {}
    for (_, one), name in zip(approvals_of(policy.rule_use, ""), names, strict=True):
        if one.type != "onboarded_approver_certificate":
            kind = "certificate" if one.type == "certificate" else "public_key"
            key = PersonKey.model_validate(
                {kind: one.value, "valid_from": datetime.min.date()}, by_name=True
            )
            keys.setdefault(name, {})[key.spki_sha256] = key
    return Directory(
        people=tuple(
            Person(name=name, contact="unknown", keys=tuple(of.values()))
            for name, of in keys.items()
        )
    )
