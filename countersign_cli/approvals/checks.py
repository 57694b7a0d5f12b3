"""What an approver is asked, and whether all of it agrees: each check has a name and is shown.

Three things are held against each other: what the stack has signed (the meta data), what TSB says
that it was asked, and the bytes that the approver would sign. A check that fails refuses, whatever
anybody says. What a TSB does not show is said to be not shown; it never counts as verified.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from countersign.errors import InvalidEnrollmentError
from countersign.evidence.verifier import PublicKey, signed
from countersign.models import (
    SCHEMA_VERSION,
    EnrollmentRequest,
    unique,
)
from countersign.policy import rules, summary
from countersign.policy.approvers import ONBOARDED, identity
from countersign.request import canonical, tsb_bodies
from countersign.spki import spki_sha256
from countersign.texts import printable
from countersign.verification import attestation_xml, csr
from countersign.verification.checks import type_differences
from countersign_cli.approvals import bytes_to_sign, certificates
from countersign_cli.approvals.bytes_to_sign import Approval
from countersign_cli.approvals.results import NOT_SHOWN, PASSED, Result, Said
from countersign_cli.approvals.tasks import Task

type Json = dict[str, Any]
type Kind = Literal["csr", "certificate"]

BYTES, REQUEST, CSR = "What you sign", "What is asked", "What the key will sign"
CERTIFICATE = "What the CA's key will sign"
# (where it belongs, what holds if it passes), by the check's name, in the order of the report.
TITLES = {
    "BYTES_LENGTH": (BYTES, "Every length in the bytes is true, and nothing follows their end"),
    "BYTES_RECORDS": (BYTES, "The bytes hold nothing that is not understood"),
    "BYTES_OPERATION": (BYTES, "They approve a use of the key, not a change of it"),
    "BYTES_KEY": (BYTES, "They name the key of the request"),
    "BYTES_PAYLOAD": (BYTES, "Every copy of what the key will sign is the same"),
    "BYTES_STAMP": (BYTES, "The HSM's time stamp in them is genuine"),
    "TASK_APPROVER": (REQUEST, "The task is for your key"),
    "TASK_OPEN": (REQUEST, "The TSB still collects approvals"),
    "STACK_SIGNATURE": (REQUEST, "Your stack has signed what is shown to you"),
    "META_DATA": (REQUEST, "What it shows can be read in full"),
    "META_DATA_SUMMARY": (REQUEST, "The lines that you read are those of the request"),
    "REQUEST_SHA256": (REQUEST, "The SHA-256 is that of the request"),
    "REQUEST_EXPECTED": (REQUEST, "It is the SHA-256 that you expect"),
    "REQUEST_BODY": (REQUEST, "The TSB was asked for this request, and for nothing else"),
    "POLICY_APPROVER": (REQUEST, "The request's policy names you"),
    "WINDOW": (REQUEST, "The window is open"),
    "CSR_FORMAT": (CSR, "It is the content of a certificate signing request (CSR)"),
    "CSR_KEY_KIND": (CSR, "Its key is of the kind and size of the request"),
    "CSR_PUBLIC_KEY": (CSR, "Its key is the one that the HSM reports"),
    "CSR_SUBJECT_ADDED": (CSR, "Its subject has nothing that was not asked for"),
    "CSR_SUBJECT_DROPPED": (CSR, "Its subject has everything that was asked for"),
    "CSR_SUBJECT_VALUE": (CSR, "Its subject has the values that were asked for"),
    "CSR_SUBJECT_ORDER": (CSR, "Its subject is in the TSB's order"),
    "CSR_KEY_USAGE": (CSR, "Its key usages are those of the request"),
    "CSR_EXTENDED_KEY_USAGE": (CSR, "Its extended key usages are those of the request"),
    "CSR_CRITICALITY": (CSR, "Its usages bind whoever reads them"),
    "CSR_ALTERNATIVE_NAMES": (CSR, "It asks for no alternative names"),
    "CSR_BASIC_CONSTRAINTS": (CSR, "It does not ask to be a certificate authority"),
    "CSR_EXTENSION": (CSR, "It asks for no other extension"),
    "CSR_KEY_IDENTIFIER": (CSR, "Its key identifier is that of its key"),
    "CSR_ATTRIBUTE": (CSR, "It has no other attribute"),
    "CSR_ENCODING": (CSR, "There is nothing in it but what was compared"),
    "CERTIFICATE_CSR_SHA256": (CERTIFICATE, "The CSR in the call has the SHA-256 that you read"),
    "CERTIFICATE_CSR": (CERTIFICATE, "That CSR is what was requested, and signed by its own key"),
    "CERTIFICATE_FORMAT": (CERTIFICATE, "It is the content of a certificate"),
    "CERTIFICATE_PUBLIC_KEY": (CERTIFICATE, "Its key is that of the CSR"),
    "CERTIFICATE_SUBJECT": (CERTIFICATE, "Its subject is that of the CSR"),
    "CERTIFICATE_BASIC_CONSTRAINTS": (CERTIFICATE, "It is a CA's only if that was asked for"),
    "CERTIFICATE_KEY_USAGE": (CERTIFICATE, "Its key usages are those that you read"),
    "CERTIFICATE_EXTENDED_KEY_USAGE": (CERTIFICATE, "So are its extended key usages"),
    "CERTIFICATE_CRITICALITY": (CERTIFICATE, "Its usages bind whoever reads them"),
    "CERTIFICATE_EXTENSION": (CERTIFICATE, "It has no other extension"),
    "CERTIFICATE_KEY_IDENTIFIER": (CERTIFICATE, "Its key identifier is that of its key"),
    "CERTIFICATE_VALIDITY": (CERTIFICATE, "It is valid for as long as you read"),
}
KINDS: dict[Any, Kind] = {"CertificateSigningRequest": "csr", "Certificate": "certificate"}
OF_THE_OTHER = {"csr": CERTIFICATE, "certificate": CSR}
CLOCK_TOLERANCE = timedelta(minutes=10)  # as the vendor's sample configuration of a TSB has it
LONGEST_HASH = 64  # bytes: a payload that begins like DER and is longer is meant to be DER
SEQUENCE = b"\x30"
OPEN = ("PENDING", "APPROVED")
FACTS = ("Subject ", "Key label: ", "Enrollment: ", "Reason: ")  # lines of the stack's summary


@dataclass(frozen=True)
class Check:
    """One comparison: its name, where it belongs, what holds if it passes, and what was found."""

    code: str
    about: str
    title: str
    result: Result
    finding: str


@dataclass(frozen=True)
class Shown:
    """What the stack has signed for the approver to see.

    Args:
        kind: what is asked for.
        enrollment_id: of the enrollment.
        about: the stack's own summary, a line each.
        sha256: of the request, as the mail says it too.
        request: as it was accepted; None: it was too long to be shown.
    """

    kind: Kind
    enrollment_id: str
    about: tuple[str, ...]
    sha256: str
    request: EnrollmentRequest | None


@dataclass(frozen=True)
class Examined:
    """A task with everything that was found out about it.

    Args:
        task: as it came.
        checks: all of them, in the order of `TITLES`.
        shown: None: there is nothing that the stack has signed.
        approval: what the signature would approve; None: the bytes cannot be read.
        closes: when the window closes; None: never, or it is not known.
    """

    task: Task
    checks: tuple[Check, ...]
    shown: Shown | None
    approval: Approval | None
    closes: datetime | None

    @property
    def failed(self) -> list[Check]:
        """The checks that refuse; empty: the approver may sign."""
        return [one for one in self.checks if one.result == "failed"]

    @property
    def not_shown(self) -> list[Check]:
        """What this TSB leaves open."""
        return [one for one in self.checks if one.result == "not shown"]


def examine(
    task: Task,
    *,
    stack: PublicKey,
    approver: str,
    now: datetime,
    expected: str | None = None,
) -> Examined:
    """Make every check of a task. It raises nothing, whatever the task is.

    Args:
        task: as TSB returned it.
        stack: the pinned public key of the stack.
        approver: the approver's own public key, base64 of the DER SPKI.
        now: by the approver's clock.
        expected: the SHA-256 of the request that the approver expects; None: any.
    """
    said: dict[str, Said] = {}
    shown = _shown(task, stack, said)
    approval = _approval(task, said)
    request = shown.request if shown else None
    of_ca = shown is not None and shown.kind == "certificate"
    ca_key = certificates.attested(task.key_attributes, approval.label if approval else "")
    said["TASK_APPROVER"] = _own(task, approver)
    said["TASK_OPEN"] = _open(task)
    said["BYTES_OPERATION"] = _operation(approval)
    said["BYTES_KEY"] = _key(approval, shown)
    said["BYTES_PAYLOAD"] = _payload(task, approval)
    if approval is not None and approval.asked_at is not None:
        said["BYTES_STAMP"] = ("not shown", "the key that signs the HSM's time stamps is not known")
    if shown is not None:
        said["META_DATA_SUMMARY"] = _summary(shown)
        said["REQUEST_SHA256"] = _sha256(shown)
        said["REQUEST_BODY"] = _body(task, shown)
        said["POLICY_APPROVER"] = (
            certificates.names(ca_key, approver) if of_ca else _policy(request, approver)
        )
    if expected is not None:
        said["REQUEST_EXPECTED"] = _expected(shown, expected)
    seconds = certificates.window_seconds(ca_key) if of_ca else _seconds(request)
    closes = _closes(seconds, approval)
    said["WINDOW"] = _window(seconds, approval, closes, now)
    said |= _certificate(task, shown, approval) if of_ca else _csr(task, shown, approval)
    others = OF_THE_OTHER["certificate" if of_ca else "csr"]
    checks = tuple(
        _check(code, *said.get(code, ("not shown", NOT_SHOWN)))
        for code in TITLES
        if code in said or (code != "REQUEST_EXPECTED" and TITLES[code][0] != others)
    )
    return Examined(task, checks, shown, approval, closes)


def _check(code: str, result: Result, finding: str) -> Check:
    """A finding may quote what somebody made up: it is shown on one line."""
    return Check(code, *TITLES[code], result, printable(finding))


# What the stack has signed -----------------------------------------------------------------------


def _shown(task: Task, stack: PublicKey, said: dict[str, Said]) -> Shown | None:
    try:
        content = _decoded(task.meta_data)
        signature = _decoded(task.meta_data_signature)
    except ValueError:
        content = signature = None
    if content is None or signature is None:
        why = "there is no meta data with a signature: no Countersign stack asks this"
        said["STACK_SIGNATURE"] = ("failed", why)
        return None
    if not signed(stack, content, signature):
        why = "the signature is not your stack's, or what it covers was changed"
        said["STACK_SIGNATURE"] = ("failed", why)
        return None
    said["STACK_SIGNATURE"] = PASSED
    try:
        found = _read(content)
    except (ValueError, InvalidEnrollmentError, RecursionError) as error:
        why = getattr(error, "message", str(error))
        said["META_DATA"] = ("failed", f"it cannot be read: {why}")
        return None
    said["META_DATA"] = PASSED
    if found.request is None:
        said["META_DATA"] = ("not shown", "the request is too long: only its summary is shown")
    return found


def _read(content: bytes) -> Shown:
    found = json.loads(content, object_pairs_hook=unique)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    kind = KINDS.get(str(found.get("type")))
    version = (found.get("app"), found.get("schemaVersion"))
    if kind is None or version != ("countersign", SCHEMA_VERSION):
        raise ValueError("it is of a kind or version that this program does not know")
    lines = found.get("about")
    if not isinstance(lines, list):
        raise ValueError("it has no list of lines to show")
    texts = (found.get("enrollmentId"), found.get("requestSha256"), *lines)
    if not all(isinstance(one, str) for one in texts):
        raise ValueError("a part of it is no text")
    request = None if found.get("request") is None else EnrollmentRequest.read(found["request"])
    if request is not None and canonical.accepted(request) != found["request"]:
        raise ValueError("it holds more than was accepted")
    if request is not None:
        _require_askable(request)
    if request is not None and kind == "certificate":
        certificates.wanted(request)
    enrollment_id, digest, *about = (printable(str(one)) for one in texts)
    return Shown(kind, enrollment_id, tuple(about), digest, request)


def _require_askable(request: EnrollmentRequest) -> None:
    """Require that somebody can have been asked for this.

    Raises:
        ValueError: its policy asks nobody, or somebody who has no key.
    """
    use = request.key.policy.rule_use
    if not use.tokens:
        raise ValueError("its policy asks nobody")
    for _, one in rules.approvals_of(use, ""):
        try:
            identity(one)
        except ValueError as error:
            raise ValueError(f"an approver in its policy {error}") from None


def _summary(shown: Shown) -> Said:
    """Whether people read what the request says. The other lines are worded by the stack alone."""
    if shown.request is None:
        return "not shown", "the request is not shown"

    of_ca = shown.kind == "certificate"

    def facts(lines: Iterable[str]) -> list[str]:
        return [one for one in lines if one.startswith(certificates.FACTS if of_ca else FACTS)]

    own = facts(
        certificates.summary_of(shown.request, shown.enrollment_id)
        if of_ca
        else summary.lines(shown.request, enrollment_id=shown.enrollment_id, names={})
    )
    differ = set(own) ^ set(found := facts(shown.about))
    if differ or len(found) != len(own):
        return (
            "failed",
            f"it differs in: {'; '.join(sorted(differ)) or 'a line that is there twice'}",
        )
    return PASSED


def _sha256(shown: Shown) -> Said:
    if shown.request is None:
        return "not shown", "the request is not shown, so its SHA-256 cannot be computed"
    try:
        own = canonical.sha256(canonical.accepted(shown.request))
    except InvalidEnrollmentError as error:
        return "failed", error.message
    return PASSED if own == shown.sha256 else ("failed", f"the request's is {own}")


def _expected(shown: Shown | None, expected: str) -> Said:
    if shown is None:
        return "failed", "nothing is shown that has one"
    return PASSED if shown.sha256 == expected else ("failed", f"it is {shown.sha256}")


def _policy(request: EnrollmentRequest | None, approver: str) -> Said:
    if request is None:
        return "not shown", "the request is not shown"
    asked = {identity(one) for _, one in rules.approvals_of(request.key.policy.rule_use, "")}
    if spki_sha256(approver) in asked:
        return PASSED
    if any(one.startswith(ONBOARDED) for one in asked):
        return "not shown", "it names approvers whose keys only the TSB knows"
    return "failed", "your key is not in it"


# What TSB says -----------------------------------------------------------------------------------


def _own(task: Task, approver: str) -> Said:
    if task.approver_public_key is None:
        return "not shown", NOT_SHOWN
    same = task.approver_public_key == approver
    return PASSED if same else ("failed", "it is for another key")


def _open(task: Task) -> Said:
    if task.request_status is None:
        return "not shown", NOT_SHOWN
    said = f"the TSB says {printable(task.request_status)}"
    return PASSED if task.request_status in OPEN else ("failed", said)


def _body(task: Task, shown: Shown) -> Said:
    if task.request_base64 is None:
        return "not shown", NOT_SHOWN
    if shown.request is None:
        return "not shown", "the request is not shown"
    try:
        posted = json.loads(_decoded(task.request_base64) or b"", object_pairs_hook=unique)
    except (ValueError, RecursionError):
        return "failed", "what the TSB was asked cannot be read"
    return _asks_for(posted, task, shown, shown.request)


CALLS: dict[Kind, tuple[str, str]] = {
    "csr": ("csrSignRequest", "a CSR"),
    "certificate": ("signCertificateRequest", "a certificate"),
}


def _asks_for(posted: Any, task: Task, shown: Shown, request: EnrollmentRequest) -> Said:
    """Whether a call's body is that of this request."""
    name, what = CALLS[shown.kind]
    inner = posted.get(name) if isinstance(posted, dict) else None
    if not isinstance(inner, dict):
        return "failed", f"the TSB was asked for something else than {what}"
    content = _decoded(task.meta_data) or b""
    signature = _decoded(task.meta_data_signature) or b""
    wanted: Iterable[Mapping[str, Any]]
    if shown.kind == "certificate":
        wanted = certificates.bodies(request, inner, shown.about, content, signature)
    else:
        wanted = [tsb_bodies.tsb_csr(request, None, shown=content, signature=signature)]
    each = [_differences(one, inner, ignored="keyPassword") for one in wanted]
    differ = min(each, key=len)
    return ("failed", f"it differs in {', '.join(differ)}") if differ else PASSED


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any], *, ignored: str) -> list[str]:
    """The names of which the values differ. A name that is left out is one whose value is null."""
    differ: list[str] = []
    for name in dict.fromkeys((*wanted, *found)):
        one, other = wanted.get(name), found.get(name)
        if name == ignored:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            differ += [f"{name}.{inner}" for inner in _differences(one, other, ignored="")]
        elif (type(one), one) != (type(other), other):  # 0 is not false
            differ.append(printable(name))
    return differ


