"""Results on standard output: one function per type of result."""

import itertools
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from pixelwise.config import Config, ConfigKey
from pixelwise.errors import format_command, format_count
from pixelwise.evaluation.result import BINARY_SCORES
from pixelwise.progress import format_percent
from pixelwise.training.results import SCORE_NAMES, CrossValidationResult, TrainResult

if TYPE_CHECKING:  # these import PyTorch or NumPy, and the result has imported them
    from pixelwise.checks.findings import CheckReport, Finding
    from pixelwise.conversion import ConversionResult
    from pixelwise.evaluation.result import EvaluationResult
    from pixelwise.exporting.result import ExportResult
    from pixelwise.networks.summary import LayerRow, NetworkRow
    from pixelwise.prediction.result import LocalizeReport, PredictReport
    from pixelwise.quantization.result import Int8Accuracy, QuantizeResult

PLAIN: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}
COMPACT: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": 0, "show_edge": False}
"""For tables of up to 80 columns."""
MIN_RECOGNIZED = 0.1
"""Probability in a whole image below which a class is a guess."""
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def print_result(result: Any, arguments: Mapping[str, Any]) -> None:
    """Print the result of a command that was called with these arguments."""
    row = result[0] if isinstance(result, list) else result
    PRINTERS[type(row).__name__](result, arguments)


def has_failures(result: Any) -> bool:
    """Return whether a command has failures or has found errors."""
    return bool(getattr(result, "failures", ()) or getattr(result, "errors", ()))


def print_check(report: "CheckReport", arguments: Mapping[str, Any]) -> None:
    """Print the findings of `check`, errors first."""
    console = Console(highlight=False, soft_wrap=False)
    splits = ", ".join(f"{name} {count}" for name, count in report.splits.items())
    console.print(f"format {report.format}: {report.num_images} images ({splits})", markup=False)
    classes = f"{len(report.classes)} classes: {', '.join(report.classes)}" if report.classes else "classes: unknown"
    console.print(classes, markup=False)
    if report.findings:
        table = Table(Column("severity", no_wrap=True), "finding", **PLAIN)
        for finding in report.findings:
            table.add_section()
            table.add_row(Text(finding.severity, STYLES[finding.severity]), _format_finding(finding))
        console.print(table)
        summary = ", ".join(text for _, text in report.summary)
        is_cut = any(len(finding.files) > 3 for finding in report.findings)
        hint = "; all files: --json FILE" if is_cut and not arguments.get("json_path") else ""
        console.print(f"{summary}{hint}", markup=False)
    else:
        console.print("no problems found: the dataset is ready.")
    print_files(arguments)


def print_files(arguments: Mapping[str, Any]) -> None:
    """Print the files that a command writes if an option asks for it."""
    for title, key in (("json", "json_path"), ("page", "html_path")):
        if arguments.get(key):
            print(f"{title}: {arguments[key]}")


def _format_finding(finding: "Finding") -> Text:
    files = f"  {len(finding.files):,} file{'s' * (len(finding.files) != 1)}" if finding.files else ""
    return Text.assemble(
        (finding.code, STYLES[finding.severity]),
        (files, "dim"),
        f"\n{finding.message}",
        (f"\n→ {finding.fix}", "italic"),
    )


def print_conversion(result: "ConversionResult", arguments: Mapping[str, Any]) -> None:
    """Print how many pairs were written."""
    print(f"{format_count(result.num_images, 'pair')} written to {result.output} as {result.format}")


def print_plan(config: Config, arguments: Mapping[str, Any]) -> None:
    """Print a config, or the estimate if the config was written to a file."""
    if arguments["output"] is None:
        print(config.to_yaml(), end="")
    else:
        print(*config.estimate, f"config: {arguments['output']}", sep="\n")


def print_training(result: TrainResult, arguments: Mapping[str, Any]) -> None:
    """Print the scores of a run, its model and its report."""
    print_scores(result.scores)
    print(f"model:  {result.model}\nreport: {result.report}")


