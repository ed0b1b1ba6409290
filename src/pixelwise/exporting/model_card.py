"""The model card of an exported file: its inputs, outputs and measured agreement with the model, as JSON."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pixelwise.errors import DataError, InvalidArgumentError
from pixelwise.files import compute_file_sha256, read_json
from pixelwise.inference.predictor import Predictor
from pixelwise.lowering.graph import INPUT


def describe_export(predictor: Predictor, path: Path, outputs: tuple[str, ...]) -> dict[str, Any]:
    """Describe a file. The result has no time, host or path, so that the same export always gives the same card."""
    spec = predictor.spec
    num_classes = len(spec.classes.names)
    described: dict[str, dict[str, Any]] = {
        "labels": {"shape": ["B", "H", "W"], "dtype": "uint8" if num_classes <= 256 else "uint16"},
        "logits": {"shape": ["B", num_classes, "H", "W"], "dtype": "float32"},
    }
    return {
        "file": path.name,
        "sha256": compute_file_sha256(path),
        "network": spec.network.name,
        "input": {
            "name": INPUT,
            "shape": ["B", "H", "W", spec.channels],
            "dtype": spec.dtype,
            "units": "the raw units of the training images",
        },
        "outputs": [{"name": name, **described[name]} for name in outputs],
        "classes": list(spec.classes.names),
        "colors": [list(color) for color in spec.classes.colors],
        "label_mapping": {str(value): label for value, label in spec.classes.label_mapping.items()},
        "tiling": _describe_tiling(predictor),
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


def _describe_tiling(predictor: Predictor) -> dict[str, Any]:
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
