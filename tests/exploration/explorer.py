"""Walks an enrollment through everything that may happen to it.

At each step the process is forked for each choice: the child goes on from exactly there, so that
no prefix is run twice. A child whose stack has a fingerprint that was explored before, with at
least as many faults left, stops: what follows is known.
"""

import os
import pickle
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from local.engine.schedule import Process
from local.engine.stack import InProcessStack
from tests.exploration import choices
from tests.exploration.fingerprint import Fingerprints
from tests.exploration.invariants import MOST_STEPS, violations
from tests.exploration.scenarios import Scenario


@dataclass
class Found:
    """What an exploration has seen.

    Args:
        runs: how many ran to an end and were checked.
        pruned: how many stopped where another had been.
        states: fingerprints, each with the most faults that were left there.
        violations: by sentence, the shortest schedule that leads there, and how many do.
        choices: how often each was made.
    """

    runs: int = 0
    pruned: int = 0
    states: dict[bytes, int] = field(default_factory=dict)
    violations: dict[str, tuple[list[str], int]] = field(default_factory=dict)
    choices: Counter[str] = field(default_factory=Counter)

    def violated(self, sentence: str, schedule: list[str], times: int = 1) -> None:
        known, before = self.violations.get(sentence, (schedule, 0))
        self.violations[sentence] = min(known, schedule, key=len), before + times

    def add(self, other: "Found") -> None:
        """Count what a child has found."""
        self.runs += other.runs
        self.pruned += other.pruned
        for state, left in other.states.items():
            self.states[state] = max(left, self.states.get(state, -1))
        for sentence, (schedule, times) in other.violations.items():
            self.violated(sentence, schedule, times)
        self.choices += other.choices


class Explorer:
    """Explores one scenario on a fresh stack.

    Args:
        only: choices that are made; None: all.
    """

    def __init__(
        self, stack: InProcessStack, scenario: Scenario, only: frozenset[str] | None = None
    ) -> None:
        self._scenario, self._only = scenario, only
        self._walk = scenario.begin(stack)
        self._prints = Fingerprints(stack)
        self._new: dict[bytes, int] = {}
        self.found = Found()

    def explore(self, budget: int) -> Found:
        """All walks with up to so many choices. This process itself takes the one without any."""
        walk, has_ended = self._walk, False
        while walk.steps < MOST_STEPS:
            self._scenario.act(walk)
            process = walk.stack.next()
            if not (has_ended and walk.made):  # only evidence follows, of which nothing branches
                has_ended = not walk.running
                state = self._prints.take(walk.notes)
                known = self.found.states.get(state, -1)
                if walk.made and known >= budget:
                    self.found.pruned += 1
                    return self.found
                self.found.states[state] = self._new[state] = max(budget, known)
            if budget:
                for choice in self._choices(process):
                    self._branch(choice, budget - 1)
            if process is None:
                break
            walk.steps += 1
            walk.stack.step()
        self._check()
        return self.found

    def follow(self, schedule: dict[int, list[str]]) -> list[str]:
        """One walk with these choices, each at its step; what does not hold at its end."""
        walk = self._walk
        while walk.steps < MOST_STEPS:
            self._scenario.act(walk)
            process = walk.stack.next()
            todo = schedule.get(walk.steps, [])
            if todo:
                choices.apply(todo.pop(0), process, walk)
                continue
            if process is None:
                break
            walk.steps += 1
            walk.stack.step()
        return violations(walk, self._scenario)

    def wander(self, seed: int, number: int) -> Found:
        """One walk with so many random choices, at random steps."""
        chance, walk = random.Random(seed), self._walk
        at = sorted(chance.randrange(self._scenario.steps) for _ in range(number))
        while walk.steps < MOST_STEPS:
            self._scenario.act(walk)
            process = walk.stack.next()
            if at and walk.steps >= at[0]:
                possible = list(self._choices(process))
                if possible:
                    at.pop(0)
                    choice = chance.choice(possible)
                    self.found.choices[choice] += 1
                    choices.apply(choice, process, walk)
                    continue
            if process is None:
                break
            walk.steps += 1
            walk.stack.step()
        self._check()
        return self.found

    def _choices(self, process: Process | None) -> Iterator[str]:
        for choice in (*choices.faults(process, self._walk), *choices.events(process, self._walk)):
            if self._only is None or choice in self._only:
                yield choice

    def _check(self) -> None:
        self.found.runs += 1
        for sentence in violations(self._walk, self._scenario):
            self.found.violated(sentence, list(self._walk.made))

    def _branch(self, choice: str, budget: int) -> None:
        self.found.choices[choice] += 1

        def chosen() -> Found:
            states, self.found = self.found.states, Found()
            self.found.states, self._new = states, {}
            choices.apply(choice, self._walk.stack.next(), self._walk)
            self.explore(budget)
            self.found.states = self._new
            return self.found

        found = in_a_fork(chosen)
        self._new |= {
            state: max(left, self._new.get(state, -1)) for state, left in found.states.items()
        }
        self.found.add(found)


def in_a_fork(work: Callable[[], Found]) -> Found:
    """What `work` finds in a copy of this process.

    Raises:
        RuntimeError: it failed; its traceback was printed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            content = pickle.dumps(work())
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(content)
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("a walk failed")
    found: Found = pickle.loads(content)  # noqa: S301  by our own child
    return found
