"""Profiles: reviewed files that say what may be requested. They are deployed beside the code.

A released version of a profile never changes, so an enrollment that names it can be understood
years later.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from importlib.resources.abc import Traversable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, model_validator
from pydantic_core import SchemaError

from countersign import models as m
from countersign.errors import InvalidEnrollmentError, invalid_field
from countersign.models import Model
from countersign.policy.directory import Directory, Name
from countersign.policy.findings import CODES, ORDER
from countersign.policy.names import DIRECTORY

MAX_PATTERN = 200  # characters; nobody reviews a longer one
MAX_VALUE = 128  # characters of a value to match, unless the field has a lower limit
Override = Literal[
    "key.keySize", "key.curveOid", "csr.signatureAlgorithm", "csr.validity", "csr.keyUsage",
    "csr.extendedKeyUsage",
]  # fmt: skip

REMINDERS = (0.5, 0.9)  # of the window; also where no profile says

# A profile always decides these. Callers who choose them can approve their own key.
PROFILE_ONLY = {
    "": {"unusedKey", "certificate"},
    "key": {"algorithm", "algorithmOid", "attributes", "policy", "id"},
}

# A profile -------------------------------------------------------------------------------------


def _matcher(pattern: str, longest: int) -> TypeAdapter[str]:
    # pydantic's engine (Rust's regex) runs in linear time and has neither look-around nor
    # back-references. So no value can delay a function.
    constraints = StringConstraints(pattern=rf"\A(?:{pattern})\z", max_length=longest)
    return TypeAdapter(Annotated[str, constraints])


def _check_pattern(pattern: str) -> str:
    if not (pattern.startswith("^") and pattern.endswith("$")):
        raise ValueError("a pattern starts with ^ and ends with $")
    try:
        TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])
        _matcher(pattern, MAX_VALUE)
    except SchemaError:
        raise ValueError(
            "is no regular expression of linear time (Rust's syntax: no look-around, no \\1)"
        ) from None
    return pattern


class TextRule(Model):
    """A text: fixed by `value`, or left open within `pattern` (Rust's syntax, anchored)."""

    value: str | None = None
    pattern: Annotated[str, StringConstraints(max_length=MAX_PATTERN)] | None = None
    optional: bool = False
    max_length: Annotated[int, Field(ge=1, le=255, strict=True)] = MAX_VALUE

    @model_validator(mode="after")
    def _fixed_or_open(self) -> Self:
        if (self.value is None) == (self.pattern is None):
            raise ValueError("give either value or pattern")
        if self.pattern is not None:
            _check_pattern(self.pattern)
        return self

    def allows(self, text: str) -> bool:
        """Whether an open field may have this text."""
        try:
            _matcher(self.pattern or "", self.max_length).validate_python(text)
        except ValidationError:
            return False
        return True


class ProfileGroup(Model):
    """`quorum` of these people, by their names in the directory, must agree."""

    name: str | None = None
    quorum: Annotated[int, Field(ge=1, strict=True)]
    approvers: Annotated[tuple[str, ...], Field(min_length=1)]


class ProfileToken(Model):
    """All groups must agree. Times (seconds) are the profile's window unless given here."""

    name: str | None = None
    timelock: m.Seconds | None = None
    timeout: m.Seconds | None = None
    groups: Annotated[tuple[ProfileGroup, ...], Field(min_length=1)]


class ProfileRule(Model):
    """Any one of the tokens suffices; a rule without tokens can never be fulfilled (frozen)."""

    tokens: tuple[ProfileToken, ...]


class ProfilePolicy(Model):
    """Who may use the key and who may change that. A missing block rule asks nobody (TSB)."""

    rule_use: ProfileRule
    rule_block: ProfileRule | None = None
    rule_unblock: ProfileRule | None = None
    rule_modify: ProfileRule


class Window(Model):
    """How long approvals are collected (`timeout`), and from when they count (`timelock`).

    `reminders`: after which fractions of that time those who are still needed are reminded.
    """

    timelock: m.Seconds = 0
    timeout: m.Seconds
    reminders: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(max_length=10)] = (
        REMINDERS
    )


