"""Checkpoints, written so that a kill at any instant loses no complete one."""

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pixelwise.errors import CheckpointError
from pixelwise.files import write_atomically
from pixelwise.training.run_dir import RunFolder

logger = logging.getLogger(__name__)

FORMAT = 2

MAX_SAVING_FRACTION = 0.02
"""Largest fraction of a run that saving checkpoints may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a run between two steps. Batches are functions of the step, so none is stored."""

    step: int
    """Number of steps taken."""
    seconds: float
    """Training time so far, including the time before resuming."""
    model: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    random: dict[str, torch.Tensor]
    """States of the random number generators, by device type."""
    parts: int
    """Parts of a batch: more than in the config if memory ran out."""
    best_score: float
    evaluations: int
    """Number of evaluations done."""
    finished: bool

    @property
    def state(self) -> dict[str, Any]:
        """The state of the trainer (`Trainer.state`)."""
        return {name: getattr(self, name) for name in ("model", "average", "optimizer", "random", "parts")}


class DamagedCheckpointError(CheckpointError):
    """A checkpoint was truncated or altered."""


def compute_checkpoint_interval(save_seconds: float, minimum: float) -> float:
    """Return the seconds to the next checkpoint, if saving the last one took `save_seconds`.

    Example:
        >>> compute_checkpoint_interval(0.5, minimum=60)
        60
        >>> compute_checkpoint_interval(4.0, minimum=60)
        196.0
    """
    return max(minimum, save_seconds * (1 - MAX_SAVING_FRACTION) / MAX_SAVING_FRACTION)


def save_checkpoint(run: RunFolder, checkpoint: Checkpoint) -> None:
    """Write `last.checkpoint` and keep the one before as `previous.checkpoint`; one of them is complete at any instant.

    The new file is complete on the disk before the others change, so that a full disk harms neither.
    """
    buffer = io.BytesIO()
    values = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    torch.save({"format": FORMAT, **values}, buffer)
    write_atomically(run.next_checkpoint, buffer.getvalue())
    if run.last_checkpoint.exists():
        run.last_checkpoint.replace(run.previous_checkpoint)
    run.next_checkpoint.replace(run.last_checkpoint)


def load_checkpoint(run: RunFolder, *, resume: bool = False) -> Checkpoint | None:
    """Load the newest readable checkpoint; None if there is none yet.

    With `resume`, a damaged last checkpoint is logged and removed, so that the next save keeps the previous one.

    Raises:
        CheckpointError: there are checkpoints, but none can be read.
    """
    if not run.last_checkpoint.exists():
        return _read_checkpoint(run.previous_checkpoint) if run.previous_checkpoint.exists() else None
    try:
        return _read_checkpoint(run.last_checkpoint)
    except DamagedCheckpointError as error:
        if not run.previous_checkpoint.exists():
            raise
        checkpoint = _read_checkpoint(run.previous_checkpoint)
        if resume:
            name, step = run.previous_checkpoint.name, checkpoint.step
            logger.warning(f"{error} Resuming from {name}, step {step}.")
            run.last_checkpoint.unlink()
        return checkpoint


def _read_checkpoint(path: Path) -> Checkpoint:
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        written_format = values.pop("format")
        if written_format == FORMAT:
            return Checkpoint(**values)
    except Exception as error:  # damaged bytes make torch.load raise almost anything
        raise DamagedCheckpointError(
            f"{path} cannot be read: it is damaged or incomplete. Restore it, or start a new run."
        ) from error
    raise CheckpointError(f"{path} has format {written_format}, but this version reads {FORMAT}. Start a new run.")
