"""The request of a door: whose it is, which enrollment it means, and whether it can be done."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import rfc8785

from countersign.errors import InvalidEnrollmentError
from countersign.models import (
    SCHEMA_VERSION,
    EnrollmentRequest,
    KeyRequest,
    LintFinding,
    Origin,
    SecretReference,
)

if TYPE_CHECKING:
    from countersign.profiles import Profile, Profiles

NESTED_STARTER = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"  # added by nested workflow calls
ENROLLMENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
DATE_PARTS = {"{yyyy}": "%Y", "{mm}": "%m", "{dd}": "%d", "{hh}": "%H"}  # in a schedule's key label
RSA_SIZES = (2048, 3072, 4096, 8192)
# TSB hands the meta data to every approver in every listing of his tasks. A request of ordinary
# size (some forty approvers by key) is shown in full, of a longer one its SHA-256.
MAX_META_DATA_BYTES = 32 * 1024
ED25519 = "1.3.101.112"
ALGORITHM_SUFFIXES = {"RSA": ("_WITH_RSA", "_WITH_RSA_PSS"), "EC": ("_WITH_ECDSA",), "ED": ()}
EDDSA = "EDDSA"


def asked(raw: object) -> tuple[Any, Origin]:
    """The request as it will be carried out, and the origin, of a machine input.

    A schedule asks again and again with one text: the date of the occurrence is filled into the
    key's label here, before anything is validated or hashed. So a repeated delivery is the same
    request, and what is on record is what was asked of TSB.

    Raises:
        InvalidEnrollmentError: the input is no object, its origin is none that we know, or the
            occurrence cannot be told from the next one.
    """
    request, origin = split_input(raw)
    if origin.door != "schedule":
        return request, origin
    moment = _occurrence(origin)
    if moment is None:
        raise InvalidEnrollmentError(
            "a schedule says which it is and for what time it asks",
            field="origin.time" if origin.id else "origin.id",
            action='Give "id": "<aws.scheduler.schedule-arn>" and "time":'
            ' "<aws.scheduler.scheduled-time>" in the origin of the schedule\'s input.',
        )
    if isinstance(request, Mapping) and "enrollmentId" in request:
        raise _invalid(
            "enrollmentId",
            "would make every occurrence of the schedule the same enrollment",
            "Leave it out: the id is the schedule's name and the scheduled time.",
        )
    return _dated(request, moment), origin


def split_input(raw: object) -> tuple[Any, Origin]:
    """The request and the origin in a machine input, as they were given.

    A bare request comes from door `start`, or from door `workflow` where a nested call added its
    key.

    Raises:
        InvalidEnrollmentError: the input is no object, or its origin is none that we know.
    """
    if not isinstance(raw, Mapping):
        raise InvalidEnrollmentError(
            "the input is not a JSON object",
            field="request",
            action='Start with {"request": {…}} or with the request itself.',
        )
    given = {name: value for name, value in raw.items() if name != NESTED_STARTER}
    starter = raw.get(NESTED_STARTER)
    nested = {"door": "workflow", "id": starter} if starter is not None else {}
    if "request" not in given:
        return given, Origin.read(nested)
    unknown = sorted(given.keys() - {"request", "origin"})
    if unknown:
        raise InvalidEnrollmentError(
            f"{unknown[0]}: unknown field beside request and origin",
            field=unknown[0],
            action="Remove it; everything that is asked for stands in request.",
        )
    return given["request"], Origin.read(given.get("origin") or nested)


def enrollment_id(raw: object, execution_name: str) -> str:
    """The id that an input means, also where the rest of it is unacceptable.

    What the door says for a schedule's occurrence, else the caller's own, else an event's id or
    what the API made of an idempotency key, else the execution's name. What is no valid id is
    hashed: the same delivery again must mean the same enrollment.
    """
    try:
        request, origin = split_input(raw)
    except InvalidEnrollmentError:
        request, origin = None, Origin()
    own = own_id(request)
    if own is not None and origin.door != "schedule":
        return own
    name = _name_of_door(origin) or execution_name
    return name if ENROLLMENT_ID.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()


def _name_of_door(origin: Origin) -> str | None:
    if origin.door == "event" and origin.id:
        return f"event-{origin.id}"
    if origin.door == "schedule" and (moment := _occurrence(origin)):
        schedule = (origin.id or "").rpartition("/")[2]  # of an ARN its last part, else all of it
        return f"{schedule}-{moment:%Y%m%dT%H%M%SZ}"
    return origin.id if origin.door == "api" else None


def _occurrence(origin: Origin) -> datetime | None:
    """The time for which a schedule asks, UTC; None where it does not say which schedule or time.

    The scheduled time, not the present: it is the same for every attempt to deliver.
    """
    try:
        moment = datetime.fromisoformat(origin.time or "")
    except ValueError:
        return None
    return moment.astimezone(UTC) if origin.id and moment.tzinfo else None


def _dated(request: Any, moment: datetime) -> Any:
    """The request with the date in its key's label, in both places where it may stand."""
    for part, field in (("key", "label"), ("csr", "signKeyName")):
        inner = request.get(part) if isinstance(request, Mapping) else None
        text = inner.get(field) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping) and isinstance(text, str):
            for placeholder, form in DATE_PARTS.items():
                text = text.replace(placeholder, f"{moment:{form}}")
            request = {**request, part: {**inner, field: text}}
    return request


