"""The tutorial's next page: a CA key certifies itself and another key. Nobody has to approve."""

import base64
import warnings
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from countersign_cli.calls import Json, Said
from countersign_cli.probe.questions import Finding, UnknownError, question
from countersign_cli.probe.session import Session, in_path, needed
from countersign_cli.probe.subjects import VALIDATION_FAILED

CA_NAME, LEAF_NAME = "countersign probe CA", "countersign probe leaf"
PEM_BEGINS = "-----BEGIN"
HSM_REFUSAL = 701
VERSION_3 = bytes.fromhex("a003020102")  # the serial number stands behind it


@dataclass(frozen=True)
class Certified:
    """A CA key that certified itself, and another key.

    Args:
        ca_label: of the CA key.
        leaf_label: of the other key.
        csr: the other key's CSR (PEM).
        self_signed: the result of the CA's own request.
        read: the answer of GET /v1/certificate/{label} for the CA key.
        issued: the other key's certificate, as TSB wrote it.
    """

    ca_label: str
    leaf_label: str
    csr: str
    self_signed: str
    read: Json
    issued: str

    @property
    def ca(self) -> x509.Certificate:
        """The CA's certificate."""
        return certificate(self.read["certificate"])

    @property
    def leaf(self) -> x509.Certificate:
        """The other key's certificate."""
        return certificate(self.issued)


def certificate(text: str) -> x509.Certificate:
    """A certificate in PEM, in lines or not, or in bare base64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a serial number 0, which is what is asked here
        return x509.load_der_x509_certificate(_der(text))


def _der(text: str) -> bytes:
    lines = [line for line in text.splitlines() if not line.startswith("-----")]
    return base64.b64decode("".join(lines), validate=True)


def _result(session: Session, said: Said, what: str) -> str:
    result, where = session.result_of(said)
    if result is None:
        raise UnknownError(f"{what} is refused at {where}: {said}")
    return result


def _sign(session: Session, ca_label: str, csr: str, **more: object) -> Said:
    inner = {
        "signKeyName": ca_label,
        "keyPassword": None,
        "signatureAlgorithm": "SHA256_WITH_ECDSA",
        "commonName": LEAF_NAME,
        "certificateAuthority": False,
        "certificateSigningRequest": csr,
        "keyUsage": ["DIGITAL_SIGNATURE"],
        **more,
    }
    return session.post("/v1/certificate/sign", {"signCertificateRequest": inner})


def _certified(session: Session) -> Certified:
    ca, leaf = session.key().key.label, session.key().key.label
    inner = {
        "signKeyName": ca,
        "keyPassword": None,
        "validity": 365,
        "signatureAlgorithm": "SHA256_WITH_ECDSA",
        "commonName": CA_NAME,
        "certificateAuthority": True,
        "keyUsage": ["KEY_CERT_SIGN"],
    }
    body = {"selfSignCertificateRequest": inner}
    self_signed = _result(session, session.post("/v1/certificate/selfsign", body), "selfsign")
    path, role = f"/v1/certificate/{in_path(ca)}", session.certificate_role
    read = needed(session.ask("GET", path, role=role), "GET /v1/certificate/{}").content
    csr = _result(session, session.request_csr(leaf), "a CSR")
    issued = _result(session, _sign(session, ca, csr), "a certificate")
    return Certified(ca, leaf, csr, self_signed, read, issued)


def certified(session: Session) -> Certified:
    """The story of two certificates, told once."""
    return session.once("certified", lambda: _certified(session))


@question("result of selfsign", assumed="true", source="'true' in a sample, PEM in newer code.")
def self_sign_result(session: Session) -> Finding:
    pem = certified(session).self_signed.startswith(PEM_BEGINS)
    return Finding("certificate" if pem else "true")


@question("form of a certificate that is read", assumed="pem", source="PEM or base64.")
def read_certificate_form(session: Session) -> Finding:
    pem = certified(session).read["certificate"].startswith(PEM_BEGINS)
    return Finding("pem" if pem else "base64")


@question("rawCertificate in that answer", assumed=False, source="In the newest servers.")
def raw_certificate(session: Session) -> Finding:
    return Finding(certified(session).read.get("rawCertificate") is not None)


@question("PEM of what is issued", assumed="lines", source="On one line in a sample.")
def issued_pem(session: Session) -> Finding:
    one_line = max(map(len, certified(session).issued.splitlines())) > 76  # noqa: PLR2004  RFC 7468
    return Finding("oneLine" if one_line else "lines")


@question("subject of what is issued", assumed="asked", source="The asked one in the code.")
def sign_subject(session: Session) -> Finding:
    names = certified(session).leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Finding("asked" if [one.value for one in names] == [LEAF_NAME] else "csr")


@question("serial number", assumed="random", source="0 in samples.")
def issued_serial(session: Session) -> Finding:
    content = _der(certified(session).issued)  # the library will read no serial number 0
    at = content.index(VERSION_3) + len(VERSION_3)
    serial = content[at + 2 : at + 2 + content[at + 1]]
    return Finding("random" if any(serial) else "zero")


@question("start of validity", assumed="now", source="00:00 UTC in a sample.")
def issued_start(session: Session) -> Finding:
    starts = certified(session).leaf.not_valid_before_utc
    return Finding("now" if starts.hour or starts.minute or starts.second else "midnight")


@question("usages of what is issued", assumed="asked", source="Missing in a sample.")
def issued_usages(session: Session) -> Finding:
    found = [one.oid for one in certified(session).leaf.extensions]
    return Finding("asked" if ExtensionOID.KEY_USAGE in found else "missing")


@question("issuer of what is issued", assumed="ca", source="Another name in a sample.")
def issued_issuer(session: Session) -> Finding:
    story = certified(session)
    same = story.leaf.issuer.public_bytes() == story.ca.subject.public_bytes()
    return Finding("ca" if same else "other", story.leaf.issuer.rfc4514_string())


@question("validity in certificate/sign", assumed=False, source="Known to newer servers.")
def newer_sign_properties(session: Session) -> Finding:
    story = certified(session)
    said = _sign(session, story.ca_label, story.csr, validity=30)
    if said.code == VALIDATION_FAILED:
        return Finding(False, str(said))
    issued = certificate(_result(session, said, "a certificate"))
    days = (issued.not_valid_after_utc - issued.not_valid_before_utc).days
    return Finding(days == 30, f"{days} days")  # noqa: PLR2004  as asked


@question("import of another key's certificate", assumed="accepted", source="Not documented.")
def import_of_another_key(session: Session) -> Finding:
    story = certified(session)
    encoded = base64.b64encode(story.ca.public_bytes(Encoding.DER)).decode()
    body = {"label": story.leaf_label, "certificate": encoded}
    role = session.certificate_role
    said = session.ask("POST", "/v1/certificate/import/plain", body, role=role)
    if said.ok or said.code == HSM_REFUSAL:
        return Finding("accepted" if said.ok else "refused", str(said))
    raise UnknownError(str(said))


QUESTIONS = (
    self_sign_result,
    read_certificate_form,
    raw_certificate,
    issued_pem,
    sign_subject,
    issued_serial,
    issued_start,
    issued_usages,
    issued_issuer,
    newer_sign_properties,
    import_of_another_key,
)
