"""A training run, top to bottom."""

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from pixelwise.data.loading import Batch, prefetch
from pixelwise.devices import choose_loader_threads
from pixelwise.errors import CheckpointError, RequestError
from pixelwise.progress import Progress, Silent
from pixelwise.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pixelwise.training.live_page import LivePage
from pixelwise.training.log import Log
from pixelwise.training.optimization import resolution_at
from pixelwise.training.pace import Pace
from pixelwise.training.patience import out_of_patience
from pixelwise.training.run_folder import RunFolder
from pixelwise.training.scoring import Scored, evaluate_and_keep_best, score_best, time_to_finish
from pixelwise.training.trainer import Job, Trainer


@dataclass(slots=True, kw_only=True)
class State:
    """Where a run is, beside the weights."""

    step: int = 0
    """Steps taken."""
    best_score: float = -1.0
    evaluations: int = 0
    """Evaluations done."""
    ended_early: bool = False
    """Too many evaluations without a new best; see `training.patience`."""
    last_saved: float = field(default_factory=time.monotonic)


def train_model(
    job: Job,
    run: RunFolder,
    *,
    deadline: float | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Scored:
    """Trains until the steps are done or the time is up, and leaves the best model, scored.

    `deadline` (time.monotonic) is when the whole command must have ended; the last evaluation and
    the report are paid out of it. Ctrl-C leaves a checkpoint.
    """
    progress = progress or Silent()
    trainer = Trainer(job)
    checkpoint = load_checkpoint(run) if resume else None
    state = restore(trainer, checkpoint) if checkpoint else State()
    run.forget_metrics_after(state.step)
    state.ended_early = out_of_patience(run.read_metrics(), job.recipe.training.patience)
    pace = make_pace(trainer, deadline, checkpoint)
    page = LivePage(run, job.dataset, job.val_samples())
    log = Log(run, progress, pace, job.recipe, state.step, page)
    try:
        if evaluation_due(job, state, now := pace.at(state.step)) and now < 1:
            evaluate(trainer, run, state, pace, log)  # the last sitting was interrupted in it
        for step, batch in () if state.ended_early else upcoming_batches(job, pace, state.step):
            with uninterrupted():
                before = pace.at(step)
                loss = trainer.step(batch, before)
                state.step = step + 1
                now = pace.at(state.step)
                trainer.update_average(step, now - before)
            log.step(state.step, now, loss, batch)
            if now >= 1:
                break
            if evaluation_due(job, state, now):
                evaluate(trainer, run, state, pace, log)
                if state.ended_early:
                    break
            elif time.monotonic() - state.last_saved > job.recipe.training.checkpoint_seconds:
                save(trainer, run, state, pace)
        if state.evaluations < job.recipe.training.evaluations and not state.ended_early:
            evaluate(trainer, run, state, pace, log)
    except KeyboardInterrupt:
        save(trainer, run, state, pace)
        raise
    finally:
        now = pace.at(state.step)
        log.close(now, ended=now >= 1 or state.ended_early)
    scored = score_best(job, run, progress)
    save(trainer, run, state, pace, finished=True)
    return scored


def upcoming_batches(job: Job, pace: Pace, first_step: int) -> Iterator[tuple[int, Batch]]:
    """Batches from `first_step` until the run is over, each at the resolution its progress asks for."""
    batches = job.batches()

    def make(step: int) -> Batch:
        return batches.make(step, resolution_at(pace.at(step), job.recipe.schedule))

    steps = itertools.takewhile(lambda step: pace.at(step) < 1, itertools.count(first_step))
    threads = choose_loader_threads(job.device)
    return prefetch(make, steps, ahead=threads + 1, threads=threads)


def make_pace(trainer: Trainer, deadline: float | None, checkpoint: Checkpoint | None) -> Pace:
    """Steps where the recipe fixes them; else the time until `deadline`, less what the end will take."""
    recipe = trainer.job.recipe.training
    spent = checkpoint.seconds if checkpoint else 0.0
    if recipe.steps is not None:
        return Pace(steps=recipe.steps, seconds=None, spent_before=spent)
    if deadline is None:
        raise RequestError("a run needs training.steps or training.budget_seconds; give --steps or --budget.")
    left = deadline - time.monotonic() - time_to_finish(trainer) - spent
    if left <= 0 and not checkpoint:
        raise RequestError(f"the budget of {recipe.budget_seconds:.0f} s ends before training could start; give more.")
    return Pace(steps=None, seconds=spent + max(left, 0.0), spent_before=spent)


def evaluation_due(job: Job, state: State, progress: float) -> bool:
    """Evaluations lie evenly over the run."""
    return not state.ended_early and int(progress * job.recipe.training.evaluations) > state.evaluations


def evaluate(trainer: Trainer, run: RunFolder, state: State, pace: Pace, log: Log) -> None:
    """Scores the averaged weights; the best so far become the model file."""
    log.write(state.step, pace.at(state.step))
    scores = evaluate_and_keep_best(trainer, run, state.best_score, log.show)
    state.best_score = max(state.best_score, scores["mean_iou"] or 0.0)
    progress = pace.at(state.step)
    state.evaluations = int(progress * trainer.job.recipe.training.evaluations)
    log.evaluation(state.step, progress, scores)
    state.ended_early = out_of_patience(run.read_metrics(), trainer.job.recipe.training.patience)
    save(trainer, run, state, pace)


def save(trainer: Trainer, run: RunFolder, state: State, pace: Pace, *, finished: bool = False) -> None:
    """Writes the checkpoint."""
    checkpoint = Checkpoint(
        step=state.step,
        seconds=pace.spent,
        model=trainer.model.state_dict(),
        average=trainer.average.state,
        optimizer=trainer.optimizer.state_dict(),
        random=torch.get_rng_state(),
        best_score=state.best_score,
        evaluations=state.evaluations,
        finished=finished,
    )
    save_checkpoint(run, checkpoint)
    state.last_saved = time.monotonic()


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
        trainer.model.load_state_dict(checkpoint.model)
        trainer.average.state = {
            name: tensor.to(trainer.average.state[name].device) for name, tensor in checkpoint.average.items()
        }
        trainer.optimizer.load_state_dict(checkpoint.optimizer)
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint does not fit the network of this data and recipe ({error}); start a new run."
        ) from error
    torch.set_rng_state(checkpoint.random)
    return State(step=checkpoint.step, best_score=checkpoint.best_score, evaluations=checkpoint.evaluations)


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal but for what another version of a decoder may round differently."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of the block: a checkpoint of half a step could not be gone on with.

    Only Python's own handler is put off; another one, or none in a thread, is left alone.
    """
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not own or threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
