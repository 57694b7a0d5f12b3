"""The HSM's word on a key: which chains, signatures and texts are believed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from countersign.tsb.models import KeyAttributes
from countersign.verification import attestation
from countersign.verification.attestation import Trust
from local.tsb_simulator import keys
from local.tsb_simulator.attestation import Attestation, Layout, make_attestation
from local.tsb_simulator.bodies import CreateKeyBody
from local.tsb_simulator.switches import Switches

NOW = datetime.now(UTC)
HSM = make_attestation()
APPROVER = keys.spki(ec.generate_private_key(ec.SECP256R1()).public_key())


def pinned(chain: list[x509.Certificate]) -> Trust:
    pem = "".join(one.public_bytes(Encoding.PEM).decode() for one in chain)
    return Trust(root_sha256=chain[-1].fingerprint(hashes.SHA256()).hex(), chain=pem)


GENUINE = pinned(x509.load_pem_x509_certificates("".join(HSM.chain).encode()))


def answer(signer: Attestation = HSM, layout: Layout = "flat") -> KeyAttributes:
    import base64
    import json

    approver = base64.b64encode(APPROVER).decode()
    approvals = [{"type": "public_key", "name": "<Ada & Co>", "value": approver}]
    token = {
        "name": "t",
        "timelock": 0,
        "timeout": 600,
        "groups": [{"name": "g", "quorum": 1, "approvals": approvals}],
    }
    body = CreateKeyBody.model_validate(
        {
            "label": "key <1>",
            "algorithm": "EC",
            "curveOid": "1.2.840.10045.3.1.7",
            "attributes": {"decrypt": False, "sign": True, "unwrap": False},
            "policy": {
                "ruleUse": {"tokens": [token]},
                "ruleModify": {"tokens": []},
                "keyStatus": {"blocked": False},
            },
        }
    )
    key = keys.create(body, NOW.timestamp(), Switches())
    return KeyAttributes.model_validate(
        json.loads(json.dumps(keys.answer(key, signer, NOW.timestamp(), layout)))
    )


def failed(
    said: KeyAttributes, trust: Trust = GENUINE, *, now: datetime = NOW, asked_at: Any = NOW
) -> list[str]:
    checks = attestation.check(said, trust, asked_at=asked_at, now=now)
    assert [one.code for one in checks] == list(attestation.CODES)
    return [one.code for one in checks if one.result == "failed"]


def signed(said: KeyAttributes, xml: str) -> KeyAttributes:
    """As if the HSM had said this."""
    return said.model_copy(update={"xml": xml, "xml_signature": HSM.sign(xml.encode())})


@pytest.mark.parametrize("layout", ["recorded", "flat"])
def test_the_hsm_s_own_word_is_believed(layout: Layout) -> None:
    assert failed(answer(layout=layout)) == []


def test_without_a_pinned_root_nothing_is_believed_and_nothing_fails() -> None:
    checks = attestation.check(answer(), Trust(), asked_at=NOW, now=NOW)

    assert {one.result for one in checks} == {"skipped"}


def certificate(
    subject: str, key: Any, issuer: str, signer: Any, *, ca: bool, days: int = 10
) -> x509.Certificate:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=20))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )


ROOT_KEY, MIDDLE_KEY, LEAF_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
ROOT = certificate("root", ROOT_KEY, "root", ROOT_KEY, ca=True)


def chain(*, middle_ca: bool = True, days: int = 10, signer: Any = MIDDLE_KEY) -> Trust:
    middle = certificate("middle", MIDDLE_KEY, "root", ROOT_KEY, ca=middle_ca)
    leaf = certificate("leaf", LEAF_KEY, "middle", signer, ca=False, days=days)
    return pinned([leaf, middle, ROOT])


def by_leaf() -> KeyAttributes:
    return answer(Attestation([], LEAF_KEY))


def test_a_longer_chain_is_followed() -> None:
    assert failed(by_leaf(), chain()) == []


@pytest.mark.parametrize(
    "trust",
    [
        pytest.param(chain(middle_ca=False), id="an issuer that is no CA"),
        pytest.param(chain(days=-1), id="expired"),
        pytest.param(chain(signer=LEAF_KEY), id="issued by another"),
        pytest.param(replace(chain(), root_sha256="0" * 64), id="another root pinned"),
    ],
)
def test_a_chain_that_does_not_hold_is_not_believed(trust: Trust) -> None:
    assert failed(by_leaf(), trust) == ["ATTESTATION_ROOT"]


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAA==\n-----END"])
def test_without_a_chain_nothing_is_believed(text: str) -> None:
    trust = replace(GENUINE, chain=text)

    assert failed(answer(), trust) == ["ATTESTATION_ROOT", "ATTESTATION_SIGNATURE"]


def test_an_rsa_attestation_key_is_one_too() -> None:
    from base64 import b64encode

    from cryptography.hazmat.primitives.asymmetric import padding

    key = rsa.generate_private_key(65537, 2048)
    said = answer()
    signature = key.sign((said.xml or "").encode(), padding.PKCS1v15(), hashes.SHA256())
    said = said.model_copy(update={"xml_signature": b64encode(signature).decode()})

    assert failed(said, pinned([certificate("root", key, "root", key, ca=True)])) == []


def test_a_changed_word_is_not_the_hsm_s() -> None:
    said = answer()
    changed = said.model_copy(update={"xml": (said.xml or "").replace("EC", "RSA", 1)})

    assert failed(changed)[0] == "ATTESTATION_SIGNATURE"


BOMB = '<!DOCTYPE a [<!ENTITY x "y">]>'


@pytest.mark.parametrize(
    "xml",
    [
        pytest.param("", id="nothing"),
        pytest.param("no XML", id="no XML"),
        pytest.param(f"{BOMB}<private_key><label>&x;</label></private_key>", id="entity"),
        pytest.param('<!DOCTYPE a SYSTEM "file:///etc/passwd"><private_key/>', id="external DTD"),
        pytest.param("<private_key>&undefined;</private_key>", id="undefined entity"),
    ],
)
def test_what_is_no_plain_xml_is_refused_unread(xml: str) -> None:
    assert "ATTESTATION_FORMAT" in failed(signed(answer(), xml))


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("key &lt;1&gt;", "key 2", "ATTESTATION_KEY"),
        ("<public_key>", "<public_key>AAAA", "ATTESTATION_KEY"),
        ("<algorithm>EC<", "<algorithm>RSA<", "ATTESTATION_ATTRIBUTES"),
        ("<key_size>256<", "<key_size>224<", "ATTESTATION_ATTRIBUTES"),
        ("<extractable>false<", "<extractable>true<", "ATTESTATION_ATTRIBUTES"),
        ("<neverExtractable>true</neverExtractable>", "", "ATTESTATION_ATTRIBUTES"),
        ('quorum="1"', 'quorum="0"', "ATTESTATION_POLICY"),
        ('timeout="600"', 'timeout="6000"', "ATTESTATION_POLICY"),
        ("<rule_modify></rule_modify>", "", "ATTESTATION_POLICY"),
        ("</attest_time>", "x</attest_time>", "ATTESTATION_TIME"),
    ],
)
def test_what_the_hsm_says_otherwise_than_tsb_is_named(old: str, new: str, code: str) -> None:
    said = answer()
    assert old in (said.xml or "")

    assert failed(signed(said, (said.xml or "").replace(old, new))) == [code]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("key &lt;1&gt;", "key 2", "ATTESTATION_KEY"),
        ("<public_key>", "<public_key>AAAA", "ATTESTATION_KEY"),
        ("<algorithm>EC<", "<algorithm>RSA<", "ATTESTATION_ATTRIBUTES"),
        ("<extractable>false<", "<extractable>true<", "ATTESTATION_ATTRIBUTES"),
        ("\t\t<never_extractable>true</never_extractable>\n", "", "ATTESTATION_ATTRIBUTES"),
        ("<quorum>1<", "<quorum>0<", "ATTESTATION_POLICY"),
        ("<timeout>600<", "<timeout>6000<", "ATTESTATION_POLICY"),
        ("<blocked>false<", "<blocked>true<", "ATTESTATION_POLICY"),
        ("\t\t<rule_modify>\n\t\t</rule_modify>\n", "", "ATTESTATION_POLICY"),
        ("</attest_time>", "x</attest_time>", "ATTESTATION_TIME"),
    ],
)
def test_it_is_named_in_the_recorded_layout_too(old: str, new: str, code: str) -> None:
    said = answer(layout="recorded")
    assert old in (said.xml or "")

    assert failed(signed(said, (said.xml or "").replace(old, new))) == [code]


def test_names_in_the_spelling_of_the_rest_of_the_xml_are_the_same_names() -> None:
    said = answer()
    xml = (said.xml or "").replace("neverExtractable", "never_extractable")

    assert failed(signed(said, xml)) == []


def test_an_attestation_from_before_the_approval_was_asked_for_is_not_believed() -> None:
    assert failed(answer(), asked_at=NOW + timedelta(minutes=5)) == ["ATTESTATION_TIME"]


@pytest.mark.parametrize(("late", "old"), [(299, False), (301, True)])
def test_an_attestation_may_be_older_by_as_much_as_a_clock_may_be_off(late: int, old: bool) -> None:
    asked_at = NOW + timedelta(seconds=late)

    assert failed(answer(), asked_at=asked_at) == (["ATTESTATION_TIME"] if old else [])
    assert (
        failed(answer(), replace(GENUINE, clock_skew=timedelta(seconds=900)), asked_at=asked_at)
        == []
    )