def own_id(request: object) -> str | None:
    """The id that a request itself gives its enrollment."""
    own = request.get("enrollmentId") if isinstance(request, Mapping) else None
    return own if isinstance(own, str) and ENROLLMENT_ID.fullmatch(own) else None


def sha256(request: Mapping[str, Any]) -> str:
    """The hash by which two requests are the same: of the RFC 8785 form, without the id.

    Raises:
        InvalidEnrollmentError: the request has no canonical form (a number beyond 2^53, a lone
            surrogate).
    """
    return hashlib.sha256(canonical(request)).hexdigest()


def canonical(request: Mapping[str, Any]) -> bytes:
    """The RFC 8785 form of the request, without its id.

    Raises:
        InvalidEnrollmentError: it has none.
    """
    try:
        return rfc8785.dumps(without_id(request))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        raise InvalidEnrollmentError(
            "the request has no canonical JSON form: a number or a text that JSON cannot carry",
            field="request",
            action="Use integers below 2^53 and valid Unicode.",
        ) from None


def accepted(request: EnrollmentRequest) -> dict[str, Any]:
    """The accepted request as JSON value: what was asked and nothing added.

    Its canonical form is what approvers are shown and what a CSR is compared with.
    """
    return request.model_dump(mode="json", exclude_unset=True, exclude={"enrollment_id"})


@dataclass(frozen=True)
class Rules:
    """What a stack accepts.

    Args:
        profiles: the reviewed files, with the directory of approvers.
        key_password_prefix: ARN prefix below which this stack's key passwords lie.
        allow_raw_policy: whether a caller may bring a policy of his own instead of a profile:
            whoever chooses the approvers can approve his own key.
    """

    profiles: "Profiles"
    key_password_prefix: str
    allow_raw_policy: bool


@dataclass(frozen=True)
class Reading:
    """A request that can be carried out.

    Args:
        request: the whole of it, a profile expanded.
        raw: the same as JSON value without the id, as it travels and is kept.
        findings: what the linter has to say.
        profile_sha256: of the profile's file, where the request named one.
    """

    request: EnrollmentRequest
    raw: dict[str, Any]
    findings: tuple[LintFinding, ...]
    profile_sha256: str | None


