"""Where a run's numbers can be watched: TensorBoard, MLflow, Weights & Biases, behind one small seam.

`metrics.jsonl` in the run folder has them all, whatever is chosen here.
"""

import importlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from pixelwise.config import Config
from pixelwise.errors import missing_extra
from pixelwise.files import write_atomically
from pixelwise.training.run_dir import RunFolder


class Logger(Protocol):
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name, such as `train/loss`, after so many steps."""

    def close(self) -> None:
        """Writes what is not yet written; the run may be gone on with later."""


class TensorBoard:
    """Event files in RUN/events."""

    def __init__(self, run: RunFolder, config: Config, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Hides the events of steps that a resumed run takes again.
        self.writer = SummaryWriter(str(run.events), purge_step=first_step + 1 if first_step else None)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class MLflow:
    """A run of the experiment "pixelwise", on the server of MLFLOW_TRACKING_URI, else in RUN/mlflow.db."""

    def __init__(self, run: RunFolder, config: Config, first_step: int) -> None:
        mlflow = load_extra("mlflow")
        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.path.resolve() / 'mlflow.db'}"
        self.client = mlflow.MlflowClient(tracking_uri=place)
        self.id = known_id(run, "mlflow") if first_step else None
        if self.id is None:
            found = self.client.get_experiment_by_name("pixelwise")
            experiment = found.experiment_id if found else self.client.create_experiment("pixelwise")
            self.id = self.client.create_run(experiment, run_name=run.path.name).info.run_id
            remember_id(run, "mlflow", self.id)
            for name, value in flat(config).items():
                self.client.log_param(self.id, name, value)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.client.log_metric(self.id, name, value, step=step)

    def close(self) -> None:
        self.client.set_terminated(self.id)


class WandB:
    """A run of the project "pixelwise", in files below RUN/wandb unless WANDB_MODE says otherwise."""

    def __init__(self, run: RunFolder, config: Config, first_step: int) -> None:
        wandb = load_extra("wandb")
        name = known_id(run, "wandb") if first_step else None
        self.run = wandb.init(
            project="pixelwise",
            name=run.path.name,
            id=name,
            resume="allow" if name else None,
            dir=str(run.path),
            config=flat(config),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )
        remember_id(run, "wandb", self.run.id)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


LOGGERS: Mapping[str, Callable[[RunFolder, Config, int], Logger]] = MappingProxyType(
    {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}
)
"""The names of `training.loggers` in a config."""

EXTRAS = {"mlflow": "MLflow", "wandb": "Weights & Biases"}
"""Module, which is also the name of the extra → what people call it."""


def open_loggers(run: RunFolder, config: Config, first_step: int) -> list[Logger]:
    """What the config asks for; `first_step` is 0, or where a resumed run goes on."""
    return [LOGGERS[name](run, config, first_step) for name in config.training.loggers]


def require_loggers(names: Iterable[str]) -> None:
    """InvalidArgumentError, with the line that installs it, for one whose package is not there."""
    for name in names:
        if name in EXTRAS:
            load_extra(name)


def load_extra(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise missing_extra(f"logging to {EXTRAS[name]} (training.loggers)", name, name) from error


def flat(config: Config) -> dict[str, Any]:
    """`{"optimizer.lr": 0.002, ...}`."""
    return {f"{section}.{key}": value for section, keys in config.to_dict().items() for key, value in keys.items()}


def known_id(run: RunFolder, logger: str) -> str | None:
    """What the logger calls this run, where it has logged before."""
    if not run.logged_as.exists():
        return None
    name: str | None = json.loads(run.logged_as.read_text(encoding="utf-8")).get(logger)
    return name


def remember_id(run: RunFolder, logger: str, name: str) -> None:
    before = json.loads(run.logged_as.read_text(encoding="utf-8")) if run.logged_as.exists() else {}
    write_atomically(run.logged_as, (json.dumps({**before, logger: name}) + "\n").encode())
