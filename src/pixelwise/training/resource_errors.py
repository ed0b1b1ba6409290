"""Out of memory on the device, and a full or read-only disk."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pixelwise.data.loader import Batch
from pixelwise.errors import CheckpointError, TrainingError, describe_os_error
from pixelwise.networks.stages import get_encoder_stages
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Trainer

logger = logging.getLogger(__name__)

_DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EFBIG,
    errno.ENOENT,
)


def step_within_memory(trainer: Trainer, batch: Batch, progress: float) -> Tensor:
    """Call `Trainer.step`; if memory runs out, divide this and all later batches into twice as many parts.

    Raises:
        TrainingError: one image does not fit, or the run has several processes.
    """
    while True:
        try:
            return trainer.step(batch, progress)
        except torch.OutOfMemoryError as error:
            reason = str(error).split(". ")[0]
        # Out of the except block, the frames of the failed step and their activations are freed.
        if trainer.world.size > 1:  # the other processes wait for gradients of this step, so it cannot be repeated
            raise TrainingError(
                f"{trainer.device} is out of memory for this process's part of a batch ({reason}). "
                f"{_suggest_checkpointing(trainer)}Resume with --allow-changes "
                f"--set training.gradient_accumulation_steps={2 * trainer.num_accumulation_steps}, or use more "
                f"processes."
            )
        trainer.optimizer.zero_grad()
        if trainer.device.type == "cuda":
            torch.cuda.empty_cache()
        _double_parts(trainer, len(batch.images), reason)


def _suggest_checkpointing(trainer: Trainer) -> str:
    """Return the first advice, which changes no result, if it is possible."""
    training = trainer.config.training
    is_possible = not (training.activation_checkpointing or training.compile)
    if not is_possible or not get_encoder_stages(trainer.model.network):
        return ""
    return "Resume with --set training.activation_checkpointing=true. Or: "


def _double_parts(trainer: Trainer, num_images: int, reason: str) -> None:
    if trainer.num_accumulation_steps >= num_images:
        crop = "[{}, {}]".format(*(side // 2 for side in trainer.config.data.crop_size))
        raise TrainingError(
            f"{trainer.device} is out of memory even for one image at a time ({reason}). "
            f"{_suggest_checkpointing(trainer)}Start a new run with smaller samples (--set data.crop_size={crop}), a "
            f"smaller network (--set network.base_channels=...) or --device cpu."
        )
    trainer.num_accumulation_steps = min(2 * trainer.num_accumulation_steps, num_images)
    part_size = -(-num_images // trainer.num_accumulation_steps)
    has_batch_norm = any(isinstance(module, _BatchNorm) for module in trainer.model.modules())
    caveat = f" Batch normalization now sees {part_size} images at a time." if has_batch_norm else ""
    logger.warning(
        f"Out of memory on {trainer.device}: each batch of {num_images} images is now divided into "
        f"{trainer.num_accumulation_steps} parts of at most {part_size}, with accumulated gradients "
        f"(training.gradient_accumulation_steps={trainer.num_accumulation_steps}).{caveat}"
    )


@contextmanager
def explain_disk_errors(run: RunFolder, how_to_resume: str) -> Iterator[None]:
    """Raise one CheckpointError for an OSError of the disk in the run folder: what, where, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        path = error.filename or run.path
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        fix = "Free disk space" if is_full else "Make it writable"
        raise CheckpointError(
            f"{path} cannot be written ({describe_os_error(error)}). Files saved before are complete. {fix}, then "
            f"{how_to_resume}"
        ) from error
