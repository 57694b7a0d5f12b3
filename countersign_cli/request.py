"""Reads a request from files: from one file, standard input, or the vendor's two bodies."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from countersign_cli import documents
from countersign_cli.exits import CommandError, Exit

STANDARD_INPUT = "-"
CSR_BODY = (
    "csrSignRequest"  # TSB's name for the CSR within the body of POST /v1/certificate/request
)

type Json = dict[str, Any]


def read(files: Sequence[str]) -> Json:
    """The request in these files.

    One file holds `{"key": …, "csr": …, …}`, or the same below `request` as in a machine input. Two
    files are the bodies of `POST /v1/key` and `POST /v1/certificate/request`, in either order.
    `csr` may still be wrapped in TSB's `csrSignRequest`. Nothing else is checked: the API
    validates.

    Raises:
        CommandError: a file cannot be read or is not a JSON object, or two files are not such a
            pair.
    """
    bodies = [_read_one(name) for name in files]
    if len(bodies) == 1:
        request = bodies[0]
        if isinstance(request.get("request"), dict):
            request = request["request"]
        if CSR_BODY in request or "label" in request:
            raise _unusable(
                files[0],
                "holds one of TSB's two bodies, and a request needs both",
                "Name both files: the key's and the CSR's.",
            )
    else:
        csrs = [body for body in bodies if CSR_BODY in body]
        keys = [body for body in bodies if CSR_BODY not in body]
        if len(csrs) != 1 or len(keys) != 1:
            raise _unusable(
                " and ".join(files),
                "are not one key and one CSR",
                f"Give one file with key and csr, or two: one of them with {CSR_BODY}.",
            )
        request = {"key": keys[0], "csr": csrs[0]}
    csr = request.get("csr")
    if isinstance(csr, dict) and isinstance(csr.get(CSR_BODY), dict):
        request = {**request, "csr": csr[CSR_BODY]}
    return request


def _read_one(name: str) -> Json:
    try:
        body = documents.load(_bytes(name, documents.MOST_BYTES + 1))
    except documents.UnreadableError as error:
        raise _unusable(name, error.why, error.action) from None
    except OSError as error:
        raise _unusable(
            name,
            f"cannot be read: {error.strerror}",
            "Name a file with the request in it, or - for standard input.",
        ) from None
    if not isinstance(body, dict):
        raise _unusable(name, "holds no JSON object", "Write the request as {…}.")
    return body


def _bytes(name: str, most: int) -> bytes:
    if name == STANDARD_INPUT:
        return sys.stdin.buffer.read(most)
    with Path(name).open("rb") as file:
        return file.read(most)


def _unusable(name: str, why: str, action: str) -> CommandError:
    shown = "standard input" if name == STANDARD_INPUT else name
    return CommandError(f"{shown} {why}", action=action, code=Exit.USAGE)
