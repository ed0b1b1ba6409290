"""A loss that is no number: found, stopped at, and kept for a second look.

The loop reads losses about once a second, so that it never waits for the device. When a loss is no
number, the weights are long spoiled. But a batch is a function of its step, so the steps since the last
checkpoint are taken again, one at a time, and the state before the bad one is at hand.
"""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pixelwise.config import Config, load_config
from pixelwise.data.loader import Batch
from pixelwise.errors import CheckpointError, TrainingError
from pixelwise.files import write_atomically
from pixelwise.networks import Segmenter, build_network
from pixelwise.shapes import Size
from pixelwise.training.optimizers import learning_rate_factor
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Trainer


class DivergedError(TrainingError):
    """The loss or the weights are no numbers any more."""

    def __init__(self, what: str, step: int, progress: float, config: Config) -> None:
        lr = config.optimizer.lr * learning_rate_factor(progress, config.schedule)
        super().__init__(
            f"{what} at step {step} (learning rate {lr:.2g}); lower the learning rate "
            f"(--set optimizer.lr={config.optimizer.lr / 4:g}) or use --precision fp32, in a new run."
        )


def require_finite(trainer: Trainer, step: int, progress: float) -> None:
    """Before weights are written anywhere. Waits for the device."""
    state = trainer.state()
    if not (all_finite(state["model"].values()) and all_finite(state["average"].values())):
        raise DivergedError("the weights are no numbers any more", step, progress, trainer.job.config)


def all_finite(tensors: Iterable[Tensor]) -> bool:
    floats = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    largest = torch._foreach_norm(floats, math.inf)  # of a NaN it is NaN
    return bool(torch.stack([one.float() for one in largest]).isfinite().all())


class Taken(NamedTuple):
    """What a step depended on, beside its number and the state before it."""

    before: float
    """Progress of the run."""
    after: float
    size: Size
    """Of its samples."""


def keep_bad_step(
    trainer: Trainer, run: RunFolder, start: tuple[int, Mapping[str, Any]], taken: Sequence[Taken]
) -> str:
    """Takes steps again from `start` (their number, the trainer's state then) until one is no number, and
    writes that one to `diverged.checkpoint`; returns a sentence on it.
    """
    first, state = start
    trainer.load_state(state)
    batches = trainer.job.batches()
    for step, (progress, after, size) in enumerate(taken, start=first):
        before = _copied(trainer.state())
        batch = batches.make_sized(step, size)
        loss = trainer.step(batch, progress)
        if not (all_finite([loss]) and all_finite(trainer.model.state_dict().values())):
            values = {"step": step + 1, "progress": progress, "loss": float(loss)}
            _write(run.diverged, {**values, "num_classes": len(trainer.job.spec.classes.names), **before}, batch)
            return f" The batch of step {step + 1} and the state before it are kept in {run.diverged}."
        trainer.update_average(step, after - progress)
    return " Taken again, the steps since the last checkpoint were sound: --resume may get further."


def _write(path: Path, values: Mapping[str, Any], batch: Batch) -> None:
    shown = {"images": batch.images, "labels": batch.labels, "pixel_weights": batch.pixel_weights}
    buffer = io.BytesIO()
    torch.save({**values, **shown}, buffer)
    write_atomically(path, buffer.getvalue())


def _copied(value: Any) -> Any:
    """A state with every tensor copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class BadStep:
    """The step whose loss was no number, ready to be taken again."""

    step: int
    """Counted from 1."""
    progress: float
    """Of the run, before it."""
    loss: float
    batch: Batch
    model: Segmenter
    """With the weights from before the step, in training mode."""
    state: Mapping[str, Any]
    """All of `Trainer.state` before the step."""


def load_bad_step(run: str | Path) -> BadStep:
    """What `diverged.checkpoint` in a run folder holds. CheckpointError where there is none."""
    folder = RunFolder(Path(run))
    try:
        kept = torch.load(folder.diverged, map_location="cpu", weights_only=True)
        values = {name: kept.pop(name) for name in ("step", "progress", "loss")}
        batch = Batch(kept.pop("images"), kept.pop("labels"), kept.pop("pixel_weights"))
    except Exception as error:  # torch.load raises whatever damaged bytes lead it to
        raise CheckpointError(f"{folder.diverged} cannot be read ({type(error).__name__}: {error}).") from error
    channels = batch.images.shape[1]
    network = load_config(folder.config).network
    model = Segmenter(
        build_network(network, in_channels=channels, num_classes=kept.pop("num_classes")),
        mean=[0.0] * channels,  # these are among the weights
        std=[1.0] * channels,
    )
    model.load_state_dict(kept["model"])
    return BadStep(**values, batch=batch, model=model.train(), state=kept)
