"""What is asked for: the request with its key, policy and CSR, as sent and as accepted."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    StringConstraints,
)

from countersign.models.base import Flag, Model, OriginText, OwnId, Seconds


class Approval(Model):
    """One approver of a group: a public key, a certificate, or a name that TSB knows."""

    type: Literal["public_key", "certificate", "onboarded_approver_certificate"]
    name: str | None = None
    value: str | None = None


class Group(Model):
    """`quorum` of these approvers must agree."""

    name: str
    quorum: Annotated[int, Field(ge=1, strict=True)]
    approvals: Annotated[tuple[Approval, ...], Field(min_length=1)]


class Token(Model):
    """All groups must agree, after `timelock` and before `timeout` seconds (0: no limit)."""

    name: str
    timelock: Seconds
    timeout: Seconds
    groups: tuple[Group, ...] | None


class Rule(Model):
    """Any one of the tokens suffices; without a token the rule can never be fulfilled."""

    tokens: tuple[Token, ...]


class KeyStatus(Model):
    """Whether the key is blocked from the start."""

    blocked: Flag


class Policy(Model):
    """TSB's Smart Key Attributes, as in `POST /v1/key`."""

    rule_use: Rule
    rule_block: Rule | None = None
    rule_unblock: Rule | None = None
    rule_modify: Rule | None = None
    key_status: KeyStatus


class GroupSummary(Model):
    """`quorum` of these approvers, by name, must agree."""

    name: str
    quorum: int
    approvers: tuple[str, ...]


class TokenSummary(Model):
    """All groups must agree, after `timelock` and before `timeout` seconds (0: no limit)."""

    name: str
    timelock: int
    timeout: int
    groups: tuple[GroupSummary, ...]


class PolicySummary(Model):
    """Who must approve the use of the key: any one of the tokens suffices."""

    tokens: tuple[TokenSummary, ...]


class SecretReference(Model):
    """A reference to a password. A plain one would stay in the execution history for 90 days."""

    secret_arn: str


class KeyAttributes(Model):
    """Capabilities of the key, as in `POST /v1/key`. TSB has a default for each one left out."""

    decrypt: Flag
    sign: Flag
    unwrap: Flag
    encrypt: Flag | None = None
    verify: Flag | None = None
    wrap: Flag | None = None
    derive: Flag | None = False
    bip32: Flag | None = False
    slip10: Flag | None = False
    extractable: Flag | None = False
    modifiable: Flag | None = True
    destroyable: Flag | None = False
    sensitive: Flag | None = None
    copyable: Flag | None = False


class KeyRequest(Model):
    """The body of `POST /v1/key`."""

    label: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    password: SecretReference | None = None
    id: str | None = None
    algorithm: Literal["RSA", "EC", "ED"]
    algorithm_oid: str | None = None
    curve_oid: str | None = None
    key_size: Annotated[int, Field(strict=True)] | None = None
    attributes: KeyAttributes
    policy: Policy


MAX_VALIDITY_DAYS = 36_500  # ours: a later end needs a year of five digits some day


class Subject(Model):
    """TSB's `standardCertificateAttributes`."""

    common_name: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"\S")]
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] | None = None
    state_or_province_name: str | None = None
    locality: str | None = None
    organization_name: str | None = None
    organization_identifier: str | None = None
    organization_unit_name: str | None = None
    email: str | None = None
    title: str | None = None
    surname: str | None = None
    given_name: str | None = None
    initials: str | None = None
    pseudonym: str | None = None
    generation_qualifier: str | None = None


KeyUsage = Literal[
    "DIGITAL_SIGNATURE", "CONTENT_COMMITMENT", "KEY_ENCIPHERMENT", "DATA_ENCIPHERMENT",
    "KEY_AGREEMENT", "KEY_CERT_SIGN", "CRL_SIGN", "ENCIPHER_ONLY", "DECIPHER_ONLY",
]  # fmt: skip
ExtendedKeyUsage = Literal[
    "ANY_EXTENDED_KEY_USAGE", "SERVER_AUTH", "CLIENT_AUTH", "CODE_SIGNING", "EMAIL_PROTECTION",
    "TIME_STAMPING", "OCSP_SIGNING",
]  # fmt: skip


