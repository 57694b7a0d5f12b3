"""The simulator's rules: what approvals mean, what a CSR looks like, who may call what."""

import base64
import json
import struct
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from countersign.spki import spki_sha256
from local.approver import Approver
from local.tsb_simulator import der, names, policy
from local.tsb_simulator.broker import SYSTEM_KEYS
from local.tsb_simulator.policy import Group, Rule, Token, Vote
from local.tsb_simulator.simulator import Simulator
from local.tsb_simulator.switches import Switches

SEED = Path(__file__).parents[2] / "events/seed"
PEOPLE = ("a", "b", "c")
END = 200  # older than any window below

groups = st.builds(
    Group,
    name=st.just("g"),
    quorum=st.integers(1, 3),
    approvers=st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=3, unique=True).map(tuple),
)
tokens = st.builds(
    Token,
    name=st.just("t"),
    timelock=st.sampled_from([0, 0, 30, 90]),
    timeout=st.sampled_from([0, 60, 120]),
    groups=st.lists(groups, min_size=1, max_size=2).map(tuple),
)
rules = st.builds(Rule, tokens=st.lists(tokens, min_size=1, max_size=2).map(tuple))
votes = st.lists(
    st.builds(
        Vote, age=st.integers(0, 150).map(float), approver=st.sampled_from(PEOPLE),
        approves=st.booleans(),
    ),
    max_size=3,
    unique_by=lambda vote: vote.approver,
).map(lambda found: tuple(sorted(found, key=lambda vote: vote.age)))  # fmt: skip


def step_by_step(rule: Rule, cast: tuple[Vote, ...], age: int) -> str:
    """The same, told as a story: second by second, with sets, as the vendor's text tells it."""
    ended: dict[int, str] = {}
    agreed: set[int] = set()
    for second in range(age + 1):
        approved = {vote.approver for vote in cast if vote.approves and vote.age <= second}
        declined = {vote.approver for vote in cast if not vote.approves and vote.age <= second}
        for number, token in enumerate(rule.tokens):
            if number in agreed or number in ended:
                continue
            if token.timeout and second >= token.timeout:
                ended[number] = "EXPIRED"
            elif all(len(approved & {*g.approvers}) >= g.quorum for g in token.groups):
                agreed.add(number)
            elif any(
                len({*g.approvers}) >= g.quorum > len({*g.approvers} - declined)
                for g in token.groups
            ):
                ended[number] = "REJECTED"
        if any(second >= rule.tokens[number].timelock for number in agreed):
            return "EXECUTED"
        if len(ended) == len(rule.tokens):
            return "REJECTED" if "REJECTED" in ended.values() else "EXPIRED"
    return "APPROVED" if agreed else "PENDING"


@given(rules, votes, st.integers(0, END))
def test_a_request_stands_as_the_story_tells_it(
    rule: Rule, cast: tuple[Vote, ...], age: int
) -> None:
    assert policy.assess(rule, cast, float(age)).status == step_by_step(rule, cast, age)


@given(rules, votes, st.integers(0, END), st.integers(0, END))
def test_an_end_is_final(rule: Rule, cast: tuple[Vote, ...], age: int, later: int) -> None:
    found = policy.assess(rule, cast, float(age)).status
    if found in policy.FINAL:
        assert policy.assess(rule, cast, float(age + later)).status == found


@given(rules, votes, st.integers(0, END))
def test_only_people_who_can_still_matter_are_outstanding(
    rule: Rule, cast: tuple[Vote, ...], age: int
) -> None:
    found = policy.outstanding(rule, cast, float(age))

    assert not {*found} & {vote.approver for vote in cast if vote.age <= age}
    assert {*found} <= {*rule.approvers}


def call(
    simulator: Simulator, method: str, path: str, body: Any = None, role: str | None = None
) -> tuple[int, Any]:
    headers = {"x-api-key": simulator.api_keys[role][0]} if role else {}
    content = json.dumps(body).encode() if body is not None else b""
    reply = simulator.handle(method, path, headers, content)
    return reply.status, json.loads(reply.body) if reply.body else None


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Switches())


def create(simulator: Simulator, **different: Any) -> Any:
    body = {**json.loads((SEED / "create-key.json").read_text()), **different}
    return call(simulator, "POST", "/v1/key", body, "keyManagement")


def ask(simulator: Simulator, **different: Any) -> Any:
    body = json.loads((SEED / "csr-request.json").read_text())
    body["csrSignRequest"] |= {"signKeyName": "SUB.approver.securosys.com", **different}
    return call(simulator, "POST", "/v1/certificate/request", body, "keyOperation")


def decided(simulator: Simulator, request_id: str, *, approves: bool = True) -> Any:
    request = simulator.broker.request(request_id)
    simulator.broker.vote(request, next(iter(request.tasks)), approves=approves)
    return call(simulator, "GET", f"/v1/request/{request_id}", None, "keyOperation")[1]


def test_the_csr_has_the_shape_of_the_vendor_s_own(simulator: Simulator) -> None:
    create(simulator)
    made = decided(simulator, ask(simulator)[1]["signRequestId"])["result"]
    vendors = json.loads((SEED / "request-status.json").read_text())["result"]

    assert made.splitlines()[0] == vendors.splitlines()[0]
    ours, theirs = (x509.load_pem_x509_csr(text.encode()) for text in (made, vendors))
    assert ours.subject.public_bytes() == theirs.subject.public_bytes()
    assert [(one.oid, one.critical) for one in ours.extensions] == [
        (one.oid, one.critical) for one in theirs.extensions
    ]
    assert ours.signature_algorithm_oid == theirs.signature_algorithm_oid
    assert [one.value for one in ours.extensions][:2] == [one.value for one in theirs.extensions][
        :2
    ]


def test_answers_have_the_fields_of_the_vendor_s_own(simulator: Simulator) -> None:
    create(simulator)
    status, requested = ask(simulator)
    answer = decided(simulator, requested["signRequestId"])

    assert status == 201
    assert requested.keys() == json.loads((SEED / "csr-response.json").read_text()).keys()
    assert answer.keys() == json.loads((SEED / "request-status.json").read_text()).keys()
    assert answer["status"] == "EXECUTED"


