"""What `pixelwise networks` tells: size, cost, memory and geometry of each network, and its layers.

Nothing is computed: networks are built and run on the meta device, which has shapes and no data, so
the whole table takes seconds and no memory.
"""

import itertools
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from pixelwise.config import Config, NetworkConfig
from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.networks.activation_checkpointing import Pass, checkpoint_call, wrap_stages
from pixelwise.networks.geometry.network_geometry import trace_geometry
from pixelwise.networks.geometry.tracer import OpObserver, copy_to_meta
from pixelwise.networks.registry import NETWORKS, build_network
from pixelwise.networks.segmenter import Segmenter
from pixelwise.shapes import Size

UNET = "U-Net: Ronneberger et al., MICCAI 2015"
SEGNET = "SegNet: Badrinarayanan et al., PAMI 2017"
BAYESIAN_SEGNET = "Bayesian SegNet: Kendall et al., BMVC 2017"
FCN = "FCN: Long et al., CVPR 2015"

PAPERS = {
    "UNet": UNET,
    "SegNet": SEGNET,
    "SegNetBasic": SEGNET,
    "BilinearInterpolation": SEGNET,
    "FCNBasic": SEGNET,
    "FCN": FCN,
    "bayesian-segnet": BAYESIAN_SEGNET,
    "bayesian-segnet-basic": BAYESIAN_SEGNET,
}
"""By class; by name where the same class is also the network of another paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRow:
    """One network, at one size, for one image in float32."""

    name: str
    parameters: int
    size: Size
    """Height and width of its input: the smallest that gives logits for all of the size asked for."""
    gflops: float
    """Of one forward pass: twice the multiply-adds of its convolutions, in 10^9."""
    activation_mb: float
    """What one training step keeps for the backward pass, without weights, in 10^6 bytes."""
    stride: Size
    receptive_field: Size | None
    """Rows and columns that one output pixel depends on; None: the whole image."""
    paper: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer: an operator that has weights, multiplies or changes the shape, at its place in the network."""

    name: str
    """Of the module it is in: "down.0.block.3"; "" for the network itself."""
    operator: str
    """As PyTorch calls it: "conv2d", "max_pool2d", "cat"."""
    shape: tuple[int, ...]
    """Of its output, without the batch: (C, H, W)."""
    parameters: int
    gflops: float


