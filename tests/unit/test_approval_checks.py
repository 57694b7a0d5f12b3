"""What an approver is asked, held against itself: the genuine passes, each forgery is refused."""

import base64
import hashlib
import io
import json
import random
import re
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_pem_x509_csr
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from countersign import der
from countersign import models as m
from countersign.evidence.verifier import PublicKey
from countersign.policy import approvers, summary
from countersign.request import canonical, tsb_bodies
from countersign.verification import certificate, csr
from countersign_cli.approvals import bytes_to_sign, checks, report
from countersign_cli.approvals.tasks import Task, read
from local import ca
from local.approver import Approver
from local.tsb_simulator import control
from local.tsb_simulator.simulator import Simulator
from local.tsb_simulator.switches import Switches
from tests import asking
from tests.asking import LABEL, digest

NOW = datetime.now(UTC)
ADA, EVE = Approver.generate("Ada", "ec"), Approver.generate("Eve", "ec")
STACK, OTHER_STACK = (
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP256R1()),
)
HASH_BYTES = 32

type Json = dict[str, Any]
type Change = Callable[[Json], None]


OF_A_CSR, OF_A_CERTIFICATE = (
    [code for code, (about, _) in checks.TITLES.items() if about != other]
    for other in (checks.CERTIFICATE, checks.CSR)
)

# A genuine task -----------------------------------------------------------------------------------


def raw(approver: Approver = ADA, **csr: Any) -> Json:
    return asking.raw(approver, **csr)


def body(request: Json, stack: ec.EllipticCurvePrivateKey = STACK) -> Json:
    return asking.body(request, stack)


def asked(
    called: Json, request: Json, *, approver: Approver = ADA, switches: Switches | None = None
) -> Json:
    """The task that a TSB then hands out."""
    tsb = Simulator(switches or Switches())

    def call(path: str, content: Json, role: str) -> Any:
        headers = {"x-api-key": tsb.api_keys[role][0]}
        answer = tsb.handle("POST", path, headers, json.dumps(content).encode())
        assert answer.status in (200, 201), answer.body
        return json.loads(answer.body)

    call("/v1/key", request["key"], "keyManagement")
    call("/v1/certificate/request", called, "keyOperation")
    listing = {**approver._authentication(), "detailLevel": "level6"}
    (task,) = call("/v1/filteredAllApprovalTask", listing, "approver")["tasks"]
    return dict(task)


@cache
def _genuine() -> str:
    return json.dumps(asked(body(raw()), raw()))


def genuine() -> Json:
    return dict(json.loads(_genuine()))


def examined(task: Json, *, approver: Approver = ADA, **more: Any) -> checks.Examined:
    public: PublicKey = STACK.public_key()
    given = {"now": NOW, "expected": None, **more}
    return checks.examine(Task.model_validate(task), stack=public, approver=approver.spki, **given)


def results(task: Json, **more: Any) -> dict[str, str]:
    return {one.code: one.result for one in examined(task, **more).checks}


def test_a_genuine_task_passes_every_check_that_a_tsb_lets_anybody_make() -> None:
    found = examined(genuine(), expected=digest(raw()))

    assert {one.code: one.finding for one in found.failed} == {}
    assert [one.code for one in found.not_shown] == ["BYTES_STAMP"]
    assert [one.code for one in found.checks] == list(OF_A_CSR)
    assert found.shown is not None
    assert (found.shown.enrollment_id, found.shown.sha256) == ("web", digest(raw()))
    assert "Subject commonName: web.example" in found.shown.about
    assert found.approval is not None
    assert found.approval.doing == "use the key"
    assert found.closes is not None
    assert NOW + timedelta(minutes=59) < found.closes < NOW + timedelta(minutes=61)


# What differs from it -----------------------------------------------------------------------------


def records(content: bytes) -> list[tuple[int, bytes]]:
    return list(bytes_to_sign._records(content))


