"""Reading a CSR, comparing it with what was asked, and the keys of approvers."""

import base64
import json
import time
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
from countersign.verification import csr, pkix
from local.tsb_simulator import der

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


def test_what_will_be_signed_is_compared_as_the_csr_is() -> None:
    body = json.loads((SEED / "csr-request.json").read_text())["csrSignRequest"]
    made = x509.load_pem_x509_csr(vendors_csr().encode())
    info, asked = made.tbs_certrequest_bytes, CsrRequest.read(body)
    other = asked.model_copy(update={"key_usage": ("CRL_SIGN",)})

    found, checks = csr.check_unsigned(info, asked, public_key=None)
    _, differing = csr.check_unsigned(info, other, public_key=None)
    _, of_another_key = csr.check_unsigned(info, asked, public_key=spki(EC))
    _, unreadable = csr.check_unsigned(info + b"\0", asked, public_key=None)

    assert found is not None
    assert found.subject == "CN=Approver-Intermediate-SUB"
    assert [one.code for one in checks if one.result == "skipped"] == ["CSR_PUBLIC_KEY"]
    assert not [one for one in checks if one.result == "failed"]
    assert [one.code for one in differing if one.result == "failed"] == ["CSR_KEY_USAGE"]
    assert "CSR_PUBLIC_KEY" in [one.code for one in of_another_key if one.result == "failed"]
    assert [one.code for one in unreadable if one.result == "failed"] == ["CSR_FORMAT"]


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


# What no library writes, put together by hand ----------------------------------------------------

EXTENSIONS = "1.2.840.113549.1.9.14"


def extension(oid: str, value: bytes, *flags: bytes) -> bytes:
    return der.tlv(der.SEQUENCE, der.oid(oid), *flags, der.tlv(der.OCTET_STRING, value))


USAGES = [
    extension("2.5.29.37", bytes.fromhex("300a06082b06010505070303"), der.BOOLEAN_TRUE),
    extension("2.5.29.15", bytes.fromhex("03020780"), der.BOOLEAN_TRUE),
]
OWN = x509.SubjectKeyIdentifier.from_public_key(EC.public_key()).digest
SKI = extension("2.5.29.14", der.tlv(der.OCTET_STRING, OWN))
CA = extension("2.5.29.19", bytes.fromhex("30030101ff"), der.BOOLEAN_TRUE)
SAN = extension("2.5.29.17", der.tlv(der.SEQUENCE, der.tlv(0x82, b"evil.example")))


def attribute(*values: bytes, oid: str = EXTENSIONS) -> bytes:
    return der.tlv(der.SEQUENCE, der.oid(oid), der.tlv(der.SET, *values))


def requesting(*extensions: bytes) -> bytes:
    return der.tlv(der.SEQUENCE, *extensions)


def subject(*values: tuple[str, int, bytes]) -> bytes:
    return der.tlv(
        der.SEQUENCE,
        *(
            der.tlv(der.SET, der.tlv(der.SEQUENCE, der.oid(oid), der.tlv(tag, value)))
            for oid, tag, value in values
        ),
    )


CN = "2.5.4.3"


def by_hand(
    *attributes: bytes,
    version: bytes = b"\x02\x01\x00",
    names: bytes | None = None,
    last: bytes = b"",
    behind: bytes = b"",
    key: bytes | None = None,
) -> str:
    """A CSR of these attributes, signed by the key that was asked for."""
    info = der.tlv(
        der.SEQUENCE,
        version,
        subject((CN, der.UTF8_STRING, b"example")) if names is None else names,
        base64.b64decode(spki(EC)) if key is None else key,
        der.tlv(0xA0, *attributes),
        last,
    )
    algorithm = der.tlv(der.SEQUENCE, der.oid("1.2.840.10045.4.3.2"))
    signature = der.bit_string(EC.sign(info, ec.ECDSA(hashes.SHA256())))
    return armour(der.tlv(der.SEQUENCE, info, algorithm, signature, behind))


ASKED = attribute(requesting(*USAGES))