class CsrRequest(Model):
    """The `csrSignRequest` of `POST /v1/certificate/request`."""

    sign_key_name: str | None = None
    key_password: SecretReference | None = None
    signature_algorithm: str
    validity: Annotated[int, Field(strict=True)] | None = None  # a TSB field; PKCS #10 has none
    standard_certificate_attributes: Subject
    key_usage: tuple[KeyUsage, ...] | None = None
    extended_key_usage: tuple[ExtendedKeyUsage, ...] | None = None


class CertificateTerms(Model):
    """What a certificate is asked for with, whoever names the CA.

    Usages that are left out are the CSR's. A certificate that is not imported is only stored.
    """

    validity: Annotated[int, Field(ge=1, le=MAX_VALIDITY_DAYS, strict=True)]  # days
    certificate_authority: Flag = False
    key_usage: tuple[KeyUsage, ...] | None = None
    extended_key_usage: tuple[ExtendedKeyUsage, ...] | None = None
    signature_algorithm: str | None = None  # None: SHA-256, as the CA's key can make it
    import_: Flag = Field(default=True, alias="import")


class CertificateRequest(CertificateTerms):
    """The certificate that a CA's key signs for the CSR, under the CA key's own approvers."""

    ca_key_label: Annotated[str, StringConstraints(min_length=1, max_length=255)]


Reason = Annotated[str, StringConstraints(max_length=1000)]
UnusedKey = Literal["keep", "delete", "block"]


class RawRequest(Model):
    """A raw request brings its own policy. Only stacks with AllowRawPolicy accept it."""

    NAME = "request"

    enrollment_id: OwnId | None = None
    key: KeyRequest
    csr: CsrRequest
    certificate: CertificateRequest | None = None
    reason: Reason | None = None


class EnrollmentRequest(RawRequest):
    """A request as it is carried out: a raw request, or a request by profile after expansion.

    `profile` is the profile's name and version. `unused_key` says what becomes of a key whose CSR
    was not issued. Only a profile sets them, never a caller.
    """

    profile: str | None = None
    unused_key: UnusedKey | None = None


SubjectName = Literal[
    "commonName", "country", "stateOrProvinceName", "locality", "organizationName",
    "organizationIdentifier", "organizationUnitName", "email", "title", "surname", "givenName",
    "initials", "pseudonym", "generationQualifier",
]  # fmt: skip


class AskedKey(Model):
    """The key's label, and the settings that the profile lets a caller override."""

    label: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    password: SecretReference | None = None
    key_size: Annotated[int, Field(strict=True)] | None = None
    curve_oid: str | None = None


class AskedCsr(Model):
    """The subject's open fields, and the settings that the profile lets a caller override."""

    key_password: SecretReference | None = None
    signature_algorithm: str | None = None
    validity: Annotated[int, Field(strict=True)] | None = None
    standard_certificate_attributes: dict[SubjectName, str] = {}
    key_usage: tuple[KeyUsage, ...] | None = None
    extended_key_usage: tuple[ExtendedKeyUsage, ...] | None = None


class ProfileRequest(Model):
    """A request by profile: the values that the profile leaves open, and a reason."""

    NAME = "request"

    enrollment_id: OwnId | None = None
    profile: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}(@[1-9][0-9]{0,3})?$")
    ]
    key: AskedKey
    csr: AskedCsr = Field(default_factory=AskedCsr)  # else its form is built by whoever imports it
    reason: Reason | None = None


class LintFinding(Model):
    """One finding of the linter about a policy. `waiver`: the reason why it is accepted."""

    code: str
    level: Literal["error", "warning", "info"]
    path: str
    sentence: str
    action: str
    waiver: str | None = None


class StatedOrigin(Model):
    """What the input of an execution says about its trigger. Its starter may write anything."""

    NAME = "origin"

    trigger: Literal["start", "api", "schedule", "event", "workflow"] = "start"
    id: OriginText | None = None
    principal: OriginText | None = None
    account: OriginText | None = None
    time: OriginText | None = None


class Origin(StatedOrigin):
    """The trigger that a request came through, and what this trigger knows of who sent it.

    `said` is what the caller could write freely: nobody checked it.
    """

    said: StatedOrigin | None = None

    @property
    def requester(self) -> str | None:
        """Who asked: the principal that the API saw, else the one that the caller named, marked."""
        if self.principal is None and self.said is not None and self.said.principal is not None:
            return f"unknown; the caller says {self.said.principal}"
        return self.principal
