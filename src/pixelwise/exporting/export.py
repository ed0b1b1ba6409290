"""`pixelwise export`: a model as one file of another runtime, handed over only when proven equal."""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import torch

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.exporting.formats import FORMATS, Format, FormatName, Run, unchanged
from pixelwise.exporting.model_card import describe_export, require_own_card
from pixelwise.exporting.parity import Proof, prove
from pixelwise.files import write_atomically
from pixelwise.inference.engines import Source, with_network
from pixelwise.inference.predictor import Predictor, load
from pixelwise.lowering.graph import OUTPUTS, AnswerGraph, LogitsGraph
from pixelwise.lowering.quantize import quantize, quantizer_versions
from pixelwise.quantization.accuracy import (
    MAX_LOSS,
    Accuracy,
    Trial,
    allowed_loss,
    calibration_images,
    measure_accuracy,
    open_trial,
    require_accuracy,
)

logger = logging.getLogger(__name__)

Precision = Literal["fp32", "fp16", "int8"]

MIN_AGREEMENT: dict[Precision, float] = {"fp32": 0.9999, "fp16": 0.995, "int8": 0}
"""Share of labels that a file must share with the model in float32, or it is not written: of drawn images, but of
int8 of the validation images. There noise says nothing, and the mean IoU decides unless more is asked for."""

RUNNER = "predict_onnx.py"

EXAMPLE_SIZE = (77, 93)
"""Of the image that is traced: neither side can be taken for the other, or for a multiple of a stride."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What `export` has written."""

    file: Path
    beside: tuple[Path, ...]
    """The card, and whatever else belongs to the file."""
    num_bytes: int
    """Of the file with its weights."""
    proof: Proof
    accuracy: Accuracy | None = None
    """Of int8, on labeled images."""


