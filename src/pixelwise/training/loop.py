"""The training loop, the same on every process: what a step is, when to evaluate and when to save."""

import itertools
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

from pixelwise.data.loader import Batch, prefetch
from pixelwise.devices import choose_loader_threads
from pixelwise.errors import InvalidArgumentError, TrainingError
from pixelwise.shapes import Size
from pixelwise.training.checkpoint import Checkpoint, compute_checkpoint_interval, load_checkpoint, save_checkpoint
from pixelwise.training.clock import TrainingClock
from pixelwise.training.distributed import Decision, ProcessLostError
from pixelwise.training.divergence import DivergedError, StepRecord, require_finite, save_failing_step
from pixelwise.training.early_stopping import is_out_of_patience
from pixelwise.training.metrics_log import MetricsLog
from pixelwise.training.optimizers import compute_resolution
from pixelwise.training.resource_errors import step_within_memory
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.signals import INTERRUPTIONS, SignalGuard
from pixelwise.training.trainer import Trainer
from pixelwise.training.validation import ScoredModel, estimate_closing_seconds, score_and_keep_best, score_best_model

logger = logging.getLogger(__name__)


def fit(trainer: Trainer, run: RunFolder, *, deadline: float | None = None, resume: bool = False) -> ScoredModel:
    """Train until the steps are taken or the time is used; score the best model and write it into the run folder.

    Every process of the run calls it. Ctrl-C and SIGTERM on any of them save a checkpoint and end all.

    Args:
        trainer: a new trainer.
        run: the run folder, in which only the first process writes.
        deadline: instant (`time.monotonic`) at which the whole command must have ended, for runs without
            `training.steps`. The final evaluation and the report must fit into that time.
        resume: continue from the last checkpoint of the folder, if there is one.

    Raises:
        TrainingError: the loss is NaN, the device is out of memory, or a process was lost.
    """
    checkpoint = trainer.world.call_on_first(lambda: load_checkpoint(run, resume=True) if resume else None)
    if checkpoint:
        trainer.resume_from(checkpoint)
    if not trainer.world.is_first:
        trainer.seed_rank()
    size, batch_size = trainer.world.size, trainer.config.training.batch_size
    if size > 1:
        logger.info(f"{size} processes, each with {batch_size // size} of the {batch_size} images of a batch")
    if trainer.config.training.compile:
        logger.info("compiling the network in the first step, which takes a minute or more")
    with SignalGuard() as signals:
        try:
            return TrainingLoop(trainer, run, start_clock(trainer, deadline), signals).run()
        except ProcessLostError:
            if signals.is_pending:  # the first process received the signal, too, and has ended
                signals.raise_pending()
            raise


