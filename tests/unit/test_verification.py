"""Who approved is enough, and who he is: rules against every subset of approvers."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from countersign import models as m
from countersign.spki import spki_sha256
from countersign.tsb.models import KeyAttributes
from countersign.verification import checks
from countersign.verification.checks import approval_checks
from local.approver import Approver
from local.tsb_simulator import der, keys
from local.tsb_simulator.attestation import make_attestation, usual_key
from local.tsb_simulator.bodies import CreateKeyBody
from local.tsb_simulator.switches import Switches

PEOPLE = [
    Approver(name, ec.generate_private_key(ec.SECP256R1()))
    for name in ("Ada", "Bert", "Carl", "Dora", "Emil")
]


def policy(*tokens: list[tuple[int, list[Any]]]) -> m.Policy:
    """Tokens of groups, each a quorum and its members: people, or names that only TSB knows."""
    return m.Policy.read(
        {
            "ruleUse": {
                "tokens": [
                    {
                        "name": "t",
                        "timelock": 0,
                        "timeout": 0,
                        "groups": [
                            {
                                "name": "g",
                                "quorum": quorum,
                                "approvals": [
                                    {"type": "onboarded_approver_certificate", "name": one}
                                    if isinstance(one, str)
                                    else {
                                        "type": "public_key",
                                        "name": one.name,
                                        "value": one.spki,
                                    }
                                    for one in members
                                ],
                            }
                            for quorum, members in groups
                        ],
                    }
                    for groups in tokens
                ]
            },
            "keyStatus": {"blocked": False},
        }
    )


def said(*people: Approver, names: dict[str, str] | None = None) -> list[m.Approver]:

    return [
        m.Approver(
            name=(names or {}).get(one.name, one.name),
            spki_sha256=spki_sha256(one.spki),
            decision="approved",
        )
        for one in people
    ]


def failed(rules: m.Policy, approved: list[m.Approver]) -> list[str]:
    return [one.code for one in approval_checks(rules, approved) if one.result == "failed"]


ADA, BERT, CARL, DORA, EMIL = PEOPLE


def test_all_groups_of_one_token_must_agree() -> None:
    rules = policy([(1, [ADA, BERT]), (1, [CARL])], [(3, [ADA, BERT, DORA])])

    assert failed(rules, said(ADA, CARL)) == []
    assert failed(rules, said(ADA, BERT, DORA)) == []
    assert failed(rules, said(ADA, BERT)) == ["APPROVAL_QUORUM"]
    assert failed(rules, said()) == ["APPROVAL_QUORUM"]


def test_a_stranger_is_named_and_counts_for_nothing() -> None:
    rules = policy([(2, [ADA, BERT])])

    assert failed(rules, said(ADA, EMIL)) == ["APPROVER_NOT_IN_POLICY", "APPROVAL_QUORUM"]
    assert failed(rules, said(ADA, BERT, EMIL)) == ["APPROVER_NOT_IN_POLICY"]


@pytest.mark.parametrize("spelling", ["Ada", "ada", " ADA ", "A\u0064a"])
def test_two_keys_of_one_person_are_one_person(spelling: str) -> None:
    rules = policy([(2, [ADA, BERT, CARL])])
    names = {"Bert": spelling}

    assert failed(rules, said(ADA, BERT, names=names)) == ["APPROVAL_SAME_PERSON"]
    assert failed(rules, said(ADA, BERT, CARL, names=names)) == []


def test_a_key_that_the_policy_does_not_show_counts_as_an_onboarded_approver_s() -> None:
    rules = policy([(2, [ADA, "onboarded one"])])

    assert failed(rules, said(ADA, EMIL)) == []
    assert failed(rules, said(EMIL)) == ["APPROVAL_QUORUM"]
    assert failed(rules, said(ADA, DORA, EMIL)) == ["APPROVER_NOT_IN_POLICY", "APPROVAL_QUORUM"]


members = st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=4, unique_by=lambda one: one.name)
groups = members.flatmap(lambda some: st.tuples(st.integers(1, len(some)), st.just(some)))
tokens = st.lists(st.lists(groups, min_size=1, max_size=3), min_size=1, max_size=3)


@given(tokens, st.sets(st.sampled_from(range(len(PEOPLE)))))
def test_a_quorum_is_what_the_words_say(
    rules: list[list[tuple[int, list[Approver]]]], approved: set[int]
) -> None:
    people = [PEOPLE[index] for index in approved]
    enough = any(
        all(len([one for one in some if one in people]) >= quorum for quorum, some in groups_)
        for groups_ in rules
    )
    known = {one.name for groups_ in rules for _, some in groups_ for one in some}

    found = failed(policy(*rules), said(*people))

    assert ("APPROVAL_QUORUM" not in found) == enough
    assert ("APPROVER_NOT_IN_POLICY" in found) == any(one.name not in known for one in people)
    assert "APPROVAL_SAME_PERSON" not in found


# What the HSM says of the key, against what was asked --------------------------------------------

P256, P384 = "1.2.840.10045.3.1.7", "1.3.132.0.34"
NOW = datetime.now(UTC)
HSM = make_attestation(usual_key())


def rule(*approvals: dict[str, Any]) -> dict[str, Any]:
    group = {"name": "g", "quorum": 1, "approvals": list(approvals)}
    return {"tokens": [{"name": "t", "timelock": 0, "timeout": 600, "groups": [group]}]}


def key_request(**different: Any) -> dict[str, Any]:
    by_key = {"type": "public_key", "name": "Ada", "value": ADA.spki}
    return {
        "label": "k",
        "algorithm": "EC",
        "curveOid": P256,
        "attributes": {"decrypt": False, "sign": True, "unwrap": False},
        "policy": {"ruleUse": rule(by_key), "keyStatus": {"blocked": False}},
        **different,
    }


def made(asked: dict[str, Any], switches: Switches | None = None) -> dict[str, Any]:
    """TSB's answer about a key that was made as asked."""
    switches = switches or Switches()
    key = keys.create(CreateKeyBody.model_validate(asked), NOW.timestamp(), switches)
    whole: dict[str, Any] = json.loads(
        json.dumps(keys.answer(key, HSM, NOW.timestamp(), "recorded"))
    )
    return whole


