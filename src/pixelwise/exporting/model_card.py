"""The JSON card beside an exported file: what it takes, what it gives, and what it was measured to be."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.exporting.parity import Proof
from pixelwise.files import compute_file_sha256, read_json
from pixelwise.inference.predictor import Predictor
from pixelwise.lowering.graph import INPUT, OUTPUTS
from pixelwise.quantization.accuracy import Accuracy
from pixelwise.version import __version__


def describe_export(
    predictor: Predictor,
    path: Path,
    *,
    format_name: str,
    precision: str,
    outputs: tuple[str, ...],
    proof: Proof,
    accuracy: Accuracy | None,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Plain values, as JSON holds them; no time, host or path, so that equal exports have equal cards."""
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
            "units": "as the training images have them",
        },
        "outputs": [_output(name, num_classes) for name in outputs],
        "classes": list(spec.classes.names),
        "colors": [list(color) for color in spec.classes.colors],
        "label_mapping": {str(value): label for value, label in spec.classes.label_mapping.items()},
        "tiling": _tiling(predictor),
        "proof": asdict(proof),
        **({"accuracy": asdict(accuracy)} if accuracy else {}),
        "versions": {"pixelwise": __version__, "torch": torch.__version__, **versions},
    }


def require_own_card(path: Path) -> None:
    """InvalidArgumentError where the card's name is taken: by that of another export, or by a file that is no card."""
    place = path.with_suffix(".json")
    if not place.exists():
        return
    try:
        owner = read_json(place)["file"]
    except (DataError, KeyError, TypeError):
        owner = None
    if owner != path.name:
        what = f"the card of {owner}" if owner else "no card of an export"
        raise InvalidArgumentError(
            f"{place} would be replaced, but is {what}; give {path.name} another name or folder."
        )


def _output(name: str, num_classes: int) -> dict[str, Any]:
    if name == OUTPUTS[0]:
        return {"name": name, "shape": ["B", "H", "W"], "dtype": "uint8" if num_classes <= 256 else "uint16"}
    return {"name": name, "shape": ["B", num_classes, "H", "W"], "dtype": "float32"}


def _tiling(predictor: Predictor) -> dict[str, Any]:
    """How to cut an image into tiles whose labels are those of the whole image.

    A tile answers for rows [a, b), `a` a multiple of the stride, and is given [a - top, b + bottom), the
    halo rounded up to whole strides, as far as the image goes. Columns alike.
    """
    field = predictor.field
    if field is None:
        return {"exact": False, "reason": "the network sees the whole image"}
    (rows, columns), halo = field.stride, field.halo
    return {
        "exact": True,
        "stride": [rows, columns],
        "halo": asdict(halo),
        "receptive_field": list(field.receptive_field),
        "size_multiple": field.size_multiple,
    }
