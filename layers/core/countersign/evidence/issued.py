"""Whether what is on record of an enrollment that goes on is verified and stored. Pure.

CloseEnrollment asks before it announces a CSR, RequestCertificate before it asks people for more.
"""

from datetime import datetime

from countersign.evidence import bundle
from countersign.evidence.bundle import Folder
from countersign.evidence.certified import require_certificate
from countersign.evidence.checked import require_passed
from countersign.evidence.derived import derived, record_of
from countersign.record import Record
from countersign.verification.csr import Csr


def prove_issued(record: Record, found: Folder, *, now: datetime) -> Csr:
    """Whether what is on record is verified and stored: CSR, certificate, every check made again.

    The canonical form of the parts is not compared, as `prove` does: they are made here. What is
    read as it was kept, the accepted request, must have the hash of its canonical form, or
    REQUEST_ACCEPTED fails.

    Args:
        record: an enrollment's that has not ended yet, with a CSR, and maybe a certificate.
        found: the objects below its prefix.
        now: the time at which the attestation chain must be valid.

    Returns:
        The CSR, as TSB answered it.

    Raises:
        EvidenceInvalidError: it is not.
    """
    try:
        folder = bundle.parts(record, found, {})
        proven = derived(folder, record_of(folder), now=now)
        csr = require_passed(proven)
        if "certificate" in record:
            require_certificate(folder, proven)
    except bundle.UNREADABLE as error:
        raise bundle.unknown_form(error) from None
    return csr
