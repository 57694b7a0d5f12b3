"""The API in process: its function, its decisions, on tables that moto holds."""

import base64
import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from copy import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import hypothesis
import pytest
from hypothesis import strategies as st
from moto import mock_aws

from countersign import models as m
from countersign import polling
from countersign.api import cancellation, enrollments, problems, views
from countersign.aws.executions import MAX_INPUT_BYTES, written
from countersign.aws.objects import Objects
from countersign.aws.records import Records
from countersign.errors import (
    AwsCallError,
    EnrollmentConflictError,
    InvalidEnrollmentError,
    TsbUnavailableError,
)
from countersign.policy.profiles import Profiles
from countersign.request import canonical, validation
from countersign.states import accept_enrollment, close_enrollment, ownership, poll_request
from countersign.states.cancel_request import cancel_request
from countersign_cli import plan
from countersign_cli.prices import Prices
from local import api_page
from tests.unit.test_template import RESOURCES

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "events/api"
TABLE = "enrollments"
REGION = "eu-central-1"
JOHN = enrollments.Caller("arn:aws:sts::123456789012:assumed-role/release/job-1", "123456789012")
PACE = polling.Schedule(window_seconds=0, timelock_seconds=0)
ARN = "arn:aws:states:eu-central-1:123456789012:execution:machine:"

RULES = validation.Rules(
    profiles=Profiles(ROOT / "profiles"), key_password_prefix="", allow_raw_policy=True
)

LISTED = Prices(
    as_of="2026-11-24", region="us-east-1", by_name={"stateTransition": 0.0, "lambdaRequest": 0.0}
)

type Json = dict[str, Any]


def sample(name: str) -> Json:
    return dict(json.loads((SAMPLES / f"{name}.json").read_text()))


def body() -> Json:
    return dict(json.loads(sample("submit")["body"]))


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    """The table as the template has it."""
    from countersign.aws.clients import client

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    definition = RESOURCES["EnrollmentsTable"]["Properties"]
    wanted = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    with mock_aws():
        client.cache_clear()
        boto3.client("dynamodb").create_table(
            TableName=TABLE, **{name: definition[name] for name in wanted}
        )
        yield Records(TABLE)
    client.cache_clear()


class Machine:
    """Notes what is started; refuses while told to."""

    def __init__(self) -> None:
        self.refuses = False
        self.started: list[tuple[str, Json]] = []

    def start(self, name: str, given: Json) -> bool:
        if self.refuses:
            raise AwsCallError("starting: AWS answered ThrottlingException", action="Try again.")
        self.started.append((name, given))
        return True


@pytest.fixture
def machine() -> Machine:
    return Machine()


type Submit = Callable[..., views.Answer]


@pytest.fixture
def submit(records: Records, machine: Machine) -> Submit:
    def submitted(
        request: Json | None = None, key: str | None = None, caller: enrollments.Caller = JOHN
    ) -> views.Answer:
        return enrollments.submit(
            request or body(),
            key,
            caller,
            base="/v1",
            records=records,
            start=machine.start,
            rules=RULES,
        )

    return submitted


def nameless() -> Json:
    return {name: value for name, value in body().items() if name != "enrollmentId"}


# What the workflow can keep ------------------------------------------------------------------

numbers = st.one_of(
    st.integers(),
    st.sampled_from([0, 60, 366 * 86_400, 2_147_483_640, 6 * 10**13, 2**53, 2**63, 10**30]),
    st.integers(0, 10**6).map(lambda minutes: minutes * 60),
)


@hypothesis.settings(
    max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    rule=st.sampled_from(["ruleUse", "ruleBlock", "ruleUnblock", "ruleModify"]),
    timeout=numbers,
    timelock=numbers,
)
def test_no_time_in_a_policy_makes_the_api_or_a_plan_fail(
    submit: Submit, rule: str, timeout: int, timelock: int
) -> None:
    request = body()
    policy = request["key"]["policy"]
    policy[rule] = copy.deepcopy(policy["ruleUse"])
    policy[rule]["tokens"][0] |= {"timeout": timeout, "timelock": timelock}
    digest = hashlib.sha256(f"{rule} {timeout} {timelock}".encode()).hexdigest()
    request |= {"enrollmentId": digest}

    refused = []
    for ask in (
        lambda: submit(request),
        lambda: plan.document(
            request, RULES, ca_policy=None, requester=None, moment=m.now(), listed=LISTED
        ),
    ):
        try:
            made: Any = ask()
            refused.append(isinstance(made, dict) and made["refused"])
        except InvalidEnrollmentError:
            refused.append(True)

    assert refused[0] == refused[1]  # a plan says what the API does
    if rule == "ruleUse" and max(timeout, timelock) > polling.LONGEST_WINDOW_SECONDS:
        assert refused == [True, True]


