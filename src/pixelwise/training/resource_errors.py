"""What a machine runs out of, turned into a way to go on: memory of the device, room on the disk."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pixelwise.data.loader import Batch
from pixelwise.errors import CheckpointError, TrainingError
from pixelwise.networks.stages import get_encoder_stages
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Trainer

logger = logging.getLogger(__name__)

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG, errno.ENOENT)


def step_within_memory(trainer: Trainer, batch: Batch, progress: float) -> Tensor:
    """`Trainer.step`; where the device's memory is too small for a batch, this and all later ones are
    taken in twice as many parts, which is said aloud.
    """
    while True:
        try:
            return trainer.step(batch, progress)
        except torch.OutOfMemoryError as error:
            reason = str(error).split(". ")[0]
        if trainer.job.world.size > 1:
            _refuse_alone(trainer, reason)
        # Here the failed step's frames are gone, and its maps with them.
        trainer.optimizer.zero_grad()
        if trainer.job.device.type == "cuda":
            torch.cuda.empty_cache()
        _take_more_parts(trainer, len(batch.images), reason)


def _refuse_alone(trainer: Trainer, reason: str) -> None:
    """The other processes wait for gradients of this very step, so it cannot be begun again here."""
    raise TrainingError(
        f"the memory of {trainer.job.device} is too small for this process's share of a batch ({reason}); "
        f"{_recomputing(trainer)}resume with --allow-changes "
        f"--set training.gradient_accumulation_steps={2 * trainer.parts}, or take more processes."
    )


def _recomputing(trainer: Trainer) -> str:
    """The first advice, where it is still to be had, as it changes no number."""
    training = trainer.job.config.training
    possible = not (training.activation_checkpointing or training.compile) and get_encoder_stages(trainer.model.network)
    return "resume with --set training.activation_checkpointing=true, or " if possible else ""


def _take_more_parts(trainer: Trainer, num_images: int, reason: str) -> None:
    place = trainer.job.device
    if trainer.parts >= num_images:
        crop = "[{}, {}]".format(*(side // 2 for side in trainer.job.config.data.crop_size))
        raise TrainingError(
            f"the memory of {place} is too small even for one image at a time ({reason}); "
            f"{_recomputing(trainer)}take smaller samples "
            f"(--set data.crop_size={crop}), a narrower network (--set network.base_channels=...) or --device cpu, "
            f"in a new run."
        )
    trainer.parts = min(2 * trainer.parts, num_images)
    at_once = -(-num_images // trainer.parts)
    normalized = any(isinstance(module, _BatchNorm) for module in trainer.model.modules())
    caveat = f" Batch normalization now sees {at_once} at a time." if normalized else ""
    logger.warning(
        f"out of memory on {place}: from here on a batch of {num_images} images is taken in "
        f"{trainer.parts} parts of at most {at_once}, their gradients added up "
        f"(training.gradient_accumulation_steps={trainer.parts}).{caveat}"
    )


@contextmanager
def disk_trouble_explained(run: RunFolder, how_to_go_on: str) -> Iterator[None]:
    """An OSError of writing in the run folder becomes one CheckpointError: what, where, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        what = error.filename or run.path
        cure = "free some room" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "make it writable"
        raise CheckpointError(
            f"{what} cannot be written ({error.strerror}); what was saved before is whole: {cure}, then {how_to_go_on}"
        ) from error
