"""The training loop, the same on every process: what a step is, when to evaluate and when to save."""

import itertools
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch

from pixelwise.data.loader import Batch, prefetch
from pixelwise.devices import choose_loader_threads
from pixelwise.errors import InvalidArgumentError, TrainingError
from pixelwise.progress import format_duration
from pixelwise.shapes import Size
from pixelwise.training.checkpoint import Checkpoint, compute_checkpoint_interval, load_checkpoint, save_checkpoint
from pixelwise.training.clock import TrainingClock
from pixelwise.training.distributed import Decision
from pixelwise.training.divergence import DivergedError, StepRecord, require_finite, save_failing_step
from pixelwise.training.live_report import LivePage
from pixelwise.training.metrics_log import MetricsLog, is_out_of_patience
from pixelwise.training.optimizers import compute_resolution
from pixelwise.training.resource_errors import step_within_memory
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.signals import INTERRUPTIONS, SignalGuard
from pixelwise.training.threads import ThreadChooser
from pixelwise.training.trainer import Trainer
from pixelwise.training.validation import ScoredModel, estimate_closing_seconds, score_and_keep_best, score_best_model

logger = logging.getLogger(__name__)


def fit(
    trainer: Trainer,
    run: RunFolder,
    *,
    deadline: float | None = None,
    resume: bool = False,
    page: LivePage | None = None,
) -> ScoredModel:
    """Train until the steps are taken or the time is used; score the best model and write it into the run folder.

    Every process of the run calls it. Ctrl-C and SIGTERM on any of them save a checkpoint and end all.

    Args:
        trainer: a new trainer.
        run: the run folder, in which only the first process writes.
        deadline: instant (`time.monotonic`) at which the whole command must have ended, for runs without
            `training.steps`. The final evaluation and the report must fit into that time.
        resume: continue from the last checkpoint of the folder, if there is one.
        page: the live page of the run, on the first process.

    Raises:
        TrainingError: the loss is NaN, the device is out of memory, or a process was lost.
    """
    with SignalGuard() as signals:
        return TrainingLoop(trainer, run, signals, deadline=deadline, resume=resume, page=page).run()


