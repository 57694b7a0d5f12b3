"""`countersign approvals setup`: asks for an approver's configuration, and checks each answer."""

from collections.abc import Callable
from pathlib import Path

import typer

from countersign.errors import CountersignError
from countersign.evidence import verifier
from countersign_cli import view
from countersign_cli.approvals import settings
from countersign_cli.approvals.client import Client, calls_to, own_key, stack_key
from countersign_cli.approvals.keys import Ask, Key
from countersign_cli.approvals.settings import ApproverPart, Settings, StackPart, TokenPart, TsbPart
from countersign_cli.calls import Calls
from countersign_cli.exits import CommandError, Exit, confirm

TRIES = 3
PUBLIC, CERTIFICATE = "public key", "certificate"


def run(file: Path, ask: Ask) -> Client:
    """Ask for everything, check it, write the file; returns a client that works.

    Args:
        file: where the configuration is written.
        ask: for API key, passphrase and PIN.

    Raises:
        CommandError: an answer was wrong too often.
    """
    _say("Your security team gives you the TSB's URL, its CA, and the stack's public key.")
    url, ca, calls = _until(_tsb)
    signing_key, stack = _until(_stack)
    approver, key = _until(lambda: _approver(ask))

    def credentials() -> tuple[str | None, Client]:
        reference = _text("API key of the TSB: env:NAME, file:PATH, ask, or none", "ask")
        reference_or_none = None if reference == "none" else reference
        known = settings.api_key(reference_or_none, ask)
        calls.tokens = calls_to(url, ca, known).tokens
        made = Client(calls, key, stack=stack, named_by=approver.named_by)
        waiting = made.listed()
        _say(f"The TSB takes your key. {len(waiting.examined)} requests wait for you.")
        return reference_or_none, made

    reference, client = _until(credentials)
    found = Settings(
        tsb=TsbPart(url=url, ca=ca, api_key=reference),
        stack=StackPart(signing_key=signing_key),
        approver=approver,
    )
    if file.exists():
        confirm(f"Replace {file}?")
    settings.write(found, file)
    _say(f"Written: {file}. Now: countersign approvals list")
    return client


def _tsb() -> tuple[str, str | None, Calls]:
    url = _text("URL of the TSB, without /v1")
    ca = _text("File of the CA of its certificate (PEM), or none for the public ones", "none")
    path = None if ca == "none" else _path(ca)
    calls = calls_to(url, path, None)
    try:
        said = calls.ask("GET", "/v1/versionInfo", role=None)
    except CountersignError as error:
        raise CommandError(error.message, action=error.action, code=Exit.USAGE) from None
    if said.code is None and not said.ok:
        raise CommandError(
            f"what answers there is no TSB ({said})", action="Check the URL.", code=Exit.USAGE
        )
    _say("A TSB answers there.")
    return url, path, calls


def _stack() -> tuple[str, verifier.PublicKey]:
    path = _path(_text("File of the stack's public signing key (PEM)"))
    key = stack_key(Path(path))
    _say(f"Its SHA-256 is {verifier.fingerprint(key)}.")
    confirm("Is that the SHA-256 that your security team has told you by another way?")
    return path, key


def _approver(ask: Ask) -> tuple[ApproverPart, Key]:
    place = _text("Your own key: a file (PEM or PKCS #12), or token")
    if place == "token":
        part = ApproverPart(
            token=TokenPart(
                module=_path(_text("Library of the token (PKCS #11 module)")),
                label=_text("Label of the token"),
                serial=_optional("Its serial number, where two have one label"),
                object=_optional("Label of the key on it, where it has several"),
            )
        )
    else:
        part = ApproverPart(key=_path(place))
    key = own_key(part, ask)
    if not key.protected:
        confirm("Anybody who can read this file can approve as you: it has no passphrase. Go on?")
    usual = CERTIFICATE if key.certificate else PUBLIC
    named = _text(f"What names you in policies: {PUBLIC} or {CERTIFICATE}", usual)
    if named not in (PUBLIC, CERTIFICATE):
        raise CommandError(
            f"{named} is none of the two", action="Type one of them.", code=Exit.USAGE
        )
    certificate = None
    if named == CERTIFICATE and key.certificate is None:
        certificate = _path(_text("File of your certificate"))
    part = part.model_copy(update={"named_by": named, "certificate": certificate})
    return part, key.with_certificate(Path(certificate)) if certificate else key


def _until[T](step: Callable[[], T]) -> T:
    """A step's result; a wrong answer is told, and the step is made again."""
    for _ in range(TRIES - 1):
        try:
            return step()
        except CommandError as error:
            view.console(error=True).print(view.trouble(error.message, error.action))
    return step()


def _text(question: str, default: str | None = None) -> str:
    return str(typer.prompt(question, default=default, err=True)).strip()


def _optional(question: str) -> str | None:
    return _text(f"{question} (Enter for none)", "") or None


def _path(given: str) -> str:
    return str(Path(given).expanduser().absolute())


def _say(line: str) -> None:
    view.console(error=True).print(view.clean(line))
