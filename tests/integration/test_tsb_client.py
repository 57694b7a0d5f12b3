"""What the TSB client makes of everything that can happen to a call, on real sockets.

The one question: may the TSB have executed it?
"""

import gzip
import json
import socket
import ssl
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from countersign.errors import (
    CountersignError,
    TsbCredentialsError,
    TsbOutcomeUnknownError,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.tsb import failures
from countersign.tsb.client import TsbClient
from countersign.tsb.models import Credentials, Role, Tls
from local.tsb_simulator.server import make_certificates
from tests.integration.server import Act, Server, end, reset, say, say_raw

REQUEST = "8f0e2d9c-7f0c-4c5e-9f5e-1f4f8c1f8d11"
PENDING = json.dumps({"id": REQUEST, "status": "PENDING"}).encode()
API_KEY, OLD_KEY, TOKEN = "canary-api-key", "canary-old-key", "canary-token"
PASSWORD = "canary-password"
# Generous where no test waits for it: a busy machine is no time-out.
SECONDS, SHORT = 5, 0.5
HASTY = {"connect_timeout_seconds": SHORT, "timeout_seconds": SHORT}


def client(url: str, *keys: str, token: str | None = None, **more: Any) -> TsbClient:
    credentials = Credentials(keys or (API_KEY,), token)
    more = {"connect_timeout_seconds": SECONDS, "timeout_seconds": SECONDS, **more}
    return TsbClient(url, credentials=lambda _: credentials, **more)


def failure(url: str, **more: Any) -> CountersignError:
    with client(url, **more) as tsb, pytest.raises(CountersignError) as caught:
        tsb.request_status(REQUEST)
    return caught.value


def error_body(code: int | None = None, message: str = "why") -> bytes:
    return json.dumps({"errorCode": code, "reason": "res.error.x", "message": message}).encode()


# Surely not executed ------------------------------------------------------------------------------


def test_a_refused_connection_executed_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert isinstance(failure(f"http://127.0.0.1:{port}"), TsbUnavailableError)


def test_a_connection_that_is_not_accepted_in_time_executed_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        try:
            error = failure(f"http://127.0.0.1:{address[1]}", **HASTY)
        finally:
            for filler in fillers:
                filler.close()

    assert isinstance(error, TsbUnavailableError)


def test_a_name_that_does_not_resolve_executed_nothing() -> None:
    assert isinstance(failure("https://tsb.invalid"), TsbUnavailableError)


# Maybe executed -----------------------------------------------------------------------------------


def unread(act: Act) -> Server:
    """What befalls a connection on which a request has arrived that nobody reads."""

    def when_it_is_there(connection: socket.socket, _: bytes) -> None:
        connection.recv(1, socket.MSG_PEEK)  # sooner, the client might not be connected yet
        act(connection, b"")

    return Server([end], before=when_it_is_there)


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(lambda: unread(reset), id="reset before the request was read"),
        pytest.param(lambda: unread(end), id="end before the request was read"),
        pytest.param(lambda: Server([reset]), id="reset after the request"),
        pytest.param(lambda: Server([end]), id="end after the request"),
        pytest.param(lambda: Server([say_raw(b"HTTP/1.1 200 OK\r\nContent-")]), id="half a head"),
        pytest.param(
            lambda: Server([say_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")]),
            id="half a body",
        ),
        pytest.param(
            lambda: Server(
                [say_raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{")]
            ),
            id="half a chunk",
        ),
        pytest.param(lambda: Server([say_raw(b"SSH-2.0-OpenSSH_9.9\r\n")]), id="no HTTP"),
        pytest.param(lambda: Server([say(200, b"<html>welcome</html>")]), id="200 with HTML"),
        pytest.param(lambda: Server([say(200, b"")]), id="200 with nothing"),
        pytest.param(lambda: Server([say(200, b"[]")]), id="200 with a list"),
        pytest.param(lambda: Server([say(200, b'{"id": "x"}')]), id="200 without the fields"),
        pytest.param(lambda: Server([say(500, b"oops")]), id="500 without errorCode"),
        pytest.param(lambda: Server([say(500, error_body(1))]), id="500 technical"),
        pytest.param(lambda: Server([say(500, error_body(2))]), id="500 connectivity"),
        pytest.param(lambda: Server([say(502)]), id="502"),
        pytest.param(lambda: Server([say(504)]), id="504"),
    ],
)
def test_a_call_without_a_readable_answer_may_have_been_executed(
    server: Callable[[], Server],
) -> None:
    with server() as running:
        assert isinstance(failure(running.url), TsbOutcomeUnknownError)


def test_a_call_that_is_not_answered_in_time_may_have_been_executed() -> None:
    with Server([end]) as running:
        running.acts = [running.wait]

        assert isinstance(failure(running.url, **HASTY), TsbOutcomeUnknownError)


@pytest.mark.parametrize("alert", ["INTERNAL_ERROR", "USER_CANCELLED", "BAD_RECORD_MAC"])
def test_an_alert_about_anything_but_our_certificate_may_follow_an_execution(alert: str) -> None:
    broken = requests.exceptions.SSLError(ssl.SSLError(f"[SSL: TLSV1_ALERT_{alert}] tlsv1 alert"))

    call = failures.Call(failures.Kind.CREATE, "POST", "/v1/x", Role.KEY_OPERATION)

    assert isinstance(failures.failure(call, Credentials(), broken), TsbOutcomeUnknownError)


def test_an_answer_that_trickles_and_stops_may_have_been_executed() -> None:
    with Server([end]) as running:

        def trickle(connection: socket.socket, request: bytes) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
            running.wait(connection, request)

        running.acts = [trickle]

        assert isinstance(failure(running.url, **HASTY), TsbOutcomeUnknownError)


# Statuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (429, None, TsbUnavailableError),
        (503, None, TsbUnavailableError),
        (503, 2, TsbUnavailableError),
        (400, 600, TsbUnavailableError),
        (404, 650, TsbRefusedError),
        (404, 651, TsbUnavailableError),
        (500, 701, TsbUnavailableError),
        (302, None, TsbOutcomeUnknownError),
        (404, None, TsbOutcomeUnknownError),
        (401, None, TsbOutcomeUnknownError),
        (401, 631, TsbCredentialsError),
        (403, 631, TsbCredentialsError),
        (400, 406, TsbCredentialsError),
    ],
)
def test_a_status_has_its_error_with_the_tsb_s_own_words(  # the table: tests/unit/test_answers.py
    status: int, code: int | None, error: type[CountersignError]
) -> None:
    with Server([say(status, error_body(code))]) as running:
        found = failure(running.url)

    assert type(found) is error
    assert found.http_status in (status, 401)
    assert found.error_code in (code, 631)
    assert found.action


def test_the_tsb_s_message_is_repeated_and_cut() -> None:
    with Server([say(400, error_body(600, "x" * 5_000))]) as running:
        found = failure(running.url)

    assert "x" * 500 in found.message
    assert len(found.message) < 700
    assert found.reason == "res.error.x"


def test_a_redirect_is_not_followed() -> None:
    with Server([say(200, PENDING)]) as elsewhere:
        with Server([say(302, Location=elsewhere.url + "/v1/request/x")]) as running:
            found = failure(running.url)

        assert not elsewhere.requests
    assert isinstance(found, TsbOutcomeUnknownError)


def test_a_redirect_to_nonsense_is_an_answer_like_any_other() -> None:
    with Server([say(302, Location="http://[")]) as running:
        assert isinstance(failure(running.url), TsbOutcomeUnknownError)


# Bounds -------------------------------------------------------------------------------------------

TOO_MUCH = 300 * 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(b"\0" * 64 * 1024 * 1024)  # 64 KB


def pour(head: bytes, part: bytes, size: int = TOO_MUCH) -> Act:
    """A head, then this part again and again, until the client hangs up."""

    def act(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head)
        for _part in range(size // len(part)):
            connection.sendall(part)

    return act


MEGABYTE = b"x" * 1024 * 1024


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(pour(HEAD + b"Content-Length: %d\r\n\r\n" % TOO_MUCH, MEGABYTE), id="300 MB"),
        pytest.param(pour(HEAD + b"Connection: close\r\n\r\n", MEGABYTE), id="300 MB, no length"),
        pytest.param(
            pour(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + MEGABYTE + b"\r\n"),
            id="300 MB in chunks",
        ),
        pytest.param(
            pour(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", MEGABYTE), id="an endless chunk size"
        ),
        pytest.param(pour(HEAD + b"X: ", MEGABYTE), id="an endless header"),
        pytest.param(pour(b"", MEGABYTE), id="an endless status line"),
        pytest.param(say(200, BOMB, Content_Encoding="gzip"), id="gzip bomb"),
        pytest.param(
            say(200, gzip.compress(BOMB), Content_Encoding="gzip, gzip"), id="gzip bomb in gzip"
        ),
        pytest.param(pour(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", MEGABYTE), id="redirect"),
        pytest.param(pour(b"HTTP/1.1 404 Not Found\r\n\r\n", MEGABYTE), id="404"),
    ],
)
def test_an_answer_without_end_takes_neither_memory_nor_time(act: Act) -> None:
    with Server([act]) as running:
        tracemalloc.start()
        begun = time.monotonic()
        try:
            found = failure(running.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert isinstance(found, TsbOutcomeUnknownError)
    assert time.monotonic() - begun < SECONDS
    # The server's part is one of these; ours are a MB of body and what decodes it.
    assert peak < 8 * 1024 * 1024


def drip(content: bytes) -> Act:
    """A byte at a time, each well before a socket's timeout."""

    def act(connection: socket.socket, _: bytes) -> None:
        for number in range(len(content)):
            connection.sendall(content[number : number + 1])
            time.sleep(SHORT / 5)

    return act


SLOW = PENDING + b" " * 1000
LENGTH = b"Content-Length: %d\r\n\r\n" % len(SLOW)


@pytest.mark.parametrize(
    ("before", "slow"),
    [
        pytest.param(b"", HEAD + LENGTH + SLOW, id="status line"),
        pytest.param(HEAD, b"X-Slow: " + b"x" * 1000 + b"\r\n" + LENGTH + SLOW, id="header"),
        pytest.param(HEAD + LENGTH, SLOW, id="body"),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n" * 1000, id="chunks"
        ),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, id="100 Continue"),
    ],
)
def test_an_answer_that_drips_ends_in_time(before: bytes, slow: bytes) -> None:
    def act(connection: socket.socket, request: bytes) -> None:
        connection.sendall(before)
        drip(slow)(connection, request)

    with Server([act]) as running:
        begun = time.monotonic()
        found = failure(running.url, timeout_seconds=SHORT)

    assert isinstance(found, TsbOutcomeUnknownError)
    assert time.monotonic() - begun < 2 * SHORT


def test_a_dripping_answer_is_as_bounded_behind_tls(tmp_path: Path) -> None:
    ca, certificate, key = make_certificates(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    with Server([drip(HEAD + LENGTH + SLOW)], context=context) as running:
        begun = time.monotonic()
        found = failure(running.url, timeout_seconds=SHORT, tls=Tls(ca_bundle=ca.read_text()))

    assert isinstance(found, TsbOutcomeUnknownError)
    assert time.monotonic() - begun < 2 * SHORT


def test_all_api_keys_of_a_role_share_the_time_of_one_call() -> None:
    def refuse_late(connection: socket.socket, request: bytes) -> None:
        time.sleep(SHORT / 2)
        say(401, error_body(631))(connection, request)

    with Server([refuse_late]) as running:
        begun = time.monotonic()
        with (
            client(running.url, *"abcdefgh", timeout_seconds=SHORT) as tsb,
            pytest.raises(CountersignError) as caught,
        ):
            tsb.request_status(REQUEST)

    assert not isinstance(caught.value, TsbRefusedError)
    assert time.monotonic() - begun < 2 * SHORT


def test_a_kept_connection_has_its_whole_time_for_each_call() -> None:
    def answer_late(connection: socket.socket, _: bytes) -> None:
        for _call in range(3):
            time.sleep(SHORT / 2)
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(PENDING) + PENDING)
            connection.recv(65_536)

    with Server([answer_late, end]) as running, client(running.url, timeout_seconds=SHORT) as tsb:
        for _ in range(3):
            assert tsb.request_status(REQUEST).status == "PENDING"

        assert len(running.requests) == 1


# What is read -------------------------------------------------------------------------------------

ZURICH = json.dumps({"id": REQUEST, "status": "PENDING", "result": "Zürich"}, ensure_ascii=False)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json;charset=ISO-8859-1",
        "application/json;charset=utf-16",
        "application/json;charset=no-such-charset",
        "application/hal+json",
        "text/plain",
        "text/html",
        "",
        None,
    ],
)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
def test_json_is_utf_8_whatever_its_headers_say(content_type: str | None, bom: bytes) -> None:
    headers = {} if content_type is None else {"Content_Type": content_type}
    act = say(200, bom + ZURICH.encode(), **headers)
    with Server([act]) as running, client(running.url) as tsb:
        answer = tsb.request_status(REQUEST)

    assert answer.result == "Zürich"
    assert json.loads(answer.raw) == json.loads(ZURICH)


