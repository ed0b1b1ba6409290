"""Everything needed to go on, written so that a kill at any instant loses no finished step."""

import io
from dataclasses import dataclass
from typing import Any

import torch

from pixelwise.data.images import write_atomically
from pixelwise.errors import CheckpointError
from pixelwise.training.run_folder import RunFolder

FORMAT = 1


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
    random: torch.Tensor
    best_score: float
    evaluations: int
    """Evaluations done."""
    finished: bool


def save_checkpoint(run: RunFolder, checkpoint: Checkpoint) -> None:
    """`last.checkpoint` becomes `previous.checkpoint`; one of the two is whole at any instant."""
    buffer = io.BytesIO()
    values = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    torch.save({"format": FORMAT, **values}, buffer)
    if run.last_checkpoint.exists():
        run.last_checkpoint.replace(run.previous_checkpoint)
    write_atomically(run.last_checkpoint, buffer.getvalue())


def load_checkpoint(run: RunFolder) -> Checkpoint | None:
    """The newest checkpoint; None where the run was stopped before its first."""
    for path in (run.last_checkpoint, run.previous_checkpoint):
        if not path.exists():
            continue
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            if values.pop("format") != FORMAT:
                raise CheckpointError(f"{path} was written by another version; start a new run.")
            return Checkpoint(**values)
        except CheckpointError:
            raise
        except Exception as error:  # torch.load raises whatever damaged bytes lead it to
            other = path == run.last_checkpoint and run.previous_checkpoint.exists()
            cure = f"remove it to go on from {run.previous_checkpoint.name}, or " if other else ""
            raise CheckpointError(
                f"{path} cannot be read ({type(error).__name__}: {error}); {cure}start a new run."
            ) from error
    return None
