"""The command line without a network: what it reads, what it shows, how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from countersign import texts
from countersign.api.models import Enrollment
from countersign.errors import InvalidEnrollmentError
from countersign.models import EnrollmentRequest
from countersign.models.base import SENTENCES
from countersign_cli import api, enrollments, request, view
from countersign_cli.account import Account
from countersign_cli.exits import MEANINGS, CommandError, Exit, of_status
from countersign_cli.main import COMMANDS, app

ROOT = Path(__file__).parents[2]
SEED = ROOT / "events/seed"
PASTEABLE = 76  # more would be folded on a terminal of 80 columns
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

type Json = dict[str, Any]


def at(seconds: int) -> str:
    return f"{NOW + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def person(name: str, decision: str) -> Json:
    return {"name": name, "spkiSha256": "00" * 32, "decision": decision}


def step(*approvers: Json) -> Json:
    times = {"requested": at(-600), "windowEnds": at(3000), "nextPoll": at(42)}
    return {"csr": {"approvers": list(approvers), "times": times}}


def document(status: str = "PENDING", **more: Any) -> Json:
    ended = status not in ("PENDING", "CANCELLING")
    groups = [
        {"name": "Security", "quorum": 2, "approvers": ["Ada", "Berta", "Carl"]},
        {"name": "Release", "quorum": 1, "approvers": ["Dora"]},
    ]
    said = {
        "schemaVersion": "1",
        "enrollmentId": "web-2026-11",
        "status": status,
        "stage": "CloseEnrollment" if ended else "PollRequest",
        "outcome": status if ended else None,
        "attempt": 1,
        "executionArn": None,
        "origin": {"trigger": "api", "principal": "arn:aws:iam::000000000000:user/release"},
        "keyLabel": "web.2026-11",
        "request": None,
        "reason": "ticket OPS-42",
        "policy": {
            "tokens": [{"name": "Token1", "timelock": 0, "timeout": 3600, "groups": groups}]
        },
        "steps": step(
            person("Ada", "approved"),
            person("Berta", "outstanding"),
            person("Carl", "declined"),
            person("Dora", "outstanding"),
        ),
        "times": {
            "accepted": at(-620),
            "keyCreated": at(-610),
            "ended": at(-5) if ended else None,
        },
        "csr": None,
        "cancel": None,
        "error": None,
        "links": {},
        **more,
    }
    return Enrollment.read(said).dump()  # as the API says it


def shown(thing: Any, width: int = 100) -> str:
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


def row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name))


# What it shows -----------------------------------------------------------------------------------


def test_approvers_stand_below_the_group_that_needs_them() -> None:
    lines = [line.rstrip() for line in shown(view.enrollment(document(), NOW)).splitlines()]
    first = next(index for index, line in enumerate(lines) if line.startswith("approvals"))

    assert [line.removeprefix("approvals").strip() for line in lines[first : first + 6]] == [
        "Security needs 2 of 3, has 1",
        "✓ Ada    approved",
        "· Berta  outstanding",
        "✗ Carl   declined",
        "Release needs 1 of 1, has 0",
        "· Dora   outstanding",
    ]


def test_a_pending_enrollment_counts_down() -> None:
    text = shown(view.enrollment(document(), NOW))

    assert "closes in 50 min" in row(text, "window")
    assert row(text, "next poll").split("  ", 1)[1].strip() == (
        "within a minute of news, else in 42 s"
    )
    assert "waiting for the approvers" in row(text, "web-2026-11")


def test_the_profile_and_what_the_linter_warns_of_are_shown_unless_it_was_waived() -> None:
    finding = {"code": "x", "path": "key.policy", "sentence": "is tight", "action": "Widen it."}
    told = document(
        profile="code-signing@1",
        findings=[
            {**finding, "level": "warning"},
            {**finding, "level": "warning", "sentence": "is waived", "waiver": "on call"},
            {**finding, "level": "info", "sentence": "is only so"},
        ],
    )

    text = shown(view.enrollment(told, NOW))

    assert "code-signing@1" in row(text, "profile")
    assert row(text, "warning").split(maxsplit=1)[1].strip() == "key.policy: is tight"
    assert "is waived" not in text
    assert "is only so" not in text


def test_a_look_that_is_due_and_a_window_that_has_closed_say_so() -> None:
    text = shown(view.enrollment(document(), NOW + timedelta(seconds=50)))
    later = shown(view.enrollment(document(), NOW + timedelta(hours=2)))

    assert row(text, "next poll").split() == ["next", "poll", "due"]
    assert "soon" in row(later, "next poll")
    assert "closed at" in row(later, "window")


def test_a_list_breaks_no_word_on_eighty_columns() -> None:
    listed = [document(), document("ISSUED", enrollmentId="release-2026-11-24-production")]

    text = shown(view.listing(listed, NOW, 80), width=80)

    assert max(map(len, text.splitlines())) <= 80
    for word in ("waiting", "approvers", "web-2026-11", "release-2026-11-24-production", "50 min"):
        assert word in text


def test_a_timelock_is_shown_until_it_is_over() -> None:
    locked = document()
    locked["policy"]["tokens"][0]["timelock"] = 1200

    assert "in 10 min" in row(shown(view.enrollment(locked, NOW)), "timelock")
    assert "timelock" not in shown(view.enrollment(locked, NOW + timedelta(minutes=11)))


def test_a_stranger_who_approved_stands_out() -> None:
    strange = document(steps=step(person("key sha256:0123456789abcdef", "approved")))

    line = next(
        line
        for line in shown(view.enrollment(strange, NOW)).splitlines()
        if "0123456789abcdef" in line
    )
    assert "not in the policy" in line


@pytest.mark.parametrize(
    ("given_document", "sentence"),
    [
        (document("ISSUED"), "the CSR is approved, verified and stored"),
        (
            document("REJECTED"),
            "declined by Carl; Security has 1 of the 2 it needs, Release has 0 of the 1 it needs",
        ),
        (document("EXPIRED"), "no answer in time from Berta, Dora; "),
        (
            document("CANCELLED", cancel={"by": "arn:aws:iam::0:user/ada", "at": at(-9)}),
            "cancelled by arn:aws:iam::0:user/ada",
        ),
        (document("CANCELLED"), "cancelled at the TSB"),
        (
            document("FAILED", error={"name": "TsbRefusedError", "message": "TSB said no"}),
            "TsbRefusedError: TSB said no",
        ),
        (document("CANCELLING"), "cancelled at the TSB; the workflow ends at its next poll"),
        (document(stage="CreateKey"), "creating the key"),
        (document(stage="RequestCsr"), "waiting for the approvers"),
        (document(stage="RequestCsr", steps={"csr": {}}), "asking for the CSR"),
    ],
    ids=lambda value: value["status"] if isinstance(value, dict) else "",
)
def test_every_status_is_a_sentence(given_document: Json, sentence: str) -> None:
    assert sentence in shown(view.enrollment(given_document, NOW), width=300)
    assert sentence in view.line(given_document)


def test_an_issued_csr_says_where_it_lies_and_how_to_get_it() -> None:
    csr = {"bucket": "bucket", "key": "a/request.pem", "versionId": "1", "sha256": "ab" * 32}
    text = shown(view.enrollment(document("ISSUED", csr=csr), NOW))

    assert "s3://bucket/a/request.pem" in row(text, "CSR")
    assert "countersign csr web-2026-11" in row(text, "get it")
    assert "window" not in text


def test_a_failure_says_what_to_do() -> None:
    error = {
        "name": "TsbRefusedError",
        "message": "m",
        "errorCode": 612,
        "reason": "res.error.x",
        "field": "request.key.label",
        "action": "Choose another label.",
    }
    text = shown(view.enrollment(document("FAILED", error=error), NOW))

    assert "612 res.error.x" in row(text, "TSB says")
    assert "Choose another label." in row(text, "what to do")


def test_text_from_elsewhere_is_neither_markup_nor_steers_the_terminal() -> None:
    evil = "\x1b[2J[red]Ada[/]\u202e\r\n"
    text = shown(
        view.enrollment(document(reason=evil, steps=step(person(evil, "approved"))), NOW)
    ) + view.line(document(steps=step(person(evil, "approved"))))

    assert "[red]Ada[/]" in text
    assert not {"\x1b", "\r", "\u202e"} & set(text)


@given(st.text())
def test_whatever_a_name_is_it_stays_on_its_line(name: str) -> None:
    assert all(map(texts.is_seen, view.clean(name)))
    assert "\n" not in view.line(document(keyLabel=name, steps=step(person(name, "approved"))))


def test_the_list_has_a_line_each() -> None:
    failed = {**document("FAILED"), "error": {"name": "KeyConflictError", "message": "m"}}
    for summary in (documents := [document(), failed]):
        del summary["policy"]
    lines = shown(view.listing(documents, NOW), width=160).splitlines()

    assert lines[1].split()[:2] == ["web-2026-11", "PENDING"]
    assert "in 50 min" in lines[1]
    assert "KeyConflictError" in lines[2]
    assert lines[2].rstrip().endswith("user/release")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_span_has_two_units_at_most(seconds: int, words: str) -> None:
    assert view.span(timedelta(seconds=seconds)) == words


# What it reads -----------------------------------------------------------------------------------


def file(folder: Path, content: object, name: str = "request.json") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


KEY = json.loads((SEED / "create-key.json").read_text())
CSR = json.loads((SEED / "csr-request.json").read_text())
REQUEST = {"key": KEY, "csr": CSR["csrSignRequest"]}


def test_the_vendor_s_two_bodies_make_a_request_in_either_order() -> None:
    pair = [str(SEED / "create-key.json"), str(SEED / "csr-request.json")]

    assert request.read(pair) == request.read(pair[::-1]) == REQUEST


@pytest.mark.parametrize(
    "content",
    [REQUEST, {"request": REQUEST}, {"key": KEY, "csr": CSR}],
    ids=["bare", "machine input", "TSB's body within"],
)
def test_one_file_holds_the_request(tmp_path: Path, content: Json) -> None:
    assert request.read([file(tmp_path, content)]) == REQUEST


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"key": 1, "key": 2}', "is ambiguous: the name 'key' stands twice in an object"),
        ("{\n nope", "is no JSON: Expecting property name enclosed in double quotes at line 2"),
        ("[1]", "holds no JSON object"),
        (KEY, "holds one of TSB's two bodies"),
        (CSR, "holds one of TSB's two bodies"),
    ],
)
def test_an_unusable_file_is_named_with_the_reason(
    tmp_path: Path, content: object, words: str
) -> None:
    with pytest.raises(CommandError) as caught:
        request.read([file(tmp_path, content)])

    assert words in caught.value.message
    assert "request.json" in caught.value.message
    assert caught.value.code == Exit.USAGE


def test_a_missing_binary_or_mismatched_file_is_usage_too(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for files in (
        [str(tmp_path / "none")],
        [str(tmp_path)],
        [str(tmp_path / "binary")],
        [file(tmp_path, KEY), file(tmp_path, KEY, "again.json")],
        [file(tmp_path, KEY)] * 3,
    ):
        with pytest.raises(CommandError) as caught:
            request.read(files)
        assert caught.value.code == Exit.USAGE
        assert caught.value.action


# Where it turns -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://a1b2.execute-api.us-gov-west-1.amazonaws.com/v1/", "us-gov-west-1"),
        ("https://a1b2-vpce-1.execute-api.eu-west-3.amazonaws.com/v1", "eu-west-3"),
        ("https://countersign.example.com", "eu-central-1"),
        ("http://127.0.0.1:4566/_aws/execute-api/a1b2/v1", "eu-central-1"),
    ],
)
def test_a_url_says_itself_for_which_region_to_sign(
    url: str, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    found = api.find(Account(region="eu-central-1"), url=url, stack="countersign")

    assert found == api.Endpoint(url.rstrip("/"), region)


@pytest.mark.parametrize("url", ["http://countersign.example.com", "countersign", "ftp://x/"])
def test_credentials_never_travel_unencrypted(url: str) -> None:
    with pytest.raises(CommandError, match="is no https:// URL"):
        api.find(Account(region="eu-central-1"), url=url, stack="countersign")


@pytest.mark.parametrize(
    ("environment", "region"),
    [
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-2"),
        ({"AWS_PROFILE": "work"}, "eu-north-1"),
        ({"AWS_PROFILE": "work", "AWS_REGION": "eu-west-2"}, "eu-west-2"),
    ],
)
def test_the_region_is_the_aws_command_line_s(
    environment: dict[str, str], region: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[profile work]\nregion = eu-north-1\n")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert Account().region == region
    assert Account(region="ap-south-1").region == "ap-south-1"


# How it ends -------------------------------------------------------------------------------------


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(app, arguments)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("ISSUED", 0),
        ("REJECTED", 3),
        ("EXPIRED", 4),
        ("CANCELLED", 5),
        ("FAILED", 6),
        ("PENDING", 7),
        ("CANCELLING", 7),
        ("SOMETHING_NEW", 7),
    ],
)
def test_every_status_has_its_exit_code(status: str, code: int) -> None:
    assert of_status(status) == code


def test_help_and_page_tell_every_exit_code() -> None:
    page = (ROOT / "docs/cli.md").read_text()
    told = run("--help").output

    assert set(MEANINGS) == set(Exit)
    for code, meaning in MEANINGS.items():
        assert f"{code.value}: {meaning}" in " ".join(told.split())
        assert f"| {code.value} | {meaning} |" in page


def test_every_question_ends_with_its_own_exit_code_if_the_answer_is_not_yes() -> None:
    # click's own Abort would end with 1: a defect.
    asking = {
        path.name
        for path in (ROOT / "countersign_cli").rglob("*.py")
        if "typer.confirm(" in path.read_text()
    }

    assert asking == {"exits.py"}


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"approvals"}))
def test_every_command_teaches_with_an_example(command: str) -> None:
    told = run(command, "--help")

    assert told.exit_code == 0
    assert f"countersign {command}" in told.output.split("Examples", 1)[1]
    assert all(len(line) <= PASTEABLE for line in COMMANDS[command].examples)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_list_says_of_a_command_what_its_own_help_says(command: str) -> None:
    told = COMMANDS[command].load(command).help

    assert str(told).split("\n\n", maxsplit=1)[0].replace("\n", " ") == COMMANDS[command].summary


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["submit"],
        ["status"],
        ["status", "web", "--timeout", "soon", "--watch"],
        ["list", "--since", "tomorrow"],
        ["csr", "web", "--json", "--der"],
        ["submit", "/nowhere/request.json"],
        ["status", "no/id", "--url", "https://example.invalid", "--region", "eu-central-1"],
        ["status", "web", "--url", "http://example.invalid", "--region", "eu-central-1"],
    ],
)
def test_what_cannot_be_meant_is_usage(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "unit")

    answer = run(*arguments)

    assert answer.exit_code == Exit.USAGE
    assert answer.stderr
    assert answer.stdout == ""


# What editors and shells make of a file ----------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_file_is_read_however_it_was_saved(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_bytes('{"reason": "Übergabe"}'.encode(encoding))

    assert request.read([str(tmp_path / "request.json")]) == {"reason": "Übergabe"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[" * 200_000, "nests more than 50 levels deep"),
        (b'{"a":' * 60 + b"1" + b"}" * 60, "nests more than 50 levels deep"),
        (b'{"reason": ' + b"9" * 5_000 + b"}", "thousands of digits"),
        (b" " * 5_000_000, "is larger than 4 MB"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b"\xff\xfe\x00", "no UTF-8"),
    ],
)
def test_what_is_beyond_any_use_is_the_file_s_fault(
    content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / "request.json").write_bytes(content)

    answer = run("lint", str(tmp_path / "request.json"), "--profiles", str(ROOT / "profiles"))

    assert answer.exit_code == Exit.USAGE
    assert told in answer.stderr


@pytest.mark.parametrize("name", ["empty", "docs"])
def test_lint_of_a_folder_without_profiles_fails(name: str, tmp_path: Path) -> None:
    folder = ROOT / "docs" if name == "docs" else tmp_path

    answer = run("lint", "--profiles", str(folder))

    assert answer.exit_code == Exit.USAGE
    assert "there is no profile in" in answer.stderr


def test_a_time_can_be_a_date() -> None:
    assert enrollments._moment("--since", "2026-11-01") == "2026-11-01T00:00:00Z"
    assert "2026-11-01" in run("list", "--since", "yesterday").stderr


@pytest.mark.parametrize("arguments", [["--help"], ["lint"], ["lint", "--json"]])
def test_a_full_disk_is_no_defect(arguments: list[str]) -> None:
    binary = Path(sys.executable).with_name("countersign")
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(
            [binary, *arguments],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert answer.returncode == Exit.USAGE
    assert answer.stderr.splitlines()[0] == (
        "error  the output cannot be written: No space left on device"
    )
    assert "defect" not in answer.stderr
    assert "Exception" not in answer.stderr


# What is wrong with a request --------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(one, (*path, name))


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = with_value(value[path[0]], path[1:], new)
    return changed


@pytest.mark.parametrize("file", ["request.json", "request-by-profile.json"])
def test_what_is_wrong_is_said_without_names_of_types(file: str) -> None:
    original = json.loads((ROOT / "events" / file).read_text())
    said: set[str] = set()
    for path in places(original):
        for new in (None, 5, -1, 0.5, "", "x" * 3000, [], {}, True, [1], {"a": 1}):
            try:
                EnrollmentRequest.read(with_value(original, path, new))
            except InvalidEnrollmentError as error:
                said |= {text for _, text in error.findings}

    own = {text.split("{")[0] for text in SENTENCES.values()}
    assert said
    assert not [text for text in said if not text.startswith(tuple(own - {""}))]
