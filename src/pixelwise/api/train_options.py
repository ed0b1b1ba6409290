"""What a `train` command asks for, and the config that comes of it."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pixelwise.config import Config, NetworkConfig
from pixelwise.devices import choose_device, choose_precision
from pixelwise.model_file import load_model
from pixelwise.planning.plan import Plan
from pixelwise.planning.planner import DEFAULT_BUDGET_SECONDS, make_plan
from pixelwise.planning.prepare_data import Prepared
from pixelwise.planning.timing import measure_step, steps_within
from pixelwise.training.distributed import ALONE, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A `train` command, checked as far as it can be before the data is read."""

    data: Path
    given: Config | None
    """Instead of a plan."""
    changes: Mapping[str, Any]
    """Config keys that the caller decided; they win over the plan and over the given config."""
    weights: str | Path | None
    skip_invalid: bool
    device: str
    precision: str
    world: World = ALONE
    """The processes that train together; this one is the first."""
    allow_changes: bool = False
    """A run that is resumed takes another config or dataset from there on."""
    profile: bool = False
    """Says where the time of a step goes before it trains."""
    started: float
    """time.monotonic() from which a budget counts."""

    @property
    def place(self) -> torch.device:
        return choose_device(self.device)

    def with_network_of_model(self) -> "Request":
        """With the network of the model that the run starts from, as far as the caller names no other.

        Raises ModelFileError for a model that cannot be read.
        """
        model = self.changes.get("training.init_from")
        if not model or self.given is not None:
            return self
        network = load_model(model)[1].network
        keys = {f"network.{key}": getattr(network, key) for key in NetworkConfig.__dataclass_fields__}
        # The model holds what became of them; the classifier's own weights are not loaded again.
        return dataclasses.replace(self, changes={**keys, "network.encoder_weights": "none", **self.changes})

    def plan(self, prepared: Prepared) -> Plan:
        """The planned config, or the given one, with the caller's changes on top."""
        if self.given is None:
            return self._planned(prepared)
        taken = self.taken(self.given)
        if taken.training.deterministic and taken.training.steps is None:
            budget = taken.training.budget_seconds
            assert budget is not None
            seconds = measure_step(prepared.job(taken, self.place))
            taken = taken.replace({"training.steps": steps_within(budget, seconds, self.started)})
        return Plan(config=taken, reasons={})

    def _planned(self, prepared: Prepared) -> Plan:
        precision = choose_precision(self.precision, self.place)
        changes = dict(self.changes)
        if self.precision != "auto":
            changes = {"training.precision": precision, **changes}
        return make_plan(prepared, self.place, precision, changes, self.started)

    def taken(self, config: Config) -> Config:
        """A config with the caller's changes, and a length where neither names one."""
        changes = dict(self.changes)
        if self.precision != "auto":
            changes["training.precision"] = self.precision
        if "training.budget_seconds" in changes:
            changes = {"training.steps": None, **changes}
        taken = config.replace(changes)
        if taken.training.steps is None and taken.training.budget_seconds is None:
            taken = taken.replace({"training.budget_seconds": DEFAULT_BUDGET_SECONDS})
        return taken

    def again(self, config: Config) -> Config:
        """What a command that resumes asks for: the config of the run, unless it says otherwise."""
        fixed = {} if self.precision == "auto" else {"training.precision": self.precision}
        asked = self.taken(self.given) if self.given else config.replace({**self.changes, **fixed})
        if asked.training.deterministic and asked.training.steps is None:
            asked = asked.replace({"training.steps": config.training.steps})  # measured when it began
        return asked

    def seconds_left(self, total: float) -> float:
        """Of a budget of `total` seconds."""
        return self.started + total - time.monotonic()
