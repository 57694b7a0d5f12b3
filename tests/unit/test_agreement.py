"""What the validator accepts, the verifier passes when a sound HSM has signed it.

The signer is the simulator's, in both of its ways to build a subject. The files in golden/ are
inputs from the field that were accepted once, approved, and then quarantined.
"""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from countersign import algorithms, texts
from countersign import models as m
from countersign.errors import InvalidEnrollmentError
from countersign.models.request import ExtendedKeyUsage, KeyUsage
from countersign.policy import approvers
from countersign.policy.profiles import Profiles
from countersign.request import canonical, subjects, tsb_bodies, validation
from countersign.states import accept_enrollment
from countersign.texts import MAX_NAME
from countersign.verification import csr, public_keys, signatures
from local.approver import Approver
from local.tsb_simulator import certificates, keys
from local.tsb_simulator.bodies import CsrBody
from local.tsb_simulator.switches import Switches

ROOT = Path(__file__).parents[2]
SEED = ROOT / "events/seed"
GOLDEN = Path(__file__).parent / "golden"
SUBJECT = "csr.standardCertificateAttributes"

type Json = dict[str, Any]


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def seed(**subject: str) -> Json:
    """The vendor's bodies with another subject."""
    csr_body = json.loads((SEED / "csr-request.json").read_text())["csrSignRequest"]
    csr_body["standardCertificateAttributes"] = {"commonName": "example", **subject}
    del csr_body["signKeyName"]
    return {"key": json.loads((SEED / "create-key.json").read_text()), "csr": csr_body}


def elliptic(oid: str | None, **csr_fields: Any) -> Json:
    """A request for a key on this curve."""
    raw = seed()
    del raw["key"]["keySize"]
    raw["key"] |= {"algorithm": "EC", "curveOid": oid}
    raw["csr"] |= {"signatureAlgorithm": "SHA256_WITH_ECDSA", **csr_fields}
    return raw


def accepted(raw: Json, *, escapes_subjects: bool = False) -> m.EnrollmentRequest:
    rules = validation.Rules(
        profiles=Profiles(SEED),
        key_password_prefix="",
        allow_raw_policy=True,
        escapes_subjects=escapes_subjects,
    )
    return validation.read(raw, rules=rules, requester=None, moment=m.now()).request


def refusal(raw: Json) -> str:
    """Field, reason and way out of a refusal."""
    with pytest.raises(InvalidEnrollmentError) as caught:
        accepted(raw)
    return f"{caught.value.field}: {caught.value.message} {caught.value.action}"


def failed(pem: str, requested: m.EnrollmentRequest, public_key: str) -> list[m.Check]:
    _, checks = csr.check(pem, requested.csr, public_key=public_key)
    return [one for one in checks if one.result != "passed"]


# What is refused before anything exists, with its reason -----------------------------------------


@pytest.mark.parametrize("name", list(golden("subjects")["cases"]))
def test_a_subject_passes_or_is_refused_by_name(name: str) -> None:
    inputs = golden("subjects")
    one = inputs["cases"][name]
    reasons = {
        "comma": "organizationName: holds a comma",
        "injection": "organizationName: holds a comma",
        "plus-injection": "commonName: holds a plus sign",
        "quotes": "organizationName: holds a double quote",
        "backslash": "organizationName: holds a backslash",
        "email-plus": "email: holds a plus sign",
        "trailing-blank": "organizationName: begins or ends with a blank",
        "email-idn": "email: is not ASCII",
        "O-65": "organizationName: has 65 characters; a certificate holds 64",
        "empty": "organizationName: is empty",
        "NUL": "commonName: holds a character that nobody sees, U+0000",
    }
    raw = seed(**one["subject"])

    if name in reasons:
        assert reasons[name] in refusal(raw)
    else:
        assert failed(one["keytoolCsr"], accepted(raw), inputs["publicKey"]) == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("pseudonym", "Ada", "is taken by TSB and not written"),
        ("organizationName", "#414141", "a number sign at its beginning"),
        ("organizationName", "A;B", "a semicolon"),
        ("organizationName", "A<B", "a less-than sign"),
        ("organizationName", "A>B", "a greater-than sign"),
        ("organizationName", " Example", "a blank"),
        ("organizationName", "\u00a0Example", "a blank"),
        ("organizationName", "Exam\u202eple", "U+202E"),
        ("organizationName", "Exam\nple", "U+000A"),
        ("organizationName", "Exam\u200bple", "U+200B"),
        ("organizationName", "Exam\u2800ple", "U+2800"),
        ("title", "x" * 65, "has 65 characters"),
        ("organizationIdentifier", "x" * 257, "holds 256"),
    ],
)
def test_a_value_that_would_not_come_back_is_refused(name: str, value: str, reason: str) -> None:
    said = refusal(seed(**{name: value}))

    assert said.startswith(f"request.{SUBJECT}.{name}: ")
    assert reason in said