# What the approver signs -------------------------------------------------------------------------


def _approval(task: Task, said: dict[str, Said]) -> Approval | None:
    try:
        found = bytes_to_sign.read(_decoded(task.approval_to_be_signed) or b"")
    except bytes_to_sign.RecordError as error:
        said["BYTES_LENGTH"], said["BYTES_RECORDS"] = PASSED, ("failed", str(error))
        return None
    except ValueError as error:
        said["BYTES_LENGTH"] = ("failed", str(error))
        return None
    said["BYTES_LENGTH"] = said["BYTES_RECORDS"] = PASSED
    return found


def _operation(approval: Approval | None) -> Said:
    if approval is None:
        return "not shown", "the bytes cannot be read"
    if approval.operation != bytes_to_sign.USE:
        return "failed", f"they would {approval.doing}"
    return ("failed", "they hold a policy") if approval.policy else PASSED


def _key(approval: Approval | None, shown: Shown | None) -> Said:
    if approval is None or shown is None:
        return "not shown", "there is nothing to compare"
    of_ca = shown.kind == "certificate"
    if shown.request is None:
        line = "CA key label" if of_ca else "Key label"
        same = f"{line}: {printable(approval.label)}" in shown.about
    elif of_ca:
        same = approval.label == certificates.wanted(shown.request).ca_key_label
    else:
        same = approval.label == shown.request.key.label
    return PASSED if same else ("failed", f"they name the key {printable(approval.label)}")