def test_a_decline_ends_a_request_of_one(simulator: Simulator) -> None:
    create(simulator)

    answer = decided(simulator, ask(simulator)[1]["signRequestId"], approves=False)

    assert (answer["status"], answer["result"]) == ("REJECTED", None)


def test_deleting_a_key_cancels_its_requests(simulator: Simulator) -> None:
    create(simulator)
    request_id = ask(simulator)[1]["signRequestId"]
    label = {"label": "SUB.approver.securosys.com", "password": None}

    assert call(simulator, "POST", "/v1/key/deleteKey", label, "keyManagement")[0] == 200
    _, answer = call(simulator, "GET", f"/v1/request/{request_id}", None, "keyOperation")
    assert answer["status"] == "CANCELLED"
    assert create(simulator)[0] == 201


@pytest.mark.parametrize(
    ("role", "status", "code"),
    [("approver", 401, 631), ("keyOperation", 401, 631), (None, 401, 416)],
)
def test_a_path_wants_its_role(
    simulator: Simulator, role: str | None, status: int, code: int
) -> None:
    body = json.loads((SEED / "create-key.json").read_text())

    found, answer = call(simulator, "POST", "/v1/key", body, role)

    assert (found, answer["errorCode"]) == (status, code)
    assert not simulator.broker.keys


@pytest.mark.parametrize(
    ("different", "code"),
    [
        ({"keySize": 1000}, 603),
        ({"surprise": 1}, 600),
        ({"label": ""}, 610),
        ({"algorithm": "DSA9"}, 600),
    ],
)
def test_what_the_tsb_refuses_is_refused_with_its_code(
    simulator: Simulator, different: dict[str, Any], code: int
) -> None:
    status, answer = create(simulator, **different)

    assert (status, answer["errorCode"]) == (400, code)


def test_a_used_label_is_refused(simulator: Simulator) -> None:
    create(simulator)

    assert create(simulator)[1]["errorCode"] == 608


def test_an_approval_must_be_signed_by_the_approver_over_what_he_was_handed() -> None:
    simulator = Simulator(Switches())
    ada, eve = Approver.generate("Ada", "ec"), Approver.generate("Eve", "ec")
    body = json.loads((SEED / "create-key.json").read_text())
    body["policy"]["ruleUse"]["tokens"][0]["groups"][0]["approvals"][0]["value"] = ada.spki
    create(simulator, policy=body["policy"])
    request = simulator.broker.request(ask(simulator)[1]["signRequestId"])
    task = request.tasks[ada.spki]
    approval = {
        "id": task.id,
        "approvalToBeSigned": task.to_be_signed,
        "approvalDigestAlgorithm": "SHA-256",
    }

    for signer, named, signed in ((eve, ada, task.to_be_signed), (ada, ada, "bm9uc2Vuc2U=")):
        signature = signer._sign(base64.b64decode(signed))
        found = {**approval, "signature": signature, "approverPublicKey": named.spki}
        assert call(simulator, "POST", "/v1/approval", found, "approver")[0] == 400
    assert simulator.broker.assess(request) == "PENDING"

    signature = ada._sign(base64.b64decode(task.to_be_signed))
    found = {**approval, "signature": signature, "approverPublicKey": ada.spki}
    assert call(simulator, "POST", "/v1/approval", found, "approver")[0] == 200
    assert simulator.broker.assess(request) == "EXECUTED"


@pytest.mark.parametrize("name", list(Switches.model_fields))
def test_every_switch_is_described_and_can_be_set_to_its_default(name: str) -> None:
    from local.tsb_simulator import switches

    chosen = Switches()
    described = switches.described()
    wire = Switches.model_fields[name].alias or ""

    assert described[wire]["description"]
    switches.change(chosen, {wire: described[wire]["default"]})
    assert chosen == Switches()


def test_switches_change_what_the_documents_leave_open() -> None:
    by_management = Simulator(Switches(certificate_role="management"))
    create(by_management)
    assert ask(by_management)[1]["errorCode"] == 631

    indestructible = Simulator(Switches(indestructible_delete_code=614))
    seed = json.loads((SEED / "create-key.json").read_text())
    create(indestructible, attributes={**seed["attributes"], "destroyable": False})
    label = {"label": "SUB.approver.securosys.com", "password": None}
    assert (
        call(indestructible, "POST", "/v1/key/deleteKey", label, "keyManagement")[1]["errorCode"]
        == 614
    )


def test_a_key_s_attributes_carry_a_signature_that_holds(simulator: Simulator) -> None:
    created = create(simulator)[1]

    assert spki_sha256(created["json"]["publicKey"])
    assert created["xml"]
    assert created["xmlSignature"]


# Uses and changes of keys -------------------------------------------------------------------------


LABEL = "SUB.approver.securosys.com"
PAYLOAD = base64.b64encode(b"what is to be signed").decode()
SIGNING = {"payload": PAYLOAD, "signKeyName": LABEL, "signatureAlgorithm": "SHA256_WITH_RSA"}


def rule(*approvers: Approver, quorum: int = 1, **token: Any) -> dict[str, Any]:
    approvals = [{"type": "public_key", "name": one.name, "value": one.spki} for one in approvers]
    group = {"name": "Group1", "quorum": quorum, "approvals": approvals}
    return {
        "tokens": [{"name": "Token1", "timelock": 0, "timeout": 600, "groups": [group], **token}]
    }


def create_ruled(simulator: Simulator, **rules: Any) -> Any:
    return create(simulator, policy={**rules, "keyStatus": {"blocked": False}})


def post(simulator: Simulator, path: str, body: Any, role: str = "keyOperation") -> Any:
    return call(simulator, "POST", path, body, role)


def tasks(simulator: Simulator, operation: str, approver: Approver) -> list[Any]:
    body = {**approver._authentication(), "detailLevel": "level3"}
    status, answer = post(simulator, f"/v1/filtered{operation}ApprovalTask", body, "approver")
    assert status == 200
    return list(answer["tasks"])


def approve(simulator: Simulator, operation: str, approver: Approver) -> Any:
    (task,) = tasks(simulator, operation, approver)
    body = {
        "id": task["id"],
        "approvalToBeSigned": task["approvalToBeSigned"],
        "signature": approver._sign(base64.b64decode(task["approvalToBeSigned"])),
        "approvalDigestAlgorithm": "SHA-256",
        "approverPublicKey": approver.spki,
    }
    assert post(simulator, "/v1/approval", body, "approver")[0] == 200
    return task