def test_an_answer_is_read_that_somebody_compressed_unasked() -> None:
    act = say(200, gzip.compress(PENDING), Content_Encoding="gzip")
    with Server([act]) as running, client(running.url) as tsb:
        assert tsb.request_status(REQUEST).status == "PENDING"

        assert b"Accept-Encoding: identity" in running.requests[0]


def test_no_cookie_is_kept_from_one_call_to_the_next() -> None:
    with Server([say(200, PENDING, Set_Cookie="JSESSIONID=canary; Path=/")]) as running:
        with client(running.url) as tsb:
            for _ in range(2):
                tsb.request_status(REQUEST)

        assert len(running.requests) == 2
        assert not [one for one in running.requests if b"cookie" in one.lower()]


# Credentials --------------------------------------------------------------------------------------


def refuse_key(*keys: str) -> Act:
    def act(connection: socket.socket, request: bytes) -> None:
        known = any(f"X-API-KEY: {key}".encode() in request for key in keys)
        say(401, error_body(631))(connection, b"") if known else say(200, PENDING)(connection, b"")

    return act


def test_a_rejected_api_key_is_followed_by_the_role_s_next_and_not_tried_again() -> None:
    with Server([refuse_key(OLD_KEY)]) as running:
        with client(running.url, OLD_KEY, API_KEY) as tsb:
            tsb.request_status(REQUEST)
            tsb.request_status(REQUEST)
        keys = [OLD_KEY.encode() in request for request in running.requests]

    assert keys == [True, False, False]


