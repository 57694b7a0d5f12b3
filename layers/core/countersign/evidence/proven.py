"""What the parts of a folder prove, as the verifier shows it."""

from typing import NamedTuple

from countersign import models as m
from countersign.record import Record
from countersign.tsb.models import KeyAttributes
from countersign.verification import issuing
from countersign.verification.checks import Verified


class Proven(NamedTuple):
    """What the parts prove.

    Args:
        record: the enrollment's, every claim in it compared; the rest is testimony of the stack.
        requested: the accepted request; None where none was accepted or carried out.
        approvers: everybody who was asked, with the decision that TSB reports; None where the
            answer that reports it was not kept.
        verified: the checks of the CSR, made again; None where StoreCsr did not come so far.
        pem: the CSR as TSB answered it; empty where it was not verified.
        about_key: TSB's answer that says what the key was in the end, with the attestation.
        second: the certificate and the second quorum; None where nobody was asked for one.
    """

    record: Record
    requested: m.EnrollmentRequest | None = None
    approvers: tuple[m.Approver, ...] | None = ()
    verified: Verified | None = None
    pem: str = ""
    about_key: KeyAttributes | None = None
    second: "Second | None" = None


class Second(NamedTuple):
    """What the parts prove of the approval of the certificate.

    Args:
        policy: of the CA's key, as its approvers were asked.
        approvers: everybody who was asked, with the decision that TSB reports.
        verified: the checks of the certificate, made again; None where there were none.
        pem: the certificate as TSB answered it.
        about_ca: TSB's answer about the CA's key: the one that counts, with the attestation.
        is_at_key: whether TSB has shown the certificate at the new key.
    """

    policy: m.Policy
    approvers: tuple[m.Approver, ...] | None
    verified: issuing.Verified | None = None
    pem: str = ""
    about_ca: KeyAttributes | None = None
    is_at_key: bool = False
