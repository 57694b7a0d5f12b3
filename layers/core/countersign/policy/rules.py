"""What a policy (TSB's Smart Key Attributes) demands: of whom, how many, and by when.

A rule's tokens are alternatives. All groups of a token must agree. A group needs `quorum` of its
approvers. Source: TSB documentation, Smart Key Attributes.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from countersign.models import (
    Approval,
    Approver,
    OpenGroup,
    PolicySummary,
    Rule,
    Token,
    TokenSummary,
)
from countersign.polling import (
    DAY_SECONDS,
    EXECUTED_WITHIN_SECONDS,
    LONGEST_SILENCE_SECONDS,
    LONGEST_WINDOW_SECONDS,
)
from countersign.spki import fingerprint

# Of a certificate: the retries of RequestCertificate and StoreCertificate, and a wait.
STORING_SECONDS = 4 * DAY_SECONDS
RULES = {
    "ruleUse": "rule_use",
    "ruleBlock": "rule_block",
    "ruleUnblock": "rule_unblock",
    "ruleModify": "rule_modify",
}


def window_seconds(tokens: Sequence[Token | TokenSummary]) -> int:
    """How long approvals of a use are collected: the longest token; 0 is without limit."""
    timeouts = [token.timeout for token in tokens]
    return 0 if 0 in timeouts else max(timeouts)


def timelock_seconds(tokens: Sequence[Token | TokenSummary]) -> int:
    """Before this no use can be executed, no matter who agreed."""
    return min(token.timelock for token in tokens)


def executable(token: Token) -> bool:
    """Whether there is a time after the timelock and before the timeout."""
    return not token.timeout or token.timelock < token.timeout


class TooLong(NamedTuple):
    """A time of a token that the workflow cannot wait for: which token, which field, how long."""

    token: int
    field: str
    seconds: int
    most: int

    def __str__(self) -> str:
        return f"{self.seconds} s is longer than the workflow can wait; {self.most} s is the most"


def too_long(tokens: Sequence[Token], deadline_seconds: int) -> list[TooLong]:
    """Where a use's times outlast the workflow: what it cannot keep would stay open at the TSB.

    Where one token has no timeout, the workflow's deadline ends the wait for all of them, so every
    timelock must be over before, and TSB have executed what was approved.

    Args:
        tokens: the tokens of `ruleUse`.
        deadline_seconds: the deadline of a window without end, as the stack is configured.
    """
    endless = any(token.timeout == 0 for token in tokens)
    most = deadline_seconds - EXECUTED_WITHIN_SECONDS if endless else LONGEST_WINDOW_SECONDS
    times = (
        TooLong(index, *time)
        for index, token in enumerate(tokens)
        for time in (
            ("timelock", token.timelock, most),
            ("timeout", token.timeout, LONGEST_WINDOW_SECONDS),
        )
    )
    return [time for time in times if time.seconds > time.most]


def too_long_together(
    tokens: Sequence[Token], following: Sequence[Token], deadline_seconds: int
) -> bool:
    """Whether an execution cannot wait for both of two approvals, one after the other."""
    both = sum(window_seconds(one) or deadline_seconds for one in (tokens, following))
    return both > LONGEST_WINDOW_SECONDS - LONGEST_SILENCE_SECONDS - STORING_SECONDS


type Names = Mapping[str, str]  # people's names, by the fingerprint of each of their keys


def decided(
    requested: tuple[Approver, ...],
    *,
    approved: list[str],
    declined: list[str],
    outstanding: list[str],
    names: Callable[[], Names],
) -> tuple[Approver, ...]:
    """`requested`, with each one's decision from TSB's three lists of base64 SPKIs.

    A key that the policy does not name is kept, under its name in the directory or its fingerprint.
    Dropping it would hide that an approver who is not in the policy approved. A text that is not a
    key is kept, too. `names` is called only if there is such a key.

    Whoever is in two lists has not agreed: outstanding is the weakest word, and declined the
    strongest.
    """
    said: dict[str, Any] = {}
    for decision, keys in (
        ("outstanding", outstanding),
        ("approved", approved),
        ("declined", declined),
    ):
        said.update({_identity(key): decision for key in keys})
    result = [
        one.model_copy(update={"decision": said.pop(one.spki_sha256 or "", "none")})
        for one in requested
    ]
    known = names() if said else {}
    unknown_keys = (
        Approver(name=known.get(digest, unnamed(digest)), spki_sha256=digest, decision=decision)
        for digest, decision in said.items()
    )
    return (*result, *unknown_keys)


def _identity(listed: str) -> str:
    # Base64 may be broken into lines, as in a policy's echo.
    return fingerprint("".join(listed.split())) or hashlib.sha256(listed.encode()).hexdigest()


def open_groups(requested: PolicySummary, approvers: tuple[Approver, ...]) -> tuple[OpenGroup, ...]:
    """The groups of the use rule without a quorum of approvals; none once a token is fulfilled.

    Tokens are alternatives, so each is listed with what it lacks. An approval by a name that only
    TSB can resolve counts for no group: TSB reports keys.

    Args:
        requested: the policy's summary on record. It has the same names of people as `approvers`.
        approvers: as a poll found them.
    """
    approved = {one.name for one in approvers if one.decision == "approved"}
    found: list[OpenGroup] = []
    for token in requested.tokens:
        lacking = [
            OpenGroup(token=token.name, group=group.name, quorum=group.quorum, approved=number)
            for group in token.groups
            if (number := len(approved & {*group.approvers})) < group.quorum
        ]
        if not lacking:
            return ()
        found += lacking
    return tuple(found)


def needed(requested: PolicySummary, approvers: tuple[Approver, ...]) -> tuple[Approver, ...]:
    """Those who have yet to decide and whose group, or one of them, still lacks its quorum.

    Args:
        requested: as for `open_groups`.
        approvers: as a poll found them.
    """
    lacking = {(one.token, one.group) for one in open_groups(requested, approvers)}
    names = {
        name
        for token in requested.tokens
        for group in token.groups
        if (token.name, group.name) in lacking
        for name in group.approvers
    }
    return tuple(one for one in approvers if one.decision == "outstanding" and one.name in names)


def approvals_of(rule: Rule, path: str) -> Iterator[tuple[str, Approval]]:
    """Every approval of the rule at `path`, with its own path."""
    for t, token in enumerate(rule.tokens):
        for g, group in enumerate(token.groups or ()):
            for a, approval in enumerate(group.approvals):
                yield f"{path}.tokens.{t}.groups.{g}.approvals.{a}", approval


def unnamed(digest: str) -> str:
    """The name to show for a key that has none."""
    return f"key sha256:{digest[:16]}"
