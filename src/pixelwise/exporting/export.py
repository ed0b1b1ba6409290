"""Export a model as one file of another runtime and compare the file with the model."""

import json
import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args

import torch

from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.exporting.formats import FORMATS, ExportFormat, FormatName
from pixelwise.exporting.model_card import describe_export, require_own_card
from pixelwise.exporting.parity import compare_with_model
from pixelwise.exporting.result import ExportResult
from pixelwise.files import write_atomically
from pixelwise.inference.engines import choose_engine, get_installed_versions
from pixelwise.inference.int8_file import read_int8
from pixelwise.inference.predictor import Predictor, load
from pixelwise.lowering.graph import OUTPUTS, AnswerGraph, FrameGraph, capture
from pixelwise.lowering.onnx import drop_logits, join_answer, to_onnx
from pixelwise.quantization.result import Int8Accuracy
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


def export(
    model: str | Path,
    output: str | Path,
    *,
    format: FormatName | None = None,
    logits: bool = False,
    precision: ExportPrecision = "fp32",
    min_agreement: float | None = None,
) -> ExportResult:
    """Export a model and compare the file with the model, see `pixelwise.export`."""
    if precision not in get_args(ExportPrecision):
        raise unknown_name("precision", precision, get_args(ExportPrecision))
    least = MIN_AGREEMENT[precision] if min_agreement is None else min_agreement
    if not 0 <= least <= 1:
        raise InvalidArgumentError(f"min_agreement is {least}. Expected a fraction from 0 to 1.")
    name, path = _resolve_target(Path(output), format)
    row = FORMATS[name]
    choose_engine(row.engine)  # an error if it is not installed
    if precision == "int8" and row.from_onnx is None:
        able = " or ".join(key for key, other in FORMATS.items() if other.from_onnx)
        raise InvalidArgumentError(f"{name} does not support int8. Use the format {able}, or fp32 or fp16.")
    require_own_card(path)
    predictor = load(model, device="cpu", precision="fp32", engine="torch")
    int8_graph, accuracy = None, None
    if precision == "int8":
        int8_graph, metadata = read_int8(model)
        accuracy = Int8Accuracy.from_dict(metadata["accuracy"])
    logger.info(f"Exporting {predictor.spec.network.name} as {name}")
    with tempfile.TemporaryDirectory() as folder:
        full, labels_only = _write_graphs(Path(folder), path.name, row, predictor, precision, int8_graph)
        file = full if logits else labels_only
        logger.info("Comparing the file with the model")
        parity = compare_with_model(predictor, row.read(file), row.read(full))
        agreement = min(engine.agreement for engine in accuracy.engines.values()) if accuracy else parity.agreement
        if not agreement >= least:
            # In networks that pool with switches, rounding errors move whole values, so users may lower the limit.
            raise InvalidArgumentError(
                f"{path} was not written. Its labels agree with the model's on {agreement:.4%} of the pixels; at least "
                f"{least:.2%} is required. Logits differ by up to {parity.largest_logit_gap:.3g}. Use another format "
                f"or precision, or require less with --min-agreement."
            )
        card = {
            "format": name,
            "precision": precision,
            **describe_export(predictor, file, OUTPUTS if logits else OUTPUTS[:1]),
            "parity": asdict(parity),
            **({"accuracy": asdict(accuracy)} if accuracy else {}),
            "versions": {"pixelwise": __version__, **get_installed_versions()},
        }
        file.with_suffix(".json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if name == "onnx":
            file.with_name(RUNNER).write_bytes(Path(__file__).with_name(RUNNER).read_bytes())
        others = [other for other in sorted(file.parent.iterdir()) if other != file]
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
) -> tuple[Path, Path]:
    """Write a file with labels and logits, and one with labels only, which the comparison and the user need."""
    full, labels_only = folder / "full" / name, folder / "labels" / name
    for file in (full, labels_only):
        file.parent.mkdir()
    num_classes = len(predictor.classes.names)
    example = torch.zeros(2, *EXAMPLE_SIZE, predictor.spec.channels, dtype=getattr(torch, predictor.spec.dtype))
    compute = torch.float16 if precision == "fp16" else torch.float32
    graph = AnswerGraph(predictor.module, num_classes=num_classes, compute=compute)
    if row.from_onnx is None:
        for file, graph.with_logits in ((full, True), (labels_only, False)):
            torch.export.save(capture(graph, example, dynamic=DYNAMIC), file)
        return full, labels_only
    if int8_graph is None:
        content = to_onnx(graph, example, outputs=OUTPUTS, dynamic=DYNAMIC)
    else:
        frames = to_onnx(FrameGraph(predictor.module), example, outputs=("frames",), dynamic=DYNAMIC)
        content = join_answer(frames, int8_graph, num_classes=num_classes)
    row.from_onnx(content, full)
    row.from_onnx(drop_logits(content), labels_only)
    return full, labels_only


def _resolve_target(output: Path, name: FormatName | None) -> tuple[FormatName, Path]:
    """Return the format and the file to write."""
    if name is not None and name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    by_suffix = {row.suffix: key for key, row in FORMATS.items()}
    from_suffix = by_suffix.get(output.suffix)
    if from_suffix and name and from_suffix != name:
        raise InvalidArgumentError(
            f"The suffix of {output} means {from_suffix}, but the format is {name}. Use *{FORMATS[name].suffix}."
        )
    name = name or from_suffix or "onnx"
    if not from_suffix:
        output = output / f"model{FORMATS[name].suffix}"
    if output.is_dir():
        raise InvalidArgumentError(f"{output} is a folder. Expected the name of a file.")
    return name, output
