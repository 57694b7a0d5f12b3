"""A key's policy as TSB repeats it, in JSON or in the HSM's attestation, and what it means.

TSB repeats a policy in words of its own: with fields that newer versions add, null for what is
empty, line breaks in a key, in an order and under names that the HSM chooses. An onboarded approver
comes back as the certificate that TSB keeps under their name.
Source: recorded answers; the vendor's code that makes the JSON of the attestation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from countersign.models import Approval, Policy
from countersign.policy.approvers import ONBOARDED, identity
from countersign.policy.certificates import certificate_common_name
from countersign.policy.rules import RULES

MOST_SECONDS = 2**40  # of a time: more than the HSM can hold
type Group = tuple[int, tuple[str, ...]]  # the quorum, and the identities of the approvers
type Token = tuple[int, int, tuple[Group, ...]]  # timelock, timeout, and the groups
type Rule = tuple[Token, ...] | None


@dataclass(frozen=True)
class Echo:
    """What a policy means: without the names of tokens and groups, and without any order.

    Args:
        blocked: whether the key is.
        rules: by TSB's name. None: nobody is asked.
        certified: by the common name of each certificate the fingerprints of its keys.
    """

    blocked: bool
    rules: Mapping[str, Rule]
    certified: Mapping[str, frozenset[str]] = field(compare=False)

    def differences(self, requested: Policy) -> list[str]:
        """Where it is another policy than the requested one: names of TSB's fields."""
        known = self.onboarded(requested)
        wanted = read(requested.dump())
        return [
            name for name in RULES if self.rules[name] != _resolved(wanted.rules[name], known)
        ] + (["keyStatus"] if self.blocked != wanted.blocked else [])

    def onboarded(self, requested: Policy) -> dict[str, str]:
        """The keys of onboarded approvers, by the name under which they were asked.

        Only where TSB shows one certificate of that name; of two nobody knows which one was meant.
        """
        names = {
            one.removeprefix(ONBOARDED)
            for rule in read(requested.dump()).rules.values()
            for one in _identities(rule)
            if one.startswith(ONBOARDED)
        }
        return {
            name: next(iter(keys))
            for name, keys in self.certified.items()
            if name in names and len(keys) == 1
        }


def read(raw: object) -> Echo:
    """What a policy in TSB's JSON means. The only place where an answer's policy is read.

    Raises:
        ValueError: it cannot be read; says where, and never quotes a value.
    """
    whole = _mapping(raw, "policy")
    certified: dict[str, frozenset[str]] = {}
    rules = {name: _rule(whole.get(name), name, certified) for name in RULES}
    blocked = _mapping(whole.get("keyStatus"), "keyStatus").get("blocked")
    if not isinstance(blocked, bool):
        raise ValueError("keyStatus.blocked is neither true nor false")
    return Echo(blocked, rules, certified)


def as_policy(raw: object) -> Policy | None:
    """A policy in TSB's JSON as one of ours, for the linter; None if nobody is asked for a use.

    Raises:
        ValueError: as `read`.
    """
    read(raw)
    whole = _mapping(raw, "policy")
    rules = {name: _tidy(whole.get(name)) for name in RULES}
    if rules["ruleUse"] is None:
        return None
    return Policy.model_validate({**rules, "keyStatus": whole["keyStatus"]}, extra="ignore")


def _tidy(rule: Any) -> Any:
    """A rule that can be read, in our spelling: no line breaks, and nothing null that is empty."""
    if rule is None:
        return None
    return {
        "tokens": [
            {
                **token,
                "name": str(token.get("name") or ""),
                "groups": [
                    {
                        **group,
                        "name": str(group.get("name") or ""),
                        "approvals": [
                            {
                                "type": one["type"],
                                "name": str(one.get("name") or "") or None,
                                "value": "".join((one.get("value") or "").split()) or None,
                            }
                            for one in group.get("approvals") or ()
                        ],
                    }
                    for group in token.get("groups") or ()
                ],
            }
            for token in rule.get("tokens") or ()
        ]
    }


def _rule(raw: object, path: str, certified: dict[str, frozenset[str]]) -> Rule:
    if raw is None:
        return None
    return _sorted(
        (
            _seconds(token, "timelock", where),
            _seconds(token, "timeout", where),
            tuple(_groups(token, where, certified)),
        )
        for where, token in _members(_mapping(raw, path), "tokens", path)
    )


def _groups(
    token: Mapping[Any, Any], path: str, certified: dict[str, frozenset[str]]
) -> Iterator[Group]:
    for where, group in _members(token, "groups", path):
        yield (
            _seconds(group, "quorum", where),
            tuple(_identity(one, at, certified) for at, one in _members(group, "approvals", where)),
        )


def _identity(raw: Mapping[Any, Any], path: str, certified: dict[str, frozenset[str]]) -> str:
    kind, name, value = raw.get("type"), raw.get("name") or None, raw.get("value") or None
    if kind == "onboarded_approver_certificate" and isinstance(name, str):
        return f"{ONBOARDED}{name}"
    if kind not in ("public_key", "certificate") or not isinstance(value, str):
        raise ValueError(f"{path} names no approver")
    try:
        found, common_name = _known(kind, "".join(value.split()))
    except ValueError:
        raise ValueError(f"{path} has a key that cannot be read") from None
    # TSB names an approver by the certificate; where that has no name, by its own word.
    if kind == "certificate" and (by := common_name or name):
        certified[str(by)] = certified.get(str(by), frozenset()) | {found}
    return found


@lru_cache(maxsize=1024)  # a policy has the same few keys in every rule
def _known(kind: Any, value: str) -> tuple[str, str | None]:
    return (
        identity(Approval(type=kind, value=value)),
        certificate_common_name(value) if kind == "certificate" else None,
    )


def _members(
    raw: Mapping[Any, Any], name: str, path: str
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    found = raw.get(name)
    if found is not None and not isinstance(found, list | tuple):
        raise ValueError(f"{path}.{name} is no list")
    for index, one in enumerate(found or ()):
        yield (where := f"{path}.{name}.{index}"), _mapping(one, where)


def _mapping(raw: object, path: str) -> Mapping[Any, Any]:
    if not isinstance(raw, Mapping):
        raise ValueError(f"{path} is missing or no object")  # noqa: TRY004  a value from outside
    return raw


def _seconds(raw: Mapping[Any, Any], name: str, path: str) -> int:
    found = raw.get(name)
    if type(found) is not int or not 0 <= found < MOST_SECONDS:
        raise ValueError(f"{path}.{name} is no whole number")
    return found


def _resolved(rule: Rule, known: Mapping[str, str]) -> Rule:
    """A rule with the keys of the onboarded approvers that are known."""
    if rule is None:
        return None
    keys = {f"{ONBOARDED}{name}": key for name, key in known.items()}
    return _sorted(
        (lock, out, tuple((quorum, tuple(keys.get(o, o) for o in own)) for quorum, own in groups))
        for lock, out, groups in rule
    )


def _sorted(tokens: Any) -> tuple[Token, ...]:
    return tuple(
        sorted(
            (lock, out, tuple(sorted((quorum, tuple(sorted(own))) for quorum, own in groups)))
            for lock, out, groups in tokens
        )
    )


def _identities(rule: Rule) -> Iterator[str]:
    for _, _, groups in rule or ():
        for _, own in groups:
            yield from own
