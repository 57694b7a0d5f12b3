"""Who the approvers are: the directory, a reviewed file that is deployed beside the code."""

import hashlib
import re
from collections.abc import Mapping
from datetime import date, datetime
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from countersign.models import Model
from countersign.policy import approver_keys
from countersign.spki import approver_spki
from countersign.texts import name_fault, same_person

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]

# A role as IAM writes it, which may have a path; and as callers are seen, who have a session.
ROLES = (
    re.compile(r"arn:[^:]+:iam::(?P<account>\d+):role/(?:[^:]+/)?(?P<role>[^/:]+)(?P<session>)"),
    re.compile(
        r"arn:[^:]+:sts::(?P<account>\d+):assumed-role/(?P<role>[^/]+)(?:/(?P<session>.+))?"
    ),
)
# What its holder cannot rename: users, roles, and sessions that IAM Identity Center names.
LASTING = re.compile(
    r"arn:[^:]+:(?:iam::\d+:(?:root|user/.+|role/.+)"
    r"|sts::\d+:assumed-role/(?:[^/]+|AWSReservedSSO_[^/]+/[^/]+))"
)

# The directory ---------------------------------------------------------------------------------


class PersonKey(Model):
    """A key that a person approves with: a public key or a certificate, base64 DER on one line."""

    public_key: str | None = None
    certificate: str | None = None
    valid_from: date
    valid_to: date | None = None

    @model_validator(mode="after")
    def _one_readable_key(self) -> Self:
        if (self.public_key is None) == (self.certificate is None):
            raise ValueError("give either publicKey or certificate")
        if self.valid_to is not None and self.valid_to < self.valid_from:
            raise ValueError("validTo is before validFrom")
        fault = approver_keys.unfit(self.kind, self.value)
        if fault is not None:
            raise ValueError(f"its key {fault}")
        return self

    @property
    def kind(self) -> Literal["public_key", "certificate"]:
        """The type of an approval that names this key."""
        return "certificate" if self.public_key is None else "public_key"

    @property
    def value(self) -> str:
        """The value of an approval that names this key."""
        return self.public_key or self.certificate or ""

    @cached_property
    def spki_sha256(self) -> str:
        """The fingerprint of the public key, also if the key is given as a certificate."""
        return hashlib.sha256(approver_spki(self.kind, self.value)).hexdigest()

    def valid(self, moment: datetime) -> bool:
        """Whether the key is valid on the day of `moment`, according to the directory."""
        day = moment.date()
        return self.valid_from <= day and (self.valid_to is None or day <= self.valid_to)


def _role(arn: str) -> tuple[str, str, str | None] | None:
    """Account, role and session of a role's ARN, or of its session's; the path says nothing."""
    found = next((match for form in ROLES if (match := form.fullmatch(arn))), None)
    return (found["account"], found["role"], found["session"] or None) if found else None


class Person(Model):
    """An approver: how to reach them, their keys, and the AWS principals they act as."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    contact: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    principals: tuple[str, ...] = ()
    keys: Annotated[tuple[PersonKey, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _readable_name(self) -> Self:
        if (fault := name_fault(self.name)) is not None:
            raise ValueError(f"the name {fault}")
        return self

    def acts_as(self, arn: str) -> bool:
        """Whether this AWS principal is listed: itself, or its role without a session."""
        caller = _role(arn)
        return any(
            listed == arn or (caller is not None and _role(listed) == (*caller[:2], None))
            for listed in self.principals
        )

    def may_act_as(self, arn: str) -> bool:
        """Whether only a session's name, its holder's choice, distinguishes them from `arn`."""
        caller = _role(arn)
        return caller is not None and any(
            named is not None and named[:2] == caller[:2] for named in map(_role, self.evadable)
        )

    @property
    def evadable(self) -> tuple[str, ...]:
        """Listed principals that this person need not be: a holder chooses the session's name."""
        return tuple(one for one in self.principals if not LASTING.fullmatch(one))

    def key_at(self, moment: datetime) -> PersonKey:
        """The key to ask this person with: the newest valid one, else the newest."""
        newest = sorted(self.keys, key=lambda key: key.valid_from, reverse=True)
        return next((key for key in newest if key.valid(moment)), newest[0])


class Directory(Model):
    """Everybody who may approve. A fingerprint identifies one person, also for an old key."""

    NAME: ClassVar[str] = "directory"

    schema_: str | None = Field(default=None, alias="$schema")
    people: tuple[Person, ...] = ()

    @model_validator(mode="after")
    def _everybody_once(self) -> Self:
        names = [same_person(one.name) for one in self.people]
        digests = [key.spki_sha256 for one in self.people for key in one.keys]
        for what, values in (("name", names), ("key", digests)):
            twice = {value for value in values if values.count(value) > 1}
            if twice:
                raise ValueError(f"the same {what} twice: {', '.join(sorted(twice))}")
        return self

    @cached_property
    def names(self) -> Mapping[str, str]:
        """People's names by the fingerprints of their keys."""
        return {key.spki_sha256: person.name for person in self.people for key in person.keys}

    @cached_property
    def keys(self) -> Mapping[str, PersonKey]:
        """People's keys by their fingerprints."""
        return {key.spki_sha256: key for person in self.people for key in person.keys}

    def person(self, name: str) -> Person | None:
        """The person with this name."""
        return next((one for one in self.people if one.name == name), None)
