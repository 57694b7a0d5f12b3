"""Whatever comes back: a boundary maps everything that a parser raises, and verification answers.

Mutants of real answers by the thousand, from fixed seeds, so that each failure can be repeated.
"""

import base64
import copy
import json
import random
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from countersign import clocks, der
from countersign import models as m
from countersign.errors import CsrInvalidError
from countersign.policy import certificates
from countersign.request import canonical
from countersign.spki import spki_sha256
from countersign.tsb.models import KeyAttributes, Reply, RequestStatus
from countersign.verification import attestation_xml, checks, csr, pkix, public_keys
from countersign.verification.attestation import Trust
from local.approver import Approver
from local.tsb_simulator import certificates as made
from local.tsb_simulator import keys
from local.tsb_simulator.attestation import make_attestation, usual_key
from local.tsb_simulator.bodies import CreateKeyBody, CsrBody
from local.tsb_simulator.switches import Switches

SEED = Path(__file__).parents[2] / "events/seed"
NOW = datetime.now(UTC)
HSM = make_attestation(usual_key())
CHAIN = "".join(HSM.chain)
TRUST = Trust(
    root_sha256=x509.load_pem_x509_certificates(CHAIN.encode())[-1]
    .fingerprint(hashes.SHA256())
    .hex(),
    chain=CHAIN,
)
ADA = Approver.generate("Ada", "ec")


def request() -> dict[str, Any]:
    by_key = {"type": "public_key", "name": "Ada", "value": ADA.spki}
    by_certificate = {"type": "certificate", "value": ADA.certificate()}

    def rule(*approvals: dict[str, Any]) -> dict[str, Any]:
        group = {"name": "g", "quorum": 1, "approvals": list(approvals)}
        return {"tokens": [{"name": "t", "timelock": 0, "timeout": 600, "groups": [group]}]}

    return {
        "key": {
            "label": "k",
            "algorithm": "EC",
            "curveOid": "1.2.840.10045.3.1.7",
            "attributes": {"decrypt": False, "sign": True, "unwrap": False},
            "policy": {
                "ruleUse": rule(by_key),
                "ruleModify": rule(by_certificate),
                "keyStatus": {"blocked": False},
            },
        },
        "csr": {
            "signatureAlgorithm": "SHA256_WITH_ECDSA",
            "standardCertificateAttributes": {"commonName": "example", "country": "CH"},
            "keyUsage": ["DIGITAL_SIGNATURE"],
            "extendedKeyUsage": ["CODE_SIGNING"],
        },
    }


REQUESTED = m.EnrollmentRequest.read(request())
KEY = keys.create(CreateKeyBody.model_validate(request()["key"]), NOW.timestamp(), Switches())
ANSWER: dict[str, Any] = json.loads(json.dumps(keys.answer(KEY, HSM, NOW.timestamp(), "recorded")))
PUBLIC_KEY: str = ANSWER["json"]["publicKey"]
BODY = CsrBody.model_validate({"signKeyName": "k", **request()["csr"]})
INFO = made.request_info(KEY, BODY, Switches())
PEM = made.csr(KEY, INFO, "SHA256_WITH_ECDSA")
RECORD: dict[str, Any] = {
    "acceptedSha256": canonical.sha256(canonical.accepted(REQUESTED)),
    "publicKeySha256": spki_sha256(PUBLIC_KEY),
    "steps": {
        "csr": {
            "requestId": "r",
            "times": {"requested": m.timestamp(NOW)},
            "approvers": [
                {"name": "Ada", "spkiSha256": spki_sha256(ADA.spki), "decision": "approved"}
            ],
        }
    },
}


def verified(answer: KeyAttributes, pem: str = PEM) -> checks.Verified:
    returned = checks.Returned(
        requested=REQUESTED,
        request_id="r",
        pem=pem,
        created_public_key=PUBLIC_KEY,
        answer=answer,
        record=RECORD,
    )
    return checks.verify(returned, TRUST, now=NOW)


