"""NaN and infinite losses: found, and the failing step saved.

The loop reads losses about once a second, so that it never waits for the device. When it reads a NaN, the weights have
been NaN for some steps. Because a batch is a function of its step, the steps since the last checkpoint can be replayed
one at a time, up to the failing one.
"""

import io
import logging
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
from pixelwise.training.checkpoint import load_checkpoint
from pixelwise.training.optimizers import compute_lr_factor
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Trainer

logger = logging.getLogger(__name__)


class DivergedError(TrainingError):
    """The loss or the weights are NaN or infinite."""

    def __init__(self, problem: str, step: int, progress: float, config: Config) -> None:
        lr = config.optimizer.lr * compute_lr_factor(progress, config.schedule)
        super().__init__(
            f"{problem} at step {step} (learning rate {lr:.2g}). Start a new run with a lower learning rate "
            f"(--set optimizer.lr={config.optimizer.lr / 4:g}) or --precision fp32."
        )


class StepRecord(NamedTuple):
    """Inputs of a step, except its number and the state before it."""

    progress: float
    """Progress of the run before the step."""
    progress_after: float
    size: Size
    """Size of its samples."""


def require_finite(trainer: Trainer, progress: float) -> None:
    """Raise DivergedError before NaN weights are written anywhere. Waits for the device."""
    state = trainer.state()
    tensors = [*state["model"].values(), *state["average"].values()]
    if trainer.world.is_first and not are_finite(tensors):
        raise DivergedError("The weights are NaN or infinite", trainer.num_steps, progress, trainer.config)


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether no tensor has a NaN or infinite value."""
    floats = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    largest = torch._foreach_norm(floats, math.inf)  # the norm of a NaN is NaN
    return bool(torch.stack([norm.float() for norm in largest]).isfinite().all())


def save_failing_step(trainer: Trainer, run: RunFolder, history: Sequence[StepRecord]) -> str:
    """Replay the steps since the last checkpoint and save the first failing one to `diverged.checkpoint`.

    Returns:
        A sentence about the result; empty if the steps cannot be replayed.
    """
    checkpoint, num_steps = load_checkpoint(run), trainer.num_steps
    first = checkpoint.step if checkpoint else 0
    if first + len(history) != num_steps:
        return ""
    logger.info(f"The loss is NaN or infinite. Replaying {len(history)} steps to save the failing batch")
    # Without a checkpoint, a new trainer has the initial state, and one on the CPU needs no memory of the device.
    state = checkpoint.state if checkpoint else trainer.rebuild_single().rebuild(device=torch.device("cpu")).state()
    trainer = trainer.rebuild_single()
    trainer.load_state(state)
    for step, record in enumerate(history, start=first):
        before = _copy_to_cpu(trainer.state())
        batch = trainer.batches.make_sized(step, record.size)
        loss = trainer.step(batch, record.progress)
        if not are_finite([loss, *trainer.model.state_dict().values()]):
            values = {"step": step + 1, "progress": record.progress, "loss": float(loss)}
            _write_step(run.diverged, {**values, "num_classes": len(trainer.spec.classes.names), **before}, batch)
            return f" The batch of step {step + 1} and the state before it are saved in {run.diverged}."
        trainer.update_average(step, record.progress_after - record.progress)
    return " When replayed, the steps since the last checkpoint had no error: --resume may get further."


def _write_step(path: Path, values: Mapping[str, Any], batch: Batch) -> None:
    tensors = {"images": batch.images, "labels": batch.labels, "pixel_weights": batch.pixel_weights}
    buffer = io.BytesIO()
    torch.save({**values, **tensors}, buffer)
    write_atomically(path, buffer.getvalue())


def _copy_to_cpu(value: Any) -> Any:
    """Copy a nested state."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _copy_to_cpu(entry) for key, entry in value.items()}
    return [_copy_to_cpu(entry) for entry in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingStep:
    """A step whose loss or weights became NaN or infinite."""

    step: int
    """Its number, counted from 1."""
    progress: float
    loss: float
    batch: Batch
    model: Segmenter
    """The model before the step, in training mode."""
    state: Mapping[str, Any]
    """`Trainer.state` before the step."""


def load_failing_step(run: str | Path) -> FailingStep:
    """Load `diverged.checkpoint` of a run folder.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    folder = RunFolder(Path(run))
    try:
        stored = torch.load(folder.diverged, map_location="cpu", weights_only=True)
        values = {name: stored.pop(name) for name in ("step", "progress", "loss")}
        batch = Batch(stored.pop("images"), stored.pop("labels"), stored.pop("pixel_weights"))
    except Exception as error:  # damaged bytes make torch.load raise almost anything
        raise CheckpointError(
            f"{folder.diverged} cannot be read: it does not exist or is damaged. Expected the folder of a run whose "
            f"loss became NaN."
        ) from error
    channels = batch.images.shape[1]
    network = load_config(folder.config).network
    model = Segmenter(
        build_network(network, in_channels=channels, num_classes=stored.pop("num_classes")),
        mean=[0.0] * channels,  # the stored weights have the real values
        std=[1.0] * channels,
    )
    model.load_state_dict(stored["model"])
    return FailingStep(**values, batch=batch, model=model.train(), state=stored)