def status_of(simulator: Simulator, request_id: str) -> Any:
    return call(simulator, "GET", f"/v1/request/{request_id}", None, "keyOperation")[1]


def attributes(simulator: Simulator, label: str = LABEL) -> Any:
    body = {"label": label, "password": None}
    return post(simulator, "/v1/key/attributes", body, "keyManagement")[1]["json"]


def test_a_payload_is_signed_when_the_quorum_of_its_rule_agreed(simulator: Simulator) -> None:
    ada, bob = Approver.generate("Ada", "ec"), Approver.generate("Bob", "ec")
    create_ruled(simulator, ruleUse=rule(ada, bob, quorum=2))

    status, requested = post(simulator, "/v1/sign", {"signRequest": SIGNING})
    task = approve(simulator, "Sign", ada)
    assert status_of(simulator, requested["signRequestId"])["status"] == "PENDING"
    approve(simulator, "Sign", bob)
    answer = status_of(simulator, requested["signRequestId"])

    assert (status, answer["status"]) == (201, "EXECUTED")
    assert task["payload"] == PAYLOAD
    assert task["signedSignRequest"]["signRequest"] == SIGNING
    key = load_der_public_key(base64.b64decode(attributes(simulator)["publicKey"]))
    assert isinstance(key, rsa.RSAPublicKey)
    content, signature = base64.b64decode(PAYLOAD), base64.b64decode(answer["result"])
    key.verify(signature, content, padding.PKCS1v15(), hashes.SHA256())


def test_a_blocked_key_is_unblocked_by_the_approvers_of_that_rule(simulator: Simulator) -> None:
    ada, bob = Approver.generate("Ada", "ec"), Approver.generate("Bob", "ec")
    create_ruled(simulator, ruleUse=rule(ada), ruleBlock=None, ruleUnblock=rule(bob))
    post(simulator, "/v1/block", {"blockRequest": {"blockKeyName": LABEL}})
    assert attributes(simulator)["policy"]["keyStatus"] == {"blocked": True}
    assert post(simulator, "/v1/sign", {"signRequest": SIGNING})[1]["errorCode"] == 701

    body = {"unblockRequest": {"unblockKeyName": LABEL}}
    requested = post(simulator, "/v1/unblock", body)[1]
    assert not tasks(simulator, "UnblockKey", ada)
    approve(simulator, "UnblockKey", bob)

    answer = status_of(simulator, requested["unblockKeyRequestId"])
    assert (answer["status"], answer["result"]) == ("EXECUTED", None)
    assert attributes(simulator)["policy"]["keyStatus"] == {"blocked": False}
    assert post(simulator, "/v1/sign", {"signRequest": SIGNING})[0] == 201


def test_other_rules_need_the_approvers_of_the_old_ones(simulator: Simulator) -> None:
    ada, bob = Approver.generate("Ada", "ec"), Approver.generate("Bob", "ec")
    create_ruled(simulator, ruleUse=rule(ada), ruleModify=rule(ada))
    new = {"ruleUse": rule(bob), "ruleBlock": None, "ruleUnblock": None, "ruleModify": rule(bob)}
    body = {"modifyRequest": {"modifyKeyName": LABEL, "policy": new}}

    requested = post(simulator, "/v1/modify", body, "keyManagement")[1]
    assert attributes(simulator)["policy"]["ruleUse"] == rule(ada)
    task = approve(simulator, "ModifyKey", ada)

    assert task["signedModifyKeyRequest"]["modifyRequest"]["policy"] == new
    assert status_of(simulator, requested["modifyKeyRequestId"])["status"] == "EXECUTED"
    assert attributes(simulator)["policy"] == {**new, "keyStatus": {"blocked": False}}
    post(simulator, "/v1/sign", {"signRequest": SIGNING})
    assert not tasks(simulator, "Sign", ada)
    assert tasks(simulator, "Sign", bob)


def test_a_request_to_modify_has_no_place_for_the_key_s_status(simulator: Simulator) -> None:
    create_ruled(simulator)
    new = {"ruleUse": None, "keyStatus": {"blocked": False}}
    body = {"modifyRequest": {"modifyKeyName": LABEL, "policy": new}}

    assert post(simulator, "/v1/modify", body, "keyManagement")[1]["errorCode"] == 600


SYNCHRONOUS: list[tuple[str, str, dict[str, Any]]] = [
    ("/v1/synchronousSign", "keyOperation", {"signRequest": SIGNING}),
    ("/v1/synchronousBlock", "keyOperation", {"blockRequest": {"blockKeyName": LABEL}}),
    ("/v1/synchronousUnblock", "keyOperation", {"unblockRequest": {"unblockKeyName": LABEL}}),
    (
        "/v1/synchronousModify",
        "keyManagement",
        {"modifyRequest": {"modifyKeyName": LABEL, "policy": {"ruleUse": None}}},
    ),
]


@pytest.mark.parametrize(("path", "role", "body"), SYNCHRONOUS)
def test_a_synchronous_call_wants_a_fulfilled_policy(
    simulator: Simulator, path: str, role: str, body: dict[str, Any]
) -> None:
    ada = rule(Approver.generate("Ada", "ec"))
    create_ruled(simulator, ruleUse=ada, ruleBlock=ada, ruleUnblock=ada, ruleModify=ada)
    before = attributes(simulator)["policy"]

    status, answer = post(simulator, path, body, role)
    assert (status, answer["errorCode"]) == (500, 701)
    assert attributes(simulator)["policy"] == before

    simulator.switches.synchronous_policy = "alwaysFulfilled"
    assert post(simulator, path, body, role)[0] == 200


@pytest.mark.parametrize(("path", "role", "body"), SYNCHRONOUS)
@pytest.mark.parametrize(
    "fulfilled", [None, {"tokens": [{"timelock": 0, "timeout": 0, "groups": None}]}]
)
def test_a_policy_that_is_always_fulfilled_allows_synchronous_calls(
    simulator: Simulator, path: str, role: str, body: dict[str, Any], fulfilled: Any
) -> None:
    names = ("ruleUse", "ruleBlock", "ruleUnblock", "ruleModify")
    create_ruled(simulator, **dict.fromkeys(names, fulfilled))

    status, answer = post(simulator, path, body, role)

    assert status == 200
    assert (answer or {}).keys() == ({"signature"} if "Sign" in path else set())
    assert attributes(simulator)["policy"]["keyStatus"] == {"blocked": "Block" in path}


