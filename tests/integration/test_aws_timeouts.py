"""An AWS service that hangs or talks nonsense: an error of ours, before Lambda ends it all."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.retries.standard import ExponentialBackoff

from countersign import events
from countersign.aws import bus, clients, executions, functions, objects, records, secrets
from countersign.aws.mailer import Mailer
from countersign.aws.signing import SigningKey
from countersign.aws.topic import Topic
from countersign.errors import AwsCallError
from countersign.letters.text import Letter
from countersign.mails import Mail
from local import template
from tests.integration.server import Server, say

AWS = Path(clients.__file__).parent
SERVICES = sorted(
    {
        name
        for file in AWS.glob("*.py")
        for name in re.findall(r'client\("(\w+)"[,)]', file.read_text())
    }
)
RESOURCES = template.read()["Resources"]
FUNCTIONS = [name for name, one in RESOURCES.items() if one["Type"] == "AWS::Serverless::Function"]
REPORTING_SECONDS = 1  # to raise the error and answer with it
GATEWAY_SECONDS = 29  # API Gateway waits no longer
CONTINUE_SECONDS = 1  # botocore waits for "100 Continue" before it sends a body to S3
SHORT_CONNECT, SHORT_READ = 0.1, 0.2

CALLS: dict[str, Callable[[], Any]] = {
    "dynamodb": lambda: records.Records("table").get("id"),
    "events": lambda: bus.Bus("bus").put(
        events.KeysUnaccounted.read(
            {"mode": "report", "lookedAt": 0, "keys": [], "omittedCount": 0}
        )
    ),
    "kms": lambda: SigningKey("arn:aws:kms:eu-central-1:123456789012:key/a").sign(b"content"),
    "lambda": lambda: functions.hand_over("function", {}),
    "s3": lambda: objects.Objects("bucket").put_once("key", b"content", "text/plain"),
    "secretsmanager": lambda: secrets.password("arn"),
    "sesv2": lambda: Mailer("from@example.com", "").send(
        "to@example.com", Letter(subject="subject", text="text", html="html"), "id"
    ),
    "sns": lambda: Topic("arn:aws:sns:eu-central-1:123456789012:topic").publish(
        Mail(subject="subject", text="text", detail_type="type")
    ),
    "stepfunctions": lambda: executions.Executions("arn").start("name", {}),
}


# What must not be repeated where its answer was lost.
ONCE = {"sesv2": {"attempts": 1}}


@pytest.fixture(autouse=True)
def _new_clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    clients.client.cache_clear()
    yield
    clients.client.cache_clear()


@pytest.fixture
def silent() -> Iterator[tuple[int, list[socket.socket]]]:
    """The port of a server that takes connections and never answers, and what it took."""
    server, taken = socket.create_server(("127.0.0.1", 0)), list[socket.socket]()

    def take() -> None:
        with suppress(OSError):
            while True:
                taken.append(server.accept()[0])

    threading.Thread(target=take, daemon=True).start()
    yield server.getsockname()[1], taken
    server.shutdown(socket.SHUT_RDWR)
    for one in (server, *taken):
        one.close()


@pytest.fixture
def full() -> Iterator[int]:
    """The port of a server whose queue is full: the kernel drops who wants to connect."""
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = server.getsockname()[1]
    waiting = [socket.socket() for _ in range(2)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
    yield port
    for one in (server, *waiting):
        one.close()


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the product's clients call this port, a tenth as patient as they are."""

    def use(port: int) -> None:
        monkeypatch.setattr(clients, "CONNECT_TIMEOUT_SECONDS", SHORT_CONNECT)
        monkeypatch.setattr(clients, "READ_TIMEOUT_SECONDS", SHORT_READ)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

    return use


def longest_pauses(client: Any) -> float:
    """The SDK's waits between the attempts at the most, if the service asks for them."""
    service = client.meta.service_model.service_id.hyphenize()
    throttled: Any = SimpleNamespace(is_throttling_error_from_context=lambda _: True)
    pauses: Any = ExponentialBackoff(
        random=lambda: 1.0,
        service_name=service,
        throttling_detector=throttled,
    )
    answer = SimpleNamespace(headers={"x-amz-retry-after": "3600000"})
    attempts = client.meta.config.retries["total_max_attempts"]
    return float(
        sum(
            pauses.delay_amount(SimpleNamespace(attempt_number=number, http_response=answer))
            for number in range(1, attempts)
        )
    )


def longest_call(client: Any) -> float:
    """Seconds until a call of this client has ended, whatever the service does."""
    config = client.meta.config
    attempts, read = config.retries["total_max_attempts"], config.read_timeout
    begun = attempts * (config.connect_timeout + read) + longest_pauses(client)
    if client.meta.service_model.service_name != "s3":
        return float(begun)
    # Either a body is sent, or one is read after the answer's head has come.
    return float(begun + max(attempts * CONTINUE_SECONDS, read))


def limit(function: str) -> int:
    """After how many seconds nobody waits for the function any longer."""
    own = RESOURCES[function]["Properties"].get("Timeout")
    seconds = int(own or template.read()["Globals"]["Function"]["Timeout"])
    return min(seconds, GATEWAY_SECONDS) if function == "ApiFunction" else seconds


def test_every_service_that_is_called_is_looked_at() -> None:
    assert set(SERVICES) == set(CALLS)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_call_to_aws_ends_before_its_function_is_ended(function: str, service: str) -> None:
    assert longest_call(clients.client(service)) + REPORTING_SECONDS <= limit(function)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_never_answers_is_an_error_of_ours(
    service: str,
    silent: tuple[int, list[socket.socket]],
    hurry: Callable[[int], None],
) -> None:
    port, taken = silent
    hurry(port)
    begun = time.monotonic()

    with pytest.raises(AwsCallError, match="ReadTimeoutError"):
        CALLS[service]()

    client = clients.client(service, **ONCE.get(service, {}))
    assert len(taken) == client.meta.config.retries["total_max_attempts"]
    assert (
        len(taken) * SHORT_READ
        <= time.monotonic() - begun
        <= longest_call(client) + REPORTING_SECONDS
    )


def test_a_service_that_lets_nobody_connect_is_an_error_of_ours(
    full: int, hurry: Callable[[int], None]
) -> None:
    hurry(full)
    begun = time.monotonic()

    with pytest.raises(AwsCallError, match="ConnectTimeoutError"):
        CALLS["dynamodb"]()

    client = clients.client("dynamodb")
    attempts = client.meta.config.retries["total_max_attempts"]
    assert (
        attempts * SHORT_CONNECT
        <= time.monotonic() - begun
        <= longest_call(client) + REPORTING_SECONDS
    )


@pytest.mark.parametrize(
    "call", [CALLS["sns"], lambda: objects.Objects("bucket").below("prefix")], ids=["sns", "s3"]
)
def test_an_answer_that_nobody_can_read_is_an_error_of_ours(
    call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server([say(200, b"<html><p>Please log in")]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)

        with pytest.raises(AwsCallError):
            call()
