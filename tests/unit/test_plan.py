"""What `countersign plan` and `countersign lint` show, letter by letter.

The texts lie in `golden/`; `GOLDEN=write make unit` writes them anew, for the diff to be reviewed.
"""

import json
import os
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType
from typer.testing import CliRunner

from countersign import polling
from countersign.errors import InvalidEnrollmentError
from countersign.models import EnrollmentRequest, timestamp
from countersign.policy import rules
from countersign.policy.profiles import Profiles
from countersign.request import validation
from countersign_cli import lint, plan
from countersign_cli.exits import Exit
from countersign_cli.main import app
from countersign_cli.prices import Prices
from tests.unit.test_template import RESOURCES

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
RECORDED = ROOT / "tests/workflow/recorded"
RULES = lint.rules_of(ROOT / "profiles")
PROFILE_STORE = RULES.profiles
NOW = datetime(2027, 1, 15, 12, tzinfo=UTC)
LISTED = Prices(
    as_of="2026-11-24",
    region="us-east-1",
    by_name={"stateTransition": 0.000025, "lambdaRequest": 0.0000002},
)
BOB = "arn:aws:iam::123456789012:user/bob"
ADA = "arn:aws:iam::123456789012:user/ada.lovelace"

type Json = dict[str, Any]


def by_profile(**more: Any) -> Json:
    return {
        "enrollmentId": "release-1",
        "profile": "code-signing",
        "key": {"label": "SUB.release"},
        "csr": {"standardCertificateAttributes": {"commonName": "Release 1"}},
        "reason": "OPS-42",
        **more,
    }


def seed() -> Json:
    return {
        "key": json.loads((ROOT / "events/seed/create-key.json").read_text()),
        "csr": json.loads((ROOT / "events/seed/csr-request.json").read_text())["csrSignRequest"],
    }


def certified() -> Json:
    return seed() | {"certificate": {"caKeyLabel": "CA.x", "validity": 90, "keyUsage": []}}


def hopeless() -> Json:
    """Everything that can be wrong at once: the same key twice, no window, a frozen use …"""
    raw = seed()
    token = raw["key"]["policy"]["ruleUse"]["tokens"][0]
    token |= {"timeout": 90, "timelock": 120}
    token["groups"][0]["approvals"] *= 2
    token["groups"][0]["quorum"] = 2
    raw["key"]["policy"] |= {"ruleModify": None, "ruleUnblock": None}
    return raw


def ca_policy(*people: str) -> Json:
    """The policy of a CA key for which these people approve, as TSB answers."""
    approvals = [
        {"type": key.kind, "name": name, "value": key.value}
        for name in people
        if (key := PROFILE_STORE.directory.person(name).keys[0])  # type: ignore[union-attr]
    ]
    group = {"name": "g", "quorum": 1, "approvals": approvals}
    token = {"name": "t", "timelock": 0, "timeout": 0, "groups": [group]}
    frozen: Json = {"tokens": []}
    others = dict.fromkeys(("ruleBlock", "ruleUnblock", "ruleModify"), frozen)
    return {"ruleUse": {"tokens": [token]}, **others, "keyStatus": {"blocked": False}}


def made(raw: Json, theirs: Json | None = None, requester: str | None = BOB) -> Json:
    return plan.document(
        raw, RULES, ca_policy=theirs, requester=requester, moment=NOW, listed=LISTED
    )


def rendered(content: RenderableType) -> str:
    written = StringIO()
    Console(file=written, width=100, highlight=False).print(content)
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())


def golden(name: str, text: str) -> None:
    file = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()