def _payload(task: Task, approval: Approval | None) -> Said:
    try:
        listed = _decoded(task.payload)
    except ValueError:
        return "failed", "the task's own is no base64"
    inside = (approval.payload, approval.stamped) if approval else ()
    found = [one for one in (*inside, listed) if one is not None]
    if not any(one is not None for one in inside):
        return "not shown", NOT_SHOWN
    return PASSED if len(set(found)) == 1 else ("failed", "two of them differ")


def _seconds(request: EnrollmentRequest | None) -> int | None:
    """How long the request's policy collects approvals; 0: without limit, None: not known."""
    tokens = request.key.policy.rule_use.tokens if request else ()
    return None if request is None else rules.window_seconds(tokens) if tokens else 0


def _closes(seconds: int | None, approval: Approval | None) -> datetime | None:
    if approval is None or approval.asked_at is None or not seconds:
        return None
    try:
        return approval.asked_at + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _window(
    seconds: int | None,
    approval: Approval | None,
    closes: datetime | None,
    now: datetime,
) -> Said:
    if approval is None or approval.asked_at is None:
        return "not shown", NOT_SHOWN
    if approval.asked_at > now + CLOCK_TOLERANCE:
        return (
            "failed",
            f"the HSM was asked in the future, at {approval.asked_at:%Y-%m-%d %H:%M} UTC",
        )
    if seconds is None:
        return "not shown", "the policy of the key is not shown"
    if closes is not None and closes <= now:
        return "failed", f"it closed at {closes:%Y-%m-%d %H:%M} UTC: this was asked before"
    return PASSED


