"""Classifiers cut into stages: one contract for every network that takes an encoder.

Sides that are multiples of the coarsest stride give maps of exactly (H / stride, W / stride), but for
AlexNet and CaffeNet, whose unpadded windows lose cells at the border. Other sides are halved with

    VGG, ConvNeXt     the odd pixel left out, at each stage; VGG with `ceil_mode` keeps it
    DenseNet          the odd pixel kept down to stride 4, then left out
    GoogLeNet         the odd pixel kept at strides 2 and 32, left out between
    all others        the odd pixel kept: sides are H / stride rounded up
"""

import itertools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.func import functional_call

from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.networks.backbones import VGG_DEPTHS, build_caffenet_layers, build_vgg_layers
from pixelwise.networks.geometry.alignment import WindowPath, compute_map_size
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
from pixelwise.ops import max_pool_with_switches

Taps = Literal["stages", "pools"]
"""Where maps are taken: "stages", the last map of each stride (U-Net, SegNet), or "pools", what each
max pooling gives (FCN; VGG and AlexNet only)."""

FAMILIES = (
    *("alexnet", "convnext", "densenet", "efficientnet", "googlenet", "mnasnet", "mobilenet", "regnet"),
    *("resnet", "resnext", "shufflenet", "vgg", "wide_resnet"),
)
"""How the names of those torchvision classifiers begin that are a chain of modules."""

HEADS = ("avgpool", "dropout", "classifier", "fc", "aux1", "aux2")
"""What these classifiers call the modules that belong to no encoder."""

_UNFIT = (RuntimeError, TypeError, ValueError, AttributeError, AssertionError, NotImplementedError)
"""What timm's networks raise for a way of building them, or a size, that they do not have."""

_ODD_SIZE = (161, 130)
"""Height and width of an image whose maps tell one way of rounding and padding from the others."""


class Features(NamedTuple):
    """What an encoder sees in images (B, C, H, W)."""

    maps: list[Tensor]
    """Fine to coarse: (B, out_channels[i], H / strides[i], W / strides[i])."""
    switches: list[Tensor]
    """Of the 2x2 max poolings, fine to coarse: uint8, as `ops.max_pool_with_switches` gives them."""


class Encoder(nn.Module):
    """The contract: `forward(images, *, with_switches=False) -> Features`, and

    in_channels: C of the images.
    out_channels, strides: of the maps, fine to coarse; strides rise.
    paths: the windows between the image and each map, of which sizes and alignment are computed
        (`alignment.py`); None where they cannot be told.
    first_layer: name of the convolution that sees the image. Weights for another number of channels
        fit when their entry `f"{first_layer}.weight"` is changed.
    stages: names of the modules that act one after the other from one map to the next, fine to coarse;
        () where an encoder is no such chain. `pass_stage` takes one of them.
    """

    in_channels: int
    out_channels: tuple[int, ...]
    strides: tuple[int, ...]
    paths: tuple[WindowPath, ...] | None
    first_layer: str
    stages: tuple[tuple[str, ...], ...]


class ChainEncoder(Encoder):
    """Layers that act one after the other, under the names they have in a classifier.

    Args:
        layers: name → module; of a Sequential, each child is a layer of its own.
        taps: where maps are taken. With "stages" and poolings of 2x2 alone, as in VGG, `switches[i]`
            is of the pooling of `maps[i]`.

    Raises:
        InvalidArgumentError: taps="pools" for layers that do not end with a max pooling, or layers whose
            branches look at different places.
    """

    def __init__(self, layers: Mapping[str, nn.Module], *, taps: Taps = "stages") -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.chain = tuple(name for name, _ in flatten_layers(layers))
        self.first_layer, first = find_first_convolution(layers)
        self.in_channels = first.in_channels
        paths = list(itertools.accumulate(get_windows(layer) for _, layer in flatten_layers(layers)))
        self.taps = _taps_of(layers, paths, taps)
        self.stages = tuple(
            self.chain[start:end] for start, end in itertools.pairwise((0, *(place + 1 for place in self.taps)))
        )
        self.paths = tuple(paths[place] for place in self.taps)
        self.strides = tuple(compute_stride(path) for path in self.paths)
        self.out_channels = tuple(shape[1] for shape in infer_map_shapes(self, 256, 256))

    def forward(self, images: Tensor, *, with_switches: bool = False) -> Features:
        x, features = images, Features([], [])
        for stage in self.stages:
            x, switches = self.pass_stage(x, stage, with_switches)
            features.maps.append(x)
            features.switches.extend(switches)
        return features

    def pass_stage(self, x: Tensor, stage: tuple[str, ...], with_switches: bool) -> tuple[Tensor, list[Tensor]]:
        """The map before a stage → the map after it, and the switches of its 2x2 max poolings."""
        found = []
        for name in stage:
            layer = self.get_submodule(name)
            if with_switches and isinstance(layer, nn.MaxPool2d) and layer.kernel_size == layer.stride == 2:
                x, switches = max_pool_with_switches(x, 2, layer.ceil_mode)
                found.append(switches)
            else:
                x = layer(x)
        return x, found


