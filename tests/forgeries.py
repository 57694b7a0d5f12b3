"""Forgeries of evidence, under the right signature: for each pair of parts that name the same thing
one in which they do not agree. docs/evidence.md lists them.
"""

import base64
import hashlib
import json
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from countersign.policy.findings import CODES
from local.tsb_simulator.attestation import make_attestation

EVIDENCE = Path(__file__).parents[1] / "docs/evidence.md"
OTHER = "0" * 64
EXECUTION = "arn:aws:states:x:123456789012:execution:m:e"
LONG_AGO, YEARS_LATER = "2020-01-01T00:00:00Z", "2027-11-26T12:00:00Z"

type Folder = dict[str, bytes]
type Json = dict[str, Any]


@dataclass(frozen=True)
class Forgery:
    """One forgery of a folder.

    Args:
        made: the folder with it.
        part: what the verifier names.
        says: in its message.
    """

    made: Callable[[Folder], Folder]
    part: str
    says: str


def changed(folder: Folder, part: str, **values: Any) -> Folder:
    """The folder with other values in a part; `a__b` reaches into an object or a list."""
    content = json.loads(folder[part])
    for path, value in values.items():
        *outer, last = [int(one) if one.isdecimal() else one for one in path.split("__")]
        inner = content
        for name in outer:
            inner = inner[name]
        if value is ...:
            inner.pop(last, None) if isinstance(inner, dict) else inner.pop(last)
        else:
            inner[last] = value
    return {**folder, part: rfc8785.dumps(content)}


def edit(part: str, **values: Any) -> Callable[[Folder], Folder]:
    return lambda folder: changed(folder, part, **values)


def without(*names: str) -> Callable[[Folder], Folder]:
    return lambda folder: {name: body for name, body in folder.items() if name not in names}


def put(name: str, body: bytes) -> Callable[[Folder], Folder]:
    return lambda folder: {**folder, name: body}


def both(*steps: Callable[[Folder], Folder]) -> Callable[[Folder], Folder]:
    def made(folder: Folder) -> Folder:
        for step in steps:
            folder = step(folder)
        return folder

    return made


def not_canonical(name: str) -> Callable[[Folder], Folder]:
    return lambda folder: {**folder, name: folder[name] + b" "}


def nobody_approved_says_the_record(folder: Folder) -> Folder:
    approvals = [{**one, "decision": "none"} for one in json.loads(folder["approvers.json"])]
    return {**folder, "approvers.json": rfc8785.dumps(approvals)}


def answered(**values: Any) -> Callable[[Folder], Folder]:
    """TSB's answer says something else, and the record names it all the same."""
    return lambda folder: named(changed(folder, POLL, **values))


def named(folder: Folder) -> Folder:
    digest = hashlib.sha256(folder[POLL]).hexdigest()
    return changed(folder, RECORD, steps__csr__answerSha256=digest)


def all_passed(folder: Folder) -> Folder:
    """TSB answers with too few approvals, everything else says so, and the checks are on record."""
    answer = json.loads(folder["tsb/poll-request-1.json"])
    answer["approvedBy"], dropped = answer["approvedBy"][:1], answer["approvedBy"][1:]
    left = answer["approvedBy"]
    approvals = [
        {**one, "decision": "approved" if one["publicKey"] in left else "none"}
        for one in json.loads(folder["approvers.json"])
    ]
    assert dropped
    return named(
        {**folder, POLL: json.dumps(answer).encode(), "approvers.json": rfc8785.dumps(approvals)}
    )


def approved_and_declined(folder: Folder) -> Folder:
    """TSB says of one person both."""
    approved = json.loads(folder[POLL])["approvedBy"][:1]
    return answered(rejectedBy=approved)(folder)


def check_twice(folder: Folder) -> Folder:
    """A check failed at first; the same code stands behind it, passed."""
    written = json.loads(folder["checks.json"])
    twice = [{**written[0], "result": "failed"}, *written]
    return {**folder, "checks.json": rfc8785.dumps(twice)}


def checks_turned_round(folder: Folder) -> Folder:
    written = json.loads(folder["checks.json"])
    return {**folder, "checks.json": rfc8785.dumps(written[::-1])}


def throughout(text: str, other: str) -> Callable[[Folder], Folder]:
    """Another text wherever it stands, but in what TSB answered."""

    def made(folder: Folder) -> Folder:
        parts = {name for name, body in folder.items() if text.encode() in body}
        assert RECORD in parts
        return folder | {
            name: folder[name].replace(text.encode(), other.encode()) for name in parts
        }

    return made


def another_csr(folder: Folder) -> Folder:
    """Another CSR, wherever a CSR stands."""
    pem = other_csr()
    changes = both(
        put("request.pem", pem.encode()),
        answered(result=pem),
        edit("record.json", csr__pem=pem),
    )
    return changes(folder)


def asked_otherwise(**different: object) -> Callable[[Folder], Folder]:
    """Something else in what was sent and accepted, with their hashes; not in what was shown."""

    def change(folder: Folder) -> Folder:
        request = changed(folder, "request.json", **different)["request.json"]
        sent = {f"request__{name}": value for name, value in different.items()}
        told = changed({**folder, "request.json": request}, "record.json", **sent)
        named = {
            name: value
            for name, value in json.loads(told["record.json"])["request"].items()
            if name != "enrollmentId"
        }
        return changed(
            told,
            "record.json",
            requestSha256=hashlib.sha256(rfc8785.dumps(named)).hexdigest(),
            acceptedSha256=hashlib.sha256(request).hexdigest(),
        )

    return change


def with_shown(**values: Any) -> Callable[[Folder], Folder]:
    """Other metadata, with its hash; nobody has signed it."""

    def made(folder: Folder) -> Folder:
        folder = changed(folder, "metadata.json", **values)
        digest = hashlib.sha256(folder["metadata.json"]).hexdigest()
        return changed(folder, RECORD, metaDataSha256=digest)

    return made


