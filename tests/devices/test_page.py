"""The page of `countersign approvals open`, driven in Debian's Chromium as a person would.

With `--record` it writes the pictures of docs/approvers.md.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, Page, expect, sync_playwright

from local import people
from local.approver import Approver
from tests import asking
from tests.integration.simulator import SECONDS, Tsb, running

BINARY = Path(sys.executable).with_name("countersign")
PICTURES = Path(__file__).parents[2] / "docs"
CHROMIUM = "/usr/bin/chromium"
AWAY = {"message": "no answer came", "action": "Look into it."}
STACK, OTHER_STACK = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
ADA = Approver.generate("Ada Lovelace", "ec")
# The page looks at the TSB every 5 s (PAUSE in app.js); Playwright's own wait of 5 s is a race.
expect.set_options(timeout=15_000)
MARKUP = "<img src=x onerror=\"document.title='injected'\">"
WIDE, NARROW = {"width": 900, "height": 800}, {"width": 390, "height": 844}
SHOWN = {
    ("request", "wide", "light"),
    ("confirm", "narrow", "light"),
    ("forged", "narrow", "dark"),
}
# Of the text that is seen: the least contrast with what is behind it (WCAG 2.2, 1.4.3), and what
# sticks out at the right.
MEASURE = """() => {
  const light = (c) => {
    const [r, g, b] = c.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (!c.startsWith("rgba(0, 0, 0, 0")) return c;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.className === "unseen") continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const box = e.getBoundingClientRect();
    if (ratio < 4.5) found.push(`contrast ${ratio.toFixed(1)}: ${e.textContent}`);
    if (box.right > innerWidth + 0.5 || box.left < -0.5) found.push(`sticks out: ${e.textContent}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) found.push("the page scrolls sideways");
  return found;
}"""


@pytest.fixture(scope="module")
def tsb() -> Iterator[Tsb]:
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def address(tsb: Tsb, tmp_path: Path) -> Iterator[str]:
    """The address that `countersign approvals open` prints."""
    tsb.control("POST", "/reset")
    (config,) = people.hand_out(
        {ADA.name: ADA},
        tmp_path,
        tsb_url=tsb.url,
        ca=Path(tsb.ca),
        api_key=tsb.tokens["approver"],
        signing_key=STACK.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        ),
    ).values()
    command = [str(BINARY), "approvals", "open", "--no-browser", "--config", str(config)]
    log = tmp_path / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, log.read_text()
        yield url
        process.terminate()
        said = process.stdout.read()
    assert url.partition("token=")[2] not in log.read_text() + said


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, visited; it must load nothing from elsewhere and complain about nothing."""
    context = browser.new_context(viewport=WIDE)
    opened = context.new_page()
    complaints: list[str] = []
    elsewhere: list[str] = []
    home = urlsplit(address).netloc
    opened.on("console", lambda one: complaints.append(one.text) if one.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request",
        lambda one: elsewhere.append(one.url) if urlsplit(one.url).netloc != home else None,
    )
    opened.goto(address)
    yield opened
    assert elsewhere == []
    # Chromium notes each answer that is a refusal.
    assert [
        one for one in complaints if "status of 4" not in one and "status of 5" not in one
    ] == []
    context.close()


def asked(
    tsb: Tsb, name: str = "web", stack: ec.EllipticCurvePrivateKey = STACK, **more: Any
) -> asking.Json:
    request = asking.raw(
        ADA,
        label=f"SUB.{name}",
        standardCertificateAttributes={"commonName": f"{name}.example", "country": "CH"},
    )
    request |= more
    tsb.call("/v1/key", request["key"], "management")
    body = asking.body(request, stack, enrollment_id=name)
    tsb.call("/v1/certificate/request", body, "operation")
    return request


def status(tsb: Tsb, name: str = "web") -> str:
    (found,) = tsb.control("GET", f"/state?label=SUB.{name}")["requests"]
    return str(found["status"])


# As a person uses it ------------------------------------------------------------------------------


def test_a_request_is_read_checked_confirmed_and_approved(tsb: Tsb, page: Page) -> None:
    expect(page.get_by_text("Nothing waits for you")).to_be_visible()
    request = asked(tsb, reason=MARKUP)
    expect(page.get_by_role("status")).to_contain_text("New: web.example")

    page.get_by_role("link", name="web.example").click()
    expect(page.get_by_role("heading", name="web.example")).to_be_focused()
    expect(page.get_by_text(asking.digest(request), exact=True)).to_be_visible()
    expect(page.locator("#verdict")).to_contain_text("30 checks passed, 1 cannot be made")
    expect(page.get_by_text(MARKUP)).to_be_visible()
    page.get_by_role("button", name="Approve").click()
    dialog = page.get_by_role("dialog", name="Approve this?")
    expect(dialog).to_contain_text(asking.digest(request))
    expect(dialog).to_contain_text("Key SUB.web may be used once, for web.example.")
    assert status(tsb) == "PENDING"
    dialog.get_by_role("button", name="Sign and approve").click()

    expect(page.get_by_role("heading", name="Waiting for you")).to_be_focused()
    expect(page.get_by_text("Nothing waits for you")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("Approved: web.example")
    expect(page.get_by_role("heading", name="Decided here")).to_be_visible()
    assert status(tsb) == "EXECUTED"
    assert page.title() == "Countersign approvals"


def test_everything_is_done_by_the_keyboard_alone(tsb: Tsb, page: Page) -> None:
    asked(tsb)
    expect(page.get_by_role("link", name="web.example")).to_be_visible()

    def tab_to(name: str) -> None:
        for _ in range(20):
            page.keyboard.press("Tab")
            focused = page.evaluate("document.activeElement.textContent")
            if name in focused:
                return
        raise AssertionError(f"no way to {name} by the keyboard")

    tab_to("web.example")
    page.keyboard.press("Enter")
    tab_to("What the key will sign")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Its key usages are those of the request")).to_be_visible()
    tab_to("Decline")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("button", name="Not now")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Decline")).to_be_focused()
    assert status(tsb) == "PENDING"
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")

    expect(page.get_by_role("status")).to_contain_text("Declined: web.example")
    assert status(tsb) == "REJECTED"


def test_a_question_that_was_closed_does_not_answer_the_next(tsb: Tsb, page: Page) -> None:
    """A browser tells of it later, and by then the same question may have been asked again."""
    asked(tsb)
    page.get_by_role("link", name="web.example").click()
    page.get_by_role("button", name="Decline").click()
    page.evaluate("document.getElementById('confirm').dispatchEvent(new Event('close'))")

    page.get_by_role("dialog").get_by_role("button", name="Decline").click()

    expect(page.get_by_role("status")).to_contain_text("Declined: web.example")
    assert status(tsb) == "REJECTED"


def test_a_forged_request_shows_why_and_has_no_button_to_approve(tsb: Tsb, page: Page) -> None:
    asked(tsb, stack=OTHER_STACK)

    page.get_by_role("link", name="SUB.web").click()

    expect(page.locator("#verdict")).to_have_text("Do not approve: 1 check failed")
    expect(page.get_by_text("[STACK_SIGNATURE]")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_be_hidden()
    expect(page.get_by_role("button", name="Decline")).to_be_visible()
    (task,) = page.evaluate("fetch('/tasks').then((one) => one.json())")["tasks"]
    answered = page.evaluate(
        """([id, csrf]) => fetch(`/tasks/${id}/approve`, {method: "POST",
            headers: {"X-Countersign": document.querySelector("meta[name=countersign]").content},
            body: '{"requestSha256": ""}'}).then((one) => one.status)""",
        [task["taskId"], ""],
    )
    assert answered == 409
    assert status(tsb) == "PENDING"


def test_what_is_signed_is_what_was_shown(tsb: Tsb, page: Page) -> None:
    asked(tsb)
    page.get_by_role("link", name="web.example").click()
    page.get_by_role("button", name="Approve").click()
    page.evaluate("open = {...open, requestSha256: '0'.repeat(64)}")
    page.evaluate("tasks = tasks.map((one) => ({...one, requestSha256: '0'.repeat(64)}))")
    page.get_by_role("button", name="Not now").click()
    page.get_by_role("button", name="Approve").click()
    page.get_by_role("button", name="Sign and approve").click()

    expect(page.get_by_role("alert")).to_contain_text("REQUEST_EXPECTED")
    assert status(tsb) == "PENDING"


def test_what_ends_elsewhere_is_said_while_it_is_shown(tsb: Tsb, page: Page) -> None:
    asked(tsb)
    page.get_by_role("link", name="web.example").click()
    expect(page.get_by_role("button", name="Approve")).to_be_visible()

    (found,) = tsb.control("GET", "/state?label=SUB.web")["requests"]
    requests.delete(
        f"{tsb.url}/v1/request/{found['id']}",
        headers={"X-API-KEY": tsb.tokens["operation"]},
        verify=tsb.ca,
        timeout=SECONDS,
    ).raise_for_status()

    expect(page.get_by_text("It is no longer open")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_legible_at_every_width(
    tsb: Tsb, page: Page, scheme: Any, request: pytest.FixtureRequest
) -> None:
    asked(tsb, "payments-2026-11", reason="OPS-42: the old key ends in December")
    asked(tsb, "forged", stack=OTHER_STACK)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    record = request.config.getoption("--record")

    def look(view: str) -> None:
        for size, width in ((WIDE, "wide"), (NARROW, "narrow")):
            page.set_viewport_size(size)
            assert page.evaluate(MEASURE) == [], f"{view}, {width}"
            if record and (view, width, scheme) in SHOWN:
                page.evaluate("scrollTo(0, 0)")
                name = f"approvals-{view}-{width}-{scheme}.png"
                page.screenshot(path=str(PICTURES / name))

    expect(page.get_by_role("link", name="payments")).to_be_visible()
    expect(page.get_by_role("link", name="forged")).to_be_visible()
    look("list")
    page.get_by_role("link", name="payments").click()
    look("request")
    page.get_by_role("button", name="Approve").click()
    look("confirm")
    page.get_by_role("button", name="Not now").click()
    page.get_by_role("link", name="All requests").click()
    page.get_by_role("link", name="forged").click()
    look("forged")


# Who else may try ---------------------------------------------------------------------------------


def visited(address: str) -> tuple[str, requests.Session, str]:
    """The page's origin, a session with its cookie, and its own token."""
    session = requests.Session()
    text = session.get(address, timeout=SECONDS).text
    origin = f"http://{urlsplit(address).netloc}"
    return origin, session, text.partition('name="countersign" content="')[2].partition('"')[0]


def cookie(session: requests.Session) -> str:
    return "; ".join(f"{name}={value}" for name, value in session.cookies.items())


def test_the_address_is_good_for_one_visit(address: str) -> None:
    first = requests.get(address, timeout=SECONDS, allow_redirects=False)
    again = requests.get(address, timeout=SECONDS)
    without = requests.get(address.partition("?")[0], timeout=SECONDS)
    guessed = requests.get(f"{address[:-1]}x", timeout=SECONDS)

    assert first.status_code == 303
    assert {"HttpOnly", "SameSite=strict"} <= {
        part.strip() for part in first.headers["Set-Cookie"].split(";")
    }
    assert [one.status_code for one in (again, without, guessed)] == [403, 403, 403]


def test_no_answer_lets_anything_in_from_elsewhere(address: str) -> None:
    origin, session, _ = visited(address)

    for path in ("/", "/tasks", "/app.js", "/nothing"):
        headers = session.get(origin + path, timeout=SECONDS).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "change",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": None},
        {"X-Countersign": "guess"},
        {"X-Countersign": None},
        {"Host": "evil.example"},
        {"Cookie": "none"},
    ],
    ids=str,
)
def test_another_site_cannot_decide(tsb: Tsb, address: str, change: dict[str, Any]) -> None:
    asked(tsb)
    origin, session, csrf = visited(address)
    (task,) = session.get(f"{origin}/tasks", timeout=SECONDS).json()["tasks"]
    url = f"{origin}/tasks/{task['taskId']}/decline"
    # `requests` would leave the cookie out under another name of the host.
    own = {"Origin": origin, "X-Countersign": csrf, "Cookie": cookie(session)}

    refused = session.post(url, data="{}", headers=own | change, timeout=SECONDS)
    before = status(tsb)
    taken = session.post(url, data="{}", headers=own, timeout=SECONDS)

    assert refused.status_code == 403
    assert before == "PENDING"
    assert taken.status_code == 200
    assert status(tsb) == "REJECTED"


def test_another_name_for_this_machine_and_another_site_read_nothing(address: str) -> None:
    origin, session, _ = visited(address)
    url = f"{origin}/tasks"

    for headers in (
        {"Host": f"evil.example:{urlsplit(origin).port}"},
        {"Host": f"localhost:{urlsplit(origin).port}"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        headers["Cookie"] = cookie(session)
        assert session.get(url, headers=headers, timeout=SECONDS).status_code == 403
    assert session.get(url, timeout=SECONDS).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("nobody/approve", b'{"requestSha256": "00"}', 409),
        ("nobody/sign", b"{}", 404),
        ("nobody/approve", b"{}", 404),
        ("nobody/approve", b"[" * 500, 400),
        ("nobody/approve", b"x" * 5000, 413),
    ],
)
def test_what_makes_no_sense_is_refused(address: str, path: str, body: bytes, code: int) -> None:
    origin, session, csrf = visited(address)
    headers = {"Origin": origin, "X-Countersign": csrf}

    answer = session.post(f"{origin}/tasks/{path}", data=body, headers=headers, timeout=SECONDS)

    assert answer.status_code == code


def test_the_page_listens_on_the_loopback_address_alone(address: str) -> None:
    port = urlsplit(address).port
    listening = subprocess.run(
        ["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True
    ).stdout

    assert urlsplit(address).hostname == "127.0.0.1"
    assert listening.split()[3] == f"127.0.0.1:{port}"


def test_a_tsb_that_is_away_is_said_on_the_page(tsb: Tsb, page: Page) -> None:
    asked(tsb)
    expect(page.get_by_role("link", name="web.example")).to_be_visible()

    page.route("**/tasks", lambda route: route.fulfill(status=502, body=json.dumps(AWAY)))

    expect(page.get_by_role("alert")).to_contain_text("no answer came. Look")