# What the key will sign --------------------------------------------------------------------------


def _csr(task: Task, shown: Shown | None, approval: Approval | None) -> dict[str, Said]:
    """The checks of the payload; without one that is a CSR's content, none is passed."""
    request = shown.request if shown else None
    payload = approval.payload if approval else None
    if approval is None or payload is None or approval.policy:
        return {}
    if shown is None or request is None:
        return {"CSR_FORMAT": ("not shown", "the request is not shown")}
    if not _is_der(payload):
        return {"CSR_FORMAT": _other_payload(payload, task, shown, request)}
    attested = _attested_key(task, approval.label)
    found, checks = csr.check_unsigned(payload, request.csr, public_key=attested)
    said: dict[str, Said] = {
        one.code: ("failed", one.finding or "") if one.result == "failed" else PASSED
        for one in checks
        if one.result != "skipped"
    }
    if "CSR_PUBLIC_KEY" not in said and found is not None:
        said["CSR_PUBLIC_KEY"] = ("not shown", "the key is not shown by this TSB")
    if found is not None:
        said["CSR_KEY_KIND"] = _kind(payload, request)
    return said


def _is_der(payload: bytes) -> bool:
    return payload.startswith(SEQUENCE) and len(payload) > LONGEST_HASH


def _certificate(task: Task, shown: Shown | None, approval: Approval | None) -> dict[str, Said]:
    """The checks of the CSR in the call, and of the payload where it is a certificate's content."""
    payload = approval.payload if approval and not approval.policy else None
    if shown is None or shown.request is None:
        return {"CERTIFICATE_FORMAT": ("not shown", "the request is not shown")}
    # The call may be shown, and be what is signed: whichever there is must have this CSR.
    calls = [_csr_in_call(task.request_base64)]
    if payload is not None and not _is_der(payload):
        calls.append(_csr_in_call(base64.b64encode(payload).decode()))
    found = [one for one in dict.fromkeys(calls) if one is not None]
    said: dict[str, Said] = {}
    for one in found:
        of_this = certificates.of_the_csr(one, shown.request, shown.about)
        said |= {code: of for code, of in of_this.items() if said.get(code, PASSED) == PASSED}
    if payload is not None and _is_der(payload):
        said |= certificates.of_the_payload(payload, found[0] if found else "", shown.request)
    elif payload is not None:
        said["CERTIFICATE_FORMAT"] = _other_payload(payload, task, shown, shown.request)
    return said


