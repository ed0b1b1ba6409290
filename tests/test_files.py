import errno
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pixelwise.errors import DataError, PathAccessError, PathNotFoundError
from pixelwise.files import (
    compute_file_sha256,
    compute_sha256,
    make_temporary_path,
    read_bytes,
    read_json,
    read_text,
    read_yaml,
    remove_temporary_files,
    walk_folders,
    write_atomically,
)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_of_any_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    assert read_json(write(tmp_path / "a.json", '{"ä": [1]}'.encode(encoding))) == {"ä": [1]}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "line 1, column 1: Expecting value"),
        (b'{"a": 1,\n "b"}', "line 2, column 5: Expecting ':' delimiter"),
        (b'"\xff\xfe\xfd"', "it is not UTF-8 text"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"1" * 5000, "a number is too long"),
    ],
)
def test_invalid_json_is_an_error_with_the_place(tmp_path: Path, content: bytes, fault: str) -> None:
    with pytest.raises(DataError, match=rf"a\.json: The file is not valid JSON \({fault}\). Write or export it again"):
        read_json(write(tmp_path / "a.json", content))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a: 1\nb: [1", r"line 2, column 6: .*"),
        (b"a: 2001-99-99", "month must be in 1..12"),
        (b"a: \xff", "it is not UTF-8 text"),
        (b"a: \0", "it is not UTF-8 text"),
        (b"[" * 20_000, ".*"),
    ],
)
def test_invalid_yaml_is_an_error_with_the_place(tmp_path: Path, content: bytes, fault: str) -> None:
    with pytest.raises(DataError, match=rf"a\.yaml: The file is not valid YAML \({fault}\). Correct it"):
        read_yaml(write(tmp_path / "a.yaml", content))


def test_yaml_and_text_are_read(tmp_path: Path) -> None:
    assert read_yaml(write(tmp_path / "a.yaml", "ä: [1]".encode())) == {"ä": [1]}
    assert read_text(write(tmp_path / "a.txt", "\ufeffä".encode())) == "ä"
    with pytest.raises(DataError, match=r"a\.txt: The file is not UTF-8 text. Save it as UTF-8"):
        read_text(write(tmp_path / "a.txt", b"\xff"))


@pytest.mark.parametrize("read", [read_bytes, read_text, read_json, read_yaml])
@pytest.mark.parametrize("name", ["none", "file/none"])
def test_a_missing_file_is_an_error(tmp_path: Path, read: Callable[[Path], object], name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PathNotFoundError, match=r"none: The file does not exist. Restore it, or correct the path"):
        read(tmp_path / name)


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PathAccessError, match=r"The file cannot be read \(it is a folder\). Expected a file"):
        read_bytes(tmp_path)


def test_a_file_without_permission_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PathAccessError, match=r"a\.png: The file cannot be read \(permission denied\). Change its"):
        read_bytes(tmp_path / "a.png")


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


def list_walk(top: Path) -> list[str]:
    return [(folder / name).relative_to(top).as_posix() for folder, _, names in walk_folders(top) for name in names]


def test_a_walk_follows_links_to_folders_but_no_cycle(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a.png", ".hidden/3.png", "b/.4.png"):
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / name).touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/5.png").touch()
    (tmp_path / "top/b/other").symlink_to(tmp_path / "other")
    (tmp_path / "top/b/up").symlink_to(tmp_path / "top")
    (tmp_path / "top/b/outside").symlink_to(tmp_path)
    (tmp_path / "other/back").symlink_to(tmp_path / "top/b")
    (tmp_path / "top/lost").symlink_to(tmp_path / "nowhere")
    assert list_walk(tmp_path / "top") == ["a.png", "lost", "b/1.png", "b/2.png", "b/other/5.png"]


def test_no_link_is_followed_twice(tmp_path: Path) -> None:
    """Folders that are all linked into each other have 12! paths."""
    for number in range(12):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/a.png").touch()
        for other in range(12):
            (tmp_path / f"{number}/to{other}").symlink_to(tmp_path / f"{other}")
    assert 12 <= len(list_walk(tmp_path)) <= 12 + 12 * 12


def test_a_link_to_itself_is_listed_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "a")
    assert list_walk(tmp_path) == ["a"]


def test_a_walk_can_be_cut_short(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    seen = []
    for folder, folders, _ in walk_folders(tmp_path):
        seen.append(folder.name)
        folders[:] = [name for name in folders if name != "b"]
    assert seen == [tmp_path.name, "a"]
    assert list(walk_folders(tmp_path / "nowhere")) == []
