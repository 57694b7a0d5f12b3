"""`countersign verify`: shows what an evidence folder proves. Offline, without credentials."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from countersign.evidence import bundle, verifier
from countersign_cli import view
from countersign_cli.exits import CommandError, Exit
from countersign_cli.options import AsJson


def verify(
    folder: Annotated[
        Path,
        typer.Argument(help="The evidence, as it was copied from the bucket.", show_default=False),
    ],
    *,
    key: Annotated[
        Path,
        typer.Option(
            "--key", help="The stack's public key (PEM), from elsewhere.", show_default=False
        ),
    ],
    attestation_root: Annotated[
        str | None,
        typer.Option(
            "--attestation-root",
            help="SHA-256 (hex) of the HSM maker's root that must have been believed.",
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
    try:
        proven = verifier.verify(
            read(folder), _bytes(key), attestation_root=_digest(attestation_root)
        )
    except bundle.EvidenceInvalidError as error:
        raise CommandError(
            f"the evidence does not hold: {error}",
            action="Copy it again; if it stays so, treat it as a security incident.",
            code=Exit.INVALID,
            problem={"part": error.part},
        ) from None
    if as_json:
        typer.echo(json.dumps(proven.facts, indent=2))
    else:
        view.console().print(shown(proven))


def read(folder: Path) -> dict[str, bytes]:
    """All files of a folder, by their path in it.

    Raises:
        CommandError: there is no such folder.
    """
    if not folder.is_dir():
        raise CommandError(
            f"{folder} is no folder",
            action="Copy the evidence with aws s3 cp --recursive, as docs/evidence.md shows.",
            code=Exit.USAGE,
        )
    return {
        file.relative_to(folder).as_posix(): _bytes(file)
        for file in folder.rglob("*")
        if file.is_file()
    }


def shown(proven: bundle.Proven) -> Table:
    """The facts, one per line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text("✓", "bold green"), Text("the evidence holds", "bold green"))
    for name, value in proven.facts.items():
        table.add_row(name, view.clean(value))
    return table


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandError(
            f"{file} cannot be read: {error.strerror}",
            action="Check the path and who may read it.",
            code=Exit.USAGE,
        ) from None


def _digest(text: str | None) -> str | None:
    """A fingerprint, in any form that openssl writes."""
    return text and text.rpartition("=")[2].replace(":", "").strip().lower()