def shown(change: Callable[[list[str]], list[str]]) -> Callable[[Folder], Folder]:
    """Other lines for the approvers."""
    return lambda folder: with_shown(about=change(json.loads(folder["metadata.json"])["about"]))(
        folder
    )


def not_issued(folder: Folder) -> Folder:
    """No CSR, neither on record nor beside it."""
    return without("request.pem")(changed(folder, RECORD, csr=...))


def not_verified(folder: Folder) -> Folder:
    """Nothing of what StoreCsr writes."""
    left = without("checks.json")(not_issued(folder))
    created = json.loads(folder[CREATED])
    attested = {
        "attestation.xml": created["xml"].encode(),
        "attestation.sig": base64.b64decode(created["xmlSignature"]),
    }
    said = ("verifiedSha256", "verifiedAt", "attestation")
    return {**changed(left, RECORD, **dict.fromkeys(said, ...)), **attested}


def not_executed(folder: Folder) -> Folder:
    """Nothing of what came after the request was made."""
    asked = [{**one, "decision": "outstanding"} for one in json.loads(folder["approvers.json"])]
    left = not_verified({**folder, "approvers.json": rfc8785.dumps(asked)})
    left = without(POLL, KEY)(left)
    said = ("steps__csr__times__executed", "steps__csr__answerSha256")
    return changed(
        left,
        RECORD,
        stage="PollRequest",
        steps__csr__status="PENDING",
        **dict.fromkeys(said, ...),
    )


def beside(name: str, **values: Any) -> Callable[[Folder], Folder]:
    """Another answer about the same request as well."""
    return lambda folder: {**folder, name: changed(folder, POLL, **values)[POLL]}


def unnamed(folder: Folder) -> Folder:
    """As a release would write it that named no answers."""
    return changed(folder, RECORD, steps__csr__answerSha256=...)


def by_api(**more: Any) -> Callable[[Folder], Folder]:
    """As if the API had claimed it."""
    return lambda folder: changed(
        folder,
        RECORD,
        origin={"trigger": "api", "id": json.loads(folder[RECORD])["id"], **more},
    )


def key_discarded(folder: Folder) -> Folder:
    return changed(
        folder, RECORD, discardedSha256=json.loads(folder[RECORD])["publicKeySha256"], discards=1
    )


def ended(outcome: str, error: str | None = None) -> Callable[[Folder], Folder]:
    failed = {"name": error, "message": "x", "state": "StoreCsr", "action": "y"}
    return edit(RECORD, outcome=outcome, status=outcome, error=failed if error else ...)


def cancellation(at: str, **more: str) -> Json:
    return {"by": "Eve", "at": at, **more}


def cancelled(at: str = "ended", confirmed: str | None = None) -> Callable[[Folder], Folder]:
    """Cancelled at a time on record."""

    def made(folder: Folder) -> Folder:
        times = json.loads(folder[RECORD])["times"]
        more = {"confirmedAt": times[confirmed]} if confirmed else {}
        return changed(folder, RECORD, cancel=cancellation(times[at], **more))

    return made


def one_finding_more(code: str) -> Callable[[Folder], Folder]:
    def made(folder: Folder) -> Folder:
        found, entry = json.loads(folder[RECORD])["findings"], CODES[code]
        assert code not in {one["code"] for one in found}
        more = {"code": code, "path": "key.policy.ruleUse", "sentence": "so it is"}
        more |= {"level": entry.level, "action": entry.action}
        return changed(folder, RECORD, findings=[*found, more])

    return made


def approved_instead(folder: Folder) -> Folder:
    """Who declined has approved, says TSB."""
    declined = json.loads(folder[POLL])["rejectedBy"]
    said = [
        {**one, "decision": "approved" if one["decision"] == "declined" else one["decision"]}
        for one in json.loads(folder["approvers.json"])
    ]
    told = named(changed(folder, POLL, rejectedBy=[], approvedBy=declined))
    return {**told, "approvers.json": rfc8785.dumps(said)}


def disposed(action: str, result: str, **more: Any) -> Callable[[Folder], Folder]:
    """Something else became of the key at the end."""

    def made(folder: Folder) -> Folder:
        at = json.loads(folder[RECORD])["times"]["ended"]
        said = {"action": action, "result": result, "at": at, **more}
        return changed(folder, RECORD, unusedKey=said)

    return made


def created_at(time: str) -> Callable[[Folder], Folder]:
    """When the key was made, wherever CreateKey has kept it; the HSM's signature is not made."""

    def change(folder: Folder) -> Folder:
        xml = json.loads(folder[CREATED])["xml"]
        told = re.sub(r"(?<=<create_time>)[^<]*", time, xml)
        if folder["attestation.xml"] == xml.encode():
            folder = {**folder, "attestation.xml": told.encode()}
        kept = changed(folder, CREATED, json__createTime=time, xml=told)
        return changed(kept, RECORD, times__keyCreated=time)

    return change


ASKED = (
    "steps__csr__times__requested",
    "steps__csr__times__windowEnds",
    "steps__csr__times__nextPoll",
    "unusedKey__at",
    "times__ended",
)


def later(*paths: str, by: timedelta) -> Callable[[Folder], Folder]:
    """These times on record, all moved by as much; those that are there."""

    def moved(text: str) -> str:
        time, *rest = text.split(" ")
        at = (datetime.fromisoformat(time) + by).strftime("%Y-%m-%dT%H:%M:%SZ")
        return " ".join((at, *rest))

    def made(folder: Folder) -> Folder:
        for path in paths:
            found = json.loads(folder[RECORD])
            for name in path.split("__"):
                found = found.get(name) if found else None
            if found:
                folder = changed(folder, RECORD, **{path: moved(found)})
        return folder

    return made


def late_answer(folder: Folder) -> Folder:
    """The key was looked at when the request was accepted; TSB answered an hour later."""
    times = {"times__ended": "2026-11-26T13:00:00Z"}
    read = {"steps__csr__times__nextPoll": "2026-11-26T12:59:00Z"}
    at = json.loads(folder[RECORD])["times"]["accepted"]
    return changed(folder, RECORD, **times, **read, unusedKey__at=at)


