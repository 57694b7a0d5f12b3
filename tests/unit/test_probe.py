"""`countersign probe` against the simulator: it finds every switch as it is set."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from requests.adapters import HTTPAdapter
from rich.console import Console
from urllib3 import HTTPResponse

from countersign_cli.calls import Calls, Tokens
from countersign_cli.probe import access, report
from countersign_cli.probe.questions import Finding, Question
from countersign_cli.probe.run import QUESTIONS, Result, run
from countersign_cli.probe.session import PREFIX, Pace, Session
from countersign_cli.signer import Signer
from local.approver import Approver
from local.engine import network
from local.engine.surroundings import TSB_URL
from local.tsb_simulator import keys, switches
from local.tsb_simulator.policy import FINAL
from local.tsb_simulator.simulator import Simulator
from local.tsb_simulator.switches import Switches

ADA = "ada@example.com"
CERTIFICATE = Approver.generate(ADA, "ec").certificate()
ASKED = {one.name: one for one in QUESTIONS}
DEFAULTS = Switches().model_dump(by_alias=True)

# Of each switch, a value that is not the default. What is not here has values of its own: those.
OTHERS: dict[str, list[Any]] = {
    "serverVersion": ["2.5.1"],
    "labelMaxLength": [64, 180, 210],
    "rsaKeySizes": [[2048, 4096]],
    "timerIntervalSeconds": [60],
    "contentType": ["application/json;charset=ISO-8859-1", "text/plain"],
    "csrValidityMinimum": [1, 30],
    "commonNameMaxLength": [64, 32],
    "onboardedApprovers": [{ADA: CERTIFICATE}, {ADA: None}],
    "timestampPastSeconds": [60, 300],
    "timestampFutureSeconds": [60],
    "timestampSigningCertificates": [["00" * 32]],
}
NO_ROLES = {
    "missingApiKeyHttpStatus",
    "wrongRoleHttpStatus",
    "certificateRole",
    "requestRole",
    "approverApiKey",
}
NO_POLICIES = {
    "quorumOutOfRange",
    "emptyTokens",
    "echoedApprovals",
    "unknownApproverCode",
    "onboardedApprovers",
    "attestationLayout",
    "approvedAfterQuorum",
    "timeoutStopsApproved",
}
# What a setting hides: there the probe must say that it does not know, and must not guess.
HIDES: tuple[tuple[str, Callable[[Any], bool], set[str]], ...] = (
    ("apiAuthentication", lambda value: value is False, NO_ROLES),
    ("skaDeleteNeedsApproval", lambda value: value is True, NO_POLICIES),
    ("subjectBuilding", lambda value: value == "escaped", {"subjectRefused"}),
    ("labelMaxLength", lambda value: value < 201, {"labelInCertificateCalls"}),
)
COVERED_BY = {
    "onboardedApprovers": "onboarded",
    "timestampSigningCertificates": "unknownService",
}


def alternatives() -> list[tuple[str, Any]]:
    """Each switch with each of its values that is not the default."""
    found: list[tuple[str, Any]] = []
    for name, part in switches.described().items():
        values = OTHERS.get(name) or part["values"] or [True, False]
        found += [(name, value) for value in values if value != part["default"]]
    return found


def expected(name: str, value: Any) -> Any:
    """What the probe says of a switch that is set so."""
    if name == "onboardedApprovers":
        return ("onboarded" if value[ADA] else "pending") if ADA in value else "unknown"
    if name == "timestampSigningCertificates":
        return "refused"  # a certificate that is not on the list, whoever is
    if name == "labelMaxLength":
        return min(value, 255)
    return "none" if value is None else value


def rows() -> list[dict[str, Any]]:
    """Settings of all switches, such that any two values of two switches meet in one of them.

    Settings that hide others are left out: `test_what_a_switch_hides_is_not_guessed` has them.
    """
    values: dict[str, list[Any]] = {}
    for name, value in alternatives():
        hides = any(name == one and hidden(value) for one, hidden, _ in HIDES)
        values.setdefault(name, [DEFAULTS[name]])
        values[name] += [] if hides else [value]
    names = list(values)
    wanted = {
        (a, i, b, j)
        for at, a in enumerate(names)
        for b in names[at + 1 :]
        for i, j in product(range(len(values[a])), range(len(values[b])))
    }
    made: list[dict[str, Any]] = []
    while wanted:
        a, i, b, j = min(wanted)
        row = {a: i, b: j}
        for name in names:
            new = [
                sum((one, row[one], name, index) in wanted for one in row)
                + sum((name, index, one, row[one]) in wanted for one in row)
                for index in range(len(values[name]))
            ]
            best = [index for index, count in enumerate(new) if count == max(new)]
            row.setdefault(name, best[len(made) % len(best)])
        wanted -= {(a, row[a], b, row[b]) for at, a in enumerate(names) for b in names[at + 1 :]}
        made.append({name: values[name][index] for name, index in row.items()})
    return made


ROWS = rows()
HIDING = [
    (name, value)
    for name, value in alternatives()
    if any(name == one and hides(value) for one, hides, _ in HIDES)
]


@pytest.fixture(scope="module", autouse=True)
def _one_rsa_key() -> Iterator[None]:
    """Making RSA keys is what takes time, and none of them is looked at."""
    generate = keys.generate_rsa

    @cache
    def once() -> rsa.RSAPrivateKey:
        return generate(2048)

    keys.generate_rsa = lambda bits: once()  # noqa: ARG005
    yield
    keys.generate_rsa = generate


def probed(
    changes: dict[str, Any],
    *,
    prepare: Callable[[Simulator], None] = lambda _: None,
    transport: HTTPAdapter | None = None,
    questions: Sequence[Question] = QUESTIONS,
    **more: Any,
) -> tuple[Result, Simulator]:
    """Probe a simulator that is set so; nothing waits, the simulator's clock moves instead."""
    set_so = Switches()
    switches.change(set_so, changes)
    simulator = Simulator(set_so)
    prepare(simulator)
    clock = simulator.broker.clock
    begun = time.time()
    passed = [0.0]

    def wait(seconds: float) -> None:
        passed[0] += seconds
        clock.advance(seconds)

    management, operation, service, approver = (simulator.api_keys[role][0] for role in ROLES)
    bearer = simulator.tokens.issue(begun + 10**6) if set_so.authorization == "require" else None
    tokens = Tokens(management, operation, service, approver, bearer)
    undo = network.replace(lambda: simulator, lambda *_: None, lambda: None)
    more = {"onboarded": ADA, "permanent_key": True, "say": lambda _: None, **more}
    session = Session(
        Calls(TSB_URL, tokens, transport=transport or HTTPAdapter()),
        pace=Pace(now=lambda: time.time() + passed[0], wait=wait),
        **more,
    )
    try:
        return run(session, lambda _: None, questions), simulator
    finally:
        undo()


