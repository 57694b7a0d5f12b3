"""The CA's key that is to sign an enrollment's certificate: read from the TSB, and examined."""

from countersign import models as m
from countersign.errors import (
    KEY_NOT_EXISTENT,
    KEY_PASSWORD_MISMATCH,
    NO_CERTIFICATE,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.policy import rules
from countersign.policy.directory import Directory
from countersign.policy.linter import lint_ca_key
from countersign.policy.profiles import Profile
from countersign.tsb.client import TsbClient
from countersign.tsb.models import KeyAttributes
from countersign.verification import issuing
from countersign.verification.attestation import Trust

UNREADABLE = (KEY_NOT_EXISTENT, KEY_PASSWORD_MISMATCH, NO_CERTIFICATE)


def examine(
    requested: m.EnrollmentRequest,
    *,
    tsb: TsbClient,
    profile: Profile | None,
    directory: Directory,
    trust: Trust,
    deadline_seconds: int,
) -> tuple[issuing.CaKey | None, tuple[m.LintFinding, ...]]:
    """The CA's key, and the linter's findings about it; None and nothing where none is named.

    A profile may name a CA key whose approvers must be other people, although no certificate is
    asked for. Then only its policy is read, and the first result is None.

    Args:
        requested: the accepted request.
        tsb: with the roles for key management and certificates.
        profile: the request's.
        directory: who is who.
        trust: which attestations are trusted. A policy that is not attested is not believed.
        deadline_seconds: when the workflow ends a window without end.

    Raises:
        TsbUnavailableError, TsbOutcomeUnknownError, TsbRefusedError, TsbCredentialsError: see
            TsbClient; nothing is known about the key.
    Source: TSB REST API, POST /v1/key/attributes, GET /v1/certificate/{keyName}.
    """
    asked = requested.certificate
    label = asked.ca_key_label if asked else profile.ca_key_label if profile else None
    if label is None:
        return None, ()
    unread, unfit = None, None
    policy: m.Policy | None = None
    ca: issuing.CaKey | None = None
    try:
        answer = _attributes(tsb, label)
        policy = issuing.policy_of(answer, label, trust, now=m.now())
        if asked is not None:
            ca = _with_certificate(tsb, answer, label, trust)
    except ValueError as error:
        unread = str(error) if policy is None else None
        unfit = str(error) if asked else None
    if ca is not None:
        unfit = issuing.why_not(ca, requested, now=m.now()) or _too_long(
            requested.key.policy.rule_use.tokens, ca.policy.rule_use.tokens, deadline_seconds
        )
    return ca, lint_ca_key(
        requested.key.policy,
        policy,
        directory=directory,
        profile=profile,
        label=label,
        unread=unread,
        unfit=unfit,
    )


def _attributes(tsb: TsbClient, label: str) -> KeyAttributes:
    try:
        return tsb.key_attributes(label)
    except (TsbRefusedError, TsbUnavailableError) as error:
        raise _unreadable(error) from error


def _with_certificate(
    tsb: TsbClient, answer: KeyAttributes, label: str, trust: Trust
) -> issuing.CaKey:
    try:
        held = tsb.certificate(label)
    except (TsbRefusedError, TsbUnavailableError) as error:
        raise _unreadable(error) from error
    return issuing.read(answer, held, label, trust, now=m.now())


def _unreadable(error: TsbRefusedError | TsbUnavailableError) -> Exception:
    """What says in TSB's own words that there is none; anything else says nothing about the key."""
    if error.error_code not in UNREADABLE:
        return error
    return ValueError(f"TSB answers {error.error_code}, {error.reason}")


def _too_long(
    tokens: tuple[m.Token, ...], following: tuple[m.Token, ...], deadline_seconds: int
) -> str | None:
    for one in rules.too_long(following, deadline_seconds):
        return f"has a policy that the workflow cannot wait for: {one.field} {one}"
    if rules.too_long_together(tokens, following, deadline_seconds):
        return "has a window that, after this key's own, is longer than the workflow can wait"
    return None
