"""Claims on outputs, manifests of folders and marks inside files."""

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pixelwise import output_files as home
from pixelwise.data.io.images import encode_png
from pixelwise.errors import InvalidArgumentError, PathAccessError
from pixelwise.output_files import (
    OutputClaim,
    OutputInUseError,
    OutputManifest,
    claim_output,
    find_mark_state,
    mark_content,
    measure,
    prepare_files,
    read_mark,
    remove_files,
    remove_path,
    require_replaceable,
    write_marked,
)

REQUEST = {"model": "abc", "min_area": 0}

# Claims. Other processes hold them, because a claim is shared by the calls of one thread.

HOLD = """
import sys
from pathlib import Path
from pixelwise.output_files import claim_output

output, shard, min_area = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with claim_output(output, {"model": "abc", "min_area": min_area}, shard=shard):
    print("claimed", flush=True)
    sys.stdin.read()
"""

Hold = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """`hold(output, shard, min_area)`: a process that claims an output until its input ends."""
    with ExitStack() as processes:

        def start(output: Path, shard: str = "", min_area: int = 0) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", HOLD, str(output), shard, str(min_area)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes.enter_context(process)
            assert process.stdin
            processes.callback(process.stdin.close)
            assert process.stdout
            assert process.stdout.readline() == "claimed\n"
            return process

        yield start


def test_a_claimed_folder_is_refused_with_the_process_that_has_it(hold: Hold, tmp_path: Path) -> None:
    process = hold(tmp_path / "out")
    for shard in ("", "1/2"):
        with (
            pytest.raises(OutputInUseError, match=rf"is being written by another run \(process {process.pid} on"),
            claim_output(tmp_path / "out", REQUEST, shard=shard),
        ):
            raise AssertionError
    with claim_output(tmp_path / "other", REQUEST):
        pass


def test_a_folder_that_shards_write_is_refused_for_a_whole_job(hold: Hold, tmp_path: Path) -> None:
    hold(tmp_path / "out", "1/2")
    with pytest.raises(OutputInUseError, match="is being written by another run"), claim_output(tmp_path / "out"):
        raise AssertionError


def test_shards_of_one_request_share_a_folder(hold: Hold, tmp_path: Path) -> None:
    for number in range(1, 8):
        hold(tmp_path / "out", f"{number}/8")
    with claim_output(tmp_path / "out", REQUEST, shard="8/8"):
        assert len(list((tmp_path / "out").glob(".pixelwise-*-of-8.lock"))) == 8
    with (
        pytest.raises(OutputInUseError, match=r"Shard 3/8 of .* is already running \(process \d+ on"),
        claim_output(tmp_path / "out", REQUEST, shard="3/8"),
    ):
        raise AssertionError
    with (
        pytest.raises(
            OutputInUseError, match=r"by shards of another request \(process \d+ on .*, min_area was 0 and is 5\)"
        ),
        claim_output(tmp_path / "out", {**REQUEST, "min_area": 5}, shard="8/8"),
    ):
        raise AssertionError


def test_a_killed_process_claims_nothing(hold: Hold, tmp_path: Path) -> None:
    process = hold(tmp_path / "out")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with claim_output(tmp_path / "out", REQUEST):
        (tmp_path / "out" / "a.png").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_claim_leaves_nothing_and_an_empty_folder_is_removed(tmp_path: Path) -> None:
    with claim_output(tmp_path / "new" / "out", REQUEST):
        assert (tmp_path / "new" / "out").is_dir()
    (tmp_path / "empty").mkdir()
    with claim_output(tmp_path / "empty", REQUEST):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_the_calls_of_one_command_share_its_claim(tmp_path: Path) -> None:
    with claim_output(tmp_path), claim_output(tmp_path), ThreadPoolExecutor(1) as other:

        def claim() -> None:
            with claim_output(tmp_path):
                raise AssertionError

        with pytest.raises(OutputInUseError):
            other.submit(claim).result()


def test_files_of_one_folder_are_claimed_one_by_one(tmp_path: Path) -> None:
    with claim_output(tmp_path / "a[1].onnx", is_file=True), ThreadPoolExecutor(1) as other:

        def claim(name: str) -> str:
            with claim_output(tmp_path / name, is_file=True):
                return name

        assert other.submit(claim, "b.onnx").result() == "b.onnx"
        with pytest.raises(OutputInUseError, match=r"a\[1\]\.onnx is being written"):
            other.submit(claim, "a[1].onnx").result()
    assert list(tmp_path.iterdir()) == []


