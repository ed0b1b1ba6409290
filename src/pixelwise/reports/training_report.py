"""`report.html`: the evaluation of a run on its validation images, with its curves, choices and notes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelwise.config import Config
from pixelwise.data.sample import Sample, Split
from pixelwise.files import write_atomically
from pixelwise.progress import format_duration
from pixelwise.reports.evaluation_report import EvaluationReport, build_evaluation_values
from pixelwise.reports.html import render_page
from pixelwise.reports.plots import plot_training


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """The content of the report."""

    evaluation: EvaluationReport
    """The scores on the validation images."""
    splits: Mapping[Split, Sequence[Sample]]
    notes: Sequence[str]


def write_training_report(path: Path, report: TrainingReport) -> None:
    """Write the report atomically."""
    training = report.evaluation.training
    assert training is not None
    values = {
        **build_evaluation_values(report.evaluation),
        "split_sizes": {name: len(samples) for name, samples in report.splits.items() if samples},
        "curves": plot_training(training.metrics, "minutes"),
        "choices": list_choices(training.config),
        "settings": list_settings(training.config),
        "notes": report.notes,
    }
    write_atomically(path, render_page("training_report.html.jinja", values))


CHOICES: Mapping[str, tuple[Callable[[Config], str], tuple[str, ...]]] = {
    "Network": (
        lambda config: _describe_network(config),
        ("network.encoder", "network.base_channels", "network.depth", "network.name"),
    ),
    "Samples": (
        lambda config: "{} × {} pixels".format(*reversed(config.data.crop_size)),
        ("data.crop_size",),
    ),
    "Batch": (lambda config: _count(config.training.batch_size, "sample"), ("training.batch_size",)),
    "Length": (lambda config: _describe_length(config), ("training.steps", "training.budget_seconds")),
    "Optimizer": (
        lambda config: f"{config.optimizer.name}, learning rate up to {config.optimizer.lr:g}",
        ("optimizer.lr", "optimizer.name"),
    ),
    "Class weights": (
        lambda config: config.loss.class_weights.replace("_", " "),
        ("loss.class_weights",),
    ),
}
"""The six choices that decide most: title → function that describes the value, and the keys with its reasons."""


def list_choices(config: Config) -> list[tuple[str, str, str]]:
    """Return title, value and reason of the choices that matter."""
    choices = []
    for title, (describe, keys) in CHOICES.items():
        reasons = dict.fromkeys(config.reasons[key] for key in keys if key in config.reasons)
        choices.append((title, describe(config), "; ".join(reasons) or "the default"))
    return choices


def list_settings(config: Config) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return each section with key, value and reason of all its settings."""
    return [
        (
            section,
            [(key, _format_value(value), config.reasons.get(f"{section}.{key}", "")) for key, value in keys.items()],
        )
        for section, keys in config.to_dict().items()
    ]


def _describe_network(config: Config) -> str:
    network = config.network
    if network.encoder:
        weights = {"none": "random weights", "imagenet": "ImageNet weights", "file": "weights from a file"}
        return f"{network.name} with encoder {network.encoder}, {weights[network.encoder_weights]}"
    if network.name == "unet":
        return f"unet, {network.base_channels or 32} channels, depth {network.depth}"
    return network.name


def _describe_length(config: Config) -> str:
    training = config.training
    if training.steps is not None:
        return _count(training.steps, "step")
    return format_duration(training.budget_seconds or 0)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _format_value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {None: "none", True: "yes", False: "no"}[value]
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
