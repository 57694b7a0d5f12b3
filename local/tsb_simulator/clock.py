"""Time as the simulated HSM sees it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from threading import Lock


class Clock:
    """Wall clock plus an offset for everybody plus one per key label.

    Many enrollments wait on one simulator; ending the window of one must not end the others'.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._offset = 0.0
        self._label_offsets: dict[str, float] = {}

    def now(self, label: str | None = None) -> float:
        """Give epoch seconds, as far as `label` is concerned."""
        with self._lock:
            own = self._label_offsets.get(label, 0.0) if label is not None else 0.0
            return time.time() + self._offset + own

    def advance(self, seconds: float, label: str | None = None) -> None:
        """Move time on, for one label or for all."""
        with self._lock:
            if label is None:
                self._offset += seconds
            else:
                self._label_offsets[label] = self._label_offsets.get(label, 0.0) + seconds

    def reset(self) -> None:
        """Go back to the wall clock."""
        with self._lock:
            self._offset = 0.0
            self._label_offsets.clear()


def iso(epoch: float) -> str:
    """Write a time as TSB does: UTC, whole seconds, Z."""
    return datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
