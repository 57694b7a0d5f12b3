"""How a check may come out."""

from typing import Literal

type Result = Literal["passed", "failed", "not shown"]
type Said = tuple[Result, str]  # with what was found

PASSED: Said = ("passed", "")
NOT_SHOWN = "not shown by this TSB"


def failed(why: str) -> Said:
    """The check refuses."""
    return "failed", why


def not_shown(why: str) -> Said:
    """It cannot be made."""
    return "not shown", why
