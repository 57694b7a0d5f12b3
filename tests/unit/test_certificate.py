"""What certificates say, and that nothing from outside passes for one that was asked for."""

import base64
import json
import random
from copy import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from countersign import models as m
from countersign import polling
from countersign.policy import rules
from countersign.states import schedules
from countersign.tsb.models import CertificateOfKey, Reply
from countersign.verification import certificate, csr
from countersign.verification.certificate import Asked
from local.tsb_simulator import certificates, keys
from local.tsb_simulator.bodies import CreateKeyBody, CsrBody, SelfSignBody, SignCertificateBody
from local.tsb_simulator.switches import Switches

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SWITCHES = Switches()
# The vendor's own, of the tutorial's third page: one line, serial number 0, usages missing.
USAGES: dict[str, Any] = {
    "keyUsage": ["DIGITAL_SIGNATURE"],
    "extendedKeyUsage": ["ANY_EXTENDED_KEY_USAGE"],
}


@cache
def key(label: str) -> keys.HsmKey:
    attributes = {"decrypt": False, "sign": True, "unwrap": False}
    body = {
        "label": label,
        "algorithm": "EC",
        "curveOid": "1.2.840.10045.3.1.7",
        "attributes": attributes,
    }
    made = keys.create(CreateKeyBody.model_validate(body), NOW.timestamp(), SWITCHES)
    if label == "ca":
        own = {
            "signKeyName": "ca",
            "signatureAlgorithm": "SHA256_WITH_ECDSA",
            "commonName": "CA",
            "certificateAuthority": True,
            "validity": 3650,
            "keyUsage": ["KEY_CERT_SIGN"],
        }
        body_ = SelfSignBody.model_validate(own)
        certificates.self_sign(made, body_, NOW.timestamp(), SWITCHES)
    return made


@cache
def request_pem() -> str:
    body = CsrBody.model_validate(
        {
            "signKeyName": "sub",
            "signatureAlgorithm": "SHA256_WITH_ECDSA",
            "standardCertificateAttributes": {"commonName": "Sub"},
            **USAGES,
        }
    )
    info = certificates.request_info(key("sub"), body, SWITCHES)
    return certificates.csr(key("sub"), info, body.signature_algorithm)


def issued(switches: Switches = SWITCHES, **different: Any) -> str:
    body = {
        "signKeyName": "ca",
        "signatureAlgorithm": "SHA256_WITH_ECDSA",
        "commonName": "Sub",
        "certificateSigningRequest": request_pem(),
        **USAGES,
        **different,
    }
    inner = SignCertificateBody.model_validate(body)
    return certificates.issue(key("ca"), inner, NOW.timestamp(), switches)


def asked(**different: Any) -> Asked:
    terms = {"caKeyLabel": "ca", "validity": 90, **USAGES, **different}
    return Asked(
        requested=m.CertificateRequest.read(terms),
        csr_request=m.CsrRequest.read(
            {
                "signatureAlgorithm": "SHA256_WITH_ECDSA",
                "standardCertificateAttributes": {"commonName": "Sub"},
            }
        ),
        csr=csr.read(request_pem()),
        ca=certificate.parse(key("ca").certificate or b""),
        ca_public_key=key("ca").spki,
        signature_algorithm="SHA256_WITH_ECDSA",
        made_at=NOW,
    )


def failed(pem: str, compared: Asked | None = None) -> set[str]:
    _, checks = certificate.check(pem, compared or asked())
    return {one.code for one in checks if one.result == "failed"}


def test_what_a_sound_engine_signs_passes() -> None:
    assert failed(issued()) == set()
    assert failed(issued(certificateAuthority=True, keyUsage=["KEY_CERT_SIGN"]), asked(
        certificateAuthority=True, keyUsage=["KEY_CERT_SIGN"]
    )) == set()  # fmt: skip


def test_usages_that_are_left_out_are_the_csr_s() -> None:
    terms = m.CertificateRequest.read({"caKeyLabel": "ca", "validity": 90})
    usages = m.CsrRequest.read(
        {
            "signatureAlgorithm": "x",
            "standardCertificateAttributes": {"commonName": "Sub"},
            **USAGES,
        }
    )

    assert failed(issued(), replace(asked(), requested=terms, csr_request=usages)) == set()


