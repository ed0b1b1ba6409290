"""`live.html`: a page in the run folder that shows a run in progress.

It is written after each evaluation, and in between as long as that takes less than 1 % of the time.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.data.visualization import list_swatches, to_data_uri
from pixelwise.files import write_atomically
from pixelwise.progress import format_duration
from pixelwise.reports.gallery import draw_panels
from pixelwise.reports.html import format_percent, render_page
from pixelwise.reports.plots import plot_training
from pixelwise.training.run_dir import RunFolder

MAX_SAMPLES = 3
MAX_SIDE = 480
"""Largest side of a picture, in pixels; larger images are subsampled by an integer."""
RELOAD_SECONDS = 15
MIN_SECONDS = 30.0
"""Time between two pages without an evaluation."""
MAX_COST = 0.01
"""Largest fraction of the time that pages without an evaluation may take."""

RunState = Literal["training", "ended", "stopped"]
STATE_TEXTS: Mapping[RunState, str] = {
    "training": "Training is running. This page reloads itself.",
    "ended": "Training has ended. The best model is evaluated; see report.html for the result.",
    "stopped": "Stopped. Continue the run with --resume.",
}


class LivePage:
    """The page of one run, with its predictions on three validation images."""

    def __init__(self, run: RunFolder, dataset: Dataset, samples: Sequence[Sample]) -> None:
        self.run, self.dataset = run, dataset
        self.pictures: dict[Sample, dict[str, str]] = {sample: {} for sample in samples[:MAX_SAMPLES]}
        self.pictures_step = 0
        self.next_time = time.monotonic() + MIN_SECONDS

    def add_image(self, sample: Sample, labels: Array, prediction: Array) -> None:
        """Store the pictures of an evaluated image, if the page shows it."""
        if sample in self.pictures:
            image, _ = self.dataset.read(sample)
            step = -(-max(labels.shape) // MAX_SIDE)
            small, truth, predicted = (pixels[::step, ::step] for pixels in (image, labels, prediction))
            pictures = draw_panels(small, truth, predicted, self.dataset.classes)
            self.pictures[sample] = {
                name: to_data_uri(pictures[name], MAX_SIDE) for name in ("image", "truth", "prediction")
            }

    def write_if_due(self, progress: float) -> None:
        """Write the page if the last one is old enough; called about once a second."""
        if time.monotonic() >= self.next_time:
            self.write(progress)

    def show_evaluation(self, step: int, progress: float) -> None:
        """Write the page after an evaluation."""
        self.pictures_step = step
        if progress < 1:  # at the end, the last page follows at once
            self.write(progress)

    def write(self, progress: float, state: RunState = "training") -> None:
        """Write the page atomically."""
        start = time.monotonic()
        write_atomically(self.run.live, render_page("live_report.html.jinja", self._values(progress, state)))
        now = time.monotonic()
        self.next_time = now + max(MIN_SECONDS, (now - start) / MAX_COST)

    def _values(self, progress: float, state: RunState) -> dict[str, Any]:
        metrics = list(self.run.read_metrics())
        classes = self.dataset.classes
        return {
            "title": self.run.path.name,
            "state": STATE_TEXTS[state],
            "reload_seconds": RELOAD_SECONDS if state == "training" else 0,
            "progress": progress,
            "status": describe_status(metrics, progress),
            "cards": make_cards(metrics),
            "curves": plot_training(metrics, "steps"),
            "images": [{"name": s.name, "panels": pictures} for s, pictures in self.pictures.items() if pictures],
            "images_step": self.pictures_step,
            "classes": list_swatches(classes),
        }


def describe_status(metrics: Sequence[Mapping[str, Any]], progress: float) -> str:
    """Return text such as `step 120 · 40 % done · 3.5 min so far, about 5.2 min left`."""
    if not metrics:
        return "no step yet"
    spent = metrics[-1]["seconds"]
    left = f", about {format_duration(spent * (1 - progress) / progress)} left" if 0 < progress < 1 else ""
    return f"step {metrics[-1]['step']:,} · {progress:.0%} done · {format_duration(spent)} so far{left}"


def make_cards(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return the newest numbers: name, value, explanation."""
    cards = []
    if trained := [line for line in metrics if "loss" in line]:
        last = trained[-1]
        cards.append(("loss", f"{last['loss']:.4f}", "mean over the last second"))
        cards.append(("learning rate", f"{last['lr']:.2e}", "in the decoder"))
        cards.append(("images per second", f"{last['images_per_second']:.1f}", "in training"))
    if scored := [line for line in metrics if "val" in line]:
        best = max(scored, key=lambda line: line["val"]["mean_iou"] or 0.0)
        cards.append(("best mean IoU", format_percent(best["val"]["mean_iou"]), f"at step {best['step']:,}"))
    return cards
