import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pixelwise.data.dataset import Dataset
from pixelwise.data.file_records import record_files, write_file_records
from pixelwise.data.io.images import write_png
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.evaluation.evaluate import choose_split
from pixelwise.model_file import MODEL_FILE_NAME
from pixelwise.progress import use_reporter
from support.recorder import Recorder
from support.small_datasets import pairs


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> Path:
    return make_model(tmp_path / "m", classes={"names": ["road", "sky"]})


def choose(data: Path, model: Path, split: str | None = None) -> tuple[str, list[str]]:
    name, samples = choose_split(Dataset.load(data), model, split)
    return name, [sample.name for sample in samples]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [(["train", "val", "test"], "test"), (["train", "val"], "val"), (["test"], "test"), (["."], "all")],
)
def test_the_default_is_test_then_val_then_all(model: Path, tmp_path: Path, folders: list[str], expected: str) -> None:
    name, samples = choose(pairs(tmp_path / "data", folders), model)
    assert name == expected
    assert samples == (["a", "b"] if expected == "all" else [f"{expected}/a", f"{expected}/b"])


def test_a_split_by_name(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["train", "test"])
    assert choose(data, model, "train") == ("train", ["train/a", "train/b"])
    with pytest.raises(InvalidArgumentError, match=r"data has no split 'val'. It has: test, train"):
        choose_split(Dataset.load(data), model, "val")


