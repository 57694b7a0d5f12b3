"""What the surroundings of a user's machine must not do to the embedded stack.

AWS settings name other accounts, and proxies lead away from this machine.
"""

import os
from collections.abc import Mapping

LOOPBACK = ("127.0.0.1", "localhost", "::1")
NO_AWS_FILES = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def past_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that lead calls to this machine past every proxy, with what they name already.

    Both spellings: curl and Python prefer the small one, others read only the capitals.
    """
    spellings = ("NO_PROXY", "no_proxy")
    existing = [one.strip() for name in spellings for one in environment.get(name, "").split(",")]
    value = ",".join(dict.fromkeys([*filter(None, existing), *LOOPBACK]))
    return dict.fromkeys(spellings, value)


def neutral(environment: Mapping[str, str]) -> dict[str, str]:
    """This environment without the user's AWS settings, and with this machine past every proxy."""
    kept = {name: value for name, value in environment.items() if not name.startswith("AWS_")}
    return {**kept, **past_proxies(environment), **NO_AWS_FILES}


def leave() -> None:
    """Have this process, and what it starts, only know the embedded stack. Idempotent."""
    neutralized = neutral(os.environ)
    os.environ.clear()
    os.environ.update(neutralized)