def written(parts: list[tuple[int, bytes]]) -> bytes:
    content = b"".join(
        struct.pack("<HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)
        for kind, value in parts
    )
    return struct.pack("<I", len(content)) + content


def signing(change: Callable[[bytes], bytes]) -> Change:
    """The bytes to sign are others."""

    def apply(task: Json) -> None:
        content = change(base64.b64decode(task["approvalToBeSigned"]))
        task["approvalToBeSigned"] = base64.b64encode(content).decode()

    return apply


def record(kind: int, value: bytes) -> Change:
    """A record of the bytes to sign has another value."""
    return signing(
        lambda content: written(
            [(one, value if one == kind else own) for one, own in records(content)]
        )
    )


def stamp(change: Callable[[bytes], bytes], kind: int) -> Change:
    """A record within the time stamp has another value."""

    def apply(content: bytes) -> bytes:
        def inner(value: bytes) -> bytes:
            return written(
                [(one, change(own) if one == kind else own) for one, own in records(value)]
            )

        return written(
            [
                (one, inner(own) if one == bytes_to_sign.STAMP else own)
                for one, own in records(content)
            ]
        )

    return signing(apply)


def everywhere(payload: bytes) -> Change:
    """All copies of the payload are this one: TSB and bytes agree."""

    def apply(task: Json) -> None:
        record(bytes_to_sign.PAYLOAD, payload)(task)
        stamp(lambda _: payload, bytes_to_sign.PAYLOAD)(task)
        task["payload"] = base64.b64encode(payload).decode()

    return apply


def payload_of(switches: Switches | None = None, **csr: Any) -> bytes:
    """What a TSB would have signed of a request that differs so, for the same key's sake."""
    request = raw(**csr)
    task = asked(body(request), request, switches=switches)
    return base64.b64decode(task["payload"])


def own_payload() -> bytes:
    return base64.b64decode(genuine()["payload"])


def with_own_key(payload: bytes) -> bytes:
    """That payload with the genuine task's key: only the rest differs.

    Both keys are of P-256, so they have the same length.
    """
    theirs = base64.b64decode(csr.unsigned_public_key(payload))
    ours = base64.b64decode(csr.unsigned_public_key(own_payload()))
    old, new = [hashlib.sha1(one[-65:], usedforsecurity=False).digest() for one in (theirs, ours)]
    return payload.replace(theirs, ours).replace(old, new)


def task_of(request: Json, stack: ec.EllipticCurvePrivateKey = STACK) -> Json:
    return asked(body(request, stack), request)


def meta_data(request: Json, stack: ec.EllipticCurvePrivateKey = STACK) -> Change:
    """The task shows what a stack has signed for another request."""

    def apply(task: Json) -> None:
        inner = body(request, stack)["csrSignRequest"]
        task |= {name: inner[name] for name in ("metaData", "metaDataSignature")}

    return apply


def about(change: Callable[[list[str]], list[str]]) -> Change:
    """The lines that people read are others, signed by the stack itself."""

    def apply(task: Json) -> None:
        shown = json.loads(base64.b64decode(task["metaData"]))["about"]
        signed_meta_data(about=change(shown))(task)

    return apply


def signed_meta_data(**values: Any) -> Change:
    """The stack itself has signed something odd."""

    def apply(task: Json) -> None:
        signed_as({**json.loads(base64.b64decode(task["metaData"])), **values})(task)

    return apply


def signed_as(content: Any) -> Change:
    """The stack itself has signed this."""

    def apply(task: Json) -> None:
        shown = json.dumps(content).encode()
        signature = STACK.sign(shown, ec.ECDSA(hashes.SHA256()))
        task["metaData"] = base64.b64encode(shown).decode()
        task["metaDataSignature"] = base64.b64encode(signature).decode()

    return apply


def rule_of(approval: Json) -> Json:
    group = {"name": "group", "quorum": 1, "approvals": [{"name": "Ada", **approval}]}
    return {"tokens": [{"name": "token", "timelock": 0, "timeout": 3600, "groups": [group]}]}


def put(**values: Any) -> Change:
    return lambda task: task.update(values)


def text(content: Json) -> str:
    return base64.b64encode(json.dumps(content).encode()).decode()


def changed_meta_data(task: Json) -> None:
    content = base64.b64decode(task["metaData"]).replace(b"web.example", b"web.examp1e")
    task["metaData"] = base64.b64encode(content).decode()


def lengthened(content: bytes, at: int = 4 + 2) -> bytes:
    """The length of the first record says more than is there."""
    return content[:at] + struct.pack("<H", 0xFFFF) + content[at + 2 :]


def long_ago(value: bytes) -> bytes:
    return struct.pack("<Q", struct.unpack("<Q", value)[0] - 7200)


def to_come(value: bytes) -> bytes:
    return struct.pack("<Q", struct.unpack("<Q", value)[0] + 7200)


def name_twice(task: Json) -> None:
    content = base64.b64decode(task["metaData"])
    shown = content[:-1] + b',"reason":"OPS-43"}'
    signature = STACK.sign(shown, ec.ECDSA(hashes.SHA256()))
    task["metaData"] = base64.b64encode(shown).decode()
    task["metaDataSignature"] = base64.b64encode(signature).decode()


def rsa_key(task: Json) -> None:
    request = raw(signatureAlgorithm="SHA256_WITH_RSA")
    request["key"] = {**request["key"], "algorithm": "RSA", "keySize": 2048, "curveOid": None}
    everywhere(base64.b64decode(task_of(request)["payload"]))(task)


def authority(task: Json) -> None:
    """The extension request of the payload has CA:TRUE, and is otherwise as it was."""
    info = der.element(own_payload(), der.SEQUENCE)
    version, subject, key, attributes = info.inside(der.SEQUENCE)
    (attribute,) = attributes.inside(der.FIRST_CONTEXT)
    oid, values = attribute.inside(der.SEQUENCE)
    (extensions,) = values.inside(der.SET)
    is_authority = der.write(der.SEQUENCE, der.write(der.BOOLEAN, der.TRUE))
    constraints = der.write(
        der.SEQUENCE, der.write_oid("2.5.29.19"), der.write(der.OCTET_STRING, is_authority)
    )
    more = der.write(der.SET, der.write(der.SEQUENCE, extensions.content, constraints))
    attributes_then = der.write(der.FIRST_CONTEXT, der.write(der.SEQUENCE, oid.whole, more))
    parts = (version.whole, subject.whole, key.whole, attributes_then)
    everywhere(der.write(der.SEQUENCE, *parts))(task)


OPERATION, TEXT, PAYLOAD, SECONDS = (
    bytes_to_sign.OPERATION,
    bytes_to_sign.TEXT,
    bytes_to_sign.PAYLOAD,
    bytes_to_sign.SECONDS,
)
SIGN_BODY = {"signCertificateRequest": {"signKeyName": LABEL}}
# Each forgery: what was changed in a genuine task, and the checks that refuse it, the first first.
FORGERIES: dict[str, tuple[Change, list[str]]] = {
    "meta data of another request": (
        meta_data(raw(keyUsage=["CRL_SIGN"])),
        ["REQUEST_BODY", "CSR_KEY_USAGE"],
    ),
    "meta data for another approver": (
        meta_data(raw(EVE)),
        ["REQUEST_BODY", "POLICY_APPROVER"],
    ),
    "another stack's signature": (
        lambda task: task.update(task_of(raw(), OTHER_STACK)),
        ["STACK_SIGNATURE"],
    ),
    "meta data that was changed": (changed_meta_data, ["STACK_SIGNATURE"]),
    "no meta data": (put(metaData=None, metaDataSignature=None), ["STACK_SIGNATURE"]),
    "meta data of no kind that is known": (signed_meta_data(type="Invoice"), ["META_DATA"]),
    "meta data with a name twice": (
        name_twice,
        ["META_DATA"],
    ),
    "a summary of another subject": (
        about(lambda lines: [one.replace("web.example", "bank.example") for one in lines]),
        ["META_DATA_SUMMARY", "REQUEST_BODY"],
    ),
    "a summary with a line twice": (
        about(lambda lines: [*lines, f"Key label: {LABEL}"]),
        ["META_DATA_SUMMARY", "REQUEST_BODY"],
    ),
    "another SHA-256": (
        signed_meta_data(requestSha256="0" * 64),
        ["REQUEST_SHA256", "REQUEST_BODY"],
    ),
    "another key's label": (record(TEXT, b"CA.root"), ["BYTES_KEY"]),
    "block under a CSR's meta data": (record(OPERATION, b"\2\0\0\0"), ["BYTES_OPERATION"]),
    "unblock under a CSR's meta data": (record(OPERATION, b"\3\0\0\0"), ["BYTES_OPERATION"]),
    "modify under a CSR's meta data": (record(OPERATION, b"\4\0\0\0"), ["BYTES_OPERATION"]),
    "an operation that nobody knows": (record(OPERATION, b"\x10\0\0\0"), ["BYTES_OPERATION"]),
    "a policy instead of a payload": (
        signing(
            lambda content: written(
                [
                    (bytes_to_sign.POLICY_PAYLOAD if one == PAYLOAD else one, value)
                    for one, value in records(content)
                ]
            )
        ),
        ["BYTES_OPERATION"],
    ),
    "the call is another one": (put(requestBase64=text(SIGN_BODY)), ["REQUEST_BODY"]),
    "the call cannot be read": (put(requestBase64="e30"), ["REQUEST_BODY"]),
    "a task of somebody else": (put(approverPublicKey=EVE.spki), ["TASK_APPROVER"]),
    "a task that has ended": (put(requestStatus="CANCELLED"), ["TASK_OPEN"]),
    "a replayed task": (stamp(long_ago, SECONDS), ["WINDOW"]),
    "a task of the future": (stamp(to_come, SECONDS), ["WINDOW"]),
    "a payload beside the one that is signed": (
        record(PAYLOAD, payload_of()),
        ["BYTES_PAYLOAD", "CSR_PUBLIC_KEY"],
    ),
    "another payload in the list": (put(payload=text({})), ["BYTES_PAYLOAD"]),
    "another subject": (
        everywhere(
            with_own_key(
                payload_of(standardCertificateAttributes={"commonName": "eve", "country": "CH"})
            )
        ),
        ["CSR_SUBJECT_VALUE"],
    ),
    "one more subject attribute": (
        everywhere(
            with_own_key(
                payload_of(
                    standardCertificateAttributes={
                        "commonName": "web.example",
                        "country": "CH",
                        "organizationName": "Eve Ltd",
                    }
                )
            )
        ),
        ["CSR_SUBJECT_ADDED"],
    ),
    "one subject attribute less": (
        everywhere(
            with_own_key(payload_of(standardCertificateAttributes={"commonName": "web.example"}))
        ),
        ["CSR_SUBJECT_DROPPED"],
    ),
    "another usage": (
        everywhere(with_own_key(payload_of(keyUsage=["KEY_CERT_SIGN"]))),
        ["CSR_KEY_USAGE"],
    ),
    "another extended usage": (
        everywhere(with_own_key(payload_of(extendedKeyUsage=["CODE_SIGNING"]))),
        ["CSR_EXTENDED_KEY_USAGE"],
    ),
    "another key": (everywhere(payload_of()), ["CSR_PUBLIC_KEY"]),
    "a key of another kind": (
        rsa_key,
        ["CSR_KEY_KIND", "CSR_PUBLIC_KEY"],
    ),
    "an extension that was not asked for": (
        authority,
        ["CSR_BASIC_CONSTRAINTS"],
    ),
    "a payload with something behind its end": (
        everywhere(own_payload() + b"\5\0"),
        ["CSR_FORMAT"],
    ),
    "a payload that is DER of another kind": (
        everywhere(b"\x30\x81\x80" + b"\5\0" * 64),
        ["CSR_FORMAT"],
    ),
    "another call to be signed": (
        everywhere(json.dumps(body(raw(keyUsage=["CRL_SIGN"]))).encode()),
        ["CSR_FORMAT"],
    ),
    "a record more": (
        signing(lambda content: written([*records(content), (0x1060, b"more")])),
        ["BYTES_RECORDS"],
    ),
    "a record twice": (
        signing(lambda content: written([*records(content), (TEXT, b"CA.root")])),
        ["BYTES_RECORDS"],
    ),
    "a record less": (
        signing(lambda content: written([one for one in records(content) if one[0] != TEXT])),
        ["BYTES_RECORDS"],
    ),
    "padding that says something": (
        signing(lambda content: content.replace(b"SUB.web\0", b"SUB.web!")),
        ["BYTES_RECORDS"],
    ),
    "bytes behind the end": (signing(lambda content: content + b"\0\0\0\0"), ["BYTES_LENGTH"]),
    "a length that lies": (signing(lengthened), ["BYTES_LENGTH"]),
    "bytes that end early": (signing(lambda content: content[:-8]), ["BYTES_LENGTH"]),
    "a timestamp instead of an approval": (
        signing(lambda _: b"2026-11-27T03:00:00Z"),
        ["BYTES_LENGTH"],
    ),
    "nothing": (put(approvalToBeSigned=""), ["BYTES_LENGTH"]),
    "no base64": (put(approvalToBeSigned="*"), ["BYTES_LENGTH"]),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused_with_its_own_code(name: str) -> None:
    change, codes = FORGERIES[name]
    task = genuine()
    change(task)

    found = examined(task)

    assert [one.code for one in found.failed] == codes
    assert all(one.finding for one in found.failed)


def test_another_sha256_than_expected_is_refused() -> None:
    assert results(genuine(), expected="0" * 64)["REQUEST_EXPECTED"] == "failed"
    assert "REQUEST_EXPECTED" not in results(genuine())


# What a TSB does not show -------------------------------------------------------------------------

OF_THE_CSR = {code for code, (about, _) in checks.TITLES.items() if about == checks.CSR}


@pytest.mark.parametrize(
    ("shows", "unknown"),
    [
        (put(requestBase64=None), {"REQUEST_BODY"}),
        (put(keyAttributes=None), {"CSR_PUBLIC_KEY"}),
        (put(keyAttributes="an HSM of another make"), {"CSR_PUBLIC_KEY"}),
        (
            put(keyAttributes=genuine()["keyAttributes"].replace(LABEL, "SUB.mail")),
            {"CSR_PUBLIC_KEY"},
        ),
        (put(requestStatus=None), {"TASK_OPEN"}),
        (put(approverPublicKey=None), {"TASK_APPROVER"}),
        (put(payload=None), set()),
        (everywhere(bytes(HASH_BYTES)), OF_THE_CSR),
        (
            signing(
                lambda content: written(
                    [one for one in records(content) if one[0] not in (PAYLOAD, 0x1054, 0x1056)]
                )
            ),
            OF_THE_CSR | {"BYTES_PAYLOAD", "WINDOW"},
        ),
    ],
)
def test_what_a_tsb_does_not_show_is_said_and_never_verified(
    shows: Change, unknown: set[str]
) -> None:
    task = genuine()
    shows(task)

    found = examined(task)

    assert {one.code for one in found.not_shown} - {"BYTES_STAMP"} == unknown
    assert not found.failed


def test_a_tsb_that_has_the_call_approved_shows_no_csr_and_its_call_is_compared() -> None:
    switches = Switches.model_validate({"csrApprovalPayload": "request"})
    task = asked(body(raw()), raw(), switches=switches)

    found = {one.code: one for one in examined(task).checks}

    assert found["CSR_FORMAT"].result == "not shown"
    assert "which is that of the request" in found["CSR_FORMAT"].finding
    assert {found[code].result for code in OF_THE_CSR} == {"not shown"}


def test_a_request_too_long_for_the_meta_data_is_known_by_its_summary_alone() -> None:
    request = raw()
    group = request["key"]["policy"]["ruleUse"]["tokens"][0]["groups"][0]
    group["approvals"] += [
        {
            "type": "public_key",
            "name": f"person {number}",
            "value": Approver.generate("x", "ec").spki,
        }
        for number in range(200)
    ]
    found = examined(task_of(request))

    assert found.shown is not None
    assert found.shown.request is None
    assert not found.failed
    unknown = {one.code for one in found.not_shown}
    assert {
        "META_DATA",
        "META_DATA_SUMMARY",
        "REQUEST_SHA256",
        "REQUEST_BODY",
        "POLICY_APPROVER",
        "WINDOW",
    } <= unknown
    assert {one.code: one.result for one in found.checks}["BYTES_KEY"] == "passed"


def test_an_approver_whom_only_the_tsb_knows_may_be_meant() -> None:
    request = raw(EVE)
    group = request["key"]["policy"]["ruleUse"]["tokens"][0]["groups"][0]
    group["approvals"].append({"type": "onboarded_approver_certificate", "name": "Ada"})
    task = genuine()
    meta_data(request)(task)

    assert results(task)["POLICY_APPROVER"] == "not shown"


def test_a_certificate_in_the_policy_names_whoever_has_its_key() -> None:
    request = raw()
    (token,) = request["key"]["policy"]["ruleUse"]["tokens"]
    token["groups"][0]["approvals"] = [{"type": "certificate", "value": ADA.certificate()}]

    assert not examined(task_of(request)).failed


def test_a_window_without_end_does_not_close() -> None:
    request = raw()
    request["key"]["policy"]["ruleUse"]["tokens"][0]["timeout"] = 0

    found = examined(task_of(request), now=NOW + timedelta(days=400))

    assert found.closes is None
    assert not found.failed


# A certificate, by the CA's approvers -------------------------------------------------------------

CA_LABEL = "CA.root"
TERMS = {"caKeyLabel": CA_LABEL, "validity": 90}


@cache
def _certificate_task(terms: str = "{}", of: str | None = None, csr_of: str = "{}") -> str:
    """The task for Ada, an approver of the CA's key, of a request whose own approver is Eve.

    Args:
        terms: other ones of the certificate, as JSON.
        of: who approves for the CA instead.
        csr_of: how the CSR that is sent differs from the request's.
    """
    tsb = Simulator(Switches.model_validate({"newerSignProperties": True}))
    request = raw(EVE)
    asked_for = {**request, "certificate": {**TERMS, **json.loads(terms)}}
    member = EVE if of == "Eve" else ADA

    def call(method: str, path: str, content: Json, role: str) -> Any:
        headers = {"x-api-key": tsb.api_keys[role][0]}
        answer = tsb.handle(method, path, headers, json.dumps(content).encode())
        assert answer.status in (200, 201), answer.body
        return json.loads(answer.body)

    def decide(label: str) -> None:
        content = json.dumps({"label": label, "decision": "approve"}).encode()
        assert control.handle(tsb, "POST", f"{control.PREFIX}/decide", content)[0] == 200  # noqa: PLR2004

    made = {**request["key"], "label": CA_LABEL, "policy": ca.policy(member)}
    call("POST", "/v1/key", made, "keyManagement")
    own = {
        "signKeyName": CA_LABEL, "keyPassword": None, "validity": 3650, "commonName": "CA",
        "signatureAlgorithm": "SHA256_WITH_ECDSA", "certificateAuthority": True,
        "keyUsage": ["KEY_CERT_SIGN"], "extendedKeyUsage": [],
    }  # fmt: skip
    call("POST", "/v1/certificate/selfsign", {"selfSignCertificateRequest": own}, "keyOperation")
    decide(CA_LABEL)
    call("POST", "/v1/key", request["key"], "keyManagement")
    sent = body(raw(EVE, **json.loads(csr_of)))
    asked_id = call("POST", "/v1/certificate/request", sent, "keyOperation")["signRequestId"]
    decide(LABEL)
    pem = call("GET", f"/v1/request/{asked_id}", {}, "keyOperation")["result"]
    called = certificate_call(asked_for, pem)
    call("POST", "/v1/certificate/sign", called, "keyOperation")
    listing = {**member._authentication(), "detailLevel": "level6"}
    (task,) = call("POST", "/v1/filteredAllApprovalTask", listing, "approver")["tasks"]
    return json.dumps(task)


def certificate_call(request: Json, pem: str, **shown_of: Any) -> Json:
    """The call by which the stack asks for the certificate."""
    accepted = m.EnrollmentRequest.read(request)
    asked = accepted.certificate
    assert asked is not None
    named = certificate.usages(asked, accepted.csr)
    terms = summary.CertificateTerms(
        policy=approvers.summary(accepted.key.policy, {}),
        signature_algorithm="SHA256_WITH_ECDSA",
        usages=(*named[0], *named[1]),
        csr_sha256=csr.read_csr(pem).sha256,
        **shown_of,
    )
    shown = tsb_bodies.certificate_meta_data(accepted, terms=terms, enrollment_id="web")
    return {
        "signCertificateRequest": tsb_bodies.tsb_certificate(
            accepted,
            csr=pem,
            signature_algorithm="SHA256_WITH_ECDSA",
            usages=named,
            newer=True,
            shown=shown,
            signature=STACK.sign(shown, ec.ECDSA(hashes.SHA256())),
        )
    }


def certificate_task(**more: Any) -> Json:
    return dict(json.loads(_certificate_task(**more)))


def call_of(task: Json) -> Json:
    return dict(json.loads(base64.b64decode(task["requestBase64"])))


def calling(**values: Any) -> Change:
    """The TSB was asked for something else: in the list, and where the approver signs the call."""

    def apply(task: Json) -> None:
        called = call_of(task)
        called["signCertificateRequest"] |= values
        posted(called)(task)

    return apply


def posted(called: Json) -> Change:
    def apply(task: Json) -> None:
        everywhere(json.dumps(called).encode())(task)
        task["requestBase64"] = text(called)

    return apply


def of_call(change: Callable[[Json], None]) -> Change:
    def apply(task: Json) -> None:
        called = call_of(task)
        change(called["signCertificateRequest"])
        posted(called)(task)

    return apply


def pem_of(task: Json) -> str:
    return str(call_of(task)["signCertificateRequest"]["certificateSigningRequest"])


def content_of(task: Json, **different: Any) -> bytes:
    """The DER of a certificate's content as an engine would have it signed."""
    found = csr.read(pem_of(task))
    parsed = load_pem_x509_csr(pem_of(task).encode())
    key = ec.generate_private_key(ec.SECP256R1())
    begin = datetime(2026, 11, 27, tzinfo=UTC)
    usage = {name: name == "digital_signature" for name in USAGES}
    usage |= different.get("usage", {})
    public = different.get("key", parsed.public_key())
    builder = (
        x509.CertificateBuilder(issuer_name=x509.Name([]), subject_name=parsed.subject)
        .public_key(public)
        .serial_number(5)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=different.get("days", 90)))
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
    )
    if different.get("authority"):
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    assert found.subject
    return builder.sign(key, hashes.SHA256()).tbs_certificate_bytes


USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def signing_content(**different: Any) -> Change:
    """The bytes hold a certificate's own content."""
    return lambda task: everywhere(content_of(task, **different))(task)


def test_the_ca_s_approver_is_shown_a_certificate_and_every_check_of_it() -> None:
    found = examined(certificate_task())

    assert {one.code: one.finding for one in found.failed} == {}
    assert [one.code for one in found.checks] == [
        code for code in OF_A_CERTIFICATE if code != "REQUEST_EXPECTED"
    ]
    passed = {one.code for one in found.checks if one.result == "passed"}
    assert passed >= {
        "BYTES_KEY", "META_DATA_SUMMARY", "REQUEST_SHA256", "REQUEST_BODY", "POLICY_APPROVER",
        "WINDOW", "CERTIFICATE_CSR_SHA256", "CERTIFICATE_CSR",
    }  # fmt: skip
    assert found.shown is not None
    assert f"CA key label: {CA_LABEL}" in found.shown.about
    assert found.closes is not None  # by the CA key's policy, as the HSM attests it
    assert "which is that of the request" in next(
        one.finding for one in found.checks if one.code == "CERTIFICATE_FORMAT"
    )


def test_a_certificate_s_own_content_is_compared_where_a_tsb_has_it_signed() -> None:
    task = certificate_task()
    signing_content()(task)

    assert {one.code: one.finding for one in examined(task).failed} == {}
    assert "CERTIFICATE_VALIDITY" not in {one.code for one in examined(task).not_shown}


