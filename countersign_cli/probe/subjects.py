"""What becomes of a CSR's fields. Each is asked for with a key that needs nobody's approval."""

from collections.abc import Callable

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from countersign_cli.calls import Said
from countersign_cli.probe.questions import Finding, UnknownError, question
from countersign_cli.probe.session import (
    Session,
    attributes,
    highest,
    in_path,
    needed,
)

INJECTION = "Countersign, OU=Probe"
UNREADABLE = 'Countersign "Probe'
FILE_LIMIT = 201  # characters: one more than what the vendor's engine can name a file after
COMMON_NAME_LIMIT = 200  # X.520 says 64
LONGEST_VALIDITY = 3650
NO_CERTIFICATE = 402
INVALID_NAME, INVALID_REQUEST, VALIDATION_FAILED = 610, 411, 600
ORGANIZATION_IDENTIFIER = "2.5.4.97"


def _refused(said: Said, code: int) -> bool:
    """Whether a CSR was refused with this code. Anything but that and a success is unknown."""
    if said.ok or said.code == code:
        return not said.ok
    raise UnknownError(str(said))


def _csr(session: Session, said: Said) -> x509.CertificateSigningRequest:
    result, where = session.result_of(said)
    if result is None:
        raise UnknownError(f"refused at {where}: {said}")
    return x509.load_pem_x509_csr(result.encode())


