"""The policy linter: can a policy be fulfilled, by whom, in time, and is it safe. Pure.

It counts people, not keys: the directory says which keys belong to one person. Without it each key
counts as a person.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import product
from math import prod
from typing import Any

from countersign.errors import refusal
from countersign.models import (
    Approval,
    Group,
    LintFinding,
    Policy,
    Rule,
    Token,
)
from countersign.policy import approver_keys, approvers, certificates
from countersign.policy.directory import Directory
from countersign.policy.findings import CODES
from countersign.policy.profiles import Profile
from countersign.policy.rules import RULES, approvals_of, executable, too_long, window_seconds
from countersign.polling import DEADLINE_SECONDS, LONGEST_WINDOW_SECONDS
from countersign.texts import MAX_NAME, name_fault, quoted, same_person

TIME_STEP_SECONDS = 60  # TSB counts minutes: timelock and timeout must be multiples (else code 600)
FETCH_SECONDS = 900  # the vendor's approver app fetches its tasks every 15 minutes
TIGHT_SECONDS = 2 * FETCH_SECONDS
UNKNOWN_REQUESTER = "the trigger does not know who asks"
MAX_APPROVALS = 100  # of all rules together; they are kept with their findings in one record
MAX_COALITIONS = 20_000  # the most that are compared, in 0.2 s; 3 groups of 7 people make 512


@dataclass
class _Linter:
    """What the checks need: who is who, and how serious a finding is for this profile."""

    directory: Directory
    profile: Profile | None
    found: list[LintFinding] = field(default_factory=list)

    def add(self, code: str, path: str, sentence: str) -> None:
        entry, lint = CODES[code], self.profile.lint if self.profile else None
        production = self.profile is not None and self.profile.production
        level = entry.production if production else entry.level
        waivers = {waiver.code: waiver.reason for waiver in lint.waivers} if lint else {}
        self.found.append(
            LintFinding(
                code=code,
                level=lint.levels.get(code, level) if lint else level,
                path=path,
                sentence=sentence,
                action=entry.action,
                waiver=waivers.get(code),
            )
        )

    def who(self, approval: Approval) -> str:
        """The person behind an approval: a name in the directory, else the key itself."""
        identity = approvers.identity(approval)
        return self.directory.names.get(identity, identity)

    def people(self, rule: Rule | None) -> dict[str, str]:
        """The names to show for everybody whom a rule asks, by person."""
        found: dict[str, str] = {}
        for _, approval in approvals_of(rule, "") if rule else ():
            who = self.who(approval)
            found.setdefault(who, who if who in self._names else approvers.approver(approval).name)
        return found

    @property
    def _names(self) -> set[str]:
        return {person.name for person in self.directory.people}


def lint(
    requested: Policy,
    *,
    directory: Directory,
    profile: Profile | None = None,
    requester: str | None = None,
    requester_known: bool = True,
    deadline_seconds: int = DEADLINE_SECONDS,
    now: datetime,
) -> tuple[LintFinding, ...]:
    """All findings about a policy that need no answer from the HSM.

    Args:
        requested: the policy as TSB would get it, with a profile's names replaced by keys.
        directory: who is who.
        profile: whose policy it is; decides levels and waivers.
        requester: the AWS principal who asks, or says so; None if nobody is to be compared.
        requester_known: False if the trigger does not know who asks.
        deadline_seconds: when the workflow ends a window without end, as the stack is configured.
        now: the time at which dates are checked.

    Returns:
        The findings, in the order of the policy. An error without a waiver must lead to a refusal:
        see `refuse`.
    """
    linter = _Linter(directory, profile)
    _lint_size(linter, requested)
    if not linter.found:
        _lint_readable(linter, requested)
    if linter.found:
        return tuple(linter.found)  # without the owners of the keys nothing else can be checked
    _lint_use(linter, requested)
    for one in too_long(requested.rule_use.tokens, deadline_seconds):
        path = f"key.policy.ruleUse.tokens.{one.token}.{one.field}"
        linter.add("time-beyond-workflow", path, str(one))
    for name, attribute in RULES.items():
        rule: Rule | None = getattr(requested, attribute)
        if rule is not None:
            _lint_rule(linter, rule, f"key.policy.{name}")
    _lint_names(linter, requested)
    _lint_change(linter, requested)
    _lint_dates(linter, requested, now)
    _lint_requester(linter, requested, requester)
    if not requester_known:
        linter.add("requester-unknown", "origin.principal", UNKNOWN_REQUESTER)
    if profile is not None and profile.ca_key_label is None:
        linter.add("ca-key-unnamed", "profile", f"{profile.id} names no CA key")
    return tuple(linter.found)


def lint_ca_key(
    requested: Policy,
    ca_policy: Policy | None,
    *,
    directory: Directory,
    profile: Profile | None,
    label: str | None = None,
    unread: str | None = None,
    unfit: str | None = None,
) -> tuple[LintFinding, ...]:
    """The findings about the CA key that will sign this key's certificate.

    Args:
        requested: the policy of the new key.
        ca_policy: the CA key's policy as the HSM reports it; None if it has none.
        directory: who is who.
        profile: names the CA key, or the request does; decides levels and waivers.
        label: of the CA key; None: the profile's.
        unread: why the CA key's policy could not be read; `ca_policy` is ignored then.
        unfit: why the CA key cannot sign the certificate that the request asks for, if it does.
    """
    linter = _Linter(directory, profile)
    label = label or (profile.ca_key_label if profile else None)
    path = "profile.caKeyLabel" if profile else "certificate.caKeyLabel"
    if unfit is not None:
        linter.add("ca-key-unfit", path, f"the CA key {label!r} {unfit}")
    if unread is not None:
        linter.add("ca-policy-unread", path, f"the CA key {label!r}: {unread}")
    elif ca_policy is None or open_to_all(ca_policy.rule_use):
        linter.add("ca-key-unguarded", path, f"the CA key {label!r} asks nobody before it signs")
    else:
        for rule, what in (
            (ca_policy.rule_use, "approve{s} for"),
            (ca_policy.rule_modify, "may change who approves for"),
        ):
            both = _in_both(linter, requested.rule_use, rule)
            if both:
                does = what.format(s="s" if len(both) == 1 else "")
                linter.add(
                    "ca-approvers-overlap",
                    "key.policy.ruleUse",
                    f"{_list(both)} also {does} CA key {label!r}",
                )
    return tuple(linter.found)


def _in_both(linter: _Linter, requested: Rule, theirs: Rule | None) -> set[str]:
    """The names of those whom both rules ask.

    TSB may show an onboarded approver by name or by a certificate of that name, so these two are
    taken for the same person.
    """

    def names(approval: Approval) -> set[str]:
        certified = approval.type == "certificate"
        known = (
            linter.directory.names.get(approvers.identity(approval)),
            certificates.certificate_common_name(approval.value or "") if certified else None,
        )
        return {linter.who(approval), *(f"{approvers.ONBOARDED}{one}" for one in known if one)}

    them = {name for _, one in (approvals_of(theirs, "") if theirs else ()) for name in names(one)}
    by_name = linter.people(requested)
    return {by_name[linter.who(one)] for _, one in approvals_of(requested, "") if names(one) & them}


def refuse(findings: Iterable[LintFinding]) -> None:
    """Refuse a request if its findings contain errors without a waiver.

    Raises:
        InvalidEnrollmentError: names paths, reasons and actions of the first ones.
    """
    errors = [one for one in findings if one.level == "error" and one.waiver is None]
    if not errors:
        return
    said = [(one.path, f"{one.sentence} ({one.code})") for one in errors]
    error = refusal(said, field=f"request.{said[0][0]}", action=errors[0].action)
    error.findings = tuple((f"request.{path}", text) for path, text in said)
    raise error


# What a rule means -----------------------------------------------------------------------------

type Who = Mapping[Approval, str]  # the person behind each approval


def earliest(rule: Rule | None, agreed: frozenset[str], who: Who) -> int | None:
    """After how many seconds the agreement of these people fulfills a rule; None: never.

    Without a rule nobody has to agree. A rule without tokens can never be fulfilled.
    """
    if rule is None:
        return 0
    times = [
        token.timelock
        for token in rule.tokens
        if executable(token)
        and all(
            len({who[approval] for approval in group.approvals} & agreed) >= group.quorum
            for group in token.groups or ()
        )
    ]
    return min(times, default=None)


def open_to_all(rule: Rule | None) -> bool:
    """Whether nobody has to agree."""
    return rule is None or any(executable(token) and not token.groups for token in rule.tokens)


def weaker(change: Rule | None, use: Rule | None, who: Who) -> frozenset[str] | None:
    """People who fulfill `change` but `use` only later or never; None if there are none.

    People in the same groups are interchangeable, so only their number counts. This keeps the
    search small even if there are many subsets of people.

    Raises:
        OverflowError: there are more than `MAX_COALITIONS` sets of people to compare.
    """
    for agreed in _coalitions((change, use), who):
        soonest = earliest(change, agreed, who)
        if soonest is None:
            continue
        used = earliest(use, agreed, who)
        if used is None or soonest < used:
            return agreed
    return None


def _coalitions(rules: tuple[Rule | None, ...], who: Who) -> Iterator[frozenset[str]]:
    """One set of people for each number of people of each kind, smallest first per kind."""
    groups = [
        {who[approval] for approval in group.approvals}
        for rule in rules
        for token in (rule.tokens if rule else ())
        for group in token.groups or ()
    ]
    kinds: dict[tuple[bool, ...], list[str]] = {}
    for person in sorted(set().union(*groups)):
        kinds.setdefault(tuple(person in group for group in groups), []).append(person)
    if prod(len(kind) + 1 for kind in kinds.values()) > MAX_COALITIONS:
        raise OverflowError
    for numbers in product(*(range(len(kind) + 1) for kind in kinds.values())):
        chosen = zip(kinds.values(), numbers, strict=True)
        yield frozenset(person for kind, number in chosen for person in kind[:number])


# The checks ------------------------------------------------------------------------------------


def _approvals(requested: Policy) -> Iterator[tuple[str, Approval]]:
    for name, attribute in RULES.items():
        rule: Rule | None = getattr(requested, attribute)
        if rule is not None:
            yield from approvals_of(rule, f"key.policy.{name}")


def _lint_size(linter: _Linter, requested: Policy) -> None:
    rules = [rule for name in RULES.values() if (rule := getattr(requested, name)) is not None]
    tokens = [token for rule in rules for token in rule.tokens]
    groups = [group for token in tokens for group in token.groups or ()]
    for what, number in (
        ("approvals", sum(len(group.approvals) for group in groups)),
        ("tokens", len(tokens)),
        ("groups", len(groups)),
    ):
        if number > MAX_APPROVALS:
            sentence = f"{number} {what} in all rules together; {MAX_APPROVALS} are the most"
            linter.add("policy-too-large", "key.policy", sentence)
    longest = max((len(one.name) for one in (*tokens, *groups)), default=0)
    if longest > MAX_NAME:
        sentence = f"a token's or group's name has {longest} characters; {MAX_NAME} are the most"
        linter.add("policy-too-large", "key.policy", sentence)


def _lint_readable(linter: _Linter, requested: Policy) -> None:
    for path, approval in _approvals(requested):
        if approval.type == "onboarded_approver_certificate":
            if not approval.name:
                linter.add(
                    "approval-unreadable",
                    f"{path}.name",
                    "an onboarded approver is known by name only",
                )
            continue
        try:
            fault = approver_keys.unfit(approval.type, approval.value or "")
        except ValueError as error:
            linter.add("approval-unreadable", f"{path}.value", str(error))
            continue
        if fault is not None:
            linter.add("approver-key-unfit", f"{path}.value", f"the key {fault}")


def _lint_use(linter: _Linter, requested: Policy) -> None:
    if requested.key_status.blocked:
        linter.add(
            "key-blocked",
            "key.policy.keyStatus.blocked",
            "a blocked key can sign nothing, so its CSR would never be made",
        )
    at = "key.policy.ruleUse.tokens"
    if not requested.rule_use.tokens:
        linter.add("rule-empty", at, "a rule without tokens can never be fulfilled")
    for index, token in enumerate(requested.rule_use.tokens):
        if not token.groups:
            linter.add(
                "token-asks-nobody",
                f"{at}.{index}.groups",
                "a token without groups asks nobody: the key could be used without approval",
            )
        _lint_window(linter, token, f"{at}.{index}.timeout")


def _lint_window(linter: _Linter, token: Token, path: str) -> None:
    # The part of the window after the timelock does not matter here: approvals count from the
    # start.
    if token.timeout == 0:
        linter.add("window-endless", path, "without a timeout the request never expires")
    elif token.timeout < FETCH_SECONDS:
        linter.add(
            "window-below-fetch",
            path,
            f"{token.timeout} s is less than the 900 s between two fetches of the approver app",
        )
    elif token.timeout < TIGHT_SECONDS:
        linter.add(
            "window-tight", path, f"{token.timeout} s holds one fetch of the approver app, or two"
        )


def _lint_rule(linter: _Linter, rule: Rule, path: str) -> None:
    for index, token in enumerate(rule.tokens):
        at = f"{path}.tokens.{index}"
        for name in ("timelock", "timeout"):
            if getattr(token, name) % TIME_STEP_SECONDS:
                linter.add(
                    "time-not-minutes",
                    f"{at}.{name}",
                    "TSB counts in minutes: the seconds must be a multiple of 60",
                )
        if not executable(token):
            linter.add(
                "timelock-after-timeout",
                f"{at}.timelock",
                "the timelock ends after the timeout, so nothing could ever be executed",
            )
        for number, group in enumerate(token.groups or ()):
            _lint_group(linter, group, f"{at}.groups.{number}")
        _lint_overlap(linter, token, f"{at}.groups")


def _lint_group(linter: _Linter, group: Group, path: str) -> None:
    keys: set[str] = set()
    people: set[str] = set()
    for index, approval in enumerate(group.approvals):
        identity, who = approvers.identity(approval), linter.who(approval)
        at = f"{path}.approvals.{index}"
        if identity in keys:
            name = approvers.approver(approval).name
            linter.add("key-twice", at, f"the key of {name!r} is in the group already")
        elif who in people:
            linter.add("person-twice", at, f"{who} is in the group already, under another key")
        keys.add(identity)
        people.add(who)
    if group.quorum > len(people):
        linter.add(
            "quorum-unreachable",
            f"{path}.quorum",
            f"{group.quorum} of {len(people)} distinct approvers can never be reached",
        )


def _lint_overlap(linter: _Linter, token: Token, path: str) -> None:
    seen: set[str] = set()
    twice: set[str] = set()
    for group in token.groups or ():
        people = {linter.who(approval): approval for approval in group.approvals}
        twice |= {approvers.approver(people[who]).name for who in seen & people.keys()}
        seen |= people.keys()
    if twice:
        linter.add("groups-overlap", path, f"one approval of {_list(twice)} counts for two groups")


def _lint_names(linter: _Linter, requested: Policy) -> None:
    named: dict[str, str] = {}
    people = {same_person(one.name) for one in linter.directory.people}
    for path, approval in _approvals(requested):
        name, who = approvers.given_name(approval), linter.who(approval)
        if name is None or named.get(same_person(name)) == who:
            continue
        if (fault := name_fault(name)) is not None:
            linter.add("approver-name-unfit", f"{path}.name", f"the name {fault}")
        owner = linter.directory.names.get(approvers.identity(approval))
        if owner is None and same_person(name) in people:
            sentence = f"{quoted(name)} is somebody in the directory, and this is no key of theirs"
            linter.add("name-not-theirs", f"{path}.name", sentence)
        elif owner is not None and same_person(name) != same_person(owner):
            sentence = f"the key is {quoted(owner)}'s, and goes by the name {quoted(name)}"
            linter.add("name-not-theirs", f"{path}.name", sentence)
        if named.setdefault(same_person(name), who) != who:
            linter.add(
                "name-shared",
                f"{path}.name",
                f"two approver keys under one name, {name!r}: nobody could tell who agreed",
            )


def _lint_change(linter: _Linter, requested: Policy) -> None:
    who = {approval: linter.who(approval) for _, approval in _approvals(requested)}
    path = "key.policy.ruleModify"
    try:
        strong = weaker(requested.rule_modify, requested.rule_use, who)
    except OverflowError:
        linter.add("change-rule-unclear", path, "too many groups to compare it with ruleUse")
        strong = None
    if strong is not None:
        names = {**linter.people(requested.rule_modify), **linter.people(requested.rule_use)}
        people = _list({names[one] for one in strong}) or "anybody who may call TSB"
        linter.add(
            "change-rule-weaker",
            path,
            f"{people} could change who may use the key, and could not use it so soon",
        )
    if open_to_all(requested.rule_unblock) and not open_to_all(requested.rule_use):
        linter.add(
            "unblock-rule-open", "key.policy.ruleUnblock", "a block can be undone by anybody"
        )


def _lint_dates(linter: _Linter, requested: Policy, now: datetime) -> None:
    tokens = requested.rule_use.tokens
    window = window_seconds(tokens) if tokens else 0
    end = now + timedelta(seconds=min(window, LONGEST_WINDOW_SECONDS))
    judged: set[str] = set()
    for path, approval in _approvals(requested):
        identity = approvers.identity(approval)
        if identity in judged:
            continue
        judged.add(identity)
        name = linter.directory.names.get(identity, approvers.approver(approval).name)
        if linter.directory.people and identity not in linter.directory.names:
            linter.add("approver-unlisted", path, f"{name!r} is not in the directory of approvers")
        reason = _invalid_at(linter, approval, now)
        if reason is not None:
            linter.add("approver-not-valid", path, f"the {reason} of {name!r} is not valid now")
        elif (reason := _invalid_at(linter, approval, end)) is not None:
            linter.add(
                "approver-expires", path, f"the {reason} of {name!r} expires within the window"
            )


def _invalid_at(linter: _Linter, approval: Approval, moment: datetime) -> str | None:
    """What of an approver is not valid at a time: the directory's entry, or their certificate."""
    entry = linter.directory.keys.get(approvers.identity(approval))
    certificate = approval.value if approval.type == "certificate" else None
    certificate = certificate or (entry.certificate if entry else None)
    if entry is not None and not entry.valid(moment):
        return "key"
    if certificate is not None:
        start, end = certificates.certificate_validity(certificate)
        if not start <= moment <= end:
            return "certificate"
    return None


def _lint_requester(linter: _Linter, requested: Policy, requester: str | None) -> None:
    asked, path = linter.people(requested.rule_use), "key.policy.ruleUse"
    approving = [person for person in linter.directory.people if person.name in asked]
    for person in approving:
        if person.evadable:
            linter.add(
                "principal-evadable",
                path,
                f"{person.name} can ask under another name than {_list(person.evadable)}",
            )
        if requester is not None and person.acts_as(requester):
            linter.add(
                "requester-approves", path, f"{person.name} asks for this and would approve it"
            )
        elif requester is not None and person.may_act_as(requester):
            linter.add(
                "requester-may-approve",
                path,
                f"whoever asks has the role of {person.name}, who would approve it, and another"
                " session's name",
            )


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def dump(findings: Iterable[LintFinding]) -> list[dict[str, Any]]:
    """Findings for the record; with a waiver only if there is one."""
    return [one.model_dump(mode="json", exclude_none=True) for one in findings]
