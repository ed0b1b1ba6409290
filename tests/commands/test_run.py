"""A run gone on with."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from folders import contents
from pixelwise.commands.train import train
from pixelwise.errors import CheckpointError, DataError
from pixelwise.model_file import FILE_NAME, load_model
from pixelwise.progress import Silent
from pixelwise.recipe import read_recipe, to_yaml
from pixelwise.training.run_folder import RunFolder
from pixelwise.training.trainer import Trainer

Arguments = dict[str, Any]

Arguments = dict[str, Any]


def test_a_finished_run_resumed_changes_nothing(finished: Path, streets: Path, tiny: Arguments) -> None:
    before = contents(finished)
    for arguments in ({"resume": True}, {**tiny, "resume": True}):
        result = train(streets, finished, **arguments)
        assert result.scores == load_model(finished)[1].scores
    assert contents(finished) == before


def test_a_run_whose_report_is_missing_gets_it_and_keeps_its_model(
    finished: Path, trained: Path, streets: Path
) -> None:
    (finished / "report.html").unlink()
    train(streets, finished, resume=True, device="cpu")
    assert (finished / "report.html").read_bytes() != b""
    assert (finished / FILE_NAME).read_bytes() == (trained / FILE_NAME).read_bytes()


def test_a_run_without_a_checkpoint_starts_from_the_beginning(started: Path, trained: Path, streets: Path) -> None:
    train(streets, started, resume=True, device="cpu")
    assert (started / FILE_NAME).read_bytes() == (trained / FILE_NAME).read_bytes()
    assert sorted(p.name for p in started.iterdir()) == sorted(p.name for p in trained.iterdir())


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"steps": 7}, r"training\.steps"),
        ({"seed": 1}, r"training\.seed"),
        ({"settings": ["optimizer.lr=0.5", "network.width=8"]}, r"network\.width, optimizer\.lr"),
        ({"budget": "20m"}, r"training\.budget_seconds"),
        ({"precision": "bf16"}, r"training\.precision"),
    ],
)
def test_another_recipe_is_refused(finished: Path, streets: Path, changes: Arguments, key: str) -> None:
    before = contents(finished)
    with pytest.raises(CheckpointError, match=f"was started with another {key} .* resume without changing it"):
        train(streets, finished, resume=True, **changes)
    assert contents(finished) == before


def test_another_recipe_file_is_refused_and_the_same_is_not(finished: Path, streets: Path, tmp_path: Path) -> None:
    recipe = read_recipe(finished / "recipe.yaml")
    same, other = tmp_path / "same.yaml", tmp_path / "other.yaml"
    same.write_text(to_yaml(recipe))
    other.write_text(to_yaml(recipe.replace({"optimizer.lr": 0.5})))
    train(streets, finished, resume=True, recipe=same)
    with pytest.raises(CheckpointError, match=r"was started with another optimizer\.lr"):
        train(streets, finished, resume=True, recipe=other)


def test_other_classes_are_refused(started: Path, streets: Path, tmp_path: Path) -> None:
    data = shutil.copytree(streets, tmp_path / "data")
    text = (data / "dataset.yaml").read_text()
    (data / "dataset.yaml").write_text(text.replace("sky", "heaven"))
    with pytest.raises(CheckpointError, match=r"the classes of .* are not those that the run started with"):
        train(data, started, resume=True)


@pytest.fixture
def faulty(streets: Path, tmp_path: Path) -> Path:
    """An image without a mask, and one that cannot be read."""
    data = shutil.copytree(streets, tmp_path / "faulty")
    (data / "images" / "train" / "0003.png").write_bytes(b"")
    (data / "labels" / "train" / "0001.png").unlink()
    return data


LEFT_OUT = [
    {"file": "images/train/0003.png", "reason": "the file is empty; replace or remove it."},
    {"file": "images/train/0001.png", "reason": "an image has no mask"},
]


def test_a_forced_run_names_what_it_leaves_out(faulty: Path, tiny: Arguments, tmp_path: Path) -> None:
    class Listening(Silent):
        said: ClassVar[list[str]] = []

        def say(self, message: str) -> None:
            self.said.append(message)

    with pytest.raises(DataError, match="To train on what is sound: --force"):
        train(faulty, tmp_path / "run", **tiny)
    run = train(faulty, tmp_path / "run", **tiny, force=True, progress=Listening()).run
    assert yaml.safe_load((run / "left_out.yaml").read_text()) == LEFT_OUT
    splits = yaml.safe_load((run / "splits.yaml").read_text())
    assert len(splits["train"]) == 10
    assert not {"train/0001", "train/0003"} & set(splits["train"])
    report = (run / "report.html").read_text(encoding="utf-8")
    for line in (
        "left out: images/train/0003.png: the file is empty; replace or remove it.",
        "left out: images/train/0001.png: an image has no mask",
    ):
        assert line in report
        assert Listening.said.count(line) == 1
    assert sum(line.startswith("error: ") for line in Listening.said) == 2


def test_a_forced_run_goes_on_without_what_it_left_out(faulty: Path, tiny: Arguments, tmp_path: Path) -> None:
    run = train(faulty, tmp_path / "run", **tiny, force=True).run
    model = (run / FILE_NAME).read_bytes()
    for name in ("last.checkpoint", "previous.checkpoint", FILE_NAME, "report.html", "metrics.jsonl"):
        (run / name).unlink()
    train(faulty, run, resume=True, device="cpu")
    assert (run / FILE_NAME).read_bytes() == model
    assert yaml.safe_load((run / "left_out.yaml").read_text()) == LEFT_OUT
    assert "left out: images/train/0001.png: an image has no mask" in (run / "report.html").read_text(encoding="utf-8")


def test_a_forced_run_stops_at_an_error_that_came_later(faulty: Path, tiny: Arguments, tmp_path: Path) -> None:
    run = train(faulty, tmp_path / "run", **tiny, force=True).run
    for name in ("last.checkpoint", "previous.checkpoint", FILE_NAME, "report.html"):
        (run / name).unlink()
    (faulty / "images" / "train" / "0005.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"0005\.png: the file is empty"):
        train(faulty, run, resume=True, device="cpu")


def test_a_run_is_not_forced_later(started: Path, streets: Path) -> None:
    with pytest.raises(CheckpointError, match="was started without --force; resume without it"):
        train(streets, started, resume=True, force=True)


def test_a_list_of_an_earlier_run_does_not_stay(streets: Path, tiny: Arguments, tmp_path: Path) -> None:
    (tmp_path / "left_out.yaml").write_text("[]\n")
    train(streets, tmp_path, **tiny)
    assert not (tmp_path / "left_out.yaml").exists()


def test_an_unreadable_checkpoint_is_named(finished: Path, streets: Path) -> None:
    (finished / "last.checkpoint").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"last\.checkpoint cannot be read"):
        train(streets, finished, resume=True)


def test_an_interrupted_run_can_be_resumed(
    streets: Path, tiny: Arguments, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step: Callable[..., Any] = Trainer.step
    taken: list[int] = []

    def interrupted(self: Trainer, *arguments: Any) -> Any:
        if len(taken) == 4:
            raise KeyboardInterrupt
        taken.append(1)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(streets, tmp_path / "run", **tiny)
    assert RunFolder(tmp_path / "run").last_checkpoint.exists()
    train(streets, tmp_path / "run", resume=True, **tiny)
    assert (tmp_path / "run" / FILE_NAME).read_bytes() == (trained / FILE_NAME).read_bytes()
