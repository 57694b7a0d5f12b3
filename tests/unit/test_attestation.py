"""The HSM's word on a key: which chains, signatures and texts are believed."""

import base64
import json
import re
from copy import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from countersign.models import KeyRequest
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


def asked_for() -> dict[str, Any]:
    approver = base64.b64encode(APPROVER).decode()
    approvals = [{"type": "public_key", "name": "<Ada & Co>", "value": approver}]
    token = {
        "name": "t",
        "timelock": 0,
        "timeout": 600,
        "groups": [{"name": "g", "quorum": 1, "approvals": approvals}],
    }
    return {
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


ASKED = KeyRequest.model_validate(asked_for())


def answer(signer: Attestation = HSM, layout: Layout = "flat") -> KeyAttributes:
    body = CreateKeyBody.model_validate(asked_for())
    key = keys.create(body, NOW.timestamp(), Switches())
    return KeyAttributes.model_validate(
        json.loads(json.dumps(keys.answer(key, signer, NOW.timestamp(), layout)))
    )


def failed(
    said: KeyAttributes, trust: Trust = GENUINE, *, now: datetime = NOW, asked_at: Any = NOW
) -> list[str]:
    checks = attestation.check(
        said, trust, requested=ASKED, created_at=None, asked_at=asked_at, now=now
    )
    assert [one.code for one in checks] == list(attestation.CODES)
    return [one.code for one in checks if one.result == "failed"]


def signed(said: KeyAttributes, xml: str) -> KeyAttributes:
    """As if the HSM had said this."""
    return said.model_copy(
        update={"xml": xml, "xml_signature": HSM.sign(xml.encode(errors="replace"))}
    )


@pytest.mark.parametrize("layout", ["recorded", "flat"])
def test_the_hsm_s_own_word_is_believed(layout: Layout) -> None:
    assert failed(answer(layout=layout)) == []


def results(said: KeyAttributes) -> dict[str, str]:
    """By code, without a pinned root."""
    checks = attestation.check(
        said, Trust(), requested=ASKED, created_at=None, asked_at=NOW, now=NOW
    )
    return {one.code: one.result for one in checks}


def test_without_a_pinned_root_nobody_is_believed_and_what_is_said_is_compared() -> None:
    said = answer()
    signer = dict.fromkeys(("ATTESTATION_ROOT", "ATTESTATION_SIGNATURE"), "skipped")
    other = said.model_copy(update={"xml": (said.xml or "").replace("</label>", "2</label>")})

    assert results(said) == dict.fromkeys(attestation.CODES, "passed") | signer
    assert results(other) == results(said) | {"ATTESTATION_KEY": "failed"}


@pytest.mark.parametrize("xml", [None, "", "<other/>", "no XML"])
def test_without_a_pinned_root_an_attestation_that_nobody_can_read_fails_nothing(
    xml: str | None,
) -> None:
    said = answer().model_copy(update={"xml": xml})

    assert results(said) == dict.fromkeys(attestation.CODES, "skipped")


def certificate(
    subject: str,
    key: Any,
    issuer: str,
    signer: Any,
    *,
    ca: bool,
    days: int = 10,
    path_length: int | None = None,
    more: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    digest: Any = hashes.SHA256,
    **how: Any,
) -> x509.Certificate:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=20))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    )
    for value, critical in more:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(signer, digest(), **how)


ROOT_KEY, MIDDLE_KEY, LEAF_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
ROOT = certificate("root", ROOT_KEY, "root", ROOT_KEY, ca=True)


def chain(
    *,
    middle: Any = MIDDLE_KEY,
    root: Any = ROOT_KEY,
    signer: Any = None,
    leaf: Any = LEAF_KEY,
    of_leaf: Any = (),
    of_middle: Any = (),
    of_root: Any = (),
    middle_ca: bool = True,
    path_length: int | None = None,
    days: int = 10,
    digest: Any = hashes.SHA256,
    extra: tuple[x509.Certificate, ...] = (),
    **how: Any,
) -> Trust:
    """Leaf, middle and root; whatever is not said is as it should be."""
    top = certificate("root", root, "root", root, ca=True, more=of_root, path_length=path_length)
    between = certificate("middle", middle, "root", root, ca=middle_ca, more=of_middle)
    last = certificate(
        "leaf",
        leaf,
        "middle",
        signer or middle,
        ca=False,
        days=days,
        more=of_leaf,
        digest=digest,
        **how,
    )
    return pinned([last, *extra, between, top])


