"""Size, cost, memory and geometry of the networks, and their layers, for `pixelwise networks`.

Networks are built and run on the meta device, which has shapes and no data, so the table takes seconds and no memory.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from pixelwise.arguments import Count, check_arguments
from pixelwise.config import Config, NetworkConfig
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.geometry.network_geometry import trace_geometry
from pixelwise.networks.geometry.tracer import OpObserver, copy_to_meta, find_tensors
from pixelwise.networks.registry import NETWORKS, build_network
from pixelwise.networks.segmenter import Segmenter
from pixelwise.networks.stages import StageMethod, checkpoint_call, get_encoder_end, wrap_stages
from pixelwise.shapes import Size

_SEGNET = "SegNet: Badrinarayanan et al., PAMI 2017"
_BAYESIAN_SEGNET = "Bayesian SegNet: Kendall et al., BMVC 2017"

PAPERS = {
    "UNet": "U-Net: Ronneberger et al., MICCAI 2015",
    "SegNet": _SEGNET,
    "SegNetBasic": _SEGNET,
    "BilinearInterpolation": _SEGNET,
    "FCNBasic": _SEGNET,
    "FCN": "FCN: Long et al., CVPR 2015",
    "bayesian-segnet": _BAYESIAN_SEGNET,
    "bayesian-segnet-basic": _BAYESIAN_SEGNET,
}
"""By class, or by name if the class is also the network of another paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRow:
    """The properties of one network, for one image in float32."""

    name: str
    parameters: int
    size: Size
    """Height and width of its input: the smallest legal size that gives logits for the whole image."""
    gflops: float
    """10^9 floating point operations of one forward pass: twice the multiply-adds of its convolutions."""
    activation_mb: float
    """10^6 bytes that a training step stores for the backward pass, without weights."""
    stride: Size
    receptive_field: Size | None
    """Rows and columns that one output pixel depends on; None for the whole image."""
    paper: str


