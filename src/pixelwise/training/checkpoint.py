"""Everything needed to go on, written so that a kill at any instant loses no finished checkpoint."""

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

SAVING_SHARE = 0.02
"""Of the time of a run, that its checkpoints may take at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a run between two steps. Batches are functions of the step, so none is stored."""

    step: int
    """Steps taken."""
    seconds: float
    """Time spent so far, all sittings together."""
    model: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    random: dict[str, torch.Tensor]
    """State of the random numbers, by type of device."""
    parts: int
    """In which a batch is taken: more than the config says, where memory was too small for that."""
    best_score: float
    evaluations: int
    """Evaluations done."""
    finished: bool

    @property
    def state(self) -> dict[str, Any]:
        """The part that is the trainer's (`Trainer.state`)."""
        return {name: getattr(self, name) for name in ("model", "average", "optimizer", "random", "parts")}


def seconds_between(save_seconds: float, at_least: float) -> float:
    """How long to train from one checkpoint to the next, when the last one took `save_seconds`.

    >>> seconds_between(0.5, at_least=60)
    60
    >>> seconds_between(4.0, at_least=60)
    196.0
    """
    return max(at_least, save_seconds * (1 - SAVING_SHARE) / SAVING_SHARE)


def save_checkpoint(run: RunFolder, checkpoint: Checkpoint) -> None:
    """`last.checkpoint` becomes `previous.checkpoint`; one of the two is whole at any instant.

    The new one is whole on the disk before either is touched, so a full disk harms neither.
    """
    buffer = io.BytesIO()
    values = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    torch.save({"format": FORMAT, **values}, buffer)
    write_atomically(run.next_checkpoint, buffer.getvalue())
    if run.last_checkpoint.exists():
        run.last_checkpoint.replace(run.previous_checkpoint)
    run.next_checkpoint.replace(run.last_checkpoint)


def load_checkpoint(run: RunFolder, *, resume: bool = False) -> Checkpoint | None:
    """The newest checkpoint that can be read; None where the run was stopped before its first.

    With `resume`, a damaged last checkpoint is logged and removed, so that the next save keeps the whole one. Raises
    CheckpointError where there are some and none can be read.
    """
    if not run.last_checkpoint.exists():
        return _read(run.previous_checkpoint) if run.previous_checkpoint.exists() else None
    try:
        return _read(run.last_checkpoint)
    except DamagedError as damaged:
        if not run.previous_checkpoint.exists():
            raise
        checkpoint = _read(run.previous_checkpoint)
        if resume:
            logger.warning(f"{damaged.reason}; continuing from {run.previous_checkpoint.name}, step {checkpoint.step}.")
            run.last_checkpoint.unlink()
        return checkpoint


class DamagedError(CheckpointError):
    """A checkpoint that was cut off or altered."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; start a new run.")
        self.reason = reason


def _read(path: Path) -> Checkpoint:
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        written = values.pop("format")
        if written == FORMAT:
            return Checkpoint(**values)
    except Exception as error:  # torch.load raises whatever damaged bytes lead it to
        raise DamagedError(f"{path} cannot be read ({type(error).__name__}: {error})") from error
    raise CheckpointError(f"{path} was written by another version; start a new run.")