def attested_by_another(folder: Folder) -> tuple[str, Folder]:
    """Another HSM attests that the key was made; its root, and the folder. The end stays true.

    Where no CSR was checked the creation's attestation is all there is, and so the folder's.
    """
    own, answer = make_attestation(), json.loads(folder[CREATED])
    chain = "".join(own.chain).encode()
    root = hashlib.sha256(ssl.PEM_cert_to_DER_cert(own.chain[-1])).hexdigest()
    answer["xmlSignature"] = own.sign(answer["xml"].encode())
    said = {"root": root, "chainSha256": hashlib.sha256(chain).hexdigest()}
    forged = {
        **folder,
        CREATED: json.dumps(answer).encode(),
        "attestation-chain-created.pem": chain,
    }
    for part in (RECORD, "quarantine/findings.json"):
        forged = changed(forged, part, keyAttestation=said) if part in forged else forged
    return root, forged


def another_key(folder: Folder) -> Folder:
    """Another key, wherever the key stands."""
    key = json.loads(folder[CREATED])["json"]["publicKey"]
    other = base64.b64encode(rsa_key(Encoding.DER)).decode()
    one, two = (hashlib.sha256(base64.b64decode(name)).hexdigest() for name in (key, other))
    return {
        name: body.replace(key.encode(), other.encode()).replace(one.encode(), two.encode())
        for name, body in folder.items()
    }


def but_the_hsm(change: Callable[[Folder], Folder]) -> Callable[[Folder], Folder]:
    """A change in every part but what the HSM attests."""

    def made(folder: Folder) -> Folder:
        told = {**change(folder), "attestation.xml": folder["attestation.xml"]}
        return changed(told, CREATED, xml=json.loads(folder[CREATED])["xml"])

    return made


def attested(said: str, other: str) -> Callable[[Folder], Folder]:
    """The HSM attests something else, and nobody has signed it."""

    def made(folder: Folder) -> Folder:
        xml = json.loads(folder[CREATED])["xml"]
        assert said in xml
        told = xml.replace(said, other)
        return changed({**folder, "attestation.xml": told.encode()}, CREATED, xml=told)

    return made


def rewritten(part: str, said: str, other: str) -> Callable[[Folder], Folder]:
    """The XML in an answer about a key says something else."""

    def made(folder: Folder) -> Folder:
        xml = json.loads(folder[part])["xml"]
        assert said in xml
        return changed(folder, part, xml=xml.replace(said, other))

    return made


def unpinned(folder: Folder) -> Folder:
    """As if the stack had trusted no root."""
    told = changed(folder, RECORD, attestationRoot="", attestationChainSha256=...)
    return without("attestation-chain.pem")(told)


def nothing_attested(folder: Folder) -> Folder:
    """As if the HSM had attested nothing that could be read."""
    why = "no attestation root is configured"
    written = [
        {**one, "result": "skipped", "finding": why} if "ATTESTATION" in one["code"] else one
        for one in json.loads(folder["checks.json"])
    ]
    told = changed(unpinned(folder), RECORD, attestation="unverified")
    return {**told, "checks.json": rfc8785.dumps(written)}