def test_api_keys_that_are_all_rejected_fail_and_are_not_tried_again() -> None:
    with Server([refuse_key(OLD_KEY, API_KEY)]) as running:
        with client(running.url, OLD_KEY, API_KEY) as tsb:
            for _ in range(2):
                with pytest.raises(TsbCredentialsError, match="keyOperation"):
                    tsb.request_status(REQUEST)
        assert len(running.requests) == 2


def test_the_credentials_of_the_role_are_sent_and_nothing_else() -> None:
    requested: list[Role] = []

    def credentials(role: Role) -> Credentials:
        requested.append(role)
        return Credentials((f"key of {role}",), TOKEN)

    with Server([say(200, PENDING)]) as running:
        with TsbClient(running.url, credentials=credentials) as tsb:
            tsb.request_status(REQUEST)
        (sent,) = running.requests

    assert requested == [Role.KEY_OPERATION]
    assert b"X-API-KEY: key of keyOperation\r\n" in sent
    assert f"Authorization: Bearer {TOKEN}\r\n".encode() in sent
    assert b"Cookie" not in sent


def test_without_any_api_key_the_call_goes_without() -> None:
    with Server([say(200, PENDING)]) as running:
        with TsbClient(running.url, credentials=lambda _: Credentials()) as tsb:
            tsb.request_status(REQUEST)

        assert b"x-api-key" not in running.requests[0].lower()