def test_every_field_of_a_subject_has_a_rule() -> None:
    fields = set(m.Subject(common_name="x").dump())

    assert fields == {*subjects.MAX_LENGTHS, "country", "pseudonym"}


@pytest.mark.parametrize("name", list(golden("curves")))
def test_a_curve_is_read_or_refused_by_name(name: str) -> None:
    one = golden("curves")[name]
    raw = elliptic(one["curveOid"], keyUsage=None, extendedKeyUsage=None)

    if one["curveOid"] in algorithms.CURVES:
        assert failed(one["csr"], accepted(raw), one["publicKey"]) == []
    elif one["csr"]:
        assert f"key.curveOid: is {name}: TSB has it, but nothing here reads" in refusal(raw)
    else:
        assert "is the OID of no curve" in refusal(raw)


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [
        ("SHA1_WITH_RSA", "SHA-1 is broken"),
        ("SHA999_WITH_RSA", "is no signature algorithm with which TSB makes CSRs"),
        ("SHA256_WITH_RSA_PSS", "is no signature algorithm"),
        ("SHA256_WITH_ECDSA_DETERMINISTIC", "is no signature algorithm"),
        ("SHA3256_WITH_ECDSA", "is no signature algorithm"),
        ("NONE_WITH_RSA", "is no signature algorithm"),
        ("SHA256_WITH_ECDSA", "is made with a key of algorithm EC, and this one is RSA"),
    ],
)
def test_an_algorithm_that_makes_no_csr_is_refused(algorithm: str, reason: str) -> None:
    raw = seed()
    raw["csr"]["signatureAlgorithm"] = algorithm

    assert reason in refusal(raw)
    assert "SHA256_WITH_RSA, SHA384_WITH_RSA" in refusal(raw)


def test_a_usage_that_means_nothing_alone_is_refused() -> None:
    inputs = golden("keyUsages")
    ((_, one),) = inputs["cases"].items()
    raw = seed()
    raw["csr"]["keyUsage"] = one["keyUsage"]

    assert "ENCIPHER_ONLY means nothing without KEY_AGREEMENT" in refusal(raw)


@pytest.mark.parametrize("window", golden("windows"))
def test_a_window_longer_than_an_execution_is_refused(window: Json) -> None:
    raw = seed()
    raw["key"]["policy"]["ruleUse"]["tokens"][0] |= window

    assert "longer than the workflow can wait" in refusal(raw)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"curveOid": "1.3.132.0.34"}, "key.curveOid"),
        ({"algorithmOid": "1.2.840.10045.2.1"}, "key.algorithmOid"),
        ({"label": "x" * 201}, "key.label"),
        ({"label": "Schlüssel"}, "key.label"),
        ({"label": "key "}, "key.label"),
        ({"label": "-key"}, "key.label"),
        ({"label": ".."}, "key.label"),
        ({"label": "a/b"}, "key.label"),
        ({"label": "a\nb"}, "key.label"),
    ],
)
def test_a_key_that_could_make_no_csr_is_refused(change: Json, field: str) -> None:
    raw = seed()
    raw["key"] |= change

    assert refusal(raw).startswith(f"request.{field}: ")