class ProfileKey(Model):
    """The key to create. The caller chooses its label within the pattern."""

    label: TextRule
    algorithm: Literal["RSA", "EC", "ED"]
    algorithm_oid: str | None = None
    curve_oid: str | None = None
    key_size: Annotated[int, Field(strict=True)] | None = None
    attributes: m.KeyAttributes


class ProfileCsr(Model):
    """The CSR to request. A subject field that is not listed is not allowed."""

    signature_algorithm: str
    validity: Annotated[int, Field(strict=True)] | None = None
    subject: dict[m.SubjectName, TextRule]
    key_usage: tuple[m.KeyUsage, ...] | None = None
    extended_key_usage: tuple[m.ExtendedKeyUsage, ...] | None = None

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if "commonName" not in self.subject or self.subject["commonName"].optional:
            raise ValueError("subject needs a commonName")
        return self


class Waiver(Model):
    """Why a finding of the linter is accepted; reviewed with the profile."""

    code: str
    reason: Annotated[str, StringConstraints(min_length=10, max_length=500)]


class Lint(Model):
    """Findings that this profile takes more seriously, and those that it accepts."""

    levels: dict[str, Literal["error", "warning"]] = {}
    waivers: tuple[Waiver, ...] = ()

    @model_validator(mode="after")
    def _known_and_allowed(self) -> Self:
        unknown = {*self.levels, *(waiver.code for waiver in self.waivers)} - CODES.keys()
        if unknown:
            raise ValueError(f"unknown finding: {', '.join(sorted(unknown))}")
        for waiver in self.waivers:
            if CODES[waiver.code].waiver is None:
                raise ValueError(f"{waiver.code} cannot be waived")
        return self


class Profile(Model):
    """One version of a profile."""

    NAME: ClassVar[str] = "profile"

    schema_: str | None = Field(default=None, alias="$schema")
    name: Name
    version: Annotated[int, Field(ge=1, le=9999, strict=True)]
    description: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    production: bool
    key: ProfileKey
    policy: ProfilePolicy
    window: Window
    csr: ProfileCsr
    ca_key_label: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    certificate: m.CertificateTerms | None = Field(
        default=None, description="Asked for with the CA key, once the CSR is there."
    )
    unused_key: m.UnusedKey = "keep"
    overrides: tuple[Override, ...] = ()
    lint: Lint = Field(default_factory=Lint)

    @model_validator(mode="after")
    def _levels_are_raised_only(self) -> Self:
        for code, level in self.lint.levels.items():
            entry = CODES[code]
            least = entry.production if self.production else entry.level
            if ORDER.index(level) > ORDER.index(least):
                raise ValueError(f"{code}: a level can be raised only; to lower it, waive it")
        return self

    @model_validator(mode="after")
    def _names_its_ca(self) -> Self:
        if self.certificate is not None and self.ca_key_label is None:
            raise ValueError("certificate needs caKeyLabel")
        return self

    @property
    def id(self) -> str:
        """Name and version, as a request names it: `code-signing@1`."""
        return f"{self.name}@{self.version}"


# What a profile makes of a request -------------------------------------------------------------