class TrainingLoop:
    """A run in progress. The first process decides when to evaluate, save and end; all processes do it together."""

    def __init__(
        self,
        trainer: Trainer,
        run: RunFolder,
        signals: SignalGuard,
        *,
        deadline: float | None,
        resume: bool,
        page: LivePage | None,
    ) -> None:
        self.trainer, self.folder, self.signals = trainer, run, signals
        self.config, world = trainer.config.training, trainer.world
        checkpoint = world.call_on_first(lambda: load_checkpoint(run, resume=True) if resume else None)
        if checkpoint:
            trainer.resume_from(checkpoint)
        if world.is_first:
            run.remove_leftovers()
        else:
            trainer.seed_rank()
        if world.size > 1:
            own, whole = self.config.batch_size // world.size, self.config.batch_size
            logger.info(f"{world.size} processes, each with {own} of the {whole} images of a batch")
        if self.config.compile:
            logger.info("compiling the network in the first step, which takes a minute or more")
        seconds = compute_training_seconds(trainer, deadline) if self.config.steps is None else None
        self.clock = TrainingClock(steps=self.config.steps, seconds=seconds, seconds_before=trainer.seconds_before)
        self.threads: ThreadChooser | None = None
        if self.config.steps is None and trainer.has_free_threads:
            usual = trainer.num_threads
            self.threads = ThreadChooser(usual, torch.get_num_threads() if usual == 1 else 1)
        self.agreed_progress = 0.0
        """The progress that the first process measured last, equal on all processes."""
        self.next_save = time.monotonic() + self.config.checkpoint_interval_seconds
        self.num_saved_steps = trainer.num_steps
        self.history: list[StepRecord] = []
        """The steps since the last checkpoint."""
        self.log = MetricsLog(trainer, run, self.clock, page)
        # The run may be longer now than when its evaluations were counted.
        due = self.count_due_evaluations(self.clock.measure(trainer.num_steps))
        trainer.num_evaluations_done = min(trainer.num_evaluations_done, due)
        self.has_ended_early = self.is_out_of_patience()

    def run(self) -> ScoredModel:
        """Take steps until the end, then score the best model."""
        trainer, threads = self.trainer, choose_loader_threads(self.trainer.device)
        # Sizes follow the agreed progress, so every process must choose them the same number of steps ahead.
        num_ahead = trainer.world.broadcast_object(threads) + 1
        batches = prefetch(self.make_batch, self.choose_sizes(), num_ahead=num_ahead, num_threads=threads)
        try:
            decision = self.decide()
            while not decision.finish:
                if decision.stop:
                    self.signals.raise_pending()
                if decision.evaluate:
                    self.evaluate(decision.progress)
                    decision = self.decide()
                elif decision.save:
                    self.save()
                    decision = self.decide()
                else:
                    (step, size), batch = next(batches)
                    progress = decision.progress
                    start = time.monotonic()
                    loss = step_within_memory(trainer, batch, progress)
                    if self.threads:
                        trainer.num_threads = self.threads.record(time.monotonic() - start)
                    trainer.num_steps = step + 1
                    decision = self.decide()
                    trainer.update_average(step, decision.progress - progress)
                    self.history.append(StepRecord(progress, decision.progress, size))
                    self.log.log_step(step + 1, decision.progress, loss)
        except INTERRUPTIONS:
            self.save()
            raise
        except DivergedError as error:
            raise TrainingError(f"{error}{save_failing_step(trainer, self.folder, self.history)}") from error
        finally:
            progress = self.clock.measure(trainer.num_steps)
            self.log.close(progress, has_ended=progress >= 1 or self.has_ended_early)
        if not trainer.num_steps:
            budget = format_duration(self.config.budget_seconds or 0.0)
            raise InvalidArgumentError(
                f"The budget of {budget} ended before the first training step. Give more time with --budget, or close "
                "other programs."
            )
        self.log.announce_best_model()
        with self.interruptible():
            scored = score_best_model(trainer, self.folder)
        self.save(finished=True)
        return scored

    def choose_sizes(self) -> Iterator[tuple[int, Size]]:
        """Yield the steps and the size of their samples, at the progress when the batch is ordered."""
        batches, schedule = self.trainer.batches, self.trainer.config.schedule
        steps, first = self.config.steps, self.trainer.num_steps
        for step in itertools.count(first) if steps is None else range(first, steps):
            progress = self.agreed_progress if steps is None else step / steps
            yield step, batches.size_at(compute_resolution(progress, schedule))

    def make_batch(self, sized_step: tuple[int, Size]) -> Batch:
        """Make the batch of a step, in a thread."""
        return self.trainer.batches.make_sized(*sized_step)

    def decide(self) -> Decision:
        """Return what all processes do next. They exchange one small tensor per step; one process sends nothing."""
        progress = self.clock.measure(self.trainer.num_steps)
        has_ended = self.has_ended_early or progress >= 1
        is_due = self.count_due_evaluations(progress) > self.trainer.num_evaluations_done
        evaluate = is_due and not self.has_ended_early and self.trainer.num_steps > 0
        decision = Decision(
            progress=progress,
            stop=self.signals.is_pending,
            evaluate=evaluate,
            save=self.is_save_due() and not has_ended,
            finish=has_ended and not evaluate,
        )
        decision = self.trainer.world.broadcast_decision(decision)
        self.agreed_progress = decision.progress
        return decision

    def is_save_due(self) -> bool:
        """Return whether a step was taken since the last checkpoint, and the time of the next one has come."""
        return self.trainer.num_steps > self.num_saved_steps and time.monotonic() >= self.next_save

    def count_due_evaluations(self, progress: float) -> int:
        """Return the number of evaluations due at `progress`; they are evenly distributed."""
        return int(progress * self.config.num_evaluations)

    def is_out_of_patience(self) -> bool:
        """Return whether early stopping ends the run; only the first process, which wrote the metrics, reads them."""
        patience = self.config.early_stopping_patience
        return self.trainer.world.is_first and is_out_of_patience(self.folder.read_metrics(), patience)

    def interruptible(self) -> AbstractContextManager[None]:
        """Let a signal end the first process at once; the others notice that it is lost."""
        return self.signals.immediate() if self.trainer.world.is_first else nullcontext()

    def evaluate(self, progress: float) -> None:
        """Score the averaged weights; keep them as the model file if they are the best so far."""
        trainer = self.trainer
        self.log.write_losses(trainer.num_steps, progress)
        require_finite(trainer, progress)
        with self.interruptible():
            scores = score_and_keep_best(trainer, self.folder, self.log.show_image)
        trainer.best_score = max(trainer.best_score, scores["mean_iou"] or 0.0)
        progress = self.clock.measure(trainer.num_steps)
        trainer.num_evaluations_done = self.count_due_evaluations(progress)
        self.log.log_evaluation(trainer.num_steps, progress, scores)
        self.has_ended_early = self.is_out_of_patience()
        self.save()

    def save(self, *, finished: bool = False) -> None:
        """Write a checkpoint and set the time of the next one."""
        trainer = self.trainer
        require_finite(trainer, self.clock.measure(trainer.num_steps))
        start = time.monotonic()
        state = trainer.state()
        if trainer.world.is_first:
            checkpoint = Checkpoint(
                step=trainer.num_steps,
                seconds=self.clock.seconds_used,
                best_score=trainer.best_score,
                evaluations=trainer.num_evaluations_done,
                finished=finished,
                **state,
            )
            save_checkpoint(self.folder, checkpoint)
        end = time.monotonic()
        self.next_save = end + compute_checkpoint_interval(end - start, self.config.checkpoint_interval_seconds)
        self.num_saved_steps = trainer.num_steps
        self.history.clear()


def compute_training_seconds(trainer: Trainer, deadline: float | None) -> float:
    """Return the training time of a run until `deadline`, minus the time that its end takes.

    The time before the run was resumed is included.
    """
    budget, before = trainer.config.training.budget_seconds, trainer.seconds_before
    if deadline is None:
        raise InvalidArgumentError("A run needs training.steps or training.budget_seconds. Give --steps or --budget.")
    closing = estimate_closing_seconds(trainer)
    left = trainer.world.broadcast_object(deadline - time.monotonic() - closing) - before
    if left <= 0 and not trainer.num_steps:
        raise InvalidArgumentError(
            f"The budget of {budget:.0f} s ends before training could start. Give a longer budget."
        )
    return before + max(left, 0.0)