def test_many_threads_claim_in_turn(tmp_path: Path) -> None:
    """Lock files are created and removed at the same time."""
    done: list[int] = []

    def claim(number: int) -> None:
        while True:
            try:
                with claim_output(tmp_path / "out"):
                    assert len(list((tmp_path / "out").glob(".pixelwise-*"))) == 1
                    done.append(number)
                    return
            except OutputInUseError:
                continue

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(claim, range(40)))
    assert sorted(done) == list(range(40))
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("name", ["file", "file/out", "link"])
def test_a_file_cannot_be_claimed_as_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(InvalidArgumentError, match=r"(file|link) is not a folder"), claim_output(tmp_path / name):
        raise AssertionError


def test_a_folder_with_the_name_of_a_file_is_not_made(tmp_path: Path) -> None:
    message = r"labels\.PNG would be a folder, but has the name of a file"
    with pytest.raises(InvalidArgumentError, match=message), claim_output(tmp_path / "labels.PNG"):
        raise AssertionError
    assert not list(tmp_path.iterdir())
    (tmp_path / "labels.png").mkdir()
    for name in ("labels.png", "v1.2"):
        with claim_output(tmp_path / name):
            pass


def test_a_file_system_without_locks_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(file: int) -> bool:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(home, "_try_lock", fail)
    with claim_output(tmp_path, REQUEST) as claim, claim.wait():
        pass
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "the file system has no locks, so a second run that writes there is not noticed. Start one at a time."
    ]
    assert list(tmp_path.iterdir()) == []


# Manifests


def make(folder: Path, request: Any = None) -> OutputManifest:
    claim = OutputClaim(folder=folder, stem=".pixelwise")
    return OutputManifest(claim=claim, name="predict.json", request=request or REQUEST)


def test_the_states_of_files_in_a_folder(tmp_path: Path) -> None:
    ours, others = make(tmp_path), make(tmp_path, {**REQUEST, "model": "xyz"})
    ours.write(tmp_path / "a.png", b"a")
    (tmp_path / "b.png").write_bytes(b"b")
    ours.write(tmp_path / "sub" / "c.png", b"c")
    (tmp_path / "sub" / "c.png").write_bytes(b"d")
    others.write(tmp_path / "e.png", b"e")
    (tmp_path / "f.zarr").mkdir()
    (tmp_path / "g.png").symlink_to("nowhere")
    for saved in (False, True):
        states = {
            path.name: make(tmp_path).find_state(path)
            for path in (*(tmp_path / f"{name}.png" for name in ("a", "b", "e", "g", "z")), tmp_path / "f.zarr")
        }
        assert states == {
            "a.png": ("unchanged", ""),
            "b.png": ("foreign", ""),
            "e.png": ("other", "another model") if saved else ("other", "another model, min_area was None and is 0"),
            "f.zarr": ("blocked", ""),
            "g.png": ("foreign", ""),
            "z.png": ("absent", ""),
        }
        assert make(tmp_path).find_state(tmp_path / "sub" / "c.png") == ("edited", "")
        # Of the same size, which is not enough to replace it, but enough to keep it after a finished job.
        state = "unchanged" if saved else "edited"
        assert make(tmp_path).find_state(tmp_path / "sub" / "c.png", compare_content=False) == (state, "")
        others.begin([])
        ours.begin([])
        ours.save()
    assert not list(tmp_path.glob(".pixelwise*"))


def test_equal_jobs_write_equal_manifests(tmp_path: Path) -> None:
    for folder, names in (("one", "ab"), ("other", "ba")):
        (tmp_path / folder).mkdir()
        manifest = make(tmp_path / folder)
        manifest.begin([])
        for name in names:
            manifest.write(tmp_path / folder / name, name.encode())
        manifest.save()
    text = (tmp_path / "one" / "predict.json").read_text()
    assert text == (tmp_path / "other" / "predict.json").read_text()
    content = json.loads(text)
    assert content["written_by"] == "pixelwise"
    assert [file["path"] for file in content["files"]] == ["a", "b"]
    assert content["files"][0]["bytes"] == 1


