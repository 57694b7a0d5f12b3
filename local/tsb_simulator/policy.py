"""What approvals mean: Smart Key Attributes (SKA) as pure functions of votes and time.

A rule's tokens are alternatives, a token's groups must all agree, a group agrees with `quorum` of
its approvers. Time is the age of the request in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Status = Literal["PENDING", "APPROVED", "EXECUTED", "FAILED", "EXPIRED", "REJECTED", "CANCELLED"]

FINAL: frozenset[str] = frozenset({"EXECUTED", "FAILED", "EXPIRED", "REJECTED", "CANCELLED"})
NEVER = math.inf


@dataclass(frozen=True)
class Group:
    """`quorum` of `approvers` (base64 SubjectPublicKeyInfo) must agree."""

    name: str
    quorum: int
    approvers: tuple[str, ...]


@dataclass(frozen=True)
class Token:
    """All groups must agree before `timeout`; nothing happens before `timelock`. 0 = no bound."""

    name: str
    timelock: int
    timeout: int
    groups: tuple[Group, ...]

    @property
    def window(self) -> float:
        """Age from which approvals no longer count for this token."""
        return self.timeout if self.timeout > 0 else NEVER


@dataclass(frozen=True)
class Rule:
    """Any one of the tokens suffices."""

    tokens: tuple[Token, ...]

    @property
    def approvers(self) -> tuple[str, ...]:
        """Everybody the rule names, once, in the rule's order."""
        names = (a for token in self.tokens for group in token.groups for a in group.approvers)
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Vote:
    """One approver's decision, at an age of the request."""

    age: float
    approver: str
    approves: bool


@dataclass(frozen=True)
class Assessment:
    """Where a request stands, and since which age."""

    status: Status
    since: float


def agreed_at(group: Group, votes: tuple[Vote, ...]) -> float:
    """Age at which the group's quorum was reached, NEVER if it was not."""
    ages = sorted(
        {v.approver: v.age for v in votes if v.approves and v.approver in group.approvers}.values()
    )
    if group.quorum <= 0:
        return 0.0
    return ages[group.quorum - 1] if len(ages) >= group.quorum else NEVER


def declined_at(group: Group, votes: tuple[Vote, ...]) -> float:
    """Age at which declines made the quorum unreachable, NEVER if they did not.

    A quorum that nobody could ever reach is not an effect of declines: it waits for its timeout.
    """
    members = set(group.approvers)
    if len(members) < group.quorum:
        return NEVER
    ages = sorted(
        {v.approver: v.age for v in votes if not v.approves and v.approver in members}.values()
    )
    needed = len(members) - group.quorum + 1
    return ages[needed - 1] if len(ages) >= needed else NEVER


def satisfied_at(token: Token, votes: tuple[Vote, ...]) -> float:
    """Age at which all groups had agreed within the window, NEVER if they had not."""
    age = max((agreed_at(group, votes) for group in token.groups), default=0.0)
    return age if age < token.window else NEVER


def dead_at(token: Token, votes: tuple[Vote, ...]) -> float:
    """Age at which the token could no longer be satisfied, by declines or by its window."""
    declined = min((declined_at(group, votes) for group in token.groups), default=NEVER)
    return min(declined, token.window)


def executable_at(
    token: Token, votes: tuple[Vote, ...], *, timeout_stops_approved: bool = False
) -> float:
    """Age at which quorum and timelock allow execution, NEVER if they do not."""
    age = max(satisfied_at(token, votes), float(token.timelock))
    return NEVER if timeout_stops_approved and age >= token.window else age


def assess(
    rule: Rule | None,
    votes: tuple[Vote, ...],
    age: float,
    *,
    empty_tokens: Literal["never", "always"] = "never",
    timeout_stops_approved: bool = False,
    timer_interval: float = 0.0,
) -> Assessment:
    """Decide where a request of this age stands; votes later than `age` are not looked at.

    Source: the TSB's request life cycle. REJECTED needs at least one decline that took effect
    before the windows closed; windows alone lead to EXPIRED.
    """
    if rule is None or (not rule.tokens and empty_tokens == "always"):
        return Assessment("EXECUTED", 0.0)
    if not rule.tokens:
        return Assessment("PENDING", 0.0)
    seen = tuple(vote for vote in votes if vote.age <= age)
    executable = min(
        executable_at(t, seen, timeout_stops_approved=timeout_stops_approved) for t in rule.tokens
    )
    due = executable + timer_interval
    if due <= age:
        return Assessment("EXECUTED", due)
    satisfied = [
        t
        for t in rule.tokens
        if satisfied_at(t, seen) < NEVER and not (timeout_stops_approved and t.window <= age)
    ]
    if satisfied:
        return Assessment("APPROVED", min(satisfied_at(t, seen) for t in satisfied))
    ended = max(dead_at(t, seen) for t in rule.tokens)
    if ended <= age:
        declined = any(dead_at(t, seen) < t.window for t in rule.tokens)
        return Assessment("REJECTED" if declined else "EXPIRED", ended)
    return Assessment("PENDING", 0.0)


def outstanding(rule: Rule | None, votes: tuple[Vote, ...], age: float) -> tuple[str, ...]:
    """Name the approvers who have not decided and whose approval could still matter."""
    if rule is None:
        return ()
    decided = {vote.approver for vote in votes if vote.age <= age}
    live = Rule(tuple(t for t in rule.tokens if dead_at(t, votes) > age))
    return tuple(a for a in live.approvers if a not in decided)
