"""All the ways in which an installation of TSB demands to be spoken to, with a real TSB simulator.

The deployed code path is taken: secrets in Secrets Manager (moto), `tsb()`, real sockets.
"""

import json
import ssl
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from countersign import settings
from countersign.aws import clients, secrets
from countersign.aws import tsb as tsb_module
from countersign.aws.tsb import tsb
from countersign.errors import (
    CountersignError,
    TsbCredentialsError,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.tsb.client import TsbClient
from countersign.tsb.models import Credentials, Tls
from local.tsb_simulator.server import make_certificates
from tests.integration.pki import ClientCa, Identity
from tests.integration.proxy import Proxy
from tests.integration.server import Server, say

NOBODY = "8f0e2d9c-7f0c-4c5e-9f5e-1f4f8c1f8d11"
PENDING = json.dumps({"id": NOBODY, "status": "PENDING"}).encode()

type Json = dict[str, Any]


@dataclass
class Tsb:
    """A simulator in a process of its own."""

    url: str
    control_url: str
    api_keys: dict[str, list[str]]
    ca: str

    def control(self, method: str, path: str, body: Json | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310
            self.control_url + path,
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.loads(answer.read())

    def new_key(self, role: str) -> str:
        return str(
            self.control("POST", "/credentials", {"role": role, "addApiKey": True})["apiKeys"][-1]
        )

    def revoke(self, role: str, key: str) -> None:
        self.control("POST", "/credentials", {"role": role, "revokeApiKey": key})

    def token(self, seconds: int = 3600) -> str:
        return str(self.control("POST", "/credentials", {"tokenSeconds": seconds})["token"])

    @contextmanager
    def switched(self, **switches: Any) -> Iterator[None]:
        before = self.control("GET", "/switches")["now"]
        self.control("PUT", "/switches", switches)
        yield
        self.control("PUT", "/switches", before)

    def ports(self) -> list[int]:
        """The caller's end of the connection of each call so far."""
        return [call["clientPort"] for call in self.control("GET", "/calls")]


@contextmanager
def simulator(*arguments: str) -> Iterator[Tsb]:
    command = [sys.executable, "-m", "local.tsb_simulator", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = json.loads(process.stdout.readline())
        ca = Path(said["caCertificate"]).read_text()
        yield Tsb(said["url"], said["controlUrl"], said["apiKeys"], ca)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def plain() -> Iterator[Tsb]:
    with simulator() as tsb:
        yield tsb


CLIENT_CA, OTHER_CA = ClientCa(), ClientCa("Somebody else's CA")
REVOKED = CLIENT_CA.issue(revoked=True)


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tsb]:
    """A TSB that wants client certificates."""
    folder = tmp_path_factory.mktemp("client-ca")
    (folder / "ca.pem").write_text(CLIENT_CA.pem)
    (folder / "crl.pem").write_text(CLIENT_CA.crl())
    with simulator(
        "--client-ca", str(folder / "ca.pem"), "--client-crl", str(folder / "crl.pem")
    ) as tsb:
        yield tsb


class Deployed:
    """What a warm function has: its environment, its secrets, and what it keeps between calls."""

    def __init__(self, tsb: Tsb, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tsb = tsb
        self._secrets = boto3.client("secretsmanager", region_name="eu-central-1")
        self.arns = {
            role: self._secrets.create_secret(Name=role)["ARN"]
            for role in ("KEY_MANAGEMENT", "KEY_OPERATION", "SERVICE", "CLIENT_TLS")
        }
        for role, arn in self.arns.items():
            monkeypatch.setenv(f"{role}_SECRET_ARN", arn)
        monkeypatch.setenv("TSB_URL", tsb.url)
        monkeypatch.setenv("STACK_NAME", "countersign")
        self.put_tls()
        self.put("KEY_OPERATION", *tsb.api_keys["keyOperation"])
        self.put("KEY_MANAGEMENT", *tsb.api_keys["keyManagement"])
        tsb.control("DELETE", "/calls")

    def put(self, role: str, *keys: str, token: str | None = None) -> None:
        self.put_value(role, {"apiKeys": keys, "bearerToken": token})

    def put_tls(self, identity: Identity | None = None) -> None:
        self.put_value(
            "CLIENT_TLS",
            {
                "caBundle": self.tsb.ca,
                "certificate": identity.certificate if identity else None,
                "privateKey": identity.private_key if identity else None,
            },
        )

    def put_value(self, role: str, value: object) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self._secrets.put_secret_value(SecretId=self.arns[role], SecretString=text)

    def forget(self) -> None:
        """Let the minutes pass for which a secret's value is kept."""
        for arn, (_, text) in list(secrets._kept.items()):
            secrets._kept[arn] = (0, text)

    def look(self) -> None:
        look(tsb())

    def refused(self, call: Callable[[], object] | None = None) -> TsbCredentialsError:
        with pytest.raises(TsbCredentialsError) as caught:
            (call or self.look)()
        return caught.value


def look(tsb: TsbClient) -> None:
    """A call in the role of key operation, which changes nothing: TSB knows no such request."""
    with suppress(TsbRefusedError):
        tsb.request_status("none")


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Tsb], Deployed]]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def forget_everything() -> None:
        for kept in (settings.settings, tsb_module._client, clients.client):
            kept.cache_clear()
        secrets._kept.clear()

    with mock_aws():
        forget_everything()
        yield lambda tsb: Deployed(tsb, monkeypatch)
    forget_everything()


