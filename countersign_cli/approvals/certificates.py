"""What the approvers of a CA's key are asked: the checks that only a certificate has.

The CSR is in the call, so it is verified here as the stack has verified it. The CA key's policy is
not in the request: it is known as far as the TSB shows it.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from countersign.errors import CsrInvalidError
from countersign.models import CertificateRequest, EnrollmentRequest
from countersign.policy import approvers, summary
from countersign.policy.approvers import ONBOARDED
from countersign.request import tsb_bodies
from countersign.request.validation import OLDER_VALIDITY_DAYS
from countersign.spki import spki_sha256
from countersign.verification import attestation_xml, certificate, csr
from countersign.verification.attestation_xml import Attested
from countersign.verification.checks import type_differences
from countersign.verification.issuing import DEFAULT_SIGNATURES
from countersign_cli.approvals.results import NOT_SHOWN, PASSED, Said, failed, not_shown

type Json = Mapping[str, Any]

# Lines of the stack's summary that follow from the request alone.
FACTS = ("Subject ", "CA: ", "CA key label: ", "Validity: ", "Usages: ", "Key: ", "Key label: ",
         "Enrollment: ", "Reason: ")  # fmt: skip


def summary_of(request: EnrollmentRequest, enrollment_id: str) -> list[str]:
    """The stack's summary as it follows from the request; only `FACTS` of it are to be compared."""
    named = certificate.usages(wanted(request), request.csr)
    terms = summary.CertificateTerms(
        policy=approvers.summary(request.key.policy, {}),  # the CA key's is not in the request
        signature_algorithm="",
        usages=(*named[0], *named[1]),
        csr_sha256="",
    )
    return summary.certificate_lines(request, terms=terms, enrollment_id=enrollment_id)


def wanted(request: EnrollmentRequest) -> CertificateRequest:
    """What is asked for.

    Raises:
        ValueError: no certificate.
    """
    if request.certificate is None:
        raise ValueError("its request asks for no certificate")
    return request.certificate


def bodies(
    request: EnrollmentRequest, inner: Json, about: tuple[str, ...], shown: bytes, signature: bytes
) -> Iterator[Json]:
    """What the TSB may have been asked: as a newer one is, or as one that cannot be told more.

    The CSR in it has checks of its own. Of the signature's algorithm the request may say nothing:
    then it is the one that the approver reads, of those that the stack chooses from.
    """
    asked = wanted(request)
    said = next((one[11:] for one in about if one.startswith("Signature: ")), "")
    allowed = (
        [asked.signature_algorithm] if asked.signature_algorithm else DEFAULT_SIGNATURES.values()
    )
    subject = request.csr.standard_certificate_attributes
    more = subject.model_dump(exclude_none=True, exclude={"common_name"})
    for newer in (True, False):
        if newer or (asked.validity == OLDER_VALIDITY_DAYS and not more):
            yield tsb_bodies.tsb_certificate(
                request,
                csr=str(inner.get("certificateSigningRequest")),
                signature_algorithm=said if said in allowed else "none that may be chosen",
                usages=certificate.usages(asked, request.csr),
                newer=newer,
                shown=shown,
                signature=signature,
            )


def of_the_csr(pem: str, request: EnrollmentRequest, about: tuple[str, ...]) -> dict[str, Said]:
    """Whether the CSR in the call is the one that the approver reads of, and what was requested."""
    try:
        found = csr.read(pem)
    except CsrInvalidError as error:
        return {"CERTIFICATE_CSR": failed(f"it is no CSR: {error.message}")}
    described = csr.read_csr(pem)
    own = f"CSR: sha256:{described.sha256}"
    read = own in about
    key = csr_key(found)
    _, checks = csr.check(pem, request.csr, public_key=key)
    differ = [f"{one.code}: {one.finding}" for one in checks if one.result == "failed"]
    differ += type_differences(key, request.key)
    return {
        "CERTIFICATE_CSR_SHA256": PASSED if read else failed(f"the call's is {described.sha256}"),
        "CERTIFICATE_CSR": failed("; ".join(differ)) if differ else PASSED,
    }


def of_the_payload(payload: bytes, pem: str, request: EnrollmentRequest) -> dict[str, Said]:
    """The checks of a payload that is meant to be a certificate's content."""
    try:
        asked_with = csr.read(pem)
    except CsrInvalidError:
        return {"CERTIFICATE_FORMAT": not_shown("there is no CSR to compare it with")}
    checks = certificate.check_unsigned(payload, wanted(request), request.csr, asked_with)
    return {
        one.code: failed(one.finding or "") if one.result == "failed" else PASSED for one in checks
    }


def names(attested: Attested | None, approver: str) -> Said:
    """Whether the CA key's policy, as the HSM attests it, names the approver."""
    if attested is None or attested.policy is None:
        return not_shown(f"the CA key's policy is {NOT_SHOWN}")
    asked = {
        one
        for _, _, groups in attested.policy.rules["ruleUse"] or ()
        for _, members in groups
        for one in members
    }
    if spki_sha256(approver) in asked:
        return PASSED
    if any(one.startswith(ONBOARDED) for one in asked):
        return not_shown("it names approvers whose keys only the TSB knows")
    return failed("your key is not in the policy of the CA's key")


def window_seconds(attested: Attested | None) -> int | None:
    """How long the CA key's policy collects approvals; 0: without limit, None: not known."""
    tokens = attested.policy.rules["ruleUse"] if attested and attested.policy else None
    if not tokens:
        return None
    times = [timeout for _, timeout, _ in tokens]
    return 0 if 0 in times else max(times)


def attested(xml: str | None, label: str) -> Attested | None:
    """What the HSM attests of the key with this label; its signature is not looked at."""
    try:
        said = attestation_xml.read(xml or "")
    except ValueError:
        return None
    return said if said.label == label else None


def csr_key(request: csr.Request) -> str:
    """The base64 DER SPKI in a CSR."""
    return base64.b64encode(request.public_key).decode()
