"""People's names by their keys, and nothing else of the directory.

For those who need a name now and then: no certificate is read for it, see `spki.approver_spki`.
"""

import hashlib

from pydantic import BaseModel, ConfigDict, Field

from countersign.policy.rules import Names
from countersign.spki import approver_spki

DIRECTORY = "directory.json"
CONFIG = ConfigDict(defer_build=True, hide_input_in_errors=True)


class _Key(BaseModel):
    model_config = CONFIG

    public_key: str | None = Field(default=None, alias="publicKey")
    certificate: str | None = None


class _Person(BaseModel):
    model_config = CONFIG

    name: str
    keys: tuple[_Key, ...]


class _People(BaseModel):
    model_config = CONFIG

    people: tuple[_Person, ...] = ()


def names_of(directory: bytes) -> Names:
    """The names in a directory file, as `Directory.names` has them; none if it cannot be read.

    A name is for people, and decides nothing. So an unreadable file is no reason to fail here:
    whoever starts an enrollment reads the file as a whole and reports what is wrong with it.
    """
    try:
        return {
            hashlib.sha256(_spki(key)).hexdigest(): person.name
            for person in _People.model_validate_json(directory).people
            for key in person.keys
        }
    except ValueError:
        return {}


def _spki(key: _Key) -> bytes:
    if key.certificate is not None:
        return approver_spki("certificate", key.certificate)
    return approver_spki("public_key", key.public_key or "")