def expand(
    raw: Mapping[str, Any], profile: Profile, directory: Directory, moment: datetime
) -> dict[str, Any]:
    """The raw request that a request by profile stands for, as a JSON value without its id.

    Args:
        raw: a request that names this profile.
        profile: the version that the request names.
        directory: has the people that the profile names.
        moment: the current time; a person is asked with the key that is valid then.

    Raises:
        InvalidEnrollmentError: a field is unknown, is missing, is decided by the profile, or does
            not match the profile's pattern; or the profile names somebody who is not in the
            directory.
    """
    _refuse_what_profiles_decide(raw, profile)
    requested = m.ProfileRequest.read(raw)
    key = {
        **profile.key.model_dump(mode="json", exclude_unset=True, exclude={"label"}),
        **_given(requested.key, "key", profile),
        "policy": whole_policy(profile, directory, moment),
    }
    _check_text("key.label", requested.key.label, profile.key.label, profile)
    csr = {
        **profile.csr.model_dump(mode="json", exclude_unset=True, exclude={"subject"}),
        **_given(requested.csr, "csr", profile),
        "standardCertificateAttributes": _subject(
            requested.csr.standard_certificate_attributes, profile
        ),
    }
    return {
        "profile": profile.id,
        "key": key,
        "csr": csr,
        **_certificate(profile),
        **({"reason": requested.reason} if requested.reason is not None else {}),
        "unusedKey": profile.unused_key,
    }


def _certificate(profile: Profile) -> dict[str, Any]:
    if profile.certificate is None:
        return {}
    terms = profile.certificate.model_dump(mode="json", exclude_unset=True)
    return {"certificate": {"caKeyLabel": profile.ca_key_label, **terms}}


def _refuse_what_profiles_decide(raw: Mapping[str, Any], profile: Profile) -> None:
    for place, names in PROFILE_ONLY.items():
        existing = raw.get(place) if place else raw
        for name in sorted(names & existing.keys()) if isinstance(existing, Mapping) else ():
            raise _forbidden(f"{place}.{name}" if place else name, profile)


def _given(requested: m.AskedKey | m.AskedCsr, place: str, profile: Profile) -> dict[str, Any]:
    """The caller's values, for the fields that the profile leaves open."""
    always = {"label", "password", "keyPassword", "standardCertificateAttributes"}
    fields: dict[str, Any] = requested.model_dump(mode="json", exclude_unset=True)
    for name in fields:
        if name not in always and f"{place}.{name}" not in profile.overrides:
            raise _forbidden(f"{place}.{name}", profile)
    return fields


def _subject(fields: Mapping[m.SubjectName, str], profile: Profile) -> dict[str, str]:
    at = "csr.standardCertificateAttributes"
    for name in fields:
        if name not in profile.csr.subject or profile.csr.subject[name].value is not None:
            raise _forbidden(f"{at}.{name}", profile)
    subject: dict[str, str] = {}
    for name, rule in profile.csr.subject.items():
        if rule.value is not None:
            subject[name] = rule.value
        elif name in fields:
            _check_text(f"{at}.{name}", fields[name], rule, profile)
            subject[name] = fields[name]
        elif not rule.optional:
            raise invalid_field(
                f"{at}.{name}", f"missing; profile {profile.id} wants it", f"Give {rule.pattern}."
            )
    return subject


def _check_text(field: str, text: str, rule: TextRule, profile: Profile) -> None:
    if rule.value is not None and text != rule.value:
        raise invalid_field(field, f"profile {profile.id} wants another", f"Give {rule.value!r}.")
    if rule.pattern is not None and not rule.allows(text):
        raise invalid_field(
            field,
            f"does not fit the pattern of profile {profile.id}",
            f"Give a text that matches {rule.pattern} in at most {rule.max_length} characters.",
        )


def whole_policy(profile: Profile, directory: Directory, moment: datetime) -> dict[str, Any]:
    """The profile's policy in TSB's form: people are replaced by the keys that they have now.

    Raises:
        InvalidEnrollmentError: the profile names somebody who is not in the directory.
    """
    rules = {
        "ruleUse": profile.policy.rule_use,
        "ruleBlock": profile.policy.rule_block,
        "ruleUnblock": profile.policy.rule_unblock,
        "ruleModify": profile.policy.rule_modify,
    }
    return {
        **{
            name: rule and {"tokens": _tokens(rule, profile, directory, moment)}
            for name, rule in rules.items()
        },
        "keyStatus": {"blocked": False},
    }


