"""What people see: steps with their times as they happen, and tables; plain lines elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn

WIDTH = 80  # of a terminal that nobody has made wider
STEP_WIDTH = 66  # what its time leaves of that

console = Console(highlight=False, soft_wrap=True, emoji=False)


@contextmanager
def steps() -> Iterator[Callable[[str], AbstractContextManager[None]]]:
    """A display of steps, which may run at the same time: a spinner, then a line with its time."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("[dim]{task.elapsed:.1f} s", justify="right"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    lock = threading.Lock()

    @contextmanager
    def step(name: str) -> Iterator[None]:
        task = TaskID(-1)
        if console.is_terminal:
            task = progress.add_task(name)
        started = time.monotonic()
        mark = "[red]✗"
        try:
            yield
            mark = "[green]✓"
        finally:
            seconds = time.monotonic() - started
            with lock:
                if console.is_terminal:
                    progress.remove_task(task)
                progress.console.print(
                    f"{mark}[/] {escape(name):<{STEP_WIDTH}} [dim]{seconds:6.1f} s"
                )

    with progress:
        yield step


def table(title: str, rows: dict[str, str]) -> None:
    """Names and values, one line each: a value that is folded cannot be copied."""
    width = max(map(len, rows))
    console.print(f"\n[italic]{escape(title)}[/]")
    for name, value in rows.items():
        console.print(f"[bold]{escape(name):<{width}}[/]  {escape(value)}")