def export(
    model: str | Path,
    output: str | Path,
    *,
    format: FormatName | None = None,
    logits: bool = False,
    precision: Precision = "fp32",
    data: str | Path | None = None,
    data_format: str | None = None,
    max_iou_drop: float | None = None,
    min_agreement: float | None = None,
) -> Exported:
    """Writes a model as a graph from (B, H, W, C) pixels to (B, H, W) labels, for images of any size.

    Normalization, padding, cropping and the choice of the class are in the graph. It is compared with
    the model on noise and on drawn scenes before anything is written. Beside it a JSON card, and for
    ONNX a script that labels images with it.

    Args:
        model: a run folder or a model file.
        output: a file that ends in .onnx, .xml or .pt2, or a folder, in which it is named "model".
        format: "onnx", "openvino" or "torch-export"; None: as the ending of `output` says, else ONNX.
        logits: the graph also gives the logits (B, K, H, W) float32.
        precision: "fp16" halves weights and arithmetic of the network, "int8" quarters them, for which it
            needs `data`; not as torch-export.
        data: of int8, a dataset of the model's classes: scales are found on 32 images of its training split,
            and the mean IoU is measured on its validation split.
        data_format: of `data`; None: recognized.
        max_iou_drop: of int8, how many points of mean IoU (hundredths of the fraction that `evaluate` gives)
            the file may have less than the model in float32, from 0 to 100; None: 1.
        min_agreement: share of labels, in [0, 1], that must be the model's; None: 0.9999, of fp16 0.995. Of
            int8 it is asked of the validation images, and None asks for none.

    Raises:
        InvalidArgumentError: an unknown choice, a missing extra, or a file that does not agree with the model.
    """
    if precision not in get_args(Precision):
        raise unknown_name("precision", precision, get_args(Precision))
    least = MIN_AGREEMENT[precision] if min_agreement is None else min_agreement
    if not 0 <= least <= 1:
        raise InvalidArgumentError(f"min_agreement is {least}, but is a share of the labels, from 0 to 1.")
    name, path = _target(Path(output), format)
    most = _allowed_loss(max_iou_drop, precision, name, data)
    require_own_card(path)
    versions = _versions(name, precision)
    predictor = load(model, device="cpu", precision="fp32", engine="torch")
    trial = None if data is None else open_trial(data, data_format, model, predictor)
    with tempfile.TemporaryDirectory() as folder:
        full, labels = (_file(Path(folder) / part, path.name) for part in ("full", "labels"))
        logger.info(f"writing {predictor.spec.network.name} as {name}")
        change = partial(quantize, inputs=_batches(trial, predictor)) if trial else unchanged
        FORMATS[name].write(_graph(predictor, precision), _example(predictor), full, labels, change)
        made = full if logits else labels
        logger.info("comparing it with the model")
        read = FORMATS[name].read
        proof = prove(predictor, read(made), read(full))
        accuracy = _measured(trial, predictor, read(made)) if trial else None
        if accuracy:
            require_accuracy(accuracy, most, path)
        _require_agreement((accuracy or proof).agreement, least, proof, path)
        card = describe_export(
            predictor,
            made,
            format_name=name,
            precision=precision,
            outputs=OUTPUTS if logits else OUTPUTS[:1],
            proof=proof,
            accuracy=accuracy,
            versions=versions,
        )
        made.with_suffix(".json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if name == "onnx":
            made.with_name(RUNNER).write_bytes(Path(__file__).with_name(RUNNER).read_bytes())
        return replace(_hand_over(made, path, FORMATS[name], proof), accuracy=accuracy)


def _allowed_loss(max_iou_drop: float | None, precision: Precision, name: FormatName, data: str | Path | None) -> float:
    """In points. InvalidArgumentError where int8 lacks something, or another precision is given what only int8
    takes."""
    if precision != "int8":
        if data is not None or max_iou_drop is not None:
            raise InvalidArgumentError(
                f"--data and --max-iou-drop go with --precision int8, not {precision}; leave them out."
            )
        return MAX_LOSS
    if not FORMATS[name].through_onnx:
        able = " or ".join(key for key, row in FORMATS.items() if row.through_onnx)
        raise InvalidArgumentError(
            f"{name} has no int8 form here; choose the format {able}, or the precision fp32 or fp16."
        )
    if data is None:
        raise InvalidArgumentError(
            "int8 needs images to find its scales on and labels to measure its loss; name a dataset with --data."
        )
    return allowed_loss(max_iou_drop)


def _versions(name: FormatName, precision: Precision) -> Mapping[str, str]:
    """Of the packages that make the file; InvalidArgumentError where one is absent."""
    versions = FORMATS[name].versions()
    if precision != "int8":
        return versions
    return {**versions, **quantizer_versions()}


def _target(output: Path, name: FormatName | None) -> tuple[FormatName, Path]:
    """The format and the file."""
    if name is not None and name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    endings = {row.ending: key for key, row in FORMATS.items()}
    told = endings.get(output.suffix)
    if told and name and told != name:
        raise InvalidArgumentError(
            f"{output} ends as {told} does, but the format asked for is {name}: name it *{FORMATS[name].ending}."
        )
    name = name or told or "onnx"
    if not told:
        output = output / f"model{FORMATS[name].ending}"
    if output.is_dir():
        raise InvalidArgumentError(f"{output} is a folder; name another file.")
    return name, output


def _file(folder: Path, name: str) -> Path:
    folder.mkdir()
    return folder / name


def _graph(predictor: Predictor, precision: Precision) -> AnswerGraph:
    compute = torch.float16 if precision == "fp16" else torch.float32
    module = predictor.module
    if precision == "int8":  # a normalization on its own would stay in float32
        source = Source(module=module, channels=predictor.spec.channels)
        module = with_network(module, source.folded("fp32"))
    return AnswerGraph(LogitsGraph(module, compute=compute), num_classes=len(predictor.classes.names))


def _example(predictor: Predictor) -> torch.Tensor:
    dtype: torch.dtype = getattr(torch, predictor.spec.dtype)
    return torch.zeros(2, *EXAMPLE_SIZE, predictor.spec.channels, dtype=dtype)


def _batches(trial: Trial, predictor: Predictor) -> Iterator[Array]:
    return (image[None] for image in calibration_images(trial, predictor))


def _measured(trial: Trial, predictor: Predictor, run: Run) -> Accuracy:
    return measure_accuracy(trial, predictor, lambda image: run(image[None])[0][0])


def _require_agreement(agreement: float, least: float, proof: Proof, path: Path) -> None:
    """In a network that records max locations, rounding may decide between two values of a window, and the
    logits around it with them; so the one who exports may ask for less.
    """
    if not agreement >= least:
        raise InvalidArgumentError(
            f"{path} is not written: its labels agree with the model's on {agreement:.4%} of the pixels, and "
            f"{least:.2%} are asked for; logits differ by up to {proof.largest_logit_gap:.3g}. Choose another format "
            f"or precision, or ask for less with --min-agreement."
        )


def _hand_over(made: Path, path: Path, row: Format, proof: Proof) -> Exported:
    """Each file whole or not at all; the one that is named comes last, when all it needs is there."""
    weights = [made.with_suffix(ending) for ending in row.beside]
    others = [file for file in sorted(made.parent.iterdir()) if file not in (made, *weights)]
    for file in (*others, *weights, made):
        write_atomically(path.with_name(file.name), file.read_bytes())
    return Exported(
        file=path,
        beside=tuple(path.with_name(file.name) for file in (*weights, *others)),
        num_bytes=sum(file.stat().st_size for file in (made, *weights)),
        proof=proof,
    )
