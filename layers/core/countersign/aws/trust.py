"""Which attestations are trusted."""

from countersign.aws import secrets
from countersign.settings import settings
from countersign.verification.attestation import Trust


def trust() -> Trust:
    """The root, the chain and the clock skew that the stack is configured with."""
    root = settings().attestation_root
    chain = secrets.attestation_chain(settings().secret_arns["clientTls"]) if root else ""
    return Trust(root_sha256=root, chain=chain, clock_skew=settings().max_clock_skew)
