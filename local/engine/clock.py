"""Virtual time, which passes only when nothing else is left to do.

Every clock of this process (ours, the simulated HSM's, moto's, botocore's) reads it meanwhile.
"""

import time
from datetime import datetime
from zoneinfo import ZoneInfo

import time_machine

# A named zone becomes this process's zone as well: moto asks for local time in some places.
BEGINNING = datetime(2026, 11, 26, 12, 0, tzinfo=ZoneInfo("UTC"))
CALL_SECONDS = 0.01  # duration of a call, so that no two things happen at the same time


class Clock:
    """The time of one in-process stack."""

    def __init__(self) -> None:
        self._travel = time_machine.travel(BEGINNING, tick=False)
        self._traveller: time_machine.Traveller | None = None

    def start(self) -> None:
        """Replace the clocks of this process; the time is the beginning."""
        self._traveller = self._travel.start()

    def restart(self) -> None:
        """Go back to the beginning."""
        assert self._traveller is not None, "the clock has not been started"  # noqa: S101
        self._traveller.move_to(BEGINNING)

    def stop(self) -> None:
        """Give this process its real time back."""
        self._travel.stop()
        self._traveller = None

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def advance(self, seconds: float) -> None:
        """Move on by some seconds. What is due by then happens at the next step."""
        assert self._traveller is not None, "the clock has not been started"  # noqa: S101
        self._traveller.shift(seconds)
