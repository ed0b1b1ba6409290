import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pixelwise.data.dataset import Dataset
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.evaluation.evaluate import choose_split
from pixelwise.model_file import MODEL_FILE_NAME
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
