"""Initialize a network with the weights of a trained one of the same kind, for other classes or channels.

The axes of classes and of image channels are not listed for each network. Instead, the network is built without data
for one class more: the axes that grow are those of the classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixelwise.config import NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.registry import build_network
from pixelwise.networks.weights.io import Shape, adapt_first_layer


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """The facts that determine the tensors of a network."""

    network: NetworkConfig
    channels: int
    """C of the images."""
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoadReport:
    """The parts of a network that were loaded from a trained one."""

    num_parameters: int
    """Number of loaded values, including statistics."""
    total_parameters: int
    kept: tuple[str, ...]
    """Classes of both, in the new order."""
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    """Classes of the trained network only."""
    adapted: tuple[int, int] | None
    """Channels of the trained network and of the new one, if they differ and the first layer was adapted."""

    def summary(self) -> str:
        """Return `7,760 of 7,765 numbers kept; classes kept: road, sky; new: car; dropped: tree`."""
        parts = [f"{self.num_parameters:,} of {self.total_parameters:,} numbers kept"]
        for title, names in (("classes kept", self.kept), ("new", self.new), ("dropped", self.dropped)):
            if names or title == "classes kept":
                parts.append(f"{title}: {', '.join(names) or 'none'}")
        if self.adapted:
            parts.append(f"first layer adapted from {self.adapted[0]} to {self.adapted[1]} channels")
        return "; ".join(parts)


def load_model_weights(
    network: nn.Module, ours: NetworkSpec, tensors: Mapping[str, Tensor], theirs: NetworkSpec
) -> ModelLoadReport:
    """Load the tensors of a trained network into one of the same kind.

    Rows of the last layers are matched by the names of their classes; rows of new classes stay as they are in
    `network`. Weights for a different number of channels are adapted (`io.adapt_first_layer`).

    Args:
        network: A network from `build_network` with `ours`.
        ours: Facts of `network`.
        tensors: State dict of the trained network.
        theirs: Facts of the trained network.

    Raises:
        InvalidArgumentError: The networks differ in more than classes and channels; the message names the difference.
            `network` is then unchanged.
    """
    matcher = _TensorMatcher(ours, theirs)
    own = network.state_dict()
    matcher.check(own, tensors)
    return ModelLoadReport(
        num_parameters=sum(matcher.copy(name, target, tensors[name]) for name, target in own.items()),
        total_parameters=sum(tensor.numel() for tensor in own.values()),
        kept=tuple(name for name in ours.classes if name in theirs.classes),
        new=tuple(name for name in ours.classes if name not in theirs.classes),
        dropped=tuple(name for name in theirs.classes if name not in ours.classes),
        adapted=None if ours.channels == theirs.channels else (theirs.channels, ours.channels),
    )


class _TensorMatcher:
    """Finds the entries of a tensor that correspond to those of the trained network."""

    def __init__(self, ours: NetworkSpec, theirs: NetworkSpec) -> None:
        self.ours, self.theirs = ours, theirs
        self.shapes = _list_shapes(ours.network, ours.channels, len(ours.classes))
        self.shapes_for_one_class_more = _list_shapes(ours.network, ours.channels, len(ours.classes) + 1)
        self.shapes_for_their_channels = _list_shapes(ours.network, theirs.channels, len(ours.classes))
        shared = [name for name in ours.classes if name in theirs.classes]
        self.our_classes = [ours.classes.index(name) for name in shared]
        self.their_classes = [theirs.classes.index(name) for name in shared]

    def check(self, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        """Raise InvalidArgumentError unless all tensors have the names and shapes of the same network."""
        unmatched = sorted(own.keys() ^ tensors.keys())
        reshaped = [n for n in own if n in tensors and tuple(tensors[n].shape) != self._expect_shape(n)]
        if not unmatched and not reshaped:
            return
        ours, theirs = self.ours.network, self.theirs.network
        keys = [key for key in NetworkConfig.__dataclass_fields__ if getattr(ours, key) != getattr(theirs, key)]
        changes = ", ".join(
            f"network.{key} is {getattr(theirs, key)!r} there, {getattr(ours, key)!r} here" for key in keys
        )
        first = unmatched[0] if unmatched else reshaped[0]
        raise InvalidArgumentError(
            f"the networks differ: {changes or 'the tensors do not match'} ({len(unmatched) + len(reshaped)} tensors "
            f"do not fit, such as {first}); leave the network section out to use that of the model."
        )

    @torch.no_grad()
    def copy(self, name: str, target: Tensor, source: Tensor) -> int:
        """Copy the corresponding values into `target` and return their number."""
        if axes := self._find_class_axes(name):
            indices = [
                torch.meshgrid(
                    *(_index(tensor, axis, classes, count, axes) for axis in range(tensor.ndim)), indexing="ij"
                )
                for tensor, classes, count in (
                    (target, self.our_classes, len(self.ours.classes)),
                    (source, self.their_classes, len(self.theirs.classes)),
                )
            ]
            values = source[indices[1]]
            target[indices[0]] = values.to(target)
            return values.numel()
        target.copy_(source if source.shape == target.shape else self._adapt(source, target))
        return target.numel()

    def _find_class_axes(self, name: str) -> list[int]:
        pairs = zip(self.shapes[name], self.shapes_for_one_class_more[name], strict=True)
        return [axis for axis, (side, grown) in enumerate(pairs) if side != grown]

    def _expect_shape(self, name: str) -> Shape:
        """Return the shape of the trained network's tensor."""
        axes, count = self._find_class_axes(name), len(self.ours.classes)
        shape = self.shapes_for_their_channels[name]
        return tuple(s // count * len(self.theirs.classes) if axis in axes else s for axis, s in enumerate(shape))

    def _adapt(self, source: Tensor, target: Tensor) -> Tensor:
        """Adapt a first convolution; a stem that folds pixels has a block of weights for each channel."""
        outputs, _, height, width = source.shape
        folded = source.reshape(outputs, self.theirs.channels, -1, width)
        return adapt_first_layer(folded, self.ours.channels).reshape(outputs, -1, height, width).view_as(target)


def _index(tensor: Tensor, axis: int, classes: Sequence[int], count: int, class_axes: Sequence[int]) -> Tensor:
    """Return the indices along an axis; a class has a block of them if the last layer is unfolded to pixels."""
    size = tensor.shape[axis]
    if axis not in class_axes:
        return torch.arange(size)
    block = size // count
    return torch.tensor([c * block + i for c in classes for i in range(block)], dtype=torch.long)


def _list_shapes(network: NetworkConfig, channels: int, num_classes: int) -> dict[str, Shape]:
    with torch.device("meta"):
        built = build_network(network, in_channels=channels, num_classes=num_classes)
    return {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
