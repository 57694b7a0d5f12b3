"""`countersign`, the command line for people. Installed with the project, never deployed.

Each command is a function in a module of its own subject. This module only collects them, and turns
errors into two lines and an exit code.
"""

import json
import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from countersign.errors import CountersignError
from countersign_cli import enrollments, lint, options, plan, verify, view
from countersign_cli.approvals import command as approvals
from countersign_cli.exits import MEANINGS, CommandError, Exit
from countersign_cli.probe.command import probe

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


class Commands(TyperGroup):
    """All commands. None of them ends with a traceback."""

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
app.command(
    rich_help_panel=ENROLLMENTS,
    epilog=examples(
        "countersign submit request.json --watch --timeout 12h",
        "countersign submit create-key.json csr-request.json --id web-2026-11",
        "jq '.reason = \"OPS-42\"' request.json | countersign submit - --json",
    ),
)(enrollments.submit)
app.command(
    rich_help_panel=ENROLLMENTS,
    epilog=examples(
        "countersign status web-2026-11",
        "countersign status web-2026-11 --watch && countersign csr web-2026-11",
        "countersign status web-2026-11 --json | jq .steps.csr.approvers",
    ),
)(enrollments.status)
app.command(
    rich_help_panel=ENROLLMENTS,
    epilog=examples(
        "countersign csr web-2026-11 > web.csr",
        "countersign csr web-2026-11 | openssl req -noout -subject -verify",
        "countersign csr web-2026-11 --der --out web.der",
    ),
)(enrollments.csr)
app.command(
    rich_help_panel=ENROLLMENTS,
    epilog=examples(
        "countersign certificate web-2026-11 > web.pem",
        "countersign certificate web-2026-11 | openssl x509 -noout -subject -enddate",
        "countersign certificate web-2026-11 --der --out web.cer",
    ),
)(enrollments.certificate)
app.command(
    rich_help_panel=ENROLLMENTS,
    epilog=examples(
        "countersign cancel web-2026-11",
        "countersign cancel web-2026-11 --yes --json",
    ),
)(enrollments.cancel)
app.command(
    rich_help_panel=ENROLLMENTS,
    epilog=examples(
        "countersign resume web-2026-11",
        "countersign list --status failed --json | jq -r .enrollments[].enrollmentId",
    ),
)(enrollments.resume)
app.command(
    "list",
    rich_help_panel=ENROLLMENTS,
    epilog=examples(
        "countersign list",
        "countersign list --status pending",
        "countersign list --status failed --since 7d --json | jq .enrollments",
    ),
)(enrollments.list_)
app.add_typer(
    approvals.commands(examples),
    name="approvals",
    rich_help_panel=DECIDING,
    help="For people who decide: show what is asked, verify it, then approve or decline.",
)
app.command(
    rich_help_panel=FIRST,
    epilog=examples(
        "countersign probe https://tsb.example:8443 --ca ca.pem --tokens tokens.json",
        "countersign probe https://tsb.example:8443 --approver me.pub.pem --wait",
        "countersign probe https://tsb.example:8443 --yes --json | jq .parameters",
    ),
)(probe)
app.command(
    rich_help_panel=BEFOREHAND,
    epilog=examples(
        "countersign plan request.json",
        "countersign plan request.json --as arn:aws:iam::123456789012:user/ada",
        "countersign plan request.json --json | jq .schedule",
    ),
)(plan.plan)
app.command(
    rich_help_panel=BEFOREHAND,
    epilog=examples(
        "countersign lint",
        "countersign lint request.json --json | jq -r '.[].findings[].code'",
    ),
)(lint.lint)
app.command(
    rich_help_panel=AFTERWARDS,
    epilog=examples(
        "countersign verify evidence/ --key key.pem",
        "countersign verify evidence/ --key key.pem --attestation-root <sha256>",
        "countersign verify evidence/ --key key.pem --json | jq .outcome",
    ),
)(verify.verify)


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
        app()
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
