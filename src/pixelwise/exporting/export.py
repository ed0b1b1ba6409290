"""Export a model as one file of another runtime and compare the file with the model."""

import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pixelwise.data.io.images import Array
from pixelwise.data.synthetic.canvas import MIN_SIDE
from pixelwise.errors import InvalidArgumentError, find_name
from pixelwise.exporting.formats import FORMATS, ExportFormat, FormatName, Run
from pixelwise.exporting.result import ExportResult, Parity
from pixelwise.files import compute_file_sha256, write_atomically
from pixelwise.inference.engines import choose_engine, draw_noise, draw_scene, get_installed_versions
from pixelwise.inference.predictor import Predictor
from pixelwise.lowering.capture import capture
from pixelwise.lowering.graph import INPUT, OUTPUTS, FrameGraph, LabelGraph
from pixelwise.lowering.onnx import drop_logits, join_graphs, set_opset, to_onnx
from pixelwise.model_file import ModelSpec
from pixelwise.output_files import (
    FileState,
    compare_mark,
    find_mark_state,
    mark_content,
    read_mark,
    require_replaceable,
)
from pixelwise.quantization.result import Int8Accuracy
from pixelwise.shapes import Size
from pixelwise.version import __version__

logger = logging.getLogger(__name__)

ExportPrecision = Literal["fp32", "fp16", "int8"]

MIN_AGREEMENT: dict[ExportPrecision, float] = {"fp32": 0.9999, "fp16": 0.995, "int8": 0}
"""Smallest share of labels that a file must share with the model in float32. For int8, `quantize` has limited the loss
of mean IoU; labels of synthetic images carry no information there."""

RUNNER = "predict_onnx.py"

EXAMPLE_SIZE = (77, 93)
"""Size of the traced image: the sides differ and are multiples of no stride."""
DYNAMIC = (0, 1, 2)
"""Dimensions of the input that may change, unless the size is fixed: batch, height and width."""

NOISE_SIZES: tuple[Size, ...] = ((1, 1), (1, 7), (61, 33), (45, 64))
SCENE_SIZES: tuple[Size, ...] = ((67, 93), (96, 129))
BATCH_SIZE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportTarget:
    """The files of an export, and what was asked for."""

    name: FormatName
    path: Path
    request: Mapping[str, Any]

    @property
    def card(self) -> Path:
        """Path of the model card, which records the checksums of the other files."""
        return self.path.with_suffix(".json")

    @property
    def model_files(self) -> list[Path]:
        """Paths of the graph and of its weights."""
        weights_suffix = FORMATS[self.name].weights_suffix
        return [self.path, *([self.path.with_suffix(weights_suffix)] if weights_suffix else [])]

    def find_states(self) -> dict[Path, tuple[FileState, str]]:
        """Return the state of each file."""
        mark = read_mark(self.card)
        states = {self.card: find_mark_state(self.card, "export", self.request)}
        for path in self.model_files:
            if not os.path.lexists(path):
                states[path] = "absent", ""
            elif path.is_dir():
                states[path] = "blocked", ""
            elif mark is None or path.name not in mark.files:
                states[path] = "foreign", ""
            elif not path.exists() or mark.files[path.name] != compute_file_sha256(path):
                states[path] = "edited", ""
            else:
                states[path] = compare_mark(replace(mark, is_unchanged=True), "export", self.request)
        if self.name == "onnx":
            runner = self.path.with_name(RUNNER)
            states[runner] = find_mark_state(runner, "export", {})
        return states

    def require_replaceable(self, *, overwrite: bool) -> None:
        """Raise InvalidArgumentError if a file exists that this request did not write, unless `overwrite`."""
        require_replaceable(self.find_states(), overwrite=overwrite)