def test_by_hand_it_is_the_same_csr() -> None:
    assert failed(by_hand(ASKED)) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param(
            by_hand(ASKED, attribute(requesting(SAN, CA))),
            "CSR_ALTERNATIVE_NAMES",
            id="a second attribute with extensions",
        ),
        pytest.param(
            by_hand(attribute(requesting(*USAGES), requesting(CA))),
            "CSR_BASIC_CONSTRAINTS",
            id="a second value with extensions",
        ),
        pytest.param(by_hand(ASKED, attribute()), "CSR_ATTRIBUTE", id="a second attribute, empty"),
        pytest.param(by_hand(ASKED, ASKED), "CSR_EXTENSION", id="everything twice"),
        pytest.param(
            by_hand(attribute(requesting(*USAGES, SKI, SKI))), "CSR_EXTENSION", id="one twice"
        ),
        pytest.param(
            by_hand(attribute(requesting(*USAGES, extension("2.5.29.14", SKI[-22:], b"\1\1\xff")))),
            "CSR_CRITICALITY",
            id="a critical identifier of the key",
        ),
        pytest.param(
            by_hand(attribute(requesting(USAGES[0], extension("2.5.29.15", b"\3\3\6\x80\x40")))),
            "CSR_KEY_USAGE",
            id="a usage bit that no standard has",
        ),
        pytest.param(
            by_hand(
                attribute(requesting(USAGES[0], extension("2.5.29.15", b"\3\2\0\x80", b"\1\1\xff")))
            ),
            "CSR_ENCODING",
            id="usage bits with zeros behind them",
        ),
        pytest.param(
            by_hand(
                attribute(requesting(USAGES[0], extension("2.5.29.15", b"\3\2\7\x80", b"\1\1\1")))
            ),
            "CSR_ENCODING",
            id="a truth that is not 255",
        ),
        pytest.param(
            by_hand(attribute(requesting(*USAGES, extension("2.5.29.14", SKI[-22:], b"\1\1\0")))),
            "CSR_ENCODING",
            id="a default that is written",
        ),
        pytest.param(
            by_hand(attribute(requesting(USAGES[0], extension("2.5.29.15", b"")))),
            "CSR_KEY_USAGE",
            id="an empty usage",
        ),
        pytest.param(
            by_hand(attribute(requesting(extension("2.5.29.37", b"\5\0", b"\1\1\xff"), USAGES[1]))),
            "CSR_EXTENDED_KEY_USAGE",
            id="an extended usage that is none",
        ),
        pytest.param(
            by_hand(
                attribute(
                    requesting(*USAGES, extension("2.5.29.17", bytes.fromhex("3006a504a1020c00")))
                )
            ),
            "CSR_ALTERNATIVE_NAMES",
            id="an EDIPartyName",
        ),
        pytest.param(
            by_hand(
                attribute(
                    requesting(
                        *USAGES, extension("1.3.6.1.5.5.7.1.24", bytes.fromhex("3003020163"))
                    )
                )
            ),
            "CSR_EXTENSION",
            id="an unknown TLS feature",
        ),
        pytest.param(
            by_hand(ASKED, names=subject((CN, 0x14, b"example"))),
            "CSR_SUBJECT_VALUE",
            id="a string of a type that has many meanings",
        ),
        pytest.param(
            by_hand(ASKED, names=subject((CN, der.PRINTABLE_STRING, b"ex@mple"))),
            "CSR_SUBJECT_VALUE",
            id="a string that its type cannot hold",
        ),
        pytest.param(
            by_hand(ASKED, names=subject((CN, der.UTF8_STRING, b"\xed\xa0\x80"))),
            "CSR_SUBJECT_VALUE",
            id="half a character",
        ),
        pytest.param(by_hand(ASKED, version=b"\2\1\1"), "CSR_FORMAT", id="another version"),
        pytest.param(
            by_hand(ASKED, last=b"\5\0"), "CSR_FORMAT", id="something behind what is signed"
        ),
        pytest.param(
            by_hand(ASKED, behind=b"\5\0"), "CSR_FORMAT", id="something behind the signature"
        ),
        pytest.param(
            by_hand(attribute(requesting(*USAGES, der.tlv(der.SEQUENCE)))),
            "CSR_FORMAT",
            id="an empty extension",
        ),
        pytest.param(
            by_hand(
                attribute(requesting(*USAGES), oid=EXTENSIONS).replace(b"\x30", b"\x30\x81", 1)
            ),
            "CSR_FORMAT",
            id="a length in the longer form",
        ),
        pytest.param(by_hand(b"\x30\x80\0\0"), "CSR_FORMAT", id="a length without end"),
        pytest.param(by_hand(b"\x3f\x81\x01\x00"), "CSR_FORMAT", id="a tag of two bytes"),
    ],
)
def test_what_is_encoded_otherwise_is_refused(text: str, code: str) -> None:
    assert failed(text)[0].code == code


