"""Process groups that were started here, told from others that have their number meanwhile."""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Self

import psutil

STOP_SECONDS = 10
SAME_SECONDS = 5  # the system derives the time from its clock, which may have been corrected


@dataclass(frozen=True)
class Recorded:
    """A group's leader: numbers are used again, the time of its start is not."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process with this number.

        Raises:
            psutil.NoSuchProcess: it has ended.
        """
        return cls(pid, psutil.Process(pid).create_time())

    @property
    def runs(self) -> bool:
        """Whether this very process runs."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < SAME_SECONDS
            return same and process.status() != psutil.STATUS_ZOMBIE
        return False

    def dump(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def end(pids: Iterable[int]) -> None:
    """End process groups: first by a request, then by force."""
    groups = list(pids)
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for pid in groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, sent)
        deadline = time.monotonic() + STOP_SECONDS
        while any(_alive(pid) for pid in groups) and time.monotonic() < deadline:
            time.sleep(0.05)


def _alive(group: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(group, os.WNOHANG)
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
