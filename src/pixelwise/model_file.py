"""One safe file: weights, network, classes, preprocessing and scores. Nothing is ever unpickled.

A safetensors file with a single metadata key, `pixelwise`, holding JSON with sorted keys; no time,
host or path in it, so equal runs give equal files.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pixelwise.config import NetworkConfig, from_dict
from pixelwise.data.classes import Classes, classes_from_dict
from pixelwise.errors import ModelFileError, PathNotFoundError, PixelwiseError
from pixelwise.files import compute_sha256, wrap_access_errors, write_atomically
from pixelwise.networks import Segmenter, build_network
from pixelwise.version import __version__

FORMAT = 2
MODEL_FILE_NAME = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """All that is needed to build a model and to use it, except its weights."""

    network: NetworkConfig
    classes: Classes
    channels: int
    """C of the images."""
    dtype: str
    """Type of the images' pixels: uint8, uint16 or float32."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scores: Mapping[str, Any]
    """Scores on the validation images, and how far bf16 agrees with fp32 there."""
    channel_files: bool = False
    """Whether each image came as C files, one a channel: `STEM_0000.png`, `STEM_0001.png`, ..."""

    def with_scores(self, scores: Mapping[str, Any]) -> "ModelSpec":
        return replace(self, scores=scores)

    def build(self) -> Segmenter:
        """The model with fresh weights."""
        network = build_network(self.network, in_channels=self.channels, num_classes=len(self.classes.names))
        return Segmenter(network, mean=self.mean, std=self.std)


def save_model(path: Path, spec: ModelSpec, weights: Mapping[str, Tensor]) -> None:
    """Writes the file whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    values = _to_dict(spec)
    values["checksum"] = _compute_checksum(values, tensors)
    metadata = {"pixelwise": json.dumps(values, sort_keys=True, ensure_ascii=False)}
    write_atomically(path, save(tensors, metadata=metadata))


def load_model(model: str | Path) -> tuple[Segmenter, ModelSpec]:
    """A model file, or the run folder that holds it → the module in evaluation mode, and its spec.

    Raises ModelFileError where the file is missing, truncated, altered, foreign or too new.
    """
    path = find_model(Path(model))
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is not a whole safetensors file ({error}); copy or train it again.") from error
    values = _read_metadata(path, metadata)
    if values.pop("checksum", None) != _compute_checksum(values, weights):
        raise ModelFileError(f"{path} was altered after it was written (checksum); copy or train it again.")
    spec = _read_spec(path, values)
    module = _build(path, spec)
    _require_fitting(path, module.state_dict(), weights)
    module.load_state_dict(weights)
    return module.eval(), spec


def read_checksum(model: str | Path) -> str:
    """The checksum that a model file was written with, as `load_model` checks it; weights are not read."""
    return str(_stored(find_model(Path(model))).get("checksum"))


def read_spec(model: str | Path) -> ModelSpec:
    """The spec that a model file was written with; weights are not read, and nothing is checked against them."""
    path = find_model(Path(model))
    return _read_spec(path, _stored(path))


def find_model(path: Path) -> Path:
    """The file of a run folder, or the file itself; PathNotFoundError where there is none."""
    with wrap_access_errors(path):
        found = path / MODEL_FILE_NAME if path.is_dir() else path
        exists = found.is_file()
    if not exists:
        hint = "The run has not been evaluated yet." if path.is_dir() else "Expected a run folder or a model file."
        raise PathNotFoundError(f"Model '{found}' does not exist. {hint}")
    return found


def _to_dict(spec: ModelSpec) -> dict[str, Any]:
    network = {name: getattr(spec.network, name) for name in spec.network.__dataclass_fields__}
    classes = spec.classes.to_dict()
    return {
        "format": FORMAT,
        "network": network,
        "encoder": spec.network.encoder,
        "colors": classes.pop("colors"),
        "classes": classes,
        "preprocessing": {
            "channels": spec.channels,
            "dtype": spec.dtype,
            "mean": list(spec.mean),
            "std": list(spec.std),
            # Only where it says something: files of other models stay as older versions wrote them, byte for byte.
            **({"channel_files": True} if spec.channel_files else {}),
        },
        "versions": {"pixelwise": __version__, "torch": torch.__version__},
        "scores": dict(spec.scores),
    }


def _compute_checksum(values: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of the metadata and of every tensor's name and bytes."""

    def iterate_chunks() -> Iterator[bytes]:
        yield json.dumps(values, sort_keys=True).encode()
        for name in sorted(weights):
            yield name.encode()
            yield weights[name].reshape(-1).view(torch.uint8).numpy().tobytes()

    return compute_sha256(iterate_chunks())


def _stored(path: Path) -> dict[str, Any]:
    """The description alone."""
    try:
        with safe_open(path, framework="pt") as file:
            return _read_metadata(path, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is not a whole safetensors file ({error}); copy or train it again.") from error


def _read_metadata(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if "pixelwise" not in metadata:
        raise ModelFileError(f"{path} was not written by Pixelwise: it has no 'pixelwise' metadata.")
    try:
        values = json.loads(metadata["pixelwise"])
        written, by = values["format"], values["versions"]["pixelwise"]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: its description is damaged ({error!r}); train it again.") from error
    if written != FORMAT:
        raise ModelFileError(
            f"{path} has format {written}, this version reads {FORMAT}; it was written by Pixelwise {by}: "
            f"use that version or a newer one."
        )
    return dict(values)


def _read_spec(path: Path, values: Mapping[str, Any]) -> ModelSpec:
    try:
        preprocessing = values["preprocessing"]
        return ModelSpec(
            network=from_dict({"network": values["network"]}).network,
            classes=classes_from_dict({**values["classes"], "colors": values["colors"]}),
            channels=preprocessing["channels"],
            dtype=preprocessing["dtype"],
            mean=tuple(preprocessing["mean"]),
            std=tuple(preprocessing["std"]),
            scores=values["scores"],
            channel_files=preprocessing.get("channel_files", False),
        )
    except (KeyError, TypeError, ValueError, PixelwiseError) as error:
        raise ModelFileError(f"{path}: its description is damaged ({error!r}); train it again.") from error


def _build(path: Path, spec: ModelSpec) -> Segmenter:
    """The module; a description that makes none may come from a version with more networks."""
    try:
        return spec.build()
    except (PixelwiseError, TypeError, ValueError, RuntimeError) as error:
        raise ModelFileError(
            f"{path}: its network cannot be built ({error}); update Pixelwise, or train it again."
        ) from error


def _require_fitting(path: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Names, shapes and types must be those of the network that the description names."""
    names = sorted(wanted.keys() ^ found.keys())
    wrong = names or [n for n in wanted if wanted[n].shape != found[n].shape or wanted[n].dtype != found[n].dtype]
    if wrong:
        raise ModelFileError(
            f"{path}: {len(wrong)} tensors do not fit the network it describes (first: {wrong[0]}); "
            f"the file was altered."
        )
