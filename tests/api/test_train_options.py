"""The config that comes of what was asked for."""

from pathlib import Path
from typing import Any

import pytest

from pixelwise.api import train
from pixelwise.api.train_options import TrainOptions
from pixelwise.data.dataset import Dataset
from support.commands import parse_command


def train_nothing(monkeypatch: pytest.MonkeyPatch, asked: list[Any]) -> None:
    """Runs end before their first step; their configs are kept in `asked`."""

    def train_run(prepared: Any, options: Any, world: Any) -> None:
        asked.append(prepared.config)

    monkeypatch.setattr("pixelwise.api.train_run.train_run", train_run)
    monkeypatch.setattr("pixelwise.api.train_run.make_result", lambda folder: None)


def test_a_given_config_without_a_length_takes_the_default_budget(
    streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    train_nothing(monkeypatch, asked)
    (tmp_path / "r.yaml").write_text("network: {base_channels: 4}\n")
    train(streets, tmp_path / "a", config=tmp_path / "r.yaml")
    train(streets, tmp_path / "b", config=tmp_path / "r.yaml", steps=9, precision="bf16")
    train(
        streets,
        tmp_path / "c",
        config=tmp_path / "b" / "config.yaml",
        budget="90s",
        settings={"network.base_channels": 8},
    )
    lengths = [(config.training.steps, config.training.budget_seconds) for config in asked]
    assert lengths == [(None, 1200), (9, None), (None, 90)]
    assert [config.network.base_channels for config in asked] == [4, 4, 8]
    assert [config.training.precision for config in asked] == ["fp32", "bf16", "bf16"]


def test_a_deterministic_budget_is_resolved_to_steps(
    streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether planned or given: the clock is looked at once, and then never again."""
    asked: list[Any] = []
    train_nothing(monkeypatch, asked)
    monkeypatch.setattr("pixelwise.planning.planner.measure_step", lambda *arguments: 10.0)
    monkeypatch.setattr("pixelwise.api.train_options.measure_step", lambda *arguments: 10.0)
    (tmp_path / "r.yaml").write_text("network: {base_channels: 4, depth: 2}\n")
    train(streets, tmp_path / "a", budget="10m", deterministic=True, device="cpu")
    train(streets, tmp_path / "b", budget="10m", deterministic=True, config=tmp_path / "r.yaml", device="cpu")
    assert len(asked) == 2
    for config in asked:
        assert config.training.steps is not None
        assert 1 <= config.training.steps < 60


# Commands that resume a run


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        ({}, {}, {}),
        ({"given_device": "cpu", "devices": 2}, {}, {"device": "cpu", "devices": 2}),
        ({"given_device": "cpu", "devices": 2}, {"WORLD_SIZE": "2"}, {"device": "cpu", "devices": 2}),
        ({"weights": "my weights.pth"}, {}, {"weights": "my weights.pth"}),
        ({"weights": "imagenet"}, {}, {}),
        ({}, {"WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, {}),
    ],
)
def test_the_command_that_resumes_has_what_the_folder_does_not_hold(
    streets: Path, monkeypatch: pytest.MonkeyPatch, given: Any, environment: dict[str, str], expected: Any
) -> None:
    values: dict[str, Any] = {"given_device": "auto", "devices": None, "weights": None, **given}
    options = TrainOptions(
        data=[streets],
        output=None,
        config=None,
        changes={},
        folds=None,
        resume=False,
        allow_changes=False,
        profile=False,
        skip_invalid=False,
        precision="auto",
        **values,
    )
    if environment:
        rank = {"RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
        for name, value in {**rank, **environment}.items():
            monkeypatch.setenv(name, value)
    dataset = Dataset.load(streets, "folder", "labels")
    command = options.format_resume_command(dataset, Path("runs/a b"))
    name, parameters = parse_command(command)
    given_words = {"output": "runs/a b", "resume": True, "format": "folder", "masks": "labels"}
    assert (name, parameters["data"]) == ("train", [str(streets)])
    changed = {key: value for key, value in parameters.items() if key in {*given_words, "device", "devices", "weights"}}
    assert changed == {"device": "auto", **given_words, **expected}
    launcher = "torchrun --nnodes 2 --nproc-per-node 2 -m " if "LOCAL_WORLD_SIZE" in environment else ""
    assert command.startswith(f"{launcher}pixelwise train ")
