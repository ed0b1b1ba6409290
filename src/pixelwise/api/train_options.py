"""The arguments of a `train` call, and the config that follows from them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pixelwise.config import Config, NetworkConfig
from pixelwise.data.dataset import Dataset
from pixelwise.devices import choose_device, choose_precision
from pixelwise.errors import ModelFileError, format_command
from pixelwise.import_paths import is_import_path, load_import_path
from pixelwise.model_file import load_model
from pixelwise.networks.registry import NETWORK_KEYS
from pixelwise.planning.planner import DEFAULT_BUDGET_SECONDS, compute_steps_within, make_plan, measure_step
from pixelwise.planning.prepare_data import TrainingData
from pixelwise.progress import budget_start
from pixelwise.training.cross_validation import CrossValidation
from pixelwise.training.distributed import choose_process_device, is_distributed
from pixelwise.training.loggers import require_loggers


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """The arguments of a `train` call."""

    data: Sequence[str | Path]
    """Folders of the dataset, mostly one."""
    output: Path | None
    """Run folder; None: the next free one."""
    config: Config | None
    """Config to use instead of a plan."""
    changes: Mapping[str, Any]
    """Config keys that the caller set; they override the plan and the config."""
    weights: str | None
    """"imagenet", "none" or a file; None: as in the config."""
    folds: int | None
    """Number of folds; None: one run, or as many folds as the resumed ones."""
    resume: bool
    allow_changes: bool
    profile: bool
    skip_invalid: bool
    given_device: str
    devices: int | None
    """Number of processes that the command line starts."""
    precision: str
    started: float = field(default_factory=budget_start)
    """Instant (`time.monotonic`) from which the budget counts."""

    @property
    def device_name(self) -> str:
        """Device of this process."""
        return choose_process_device(self.given_device, self.devices)

    @property
    def device(self) -> torch.device:
        """Device to train on."""
        return choose_device(self.device_name)

    @property
    def is_cross_validation(self) -> bool:
        """True for folds, new or to resume."""
        return self.folds is not None or (
            self.output is not None and CrossValidation(path=self.output).summary.exists()
        )

    def check(self) -> "TrainOptions":
        """Check what needs no data; return the options with the network of the initial model."""
        choose_precision(self.precision, self.device)
        options = self.use_network_of_model()
        config = (options.config or Config()).replace(options.changes)
        require_loggers(config.training.loggers)
        for key, path in (
            ("network.name", config.network.name if is_import_path(config.network.name) else None),
            ("loss.function", config.loss.function),
            ("augmentation.function", config.augmentation.function),
        ):
            if path:
                load_import_path(path, key)
        return options

    def use_network_of_model(self) -> "TrainOptions":
        """Add the network of the model in `training.init_from`, as far as the caller set no other.

        Raises:
            ModelFileError: the model cannot be read.
        """
        model = self.changes.get("training.init_from")
        if not model or self.config is not None:
            return self
        try:
            network = load_model(model)[1].network
        except ModelFileError as error:
            raise ModelFileError(
                f"{error} The weights of another program are given with an encoder: --encoder NAME --weights FILE."
            ) from error
        keys = set(NetworkConfig.__dataclass_fields__)
        if (name := self.changes.get("network.name", network.name)) != network.name:
            keys = {"name", *NETWORK_KEYS.get(str(name), ())}  # of the other network, whose weights may fit
        values = {f"network.{key}": getattr(network, key) for key in keys}
        # The model has trained weights, so those of the classifier are not loaded again.
        return replace(self, changes={**values, "network.encoder_weights": "none", **self.changes})

    def make_config(self, data: TrainingData) -> Config:
        """Plan a config, or complete the given one."""
        if self.config is None:
            precision = choose_precision(self.precision, self.device)
            given = {} if self.precision == "auto" else {"training.precision": precision}
            return make_plan(data, self.device, precision, {**given, **self.changes}, self.started)
        config = self.complete(self.config)
        if config.training.deterministic and config.training.steps is None:
            budget = config.training.budget_seconds
            assert budget is not None
            seconds = measure_step(data.make_trainer(config, self.device))
            config = config.replace({"training.steps": compute_steps_within(budget, seconds, self.started)})
        return config

    def format_resume_command(self, dataset: Dataset, folder: Path) -> str:
        """Return the command that resumes a run, with what its folder does not hold: processes, device and weights."""
        given = {
            "--devices": self.devices,
            "--device": None if self.given_device == "auto" else self.given_device,
            "--weights": None if self.weights in ("imagenet", "none") else self.weights,
        }
        words = [word for pair in given.items() if pair[1] is not None for word in pair]
        command = format_command("train", *dataset.arguments, "-o", folder, "--resume", *words)
        if not is_distributed() or self.devices:
            return command
        num_machines, num_processes = (os.environ.get(f"{name}_WORLD_SIZE", "1") for name in ("GROUP", "LOCAL"))
        return f"torchrun --nnodes {num_machines} --nproc-per-node {num_processes} -m {command}"

    def complete(self, config: Config) -> Config:
        """Return a config with the caller's changes, and with the default budget if it has no length."""
        changes = dict(self.changes)
        if self.precision != "auto":
            changes["training.precision"] = self.precision
        if "training.budget_seconds" in changes:
            changes = {"training.steps": None, **changes}
        config = config.replace(changes)
        if config.training.steps is None and config.training.budget_seconds is None:
            config = config.replace({"training.budget_seconds": DEFAULT_BUDGET_SECONDS})
        return config

    def complete_resumed(self, config: Config) -> Config:
        """Return the config of a run with what the resuming call sets."""
        if self.config:
            resumed = self.complete(self.config)
        else:
            given = {} if self.precision == "auto" else {"training.precision": self.precision}
            resumed = config.replace({**self.changes, **given})
        if resumed.training.deterministic and resumed.training.steps is None:
            resumed = resumed.replace({"training.steps": config.training.steps})  # measured when the run started
        return resumed