RECORD = "record.json"
POLL, KEY, CREATED = "tsb/poll-request-1.json", "tsb/store-csr-1.json", "tsb/create-key-1.json"
EXTRA = "tsb/poll-request-2.json"
# The poll that found TSB's last word came five minutes after the request.
late = edit(
    RECORD,
    times__ended="2026-11-26T12:06:00Z",
    steps__csr__times__nextPoll="2026-11-26T12:05:00Z",
)
# By the name in docs/evidence.md. Each is made of the folder of an enrollment that ended so.
OF_AN_ISSUED = {
    # What was asked
    "a record that reads like another": Forgery(not_canonical(RECORD), RECORD, "canonical form"),
    "a request that reads like another": Forgery(
        not_canonical("request.json"), "request.json", "canonical form"
    ),
    "approvers who read like others": Forgery(
        not_canonical("approvers.json"), "approvers.json", "canonical form"
    ),
    "checks that read like others": Forgery(
        not_canonical("checks.json"), "checks.json", "canonical form"
    ),
    "another enrollment's record": Forgery(
        edit(RECORD, id="other-enrollment"), RECORD, "request.enrollmentId"
    ),
    "a request that nobody sent": Forgery(
        edit(RECORD, request__reason="OPS-43"), RECORD, "requestSha256"
    ),
    "another accepted request": Forgery(
        edit("request.json", reason="OPS-43"), "request.json", "acceptedSha256"
    ),
    "the key of another request": Forgery(edit(RECORD, keyLabel="x"), "request.json", "key.label"),
    "another profile": Forgery(edit(RECORD, profile="trial@1"), "request.json", "profile"),
    "another policy than was asked": Forgery(
        edit(RECORD, policy__tokens__0__groups__0__quorum=1), "request.json", "another policy"
    ),
    "a reason that the approvers did not see": Forgery(
        asked_otherwise(reason="OPS-43"), "metadata.json", "reason is"
    ),
    "approvers who were shown something else": Forgery(
        edit("metadata.json", summary="Approve: nothing"), "metadata.json", "metaDataSha256"
    ),
    "a line that says something else than the request": Forgery(
        shown(lambda about: ["Key label: a test" if "Key label" in one else one for one in about]),
        "metadata.json",
        "does not say 'Key label",
    ),
    "a line that was added to what the request gives": Forgery(
        shown(lambda about: [*about, "Requested by: the CEO"]),
        "metadata.json",
        "says 'Requested by: the CEO' as well",
    ),
    "approvers who were shown something of another kind": Forgery(
        with_shown(type="Certificate"), "metadata.json", "type is"
    ),
    "what was shown, signed by nobody": Forgery(
        put("metadata.sig", b"0"), "metadata.sig", "no signature of this key"
    ),
    "a requester whom the approvers did not see": Forgery(
        edit(RECORD, origin={"trigger": "start", "said": {"principal": "ceo"}}),
        "metadata.json",
        "does not say 'Requested by: unknown; the caller says ceo'",
    ),
    "an approver whom the approvers did not see": Forgery(
        both(
            edit(RECORD, policy__tokens__0__groups__0__approvers__0="Eve"),
            edit("approvers.json", **{"0__name": "Eve"}),
        ),
        "metadata.json",
        'does not say \'Agreement: 2 of "Eve"',
    ),
    # The key
    "another key at creation": Forgery(
        edit(RECORD, publicKeySha256=OTHER), "tsb/create-key", "the key that is on record"
    ),
    "a key made at another time": Forgery(
        edit(RECORD, times__keyCreated="2020-01-01T00:00:00Z"), "tsb/create-key", "another time"
    ),
    "a key made before it was asked for": Forgery(
        both(
            edit(RECORD, times__keyCreated="2020-01-01T00:00:00Z"),
            edit(CREATED, json__createTime="2020-01-01T00:00:00Z"),
        ),
        "tsb/create-key",
        "ATTESTATION_CREATION",
    ),
    "a key made before it was asked for, by the clock's offset": Forgery(
        edit(RECORD, clockSkewSeconds=60), RECORD, "in this enrollment's time"
    ),
    "a key that the HSM made half a minute later": Forgery(
        both(created_at("2026-11-26T11:59:30Z"), edit(RECORD, clockSkewSeconds=-30)),
        "tsb/create-key",
        "ATTESTATION_SIGNATURE",
    ),
    "an attestation of the creation that no HSM has signed": Forgery(
        edit(CREATED, xmlSignature="AAAA"), "tsb/create-key", "ATTESTATION_SIGNATURE"
    ),
    "an attestation that TSB did not answer": Forgery(
        put("attestation.xml", b"<x/>"), "attestation.xml", "not what TSB answered"
    ),
    "an attestation without its signature": Forgery(
        without("attestation.sig"), "attestation.sig", "missing"
    ),
    "an answer about the key that the HSM does not attest": Forgery(
        edit(KEY, json__attributes__extractable=True), "checks.json", "KEY_EXTRACTABLE"
    ),
    "an attribute of the key that nobody asked for": Forgery(
        edit(KEY, json__attributes__encrypt=True), "checks.json", "attributes.encrypt"
    ),
    "an attribute of the key at creation that nobody asked for": Forgery(
        edit(CREATED, json__attributes__encrypt=True), "tsb/create-key", "attributes.encrypt"
    ),
    "an attestation that nobody has read": Forgery(
        nothing_attested, "checks.json", "ATTESTATION_FORMAT is on record as skipped"
    ),
    "another size of the key": Forgery(
        edit(KEY, json__keySize=4096), "checks.json", "KEY_ATTRIBUTES"
    ),
    "checks of the CSR at another time": Forgery(
        edit(RECORD, verifiedAt="2026-11-27T12:00:00Z"), "checks.json", "ATTESTATION_TIME"
    ),
    "a chain to another root": Forgery(
        edit(RECORD, attestationRoot=OTHER), "tsb/create-key", "ATTESTATION_ROOT"
    ),
    "no root, where one was believed": Forgery(
        both(
            edit(RECORD, attestationRoot="", attestationChainSha256=...),
            without("attestation-chain.pem"),
        ),
        "checks.json",
        "ATTESTATION_ROOT",
    ),
    "another chain": Forgery(
        put("attestation-chain.pem", b"other"), "attestation-chain.pem", "attestationChainSha256"
    ),
    # The approval
    "an answer about another request": Forgery(
        edit(RECORD, steps__csr__requestId="another"), POLL, "that record.json rests on"
    ),
    "approvals that TSB did not report": Forgery(
        nobody_approved_says_the_record, "approvers.json", "not what TSB answered"
    ),
    "an approver under another name": Forgery(
        edit("approvers.json", **{"0__name": "Eve"}), "approvers.json", "not what TSB answered"
    ),
    "an approver with another key": Forgery(
        edit("approvers.json", **{"0__publicKey": "AAAA"}),
        "approvers.json",
        "not what TSB answered",
    ),
    "an approval of somebody who declined as well": Forgery(
        approved_and_declined, "approvers.json", "not what TSB answered"
    ),
    "another last word of TSB": Forgery(
        beside(EXTRA, status="REJECTED"), EXTRA, "that record.json rests on"
    ),
    "another execution by other approvers": Forgery(
        beside(EXTRA, approvedBy=[]), EXTRA, "that record.json rests on"
    ),
    "another execution, of which none is named": Forgery(
        both(beside(EXTRA, approvedBy=[]), unnamed), "tsb/poll-request", "two answers say"
    ),
    "an execution as open": Forgery(
        both(
            lambda folder: {**not_executed(folder), POLL: folder[POLL]},
            ended("CANCELLED"),
            cancelled(),
        ),
        POLL,
        "that record.json rests on",
    ),
    "an answer about a request that nobody made": Forgery(
        beside(EXTRA, id="another"), EXTRA, "that record.json rests on"
    ),
    "an answer of a state that was not reached": Forgery(
        put("tsb/import-certificate-1.json", b"{}"),
        "tsb/import-certificate-1.json",
        "that record.json rests on",
    ),
    "too few approvals": Forgery(all_passed, "checks.json", "APPROVAL_QUORUM"),
    "a request that is still open": Forgery(
        edit(POLL, status="PENDING"), "tsb/poll-request", "no answer says"
    ),
    "another time of the execution": Forgery(
        edit(RECORD, steps__csr__times__executed="2020-01-01T00:00:00Z"),
        "tsb/poll-request",
        "no answer says",
    ),
    "a request that was executed before it was made": Forgery(
        both(
            edit(RECORD, steps__csr__times__executed="2020-01-01T00:00:00Z"),
            answered(executionTime="2020-01-01T00:00:00Z"),
        ),
        RECORD,
        "executed before it was made",
    ),
    "an old key and attestation by a clock that was off": Forgery(
        both(
            edit(RECORD, times__keyCreated="2020-01-01T12:00:00Z", clockSkewSeconds=-217_814_400),
            edit(CREATED, json__createTime="2020-01-01T12:00:00Z"),
        ),
        "tsb/create-key",
        "ATTESTATION_CREATION",
    ),
    "another window": Forgery(
        edit(RECORD, steps__csr__times__windowEnds="2030-01-01T00:00:00Z"), RECORD, "windowEnds"
    ),
    # The CSR
    "a CSR that TSB did not answer": Forgery(
        put("request.pem", b"other"), "request.pem", "not what TSB answered"
    ),
    "another CSR in every part": Forgery(another_csr, "checks.json", "CSR_PUBLIC_KEY"),
    "another CSR on record": Forgery(edit(RECORD, csr__pem="x"), RECORD, "csr.pem"),
    "another hash of the CSR": Forgery(edit(RECORD, csr__sha256=OTHER), RECORD, "csr.sha256"),
    "a CSR that was not verified": Forgery(
        edit(RECORD, verifiedSha256=OTHER), RECORD, "verifiedSha256"
    ),
    "a CSR from another place": Forgery(edit(RECORD, csr__key="x"), RECORD, "csr.key"),
    # The checks
    "a check that failed and is on record as passed": Forgery(
        edit(KEY, json__policy__keyStatus__blocked=True), "checks.json", "KEY_BLOCKED"
    ),
    "a check that was left out": Forgery(
        edit("checks.json", **{"0": ...}), "checks.json", "is on record as None"
    ),
    "a check that is on record twice": Forgery(check_twice, "checks.json", "a check twice"),
    "a check that passed, with a text": Forgery(
        edit("checks.json", **{"0__finding": "REQUEST_ID holds, says Ada"}),
        "checks.json",
        "REQUEST_ID says",
    ),
    "checks in another order": Forgery(checks_turned_round, "checks.json", "made again"),
    "another word on the attestation": Forgery(
        edit(RECORD, attestation="unverified"), RECORD, "attestation is"
    ),
    # The end
    "another outcome": Forgery(
        edit(RECORD, outcome="REJECTED"), RECORD, "nothing says that the enrollment is REJECTED"
    ),
    "another status": Forgery(edit(RECORD, status="PENDING"), RECORD, "status is"),
    "an issued enrollment as failed": Forgery(
        edit(RECORD, outcome="FAILED", error={"name": "x", "message": "y"}),
        RECORD,
        "by what is on record it is ISSUED",
    ),
    "an issue after a cancellation": Forgery(
        edit(RECORD, cancel={"by": "Eve", "at": "2026-11-26T12:00:00Z"}),
        RECORD,
        "was verified, and cancelled as well",
    ),
    "an issue as cancelled": Forgery(
        both(not_issued, ended("CANCELLED"), edit(RECORD, verifiedSha256=...), cancelled()),
        RECORD,
        "all of checks and no csr",
    ),
    "an issue as cancelled, as if nothing had been verified": Forgery(
        both(
            not_verified,
            late,
            ended("CANCELLED"),
            cancelled("accepted"),
        ),
        RECORD,
        "cancelled before what a cancellation prevents",
    ),
    "an issue as confirmed to be cancelled": Forgery(
        both(not_verified, ended("CANCELLED"), cancelled("ended", confirmed="accepted")),
        RECORD,
        "TSB has confirmed what was not cancelled",
    ),
    "a cancellation before the request": Forgery(
        both(
            not_executed,
            ended("CANCELLED"),
            edit(RECORD, cancel=cancellation("2026-11-26T11:59:00Z")),
        ),
        RECORD,
        "cancelled before what a cancellation prevents",
    ),
    "a cancellation after the end": Forgery(
        both(
            not_executed,
            ended("CANCELLED"),
            edit(RECORD, cancel=cancellation("2026-12-26T12:00:00Z")),
        ),
        RECORD,
        "was cancelled after its end",
    ),
    "an execution after a cancellation": Forgery(
        both(
            not_verified,
            ended("CANCELLED"),
            cancelled("ended"),
            edit(RECORD, steps__csr__times__executed="2026-12-26T12:00:00Z"),
            answered(executionTime="2026-12-26T12:00:00Z"),
        ),
        RECORD,
        "executed what was cancelled before",
    ),
    "an issue as failed, without its CSR": Forgery(
        both(not_issued, ended("FAILED", "TsbUnavailableError"), edit(RECORD, verifiedSha256=...)),
        RECORD,
        "all of checks and no csr",
    ),
    "an issue as failed, only without its CSR": Forgery(
        both(not_issued, ended("FAILED", "TsbUnavailableError")),
        RECORD,
        "has verifiedSha256 and no csr",
    ),
    "an id that is none": Forgery(edit(RECORD, id="x/../y"), RECORD, "its id is none"),
    "no execution": Forgery(edit(RECORD, executionArn=None), RECORD, "executionArn"),
    "no requester": Forgery(edit(RECORD, origin=...), RECORD, "unknown form"),
    "a requester whom its trigger does not know": Forgery(
        edit(RECORD, origin__principal="ceo"), RECORD, "whom only the API knows"
    ),
    "a caller's word as the API's": Forgery(
        by_api(said={"principal": "ceo"}), RECORD, "passes on nothing that callers say"
    ),
    "an id that nobody made": Forgery(
        both(by_api(), edit(RECORD, request__enrollmentId=...)),
        RECORD,
        "neither the caller's nor one of the API",
    ),
    "a form that this release does not know": Forgery(
        edit(RECORD, schemaVersion="2"), RECORD, "schemaVersion '2' is not known"
    ),
    "a value that no release writes": Forgery(
        edit(RECORD, approvedByTheBoard=True), RECORD, "approvedByTheBoard has an unknown form"
    ),
    "an attempt that is none": Forgery(
        edit(RECORD, attempt=0, resumed=1), RECORD, "attempt has an unknown form"
    ),
    "one execution before, twice": Forgery(
        edit(RECORD, attempt=3, earlier=[EXECUTION, EXECUTION]), RECORD, "earlier has what is no"
    ),
    "a profile's hash without a profile": Forgery(
        edit(RECORD, profileSha256=OTHER), RECORD, "no profile"
    ),
    "a request without an intent": Forgery(
        edit(RECORD, steps__csr__intent=...), RECORD, "has requestId and no intent"
    ),
    "the key of an issued CSR as deleted": Forgery(
        edit(RECORD, unusedKey={"action": "delete", "result": "deleted"}),
        RECORD,
        "the key of its CSR was deleted",
    ),
    "the key of an issued CSR as discarded": Forgery(
        key_discarded, RECORD, "its key is the one that was discarded"
    ),
    "a fault as a failed check": Forgery(
        both(not_verified, ended("FAILED", "CsrInvalidError")), RECORD, "no check has failed"
    ),
    "TSB's last word after the end": Forgery(
        edit(RECORD, steps__csr__times__nextPoll="2026-12-26T12:00:00Z"), RECORD, "not in order"
    ),
    "an execution that was read before": Forgery(
        both(
            edit(RECORD, steps__csr__times__executed="2026-11-26T13:00:00Z"),
            answered(executionTime="2026-11-26T13:00:00Z"),
        ),
        RECORD,
        "executed after TSB had said so",
    ),
    "a failure of another form": Forgery(edit(RECORD, error={"name": "x"}), RECORD, "unknown form"),
    "an execution of another form": Forgery(
        edit(RECORD, executionArn="Ada"), RECORD, "no execution of its own"
    ),
    "another attempt": Forgery(edit(RECORD, attempt=2), RECORD, "has 1 executions before"),
    "an execution before that nobody began": Forgery(
        edit(RECORD, earlier=[EXECUTION]),
        RECORD,
        "has 0 executions before",
    ),
    "another trigger": Forgery(
        edit(
            RECORD,
            origin={"trigger": "schedule", "id": "s/nightly", "time": "2026-11-26T12:00:00Z"},
        ),
        RECORD,
        "schedule.nightly.20261126T120000Z",
    ),
    "another id of its trigger": Forgery(
        edit(RECORD, origin={"trigger": "api", "id": "other-enrollment"}), RECORD, "origin.id"
    ),
    "a release of another form": Forgery(
        edit(RECORD, codeVersion={"release": 1}), RECORD, "codeVersion has an unknown form"
    ),
    "an end without a time zone": Forgery(
        edit(RECORD, times__ended="2026-11-26T13:00:00"), RECORD, "times.ended"
    ),
    "a cancellation by nobody": Forgery(
        edit(RECORD, cancel={"at": "2026-11-26T12:00:00Z"}), RECORD, "unknown form"
    ),
    "times out of order": Forgery(
        edit(RECORD, times__ended="2020-01-01T00:00:00Z"), RECORD, "not in order"
    ),
    "an end before the request": Forgery(
        edit(RECORD, steps__csr__times__requested="2026-11-27T00:00:00Z"), RECORD, "not in order"
    ),
    "an acceptance after the request": Forgery(
        edit(RECORD, times__accepted="2026-11-26T23:00:00Z"), RECORD, "not in order"
    ),
    "another time of the acceptance": Forgery(
        edit(RECORD, acceptedAt="2026-11-26T11:00:00Z"), RECORD, "acceptedAt"
    ),
    # Its course
    "a state to which it had not come yet": Forgery(
        edit(RECORD, stage="RequestCertificate"), RECORD, "to which its record has not come"
    ),
    "a state that it had left": Forgery(
        edit(RECORD, stage="PollRequest"), RECORD, "to which its record has not come"
    ),
    "an end a year after TSB's last word": Forgery(
        edit(RECORD, times__ended=YEARS_LATER), RECORD, "long after TSB's last word"
    ),
    "an acceptance a year before its key": Forgery(
        edit(RECORD, times__accepted="2025-11-26T12:00:00Z", acceptedAt="2025-11-26T12:00:00Z"),
        RECORD,
        "long after the request was accepted",
    ),
    "an API's call at another time": Forgery(
        by_api(time=LONG_AGO), RECORD, "origin.time is 2020-01-01T00:00:00Z"
    ),
    "an execution before of another state machine": Forgery(
        edit(RECORD, attempt=2, earlier=[EXECUTION]), RECORD, "another state machine"
    ),
    "a release of another account": Forgery(
        edit(RECORD, codeVersion="arn:aws:lambda:eu-central-1:999999999999:layer:core:1"),
        RECORD,
        "of another partition, region or account",
    ),
    "a discarded key without a discard": Forgery(
        edit(RECORD, discardedSha256=OTHER), RECORD, "has discardedSha256 and no discards"
    ),
    "a deadline that passed after the end": Forgery(
        edit(RECORD, overdue=YEARS_LATER), RECORD, "not between acceptance and end"
    ),
    # The linter's findings
    "nothing of what the linter found": Forgery(edit(RECORD, findings=[]), RECORD, "findings"),
    "a finding that the linter does not know": Forgery(
        edit(RECORD, findings__0__code="all-is-well"), RECORD, "does not know"
    ),
    "a finding of another level": Forgery(
        edit(RECORD, findings__0__level="error"), RECORD, "is told as error"
    ),
    "a finding that nobody waived as waived": Forgery(
        edit(RECORD, findings__0__waiver="agreed by the CISO"), RECORD, "without a profile"
    ),
    "a finding with other advice": Forgery(
        edit(RECORD, findings__0__action="Nothing."), RECORD, "advises"
    ),
    "a finding that the policy does not give": Forgery(
        one_finding_more("unblock-rule-open"), RECORD, "linter finds"
    ),
    "a finding about people that they do not give": Forgery(
        one_finding_more("groups-overlap"), RECORD, "linter finds"
    ),
    # Parts
    "a CSR that another key is to sign": Forgery(
        asked_otherwise(csr__signKeyName="other"), "request.json", "signKeyName"
    ),
    "no request": Forgery(without("request.json"), "request.json", "missing"),
    "nothing of what was shown": Forgery(without("metadata.json"), "metadata.json", "missing"),
    "no approvals": Forgery(without("approvers.json"), "approvers.json", "missing"),
    "no CSR": Forgery(without("request.pem"), "request.pem", "missing"),
    "no chain": Forgery(without("attestation-chain.pem"), "attestation-chain.pem", "missing"),
    "no checks": Forgery(without("checks.json"), RECORD, "no checks"),
    "no answer about the key in the end": Forgery(without(KEY), "tsb", "has no answers"),
    "no answer about the key at creation": Forgery(without(CREATED), "tsb/create-key", "no answer"),
    "no answer about the approval": Forgery(without(POLL), "tsb/poll-request", "no answer says"),
    "a part that nothing speaks of": Forgery(
        put("tsb/note.txt", b""), "tsb/note.txt", "does not speak of"
    ),
    "a CSR in quarantine beside the issued one": Forgery(
        put("quarantine/request.pem", b""), "quarantine/request.pem", "does not speak of"
    ),
}

