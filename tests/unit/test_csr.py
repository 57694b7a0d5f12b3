"""Reading a CSR, comparing it with what was asked, and the keys of approvers."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from countersign.errors import CsrInvalidError
from countersign.models import Check, CsrRequest
from countersign.policy import certificates
from countersign.verification import csr

SEED = Path(__file__).parents[2] / "events/seed"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()

type Builder = x509.CertificateSigningRequestBuilder


def spki(private_key: Any) -> str:
    public = private_key.public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def name(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(*one) for one in attributes])


def key_usage(*usages: str) -> x509.KeyUsage:
    fields = [
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    ]  # fmt: skip
    return x509.KeyUsage(**{field: field in usages for field in fields})


def builder(subject: x509.Name | None = None) -> Builder:
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name((NameOID.COMMON_NAME, "example")) if subject is None else subject)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=True)
        .add_extension(key_usage("digital_signature"), critical=True)
    )


def pem(made: x509.CertificateSigningRequest) -> str:
    return made.public_bytes(Encoding.PEM).decode()


def requested(**different: Any) -> CsrRequest:
    return CsrRequest.read(
        {
            "signatureAlgorithm": "SHA256_WITH_ECDSA",
            "standardCertificateAttributes": {"commonName": "example"},
            "keyUsage": ["DIGITAL_SIGNATURE"],
            "extendedKeyUsage": ["CODE_SIGNING"],
            **different,
        }
    )


def failed(text: str, *, public_key: str | None = None, **different: Any) -> list[Check]:
    _, checks = csr.check(text, requested(**different), public_key=public_key or spki(EC))
    return [one for one in checks if one.result == "failed"]


def vendors_csr() -> str:
    return str(json.loads((SEED / "request-status.json").read_text())["result"])


def test_the_vendor_s_own_csr_is_read() -> None:
    found = csr.read_csr(vendors_csr())

    assert found.subject == "CN=Approver-Intermediate-SUB"
    assert found.key == "RSA 2048"
    assert found.key_usage == ("DIGITAL_SIGNATURE",)
    assert found.extended_key_usage == ("CODE_SIGNING",)
    assert found.pem.startswith("-----BEGIN CERTIFICATE REQUEST-----\n")


def test_the_vendor_s_own_csr_is_what_its_own_body_asks_for() -> None:
    body = json.loads((SEED / "csr-request.json").read_text())["csrSignRequest"]
    made = x509.load_pem_x509_csr(vendors_csr().encode())
    public = made.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    found, checks = csr.check(
        vendors_csr(), CsrRequest.read(body), public_key=base64.b64encode(public).decode()
    )

    assert {one.result for one in checks} == {"passed"}
    assert found == csr.read_csr(vendors_csr())


@pytest.mark.parametrize(
    ("key", "algorithm", "sign"),
    [
        (RSA, "SHA256_WITH_RSA", lambda one: one.sign(RSA, hashes.SHA256())),
        (RSA, "SHA512_WITH_RSA", lambda one: one.sign(RSA, hashes.SHA512())),
        (
            RSA,
            "SHA256_WITH_RSA_PSS",
            lambda one: one.sign(
                RSA, hashes.SHA256(), rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32)
            ),
        ),
        (EC, "SHA384_WITH_ECDSA", lambda one: one.sign(EC, hashes.SHA384())),
        (
            EC,
            "SHA256_WITH_ECDSA_DETERMINISTIC",
            lambda one: one.sign(EC, hashes.SHA256(), ecdsa_deterministic=True),
        ),
        (ED, "EDDSA", lambda one: one.sign(ED, None)),
    ],
)
def test_each_algorithm_is_recognised_and_no_other_passes_for_it(
    key: Any, algorithm: str, sign: Callable[[Builder], x509.CertificateSigningRequest]
) -> None:
    made = pem(sign(builder()))

    assert not failed(made, public_key=spki(key), signatureAlgorithm=algorithm)
    (other,) = failed(made, public_key=spki(key), signatureAlgorithm="SHA3256_WITH_RSA")
    assert other.code == "CSR_SIGNATURE_ALGORITHM"


SIGNED = builder().sign(EC, hashes.SHA256())


def altered(change: Callable[[Builder], Builder], subject: x509.Name | None = None) -> str:
    return pem(change(builder(subject)).sign(EC, hashes.SHA256()))


def tampered() -> str:
    der = bytearray(SIGNED.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return armour(bytes(der))


def armour(der: bytes, header: str = "CERTIFICATE REQUEST") -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {header}-----\n{body}-----END {header}-----\n"


def usages(*extensions: tuple[x509.ExtensionType, bool]) -> str:
    made = x509.CertificateSigningRequestBuilder().subject_name(
        name((NameOID.COMMON_NAME, "example"))
    )
    for value, critical in extensions:
        made = made.add_extension(value, critical=critical)
    return pem(made.sign(EC, hashes.SHA256()))


KU = key_usage("digital_signature")
EKU = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
FORGED = {
    "another key": (pem(builder().sign(OTHER, hashes.SHA256())), "publicKey"),
    "tampered": (tampered(), "signature"),
    "other subject": (
        altered(lambda one: one, name((NameOID.COMMON_NAME, "other"))),
        "subject.commonName",
    ),
    "more subject": (
        altered(
            lambda one: one, name((NameOID.COMMON_NAME, "example"), (NameOID.COUNTRY_NAME, "CH"))
        ),
        "subject.country",
    ),
    "unknown attribute": (
        altered(
            lambda one: one, name((NameOID.COMMON_NAME, "example"), (NameOID.DN_QUALIFIER, "x"))
        ),
        "subject.2.5.4.46",
    ),
    "twice the same": (
        altered(
            lambda one: one,
            name((NameOID.COMMON_NAME, "example"), (NameOID.COMMON_NAME, "example")),
        ),
        "subject.commonName",
    ),
    "a challenge password": (
        altered(lambda one: one.add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"secret")),
        "attributes",
    ),
    "empty subject": (altered(lambda one: one, name()), "subject.commonName"),
    "alternative names": (
        altered(
            lambda one: one.add_extension(
                x509.SubjectAlternativeName([x509.DNSName("example.com")]), critical=False
            )
        ),
        "subjectAlternativeNames",
    ),
    "a CA": (
        altered(
            lambda one: one.add_extension(
                x509.BasicConstraints(ca=True, path_length=None), critical=True
            )
        ),
        "basicConstraints",
    ),
    "unknown extension": (
        altered(
            lambda one: one.add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
                critical=False,
            )
        ),
        "extensions",
    ),
    "identifier of another key": (
        altered(
            lambda one: one.add_extension(
                x509.SubjectKeyIdentifier.from_public_key(OTHER.public_key()), critical=False
            )
        ),
        "subjectKeyIdentifier",
    ),
    "no key usage": (usages((EKU, True)), "keyUsage"),
    "other key usage": (usages((EKU, True), (key_usage("key_cert_sign"), True)), "keyUsage"),
    "more key usage": (
        usages((EKU, True), (key_usage("digital_signature", "crl_sign"), True)),
        "keyUsage",
    ),
    "key usage not critical": (usages((EKU, True), (KU, False)), "keyUsage"),
    "extended usage not critical": (usages((EKU, False), (KU, True)), "extendedKeyUsage"),
    "no extended usage": (usages((KU, True)), "extendedKeyUsage"),
    "unknown extended usage": (
        usages((x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.2.3")]), True), (KU, True)),
        "extendedKeyUsage",
    ),
    "nothing": ("", "pem"),
    "no PEM": ("approved, thank you", "pem"),
    "a certificate's header": (armour(SIGNED.public_bytes(Encoding.DER), "CERTIFICATE"), "pem"),
    "two CSRs": (pem(SIGNED) * 2, "pem"),
    "trailing bytes": (armour(SIGNED.public_bytes(Encoding.DER) + b"\0"), "pem"),
    "no base64": (
        "-----BEGIN CERTIFICATE REQUEST-----\nA\n-----END CERTIFICATE REQUEST-----",
        "pem",
    ),
    "no DER": (armour(b"nonsense"), "pem"),
    "too long": (pem(SIGNED) + " " * 70_000, "pem"),
}


@pytest.mark.parametrize("what", FORGED)
def test_what_is_not_as_asked_is_refused_with_its_field(what: str) -> None:
    text, field = FORGED[what]

    assert failed(text)[0].field == field


CN_AND_C = {"commonName": "example", "country": "CH"}


def test_the_subject_is_in_tsb_s_order_one_attribute_after_another() -> None:
    cn, c = (NameOID.COMMON_NAME, "example"), (NameOID.COUNTRY_NAME, "CH")
    together = x509.RelativeDistinguishedName([x509.NameAttribute(*cn), x509.NameAttribute(*c)])
    in_order, reversed_, in_one = name(c, cn), name(cn, c), x509.Name([together])

    def codes(subject: x509.Name) -> list[str]:
        text = altered(lambda one: one, subject)
        return [one.code for one in failed(text, standardCertificateAttributes=CN_AND_C)]

    assert codes(in_order) == []
    assert codes(reversed_) == ["CSR_SUBJECT_ORDER"]
    assert codes(in_one) == ["CSR_SUBJECT_ORDER"]


def test_every_check_is_made_whatever_failed_before() -> None:
    # Another key, another subject, a SAN: three findings, not the first of them.
    text = pem(
        builder(name((NameOID.COMMON_NAME, "other")))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("example.com")]), critical=False)
        .sign(OTHER, hashes.SHA256())
    )

    assert [one.code for one in failed(text)] == [
        "CSR_PUBLIC_KEY",
        "CSR_SUBJECT_VALUE",
        "CSR_ALTERNATIVE_NAMES",
    ]


def test_where_there_is_no_csr_the_other_checks_are_skipped() -> None:
    found, checks = csr.check("approved, thank you", requested(), public_key=spki(EC))

    assert found is None
    assert (checks[0].code, checks[0].result) == ("CSR_FORMAT", "failed")
    assert {one.result for one in checks[1:]} == {"skipped"}
    assert [one.code for one in checks[1:]] == list(csr.CHECKS)


def test_what_is_as_asked_passes_with_either_header() -> None:
    der = SIGNED.public_bytes(Encoding.DER)

    assert not failed(armour(der))
    assert not failed(armour(der, "NEW CERTIFICATE REQUEST"))
    assert csr.read_csr(armour(der)) == csr.read_csr(armour(der, "NEW CERTIFICATE REQUEST"))


def test_no_usage_asked_and_none_given_passes() -> None:
    assert not failed(usages(), keyUsage=None, extendedKeyUsage=[])


def test_the_right_subject_key_identifier_needs_no_asking() -> None:
    own = x509.SubjectKeyIdentifier.from_public_key(EC.public_key())

    assert not failed(altered(lambda one: one.add_extension(own, critical=False)))


@given(st.text(max_size=200))
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(CsrInvalidError):
        csr.read_csr(text)


PSS = builder().sign(
    RSA, hashes.SHA256(), rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32)
)


@pytest.mark.parametrize(
    ("made", "key", "algorithm"),
    [(SIGNED, EC, "SHA256_WITH_ECDSA"), (PSS, RSA, "SHA256_WITH_RSA_PSS")],
)
def test_what_no_signature_covers_is_looked_at_too(
    made: x509.CertificateSigningRequest, key: Any, algorithm: str
) -> None:
    # Behind the signed part: the algorithm's identifier, and the header of the signature.
    der = made.public_bytes(Encoding.DER)
    signed = der.index(made.tbs_certrequest_bytes) + len(made.tbs_certrequest_bytes)

    for place in range(signed, len(der) - len(made.signature)):
        for bit in range(8):
            changed = bytearray(der)
            changed[place] ^= 1 << bit
            assert failed(
                armour(bytes(changed)), public_key=spki(key), signatureAlgorithm=algorithm
            ), (place, bit)


@given(st.integers(0, len(SIGNED.public_bytes(Encoding.DER)) - 1), st.integers(1, 255))
def test_no_changed_byte_passes(place: int, change: int) -> None:
    der = bytearray(SIGNED.public_bytes(Encoding.DER))
    der[place] ^= change

    assert failed(armour(bytes(der)))


def certificate(private_key: Any, common_name: str | None = "Ada") -> str:
    subject = name(*([(NameOID.COMMON_NAME, common_name)] if common_name else []))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private_key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(private_key, hashes.SHA256())
    )
    return base64.b64encode(made.public_bytes(Encoding.DER)).decode()


def test_an_approver_is_the_same_by_key_by_certificate_and_in_armour() -> None:
    key = spki(EC)

    assert certificates.approver_public_key("public_key", key) == key
    assert certificates.approver_public_key("certificate", certificate(EC)) == key
    armoured = f"-----BEGIN PUBLIC KEY-----{key}-----END PUBLIC KEY-----"
    assert certificates.approver_public_key("public_key", armoured) == key


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("public_key", "no base64!", "not base64"),
        ("public_key", "bm9uc2Vuc2U=", "public key"),
        ("certificate", spki(EC), "X.509 certificate"),
        ("public_key", certificate(EC), "public key"),
    ],
)
def test_what_is_no_approver_is_refused_without_quoting_it(
    kind: str, value: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        certificates.approver_public_key(kind, value)

    assert value not in str(caught.value)


def test_an_approver_is_named_by_his_certificate() -> None:
    assert certificates.certificate_common_name(certificate(EC)) == "Ada"
    assert certificates.certificate_common_name(certificate(EC, None)) is None