CERTIFICATE_FORGERIES: dict[str, tuple[Change, list[str]]] = {
    "the bytes name the new key": (record(TEXT, LABEL.encode()), ["BYTES_KEY"]),
    "a CSR's meta data": (
        lambda task: task.update(
            {name: genuine()[name] for name in ("metaData", "metaDataSignature")}
        ),
        ["BYTES_KEY", "REQUEST_BODY", "CSR_FORMAT"],
    ),
    "another stack's signature": (
        put(metaDataSignature=genuine()["metaDataSignature"]),
        ["STACK_SIGNATURE"],
    ),
    "a summary of another CA": (
        about(lambda lines: [one.replace(CA_LABEL, "CA.test") for one in lines]),
        ["META_DATA_SUMMARY", "REQUEST_BODY", "CERTIFICATE_FORMAT"],
    ),
    "a summary that hides a CA": (
        about(lambda lines: [one for one in lines if not one.startswith("CA: ")]),
        ["META_DATA_SUMMARY", "REQUEST_BODY", "CERTIFICATE_FORMAT"],
    ),
    "a request for a CSR alone": (
        lambda task: signed_meta_data(
            request={
                name: one
                for name, one in json.loads(base64.b64decode(task["metaData"]))["request"].items()
                if name != "certificate"
            }
        )(task),
        ["META_DATA"],
    ),
    "a call for a longer validity": (
        calling(validity=3650),
        ["REQUEST_BODY", "CERTIFICATE_FORMAT"],
    ),
    "a call for a CA": (
        calling(certificateAuthority=True),
        ["REQUEST_BODY", "CERTIFICATE_FORMAT"],
    ),
    "a call with another usage": (
        calling(keyUsage=["KEY_CERT_SIGN"]),
        ["REQUEST_BODY", "CERTIFICATE_FORMAT"],
    ),
    "a call with another subject": (
        of_call(lambda inner: inner["standardCertificateAttributes"].update(commonName="eve")),
        ["REQUEST_BODY", "CERTIFICATE_FORMAT"],
    ),
    "a call to an older TSB that is told no whole subject": (
        of_call(
            lambda inner: inner.update(
                commonName=inner.pop("standardCertificateAttributes")["commonName"],
                validity=inner.pop("validity") and None,
            )
        ),
        ["REQUEST_BODY", "CERTIFICATE_FORMAT"],
    ),
    "a call that copies more": (
        calling(copyExtensions="COPY"),
        ["REQUEST_BODY", "CERTIFICATE_FORMAT"],
    ),
    "a weaker signature": (
        calling(signatureAlgorithm="SHA1_WITH_ECDSA"),
        ["REQUEST_BODY", "CERTIFICATE_FORMAT"],
    ),
    "another CSR": (
        calling(certificateSigningRequest=pem_of(certificate_task(terms='{"import": false}'))),
        ["CERTIFICATE_CSR_SHA256"],
    ),
    "no CSR": (calling(certificateSigningRequest="x"), ["CERTIFICATE_CSR"]),
    "another CSR only in what is signed": (
        everywhere(json.dumps(call_of(certificate_task(terms='{"import": false}'))).encode()),
        ["CERTIFICATE_CSR_SHA256", "CERTIFICATE_FORMAT"],
    ),
    "the content is for another key": (
        signing_content(key=ec.generate_private_key(ec.SECP256R1()).public_key()),
        ["CERTIFICATE_PUBLIC_KEY"],
    ),
    "the content is a CA's": (signing_content(authority=True), ["CERTIFICATE_BASIC_CONSTRAINTS"]),
    "the content is valid for longer": (signing_content(days=3650), ["CERTIFICATE_VALIDITY"]),
    "the content has another usage": (
        signing_content(usage={"crl_sign": True}),
        ["CERTIFICATE_KEY_USAGE"],
    ),
    "the content is none": (everywhere(b"\x30\x81\x80" + b"\5\0" * 64), ["CERTIFICATE_FORMAT"]),
    "a replayed task": (stamp(long_ago, SECONDS), ["WINDOW"]),
    "block under a certificate's meta data": (record(OPERATION, b"\2\0\0\0"), ["BYTES_OPERATION"]),
}


