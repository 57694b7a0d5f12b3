"""What the parts of an enrollment that has ended prove together. Pure.

KeepEvidence asks before it signs, and the verifier years later.
"""

from datetime import datetime

import rfc8785

from countersign.evidence import bundle
from countersign.evidence.answered import require_discarded
from countersign.evidence.bundle import Folder, require
from countersign.evidence.derived import derived, record_of
from countersign.evidence.ended import require_end
from countersign.evidence.proven import Proven

CANONICAL = (
    "record.json", "request.json", "approvers.json", "checks.json", "certificate-approvers.json",
    "certificate-checks.json",
)  # RFC 8785  # fmt: skip


def prove(folder: Folder) -> Proven:
    """What the parts of an enrollment that has ended prove.

    Args:
        folder: all parts but manifest, signature and the attestation's.

    Raises:
        EvidenceInvalidError: names the first part that does not agree with another.
    """
    try:
        _require_canonical(folder)
        record = record_of(folder)
        ended = datetime.fromisoformat(record["times"]["ended"])
        proven = derived(folder, record, now=ended)
        require_end(folder, proven)
        if proven.requested is not None:
            require_discarded(folder, record, proven.requested)
    except bundle.UNREADABLE as error:
        raise bundle.unknown_form(error) from None
    return proven


def _require_canonical(folder: Folder) -> None:
    """What the stack made as JSON has one form only (RFC 8785), so that nothing hides in others."""
    for name in CANONICAL:
        if name in folder:
            form = rfc8785.dumps(bundle.read(folder, name))
            require(folder[name] == form, name, "is not in canonical form (RFC 8785)")