def test_a_file_that_is_replaced_is_ours_before_and_after(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    manifest.begin([])
    manifest.write(tmp_path / "a", b"first")
    manifest.save()
    make(tmp_path).record(tmp_path / "a", _write(tmp_path / "new", b"second"))  # killed before it is moved
    assert make(tmp_path).find_state(tmp_path / "a") == ("unchanged", "")
    (tmp_path / "new").replace(tmp_path / "a")
    assert make(tmp_path).find_state(tmp_path / "a") == ("unchanged", "")
    make(tmp_path).save()
    (record,) = json.loads((tmp_path / "predict.json").read_text())["files"]
    assert (record["bytes"], record["sha256"]) == measure(tmp_path / "a")


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_journal_that_a_kill_cut_off_is_read(tmp_path: Path) -> None:
    make(tmp_path).write(tmp_path / "a", b"a")
    (journal,) = tmp_path.glob(".pixelwise-predict.json.*.jsonl")
    with journal.open("a") as file:
        file.write('{"path": "b", "by')
    assert make(tmp_path).find_state(tmp_path / "a") == ("unchanged", "")


def test_a_shard_leaves_the_journals_of_others(tmp_path: Path) -> None:
    one, other = make(tmp_path), make(tmp_path)
    one.begin([])
    one.write(tmp_path / "a", b"a")
    other.write(tmp_path / "b", b"b")
    one.save(is_shared=True)
    assert len(list(tmp_path.glob(".pixelwise-predict.json.*.jsonl"))) == 1
    other.save(is_shared=True)
    assert [file["path"] for file in json.loads((tmp_path / "predict.json").read_text())["files"]] == ["a", "b"]


def test_a_folder_is_a_file_of_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.zarr" / "0").mkdir(parents=True)
    (tmp_path / "a.zarr" / "0" / "0").write_bytes(b"chunk")
    manifest = make(tmp_path)
    manifest.record(tmp_path / "a.zarr", tmp_path / "a.zarr")
    assert manifest.find_state(tmp_path / "a.zarr") == ("unchanged", "")
    (tmp_path / "a.zarr" / "0" / "0").write_bytes(b"chunq")
    assert make(tmp_path).find_state(tmp_path / "a.zarr") == ("edited", "")


def test_temporary_files_of_killed_writers_are_removed_and_no_others(tmp_path: Path) -> None:
    names = (
        "trip/a.png",
        "trip/.b.png.0123456789ab.part",
        "trip/.a.png.part",
        ".a.png.0123456789ab.part",
        "trip/x.part",
    )
    removed = ("trip/.a.png.0123456789ab.part", "trip/.a_overlay.png.ba9876543210.part")
    (tmp_path / "trip" / ".a.png.rows.part").mkdir(parents=True)
    for name in (*names, *removed):
        (tmp_path / name).write_text("x")
    make(tmp_path).remove_unfinished(tmp_path / name for name in ("trip/a.png", "trip/a_overlay.png", "none/c.png"))
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == sorted(names)


def test_states_that_forbid_replacing_are_errors() -> None:
    paths = [Path("out") / name for name in "abc"]
    foreign = dict.fromkeys(paths, ("foreign", ""))
    with pytest.raises(
        InvalidArgumentError,
        match=r"^out/a exists, and Pixelwise did not write it\. Write to another place, or replace it with "
        r"--overwrite\. The same is true of 2 more files\.$",
    ):
        require_replaceable(foreign, overwrite=False)  # type: ignore[arg-type]
    require_replaceable(foreign, overwrite=True)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"^out/b was changed after Pixelwise wrote it\. Write"):
        require_replaceable({paths[0]: ("unchanged", ""), paths[1]: ("edited", "")}, overwrite=False)
    with pytest.raises(
        InvalidArgumentError, match=r"^out/c is a folder, which is never replaced\. Move it, or choose another name\.$"
    ):
        require_replaceable({paths[2]: ("blocked", "")}, overwrite=True)


def test_a_folder_is_removed_at_once_and_a_link_without_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, target, link = tmp_path / "out" / "a.zarr", tmp_path / "target", tmp_path / "out" / "b.zarr"
    for folder in (old / "0", target):
        folder.mkdir(parents=True)
        (folder / "0").touch()
    link.symlink_to(target)
    for path in (old, link, tmp_path / "out" / "nothing.zarr"):
        remove_path(path)
    assert list((tmp_path / "out").iterdir()) == []
    assert (target / "0").exists()
    old.mkdir()
    exists: list[bool] = []
    monkeypatch.setattr("shutil.rmtree", lambda renamed: exists.append(old.exists()))
    remove_path(old)
    assert exists == [False]


