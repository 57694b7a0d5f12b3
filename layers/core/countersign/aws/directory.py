"""The names in the reviewed directory, for functions that need nothing else of it."""

from importlib import resources

from countersign.policy.names import DIRECTORY, names_of
from countersign.policy.rules import Names


def names() -> Names:
    """People's names. Not kept: who asks needs them once in a worker's life, if ever."""
    file = resources.files("profiles") / DIRECTORY
    return names_of(file.read_bytes()) if file.is_file() else {}