ROLES = ("keyManagement", "keyOperation", "service", "approver")


def wrong(result: Result, set_so: dict[str, Any]) -> dict[str, tuple[Any, Finding]]:
    """The switches that were found otherwise than they are set, with what was found."""
    hidden = {name for one, hides, names in HIDES if hides(set_so[one]) for name in names}
    found: dict[str, tuple[Any, Finding]] = {}
    for name, value in set_so.items():
        finding = result.findings[COVERED_BY.get(name, name)]
        should_be = None if name in hidden else expected(name, value)
        if finding.value != should_be:
            found[name] = (should_be, finding)
    return found


def test_every_switch_has_a_question_that_assumes_its_default() -> None:
    for name, value in DEFAULTS.items():
        question = ASKED[COVERED_BY.get(name, name)]
        if name != "onboardedApprovers":  # nobody is onboarded in a TSB that is new
            assert question.assumed == expected(name, value), name


def test_a_question_has_one_name_and_fits_the_table() -> None:
    assert len(ASKED) == len(QUESTIONS)
    assert all(len(one.asks) <= 46 and one.source for one in QUESTIONS)


@pytest.mark.parametrize(("name", "value"), alternatives(), ids=lambda one: str(one)[:40])
def test_a_switch_alone_is_found(name: str, value: Any) -> None:
    """No question needs another one to have been asked, but for whether and how one may call."""
    question = ASKED[COVERED_BY.get(name, name)]
    means = [one for one in access.QUESTIONS if one is not question]

    result, _ = probed({name: value}, questions=[*means, question])

    assert result.findings[question.name].value == expected(name, value)


@pytest.mark.parametrize(("name", "value"), HIDING)
def test_what_a_switch_hides_is_not_guessed(name: str, value: Any) -> None:
    changes = {"onboardedApprovers": {ADA: CERTIFICATE}, name: value}

    result, _ = probed(changes)

    assert not wrong(result, {**DEFAULTS, **changes})


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_switches_are_found_whatever_the_others_are(row: dict[str, Any]) -> None:
    result, _ = probed(row)

    assert not wrong(result, row)


