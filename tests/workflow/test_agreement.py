"""What is accepted ends as ISSUED, through the whole workflow; and a fault burns no label."""

import uuid
from typing import Any

import pytest

from countersign.verification.csr import read_csr
from local.engine.stack import InProcessStack
from tests.case import Case, assert_issued, group, people, token

EC: dict[str, Any] = {"algorithm": "EC", "keySize": None}
ECDSA = {"signatureAlgorithm": "SHA256_WITH_ECDSA"}


def subject(**fields: str) -> dict[str, Any]:
    return {"standardCertificateAttributes": {"commonName": "example", **fields}}


ACCEPTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "umlaut": ({}, subject(organizationName="Zürich")),
    "ampersand": ({}, subject(commonName="Foo & Co")),
    "wildcard": ({}, subject(commonName="*.example.com")),
    "double blank": ({}, subject(organizationName="Example  AG")),
    "SHA-224": ({}, {"signatureAlgorithm": "SHA224_WITH_RSA"}),
    "agreement only": ({}, {"keyUsage": ["KEY_AGREEMENT", "ENCIPHER_ONLY"]}),
    "no usages": ({}, {"keyUsage": [], "extendedKeyUsage": None}),
    "P-224": ({**EC, "curveOid": "1.3.132.0.33"}, ECDSA),
    "P-521": ({**EC, "curveOid": "1.3.132.0.35"}, {"signatureAlgorithm": "SHA512_WITH_ECDSA"}),
    "secp256k1": ({**EC, "curveOid": "1.3.132.0.10"}, ECDSA),
    "brainpoolP512r1": ({**EC, "curveOid": "1.3.36.3.3.2.8.1.1.13"}, ECDSA),
}


@pytest.mark.parametrize("name", list(ACCEPTED))
def test_what_is_accepted_is_issued(unrecorded_stack: InProcessStack, name: str) -> None:
    case = Case(unrecorded_stack)
    (one,) = people(1)
    request = case.request(token(group(one)))
    key, csr = ACCEPTED[name]
    request["key"] |= key
    request["csr"] |= csr

    arn = case.start(request)
    case.approve(one)

    assert_issued(case.end(arn))


def test_a_comma_is_issued_where_the_tsb_escapes(unrecorded_stack: InProcessStack) -> None:
    unrecorded_stack.configure(TsbEscapesSubjects="true")
    unrecorded_stack.control("PUT", "/switches", {"subjectBuilding": "escaped"})
    case = Case(unrecorded_stack)
    (one,) = people(1)
    request = case.request(token(group(one)))
    request["csr"] |= subject(organizationName="Example Company, s.r.o.")

    arn = case.start(request)
    case.approve(one)
    result = case.end(arn)

    assert_issued(result)
    found = read_csr(result.document["csr"]["pem"])
    assert found.subject == r"CN=example,O=Example Company\, s.r.o."


def test_a_comma_is_refused_before_anything_exists(unrecorded_stack: InProcessStack) -> None:
    case = Case(unrecorded_stack)
    request = case.request()
    request["csr"] |= subject(organizationName="Example Company, s.r.o.")

    result = case.end(case.start(request))

    assert result.error == "InvalidEnrollmentError"
    assert "holds a comma" in result.document["error"]["message"]
    assert (result.keys, result.calls) == ([], [])


def test_a_password_that_is_not_there_burns_no_label(unrecorded_stack: InProcessStack) -> None:
    stack = unrecorded_stack
    prefix = stack.outputs["KeyPasswordPrefix"]
    first, second = Case(stack), Case(stack)
    wrong = first.request()
    wrong["key"]["password"] = {
        "secretArn": f"arn:aws:secretsmanager:eu-central-1:123456789012:secret:{prefix}none-AbCdEf"
    }
    failed = first.end(first.start(wrong))
    assert failed.keys == []
    assert first.record(f"label#{first.label.casefold()}") == {}  # nobody has to take it over

    (one,) = people(1)
    second.label = first.label
    secret = stack.client("secretsmanager").create_secret(
        Name=f"{prefix}{uuid.uuid4().hex}", SecretString="right"
    )
    right = second.request(token(group(one)))
    right["key"]["password"] = {"secretArn": secret["ARN"]}
    arn = second.start(right)
    second.approve(one)

    assert_issued(second.end(arn))