PLANS = {
    "profile": made(by_profile()),
    "profile-trial": made(
        {
            "profile": "trial@1",
            "key": {"label": "trial.x"},
            "csr": {"standardCertificateAttributes": {"commonName": "x"}},
        },
        requester=None,
    ),
    "ca-key-of-others": made(by_profile(), ca_policy("Edsger Dijkstra")),
    "ca-key-of-the-same": made(by_profile(), ca_policy("Edsger Dijkstra", "Alan Turing")),
    "requester-approves": made(by_profile(), requester=ADA),
    "own-policy": made(seed()),
    "hopeless": made(hopeless()),
    "certificate": made(certified(), ca_policy("Edsger Dijkstra")),
    "certificate-of-an-unknown-ca": made(certified()),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_reads_like_this(name: str) -> None:
    golden(f"plan-{name}.txt", rendered(plan.shown(PLANS[name])))


def test_a_plan_for_scripts_reads_like_this() -> None:
    golden("plan-profile.json", json.dumps(PLANS["profile"], indent=2) + "\n")


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("profile", False),
        ("ca-key-of-others", False),
        ("ca-key-of-the-same", True),
        ("requester-approves", True),
        ("own-policy", False),
        ("hopeless", True),
    ],
)
def test_a_plan_says_whether_it_would_be_refused(name: str, refused: bool) -> None:
    assert PLANS[name]["refused"] is refused
    assert ("schedule" in PLANS[name]) is not refused


def test_lint_reads_like_this() -> None:
    said = [
        *lint.of_profiles(PROFILE_STORE, ca_policy("Grace Hopper"), NOW),
        (
            "a hopeless request",
            lint.findings(
                validation.examine(hopeless(), rules=RULES, requester=None, moment=NOW),
                PROFILE_STORE,
                None,
            ),
        ),
    ]

    golden("lint.txt", rendered(lint.shown(said)))
    golden("lint.json", json.dumps([lint.document(*one) for one in said], indent=2) + "\n")


def test_a_profile_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    for file in (ROOT / "profiles").glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "broken@1.json").write_text("{}")

    said = dict(lint.of_profiles(Profiles(tmp_path), None, NOW))

    assert set(said) == {"broken@1", "code-signing@1", "trial@1"}
    assert [one.level for one in said["broken@1"]] == ["error"]
    assert said["code-signing@1"] == ()


# What the numbers mean -------------------------------------------------------------------------


def test_the_looks_of_a_plan_are_those_of_the_workflow() -> None:
    requested = EnrollmentRequest.read(seed()).key.policy
    schedule = polling.Schedule(
        window_seconds=rules.window_seconds(requested.rule_use.tokens), timelock_seconds=0
    )

    ages = plan.polls(schedule)

    assert ages[0] == polling.FIRST_SECONDS
    assert ages[-2] < 600 <= ages[-1] <= 600 + polling.MARGIN_SECONDS
    for age, after in zip(ages, ages[1:], strict=False):
        assert after - age == polling.next_wait(schedule, age)
    assert made(seed())["schedule"]["lastPoll"] == timestamp(NOW.replace(minute=10, second=2))


def test_a_plan_counts_every_state_that_is_entered() -> None:
    states = json.loads((ROOT / "statemachine/enrollment.asl.json").read_text())["States"]
    entered, name = [], "AcceptEnrollment"
    while True:
        entered.append(name)
        state = states[name]
        if state["Type"] == "Succeed":
            break
        followed = {
            "ChooseNext": "CloseEnrollment" if "StoreCsr" in entered else "StoreCsr",
            "IsFailed": "EnrollmentEnded",
        }
        name = followed.get(name) or state.get("Next") or state["Default"]
    loop = ["WaitForApproval"]
    while loop[-1] != "ChooseNext":
        loop.append(states[loop[-1]]["Next"])

    assert len(entered) == plan.AROUND_TRANSITIONS
    assert len(loop) == plan.POLL_TRANSITIONS
    for path, calls in ((entered, plan.AROUND_CALLS), (loop, plan.POLL_CALLS)):
        resources = [states[one].get("Resource", "") for one in path]
        assert sum(one.endswith(":lambda:invoke") for one in resources) == calls
    schedule = RESOURCES["WatchEnrollmentsFunction"]["Properties"]["Events"]["Watch"]
    assert schedule["Properties"]["ScheduleExpression"] == "rate(1 minute)"
    assert plan.WATCHED_EVERY_SECONDS == 60
    assert plan.cost([10, 20, 30], 15, LISTED) == {
        "polls": 2,
        "transitions": 16,
        "usd": round(16 * 0.000025 + 7 * 0.0000002, 6),
    }


