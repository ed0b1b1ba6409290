"""`pixelwise export`: a model as one file of another runtime, handed over only when proven equal."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from pixelwise.data.images import write_atomically
from pixelwise.errors import RequestError, unknown_name
from pixelwise.exporting.card import describe_export, require_own_card
from pixelwise.exporting.formats import FORMATS, Format, FormatName
from pixelwise.exporting.proof import Proof, prove
from pixelwise.graphs.graph import OUTPUTS, AnswerGraph, LogitsGraph
from pixelwise.inference.predictor import Predictor, load
from pixelwise.progress import Progress, Silent

Precision = Literal["fp32", "fp16"]

MIN_AGREEMENT: dict[Precision, float] = {"fp32": 0.9999, "fp16": 0.995}
"""Share of labels that a file must share with the model in float32, or it is not written."""

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


def export(
    model: str | Path,
    output: str | Path,
    *,
    format: FormatName | None = None,
    logits: bool = False,
    precision: Precision = "fp32",
    min_agreement: float | None = None,
    progress: Progress | None = None,
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
        precision: "fp16" halves weights and arithmetic of the network.
        min_agreement: share of labels, in [0, 1], that must be the model's; None: 0.9999, of fp16 0.995.

    Raises:
        RequestError: an unknown choice, a missing extra, or a file that does not agree with the model.
    """
    if precision not in get_args(Precision):
        raise unknown_name("precision", precision, get_args(Precision))
    least = MIN_AGREEMENT[precision] if min_agreement is None else min_agreement
    if not 0 <= least <= 1:
        raise RequestError(f"min_agreement is {least}, but is a share of the labels, from 0 to 1.")
    name, path = _target(Path(output), format)
    require_own_card(path)
    versions = FORMATS[name].versions()
    progress = progress or Silent()
    predictor = load(model, device="cpu", precision="fp32", engine="torch")
    with tempfile.TemporaryDirectory() as folder:
        full, labels = (_file(Path(folder) / part, path.name) for part in ("full", "labels"))
        progress.say(f"writing {predictor.spec.network.name} as {name}")
        FORMATS[name].write(_graph(predictor, precision), _example(predictor), full, labels)
        made = full if logits else labels
        progress.say("comparing it with the model")
        read = FORMATS[name].read
        proof = prove(predictor, read(made), read(full))
        _require_agreement(proof, least, path)
        card = describe_export(
            predictor,
            made,
            format_name=name,
            precision=precision,
            outputs=OUTPUTS if logits else OUTPUTS[:1],
            proof=proof,
            versions=versions,
        )
        made.with_suffix(".json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if name == "onnx":
            made.with_name(RUNNER).write_bytes(Path(__file__).with_name(RUNNER).read_bytes())
        return _hand_over(made, path, FORMATS[name], proof)


def _target(output: Path, name: FormatName | None) -> tuple[FormatName, Path]:
    """The format and the file."""
    if name is not None and name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    endings = {row.ending: key for key, row in FORMATS.items()}
    told = endings.get(output.suffix)
    if told and name and told != name:
        raise RequestError(
            f"{output} ends as {told} does, but the format asked for is {name}: name it *{FORMATS[name].ending}."
        )
    name = name or told or "onnx"
    if not told:
        output = output / f"model{FORMATS[name].ending}"
    if output.is_dir():
        raise RequestError(f"{output} is a folder; name another file.")
    return name, output


def _file(folder: Path, name: str) -> Path:
    folder.mkdir()
    return folder / name


def _graph(predictor: Predictor, precision: Precision) -> AnswerGraph:
    compute = torch.float16 if precision == "fp16" else torch.float32
    return AnswerGraph(LogitsGraph(predictor.module, compute=compute), num_classes=len(predictor.classes.names))


def _example(predictor: Predictor) -> torch.Tensor:
    dtype: torch.dtype = getattr(torch, predictor.spec.dtype)
    return torch.zeros(2, *EXAMPLE_SIZE, predictor.spec.channels, dtype=dtype)


def _require_agreement(proof: Proof, least: float, path: Path) -> None:
    """In a network that records max locations, rounding may decide between two values of a window, and the
    logits around it with them; so the one who exports may ask for less.
    """
    if not proof.agreement >= least:
        raise RequestError(
            f"{path} is not written: its labels agree with the model's on {proof.agreement:.4%} of the pixels, and "
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
