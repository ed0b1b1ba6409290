import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixelwise.errors import InvalidArgumentError
from pixelwise.prediction.manifest import FILE_NAME, JobRequest, begin, remove, require_resumable

FIRST = JobRequest(model="abc", settings={"tiling": "exact", "min_area": 0})


def test_a_new_folder_is_begun(tmp_path: Path) -> None:
    assert begin(tmp_path / "out", FIRST, [], resume=True) is False
    assert json.loads((tmp_path / "out" / FILE_NAME).read_text()) == FIRST.to_dict()


def test_an_equal_request_is_resumed_only_when_asked(tmp_path: Path) -> None:
    begin(tmp_path, FIRST, [], resume=False)
    assert begin(tmp_path, FIRST, [], resume=True) is True
    assert begin(tmp_path, FIRST, [], resume=False) is False


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (JobRequest(model="xyz", settings=FIRST.settings), "another model"),
        (JobRequest(model="abc", settings={"tiling": "exact", "min_area": 9}), "min_area was 0 and is 9"),
    ],
)
def test_another_request_is_not_resumed(tmp_path: Path, other: JobRequest, said: str) -> None:
    begin(tmp_path, FIRST, [], resume=False)
    with pytest.raises(InvalidArgumentError, match=rf"holds results of another request \({said}\)"):
        begin(tmp_path, other, [], resume=True)
    assert json.loads((tmp_path / FILE_NAME).read_text()) == FIRST.to_dict()


@pytest.mark.parametrize("text", ["[]", '{"settings": 1}'])
def test_a_foreign_description_is_not_resumed(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(InvalidArgumentError, match=r"predict\.json is of another kind"):
        begin(tmp_path, FIRST, [], resume=True)


def test_files_of_another_request_do_not_stay_to_be_taken_for_done(tmp_path: Path) -> None:
    old = tmp_path / "a.png"
    begin(tmp_path, FIRST, [old], resume=False)
    old.write_text("old")
    begin(tmp_path, FIRST, [old], resume=False)
    assert old.exists()  # until the equal result replaces it
    begin(tmp_path, JobRequest(model="xyz", settings={}), [old, tmp_path / "none.png"], resume=False)
    assert not old.exists()


def test_files_of_an_unknown_request_are_not_done(tmp_path: Path) -> None:
    old = tmp_path / "a.png"
    old.write_text("old")
    assert begin(tmp_path, FIRST, [old], resume=True) is False
    assert not old.exists()


@pytest.mark.parametrize("resume", [True, False])
def test_of_shards_that_begin_at_once_the_first_description_stays(tmp_path: Path, resume: bool) -> None:
    """Files that the first one has written since must not look older than the description."""

    def while_another_shard_is_faster() -> Iterator[Path]:
        begin(tmp_path, FIRST, [], resume=resume)
        os.utime(tmp_path / FILE_NAME, (1000, 1000))
        yield tmp_path / "a.png"

    assert begin(tmp_path, FIRST, while_another_shard_is_faster(), resume=resume) is False
    assert (tmp_path / FILE_NAME).stat().st_mtime == 1000


@pytest.mark.parametrize("option", ["--shard", "--cluster"])
def test_files_on_all_images_need_labels_where_others_predict(option: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"{option} reads what is done for table .* or leave {option} out"):
        require_resumable(["table"], "index", option)


@pytest.mark.parametrize("kind", ["coco", "cvat", "table"])
def test_files_on_all_images_need_labels_to_be_resumed(kind: str) -> None:
    require_resumable(["overlay", "labelme"], "dataset")
    require_resumable([kind, "labels"], "index")
    for kinds, label_values in (([kind], "index"), ([kind, "labels"], "dataset")):
        with pytest.raises(InvalidArgumentError, match=rf"--resume reads what is done for {kind} from label files"):
            require_resumable(kinds, label_values)


def test_a_result_may_be_a_folder(tmp_path: Path) -> None:
    old, elsewhere, link = tmp_path / "out" / "a.zarr", tmp_path / "elsewhere", tmp_path / "out" / "b.zarr"
    for folder in (old / "0", elsewhere):
        folder.mkdir(parents=True)
        (folder / "0").touch()
    link.symlink_to(elsewhere)
    begin(tmp_path / "out", FIRST, [old, link, tmp_path / "out" / "nothing.zarr"], resume=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [FILE_NAME]
    assert (elsewhere / "0").exists()


def test_no_half_of_a_folder_stays_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zarr").mkdir()
    seen: list[bool] = []
    monkeypatch.setattr("shutil.rmtree", lambda going: seen.append((tmp_path / "a.zarr").exists()))
    remove(tmp_path / "a.zarr")
    assert seen == [False]