def print_cross_validation(result: CrossValidationResult, arguments: Mapping[str, Any]) -> None:
    """Print mean and standard deviation over the folds, and the scores of the pooled confusion matrix."""
    console = Console(highlight=False)
    mean, std, pooled = (result.scores[name] for name in ("mean", "std", "pooled"))
    table = Table("score", "mean", "std", "all images", title=f"{len(result.scores['folds'])} folds")
    for name in SCORE_NAMES:
        table.add_row(name.replace("_", " "), *(_format_score(scores.get(name)) for scores in (mean, std, pooled)))
    console.print(table)
    classes = Table("class", "IoU", "std", "all images", "pixels")
    for name, row in pooled["per_class"].items():
        ious = [_format_score(scores["per_class"][name]["iou"]) for scores in (mean, std, pooled)]
        classes.add_row(escape(name), *ious, f"{row['pixels']:,}")
    console.print(classes)
    print(f"folds:  {result.run}\nreport: {result.report}")


def print_evaluation(result: "EvaluationResult", arguments: Mapping[str, Any]) -> None:
    """Print the scores of a dataset and its classes, and the threshold that was chosen."""
    print_scores(result.to_dict())
    if chosen := result.chosen_threshold:
        scores = ("dice", "sensitivity", "specificity", "precision")
        listed = ", ".join(f"{name} {_format_score(getattr(chosen, name))}" for name in scores)
        print(f"threshold with the best {chosen.criterion} on split {chosen.split}: {chosen.threshold} ({listed})")
        command = format_command("predict", arguments["model"], "INPUT", "-o", "OUT", "--threshold", chosen.threshold)
        print(f"use it: {command}")
    print_files(arguments)


