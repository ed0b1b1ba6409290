"""The model card of an exported file: its inputs, outputs and measured agreement with the model, as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.exporting.result import Parity
from pixelwise.files import compute_file_sha256, read_json
from pixelwise.inference.predictor import Predictor
from pixelwise.lowering.graph import INPUT, OUTPUTS
from pixelwise.quantization.result import Int8Accuracy
from pixelwise.version import __version__


def describe_export(
    predictor: Predictor,
    path: Path,
    *,
    format_name: str,
    precision: str,
    outputs: tuple[str, ...],
    parity: Parity,
    accuracy: Int8Accuracy | None,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Return the content of the card. It has no time, host or path, so that equal exports give equal cards."""
    spec = predictor.spec
    num_classes = len(spec.classes.names)
    return {
        "file": path.name,
        "sha256": compute_file_sha256(path),
        "format": format_name,
        "precision": precision,
        "network": spec.network.name,
        "input": {
            "name": INPUT,
            "shape": ["B", "H", "W", spec.channels],
            "dtype": spec.dtype,
            "units": "the raw units of the training images",
        },
        "outputs": [_output(name, num_classes) for name in outputs],
        "classes": list(spec.classes.names),
        "colors": [list(color) for color in spec.classes.colors],
        "label_mapping": {str(value): label for value, label in spec.classes.label_mapping.items()},
        "tiling": _tiling(predictor),
        "parity": asdict(parity),
        **({"accuracy": asdict(accuracy)} if accuracy else {}),
        "versions": {"pixelwise": __version__, "torch": torch.__version__, **versions},
    }


def require_own_card(path: Path) -> None:
    """Raise InvalidArgumentError if the name of the card is taken by another export or another file."""
    card = path.with_suffix(".json")
    if not card.exists():
        return
    try:
        owner = read_json(card)["file"]
    except (DataError, KeyError, TypeError):
        owner = None
    if owner != path.name:
        content = f"the model card of {owner}" if owner else "not a model card"
        raise InvalidArgumentError(f"{card} exists and is {content}. Write {path.name} to another name or folder.")


def _output(name: str, num_classes: int) -> dict[str, Any]:
    if name == OUTPUTS[0]:
        return {"name": name, "shape": ["B", "H", "W"], "dtype": "uint8" if num_classes <= 256 else "uint16"}
    return {"name": name, "shape": ["B", num_classes, "H", "W"], "dtype": "float32"}


def _tiling(predictor: Predictor) -> dict[str, Any]:
    """Describe how to cut an image into tiles that give the same labels as the whole image.

    A tile for rows [a, b), with `a` a multiple of the stride, reads rows [a - top, b + bottom), with the halo rounded
    up to whole strides and clipped to the image. The same holds for columns.
    """
    geometry = predictor.geometry
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
