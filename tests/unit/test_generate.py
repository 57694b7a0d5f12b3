"""One command writes or checks whatever is generated; what it is, each generator's tests say."""

from pathlib import Path

import pytest

from local.generate import __main__ as generate
from local.generate.pages import filled
from local.release_profiles import PROFILE_STORE, RELEASED


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the project's folder."""
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    return tmp_path


def test_check_names_each_stale_file_and_the_way_out_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale, absent, gone, right = (folder / name for name in ("stale", "absent", "gone", "right"))
    for path in (stale, gone, right):
        path.write_text("old")

    code = generate.main(
        ["--check"], [lambda: {stale: "new", absent: "new", gone: None, right: "old"}]
    )

    assert code == 1
    assert capsys.readouterr().err.splitlines() == [
        "stale is out of date: run make generate",
        "absent is out of date: run make generate",
        "gone is out of date: run make generate",
    ]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "stale": "old", "gone": "old", "right": "old",
    }  # fmt: skip


def test_generating_writes_and_names_what_differs_and_then_the_check_is_content(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale, absent, gone, right = (folder / name for name in ("stale", "a/b", "gone", "right"))
    for path in (stale, gone, right):
        path.write_text("old")
    written = right.stat().st_mtime_ns
    generators = [lambda: {stale: "new", absent: "new", gone: None, right: "old"}]

    assert generate.main([], generators) == 0

    assert capsys.readouterr().out.splitlines() == ["stale", "a/b", "gone"]
    assert (stale.read_text(), absent.read_text(), gone.exists()) == ("new", "new", False)
    assert right.stat().st_mtime_ns == written
    assert generate.main(["--check"], generators) == 0
    assert capsys.readouterr() == ("", "")


def test_generators_that_share_a_page_keep_each_other_s_blocks_and_it_is_named_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = folder / "page.md"
    page.write_text("<!-- one -->\n<!-- /one -->\n<!-- two -->\nold\n<!-- /two -->\n")
    generators = [
        lambda: {page: filled(page.read_text(), "one", "1\n")},
        lambda: {page: filled(page.read_text(), "two", "2\\1\n")},
    ]

    assert generate.main(["--check"], generators) == 1
    assert generate.main([], generators) == 0

    assert page.read_text() == "<!-- one -->\n1\n<!-- /one -->\n<!-- two -->\n2\\1\n<!-- /two -->\n"
    assert capsys.readouterr() == ("page.md\n", "page.md is out of date: run make generate\n")


@pytest.mark.parametrize("page", ["", "<!-- one -->\n<!-- /one -->\n" * 2])
def test_a_page_without_its_block_is_an_error(page: str) -> None:
    # Left as it is, it would pass every check.
    with pytest.raises(ValueError, match="<!-- one -->"):
        filled(page, "one", "1\n")


def test_generating_releases_no_profile() -> None:
    generated = {path for generator in generate.GENERATORS for path in generator()}

    assert PROFILE_STORE / RELEASED not in generated


def test_everything_generated_is_up_to_date() -> None:
    assert generate.main(["--check"]) == 0
