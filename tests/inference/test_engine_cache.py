import os
from pathlib import Path
from typing import Any

import pytest

from pixelwise.inference import engine_cache
from pixelwise.inference.engine_cache import CACHE_VARIABLE, find_cache_folder, has_entry, read_entry, write_entry

KEY = {"model": "a", "openvino": "2026.1"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


def test_an_entry_is_read_for_its_key_only(folder: Path) -> None:
    assert read_entry(KEY) is None
    write_entry(KEY, b"network")
    assert read_entry(KEY) == b"network"
    assert has_entry(KEY)
    for other in ({"model": "b"}, {"openvino": "2026.2"}):
        assert read_entry(KEY | other) is None
        assert not has_entry(KEY | other)


@pytest.mark.parametrize("damage", [b"", b"x", b"0" * 64 + b"network"])
def test_a_damaged_entry_is_not_read_and_is_replaced(damage: bytes, folder: Path) -> None:
    write_entry(KEY, b"network")
    (path,) = folder.iterdir()
    path.write_bytes(damage)
    assert read_entry(KEY) is None
    write_entry(KEY, b"network")
    assert read_entry(KEY) == b"network"


def test_the_oldest_entries_are_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_cache, "MAX_BYTES", 3 * 164)
    for number in range(3):
        write_entry({"number": number}, bytes(100))
        for path in folder.iterdir():
            age = path.stat().st_mtime - 100
            os.utime(path, (age, age))
    (folder / ".killed.part").write_bytes(bytes(10))
    os.utime(folder / ".killed.part", (0, 0))
    read_entry({"number": 0})  # now the most recently used
    write_entry({"number": 3}, bytes(100))
    assert [has_entry({"number": number}) for number in range(4)] == [True, False, True, True]
    assert not (folder / ".killed.part").exists()
    write_entry({"number": 4}, bytes(1000))  # larger than the folder
    assert not has_entry({"number": 4})


def test_a_folder_that_cannot_be_written_is_not_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    write_entry(KEY, b"network")
    assert read_entry(KEY) is None
    assert not has_entry(KEY)


def test_a_full_disk_is_not_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine_cache, "write_atomically", fail)
    write_entry(KEY, b"network")
    assert not has_entry(KEY)


def test_the_folder_is_that_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    monkeypatch.setenv("HOME", "/home/ada")
    for platform, expected in (("linux", "/caches"), ("win32", "/local"), ("darwin", "/home/ada/Library/Caches")):
        monkeypatch.setattr("sys.platform", platform)
        assert find_cache_folder() == Path(expected) / "pixelwise" / "engines"


def test_off_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    write_entry(KEY, b"network")
    assert read_entry(KEY) is None
    assert find_cache_folder() is None