def test_a_key_without_a_policy_never_gets_one(simulator: Simulator) -> None:
    create(simulator, policy=None)

    for path, role, body in SYNCHRONOUS[1:]:
        assert post(simulator, path, body, role)[1]["errorCode"] == 614
    assert attributes(simulator)["policy"] is None
    assert post(simulator, "/v1/synchronousSign", {"signRequest": SIGNING})[0] == 200


type Records = list[tuple[int, bytes]]


def records(content: bytes) -> Records:
    """Little-endian records, each padded to four bytes, behind their total length."""
    (size,) = struct.unpack_from("<I", content)
    assert size == len(content) - 4
    found, at = [], 4
    while at < len(content):
        kind, length = struct.unpack_from("<HH", content, at)
        found.append((kind, content[at + 4 : at + 4 + length]))
        at += 4 + length + -length % 4
    return found


def test_what_is_approved_holds_the_payload_twice_and_the_hsm_s_time(simulator: Simulator) -> None:
    """As the recorded approval of a signature, decoded."""
    ada = Approver.generate("Ada", "ec")
    create_ruled(simulator, ruleUse=rule(ada))
    post(simulator, "/v1/sign", {"signRequest": SIGNING})

    (task,) = tasks(simulator, "Sign", ada)

    found = records(base64.b64decode(task["approvalToBeSigned"]))
    assert [kind for kind, _ in found] == [0x3B, 0x1002, 0x1054, 0x1056, 0x1057]
    said = dict(found)
    assert said[0x3B] == struct.pack("<I", 1)
    assert said[0x1002].decode() == LABEL
    assert said[0x1057] == base64.b64decode(PAYLOAD)
    stamp = records(said[0x1054])
    assert [kind for kind, _ in stamp] == [0x1057, 0x0107, 0x1002]
    assert dict(stamp)[0x1057] == base64.b64decode(PAYLOAD)
    assert dict(stamp)[0x1002] == b"timestamp-key"


def test_what_is_approved_for_other_rules_are_those_rules(simulator: Simulator) -> None:
    """As the recorded approval of a policy's change, decoded."""
    ada, bob = Approver.generate("Ada", "ec"), Approver.generate("Bob", "ec")
    create_ruled(simulator, ruleModify=rule(ada))
    new = {"ruleUse": rule(bob, timelock=180)}
    body = {"modifyRequest": {"modifyKeyName": LABEL, "policy": new}}
    post(simulator, "/v1/modify", body, "keyManagement")

    (task,) = tasks(simulator, "ModifyKey", ada)

    said = dict(records(base64.b64decode(task["approvalToBeSigned"])))
    assert said[0x3B] == struct.pack("<I", 4)
    ((kind, use),) = records(said[0x1058])
    assert kind == 0x104E
    assert [(kind, int.from_bytes(value, "little")) for kind, value in records(use)[2:4]] == [
        (0x55, 3),
        (0x55, 10),
    ]
    assert [kind for kind, _ in records(use)] == [
        *(0x59, 0x1002, 0x55, 0x55),
        *(0x5A, 0x1002, 0x5B, 0x03, 0x1002, 0x1052),
    ]
    assert records(use)[-1][1] == base64.b64decode(bob.spki)


# Password and attributes --------------------------------------------------------------------------


def manage(simulator: Simulator, method: str, path: str, body: Any) -> Any:
    return call(simulator, method, path, body, "keyManagement")


def test_the_new_password_opens_a_key_and_the_old_one_does_not(simulator: Simulator) -> None:
    create(simulator, password=["o", "l", "d"])
    body = {"label": LABEL, "password": ["o", "l", "d"], "newPassword": ["n", "e", "w"]}
    wrong = {**body, "password": "other"}
    assert manage(simulator, "POST", "/v1/key/changePassword", wrong)[1]["errorCode"] == 620

    assert manage(simulator, "POST", "/v1/key/changePassword", body)[0] == 200

    for password, status in (("new", 200), ("old", 400), (None, 400)):
        asked = {"label": LABEL, "password": password}
        assert manage(simulator, "POST", "/v1/key/attributes", asked)[0] == status


def test_attributes_change_as_long_as_the_key_is_modifiable(simulator: Simulator) -> None:
    create(simulator)
    path, body = "/v1/key/changeAttributes", {"label": LABEL, "password": None}

    def change(**wanted: bool) -> Any:
        return manage(simulator, "PATCH", path, {**body, "attributes": wanted})

    status, answer = change(destroyable=False, modifiable=False)
    assert (status, answer["json"]["attributes"]["destroyable"]) == (200, False)
    assert attributes(simulator)["attributes"]["modifiable"] is False
    assert change(destroyable=True)[1]["errorCode"] == 701
    password = {**body, "newPassword": "new"}
    assert manage(simulator, "POST", "/v1/key/changePassword", password)[1]["errorCode"] == 701


def test_a_key_that_was_extractable_says_so_for_ever(simulator: Simulator) -> None:
    seed = json.loads((SEED / "create-key.json").read_text())["attributes"]
    create(simulator, policy=None, attributes={**seed, "extractable": True})
    path, body = "/v1/key/changeAttributes", {"label": LABEL, "password": None}

    manage(simulator, "PATCH", path, {**body, "attributes": {"extractable": False}})

    said = attributes(simulator)["attributes"]
    assert (said["extractable"], said["neverExtractable"]) == (False, False)
    back = manage(simulator, "PATCH", path, {**body, "attributes": {"extractable": True}})
    assert back[1]["errorCode"] == 606
    nothing = {"sign": False, "decrypt": False, "unwrap": False}
    assert manage(simulator, "PATCH", path, {**body, "attributes": nothing})[1]["errorCode"] == 606


# What a key is said to be -------------------------------------------------------------------------

ED = {"algorithm": "ED", "keySize": None, "curveOid": "1.3.101.112"}


