"""A trained network's weights as the first weights of another one of its kind, for other classes or channels.

Which entries belong to classes, and which to the channels of the image, is not written down for each
network: the network is built once more, without data, with one class more. The axes that grow are
those of the classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.registry import build_network
from pixelwise.networks.weights.io import adapt_first_layer

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A network but for its weights."""

    network: NetworkConfig
    channels: int
    """C of the images."""
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoadReport:
    """What a network has from another one."""

    num_parameters: int
    """Values that were taken over, entries of statistics included."""
    total_parameters: int
    kept: tuple[str, ...]
    """Classes of both, in the new order."""
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    """Classes of the other network alone."""
    adapted: tuple[int, int] | None
    """Channels of its images and of ours, where they differ: the first layer was adapted."""

    def summary(self) -> str:
        """`7,760 of 7,765 numbers kept; classes kept: road, sky; new: car; dropped: tree`."""
        parts = [f"{self.num_parameters:,} of {self.total_parameters:,} numbers kept"]
        for what, names in (("classes kept", self.kept), ("new", self.new), ("dropped", self.dropped)):
            if names or what == "classes kept":
                parts.append(f"{what}: {', '.join(names) or 'none'}")
        if self.adapted:
            parts.append(f"first layer adapted from {self.adapted[0]} to {self.adapted[1]} channels")
        return "; ".join(parts)


def load_model_weights(
    network: nn.Module, ours: NetworkSpec, tensors: Mapping[str, Tensor], theirs: NetworkSpec
) -> ModelLoadReport:
    """Loads a trained network's tensors into one of the same kind.

    Rows of the last layers are matched by the names of their classes; those of classes that are new
    stay as they are in `network`. Weights for another number of channels are adapted
    (`pretrained.adapt_first_layer`).

    Args:
        network: as `build_network` makes it from `ours`.
        tensors: the state of a network of `theirs`.

    Raises:
        InvalidArgumentError: the networks differ in more than classes and channels; the difference is named.
            `network` is then as it was.
    """
    matching = _Matching(ours, theirs)
    own = network.state_dict()
    _require_one_kind(matching, own, tensors)
    kept = 0
    for name, target in own.items():
        kept += matching.copy(name, target, tensors[name])
    return ModelLoadReport(
        num_parameters=kept,
        total_parameters=sum(tensor.numel() for tensor in own.values()),
        kept=tuple(name for name in ours.classes if name in theirs.classes),
        new=tuple(name for name in ours.classes if name not in theirs.classes),
        dropped=tuple(name for name in theirs.classes if name not in ours.classes),
        adapted=None if ours.channels == theirs.channels else (theirs.channels, ours.channels),
    )


class _Matching:
    """Which entries of a tensor come from which."""

    def __init__(self, ours: NetworkSpec, theirs: NetworkSpec) -> None:
        self.ours, self.theirs = ours, theirs
        shapes = partial(_shapes, ours.network)
        self.shapes = shapes(ours.channels, len(ours.classes))
        self.one_class_more = shapes(ours.channels, len(ours.classes) + 1)
        self.their_channels = shapes(theirs.channels, len(ours.classes))
        self.places = [(i, theirs.classes.index(name)) for i, name in enumerate(ours.classes) if name in theirs.classes]

    def expected(self, name: str) -> Shape:
        """The shape that the other network's tensor must have."""
        axes = self.class_axes(name)
        shape, count = self.their_channels[name], len(self.ours.classes)
        return tuple(s // count * len(self.theirs.classes) if axis in axes else s for axis, s in enumerate(shape))

    def class_axes(self, name: str) -> list[int]:
        return [i for i, (a, b) in enumerate(zip(self.shapes[name], self.one_class_more[name], strict=True)) if a != b]

    @torch.no_grad()
    def copy(self, name: str, target: Tensor, source: Tensor) -> int:
        """Writes what is to be kept into `target`; returns how many values."""
        if axes := self.class_axes(name):
            rows, columns = ([p[side] for p in self.places] for side in (0, 1))
            at_ours = [self._indices(axis, target, rows, len(self.ours.classes), axes) for axis in range(target.ndim)]
            at_theirs = [
                self._indices(axis, source, columns, len(self.theirs.classes), axes) for axis in range(source.ndim)
            ]
            taken = source[torch.meshgrid(*at_theirs, indexing="ij")]
            target[torch.meshgrid(*at_ours, indexing="ij")] = taken.to(target)
            return taken.numel()
        if source.shape != target.shape:
            target.copy_(self._adapted(source, target))
        else:
            target.copy_(source)
        return target.numel()

    def _indices(self, axis: int, tensor: Tensor, classes: Sequence[int], count: int, axes: Sequence[int]) -> Tensor:
        """Places along an axis; a class has a block of them where the last layer is unfolded to pixels."""
        size = tensor.shape[axis]
        if axis not in axes:
            return torch.arange(size)
        block = size // count
        return torch.tensor([c * block + i for c in classes for i in range(block)], dtype=torch.long)

    def _adapted(self, source: Tensor, target: Tensor) -> Tensor:
        """Of a first convolution; a stem that folds pixels has a block of weights for each channel."""
        outputs, _, height, width = source.shape
        folded = source.reshape(outputs, self.theirs.channels, -1, width)
        return adapt_first_layer(folded, self.ours.channels).reshape(outputs, -1, height, width).view_as(target)


def _shapes(network: NetworkConfig, channels: int, num_classes: int) -> dict[str, Shape]:
    with torch.device("meta"):
        built = build_network(network, in_channels=channels, num_classes=num_classes)
    return {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}


def _require_one_kind(matching: _Matching, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    lone = sorted(own.keys() ^ tensors.keys())
    other = [n for n in own if n in tensors and tuple(tensors[n].shape) != matching.expected(n)]
    if not lone and not other:
        return
    asked, given = matching.ours.network, matching.theirs.network
    keys = [key for key in NetworkConfig.__dataclass_fields__ if getattr(asked, key) != getattr(given, key)]
    said = ", ".join(f"network.{key} is {getattr(given, key)!r} there and {getattr(asked, key)!r} here" for key in keys)
    first = lone[0] if lone else f"{other[0]}, {tuple(tensors[other[0]].shape)} there and {tuple(own[other[0]].shape)}"
    raise InvalidArgumentError(
        f"its network is another one: {said or 'the tensors differ'} ({len(lone) + len(other)} tensors do not fit, "
        f"such as {first}); leave the network out, and the model's own is taken."
    )
