"""The model file: weights, network, classes, preprocessing and scores in one safetensors file, without pickle.

The metadata has a single key, `pixelwise`, with JSON in sorted keys. It holds no time, host or path, so identical runs
write identical files.

The format number follows one rule. Readers ignore keys that they do not know, at every level, so a later version may
add keys. A key that changes the labels must raise `FORMAT`, because an older version would ignore it and predict
something else. A file with a different format is refused.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pixelwise.config import NetworkConfig, from_dict
from pixelwise.data.classes import Classes, classes_from_dict
from pixelwise.data.io.nodata import ALL_DATA, Nodata, parse_nodata
from pixelwise.errors import (
    InvalidArgumentError,
    ModelFileError,
    PathNotFoundError,
    PixelwiseError,
    convert_os_error,
    describe_cause,
)
from pixelwise.files import compute_sha256, wrap_access_errors, write_atomically
from pixelwise.networks import Segmenter, build_network
from pixelwise.version import __version__

FORMAT = 3
MODEL_FILE_NAME = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The contents of a model file except its weights."""

    network: NetworkConfig
    classes: Classes
    channels: int
    """C of the images."""
    dtype: str
    """Data type of the pixels: uint8, uint16 or float32."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scores: Mapping[str, Any]
    """Scores on the validation images, and the agreement of bf16 with fp32 there."""
    channel_files: bool = False
    """True if each image consists of C files, one per channel: `STEM_0000.png`, `STEM_0001.png`, ..."""
    nodata: Nodata = ALL_DATA
    """Values of missing data, in addition to those that image files declare."""

    def with_scores(self, scores: Mapping[str, Any]) -> "ModelSpec":
        """Return a copy with other scores."""
        return replace(self, scores=scores)

    def build(self) -> Segmenter:
        """Build the model with random weights."""
        network = build_network(self.network, in_channels=self.channels, num_classes=len(self.classes.names))
        return Segmenter(network, mean=self.mean, std=self.std)


def save_model(path: Path, spec: ModelSpec, weights: Mapping[str, Tensor]) -> None:
    """Write a model file completely or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    values = _to_dict(spec)
    values["checksum"] = _compute_checksum(values, tensors)
    metadata = {"pixelwise": json.dumps(values, sort_keys=True, ensure_ascii=False)}
    write_atomically(path, save(tensors, metadata=metadata))


def load_model(model: str | Path) -> tuple[Segmenter, ModelSpec]:
    """Load a model file, or that of a run folder: the module in evaluation mode, and its spec.

    Raises:
        PathNotFoundError: The file does not exist.
        PathAccessError: The file is not readable.
        ModelFileError: The file is truncated, altered, from another program or has a different format.
    """
    with _open(model) as (path, file, values):
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    if values.pop("checksum", None) != _compute_checksum(values, weights):
        raise ModelFileError(f"{path} was altered after it was written (checksum). Copy it again, or train again.")
    spec = _to_spec(path, values)
    try:
        with _SkippedInitialization():
            module = spec.build()
    except (PixelwiseError, TypeError, ValueError, RuntimeError) as error:
        raise _refuse_network(path, error) from error
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelFileError(
            f"{path}: The tensors do not fit the network in its metadata. Copy the file again, or train again."
        ) from error
    return module.eval(), spec


def read_checksum(model: str | Path) -> str:
    """Return the checksum in a model file without reading its weights; `load_model` verifies it."""
    with _open(model) as (_, _, values):
        return str(values.get("checksum"))


def read_spec(model: str | Path) -> ModelSpec:
    """Return the spec in a model file without reading its weights or verifying the checksum."""
    with _open(model) as (path, _, values):
        return _to_spec(path, values)


def find_model(path: Path) -> Path:
    """Return the model file of a run folder, or the file itself.

    Raises:
        PathNotFoundError: The file does not exist.
        PathAccessError: The file is not readable.
    """
    with wrap_access_errors(path):
        file = path / MODEL_FILE_NAME if path.is_dir() else path
        if file.is_file():
            file.open("rb").close()
            return file
    if (path / "config.yaml").is_file():
        hint = "The run has not been evaluated yet. Continue it with 'pixelwise train --resume'."
        raise PathNotFoundError(f"Model '{file}' does not exist. {hint}")
    if path.is_dir():
        raise PathNotFoundError(
            f"'{path}' has no {MODEL_FILE_NAME}. Expected a run folder or a model file. Give the model before the data."
        )
    raise PathNotFoundError(f"Model '{path}' does not exist. Expected a run folder or a model file.")


