"""The commands that call the API: submit, status, csr, certificate, cancel, resume, list."""

import json
import re
import sys
import uuid
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from countersign.models import Status, now, timestamp
from countersign_cli import view, watch
from countersign_cli.exits import CommandError, Exit, confirm, of_status
from countersign_cli.options import AsJson, Profile, Region, Stack, Url
from countersign_cli.request import read as read_request

if TYPE_CHECKING:
    from countersign_cli.api import Api

type Json = dict[str, Any]

PAGE = 100  # the API's own limit
SPANS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

EnrollmentId = Annotated[
    str, typer.Argument(metavar="ID", help="The enrollment id.", show_default=False)
]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch",
        "--wait",
        "-w",
        help="Show the approvals as they come, until the outcome: live on a terminal, a line per"
        " change elsewhere, a document per change and line with --json.",
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        metavar="SPAN", help="Stop watching after, for example, 90s, 15m, 12h or 7d: exit code 7."
    ),
]


def submit(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="The request as JSON, or - for standard input; or the two bodies of TSB, the"
            " key's and the CSR's, in either order.",
            show_default=False,
        ),
    ],
    *,
    enrollment_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="The enrollment id, where the file has none. The same id and request again is"
            " the same enrollment.",
        ),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(help="Why, for approvers and records, where the file does not say."),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="The same key and request again is the same enrollment too."
        ),
    ] = None,
    watching: Watch = False,
    timeout: Timeout = None,
    stack: Stack = "countersign",
    url: Url = None,
    profile: Profile = None,
    region: Region = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a key and a CSR for it. The approvers are asked at once.

    Prints the enrollment id on standard output, everything else on standard error.
    """
    seconds = _seconds(timeout)
    requested = _with(read_request(files), enrollmentId=enrollment_id, reason=reason)
    key = idempotency_key
    if key is None and "enrollmentId" not in requested:
        key = str(uuid.uuid4())  # so that the call can be repeated if its answer is lost
    api = _api(stack, url, profile, region)
    try:
        document = api.submit(requested, key)
    except CommandError as error:
        if error.code == Exit.NETWORK and key is not None:
            again = f"It may have arrived: run it again with --idempotency-key {key}"
            raise CommandError(
                error.message,
                action=f"{again}, and it stays one enrollment.",
                code=error.code,
                problem=error.problem,
            ) from None
        raise
    given = document["enrollmentId"]
    if watching:
        if not as_json:
            view.console(error=True).print(f"accepted: {given}")
        document = _watch(api, document, seconds, as_json=as_json)
        raise typer.Exit(of_status(document["status"]))
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        typer.echo(given)
        # Accepted by the API. An enrollment that has already ended shows its outcome.
        told = f"{document['status']}; watch it with: countersign status {given} --watch"
        view.console(error=True).print(view.clean(told))
    ended = of_status(document["status"])
    raise typer.Exit(Exit.OK if ended == Exit.PENDING else ended)


def status(
    enrollment_id: EnrollmentId,
    *,
    watching: Watch = False,
    timeout: Timeout = None,
    stack: Stack = "countersign",
    url: Url = None,
    profile: Profile = None,
    region: Region = None,
    as_json: AsJson = False,
) -> None:
    """Show how an enrollment stands: who approved, who declined, who is outstanding, until when.

    The exit code tells the outcome: 0 issued, 3 rejected, 4 expired, 5 cancelled, 6 failed,
    7 not ended yet.
    """
    seconds = _seconds(timeout)
    api = _api(stack, url, profile, region)
    document = api.status(enrollment_id)
    if watching:
        document = _watch(api, document, seconds, as_json=as_json)
    elif as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        view.console().print(view.enrollment(document, now()))
    raise typer.Exit(of_status(document["status"]))


def csr(
    enrollment_id: EnrollmentId,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write it here instead; an existing file is left alone."),
    ] = None,
    der: Annotated[bool, typer.Option("--der", help="DER (PKCS #10) instead of PEM.")] = False,
    stack: Stack = "countersign",
    url: Url = None,
    profile: Profile = None,
    region: Region = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the CSR of an issued enrollment, for your CA.

    Exit code 7 while it has not ended, and the outcome's where there will never be one.
    """
    _require_writable(out, der=der, as_json=as_json)
    api = _api(stack, url, profile, region)
    _hand_out(api, "csr", enrollment_id, out=out, der=der, as_json=as_json)


