"""Whether a request may be carried out: its fields, its profile, its policy.

This module loads the cryptography that reads approvers' keys. CloseEnrollment needs only ids and
hashes, so it imports `canonical` and `intake` and not this module.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from countersign.algorithms import (
    CURVES,
    ED25519,
    KEY_OIDS,
    RSA_SIZES,
    SIGNATURES,
    UNREADABLE_CURVES,
)
from countersign.errors import InvalidEnrollmentError, invalid_field
from countersign.models import (
    CertificateRequest,
    EnrollmentRequest,
    KeyRequest,
    LintFinding,
    SecretReference,
)
from countersign.policy.linter import lint, refuse
from countersign.policy.profiles import Profile, Profiles, expand
from countersign.polling import DEADLINE_SECONDS
from countersign.request import subjects
from countersign.request.canonical import canonical, without_id
from countersign.request.intake import DATE_PARTS

# In canonical form, after a profile was expanded. A record takes 400 KiB, and holds it beside its
# approvers and findings; a state of the workflow takes 256 KB.
MAX_REQUEST_BYTES = 128 * 1024

# The vendor's engine names a temporary file after the key when it makes a CSR. A slash breaks that,
# and so do more than 200 characters. The characters are those of the vendor's samples.
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 ._:-]{0,198}[A-Za-z0-9._:-])?")
# They say for what alone a key may be agreed upon, and mean nothing without KEY_AGREEMENT.
AGREEMENT_ONLY = ("ENCIPHER_ONLY", "DECIPHER_ONLY")
OLDER_VALIDITY_DAYS = 90  # of a certificate for which no validity can be asked


class Rules(NamedTuple):
    """What a stack accepts.

    Args:
        profiles: the reviewed files, with the directory of approvers.
        key_password_prefix: ARN prefix of this stack's key passwords.
        allow_raw_policy: whether callers may bring a policy of their own instead of a profile.
            Callers who choose the approvers can approve their own key.
        deadline_seconds: when the workflow ends a window without end.
        escapes_subjects: whether the TSB escapes a subject's values; see `subjects`.
        newer_certificates: whether the TSB can be asked for a certificate's validity and whole
            subject (parameter TsbNewerCertificates).
    """

    profiles: Profiles
    key_password_prefix: str
    allow_raw_policy: bool
    deadline_seconds: int = DEADLINE_SECONDS
    escapes_subjects: bool = False
    newer_certificates: bool = False


class Reading(NamedTuple):
    """A request that can be carried out.

    Args:
        request: the complete request, after a profile was expanded.
        raw: the same as a JSON value without the id, as it is passed on and stored.
        findings: the linter's findings.
        profile_sha256: SHA-256 of the profile's file, if the request named a profile.
    """

    request: EnrollmentRequest
    raw: dict[str, Any]
    findings: tuple[LintFinding, ...]
    profile_sha256: str | None


def read(
    raw: object,
    *,
    rules: Rules,
    requester: str | None,
    moment: datetime,
    requester_known: bool = True,
) -> Reading:
    """Validate a request completely, before anything is created, for every trigger.

    Args:
        raw: the request as a JSON value.
        rules: what this stack accepts.
        requester: the AWS principal who asks, or says so.
        moment: the current time.
        requester_known: False if the trigger does not know who asks.

    Raises:
        InvalidEnrollmentError: names the field's path, the reason and what to do.
    """
    reading = examine(
        raw, rules=rules, requester=requester, moment=moment, requester_known=requester_known
    )
    refuse(reading.findings)
    return reading


def examine(
    raw: object,
    *,
    rules: Rules,
    requester: str | None,
    moment: datetime,
    requester_known: bool = True,
) -> Reading:
    """As `read`, but a linter's error is no refusal: for callers that only inspect a request.

    Raises:
        InvalidEnrollmentError: the request could not be carried out, whatever its policy.
    """
    whole, profile = _expanded(raw, rules, moment)
    request = EnrollmentRequest.read(whole)
    # What has no canonical form cannot be shown to approvers, nor recorded.
    size = len(canonical(whole))
    if size > MAX_REQUEST_BYTES:
        raise InvalidEnrollmentError(
            f"the request has {size} bytes; {MAX_REQUEST_BYTES} are the most",
            field="request",
            action="Name fewer approvers, by public keys instead of certificates.",
        )
    _check_key(request.key)
    _check_csr(request)
    if request.certificate is not None:
        _check_certificate(request, request.certificate, newer=rules.newer_certificates)
    subjects.check(request.csr.standard_certificate_attributes, escaped=rules.escapes_subjects)
    for field, secret in (
        ("key.password", request.key.password),
        ("csr.keyPassword", request.csr.key_password),
    ):
        _check_secret(field, secret, rules.key_password_prefix)
    if request.csr.key_password not in (None, request.key.password):
        raise invalid_field(
            "csr.keyPassword", "differs from key.password", "Leave it out: key.password is used."
        )
    findings = lint(
        request.key.policy,
        directory=rules.profiles.directory,
        profile=profile,
        requester=requester,
        requester_known=requester_known,
        deadline_seconds=rules.deadline_seconds,
        now=moment,
    )
    digest = rules.profiles.sha256(profile) if profile else None
    return Reading(request, without_id(whole), findings, digest)


def _expanded(raw: object, rules: Rules, moment: datetime) -> tuple[Any, Profile | None]:
    if not isinstance(raw, Mapping):
        return raw, None
    wanted = raw.get("profile")
    if isinstance(wanted, str):
        profile = rules.profiles.get(wanted)
        return expand(raw, profile, rules.profiles.directory, moment), profile
    if not rules.allow_raw_policy:
        raise invalid_field(
            "profile",
            "this stack accepts requests by profile only",
            f"Name one of: {', '.join(rules.profiles.ids) or 'none is deployed'}.",
        )
    if "unusedKey" in raw:
        raise invalid_field("unusedKey", "is a profile's to say", "Remove it, or name a profile.")
    return raw, None


def _check_key(key: KeyRequest) -> None:
    _check_label(key.label)
    _check_algorithm(key)
    if not key.attributes.sign:
        raise invalid_field(
            "key.attributes.sign", "a CSR is signed by its own key", "Set it to true."
        )
    if key.attributes.extractable:
        raise invalid_field(
            "key.attributes.extractable",
            "a key with a policy cannot be exported",
            "Set it to false.",
        )


def _check_label(label: str) -> None:
    if set("{}") & set(label):
        raise invalid_field(
            "key.label",
            f"of what stands in braces only {', '.join(DATE_PARTS)} is filled in, and for a"
            " schedule's occurrence only",
            "Take the braces away, or let a schedule ask.",
        )
    if not LABEL.fullmatch(label):
        raise invalid_field(
            "key.label",
            "is no label with which TSB can make a CSR: it names a file after the key, and reads /"
            " as a derivation path",
            "Use at most 200 letters without accents, digits, blanks and . - _ : only; begin with a"
            " letter or digit, and end with no blank.",
        )


def _check_algorithm(key: KeyRequest) -> None:
    own = KEY_OIDS[key.algorithm]
    if key.algorithm_oid not in (None, own):
        raise invalid_field(
            "key.algorithmOid", f"is not that of algorithm {key.algorithm}", f"Give {own}."
        )
    if key.algorithm == "RSA":
        if key.key_size not in RSA_SIZES:
            raise invalid_field(
                "key.keySize",
                "an RSA key needs a size that TSB makes",
                f"Use one of {', '.join(map(str, RSA_SIZES))}.",
            )
        if key.curve_oid is not None:
            raise invalid_field("key.curveOid", "an RSA key has no curve", "Leave it out.")
        return
    if key.algorithm == "EC":
        _check_curve(key.curve_oid)
    elif key.curve_oid not in (None, ED25519):
        raise invalid_field("key.curveOid", "of the ED curves TSB has Ed25519", f"Give {ED25519}.")
    if key.key_size is not None:
        raise invalid_field("key.keySize", "the curve decides the size", "Leave it out.")


def _check_curve(oid: str | None) -> None:
    if not oid:
        raise invalid_field(
            "key.curveOid",
            "an EC key needs its curve",
            "For P-256 give 1.2.840.10045.3.1.7.",
        )
    if oid in CURVES:
        return
    name = UNREADABLE_CURVES.get(oid)
    raise invalid_field(
        "key.curveOid",
        f"is {name}: TSB has it, but nothing here reads a CSR of such a key to verify it"
        if name
        else "is the OID of no curve that TSB makes keys on",
        "Use one of " + ", ".join(f"{curve} ({name})" for curve, name in CURVES.items()) + ".",
    )


def _check_csr(request: EnrollmentRequest) -> None:
    csr, key = request.csr, request.key
    # The labels in the vendor's own two bodies differ in letter case. The label as created is sent.
    if csr.sign_key_name is not None and csr.sign_key_name.casefold() != key.label.casefold():
        raise invalid_field(
            "csr.signKeyName",
            "names another key than key.label",
            "Leave it out, or give the label of this request's key.",
        )
    if csr.signature_algorithm not in SIGNATURES[key.algorithm]:
        raise _unsuitable(csr.signature_algorithm, key.algorithm)
    _check_usages("csr", csr.key_usage, csr.extended_key_usage)


def _check_usages(
    part: str, usages: tuple[str, ...] | None, extended: tuple[str, ...] | None
) -> None:
    for name, named in (("keyUsage", usages), ("extendedKeyUsage", extended)):
        if named is not None and len(set(named)) != len(named):
            raise invalid_field(f"{part}.{name}", "names a usage twice", "Name each usage once.")
    for usage in AGREEMENT_ONLY:
        if usage in (usages or ()) and "KEY_AGREEMENT" not in (usages or ()):
            raise invalid_field(
                f"{part}.keyUsage",
                f"{usage} means nothing without KEY_AGREEMENT (RFC 5280, 4.2.1.3)",
                "Add KEY_AGREEMENT, or leave it out.",
            )


def _check_certificate(
    request: EnrollmentRequest, asked: CertificateRequest, *, newer: bool
) -> None:
    if not LABEL.fullmatch(asked.ca_key_label):
        raise invalid_field(
            "certificate.caKeyLabel",
            "is no label of a key with which TSB can sign certificates",
            "Give the label of the CA's key.",
        )
    if asked.ca_key_label.casefold() == request.key.label.casefold():
        raise invalid_field(
            "certificate.caKeyLabel", "is the new key's own label", "Name the CA's key."
        )
    if not newer:
        _check_older_tsb(request, asked)
    if asked.signature_algorithm is not None and all(
        asked.signature_algorithm not in names for names in SIGNATURES.values()
    ):
        raise invalid_field(
            "certificate.signatureAlgorithm",
            "is no signature algorithm with which TSB signs certificates",
            "Leave it out: then it is SHA-256, as the CA's key can make it.",
        )
    _check_usages("certificate", asked.key_usage, asked.extended_key_usage)
    usages = request.csr.key_usage if asked.key_usage is None else asked.key_usage
    if ("KEY_CERT_SIGN" in (usages or ())) != asked.certificate_authority:
        raise invalid_field(
            "certificate.keyUsage",
            "KEY_CERT_SIGN and certificateAuthority belong together (RFC 5280, 4.2.1.3)",
            "Give both, or none of them.",
        )


def _check_older_tsb(request: EnrollmentRequest, asked: CertificateRequest) -> None:
    """Refuse what a TSB without the newer fields of its certificate call would not make.

    Source: the vendor's request class of release 2.2, which has the common name and no validity;
    its engine's certificates are valid for 90 days.
    """
    if asked.validity != OLDER_VALIDITY_DAYS:
        raise invalid_field(
            "certificate.validity",
            f"this TSB cannot be told: its certificates are valid for {OLDER_VALIDITY_DAYS} days",
            f"Give {OLDER_VALIDITY_DAYS}. For a newer TSB, have the stack's parameter"
            " TsbNewerCertificates set.",
        )
    more = request.csr.standard_certificate_attributes.model_dump(
        by_alias=True, exclude_none=True, exclude={"common_name"}
    )
    for name in more:
        raise invalid_field(
            f"csr.standardCertificateAttributes.{name}",
            "would be missing in the certificate: this TSB is told the common name only",
            "Leave it out. For a newer TSB, have the stack's parameter TsbNewerCertificates set.",
        )


def _unsuitable(algorithm: str, key: str) -> InvalidEnrollmentError:
    known = next((kind for kind, names in SIGNATURES.items() if algorithm in names), None)
    if known is not None:
        why = f"{algorithm} is made with a key of algorithm {known}, and this one is {key}"
    elif algorithm.startswith("SHA1_"):
        why = "SHA-1 is broken: no CA takes it, and its signature cannot be verified"
    else:
        why = "is no signature algorithm with which TSB makes CSRs"
    return invalid_field(
        "csr.signatureAlgorithm",
        why,
        f"For a key of algorithm {key} use one of {', '.join(SIGNATURES[key])}.",
    )


def _check_secret(field: str, secret: SecretReference | None, prefix: str) -> None:
    # Only below our own prefix: otherwise a caller could have any secret that the function can read
    # sent to TSB as a "password".
    if secret is not None and not (prefix and secret.secret_arn.startswith(prefix)):
        raise invalid_field(
            f"{field}.secretArn",
            "is not one of this stack's key passwords",
            f"Store the password in a secret whose ARN starts with {prefix}.",
        )
