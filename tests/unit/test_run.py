"""What `make run` shows fits a terminal; its recording is what it shows."""

import html
import re
from pathlib import Path

from local import run, terminal
from local.terminal import WIDTH, steps, table

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "docs/run.svg"


def test_a_line_of_a_step_fits_a_terminal() -> None:
    names = re.findall(
        r'step\(f?"([^"]+)"\)',
        "".join(
            (ROOT / "local" / name).read_text() for name in ("run.py", "stack.py", "tutorial.py")
        ),
    )

    assert names
    with terminal.console.capture() as shown, steps() as step:
        for name in names:
            with step(name.replace("{who}", "page 3: the CA's approver")):
                pass
    assert max(map(len, shown.get().splitlines())) <= WIDTH


def test_a_value_that_is_copied_stands_on_one_line() -> None:
    with terminal.console.capture() as shown:
        table("the CSR", {"CSR SHA-256": "0" * 64, "event": "[bold]"})

    assert shown.get().splitlines()[2:] == [f"CSR SHA-256  {'0' * 64}", "event        [bold]"]


def test_the_recording_ends_with_the_csr_and_what_comes_next() -> None:
    svg = RECORDING.read_text()
    text = html.unescape(re.sub(r"<[^>]+>", "", svg)).replace("\xa0", " ")

    for told in ("Enrollment Issued", "approved", "BEGIN CERTIFICATE REQUEST", "make up"):
        assert told in text
    assert "failed" not in text
    assert not re.findall(r"url\(.?https?:", svg)


def test_the_recording_is_that_of_a_run(tmp_path: Path) -> None:
    terminal.console.record, terminal.console.width = True, WIDTH
    try:
        table("the CSR", {"subject": "CN=x"})
        run.record(tmp_path / "run.svg")
    finally:
        terminal.console.record = False

    assert "CN=x" in (tmp_path / "run.svg").read_text()
    assert "font-face" not in (tmp_path / "run.svg").read_text()
