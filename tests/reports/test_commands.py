import os
from dataclasses import replace
from pathlib import Path

import pytest

from pixelwise.config import Config
from pixelwise.data.dataset import Dataset
from pixelwise.reports.commands import ModelCommands, format_path, make_commands
from support.commands import parse_command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_paths_are_relative_below_the_working_directory(here: Path) -> None:
    assert format_path(here / "runs" / "my run") == "'runs/my run'"
    assert format_path("runs/first") == "runs/first"
    assert format_path(here.parent / "other") == str(here.parent / "other")
    assert format_path(os.path.join("..", "other")) == "../other"


def test_commands_have_the_paths_of_the_run(streets: Path, here: Path) -> None:
    dataset = Dataset.load(streets)
    sample = dataset.samples[0]
    commands = make_commands("runs/first", dataset, sample, Path("runs/first/evaluation.html"))
    assert commands.predict == f"pixelwise predict runs/first {sample.image_path} -o predictions --save labels,overlay"
    assert commands.evaluate("test") == (
        f"pixelwise evaluate runs/first {streets} --split test --html runs/first/evaluation.html"
    )
    assert commands.evaluate("all") == f"pixelwise evaluate runs/first {streets} --html runs/first/evaluation.html"
    assert commands.export == "pixelwise export runs/first -o model.onnx"
    assert commands.check == f"pixelwise check {streets} --html check.html"
    assert [text for _, text in commands.list_uses("test")] == [
        commands.predict, commands.evaluate("test"), commands.export
    ]  # fmt: skip


def test_without_a_sample_the_image_is_a_placeholder(streets: Path) -> None:
    assert make_commands("m", Dataset.load(streets), None, Path("e.html")).image == "IMAGE.png"


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({"training.steps": 300}, "--steps 600"),
        ({"training.budget_seconds": 1200.0}, "--budget 40m"),
        ({"training.budget_seconds": 45.0}, "--budget 90s"),
    ],
)
def test_a_run_continues_for_twice_as_long(changes: dict[str, float], length: str) -> None:
    config = Config().replace(changes)
    commands = ModelCommands(model="run", data="cars", image="a.png", page="e.html", config=config)
    assert commands.train_longer() == f"pixelwise train cars -o run --resume --allow-changes {length}"
    assert commands.list_uses("val")[-1][1] == commands.train_longer()
    fold = replace(commands, is_fold=True)
    assert fold.train_longer() == f"pixelwise train cars {length}"
    assert len(fold.list_uses("val")) == 3


def test_the_parser_accepts_every_command_and_the_dataset_is_read_in_the_same_way(streets: Path) -> None:
    dataset = Dataset.load(streets, "folder", "labels")
    config = Config().replace({"training.steps": 300})
    commands = make_commands("my run", dataset, dataset.samples[0], Path("e.html"), config)
    texts = [text for _, text in commands.list_uses("test")]
    texts += [commands.check, commands.cross_validate, commands.train_with("loss.function=dice")]
    for text in texts:
        name, parameters = parse_command(text)
        if "data" in parameters:
            assert parameters["data"] == [str(streets)], name
            assert (parameters["format"], parameters["masks"]) == ("folder", "labels"), name