def _to_dict(spec: ModelSpec) -> dict[str, Any]:
    classes = spec.classes.to_dict()
    return {
        "format": FORMAT,
        "network": asdict(spec.network),
        "encoder": spec.network.encoder,
        "colors": classes.pop("colors"),
        "classes": classes,
        "preprocessing": {
            "channels": spec.channels,
            "dtype": spec.dtype,
            "mean": list(spec.mean),
            "std": list(spec.std),
            **({"channel_files": True} if spec.channel_files else {}),
            **({"nodata": spec.nodata.to_plain()} if spec.nodata else {}),
        },
        "versions": {"pixelwise": __version__, "torch": torch.__version__},
        "scores": dict(spec.scores),
    }


def _to_spec(path: Path, values: Mapping[str, Any]) -> ModelSpec:
    try:
        known = NetworkConfig.__dataclass_fields__
        network = {key: value for key, value in values["network"].items() if key in known}
        preprocessing, scores = values["preprocessing"], values["scores"]
        classes = classes_from_dict({**values["classes"], "colors": values["colors"]})
        if "per_class" in scores:  # the file has sorted keys
            scores = {**scores, "per_class": {name: scores["per_class"][name] for name in classes.names}}
        return ModelSpec(
            network=from_dict({"network": network}).network,
            classes=classes,
            channels=preprocessing["channels"],
            dtype=preprocessing["dtype"],
            mean=tuple(preprocessing["mean"]),
            std=tuple(preprocessing["std"]),
            scores=scores,
            channel_files=preprocessing.get("channel_files", False),
            nodata=parse_nodata(preprocessing.get("nodata", [])),
        )
    except InvalidArgumentError as error:
        raise _refuse_network(path, error) from error
    except (AttributeError, KeyError, TypeError, ValueError, PixelwiseError) as error:
        raise ModelFileError(f"{path}: The metadata is damaged. Copy the file again, or train again.") from error


def _refuse_network(path: Path, error: Exception) -> ModelFileError:
    """Return the error for a network that this version does not have: a newer one can have more."""
    return ModelFileError(
        f"{path}: The network cannot be built. Update Pixelwise if a newer version wrote the file, or train again. "
        f"Reason: {describe_cause(error)}."
    )


def _compute_checksum(values: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of the metadata and of every tensor's name and bytes."""

    def iterate_chunks() -> Iterator[bytes | memoryview]:
        yield json.dumps(values, sort_keys=True).encode()
        for name in sorted(weights):
            yield name.encode()
            yield weights[name].reshape(-1).view(torch.uint8).numpy().data

    return compute_sha256(iterate_chunks())


class _SkippedInitialization(TorchFunctionMode):
    """A context in which new parameters are not drawn, because a file has their values."""

    draws = (Tensor.uniform_, Tensor.normal_, nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_)

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        tensor = args[0] if args else (kwargs or {}).get("tensor")
        is_drawn = func in self.draws and isinstance(tensor, nn.Parameter)
        return tensor if is_drawn else func(*args, **(kwargs or {}))


@contextmanager
def _open(model: str | Path) -> Iterator[tuple[Path, Any, dict[str, Any]]]:
    """Open a model file, or that of a run folder: its path, the open file and its metadata."""
    path = find_model(Path(model))
    try:
        with safe_open(path, framework="pt") as file:
            yield path, file, _read_metadata(path, file.metadata() or {})
    except OSError as error:
        raise convert_os_error(error, path, "be read") from error
    except SafetensorError as error:
        raise ModelFileError(
            f"{path} is not a model file, or the end of it is missing. Expected a file that 'pixelwise train' wrote. "
            f"Copy it again, or train again."
        ) from error


def _read_metadata(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if "pixelwise" not in metadata:
        raise ModelFileError(f"{path} was not written by Pixelwise: it has no 'pixelwise' metadata.")
    try:
        values = json.loads(metadata["pixelwise"])
        written, version = int(values["format"]), values["versions"]["pixelwise"]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: The metadata is damaged. Copy the file again, or train again.") from error
    if written != FORMAT:
        remedy = f"Train the model again, or use Pixelwise {version}."
        if written > FORMAT:
            remedy = f"Install Pixelwise {version} or a newer version."
        raise ModelFileError(
            f"{path} has format {written} of Pixelwise {version}, but this version reads format {FORMAT}. {remedy}"
        )
    return dict(values)
