"""What was asked for, and what its approvers were shown. Pure."""

import json
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from countersign import models as m
from countersign.evidence import bundle
from countersign.evidence.bundle import Folder, require, require_equal, sha256
from countersign.policy import approvers, rules
from countersign.record import Record, wants_certificate
from countersign.request import canonical


def accepted_request(folder: Folder, record: Record) -> m.EnrollmentRequest:
    """The accepted request: what was sent, a profile expanded."""
    body, sent = folder["request.json"], record["request"]
    require_equal("request.json", "acceptedSha256", record["acceptedSha256"], sha256(body))
    requested = m.EnrollmentRequest.read(bundle.read(folder, "request.json"))
    require_equal("request.json", "key.label", record["keyLabel"], requested.key.label)
    require_equal("request.json", "profile", record.get("profile"), requested.profile)
    signs = requested.csr.sign_key_name or requested.key.label
    require_equal("request.json", "signKeyName", signs.casefold(), requested.key.label.casefold())
    is_same = wants_certificate(record) == (requested.certificate is not None)
    require(is_same, "request.json", "differs from record.json on whether a certificate is wanted")
    if "profile" in sent:
        asked = m.ProfileRequest.read(sent)
        values = asked.model_dump(mode="json", exclude_unset=True)
        accepted = canonical.accepted(requested)
        for name in ("key", "csr", "reason"):
            is_same = _within(values.get(name), accepted.get(name))
            require(is_same, "request.json", f"{name} is another than was sent")
        named = (requested.profile or "").partition("@")
        is_named = asked.profile in (requested.profile, named[0])
        require(is_named, "request.json", "the profile is another than was sent")
    else:
        require(canonical.canonical(sent) == body, "request.json", "is not what was sent")
    return requested


def _within(asked: Any, accepted: Any) -> bool:
    """Whether everything that was asked is in what was accepted."""
    if asked is None:
        return True
    if isinstance(asked, Mapping):
        return isinstance(accepted, Mapping) and all(
            _within(value, accepted.get(name)) for name, value in asked.items()
        )
    return bool(asked == accepted)


def people_asked(policy: m.Policy, summed_up: Any, part: str) -> tuple[m.Approver, ...]:
    """Whom a policy asks. Names are the directory's, so they are the record's to say."""
    on_record = m.PolicySummary.read(summed_up)
    is_same = _nameless(approvers.summary(policy, {})) == _nameless(on_record)
    require(is_same, part, "has another policy than record.json sums up")
    written = [
        name for token in on_record.tokens for group in token.groups for name in group.approvers
    ]
    people: dict[str, m.Approver] = {}
    for (_, approval), name in zip(rules.approvals_of(policy.rule_use, ""), written, strict=True):
        one = approvers.approver(approval)
        is_known = one.spki_sha256 is not None or one.name == name
        require(is_known, part, "names another onboarded approver than record.json")
        people.setdefault(approvers.identity(approval), one.model_copy(update={"name": name}))
    return tuple(people.values())


def _nameless(summary: m.PolicySummary) -> list[Any]:
    return [
        (token.name, token.timelock, token.timeout)
        + tuple((group.name, group.quorum, len(group.approvers)) for group in token.groups)
        for token in summary.tokens
    ]


def names_asked(policy: m.Policy, summed_up: Any) -> rules.Names:
    """The directory's names at the time, by key: where a name on record is not the policy's own."""
    written = [
        name
        for token in m.PolicySummary.read(summed_up).tokens
        for group in token.groups
        for name in group.approvers
    ]
    people = [approvers.approver(one) for _, one in rules.approvals_of(policy.rule_use, "")]
    return {
        one.spki_sha256: name
        for one, name in zip(people, written, strict=True)
        if one.spki_sha256 is not None and one.name != name
    }


def require_shown(folder: Folder, part: str, digest: str, wanted: bytes) -> None:
    """The approvers were shown what the request, made known anew, gives: every line of it.

    Raises:
        EvidenceInvalidError: names the first difference.
    """
    require_equal(part, "metaDataSha256", digest, sha256(folder[part]))
    shown, derived = bundle.read(folder, part), json.loads(wanted)
    for name in sorted({*shown, *derived} - {"about"}):
        require_equal(part, name, shown.get(name), derived.get(name))
    for line, said in zip_longest(derived["about"], shown["about"]):
        why = f"does not say {line!r}" if line else f"says {said!r} as well"
        require(line == said, part, why)
    require(folder[part] == wanted, part, "is not in canonical form (RFC 8785)")