@pytest.mark.parametrize(("position", "curve"), [("reported", "1.3.101.112"), ("absent", None)])
def test_an_ed_key_s_curve_is_reported_or_absent(position: Any, curve: str | None) -> None:
    simulator = Simulator(Switches(ed_curve_oid=position))

    created = create(simulator, **ED)[1]["json"]

    assert (created["algorithm"], created["curveOid"]) == ("ED", curve)


def test_an_rsa_key_has_no_curve(simulator: Simulator) -> None:
    assert create(simulator, curveOid="1.2.840.10045.3.1.7")[1]["json"]["curveOid"] is None


# What else is there -------------------------------------------------------------------------------


@pytest.mark.parametrize("position", ["listed", "unlisted"])
def test_tsb_s_own_keys_are_listed_or_not_and_never_ours(position: Any) -> None:
    simulator = Simulator(Switches(system_keys=position))
    create(simulator)

    listed = call(simulator, "GET", "/v1/key", None, "keyManagement")[1]

    assert listed == sorted([LABEL, *(SYSTEM_KEYS if position == "listed" else ())])
    for label in SYSTEM_KEYS:
        body = {"label": label, "password": None}
        for path in ("/v1/key/attributes", "/v1/key/deleteKey"):
            status, answer = manage(simulator, "POST", path, body)
            assert (status, answer["errorCode"]) == (500, 701)
        assert create(simulator, label=label)[1]["errorCode"] == 608


@pytest.mark.parametrize("content_type", ["application/json", "application/json;charset=x"])
@pytest.mark.parametrize(("encoding", "raw"), [("utf-8", "Zürich ✓".encode()), ("ascii", None)])
def test_bodies_are_raw_utf_8_or_escaped(
    encoding: Any, raw: bytes | None, content_type: str
) -> None:
    simulator = Simulator(Switches(json_encoding=encoding, content_type=content_type))
    create(simulator, label="Zürich ✓")
    headers = {"x-api-key": simulator.api_keys["keyManagement"][0]}

    reply = simulator.handle("GET", "/v1/key", headers, b"")

    assert (raw in reply.body) if raw else reply.body.isascii()
    assert "Zürich ✓" in json.loads(reply.body)
    assert reply.content_type == content_type


@pytest.mark.parametrize(("position", "status"), [("required", 401), ("notRequired", 200)])
def test_approvers_need_an_api_key_or_none(position: Any, status: int) -> None:
    simulator = Simulator(Switches(approver_api_key=position))
    ada = Approver.generate("Ada", "ec")
    body = ada._authentication()

    found = call(simulator, "POST", "/v1/filteredAllApprovalTask", body)

    assert found[0] == status
    assert call(simulator, "GET", "/v1/key")[0] == 401
    assert post(simulator, "/v1/filteredAllApprovalTask", body, "approver")[0] == 200


# The attestation ----------------------------------------------------------------------------------

# As a recorded one is laid out; what differs from key to key is in braces.
RECORDED = """<?xml version="1.0" encoding="UTF-8"?>
<private_key creation="generated">
\t<label>Ada&apos;s {label}</label>
\t<create_time>{create_time}</create_time>
\t<attest_time>{attest_time}</attest_time>
\t<key_use_count>0</key_use_count>
\t<algorithm>ED</algorithm>
\t<algorithm_oid>1.3.101.112</algorithm_oid>
\t<public_key>{public_key}</public_key>
\t<attributes>
\t\t<decrypt>false</decrypt>
\t\t<sign>true</sign>
\t\t<unwrap>false</unwrap>
\t\t<derive>false</derive>
\t\t<sensitive>true</sensitive>
\t\t<always_sensitive>true</always_sensitive>
\t\t<extractable>false</extractable>
\t\t<never_extractable>true</never_extractable>
\t\t<modifiable>true</modifiable>
\t\t<copyable>false</copyable>
\t\t<destroyable>true</destroyable>
\t\t<unique>true</unique>
\t</attributes>
\t<policy>
\t\t<key_status>
\t\t\t<blocked>false</blocked>
\t\t</key_status>
\t\t<rule_use>
\t\t\t<token name="Token1">
\t\t\t\t<timelock>0</timelock>
\t\t\t\t<timeout>600</timeout>
\t\t\t\t<group name="Group1">
\t\t\t\t\t<quorum>1</quorum>
\t\t\t\t\t<approval type="public_key" name="Ada">{approver}</approval>
\t\t\t\t</group>
\t\t\t</token>
\t\t</rule_use>
\t</policy>
</private_key>

"""


