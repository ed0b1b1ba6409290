"""From a folder of images and masks to a model file."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pixelwise.api import evaluate, predict, train
from pixelwise.config import load_config
from pixelwise.data.io.images import read_mask, write_png
from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.model_file import MODEL_FILE_NAME, load_model
from pixelwise.training.results import CrossValidationResult, TrainResult
from pixelwise.training.run_dir import RunFolder
from support.folders import read_contents

Arguments = dict[str, Any]

Arguments = dict[str, Any]


def test_a_run_returns_its_files_and_scores(trained: Path, streets: Path, tiny: Arguments, tmp_path: Path) -> None:
    result = train(streets, tmp_path / "again", **tiny)
    assert result == TrainResult(
        run=tmp_path / "again",
        model=tmp_path / "again" / MODEL_FILE_NAME,
        report=tmp_path / "again" / "report.html",
        scores=load_model(trained)[1].scores,
    )
    assert result.model.read_bytes() == (trained / MODEL_FILE_NAME).read_bytes()
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_config_of_a_run_repeats_it(trained: Path, streets: Path, tmp_path: Path) -> None:
    run = train(streets, tmp_path / "again", config=trained / "config.yaml", device="cpu").run
    assert (run / MODEL_FILE_NAME).read_bytes() == (trained / MODEL_FILE_NAME).read_bytes()
    assert load_config(run / "config.yaml") == load_config(trained / "config.yaml")


def test_the_config_of_a_run_is_resolved_and_gives_reasons(trained: Path, tiny: Arguments) -> None:
    config = load_config(trained / "config.yaml")
    assert config.training.steps == tiny["steps"]
    assert config.training.budget_seconds is None
    assert config.data.crop_size == (64, 96)
    assert "# set by the user" in (trained / "config.yaml").read_text()


def test_a_run_writes_its_classes_and_splits(trained: Path, streets: Path) -> None:
    classes = yaml.safe_load((trained / "classes.yaml").read_text())
    assert classes["names"] == yaml.safe_load((streets / "dataset.yaml").read_text())["names"]
    splits = yaml.safe_load((trained / "splits.yaml").read_text())
    assert {name: len(names) for name, names in splits.items()} == {"train": 12, "val": 4, "test": 4}


def test_a_folder_that_was_stopped_before_its_config_starts_from_the_beginning(
    trained: Path, streets: Path, tiny: Arguments, tmp_path: Path
) -> None:
    shutil.copy(trained / "classes.yaml", tmp_path)
    with pytest.raises(InvalidArgumentError, match=r"already contains classes\.yaml"):  # which may be the user's
        train(streets, tmp_path, resume=True, **tiny)
    RunFolder(tmp_path).unfinished.touch()
    train(streets, tmp_path, resume=True, **tiny)
    assert not RunFolder(tmp_path).unfinished.exists()
    assert (tmp_path / MODEL_FILE_NAME).read_bytes() == (trained / MODEL_FILE_NAME).read_bytes()


def test_a_folder_that_holds_a_run_is_refused(finished: Path, streets: Path, tiny: Arguments) -> None:
    before = read_contents(finished)
    with pytest.raises(InvalidArgumentError, match=r"already contains .* Continue a run with --resume"):
        train(streets, finished, **tiny)
    assert read_contents(finished) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"init_from": "m", "weights": "imagenet"}, "init_from and weights both set the initial weights"),
        ({"budget": "20m", "steps": 5}, "budget and steps both set the length of the run"),
        ({"budget": "soon"}, "budget is 'soon', which is not a duration"),
        ({"steps": 0}, r"steps is 0, but must be >= 1\."),
        ({"settings": {"network.wings": 2}}, "Unknown key of config section 'network'"),
        ({"settings": {"width": 2}}, "Unknown config section 'width'"),
        ({"network": "unett", "steps": 5}, r"Unknown network 'unett'\. Did you mean 'unet"),
        ({"device": "abacus"}, "Unknown device 'abacus'"),
        ({"precision": "fp8", "steps": 5}, "fp8"),
        ({"budget": "1s", "device": "cpu"}, "The budget of 1 s|[Bb]udget"),
    ],
)
def test_invalid_arguments_leave_no_folder(streets: Path, tmp_path: Path, arguments: Arguments, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        train(streets, tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_resume_needs_a_folder(streets: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="resume needs the run folder"):
        train(streets, resume=True)


def test_unsound_data_is_refused(streets: Path, tiny: Arguments, tmp_path: Path) -> None:
    data = shutil.copytree(streets, tmp_path / "data")
    (data / "labels" / "train" / "0003.png").unlink()
    with pytest.raises(DataError, match=r"without a mask: images/train/0003\.png"):
        train(data, tmp_path / "run", **tiny)
    assert not (tmp_path / "run").exists()


def test_a_run_is_named_after_data_and_network(
    streets: Path, tiny: Arguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "streets-unet-1").mkdir(parents=True)
    assert train(streets, **tiny).run == Path("runs/streets-unet-2")
    assert (tmp_path / "runs" / "streets-unet-2" / MODEL_FILE_NAME).exists()


def test_gray_images_are_trained_on_and_labeled(cells: Path, tiny: Arguments, tmp_path: Path) -> None:
    result = train(cells, tmp_path / "run", **tiny)
    spec = load_model(result.model)[1]
    assert spec.channels == 1
    assert 0 <= result.scores["mean_iou"] <= 1


def test_images_of_16_bit_without_splits_or_classes_are_trained_on(tiny: Arguments, tmp_path: Path) -> None:
    data, rng = tmp_path / "data", torch.Generator().manual_seed(0)
    for number in range(5):
        bright = torch.randint(0, 2, (40, 48), generator=rng).numpy()
        write_png(data / "images" / f"{number}.png", (bright * 3000 + 500).astype("uint16"))
        write_png(data / "masks" / f"{number}.png", (bright * 255).astype("uint8"))
    result = train(data, tmp_path / "run", **tiny)
    spec = load_model(result.model)[1]
    assert (spec.dtype, spec.channels, spec.classes.names) == ("uint16", 1, ("background", "foreground"))
    assert 500 < spec.mean[0] < 3500
    assert evaluate(result.run, data, device="cpu").split == "val"
    predict(result.run, [data / "images"], tmp_path / "out", label_values="dataset", device="cpu")
    assert set(read_mask(tmp_path / "out" / "0.png").ravel().tolist()) <= {0, 255}


def test_a_group_is_kept_out_of_two_splits_and_written_down(streets: Path, tiny: Arguments, tmp_path: Path) -> None:
    result = train(streets, tmp_path / "run", folds=2, group_by=r"(\d)$", **tiny)
    assert isinstance(result, CrossValidationResult)
    assert r"group_by: (\d)$" in (result.folds[0] / "config.yaml").read_text()
    for run in result.folds:
        text = (run / "splits.yaml").read_text()
        assert "- train/0003  # 3\n" in text
        splits = yaml.safe_load(text)
        train_digits, val_digits = ({name[-1] for name in splits[split]} for split in ("train", "val"))
        assert train_digits.isdisjoint(val_digits)
