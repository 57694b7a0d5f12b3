"""An approver at a TSB: lists what waits for them, examines it, approves or declines.

Source: TSB REST API, POST /v1/filteredAllApprovalTask, POST /v1/approval, PATCH /v1/task.
"""

import base64
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from countersign.errors import CountersignError, TsbCredentialsError
from countersign.evidence import verifier
from countersign.models import timestamp
from countersign.texts import printable
from countersign.tsb.models import Tls
from countersign_cli.approvals import checks, keys, settings, tasks
from countersign_cli.approvals.checks import Examined
from countersign_cli.approvals.keys import Ask, Key
from countersign_cli.approvals.settings import Settings
from countersign_cli.calls import APPROVER, Calls, Said, Tokens
from countersign_cli.exits import CommandError, Exit, installed
from countersign_cli.signer import DIGEST

LISTING = "/v1/filteredAllApprovalTask"
TIMESTAMP_OFF, VALIDATION_FAILED, NO_TASK = 404, 600, 652  # TSB's codes, not of HTTP
OLDER_DETAIL_LEVEL = "level5"  # level 6 is known from the vendor's classes alone
PAGE = 5  # tasks: one of a long policy takes 150 KB
MAX_PAGES = 100
PLACE = "Check the URL and the CA in the configuration, and the network path to the TSB."

type Json = dict[str, Any]


@dataclass(frozen=True)
class Listed:
    """What waits for the approver, the oldest first; of `unreadable` tasks nothing is known."""

    examined: list[Examined]
    unreadable: int = 0


