"""`live.html`: one file in the run folder that a browser can watch while training goes on.

Written at each evaluation, and in between as often as costs less than a hundredth of the time.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pixelwise.data.dataset import Dataset
from pixelwise.data.io.images import Array
from pixelwise.data.sample import Sample
from pixelwise.data.visualization import to_css_color, to_data_uri
from pixelwise.files import write_atomically
from pixelwise.progress import format_duration
from pixelwise.reports.html import render_page
from pixelwise.reports.plots import plot_training
from pixelwise.reports.score_tables import format_percent
from pixelwise.reports.training_report import draw_panels
from pixelwise.training.run_dir import RunFolder

MAX_SAMPLES = 3
MAX_SIDE = 480
"""Of a picture; larger images are shown by every second, third, ... pixel."""
RELOAD_SECONDS = 15
LEAST_SECONDS = 30.0
"""Between two pages without an evaluation."""
COST_SHARE = 0.01
"""Of the time, that pages without an evaluation may take."""

State = Literal["training", "ended", "stopped"]
STATES: Mapping[State, str] = {
    "training": "Training goes on; this page reloads itself.",
    "ended": "Training has ended. The best model is scored once more, then report.html has the result.",
    "stopped": "Stopped. It goes on with pixelwise train DATA -o RUN --resume.",
}


class LivePage:
    """The page of one run, and what it shows of three validation images."""

    def __init__(self, run: RunFolder, dataset: Dataset, samples: Sequence[Sample]) -> None:
        self.run, self.dataset = run, dataset
        self.shown: dict[Sample, dict[str, str]] = {sample: {} for sample in samples[:MAX_SAMPLES]}
        self.step_shown = 0
        self.next_time = time.monotonic() + LEAST_SECONDS

    def keep(self, sample: Sample, labels: Array, prediction: Array) -> None:
        """While an evaluation goes over its images: what the page is to show of this one."""
        if sample in self.shown:
            image, _ = self.dataset.read(sample)
            step = -(-max(labels.shape) // MAX_SIDE)
            small, truth, seen = (pixels[::step, ::step] for pixels in (image, labels, prediction))
            pictures = draw_panels(small, truth, seen, self.dataset.classes)
            self.shown[sample] = {
                name: to_data_uri(pictures[name], MAX_SIDE) for name in ("image", "truth", "prediction")
            }

    def tick(self, progress: float) -> None:
        """About once a second."""
        if time.monotonic() >= self.next_time:
            self.write(progress)

    def evaluated(self, step: int, progress: float) -> None:
        self.step_shown = step
        if progress < 1:  # else the last page follows at once
            self.write(progress)

    def write(self, progress: float, state: State = "training") -> None:
        """Writes the page whole or not at all."""
        start = time.monotonic()
        write_atomically(self.run.live, render_page("live_report.html.jinja", self._values(progress, state)))
        now = time.monotonic()
        self.next_time = now + max(LEAST_SECONDS, (now - start) / COST_SHARE)

    def _values(self, progress: float, state: State) -> dict[str, Any]:
        metrics = list(self.run.read_metrics())
        classes = self.dataset.classes
        assert classes is not None
        return {
            "title": self.run.path.name,
            "state": STATES[state],
            "reload_seconds": RELOAD_SECONDS if state == "training" else 0,
            "progress": progress,
            "status": status(metrics, progress),
            "cards": cards(metrics),
            "curves": plot_training(metrics, "steps"),
            "images": [{"name": s.name, "panels": pictures} for s, pictures in self.shown.items() if pictures],
            "images_step": self.step_shown,
            "classes": [(name, to_css_color(color)) for name, color in zip(classes.names, classes.colors, strict=True)],
        }


def status(metrics: Sequence[Mapping[str, Any]], progress: float) -> str:
    """`step 120 · 40 % done · 3.5 min so far, about 5.2 min left`."""
    if not metrics:
        return "nothing measured yet"
    spent = metrics[-1]["seconds"]
    left = f", about {format_duration(spent * (1 - progress) / progress)} left" if 0 < progress < 1 else ""
    return f"step {metrics[-1]['step']:,} · {progress:.0%} done · {format_duration(spent)} so far{left}"


def cards(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """The newest numbers: name, value, explanation."""
    shown = []
    if trained := [line for line in metrics if "loss" in line]:
        last = trained[-1]
        shown.append(("loss", f"{last['loss']:.4f}", "of the last second"))
        shown.append(("learning rate", f"{last['lr']:.2e}", "of the decoder"))
        shown.append(("images a second", f"{last['images_per_second']:.1f}", "trained on"))
    if scored := [line for line in metrics if "val" in line]:
        best = max(scored, key=lambda line: line["val"]["mean_iou"] or 0.0)
        shown.append(("best mean IoU", format_percent(best["val"]["mean_iou"]), f"at step {best['step']:,}"))
    return shown
