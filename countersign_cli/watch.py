"""Watches an enrollment until it has ended: live on a terminal, else as lines or documents."""

import json
import time
from collections.abc import Callable
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from countersign.models import now
from countersign_cli import view
from countersign_cli.exits import CommandError, Exit

type Json = dict[str, Any]

FIRST_PAUSE_SECONDS = 2  # keys are created in seconds
LAST_PAUSE_SECONDS = 30  # people decide in minutes
TAKEN_OVER_POLLS = 15  # an execution takes over what it resumes within seconds
GROWTH = 0.05  # the next pause as a share of the time watched so far
FRAMES_PER_SECOND = 4


class Display(Protocol):
    """Where a watch shows the enrollment."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, document: Json, trouble: str | None) -> None:
        """Show the enrollment; `trouble` is why the newest poll failed, None if it did not."""


class LiveDisplay:
    """A view that counts down by itself between two polls."""

    def __init__(self, console: Console) -> None:
        self._document: Json = {}
        self._trouble: str | None = None
        self._watching = True
        self._live = Live(
            get_renderable=self._frame, console=console, refresh_per_second=FRAMES_PER_SECOND
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watching = False
        self._live.stop()

    def show(self, document: Json, trouble: str | None) -> None:
        """See Display."""
        self._document, self._trouble = document, trouble
        self._live.start()
        self._live.refresh()

    def _frame(self) -> RenderableType:
        if not self._document:  # Live requests a frame when it is created
            return Text()
        parts: list[RenderableType] = [view.enrollment(self._document, now())]
        if self._trouble:
            parts.append(Text(f"looking again: {view.clean(self._trouble)}", style="yellow"))
        elif self._watching and not self._document.get("outcome"):
            parts.append(Text("Ctrl-C stops watching; the enrollment goes on.", style="dim"))
        return Group(*parts)


class LineDisplay:
    """One line per change: text, or the whole document as JSON."""

    def __init__(self, console: Console, *, as_json: bool) -> None:
        self._console = console
        self._json = as_json
        self._last = ""
        self._trouble: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to clean up."""

    def show(self, document: Json, trouble: str | None) -> None:
        """See Display."""
        if trouble and trouble != self._trouble:
            view.console(error=True).print(f"looking again: {view.clean(trouble)}")
        self._trouble = trouble
        text = json.dumps(document) if self._json else view.line(document)
        if text == self._last:
            return
        self._last = text
        when = "" if self._json else f"{now():%Y-%m-%dT%H:%M:%SZ}  "
        self._console.file.write(f"{when}{text}\n")
        self._console.file.flush()


def until_taken_over(document: Json, poll: Callable[[], Json]) -> Json:
    """Poll until another execution has the enrollment, for half a minute; the newest document.

    Whoever watches it before would see how it ended the last time, and stop.

    Args:
        document: the enrollment as it ended.
        poll: reads it again.
    """
    ended = document["executionArn"]
    for _ in range(TAKEN_OVER_POLLS):
        if document["executionArn"] != ended:
            break
        time.sleep(FIRST_PAUSE_SECONDS)
        document = poll()
    return document


def until_ended(
    document: Json, poll: Callable[[], Json], display: Display, *, timeout_seconds: float | None
) -> Json:
    """Poll until there is an outcome or the time is over; return the newest document.

    It goes on polling while the network fails, or while the API has a fault of its own.

    Args:
        document: the enrollment now.
        poll: reads it again.
        display: where to show it.
        timeout_seconds: None: without limit.

    Raises:
        CommandError: the API refuses the call.
    """
    began = time.monotonic()
    with display:
        display.show(document, None)
        while not document["outcome"]:
            watched = time.monotonic() - began
            pause = min(max(GROWTH * watched, FIRST_PAUSE_SECONDS), LAST_PAUSE_SECONDS)
            if timeout_seconds is not None:
                if watched >= timeout_seconds:
                    break
                pause = min(pause, timeout_seconds - watched)
            time.sleep(pause)
            trouble = None
            try:
                document = poll()
            except CommandError as error:
                if error.code != Exit.NETWORK:
                    raise
                trouble = error.message
            display.show(document, trouble)
    return document