type Deploy = Callable[[Tsb], Deployed]


# Mutual TLS ---------------------------------------------------------------------------------------


def test_a_client_certificate_from_the_secret_is_shown(mutual: Tsb, deploy: Deploy) -> None:
    function = deploy(mutual)
    function.put_tls(CLIENT_CA.issue())

    function.look()

    assert mutual.ports()


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        (None, "TSB wants a client certificate"),
        (CLIENT_CA.issue(expired=True), "our client certificate has expired"),
        (REVOKED, "our client certificate was revoked"),
        (OTHER_CA.issue(), "TSB does not know the CA of our client certificate"),
    ],
    ids=["missing", "expired", "revoked", "by an unknown CA"],
)
def test_a_client_certificate_that_is_not_accepted_is_told_apart(
    mutual: Tsb, deploy: Deploy, identity: Identity | None, said: str
) -> None:
    function = deploy(mutual)
    function.put_tls(identity)

    error = function.refused()

    assert said in error.message
    assert "TLS secret" in error.action
    assert not mutual.ports()


def test_a_new_client_certificate_is_taken_up_without_a_deploy(mutual: Tsb, deploy: Deploy) -> None:
    function = deploy(mutual)
    function.put_tls(CLIENT_CA.issue(expired=True))
    function.refused()
    function.put_tls(CLIENT_CA.issue())
    function.refused()  # what is kept still holds
    function.forget()

    function.look()


def test_the_connection_is_kept_over_warm_invocations_and_reads_of_the_secret(
    mutual: Tsb, deploy: Deploy
) -> None:
    function = deploy(mutual)
    function.put_tls(CLIENT_CA.issue())

    for _ in range(5):
        function.look()
        function.forget()

    assert len(mutual.ports()) == 5
    assert len(set(mutual.ports())) == 1


def test_the_private_key_is_never_in_a_file_that_others_could_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    load = ssl.SSLContext.load_cert_chain

    def look_and_load(self: ssl.SSLContext, path: str, *rest: Any, **more: Any) -> None:
        seen.append((str(Path(path).readlink()), stat.S_IMODE(Path(path).stat().st_mode)))
        load(self, path, *rest, **more)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look_and_load)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    identity = CLIENT_CA.issue()
    TsbClient(
        "https://127.0.0.1:1",
        credentials=lambda _: Credentials(),
        tls=Tls(certificate=identity.certificate, private_key=identity.private_key),
    ).close()
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:  # the listing's own
            continue

    ((name, mode),) = seen
    assert name == "/memfd: (deleted)"
    assert mode == 0o400
    assert name not in links
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("certificate", "private_key", "said"),
    [
        (CLIENT_CA.issue().certificate, None, "privateKey is missing"),
        (None, CLIENT_CA.issue().private_key, "certificate is missing"),
        (CLIENT_CA.issue().certificate, CLIENT_CA.issue().private_key, "do not belong together"),
        (CLIENT_CA.issue().certificate, CLIENT_CA.issue().encrypted_key, "cannot be read"),
        ("canary", "canary", "cannot be read"),
    ],
)
def test_a_client_certificate_that_makes_no_sense_is_named_and_not_quoted(
    certificate: str | None, private_key: str | None, said: str
) -> None:
    with pytest.raises(TsbCredentialsError, match=said) as caught:
        TsbClient(
            "https://127.0.0.1:1",
            credentials=lambda _: Credentials(),
            tls=Tls(certificate=certificate, private_key=private_key),
        )
    assert "canary" not in str(caught.value)
    assert "BEGIN" not in str(caught.value)


# API keys -----------------------------------------------------------------------------------------


def metric(capsys: pytest.CaptureFixture[str], name: str) -> list[Json]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if any(one.startswith(name) for one in line)]


