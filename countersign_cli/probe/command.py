"""`countersign probe`: asks a real TSB what its documents leave open, with throwaway keys."""

import getpass
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from countersign.errors import CountersignError, TsbCredentialsError
from countersign.tsb.models import Tls
from countersign_cli import signer, view
from countersign_cli.calls import MANAGEMENT, OPERATION, Calls, Said, Tokens
from countersign_cli.exits import CommandError, Exit, confirm
from countersign_cli.options import AsJson
from countersign_cli.probe import report
from countersign_cli.probe.access import INVALID_API_KEY, MISSING_API_KEY, MISSING_TOKEN
from countersign_cli.probe.questions import Question
from countersign_cli.probe.run import QUESTIONS, run
from countersign_cli.probe.session import TIMESTAMP_OFF, Pace, Session
from countersign_cli.signer import Signer

ENVIRONMENT = "COUNTERSIGN_PROBE_"
ROLES = ("management", "operation", "service", "approver", "bearer")
REACHING, DECIDING, EXTRA = "Reaching the TSB", "Approver", "Extra"
KEYS = 35
FIX_PLACE = "Check the URL, --ca, --certificate and --proxy, and the network path to the TSB."


def probe(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The TSB, without /v1.", show_default=False)
    ],
    *,
    tokens: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON: API keys by role (management, operation, service, approver) and bearer."
            f" Else {ENVIRONMENT}MANAGEMENT and so on, else they are asked for.",
            rich_help_panel=REACHING,
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CAs (PEM) that the TSB's certificate is verified by; else the public ones.",
            rich_help_panel=REACHING,
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Our client certificate.", rich_help_panel=REACHING),
    ] = None,
    private_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its key.", rich_help_panel=REACHING),
    ] = None,
    proxy: Annotated[
        str | None, typer.Option(metavar="URL", help="An HTTP proxy.", rich_help_panel=REACHING)
    ] = None,
    approver: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Your approver's private key (PEM) signs here; the passphrase is asked for."
            " Without it an approver is made up.",
            rich_help_panel=DECIDING,
        ),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="You approve and decline in your own app; --approver is the public key.",
            rich_help_panel=DECIDING,
        ),
    ] = False,
    onboarded: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Also ask about an approver whom the TSB has onboarded.",
            rich_help_panel=EXTRA,
        ),
    ] = None,
    permanent_key: Annotated[
        bool,
        typer.Option(
            "--permanent-key",
            help="Also make a key that cannot be deleted: it may stay.",
            rich_help_panel=EXTRA,
        ),
    ] = False,
    out: Annotated[
        Path, typer.Option("--report", metavar="FILE", help="Where the report is written.")
    ] = Path("countersign-probe.json"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before it begins.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask your TSB what its documents leave open, with throwaway keys that it removes again.

    Prints what was found, the template's parameters that follow, and writes a report that holds no
    secret: send it with a question. docs/first-contact.md says what to do with each finding.
    """
    given = _tokens(tokens)
    mine, passphrase = _approver(approver, wait=wait)
    tls = Tls(ca_bundle=_text(ca), certificate=_text(certificate), private_key=_text(private_key))
    calls = Calls(url, given, tls=tls, proxy_url=proxy)
    error = view.console(error=True)
    session = Session(
        calls,
        mine,
        say=lambda line: error.print(view.clean(line)),
        pace=Pace(),
        onboarded=onboarded,
        permanent_key=permanent_key,
    )
    usable(session)
    if not yes:
        for line in announcement(session, url):
            error.print(view.clean(line))
        confirm("Begin?")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with error.status("asking") as status:

        def asking(one: Question) -> None:
            number = QUESTIONS.index(one) + 1
            status.update(f"{number} of {len(QUESTIONS)}: {one.asks}")

        result = run(session, asking)
    calls.close()
    secrets = {*given.secrets, urlsplit(url).hostname, passphrase, tls.private_key, proxy}
    found = report.document(result, calls.log, {one for one in secrets if one})
    if as_json:
        typer.echo(report.dump(found), nl=False)
    else:
        place = {"TsbUrl": url, **({"TsbProxyUrl": proxy} if proxy else {})}
        view.console().print(report.shown(found, place))
    _write(out, report.dump(found))
    error.print(f"The report, without secrets: {view.clean(out)}")
    if result.interrupted:
        raise typer.Exit(Exit.INTERRUPTED)
    if result.stopped:
        raise typer.Exit(Exit.NETWORK)
    if result.left:
        raise typer.Exit(Exit.FAILED)


def announcement(session: Session, url: str) -> list[str]:
    """What will be made, in lines."""
    deciding = "An approver made up for the run decides; nobody is asked for anything."
    if session.approver.private_key is None:
        deciding = "You are asked to approve one request and to decline another, in your app."
    elif session.own_approver:
        deciding = "Your approver's key approves one request and declines another."
    return [
        f"At {url} this makes about {KEYS} keys, one after the other,",
        f"all of them named {session.prefix}-…, and requests for their CSRs.",
        deciding,
        "All of it is removed at the end, also where the run is interrupted.",
        "It takes five minutes, most of them waiting for windows to end.",
        *(["With --permanent-key one key may stay."] if session.permanent_key else []),
    ]


def usable(session: Session) -> None:
    """See that TSB, tokens and approver work, before anything is created.

    Raises:
        CommandError: one of them does not; what to do about it.
    """
    calls = session.calls
    try:
        _allowed(calls.ask("GET", "/v1/key", role=MANAGEMENT), "management")
        block = {"blockRequest": {"blockKeyName": session.absent, "keyPassword": None}}
        _allowed(calls.ask("POST", "/v1/block", block, role=OPERATION), "operation")
        signing = session.second if session.approver.private_key is None else session.approver
        tasks = session.tasks(signing)
    except CountersignError as error:
        code = Exit.ACCESS if isinstance(error, TsbCredentialsError) else Exit.NETWORK
        raise CommandError(error.message, action=FIX_PLACE, code=code) from None
    _allowed(tasks, "approver")
    if not tasks.ok and tasks.code != TIMESTAMP_OFF:  # by its clock, which is asked about later
        raise CommandError(
            f"the TSB does not take the approver: POST /v1/filteredAllApprovalTask: {tasks}",
            action="Give a key of RSA, EC or Ed25519, and see that TSB_ENGINE is licensed.",
            code=Exit.ACCESS,
        )


def _allowed(said: Said, role: str) -> None:
    refused = {
        INVALID_API_KEY: f"the TSB does not accept the API key of role {role}",
        MISSING_API_KEY: f"the TSB wants an API key of role {role}, and there is none",
        MISSING_TOKEN: "the TSB wants a bearer token, and there is none",
    }
    if said.not_allowed:
        what = refused.get(said.code or 0, f"the TSB refuses the credentials of role {role}")
        name = "BEARER" if said.code == MISSING_TOKEN else role.upper()
        raise CommandError(
            f"{what} ({said})",
            action=f"Put it into --tokens FILE or {ENVIRONMENT}{name}.",
            code=Exit.ACCESS,
        )
    if said.code is None and not said.ok:
        raise CommandError(f"what answers is no TSB ({said})", action=FIX_PLACE, code=Exit.NETWORK)


def _tokens(file: Path | None) -> Tokens:
    """The tokens of the file, of the environment, or as they are typed; never of an option."""
    content: Any = {}
    if file is not None:
        try:
            content = json.loads(_text(file) or "")
        except ValueError:
            content = None
        if not isinstance(content, dict) or not set(content) <= set(ROLES):
            raise CommandError(
                f"{file} holds no JSON object with the names {', '.join(ROLES)}",
                action='Write it as {"management": "…", "operation": "…", …}.',
                code=Exit.USAGE,
            )
    found = {
        role: content.get(role) or os.environ.get(ENVIRONMENT + role.upper()) for role in ROLES
    }
    if not any(found.values()) and sys.stdin.isatty():
        found = {
            role: getpass.getpass(f"Token of role {role} (Enter for none): ") for role in ROLES
        }
    return Tokens(**{role: _header(role, value) for role, value in found.items() if value})


def _header(role: str, value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise CommandError(
            f"the token of role {role} holds something that no HTTP header can carry",
            action="Copy it again, on one line.",
            code=Exit.USAGE,
        )
    return text


def _approver(file: Path | None, *, wait: bool) -> tuple[Signer | None, str | None]:
    """The user's approver, and the passphrase of the key. None: there is none."""
    if file is None:
        if wait:
            raise CommandError(
                "--wait needs --approver: the key by which the TSB names you",
                action="Give your public key or certificate in PEM.",
                code=Exit.USAGE,
            )
        return None, None
    passphrase = os.environ.get(ENVIRONMENT + "PASSPHRASE")
    try:
        found = signer.read(file, passphrase)
    except signer.NeedsPassphraseError:
        passphrase = getpass.getpass(f"Passphrase of {file}: ")
        found = signer.read(file, passphrase)
    if wait:
        return Signer(found.spki), passphrase
    if found.private_key is None:
        raise CommandError(
            f"{file} holds no private key",
            action="Give the private key, or --wait to decide in your own app.",
            code=Exit.USAGE,
        )
    return found, passphrase


def _text(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise CommandError(
            f"{file} cannot be read: {why}", action="Check the path.", code=Exit.USAGE
        ) from None


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise CommandError(
            f"{file} cannot be written: {error.strerror}",
            action="Name another file with --report; everything else is done.",
            code=Exit.USAGE,
        ) from None


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