def certificate(
    enrollment_id: EnrollmentId,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write it here instead; an existing file is left alone."),
    ] = None,
    der: Annotated[
        bool, typer.Option("--der", help="DER (X.509) instead of PEM, without the CA's.")
    ] = False,
    stack: Stack = "countersign",
    url: Url = None,
    profile: Profile = None,
    region: Region = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the certificate of an issued enrollment, with the CA's after it.

    Only where the request asked for one. Exit code 7 while it has not ended, and the outcome's
    where there will never be one.
    """
    _require_writable(out, der=der, as_json=as_json)
    api = _api(stack, url, profile, region)
    _hand_out(api, "certificate", enrollment_id, out=out, der=der, as_json=as_json)


def _require_writable(out: Path | None, *, der: bool, as_json: bool) -> None:
    if as_json and (der or out):
        raise CommandError(
            "--json prints the PEM within its document", action="Leave out --der and --out.",
            code=Exit.USAGE,
        )  # fmt: skip
    if der and out is None and sys.stdout.isatty():
        raise CommandError(
            "DER is no text for a terminal", action="Give --out FILE.", code=Exit.USAGE
        )


def _hand_out(
    api: "Api",
    what: Literal["csr", "certificate"],
    enrollment_id: str,
    *,
    out: Path | None,
    der: bool,
    as_json: bool,
) -> None:
    fetch = api.csr if what == "csr" else api.certificate
    try:
        content = fetch(enrollment_id, der=der)
    except CommandError as error:
        raise _without_result(api, enrollment_id, error) from None
    if as_json:
        stored = api.status(enrollment_id)[what]
        typer.echo(
            json.dumps({"enrollmentId": enrollment_id, **stored, "pem": content.decode()}, indent=2)
        )
    elif out is None:
        sys.stdout.buffer.write(content)
    else:
        _write(out, content)
        view.console(error=True).print(f"written to {view.clean(out)}")


def cancel(
    enrollment_id: EnrollmentId,
    *,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask; nobody is asked in a script either.")
    ] = False,
    stack: Stack = "countersign",
    url: Url = None,
    profile: Profile = None,
    region: Region = None,
    as_json: AsJson = False,
) -> None:
    """Cancel an enrollment: at once at the TSB, and for good. Its CSR is never issued.

    Cancelling again is no error. What has ended otherwise stays as it is: exit code 8.
    """
    api = _api(stack, url, profile, region)
    if not yes and sys.stdin.isatty():
        before = api.status(enrollment_id)
        if not before["outcome"]:  # otherwise nothing can be lost, and the API explains
            view.console(error=True).print(view.enrollment(before, now()))
            confirm("Cancel it? Approvals given so far are lost.")
    document = api.cancel(enrollment_id)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        view.console().print(view.clean(f"{document['status']}  {view.ending(document)}"))


def resume(
    enrollment_id: EnrollmentId,
    *,
    stack: Stack = "countersign",
    url: Url = None,
    profile: Profile = None,
    region: Region = None,
    as_json: AsJson = False,
) -> None:
    """Resume an enrollment that failed without a decision, after its approvers were asked.

    Reads what the TSB has made of the request, verifies and stores it. Nobody is asked again. What
    cannot be resumed stays as it is: exit code 8, and the reason.
    """
    api = _api(stack, url, profile, region)
    document = watch.until_taken_over(api.resume(enrollment_id), lambda: api.status(enrollment_id))
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        typer.echo(enrollment_id)
        told = f"{document['status']}; watch it with: countersign status {enrollment_id} --watch"
        view.console(error=True).print(view.clean(told))


def list_(
    *,
    standing: Annotated[
        Status | None,
        typer.Option("--status", "-s", case_sensitive=False, help="Only those that stand so."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Accepted since 12h, 7d or 2026-11-01[T08:00:00Z]."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Accepted before.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    stack: Stack = "countersign",
    url: Url = None,
    profile: Profile = None,
    region: Region = None,
    as_json: AsJson = False,
) -> None:
    """List enrollments, newest first."""
    filters = {
        "status": standing,
        "from": _moment("--since", since),
        "to": _moment("--until", until),
        "limit": str(min(limit + 1, PAGE)),  # one more, to know whether there is a next page
    }
    api = _api(stack, url, profile, region)
    given = {name: value for name, value in filters.items() if value}
    found = list(islice(api.enrollments(given), limit + 1))
    shown = found[:limit]
    if as_json:
        typer.echo(json.dumps({"enrollments": shown}, indent=2))
        return
    if not shown:
        view.console(error=True).print("none")
        return
    console = view.console()
    console.print(view.listing(shown, now(), console.width))
    if len(found) > limit:
        view.console(error=True).print(f"and more: --limit {limit * 5}")


# What the commands above have in common -------------------------------------------------------


def _api(stack: str, url: str | None, profile: str | None, region: str | None) -> "Api":
    # Imported here: botocore takes a third of a second, and help and offline commands do not need
    # it.
    from countersign_cli import api  # noqa: PLC0415
    from countersign_cli.account import Account  # noqa: PLC0415

    account = Account(profile, region)
    return api.Api(api.find(account, url=url, stack=stack), account.credentials)


def _with(request: Json, **values: str | None) -> Json:
    """The request with the command line's values. Values in both must be equal."""
    for name, value in values.items():
        if value is not None and request.setdefault(name, value) != value:
            raise CommandError(
                f"{name} is {request[name]!r} in the file and {value!r} on the command line",
                action="Give it once.",
                code=Exit.USAGE,
            )
    return request


