"""What a test's runs did, as text: states, calls, records, events, the evidence's manifest.

Each test of this folder has its recording beside it. It is compared after the test, so that a
change that is to change nothing can be seen to; `make record` writes them anew, and the diff says
what is different. What differs from run to run (ids, times, keys, signatures) has a name instead.
"""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

from countersign.evidence.bundle import MANIFEST
from local.engine.stack import InProcessStack
from tests.case import TIMED_OUT, Case, Json

FOLDER = Path(__file__).parent / "recorded"
# In this order: a longer form first.
VOLATILE = (
    (r"arn:aws:states:[a-z0-9-]+:\d+:execution:[\w-]+:([\w-]+)", r"<execution \1>"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>"),
    (r"\b[0-9a-f]{64}\b", "<sha256>"),
    (r"sha256:[0-9a-f]{16}\b", "sha256:<short>"),
    (r"\b[0-9a-f]{32}\b", "<id>"),
    (r"\b[0-9a-f]{16}\b", "<digest>"),  # of an answer of the TSB
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "<time>"),
    (r"\bexpires: \d{10}\b", "expires: <time>"),  # of items whose order an id decides
    (r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----(\\n|\n)?", r"<\1>"),
    (r"\b[A-Za-z0-9+/]{59,}={0,2}", "<base64>"),  # an Ed25519 key takes 59 and a sign
    (r"(:secret:[\w/-]+)-[A-Za-z0-9]{6}\b", r"\1-<suffix>"),
    (r'"(versionId|version_id)": ?"[^"]+"', r'"\1": "<version>"'),
    (r"arn:aws:([a-z]+):([a-z0-9-]*):\d{12}:", r"arn:aws:\1:\2:<account>:"),
)
LOOP = ("ChooseNext", "WaitForApproval", "PollRequest")
FAILED_POLL = {"IsSilentTooLong", "WaitForApproval"}  # and the error before them
OF_THE_LOOP = ("Enrollment Awaiting Approval", "Enrollment Approval Progressed")
OF_A_DEPLOY = ("codeVersion",)
BUCKET = re.compile(r'(?<="bucket": ")[^"]+')
RETRIED = "(retried)"
CASE = re.compile(r"\be2e-[0-9a-f]{12}\b")  # never in the middle of a UUID


def recording(stack: InProcessStack) -> str:
    """Everything that has happened on a stack since it was fresh."""
    return counted(normalized("\n".join(_lines(stack)))) + "\n"


def counted(text: str) -> str:
    """The text with a line that comes again and again once, and how often it comes."""
    lines = ((line, len(list(same))) for line, same in groupby(text.split("\n")))
    return "\n".join(line if times == 1 else f"{line} × {times}" for line, times in lines)


def normalized(text: str) -> str:
    """The text with names for what is another in each run; cases are numbered as they appear."""
    cases: dict[str, str] = {}
    text = CASE.sub(lambda found: cases.setdefault(found[0], f"case-{len(cases) + 1}"), text)
    for pattern, name in VOLATILE:
        text = re.sub(pattern, name, text, flags=re.DOTALL)
    return text


def path_of(module: str, test: str) -> Path:
    """Where the recording of a test lies."""
    name = re.sub(r"[^\w-]+", "-", test.removeprefix("test_")).strip("-")
    return FOLDER / module.rpartition(".")[2].removeprefix("test_") / f"{name}.txt"


def _without_hash(name: str) -> tuple[str, str]:
    """A key to sort names by: a hash in a name is another in each run."""
    return re.sub(r"[0-9a-f]{64}", "", name), name


def path(history: list[Json]) -> Iterator[str]:
    """The states of an execution, what failed in them, and whether a retry succeeded."""
    failed, state = False, ""
    for event in history:
        if event["type"].endswith("StateEntered"):
            failed = False
            state = event["stateEnteredEventDetails"]["name"]
            yield state
        elif event["type"] in ("TaskFailed", "TaskTimedOut"):
            (details,) = (v for k, v in event.items() if k.endswith("EventDetails"))
            if (state, details["error"]) != TIMED_OUT:
                failed = True
                yield f"!{details['error']}"
        elif event["type"] == "TaskSucceeded" and failed:
            yield RETRIED


def deployed_recording(case: Case) -> str:
    """Of one enrollment on a deployed stack, what can be the same there."""
    return counted(normalized("\n".join(_deployed_lines(case)))) + "\n"


def comparable(recorded: str) -> Json:
    """What of a recording is the same whichever interpreter carried it out, and however fast.

    Between two polls more or less may happen, so the loop counts once, and so does what only
    concerns it. Names that a deploy gives do not count.
    """
    found: Json = {"executions": [], "record": {}, "events": []}
    title = ""
    for line in recorded.splitlines():
        if line.startswith("# "):
            title = line.removeprefix("# ")
            if title.startswith("execution"):
                found["executions"].append(title)
        elif title.startswith("execution") and not line.startswith("waits:"):
            found["executions"].append(_once(line))
        elif title == "item case-1":
            name, _, value = line.partition(": ")
            if name not in OF_A_DEPLOY:
                found["record"][name] = BUCKET.sub("<bucket>", value)
        elif title.startswith("Enrollment ") and title not in OF_THE_LOOP:
            found["events"].append((title, BUCKET.sub("<bucket>", line)))
    return found


def _once(path_line: str) -> list[str]:
    """The states in their order, those of the loop once; whose turn it is to make a key depends."""
    words = [word for word in path_line.split() if word not in ("WaitForKeySlot", RETRIED)]
    once = [
        word
        for number, word in enumerate(words)
        if not (word in LOOP and words[number - 1] in LOOP)
    ]
    # On the deployed stack the watcher asks the TSB, too, and may meet a fault instead of a poll.
    kept: list[str] = []
    for word in once:
        kept.append(word)
        if {*kept[-3:]} >= FAILED_POLL and kept[-3:] == kept[-6:-3]:
            del kept[-3:]
    return kept


def _lines(stack: InProcessStack) -> Iterator[str]:
    for arn, waits in stack.waits.items():
        now = stack.client("stepfunctions").describe_execution(executionArn=arn)
        yield from _execution(now, stack.history(arn))
        yield f"waits: {' '.join(f'{seconds:g}' for seconds in waits)}"
    yield "# functions"
    for one in stack.invocations:
        yield f"{one.function}: {' '.join(one.calls)}"
    yield "# TSB"
    for call in stack.control("GET", "/calls"):
        if call["role"] != "approver":
            yield f"{call['method']} {call['path']} {call['httpStatus']} {call['role']}"
    read = TypeDeserializer().deserialize
    items = stack.client("dynamodb").scan(TableName=stack.outputs["EnrollmentsTableName"])["Items"]
    for item in sorted(items, key=lambda one: str(one["id"]["S"])):
        yield from _item({name: read(value) for name, value in item.items()})
    yield from _events(stack.events())
    yield "# objects"
    yield from sorted(stack.objects(), key=_without_hash)
    for name, body in stack.objects("evidence").items():
        if name.endswith(MANIFEST):
            content = json.loads(body)
            yield f"# evidence: {content['outcome']}"
            yield " ".join(sorted(content["parts"], key=_without_hash))


def _deployed_lines(case: Case) -> Iterator[str]:
    for arn in case.started:
        now = case.stack.client("stepfunctions").describe_execution(executionArn=arn)
        yield from _execution(now, case.history(arn))
    yield from _item(case.record())
    yield from _events(case.stack.events(case.id))


def _execution(now: Json, history: list[Json]) -> Iterator[str]:
    yield f"# execution: {now['status']} {now.get('error', '')}".rstrip()
    yield " ".join(path(history))


def _item(item: Json) -> Iterator[str]:
    yield f"# item {item['id']}"
    for name in sorted(item):
        yield f"{name}: {_json(item[name])}"


def _events(events: list[Json]) -> Iterator[str]:
    for event in events:
        yield f"# {event['detail-type']}"
        yield _json(event["detail"])


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=int)
