"""The record of a run: metrics.jsonl, loggers, the live page and the progress line; and early stopping by it."""

import contextlib
import logging
import statistics
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from pixelwise.evaluation.evaluate import ScoredImage
from pixelwise.progress import report_progress
from pixelwise.training.clock import TrainingClock
from pixelwise.training.divergence import DivergedError
from pixelwise.training.live_report import LivePage
from pixelwise.training.loggers import open_loggers
from pixelwise.training.optimizers import compute_lr_factor, compute_resolution
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.trainer import Trainer

logger = logging.getLogger(__name__)

Metrics = Iterable[Mapping[str, Any]]
"""Lines of metrics.jsonl."""


class MetricsLog:
    """Records losses about once a second, and evaluations; on the first process only, elsewhere it does nothing.

    Args:
        page: the live page of the run, on the first process.
    """

    def __init__(self, trainer: Trainer, run: RunFolder, clock: TrainingClock, page: LivePage | None = None) -> None:
        self.run, self.clock, self.config, self.page = run, clock, trainer.config, page
        self.is_active = trainer.world.is_first
        self.losses: list[Tensor] = []
        self.last_time = time.monotonic()
        self.rate = RateWatcher()
        if not self.is_active:
            return
        run.remove_metrics_after(trainer.num_steps)
        self.loggers = open_loggers(run, trainer.config, trainer.num_steps)

    def log_step(self, step: int, progress: float, loss: Tensor) -> None:
        """Record the loss of a step.

        Raises:
            DivergedError: a loss since the last line is NaN or infinite.
        """
        if self.is_active:
            self.losses.append(loss)
            if progress >= 1 or time.monotonic() - self.last_time >= 1:
                self.write_losses(step, progress)

    def write_losses(self, step: int, progress: float) -> None:
        """Write the mean of the losses since the last line."""
        if not self.losses:
            return
        seconds = max(time.monotonic() - self.last_time, 1e-6)
        # The only place that waits for the device: it reads the losses of the last second together.
        losses = torch.stack(self.losses).cpu()
        if not losses.isfinite().all():
            bad = int((~losses.isfinite()).nonzero()[0])
            raise DivergedError(f"The loss is {losses[bad]}", step - len(losses) + bad + 1, progress, self.config)
        mean = float(losses.mean())
        rate = len(losses) * self.config.training.batch_size / seconds
        lr = self.config.optimizer.lr * compute_lr_factor(progress, self.config.schedule)
        values = {"step": step, "progress": round(progress, 6), "loss": mean, "lr": lr}
        values |= {"images_per_second": round(rate, 3), "seconds": round(self.clock.seconds_used, 2)}
        self.run.append_metrics(values)
        scalars = {f"train/{name}": float(values[name]) for name in ("loss", "lr", "images_per_second")}
        for sink in self.loggers:
            sink.log_scalars(scalars, step)
        if self.page:
            self.page.write_if_due(progress)
        report_progress("train", progress, 1, f"loss {mean:.3f}  {rate:.1f} images/s")
        if warning := self.rate.add(rate * compute_resolution(progress, self.config.schedule) ** 2):
            logger.warning(warning)
        self.losses, self.last_time = [], time.monotonic()

    def log_evaluation(self, step: int, progress: float, scores: Mapping[str, Any]) -> None:
        """Record the scores of an evaluation."""
        if not self.is_active:
            return
        summary = {name: scores[name] for name in ("mean_iou", "global_accuracy", "mean_class_accuracy")}
        seconds = round(self.clock.seconds_used, 2)
        self.run.append_metrics({"step": step, "progress": round(progress, 6), "val": summary, "seconds": seconds})
        scalars = {f"val/{name}": value for name, value in summary.items() if value is not None}
        for sink in self.loggers:
            sink.log_scalars(scalars, step)
        if self.page:
            self.page.show_evaluation(step, progress)
        logger.info(f"step {step} ({progress:.0%}): validation mean IoU {summary['mean_iou'] or 0:.4f}")
        self.last_time = time.monotonic()

    def announce_best_model(self) -> None:
        """Log which step's model is scored last: often not that of the last step."""
        if self.is_active:
            _, score, step = _find_best(self.run.read_metrics())
            logger.info(f"Scoring the best model, of step {step} (mean IoU {score:.4f}), in fp32")

    def show_image(self, scored: ScoredImage) -> None:
        """Show an image of the current evaluation on the live page."""
        if self.page:
            self.page.add_image(scored)

    def close(self, progress: float, *, has_ended: bool) -> None:
        """Close the loggers; `has_ended`: the run takes no further step, and its best model is scored next."""
        if not self.is_active:
            return
        with contextlib.suppress(OSError):  # a full disk has raised an error before
            for sink in self.loggers:
                sink.close()
            if self.page:
                self.page.progress = progress
                if has_ended:
                    self.page.write(progress, "scoring")


class RateWatcher:
    """Notices when training becomes much slower than it was, for example because of another program."""

    NUM_RATES = 15
    """Number of the last rates whose median is compared, so that a single slow second does not count."""

    def __init__(self) -> None:
        self.rates: deque[float] = deque(maxlen=self.NUM_RATES)
        self.best = 0.0
        self.has_warned = False

    def add(self, rate: float) -> str | None:
        """Add images per second at full resolution; return a warning, once, if the rate fell below half."""
        self.rates.append(rate)
        if len(self.rates) < self.NUM_RATES or self.has_warned:
            return None
        now = statistics.median(self.rates)
        self.best = max(self.best, now)
        if now >= self.best / 2:
            return None
        self.has_warned = True
        return (
            f"Training has become slower: {now:.1f} images/s instead of {self.best:.1f}. The run takes fewer steps "
            "than planned, or more time. Close other programs."
        )


def is_out_of_patience(metrics: Metrics, patience: int | None) -> bool:
    """Return whether the last `patience` evaluations had no new best mean IoU; False for 0 and None."""
    return bool(patience) and _find_best(metrics)[0] >= (patience or 0)


def describe_early_stop(metrics: Metrics, patience: int | None) -> str | None:
    """Return a note for the report of a run that stopped early; None for other runs."""
    since, best, step = _find_best(metrics)
    if not patience or since < patience:
        return None
    best_so_far = f"{best:.4f}, of step {step}"
    reason = f"evaluations without a better mean IoU than {best_so_far}: {since}"
    return f"stopped early (training.early_stopping_patience): {reason}"


def _find_best(metrics: Metrics) -> tuple[int, float, int]:
    """Return the number of evaluations since the best one, its mean IoU and its step."""
    since, best, step = 0, -1.0, 0
    for line in metrics:
        if "val" in line:
            score = line["val"]["mean_iou"] or 0.0
            since, best, step = (0, score, line["step"]) if score > best else (since + 1, best, step)
    return since, best, step