def describe(
    name: str | None = None,
    size: Size = (360, 480),
    *,
    in_channels: int = 3,
    num_classes: int = 11,
    encoder: str | None = None,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> list[NetworkRow] | list[LayerRow]:
    """Return the networks with size, cost and geometry, or the layers of one.

    Args:
        name: Network whose layers to list; None: all networks.
        size: Height and width of the image, in pixels.
        in_channels: Number of image channels.
        num_classes: Number of classes.
        encoder: Encoder of the named network.
        settings: Configuration values of the named network, such as `{"network.depth": 3}`.

    Returns:
        A row per network, or per layer in the order of execution.

    Raises:
        InvalidArgumentError: an unknown name or setting, or a size that the network cannot take.

    Example:
        >>> describe("segnet-basic", (64, 64))[0].operator
        'conv2d'
    """
    if name is None:
        if encoder is not None or settings:
            raise InvalidArgumentError("encoder and settings describe one network. Give its name, too.")
        return describe_networks(size, in_channels=in_channels, num_classes=num_classes)
    changes = {**settings, "network.name": name, **({} if encoder is None else {"network.encoder": encoder})}
    with torch.device("meta"):
        config = Config().replace(changes).network
        network = build_network(config, in_channels=in_channels, num_classes=num_classes)
    return describe_layers(network, size, in_channels=in_channels)


def describe_networks(size: Size = (360, 480), *, in_channels: int = 3, num_classes: int = 11) -> list[NetworkRow]:
    """All networks of the table, in its order, as a config builds them that names nothing else."""
    return [describe_network(name, size, in_channels=in_channels, num_classes=num_classes) for name in NETWORKS]


def describe_network(name: str, size: Size = (360, 480), *, in_channels: int = 3, num_classes: int = 11) -> NetworkRow:
    """One network of the table.

    Raises:
        InvalidArgumentError: no such network.
    """
    network = _build(name, in_channels, num_classes)
    field = trace_geometry(network, in_channels=in_channels)
    legal = field.compute_input_size(size)
    images = torch.empty(1, in_channels, *legal, device="meta")
    return NetworkRow(
        name=name,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        size=legal,
        gflops=sum(row.gflops for row in describe_layers(network, legal, in_channels=in_channels)),
        activation_mb=count_saved_bytes(network.train(), images) / 1e6,
        stride=field.stride,
        receptive_field=field.receptive_field if field.is_local else None,
        paper=PAPERS.get(name, PAPERS.get(type(network).__name__, "")),
    )


def describe_layers(network: nn.Module | str, size: Size, *, in_channels: int, num_classes: int = 2) -> list[LayerRow]:
    """The layers in the order in which they run, with their output shapes for an image of `size`.

    Args:
        network: a network, whatever its device, which is not changed; or a name of the table, which is
            built for `num_classes`.
        size: height and width, which the network must take.
        in_channels: C of its images.

    Raises:
        InvalidArgumentError: no such network, or it does not take this size.
    """
    built = _build(network, in_channels, num_classes) if isinstance(network, str) else network
    skeleton = copy_to_meta(built)
    images = torch.empty(1, in_channels, *size, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as flops, _Layers(skeleton, flops) as layers:
        skeleton(images)
    return layers.rows


def _build(name: str, in_channels: int, num_classes: int) -> nn.Module:
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    with torch.device("meta"):
        return build_network(NetworkConfig(name=name), in_channels=in_channels, num_classes=num_classes)


class _Layers(OpObserver):
    """Records the layers of a network that runs while it is active."""

    def __init__(self, network: nn.Module, flops: FlopCounterMode) -> None:
        super().__init__()
        self.rows: list[LayerRow] = []
        self._network, self._flops, self._flops_so_far = network, flops, 0
        self._modules = ModuleTracker()
        self._counted: set[str] = set()

    def __enter__(self) -> "_Layers":
        self._modules.__enter__()  # type: ignore[no-untyped-call]
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        self._modules.__exit__(*exception)  # type: ignore[no-untyped-call]

    def on_op(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        output = result[0] if isinstance(result, tuple | list) else result
        name = self._module()
        parameters = self._parameters(name)
        given = next((arg for arg in args if isinstance(arg, Tensor)), None)
        changes = output.dim() == 4 and not func.is_view and (given is None or output.shape != given.shape)
        before, self._flops_so_far = self._flops_so_far, self._flops.get_total_flops()
        flops = self._flops_so_far - before
        if parameters or flops or changes:
            self.rows.append(
                LayerRow(
                    name=name,
                    operator=func._schema.name.partition("::")[2],
                    shape=tuple(output.shape[1:]),
                    parameters=parameters,
                    gflops=flops / 1e9,
                )
            )

    def _module(self) -> str:
        """Of the modules that are running, one in the other, the innermost."""
        return max(self._modules.parents - {"Global"}, key=len, default="").partition(".")[2]

    def _parameters(self, name: str) -> int:
        """Of a module's own parameters, when it is met first."""
        if name in self._counted:
            return 0
        self._counted.add(name)
        return sum(parameter.numel() for parameter in self._network.get_submodule(name).parameters(recurse=False))


def count_saved_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes that a forward pass in training keeps for the backward pass, each memory block once."""
    return _saved(partial(network, images), _weights(network))


def count_checkpointed_bytes(segmenter: Segmenter, images: Tensor) -> int:
    """As `count_saved_bytes`, at the peak of a step with `training.activation_checkpointing`: what passes between the
    stages, and the maps of the largest stage, which is run again. The network is one that recomputes from then on.

    Raises InvalidArgumentError where it has no stages that can be told apart.
    """
    of_stages = [0]

    def counted(call: Pass, inputs: tuple[Any, ...]) -> Any:
        given = [_block(value) for value in inputs if isinstance(value, Tensor)]
        of_stages.append(_saved(partial(call, *inputs), _weights(segmenter) | set(given)))
        return checkpoint_call(call, inputs)

    wrap_stages(segmenter.network, counted)
    return count_saved_bytes(segmenter, images) + max(of_stages)


def _saved(call: Callable[[], Any], known: AbstractSet[int]) -> int:
    """Bytes of the blocks that a call keeps, but for those known already."""
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved.setdefault(_block(tensor), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = call()
    del output
    return sum(tensor.untyped_storage().nbytes() for block, tensor in saved.items() if block not in known)


def _weights(network: nn.Module) -> set[int]:
    return {_block(tensor) for tensor in itertools.chain(network.parameters(), network.buffers())}


def _block(tensor: Tensor) -> int:
    """Which memory a tensor lies in; without data there is no address to tell."""
    return int(tensor.untyped_storage()._cdata)
