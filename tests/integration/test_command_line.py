"""The command line against everything that can stand at the other end, on real sockets."""

import json
import os
import pty
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from typer.testing import CliRunner, Result

from countersign_cli import api, watch
from countersign_cli.exits import Exit
from countersign_cli.main import app
from local.tsb_simulator.server import make_certificates
from tests.integration.server import Act, Server, end, reset, say

SEED = Path(__file__).parents[2] / "events/seed"
BINARY = Path(sys.executable).with_name("countersign")
SECONDS = 30
ACCESS_KEY, SECRET_KEY, TOKEN = "AKIDINTEGRATION", "canary-secret-key", "canary-session-token"
REGION = "eu-central-1"

type Json = dict[str, Any]
type Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _signed_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PROFILE", "REGION", "ENDPOINT_URL", "CA_BUNDLE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.delenv("COUNTERSIGN_URL", raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(watch, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def request_file(tmp_path: Path) -> str:
    path = tmp_path / "request.json"
    path.write_text(json.dumps({"key": {"label": "x"}, "csr": {}}))
    return str(path)


def run(*arguments: str, url: str | None = None) -> Result:
    where = ["--url", f"{url}/v1"] if url else []
    answer = CliRunner().invoke(app, [*arguments, *where], catch_exceptions=False)
    assert SECRET_KEY not in answer.output
    assert TOKEN not in answer.output
    return answer


def step(approvers: list[Json]) -> Json:
    times = {"requested": "2026-11-24T12:00:00Z"}
    return {"csr": {"approvers": approvers, "times": times}}


def document(status: str = "PENDING", **more: Any) -> Json:
    ended = status not in ("PENDING", "CANCELLING")
    return {
        "enrollmentId": "web",
        "status": status,
        "stage": "PollRequest",
        "outcome": status if ended else None,
        "steps": step([{"name": "Ada", "spkiSha256": None, "decision": "outstanding"}]),
        "times": {"accepted": "2026-11-24T12:00:00Z"},
        **more,
    }


def answer(body: Json, status: int = 200) -> Act:
    return say(status, json.dumps(body).encode(), Content_Type="application/json")


def problem(status: int, **more: Any) -> Act:
    body = {"type": "about:blank", "title": "Some Title", "status": status, **more}
    return say(status, json.dumps(body).encode(), Content_Type="application/problem+json")


def gateway(status: int, error_type: str, message: str) -> Act:
    body = json.dumps({"message": message}).encode()
    return say(status, body, Content_Type="application/json", x_amzn_ErrorType=error_type)


def gateway_problem(status: int, response_type: str, message: str) -> Act:
    """As the template has API Gateway say it."""
    body = json.dumps({"type": "about:blank", "title": response_type, "detail": message})
    return say(status, body.encode(), Content_Type="application/problem+json")


def headers(request: bytes) -> dict[str, str]:
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}


# What it sends -----------------------------------------------------------------------------------


def test_a_call_is_signed_as_the_aws_command_line_would(request_file: str) -> None:
    with Server([answer(document(), 202)]) as server:
        run("submit", request_file, "--idempotency-key", "k-1", url=server.url)
    sent = headers(server.requests[0])

    found = re.fullmatch(
        rf"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/\d{{8}}/{REGION}/execute-api/aws4_request,"
        r" SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
        sent["authorization"],
    )
    assert found
    assert {"host", "x-amz-date", "x-amz-security-token", "idempotency-key"} <= set(
        found[1].split(";")
    )
    assert found[2] == signature(server.requests[0], server.url, found[1].split(";"))


def signature(request: bytes, url: str, signed: list[str]) -> str:
    """The signature over what arrived, by botocore."""
    head, _, body = request.partition(b"\r\n\r\n")
    method, path, _ = head.decode().split("\r\n")[0].split(" ")
    arrived = headers(request)
    signer = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY, TOKEN), "execute-api", REGION)
    call = AWSRequest(method, url + path, {name: arrived[name] for name in signed}, body)
    call.context["timestamp"] = arrived["x-amz-date"]
    text = signer.string_to_sign(call, signer.canonical_request(call))
    return str(signer.signature(text, call))


def test_netrc_does_not_replace_the_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with Server([answer(document())]) as server:
        run("status", "web", url=server.url)

    assert headers(server.requests[0])["authorization"].startswith("AWS4-HMAC-SHA256 ")


