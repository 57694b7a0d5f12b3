"""`countersign approvals`: for people who decide. Shows what is asked, verifies it, then signs."""

import getpass
import json
import os
import re
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from countersign.models import now
from countersign_cli import view
from countersign_cli.approvals import client, report, settings, setup
from countersign_cli.approvals.checks import Examined
from countersign_cli.approvals.client import Client
from countersign_cli.exits import CommandError, Exit, confirm, installed
from countersign_cli.options import AsJson

SHA256 = re.compile(r"[0-9a-f]{64}")
PASSPHRASE, PIN, API_KEY = "PASSPHRASE", "PIN", "API_KEY"

Config = Annotated[
    Path,
    typer.Option(
        metavar="FILE",
        help="Your configuration, as setup writes it.",
        envvar=settings.ENVIRONMENT,
        rich_help_panel="Where",
    ),
]
Id = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Enrollment id, key label or task id, as list shows it.",
        show_default=False,
    ),
]


def setup_(config: Config = settings.FILE) -> None:
    """Ask for your configuration, check each answer, and write it. It will hold no secret.

    You need: the TSB's URL and CA, an API key of role approver, the stack's public signing key, and
    your own key in a file (PEM, PKCS #12) or on a token (PKCS #11).
    """
    setup.run(config.expanduser(), hidden)


def list_(config: Config = settings.FILE, as_json: AsJson = False) -> None:
    """List what waits for your decision, the oldest first, and whether its checks passed."""
    listed = _client(config).listed()
    if as_json:
        every = [report.document(one) for one in listed.examined]
        typer.echo(json.dumps({"tasks": every, "unreadable": listed.unreadable}, indent=2))
        return
    console = view.console()
    if listed.examined:
        console.print(report.listing(listed.examined, now()))
    else:
        console.print("Nothing waits for you. What was asked for just now takes some seconds.")
    if listed.unreadable:
        view.console(error=True).print(f"{listed.unreadable} tasks cannot be read.")


def show(name: Id, config: Config = settings.FILE, as_json: AsJson = False) -> None:
    """Show one request and every check of it. Exit code 11 if one fails."""
    found = _client(config).find(name)
    _show(found, as_json=as_json)
    if found.failed:
        raise client.refusal(found)


def approve(
    name: Id,
    *,
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect",
            metavar="SHA256",
            help="Approve only a request of this SHA-256, without asking: for machines.",
        ),
    ] = None,
    config: Config = settings.FILE,
    as_json: AsJson = False,
) -> None:
    """Verify a request, ask you, and sign exactly what the TSB handed out.

    A check that fails ends in a refusal to sign; no option changes that.
    """
    if expect is not None and not SHA256.fullmatch(expect):
        raise CommandError(
            "--expect is no SHA-256", action="Give 64 hex digits in small letters.", code=Exit.USAGE
        )
    desk = _client(config)
    found = desk.find(name, expect)
    if expect is None or not as_json:
        view.console(error=as_json).print(report.request(found, now(), briefly=True))
    if found.failed:
        raise client.refusal(found)
    if expect is None:
        confirm(report.question(found))
    desk.approve(found)
    _decided("approved", found, as_json=as_json)


def decline(
    name: Id,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = settings.FILE,
    as_json: AsJson = False,
) -> None:
    """Decline a request. Nothing is signed for it, so no check needs to pass.

    The TSB has no place for a reason: tell the requester yourself.
    """
    desk = _client(config)
    found = desk.find(name)
    if not yes:
        view.console(error=as_json).print(report.request(found, now(), briefly=True))
        confirm("Decline it? That cannot be taken back.")
    desk.decline(found)
    _decided("declined", found, as_json=as_json)


def open_(
    *,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Show it in the browser at once.")
    ] = True,
    config: Config = settings.FILE,
) -> None:
    """Serve the same on a page of this machine, for you alone, until Ctrl-C.

    The printed address is good for one visit.
    """
    with installed("the page"):
        from countersign_cli.approvals import page  # noqa: PLC0415  only this command serves

    def announce(url: str) -> None:
        typer.echo(url)
        sys.stdout.flush()
        if browser:
            webbrowser.open(url)

    page.serve(_client(config), announce)


def _decided(decision: str, found: Examined, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"decision": decision, **report.document(found)}, indent=2))
    else:
        label = found.approval.label if found.approval else found.task.id
        view.console().print(f"{decision.capitalize()}: {view.clean(label)}.")


def _show(found: Examined, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.document(found), indent=2))
    else:
        view.console().print(report.request(found, now()))


def _client(config: Path) -> Client:
    return client.connect(settings.read(config.expanduser()), hidden)


def hidden(prompt: str) -> str:
    """What is typed, unseen; from the environment where nobody can type.

    Raises:
        CommandError: nobody can, and the environment has none.
    """
    kind = next((one for one in (PASSPHRASE, PIN) if one.lower() in prompt.lower()), API_KEY)
    name = f"{settings.ENVIRONMENT}_{kind}"
    if name in os.environ:
        return os.environ[name]
    if not sys.stdin.isatty():
        raise CommandError(
            f"{prompt}: nobody is there to type it",
            action=f"Run it in a terminal, or set {name}.",
            code=Exit.USAGE,
        )
    return getpass.getpass(f"{prompt}: ")


def commands(examples: Callable[..., str]) -> typer.Typer:
    """The group of these commands.

    Args:
        examples: writes a command's examples.
    """
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
    group.command("setup", epilog=examples("countersign approvals setup"))(setup_)
    group.command(
        "list",
        epilog=examples(
            "countersign approvals list", "countersign approvals list --json | jq '.tasks[].taskId'"
        ),
    )(list_)
    group.command(epilog=examples("countersign approvals show web-2026-11"))(show)
    group.command(
        epilog=examples(
            "countersign approvals approve web-2026-11",
            "countersign approvals approve web-2026-11 --expect <sha256> --json",
        )
    )(approve)
    group.command(epilog=examples("countersign approvals decline web-2026-11"))(decline)
    group.command("open", epilog=examples("countersign approvals open"))(open_)
    return group