def test_a_size_beside_a_curve_is_refused() -> None:
    raw = elliptic("1.3.132.0.34")
    raw["key"]["keySize"] = 384

    assert "the curve decides the size" in refusal(raw)


# What is accepted, is verified -------------------------------------------------------------------


@cache
def private_key(algorithm: str, curve_oid: str | None) -> Any:
    if algorithm == "RSA":
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "ED":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(keys.CURVES[curve_oid or ""])


def signed(requested: m.EnrollmentRequest, switches: Switches) -> tuple[str, str]:
    """The CSR of a sound HSM, and the public key that it reports."""
    key = keys.HsmKey(
        label=requested.key.label,
        password=None,
        algorithm=requested.key.algorithm,
        curve_oid=requested.key.curve_oid,
        key_size=2048,
        attributes={},
        policy=None,
        rules=keys.Rules(),
        blocked=False,
        private=private_key(requested.key.algorithm, requested.key.curve_oid),
        created=0,
    )
    body = CsrBody.model_validate(tsb_bodies.tsb_csr(requested, None, shown=b"", signature=b""))
    info = certificates.request_info(key, body, switches)
    public = key.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = certificates.csr(key, info, body.signature_algorithm)
    return pem, base64.b64encode(public).decode()


def verified(raw: Json, *, escapes_subjects: bool) -> list[m.Check]:
    requested = accepted(raw, escapes_subjects=escapes_subjects)
    switches = Switches(subject_building="escaped" if escapes_subjects else "joined")
    pem, public_key = signed(requested, switches)
    return failed(pem, requested, public_key)


KEYS = st.one_of(
    st.tuples(st.just("RSA"), st.none(), st.sampled_from(algorithms.SIGNATURES["RSA"])),
    st.tuples(
        st.just("EC"),
        st.sampled_from(list(algorithms.CURVES)),
        st.sampled_from(algorithms.SIGNATURES["EC"]),
    ),
    st.tuples(st.just("ED"), st.sampled_from([None, algorithms.ED25519]), st.just("EDDSA")),
)
FREE = st.sampled_from(sorted(subjects.MAX_LENGTHS.keys() - {"commonName", "email"}))
# Mostly letters; all that is special to keytool, to Java's trim, to DER and to a terminal.
LETTERS = st.one_of(
    st.characters(codec="utf-8"), st.sampled_from(' ,+;"\\<>#=\n\t\x00\u00a0\u200b\u202e/&*@')
)
ANY = st.text(LETTERS, min_size=0, max_size=70)
USUAL = st.text(
    st.one_of(st.characters(categories=["L", "N"]), st.sampled_from(" =/&*@'.:-")),
    min_size=1,
    max_size=64,
).filter(lambda text: text == text.strip() and all(map(texts.is_seen, text)))


def usages(kind: Any) -> st.SearchStrategy[list[str] | None]:
    names = st.sampled_from(get_args(kind))
    return st.none() | st.lists(names, unique=True, max_size=9)


@st.composite
def requests(draw: st.DrawFn, values: st.SearchStrategy[str]) -> Json:
    algorithm, curve_oid, signature = draw(KEYS)
    raw = seed(**draw(st.dictionaries(FREE, values, max_size=4)))
    subject = raw["csr"]["standardCertificateAttributes"]
    subject["commonName"] = draw(values)
    subject |= draw(st.fixed_dictionaries({}, optional={"country": st.just("CH"), "email": values}))
    raw["key"] |= {"algorithm": algorithm, "curveOid": curve_oid}
    raw["key"]["keySize"] = 2048 if algorithm == "RSA" else None
    raw["csr"] |= {
        "signatureAlgorithm": signature,
        "keyUsage": draw(usages(KeyUsage)),
        "extendedKeyUsage": draw(usages(ExtendedKeyUsage)),
        "validity": draw(st.integers(-1, 400)),
    }
    return raw


