"""What a run writes down as it goes: metrics.jsonl, loggers, the live page, the progress line."""

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pixelwise.config import Config
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.progress import report_progress
from pixelwise.training.clock import Pace
from pixelwise.training.divergence import DivergedError
from pixelwise.training.live_report import LivePage
from pixelwise.training.loggers import open_loggers
from pixelwise.training.optimizers import learning_rate_factor
from pixelwise.training.run_dir import RunFolder

logger = logging.getLogger(__name__)


class Log:
    """metrics.jsonl, the loggers, the live page and the progress line, about once a second."""

    def __init__(
        self,
        run: RunFolder,
        pace: Pace,
        config: Config,
        first_step: int = 0,
        page: LivePage | None = None,
    ) -> None:
        self.run, self.pace, self.config, self.page = run, pace, config, page
        self.loggers = open_loggers(run, config, first_step)
        self.losses: list[Tensor] = []
        self.images = 0
        self.since = time.monotonic()

    def step(self, step: int, progress: float, loss: Tensor, num_images: int) -> None:
        self.losses.append(loss)
        self.images += num_images
        if progress >= 1 or time.monotonic() - self.since >= 1:
            self.write(step, progress)

    def write(self, step: int, progress: float) -> None:
        """The losses since the last line become one."""
        if not self.losses:
            return
        seconds = max(time.monotonic() - self.since, 1e-6)
        # The one place that waits for the device: the losses of the last second, read together.
        losses = torch.stack(self.losses).cpu()
        if not losses.isfinite().all():
            bad = int((~losses.isfinite()).nonzero()[0])
            raise DivergedError(f"the loss is {losses[bad]}", step - len(losses) + bad + 1, progress, self.config)
        mean = float(losses.mean())
        rate = self.images / seconds
        lr = self.config.optimizer.lr * learning_rate_factor(progress, self.config.schedule)
        values = {
            "step": step,
            "progress": round(progress, 6),
            "loss": mean,
            "lr": lr,
            "images_per_second": round(rate, 3),
            "seconds": round(self.pace.spent, 2),
        }
        self.run.append_metrics(values)
        shown = {f"train/{name}": float(values[name]) for name in ("loss", "lr", "images_per_second")}
        for sink in self.loggers:
            sink.scalars(shown, step)
        if self.page:
            self.page.tick(progress)
        report_progress("train", progress, 1, f"loss {mean:.3f}  {rate:.1f} images/s")
        self.losses, self.images, self.since = [], 0, time.monotonic()

    def evaluation(self, step: int, progress: float, scores: Mapping[str, Any]) -> None:
        short = {k: scores[k] for k in ("mean_iou", "global_accuracy", "mean_class_accuracy")}
        self.run.append_metrics(
            {"step": step, "progress": round(progress, 6), "val": short, "seconds": round(self.pace.spent, 2)}
        )
        shown = {f"val/{name}": value for name, value in short.items() if value is not None}
        for sink in self.loggers:
            sink.scalars(shown, step)
        if self.page:
            self.page.evaluated(step, progress)
        logger.info(f"{progress:4.0%} of the run, step {step}: validation mean IoU {short['mean_iou'] or 0:.4f}")
        self.since = time.monotonic()

    def show(self, sample: Sample, labels: Array, prediction: Array) -> None:
        """One image of an evaluation, for the page."""
        if self.page:
            self.page.keep(sample, labels, prediction)

    def close(self, progress: float, *, ended: bool) -> None:
        """`ended`: no further step will be taken."""
        with contextlib.suppress(OSError):  # a full disk has been noticed by what matters more
            if self.page:
                self.page.write(progress, "ended" if ended else "stopped")
            for sink in self.loggers:
                sink.close()