def read(raw: object, *, rules: Rules, requester: str | None, moment: datetime) -> Reading:
    """Validate a request completely, before anything is created: the one validator of every door.

    Args:
        raw: the request as JSON value.
        rules: what this stack accepts.
        requester: the AWS principal who asks, as far as the door knows him.
        moment: now.

    Raises:
        InvalidEnrollmentError: names the field's path, the reason and the way out.
    """
    # Only who validates pays for the cryptography that reads approvers' keys: CloseEnrollment,
    # which asks here for ids and hashes, does not.
    from countersign.lint import refuse  # noqa: PLC0415

    reading = examine(raw, rules=rules, requester=requester, moment=moment)
    refuse(reading.findings)
    return reading


def examine(raw: object, *, rules: Rules, requester: str | None, moment: datetime) -> Reading:
    """As `read`, without refusing what the linter calls an error: for those who only look.

    Raises:
        InvalidEnrollmentError: it is no request that could be carried out, whatever its policy.
    """
    from countersign.lint import lint  # noqa: PLC0415

    whole, profile = _expanded(raw, rules, moment)
    request = EnrollmentRequest.read(whole)
    _check_key(request.key)
    _check_csr(request)
    for field, secret in (
        ("key.password", request.key.password),
        ("csr.keyPassword", request.csr.key_password),
    ):
        _check_secret(field, secret, rules.key_password_prefix)
    if request.csr.key_password not in (None, request.key.password):
        raise _invalid(
            "csr.keyPassword", "differs from key.password", "Leave it out: key.password is used."
        )
    findings = lint(
        request.key.policy,
        directory=rules.profiles.directory,
        profile=profile,
        requester=requester,
        now=moment,
    )
    digest = rules.profiles.sha256(profile) if profile else None
    return Reading(request, without_id(whole), findings, digest)


def _expanded(raw: object, rules: Rules, moment: datetime) -> "tuple[Any, Profile | None]":
    from countersign.profiles import expand  # noqa: PLC0415

    if not isinstance(raw, Mapping):
        return raw, None
    wanted = raw.get("profile")
    if isinstance(wanted, str):
        profile = rules.profiles.get(wanted)
        return expand(raw, profile, rules.profiles.directory, moment), profile
    if not rules.allow_raw_policy:
        raise _invalid(
            "profile",
            "this stack accepts requests by profile only",
            f"Name one of: {', '.join(rules.profiles.ids) or 'none is deployed'}.",
        )
    if "unusedKey" in raw:
        raise _invalid("unusedKey", "is a profile's to say", "Remove it, or name a profile.")
    return raw, None


def tsb_key(request: EnrollmentRequest, password: str | None) -> dict[str, Any]:
    """The body of `POST /v1/key`: what was asked, nothing added, the password put in."""
    body = request.key.model_dump(mode="json", exclude_unset=True)
    if "password" in body:
        body["password"] = list(password) if password is not None else None
    return body


def meta_data(
    request: EnrollmentRequest, *, enrollment_id: str, requester: str | None = None
) -> bytes:
    """What the approvers are shown: a summary, the accepted request, and its SHA-256.

    RFC 8785 form, the same bytes whenever it is made; at most `MAX_META_DATA_BYTES`, for the sake
    of which the request itself is left out, never its hash.
    """
    from countersign.summary import summary  # noqa: PLC0415  RequestCsr alone shows it

    asked = accepted(request)
    content = {
        "app": "countersign",
        "type": "CertificateSigningRequest",
        "schemaVersion": SCHEMA_VERSION,
        "enrollmentId": enrollment_id,
        "reason": request.reason,
        "summary": summary(request, enrollment_id=enrollment_id, requester=requester),
        "requestSha256": sha256(asked),
        "request": asked,
    }
    whole: bytes = rfc8785.dumps(content)
    if len(whole) <= MAX_META_DATA_BYTES:
        return whole
    short: bytes = rfc8785.dumps({**content, "request": None})
    return short