class TimmEncoder(Encoder):
    """A network of timm as it gives its features, under timm's names; it records no switches.

    Args:
        name: as timm knows it.
        in_channels: C of the images.
        output_stride: the coarsest stride, by dilation in place of the last strides; None: as it is.

    Raises:
        InvalidArgumentError: an unknown name, or a network that timm cannot build so.
    """

    def __init__(self, name: str, *, in_channels: int, output_stride: int | None = None) -> None:
        super().__init__()
        if not timm.is_model(name):
            raise unknown_name("timm encoder", name, timm.list_models())
        options: dict[str, Any] = {} if output_stride is None else {"output_stride": output_stride}
        try:
            self.model = timm.create_model(name, features_only=True, in_chans=in_channels, **options)
            self.in_channels = in_channels
            self.stages = self._stages()
            info: Any = self.model.feature_info
            shapes = infer_map_shapes(self, 320, 192)
        except _UNFIT as error:
            raise InvalidArgumentError(
                f"timm's {name!r} is no encoder for images of any size ({error}); choose another."
            ) from error
        self.out_channels = tuple(info.channels())
        self.strides = tuple(info.reduction())
        self.first_layer = find_first_convolution({"model": self.model})[0]
        if [shape[1] for shape in shapes] != list(self.out_channels):
            raise InvalidArgumentError(
                f"timm's {name!r} does not give maps (B, C, H, W), but {shapes}; choose another encoder."
            )
        self.paths = self._paths()

    def forward(self, images: Tensor, *, with_switches: bool = False) -> Features:
        if not self.stages:
            return Features(list(self.model(images)), [])
        x, features = images, Features([], [])
        for stage in self.stages:
            x = self.pass_stage(x, stage)
            features.maps.append(x)
        return features

    def pass_stage(self, x: Tensor, stage: tuple[str, ...]) -> Tensor:
        """The map before a stage → the map after it."""
        for name in stage:
            x = self.model.get_submodule(name)(x)
        return x

    def _stages(self) -> tuple[tuple[str, ...], ...]:
        """Of models that timm runs one child after the other; some of the children give maps."""
        names: Mapping[str, str] = getattr(self.model, "return_layers", {})
        children = [name for name, _ in self.model.named_children()]
        ends = [place + 1 for place, name in enumerate(children) if name in names]
        return tuple(tuple(children[start:end]) for start, end in itertools.pairwise((0, *ends)))

    def _paths(self) -> tuple[WindowPath, ...] | None:
        """Of models that are a chain and do what the attributes of their modules say."""
        names = getattr(self.model, "return_layers", None)
        if names is None:
            return None
        try:
            layers = [(name, get_windows(layer)) for name, layer in self.model.named_children()]
            sizes = [shape[2:] for shape in infer_map_shapes(self, *_ODD_SIZE)]
        except (InvalidArgumentError, *_UNFIT):
            return None
        paths = itertools.accumulate(windows for _, windows in layers)
        tapped = tuple(path for (name, _), path in zip(layers, paths, strict=True) if name in names)
        # Convolutions that choose their padding by the image's size do not say so; sizes tell.
        expected = [tuple(compute_map_size(path, side) for side in _ODD_SIZE) for path in tapped]
        return tapped if sizes == expected else None


