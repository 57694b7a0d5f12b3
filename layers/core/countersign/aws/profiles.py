"""The reviewed profiles and the directory."""

from functools import cache
from importlib import resources

from countersign.policy.profiles import Profiles


@cache
def profiles() -> Profiles:
    """The reviewed files, from the layer that is built from the folder `profiles`."""
    return Profiles(resources.files("profiles"))