def different(asked: dict[str, Any], whole: dict[str, Any]) -> dict[str, list[str]]:
    answer = KeyAttributes.model_validate(whole)
    found = checks.differences(answer, m.KeyRequest.model_validate(asked))
    return {code: words for code, words in found.items() if words}


def test_a_key_as_asked_differs_in_nothing() -> None:
    ed = {"algorithm": "ED", "curveOid": "1.3.101.112"}
    big = {"algorithm": "RSA", "curveOid": None, "keySize": 2048}
    for asked in (key_request(), key_request(**ed), key_request(**big)):
        assert different(asked, made(asked)) == {}


def test_an_ed_key_whose_curve_is_not_reported_is_as_asked() -> None:
    asked = key_request(algorithm="ED", curveOid="1.3.101.112")

    assert different(asked, made(asked, Switches(ed_curve_oid="absent"))) == {}


ASKED_RSA = key_request(algorithm="RSA", curveOid=None, keySize=2048)


def spki_of(modulus: int, exponent: int, parameters: bytes = der.NULL) -> str:
    whole = der.tlv(
        der.SEQUENCE,
        der.tlv(der.SEQUENCE, der.oid("1.2.840.113549.1.1.1"), parameters),
        der.bit_string(der.tlv(der.SEQUENCE, der.integer(modulus), der.integer(exponent))),
    )
    return base64.b64encode(whole).decode()


def on_curve(point: bytes) -> str:
    algorithm = der.tlv(der.SEQUENCE, der.oid("1.2.840.10045.2.1"), der.oid(P256))
    whole = der.tlv(der.SEQUENCE, algorithm, der.bit_string(point))
    return base64.b64encode(whole).decode()