def _tokens(
    rule: ProfileRule, profile: Profile, directory: Directory, moment: datetime
) -> list[dict[str, Any]]:
    window = profile.window
    return [
        {
            "name": token.name or f"Token{t}",
            "timelock": window.timelock if token.timelock is None else token.timelock,
            "timeout": window.timeout if token.timeout is None else token.timeout,
            "groups": [
                {
                    "name": group.name or f"Group{g}",
                    "quorum": group.quorum,
                    "approvals": [
                        _approval(name, profile, directory, moment) for name in group.approvers
                    ],
                }
                for g, group in enumerate(token.groups, start=1)
            ],
        }
        for t, token in enumerate(rule.tokens, start=1)
    ]


def _approval(
    name: str, profile: Profile, directory: Directory, moment: datetime
) -> dict[str, str]:
    person = directory.person(name)
    if person is None:
        raise invalid_field(
            "profile",
            f"profile {profile.id} names {name!r}, who is not in the directory of approvers",
            "Have the directory corrected, or name another profile.",
        )
    key = person.key_at(moment)
    return {"type": key.kind, "name": person.name, "value": key.value}


def _forbidden(field: str, profile: Profile) -> InvalidEnrollmentError:
    return invalid_field(field, f"profile {profile.id} decides this, not the caller", "Remove it.")


# The profile store -----------------------------------------------------------------------------


class Profiles:
    """The folder with the profiles, `<name>@<version>.json`, and the directory.

    Args:
        folder: where the files are. A file is read at first use and kept.
    """

    def __init__(self, folder: Traversable) -> None:
        self._folder = folder
        self._kept: dict[str, tuple[Profile, str]] = {}

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """All versions of all profiles, newest last."""
        found = [
            (match[1], int(match[2]))
            for file in self._folder.iterdir()
            if (match := re.fullmatch(r"([a-z0-9-]+)@([0-9]+)\.json", file.name))
        ]
        return tuple(f"{name}@{version}" for name, version in sorted(found))

    @cached_property
    def directory(self) -> Directory:
        """The approvers; nobody if there is no such file.

        Raises:
            InvalidEnrollmentError: the file does not match its schema.
        """
        file = self._folder / DIRECTORY
        return Directory.read(_json(file)) if file.is_file() else Directory()

    def get(self, wanted: str) -> Profile:
        """A profile by `name@version`, or the newest version by `name`.

        Raises:
            InvalidEnrollmentError: there is no such profile, or its file does not match its schema.
        """
        return self._read(wanted)[0]

    def sha256(self, profile: Profile) -> str:
        """The hex SHA-256 of the profile's file: what was reviewed."""
        return self._read(profile.id)[1]

    def _read(self, wanted: str) -> tuple[Profile, str]:
        versions = [one for one in self.ids if wanted in (one, one.split("@")[0])]
        if not versions:
            raise invalid_field(
                "profile",
                f"there is no profile {wanted!r}",
                f"Name one of: {', '.join(self.ids) or 'none is deployed'}.",
            )
        if versions[-1] not in self._kept:
            file = self._folder / f"{versions[-1]}.json"
            profile = Profile.read(_json(file))
            if profile.id != versions[-1]:
                raise invalid_field(
                    "profile",
                    f"{file.name} says that it is {profile.id}",
                    "Have the file's name, or its name and version, corrected.",
                )
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            self._kept[versions[-1]] = profile, digest
        return self._kept[versions[-1]]


def _json(file: Traversable) -> Any:
    try:
        return json.loads(file.read_bytes(), object_pairs_hook=m.unique)
    except ValueError as error:
        raise InvalidEnrollmentError(
            f"{file.name} is no JSON: {getattr(error, 'msg', type(error).__name__)}",
            field="request.profile",
            action="Have the file corrected and the stack deployed again.",
        ) from None
