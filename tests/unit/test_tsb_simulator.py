"""The simulator's rules: what approvals mean, what a CSR looks like, who may call what."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from countersign.spki import spki_sha256
from local.approver import Approver
from local.tsb_simulator import policy
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
