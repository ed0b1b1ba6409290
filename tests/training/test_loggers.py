"""Loggers, with stand-ins for the packages that are extras."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, get_args, get_type_hints

import pytest

from pixelwise.api import train
from pixelwise.config import Config, TrainingConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.training.loggers import LOGGERS, open_loggers, require_loggers
from pixelwise.training.run_dir import RunFolder


class Client:
    """As much of MLflow's client as is used; keeps what it is told, by address of the store."""

    stores: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, tracking_uri: str) -> None:
        self.store = self.stores.setdefault(tracking_uri, {"experiments": {}, "runs": {}})

    def get_experiment_by_name(self, name: str) -> Any:
        return self.store["experiments"].get(name)

    def create_experiment(self, name: str) -> str:
        self.store["experiments"][name] = SimpleNamespace(experiment_id="7")
        return "7"

    def create_run(self, experiment_id: str, run_name: str) -> Any:
        name = f"run-{len(self.store['runs'])}"
        self.store["runs"][name] = {"name": run_name, "metrics": [], "params": {}, "ended": 0}
        return SimpleNamespace(info=SimpleNamespace(run_id=name))

    def log_param(self, run_id: str, key: str, value: Any) -> None:
        self.store["runs"][run_id]["params"][key] = value

    def log_metric(self, run_id: str, key: str, value: float, step: int) -> None:
        self.store["runs"][run_id]["metrics"].append((key, value, step))

    def set_terminated(self, run_id: str) -> None:
        self.store["runs"][run_id]["ended"] += 1


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, Any]]]:
    module = ModuleType("mlflow")
    module.MlflowClient = Client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(Client, "stores", {})
    return Client.stores


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The runs that were begun."""
    runs: list[Any] = []

    def init(**options: Any) -> Any:
        lines: list[Any] = []
        run = SimpleNamespace(
            id=options["id"] or f"id-{len(runs)}",
            options=options,
            lines=lines,
            log=lambda values, step: lines.append((values, step)),
            finish=lambda: lines.append("finished"),
        )
        runs.append(run)
        return run

    module = ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return runs


def config(*loggers: str) -> Config:
    return Config().replace({"training.loggers": loggers})


def test_the_table_has_the_names_of_the_config() -> None:
    assert tuple(LOGGERS) == get_args(get_args(get_type_hints(TrainingConfig)["loggers"])[0])


def test_none_asked_for_is_none(tmp_path: Path) -> None:
    assert open_loggers(RunFolder(tmp_path), config(), 0) == []


def test_mlflow_has_the_config_and_the_numbers_in_the_run_folder(tmp_path: Path, mlflow: dict[str, Any]) -> None:
    for first_step, loss in ((0, 2.0), (5, 1.0)):  # the second time resumed
        (logger,) = open_loggers(RunFolder(tmp_path), config("mlflow"), first_step)
        logger.log_scalars({"train/loss": loss}, first_step + 1)
        logger.close()
    ((place, store),) = mlflow.items()
    assert place == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    (run,) = store["runs"].values()
    assert run["metrics"] == [("train/loss", 2.0, 1), ("train/loss", 1.0, 6)]
    assert (run["name"], run["params"]["optimizer.lr"], run["ended"]) == (tmp_path.name, 0.002, 2)


def test_mlflow_takes_the_server_of_its_environment(
    tmp_path: Path, mlflow: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    open_loggers(RunFolder(tmp_path), config("mlflow"), 0)
    assert list(mlflow) == ["http://server:5000"]


def test_wandb_is_offline_by_default(tmp_path: Path, wandb: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for first_step, mode in ((0, None), (5, "online")):
        if mode:
            monkeypatch.setenv("WANDB_MODE", mode)
        (logger,) = open_loggers(RunFolder(tmp_path), config("wandb"), first_step)
        logger.log_scalars({"val/mean_iou": 0.5}, first_step + 1)
        logger.close()
    assert [run.options["mode"] for run in wandb] == ["offline", "online"]
    assert [(run.options["id"], run.options["resume"]) for run in wandb] == [(None, None), ("id-0", "allow")]
    assert wandb[0].lines == [({"val/mean_iou": 0.5}, 1), "finished"]
    assert (wandb[0].options["dir"], wandb[0].options["config"]["optimizer.lr"]) == (str(tmp_path), 0.002)


@pytest.mark.parametrize(("name", "spoken"), [("mlflow", "MLflow"), ("wandb", "Weights & Biases")])
def test_one_that_is_not_installed_is_an_error_with_the_line_that_installs_it(
    name: str, spoken: str, monkeypatch: pytest.MonkeyPatch, streets: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    said = rf'logging to {spoken} \(training\.loggers\) needs {name}.*: pip install "pixelwise\[{name}\]"'
    with pytest.raises(InvalidArgumentError, match=said):
        require_loggers(["tensorboard", name])
    settings = {**tiny["settings"], "training.loggers": ["tensorboard", name]}
    with pytest.raises(InvalidArgumentError, match=said):
        train(streets, tmp_path / "run", **{**tiny, "settings": settings})
    assert not (tmp_path / "run").exists()