def test_the_attestation_is_laid_out_as_a_recorded_one() -> None:
    simulator = Simulator(Switches(ed_curve_oid="absent"))
    ada = Approver.generate("Ada", "ec")
    policy = {"ruleUse": rule(ada), "keyStatus": {"blocked": False}}

    created = create(simulator, **ED, label="Ada's key", policy=policy)[1]

    said = created["json"]
    assert created["xml"] == RECORDED.format(
        label="key",
        create_time=said["createTime"],
        attest_time=said["attestTime"],
        public_key=said["publicKey"],
        approver=ada.spki,
    )
    signature = base64.b64decode(created["xmlSignature"])
    assert len(signature) == 384
    (chain, _) = simulator.broker.attestation.chain
    signer = x509.load_pem_x509_certificate(chain.encode()).public_key()
    assert isinstance(signer, rsa.RSAPublicKey)
    signer.verify(signature, created["xml"].encode(), padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("layout", ["recorded", "flat"])
def test_the_attestation_counts_the_uses_of_a_key(layout: Any) -> None:
    simulator = Simulator(Switches(attestation_layout=layout))
    create(simulator, policy=None)

    for uses in range(3):
        body = {"label": LABEL, "password": None}
        xml = post(simulator, "/v1/key/attributes", body, "keyManagement")[1]["xml"]
        assert f"<key_use_count>{uses}</key_use_count>" in xml
        assert post(simulator, "/v1/synchronousSign", {"signRequest": SIGNING})[0] == 200


@pytest.mark.parametrize(("position", "status"), [("post", 500), ("execution", 201)])
def test_an_unfit_algorithm_is_found_when_posted_or_at_execution(
    position: Any, status: int
) -> None:
    simulator = Simulator(Switches(algorithm_check=position))
    create(simulator, policy=None)

    found, answer = ask(simulator, signatureAlgorithm="SHA256_WITH_ECDSA")

    assert found == status
    if position == "execution":
        assert status_of(simulator, answer["signRequestId"])["status"] == "FAILED"


def test_the_attestation_can_be_flat() -> None:
    simulator = Simulator(Switches(attestation_layout="flat"))

    xml = create(simulator)[1]["xml"]

    assert "\n" not in xml
    assert '<token name="Token1" timelock="0" timeout="600">' in xml


def test_an_onboarded_approver_is_known_by_name_and_echoed_as_certificate() -> None:
    ada = Approver.generate("Ada", "ec")
    certificate = ada.certificate()
    simulator = Simulator(Switches(onboarded_approvers={"ada@example.com": certificate}))
    approval = {"type": "onboarded_approver_certificate", "name": "ada@example.com"}
    by_name = rule(ada)
    by_name["tokens"][0]["groups"][0]["approvals"] = [approval]

    created = create_ruled(simulator, ruleUse=by_name)[1]

    (token,) = created["json"]["policy"]["ruleUse"]["tokens"]
    echo = {"type": "certificate", "name": "Ada", "value": certificate}
    assert token["groups"][0]["approvals"] == [echo]
    assert f'<approval type="certificate" name="Ada">{certificate}</approval>' in created["xml"]
    requested = ask(simulator)[1]
    approve(simulator, "All", ada)
    answer = status_of(simulator, requested["signRequestId"])
    assert (answer["status"], answer["approvedBy"]) == ("EXECUTED", [ada.spki])

    simulator.switches.echoed_approvals = "asPosted"
    policy = {"ruleUse": by_name, "keyStatus": {"blocked": False}}
    posted = create(simulator, label="another", policy=policy)[1]["json"]["policy"]
    assert posted["ruleUse"] == by_name


@pytest.mark.parametrize(
    ("known", "unknown_code", "code"), [({}, 413, 413), ({}, 654, 654), ({"ada": None}, 413, 414)]
)
def test_an_approver_who_is_not_onboarded_is_refused(
    known: Any, unknown_code: Any, code: int
) -> None:
    simulator = Simulator(Switches(onboarded_approvers=known, unknown_approver_code=unknown_code))
    by_name = rule(Approver.generate("Ada", "ec"))
    approval = {"type": "onboarded_approver_certificate", "name": "ada"}
    by_name["tokens"][0]["groups"][0]["approvals"] = [approval]

    assert create_ruled(simulator, ruleUse=by_name)[1]["errorCode"] == code


@pytest.mark.parametrize(("position", "named"), [("attested", "Ada"), ("asPosted", None)])
def test_a_certificate_is_named_by_its_cn_or_as_posted(position: Any, named: str | None) -> None:
    ada = Approver.generate("Ada", "ec")
    simulator = Simulator(Switches(echoed_approvals=position))
    by_certificate = rule(ada)
    approval = {"type": "certificate", "value": ada.certificate()}
    by_certificate["tokens"][0]["groups"][0]["approvals"] = [approval]

    created = create_ruled(simulator, ruleUse=by_certificate)[1]["json"]["policy"]

    (echo,) = created["ruleUse"]["tokens"][0]["groups"][0]["approvals"]
    assert echo.get("name") == named


# Subjects -----------------------------------------------------------------------------------------

SUBJECTS = json.loads((Path(__file__).parent / "golden/subjects.json").read_text())["cases"]


def ask_for(simulator: Simulator, subject: dict[str, Any]) -> Any:
    return ask(simulator, standardCertificateAttributes=subject)


@pytest.mark.parametrize("name", list(SUBJECTS))
def test_a_subject_is_what_keytool_makes_of_the_joined_text(name: str) -> None:
    """golden/subjects.json holds what a stock keytool 17 made of the same texts."""
    simulator = Simulator(Switches(subject_building="joined", subject_refused="post"))
    create(simulator, policy=None)
    keytools = SUBJECTS[name]["keytoolCsr"]

    status, answer = ask_for(simulator, SUBJECTS[name]["subject"])

    if keytools is None:
        assert (status, answer["errorCode"]) == (500, 701)
        return
    made = status_of(simulator, answer["signRequestId"])["result"]
    ours, theirs = (x509.load_pem_x509_csr(text.encode()) for text in (made, keytools))
    assert ours.subject.public_bytes() == theirs.subject.public_bytes()


def test_a_subject_can_be_what_was_meant() -> None:
    simulator = Simulator(Switches(subject_building="escaped"))
    create(simulator, policy=None)

    answer = ask_for(simulator, SUBJECTS["comma"]["subject"])[1]

    made = x509.load_pem_x509_csr(status_of(simulator, answer["signRequestId"])["result"].encode())
    assert made.subject.rfc4514_string() == "CN=example,O=Example Company\\, s.r.o."


@pytest.mark.parametrize("position", ["post", "execution"])
def test_an_unreadable_subject_is_refused_at_once_or_after_people_agreed(position: Any) -> None:
    simulator = Simulator(Switches(subject_building="joined", subject_refused=position))
    create(simulator)

    status, answer = ask_for(simulator, SUBJECTS["comma"]["subject"])

    if position == "post":
        assert (status, answer["errorCode"]) == (500, 701)
        return
    ended = decided(simulator, answer["signRequestId"])
    assert (status, ended["status"], ended["result"]) == (201, "FAILED", None)


NAMES = json.loads((Path(__file__).parent / "golden/names.json").read_text())


@pytest.mark.parametrize("text", list(NAMES))
def test_a_name_is_read_as_java_reads_it(text: str) -> None:
    """golden/names.json holds what X500Name of Java 17 made of each text; null: it refused."""
    if NAMES[text] is None:
        with pytest.raises(names.NotADistinguishedNameError):
            names.encode(text)
    else:
        assert names.encode(text).hex() == NAMES[text]


# Certificates -------------------------------------------------------------------------------------

CA = "CA.approver.securosys.com"


def root(simulator: Simulator, *approvers: Approver) -> x509.Certificate:
    """A CA key under a quorum of its own, which signed its own certificate."""
    use = rule(*approvers, quorum=len(approvers)) if approvers else None
    create(simulator, label=CA, policy={"ruleUse": use, "keyStatus": {"blocked": False}})
    inner = {
        "signKeyName": CA,
        "validity": 3650,
        "signatureAlgorithm": "SHA256_WITH_RSA",
        "commonName": "Approver-Intermediate-CA",
        "certificateAuthority": True,
        "keyUsage": ["DIGITAL_SIGNATURE", "KEY_CERT_SIGN"],
        "extendedKeyUsage": ["ANY_EXTENDED_KEY_USAGE"],
    }
    body = {"selfSignCertificateRequest": inner}
    requested = post(simulator, "/v1/certificate/selfsign", body)[1]["signRequestId"]
    for approver in approvers:
        approve(simulator, "All", approver)
    assert status_of(simulator, requested)["result"] == "true"
    return read_back(simulator, CA)


def read_back(simulator: Simulator, label: str) -> x509.Certificate:
    status, answer = call(simulator, "GET", f"/v1/certificate/{label}", None, "keyOperation")
    assert (status, answer["label"]) == (200, label)
    return x509.load_pem_x509_certificate(answer["certificate"].encode())


def csr_of(simulator: Simulator) -> str:
    create(simulator, policy=None)
    return str(status_of(simulator, ask(simulator)[1]["signRequestId"])["result"])


def signing(csr: str, **different: Any) -> dict[str, Any]:
    inner = {
        "signKeyName": CA,
        "signatureAlgorithm": "SHA256_WITH_RSA",
        "commonName": "Approver-Intermediate-SUB",
        "certificateAuthority": False,
        "certificateSigningRequest": csr,
        "keyUsage": ["DIGITAL_SIGNATURE"],
        "extendedKeyUsage": ["ANY_EXTENDED_KEY_USAGE"],
        **different,
    }
    return {"signCertificateRequest": inner}


def issue(simulator: Simulator, *approvers: Approver, **different: Any) -> str:
    body = signing(csr_of(simulator), **different)
    requested = post(simulator, "/v1/certificate/sign", body)[1]["signRequestId"]
    for approver in approvers:
        assert status_of(simulator, requested)["status"] == "PENDING"
        approve(simulator, "All", approver)
    return str(status_of(simulator, requested)["result"])


def test_a_certificate_is_signed_by_the_ca_key_under_its_own_quorum(simulator: Simulator) -> None:
    ada, bob = Approver.generate("Ada", "ec"), Approver.generate("Bob", "ec")
    ca = root(simulator, ada, bob)

    pem = issue(simulator, ada, bob, commonName="Another name")

    made = x509.load_pem_x509_certificate(pem.encode())
    made.verify_directly_issued_by(ca)
    assert made.subject.rfc4514_string() == "CN=Another name"
    assert (
        base64.b64encode(
            made.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).decode()
        == attributes(simulator)["publicKey"]
    )
    assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(days=90)
    assert [(one.oid.dotted_string, one.critical) for one in made.extensions] == [
        ("2.5.29.35", False),
        ("2.5.29.37", True),
        ("2.5.29.15", True),
        ("2.5.29.14", False),
    ]
    issuer = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    named = made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert named.key_identifier == issuer.digest
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.value.ca, basic.critical) == (True, False)
    assert ca.not_valid_after_utc - ca.not_valid_before_utc == timedelta(days=3650)