# What it leaves behind ---------------------------------------------------------------------------


class Interfering(HTTPAdapter):
    """The way to the TSB, on which something happens to the answer of a call."""

    def __init__(self, happens: Callable[[int, requests.PreparedRequest, requests.Response], Any]):
        super().__init__()
        self._happens, self._count = happens, 0

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> Any:
        answer = super().send(request, *args, **options)
        self._count += 1
        return self._happens(self._count, request, answer) or answer


def open_requests(simulator: Simulator) -> list[str]:
    found = simulator.broker.requests.values()
    return [one.id for one in found if simulator.broker.assess(one) not in FINAL]


def test_nothing_is_left_behind() -> None:
    result, simulator = probed({})

    assert not result.left
    assert not simulator.broker.keys
    assert not open_requests(simulator)
    assert all(key.label.startswith(PREFIX) for key in simulator.broker.deleted)
    assert len(simulator.broker.deleted) > 20


@pytest.mark.parametrize("at", range(8, 175, 12))
def test_interrupted_right_after_a_call_it_removes_what_that_call_made(at: int) -> None:
    def interrupt(count: int, *_: object) -> None:
        if count == at:
            raise KeyboardInterrupt

    result, simulator = probed({}, transport=Interfering(interrupt), permanent_key=False)

    assert result.interrupted
    assert not simulator.broker.keys
    assert not open_requests(simulator)
    assert not result.left


def test_interrupted_while_it_cleans_up_it_names_what_is_left() -> None:
    def interrupt(_: int, request: requests.PreparedRequest, __: object) -> None:
        if (request.url or "").endswith("/v1/certificate/import/plain"):  # the last question
            deleting.append("begun")
        elif deleting and (request.url or "").endswith("/v1/key/deleteKey"):
            raise KeyboardInterrupt

    deleting: list[str] = []

    result, simulator = probed({}, transport=Interfering(interrupt))

    named = {one.split()[0] for one in result.left}
    assert set(simulator.broker.keys)
    assert set(simulator.broker.keys) <= named


def test_where_a_key_with_a_policy_cannot_be_deleted_one_is_made_and_named() -> None:
    result, simulator = probed({"skaDeleteNeedsApproval": True})

    (label,) = simulator.broker.keys
    assert result.left == [f"{label} not deleted: HTTP 500, 701"]
    assert not open_requests(simulator)
    assert result.parameters["SweepKeys"] == "report"


def test_keys_of_another_run_are_named_and_stay() -> None:
    other = f"{PREFIX}00000000-001"

    def make(simulator: Simulator) -> None:
        body = {"label": other, "algorithm": "EC", "curveOid": "1.2.840.10045.3.1.7"}
        rights = {"decrypt": False, "sign": True, "unwrap": False, "destroyable": True}
        reply = simulator.handle(
            "POST",
            "/v1/key",
            {"x-api-key": simulator.api_keys["keyManagement"][0]},
            json.dumps({**body, "attributes": rights}).encode(),
        )
        assert reply.status == 201

    result, simulator = probed({}, prepare=make)

    assert result.of_other_runs == [other]
    assert list(simulator.broker.keys) == [other]


def test_a_tsb_that_falls_silent_is_not_asked_any_further() -> None:
    def silence(count: int, *_: object) -> None:
        if count >= 60:
            raise requests.ConnectionError("gone")

    result, simulator = probed({}, transport=Interfering(silence))

    assert "does not answer" in result.stopped
    assert len(result.findings) < len(QUESTIONS)
    assert set(simulator.broker.keys) <= {one.split()[0] for one in result.left}


@pytest.mark.parametrize("every", [2, 7])
@pytest.mark.parametrize("body", [b"", b"[]", b'{"tasks": 7}'])
def test_answers_of_another_form_end_one_question_and_nothing_else(every: int, body: bytes) -> None:
    def garble(count: int, request: requests.PreparedRequest, answer: requests.Response) -> Any:
        if count % every == 0 and not (request.url or "").endswith("deleteKey"):
            answer.raw = HTTPResponse(BytesIO(body), preload_content=False)
        return answer

    result, simulator = probed({}, transport=Interfering(garble), permanent_key=False)

    assert len(result.findings) == len(QUESTIONS)
    assert not simulator.broker.keys
    json.dumps(report.document(result, [], ()))