def build_encoder(
    name: str,
    *,
    in_channels: int,
    taps: Taps = "stages",
    output_stride: int | None = None,
    ceil_mode: bool = False,
    first_padding: int | None = None,
) -> Encoder:
    """An encoder with fresh weights, by name.

    Args:
        name: one of `list_encoders()`, such as "vgg16", "alexnet" or "resnet34": torchvision's, whose
            weight files fit entry for entry; "caffenet", the AlexNet of FCN's paper; or "timm:NAME",
            any network of timm that gives features, such as "timm:convnext_tiny".
        in_channels: C of the images.
        taps: where maps are taken.
        output_stride: the coarsest stride, reached by dilation (`windows.dilate`); None: as it is.
        ceil_mode: whether max poolings round up, as in Caffe: SegNet, and FCN as released.
        first_padding: padding of the first convolution, 100 in FCN as released; None: as it is.

    Raises:
        InvalidArgumentError: an unknown name (the nearest is named), or an option this network cannot take.
    """
    if name.startswith("timm:"):
        if taps != "stages" or ceil_mode or first_padding is not None:
            raise InvalidArgumentError(
                f"{name} takes no taps, ceil_mode or first_padding: they are for VGG and AlexNet."
            )
        return TimmEncoder(name.removeprefix("timm:"), in_channels=in_channels, output_stride=output_stride)
    if name not in list_encoders():
        raise unknown_name("encoder", name, [*list_encoders(), "timm:NAME"])
    layers = _fresh_layers(name, in_channels)
    set_padding(layers, ceil_mode=ceil_mode, first_padding=first_padding)
    return ChainEncoder(layers if output_stride is None else dilate(layers, output_stride), taps=taps)


def list_encoders() -> list[str]:
    """The names `build_encoder` knows, but for those of timm."""
    foreign = torchvision.models.list_models(module=torchvision.models)
    return sorted(["caffenet", *(name for name in foreign if name.startswith(FAMILIES))])


def get_classifier_layers(classifier: nn.Module) -> Layers:
    """What a torchvision classifier does before its global pooling, for `ChainEncoder`; no copies."""
    kind = type(classifier).__name__.lower()
    if not kind.startswith(FAMILIES):
        raise unknown_name("classifier", kind, FAMILIES)
    layers = {name: layer for name, layer in classifier.named_children() if name not in HEADS}
    # torchvision applies DenseNet's last ReLU as a function.
    return {**layers, "last": nn.ReLU()} if kind.startswith("densenet") else layers


def infer_map_shapes(encoder: Encoder, height: int, width: int) -> list[tuple[int, ...]]:
    """(1, C, H, W) of each map for an image of that size; nothing is computed."""
    named = (*encoder.named_parameters(), *encoder.named_buffers())
    tensors = {name: tensor.to("meta") for name, tensor in named}
    image = named[0][1].new_empty(1, encoder.in_channels, height, width, device="meta")
    training = encoder.training
    with torch.no_grad():
        maps: list[Tensor] = functional_call(encoder.eval(), tensors, (image,)).maps
    encoder.train(training)
    return [tuple(features.shape) for features in maps]


def _taps_of(layers: Mapping[str, nn.Module], paths: list[WindowPath], taps: Taps) -> tuple[int, ...]:
    """Which places of the chain give a map."""
    last = len(paths) - 1
    if taps == "stages":
        strides = [compute_stride(path) for path in paths]
        return tuple(place for place in range(last + 1) if place == last or strides[place] != strides[place + 1])
    places = tuple(place for place, (_, layer) in enumerate(flatten_layers(layers)) if isinstance(layer, nn.MaxPool2d))
    if places[-1:] != (last,):
        raise InvalidArgumentError('taps="pools" needs an encoder that ends with a max pooling: a VGG or AlexNet.')
    return places


def _fresh_layers(name: str, in_channels: int) -> Layers:
    if name == "caffenet":
        return {"features": build_caffenet_layers(in_channels)}
    if name.startswith("vgg"):  # torchvision would first draw 120 million weights of fully connected layers
        depths = VGG_DEPTHS[name.removesuffix("_bn")]
        return {"features": build_vgg_layers(in_channels, depths=depths, batch_norm=name.endswith("_bn"))}
    options: dict[str, Any] = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    layers = get_classifier_layers(torchvision.models.get_model(name, weights=None, **options))
    place, first = find_first_convolution(layers)
    if first.in_channels == in_channels:
        return layers
    trunk = nn.ModuleDict(layers)
    trunk.set_submodule(place, _with_channels(first, in_channels))
    return dict(trunk.items())


def _with_channels(like: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    """A fresh convolution that differs in its input channels alone."""
    fresh = nn.Conv2d(
        in_channels,
        like.out_channels,
        (like.kernel_size[0], like.kernel_size[1]),
        (like.stride[0], like.stride[1]),
        like.padding if isinstance(like.padding, str) else (like.padding[0], like.padding[1]),
        bias=like.bias is not None,
    )
    initialize_he(fresh)
    return fresh
