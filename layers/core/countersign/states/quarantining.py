"""Put what failed a check in quarantine: the same for a CSR and for a certificate."""

import json

from countersign import models as m
from countersign.errors import CsrInvalidError
from countersign.evidence.quarantine import CHECKS, csr_invalid
from countersign.states.ownership import own
from countersign.stores import Item, Objects, Records


def put_in_quarantine(
    event: m.StoreCsrInput | m.StoreCertificateInput,
    stage: str,
    name: str,
    found: Item,
    *,
    records: Records,
    objects: Objects,
    absent: tuple[str, ...],
    remove: tuple[str, ...] = (),
) -> CsrInvalidError:
    """Keep what came back and what was found in it, then put both on record.

    Idempotent: the first findings stay, and the record gets these. A state that was killed before
    it wrote the record is entered again later, and may find something else then; evidence in which
    the record and the object differ would be refused.

    Args:
        stage: the state that found it.
        name: of what came back, as an object: `request.pem`.
        found: the checks, and by what and when they were made, as they go on record.
        absent: what the record may not have yet.
        remove: what the record had of an earlier state.

    Returns:
        The error to raise. CloseEnrollment announces the quarantine.
    """
    prefix = f"quarantine/{event.enrollment_id}/"
    pem = (event.pem or "").encode(errors="backslashreplace")  # JSON can hold what UTF-8 cannot
    objects.keep_first(f"{prefix}{name}", pem)
    findings = json.dumps(found, indent=2).encode()
    noted: Item = json.loads(objects.keep_first(f"{prefix}findings.json", findings))
    made = [m.Check.read(one) for name in CHECKS.values() for one in noted.get(name, ())]
    failed = next(check for check in made if check.result == "failed")
    records.update(
        event.enrollment_id,
        {
            "stage": stage,
            "quarantine": {"code": failed.code, "bucket": objects.bucket, "prefix": prefix},
            **noted,
        },
        when=own(event),
        absent=absent,
        remove=tuple(one for one in remove if one not in noted),
    )
    return csr_invalid(failed, prefix)
