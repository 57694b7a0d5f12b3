"""Windows from minutes to a year, waited through to the end; a next release while people decide.

The waits are on the in-process stack, where time is virtual: their histories are counted by type.
The release is on a deployed stack: what is deployed over what waits is the point of it.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

from local.engine.stack import InProcessStack
from local.stack import Stack
from tests.case import ROOT, Case, group, people, token

DAY = 86_400
WINDOWS = {
    "10 minutes": 600,
    "1 day": DAY,
    "7 days": 7 * DAY,
    "30 days": 30 * DAY,
    "350 days": 350 * DAY,  # the longest that a profile may ask for
    "no limit (the workflow's 30 days)": 0,
}
BUDGETS = {"7 days": 10_000}
BUDGET = 14_000
DEPLOYED = (
    "template.yaml", "samconfig.toml", "functions", "layers", "profiles", "statemachine", "events"
)  # fmt: skip
# Of the release: waits are real while it is deployed, and then nobody waits for the last one.
INSTANTLY = 1e-6
WAITS_SECONDS = 300


@dataclass(frozen=True)
class Waited:
    """A wait that came to its end, and what its history holds."""

    window: str
    tsb_ends_it: bool
    outcome: str | None
    days: float
    polls: int
    events: int
    budget: int
    by_type: dict[str, int]

    @property
    def is_good(self) -> bool:
        """Ended by whom it had to be, and within its budget."""
        wanted = "EXPIRED" if self.tsb_ends_it else "CANCELLED"
        return self.outcome == wanted and self.events < self.budget


def wait_through(stack: InProcessStack, window: str, *, tsb_ends_it: bool) -> Waited:
    """An enrollment that nobody decides.

    Args:
        stack: where.
        window: a name of `WINDOWS`.
        tsb_ends_it: the TSB's clock is right, so the request expires there; else it is behind for
            ever, and the workflow itself cancels in the end.
    """
    case, begun = Case(stack, "wait"), stack.clock.now
    (person,) = people(1)
    arn = case.start(case.request(token(group(person), timeout=WINDOWS[window])))
    case.await_request()
    if not tsb_ends_it:
        case.advance(-2 * max(WINDOWS.values()))
    result = case.end(arn)
    by_type = Counter(event["type"].value for event in result.history)
    return Waited(
        window,
        tsb_ends_it,
        result.record.get("outcome"),
        (stack.clock.now - begun) / DAY,
        result.entered.count("PollRequest"),
        len(result.history),
        BUDGETS.get(window, BUDGET),
        dict(by_type),
    )


# Over a release: how each that waited ends, by what happens after it.
AFTER_THE_RELEASE = {"approved": "ISSUED", "declined": "REJECTED", "never decided": "CANCELLED"}


def wait_over_a_release(stack: Stack) -> dict[str, str | None]:
    """Enrollments that begin under one release and end under the next: each one's outcome.

    Raises:
        AssertionError: one did not wait for the release, or for ever.
    """
    (person,) = people(1)
    cases = {name: Case(stack) for name in AFTER_THE_RELEASE}
    started = {
        name: case.start(case.request(token(group(person), timeout=600)))
        for name, case in cases.items()
    }
    for case in cases.values():
        case.await_calls("/v1/request/{id}", 1)
    folder = stack.folder / "next-release"
    folder.mkdir()
    stack.release(next_release(folder))
    for name, case in cases.items():
        assert case.status(started[name]) == "RUNNING", f"{name}: did not wait for the release"
    stack.scale_waits(INSTANTLY)
    cases["approved"].approve(person)
    cases["declined"].decline(person)
    return {
        name: case.end(started[name], seconds=WAITS_SECONDS).record.get("outcome")
        for name, case in cases.items()
    }


def next_release(folder: Path) -> Path:
    """What is deployed, with a change in the core and in a state that is being waited in."""
    for name in DEPLOYED:
        source = ROOT / name
        if source.is_dir():
            copytree(
                source, folder / name, ignore=ignore_patterns("__pycache__"), dirs_exist_ok=True
            )
        else:
            (folder / name).write_text(source.read_text())
    core = folder / "layers/core/countersign/polling.py"
    core.write_text(core.read_text() + "\nRELEASE = 2\n")
    machine = folder / "statemachine/enrollment.asl.json"
    machine.write_text(
        machine.read_text().replace('"Comment": "The age is', '"Comment": "Release 2. The age is')
    )
    return folder