@pytest.mark.parametrize("letter", ["a", "\\", "\x01", "é", "漢", "🔑"])
@pytest.mark.parametrize("is_escaped", [False, True])
def test_the_longest_body_is_no_longer_than_what_an_execution_takes(
    submit: Submit, machine: Machine, letter: str, is_escaped: bool
) -> None:
    def text(number: int) -> str:
        request = body()
        request["key"]["id"] = letter * number
        return json.dumps(request, ensure_ascii=is_escaped)

    least, one = (len(text(number).encode()) for number in (0, 1))
    longest = text((enrollments.MAX_BODY_BYTES - least) // (one - least))
    submit(
        enrollments.body("application/json", longest),
        caller=replace(JOHN, principal="🔑" * 1_024),
    )

    ((_, given),) = machine.started
    assert len(longest.encode()) > enrollments.MAX_BODY_BYTES - 12
    assert len(written(given).encode()) <= MAX_INPUT_BYTES
    assert json.loads(written(given)) == given


# Claiming and starting ----------------------------------------------------------------------


def test_the_execution_is_named_by_id_and_attempt_and_told_who_asked(
    submit: Submit, machine: Machine
) -> None:
    submit()

    ((name, given),) = machine.started
    assert name == "web-2026-11-1"
    assert given["request"] == body()
    assert given["origin"]["trigger"] == "api"
    assert given["origin"]["principal"] == JOHN.principal


def test_a_start_that_failed_is_made_up_for_by_the_same_call_again(
    submit: Submit, machine: Machine
) -> None:
    machine.refuses = True
    with pytest.raises(AwsCallError) as refused:
        submit()
    machine.refuses = False
    answer = submit()

    assert refused.value.enrollment_id == "web-2026-11"
    assert answer.status == 202
    assert [name for name, _ in machine.started] == ["web-2026-11-1"]


def test_a_start_repeated_is_letter_by_letter_the_same(submit: Submit, machine: Machine) -> None:
    # Step Functions compares the inputs of two starts under one name.
    submit()
    submit()

    first, second = (json.dumps(given, sort_keys=True) for _, given in machine.started)
    assert first == second


def test_an_execution_on_record_is_not_started_again(
    submit: Submit, machine: Machine, records: Records
) -> None:
    submit()
    records.update("web-2026-11", {"executionArn": f"{ARN}web-2026-11-1"})
    submit()

    assert len(machine.started) == 1


def test_one_idempotency_key_is_one_enrollment_for_one_caller(submit: Submit) -> None:
    later = enrollments.Caller(
        "arn:aws:sts::123456789012:assumed-role/release/job-2", "123456789012"
    )
    stranger = enrollments.Caller("arn:aws:iam::123456789012:user/ada", "123456789012")

    first, again, other = (
        submit(nameless(), "k", one).enrollment.enrollment_id for one in (JOHN, later, stranger)
    )

    assert first == again
    assert first != other
    assert first.startswith("api.")


def test_without_a_key_every_call_is_an_enrollment_of_its_own(submit: Submit) -> None:
    assert submit(nameless()).enrollment.enrollment_id != (
        submit(nameless()).enrollment.enrollment_id
    )


def test_what_failed_before_anybody_was_asked_may_be_tried_again(
    submit: Submit, machine: Machine, records: Records
) -> None:
    submit()
    ended = {"executionArn": f"{ARN}web-2026-11-1", "outcome": "FAILED", "status": "FAILED"}
    records.update("web-2026-11", ended)
    unannounced = submit()
    records.update("web-2026-11", {"announced": "2026-11-26T12:00:00Z"})
    answer = submit()

    assert (unannounced.status, unannounced.enrollment.attempt) == (200, 1)

    assert answer.status == 202
    assert answer.enrollment.attempt == 2
    assert [name for name, _ in machine.started] == ["web-2026-11-1", "web-2026-11-2"]


def test_what_failed_after_the_approvers_were_asked_is_not_tried_again(
    submit: Submit, machine: Machine, records: Records
) -> None:
    submit()
    records.update("web-2026-11", {"outcome": "FAILED", "steps": {"csr": {"requestId": "r"}}})

    assert submit().status == 200
    assert len(machine.started) == 1


def test_an_execution_takes_over_what_the_api_has_claimed_and_who_asked(
    submit: Submit, records: Records
) -> None:
    submit()
    records.update("web-2026-11", {"attempt": 2})
    reading = validation.read(body(), rules=RULES, requester=None, moment=m.now())
    taking = accept_enrollment.initial_record(
        "web-2026-11",
        body(),
        reading,
        m.Origin(),
        names={},
        execution_arn=f"{ARN}web-2026-11-1",
    )

    record, own = ownership.claim(taking, records)

    assert own
    assert record["attempt"] == 2
    assert record["executionArn"] == f"{ARN}web-2026-11-1"
    assert (records.get("web-2026-11") or {})["origin"]["principal"] == JOHN.principal


def test_a_request_by_profile_is_started_as_it_was_sent_and_checked_for_who_asks(
    submit: Submit, machine: Machine, records: Records
) -> None:
    sent = json.loads((ROOT / "events/request-by-profile.json").read_text())
    ada = enrollments.Caller("arn:aws:iam::123456789012:user/ada.lovelace", "123456789012")

    with pytest.raises(InvalidEnrollmentError) as caught:
        submit(sent, caller=ada)
    submit(sent)

    assert [path for path, _ in caught.value.findings] == ["request.key.policy.ruleUse"]
    assert "Ada Lovelace asks for this" in caught.value.message
    assert [given["request"] for _, given in machine.started] == [sent]
    record = records.get("release-2027-01") or {}
    assert (record["profile"], record["keyLabel"]) == ("code-signing@1", "SUB.release-2027")
    shown = enrollments.show("release-2027-01", base="/v1", records=records, polling_settings=PACE)
    assert (shown.profile, shown.findings) == ("code-signing@1", ())
    assert shown.request == canonical.without_id(sent)


def test_the_next_poll_is_ahead_also_when_the_last_ones_changed_nothing(
    submit: Submit, records: Records
) -> None:
    submit()
    now = m.now()
    requested = now - timedelta(seconds=105)
    policy = {"tokens": [{"name": "t", "timelock": 0, "timeout": 600, "groups": []}]}
    noted = requested + timedelta(seconds=20)  # as the last poll with news said
    written = {"requested": m.timestamp(requested), "nextPoll": m.timestamp(noted)}
    step = {"times": written, "status": "PENDING"}
    records.update("web-2026-11", {"steps": {"csr": step}, "policy": policy})

    polls = enrollments.show(
        "web-2026-11", base="", records=records, polling_settings=PACE
    ).steps.csr.times.next_poll
    records.update("web-2026-11", {"outcome": "EXPIRED", "status": "EXPIRED"})
    ended = enrollments.show(
        "web-2026-11", base="", records=records, polling_settings=PACE
    ).steps.csr.times.next_poll

    # At 20, 80, 160 … seconds of age.
    assert polls == m.timestamp(requested.replace(microsecond=0) + timedelta(seconds=160))
    assert ended is None


@pytest.mark.parametrize("token", ["\x80", "a", "====", "gICA", "eHl6"])
def test_a_token_of_no_list_is_refused_whatever_it_is(token: str, records: Records) -> None:
    with pytest.raises(problems.ProblemError) as caught:
        enrollments.enrollments(
            status=None, since=None, until=None, limit=1, token=token, base="/v1", records=records
        )

    assert caught.value.status == 422


class Told:
    """Notes the events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def put(self, detail_type: str, *_: Any) -> None:
        self.events.append(detail_type)


def test_an_attempt_that_ends_late_does_not_close_the_next_one(
    submit: Submit, records: Records
) -> None:
    submit()
    records.update("web-2026-11", {"outcome": "FAILED", "announced": "2026-11-26T12:00:00Z"})
    submit()
    late = m.CloseEnrollmentInput(
        execution=m.Execution(
            arn=f"{ARN}web-2026-11-1", name="web-2026-11-1", input={"request": body()}
        ),
        failure=m.CaughtError(state="", error="ExecutionAborted", cause="by hand"),
    )

    close_enrollment.close_enrollment(
        late,
        records=records,
        objects=Objects("none"),  # without a CSR on record nothing is read
        bus=Told(),  # type: ignore[arg-type]
        code_version="",
    )

    assert (records.get("web-2026-11") or {})["status"] == "PENDING"


# Listing ------------------------------------------------------------------------------------

LIST: Json = {"status": None, "since": None, "until": None, "limit": 1, "token": None, "base": ""}


def test_a_page_goes_on_where_the_one_before_ended(submit: Submit, records: Records) -> None:
    for _ in range(3):
        submit(nameless())

    seen, token = [], None
    for _ in range(3):
        page = enrollments.enrollments(**{**LIST, "token": token}, records=records)
        seen += [one.enrollment_id for one in page.enrollments]
        token = page.next

    assert len(set(seen)) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"token": ""},
        {"token": "\x80"},
        {"token": "bGFiZWwjeCB5"},
        {"token": base64.urlsafe_b64encode(b"2026-11-24T09:00:00Z label#x").decode()},
        {
            "token": base64.urlsafe_b64encode(b"2026-11-24T09:00:00Z web").decode(),
            "until": "2026-11-23T00:00:00Z",
        },
        {"since": ""},
        {"since": "1764000000"},
        {"since": "2026-11-24T09:00:00"},
        {"since": "0001-01-01T00:00:00+01:00"},
        {"until": "2026-02-30T00:00:00Z"},
    ],
    ids=str,
)
def test_a_place_or_a_moment_that_means_nothing_is_refused(records: Records, wrong: Json) -> None:
    with pytest.raises(problems.ProblemError) as refused:
        enrollments.enrollments(**{**LIST, **wrong}, records=records)

    assert refused.value.status == 422
    assert refused.value.findings[0][0] in ("query.next", "query.from", "query.to")


# Cancelling ---------------------------------------------------------------------------------


def test_what_is_being_issued_cannot_be_cancelled(submit: Submit, records: Records) -> None:
    submit()
    records.update("web-2026-11", {"verifiedSha256": "00"})

    with pytest.raises(EnrollmentConflictError, match="just being issued"):
        cancellation.cancel("web-2026-11", by="ada", records=records, notify=lambda _: None)


def test_what_was_never_started_is_started_to_be_ended(
    submit: Submit, machine: Machine, records: Records
) -> None:
    machine.refuses = True
    with pytest.raises(AwsCallError):
        submit()
    machine.refuses = False

    answer = enrollments.cancelled(
        "web-2026-11",
        JOHN,
        base="/v1",
        records=records,
        start=machine.start,
        notify=lambda _: None,
    )

    assert answer.status == 202
    assert answer.enrollment.status == "CANCELLING"
    assert [name for name, _ in machine.started] == ["web-2026-11-1"]


class Tsb:
    """Notes the requests that are cancelled."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.silent = False

    def cancel_request(self, request_id: str) -> None:
        if self.silent:
            raise TsbUnavailableError("no connection", action="Wait.")
        self.cancelled.append(request_id)


def told(given: m.CancelRequestInput, records: Records, tsb: Any) -> m.CancelledRequest:
    """CancelRequest, while no execution waits."""
    return cancel_request(given, records=records, tsb=lambda: tsb, wake=lambda _: False)


def test_the_tsb_is_told_until_it_is_on_record_that_it_knows(
    submit: Submit, records: Records
) -> None:
    submit()
    records.update("web-2026-11", {"steps.csr.requestId": "r"})
    cancellation.cancel("web-2026-11", by="ada", records=records, notify=lambda _: None)
    given, tsb = m.CancelRequestInput(enrollment_id="web-2026-11"), Tsb()
    tsb.silent = True
    with pytest.raises(TsbUnavailableError):
        told(given, records, tsb)
    tsb.silent = False

    confirmed = [told(given, records, tsb).confirmed for _ in range(2)]

    assert confirmed == [True, True]
    assert tsb.cancelled == ["r"]


@pytest.mark.parametrize("silent", [False, True])
def test_a_look_at_what_was_cancelled_ends_it_whether_or_not_the_tsb_can_be_told(
    submit: Submit, records: Records, silent: bool
) -> None:
    submit()
    records.update("web-2026-11", {"steps.csr.requestId": "r", "executionArn": ARN})
    cancellation.cancel("web-2026-11", by="ada", records=records, notify=lambda _: None)
    tsb = Tsb()
    tsb.silent = silent
    schedule = m.Schedule(
        window_seconds=600,
        timelock_seconds=0,
        deadline_seconds=600,
        silence_seconds=600,
        growth=0.2,
        floor_seconds=10,
        cap_seconds=900,
        slowest_seconds=900,
        last_age_seconds=1200,
    )
    poll = m.PollRequestInput(
        execution_arn=ARN,
        enrollment_id="web-2026-11",
        request_id="r",
        age_seconds=10,
        seen="nothing",
        schedule=schedule,
    )

    # This TSB knows no other call: its status is not even asked for.
    polled = poll_request.poll_request(
        poll,
        records=records,
        objects=None,  # type: ignore[arg-type]
        tsb=tsb,  # type: ignore[arg-type]
        bus=None,  # type: ignore[arg-type]
        names=dict,
    )

    assert (polled.outcome, polled.tsb_status) == ("CANCELLED", None)
    assert tsb.cancelled == ([] if silent else ["r"])


def test_nothing_is_cancelled_at_the_tsb_that_was_not_cancelled_on_record(
    submit: Submit, records: Records
) -> None:
    submit()
    records.update("web-2026-11", {"steps.csr.requestId": "r"})
    tsb = Tsb()

    given = m.CancelRequestInput(enrollment_id="web-2026-11")
    told(given, records, tsb)

    assert tsb.cancelled == []


# The function, by its samples ---------------------------------------------------------------


class Context:
    function_name = "api"
    memory_limit_in_mb = 1024
    invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:api"
    aws_request_id = "3f6f1b0e"


@pytest.fixture
def handle(
    records: Records,  # noqa: ARG001  the table must be there
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[str], tuple[int, dict[str, list[str]], str]]]:
    """Hands a sample to the function. Lambda knows no CancelRequest here: the invoke fails."""
    from countersign.aws import stack
    from countersign.settings import settings

    machine = boto3.client("stepfunctions").create_state_machine(
        name="machine",
        definition=json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}),
        roleArn="arn:aws:iam::123456789012:role/machine",
    )
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "countersign")
    monkeypatch.setenv("TABLE_NAME", TABLE)
    monkeypatch.setenv("API", "123456789012/abcdefghij/v1")
    monkeypatch.setenv("ALLOW_RAW_POLICY", "true")
    monkeypatch.setenv("STATE_MACHINE_ARN", machine["stateMachineArn"])
    monkeypatch.setenv("CANCEL_REQUEST_FUNCTION", "cancel-request")
    kept = (settings, stack.records, stack.executions)
    for one in kept:
        one.cache_clear()
    from functions.api import handler

    def handled(name: str) -> tuple[int, dict[str, list[str]], str]:
        answer = handler(sample(name), Context())  # type: ignore[arg-type]
        return answer["statusCode"], answer["multiValueHeaders"], answer["body"]

    yield handled
    for one in kept:
        one.cache_clear()


