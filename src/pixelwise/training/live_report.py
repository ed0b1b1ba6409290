"""`live.html`: a page in the run folder that shows a run in progress.

It is written after each evaluation, and in between as long as that takes less than 1 % of the time. When the run ends,
the page says how, links to the report and reloads itself no more.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Sample
from pixelwise.data.visualization import list_swatches
from pixelwise.evaluation.evaluate import ScoredImage
from pixelwise.files import write_atomically
from pixelwise.progress import format_duration, format_percent
from pixelwise.reports.gallery import draw_pictures
from pixelwise.reports.html import render_page
from pixelwise.reports.plots import plot_training
from pixelwise.reports.thumbnails import Panel
from pixelwise.training.run_dir import RunFolder
from pixelwise.training.signals import INTERRUPTIONS

MAX_SAMPLES = 3
MAX_SIDE = 480
"""Largest side of a picture, in pixels."""
RELOAD_SECONDS = 15
MIN_SECONDS = 30.0
"""Time between two pages without an evaluation."""
MAX_COST = 0.01
"""Largest fraction of the time that pages without an evaluation may take."""

RunState = Literal["training", "scoring", "finished", "interrupted", "failed"]
STATES: Mapping[RunState, tuple[str, str, str]] = {
    "training": ("Training", "note", "This page reloads itself."),
    "scoring": ("Scoring", "note", "Training is over. The best model is being scored; then the report is written."),
    "finished": ("Finished", "good", "The model is trained and scored."),
    "interrupted": (
        "Interrupted",
        "warning",
        "The run was stopped by Ctrl-C or a signal. Its last checkpoint is saved.",
    ),
    "failed": ("Failed", "error", "The run has ended with an error."),
}
"""State → its title, its color and what it means. Only the first two reload the page."""


class LivePage:
    """The page of one run, with its predictions on three validation images.

    As a context manager it ends the page: without an exception the report is linked, else the page says what happened.

    Args:
        resume_command: Command that continues the run.
    """

    def __init__(self, run: RunFolder, dataset: Dataset, samples: Sequence[Sample], resume_command: str) -> None:
        self.run, self.dataset, self.resume_command = run, dataset, resume_command
        self.pictures: dict[Sample, tuple[Panel, ...]] = dict.fromkeys(samples[:MAX_SAMPLES], ())
        self.pictures_step = 0
        self.progress = 0.0
        self.early_stop: str | None = None
        """The reason of an early stop, if there was one."""
        self.next_time = time.monotonic() + MIN_SECONDS

    def __enter__(self) -> "LivePage":
        if self.run.live.exists():  # of the run before it was resumed, which has ended
            self.write(self.progress)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        state: RunState = "finished" if error is None else "failed"
        if isinstance(error, INTERRUPTIONS):
            state = "interrupted"
        with contextlib.suppress(OSError):  # a full disk has raised an error before
            self.write(self.progress, state, str(error) if state == "failed" else "")

    def add_image(self, scored: ScoredImage) -> None:
        """Store the pictures of an evaluated image, if the page shows it."""
        if scored.sample in self.pictures:
            self.pictures[scored.sample] = draw_pictures(scored, self.dataset.classes, MAX_SIDE)[:3]

    def write_if_due(self, progress: float) -> None:
        """Write the page if the last one is old enough; called about once a second."""
        if time.monotonic() >= self.next_time:
            self.write(progress)

    def show_evaluation(self, step: int, progress: float) -> None:
        """Write the page after an evaluation."""
        self.pictures_step = step
        if progress < 1:  # at the end, the next page follows at once
            self.write(progress)

    def write(self, progress: float, state: RunState = "training", error: str = "") -> None:
        """Write the page atomically."""
        start = time.monotonic()
        self.progress = progress
        write_atomically(self.run.live, render_page("live_report.html.jinja", self._values(state, error)))
        now = time.monotonic()
        self.next_time = now + max(MIN_SECONDS, (now - start) / MAX_COST)

    def _values(self, state: RunState, error: str) -> dict[str, Any]:
        metrics = list(self.run.read_metrics())
        classes = self.dataset.classes
        title, severity, text = STATES[state]
        return {
            "title": self.run.path.name,
            "state": state,
            "state_title": title,
            "severity": severity,
            "state_text": text,
            "early_stop": self.early_stop,
            "error": error,
            "report": self.run.report.name,
            "resume_command": self.resume_command,
            "reload_seconds": RELOAD_SECONDS,
            "is_reloading": state in ("training", "scoring"),
            "written": int(time.time()),
            "progress": self.progress,
            "status": describe_status(metrics, self.progress),
            "cards": make_cards(metrics),
            "curves": plot_training(metrics, "steps"),
            "images": [{"name": s.name, "pictures": pictures} for s, pictures in self.pictures.items() if pictures],
            "images_step": self.pictures_step,
            "legend": list_swatches(classes),
        }


def describe_status(metrics: Sequence[Mapping[str, Any]], progress: float) -> str:
    """Return text such as `step 120 · 40 % done · 3.5 min so far, about 5.2 min left`."""
    if not metrics:
        return "no step yet"
    spent = metrics[-1]["seconds"]
    left = f", about {format_duration(spent * (1 - progress) / progress)} left" if 0 < progress < 1 else ""
    return f"step {metrics[-1]['step']:,} · {100 * progress:.0f} % done · {format_duration(spent)} so far{left}"


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