def test_training_images_are_never_the_default(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"has no split 'test or val'. It has: train"):
        choose(pairs(tmp_path / "data", ["train"]), model)


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Path:
    """A run folder whose run used b of a dataset without splits for validation."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(model, folder / MODEL_FILE_NAME)
    (folder / "splits.yaml").write_text("train: [a]\nval: [b]\n")
    return folder


@pytest.mark.parametrize("model_file", [False, True])
def test_a_split_of_the_run(run: Path, tmp_path: Path, model_file: bool) -> None:
    data, model = pairs(tmp_path / "data", ["."]), run / MODEL_FILE_NAME if model_file else run
    assert choose(data, model) == ("val", ["b"])
    assert choose(data, model, "train") == ("train", ["a"])


def test_a_split_of_the_run_and_the_test_split_of_the_dataset(run: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["train", "test"])
    (run / "splits.yaml").write_text("train: [train/a]\nval: [train/b]\ntest: [test/a, test/b]\n")
    assert choose(data, run) == ("test", ["test/a", "test/b"])
    assert choose(data, run, "val") == ("val", ["train/b"])
    assert choose(data, run, "train") == ("train", ["train/a"])


def test_splits_of_another_dataset_are_ignored(run: Path, tmp_path: Path) -> None:
    (run / "splits.yaml").write_text("train: [x]\nval: [y]\n")
    assert choose(pairs(tmp_path / "data", ["."]), run) == ("all", ["a", "b"])


def record(run: Path, data: Path) -> None:
    write_file_records(run / "files.json", record_files(Dataset.load(data)))


def test_a_split_of_the_run_of_recorded_files(run: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["."])
    record(run, data)
    assert choose(data, run) == ("val", ["b"])
    moved = tmp_path / "elsewhere"
    data.rename(moved)
    assert choose(moved, run) == ("val", ["b"])
    write_png(moved / "images" / "a.png", np.zeros((8, 12, 3), np.uint8))  # b is still a file of the run
    assert choose(moved, run) == ("val", ["b"])


def test_another_dataset_with_the_same_names_is_scored_as_a_whole(run: Path, tmp_path: Path) -> None:
    record(run, pairs(tmp_path / "data", ["."]))
    other = pairs(tmp_path / "other", ["."], size=(8, 16))
    recorder = Recorder()
    with use_reporter(recorder):
        assert choose(other, run) == ("all", ["a", "b"])
    (message,) = recorder.messages
    assert message == (
        f"{other} is not the dataset of the run: its images have the same names, but other contents. The splits of the "
        f"run do not apply to it; all 2 images are scored"
    )
    (other / "images/b.png").rename(other / "images/c.png")
    (other / "masks/b.png").rename(other / "masks/c.png")
    assert choose(other, run) == ("all", ["a", "c"])  # not an error about the missing b


def test_images_in_no_split_of_the_run_are_counted(run: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["."])
    record(run, data)
    for folder in ("images", "masks"):
        shutil.copy(data / folder / "a.png", data / folder / "c.png")
    recorder = Recorder()
    with use_reporter(recorder):
        assert choose(data, run) == ("val", ["b"])
    assert recorder.messages == [
        f"The splits of the run apply, because {data} has images of the run",
        f"1 image of {data} in no split of the run: not scored",
    ]


def test_images_that_the_run_left_out_are_told_from_new_ones(run: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["."])
    record(run, data)
    for folder, name in itertools.product(("images", "masks"), "cd"):
        shutil.copy(data / folder / "a.png", data / folder / f"{name}.png")
    (run / "left_out.yaml").write_text("- {file: images/c.png, reason: The file is truncated.}\n")
    recorder = Recorder()
    with use_reporter(recorder):
        assert choose(data, run) == ("val", ["b"])
    assert recorder.messages[1:] == [
        f"Not scored, because the run left them out (see {run / 'left_out.yaml'}): 'c'",
        f"1 image of {data} in no split of the run: not scored",
    ]


def test_files_of_the_same_names_and_sizes_differ_by_their_contents(run: Path, tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    for root, value in ((data, 1), (other, 2)):
        for stem in "ab":
            for folder in ("images", "masks"):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.new("L", (12, 8), value if folder == "images" else 0).save(root / folder / f"{stem}.bmp")
    assert (data / "images/a.bmp").stat().st_size == (other / "images/a.bmp").stat().st_size
    record(run, data)
    assert choose(data, run) == ("val", ["b"])
    assert choose(other, run) == ("all", ["a", "b"])


def test_the_splits_of_another_dataset_apply_to_it(run: Path, tmp_path: Path) -> None:
    (run / "splits.yaml").write_text("train: [train/a, val/a]\nval: [train/b, val/b]\n")
    record(run, pairs(tmp_path / "data", ["train", "val"]))
    other = pairs(tmp_path / "other", ["train", "val"], size=(8, 16))
    recorder = Recorder()
    with use_reporter(recorder):
        assert choose(other, run) == ("val", ["val/a", "val/b"])
    assert "the splits of the folder apply" in recorder.messages[0]


def test_a_damaged_record_is_an_error(run: Path, tmp_path: Path) -> None:
    (run / "files.json").write_text('{"images/a.png": 3}')
    with pytest.raises(DataError, match=r"files\.json is damaged. Restore or remove it"):
        choose(pairs(tmp_path / "data", ["."]), run)


def test_a_missing_validation_image_is_an_error(run: Path, tmp_path: Path) -> None:
    (run / "splits.yaml").write_text("train: [a]\nval: [b, c]\n")
    with pytest.raises(DataError, match=r"splits\.yaml lists 'c', which the dataset no longer contains"):
        choose(pairs(tmp_path / "data", ["."]), run)


def test_a_fold_is_scored_on_images_outside_its_training(model: Path, tmp_path: Path) -> None:
    """Folds pool train and val, so the val split of the dataset was trained on."""
    data = pairs(tmp_path / "data", ["train", "val"])
    lists = {"train": ["train/a", "val/a"], "val": ["train/b", "val/b"]}
    (model.parent / "splits.yaml").write_text(yaml.safe_dump(lists), encoding="utf-8")
    assert choose(data, model) == ("val", ["train/b", "val/b"])
    assert choose(data, model, "train") == ("train", ["train/a", "val/a"])
    pairs(data, ["test"])
    assert choose(data, model) == ("test", ["test/a", "test/b"])
    assert choose(data, model, "val") == ("val", ["train/b", "val/b"])


def test_splits_of_a_finished_run(trained: Path, streets: Path) -> None:
    listed = yaml.safe_load((trained / "splits.yaml").read_text())
    assert choose(streets, trained) == ("test", listed["test"])


def test_a_damaged_splits_file_is_an_error(run: Path, tmp_path: Path) -> None:
    (run / "splits.yaml").write_text("damaged\n")
    with pytest.raises(DataError, match=r"splits\.yaml is damaged"):
        choose(pairs(tmp_path / "data", ["."]), run)