@pytest.mark.parametrize("name", CERTIFICATE_FORGERIES)
def test_a_forgery_of_a_certificate_s_task_is_refused_with_its_own_code(name: str) -> None:
    change, codes = CERTIFICATE_FORGERIES[name]
    task = certificate_task()
    change(task)

    found = examined(task)

    assert [one.code for one in found.failed] == codes
    assert all(one.finding for one in found.failed)


def test_a_csr_that_is_not_what_was_requested_is_refused() -> None:
    task = certificate_task(csr_of='{"keyUsage": ["CRL_SIGN"]}')

    assert [one.code for one in examined(task).failed] == ["CERTIFICATE_CSR"]


def test_somebody_whom_the_ca_key_s_policy_does_not_name_is_refused() -> None:
    task = {**certificate_task(of="Eve"), "approverPublicKey": ADA.spki}

    assert [one.code for one in examined(task).failed] == ["POLICY_APPROVER"]


def test_a_tsb_that_shows_neither_call_nor_key_leaves_it_open() -> None:
    task = certificate_task()
    signing_content()(task)
    task |= {"requestBase64": None, "keyAttributes": None}

    found = examined(task)

    assert not found.failed
    assert {"REQUEST_BODY", "POLICY_APPROVER", "WINDOW", "CERTIFICATE_CSR",
            "CERTIFICATE_FORMAT"} <= {one.code for one in found.not_shown}  # fmt: skip


