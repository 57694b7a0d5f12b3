"""The recorded runs as a whole: they take every arrow of the definition and emit every event."""

import json
from collections.abc import Iterator

from countersign.errors import CountersignError
from tests.case import ROOT, Json
from tests.catalogue import BY_DETAIL_TYPE
from tests.workflow.recordings import FOLDER, RETRIED

type Arrow = tuple[str, str, str]  # a state, how it was left, the next state


def test_every_arrow_of_the_definition_is_taken_by_some_recorded_run() -> None:
    taken = {
        arrow
        for file in FOLDER.rglob("*.txt")
        for before, line in pairs(file.read_text().splitlines())
        if before.startswith("# execution")
        for arrow in steps(line.split())
    }

    assert arrows() - taken == set()
    assert taken - arrows() == set()


def test_every_event_of_the_catalogue_is_emitted_in_some_recorded_run() -> None:
    lines = {line for file in FOLDER.rglob("*.txt") for line in file.read_text().splitlines()}

    assert {f"# {detail_type}" for detail_type in BY_DETAIL_TYPE} <= lines


def test_every_error_of_ours_ends_a_task_in_some_recorded_run() -> None:
    ours = {f"!{error.__name__}" for error in CountersignError.__subclasses__()}
    words = {word for file in FOLDER.rglob("*.txt") for word in file.read_text().split()}

    assert ours
    assert ours - words == set()


def pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    return zip(lines, lines[1:], strict=False)


def arrows() -> set[Arrow]:
    """Those in the definition."""
    states: Json = json.loads((ROOT / "statemachine/enrollment.asl.json").read_text())["States"]
    found: set[Arrow] = set()
    for name, state in states.items():
        for follower in (state.get("Next"), state.get("Default")):
            found |= {(name, "passed", follower)} if follower else set()
        found |= {(name, "passed", choice["Next"]) for choice in state.get("Choices", ())}
        found |= {(name, "caught", catch["Next"]) for catch in state.get("Catch", ())}
    return found


def steps(path: list[str]) -> Iterator[Arrow]:
    """Those that an execution took: `CreateKey !TsbRefusedError CloseEnrollment`."""
    before, how = "", "passed"
    for word in path:
        if word.startswith("!"):
            how = "caught"
        elif word == RETRIED:
            how = "passed"
        else:
            if before:
                yield before, how, word
            before, how = word, "passed"
