"""The reviewed profiles, the directory, and the rules of this stack."""

from functools import cache
from importlib import resources

from countersign.policy.profiles import Profiles
from countersign.polling import DAY_SECONDS
from countersign.request.validation import Rules
from countersign.settings import settings


@cache
def profiles() -> Profiles:
    """The reviewed files, from the layer that is built from the folder `profiles`."""
    return Profiles(resources.files("profiles"))


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