def test_the_documents_own_sample_is_read_and_refused_for_its_true_reasons() -> None:
    """Its form: one line, serial 0, from midnight on, usages missing, issuer CN=CA-Key."""
    sample = issued(
        Switches(
            issued_pem="oneLine",
            issued_serial="zero",
            issued_start="midnight",
            issued_usages="missing",
            issued_issuer="other",
        )
    )

    usages = {"CERTIFICATE_KEY_USAGE", "CERTIFICATE_EXTENDED_KEY_USAGE"}
    assert failed(sample) == usages | {"CERTIFICATE_ISSUER"}
    assert failed(sample, replace(asked(), usages_omitted=True)) == {"CERTIFICATE_ISSUER"}


def test_a_time_of_any_year_is_read() -> None:
    """RFC 5280, 4.1.2.5: UTCTime until 2049, GeneralizedTime from 2050 on."""
    own = SelfSignBody.model_validate(
        {
            "signKeyName": "ca",
            "signatureAlgorithm": "SHA256_WITH_ECDSA",
            "commonName": "CA",
            "validity": 36_500,
        }
    )
    made = keys.create(
        CreateKeyBody.model_validate(
            {
                "label": "x",
                "algorithm": "EC",
                "curveOid": "1.2.840.10045.3.1.7",
                "attributes": {"decrypt": False, "sign": True, "unwrap": False},
            }
        ),
        NOW.timestamp(),
        SWITCHES,
    )
    found = certificate.read(certificates.self_sign(made, own, NOW.timestamp(), SWITCHES))

    assert found.begins == NOW
    assert found.ends == NOW + timedelta(days=36_500)


@settings(deadline=None, max_examples=300)
@given(seed=st.integers(0, 2**32))
def test_no_changed_byte_passes(seed: int) -> None:
    draw, content = random.Random(seed), bytearray(certificate.read(issued()).der)  # noqa: S311
    for _ in range(draw.randint(1, 3)):
        match draw.randrange(3):
            case 0:
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            case 1:
                del content[draw.randrange(len(content))]
            case _:
                content.insert(draw.randrange(len(content)), draw.randrange(256))
    whole = base64.b64encode(bytes(content)).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{whole}\n-----END CERTIFICATE-----"

    _, checks = certificate.check(pem, asked())
    assert any(one.result == "failed" for one in checks)


@settings(deadline=None)
@given(text=st.text() | st.binary().map(lambda one: one.decode("latin-1")))
def test_whatever_stands_there_is_no_certificate(text: str) -> None:
    assert failed(text) == {"CERTIFICATE_FORMAT"}
    assert failed(f"-----BEGIN CERTIFICATE-----{text}-----END CERTIFICATE-----") == {
        "CERTIFICATE_FORMAT"
    }


@settings(deadline=None)
@given(content=st.binary())
def test_whatever_tsb_holds_for_a_ca_is_read_or_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="is no X.509 certificate"):
        certificate.parse(content)


@pytest.mark.parametrize("form", ["pem", "one line", "base64"])
def test_the_certificate_of_a_key_is_read_in_every_form(form: str) -> None:
    pem = issued()
    body = "".join(pem.splitlines()[1:-1])
    text = {
        "pem": pem,
        "one line": f"-----BEGIN CERTIFICATE-----{body}-----END CERTIFICATE-----",
        "base64": body,
    }[form]
    reply = Reply(200, json.dumps({"label": "ca", "certificate": text}).encode())

    assert CertificateOfKey.read(reply).der == base64.b64decode(body)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"certificateAuthority": False}, "is no CA's"),
        ({"keyUsage": ["DIGITAL_SIGNATURE"]}, "may not sign certificates"),
    ],
)
def test_a_certificate_that_is_no_ca_s(changes: dict[str, Any], why: str) -> None:
    own = {
        "signKeyName": "ca",
        "signatureAlgorithm": "SHA256_WITH_ECDSA",
        "commonName": "CA",
        "certificateAuthority": True,
        **changes,
    }
    pem = certificates.self_sign(
        replace(key("ca")), SelfSignBody.model_validate(own), NOW.timestamp(), SWITCHES
    )

    assert why in (certificate.unfit_ca(certificate.read(pem), key("ca").spki, NOW) or "")


