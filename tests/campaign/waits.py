"""Windows from minutes to a year, waited through to the end: history events, counted by type."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

from local.stack import ROOT, Stack
from tests.campaign.faults import new_case
from tests.e2e.case import Case, Run, group, people, token

DAY = 86_400
WINDOWS = {
    "10 minutes": 600,
    "1 day": DAY,
    "7 days": 7 * DAY,
    "30 days": 30 * DAY,
    "365 days": 365 * DAY,
    "no limit (the workflow's 30 days)": 0,
}
BUDGETS = {"7 days": 10_000}
BUDGET = 14_000
DEPLOYED = (
    "template.yaml", "samconfig.toml", "functions", "layers", "profiles", "statemachine", "events"
)  # fmt: skip


@dataclass(frozen=True)
class Waited:
    """A wait that came to its end: what the history holds here, and would hold on AWS."""

    name: str
    outcome: str | None
    looks: int
    here: int
    on_aws: int
    budget: int
    by_type: dict[str, int]
    over_a_deploy: bool


def wait_through(stack: Stack, name: str) -> tuple[Case, str]:
    """Start an enrollment that nobody decides; the workflow itself cancels it in the end."""
    case = new_case(stack, "wait")
    (person,) = people(1)
    return case, case.start(case.request(token(group(person), timeout=WINDOWS[name])))


def account(name: str, run: Run, *, over_a_deploy: bool) -> Waited:
    """Count the history; MiniStack has no TaskStarted, AWS has one for each TaskScheduled."""
    by_type = Counter(event["type"] for event in run.history)
    missing = by_type["TaskScheduled"] - by_type["TaskStarted"]
    return Waited(
        name,
        run.record.get("outcome"),
        run.entered.count("PollRequest"),
        len(run.history),
        len(run.history) + missing,
        BUDGETS.get(name, BUDGET),
        dict(by_type),
        over_a_deploy,
    )


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
