"""A model's network in int8: one ONNX file beside the model file, made once from labeled images.

`evaluation/calibration.py` makes it; engines that compute in int8 take it in place of the network. It knows
the model that it was made of, so that the scales of one are never used for another.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixelwise.data.images import Array, write_atomically
from pixelwise.errors import RequestError
from pixelwise.model_file import find_model, stored_checksum
from pixelwise.networks import Segmenter

_KEY = "pixelwise"
"""Of the file's metadata: a JSON that holds the model's checksum and what int8 was measured to lose."""


def int8_file(model: str | Path) -> Path:
    """Where it lies, or would, of a run folder or a model file."""
    return find_model(Path(model)).with_suffix(".int8.onnx")


def read_int8(model: str | Path) -> tuple[bytes, dict[str, Any]]:
    """The graph from frames to the network's output, and what is known of it.

    Raises:
        RequestError: there is none, or it was made of another model.
    """
    import onnx

    path = int8_file(model)
    try:
        content = path.read_bytes()
        proto = onnx.load_model_from_string(content)
        facts = json.loads(next(entry.value for entry in proto.metadata_props if entry.key == _KEY))
        known = facts["model"] == stored_checksum(model)
    except FileNotFoundError:
        raise RequestError(
            f"{model} has no scales for int8 yet, which are found on labeled images, once: run "
            f"'pixelwise evaluate {model} DATA --precision int8' first."
        ) from None
    except Exception as error:  # of a parser that raises what it likes
        raise RequestError(f"{path} cannot be read ({error}); remove it, and evaluate with int8 again.") from error
    if not known:
        raise RequestError(f"{path} was made of another model; remove it, and evaluate with int8 again.")
    return content, facts


def write_int8(model: str | Path, graph: bytes, facts: Mapping[str, Any]) -> None:
    """The file, whole or not at all.

    Args:
        graph: in int8, from frames to the network's output.
        facts: plain values, for whoever wants to know what it was made with.

    Raises:
        RequestError: it cannot be written there.
    """
    import onnx

    proto = onnx.load_model_from_string(graph)
    entry = proto.metadata_props.add()
    entry.key, entry.value = _KEY, json.dumps({**facts, "model": stored_checksum(model)}, sort_keys=True)
    path = int8_file(model)
    try:
        write_atomically(path, proto.SerializeToString(deterministic=True))
    except OSError as error:
        raise RequestError(
            f"{path} cannot be written ({error}), and int8 is kept there; copy the model to a folder of your own."
        ) from error


def frames_of(module: Segmenter, images: Iterator[Array]) -> Iterator[Array]:
    """(H, W, C) images → what the network is given of each: (1, C, h, w) float32, of a legal size."""
    for image in images:
        rows, columns = (module.frame(side).numpy() for side in image.shape[:2])
        framed = torch.from_numpy(image[np.ix_(rows, columns)]).permute(2, 0, 1)[None]
        yield module.normalized(framed).contiguous().numpy()
