"""A model's network in int8: one ONNX file beside the model file, made once from labeled images.

`quantization/activation_ranges.py` makes it; engines that compute in int8 take it instead of the network. Its metadata
is a JSON with its own checksum, that of the model it was made from, so that the scales of one are never used for
another, and what int8 was measured to lose.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError
from pixelwise.files import compute_sha256, write_atomically
from pixelwise.model_file import find_model, read_checksum
from pixelwise.networks import Segmenter


def int8_file(model: str | Path) -> Path:
    """Where it lies, or would, of a run folder or a model file."""
    return find_model(Path(model)).with_suffix(".int8.onnx")


def read_int8(model: str | Path) -> tuple[bytes, dict[str, Any]]:
    """The graph from frames to the network's output, and what is known of it.

    Raises:
        InvalidArgumentError: there is none, it is damaged, or it was made from another model.
    """
    import onnx

    path, checksum = int8_file(model), read_checksum(model)
    again = f"'pixelwise evaluate {model} DATA --precision int8' makes it again."
    try:
        proto = onnx.load(path)
        (entry,) = proto.metadata_props
        facts = json.loads(entry.value)
        proto.ClearField("metadata_props")
        graph = proto.SerializeToString(deterministic=True)
        whole, own = facts["sha256"] == compute_sha256([graph]), facts["model"] == checksum
    except FileNotFoundError:
        raise InvalidArgumentError(
            f"{model} has no scales for int8 yet, which are found on labeled images, once: run "
            f"'pixelwise evaluate {model} DATA --precision int8' first."
        ) from None
    except Exception as error:  # of a parser that raises what it likes
        raise InvalidArgumentError(f"{path} is damaged; {again}") from error
    if not whole:
        raise InvalidArgumentError(f"{path} is damaged; {again}")
    if not own:
        raise InvalidArgumentError(f"{path} was made from another model; {again}")
    return graph, facts


def write_int8(model: str | Path, graph: bytes, facts: Mapping[str, Any]) -> None:
    """The file, whole or not at all.

    Args:
        graph: in int8, from frames to the network's output.
        facts: plain values, for whoever wants to know what it was made with.

    Raises:
        InvalidArgumentError: it cannot be written there.
    """
    import onnx

    proto, path = onnx.load_model_from_string(graph), int8_file(model)
    proto.ClearField("metadata_props")
    known = {
        **facts,
        "model": read_checksum(model),
        "sha256": compute_sha256([proto.SerializeToString(deterministic=True)]),
    }
    entry = proto.metadata_props.add()
    entry.key, entry.value = "pixelwise", json.dumps(known, sort_keys=True)
    try:
        write_atomically(path, proto.SerializeToString(deterministic=True))
    except OSError as error:
        raise InvalidArgumentError(
            f"{path} cannot be written ({error}), and int8 is kept there; copy the model to a folder of your own."
        ) from error


def frames_of(module: Segmenter, images: Iterator[Array]) -> Iterator[Array]:
    """(H, W, C) images → what the network is given of each: (1, C, h, w) float32, of a legal size."""
    for image in images:
        rows, columns = (module.padded_indices(side).numpy() for side in image.shape[:2])
        framed = torch.from_numpy(image[np.ix_(rows, columns)]).permute(2, 0, 1)[None]
        yield module.normalize(framed).contiguous().numpy()