def test_only_folders_that_become_empty_are_removed(tmp_path: Path) -> None:
    for name in ("a/b/1", "a/b/2", "a/c/3", "empty/"):
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    remove_files([tmp_path / "a/b/1", tmp_path / "a/b/2"], tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "a",
        "a/c",
        "a/c/3",
        "empty",
    ]
    remove_files([tmp_path / "a/c/3"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


# Marks

CONTENTS = {
    "x.json": b'{\n  "a": 1,\n  "findings": []\n}\n',
    "x.yaml": b"# A config.\nnetwork:\n  name: unet\n",
    "x.html": b"<!doctype html>\n<html><body>a -- b</body></html>\n",
    "x.py": b'"""A script."""\n\nprint("x")\n',
    "x.png": encode_png(np.arange(12, dtype=np.uint8).reshape(3, 4)),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_marked_file_is_known_until_it_is_edited(tmp_path: Path, name: str) -> None:
    path, request = tmp_path / name, {"data": 'a--b>é\n"x"', "size": (3, 4)}
    assert find_mark_state(path, "check", request) == ("absent", "")
    path.write_bytes(CONTENTS[name])
    assert find_mark_state(path, "check", request) == ("foreign", "")
    write_marked(path, CONTENTS[name], "check", request, {"weights.bin": "0" * 64})
    assert find_mark_state(path, "check", request) == ("unchanged", "")
    assert find_mark_state(path, "check", {**request, "size": (5, 4)}) == ("other", "size was [3, 4] and is [5, 4]")
    assert find_mark_state(path, "plan", request) == ("other", "'pixelwise check'")
    mark = read_mark(path)
    assert mark is not None
    assert mark.files == {"weights.bin": "0" * 64}
    content = path.read_bytes()
    middle = len(CONTENTS[name]) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    assert find_mark_state(path, "check", request) == ("edited", "")
    path.unlink()
    path.mkdir()
    assert find_mark_state(path, "check", request) == ("blocked", "")


def test_a_marked_file_is_read_as_before() -> None:
    marked = {name: mark_content(content, "check", {"a": "--"}) for name, content in CONTENTS.items()}
    values = json.loads(marked["x.json"])
    assert values.pop("written_by")["command"] == "check"
    assert values == json.loads(CONTENTS["x.json"])
    assert yaml.safe_load(marked["x.yaml"]) == yaml.safe_load(CONTENTS["x.yaml"])
    compile(marked["x.py"], "x.py", "exec")
    assert marked["x.html"].count(b"--") == CONTENTS["x.html"].count(b"--") + 2  # of the comment itself
    assert marked["x.html"].startswith(CONTENTS["x.html"])


def test_a_marked_png_is_valid(tmp_path: Path) -> None:
    write_marked(tmp_path / "x.png", CONTENTS["x.png"], "localize", {"class": "é"})
    content, position, chunks = (tmp_path / "x.png").read_bytes(), 8, []
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        data = content[position + 4 : position + 8 + length]
        assert struct.unpack_from(">I", content, position + 8 + length) == (zlib.crc32(data),)
        chunks.append(data[:4])
        position += 12 + length
    assert chunks == [b"IHDR", b"IDAT", b"tEXt", b"IEND"]
    with Image.open(tmp_path / "x.png") as picture:
        picture.load()
        assert json.loads(picture.info["written_by"])["request"] == {"class": "é"}
        np.testing.assert_array_equal(np.asarray(picture), np.arange(12).reshape(3, 4))


@pytest.mark.parametrize(
    "content", [b'{"written_by": 5}', b'{"written_by": {"command": "x", "sha256": "' + b"0" * 64 + b'"}}', b""]
)
def test_a_mark_of_another_program_is_foreign(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    assert find_mark_state(tmp_path / "x.json", "check", {}) == ("foreign", "")


def test_files_of_a_command_are_written_with_their_request(tmp_path: Path) -> None:
    json_path, data = tmp_path / "x.json", tmp_path / "data"
    file, nothing = prepare_files([json_path, None], "check", [data], {"size": 3}, overwrite=False)
    assert nothing is None
    assert file is not None
    file.write(CONTENTS["x.json"].decode())
    assert json.loads(json_path.read_text())["written_by"]["request"] == {"data": "data", "size": 3}
    prepare_files([json_path], "check", [data], {"size": 3}, overwrite=False)
    with pytest.raises(InvalidArgumentError, match=r"size was 3 and is 4"):
        prepare_files([json_path], "check", [data], {"size": 4}, overwrite=False)
    prepare_files([json_path], "check", [data], {"size": 4}, overwrite=True)


def test_a_result_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        PathAccessError, match=r"result.json cannot be written \(.*file is a file\). Choose another path."
    ):
        prepare_files([tmp_path / "file" / "result.json"], "check", [tmp_path], {}, overwrite=False)
    prepare_files([tmp_path / "new" / "sub" / "result.json"], "check", [tmp_path], {}, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_result_in_a_folder_without_permission_is_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(PathAccessError, match=r"result.json cannot be written"):
        prepare_files([tmp_path / "result.json"], "check", [tmp_path], {}, overwrite=False)


def test_two_results_in_one_file_raise(tmp_path: Path) -> None:
    paths = [tmp_path / "x", tmp_path / "y/../x"]
    with pytest.raises(InvalidArgumentError, match=r"Two results would be written to .*x\. Choose two files\."):
        prepare_files(paths, "check", [tmp_path], {}, overwrite=True)