def test_what_a_certificate_adds_is_counted_from_the_definition_itself() -> None:
    """Both approvals come at once: the states of a whole run, as recorded."""
    file = RECORDED / "certificates/a_certificate_is_issued_under_two_quorums_and_imported.txt"
    entered = file.read_text().splitlines()[1].split()
    polls = entered.count("PollRequest")

    assert len(entered) == (
        plan.AROUND_TRANSITIONS + plan.CERTIFICATE_TRANSITIONS + plan.POLL_TRANSITIONS * polls
    )
    added = {"RequestCertificate", "StoreCertificate"}
    assert len([one for one in entered if one in added]) == plan.CERTIFICATE_CALLS


# At the shell ----------------------------------------------------------------------------------


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout


def test_plan_and_lint_call_nobody_and_say_by_their_exit_code(tmp_path: Path) -> None:
    file, answer = tmp_path / "request.json", tmp_path / "ca-key.json"
    file.write_text(json.dumps({"request": by_profile()}))
    answer.write_text(json.dumps({"json": {"policy": ca_policy("Ada Lovelace")}, "xml": ""}))
    profiles = f"--profiles={ROOT / 'profiles'}"

    code, text = invoke("plan", str(file), profiles)
    assert code == Exit.OK
    assert "could start" in text
    code, text = invoke("plan", str(file), profiles, "--ca-key", str(answer), "--json")
    assert code == Exit.REFUSED
    assert [one["code"] for one in json.loads(text)["findings"]] == ["ca-approvers-overlap"]
    code, text = invoke("lint", str(file), profiles, "--as", ADA)
    assert code == Exit.REFUSED
    assert "requester-approves" in text
    assert lint.POLICIES_ONLY not in text
    code, text = invoke("lint", profiles)
    assert code == Exit.OK
    assert lint.POLICIES_ONLY in " ".join(text.split())
    code, text = invoke("lint", profiles, "--json")
    assert code == Exit.OK
    assert [one["subject"] for one in json.loads(text)] == ["code-signing@1", "trial@1"]


@pytest.mark.parametrize(
    "arguments", [("lint", "--profiles=/nowhere"), ("lint", "--ca-key=/nowhere")]
)
def test_a_missing_file_is_told(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)

    assert invoke(*arguments)[0] == Exit.USAGE


def test_a_plan_knows_whether_the_stack_s_tsb_escapes_subjects() -> None:
    raw = seed()
    raw["csr"]["standardCertificateAttributes"]["organizationName"] = "Example Company, s.r.o."
    rules = lint.rules_of(ROOT / "profiles", escapes_subjects=True)

    with pytest.raises(InvalidEnrollmentError, match="holds a comma"):
        made(raw)
    planned = plan.document(raw, rules, ca_policy=None, requester=None, moment=NOW, listed=LISTED)
    assert "Example Company, s.r.o." in planned["approversSee"]


def test_a_plan_says_what_the_ca_s_key_is_asked_for() -> None:
    raw = seed()
    raw["certificate"] = {"caKeyLabel": "CA.x", "validity": 400, "keyUsage": []}
    rules = lint.rules_of(ROOT / "profiles", newer_certificates=True)

    with pytest.raises(InvalidEnrollmentError, match="valid for 90 days"):
        made(raw)
    planned = plan.document(raw, rules, ca_policy=None, requester=None, moment=NOW, listed=LISTED)
    assert planned["caKey"].startswith("CA.x: its approvers are looked at when it runs; asked for")
    assert 'Followed by: a certificate of CA key "CA.x" for 400 days' in planned["approversSee"]


def test_the_ca_s_approvers_are_compared_for_a_raw_request_too() -> None:
    raw = seed()
    raw["certificate"] = {"caKeyLabel": "CA.x", "validity": 90, "keyUsage": []}
    same = plan.document(
        raw,
        lint.rules_of(ROOT / "profiles"),
        ca_policy=raw["key"]["policy"],
        requester=None,
        moment=NOW,
        listed=LISTED,
    )

    assert "ca-approvers-overlap" in [one["code"] for one in same["findings"]]
