"""What every process of a run but the first does: the first one's steps, on its own share of the images."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from pixelwise.data.loader import Batch
from pixelwise.devices import choose_loader_threads, enable_deterministic_algorithms
from pixelwise.training.checkpoint import Checkpoint
from pixelwise.training.distributed import ALONE, LostError, Order, What, World
from pixelwise.training.resource_errors import step_within_memory
from pixelwise.training.signals import Interruption
from pixelwise.training.trainer import Job, Trainer
from pixelwise.training.validation import score_own_share

logger = logging.getLogger(__name__)


class Start(NamedTuple):
    """What the others are to train with the first process."""

    job: Job
    state: Mapping[str, Any] | None
    """Of the trainer (`Trainer.state`), where the run goes on."""
    step: int


def call_others(job: Job, checkpoint: Checkpoint | None) -> None:
    """Has the other processes train with this one, from the same state. Nothing in a world of one.

    Raises InvalidArgumentError for a batch that cannot be shared out evenly.
    """
    world, batch_size = job.world, job.config.training.batch_size
    world.require_shares(batch_size)
    if world.size > 1:
        logger.info(f"{world.size} processes, each on {batch_size // world.size} of the {batch_size} images of a batch")
        start = replace(job, world=ALONE, device=torch.device("cpu"))
        world.share(Start(start, checkpoint.state if checkpoint else None, checkpoint.step if checkpoint else 0))


def follow(world: World, device: torch.device) -> Any:
    """Takes part in every run that the first process begins; returns what it shares last, its result.

    SIGTERM and Ctrl-C are told to the first process, which saves; then they end this one. Raises
    LostError when the first process ends without a result.
    """
    nothing: Any = None
    while isinstance(told := world.share(nothing), Start):
        job = replace(told.job, world=world, device=device)
        with Interruption() as interruption, interruption.put_off():
            try:
                with enable_deterministic_algorithms(job.config.training.deterministic):
                    take_part(told._replace(job=job), lambda: interruption.heard)
            except LostError:
                if not interruption.heard:  # else it is the first one, which was asked to stop, too
                    raise
    return told


def take_part(start: Start, is_to_stop: Callable[[], bool]) -> None:
    """Obeys the first process until a run is over."""
    job, batches = start.job, start.job.batches()
    trainer = Trainer(job)
    if start.state:
        trainer.load_state(start.state)
    seed = np.random.SeedSequence([job.config.training.seed, start.step, job.world.rank])
    torch.manual_seed(int(seed.generate_state(1)[0]))  # what is dropped out differs from process to process
    cv2.setNumThreads(1)
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(choose_loader_threads(job.device), thread_name_prefix="loader") as pool:
        while (order := job.world.obey(stop=is_to_stop())).what != What.END:
            if order.what == What.MAKE:
                waiting.append(pool.submit(batches.make_sized, order.step, order.size))
            else:
                _obey(order, trainer, waiting)
        for future in waiting:
            future.cancel()


def _obey(order: Order, trainer: Trainer, waiting: deque[Future[Batch]]) -> None:
    if order.what == What.STEP:
        step_within_memory(trainer, waiting.popleft().result(), order.progress)
    elif order.what == What.GATHER:
        trainer.gather()
    elif order.what == What.AVERAGE:
        trainer.update_own_average(order.step, order.progress)
    else:
        score_own_share(trainer.job)
