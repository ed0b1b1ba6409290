"""What the command line shows: progress bars on a terminal, plain lines elsewhere, and tables."""

import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from pixelwise.checks import CheckReport, Finding
from pixelwise.progress import use_reporter
from pixelwise.shapes import Size

if TYPE_CHECKING:  # which imports PyTorch
    from pixelwise.exporting.result import ExportResult
    from pixelwise.networks.summary import LayerRow, NetworkRow
    from pixelwise.prediction.localize import Localized
    from pixelwise.quantization.result import Int8Accuracy

PLAIN_SECONDS = 15.0
"""Time between two lines of progress where the output is no terminal."""


class ConsoleProgress:
    """Draws `pixelwise.progress.Progress` on standard error, so that results can be piped."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self.tasks: dict[str, TaskID] = {}
        self.last_line = 0.0
        self.begun: set[str] = set()

    def __enter__(self) -> "ConsoleProgress":
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.bars.stop()

    def log(self, message: str) -> None:
        self.console.print(message, markup=False, soft_wrap=True)

    def track(self, label: str, done: float, total: float, note: str = "") -> None:
        if not self.console.is_terminal:
            self._plain(label, done, total, note)
            return
        if label not in self.tasks:
            self.tasks[label] = self.bars.add_task(label, total=total, note=note)
        self.bars.update(self.tasks[label], completed=done, total=total, note=note)
        if done >= total:
            self.bars.remove_task(self.tasks.pop(label))

    def _plain(self, label: str, done: float, total: float, note: str) -> None:
        now = time.monotonic()
        ends = done >= total and label in self.begun  # what was told of is told of to its end
        if now - self.last_line >= PLAIN_SECONDS or ends:
            self.last_line = now
            self.begun.add(label)
            self.log(f"{label} {done / max(total, 1e-9):4.0%}  {note}".rstrip())
        if done >= total:
            self.begun.discard(label)


@contextmanager
def show_progress() -> Iterator[None]:
    """Show messages and progress on standard error inside the block."""
    with ConsoleProgress() as console, use_reporter(console):
        yield


def print_networks(rows: "Iterable[NetworkRow]", size: Size) -> None:
    """One line a network, under the paper it is from; figures of one image in float32."""
    table = Table(
        Column("network", no_wrap=True),
        *(Column(name, justify="right") for name in ("params", "GFLOPs", "MB", "stride", "sees")),
        title=f"an image of {size[0]}x{size[1]}, 3 channels, 11 classes",
        caption="GFLOPs: forward pass. MB: activations kept for the backward pass of training. stride: a shift of "
        "the image by as much shifts the output. sees: rows, and columns, that one pixel of the output depends on.",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for paper, group in itertools.groupby(rows, key=lambda row: row.paper):
        table.add_row(f"[italic]{paper}[/italic]")
        for row in group:
            sides = dict.fromkeys(row.receptive_field or ("all",))  # most see squares
            sees = "x".join(map(str, sides))
            figures = (f"{row.parameters / 1e6:.2f}M", f"{row.gflops:.1f}", f"{row.activation_mb:.0f}")
            table.add_row(f" {row.name}", *figures, str(max(row.stride)), sees)
    Console(highlight=False).print(table)


def print_layers(name: str, rows: "Iterable[LayerRow]", size: Size) -> None:
    """One line a layer, in the order in which they run."""
    table = Table(
        "layer",
        "operator",
        *(Column(what, justify="right") for what in ("output", "parameters", "GFLOPs")),
        title=f"{name} on {size[0]}x{size[1]}, 3 channels, 11 classes",
    )
    for row in rows:
        shape = "x".join(map(str, row.shape))
        table.add_row(row.name, row.operator, shape, f"{row.parameters:,}", f"{row.gflops:.2f}")
    Console(highlight=False).print(table)


def print_scores(scores: Mapping[str, Any]) -> None:
    """The scores as a table: the set's, then each class's where they are given."""
    console = Console(highlight=False)
    table = Table("score", "value", title=f"split {scores['split']}" if "split" in scores else "validation")
    for name in ("mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1"):
        if name in scores:
            table.add_row(name.replace("_", " "), _number(scores[name]))
    console.print(table)
    if "per_class" in scores:
        classes = Table("class", "IoU", "accuracy", "Dice", "pixels")
        for name, row in scores["per_class"].items():
            classes.add_row(
                escape(name), _number(row["iou"]), _number(row["accuracy"]), _number(row["dice"]), f"{row['pixels']:,}"
            )
        console.print(classes)


STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def print_folds(scores: Mapping[str, Any]) -> None:
    """Mean and standard deviation over the folds, and the scores of all their images counted together."""
    console = Console(highlight=False)
    mean, std, pooled = scores["mean"], scores["std"], scores["pooled"]
    table = Table("score", "mean", "std", "all images", title=f"{len(scores['folds'])} folds")
    for name in ("mean_iou", "global_accuracy", "mean_class_accuracy", "mean_dice", "boundary_f1"):
        cells = (_number(mean[name]), _number(std[name]), _number(pooled.get(name)))
        table.add_row(name.replace("_", " "), *cells)
    console.print(table)
    classes = Table("class", "IoU", "std", "all images", "pixels")
    for name, row in pooled["per_class"].items():
        of_class = [_number(of["per_class"][name]["iou"]) for of in (mean, std, pooled)]
        classes.add_row(escape(name), *of_class, f"{row['pixels']:,}")
    console.print(classes)


def print_check(report: CheckReport) -> None:
    """The findings of `pixelwise check`, errors first; each with its code, what is wrong, and the cure."""
    console = Console(highlight=False, soft_wrap=False)
    splits = ", ".join(f"{name} {count}" for name, count in report.splits.items())
    console.print(f"format {report.format}: {report.num_images} images ({splits})", markup=False)
    console.print(f"{len(report.classes)} classes: {', '.join(report.classes)}", markup=False)
    if not report.findings:
        console.print("nothing found: the dataset is ready.")
        return
    table = Table(Column("severity", no_wrap=True), "finding", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for finding in report.findings:
        table.add_section()
        table.add_row(Text(finding.severity, STYLES[finding.severity]), _finding(finding))
    console.print(table)
    console.print(_summary(report), markup=False)


def _finding(finding: Finding) -> Text:
    files = f"  {len(finding.files):,} file{'s' * (len(finding.files) != 1)}" if finding.files else ""
    return Text.assemble(
        (finding.code, STYLES[finding.severity]),
        (files, "dim"),
        f"\n{finding.message}",
        (f"\n→ {finding.fix}", "italic"),
    )


def _summary(report: CheckReport) -> str:
    """How many of each severity, and where the lists go on that the table cuts short."""
    counts: Counter[str] = Counter(finding.severity for finding in report.findings)
    said = ", ".join(f"{counts[name]} {name}{'s' * (counts[name] != 1)}" for name in STYLES if counts[name])
    cut = any(len(finding.files) > 3 for finding in report.findings)
    return f"{said}{'; all files: --json FILE' if cut else ''}"


def print_sights(images: "Iterable[Localized]") -> None:
    """Per image the classes seen in it, and where they speak loudest."""
    for found in images:
        print(found.image)
        for sight in found.sights:
            row, column = sight.place
            print(f"  {sight.name:<30} {sight.probability:6.1%}   strongest at row {row}, column {column}")


def print_export(result: "ExportResult") -> None:
    """Print the files, their size, and how closely they reproduce the model."""
    parity = result.parity
    print(f"{result.file}  {result.num_bytes / 1e6:.1f} MB")
    if result.accuracy:
        print_int8_accuracy(result.accuracy)
    print(f"  labels agree on {parity.agreement:.4%} of the pixels of synthetic images of {len(parity.sizes)} sizes")
    print(f"  largest logit gap {parity.largest_logit_gap:.2g}, with logits up to {parity.largest_logit:.2g}")
    for file in result.other_files:
        print(file)


def print_int8_accuracy(accuracy: "Int8Accuracy") -> None:
    """Print the mean IoU of int8 on each engine, compared with float32."""
    for name, engine in accuracy.engines.items():
        print(
            f"  {name}: mean IoU {engine.mean_iou:.4f} in int8, {accuracy.model_mean_iou:.4f} in float32, a drop of "
            f"{accuracy.compute_iou_drop(name):.2f} points; labels agree on {engine.agreement:.4%} of the pixels of "
            f"{accuracy.num_validation_images} validation images"
        )


def print_failures(failures: Iterable[tuple[Path, str]]) -> None:
    """The inputs that could not be done, on standard error."""
    for path, reason in failures:
        print(f"failed: {reason if str(path) in reason else f'{path}: {reason}'}", file=sys.stderr)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