def reply(content: Any) -> Reply:
    return Reply(status=200, body=json.dumps(content).encode())


def test_the_answer_as_it_was_made_passes_every_check() -> None:
    assert [one for one in verified(KeyAttributes.read(reply(ANSWER))).checks if one.finding] == []


# What can be read in two ways --------------------------------------------------------------------

LABEL, EXTRACTABLE, APPROVAL = "<label>k</label>", "<extractable>false</extractable>", 'name="Ada">'


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (LABEL, "<label>k<x/>.other</label>", "ATTESTATION_FORMAT"),
        (LABEL, '<label value="other">k</label>', "ATTESTATION_FORMAT"),
        (LABEL, "<label>\u00a0k</label>", "ATTESTATION_KEY"),
        (EXTRACTABLE, "<extractable>false<x/>true</extractable>", "ATTESTATION_FORMAT"),
        (EXTRACTABLE, '<extractable value="true">false</extractable>', "ATTESTATION_FORMAT"),
        (EXTRACTABLE, f"{EXTRACTABLE}<a:x xmlns:a='b'>true</a:x>", "ATTESTATION_FORMAT"),
        ("<quorum>1</quorum>", "<quorum>1<x/>0</quorum>", "ATTESTATION_FORMAT"),
        ('<group name="g">', '<group name="g" quorum="7">', "ATTESTATION_FORMAT"),
        ('<group name="g">', '<group name="g" Name="h">', "ATTESTATION_FORMAT"),
        ("<key_status>", '<key_status blocked="true">', "ATTESTATION_FORMAT"),
        ("<policy>", "<Policy/><policy>", "ATTESTATION_FORMAT"),
        ("</approval>", "<x/>AAAA</approval>", "ATTESTATION_FORMAT"),
        (APPROVAL, f"{APPROVAL}<value>AAAA</value>", "ATTESTATION_FORMAT"),
        ("</group>", "<Approval type='public_key' name='Eve'>AAAA</Approval></group>", None),
        ("</group>", "</group><Group name='x'><quorum>0</quorum></Group>", None),
    ],
)
def test_an_attestation_that_can_be_read_in_two_ways_is_refused(
    old: str, new: str, code: str | None
) -> None:
    xml = ANSWER["xml"].replace(old, new, 1)
    assert xml != ANSWER["xml"]
    signed = {**ANSWER, "xml": xml, "xmlSignature": HSM.sign(xml.encode())}

    failed = verified(KeyAttributes.read(reply(signed))).failed

    assert failed is not None
    assert code in (None, failed.code), failed


def test_an_attribute_in_two_spellings_is_a_difference() -> None:
    answer = copy.deepcopy(ANSWER)
    answer["json"]["attributes"]["Extractable"] = True

    failed = verified(KeyAttributes.read(reply(answer))).failed

    assert failed is not None
    assert failed.code == "KEY_ATTRIBUTES"


# DER ----------------------------------------------------------------------------------------------


def mutants(original: bytes, number: int, seed: int) -> Iterator[bytes]:
    """Bytes changed, cut out, repeated and put in, one to four times."""
    draw = random.Random(seed)
    interesting = bytes((0, 1, 0x1F, 0x30, 0x31, 0x7F, 0x80, 0x81, 0x84, 0xA0, 0xFF))
    for _ in range(number):
        changed = bytearray(original)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(changed))
            match draw.randrange(5):
                case 0:
                    changed[at] ^= 1 << draw.randrange(8)
                case 1:
                    changed[at] = draw.choice(interesting)
                case 2:
                    del changed[at : at + draw.randint(1, 20)]
                case 3:
                    changed[at:at] = changed[at : at + draw.randint(1, 60)]
                case _:
                    changed[at:at] = bytes(draw.choices(interesting, k=draw.randint(1, 4)))
            changed = changed or bytearray(b"\0")
        yield bytes(changed)


