"""The order of processes that move one at a time, each from one pause to the next.

A process pauses before every call that it makes. Between two steps only the test runs. So every run
is the same, and a test may act at any point. Processes are greenlets of one thread: they switch in
a microsecond, and a fork of this process copies all of them in the middle of their work.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

from greenlet import getcurrent, greenlet

from local.engine.clock import Clock

FOR_EVER = 10.0**10  # seconds


class AbandonedError(BaseException):
    """Unwinds a process that nobody waits for. No error handler may catch it."""


class Process:
    """Something that moves in steps: an execution, or one invocation of a function.

    Args:
        name: shown to people.
        work: runs on a stack of its own and calls `pause` between its steps.
    """

    def __init__(self, schedule: "Schedule", name: str, work: Callable[[], Any]) -> None:
        self.name = name
        self.at = "the start"  # the next call that it will make
        self.due = schedule.clock.now
        self.awaited: Process | None = None  # it goes on when that process has ended
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_lost = False  # the process that awaits it goes on, and so does it
        self.turn = 0  # when it last moved
        self._schedule = schedule
        self._work = work
        self._abandoned = False
        self._greenlet = _Greenlet(self._run)
        self._greenlet.process = self
        self._mover: Any = None  # who let it move, and goes on at its next pause

    def step(self) -> None:
        """Let it run to its next pause or its end."""
        self._mover = self._greenlet.parent = getcurrent()
        self._greenlet.switch()

    def pause(self, at: str, seconds: float = 0) -> None:
        """Called by the process itself: let others move, and time pass, before `at`."""
        self.at, self.due = at, self._schedule.clock.now + seconds
        self._mover.switch()
        if self._abandoned:
            raise AbandonedError

    def vanish(self) -> None:
        """Called by the process itself: never move again."""
        self._mover.switch()
        raise AbandonedError

    def await_end(self, other: "Process") -> None:
        """Called by the process itself: go on when the other process has ended."""
        self.awaited = other
        self.pause(f"the end of {other.name}")
        self.awaited = None

    def follow(self, name: str, seconds: float, work: Callable[[], Any]) -> None:
        """Let something happen by itself after so much time."""

        def later() -> None:
            follower.pause(name, seconds)
            work()

        follower = self._schedule.add(Process(self._schedule, name, later))

    def end(self, error: BaseException | None = None) -> None:
        """End it from outside, wherever it is. Processes that wait for it see this error."""
        self.ended, self.error = True, error

    def abandon(self) -> None:
        """Unwind it. Call it for each process at the end of the schedule."""
        self._abandoned = self.ended = True
        if not self._greenlet.dead:
            self.step()

    @property
    def is_movable(self) -> bool:
        """Whether it waits for no other process."""
        awaited = self.awaited
        return not self.ended and (awaited is None or awaited.ended or awaited.is_lost)

    def _run(self) -> None:
        try:
            if not self._abandoned:
                self.result = self._work()
        except AbandonedError:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True


class _Greenlet(greenlet):
    process: Process | None = None


def current() -> Process | None:
    """The process that is moving; None while a test is."""
    return getattr(getcurrent(), "process", None)


class Schedule:
    """The processes and the clock that they share."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.processes: list[Process] = []
        self._all: list[Process] = []
        self._turns = count(1)

    def add(self, process: Process) -> Process:
        """Let it move from now on."""
        self.processes.append(process)
        self._all.append(process)
        return process

    def next(self) -> Process | None:
        """The process that is due first; None if nothing is left to do."""
        self.processes = [one for one in self.processes if not one.ended]
        movable = [one for one in self.processes if one.is_movable]
        if not movable:
            return None
        process = min(movable, key=lambda one: (max(one.due, self.clock.now), one.turn))
        return None if process.due - self.clock.now > FOR_EVER / 2 else process

    def step(self) -> Process | None:
        """Let the process that is due first do one step; None if nothing is left to do."""
        process = self.next()
        if process is not None:
            self.clock.advance(max(process.due - self.clock.now, 0))
            process.turn = next(self._turns)
            process.step()
        return process

    def close(self) -> None:
        """Unwind every process."""
        for process in self._all:
            process.abandon()
