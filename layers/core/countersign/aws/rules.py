"""The rules of this stack."""

from countersign.aws.profiles import profiles
from countersign.polling import DAY_SECONDS
from countersign.request.validation import Rules
from countersign.settings import settings


def rules() -> Rules:
    """What requests this stack accepts."""
    return Rules(
        profiles=profiles(),
        key_password_prefix=settings().key_password_prefix,
        allow_raw_policy=settings().allow_raw_policy,
        deadline_seconds=settings().workflow_deadline_days * DAY_SECONDS,
        escapes_subjects=settings().tsb_escapes_subjects,
        newer_certificates=settings().tsb_newer_certificates,
    )