@settings(max_examples=150)
@given(raw=requests(ANY), escapes_subjects=st.booleans())
@example(raw=seed(organizationName="Example Company, s.r.o."), escapes_subjects=True)
@example(raw=seed(organizationName='#1 "A\\B" <c>; d+e'), escapes_subjects=True)
def test_whatever_is_accepted_comes_back_as_it_was_asked(raw: Json, escapes_subjects: bool) -> None:
    try:
        checks = verified(raw, escapes_subjects=escapes_subjects)
    except InvalidEnrollmentError:
        return
    assert checks == []


@settings(max_examples=150)
@given(raw=requests(USUAL), escapes_subjects=st.booleans())
def test_what_is_usual_is_accepted_and_comes_back(raw: Json, escapes_subjects: bool) -> None:
    subject = raw["csr"]["standardCertificateAttributes"]
    if "email" in subject:
        subject["email"] = "release@example.com"
    agreement = {"ENCIPHER_ONLY", "DECIPHER_ONLY"} & {*(raw["csr"]["keyUsage"] or ())}
    if agreement and "KEY_AGREEMENT" not in raw["csr"]["keyUsage"]:
        raw["csr"]["keyUsage"].append("KEY_AGREEMENT")

    assert verified(raw, escapes_subjects=escapes_subjects) == []


@pytest.mark.parametrize(("name", "most"), subjects.MAX_LENGTHS.items())
def test_the_longest_value_comes_back(name: str, most: int) -> None:
    assert verified(seed(**{name: "x" * most}), escapes_subjects=False) == []


# Bounds ------------------------------------------------------------------------------------------


@cache
def crowd() -> tuple[Approver, ...]:
    return tuple(Approver.generate("x", "ec") for _ in range(100))


def populous(letter: str, padding: str) -> Json:
    """As many approvers as are accepted, with the longest names, and text wherever it may be."""
    raw = {**seed(), "reason": letter * 1_000}
    raw["key"] |= {"id": padding}
    policy = raw["key"]["policy"]
    groups = [
        {
            "name": letter * MAX_NAME,
            "quorum": 1,
            "approvals": [
                {"type": "public_key", "name": f"{number:03}{letter * 97}", "value": one.spki}
            ],
        }
        for number, one in enumerate(crowd())
    ]
    policy["ruleUse"]["tokens"] = [
        {"name": letter * MAX_NAME, "timelock": 0, "timeout": 86_400, "groups": groups}
    ]
    policy |= dict.fromkeys(("ruleBlock", "ruleUnblock"), None) | {"ruleModify": {"tokens": []}}
    return raw


@pytest.mark.parametrize("letter", ["a", "é", "漢", "𐍈"])
def test_the_largest_record_fits_its_table(letter: str) -> None:
    def made(padding: int) -> Json:
        return populous(letter, "x" * padding)

    room = validation.MAX_REQUEST_BYTES - len(canonical.canonical(made(0)))
    rules = validation.Rules(
        profiles=Profiles(ROOT / "profiles"), key_password_prefix="", allow_raw_policy=True
    )
    reading = validation.read(made(room), rules=rules, requester=None, moment=m.now())
    people = approvers.approvers(reading.request.key.policy, {})
    record = accept_enrollment.initial_record(
        "e" * 64, made(room), reading, m.Origin(principal="𐍈" * 1_024), names={}
    )
    asked = {"approvers": [one.dump() for one in people]}

    assert len(people) == 100
    assert len(reading.findings) >= 100  # nobody is in the directory
    item = json.dumps([record, asked], ensure_ascii=False).encode()
    assert len(item) < (400 - 64) * 1_024  # leaves as much for what is found later
    with pytest.raises(InvalidEnrollmentError, match="131073 bytes; 131072 are the most"):
        validation.read(made(room + 1), rules=rules, requester=None, moment=m.now())


def test_what_may_be_asked_for_is_what_can_be_verified() -> None:
    assert set(algorithms.CURVES.values()) == set(public_keys.FIELD_BITS)
    for kind, names in algorithms.SIGNATURES.items():
        assert {signatures.SIGNATURES[name].key for name in names} == {kind}