def test_the_endpoint_is_the_stack_s_output(monkeypatch: pytest.MonkeyPatch) -> None:
    # AWS_ENDPOINT_URL sends all of AWS elsewhere: CloudFormation, and the API under its own name.
    host = "a1b2c3d4.execute-api.eu-west-1.amazonaws.com"
    described = stack_xml([("BusName", "bus"), ("ApiUrl", f"https://{host}/v1")])
    with Server([say(200, described, Content_Type="text/xml"), answer(document())]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        told = run("status", "web", "--stack", "other")

    assert told.exit_code == Exit.PENDING
    assert b"StackName=other" in server.requests[0]
    assert server.requests[1].startswith(b"GET /v1/enrollments/web HTTP/1.1")
    assert headers(server.requests[1])["host"] == host
    assert "/eu-west-1/execute-api/" in headers(server.requests[1])["authorization"]


def stack_xml(outputs: list[tuple[str, str]]) -> bytes:
    members = "".join(
        f"<member><OutputKey>{key}</OutputKey><OutputValue>{value}</OutputValue></member>"
        for key, value in outputs
    )
    return (
        "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>s</StackName>"
        f"<Outputs>{members}</Outputs></member></Stacks></DescribeStacksResult>"
        "</DescribeStacksResponse>"
    ).encode()


def test_what_the_command_line_adds_is_in_the_request() -> None:
    with Server([answer(document(), 202)]) as server:
        pair = [str(SEED / "create-key.json"), str(SEED / "csr-request.json")]
        run("submit", *pair, "--id", "web", "--reason", "why", url=server.url)
    sent = json.loads(server.requests[0].partition(b"\r\n\r\n")[2])

    assert set(sent) == {"key", "csr", "enrollmentId", "reason"}
    assert (sent["enrollmentId"], sent["reason"]) == ("web", "why")
    assert "idempotency-key" not in headers(server.requests[0])


# What it makes of the answer ---------------------------------------------------------------------


def test_submit_prints_the_id_and_nothing_else_on_standard_output(request_file: str) -> None:
    with Server([answer(document(), 202)]) as server:
        told = run("submit", request_file, url=server.url)

    assert (told.exit_code, told.stdout) == (0, "web\n")
    assert "countersign status web --watch" in told.stderr


def test_submitting_what_has_ended_already_tells_the_outcome(request_file: str) -> None:
    with Server([answer(document("REJECTED"))]) as server:
        told = run("submit", request_file, "--json", url=server.url)

    assert told.exit_code == Exit.REJECTED
    assert json.loads(told.stdout)["enrollmentId"] == "web"


def test_a_lost_answer_can_be_asked_for_again(request_file: str) -> None:
    with Server([reset, answer(document(), 202)]) as server:
        lost = run("submit", request_file, url=server.url)
        found = re.search(r"--idempotency-key ([0-9a-f-]{36})", lost.stderr)
        assert found
        again = run("submit", request_file, "--idempotency-key", found[1], url=server.url)
    first, second = (headers(request)["idempotency-key"] for request in server.requests)

    assert (lost.exit_code, again.exit_code) == (Exit.NETWORK, Exit.OK)
    assert first == second == found[1]


def test_standard_input_is_a_file_too() -> None:
    with Server([answer(document(), 202)]) as server:
        told = CliRunner().invoke(
            app, ["submit", "-", "--url", server.url], input='{"key": {}, "csr": {}}'
        )

    assert told.stdout == "web\n"


PROBLEM = {
    "detail": "key.keySize: an RSA key needs a size that TSB makes",
    "action": "Use one of 2048, 3072, 4096, 8192.",
    "errors": [
        {"field": "request.key.keySize", "detail": "an RSA key needs a size that TSB makes"}
    ],
}


@pytest.mark.parametrize(
    ("act", "code", "what", "action"),
    [
        (problem(422, **PROBLEM), Exit.REFUSED, "key.keySize: an RSA key", "Use one of 2048"),
        (
            problem(422, detail="two fields", errors=[{"field": "limit", "detail": "too big"}]),
            Exit.REFUSED,
            "two fields; limit: too big",
            "Correct it",
        ),
        (problem(409, detail="id belongs to another", action="Choose"), 8, "belongs to", "Choose"),
        (problem(404, detail="there is no enrollment web"), 8, "no enrollment web", "Correct it"),
        (problem(500, detail="the call failed"), Exit.NETWORK, "the call failed", "Run it again"),
        (
            gateway(403, "MissingAuthenticationTokenException", "Missing Authentication Token"),
            Exit.ACCESS,
            "there is no such path at",
            "stage included",
        ),
        (
            gateway(403, "AccessDeniedException", "User: x is not authorized to perform: y"),
            Exit.ACCESS,
            "not allowed: User: x is not authorized",
            "execute-api:Invoke",
        ),
        (
            gateway(403, "UnrecognizedClientException", "The security token … is invalid."),
            Exit.ACCESS,
            "does not accept the credentials",
            "aws sso login",
        ),
        (
            gateway(403, "ExpiredTokenException", "The security token … is expired"),
            Exit.ACCESS,
            "does not accept the credentials",
            "aws sso login",
        ),
        (
            gateway(403, "InvalidSignatureException", "Signature expired: 2026… is now earlier"),
            Exit.ACCESS,
            "clock is off",
            "Set the clock",
        ),
        (
            gateway(
                403,
                "InvalidSignatureException",
                "Credential should be scoped to a valid region.",
            ),
            Exit.ACCESS,
            f"the API is not in {REGION}",
            "Give --region",
        ),
        (gateway_problem(403, "ACCESS_DENIED", "User: x"), 9, "not allowed: User: x", "Invoke"),
        (gateway_problem(403, "INVALID_SIGNATURE", "no match"), 9, "does not accept", "sso"),
        (gateway_problem(403, "EXPIRED_TOKEN", "expired"), 9, "does not accept", "sso"),
        (
            gateway_problem(403, "MISSING_AUTHENTICATION_TOKEN", "Missing"),
            9,
            "no such path",
            "ApiUrl",
        ),
        (gateway_problem(429, "THROTTLED", "Too Many Requests"), 10, "Too Many", "in a minute"),
        (gateway_problem(504, "INTEGRATION_TIMEOUT", "timed out"), 10, "timed out", "in a minute"),
        (gateway(403, "ForbiddenException", "Forbidden"), 9, "not allowed: Forbidden", "policy"),
        (gateway(429, "TooManyRequestsException", "Too Many Requests"), 10, "429", "in a minute"),
        (gateway(504, "", "Endpoint request timed out"), 10, "request timed out", "in a minute"),
        (gateway(413, "RequestTooLargeException", "Too Large"), 8, "larger than", "smaller"),
        (say(502, b"<html>", Content_Type="text/html"), 10, "502", "in a minute"),
        (say(200, b"<html>", Content_Type="text/html"), 9, "with text/html", "stage included"),
        (say(200, b"[]", Content_Type="application/json"), 9, "not as Countersign", "ApiUrl"),
        (say(302, b"", Location="https://elsewhere.invalid"), 9, "answers 302", "ApiUrl"),
        (reset, Exit.NETWORK, "cannot be reached: Connection reset by peer", "run it again"),
        (end, Exit.NETWORK, "cannot be reached", "run it again"),
    ],
)
def test_every_refusal_is_two_lines(act: Act, code: int, what: str, action: str) -> None:
    with Server([act]) as server:
        told = run("status", "web", url=server.url)
    first, second = told.stderr.splitlines()

    assert told.exit_code == code
    assert what in first
    assert action in second
    assert told.stdout == ""


def test_with_json_a_refusal_is_json_too() -> None:
    with Server([problem(422, **PROBLEM)]) as server:
        told = run("status", "web", "--json", url=server.url)
    said = json.loads(told.stderr)

    assert said["exitCode"] == Exit.REFUSED
    assert said["errors"] == PROBLEM["errors"]
    assert said["action"] == PROBLEM["action"]


def test_nobody_there_and_no_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", (1, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    gone = run("status", "web", url=f"http://127.0.0.1:{port}")
    server = Server([])
    server.acts = [server.wait]
    with server:
        silent = run("status", "web", url=server.url)

    assert (gone.exit_code, silent.exit_code) == (Exit.NETWORK, Exit.NETWORK)
    assert "cannot be reached: Connection refused" in gone.stderr
    assert "does not answer in time" in silent.stderr


# AWS ---------------------------------------------------------------------------------------------


def refusal_xml(code: str, message: str) -> bytes:
    error = f"<Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>"
    return f"<ErrorResponse><Error>{error}</Error></ErrorResponse>".encode()


@pytest.mark.parametrize(
    ("act", "what", "action"),
    [
        (
            say(400, refusal_xml("ValidationError", "Stack with id countersign does not exist")),
            f"there is no stack countersign in {REGION}",
            "another --region",
        ),
        (
            say(403, refusal_xml("AccessDenied", "User: x is not authorized")),
            "may not read stack countersign: User: x",
            "cloudformation:DescribeStacks",
        ),
        (
            say(403, refusal_xml("ExpiredToken", "The security token is expired")),
            "does not accept the credentials: The security token is expired",
            "aws sso login",
        ),
        (
            say(403, refusal_xml("InvalidClientTokenId", "The security token is invalid")),
            "does not accept the credentials",
            "aws sso login",
        ),
        (
            say(200, stack_xml([("BusName", "bus")]), Content_Type="text/xml"),
            "has no output ApiUrl",
            "deploy it anew",
        ),
        (say(418, refusal_xml("Odd", "odd")), "Odd: odd", "--url"),
    ],
)
def test_what_keeps_the_stack_from_being_found(
    act: Act, what: str, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server([act]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        told = run("list")
    first, second = told.stderr.splitlines()

    assert told.exit_code == Exit.ACCESS
    assert what in first
    assert action in second


def test_what_is_wrong_with_the_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, str] = {}
    (tmp_path / "config").write_text(
        "[profile sso]\nsso_session = s\nsso_account_id = 0\nsso_role_name = r\n"
        "[sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://sso.invalid/start\n"
        "[profile broken]\ncredential_process = /bin/false\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for profile in ("nobody", "sso", "broken", None):
        more = ["--profile", profile] if profile else []
        told = run("list", *more, url="https://countersign.invalid")
        assert told.exit_code == Exit.ACCESS
        assert len(told.stderr.splitlines()) == 2
        said[str(profile)] = told.stderr
    monkeypatch.delenv("AWS_DEFAULT_REGION")

    assert "profile nobody is not configured" in said["nobody"]
    assert "aws sso login --profile sso" in said["sso"]
    assert "does not work" in said["broken"]
    assert "no AWS credentials found" in said["None"]
    assert "Give --region" in run("list").stderr


# Watching ----------------------------------------------------------------------------------------


def test_a_watch_outlives_a_network_that_fails_for_a_while() -> None:
    acts = [
        answer(document()),
        reset,
        say(502),
        answer(document()),
        answer(document("ISSUED")),
    ]
    with Server(acts) as server:
        told = run("status", "web", "--watch", url=server.url)

    assert told.exit_code == Exit.OK
    assert [line.split()[2] for line in told.stdout.splitlines()] == ["PENDING", "ISSUED"]
    assert "looking again" in told.stderr


def test_a_watch_ends_at_once_where_it_is_refused() -> None:
    refused = gateway(403, "ExpiredTokenException", "The security token … is expired")
    with Server([answer(document()), refused]) as server:
        told = run("status", "web", "--watch", "--timeout", "5s", url=server.url)

    assert told.exit_code == Exit.ACCESS


def test_on_a_terminal_a_watch_is_one_picture_that_changes() -> None:
    decided = [{"name": "Ada", "spkiSha256": None, "decision": "approved"}]
    acts = [answer(document()), answer(document()), answer(document("ISSUED", steps=step(decided)))]
    terminal, its_end = pty.openpty()
    with Server(acts) as server:
        watching = subprocess.Popen(
            [BINARY, "status", "web", "--watch", "--url", f"{server.url}/v1"],
            env={**os.environ, "TERM": "xterm", "LINES": "40"},
            stdin=its_end,
            stdout=its_end,
            stderr=its_end,
        )
        os.close(its_end)
        shown = bytearray()
        with suppress(OSError):  # EIO: the program has ended
            while part := os.read(terminal, 65_536):
                shown += part
        os.close(terminal)
        code = watching.wait(SECONDS)
    screen = shown.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)

    assert code == Exit.OK
    assert "· Ada  outstanding" in plain
    assert "✓ Ada  approved" in plain.split("· Ada  outstanding")[-1]
    assert "\x1b[1A" in screen  # it goes up again and draws over what was there
    assert "Ctrl-C" not in plain.splitlines()[-1]


@pytest.mark.parametrize("status", ["ISSUED", "REJECTED", "EXPIRED", "CANCELLED", "FAILED"])
def test_a_watch_ends_with_the_outcome_s_code(status: str, request_file: str) -> None:
    with Server([answer(document(), 202), answer(document()), answer(document(status))]) as server:
        told = run("submit", request_file, "--watch", "--json", url=server.url)

    assert [json.loads(line)["status"] for line in told.stdout.splitlines()] == ["PENDING", status]
    assert told.exit_code == (Exit.OK if status == "ISSUED" else Exit[status])


def test_a_watch_gives_up_in_time() -> None:
    with Server([answer(document())]) as server:
        told = run("status", "web", "--watch", "--timeout", "1s", url=server.url)

    assert told.exit_code == Exit.PENDING
    assert len(told.stdout.splitlines()) == 1
    assert "it goes on; see: countersign status web --watch" in told.stderr


# The other commands ------------------------------------------------------------------------------


PEM = b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"


def test_a_csr_goes_to_standard_output_or_a_new_file(tmp_path: Path) -> None:
    out = tmp_path / "web.der"
    with Server([say(200, PEM), say(200, b"\x30\x00"), say(200, b"\x30\x01")]) as server:
        printed = run("csr", "web", url=server.url)
        written = run("csr", "web", "--der", "--out", str(out), url=server.url)
        again = run("csr", "web", "--der", "--out", str(out), url=server.url)

    assert printed.stdout.encode() == PEM
    assert (written.exit_code, out.read_bytes()) == (0, b"\x30\x00")
    assert again.exit_code == Exit.USAGE
    assert "File exists" in again.stderr
    assert [headers(one)["accept"] for one in server.requests] == [
        "application/x-pem-file",
        "application/pkcs10",
        "application/pkcs10",
    ]


@pytest.mark.parametrize(("status", "code"), [("PENDING", 7), ("REJECTED", 3), ("FAILED", 6)])
def test_without_a_csr_the_code_says_why(status: str, code: int) -> None:
    refused = problem(409, detail="there is no CSR", action="See the enrollment.")
    with Server([refused, answer(document(status))]) as server:
        told = run("csr", "web", url=server.url)

    assert told.exit_code == code
    assert "there is no CSR" in told.stderr


def test_the_csr_s_document_has_where_it_lies_and_the_pem() -> None:
    stored = {"bucket": "b", "key": "k", "versionId": "1", "sha256": "ab"}
    with Server([say(200, PEM), answer(document("ISSUED", csr=stored))]) as server:
        told = run("csr", "web", "--json", url=server.url)

    assert json.loads(told.stdout) == {"enrollmentId": "web", **stored, "pem": PEM.decode()}


def test_cancelling_is_accepted_again_and_refused_when_it_is_too_late() -> None:
    acts = [
        answer(document("CANCELLING"), 202),
        answer(document("CANCELLED")),
        problem(409, detail="enrollment web ended as ISSUED", action="Nothing."),
    ]
    with Server(acts) as server:
        codes = [run("cancel", "web", url=server.url).exit_code for _ in acts]

    assert codes == [Exit.OK, Exit.OK, Exit.REFUSED]
    assert all(one.startswith(b"DELETE /v1/enrollments/web ") for one in server.requests)


def test_the_list_turns_pages_only_as_far_as_it_is_read() -> None:
    pages = [
        {
            "enrollments": [document(enrollmentId=f"{page}-{n}") for n in range(2)],
            "next": f"t{page}",
        }
        for page in range(3)
    ]
    with Server([answer(page) for page in pages]) as server:
        told = run("list", "--status", "pending", "--limit", "3", "--json", url=server.url)
    paths = [one.split(b" ")[1].decode() for one in server.requests]

    assert [one["enrollmentId"] for one in json.loads(told.stdout)["enrollments"]] == [
        "0-0",
        "0-1",
        "1-0",
    ]
    assert paths == [
        "/v1/enrollments?status=PENDING&limit=4",
        "/v1/enrollments?status=PENDING&limit=4&next=t0",
    ]


def test_an_empty_list_is_no_error() -> None:
    with Server([answer({"enrollments": [], "next": None})]) as server:
        told = run("list", url=server.url)

    assert (told.exit_code, told.stdout) == (0, "")


# Certificates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("named_by", ["AWS_CA_BUNDLE", "profile"])
def test_a_company_s_ca_is_named_as_for_the_aws_command_line(
    named_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, certificate, key = make_certificates(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Server([answer(document())] * 2, context=context) as server:
        assert "AWS_CA_BUNDLE" in run("status", "web", url=server.url).stderr
        if named_by == "profile":
            (tmp_path / "config").write_text(f"[default]\nca_bundle = {ca}\n")
        else:
            monkeypatch.setenv("AWS_CA_BUNDLE", str(ca))
        assert run("status", "web", url=server.url).exit_code == Exit.PENDING


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_cas_that_are_not_there_are_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/missing.pem")

    told = run("status", "web", url="https://127.0.0.1:9")

    assert told.exit_code == Exit.USAGE
    assert "/missing.pem" in told.stderr
    assert name in told.stderr