def test_the_samples_are_answered(
    handle: Callable[[str], tuple[int, dict[str, list[str]], str]], records: Records
) -> None:
    status, headers, submitted = handle("submit")
    assert (status, headers["Location"]) == (202, ["/v1/enrollments/web-2026-11"])

    assert handle("submit")[0] == 202
    assert handle("get")[2] == submitted
    assert [one["enrollmentId"] for one in json.loads(handle("list")[2])["enrollments"]] == [
        "web-2026-11"
    ]
    assert handle("csr")[0] == 409

    # CancelRequest cannot be invoked, and yet the enrollment is cancelled.
    status, _, cancelled = handle("cancel")
    assert (status, json.loads(cancelled)["status"]) == (202, "CANCELLING")
    assert json.loads(cancelled)["cancel"]["by"].endswith("release-1274")

    records.update("web-2026-11", {"outcome": "CANCELLED", "status": "CANCELLED"})
    assert handle("cancel")[0] == 200
    assert handle("submit")[0] == 200


def test_der_is_handed_out_as_bytes(
    handle: Callable[[str], tuple[int, dict[str, list[str]], str]], records: Records
) -> None:
    der = b"\x30\x82\x00\xff"
    pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.b64encode(der).decode()}\n-----END …"
    handle("submit")
    records.update("web-2026-11", {"outcome": "ISSUED", "status": "ISSUED", "csr": {"pem": pem}})

    status, headers, text = handle("csr")

    assert (status, headers["Content-Type"]) == (200, ["application/pkcs10"])
    assert base64.b64decode(text) == der


def test_the_readme_s_request_is_the_sample_s() -> None:
    assert json.loads((ROOT / "events/request.json").read_text()) == body()


def test_every_sample_is_one_of_a_route() -> None:
    described = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]

    assert {
        (one["resource"], one["httpMethod"].lower())
        for one in (json.loads(file.read_text()) for file in SAMPLES.glob("*.json"))
    } == {(path, method) for path, methods in described.items() for method in methods}


def test_the_api_s_page_is_whole_and_fetches_nothing_from_elsewhere() -> None:
    html = api_page.page().decode()

    assert "<title>Countersign API</title>" in html
    assert "submitEnrollment" in html
    assert "SwaggerUIBundle(" in html
    assert "<script src" not in html
    assert "<link rel" not in html


def test_a_name_that_stands_twice_in_the_body_is_refused() -> None:
    # Of two labels, what was shown and what was carried out could be different ones.
    with pytest.raises(problems.ProblemError, match="the name 'label' stands twice"):
        enrollments.body(None, '{"key": {"label": "a", "label": "b"}}')
