"""Classifiers of torchvision and timm as encoders, with one contract for every network that takes an encoder.

If the sides of an image are multiples of the coarsest stride, the maps have exactly (H / stride, W / stride) pixels.
AlexNet and CaffeNet are exceptions, because their unpadded windows lose pixels at the border. Other sides are rounded:

    VGG, ConvNeXt     down at each stage; VGG with `ceil_mode` rounds up
    DenseNet          up to stride 4, then down
    GoogLeNet         up at strides 2 and 32, down between them
    all others        up: sides are H / stride rounded up

ResNet, VGG and CaffeNet are built here. The others come from torchvision and timm (`library_encoders.py`), which are
imported only for them.
"""

import importlib
import itertools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pixelwise.arguments import Count, Index, check_arguments
from pixelwise.errors import InvalidArgumentError, find_name, unknown_name
from pixelwise.networks.backbones import VGG_DEPTHS, build_caffenet_layers, build_vgg_layers
from pixelwise.networks.geometry.alignment import WindowPath
from pixelwise.networks.geometry.layer_windows import (
    Layers,
    compute_stride,
    dilate,
    find_first_convolution,
    flatten_layers,
    get_windows,
    set_padding,
)
from pixelwise.networks.layers import initialize_he
from pixelwise.networks.resnet import RESNETS, build_resnet_layers
from pixelwise.ops import max_pool_with_switches

Taps = Literal["stages", "pools"]
"""The maps that are returned: "stages", the last map of each stride (U-Net, SegNet), or "pools", the output of each max
pooling (FCN; VGG and AlexNet only)."""

FAMILIES = (
    *("alexnet", "convnext", "densenet", "efficientnet", "googlenet", "mnasnet", "mobilenet", "regnet"),
    *("resnet", "resnext", "shufflenet", "vgg", "wide_resnet"),
)
"""Prefixes of the names of torchvision classifiers that are a chain of modules."""

HEADS = ("avgpool", "dropout", "classifier", "fc", "aux1", "aux2")
"""Names of the modules of these classifiers that are not part of an encoder."""

OWN_ENCODERS = ("caffenet", *RESNETS, *VGG_DEPTHS, *(f"{name}_bn" for name in VGG_DEPTHS))
"""Names of the encoders that are built without torchvision and timm."""


class Features(NamedTuple):
    """The output of an encoder for images (B, C, H, W)."""

    maps: list[Tensor]
    """Fine to coarse: (B, out_channels[i], H / strides[i], W / strides[i])."""
    switches: list[Tensor]
    """Switches of the 2x2 max poolings, fine to coarse, from `ops.max_pool_with_switches`."""


class Encoder(nn.Module):
    """The contract of encoders: `forward(images, *, with_switches=False) -> Features`, and these attributes.

    in_channels: C of the images.
    out_channels, strides: Channels and strides of the maps, fine to coarse.
    paths: Windows between the image and each map, from which `alignment.py` computes sizes and alignment; None if they
        cannot be determined.
    first_layer: Name of the convolution that sees the image. Weights for a different number of channels fit after
        a change of the entry `f"{first_layer}.weight"`.
    stages: Names of the modules that run in order from one map to the next, fine to coarse; () if the encoder is not
        such a chain.
    """

    in_channels: int
    out_channels: tuple[int, ...]
    strides: tuple[int, ...]
    paths: tuple[WindowPath, ...] | None
    first_layer: str
    stages: tuple[tuple[str, ...], ...]

    def forward(self, images: Tensor, *, with_switches: bool = False) -> Features:
        """Return the maps of (B, C, H, W) and, on request, the switches of the 2x2 max poolings."""
        x, features = images, Features([], [])
        for stage in self.stages:
            x, switches = self.run_stage(x, stage, with_switches)
            features.maps.append(x)
            features.switches.extend(switches)
        return features

    def run_stage(self, x: Tensor, stage: tuple[str, ...], with_switches: bool) -> tuple[Tensor, list[Tensor]]:
        """Return the map after a stage, and the switches of its 2x2 max poolings."""
        switches = []
        for name in stage:
            layer = self.get_submodule(name)
            if with_switches and isinstance(layer, nn.MaxPool2d) and layer.kernel_size == layer.stride == 2:
                x, positions = max_pool_with_switches(x, 2, ceil_mode=layer.ceil_mode)
                switches.append(positions)
            else:
                x = layer(x)
        return x, switches

    def check_in_channels(self, in_channels: int) -> None:
        """Raise InvalidArgumentError unless the encoder takes images with `in_channels`."""
        if self.in_channels != in_channels:
            raise InvalidArgumentError(
                f"The encoder takes {self.in_channels} channels, but in_channels is {in_channels}. "
                "Build the encoder with the same number."
            )


class ChainEncoder(Encoder):
    """Layers that run in order, with their names in a classifier.

    Args:
        layers: Name → module; each child of a Sequential is a layer of its own.
        taps: Which maps are returned. With "stages" and only 2x2 poolings, as in VGG, `switches[i]` is of the pooling
            of `maps[i]`.

    Raises:
        InvalidArgumentError: `taps` is "pools" and the last layer is not a max pooling, or the branches of a layer have
            different alignment.
    """

    def __init__(self, layers: Mapping[str, nn.Module], *, taps: Taps = "stages") -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        chain = list(flatten_layers(layers))
        self.first_layer, first = find_first_convolution(layers)
        self.in_channels = first.in_channels
        paths = list(itertools.accumulate(get_windows(layer) for _, layer in chain))
        ends = _find_taps(layers, paths, taps)
        self.stages = tuple(
            tuple(name for name, _ in chain[start:end])
            for start, end in itertools.pairwise((0, *(index + 1 for index in ends)))
        )
        self.paths = tuple(paths[index] for index in ends)
        self.strides = tuple(compute_stride(path) for path in self.paths)
        self.eval()
        with torch.no_grad():  # a small image, because the first operator on the meta device imports SymPy
            maps: list[Tensor] = self(first.weight.new_zeros(1, self.in_channels, 128, 128)).maps
        self.out_channels = tuple(features.shape[1] for features in maps)
        self.train()