def _watch(api: "Api", document: Json, seconds: float | None, *, as_json: bool) -> Json:
    console = view.console()
    live = console.is_terminal and not as_json
    display = watch.LiveDisplay(console) if live else watch.LineDisplay(console, as_json=as_json)
    enrollment_id = document["enrollmentId"]
    try:
        document = watch.until_ended(
            document, lambda: api.status(enrollment_id), display, timeout_seconds=seconds
        )
    except KeyboardInterrupt:
        _goes_on(enrollment_id)
        raise
    if not document.get("outcome"):
        _goes_on(enrollment_id)
    return document


def _goes_on(enrollment_id: str) -> None:
    again = f"not ended yet, and it goes on; see: countersign status {enrollment_id} --watch"
    view.console(error=True).print(again)


def _without_result(api: "Api", enrollment_id: str, error: CommandError) -> CommandError:
    """The refusal with the exit code for the enrollment's status."""
    if error.code != Exit.REFUSED or (error.problem or {}).get("status") != HTTPStatus.CONFLICT:
        return error
    code = of_status(api.status(enrollment_id)["status"])
    return CommandError(error.message, action=error.action, code=code, problem=error.problem)


def _write(path: Path, content: bytes) -> None:
    try:
        with path.open("xb") as file:
            try:
                file.write(content)
                file.flush()
            except OSError:
                path.unlink()  # half of it would be in the way of the next try
                raise
    except OSError as error:
        raise CommandError(
            f"{path} cannot be written: {error.strerror}",
            action="Name another file.",
            code=Exit.USAGE,
        ) from None


def _seconds(span: str | None) -> float | None:
    """The seconds in `90s`, `15m`, `12h` or `7d`."""
    if span is None:
        return None
    return _span("--timeout", span, "90s, 15m, 12h or 7d").total_seconds()


def _moment(option: str, text: str | None) -> str | None:
    """A time as the API expects it, from a time or from a span before now."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return timestamp(now() - _span(option, text, "12h, 7d, 2026-11-01 or 2026-11-01T08:00Z"))
    return timestamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _span(option: str, text: str, examples: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if found is None:
        raise CommandError(
            f"{option}: {text!r} is no time",
            action=f"Write, for example, {examples}.",
            code=Exit.USAGE,
        )
    names = {"s": "seconds", **SPANS}
    return timedelta(**{names[found[2]]: int(found[1])})
