"""The bytecode in the layers: the same bytes from everywhere, loaded without a look at times."""

import struct
from pathlib import Path

import pytest

from local.bytecode import compile_folder

SOURCE = (
    "NAMES = frozenset(('a', 'b', 'c'))\ndef known(name):\n    return name in {'x', 'y', 'z'}\n"
)


def compiled(folder: Path) -> bytes:
    (folder / "python").mkdir(parents=True)
    (folder / "python/module.py").write_text(SOURCE)
    assert compile_folder(folder) == 0
    (file,) = folder.rglob("*.pyc")
    return file.read_bytes()


def test_a_layer_s_bytecode_depends_on_its_source_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its bytes are part of the layer's hash, and each new hash is a new layer version.
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    one = compiled(tmp_path / "one/CoreLayer")
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    two = compiled(tmp_path / "two/CoreLayer")

    assert one == two
    assert b"/opt/python/module.py" in one


def test_bytecode_is_not_compared_with_time_stamps(tmp_path: Path) -> None:
    content = compiled(tmp_path / "CoreLayer")

    assert struct.unpack("<I", content[4:8])[0] == 0b01  # PEP 552: by hash, unchecked


def test_what_does_not_compile_stops_the_deploy(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def (")

    assert compile_folder(tmp_path) == 1