def usage(**bits: bool) -> x509.KeyUsage:
    names = [
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    ]  # fmt: skip
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names})


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
ELSEWHERE = x509.NameConstraints(
    permitted_subtrees=[x509.DirectoryName(x509.Name([]))], excluded_subtrees=None
)
WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505  that is the point
STRONG = rsa.generate_private_key(65537, 2048)


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
        pytest.param(chain(path_length=0), id="longer than the root allows"),
        pytest.param(
            chain(of_middle=((usage(crl_sign=True), True),)), id="an issuer that may not issue"
        ),
        pytest.param(
            chain(of_leaf=((usage(key_encipherment=True), True),)), id="a key that may not sign"
        ),
        pytest.param(chain(of_middle=((UNKNOWN, True),)), id="an issuer with unknown conditions"),
        pytest.param(chain(of_leaf=((UNKNOWN, True),)), id="a key with unknown conditions"),
        pytest.param(chain(of_root=((UNKNOWN, True),)), id="a root with unknown conditions"),
        pytest.param(chain(of_middle=((ELSEWHERE, True),)), id="names that it may not certify"),
        pytest.param(chain(middle=WEAK), id="a weak issuer"),
        pytest.param(chain(root=WEAK), id="a weak root"),
        pytest.param(chain(middle=STRONG, digest=hashes.SHA224), id="a hash that is too short"),
        pytest.param(chain(extra=(ROOT,)), id="one that does not belong to it"),
    ],
)
def test_a_chain_that_does_not_hold_is_not_believed(trust: Trust) -> None:
    assert failed(by_leaf(), trust) == ["ATTESTATION_ROOT"]


@pytest.mark.parametrize(
    "text", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAA==\n-----END", "\ud800"]
)
def test_without_a_chain_nothing_is_believed(text: str) -> None:
    trust = replace(GENUINE, chain=text)

    assert failed(answer(), trust) == ["ATTESTATION_ROOT", "ATTESTATION_SIGNATURE"]


PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
P521, ED = ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    ("key", "how"),
    [
        pytest.param(STRONG, (padding.PKCS1v15(), hashes.SHA256()), id="RSA"),
        pytest.param(STRONG, (PSS, hashes.SHA256()), id="RSA with PSS"),
        pytest.param(STRONG, (padding.PKCS1v15(), hashes.SHA512()), id="RSA with SHA-512"),
        pytest.param(P521, (ec.ECDSA(hashes.SHA512()),), id="P-521"),
        pytest.param(ED, (), id="Ed25519"),
    ],
)
def test_an_attestation_key_of_each_plausible_kind_is_believed(key: Any, how: Any) -> None:
    said = answer()
    signature = key.sign((said.xml or "").encode(), *how)
    said = said.model_copy(update={"xml_signature": base64.b64encode(signature).decode()})

    assert failed(said, chain(leaf=key)) == []
    assert failed(said, chain()) == ["ATTESTATION_SIGNATURE"]


def test_a_chain_signed_with_pss_is_followed() -> None:
    assert failed(by_leaf(), chain(middle=STRONG, rsa_padding=PSS)) == []


def test_usages_that_fit_are_followed() -> None:
    trust = chain(
        of_leaf=((usage(digital_signature=True), True),),
        of_middle=((usage(key_cert_sign=True, crl_sign=True), True),),
    )

    assert failed(by_leaf(), trust) == []


def test_the_root_itself_may_be_the_attestation_key() -> None:
    said = answer(Attestation([], STRONG))

    assert failed(said, pinned([certificate("root", STRONG, "root", STRONG, ca=True)])) == []


def test_a_weak_attestation_key_is_not_believed() -> None:
    assert failed(answer(Attestation([], WEAK)), chain(leaf=WEAK)) == ["ATTESTATION_ROOT"]


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
        pytest.param("<public_key/>", id="about something else"),
        pytest.param("<private_key>\ud800</private_key>", id="half a character"),
        pytest.param("<private_key>" + "<a>" * 40 + "</a>" * 40 + "</private_key>", id="too deep"),
        pytest.param("<a>" * 100_000, id="deeper than any stack"),
        pytest.param("<private_key>" + " " * 5_000_000 + "</private_key>", id="too large"),
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
        ('creation="generated"', 'creation="imported"', "ATTESTATION_CREATION"),
        ("<curve_oid>1.2.840.10045.3.1.7<", "<curve_oid>1.3.132.0.34<", "ATTESTATION_ATTRIBUTES"),
        ("<derive>false<", "<derive>true<", "ATTESTATION_ATTRIBUTES"),
        ("\t\t<unwrap>false</unwrap>\n", "", "ATTESTATION_ATTRIBUTES"),
        ("\t\t<copyable>false</copyable>\n", "", "ATTESTATION_ATTRIBUTES"),
        ("<timeout>600<", "<timeout>" + "6" * 5_000 + "<", "ATTESTATION_FORMAT"),
        ("<timeout>600<", "<timeout>6\u0660\u0660<", "ATTESTATION_FORMAT"),
        ("<quorum>1<", "<quorum>-1<", "ATTESTATION_FORMAT"),
        ("<blocked>false<", "<blocked>no<", "ATTESTATION_FORMAT"),
        ("</label>", "</label><label>key 2</label>", "ATTESTATION_FORMAT"),
        ("<sign>true</sign>", "<sign>true</sign><si_gn>false</si_gn>", "ATTESTATION_FORMAT"),
    ],
)
def test_it_is_named_in_the_recorded_layout_too(old: str, new: str, code: str) -> None:
    said = answer(layout="recorded")
    assert old in (said.xml or "")

    assert failed(signed(said, (said.xml or "").replace(old, new))) == [code]


