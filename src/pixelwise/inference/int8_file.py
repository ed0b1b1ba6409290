"""The int8 network of a model, stored as an ONNX file next to the model file.

`pixelwise quantize` writes it, and engines that compute in int8 load it. Its metadata is one JSON object: the format
number of the file, the checksum of the graph, the checksum of the model that it was made from, the measured accuracy
and the versions of the packages that wrote it.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError, convert_os_error, format_command
from pixelwise.files import compute_sha256, write_atomically
from pixelwise.model_file import find_model, read_checksum
from pixelwise.networks import Segmenter
from pixelwise.output_files import FileState

logger = logging.getLogger(__name__)

INT8_FORMAT = 2
"""Format of the file; format 1 held the accuracy of one engine and no format number."""


def get_int8_path(model: str | Path) -> Path:
    """Return the path of the int8 file that belongs to a run folder or model file."""
    return find_model(Path(model)).with_suffix(".int8.onnx")


def read_int8(model: str | Path, engine: str | None = None) -> tuple[bytes, dict[str, Any]]:
    """Read the int8 file of a model.

    Args:
        engine: engine that will run the network; a warning is logged if its accuracy was not measured.

    Returns:
        The ONNX graph from frames to the network's output, and the metadata.

    Raises:
        InvalidArgumentError: The file does not exist, is damaged, or was made from another model.
    """
    path, checksum = get_int8_path(model), read_checksum(model)
    command = f"'{format_command('quantize', model, 'DATA')}'"
    if not path.exists():
        raise InvalidArgumentError(f"{model} has no int8 file ({path.name}). Create it with {command}.")
    try:
        graph, metadata = _read(path)
        is_whole = metadata["sha256"] == compute_sha256([graph])
    except Exception as error:  # the parser raises many types
        raise InvalidArgumentError(f"{path} is damaged. Delete it and run {command}.") from error
    if metadata.get("format") != INT8_FORMAT:
        writer = metadata.get("versions", {}).get("pixelwise", "an earlier version")
        raise InvalidArgumentError(
            f"{path} has format {metadata.get('format', 1)}, written by Pixelwise {writer}. This version reads format "
            f"{INT8_FORMAT}. Run {command} again."
        )
    if not is_whole:
        raise InvalidArgumentError(f"{path} is damaged. Delete it and run {command}.")
    if metadata["model"] != checksum:
        raise InvalidArgumentError(f"{path} was made from another model. Delete it and run {command}.")
    measured = metadata.get("accuracy", {}).get("engines", {})
    if engine is not None and engine not in measured:
        logger.warning(
            f"Int8 accuracy was measured with {', '.join(measured) or 'no engine'}, not with {engine}. Run {command} "
            f"on this machine to measure it."
        )
    return graph, metadata


def write_int8(model: str | Path, graph: bytes, metadata: Mapping[str, Any], *, path: Path | None = None) -> None:
    """Write the int8 file of a model atomically.

    Args:
        graph: ONNX in int8, from frames to the network's output.
        metadata: further entries, plain values.
        path: file to write; None: next to the model.

    Raises:
        PathAccessError: the file cannot be written.
    """
    import onnx

    proto, path = onnx.load_model_from_string(graph), path or get_int8_path(model)
    proto.ClearField("metadata_props")
    checksum = compute_sha256([proto.SerializeToString(deterministic=True)])
    content = {**metadata, "format": INT8_FORMAT, "model": read_checksum(model), "sha256": checksum}
    entry = proto.metadata_props.add()
    entry.key, entry.value = "pixelwise", json.dumps(content, sort_keys=True)
    try:
        write_atomically(path, proto.SerializeToString(deterministic=True))
    except OSError as error:
        raise convert_os_error(error, path, "be written") from error


def find_int8_state(path: Path, model: str | Path) -> tuple[FileState, str]:
    """Return whether `write_int8` may replace a path, and for "other" what differs."""
    if not os.path.lexists(path):
        return "absent", ""
    if path.is_dir():
        return "blocked", ""
    try:
        graph, metadata = _read(path)
    except Exception:  # the parser raises many types
        return "foreign", ""
    if metadata["sha256"] != compute_sha256([graph]):
        return "edited", ""
    return ("unchanged", "") if metadata.get("model") == read_checksum(model) else ("other", "another model")


def _read(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the graph without metadata, and the metadata."""
    import onnx

    proto = onnx.load(path)
    (entry,) = proto.metadata_props
    metadata = json.loads(entry.value)
    if entry.key != "pixelwise" or "sha256" not in metadata:
        raise ValueError("no Pixelwise metadata")
    proto.ClearField("metadata_props")
    return proto.SerializeToString(deterministic=True), metadata


def prepare_frames(module: Segmenter, images: Iterator[Array]) -> Iterator[Array]:
    """Normalize and pad images (H, W, C) to network inputs (1, C, h, w) float32 of a legal size."""
    for image in images:
        rows, columns = (module.compute_padded_indices(side).numpy() for side in image.shape[:2])
        framed = torch.from_numpy(image[np.ix_(rows, columns)]).permute(2, 0, 1)[None]
        yield module.normalize(framed).contiguous().numpy()
