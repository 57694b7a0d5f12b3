"""How a command ends: its exit code, and what people read if it failed."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import typer


class Exit(IntEnum):
    """The exit codes, the same for every command. Scripts rely on them: never renumber them."""

    OK = 0
    DEFECT = 1
    USAGE = 2
    REJECTED = 3
    EXPIRED = 4
    CANCELLED = 5
    FAILED = 6
    PENDING = 7
    REFUSED = 8
    ACCESS = 9
    NETWORK = 10
    INVALID = 11
    DECLINED = 12
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "issued, or the command did what it says",
    Exit.DEFECT: "a defect in countersign itself",
    Exit.USAGE: "the command or its file cannot be read",
    Exit.REJECTED: "too many approvers declined",
    Exit.EXPIRED: "the window closed before enough had approved",
    Exit.CANCELLED: "cancelled",
    Exit.FAILED: "a fault; somebody must act",
    Exit.PENDING: "not ended yet",
    Exit.REFUSED: "the request was refused: invalid, a conflict, or an unknown id",
    Exit.ACCESS: "no credentials, not allowed, or no such stack",
    Exit.NETWORK: "the API cannot be reached, or answers with a fault of its own",
    Exit.INVALID: "the evidence, or what an approver is asked, does not hold",
    Exit.DECLINED: "the command asked first, and the answer was not yes: nothing was done",
    Exit.INTERRUPTED: "interrupted with Ctrl-C; the enrollment goes on",
}


def of_status(status: str) -> Exit:
    """The exit code for an enrollment's status. An unknown status does not count as an end."""
    if status == "ISSUED":
        return Exit.OK
    ends = (Exit.REJECTED, Exit.EXPIRED, Exit.CANCELLED, Exit.FAILED)
    return next((code for code in ends if code.name == status), Exit.PENDING)


class CommandError(Exception):
    """A command cannot do what was requested.

    Args:
        message: what is wrong, on one line; never a secret.
        action: what the reader should do next.
        code: the exit code.
        problem: the API's problem document (RFC 9457), if it sent one.
    """

    def __init__(
        self,
        message: str,
        *,
        action: str,
        code: Exit,
        problem: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.action = action
        self.code = code
        self.problem = problem


@contextmanager
def installed(what: str) -> Iterator[None]:
    """Import within it what only approvers have installed.

    Args:
        what: needs it.

    Raises:
        CommandError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise CommandError(
            f"{what} needs {error.name}, which is not installed",
            action="Install countersign[approver].",
            code=Exit.USAGE,
        ) from None


def confirm(question: str) -> None:
    """Ask on standard error; every answer but yes, an end of input too, ends the command.

    Raises:
        typer.Exit: with `Exit.DECLINED`.
    """
    try:
        typer.confirm(question, abort=True, err=True)
    except typer.Abort:
        raise typer.Exit(Exit.DECLINED) from None