def test_a_revoked_api_key_is_followed_by_the_next_remembered_and_counted(
    plain: Tsb, deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    function = deploy(plain)
    old, new = plain.new_key("keyOperation"), plain.new_key("keyOperation")
    function.put("KEY_OPERATION", old, new)
    plain.revoke("keyOperation", old)

    for _ in range(3):
        function.look()

    assert len(plain.ports()) == 4
    lines = metric(capsys, "Tsb")
    (counted,) = [line for line in lines if "TsbKeysRejected" in line]
    assert not [line for line in lines if "TsbCredentialsRefused" in line]
    assert counted["Role"] == "keyOperation"
    assert counted["service"] == "countersign"
    assert old not in json.dumps(counted)


def test_credentials_that_nobody_takes_are_counted_however_that_is_found_out(
    plain: Tsb, deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    function = deploy(plain)
    function.put("KEY_OPERATION", "unknown")
    function.refused()
    function.refused()  # without a call: the key is known not to be taken
    for secret in ("KEY_OPERATION", "CLIENT_TLS"):
        function.put_value(secret, "no JSON")
        function.forget()
        function.refused()

    assert len(metric(capsys, "TsbCredentialsRefused")) == 4


def test_api_keys_exchanged_since_they_were_read_are_read_once_more(
    plain: Tsb, deploy: Deploy
) -> None:
    function = deploy(plain)
    old, new = plain.new_key("keyOperation"), plain.new_key("keyOperation")
    function.put("KEY_OPERATION", old)
    function.look()
    function.put("KEY_OPERATION", new)
    plain.revoke("keyOperation", old)

    function.look()

    assert len(plain.ports()) == 3


def test_without_a_valid_api_key_the_tsb_is_asked_once_for_each(plain: Tsb, deploy: Deploy) -> None:
    function = deploy(plain)
    old = plain.new_key("keyOperation")
    function.put("KEY_OPERATION", old)
    plain.revoke("keyOperation", old)

    errors = [function.refused(), function.refused()]

    assert len(plain.ports()) == 1
    assert "were revoked, or are not of the role" in errors[0].message
    assert "RequestRole" in errors[0].action
    assert "just rejected every API key" in errors[1].message
    assert "secret of role keyOperation" in errors[1].action


def test_a_rejected_api_key_is_tried_again_after_some_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("countersign.tsb.client.REJECTED_SECONDS", 0)
    answers = Server([say(401, b'{"errorCode": 631}'), say(200, PENDING)])
    with answers as running:
        tsb = TsbClient(running.url, credentials=lambda _: Credentials(("key",)))
        with pytest.raises(TsbCredentialsError):
            tsb.request_status(NOBODY)

        assert tsb.request_status(NOBODY).status == "PENDING"


def test_a_missing_api_key_is_told(plain: Tsb, deploy: Deploy) -> None:
    function = deploy(plain)
    function.put("KEY_OPERATION")

    error = function.refused()

    assert error.error_code == 416
    assert "holds none" in error.message
    assert "Put an API key into the secret of role keyOperation" in error.action


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("parameter", "call"),
    [
        ("RequestRole", lambda tsb: tsb.request_status(NOBODY)),
        ("CertificateRole", lambda tsb: tsb.request_csr({"signKeyName": "x"})),
    ],
)
def test_an_api_key_of_the_wrong_role_names_the_parameter(
    plain: Tsb,
    deploy: Deploy,
    parameter: str,
    call: Callable[[TsbClient], object],
    status: int,
) -> None:
    function = deploy(plain)
    with plain.switched(
        requestRole="management", certificateRole="management", wrongRoleHttpStatus=status
    ):
        error = function.refused(lambda: call(tsb()))

    assert parameter in error.action
    assert ("wants another role here" in error.message) == (status == 403)


def test_the_role_of_requests_can_be_key_management(
    plain: Tsb, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = deploy(plain)
    monkeypatch.setenv("REQUEST_ROLE", "keyManagement")
    with plain.switched(requestRole="management"):
        function.look()


# Bearer tokens ------------------------------------------------------------------------------------


def test_a_bearer_token_is_sent_along_with_the_api_key(plain: Tsb, deploy: Deploy) -> None:
    function = deploy(plain)
    token = plain.token()
    function.put("KEY_OPERATION", *plain.api_keys["keyOperation"], token=token)
    with plain.switched(authorization="require"):
        function.look()


def test_missing_expired_and_revoked_tokens_are_told_apart(plain: Tsb, deploy: Deploy) -> None:
    function = deploy(plain)
    keys = plain.api_keys["keyOperation"]
    expired = plain.token(-60)
    revoked = plain.token()
    plain.control("POST", "/credentials", {"revokeToken": revoked})
    errors = []
    with plain.switched(authorization="require"):
        for token in (None, expired, revoked):
            function.put("KEY_OPERATION", *keys, token=token)
            function.forget()
            errors.append(function.refused())

    assert [error.error_code for error in errors] == [406, 617, 617]
    assert "holds none" in errors[0].message
    assert "the access token expired at 20" in errors[1].message
    assert "the access token is not accepted" in errors[2].message
    assert all("bearerToken" in error.action for error in errors)
    assert not any(token in str(error) for token in (expired, revoked) for error in errors)


# Secrets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("not JSON", "no JSON object"),
        ([], "no JSON object"),
        ({"apiKeys": "one"}, "apiKeys is no list"),
        ({"apiKeys": ["two words"]}, "no HTTP header"),
        ({"apiKeys": ["two\nlines"]}, "no HTTP header"),
        ({"apiKeys": [""]}, "no HTTP header"),
        ({"apiKeys": ["x"], "bearerToken": 5}, "no HTTP header"),
    ],
)
def test_a_secret_of_another_shape_is_named_and_not_quoted(
    plain: Tsb, deploy: Deploy, value: object, said: str
) -> None:
    function = deploy(plain)
    function.put_value("KEY_OPERATION", value)

    error = function.refused()

    assert said in error.message
    assert function.arns["KEY_OPERATION"] in error.message
    assert "two" not in str(error).replace(said, "")