def resolve_target(
    output: Path,
    name: FormatName | None,
    precision: ExportPrecision,
    *,
    opset: int | None = None,
    fixed_size: Size | None = None,
) -> tuple[FormatName, Path]:
    """Return the format and the file to write. Raises InvalidArgumentError if the export is not possible."""
    name = find_name("format", name, FORMATS) if name else None
    by_suffix = {row.suffix: key for key, row in FORMATS.items()}
    suffix = output.suffix or (output.name if output.name.startswith(".") else "")
    from_suffix = by_suffix.get(suffix) if output.suffix else None
    if suffix and not from_suffix and not output.is_dir():
        known = ", ".join(f"{row.suffix} ({key})" for key, row in FORMATS.items())
        raise InvalidArgumentError(
            f"{output}: {suffix} is not the suffix of a format. Use {known}, or the name of a folder without a suffix."
        )
    if from_suffix and name and from_suffix != name:
        raise InvalidArgumentError(
            f"The suffix of {output} means {from_suffix}, but the format is {name}. Use *{FORMATS[name].suffix}."
        )
    name = name or from_suffix or "onnx"
    if not from_suffix:
        output = output / f"model{FORMATS[name].suffix}"
    if output.is_dir():
        raise InvalidArgumentError(f"{output} is a folder. Expected the name of a file.")
    choose_engine(FORMATS[name].engine)  # an error if it is not installed
    if precision == "int8" and FORMATS[name].from_onnx is None:
        able = " or ".join(key for key, row in FORMATS.items() if row.from_onnx)
        raise InvalidArgumentError(f"{name} does not support int8. Use the format {able}, or fp32 or fp16.")
    if opset is not None and name != "onnx":
        raise InvalidArgumentError(f"opset is {opset}, but {name} has no opsets. Use the format onnx, or omit it.")
    if fixed_size and min(fixed_size) < 1:
        raise InvalidArgumentError(f"fixed_size is {fixed_size}. Expected a height and a width from 1.")
    if fixed_size and precision == "int8":
        raise InvalidArgumentError("Int8 files take images of any size. Omit fixed_size, or use fp32 or fp16.")
    return name, output


def export_predictor(
    predictor: Predictor,
    target: ExportTarget,
    *,
    logits: bool,
    precision: ExportPrecision,
    min_agreement: float,
    int8: tuple[bytes, Mapping[str, Any]] | None = None,
    opset: int | None = None,
    fixed_size: Size | None = None,
) -> ExportResult:
    """Write a model as a file of another runtime, with its card, and compare the file with the model.

    Args:
        predictor: the model in float32 on the CPU.
        target: the files to write.
        int8: for the precision "int8", the graph and the metadata of the model's int8 file.
        opset: opset of an ONNX file; None: the oldest.
        fixed_size: height and width of the only images that the file takes, one at a time; None: any.
    """
    name, path = target.name, target.path
    row = FORMATS[name]
    accuracy = Int8Accuracy.from_dict(int8[1]["accuracy"]) if int8 else None
    logger.info(f"Exporting {predictor.spec.network.name} as {name}")
    with tempfile.TemporaryDirectory() as folder:
        full, labels_only = _write_graphs(
            Path(folder), path.name, row, predictor, precision, int8 and int8[0], opset=opset, fixed_size=fixed_size
        )
        file = full if logits else labels_only
        logger.info("Comparing the file with the model")
        parity = compare_with_model(predictor, row.read(file), row.read(full), fixed_size)
        agreement = min(engine.agreement for engine in accuracy.engines.values()) if accuracy else parity.agreement
        if not agreement >= min_agreement:
            # In networks that pool with switches, rounding errors move whole values, so users may lower the limit.
            raise InvalidArgumentError(
                f"{path} was not written. Its labels agree with the model's on {100 * agreement:.4f} % of the pixels. "
                f"At least {100 * min_agreement:.2f} % is required. Logits differ by up to "
                f"{parity.largest_logit_gap:.3g}. Use another format or precision, or require less with "
                f"--min-agreement."
            )
        card = {
            "format": name,
            "precision": precision,
            **_describe_export(predictor, file, OUTPUTS if logits else OUTPUTS[:1], fixed_size),
            "parity": asdict(parity),
            **({"accuracy": asdict(accuracy)} if accuracy else {}),
            "versions": {"pixelwise": __version__, **get_installed_versions()},
        }
        text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
        checksums = {other.name: compute_file_sha256(other) for other in sorted(file.parent.iterdir())}
        file.with_suffix(".json").write_bytes(mark_content(text.encode(), "export", target.request, checksums))
        if name == "onnx":
            runner = Path(__file__).with_name(RUNNER).read_bytes()
            file.with_name(RUNNER).write_bytes(mark_content(runner, "export", {}))
        others = [other for other in sorted(file.parent.iterdir()) if other != file]
        for old in target.model_files:  # an interrupted export leaves no file that its card does not describe
            if old.exists() and compute_file_sha256(old) != checksums[old.name]:
                old.unlink()
        for source in (*others, file):  # the file itself comes last, when everything that it needs is in place
            write_atomically(path.with_name(source.name), source.read_bytes())
        return ExportResult(
            file=path,
            other_files=tuple(path.with_name(other.name) for other in others),
            num_bytes=sum(f.stat().st_size for f in (file, *others) if f.suffix in (row.suffix, row.weights_suffix)),
            parity=parity,
            accuracy=accuracy,
        )