def test_without_a_valid_certificate_of_its_own_a_ca_key_issues_none(simulator: Simulator) -> None:
    csr = csr_of(simulator)
    create(simulator, label=CA, policy=None)
    assert post(simulator, "/v1/certificate/sign", signing(csr))[1]["errorCode"] == 402
    assert call(simulator, "GET", f"/v1/certificate/{CA}", None, "keyOperation")[0] == 400

    expiring = {"signKeyName": CA, "signatureAlgorithm": "SHA256_WITH_RSA", "commonName": "CA"}
    body = {"selfSignCertificateRequest": {**expiring, "validity": 1}}
    post(simulator, "/v1/certificate/selfsign", body)
    assert post(simulator, "/v1/certificate/sign", signing(csr))[0] == 201
    simulator.broker.clock.advance(2 * 86_400)
    assert post(simulator, "/v1/certificate/sign", signing(csr))[1]["errorCode"] == 402


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda csr: csr, None),
        (lambda csr: csr.replace("NEW CERT", "CERT"), None),
        (lambda csr: csr.replace("\n", ""), 628),
        (lambda csr: csr.replace("CERTIFICATE", "CERTIFIED"), 628),
        (lambda csr: csr.replace("\nMII", "\nAAA"), 628),
    ],
)
def test_a_csr_is_read_by_lines(simulator: Simulator, change: Any, code: int | None) -> None:
    root(simulator)

    answer = post(simulator, "/v1/certificate/sign", signing(change(csr_of(simulator))))[1]

    assert answer.get("errorCode") == code


def test_the_engines_quirks_are_switches() -> None:
    quirks = Switches(
        sign_subject="csr",
        issued_pem="oneLine",
        issued_start="midnight",
        issued_usages="missing",
        issued_issuer="other",
    )
    simulator = Simulator(quirks)
    root(simulator)

    pem = issue(simulator, commonName="asked")

    begin, body, end = pem.split("\n")
    assert (begin, end) == ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----")
    encoded = base64.b64decode(body)
    made = x509.load_der_x509_certificate(encoded)
    assert made.subject.rfc4514_string() == "CN=Approver-Intermediate-SUB"
    assert made.issuer.rfc4514_string() == "CN=CA-Key"
    assert made.not_valid_before_utc.time() == time()
    assert [one.oid.dotted_string for one in made.extensions] == ["2.5.29.35", "2.5.29.14"]


@pytest.mark.parametrize(("position", "zero"), [("random", False), ("zero", True)])
def test_a_serial_number_is_random_or_zero(position: Any, zero: bool) -> None:
    simulator = Simulator(Switches(issued_serial=position))
    create(simulator, label=CA, policy=None)
    expiring = {"signKeyName": CA, "signatureAlgorithm": "SHA256_WITH_RSA", "commonName": "CA"}
    body = {"selfSignCertificateRequest": {**expiring, "validity": 365 * 40}}
    post(simulator, "/v1/certificate/selfsign", body)

    encoded = base64.b64decode("".join(issue(simulator).splitlines()[1:-1]))

    serial = der.children(der.children(encoded)[0])[1]
    assert (serial == der.integer(0)) is zero