class Client:
    """One approver at one TSB. Its calls come one after the other, whoever makes them.

    Args:
        calls: to the TSB, with the API key of role approver.
        key: the approver's own.
        named_by: what the policies name: `public key` or `certificate`.
        stack: the pinned public key of the stack whose requests count.
        now: the time, by the approver's clock.

    Every method raises CommandError: the TSB cannot be reached, does not accept the credentials, or
    refuses.
    """

    def __init__(
        self,
        calls: Calls,
        key: Key,
        *,
        stack: verifier.PublicKey,
        named_by: str = "public key",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.key = key
        self._calls = calls
        self._stack = stack
        self._now = now
        self._skew = timedelta(0)  # of the TSB's clock against ours
        self._detail_level = tasks.DETAIL_LEVEL
        self._one_at_a_time = threading.RLock()
        self._identity = (
            {"approverCertificate": key.certificate}
            if named_by == "certificate"
            else {"approverPublicKey": key.spki}
        )

    def listed(self, expected: str | None = None) -> Listed:
        """Everything that waits, examined. It changes nothing.

        Args:
            expected: the SHA-256 of the request that is expected, where only one is.
        """
        found, unreadable = list[tasks.Task](), 0
        with self._one_at_a_time:
            for page in range(MAX_PAGES):
                listing = self._page(page)
                readable, others = tasks.read(listing)
                found, unreadable = found + readable, unreadable + others
                if len(listing) < PAGE:
                    break
        return Listed([self._examined(one, expected) for one in found], unreadable)

    def find(self, name: str, expected: str | None = None) -> Examined:
        """The task of this id, enrollment id or key label.

        Raises:
            CommandError: there is none, or there are several.
        """
        every = self.listed(expected).examined
        found = [one for one in every if name in names(one)]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(one.task.id for one in found)
            raise CommandError(
                f"{len(found)} tasks are named {name}: {ids}",
                action="Give the id of one of them. Look at all: two for one request are unusual.",
                code=Exit.USAGE,
            )
        raise CommandError(
            f"nothing of that name waits for you: {name}",
            action="See countersign approvals list. What was decided, has ended or was cancelled is"
            " gone.",
            code=Exit.REFUSED,
        )

    def approve(self, examined: Examined) -> None:
        """Sign the bytes that TSB handed out, and hand the signature in. Repeating does no harm.

        Raises:
            CommandError: a check has failed, so nothing was signed.
        """
        if examined.failed:
            raise refusal(examined)
        task = examined.task
        signature = self.key.sign(base64.b64decode(task.approval_to_be_signed))
        body = {
            "id": task.id,
            "approvalToBeSigned": task.approval_to_be_signed,
            "signature": signature,
            "approvalDigestAlgorithm": DIGEST,
            **self._identity,
        }
        with self._one_at_a_time:
            _done(self._ask("POST", "/v1/approval", lambda: body))

    def decline(self, examined: Examined) -> None:
        """Delete the task: the approver's no. It needs no check to pass; TSB takes no reason."""
        with self._one_at_a_time:
            _done(
                self._ask(
                    "PATCH", "/v1/task", lambda: {**self._authentication(), "id": examined.task.id}
                )
            )

    def _examined(self, task: tasks.Task, expected: str | None) -> Examined:
        return checks.examine(
            task, stack=self._stack, approver=self.key.spki, now=self._now(), expected=expected
        )

    def _page(self, number: int) -> list[Any]:
        def body() -> Json:
            paging = {"pageNumber": number, "pageSize": PAGE, "sortOrder": "CREATION_DATE_ASC"}
            level = {"detailLevel": self._detail_level}
            return {**self._authentication(), **level, "paging": paging}

        said = self._ask("POST", LISTING, body)
        if said.code == VALIDATION_FAILED and self._detail_level != OLDER_DETAIL_LEVEL:
            self._detail_level = OLDER_DETAIL_LEVEL
            said = self._ask("POST", LISTING, body)
        if not said.ok:
            raise refused(said, "the list of tasks")
        found = said.content.get("tasks") if isinstance(said.content, dict) else None
        if not isinstance(found, list):
            raise CommandError("what answers is no TSB", action=PLACE, code=Exit.NETWORK)
        return found

    def _authentication(self) -> Json:
        moment = timestamp(self._now() + self._skew)
        return {
            "timestamp": moment,
            "timestampSignature": self.key.sign(moment.encode()),
            "timestampDigestAlgorithm": DIGEST,
            **self._identity,
        }

    def _ask(self, method: str, path: str, body: Callable[[], Json]) -> Said:
        """One call; a second one by the TSB's own clock, where ours is not good enough for it."""
        said = self._call(method, path, body())
        if said.code == TIMESTAMP_OFF and said.reply.date is not None:
            self._skew = said.reply.date - self._now()
            said = self._call(method, path, body())
        return said

    def _call(self, method: str, path: str, body: Json) -> Said:
        try:
            return self._calls.ask(method, path, body, role=APPROVER)
        except CountersignError as error:
            code = Exit.ACCESS if isinstance(error, TsbCredentialsError) else Exit.NETWORK
            raise CommandError(error.message, action=PLACE, code=code) from None


def connect(found: Settings, ask: Ask) -> Client:
    """The client that a configuration describes.

    Args:
        found: the settings, with absolute paths.
        ask: for API key, passphrase and PIN.

    Raises:
        CommandError: a part of it is of no use; which, and what to do.
    """
    stack = stack_key(Path(found.stack.signing_key))
    calls = calls_to(found.tsb.url, found.tsb.ca, settings.api_key(found.tsb.api_key, ask))
    key = own_key(found.approver, ask)
    return Client(calls, key, stack=stack, named_by=found.approver.named_by)


def calls_to(url: str, ca: str | None, api_key: str | None) -> Calls:
    """Calls to a TSB, with the API key of role approver."""
    tls = Tls(ca_bundle=settings.text(Path(ca)) if ca else None)
    try:
        return Calls(url, Tokens(approver=api_key), tls=tls)
    except CountersignError as error:
        action = "Give https://host:port, without /v1, and the CA's certificates in PEM."
        raise CommandError(error.message, action=action, code=Exit.USAGE) from None


def own_key(place: settings.ApproverPart, ask: Ask) -> Key:
    """The approver's key, with the certificate that belongs to it."""
    if place.token is not None:
        key = _token_key(place.token, ask)
    else:
        key = keys.read(Path(place.key or ""), ask)
    if place.certificate is not None:
        key = key.with_certificate(Path(place.certificate))
    if place.named_by == "certificate" and key.certificate is None:
        raise CommandError(
            "policies name you by a certificate, and there is none beside your key",
            action="Give its file (approver.certificate).",
            code=Exit.USAGE,
        )
    return key


def _token_key(place: settings.TokenPart, ask: Ask) -> Key:
    with installed("a token"):
        from countersign_cli.approvals import tokens  # noqa: PLC0415  only owners of one need it
    return tokens.read(place, ask)


def stack_key(file: Path) -> verifier.PublicKey:
    """The stack's public key.

    Raises:
        CommandError: the file holds none.
    """
    try:
        return verifier.public_key(file.read_bytes())
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    except verifier.UnusableKeyError as error:
        why = str(error)
    raise CommandError(
        f"{file} {why}",
        action="Give the stack's public signing key (PEM), as your security team hands it out.",
        code=Exit.USAGE,
    )


def names(examined: Examined) -> set[str]:
    """By what a person can name a task."""
    found = {examined.task.id}
    if examined.shown is not None:
        found.add(examined.shown.enrollment_id)
    if examined.approval is not None:
        found.add(examined.approval.label)
    return found


def refusal(examined: Examined) -> CommandError:
    """Why this is not signed: the first check that failed, and the others by name."""
    first, *others = examined.failed
    more = f"; also {', '.join(one.code for one in others)}" if others else ""
    return CommandError(
        f"not signed: {first.code}: {first.finding}{more}",
        action="Do not approve it elsewhere. Tell your security team, and keep the task's id.",
        code=Exit.INVALID,
        problem={"taskId": examined.task.id, "failed": [one.code for one in examined.failed]},
    )


def refused(said: Said, what: str) -> CommandError:
    """The error for an answer that is no success."""
    text = said.content.get("message") if isinstance(said.content, dict) else None
    told = f"the TSB refuses {what} ({said})" + (f": {printable(str(text))[:200]}" if text else "")
    if said.not_allowed:
        return CommandError(
            told, action="Check the API key of role approver (tsb.api_key).", code=Exit.ACCESS
        )
    if said.code is None:
        return CommandError(f"what answers is no TSB ({said})", action=PLACE, code=Exit.NETWORK)
    actions = {
        NO_TASK: "It was decided, has ended, or was cancelled: see countersign approvals list.",
        TIMESTAMP_OFF: "Set this machine's clock.",
    }
    action = actions.get(said.code, "Check that the TSB knows this key as yours.")
    return CommandError(told, action=action, code=Exit.REFUSED)


def _done(said: Said) -> None:
    if not said.ok:
        raise refused(said, "the decision")
