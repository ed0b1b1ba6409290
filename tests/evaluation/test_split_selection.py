import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pixelwise.data.dataset import Dataset
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.evaluation.split_selection import choose_split
from pixelwise.model_file import MODEL_FILE_NAME
from support.small_sets import pairs


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> Path:
    return make_model(tmp_path / "m", classes={"names": ["road", "sky"]})


def chosen(data: Path, model: Path, split: str | None = None) -> tuple[str, list[str]]:
    name, samples = choose_split(Dataset.load(data), model, split)
    return name, [sample.name for sample in samples]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [(["train", "val", "test"], "test"), (["train", "val"], "val"), (["test"], "test"), (["."], "all")],
)
def test_test_goes_before_val_and_no_split_means_all(
    model: Path, tmp_path: Path, folders: list[str], expected: str
) -> None:
    name, samples = chosen(pairs(tmp_path / "data", folders), model)
    assert name == expected
    assert samples == (["a", "b"] if expected == "all" else [f"{expected}/a", f"{expected}/b"])


def test_a_split_is_taken_by_name(model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["train", "test"])
    assert chosen(data, model, "train") == ("train", ["train/a", "train/b"])
    with pytest.raises(InvalidArgumentError, match=r"data has no split 'val'; it has test, train"):
        choose_split(Dataset.load(data), model, "val")


def test_training_images_are_never_taken_unasked(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"has no split 'test or val'; it has train"):
        chosen(pairs(tmp_path / "data", ["train"]), model)


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Path:
    """A run folder whose run took b of a dataset without splits for validation."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(model, folder / MODEL_FILE_NAME)
    (folder / "splits.yaml").write_text("train: [a]\nval: [b]\n")
    return folder


@pytest.mark.parametrize("model_file", [False, True])
def test_a_split_made_by_the_run_is_found(run: Path, tmp_path: Path, model_file: bool) -> None:
    data, model = pairs(tmp_path / "data", ["."]), run / MODEL_FILE_NAME if model_file else run
    assert chosen(data, model) == ("val", ["b"])
    assert chosen(data, model, "train") == ("train", ["a"])


def test_a_split_made_by_the_run_stands_beside_the_datasets_test_split(run: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "data", ["train", "test"])
    (run / "splits.yaml").write_text("train: [train/a]\nval: [train/b]\ntest: [test/a, test/b]\n")
    assert chosen(data, run) == ("test", ["test/a", "test/b"])
    assert chosen(data, run, "val") == ("val", ["train/b"])
    assert chosen(data, run, "train") == ("train", ["train/a"])


def test_splits_of_another_dataset_are_left_alone(run: Path, tmp_path: Path) -> None:
    (run / "splits.yaml").write_text("train: [x]\nval: [y]\n")
    assert chosen(pairs(tmp_path / "data", ["."]), run) == ("all", ["a", "b"])


def test_a_missing_validation_image_is_an_error(run: Path, tmp_path: Path) -> None:
    (run / "splits.yaml").write_text("train: [a]\nval: [b, c]\n")
    with pytest.raises(DataError, match=r"splits\.yaml lists 'c', which the dataset no longer contains"):
        chosen(pairs(tmp_path / "data", ["."]), run)


def test_a_fold_is_scored_on_images_that_it_did_not_train_on(model: Path, tmp_path: Path) -> None:
    """Folds pool train and val; the dataset's own val split is no longer unseen."""
    data = pairs(tmp_path / "data", ["train", "val"])
    lists = {"train": ["train/a", "val/a"], "val": ["train/b", "val/b"]}
    (model.parent / "splits.yaml").write_text(yaml.safe_dump(lists), encoding="utf-8")
    assert chosen(data, model) == ("val", ["train/b", "val/b"])
    assert chosen(data, model, "train") == ("train", ["train/a", "val/a"])
    pairs(data, ["test"])
    assert chosen(data, model) == ("test", ["test/a", "test/b"])
    assert chosen(data, model, "val") == ("val", ["train/b", "val/b"])


def test_a_finished_runs_splits_are_those_of_the_data(trained: Path, streets: Path) -> None:
    listed = yaml.safe_load((trained / "splits.yaml").read_text())
    assert chosen(streets, trained) == ("test", listed["test"])