@pytest.mark.parametrize("url", ["http://tsb.example.com", "http://10.0.0.1"])
def test_credentials_never_leave_the_machine_in_the_clear(url: str) -> None:
    with pytest.raises(TsbCredentialsError, match="https"):
        client(url)


@pytest.mark.parametrize(
    "act",
    [say(500), say(400, error_body(600)), say(401, error_body(631)), say(200, b"no JSON"), reset],
)
def test_no_secret_stands_in_any_error(act: Act) -> None:
    with Server([act]) as running:
        with client(running.url, token=TOKEN) as tsb, pytest.raises(CountersignError) as caught:
            tsb.create_key({"label": "x", "password": list(PASSWORD)})
        assert str(list(PASSWORD))[1:-1].replace("'", '"') in running.requests[0].decode()
    said = f"{caught.value!s}{caught.value!r}{caught.value.__cause__!r}"

    for secret in (API_KEY, TOKEN, PASSWORD, str(list(PASSWORD))):
        assert secret not in said


def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "/nonsense")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    with Server([say(200, PENDING)]) as running, client(running.url) as tsb:
        assert tsb.request_status(REQUEST).status == "PENDING"


# TLS ----------------------------------------------------------------------------------------------


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[str, ssl.SSLContext]:
    """A CA in PEM, and a server's context with a certificate by it."""
    ca, certificate, key = make_certificates(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return ca.read_text(), context


def test_a_certificate_by_our_ca_is_accepted(certificates: tuple[str, ssl.SSLContext]) -> None:
    ca, context = certificates
    with (
        Server([say(200, PENDING)], context=context) as running,
        client(running.url, tls=Tls(ca_bundle=ca)) as tsb,
    ):
        assert tsb.request_status(REQUEST).status == "PENDING"


def test_a_certificate_by_an_unknown_ca_executed_nothing(
    certificates: tuple[str, ssl.SSLContext],
) -> None:
    with Server([say(200, PENDING)], context=certificates[1]) as running:
        found = failure(running.url)

        assert not running.requests
    assert isinstance(found, TsbUnavailableError)
    assert "does not verify" in found.message


def test_a_certificate_for_another_name_executed_nothing(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("elsewhere")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    text = made.public_bytes(Encoding.PEM)
    (tmp_path / "both.pem").write_bytes(
        text + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")

    with Server([say(200, PENDING)], context=context) as running:
        found = failure(running.url, tls=Tls(ca_bundle=text.decode()))

        assert not running.requests
    assert isinstance(found, TsbUnavailableError)


def test_a_handshake_that_never_ends_executed_nothing(
    certificates: tuple[str, ssl.SSLContext],
) -> None:
    with Server([end], context=certificates[1]) as running:
        running.before = running.wait

        assert isinstance(failure(running.url, **HASTY), TsbUnavailableError)


@pytest.mark.parametrize("act", [end, reset, say_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")])
def test_a_server_without_tls_executed_nothing(
    certificates: tuple[str, ssl.SSLContext], act: Act
) -> None:
    with Server([end], before=act, context=certificates[1]) as running:
        assert isinstance(failure(running.url), TsbUnavailableError)


def test_a_server_that_wants_a_client_certificate_says_so(
    certificates: tuple[str, ssl.SSLContext],
) -> None:
    ca, context = certificates
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=ca)

    with Server([say(200, PENDING)], context=context) as running:
        found = failure(running.url, tls=Tls(ca_bundle=ca))

        assert not running.requests
    assert isinstance(found, TsbCredentialsError)
    assert "client certificate" in found.message


def test_a_ca_bundle_without_a_certificate_is_named() -> None:
    with pytest.raises(TsbCredentialsError, match="CA bundle"):
        client("https://127.0.0.1:1", tls=Tls(ca_bundle="nonsense"))


# Keeping the connection ---------------------------------------------------------------------------


def test_the_client_never_repeats_a_call() -> None:
    with Server([end]) as running:
        failure(running.url)
        failure(running.url)

        assert len(running.requests) == 2
