"""What an answer says about a call: a decision table, and whatever else may arrive."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st
from requests.adapters import BaseAdapter

from countersign.errors import (
    CountersignError,
    InvalidEnrollmentError,
    TsbCredentialsError,
    TsbOutcomeUnknownError,
    TsbRefusedError,
    TsbUnavailableError,
)
from countersign.tsb.client import TsbClient
from countersign.tsb.failures import Call, Kind, failure
from countersign.tsb.models import (
    MAX_DEPTH,
    BlockRequested,
    Credentials,
    CsrRequested,
    Reply,
    RequestStatus,
    Role,
)
from countersign.tsb.transport import CONNECT_TIMEOUT_SECONDS, TIMEOUT_SECONDS, base_url
from local.template import read

ROOT = Path(__file__).parents[2]
ANSWERS = json.loads((ROOT / "tests/answers.json").read_text())
ALL = ANSWERS["notTsb"] + ANSWERS["tsb"]
ID = "8f0e2d9c-7f0c-4c5e-9f5e-1f4f8c1f8d11"
KEY_BODY = {"label": "x"}
# Each kind with the calls that are of it.
CALLS: dict[Kind, list[Callable[[TsbClient], object]]] = {
    Kind.READ: [
        lambda tsb: tsb.request_status(ID),
        lambda tsb: tsb.key_attributes("x"),
        lambda tsb: tsb.list_keys(),
        lambda tsb: tsb.version(),
        lambda tsb: tsb.license_flags(),
    ],
    Kind.CREATE: [
        lambda tsb: tsb.create_key(KEY_BODY),
        lambda tsb: tsb.request_csr({"signKeyName": "x"}),
        lambda tsb: tsb.block_key("x"),
    ],
    Kind.REMOVE: [lambda tsb: tsb.delete_key("x")],
}

type Json = dict[str, Any]


class Network(BaseAdapter):
    """Gives the same answer to every call, through all of requests and urllib3 but the socket."""

    def __init__(self, status: int, body: bytes, **headers: str) -> None:
        super().__init__()
        self.status, self.body, self.headers = status, body, headers
        self.urls: list[str | None] = []

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        self.urls.append(request.url)
        response = requests.Response()
        response.status_code = self.status
        response.raw = urllib3.HTTPResponse(
            io.BytesIO(self.body), headers=self.headers, status=self.status, preload_content=False
        )
        return response

    def close(self) -> None:
        pass


def client(network: BaseAdapter, **more: Any) -> TsbClient:
    return TsbClient(
        "https://tsb.example.com",
        credentials=lambda _: Credentials(("key",)),
        transport=network,
        **more,
    )


# The table ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("answer", ALL, ids=lambda one: f"{one['status']} {one['who']}")
def test_each_answer_has_its_error_for_each_kind_of_call(answer: Json, kind: Kind) -> None:
    network = Network(
        answer["status"], answer["body"].encode(), **{"Content-Type": answer["contentType"]}
    )
    said: Json = answer in ANSWERS["tsb"] and json.loads(answer["body"]) or {}

    for call in CALLS[kind]:
        with client(network) as tsb, pytest.raises(CountersignError) as caught:
            call(tsb)

        assert type(caught.value).__name__ == answer[kind.value]
        assert caught.value.http_status == answer["status"]
        assert caught.value.error_code == said.get("errorCode")
        assert caught.value.reason == said.get("reason")
        assert caught.value.action


def test_an_api_key_is_accused_by_nobody_but_the_tsb() -> None:
    accused: list[bool] = []
    for status in (401, 403):
        network = Network(status, b"<html>blocked</html>")
        tsb = client(network, refused=lambda: accused.append(True))
        with pytest.raises(TsbOutcomeUnknownError, match="not TSB's answer"):
            tsb.request_status(ID)

    assert accused == []


@pytest.mark.parametrize("code", [True, False, None, "650", 650.0, -1, 2**31, [650], {}, 10**100])
def test_a_code_is_an_integer_and_nothing_like_it(code: object) -> None:
    network = Network(404, json.dumps({"errorCode": code}).encode())

    with pytest.raises(TsbOutcomeUnknownError) as caught:
        client(network).key_attributes("x")

    assert caught.value.error_code is None


def test_a_page_does_not_confirm_that_a_key_was_deleted() -> None:
    for body in (b"", b"{}", b'"done"'):
        client(Network(200, body)).delete_key("x")
    with pytest.raises(TsbOutcomeUnknownError, match="confirmation"):
        client(Network(200, b"<html>welcome</html>")).delete_key("x")


def test_a_call_ends_well_before_its_function_does() -> None:
    template = read("template.yaml")
    seconds = template["Globals"]["Function"]["Timeout"]

    assert seconds >= 2 * TIMEOUT_SECONDS
    assert CONNECT_TIMEOUT_SECONDS < TIMEOUT_SECONDS


# Whatever arrives ---------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from(
    ["errorCode", "reason", "message", "id", "status", "json", "label", "createTime", "policy",
     "executionTime", "approvedBy", "result", "publicKey", "signRequestId", "clientFlags"]
)  # fmt: skip
DOCUMENTS = st.dictionaries(NAMES, VALUES | st.sampled_from([650, 651, 701, 1, True, "2026"]))
BODIES = (
    st.binary(max_size=200)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | DOCUMENTS.map(lambda value: json.dumps(value).encode())
)
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "Content-Encoding", "Content-Length", "Location"]),
    st.sampled_from(["gzip", "br", "application/json;charset=utf-16", "7", "-1", "http://[", "x"]),
)


@given(
    kind=st.sampled_from(Kind),
    status=st.integers(100, 999),
    headers=HEADERS,
    body=BODIES,
)
@example(kind=Kind.READ, status=200, headers={}, body=b"[" * 100_000)
@example(kind=Kind.READ, status=404, headers={}, body=b'{"a":' * 100_000)
@example(kind=Kind.READ, status=404, headers={}, body=b'{"errorCode": true}')
@example(kind=Kind.READ, status=404, headers={}, body=b'{"errorCode": ' + b"9" * 5000 + b"}")
@example(kind=Kind.CREATE, status=404, headers={}, body=b'{"errorCode": 1e999}')
@example(kind=Kind.READ, status=200, headers={}, body=b'["\\ud800"]')
def test_only_errors_of_ours_come_out_and_only_the_tsb_refuses(
    kind: Kind, status: int, headers: dict[str, str], body: bytes
) -> None:
    for call in CALLS[kind]:
        try:
            call(client(Network(status, body, **headers)))
        except CountersignError as error:
            assert str(error).encode()
            if isinstance(error, TsbRefusedError | TsbCredentialsError):
                said = json.loads(body.decode("utf-8-sig"))
                assert type(said["errorCode"]) is int
                assert error.error_code == said["errorCode"]
                if kind is Kind.READ and isinstance(error, TsbRefusedError):
                    assert error.error_code in (609, 650)
            elif isinstance(error, TsbUnavailableError):
                assert status in (429, 503) or (kind is Kind.READ and error.error_code is not None)


@given(st.sampled_from(Kind), st.sampled_from([OSError, ValueError, UnicodeError]), st.text())
def test_whatever_the_network_raises_is_an_error_of_ours(
    kind: Kind, fault: type[Exception], text: str
) -> None:
    call = Call(kind, "GET", "/v1/x", Role.SERVICE)

    assert type(failure(call, Credentials(), fault(text))) is TsbOutcomeUnknownError


# JSON ---------------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"a": "ü"}'.encode("utf-16"), id="UTF-16"),
        pytest.param('{"a": "ü"}'.encode("latin-1"), id="Latin 1"),
        pytest.param(b"{} {}", id="two values"),
        pytest.param(b'{"a": 1, "a": 2}', id="a name twice"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": 1e999}', id="infinite"),
        pytest.param(b'{"a": "\\ud800"}', id="half a character"),
        pytest.param(b'{"\\ud800": 1}', id="half a character in a name"),
        pytest.param(nested(MAX_DEPTH + 1), id="deep"),
        pytest.param(nested(100_000), id="very deep"),
        pytest.param(b"", id="nothing"),
        pytest.param(None, id="too large"),
    ],
)
def test_what_would_break_a_later_reader_is_no_json(body: bytes | None) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Reply(200, body).json()


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_json_is_read_as_utf_8_with_or_without_a_bom(bom: bytes) -> None:
    reply = Reply(200, bom + '{"a": "Zürich"}'.encode())

    assert reply.json() == {"a": "Zürich"}
    assert json.loads(reply.text) == {"a": "Zürich"}
    assert Reply(200, nested(MAX_DEPTH)).json()


@pytest.mark.parametrize(
    "moment", ["2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]
)
def test_a_time_that_is_no_moment_in_utc_is_unreadable(moment: str) -> None:
    status = {"id": ID, "status": "EXECUTED", "executionTime": moment}

    with pytest.raises(TsbOutcomeUnknownError, match="RequestStatus as JSON"):
        client(Network(200, json.dumps(status).encode())).request_status(ID)


# Ids and URLs -------------------------------------------------------------------------------------

NO_IDS = ["", ".", "..", "../key", "a/b", "a%2fb", "a?b", "a#b", "a b", "ü", "x" * 129, "a\n"]


@pytest.mark.parametrize("request_id", NO_IDS)
def test_an_id_is_never_another_path(request_id: str) -> None:
    network = Network(200, b"{}")
    for call in (TsbClient.request_status, TsbClient.cancel_request):
        with pytest.raises(InvalidEnrollmentError, match="no id of a request"):
            call(client(network), request_id)

    assert network.urls == []


@pytest.mark.parametrize("request_id", NO_IDS)
def test_an_id_that_the_tsb_could_not_be_asked_about_is_unreadable(request_id: str) -> None:
    for model, name in ((CsrRequested, "signRequestId"), (BlockRequested, "blockKeyRequestId")):
        with pytest.raises(ValueError, match=name):
            model.read(Reply(201, json.dumps({name: request_id}).encode()))


def test_an_id_as_the_tsb_gives_it_is_a_path() -> None:
    status = json.dumps({"id": ID, "status": "PENDING"}).encode()
    network = Network(200, status)

    assert client(network).request_status(ID) == RequestStatus.read(Reply(200, status))
    assert network.urls == [f"https://tsb.example.com/v1/request/{ID}"]


URLS = {
    "https://tsb.example.com": True,
    "https://tsb.example.com/": True,
    "https://tsb.example.com:8443": True,
    "https://tsb.example.com:65535/tsb": True,
    "https://TSB.Example.com/Path/to.it": True,
    "https://10.0.0.1:8080": True,
    "https://[2001:db8::1]:8443/": True,
    "https://xn--bcher-kva.example": True,
    "https://tsb_1.internal": True,
    "https://user@tsb.example.com": False,
    "https://user:password@tsb.example.com": False,
    "https://tsb.example.com@evil.example": False,
    "https://tsb.example.com?x=1": False,
    "https://tsb.example.com/#x": False,
    "https://bücher.example": False,
    "https://tsb.example.com:": False,
    "https://tsb.example.com:0": False,
    "https://tsb.example.com:65536": False,
    "https://tsb.example.com:443:443": False,
    "https://tsb.example.com/../x": False,
    "https://tsb.example.com/./x": False,
    "https://tsb.example.com//x": False,
    "https://tsb.example.com/%2e%2e": False,
    "https://tsb.example.com/a b": False,
    "https://tsb..example.com": False,
    "https://-tsb.example.com": False,
    "https://" + "x" * 64 + ".example": False,
    "https://[::1": False,
    "https://[1:2]": False,
    "https://": False,
    "https:///x": False,
    "https:\\\\tsb.example.com": False,
    "https://tsb.example.com\\@evil.example": False,
    "https://tsb.example.com\n": False,
    " https://tsb.example.com": False,
    "http://tsb.example.com": False,
    "ftp://tsb.example.com": False,
    "": False,
}
# Which numbers are a port and which groups an address is known to the code alone.
ONLY_AT_RUN_TIME = {"https://tsb.example.com:0", "https://tsb.example.com:65536", "https://[1:2]"}


@pytest.mark.parametrize(("url", "accepted"), URLS.items())
def test_code_and_template_accept_the_same_urls(url: str, accepted: bool) -> None:
    pattern = read("template.yaml")["Parameters"]["TsbUrl"]["AllowedPattern"]
    deployed = re.search(pattern, url) is not None and not url.endswith("\n")

    try:
        found = base_url(url)
    except TsbCredentialsError as error:
        assert not accepted
        assert "TsbUrl" in error.action
        assert "password" not in str(error)
    else:
        assert accepted
        assert found == url.rstrip("/")
    assert deployed == (accepted or url in ONLY_AT_RUN_TIME)