def test_a_ca_counts_within_its_validity_and_for_its_own_key_only() -> None:
    ca = certificate.parse(key("ca").certificate or b"")

    assert certificate.unfit_ca(ca, key("ca").spki, NOW) is None
    assert "another key" in (certificate.unfit_ca(ca, key("sub").spki, NOW) or "")
    assert "expired" in (
        certificate.unfit_ca(ca, key("ca").spki, ca.ends + timedelta(seconds=1)) or ""
    )
    assert "before" in (
        certificate.unfit_ca(ca, key("ca").spki, ca.begins - timedelta(hours=1)) or ""
    )


def ca_certificate(
    issuer: str, *, signer: str, form: _ASN1Type = _ASN1Type.UTF8String
) -> certificate.Certificate:
    """A certificate of the CA's key and name, by whomever."""
    own = x509.load_der_x509_certificate(key("ca").certificate or b"")
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer, form)])
    made = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(named)
        .public_key(own.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=9000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    signed = made.sign(key(signer).private, hashes.SHA256())
    return certificate.parse(signed.public_bytes(Encoding.DER))


def test_a_ca_that_names_itself_as_its_issuer_has_signed_its_certificate() -> None:
    ca = certificate.parse(key("ca").certificate or b"")
    spoiled = replace(ca, signature=ca.signature[:-1] + bytes((ca.signature[-1] ^ 1,)))
    again = ca_certificate("CA", signer="ca")

    assert ca.self_issued
    assert "its signature" in (certificate.unfit_ca(spoiled, key("ca").spki, NOW) or "")
    assert certificate.unfit_ca(again, key("ca").spki, NOW) is None
    algorithms = certificate.unfit_ca(replace(ca, inner=b""), key("ca").spki, NOW)
    assert "two signature algorithms" in (algorithms or "")


@pytest.mark.parametrize("form", [_ASN1Type.UTF8String, _ASN1Type.PrintableString])
def test_a_name_is_the_ca_s_own_in_whatever_type_it_is_written(form: _ASN1Type) -> None:
    forged = ca_certificate("CA", signer="sub", form=form)

    assert forged.self_issued
    assert "its signature" in (certificate.unfit_ca(forged, key("ca").spki, NOW) or "")


def test_who_else_signed_a_ca_s_certificate_is_unknown() -> None:
    found = ca_certificate("Another CA", signer="sub")

    assert not found.self_issued
    assert certificate.unfit_ca(found, key("ca").spki, NOW) is None


# Two quorums in one execution ---------------------------------------------------------------------


def token(timeout: int) -> m.Token:
    return m.Token(name="t", timelock=0, timeout=timeout, groups=None)


@pytest.mark.parametrize("days", [1, 30, 160])
def test_the_polls_of_two_waits_fit_one_history(days: int) -> None:
    """500 wakes and all polls of both, at 13 events a turn, and the states around them."""
    stack = polling.Schedule(0, 0, floor_seconds=60, cap_seconds=60)
    polls = 0
    for _ in range(2):
        found = schedules.schedule([token(days * 86_400)], stack, is_one_of_two=True)
        age = polling.FIRST_SECONDS
        while age < found.last_age:
            polls += 1
            age += polling.next_wait(found, age)

    assert (polls + 500) * 13 + 500 < 25_000


def test_two_windows_must_fit_one_execution() -> None:
    day = 86_400
    half = [token(150 * day)]

    assert not rules.too_long_together(half, half, polling.DEADLINE_SECONDS)
    assert rules.too_long_together([token(200 * day)], half, polling.DEADLINE_SECONDS)
    assert rules.too_long_together([token(0)], [token(340 * day)], polling.DEADLINE_SECONDS)