@pytest.mark.parametrize("known", [False, True])
def test_newer_servers_know_more_properties_of_a_certificate(known: bool) -> None:
    simulator = Simulator(Switches(newer_sign_properties=known))
    root(simulator)
    body = signing(csr_of(simulator), validity=30)

    status, answer = post(simulator, "/v1/certificate/sign", body)

    if not known:
        assert (status, answer["errorCode"]) == (400, 600)
        return
    pem = status_of(simulator, answer["signRequestId"])["result"]
    made = x509.load_pem_x509_certificate(pem.encode())
    assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(days=30)


def bring(simulator: Simulator, certificate: str, label: str = LABEL) -> Any:
    body = {"label": label, "certificate": certificate}
    return post(simulator, "/v1/certificate/import/plain", body)


def test_an_imported_certificate_is_read_back_and_replaced_without_a_word() -> None:
    simulator = Simulator(Switches())
    root(simulator)
    first, second = (
        "".join(pem.splitlines()[1:-1]) for pem in (issue(simulator), reissue(simulator, "other"))
    )

    for certificate in (first, second):
        assert bring(simulator, certificate) == (200, {"label": LABEL, "certificate": certificate})
        kept = read_back(simulator, LABEL).public_bytes(Encoding.DER)
        assert base64.b64encode(kept).decode() == certificate

    simulator.switches.read_certificate_form = "base64"
    simulator.switches.raw_certificate = True
    answer = call(simulator, "GET", f"/v1/certificate/{LABEL}", None, "keyOperation")[1]
    assert answer == {"label": LABEL, "certificate": second, "rawCertificate": second}
    assert call(simulator, "DELETE", f"/v1/certificate/{LABEL}", None, "keyOperation")[0] == 200
    assert call(simulator, "GET", f"/v1/certificate/{LABEL}", None, "keyOperation")[0] == 400


def reissue(simulator: Simulator, name: str) -> str:
    csr = status_of(simulator, ask(simulator)[1]["signRequestId"])["result"]
    requested = post(simulator, "/v1/certificate/sign", signing(csr, commonName=name))[1]
    return str(status_of(simulator, requested["signRequestId"])["result"])


def test_only_a_certificate_in_base64_is_imported_and_only_to_a_key(simulator: Simulator) -> None:
    root(simulator)
    pem = issue(simulator)
    encoded = "".join(pem.splitlines()[1:-1])

    assert bring(simulator, pem)[1]["errorCode"] == 600
    assert bring(simulator, PAYLOAD)[1]["errorCode"] == 409
    assert bring(simulator, encoded, "nobody's")[1]["errorCode"] == 650
    assert call(simulator, "GET", f"/v1/certificate/{LABEL}", None, "keyOperation")[0] == 400


@pytest.mark.parametrize(("position", "status"), [("accepted", 200), ("refused", 500)])
def test_a_certificate_of_another_key_is_imported_or_not(position: Any, status: int) -> None:
    simulator = Simulator(Switches(import_of_another_key=position))
    ca = root(simulator)
    encoded = base64.b64encode(ca.public_bytes(Encoding.DER)).decode()
    create(simulator)

    assert bring(simulator, encoded, CA)[0] == 200
    assert bring(simulator, encoded)[0] == status


@pytest.mark.parametrize("leaves", [False, True])
def test_a_csr_leaves_a_certificate_on_the_key_or_not(leaves: bool) -> None:
    simulator = Simulator(Switches(csr_leaves_certificate=leaves))
    csr_of(simulator)

    path = f"/v1/certificate/{LABEL}"
    assert call(simulator, "GET", path, None, "keyOperation")[0] == (200 if leaves else 400)

    inner = json.loads((SEED / "csr-request.json").read_text())["csrSignRequest"]
    body = {**inner, "signKeyName": LABEL}
    assert post(simulator, "/v1/certificate/synchronous/request", body)[0] == 200
    assert read_back(simulator, LABEL).issuer == read_back(simulator, LABEL).subject


@pytest.mark.parametrize("label", ["a/b", "x" * 201])
@pytest.mark.parametrize(("position", "status"), [("limited", "FAILED"), ("free", "EXECUTED")])
def test_a_label_that_is_no_file_s_name_breaks_certificate_calls_only(
    label: str, position: Any, status: str
) -> None:
    simulator = Simulator(Switches(label_in_certificate_calls=position))
    create(simulator, label=label, policy=None)

    requested = ask(simulator, signKeyName=label)[1]["signRequestId"]

    assert status_of(simulator, requested)["status"] == status
    body = {"signRequest": {**SIGNING, "signKeyName": label}}
    assert post(simulator, "/v1/synchronousSign", body)[0] == 200


# Requests that are no more, and what approvers sign -----------------------------------------------


@pytest.mark.parametrize(("switch", "status"), [("kept", 200), ("forgotten", 404)])
def test_a_cancelled_request_is_kept_or_forgotten(switch: Any, status: int) -> None:
    simulator = Simulator(Switches(cancelled_requests=switch))
    create(simulator)
    path = f"/v1/request/{ask(simulator)[1]['signRequestId']}"
    assert call(simulator, "GET", path, None, "keyOperation")[1]["status"] == "PENDING"

    call(simulator, "DELETE", path, None, "keyOperation")

    found = call(simulator, "GET", path, None, "keyOperation")
    assert found[0] == status
    assert found[1].get("status") == ("CANCELLED" if status == 200 else None)


@pytest.mark.parametrize("switch", ["requestInfo", "request"])
def test_approvers_of_a_csr_sign_its_own_bytes_or_the_call(switch: Any) -> None:
    simulator = Simulator(Switches(csr_approval_payload=switch))
    create(simulator)
    request = simulator.broker.request(ask(simulator)[1]["signRequestId"])
    (task,) = request.tasks.values()
    signed = base64.b64decode(task.to_be_signed)

    result = decided(simulator, request.id)["result"]

    info = x509.load_pem_x509_csr(result.encode()).tbs_certrequest_bytes
    assert (info in signed) is (switch == "requestInfo")
    assert (request.posted.encode() in signed) is (switch == "request")