def test_a_second_attribute_is_named_besides_what_is_in_it() -> None:
    found = {one.code: one.finding for one in failed(by_hand(ASKED, attribute(requesting(CA))))}

    assert list(found) == ["CSR_BASIC_CONSTRAINTS", "CSR_ATTRIBUTE"]
    assert "in 2 attributes with 2 values" in (found["CSR_ATTRIBUTE"] or "")


# What the vendor may choose -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(by_hand(ASKED, names=subject((CN, tag, value))), id=f"string of type {tag:#x}")
        for tag, value in (
            (0x0C, b"example"),
            (0x13, b"example"),
            (0x16, b"example"),
            (0x1C, "example".encode("utf-32-be")),
            (0x1E, "example".encode("utf-16-be")),
        )
    ]
    + [
        pytest.param(by_hand(attribute(requesting(*USAGES[::-1]))), id="order of the extensions"),
        pytest.param(by_hand(attribute(requesting(*USAGES, SKI))), id="an identifier of the key"),
        pytest.param(by_hand(attribute(requesting(SKI, *USAGES))), id="the identifier first"),
        pytest.param(armour(SIGNED.public_bytes(Encoding.DER)), id="lines of 76 characters"),
        pytest.param(
            "-----BEGIN CERTIFICATE REQUEST-----\n"
            + base64.b64encode(SIGNED.public_bytes(Encoding.DER)).decode()
            + "\n-----END CERTIFICATE REQUEST-----",
            id="one line, and no end of the last",
        ),
        pytest.param(pem(SIGNED).replace("\n", "\r\n"), id="other ends of lines"),
        pytest.param(
            armour(SIGNED.public_bytes(Encoding.DER), "NEW CERTIFICATE REQUEST"), id="other header"
        ),
    ],
)
def test_what_the_vendor_may_choose_passes(text: str) -> None:
    assert failed(text) == []


def test_the_order_of_extended_usages_is_the_vendor_s() -> None:
    both = [ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH]
    asked = ["CODE_SIGNING", "SERVER_AUTH"]

    for order in (both, both[::-1]):
        text = usages((x509.ExtendedKeyUsage(order), True), (KU, True))
        assert failed(text, extendedKeyUsage=asked) == []


USAGE_SETS = st.sets(st.sampled_from(pkix.KEY_USAGES), min_size=1)


@given(USAGE_SETS)
def test_every_set_of_usages_is_read_as_it_was_asked(asked: set[str]) -> None:
    bits = [usage in asked for usage in pkix.KEY_USAGES]
    size = max(index for index, bit in enumerate(bits) if bit) + 1
    octets = int("".join(str(int(bit)) for bit in bits[:size]).ljust(-(-size // 8) * 8, "0"), 2)
    value = der.tlv(der.BIT_STRING, bytes((-size % 8,)) + octets.to_bytes(-(-size // 8), "big"))
    text = by_hand(
        attribute(requesting(USAGES[0], extension("2.5.29.15", value, der.BOOLEAN_TRUE)))
    )

    assert failed(text, keyUsage=sorted(asked)) == []


def test_a_long_blank_is_refused_at_once() -> None:
    begun = time.process_time()

    assert failed("-----BEGIN CERTIFICATE REQUEST-----" + " " * 60_000 + "x")[0].field == "pem"
    assert time.process_time() - begun < 1


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


def test_a_key_that_names_no_algorithm_is_a_finding() -> None:
    nameless = der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE), der.bit_string(b""))
    text = by_hand(ASKED, key=nameless)

    assert failed(text)[0].code == "CSR_PUBLIC_KEY"
    assert csr.read_csr(text).key == "a key that names no algorithm"


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