def _write_graphs(
    folder: Path,
    name: str,
    row: ExportFormat,
    predictor: Predictor,
    precision: ExportPrecision,
    int8_graph: bytes | None,
    *,
    opset: int | None,
    fixed_size: Size | None,
) -> tuple[Path, Path]:
    """Write a file with labels and logits, and one with labels only, which the comparison and the user need."""
    full, labels_only = folder / "full" / name, folder / "labels" / name
    for file in (full, labels_only):
        file.parent.mkdir()
    num_classes = len(predictor.classes.names)
    shape = (1, *fixed_size) if fixed_size else (2, *EXAMPLE_SIZE)
    dynamic = () if fixed_size else DYNAMIC
    example = torch.zeros(*shape, predictor.spec.channels, dtype=getattr(torch, predictor.spec.dtype))
    compute = torch.float16 if precision == "fp16" else torch.float32
    graph = LabelGraph(predictor.module, num_classes=num_classes, rule=predictor.decision_rule, compute=compute)
    if row.from_onnx is None:
        for file, graph.with_logits in ((full, True), (labels_only, False)):
            torch.export.save(capture(graph, example, dynamic=dynamic), file)
        return full, labels_only
    if int8_graph is None:
        content = to_onnx(graph, example, outputs=OUTPUTS, dynamic=dynamic)
    else:
        frames = to_onnx(FrameGraph(predictor.module), example, outputs=("frames",), dynamic=dynamic)
        content = join_graphs(frames, int8_graph, num_classes=num_classes, rule=predictor.decision_rule)
    content = set_opset(content, opset)
    row.from_onnx(content, full)
    row.from_onnx(drop_logits(content), labels_only)
    return full, labels_only


def compare_with_model(predictor: Predictor, run: Run, run_with_logits: Run, fixed_size: Size | None = None) -> Parity:
    """Compare labels and logits on noise and on drawn scenes: odd sizes, single pixels, single images and batches.

    Args:
        predictor: the model in float32 on the CPU.
        run: runs the file; its labels are compared.
        run_with_logits: runs the same graph with logits.
        fixed_size: the only size that the file takes, in batches of one.

    Raises:
        InvalidArgumentError: the labels have a different shape or dtype than the model's.
    """
    equal = pixels = 0
    gap = largest = 0.0
    batches = list(draw_batches(predictor.spec, fixed_size))
    for images in batches:
        (labels, *_), (_, logits) = run(images), run_with_logits(images)
        _require_labels(labels, images, predictor)
        for image, image_labels, image_logits in zip(images, labels, logits, strict=True):
            expected = predictor.predict(image, tiling="none", keep_logits=True)
            equal += int((expected.labels == image_labels).sum())
            pixels += expected.labels.size
            # NaN counts as an infinite gap: max() would ignore it.
            gap = max(gap, float(np.nan_to_num(np.abs(expected.logits - image_logits), nan=np.inf).max()))
            largest = max(largest, float(np.abs(expected.logits).max()))
    sizes = tuple((images.shape[1], images.shape[2]) for images in batches)
    return Parity(agreement=equal / pixels, largest_logit_gap=gap, largest_logit=largest, sizes=sizes)