def armored(content: bytes) -> str:
    body = base64.b64encode(content).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----"


def test_no_mutant_of_the_vendor_s_csr_raises_or_passes() -> None:
    text = json.loads((SEED / "request-status.json").read_text())["result"]
    asked = m.CsrRequest.read(json.loads((SEED / "csr-request.json").read_text())["csrSignRequest"])
    original = x509.load_pem_x509_csr(text.encode())
    whole = original.public_bytes(Encoding.DER)
    public_key = base64.b64encode(
        original.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode()
    for mutant in mutants(whole, 3_000, seed=1):
        _, found = csr.check(armored(mutant), asked, public_key=public_key)
        passed = all(one.result == "passed" for one in found)
        assert passed == (mutant == whole), mutant.hex()


def test_no_mutant_that_the_key_itself_has_signed_raises_or_passes() -> None:
    # The strongest forger: TSB lets the HSM sign whatever it likes.
    algorithm = der.write(der.SEQUENCE, der.write_oid("1.2.840.10045.4.3.2"))
    for mutant in mutants(INFO, 2_500, seed=2):
        assert isinstance(KEY.private, ec.EllipticCurvePrivateKey)
        signature = KEY.private.sign(mutant, ec.ECDSA(hashes.SHA256()))
        whole = der.write(
            der.SEQUENCE, mutant, algorithm, der.write(der.BIT_STRING, b"\0", signature)
        )
        _, found = csr.check(armored(whole), REQUESTED.csr, public_key=PUBLIC_KEY)
        passed = all(one.result == "passed" for one in found)
        # What TSB may choose is left: the type of a string.
        assert not passed or same_but_for_strings(mutant), mutant.hex()


def same_but_for_strings(mutant: bytes) -> bool:
    differ = [at for at, byte in enumerate(INFO) if byte != mutant[at]]
    return len(mutant) == len(INFO) and all(INFO[at] in pkix.CODECS for at in differ)


def test_no_mutant_of_a_key_or_a_certificate_raises_anything_else() -> None:
    spki, certificate = base64.b64decode(ADA.spki), base64.b64decode(ADA.certificate())
    for mutant in mutants(spki, 1_000, seed=3):
        try:
            public_keys.read(mutant)
        except der.DerError:
            continue
    for kind, original in (("public_key", spki), ("certificate", certificate)):
        for mutant in mutants(original, 500, seed=4):
            value = base64.b64encode(mutant).decode()
            for read in (
                lambda kind=kind, value=value: certificates.approver_public_key(kind, value),
                lambda value=value: certificates.certificate_common_name(value),
                lambda value=value: certificates.certificate_validity(value),
                lambda value=value: certificates.expiries(value),
            ):
                try:
                    read()
                except ValueError:
                    continue


@given(st.binary(max_size=60))
def test_no_bytes_are_read_as_der_that_are_written_otherwise(content: bytes) -> None:
    try:
        found = der.elements(content)
    except der.DerError:
        return
    assert b"".join(der.write(one.tag, one.content) for one in found) == content


@given(st.text(max_size=100))
def test_no_text_is_more_than_no_csr(text: str) -> None:
    with pytest.raises(CsrInvalidError):
        csr.read_csr(text)
    with pytest.raises(CsrInvalidError):
        csr.read_csr(f"-----BEGIN CERTIFICATE REQUEST-----{text}-----END CERTIFICATE REQUEST-----")


# XML ----------------------------------------------------------------------------------------------

PIECES = (
    "<a>", "</a>", "<!DOCTYPE a>", "&x;", "&#0;", "\ud800", "\0", "<![CDATA[", "9" * 5_000, "-1",
    "<token/>", "<group/>", "<approval/>", "<policy/>", "<label/>", "\u0663", "<?xml?>", "",
)  # fmt: skip


def test_no_mutant_of_an_attestation_raises_anything_else() -> None:
    draw, xml = random.Random(5), str(ANSWER["xml"])
    places = [one.start() for one in re.finditer(r"[<>]", xml)]
    read = 0
    for _ in range(2_000):
        begin = draw.choice(places)
        end = draw.choice((begin, begin + draw.randint(1, 40), draw.choice(places)))
        mutant = xml[:begin] + draw.choice(PIECES) + xml[end:]
        try:
            attestation_xml.read(mutant)
            read += 1
        except ValueError:
            continue
    assert read > 10


# JSON ---------------------------------------------------------------------------------------------

ODD: list[Any] = [
    None, "", "usable", 0, -1, 10**400, 1.5, 1e300, True, [], [[]], {}, {"x": {}}, "\ud800", "\0",
    "A" * 5_000, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9" * 5_000, ADA.spki,
    [None], [[[[[[[[]]]]]]]], {"tokens": None}, {"tokens": [None]}, "MAA=", "AAAA",
]  # fmt: skip


def odd_answers(original: Any, number: int, seed: int) -> Iterator[Any]:
    """Answers of which one to three values, however deep, are something else or missing."""
    draw = random.Random(seed)
    for _ in range(number):
        changed = copy.deepcopy(original)
        for _ in range(draw.randint(1, 3)):
            holder: Any = changed
            while True:
                names = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
                if not names:
                    break
                name = draw.choice(names)
                inner = holder[name]
                if isinstance(inner, dict | list) and inner and draw.random() < 0.8:
                    holder = inner
                    continue
                if draw.random() < 0.2:
                    del holder[name]
                else:
                    holder[name] = draw.choice(ODD)
                break
        yield changed


def test_verification_answers_whatever_comes_back() -> None:
    found = dict.fromkeys(("passed", "failed", "unreadable"), 0)
    for content in odd_answers(ANSWER, 500, seed=6):
        try:
            answer = KeyAttributes.read(reply(content))
        except ValueError:
            found["unreadable"] += 1
            continue
        result = verified(answer)
        assert result.failed is None or result.failed.finding
        found["failed" if result.failed else "passed"] += 1
        # Unsigned, TSB's JSON alone: nothing may raise there either.
        checks.differences(answer, REQUESTED.key)
    assert min(found.values()) > 10


def test_a_request_s_status_is_read_or_refused() -> None:
    status = json.loads((SEED / "request-status.json").read_text())
    read = 0
    for content in odd_answers(status, 1_000, seed=7):
        try:
            answer = RequestStatus.read(reply(content))
        except ValueError:
            continue
        read += 1
        csr.check(answer.result or "", REQUESTED.csr, public_key=PUBLIC_KEY)
    assert read > 10


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 200_000, id="deeper than any stack"),
        pytest.param(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, id="objects, too"),
        pytest.param(b'"\\ud800"', id="half a character"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b"9" * 5_000, id="a number of 5,000 digits"),
        pytest.param(b"1e400", id="a number beyond all"),
        pytest.param(b"NaN", id="no number"),
        pytest.param(b'{"a": 1, "a": 2}', id="a name twice"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_json_of_tsb_is_one_kind_of_error(body: bytes) -> None:
    begun = time.process_time()

    with pytest.raises(ValueError, match=r".*"):
        Reply(status=200, body=body).json()

    assert time.process_time() - begun < 1


# Dates --------------------------------------------------------------------------------------------


@settings(max_examples=100)
@example("0001-01-01T00:00:00+14:00")
@example("9999-12-31T23:59:59-14:00")
@given(
    st.one_of(
        st.text(max_size=40),
        st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:00)"),
    )
)
def test_a_time_is_in_utc_or_none(text: str) -> None:
    try:
        moment = clocks.read(text)
    except ValueError:
        return
    assert moment.tzinfo is UTC
    assert m.timestamp(moment)
