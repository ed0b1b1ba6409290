"""Loggers of a run's scalars: TensorBoard, MLflow, Weights & Biases.

`metrics.jsonl` in the run folder has the same values with any choice.
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
    """Receives the scalars of a run."""

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log values by name, such as `train/loss`, after `step` steps."""

    def close(self) -> None:
        """Write everything; the run may be resumed later."""


class TensorBoard:
    """Writes event files to RUN/events."""

    def __init__(self, run: RunFolder, config: Config, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Hides events of steps that a resumed run repeats.
        self.writer = SummaryWriter(str(run.events), purge_step=first_step + 1 if first_step else None)

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class MLflow:
    """Logs to the experiment "pixelwise" on the server MLFLOW_TRACKING_URI, or to RUN/mlflow.db."""

    def __init__(self, run: RunFolder, config: Config, first_step: int) -> None:
        mlflow = load_extra("mlflow")
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.path.resolve() / 'mlflow.db'}"
        self.client = mlflow.MlflowClient(tracking_uri=uri)
        self.id = read_logger_id(run, "mlflow") if first_step else None
        if self.id is None:
            existing = self.client.get_experiment_by_name("pixelwise")
            experiment = existing.experiment_id if existing else self.client.create_experiment("pixelwise")
            self.id = self.client.create_run(experiment, run_name=run.path.name).info.run_id
            store_logger_id(run, "mlflow", self.id)
            for name, value in flatten_config(config).items():
                self.client.log_param(self.id, name, value)

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.client.log_metric(self.id, name, value, step=step)

    def close(self) -> None:
        self.client.set_terminated(self.id)


class WandB:
    """Logs to the project "pixelwise", offline in RUN/wandb unless WANDB_MODE is set."""

    def __init__(self, run: RunFolder, config: Config, first_step: int) -> None:
        wandb = load_extra("wandb")
        name = read_logger_id(run, "wandb") if first_step else None
        self.run = wandb.init(
            project="pixelwise",
            name=run.path.name,
            id=name,
            resume="allow" if name else None,
            dir=str(run.path),
            config=flatten_config(config),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )
        store_logger_id(run, "wandb", self.run.id)

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


LOGGERS: Mapping[str, Callable[[RunFolder, Config, int], Logger]] = MappingProxyType(
    {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}
)
"""Values of `training.loggers`."""

EXTRAS = {"mlflow": "MLflow", "wandb": "Weights & Biases"}
"""Module, which is also the name of the extra → name of the product."""


def open_loggers(run: RunFolder, config: Config, first_step: int) -> list[Logger]:
    """Open the loggers of the config; `first_step` is 0, or the step of a resumed run."""
    return [LOGGERS[name](run, config, first_step) for name in config.training.loggers]


def require_loggers(names: Iterable[str]) -> None:
    """Raise InvalidArgumentError if the package of a logger is not installed."""
    for name in names:
        if name in EXTRAS:
            load_extra(name)


def load_extra(name: str) -> Any:
    """Import the package of a logger."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise missing_extra(f"logging to {EXTRAS[name]} (training.loggers)", name, name) from error


def flatten_config(config: Config) -> dict[str, Any]:
    """Return `{"optimizer.lr": 0.002, ...}`."""
    return {f"{section}.{key}": value for section, keys in config.to_dict().items() for key, value in keys.items()}


def read_logger_id(run: RunFolder, logger: str) -> str | None:
    """Return the logger's own name of this run, if it has logged before."""
    if not run.loggers.exists():
        return None
    name: str | None = json.loads(run.loggers.read_text(encoding="utf-8")).get(logger)
    return name


def store_logger_id(run: RunFolder, logger: str, name: str) -> None:
    """Store the logger's own name of this run."""
    before = json.loads(run.loggers.read_text(encoding="utf-8")) if run.loggers.exists() else {}
    write_atomically(run.loggers, (json.dumps({**before, logger: name}) + "\n").encode())
