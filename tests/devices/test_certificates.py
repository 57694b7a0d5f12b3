"""A certificate, its CA's and its CSR before two other readers of X.509: the JDK's and OpenSSL."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from local.engine.stack import InProcessStack
from tests.ca import Ca
from tests.case import Case, group, people, token

CHAIN = Path(__file__).with_name("Chain.java")
END = "-----END CERTIFICATE-----\n"
CURVES = {"EC": ("1.3.132.0.34", "SHA256_WITH_ECDSA"), "ED": ("1.3.101.112", "EDDSA")}
# The JDK's class for a CSR is not exported: keytool uses it.
JAVA = ("java", "--add-exports", "java.base/sun.security.pkcs10=ALL-UNNAMED",
        "--add-exports", "java.base/sun.security.x509=ALL-UNNAMED", str(CHAIN))  # fmt: skip


@pytest.fixture
def case(shared_stack: InProcessStack) -> Iterator[Case]:
    yield Case(shared_stack)
    shared_stack.reset()


def issued(case: Case, folder: Path, algorithm: str = "RSA") -> None:
    """A whole run under two quorums; the files that it leads to."""
    person, other = people(2)
    made: dict[str, Any] = {}
    if algorithm in CURVES:
        curve, signature = CURVES[algorithm]
        key = {"algorithm": algorithm, "curveOid": curve, "keySize": None, "algorithmOid": None}
        made = {"key": key, "signatureAlgorithm": signature}
    ca = Ca.make(case, other, **made)
    arn = case.start(ca.request(case.request(token(group(person)))))
    case.approve(person)
    case.approve(other, label=ca.label)
    document = case.end(arn).document
    leaf, issuer = (f"{one}{END}" for one in document["certificate"]["pem"].split(END)[:2])
    for name, pem in (("leaf", leaf), ("ca", issuer), ("request", document["csr"]["pem"])):
        (folder / f"{name}.pem").write_text(pem)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603


def by_java(folder: Path) -> subprocess.CompletedProcess[str]:
    now = int(datetime.now(UTC).timestamp() * 1000)  # the stack's time, not the machine's
    return run(folder, *JAVA, "leaf.pem", "ca.pem", "request.pem", str(now))


def by_openssl(folder: Path) -> subprocess.CompletedProcess[str]:
    now = str(int(datetime.now(UTC).timestamp()))
    return run(folder, "openssl", "verify", "-attime", now, "-CAfile", "ca.pem", "leaf.pem")


@pytest.mark.parametrize("algorithm", ["RSA", *CURVES])
def test_chain_and_csr_of_a_real_run_are_accepted(
    case: Case, tmp_path: Path, algorithm: str
) -> None:
    issued(case, tmp_path, algorithm)
    java, openssl = by_java(tmp_path), by_openssl(tmp_path)

    assert openssl.stdout == "leaf.pem: OK\n", openssl.stderr
    assert java.returncode == 0, java.stderr
    csr = x509.load_pem_x509_csr((tmp_path / "request.pem").read_bytes())
    spki = csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    subject = csr.subject.public_bytes()
    said = dict(line.split(" ") for line in java.stdout.splitlines())
    assert said["csr.spki"] == said["leaf.spki"] == spki.hex()
    assert said["csr.subject"] == said["leaf.subject"] == subject.hex()


def test_keytool_reads_in_the_csr_what_was_asked(case: Case, tmp_path: Path) -> None:
    """No alternative names: nobody can ask for any."""
    issued(case, tmp_path)
    said = run(tmp_path, "keytool", "-printcertreq", "-file", "request.pem").stdout

    assert "Subject: CN=Approver-Intermediate-SUB" in said
    assert "DigitalSignature" in said
    assert "ObjectId: 2.5.29.17 " not in said
    assert "SubjectAlternativeName" not in said


def test_what_another_ca_would_have_signed_is_refused(case: Case, tmp_path: Path) -> None:
    issued(case, tmp_path)
    leaf = tmp_path / "leaf.pem"
    (tmp_path / "ca.pem").write_text(leaf.read_text())

    assert by_openssl(tmp_path).returncode != 0
    assert "CertPathValidatorException" in by_java(tmp_path).stderr
