import hashlib
import threading
from pathlib import Path

import pytest

from pixelwise.files import (
    compute_file_sha256,
    compute_sha256,
    make_temporary_path,
    remove_temporary_files,
    write_atomically,
)


def test_an_atomic_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    for content in (b"old", b"new"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.txt"
    write_atomically(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_paths_are_unique(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    paths = {make_temporary_path(path) for _ in range(10)}
    assert len(paths) == 10
    assert {temporary.parent for temporary in paths} == {tmp_path}
    assert all(temporary.name.startswith(".b.txt.") for temporary in paths)


def test_readers_of_a_file_being_replaced_see_whole_versions(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    versions = {bytes([i]) * 50_000 for i in range(20)}
    write_atomically(path, bytes(50_000))
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for version in sorted(versions):
        write_atomically(path, version)
    done.set()
    reader.join()
    assert seen <= versions


def test_temporary_files_of_the_targets_are_removed_and_others_are_kept(tmp_path: Path) -> None:
    kept = [".b.png.0123456789ab.part", ".a.png.part", "a.png", "a.png.part"]
    removed = [".a.png.0123456789ab.part", ".a.png.ba9876543210.part"]
    (tmp_path / ".a.png.folder.part").mkdir()
    for name in (*kept, *removed):
        (tmp_path / name).write_text("x")
    remove_temporary_files(tmp_path, lambda path: path == tmp_path / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(kept)
    remove_temporary_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(kept[1:])


def test_checksums_of_chunks_and_files_agree(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abcdef")
    expected = hashlib.sha256(b"abcdef").hexdigest()
    assert compute_sha256([b"abc", b"", b"def"]) == compute_file_sha256(tmp_path / "a") == expected