@pytest.mark.parametrize("name", ["derive", "unwrap", "decrypt", "copyable"])
def test_what_tsb_leaves_open_is_compared_with_what_was_asked(name: str) -> None:
    said = answer(layout="recorded")
    attributes = {**said.key.attributes, name: None}
    said = said.model_copy(update={"key": said.key.model_copy(update={"attributes": attributes})})
    tag = f"<{name}>false<"
    assert tag in (said.xml or "")

    assert failed(said) == []
    assert failed(signed(said, (said.xml or "").replace(tag, f"<{name}>true<"))) == [
        "ATTESTATION_ATTRIBUTES"
    ]


def also(name: str, value: str = "true") -> KeyAttributes:
    """The HSM attests one more attribute."""
    said = answer(layout="recorded")
    more = f"<{name}>{value}</{name}>\n\t</attributes>"
    return signed(said, (said.xml or "").replace("</attributes>", more))


@pytest.mark.parametrize("name", ["encrypt", "verify", "wrap", "sign_recover"])
def test_what_nobody_asked_for_is_not_granted(name: str) -> None:
    assert failed(also(name, "false")) == []
    for granted in ("true", "TRUE", "1", "yes"):
        assert failed(also(name, granted)) == ["ATTESTATION_ATTRIBUTES"]


def test_what_an_hsm_grants_by_itself_can_be_asked_for() -> None:
    asked = {**asked_for(), "attributes": {**asked_for()["attributes"], "verify": True}}
    requested = KeyRequest.model_validate(asked)

    for said in (also("verify"), answer(layout="recorded")):
        found = attestation.check(
            said, GENUINE, requested=requested, created_at=None, asked_at=NOW, now=NOW
        )
        assert {one.result for one in found} == {"passed"}


@pytest.mark.parametrize("name", ["local", "token", "private", "wrap_with_trusted"])
def test_what_lets_a_key_do_nothing_more_need_not_be_asked_for(name: str) -> None:
    assert failed(also(name)) == []


@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-01-01T00:00:00",
        "",
        "0" * 9_999,
    ],
)
def test_a_time_that_is_none_is_named(time: str) -> None:
    said = answer(layout="recorded")
    xml = re.sub(r"(?<=<attest_time>)[^<]*", time, said.xml or "")

    assert failed(signed(said, xml)) == ["ATTESTATION_TIME"]


def test_names_in_the_spelling_of_the_rest_of_the_xml_are_the_same_names() -> None:
    said = answer()
    xml = (said.xml or "").replace("neverExtractable", "never_extractable")

    assert failed(signed(said, xml)) == []


def test_an_attestation_from_before_the_approval_was_asked_for_is_not_believed() -> None:
    assert failed(answer(), asked_at=NOW + timedelta(minutes=5)) == ["ATTESTATION_TIME"]


@pytest.mark.parametrize(
    ("early", "ahead", "is_to_come"),
    [(299, 0, False), (301, 0, True), (599, 300, False), (601, 300, True), (299, -300, False)],
)
def test_an_attestation_of_a_time_to_come_is_none_yet(
    early: int, ahead: int, is_to_come: bool
) -> None:
    found = attestation.check(
        answer(),
        GENUINE,
        requested=ASKED,
        created_at=None,
        asked_at=None,
        now=NOW.replace(microsecond=0) - timedelta(seconds=early),
        ahead=timedelta(seconds=ahead),
    )

    # The chain has not begun by then, either.
    (time,) = (one for one in found if one.code == "ATTESTATION_TIME")
    assert (time.result == "failed") is is_to_come


@pytest.mark.parametrize(("late", "old"), [(299, False), (301, True)])
def test_an_attestation_may_be_older_by_as_much_as_a_clock_may_be_off(late: int, old: bool) -> None:
    asked_at = NOW + timedelta(seconds=late)

    assert failed(answer(), asked_at=asked_at) == (["ATTESTATION_TIME"] if old else [])
    assert (
        failed(answer(), replace(GENUINE, clock_skew=timedelta(seconds=900)), asked_at=asked_at)
        == []
    )
