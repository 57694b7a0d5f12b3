"""The text that approvers see: what they agree to, in about twelve lines. Pure.

Their app shows it unchanged, so nothing that a caller wrote may look like a line of ours.
"""

from collections.abc import Sequence
from typing import NamedTuple

from countersign.algorithms import CURVES, ED25519
from countersign.models import EnrollmentRequest, PolicySummary, Token, TokenSummary, cut
from countersign.policy import approvers, rules
from countersign.policy.rules import Names
from countersign.texts import printable, quoted

SECONDS_PER = {"day": 86_400, "hour": 3_600, "minute": 60}


def summary(
    request: EnrollmentRequest,
    *,
    enrollment_id: str,
    names: Names,
    requester: str | None = None,
    most_bytes: int | None = None,
) -> str:
    """The `lines` as one text, without a final line end."""
    return "\n".join(
        lines(
            request,
            enrollment_id=enrollment_id,
            names=names,
            requester=requester,
            most_bytes=most_bytes,
        )
    )


def lines(
    request: EnrollmentRequest,
    *,
    enrollment_id: str,
    names: Names,
    requester: str | None = None,
    most_bytes: int | None = None,
) -> list[str]:
    """What an approver is asked to agree to: one `label: value` in each line.

    What the HSM will do comes first. What a caller can write at length comes last, so that it
    pushes nothing out of sight.

    Args:
        request: the accepted request, after a profile was expanded.
        enrollment_id: the id of this enrollment.
        names: people's names in the directory, as they are on record.
        requester: who asked, as far as the trigger knows them.
        most_bytes: of a line's value, as JSON in UTF-8. A longer one is cut and says so.
    """
    subject = request.csr.standard_certificate_attributes.model_dump(
        by_alias=True, exclude_none=True
    )
    usages = [*(request.csr.key_usage or ()), *(request.csr.extended_key_usage or ())]
    facts = {
        "Approve": "a certificate signing request (CSR), signed once with a new HSM key",
        **{f"Subject {name}": value for name, value in subject.items()},
        "Key": key(request),
        "Key label": request.key.label,
        "Signature": request.csr.signature_algorithm,
        "Usages": ", ".join(usages) or "none",
        "Agreement": agreement(approvers.summary(request.key.policy, names)),
        "Window": window(request),
        **_following(request),
        **({"Profile": request.profile} if request.profile else {}),
        "Enrollment": enrollment_id,
        "Requested by": requester or "unknown",
        "Reason": request.reason or "none given",
    }
    return _shown(facts, most_bytes)


def _shown(facts: dict[str, str], most_bytes: int | None) -> list[str]:
    shown = {name: printable(value) for name, value in facts.items()}
    if most_bytes is not None:
        shown = {name: _at_most(most_bytes, value) for name, value in shown.items()}
    return [f"{name}: {value}" for name, value in shown.items()]


class CertificateTerms(NamedTuple):
    """What a certificate will say that the request alone does not.

    Args:
        policy: of the CA key, with people's names as they are on record.
        signature_algorithm: TSB's name.
        usages: those of the certificate, all of them.
        csr_sha256: hash of the DER of the CSR that is signed.
    """

    policy: PolicySummary
    signature_algorithm: str
    usages: tuple[str, ...]
    csr_sha256: str


def certificate_lines(
    request: EnrollmentRequest,
    *,
    terms: CertificateTerms,
    enrollment_id: str,
    requester: str | None = None,
    most_bytes: int | None = None,
) -> list[str]:
    """As `lines`, of what the approvers of the CA's key are asked to agree to.

    Args:
        request: the accepted request, which asks for a certificate.
        terms: see `CertificateTerms`.
        enrollment_id: the id of this enrollment.
        requester: who asked, as far as the trigger knows them.
        most_bytes: as in `lines`.
    """
    asked = request.certificate
    assert asked is not None  # noqa: S101  for the type checker  # nosec B101
    subject = request.csr.standard_certificate_attributes.model_dump(
        by_alias=True, exclude_none=True
    )
    facts = {
        "Approve": "a certificate, signed once with the CA's key for a verified CSR",
        **{f"Subject {name}": value for name, value in subject.items()},
        "CA": "yes: it may sign certificates itself" if asked.certificate_authority else "no",
        "CA key label": asked.ca_key_label,
        "Validity": f"{asked.validity} days",
        "Signature": terms.signature_algorithm,
        "Usages": ", ".join(terms.usages) or "none",
        "Key": key(request),
        "Key label": request.key.label,
        "CSR": f"sha256:{terms.csr_sha256}",
        "Agreement": agreement(terms.policy),
        "Window": window_of(terms.policy.tokens),
        **({"Profile": request.profile} if request.profile else {}),
        "Enrollment": enrollment_id,
        "Requested by": requester or "unknown",
        "Reason": request.reason or "none given",
    }
    return _shown(facts, most_bytes)


def _at_most(most_bytes: int, text: str) -> str:
    kept = cut(text, most_bytes)
    return text if kept == text else f"{kept}… [cut; {len(text)} characters in full]"


def key(request: EnrollmentRequest) -> str:
    """The key's kind and size."""
    requested = request.key
    curve = {**CURVES, ED25519: "Ed25519"}.get(requested.curve_oid or "", requested.curve_oid)
    size = requested.key_size or curve or requested.algorithm_oid
    return f"{requested.algorithm} {size}" if size else requested.algorithm


def agreement(rule: PolicySummary) -> str:
    """Who must agree: tokens are alternatives, and all groups of a token are needed."""
    return " or ".join(_token(token) for token in rule.tokens) or "nobody can agree"


def window(request: EnrollmentRequest) -> str:
    """How long approvals are collected, and from when the CSR can be made."""
    return window_of(request.key.policy.rule_use.tokens)


def _following(request: EnrollmentRequest) -> dict[str, str]:
    asked = request.certificate
    if asked is None:
        return {}
    what = "a CA's certificate" if asked.certificate_authority else "a certificate"
    return {
        "Followed by": f"{what} of CA key {quoted(asked.ca_key_label)} for {asked.validity} days,"
        " if that key's own approvers agree"
    }


def window_of(tokens: Sequence[Token | TokenSummary]) -> str:
    """How long approvals are collected, and from when the key can be used."""
    seconds, lock = rules.window_seconds(tokens), rules.timelock_seconds(tokens)
    ends = f"{duration(seconds)} from the request" if seconds else "without end"
    return ends + (f", executed after {duration(lock)} at the earliest" if lock else "")


def duration(seconds: int) -> str:
    """Seconds in the largest unit that fits evenly: `1 day`, `90 minutes`."""
    for unit, size in SECONDS_PER.items():
        if seconds >= size and seconds % size == 0:
            number = seconds // size
            return f"{number} {unit}" + ("s" if number > 1 else "")
    return f"{seconds} s"


def _token(token: TokenSummary) -> str:
    groups = [
        f"{group.quorum} of " + ", ".join(quoted(name) for name in group.approvers)
        for group in token.groups
    ]
    return " and ".join(groups) or "nobody has to agree"