# Clocks, approvers, secrets ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "parameter"),
    [(0, None), (240, None), (400, "480"), (-400, "480"), (3000, None)],
)
def test_the_clock_of_the_hsm_is_found_and_approvers_use_it(
    ahead: int, parameter: str | None
) -> None:
    result, _ = probed({}, prepare=lambda simulator: simulator.broker.clock.advance(ahead))

    found = result.findings["clockSkewSeconds"]
    assert abs(found.value - ahead) <= 2
    assert result.parameters.get("MaxClockSkewSeconds") == parameter
    assert ("Set the HSM's clock" in found.follows) is (ahead == 3000)
    assert result.findings["csrApprovalPayload"].value == "requestInfo"


def test_the_roles_become_parameters_of_the_template() -> None:
    template = (Path(__file__).parents[2] / "template.yaml").read_text()

    result, _ = probed({"certificateRole": "management", "requestRole": "both"})

    assert result.parameters == {"CertificateRole": "KeyManagement", "RequestRole": "KeyOperation"}
    assert all(f"\n  {name}:\n" in template for name in result.parameters)


@pytest.mark.parametrize("kind", ["rsa", "ec", "ed25519"])
def test_the_user_s_own_approver_decides(kind: Any) -> None:
    own = Signer.holding(Approver.generate("Ada", kind)._private_key)

    result, simulator = probed({}, own_approver=own)

    voters = {vote.approver for one in simulator.broker.requests.values() for vote in one.votes}
    assert own.spki in voters
    assert result.findings["oneDecline"].detail == "named in rejectedBy"


def test_the_user_decides_in_an_app_of_their_own() -> None:
    person = Approver.generate("Ada", "ec")
    told: list[str] = []

    def say(line: str) -> None:
        """As the app would: the only open request is decided as the line says."""
        told.append(line)
        (simulator,) = simulators
        if "Please" in line:
            latest = list(simulator.broker.requests.values())[-1]
            simulator.broker.vote(latest, person.spki, approves="approve" in line)

    simulators: list[Simulator] = []

    result, _ = probed({}, prepare=simulators.append, own_approver=Signer(person.spki), say=say)

    assert [line.split()[1] for line in told if "Please" in line] == ["approve", "decline"]
    assert result.findings["csrApprovalPayload"].value == "requestInfo"
    assert result.findings["allDeclined"].value == "REJECTED"
    assert result.findings["secondApproval"].value is None


def test_who_does_not_decide_in_time_ends_the_question() -> None:
    result, simulator = probed({}, own_approver=Signer(Approver.generate("Ada", "ec").spki))

    assert result.findings["fetchOnce"].detail == "nobody decided within 900 s"
    assert not simulator.broker.keys


def test_a_secret_that_the_tsb_repeats_is_in_neither_report_nor_table() -> None:
    secret = "canary-token"
    result, _ = probed({"serverVersion": f"2.2.0 {secret}", "contentType": secret})
    assert result.findings["contentType"].value == secret

    found = report.document(result, [], {secret})
    console = Console(width=80)
    with console.capture() as capture:
        console.print(report.shown(found, {}))

    assert secret not in report.dump(found)
    assert secret not in capture.get()
    assert f"2.2.0 {report.REMOVED}" in capture.get()


def test_the_table_has_eighty_columns_and_says_what_differs() -> None:
    result, _ = probed({"edCurveOid": "reported", "certificateRole": "management"})
    console = Console(width=80)
    with console.capture() as capture:
        console.print(report.shown(report.document(result, [], ()), {"TsbUrl": "https://tsb"}))
    lines = capture.get().splitlines()

    assert max(map(len, lines)) <= 80
    curve = next(line for line in lines if "curveOid" in line)
    assert curve.startswith("! ")
    assert "reported (assumed absent)" in curve
    assert {"- TsbUrl=https://tsb", "- CertificateRole=KeyManagement"} <= {
        line.strip() for line in lines
    }


def test_a_report_makes_a_simulator_like_the_tsb() -> None:
    set_so = {"edCurveOid": "reported", "certificateRole": "management", "rsaKeySizes": [2048]}
    result, _ = probed(set_so)
    findings = report.document(result, [], ())["findings"]

    differing = {
        one["name"]: one["found"]
        for one in findings
        if one["name"] in DEFAULTS and one["found"] not in (None, one["assumed"])
    }

    assert differing == set_so