MODULUS = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
DSA = dsa.generate_private_key(2048).public_key()
DSA_SPKI = base64.b64encode(
    DSA.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()


@pytest.mark.parametrize(
    ("asked", "public_key", "words"),
    [
        pytest.param(ASKED_RSA, spki_of(MODULUS >> 1024 | 1, 65537), "RSA", id="a smaller RSA key"),
        pytest.param(ASKED_RSA, DSA_SPKI, "algorithm 1.2.840.10040.4.1", id="DSA for RSA"),
        pytest.param(ASKED_RSA, spki_of(MODULUS + 1, 65537), "small factor", id="even modulus"),
        pytest.param(ASKED_RSA, spki_of(3 * (1 << 2046) | 9, 65537), "small factor", id="9 | n"),
        pytest.param(ASKED_RSA, spki_of(MODULUS, 1), "exponent", id="exponent 1"),
        pytest.param(ASKED_RSA, spki_of(MODULUS, 65538), "exponent", id="even exponent"),
        pytest.param(ASKED_RSA, spki_of(MODULUS, 1 << 300 | 1), "exponent", id="huge exponent"),
        pytest.param(ASKED_RSA, spki_of(MODULUS, 65537, b""), "form", id="no parameters"),
        pytest.param(key_request(curveOid=P384), EMIL.spki, "EC P-256", id="a smaller curve"),
        pytest.param(ASKED_RSA, EMIL.spki, "EC P-256", id="EC for RSA"),
        pytest.param(key_request(), on_curve(b"\4" + b"\1" * 64), "point", id="off the curve"),
        pytest.param(key_request(), on_curve(b""), "point", id="no point"),
        pytest.param(key_request(), "AAAA", "element", id="no key"),
        pytest.param(key_request(), "", "element", id="nothing"),
    ],
)
def test_a_key_is_what_its_own_bytes_say(
    asked: dict[str, Any], public_key: str, words: str
) -> None:
    # TSB claims all that was asked for, and so does the attestation.
    whole = made(asked)
    whole["json"]["publicKey"] = public_key

    found = different(asked, whole)

    # A size that is claimed is compared with that of the bytes.
    assert found.keys() <= {"KEY_TYPE", "KEY_ATTRIBUTES"}
    assert found.get("KEY_ATTRIBUTES") in (None, ["keySize"])
    assert words in found["KEY_TYPE"][0]


@pytest.mark.parametrize("name", ["derive", "unwrap", "decrypt", "copyable"])
def test_an_attribute_that_nobody_states_is_not_as_asked(name: str) -> None:
    asked = key_request()
    whole = made(asked)
    whole["json"]["attributes"][name] = None
    assert different(asked, whole) == {}  # the XML says it

    whole["xml"] = whole["xml"].replace(f"<{name}>false<", f"<{name}>true<")
    assert different(asked, whole) == {"KEY_ATTRIBUTES": [f"attributes.{name}"]}
    whole["xml"] = None
    assert different(asked, whole) == {"KEY_ATTRIBUTES": [f"attributes.{name}"]}


@pytest.mark.parametrize("name", ["encrypt", "verify", "wrap", "unheardOf"])
def test_an_attribute_that_nobody_asked_for_is_not_as_asked(name: str) -> None:
    asked = key_request()
    whole = made(asked)
    whole["json"]["attributes"][name] = True
    shown = "an attribute of another name" if name == "unheardOf" else name

    assert different(asked, whole) == {"KEY_ATTRIBUTES": [f"attributes.{shown}"]}
    whole["json"]["attributes"][name] = False
    assert different(asked, whole) == {}


def test_the_size_that_tsb_says_is_that_of_the_key() -> None:
    asked = key_request()
    whole = made(asked)

    for size, differ in ((256, {}), (None, {}), (384, {"KEY_ATTRIBUTES": ["keySize"]})):
        whole["json"]["keySize"] = size
        assert different(asked, whole) == differ


def spelled(policy: dict[str, Any]) -> list[dict[str, Any]]:
    """The same policy in other spellings of TSB."""
    value = policy["ruleUse"]["tokens"][0]["groups"][0]["approvals"][0]["value"]
    texts = [
        json.dumps(policy),
        json.dumps(policy).replace(value, "\\r\\n".join((value[:64], value[64:]))),
        json.dumps(policy).replace('"Ada"', "null"),
        json.dumps(policy).replace('"g"', "null").replace('"t"', '""'),
        json.dumps(policy).replace('"quorum"', '"newer": [1], "quorum"'),
        json.dumps(policy).replace('"tokens"', '"newer": {}, "tokens"'),
        json.dumps({**policy, "newer": 1, "ruleModify": None}),
        json.dumps({**policy, "keyStatus": {"blocked": False, "newer": None}}),
    ]
    return [json.loads(text) for text in texts]


def test_a_policy_may_be_spelled_otherwise() -> None:
    asked = key_request()
    for policy in spelled(asked["policy"]):
        whole = made(asked)
        whole["json"]["policy"] = policy
        assert different(asked, whole) == {}, policy


def test_no_group_and_no_list_of_groups_are_the_same() -> None:
    asked = key_request()
    asked["policy"]["ruleModify"] = {
        "tokens": [{"name": "t", "timelock": 0, "timeout": 60, "groups": []}]
    }
    whole = made(asked)
    whole["json"]["policy"]["ruleModify"]["tokens"][0]["groups"] = None

    assert different(asked, whole) == {}


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"ruleUse": None}, "KEY_POLICY", "ruleUse"),
        ({"ruleBlock": {"tokens": []}}, "KEY_POLICY", "ruleBlock"),
        ({"keyStatus": {"blocked": True}}, "KEY_POLICY", "keyStatus"),
        ({"keyStatus": "usable"}, "KEY_POLICY_FORMAT", "keyStatus"),
        ({"keyStatus": {"blocked": "no"}}, "KEY_POLICY_FORMAT", "keyStatus.blocked"),
        ({"keyStatus": None}, "KEY_POLICY_FORMAT", "keyStatus"),
        ({"ruleUse": "Ada"}, "KEY_POLICY_FORMAT", "ruleUse"),
        ({"ruleUse": {"tokens": {}}}, "KEY_POLICY_FORMAT", "ruleUse.tokens"),
        ({"ruleUse": {"tokens": [7]}}, "KEY_POLICY_FORMAT", "ruleUse.tokens.0"),
        ({"ruleUse": rule({"type": "public_key", "value": "AAAA"})}, "KEY_POLICY_FORMAT", "cannot"),
        ({"ruleUse": rule({"type": "public_key"})}, "KEY_POLICY_FORMAT", "names no approver"),
        ({"ruleUse": rule({"type": ["x"], "value": "x"})}, "KEY_POLICY_FORMAT", "names no"),
        ({"ruleUse": rule({"type": "certificate", "value": 7})}, "KEY_POLICY_FORMAT", "names no"),
    ],
)
def test_a_policy_that_was_changed_is_told_from_one_that_cannot_be_read(
    change: dict[str, Any], code: str, words: str
) -> None:
    asked = key_request()
    whole = made(asked)
    whole["json"]["policy"] |= change

    found = different(asked, whole)

    assert list(found) == [code]
    assert words in found[code][0]


