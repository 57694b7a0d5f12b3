"""The request of a door: whose it is, which enrollment it means, and whether it can be done."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import rfc8785

from countersign import policy
from countersign.errors import InvalidEnrollmentError
from countersign.models import EnrollmentRequest, KeyRequest, Origin, SecretReference

NESTED_STARTER = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"  # added by nested workflow calls
ENROLLMENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
RSA_SIZES = (2048, 3072, 4096, 8192)
ED25519 = "1.3.101.112"
ALGORITHM_SUFFIXES = {"RSA": ("_WITH_RSA", "_WITH_RSA_PSS"), "EC": ("_WITH_ECDSA",), "ED": ()}
EDDSA = "EDDSA"


def split_input(raw: object) -> tuple[Any, Origin]:
    """The request and the origin in a machine input; a bare request comes from door `start`.

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
    if "request" not in given:
        return given, Origin()
    unknown = sorted(given.keys() - {"request", "origin"})
    if unknown:
        raise InvalidEnrollmentError(
            f"{unknown[0]}: unknown field beside request and origin",
            field=unknown[0],
            action="Remove it; everything that is asked for stands in request.",
        )
    return given["request"], Origin.read(given.get("origin") or {})


def enrollment_id(raw: object, execution_name: str) -> str:
    """The id that an input means, also where the rest of it is unacceptable.

    The caller's own, else what the door says (an event's id, a schedule's occurrence), else the
    execution's name, or its hash where that is no valid id.
    """
    try:
        request, origin = split_input(raw)
    except InvalidEnrollmentError:
        request, origin = None, Origin()
    own = request.get("enrollmentId") if isinstance(request, Mapping) else None
    if isinstance(own, str) and ENROLLMENT_ID.fullmatch(own):
        return own
    candidates = {
        "event": f"event-{origin.id}",
        "schedule": f"{origin.id}-{re.sub(r'[^0-9TZ]', '', origin.time or '')}",
        "api": origin.id or "",
    }
    for candidate in (candidates.get(origin.door, ""), execution_name):
        if ENROLLMENT_ID.fullmatch(candidate):
            return candidate
    return hashlib.sha256(execution_name.encode()).hexdigest()


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
    content = {name: value for name, value in request.items() if name != "enrollmentId"}
    try:
        return rfc8785.dumps(content)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        raise InvalidEnrollmentError(
            "the request has no canonical JSON form: a number or a text that JSON cannot carry",
            field="request",
            action="Use integers below 2^53 and valid Unicode.",
        ) from None


def read(raw: object, *, key_password_prefix: str) -> EnrollmentRequest:
    """Validate a request completely, before anything is created.

    Args:
        raw: the request as JSON value.
        key_password_prefix: ARN prefix below which this stack's key passwords lie.

    Raises:
        InvalidEnrollmentError: names the field's path, the reason and the way out.
    """
    request = EnrollmentRequest.read(raw)
    _check_key(request.key)
    policy.check(request.key.policy)
    _check_csr(request)
    for field, secret in (
        ("key.password", request.key.password),
        ("csr.keyPassword", request.csr.key_password),
    ):
        _check_secret(field, secret, key_password_prefix)
    if request.csr.key_password not in (None, request.key.password):
        raise _invalid(
            "csr.keyPassword", "differs from key.password", "Leave it out: key.password is used."
        )
    return request


def tsb_key(request: EnrollmentRequest, password: str | None) -> dict[str, Any]:
    """The body of `POST /v1/key`: what was asked, nothing added, the password put in."""
    body = request.key.model_dump(mode="json", exclude_unset=True)
    if "password" in body:
        body["password"] = list(password) if password is not None else None
    return body


def tsb_csr(request: EnrollmentRequest, password: str | None, meta_data: str) -> dict[str, Any]:
    """The `csrSignRequest`: what was asked, the label exactly as the key was created."""
    body = request.csr.model_dump(mode="json", exclude_unset=True)
    return {
        **body,
        "signKeyName": request.key.label,
        "keyPassword": list(password) if password is not None else None,
        "metaData": meta_data,
    }


def _check_key(key: KeyRequest) -> None:
    if "/" in key.label or any(ord(letter) < ord(" ") for letter in key.label):
        raise _invalid(
            "key.label",
            "TSB reads / as a derivation path, and control characters are not printable",
            "Use letters, digits, blanks and . - _ : only.",
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