# Whatever comes -----------------------------------------------------------------------------------


def mutants(original: bytes, number: int, seed: int) -> list[bytes]:
    draw = random.Random(seed)
    found = []
    for _ in range(number):
        changed = bytearray(original)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(changed))
            match draw.randrange(4):
                case 0:
                    changed[at] ^= 1 << draw.randrange(8)
                case 1:
                    del changed[at : at + draw.randint(1, 12)]
                case 2:
                    changed[at:at] = bytes(draw.randint(1, 8))
                case _:
                    changed[at:at] = changed[at : at + draw.randint(1, 40)]
            changed = changed or bytearray(b"\0")
        found.append(bytes(changed))
    return found


def test_no_changed_byte_is_signed_unless_it_is_of_the_time_stamp_alone() -> None:
    task = genuine()
    original = base64.b64decode(task["approvalToBeSigned"])
    loose = {bytes_to_sign.STAMP, bytes_to_sign.STAMP_SIGNATURE}
    for mutant in mutants(original, 800, seed=1):
        task["approvalToBeSigned"] = base64.b64encode(mutant).decode()
        if examined(task).failed or mutant == original:
            continue
        before = [one for one in records(original) if one[0] not in loose]
        assert [one for one in records(mutant) if one[0] not in loose] == before, mutant.hex()


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_they_are_read_in_full_or_refused(content: bytes) -> None:
    try:
        found = bytes_to_sign.read(content)
    except ValueError:
        return
    assert found.label is not None


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0x3B, 0x1002, 0x1054, 0x1056, 0x1057, 0x1058, 0x0107, 0x1060]),
            st.one_of(st.binary(max_size=12), st.just(b"\1\0\0\0")),
        ),
        max_size=6,
    ),
    st.integers(-9, 9),
)
def test_a_length_that_lies_is_always_refused(parts: list[tuple[int, bytes]], by: int) -> None:
    content = written(parts)
    lying = struct.pack("<I", max(0, len(content) - 4 + by)) + content[4:]
    if lying == content:
        return

    with pytest.raises(bytes_to_sign.LengthError):
        bytes_to_sign.read(lying)


