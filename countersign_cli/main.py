"""`countersign`, the command line for people. Installed with the project, never deployed.

Each command is a function in a module of its own subject. This module only lists them, and turns
errors into two lines and an exit code. A command's module is loaded when the command is called: all
of them together take a second, which nobody who asks for help would wait.
"""

import json
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from countersign.errors import CountersignError
from countersign_cli import options, view
from countersign_cli.exits import MEANINGS, CommandError, Exit

ENROLLMENTS = "Enrollments"
BEFOREHAND = "Beforehand, without calling anybody"
AFTERWARDS = "Afterwards, without calling anybody"
DECIDING = "For approvers"
FIRST = "First contact"
DEBUG = "COUNTERSIGN_DEBUG"  # set to 1, it shows the traceback of a defect


def examples(*commands: str) -> str:
    """The examples at the end of a command's help."""
    lines = "\n".join(commands)
    return f"**Examples**\n\n```sh\n{lines}\n```"


EXIT_CODES = "**Exit codes**\n\n" + "\n".join(
    f"- {code.value}: {meaning}" for code, meaning in MEANINGS.items()
)


@dataclass(frozen=True)
class Listed:
    """A command as the list of all shows it.

    Args:
        panel: the heading that it stands under.
        place: its module below countersign_cli, and the function there.
        summary: the first line of that function's docstring.
        examples: at the end of its own help.
    """

    panel: str
    place: str
    summary: str
    examples: tuple[str, ...] = ()

    def load(self, name: str) -> Any:
        """The command itself."""
        module, _, function = self.place.partition(":")
        found = getattr(import_module(f"countersign_cli.{module}"), function)
        if not self.examples:
            group = typer.main.get_command(found(examples))
            group.help = self.summary
            return group
        alone = typer.Typer(rich_markup_mode="markdown", add_completion=False)
        alone.command(name, epilog=examples(*self.examples))(found)
        return typer.main.get_command(alone)


COMMANDS = {
    "submit": Listed(
        ENROLLMENTS,
        "enrollments:submit",
        "Ask for a key and a CSR for it. The approvers are asked at once.",
        (
            "countersign submit request.json --watch --timeout 12h",
            "countersign submit create-key.json csr-request.json --id web-2026-11",
            "jq '.reason = \"OPS-42\"' request.json | countersign submit - --json",
        ),
    ),
    "status": Listed(
        ENROLLMENTS,
        "enrollments:status",
        "Show how an enrollment stands: who approved, who declined, who is outstanding, until"
        " when.",
        (
            "countersign status web-2026-11",
            "countersign status web-2026-11 --watch && countersign csr web-2026-11",
            "countersign status web-2026-11 --json | jq .steps.csr.approvers",
        ),
    ),
    "csr": Listed(
        ENROLLMENTS,
        "enrollments:csr",
        "Fetch the CSR of an issued enrollment, for your CA.",
        (
            "countersign csr web-2026-11 > web.csr",
            "countersign csr web-2026-11 | openssl req -noout -subject -verify",
            "countersign csr web-2026-11 --der --out web.der",
        ),
    ),
    "certificate": Listed(
        ENROLLMENTS,
        "enrollments:certificate",
        "Fetch the certificate of an issued enrollment, with the CA's after it.",
        (
            "countersign certificate web-2026-11 > web.pem",
            "countersign certificate web-2026-11 | openssl x509 -noout -subject -enddate",
            "countersign certificate web-2026-11 --der --out web.cer",
        ),
    ),
    "cancel": Listed(
        ENROLLMENTS,
        "enrollments:cancel",
        "Cancel an enrollment: at once at the TSB, and for good. Its CSR is never issued.",
        ("countersign cancel web-2026-11", "countersign cancel web-2026-11 --yes --json"),
    ),
    "resume": Listed(
        ENROLLMENTS,
        "enrollments:resume",
        "Resume an enrollment that failed without a decision, after its approvers were asked.",
        (
            "countersign resume web-2026-11",
            "countersign list --status failed --json | jq -r .enrollments[].enrollmentId",
        ),
    ),
    "list": Listed(
        ENROLLMENTS,
        "enrollments:list_",
        "List enrollments, newest first.",
        (
            "countersign list",
            "countersign list --status pending",
            "countersign list --status failed --since 7d --json | jq .enrollments",
        ),
    ),
    "probe": Listed(
        FIRST,
        "probe.command:probe",
        "Ask your TSB what its documents leave open, with throwaway keys that it removes again.",
        (
            "countersign probe https://tsb.example:8443 --ca ca.pem --tokens tokens.json",
            "countersign probe https://tsb.example:8443 --approver me.pub.pem --wait",
            "countersign probe https://tsb.example:8443 --yes --json | jq .parameters",
        ),
    ),
    "plan": Listed(
        BEFOREHAND,
        "plan:plan",
        "Show what a request would lead to. Nothing is called, nothing is changed, nobody is"
        " asked.",
        (
            "countersign plan request.json",
            "countersign plan request.json --as arn:aws:iam::123456789012:user/ada",
            "countersign plan request.json --json | jq .schedule",
        ),
    ),
    "lint": Listed(
        BEFOREHAND,
        "lint:lint",
        "Show what the linter finds, as the workflow would. Nothing is called, nothing is changed.",
        ("countersign lint", "countersign lint request.json --json | jq -r '.[].findings[].code'"),
    ),
    "verify": Listed(
        AFTERWARDS,
        "verify:verify",
        "Verify the evidence of an enrollment and show what it proves. Calls nobody.",
        (
            "countersign verify evidence/ --key key.pem",
            "countersign verify evidence/ --key key.pem --attestation-root <sha256>",
            "countersign verify evidence/ --key key.pem --json | jq .outcome",
        ),
    ),
    "approvals": Listed(
        DECIDING,
        "approvals.command:commands",
        "For people who decide: show what is asked, verify it, then approve or decline.",
    ),
}