BY_NAME = {"type": "onboarded_approver_certificate", "name": "Bert"}


def onboarded(certificate: str) -> tuple[dict[str, Any], dict[str, Any]]:
    asked = key_request(policy={"ruleUse": rule(BY_NAME), "keyStatus": {"blocked": False}})
    return asked, made(asked, Switches(onboarded_approvers={"Bert": certificate}))


def test_an_onboarded_approver_comes_back_as_the_certificate_of_that_name() -> None:
    asked, whole = onboarded(BERT.certificate())
    (token,) = whole["json"]["policy"]["ruleUse"]["tokens"]
    assert token["groups"][0]["approvals"][0]["type"] == "certificate"

    assert different(asked, whole) == {}


def test_a_certificate_of_another_name_is_another_approver() -> None:
    asked, whole = onboarded(CARL.certificate())

    assert different(asked, whole) == {"KEY_POLICY": ["policy.ruleUse"]}


def test_of_two_certificates_of_one_name_neither_is_believed() -> None:
    asked, whole = onboarded(BERT.certificate())
    other = Approver("Bert", ec.generate_private_key(ec.SECP256R1()))
    echo = {"type": "certificate", "name": "Bert", "value": other.certificate()}
    whole["json"]["policy"]["ruleModify"] = rule(echo)

    assert different(asked, whole) == {"KEY_POLICY": ["policy.ruleUse", "policy.ruleModify"]}


def test_the_key_of_an_onboarded_approver_that_tsb_shows_counts_and_no_other() -> None:
    rules = policy([(2, [ADA, "Bert"])])
    shown = {"Bert": spki_sha256(BERT.spki)}

    def found(*people: Approver) -> list[str]:
        made_checks = approval_checks(rules, said(*people), onboarded=shown)
        return [one.code for one in made_checks if one.result == "failed"]

    assert found(ADA, BERT) == []
    assert found(ADA, EMIL) == ["APPROVER_NOT_IN_POLICY", "APPROVAL_QUORUM"]