@check_arguments
def build_encoder(
    name: str,
    *,
    in_channels: Count,
    taps: Taps = "stages",
    output_stride: Count | None = None,
    ceil_mode: bool = False,
    first_padding: Index | None = None,
) -> Encoder:
    """Build an encoder with random weights, by name.

    Args:
        name: A classifier of torchvision, such as "vgg16", "alexnet" or "resnet34", with the names of its weight files;
            "caffenet", the AlexNet of FCN's paper; or any network of timm that returns features, such as
            "convnext_atto", with "timm:" before it where torchvision has one of the same name.
        in_channels: C of the images.
        taps: Which maps are returned.
        output_stride: The coarsest stride, by dilation (`layer_windows.dilate`); None for the native one.
        ceil_mode: Whether max poolings round up, as in Caffe: SegNet, and FCN as released.
        first_padding: Padding of the first convolution, 100 in FCN as released; None for the native one.

    Raises:
        InvalidArgumentError: The name is unknown, or the network does not have an option.
    """
    name = find_encoder(name)
    if name not in OWN_ENCODERS and (libraries := _import_libraries()).is_timm_name(name):
        if taps != "stages" or ceil_mode or first_padding is not None:
            raise InvalidArgumentError(f"{name} takes no taps, ceil_mode or first_padding. Only VGG and AlexNet do.")
        encoder: Encoder = libraries.TimmEncoder(
            name.removeprefix("timm:"), in_channels=in_channels, output_stride=output_stride
        )
        return encoder
    layers = _build_layers(name, in_channels)
    set_padding(layers, ceil_mode=ceil_mode, first_padding=first_padding)
    return ChainEncoder(layers if output_stride is None else dilate(layers, output_stride), taps=taps)


def find_encoder(name: str) -> str:
    """Return the name of an encoder as its library has it."""
    if name in OWN_ENCODERS:
        return name
    library, colon, model = name.partition(":")
    if colon and library.lower() == "timm":
        return f"timm:{model}"
    libraries = _import_libraries()
    known = [*libraries.list_encoders(), "timm:NAME"]
    return name if libraries.is_timm_name(name) else find_name("encoder", name, known)


def _import_libraries() -> Any:
    return importlib.import_module("pixelwise.networks.library_encoders")


def get_classifier_layers(classifier: nn.Module) -> Layers:
    """Return the modules of a torchvision classifier before its global pooling, for `ChainEncoder`; not copied."""
    kind = type(classifier).__name__.lower()
    if not kind.startswith(FAMILIES):
        raise unknown_name("classifier", kind, FAMILIES)
    layers = {name: layer for name, layer in classifier.named_children() if name not in HEADS}
    # torchvision applies the last ReLU of DenseNet as a function.
    return {**layers, "last": nn.ReLU()} if kind.startswith("densenet") else layers


def infer_map_shapes(encoder: Encoder, height: int, width: int) -> list[tuple[int, ...]]:
    """Return (1, C, H, W) of each map for an image of that size, without computing it (meta device)."""
    named = (*encoder.named_parameters(), *encoder.named_buffers())
    tensors = {name: tensor.to("meta") for name, tensor in named}
    image = named[0][1].new_empty(1, encoder.in_channels, height, width, device="meta")
    training = encoder.training
    with torch.no_grad():
        maps: list[Tensor] = functional_call(encoder.eval(), tensors, (image,)).maps
    encoder.train(training)
    return [tuple(features.shape) for features in maps]


def _find_taps(layers: Mapping[str, nn.Module], paths: list[WindowPath], taps: Taps) -> tuple[int, ...]:
    """Return the indices of the layers in the chain that return a map."""
    last = len(paths) - 1
    if taps == "stages":
        strides = [compute_stride(path) for path in paths]
        return tuple(index for index in range(last + 1) if index == last or strides[index] != strides[index + 1])
    pools = tuple(index for index, (_, layer) in enumerate(flatten_layers(layers)) if isinstance(layer, nn.MaxPool2d))
    if pools[-1:] != (last,):
        raise InvalidArgumentError('taps="pools" needs an encoder that ends with a max pooling: a VGG or AlexNet.')
    return pools


def _build_layers(name: str, in_channels: int) -> Layers:
    if name == "caffenet":
        return {"features": build_caffenet_layers(in_channels)}
    if name.startswith("vgg"):  # torchvision would also draw the 120 million weights of the linear layers
        depths = VGG_DEPTHS[name.removesuffix("_bn")]
        return {"features": build_vgg_layers(in_channels, depths=depths, batch_norm=name.endswith("_bn"))}
    is_own = name in RESNETS
    layers: Layers = build_resnet_layers(name) if is_own else _import_libraries().build_torchvision_layers(name)
    first_name, first = find_first_convolution(layers)
    if first.in_channels == in_channels:
        return layers
    options: Any = {"kernel_size": first.kernel_size, "stride": first.stride, "padding": first.padding}
    convolution = nn.Conv2d(in_channels, first.out_channels, bias=first.bias is not None, **options)
    initialize_he(convolution)
    trunk = nn.ModuleDict(layers)
    trunk.set_submodule(first_name, convolution)
    return dict(trunk.items())
