"""A training run, top to bottom."""

import itertools
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from pixelwise.data.loader import Batch, prefetch
from pixelwise.devices import choose_loader_threads
from pixelwise.errors import CheckpointError, InvalidArgumentError, TrainingError
from pixelwise.shapes import Size
from pixelwise.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, seconds_between
from pixelwise.training.clock import Pace
from pixelwise.training.distributed import Order, What
from pixelwise.training.divergence import DivergedError, Taken, keep_bad_step, require_finite
from pixelwise.training.early_stopping import out_of_patience
from pixelwise.training.following import call_others
from pixelwise.training.live_report import LivePage
from pixelwise.training.metrics_log import Log
from pixelwise.training.optimizers import resolution_at
from pixelwise.training.resource_errors import step_within_memory
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.signals import INTERRUPTIONS, Interruption
from pixelwise.training.trainer import Job, Trainer, alone
from pixelwise.training.validation import Scored, evaluate_and_keep_best, score_best, time_to_finish

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class State:
    """Where a run is, beside the weights."""

    step: int = 0
    """Steps taken."""
    best_score: float = -1.0
    evaluations: int = 0
    """Evaluations done."""
    ended_early: bool = False
    """Too many evaluations without a new best; see `training.early_stopping_patience`."""
    next_save: float = math.inf
    """time.monotonic() from which a checkpoint is due."""
    taken: list[Taken] = field(default_factory=list)
    """The steps since the last checkpoint."""


def train_model(
    job: Job,
    run: RunFolder,
    *,
    deadline: float | None = None,
    resume: bool = False,
) -> Scored:
    """Trains until the steps are done or the time is up, and leaves the best model, scored.

    `deadline` (time.monotonic) is when the whole command must have ended; the last evaluation and
    the report are paid out of it. Ctrl-C and SIGTERM leave a checkpoint, a loss that is no number
    leaves the step it came from.
    """
    checkpoint = load_checkpoint(run, resume=True) if resume else None
    call_others(job, checkpoint)
    trainer = Trainer(job)
    if job.config.training.compile:
        logger.info("the first step compiles the network, which takes a minute or more")
    state = restore(trainer, checkpoint) if checkpoint else State()
    pace = make_pace(trainer, deadline, checkpoint)
    state.evaluations = min(state.evaluations, evaluations_until(job, pace.at(state.step)))  # the run may be longer now
    state.next_save = time.monotonic() + job.config.training.checkpoint_interval_seconds
    run.remove_leftovers()
    run.forget_metrics_after(state.step)
    state.ended_early = out_of_patience(run.read_metrics(), job.config.training.early_stopping_patience)
    page = LivePage(run, job.dataset, job.world.share_of(job.val_samples()))
    log = Log(run, pace, job.config, state.step, page)
    with Interruption() as interruption:
        try:
            if evaluation_due(job, state, now := pace.at(state.step)) and now < 1:
                evaluate(trainer, run, state, pace, log, interruption)  # the last sitting was interrupted in it
            for step, batch in () if state.ended_early else upcoming_batches(job, pace, state.step):
                with interruption.put_off():
                    before = pace.at(step)
                    job.world.lead(Order(What.STEP, progress=before))
                    loss = step_within_memory(trainer, batch, before)
                    state.step = step + 1
                    now = pace.at(state.step)
                    trainer.update_average(step, now - before)
                    state.taken.append(Taken(before, now, (batch.images.shape[2], batch.images.shape[3])))
                log.step(state.step, now, loss, job.config.training.batch_size)
                if now >= 1:
                    break
                if evaluation_due(job, state, now):
                    evaluate(trainer, run, state, pace, log, interruption)
                    if state.ended_early:
                        break
                elif time.monotonic() >= state.next_save:
                    with interruption.put_off():  # processes that gather a state do it together, or wait forever
                        save(trainer, run, state, pace)
            if state.evaluations < job.config.training.num_evaluations and not state.ended_early:
                evaluate(trainer, run, state, pace, log, interruption)
        except INTERRUPTIONS:
            save(trainer, run, state, pace)
            raise
        except DivergedError as error:
            raise TrainingError(f"{error}{look_again(trainer, run, state)}") from error
        finally:
            now = pace.at(state.step)
            log.close(now, ended=now >= 1 or state.ended_early)
        scored = score_best(job, run)
        save(trainer, run, state, pace, finished=True)
        job.world.lead(Order(What.END))
    return scored