def test_a_secret_without_a_value_says_so(plain: Tsb, deploy: Deploy) -> None:
    deploy(plain)

    with pytest.raises(TsbCredentialsError, match="has no value yet"):
        tsb().version()


def test_the_line_end_of_a_pasted_api_key_does_no_harm(plain: Tsb, deploy: Deploy) -> None:
    function = deploy(plain)
    function.put("KEY_OPERATION", plain.api_keys["keyOperation"][0] + "\n")

    function.look()


# A proxy ------------------------------------------------------------------------------------------


def through(proxy_url: str | None, tsb: Tsb) -> TsbClient:
    return TsbClient(
        tsb.url,
        credentials=lambda role: Credentials(tuple(tsb.api_keys[role])),
        tls=Tls(ca_bundle=tsb.ca),
        proxy_url=proxy_url,
    )


def test_what_cannot_be_asked_twice_has_a_connection_of_its_own(plain: Tsb) -> None:
    asked = {"signKeyName": "none"}
    plain.control("DELETE", "/calls")
    with through(None, plain) as tsb:
        look(tsb)
        look(tsb)
        with suppress(TsbRefusedError):
            tsb.request_csr(asked)
        with suppress(TsbRefusedError):
            tsb.create_key({"label": "none"})

    first, second, *others = plain.ports()
    assert first == second
    assert len({first, *others}) == 3


def test_a_proxy_tunnels_tls_and_sees_no_credential(plain: Tsb) -> None:
    with Proxy() as proxy, through(proxy.url, plain) as tsb:
        look(tsb)
        look(tsb)

    assert proxy.requested == [f"CONNECT {plain.url.removeprefix('https://')}"]
    assert plain.api_keys["keyOperation"][0].encode() not in proxy.seen
    assert b"x-api-key" not in proxy.seen.lower()


def test_tls_is_verified_behind_a_proxy_too(plain: Tsb) -> None:
    with Proxy() as proxy:
        stranger = TsbClient(
            plain.url, credentials=lambda _: Credentials(("x",)), proxy_url=proxy.url
        )
        with pytest.raises(TsbUnavailableError, match="certificate does not verify"):
            stranger.version()


@pytest.mark.parametrize("refusal", ["403 Forbidden", "407 Proxy Authentication Required"])
def test_a_proxy_that_refuses_executed_nothing_and_is_named(plain: Tsb, refusal: str) -> None:
    with (
        Proxy(refusal) as proxy,
        through(proxy.url, plain) as tsb,
        pytest.raises(TsbUnavailableError, match=refusal) as caught,
    ):
        tsb.version()

    assert "TsbProxyUrl" in caught.value.action


def test_a_proxy_that_is_not_there_executed_nothing(plain: Tsb) -> None:
    with through("http://127.0.0.1:1", plain) as tsb, pytest.raises(TsbUnavailableError):
        tsb.version()


# Versions of TLS ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize(
    ("version", "spoken"),
    [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)],
)
def test_tls_is_spoken_from_1_2_on(tmp_path: Path, version: str, spoken: bool) -> None:
    ca, certificate, key = make_certificates(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")  # otherwise OpenSSL itself would not speak 1.1
    context.load_cert_chain(certificate, key)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with (
        Server([say(200, PENDING)], context=context) as running,
        TsbClient(
            running.url, credentials=lambda _: Credentials(), tls=Tls(ca_bundle=ca.read_text())
        ) as tsb,
    ):
        error: CountersignError | None = None
        try:
            tsb.request_status(NOBODY)
        except CountersignError as found:
            error = found

    if spoken:
        assert error is None
    else:
        assert isinstance(error, TsbUnavailableError)
        assert "TLS 1.2 or newer" in error.action


def test_every_role_has_its_secret_and_only_that(plain: Tsb, deploy: Deploy) -> None:
    function = deploy(plain)
    function.look()

    assert set(secrets._kept) == {function.arns["CLIENT_TLS"], function.arns["KEY_OPERATION"]}