OF_A_QUARANTINED = {
    "a failed check under another error": Forgery(
        edit(RECORD, error__name="TsbUnavailableError"), RECORD, "error.name"
    ),
    "another failed check as the error": Forgery(
        edit(RECORD, error__reason="KEY_BLOCKED"), RECORD, "error.reason"
    ),
    "another finding as the error": Forgery(
        edit(RECORD, error__message="nothing is wrong"), RECORD, "error.message"
    ),
    "another advice as the error's": Forgery(
        edit(RECORD, error__action="Nothing to do."), RECORD, "error.action"
    ),
    "another finding wherever it stands": Forgery(
        throughout("extension 2.5.29.17 was not asked for", "was left out"),
        "checks.json",
        "CSR_ALTERNATIVE_NAMES says",
    ),
    "another field of a failed check": Forgery(
        throughout("subjectAlternativeNames", "keyUsage"),
        "checks.json",
        "CSR_ALTERNATIVE_NAMES says",
    ),
    "a quarantined key whose creation no HSM has attested": Forgery(
        both(edit(CREATED, xmlSignature="AAAA")), "tsb/create-key", "ATTESTATION_SIGNATURE"
    ),
    "a failed check of another state": Forgery(
        edit(RECORD, error__state="CreateKey"), RECORD, "error.state"
    ),
    "a quarantine at another place": Forgery(
        edit(RECORD, quarantine__prefix="quarantine/other/"), RECORD, "quarantine.prefix"
    ),
    "a failed check as a cancellation": Forgery(
        both(
            late,
            edit(RECORD, verifiedAt="2026-11-26T12:05:00Z"),
            edit("quarantine/findings.json", verifiedAt="2026-11-26T12:05:00Z"),
            ended("CANCELLED"),
            cancelled("accepted"),
        ),
        RECORD,
        "cancelled before what a cancellation prevents",
    ),
}
OF_A_REJECTED = {
    "a rejected key that is years old, by a clock that was off": Forgery(
        both(
            unpinned,
            created_at("2020-01-01T12:00:00Z"),
            edit(RECORD, clockSkewSeconds=-217_814_400),
        ),
        RECORD,
        "further off than is tolerated",
    ),
    "a rejection as a cancellation": Forgery(
        both(late, ended("CANCELLED"), cancelled("accepted")),
        RECORD,
        "cancelled before what a cancellation prevents",
    ),
    "a rejection as an expiry": Forgery(
        both(ended("EXPIRED"), edit(RECORD, steps__csr__status="EXPIRED")),
        POLL,
        "that record.json rests on",
    ),
    "a rejection as an expiry, with TSB's word for each": Forgery(
        both(
            beside(EXTRA, status="REJECTED"),
            ended("EXPIRED"),
            edit(RECORD, steps__csr__status="EXPIRED"),
            answered(status="EXPIRED"),
        ),
        EXTRA,
        "that record.json rests on",
    ),
    "a rejection as a failure": Forgery(
        ended("FAILED", "TsbUnavailableError"), RECORD, "by what is on record it is REJECTED"
    ),
    "a rejection that nobody declined": Forgery(approved_instead, RECORD, "nobody has declined"),
    "the key of a rejected request as deleted": Forgery(
        both(disposed("delete", "deleted"), edit(RECORD, stage="DiscardKey")),
        RECORD,
        "unusedKey is delete, deleted",
    ),
    # The key, of which no CSR was checked
    "a rejected key that is another one": Forgery(
        another_key, "tsb/create-key", "ATTESTATION_SIGNATURE"
    ),
    "a rejected key that is another one than the HSM attests": Forgery(
        but_the_hsm(another_key), "tsb/create-key", "ATTESTATION_KEY"
    ),
    "a rejected key that could leave the HSM": Forgery(
        edit(CREATED, json__attributes__extractable=True),
        "tsb/create-key",
        "attributes.extractable differ",
    ),
    "a rejected key under another policy": Forgery(
        edit(CREATED, json__policy__ruleUse__tokens__0__groups__0__quorum=1),
        "tsb/create-key",
        "policy.ruleUse differ",
    ),
    "a rejected key that the HSM attests otherwise": Forgery(
        both(unpinned, attested("<quorum>2</quorum>", "<quorum>1</quorum>")),
        "tsb/create-key",
        "ATTESTATION_POLICY",
    ),
    "a rejected key under another root": Forgery(
        edit(RECORD, attestationRoot=OTHER), "tsb/create-key", "ATTESTATION_ROOT"
    ),
    "a rejected key without a root": Forgery(
        edit(RECORD, attestationRoot=...), RECORD, "has keyVerifiedAt and no attestationRoot"
    ),
    "a rejected key without its chain": Forgery(
        without("attestation-chain.pem"), "attestation-chain.pem", "missing"
    ),
    "a rejected key that was verified at no time": Forgery(
        edit(RECORD, keyVerifiedAt=...), RECORD, "says not when the key was verified"
    ),
    "a rejected key that was verified after the approvers were asked": Forgery(
        edit(RECORD, keyVerifiedAt="2026-11-26T12:01:00Z"), RECORD, "not in order"
    ),
    "a rejected key that was verified long after it was attested": Forgery(
        later("keyVerifiedAt", "steps__csr__intent", *ASKED, by=timedelta(hours=1)),
        "tsb/create-key",
        "ATTESTATION_TIME",
    ),
    "approvers who were asked long after that was noted": Forgery(
        later(*ASKED, by=timedelta(minutes=1)), RECORD, "asked long after that was noted"
    ),
    "an unknown requester in other words": Forgery(
        lambda folder: changed(
            folder,
            RECORD,
            findings=[
                {**one, "sentence": "the requester is known: the CEO"}
                if one["code"] == "requester-unknown"
                else one
                for one in json.loads(folder[RECORD])["findings"]
            ],
        ),
        RECORD,
        "requester-unknown says",
    ),
    "an attestation of a CSR that nobody has checked": Forgery(
        edit(RECORD, attestation="verified"), RECORD, "has attestation and no checks"
    ),
}
OF_A_CANCELLED = {
    "a cancellation by an empty name": Forgery(
        edit(RECORD, cancel__by=" "), RECORD, "cancelled by nobody"
    ),
    "a cancellation from another partition": Forgery(
        edit(RECORD, cancel__by="arn:aws-cn:iam::123456789012:user/ada"), RECORD, "cancel.by is"
    ),
    "a poll before its request": Forgery(
        edit(RECORD, steps__csr__times__nextPoll=LONG_AGO), RECORD, "when nobody polls"
    ),
    "a poll long after the end": Forgery(
        edit(RECORD, steps__csr__times__nextPoll="9999-01-01T00:00:00Z"),
        RECORD,
        "when nobody polls",
    ),
    "a confirmation days after the end": Forgery(
        edit(RECORD, cancel__confirmedAt=YEARS_LATER), RECORD, "long after the end"
    ),
    "a kept key as blocked": Forgery(disposed("block", "blocked"), RECORD, "unusedKey is block"),
    "a kept key as none": Forgery(disposed("keep", "none"), RECORD, "unusedKey is keep, none"),
    "a kept key as failed": Forgery(
        disposed("keep", "failed", reason="x"), RECORD, "unusedKey is keep, failed"
    ),
    "a key that was kept for a reason that nobody has": Forgery(
        disposed("keep", "kept", reason="the CISO said so"), RECORD, "unusedKey is keep, kept"
    ),
    "a disposal of another form": Forgery(
        edit(RECORD, unusedKey__result="destroyed"), RECORD, "unknown form"
    ),
    "a disposal before the request": Forgery(
        edit(RECORD, unusedKey__at=LONG_AGO), RECORD, "not between acceptance and end"
    ),
    "nothing of what DiscardKey did": Forgery(
        edit(RECORD, unusedKey=...), RECORD, "stage is DiscardKey"
    ),
}
OF_A_FAILED = {
    "a failure in a state that was over": Forgery(
        edit(RECORD, error__state="CreateKey"), RECORD, "in which this record cannot have failed"
    ),
    "a failure in a state to which it never came": Forgery(
        edit(RECORD, error__state="StoreCertificate"),
        RECORD,
        "in which this record cannot have failed",
    ),
    "a failure in a state that there is not": Forgery(
        edit(RECORD, error__state="AskTheBoard"), RECORD, "in which this record cannot have failed"
    ),
    "an execution that nobody approved": Forgery(
        both(
            answered(approvedBy=[], notYetApprovedBy=[]),
            edit("approvers.json", **{"0__decision": "none"}),
        ),
        RECORD,
        "nobody has approved",
    ),
    "a key as deleted after an end that nobody decided": Forgery(
        disposed("keep", "deleted"), RECORD, "unusedKey is keep, deleted"
    ),
    "a key that was looked at before the approval": Forgery(
        late_answer, RECORD, "before its approvers were asked and answered"
    ),
}
OF_AN_UNANSWERED = {
    "a discarded key that nobody has made": Forgery(
        edit(RECORD, discardedSha256=OTHER), "tsb/create-key", "the key that was discarded"
    ),
    "a discarded key from another time": Forgery(
        edit(RECORD, times__keyCreated=LONG_AGO), "tsb/create-key", "made at another time"
    ),
    "a discarded key that is not what was asked": Forgery(
        edit("tsb/create-key-2.json", json__attributes__extractable=True),
        "tsb/create-key",
        "the discarded key: KEY_ATTRIBUTES",
    ),
    "a discarded key that the HSM attests otherwise": Forgery(
        rewritten("tsb/create-key-2.json", "<quorum>1</quorum>", "<quorum>2</quorum>"),
        "tsb/create-key",
        "the discarded key: ATTESTATION_POLICY",
    ),
    "more discarded keys than were made": Forgery(
        edit(RECORD, discards=3), "tsb/create-key", "fewer keys than were made"
    ),
    "discarded keys without TSB's answers": Forgery(
        without("tsb/create-key-1.json", "tsb/create-key-2.json"),
        "tsb/create-key",
        "fewer keys than were made",
    ),
    "keys as discarded of which none is named": Forgery(
        edit(RECORD, discardedSha256=...), RECORD, "has discards and no discardedSha256"
    ),
}
BY_END = {
    "issued": OF_AN_ISSUED,
    "forged": OF_A_QUARANTINED,
    "rejected": OF_A_REJECTED,
    "cancelled": OF_A_CANCELLED,
    "failed": OF_A_FAILED,
    "unanswered": OF_AN_UNANSWERED,
}


# Material -----------------------------------------------------------------------------------------


def certificate_of(public: Any) -> x509.Certificate:
    """A certificate of this key, by whomever."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stack")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )


def rsa_key(encoding: Encoding = Encoding.PEM) -> bytes:
    """A public key of RSA."""
    public = rsa.generate_private_key(65537, 2048).public_key()
    return public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def other_csr() -> str:
    """A CSR of somebody's own key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()
