"""Export a model as one file of another runtime and compare the file with the model."""

import json
import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args

import torch

from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.exporting.formats import FORMATS, FormatName
from pixelwise.exporting.model_card import describe_export, require_own_card
from pixelwise.exporting.parity import compare_with_model
from pixelwise.exporting.result import ExportResult
from pixelwise.files import write_atomically
from pixelwise.inference.engines import choose_engine, get_installed_versions
from pixelwise.inference.int8_file import read_int8
from pixelwise.inference.predictor import Predictor, load
from pixelwise.lowering.graph import OUTPUTS, AnswerGraph, FrameGraph, capture
from pixelwise.lowering.onnx import join_answer, to_onnx
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
        raise InvalidArgumentError(f"min_agreement is {least}. Expected a share from 0 to 1.")
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
        full, labels_only = (Path(folder) / outputs / path.name for outputs in ("full", "labels"))
        for file in (full, labels_only):
            file.parent.mkdir()
        if row.from_onnx is None:
            graph = _build_graph(predictor, precision)
            for file, graph.with_logits in ((full, True), (labels_only, False)):
                torch.export.save(capture(graph, _make_example(predictor), dynamic=DYNAMIC), file)
        else:
            content = _build_onnx(predictor, precision, int8_graph)
            row.from_onnx(content, full)
            row.from_onnx(_drop_logits(content), labels_only)
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
        outputs = OUTPUTS if logits else OUTPUTS[:1]
        card = {
            **describe_export(predictor, file, outputs),
            "format": name,
            "precision": precision,
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


def _build_graph(predictor: Predictor, precision: ExportPrecision) -> AnswerGraph:
    compute = torch.float16 if precision == "fp16" else torch.float32
    return AnswerGraph(predictor.module, num_classes=len(predictor.classes.names), compute=compute)


def _build_onnx(predictor: Predictor, precision: ExportPrecision, int8_graph: bytes | None) -> bytes:
    """Build ONNX with labels and logits."""
    example = _make_example(predictor)
    if int8_graph is None:
        return to_onnx(_build_graph(predictor, precision), example, outputs=OUTPUTS, dynamic=DYNAMIC)
    frames = to_onnx(FrameGraph(predictor.module), example, outputs=("frames",), dynamic=DYNAMIC)
    return join_answer(frames, int8_graph, num_classes=len(predictor.classes.names))


def _drop_logits(content: bytes) -> bytes:
    """Remove the second output: capturing the model again takes seconds."""
    import onnx

    proto = onnx.load_model_from_string(content)
    del proto.graph.output[1:]
    return proto.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def _make_example(predictor: Predictor) -> torch.Tensor:
    dtype: torch.dtype = getattr(torch, predictor.spec.dtype)
    return torch.zeros(2, *EXAMPLE_SIZE, predictor.spec.channels, dtype=dtype)