def test_no_text_in_a_task_makes_the_checks_raise() -> None:
    draw = random.Random(2)
    odd = ["", "*", "AAAA", "null", "ff" * 40, base64.b64encode(b"[" * 5000).decode(),
           base64.b64encode(b'{"csrSignRequest":[]}').decode(), "\ud800",
           text({"signCertificateRequest": {"certificateSigningRequest": {}}})]  # fmt: skip
    names = ["approvalToBeSigned", "metaData", "metaDataSignature", "payload", "requestBase64",
             "keyAttributes", "requestStatus", "approverPublicKey"]  # fmt: skip
    for number in range(400):
        task = certificate_task() if number % 2 else genuine()
        for name in draw.sample(names, 3):
            task[name] = draw.choice(odd)
        examined(task)


GONE = object()
ODD: tuple[Any, ...] = (None, [], {}, "", 0, "\ud800\x1b[2J", GONE)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is a value in a JSON document, the whole one included."""
    yield at
    inner = value.items() if isinstance(value, dict) else ()
    for name, one in enumerate(value) if isinstance(value, list) else inner:
        yield from places(one, (*at, name))


def oddities(content: Any) -> Iterator[Any]:
    """The document with each of its values in turn of another type, empty or missing."""
    for *outer, last in (at for at in places(content) if at):
        for odd in ODD:
            changed = json.loads(json.dumps(content))
            inner = changed
            for name in outer:
                inner = inner[name]
            if odd is GONE:
                del inner[last]
            else:
                inner[last] = odd
            yield changed
    yield from (odd for odd in ODD if odd is not GONE)


def readable(found: checks.Examined) -> None:
    """What was found can be shown, and does nothing to a terminal."""
    said = json.dumps(report.document(found), ensure_ascii=False)
    assert said.isprintable()


@pytest.mark.parametrize("made", [genuine, certificate_task])
def test_whatever_the_stack_has_signed_is_a_failed_check_and_no_error(
    made: Callable[[], Json],
) -> None:
    for content in oddities(json.loads(base64.b64decode(made()["metaData"]))):
        task = made()
        signed_as(content)(task)
        found = examined(task)
        readable(found)
        too_long = found.shown is not None and found.shown.request is None
        assert found.failed or too_long, content


@pytest.mark.parametrize("made", [genuine, certificate_task])
def test_whatever_call_is_to_be_signed_is_a_failed_check_and_no_error(
    made: Callable[[], Json],
) -> None:
    call = call_of(made())
    for inner in call.values():
        del inner["keyPassword"]  # the stack's own
    for called in oddities(call):
        task = made()
        posted(called)(task)
        found = examined(task)
        readable(found)
        assert found.failed, called


@pytest.mark.parametrize("made", [genuine, certificate_task])
def test_whatever_content_is_to_be_signed_makes_no_error(made: Callable[[], Json]) -> None:
    content = own_payload() if made is genuine else content_of(made())
    for payload in (b"", *mutants(content, 100, seed=3)):
        task = made()
        everywhere(payload)(task)
        readable(examined(task))


@pytest.mark.parametrize(
    ("request_says", "why"),
    [
        ({"tokens": []}, "its policy asks nobody"),
        (rule_of({"type": "public_key", "value": "x"}), "an approver in its policy is not base64"),
        (rule_of({"type": "public_key"}), "an approver in its policy is not the base64 of a DER"),
    ],
)
def test_a_request_that_asks_nobody_cannot_be_read(request_says: Json, why: str) -> None:
    request = raw()
    request["key"]["policy"]["ruleUse"] = request_says
    task = genuine()
    signed_meta_data(request=canonical.accepted(m.EnrollmentRequest.read(request)))(task)

    (unread,) = [one for one in examined(task).failed if one.code == "META_DATA"]

    assert why in unread.finding


def test_a_line_of_the_stack_is_shown_as_it_is() -> None:
    task = genuine()
    about(lambda lines: [*lines, "[/b]: [b]bold"])(task)

    assert re.search(r"\[/b\] +\[b\]bold", shown(examined(task)))


def shown(found: checks.Examined, *, briefly: bool = False) -> str:
    """What a terminal of 200 columns shows."""
    said = io.StringIO()
    Console(width=200, file=said).print(report.request(found, NOW, briefly=briefly))
    return said.getvalue()


def test_a_brief_request_counts_what_passed_and_tells_all_else() -> None:
    task = genuine()
    about(lambda lines: [*lines, "Reason: another one"])(task)
    found = examined(task)
    brief, whole = (shown(found, briefly=briefly) for briefly in (True, False))

    others = [one for one in found.checks if one.result != "passed"]
    passed = [one for one in found.checks if one.result == "passed"]
    assert others
    assert passed
    for said in (brief, whole):
        assert [one.code for one in others if f"[{one.code}]" not in said] == []
    assert [one.title for one in passed if one.title not in whole] == []
    assert [one.title for one in passed if one.title in brief] == []
    assert report.verdict(found) in brief


def test_a_task_that_nobody_can_read_hides_no_other() -> None:
    found, unreadable = read([genuine(), {"id": 5}, "task", None])

    assert len(found) == 1
    assert unreadable == 3
    assert read(None) == ([], 0)