def print_mapping(values: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Print a JSON schema as JSON, and other values by key."""
    if "$schema" in values:
        print(json.dumps(values, indent=2))
    else:
        for key, value in values.items():
            print(f"{key:<24}{value}")


def print_scores(scores: Mapping[str, Any]) -> None:
    """Print the scores of a dataset, and of each class if they are known."""
    console = Console(highlight=False)
    table = Table("score", "value", title=f"split {scores['split']}" if "split" in scores else "validation, fp32")
    for name in SCORE_NAMES:
        if name in scores:
            table.add_row(name.replace("_", " "), _format_score(scores[name]))
    console.print(table)
    if "per_class" in scores:
        classes = Table("class", "IoU", "accuracy", "Dice", "pixels")
        for name, row in scores["per_class"].items():
            values = (_format_score(row[score]) for score in ("iou", "accuracy", "dice"))
            classes.add_row(escape(name), *values, f"{row['pixels']:,}")
        console.print(classes)
    if binary := scores.get("binary"):
        table = Table(f"class {escape(binary['name'])}", "value")
        for name, (title, _) in BINARY_SCORES.items():
            table.add_row(title, _format_score(binary[name]))
        if scores.get("threshold") is not None:
            table.add_row("threshold", f"{scores['threshold']}")
        console.print(table)


def print_predictions(report: "PredictReport", arguments: Mapping[str, Any]) -> None:
    """Print how many files were written, and the failures."""
    skipped = f"; complete before: {format_count(report.skipped, 'image')}" if arguments["resume"] else ""
    print(f"{format_count(len(report.written), 'file')} written to {arguments['output']}{skipped}")
    print_failures(report.failures)


def print_quantization(result: "QuantizeResult", arguments: Mapping[str, Any]) -> None:
    """Print the int8 file and its accuracy."""
    print(result.file)
    print_int8_accuracy(result.accuracy)


def print_export(result: "ExportResult", arguments: Mapping[str, Any]) -> None:
    """Print the files, their size, and how closely they reproduce the model."""
    parity = result.parity
    print(f"{result.file}  {result.num_bytes / 1e6:.1f} MB")
    if result.accuracy:
        print_int8_accuracy(result.accuracy)
    agreement = f"{100 * parity.agreement:.4f} %"
    print(f"  labels agree on {agreement} of the pixels of synthetic images of {len(parity.sizes)} sizes")
    print(f"  largest logit gap {parity.largest_logit_gap:.2g}, with logits up to {parity.largest_logit:.2g}")
    for file in result.other_files:
        print(file)


def print_int8_accuracy(accuracy: "Int8Accuracy") -> None:
    """Print the mean IoU of int8 on each engine, compared with float32."""
    for name, engine in accuracy.engines.items():
        print(
            f"  {name}: mean IoU {engine.mean_iou:.4f} in int8, {accuracy.model_mean_iou:.4f} in float32, a drop of "
            f"{accuracy.compute_iou_drop(name):.2f} points; labels agree on {100 * engine.agreement:.4f} % of the "
            f"pixels of {accuracy.num_validation_images} validation images"
        )


def print_networks(rows: "Sequence[NetworkRow]", arguments: Mapping[str, Any]) -> None:
    """Print one line per network, grouped by paper."""
    table = Table(
        Column("network", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in ("params", "GFLOPs", "MB", "stride", "field")),
        title=_describe_input(arguments),
        caption="GFLOPs: forward pass. MB: activations kept for the backward pass. stride: a shift of the image by "
        "this many pixels shifts the output. field: receptive field of an output pixel, rows x columns.",
        **COMPACT,
    )
    for paper, group in itertools.groupby(rows, key=lambda row: row.paper):
        table.add_row(f"[italic]{paper}[/italic]")
        for row in group:
            sides = dict.fromkeys(row.receptive_field or ("all",))  # one number for a square
            figures = (f"{row.parameters / 1e6:.2f}M", f"{row.gflops:.1f}", f"{row.activation_mb:.0f}")
            table.add_row(f" {row.name}", *figures, str(max(row.stride)), "x".join(map(str, sides)))
    Console(highlight=False).print(table)


def print_layers(rows: "Sequence[LayerRow]", arguments: Mapping[str, Any]) -> None:
    """Print one line per layer, in the order of execution, and the sums of encoder and decoder."""
    table = Table(
        Column("layer", overflow="fold"),
        Column("operator", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in ("output", "params", "GFLOPs", "MB")),
        title=f"{arguments['name']}: {_describe_input(arguments)}",
        **COMPACT,
    )
    has_unpooling = any(row.operator == "max_unpool" for row in rows)
    for part, group in itertools.groupby(rows, key=lambda row: row.part):
        if part:
            table.add_row(f"[italic]{part}[/italic]")
        for row in group:
            figures = (f"{row.parameters:,}", f"{row.gflops:.2f}", f"{row.activation_mb:.1f}")
            operator = _describe_operator(row, arguments["size"], has_unpooling=has_unpooling)
            table.add_row(f" {row.name}", operator, "x".join(map(str, row.shape)), *figures)
    sums = Table(
        "",
        *(Column(name, justify="right") for name in ("convolutions", "parameters", "multiply-adds", "memory")),
        caption="GFLOPs: forward pass, two for each multiply-add. MB, memory: activations kept for the backward pass.",
        **COMPACT,
    )
    parts = dict.fromkeys(row.part for row in rows if row.part)
    for name in (*parts, "total"):
        summed = [row for row in rows if name in (row.part, "total")]
        gflops, memory = (sum(getattr(row, key) for row in summed) for key in ("gflops", "activation_mb"))
        convolutions, parameters = sum(row.is_convolution for row in summed), sum(row.parameters for row in summed)
        sums.add_row(name, str(convolutions), f"{parameters:,}", f"{gflops / 2:.2f} G", f"{memory:.1f} MB")
    Console(highlight=False).print(table, sums, sep="\n")


_OPERATORS = {
    "conv_transpose2d": "transposed conv",
    "max_pool_with_switches": "pool + switches",
    "max_unpool": "unpool at switches",
    "upsample_bilinear2d": "bilinear",
    "upsample_nearest2d": "nearest",
}
"""Name in PyTorch → name in the table, if it differs."""


def _describe_operator(row: "LayerRow", size: Sequence[int], *, has_unpooling: bool) -> str:
    """Return `crop 64x64 -> 56x56`, `concatenate 512 + 512` or the name of the operator."""
    if row.name == "image":
        return "" if row.shape[1:] == tuple(size) else f"padded from {size[0]}x{size[1]}"
    if row.operator == "max_pool_with_switches" and not has_unpooling:  # its backward pass uses the switches
        return "max pool"
    if row.operator == "crop":
        before, after = ("x".join(map(str, shape[1:])) for shape in (row.inputs[0], row.shape))
        return f"crop {before} -> {after}"
    if row.operator == "cat":
        channels = [str(shape[0]) for shape in row.inputs]
        return f"concatenate {' + '.join(channels) if len(channels) < 4 else f'{len(channels)} maps'}"
    return _OPERATORS.get(row.operator, row.operator)


def _describe_input(arguments: Mapping[str, Any]) -> str:
    height, width = arguments["size"]
    channels = format_count(arguments["channels"], "channel")
    return f"image of {height}x{width}, {channels}, {arguments['classes']} classes"


def print_localization(report: "LocalizeReport", arguments: Mapping[str, Any]) -> None:
    """Print the classes found in each image, with the position of the largest logit, and the failures."""
    for image in report.images:
        print(image.image)
        for found in image.classes:
            row, column = found.peak
            share = format_percent(found.probability)
            print(f"  {found.name:<30} {share:>7}   strongest at row {row}, column {column}")
        if all(found.probability < MIN_RECOGNIZED for found in image.classes):
            print(f"  below {100 * MIN_RECOGNIZED:.0f} %: guesses, the classifier recognizes nothing")
    print(f"{format_count(len(report.images), 'heat map')} written to {arguments['output']}")
    print_failures(report.failures)


def print_config_keys(keys: Sequence[ConfigKey], arguments: Mapping[str, Any]) -> None:
    """Print the keys of a config with default, legal values and documentation."""
    for key in keys:
        default = list(key.default) if isinstance(key.default, tuple) else key.default
        print(f"{key.name}: {json.dumps(default)}  ({key.legal})")
        print(textwrap.indent(textwrap.fill(key.doc, 96), "    "))


def print_failures(failures: Iterable[tuple[Path, str]]) -> None:
    """Print the inputs that failed, on standard error; a reason of several inputs once, with their paths below it."""
    paths: dict[str, list[Path]] = {}
    for path, reason in failures:
        paths.setdefault(reason.removeprefix(f"{path}: "), []).append(path)
    for reason, (path, *others) in paths.items():
        if others:
            print(
                f"failed: {len(others) + 1} inputs: {reason}",
                *(f"  {p}" for p in (path, *others)),
                sep="\n",
                file=sys.stderr,
            )
        else:
            print(f"failed: {reason if str(path) in reason else f'{path}: {reason}'}", file=sys.stderr)


def _format_score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


PRINTERS: Mapping[str, Callable[[Any, Mapping[str, Any]], None]] = {
    "CheckReport": print_check,
    "Config": print_plan,
    "ConfigKey": print_config_keys,
    "ConversionResult": print_conversion,
    "CrossValidationResult": print_cross_validation,
    "EvaluationResult": print_evaluation,
    "ExportResult": print_export,
    "LayerRow": print_layers,
    "LocalizeReport": print_localization,
    "NetworkRow": print_networks,
    "PredictReport": print_predictions,
    "QuantizeResult": print_quantization,
    "TrainResult": print_training,
    "dict": print_mapping,
}
"""Name of a result's class (of a list: its items') → function. By name, because importing the classes is slow."""