def upcoming_batches(job: Job, pace: Pace, first_step: int) -> Iterator[tuple[int, Batch]]:
    """Batches from `first_step` until the run is over, each at the resolution its progress asks for."""
    batches = job.batches()
    sizes: dict[int, Size] = {}

    def steps() -> Iterator[int]:
        for step in itertools.takewhile(lambda step: pace.at(step) < 1, itertools.count(first_step)):
            sizes[step] = batches.size_at(resolution_at(pace.at(step), job.config.schedule))
            job.world.lead(Order(What.MAKE, step=step, size=sizes[step]))
            yield step

    threads = choose_loader_threads(job.device)
    return prefetch(
        lambda step: batches.make_sized(step, sizes.pop(step)), steps(), num_ahead=threads + 1, num_threads=threads
    )


def make_pace(trainer: Trainer, deadline: float | None, checkpoint: Checkpoint | None) -> Pace:
    """Steps where the config fixes them; else the time until `deadline`, less what the end will take."""
    config = trainer.job.config.training
    spent = checkpoint.seconds if checkpoint else 0.0
    if config.steps is not None:
        return Pace(steps=config.steps, seconds=None, spent_before=spent)
    if deadline is None:
        raise InvalidArgumentError("a run needs training.steps or training.budget_seconds; give --steps or --budget.")
    left = deadline - time.monotonic() - time_to_finish(trainer) - spent
    if left <= 0 and not checkpoint:
        raise InvalidArgumentError(
            f"the budget of {config.budget_seconds:.0f} s ends before training could start; give more."
        )
    return Pace(steps=None, seconds=spent + max(left, 0.0), spent_before=spent)


def evaluation_due(job: Job, state: State, progress: float) -> bool:
    """Evaluations lie evenly over the run."""
    return not state.ended_early and evaluations_until(job, progress) > state.evaluations


def evaluations_until(job: Job, progress: float) -> int:
    return int(progress * job.config.training.num_evaluations)


def evaluate(trainer: Trainer, run: RunFolder, state: State, pace: Pace, log: Log, interruption: Interruption) -> None:
    """Scores the averaged weights; the best so far become the model file."""
    progress = pace.at(state.step)
    log.write(state.step, progress)
    with interruption.put_off():
        require_finite(trainer, state.step, progress)
    scores = evaluate_and_keep_best(trainer, run, state.best_score, log.show)
    with interruption.put_off():  # what is noted here is noted once
        state.best_score = max(state.best_score, scores["mean_iou"] or 0.0)
        progress = pace.at(state.step)
        state.evaluations = evaluations_until(trainer.job, progress)
        log.evaluation(state.step, progress, scores)
        state.ended_early = out_of_patience(run.read_metrics(), trainer.job.config.training.early_stopping_patience)
        save(trainer, run, state, pace)


def save(trainer: Trainer, run: RunFolder, state: State, pace: Pace, *, finished: bool = False) -> None:
    """Writes the checkpoint, and says when the next one is due."""
    require_finite(trainer, state.step, pace.at(state.step))
    start = time.monotonic()
    checkpoint = Checkpoint(
        step=state.step,
        seconds=pace.spent,
        best_score=state.best_score,
        evaluations=state.evaluations,
        finished=finished,
        **trainer.state(),
    )
    save_checkpoint(run, checkpoint)
    end = time.monotonic()
    state.next_save = end + seconds_between(end - start, trainer.job.config.training.checkpoint_interval_seconds)
    state.taken.clear()


def look_again(trainer: Trainer, run: RunFolder, state: State) -> str:
    """Keeps the step whose loss is no number; returns a sentence on it."""
    checkpoint, job = load_checkpoint(run), alone(trainer.job)
    if checkpoint:
        start = checkpoint.step, checkpoint.state
    else:
        start = 0, Trainer(replace(job, device=torch.device("cpu"))).state()
    if start[0] + len(state.taken) != state.step:
        return ""
    logger.info(f"the loss is no number: taking {len(state.taken)} steps again, to keep the one that made it so")
    return keep_bad_step(trainer if job is trainer.job else Trainer(job), run, start, state.taken)


def restore(trainer: Trainer, checkpoint: Checkpoint) -> State:
    """Puts a checkpoint's state into the trainer; the run goes on as if never stopped.

    Raises CheckpointError where the data or the code have become others.
    """
    for name, tensor in trainer.model.named_buffers(recurse=False):
        if name in checkpoint.model and not alike(tensor.cpu(), checkpoint.model[name]):
            raise CheckpointError(
                f"the training images are not those that the run started with (their {name} differs); "
                f"put them back, or start a new run."
            )
    try:
        trainer.load_state(checkpoint.state)
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint does not fit the network of this data and config ({error}); start a new run."
        ) from error
    return State(step=checkpoint.step, best_score=checkpoint.best_score, evaluations=checkpoint.evaluations)


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for what another version of a decoder may round differently."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3)