Part = Literal["encoder", "decoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """The properties of one layer: an operator that has weights, multiplies, joins maps or changes the shape."""

    name: str
    """Name of its module: "down.0.block.3"; "" for the network itself."""
    operator: str
    """Name in PyTorch: "conv2d", "max_pool2d", "cat", "add"; "crop" for a part of a map."""
    inputs: tuple[tuple[int, ...], ...]
    """Shapes of its input maps without the batch: (C, H, W)."""
    shape: tuple[int, ...]
    """Shape of its output without the batch: (C, H, W)."""
    parameters: int
    gflops: float
    activation_mb: float
    """10^6 bytes that it and the layers without a row after it store for the backward pass."""
    part: Part | None
    """None if the encoder of the network is not known."""

    @property
    def is_convolution(self) -> bool:
        """True for a convolution and for a transposed convolution."""
        return self.operator in ("conv2d", "conv_transpose2d")


@check_arguments
def describe(
    name: str | None = None,
    *,
    size: Size = (360, 480),
    in_channels: Count = 3,
    num_classes: Count = 11,
    encoder: str | None = None,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> list[NetworkRow] | list[LayerRow]:
    """Return the table of `pixelwise networks`: all networks, or the layers of one.

    The papers are U-Net (MICCAI 2015), SegNet (PAMI 2017), Bayesian SegNet (BMVC 2017) and FCN (CVPR 2015).

    Args:
        name: A key of `NETWORKS` for its layers in the order of execution; None for all networks.
        size: (height, width) of the image in pixels; the layers are those for the next legal size.
        in_channels: C of the image.
        num_classes: K of the logits.
        encoder: Encoder of the named network.
        settings: Configuration values of the named network, such as `{"network.depth": 3}`.

    Returns:
        A list of `NetworkRow` or, with `name`, of `LayerRow`, of which the first is the image.

    Raises:
        InvalidArgumentError: A name or setting is unknown, or a side is not above 0.

    Example:
        >>> from pixelwise.networks import describe
        >>> layers = describe("unet", size=(64, 96), num_classes=5, settings={"network.depth": 3})
        >>> layers[0].shape, layers[1].name, layers[1].operator, layers[-1].shape
        ((3, 64, 96), 'first.0', 'conv2d', (5, 64, 96))
    """
    if name is None:
        if encoder is not None or settings:
            raise InvalidArgumentError("name is None, but encoder and settings need the name of a network.")
        return [describe_network(key, size=size, in_channels=in_channels, num_classes=num_classes) for key in NETWORKS]
    changes = {**settings, "network.name": name, **({} if encoder is None else {"network.encoder": encoder})}
    with torch.device("meta"):
        config = Config().replace(changes).network
        network = build_network(config, in_channels=in_channels, num_classes=num_classes)
    legal = trace_geometry(network, in_channels=in_channels).compute_legal_size(size)
    rows = describe_layers(network, legal, in_channels=in_channels)
    image = replace(rows[0], name="image", operator="", inputs=(), shape=(in_channels, *legal))
    return [replace(image, parameters=0, gflops=0.0, activation_mb=0.0), *rows]


def describe_network(name: str, *, size: Size = (360, 480), in_channels: int = 3, num_classes: int = 11) -> NetworkRow:
    """Return the row of one network, built with the defaults of the config."""
    with torch.device("meta"):
        network = build_network(NetworkConfig(name=name), in_channels=in_channels, num_classes=num_classes)
    geometry = trace_geometry(network, in_channels=in_channels)
    legal = geometry.compute_input_size(size)
    rows = describe_layers(network, legal, in_channels=in_channels)
    return NetworkRow(
        name=name,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        size=legal,
        gflops=sum(row.gflops for row in rows),
        activation_mb=sum(row.activation_mb for row in rows),
        stride=geometry.stride,
        receptive_field=geometry.receptive_field if geometry.is_local else None,
        paper=PAPERS.get(name, PAPERS.get(type(network).__name__, "")),
    )


def describe_layers(network: nn.Module, size: Size, *, in_channels: int) -> list[LayerRow]:
    """Return the layers in the order of execution, with their output shapes for an image of `size`.

    The network may be on any device and is not changed.

    Raises:
        InvalidArgumentError: The size is not legal for the network.
    """
    skeleton = copy_to_meta(network)
    # Two images: batch normalization has no standard deviation of one pixel.
    images = torch.empty(2, in_channels, *size, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as flops, _LayerRecorder(skeleton, flops) as recorder:
        skeleton(images[:1])
    return _add_memory(recorder.rows, skeleton, images)


def count_gflops(network: nn.Module, shape: Sequence[int]) -> float:
    """Count 10^9 floating point operations of a forward pass on images (B, C, H, W), two for each multiply-add."""
    skeleton = copy_to_meta(network)
    with torch.inference_mode(), FlopCounterMode(display=False) as flops:
        skeleton(torch.empty(*shape, device="meta"))
    return float(flops.get_total_flops()) / 1e9


def _add_memory(rows: list[LayerRow], network: nn.Module, images: Tensor) -> list[LayerRow]:
    """Return the rows with what a training step of the network stores for each of the images."""
    first = {row.name: index for index, row in reversed([*enumerate(rows)])}
    current = 0

    def locate() -> int:
        nonlocal current
        current = first.get(_get_module_name(modules), current)
        return current

    with ModuleTracker() as modules:
        saved = _count_saved(partial(network.train(), images), _list_weight_blocks(network), locate)
    return [replace(row, activation_mb=saved[index] / len(images) / 1e6) for index, row in enumerate(rows)]


class _LayerRecorder(OpObserver):
    """Records the layers of a network that runs in its context."""

    def __init__(self, network: nn.Module, flops: FlopCounterMode) -> None:
        super().__init__()
        self.rows: list[LayerRow] = []
        self._network, self._flops, self._flops_so_far = network, flops, 0
        self._modules = ModuleTracker()
        self._counted: set[str] = set()
        self._weights = {id(parameter) for parameter in network.parameters()}
        self._part: Part | None = None
        if end := get_encoder_end(network):
            self._part = "encoder"
            end.register_forward_hook(self._start_decoder)

    def _start_decoder(self, *_: Any) -> None:
        self._part = "decoder"

    def __enter__(self) -> "_LayerRecorder":
        self._modules.__enter__()  # type: ignore[no-untyped-call]
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        self._modules.__exit__(*exception)  # type: ignore[no-untyped-call]

    def on_op(self, func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        output = result[0] if isinstance(result, tuple | list) else result
        name, operator = _get_module_name(self._modules), func._schema.name.partition("::")[2].rstrip("_")
        parameters = 0  # of the module itself, at its first operator
        if name not in self._counted:
            self._counted.add(name)
            parameters = sum(p.numel() for p in self._network.get_submodule(name).parameters(recurse=False))
        before, self._flops_so_far = self._flops_so_far, self._flops.get_total_flops()
        flops = self._flops_so_far - before
        maps = [x for x in find_tensors(args) if x.dim() == 4 and id(x) not in self._weights]
        inputs, shape = tuple(tuple(x.shape[1:]) for x in maps), tuple(output.shape[1:])
        if operator == "slice" and inputs and inputs[0] != shape and output.is_floating_point():
            operator = "crop"  # rows, then columns
            if self.rows[-1].operator == "crop" and self.rows[-1].shape == inputs[0]:
                inputs = self.rows.pop().inputs
        changes = output.dim() == 4 and (not func.is_view or operator == "crop") and inputs[:1] != (shape,)
        if parameters or flops or changes or (operator == "add" and len(inputs) == 2):
            self.rows.append(
                LayerRow(
                    name=name,
                    operator=operator,
                    inputs=inputs,
                    shape=shape,
                    parameters=parameters,
                    gflops=flops / 1e9,
                    activation_mb=0.0,
                    part=self._part,
                )
            )


def _get_module_name(modules: ModuleTracker) -> str:
    """Return the name of the innermost of the nested modules that run."""
    return max(modules.parents - {"Global"}, key=len, default="").partition(".")[2]


def count_saved_bytes(network: nn.Module, images: Tensor) -> int:
    """Return the bytes that a training forward pass stores for the backward pass, each memory block once."""
    return _count_saved(partial(network, images), _list_weight_blocks(network)).total()


def count_checkpointed_bytes(segmenter: Segmenter, images: Tensor) -> int:
    """Return `count_saved_bytes` at the peak of a step with activation checkpointing.

    These are the maps between the stages, and the maps of the largest stage, which runs again. Activation checkpointing
    stays enabled in the network.

    Raises:
        InvalidArgumentError: The network has no stages.
    """
    stage_bytes = [0]

    def count_and_checkpoint(call: StageMethod, inputs: tuple[Any, ...]) -> Any:
        given = {_get_block(value) for value in inputs if isinstance(value, Tensor)}
        stage_bytes.append(_count_saved(partial(call, *inputs), _list_weight_blocks(segmenter) | given).total())
        return checkpoint_call(call, inputs)

    wrap_stages(segmenter.network, count_and_checkpoint)
    return count_saved_bytes(segmenter, images) + max(stage_bytes)


def _count_saved(
    call: Callable[[], Any], known: AbstractSet[int], locate: Callable[[], int] = lambda: 0
) -> Counter[int]:
    """Return the bytes of the memory blocks that a call stores, without the known ones, by the place of each."""
    saved: dict[int, Tensor] = {}  # keeps the blocks, so that none is used twice
    counts: Counter[int] = Counter()

    def pack(tensor: Tensor) -> Tensor:
        place, block = locate(), _get_block(tensor)
        if block not in saved and block not in known:
            counts[place] += tensor.untyped_storage().nbytes()
        saved.setdefault(block, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = call()
    del output
    return counts


def _list_weight_blocks(network: nn.Module) -> set[int]:
    return {_get_block(tensor) for tensor in itertools.chain(network.parameters(), network.buffers())}


def _get_block(tensor: Tensor) -> int:
    """Return an identifier of a tensor's memory; meta tensors have no address."""
    return int(tensor.untyped_storage()._cdata)