def _csr_in_call(posted: str | None) -> str | None:
    """The CSR that the TSB was asked with; None where it does not show the call, or has none."""
    try:
        inner = json.loads(_decoded(posted) or b"")["signCertificateRequest"]
        return str(inner["certificateSigningRequest"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return None


def _other_payload(payload: bytes, task: Task, shown: Shown, request: EnrollmentRequest) -> Said:
    """A TSB may have the call approved instead of the result: then it is compared as the call."""
    try:
        posted = json.loads(payload, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        return "not shown", f"{NOT_SHOWN}: the bytes have {len(payload)} others instead"
    result, why = _asks_for(posted, task, shown, request)
    if result == "failed":
        return result, f"the bytes hold a call instead, and {why}"
    return "not shown", f"{NOT_SHOWN}: the bytes hold the call, which is that of the request"


def _attested_key(task: Task, label: str) -> str | None:
    """The key's public key as the HSM's attestation has it; its signature is not looked at."""
    try:
        said = attestation_xml.read(task.key_attributes or "")
    except ValueError:
        return None
    return said.public_key or None if said.label == label else None


def _kind(payload: bytes, request: EnrollmentRequest) -> Said:
    differ = type_differences(csr.unsigned_public_key(payload), request.key)
    return ("failed", "; ".join(differ)) if differ else PASSED


def _decoded(text: str | None) -> bytes | None:
    """The bytes of base64; None for None.

    Raises:
        ValueError: it is none.
    """
    return None if text is None else base64.b64decode(text, validate=True)