def draw_batches(spec: ModelSpec, fixed_size: Size | None = None) -> Iterator[Array]:
    """Draw batches (B, H, W, C) in the model's dtype, with about the model's mean and std in each channel."""
    for sizes, draw in ((NOISE_SIZES, draw_noise), (SCENE_SIZES, draw_scene)):
        for height, width in (fixed_size,) if fixed_size else sizes:
            count = BATCH_SIZE if width % 2 and not fixed_size else 1
            drawn_size = (height, width) if draw is draw_noise else (max(height, MIN_SIDE), max(width, MIN_SIDE))
            yield np.stack([draw(seed, drawn_size, spec)[:height, :width] for seed in range(count)])


def _require_labels(labels: Array, images: Array, predictor: Predictor) -> None:
    dtype = "uint8" if len(predictor.classes.names) <= 256 else "uint16"
    if labels.shape != images.shape[:3] or labels.dtype != dtype:
        raise InvalidArgumentError(
            f"The file was not written. For images {images.shape} it gives labels {labels.shape} {labels.dtype}, "
            f"expected {images.shape[:3]} {dtype}. Use another format or precision, and report this."
        )


def _describe_export(
    predictor: Predictor, path: Path, outputs: tuple[str, ...], fixed_size: Size | None
) -> dict[str, Any]:
    """Describe a file. The result has no time, host or path, so that the same export always gives the same card."""
    spec = predictor.spec
    num_classes = len(spec.classes.names)
    batch, height, width = (1, *fixed_size) if fixed_size else ("B", "H", "W")
    described: dict[str, dict[str, Any]] = {
        "labels": {"shape": [batch, height, width], "dtype": "uint8" if num_classes <= 256 else "uint16"},
        "logits": {"shape": [batch, num_classes, height, width], "dtype": "float32"},
    }
    return {
        "file": path.name,
        "sha256": compute_file_sha256(path),
        "network": spec.network.name,
        "input": {
            "name": INPUT,
            "shape": [batch, height, width, spec.channels],
            "dtype": spec.dtype,
            "units": "the raw units of the training images",
            **({"nodata": spec.nodata.to_plain()} if spec.nodata else {}),
        },
        "outputs": [{"name": name, **described[name]} for name in outputs],
        "classes": list(spec.classes.names),
        "colors": [list(color) for color in spec.classes.colors],
        **({"threshold": _describe_threshold(predictor)} if predictor.threshold is not None else {}),
        "label_mapping": spec.classes.to_dict()["label_mapping"],
        "tiling": _describe_tiling(predictor),
    }


def _describe_threshold(predictor: Predictor) -> dict[str, Any]:
    """Describe which class the labels of the file show, from which probability on."""
    return {"class": predictor.classes.names[predictor.decision_rule.foreground], "probability": predictor.threshold}


def _describe_tiling(predictor: Predictor) -> dict[str, Any]:
    """Describe how to cut an image into tiles that give the same labels as the whole image.

    A tile for rows [a, b), with `a` a multiple of the stride, reads rows [a - top, b + bottom), with the halo rounded
    up to whole strides and clipped to the image. The same holds for columns.
    """
    geometry = predictor.tile_planner.geometry
    if geometry is None:
        return {"exact": False, "reason": "the receptive field is the whole image"}
    (rows, columns), halo = geometry.stride, geometry.halo
    return {
        "exact": True,
        "stride": [rows, columns],
        "halo": asdict(halo),
        "receptive_field": list(geometry.receptive_field),
        "size_multiple": geometry.size_multiple,
    }