@question(
    "subjects",
    assumed="joined",
    source="The vendor's code joins KEY=value with commas and escapes nothing.",
)
def subject_building(session: Session) -> Finding:
    said = session.request_csr(session.free.key.label, subject={"organizationName": INJECTION})
    result, where = session.result_of(said)
    if result is None:
        return Finding("joined", f"a comma is refused at {where}", NO_COMMAS)
    found = x509.load_pem_x509_csr(result.encode()).subject
    names = [str(one.value) for one in found.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if names == [INJECTION]:
        return Finding("escaped")
    return Finding("joined", f"as {found.rfc4514_string()}", NO_COMMAS)


NO_COMMAS = 'Let no profile allow , + ; " \\ < > or a leading # in a subject.'


@question("where an unreadable subject is refused", assumed="execution", source="Not known.")
def subject_refused(session: Session) -> Finding:
    said = session.request_csr(session.free.key.label, subject={"organizationName": UNREADABLE})
    result, where = session.result_of(said)
    if result is not None:
        raise UnknownError("no subject is unreadable")
    return Finding(where, str(said) if where == "post" else "FAILED")


@question(
    f"a CSR for a label of {FILE_LIMIT} characters",
    assumed="limited",
    source="The vendor's engine makes a file named after the key.",
)
def label_in_certificate_calls(session: Session) -> Finding:
    label = session.label("-").ljust(FILE_LIMIT, "x")
    said = session.create(label)
    if said.code == INVALID_NAME:
        raise UnknownError("no label of that length can be made")
    needed(said, "a long label")
    result, where = session.result_of(session.request_csr(label))
    if result is not None:
        return Finding("free")
    follows = "Let the profiles' label patterns allow at most 200 characters."
    return Finding("limited", f"refused at {where}", follows)


@question("smallest validity of a CSR", assumed="none", source="None in the vendor's code.")
def csr_validity_minimum(session: Session) -> Finding:
    def refuses(days: int) -> bool:
        said = session.request_csr(session.free.key.label, validity=days)
        return _refused(said, VALIDATION_FAILED)

    if not refuses(0):
        return Finding("none", "0 is accepted")
    if refuses(LONGEST_VALIDITY):
        raise UnknownError(f"0 and {LONGEST_VALIDITY} are refused")
    found = highest(refuses, 0, LONGEST_VALIDITY) + 1
    return Finding(found, follows=f"Give a validity of at least {found} in every profile.")


@question("a country of three letters", assumed=False, source="No check in the vendor's code.")
def country_length_check(session: Session) -> Finding:
    said = session.request_csr(session.free.key.label, subject={"country": "CHE"})
    return Finding(_refused(said, INVALID_REQUEST))


@question("longest commonName", assumed="none", source="64 in X.520; no check in the code.")
def common_name_max_length(session: Session) -> Finding:
    def accepts(length: int) -> bool:
        said = session.request_csr(session.free.key.label, subject={"commonName": "x" * length})
        return not _refused(said, INVALID_REQUEST)

    if accepts(COMMON_NAME_LIMIT):
        return Finding("none", f"{COMMON_NAME_LIMIT} characters are accepted")
    found = highest(accepts, 1, COMMON_NAME_LIMIT)
    follows = f"Let profiles allow a commonName of at most {found} letters."
    return Finding(found, follows=follows if found < 64 else "")  # noqa: PLR2004  ours, too


@question("organizationIdentifier", assumed=True, source="Known since 2.1.0.")
def organization_identifier(session: Session) -> Finding:
    subject = {"organizationIdentifier": "VATCH-000000000"}
    said = session.request_csr(session.free.key.label, subject=subject)
    if not said.ok:
        follows = "Let no profile ask for organizationIdentifier."
        return Finding(not _refused(said, VALIDATION_FAILED), str(said), follows)
    found = _csr(session, said).subject.get_attributes_for_oid(
        x509.ObjectIdentifier(ORGANIZATION_IDENTIFIER)
    )
    return Finding(bool(found), "" if found else "accepted, and not in the CSR")


@question("subjectAlternativeNames", assumed=False, source="In the newest vendor client only.")
def subject_alternative_names(session: Session) -> Finding:
    names = [{"sanType": "DNS", "sanValue": "probe.invalid"}]
    said = session.request_csr(session.free.key.label, subjectAlternativeNames=names)
    if not said.ok:
        return Finding(not _refused(said, VALIDATION_FAILED), str(said))
    found = [one.oid for one in _csr(session, said).extensions]
    there = ExtensionOID.SUBJECT_ALTERNATIVE_NAME in found
    return Finding(there, "" if there else "accepted, and not in the CSR")


@question("where a wrong algorithm is refused", assumed="execution", source="At execution in code.")
def algorithm_check(session: Session) -> Finding:
    label = session.free.key.label
    return _where(session, lambda: session.request_csr(label, signatureAlgorithm="SHA256_WITH_RSA"))


@question("where a forbidden use is refused", assumed="post", source="701, at once or FAILED.")
def forbidden_use(session: Session) -> Finding:
    only_decrypts = attributes(sign=False, decrypt=True)
    rsa = {"algorithm": "RSA", "keySize": 2048, "curveOid": None, "attributes": only_decrypts}
    label, algorithm = session.key(**rsa).key.label, "SHA256_WITH_RSA"
    return _where(session, lambda: session.request_csr(label, signatureAlgorithm=algorithm))


def _where(session: Session, post: Callable[[], Said]) -> Finding:
    said = post()
    result, where = session.result_of(said)
    if result is not None:
        raise UnknownError("it is not refused at all")
    return Finding(where, str(said) if where == "post" else "FAILED")


@question("a CSR leaves a certificate", assumed=False, source="The synchronous call does, 1.16.1.")
def csr_leaves_certificate(session: Session) -> Finding:
    label = session.key().key.label
    _csr(session, session.request_csr(label))
    role = session.certificate_role
    said = session.ask("GET", f"/v1/certificate/{in_path(label)}", role=role)
    if said.ok or said.code == NO_CERTIFICATE:
        return Finding(said.ok, str(said))
    raise UnknownError(str(said))


QUESTIONS = (
    subject_building,
    subject_refused,
    label_in_certificate_calls,
    csr_validity_minimum,
    country_length_check,
    common_name_max_length,
    organization_identifier,
    subject_alternative_names,
    algorithm_check,
    forbidden_use,
    csr_leaves_certificate,
)
