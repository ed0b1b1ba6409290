"""Encoders that torchvision and timm build. Importing one of them takes longer than importing PyTorch."""

import itertools
from typing import Any

import timm
from timm.layers.conv2d_same import Conv2dSame
from timm.models import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn
from torchvision import models

from pixelwise.errors import InvalidArgumentError, describe_cause, find_name
from pixelwise.networks.encoders import FAMILIES, Encoder, Features, get_classifier_layers, infer_map_shapes
from pixelwise.networks.geometry.alignment import WindowPath, compute_map_size
from pixelwise.networks.geometry.layer_windows import EndPaddedConv2d, Layers, find_first_convolution, get_windows

_BUILD_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, AssertionError, NotImplementedError)
"""Errors of timm's networks for an unsupported option or image size."""

_ODD_SIZE = (161, 130)
"""Height and width of an image for which all ways of rounding and padding give different map sizes."""


class TimmEncoder(Encoder):
    """A network of timm that returns features, with timm's names.

    Args:
        name: Name of the network in timm.
        in_channels: C of the images.
        output_stride: The coarsest stride, by dilation instead of the last strides; None for the native one.

    Raises:
        InvalidArgumentError: The name is unknown, or timm cannot build the network with these options.
    """

    def __init__(self, name: str, *, in_channels: int, output_stride: int | None = None) -> None:
        super().__init__()
        name = name if timm.is_model(name) else find_name("timm encoder", name, timm.list_models())
        options: dict[str, Any] = {} if output_stride is None else {"output_stride": output_stride}
        try:
            self.model = timm.create_model(name, features_only=True, in_chans=in_channels, **options)
            _fix_padding(self.model)
            self.in_channels = in_channels
            self.stages = self._find_stages()
            info: Any = self.model.feature_info
            shapes = infer_map_shapes(self, 320, 192)
        except _BUILD_ERRORS as error:
            raise InvalidArgumentError(
                f"Network {name!r} of timm is not an encoder for images of any size ({describe_cause(error)}). Choose "
                f"another encoder."
            ) from error
        self.out_channels = tuple(info.channels())
        self.strides = tuple(info.reduction())
        self.first_layer = find_first_convolution({"model": self.model})[0]
        if [shape[1] for shape in shapes] != list(self.out_channels):
            raise InvalidArgumentError(
                f"Network {name!r} of timm does not return maps (B, C, H, W), but {shapes}. Choose another encoder."
            )
        self.paths = self._find_paths()

    def forward(self, images: Tensor, *, with_switches: bool = False) -> Features:
        """Return the maps of (B, C, H, W)."""
        if not self.stages:
            return Features(list(self.model(images)), [])
        return super().forward(images, with_switches=with_switches)

    def _find_stages(self) -> tuple[tuple[str, ...], ...]:
        """Return the stages of models whose layers run in order and partly return maps."""
        model: Any = self.model
        layers = [name for name, _ in model.named_children()]
        if isinstance(model, FeatureListNet):
            ends = [index + 1 for index, name in enumerate(layers) if name in model.return_layers]
        elif isinstance(model, EfficientNetFeatures | MobileNetV3Features) and model.feature_hooks is None:
            stem = [name for name in layers if name != "blocks"]
            layers = [*stem, *(f"blocks.{name}" for name, _ in model.blocks.named_children())]
            ends = [len(stem) + stage for stage in sorted(model._stage_out_idx)]  # stage 0 is the stem
        else:
            return ()
        return tuple(
            tuple(f"model.{name}" for name in layers[start:end]) for start, end in itertools.pairwise((0, *ends))
        )

    def _find_paths(self) -> tuple[WindowPath, ...] | None:
        """Return the paths of models that are a chain, if the attributes of their modules explain the map sizes."""
        if not self.stages:
            return None
        try:
            windows = [tuple(w for n in stage for w in get_windows(self.get_submodule(n))) for stage in self.stages]
            sizes = [shape[2:] for shape in infer_map_shapes(self, *_ODD_SIZE)]
        except (InvalidArgumentError, *_BUILD_ERRORS):
            return None
        tapped = tuple(itertools.accumulate(windows))
        # Convolutions that choose their padding by the size of the image show only in the sizes.
        expected = [tuple(compute_map_size(path, side) for side in _ODD_SIZE) for path in tapped]
        return tapped if sizes == expected else None


def _fix_padding(model: nn.Module) -> None:
    """Replace, in place, the convolutions of timm that choose their padding by the size of the map."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Conv2dSame):
                parent.set_submodule(name, EndPaddedConv2d(child))


def build_torchvision_layers(name: str) -> Layers:
    """Return the layers of a torchvision classifier before its global pooling, with random weights."""
    options: Any = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return get_classifier_layers(models.get_model(name, weights=None, **options))


def is_timm_name(name: str) -> bool:
    """Return whether a classifier is timm's: "timm:NAME", or a name that only timm has."""
    is_known = name in models.list_models(module=models)
    return name.startswith("timm:") or (not is_known and timm.is_model(name.partition(".")[0]))


def list_encoders() -> list[str]:
    """Return the names of `build_encoder`, without those of timm."""
    names = models.list_models(module=models)
    return sorted(["caffenet", *(name for name in names if name.startswith(FAMILIES))])