class TrainingLoop:
    """A run in progress. The first process decides when to evaluate, save and end; all processes do it together."""

    def __init__(self, trainer: Trainer, run: RunFolder, clock: TrainingClock, signals: SignalGuard) -> None:
        self.trainer, self.folder, self.clock, self.signals = trainer, run, clock, signals
        self.config = trainer.config.training
        self.next_save = time.monotonic() + self.config.checkpoint_interval_seconds
        self.history: list[StepRecord] = []
        """The steps since the last checkpoint."""
        if trainer.world.is_first:
            run.remove_leftovers()
        self.log = MetricsLog(trainer, run, clock)
        # The run may be longer now than when its evaluations were counted.
        due = self.count_due_evaluations(clock.measure(trainer.num_steps))
        trainer.num_evaluations = min(trainer.num_evaluations, due)
        self.has_ended_early = self.is_out_of_patience()

    def run(self) -> ScoredModel:
        """Take steps until the end, then score the best model."""
        try:
            now, batches = self.decide(), self.prefetch_batches()
            while not now.finish:
                if now.stop:
                    self.signals.raise_pending()
                if now.evaluate:
                    self.evaluate(now.progress)
                    now = self.decide()
                elif now.save:
                    self.save()
                    now = self.decide()
                else:
                    now = self.take_step(next(batches), now.progress)
        except INTERRUPTIONS:
            self.save()
            raise
        except DivergedError as error:
            raise TrainingError(f"{error}{save_failing_step(self.trainer, self.folder, self.history)}") from error
        finally:
            progress = self.clock.measure(self.trainer.num_steps)
            self.log.close(progress, has_ended=progress >= 1 or self.has_ended_early)
        with self.interruptible():
            scored = score_best_model(self.trainer, self.folder)
        self.save(finished=True)
        return scored

    def decide(self) -> Decision:
        """Return what all processes do next. They exchange one small tensor per step; one process sends nothing."""
        progress = self.clock.measure(self.trainer.num_steps)
        has_ended = self.has_ended_early or progress >= 1
        evaluate = not self.has_ended_early and self.count_due_evaluations(progress) > self.trainer.num_evaluations
        decision = Decision(
            progress=progress,
            stop=self.signals.is_pending,
            evaluate=evaluate,
            save=bool(self.history) and not has_ended and time.monotonic() >= self.next_save,
            finish=has_ended and not evaluate,
        )
        decision = self.trainer.world.agree(decision)
        self.clock.set_progress(decision.progress)
        return decision

    def take_step(self, numbered_batch: tuple[int, Batch], progress: float) -> Decision:
        """Take one optimizer step at `progress`; return the next decision."""
        step, batch = numbered_batch
        loss = step_within_memory(self.trainer, batch, progress)
        self.trainer.num_steps = step + 1
        now = self.decide()
        self.trainer.update_average(step, now.progress - progress)
        self.history.append(StepRecord(progress, now.progress, (batch.images.shape[2], batch.images.shape[3])))
        self.log.log_step(step + 1, now.progress, loss)
        return now

    def prefetch_batches(self) -> Iterator[tuple[int, Batch]]:
        """Make the batches ahead in threads, each at the resolution that the schedule sets for its step."""
        trainer, sizes = self.trainer, dict[int, Size]()

        def number_steps() -> Iterator[int]:
            for step in itertools.count(trainer.num_steps):
                progress = self.clock.progress_at(step)
                if progress >= 1:
                    return
                sizes[step] = trainer.batches.size_at(compute_resolution(progress, trainer.config.schedule))
                yield step

        def make(step: int) -> Batch:
            return trainer.batches.make_sized(step, sizes.pop(step))

        threads = choose_loader_threads(trainer.device)
        return prefetch(make, number_steps(), num_ahead=threads + 1, num_threads=threads)

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
        trainer.num_evaluations = self.count_due_evaluations(progress)
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
                evaluations=trainer.num_evaluations,
                finished=finished,
                **state,
            )
            save_checkpoint(self.folder, checkpoint)
        end = time.monotonic()
        self.next_save = end + compute_checkpoint_interval(end - start, self.config.checkpoint_interval_seconds)
        self.history.clear()


def start_clock(trainer: Trainer, deadline: float | None) -> TrainingClock:
    """Return a clock that runs by the steps of the config, or until `deadline` minus the time to finish the run."""
    config, seconds_before = trainer.config.training, trainer.seconds_before
    if config.steps is not None:
        return TrainingClock(steps=config.steps, seconds=None, seconds_before=seconds_before)
    if deadline is None:
        raise InvalidArgumentError("a run needs training.steps or training.budget_seconds; give --steps or --budget.")
    closing = estimate_closing_seconds(trainer)
    left = trainer.world.share(deadline - time.monotonic() - closing) - seconds_before
    if left <= 0 and not trainer.num_steps:
        raise InvalidArgumentError(
            f"the budget of {config.budget_seconds:.0f} s ends before training could start; give more."
        )
    return TrainingClock(steps=None, seconds=seconds_before + max(left, 0.0), seconds_before=seconds_before)
