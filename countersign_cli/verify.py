"""`countersign verify`: shows what an evidence folder proves. Offline, without credentials."""

import json
import os
import re
import stat
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from countersign.evidence import bundle, verifier
from countersign_cli import view
from countersign_cli.exits import CommandError, Exit
from countersign_cli.options import AsJson

# Left behind by file managers, in every folder that somebody has looked into.
OF_FILE_MANAGERS = (".DS_Store", "desktop.ini", "Thumbs.db")
MOST_BYTES = 64 * 1024 * 1024  # of a folder; evidence has a tenth of a megabyte
SHA256 = re.compile(r"[0-9a-f]{64}")


def verify(
    folder: Annotated[
        Path,
        typer.Argument(help="The evidence, as it was copied from the bucket.", show_default=False),
    ],
    *,
    key: Annotated[
        Path,
        typer.Option(
            "--key",
            help="The stack's public key or a certificate of it (PEM, DER), from elsewhere.",
            show_default=False,
        ),
    ],
    attestation_root: Annotated[
        list[str] | None,
        typer.Option(
            "--attestation-root",
            help="SHA-256 (hex) of the HSM maker's root that must have been believed. Several times"
            " where the stack's was changed.",
            show_default=False,
        ),
    ] = None,
    ca_certificate: Annotated[
        str | None,
        typer.Option(
            "--ca-certificate",
            help="SHA-256 (hex) of the CA's certificate that must have issued.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify the evidence of an enrollment and show what it proves. Calls nobody.

    Signatures and hashes, what the approvers were shown, and every check that was made of the CSR,
    the key, its attestation and the approvals, made again. Names the first thing that does not
    hold.
    """
    roots = [_digest("--attestation-root", one) for one in attestation_root or ()]
    ca = None if ca_certificate is None else _digest("--ca-certificate", ca_certificate)
    files, ignored = read(folder)
    try:
        verified = verifier.verify(files, _bytes(key), attestation_roots=roots, ca_certificate=ca)
    except verifier.UnusableKeyError as error:
        raise CommandError(
            f"--key {key} {error}",
            action="Get it with aws kms get-public-key, as docs/evidence.md shows.",
            code=Exit.USAGE,
        ) from None
    except bundle.EvidenceInvalidError as error:
        raise CommandError(
            f"the evidence does not hold: {error}",
            action="Make sure that --key is the key of the stack that kept it, and copy the folder"
            " again; if it stays so, treat it as a security incident.",
            code=Exit.INVALID,
            problem={"part": error.part},
        ) from None
    facts = verified.facts | ({"ignored": ", ".join(ignored)} if ignored else {})
    if as_json:
        typer.echo(json.dumps({key_of(name): fact for name, fact in facts.items()}, indent=2))
    else:
        view.console().print(shown(facts))


def key_of(name: str) -> str:
    """A fact's name as a key of JSON: `signed by` is `signedBy`, as jq reads it."""
    first, *others = name.lower().split()
    return "".join([first, *(word.capitalize() for word in others)])


def read(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """All files of a folder by their path in it, and what was ignored in it by its name.

    Only plain files are read, each of them once, and nothing that lies outside of the folder.

    Raises:
        CommandError: there is no such folder, or it is none that was copied from the bucket.
    """
    if not folder.is_dir():
        raise _unlike_a_copy(f"{folder} is no folder")
    found: dict[str, bytes] = {}
    ignored: list[str] = []
    left, seen = MOST_BYTES, set()
    for file in _entries(folder):
        name = file.relative_to(folder).as_posix()
        known = file.lstat()
        if not stat.S_ISREG(known.st_mode):
            raise _unlike_a_copy(f"{_quoted(name)} in {folder} is no plain file")
        if file.name in OF_FILE_MANAGERS:
            ignored.append(name)
            continue
        left -= known.st_size
        if left < 0:
            raise _unlike_a_copy(f"{folder} is larger than any evidence")
        if (known.st_dev, known.st_ino) in seen:
            raise _unlike_a_copy(f"{_quoted(name)} in {folder} is another name for another file")
        seen.add((known.st_dev, known.st_ino))
        found[name] = _bytes(file)
    if bundle.MANIFEST not in found:
        inside = sorted(name for name in found if name.endswith(f"/{bundle.MANIFEST}"))
        what = f"; {Path(inside[0]).parent.as_posix()} in it may be" if inside else ""
        raise _unlike_a_copy(f"{folder} is no evidence: it has no {bundle.MANIFEST}{what}")
    return found, sorted(ignored)


def shown(facts: dict[str, str]) -> Table:
    """The facts, one per line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text("✓", "bold green"), Text("the evidence holds", "bold green"))
    for name, value in facts.items():
        table.add_row(name, view.clean(value))
    return table


def _entries(folder: Path) -> list[Path]:
    """Everything in a folder and below that is no folder itself. No link is followed."""
    found: list[Path] = []
    for root, folders, files in os.walk(folder, onerror=_unreadable):
        here = Path(root)
        found += [here / name for name in files]
        found += [here / name for name in folders if (here / name).is_symlink()]
    return sorted(found)


def _unreadable(error: OSError) -> None:
    raise _cannot_be_read(error.filename, error)


def _cannot_be_read(file: Path | str, error: OSError) -> CommandError:
    return CommandError(
        f"{file} cannot be read: {error.strerror}",
        action="Check the path and who may read it.",
        code=Exit.USAGE,
    )


def _unlike_a_copy(why: str) -> CommandError:
    return CommandError(
        why,
        action="Copy the evidence with aws s3 cp --recursive, as docs/evidence.md shows, into a"
        " folder of its own.",
        code=Exit.USAGE,
    )


def _quoted(name: str) -> str:
    """A file's name with every character that could hide another as its code point."""
    return ascii(name)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _cannot_be_read(file, error) from None


def _digest(option: str, text: str) -> str:
    """A fingerprint, in any form that openssl writes.

    Raises:
        CommandError: the text is none.
    """
    digest = text.rpartition("=")[2].replace(":", "").strip().lower()
    if not SHA256.fullmatch(digest):
        raise CommandError(
            f"{option} {ascii(text)} is no SHA-256 fingerprint",
            action="It has 64 hexadecimal digits: openssl x509 -fingerprint -sha256 -noout.",
            code=Exit.USAGE,
        )
    return digest