def tsb_csr(
    request: EnrollmentRequest,
    password: str | None,
    *,
    shown: bytes,
    signature: bytes,
) -> dict[str, Any]:
    """The `csrSignRequest`: what was asked, the label exactly as the key was created.

    Args:
        request: the accepted request.
        password: of the key.
        shown: the meta data.
        signature: over it, by the stack's signing key.
    """
    body = request.csr.model_dump(mode="json", exclude_unset=True)
    return {
        **body,
        "signKeyName": request.key.label,
        "keyPassword": list(password) if password is not None else None,
        "metaData": base64.b64encode(shown).decode(),
        "metaDataSignature": base64.b64encode(signature).decode(),
    }


def without_id(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request as it travels: its id is the enrollment's."""
    return {name: value for name, value in request.items() if name != "enrollmentId"}


def _check_key(key: KeyRequest) -> None:
    if "/" in key.label or any(ord(letter) < ord(" ") for letter in key.label):
        raise _invalid(
            "key.label",
            "TSB reads / as a derivation path, and control characters are not printable",
            "Use letters, digits, blanks and . - _ : only.",
        )
    if set("{}") & set(key.label):
        raise _invalid(
            "key.label",
            f"of what stands in braces only {', '.join(DATE_PARTS)} is filled in, and for a"
            " schedule's occurrence only",
            "Take the braces away, or let a schedule ask.",
        )
    if key.algorithm == "RSA" and key.key_size not in RSA_SIZES:
        raise _invalid(
            "key.keySize",
            "an RSA key needs a size that TSB makes",
            f"Use one of {', '.join(map(str, RSA_SIZES))}.",
        )
    if key.algorithm == "EC" and not key.curve_oid:
        raise _invalid(
            "key.curveOid",
            "an EC key needs its curve",
            "For P-256 give 1.2.840.10045.3.1.7.",
        )
    if key.algorithm == "ED" and key.curve_oid not in (None, ED25519):
        raise _invalid("key.curveOid", "of the ED curves TSB has Ed25519", f"Give {ED25519}.")
    if not key.attributes.sign:
        raise _invalid("key.attributes.sign", "a CSR is signed by its own key", "Set it to true.")
    if key.attributes.extractable:
        raise _invalid(
            "key.attributes.extractable",
            "a key with a policy cannot be exported",
            "Set it to false.",
        )


def _check_csr(request: EnrollmentRequest) -> None:
    csr, key = request.csr, request.key
    # The vendor's own pair of bodies differs in letter case; the label as created is what is sent.
    if csr.sign_key_name is not None and csr.sign_key_name.casefold() != key.label.casefold():
        raise _invalid(
            "csr.signKeyName",
            "names another key than key.label",
            "Leave it out, or give the label of this request's key.",
        )
    algorithm = csr.signature_algorithm
    fits = (
        algorithm == EDDSA
        if key.algorithm == "ED"
        else algorithm.startswith("SHA") and algorithm.endswith(ALGORITHM_SUFFIXES[key.algorithm])
    )
    if not fits:
        raise _invalid(
            "csr.signatureAlgorithm",
            f"{algorithm} cannot be made with a key of algorithm {key.algorithm}",
            "Use SHA256_WITH_RSA, SHA256_WITH_ECDSA or EDDSA as fits the key.",
        )
    for name in ("keyUsage", "extendedKeyUsage"):
        usages = csr.key_usage if name == "keyUsage" else csr.extended_key_usage
        if usages is not None and len(set(usages)) != len(usages):
            raise _invalid(f"csr.{name}", "names a usage twice", "Name each usage once.")


def _check_secret(field: str, secret: SecretReference | None, prefix: str) -> None:
    # Below a prefix of our own: else a caller could have any secret that the function can read
    # sent to TSB as a "password".
    if secret is not None and not (prefix and secret.secret_arn.startswith(prefix)):
        raise _invalid(
            f"{field}.secretArn",
            "is not one of this stack's key passwords",
            f"Store the password in a secret whose ARN starts with {prefix}.",
        )


def _invalid(field: str, reason: str, action: str) -> InvalidEnrollmentError:
    return InvalidEnrollmentError(f"{field}: {reason}", field=f"request.{field}", action=action)