class Commands(TyperGroup):
    """All commands. None of them ends with a traceback."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, one in COMMANDS.items():
            self.commands[name] = TyperCommand(
                name, help=one.summary, rich_help_panel=one.panel, rich_markup_mode="markdown"
            )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, loaded."""
        name = args[0]
        if name in COMMANDS:
            self.commands[name] = COMMANDS[name].load(name)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. An error becomes two lines and an exit code."""
        try:
            return super().invoke(ctx)
        except CommandError as error:
            _tell(error, as_json=ctx.meta.get(options.JSON, False))
            raise typer.Exit(error.code) from None
        except CountersignError as error:
            refused = CommandError(
                error.message,
                action=error.action,
                code=Exit.REFUSED,
                problem={"error": type(error).__name__, "field": error.field},
            )
            _tell(refused, as_json=ctx.meta.get(options.JSON, False))
            raise typer.Exit(refused.code) from None


def _tell(error: CommandError, *, as_json: bool) -> None:
    if as_json:
        told = {"message": error.message, "action": error.action, "exitCode": int(error.code)}
        typer.echo(json.dumps({**(error.problem or {}), **told}, indent=2), err=True)
    else:
        view.console(error=True).print(view.trouble(error.message, error.action))


app = typer.Typer(
    name="countersign",
    cls=Commands,
    help="Certificate signing requests for keys in an HSM, signed after a quorum of people agreed.",
    epilog="\n\n".join(
        [
            examples(
                "countersign submit request.json --watch",
                "countersign status web-2026-11 --watch",
                "countersign csr web-2026-11 > web.csr",
                "countersign list --status pending",
            ),
            "Credentials, profile and region are those of the aws command line.",
            EXIT_CODES,
        ]
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(version("countersign"))
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Certificate signing requests for keys in an HSM, signed after a quorum of people agreed."""


def run() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a ? beats a traceback
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here, where a full disk can still be told
    except OSError as error:
        if os.environ.get(DEBUG):
            raise
        # What could not be written is still in the buffer, and would be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _tell(
            CommandError(
                f"the output cannot be written: {error.strerror}"
                if error.filename is None
                else f"{error.filename}: {error.strerror}",
                action="Free some space, or write elsewhere. A call that was made is done.",
                code=Exit.USAGE,
            ),
            as_json=False,
        )
        sys.exit(Exit.USAGE)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        _tell(
            CommandError(
                f"a defect in countersign: {type(error).__name__}: {error}",
                action=f"Report it, with what the same command prints under {DEBUG}=1.",
                code=Exit.DEFECT,
            ),
            as_json=False,
        )
        sys.exit(Exit.DEFECT)
