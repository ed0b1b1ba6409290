"""FCN: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015 (arXiv:1411.4038).

The file reads bottom-up: the upsampling layer, the score layer, the network. Layers and numbers are those of the
authors' release (shelhamer/fcn.berkeleyvision.org). The networks of the paper and those of today differ only in their
parts, from which offsets and kernels follow:

    as released     build_encoder("vgg16", taps="pools", ceil_mode=True, first_padding=100, ...),
                    build_fc_layers(512, padding=0), upsampling="frozen", grouped=False; any size
    same padding    build_encoder("vgg16", taps="pools", ...), build_fc_layers(512); multiples of 32
"""

import copy
import itertools
from typing import Literal

import torch
from torch import Tensor, nn

from pixelwise.arguments import Count, check_arguments, describe_value
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.backbones import convert_fc_layers, get_fc_kernel_size
from pixelwise.networks.encoders import ChainEncoder, Encoder, get_classifier_layers
from pixelwise.networks.geometry.alignment import AlignedUpsampling, WindowPath, plan_upsampling
from pixelwise.networks.geometry.layer_windows import get_windows, set_padding
from pixelwise.networks.layers import check_images, widen_convolutions
from pixelwise.ops import TransposedConv, bilinear_weight

UpsamplingWeights = Literal["learned", "frozen"]
"""Bilinear at first and trained, as in the paper, or frozen, as in the authors' release."""

Padding = Literal["same", "released"]
"""Maps of size / stride, or the released networks': 100 pixels around the image, none at fc6."""

FIRST_PADDING = 100
"""Padding of the first convolution of the released networks: the smallest image still has a map after fc6."""


def build_bilinear_layer(
    num_classes: int, up: AlignedUpsampling, *, weights: UpsamplingWeights, grouped: bool
) -> nn.Module:
    """Return the transposed convolution of an upsampling, bilinear in each class and zero between classes."""
    layer: nn.Module = TransposedConv(
        num_classes,
        num_classes,
        up.kernel_size,
        stride=up.factor,
        padding=up.padding,
        output_padding=up.output_padding,
        groups=num_classes if grouped else 1,
        bias=False,
    )
    set_bilinear(layer)
    return layer.requires_grad_(weights == "learned")


@torch.no_grad()
def set_bilinear(layer: nn.Module) -> None:
    """Set the weights of a transposed convolution, dense (on the diagonal only) or grouped, to bilinear kernels."""
    weight = layer.get_parameter("weight")
    channels, group_channels, kernel_size, _ = weight.shape
    groups = channels // group_channels
    weight.copy_(bilinear_weight(channels, kernel_size, groups=groups, dtype=weight.dtype, device=weight.device))


def build_score_layer(in_channels: int, num_classes: int) -> nn.Conv2d:
    """Return a 1x1 convolution of zeros: random weights gave "neither better performance nor faster convergence"."""
    layer = nn.Conv2d(in_channels, num_classes, 1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class FCN(nn.Module):
    """FCN (Long, Shelhamer, Darrell, CVPR 2015): class scores of several maps of an encoder, upsampled and summed.

    The offset algebra of `geometry/alignment.py` chooses kernel, crop and padding of each upsampling, so that each sum
    and the output are aligned to the pixel. In the released form these are the paper's: k64 cropped at 19 for 32s; k4
    at 5 and k32 at 27 for 16s; k4 at 5, k4 at 9 and k16 at 31 for 8s; k63 at 18 for AlexNet. With 3 channels, 21
    classes, VGG16 and dense upsampling, the networks have 136,152,917 (32s), 134,815,994 (16s) and 134,489,759 (8s)
    parameters. The first step changes only the score layers, because all scores are zero at first.

    Args:
        in_channels: C of the images, equal to that of the encoder.
        num_classes: K of the logits.
        encoder: Network that returns the maps; see `encoders.py`.
        head: Layers between the last map and its scores: `build_fc_layers` for VGG and AlexNet, or None.
        stride: Stride of the finest map with scores: 32, 16 or 8 in the paper; any of the encoder's strides.
        upsampling: "learned", from bilinear kernels, or "frozen".
        grouped: Whether each class has one kernel. False has K x K kernels as in the release, bilinear on the diagonal.
            For 21 classes, forward and backward, x8 from 45x45 on 2 Zen 5 cores: 10 ms grouped, 35 ms dense.

    Returns:
        `forward(images)` takes (B, C, H, W) floating point and returns logits (B, K, H, W). H and W must be multiples
        of `size_multiple`: 1 in the released form, else the encoder's coarsest stride.

    Raises:
        InvalidArgumentError: The parts do not match or cannot be aligned, or, in `forward`, H or W is not a multiple of
            `size_multiple`.

    Example:
        >>> import torch
        >>> from pixelwise.networks import FCN
        >>> from pixelwise.networks.encoders import build_encoder
        >>> network = FCN(3, 5, encoder=build_encoder("resnet18", in_channels=3))
        >>> network(torch.rand(1, 3, 64, 96)).shape
        torch.Size([1, 5, 64, 96])
    """

    @check_arguments
    def __init__(
        self,
        in_channels: Count,
        num_classes: Count,
        *,
        encoder: Encoder,
        head: nn.Sequential | None = None,
        stride: Count = 8,
        upsampling: UpsamplingWeights = "learned",
        grouped: bool = True,
    ) -> None:
        super().__init__()
        paths = _get_paths(in_channels, encoder, stride)
        head = nn.Sequential() if head is None else head
        paths[0] = (*paths[0], *get_windows(head))
        strides = encoder.strides[::-1][: len(paths)]
        channels = encoder.out_channels[::-1][: len(paths)]
        self.stride = stride
        self.plan, self.size_multiple = plan_upsampling(paths)
        self.encoder, self.head = encoder, head
        widths = (_get_out_channels(head, channels[0]), *channels[1:])
        # Named by strides, so that FCNs of different strides have the same names for the same layers.
        self.score = nn.ModuleDict(
            {str(s): build_score_layer(width, num_classes) for s, width in zip(strides, widths, strict=True)}
        )
        self.up = nn.ModuleDict(
            {
                f"{coarse}to{fine}": build_bilinear_layer(num_classes, up, weights=upsampling, grouped=grouped)
                for (coarse, fine), up in zip(itertools.pairwise((*strides, 1)), self.plan, strict=True)
            }
        )
        widen_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) for images (B, C, H, W)."""
        check_images(self, images, self.encoder.in_channels, self.size_multiple)
        height, width = images.shape[2:]
        last: nn.Module = self.up[f"{self.stride}to1"]
        return last(self.compute_scores(images))[:, :, :height, :width]  # type: ignore[no-any-return]

    def compute_scores(self, images: Tensor) -> Tensor:
        """Return the summed scores (B, K, h, w) at `stride`, before the last upsampling."""
        check_images(self, images, self.encoder.in_channels, self.size_multiple)
        maps = self.encoder(images).maps[::-1]
        (coarsest, score), *finer = self.score.items()
        x: Tensor = score(self.head(maps[0]))
        for (stride, score), features, up in zip(finer, maps[1:], self.plan, strict=False):
            upsampled = self.up[f"{coarsest}to{stride}"](x)
            x = _add_aligned(upsampled, score(features), up.finer_crop)
            coarsest = stride
        return x

    def start_from(self, coarser: "FCN") -> None:
        """Copy the weights of an FCN with a coarser stride: 32s → 16s → 8s, the paper's training in stages.

        The scores of the new maps are set to zero, so `compute_scores` first returns exactly the upsampled scores of
        `coarser`. The effect on the logits depends on the kernels. Odd ones (ResNet) change no logit, because a line
        between two cells stays the same. Even ones (VGG: 4 and 32 instead of 64) change no logit farther than a quarter
        of a cell from the cell centers, in rows and in columns. Nearer, they round the corner of the interpolation at
        the center, by at most an eighth of the second difference of the scores in that direction.

        Raises:
            InvalidArgumentError: `coarser` is not coarser, or has other parts.
        """
        if not isinstance(coarser, FCN):
            raise InvalidArgumentError(f"coarser is {describe_value(coarser)}, but must be an FCN.")
        theirs, ours = coarser.state_dict(), self.state_dict()
        dropped = theirs.keys() - ours.keys()
        shared = {name: tensor for name, tensor in theirs.items() if name in ours}
        differing = [name for name, tensor in shared.items() if tensor.shape != ours[name].shape]
        if differing or dropped != {f"up.{coarser.stride}to1.weight"}:
            raise InvalidArgumentError(
                f"An FCN-{self.stride}s cannot start from this FCN-{coarser.stride}s: it needs a coarser one with the "
                f"same encoder, head, classes and upsampling. Different: {sorted([*differing, *dropped])}."
            )
        self.load_state_dict(shared, strict=False)
        for name in self.score.keys() - coarser.score.keys():
            for parameter in self.score[name].parameters():
                nn.init.zeros_(parameter)
        for name in self.up.keys() - coarser.up.keys():
            set_bilinear(self.up[name])

    @classmethod
    @check_arguments
    def from_classifier(
        cls,
        classifier: nn.Module,
        num_classes: Count,
        *,
        stride: Count = 8,
        padding: Padding | None = None,
        upsampling: UpsamplingWeights = "learned",
        grouped: bool = True,
    ) -> "FCN":
        """Return an FCN with copies of the weights of a torchvision classifier; only the score layers are new.

        fc6 and fc7 of VGG and AlexNet become convolutions: (4096, 25088) → (4096, 512, 7, 7). Of the others, which pool
        globally, all layers before the pooling are used.

        Args:
            classifier: A torchvision classifier.
            num_classes: K of the logits.
            stride: As in `FCN`.
            padding: "released" (VGG and AlexNet) or "same" (all except AlexNet, whose 6x6 fc6 has no center pixel);
                None for "same" where possible.
            upsampling: As in `FCN`.
            grouped: As in `FCN`.

        Raises:
            InvalidArgumentError: The classifier is of a different kind, or does not have the padding.
        """
        layers = copy.deepcopy(get_classifier_layers(classifier))
        kernel_size = get_fc_kernel_size(classifier)
        padding = padding or ("same" if kernel_size % 2 else "released")
        if (padding == "released" and kernel_size == 1) or (padding == "same" and kernel_size % 2 == 0):
            raise InvalidArgumentError(f"{type(classifier).__name__} does not support padding={padding!r}. Use None.")
        if padding == "released":
            set_padding(layers, ceil_mode=True, first_padding=FIRST_PADDING)
        head = convert_fc_layers(classifier, padding=0 if padding == "released" else None)
        encoder = ChainEncoder(layers, taps="pools" if head else "stages")
        return cls(
            encoder.in_channels,
            num_classes,
            encoder=encoder,
            head=head,
            stride=stride,
            upsampling=upsampling,
            grouped=grouped,
        )


def _add_aligned(upsampled: Tensor, finer: Tensor, finer_crop: int) -> Tensor:
    if finer_crop:
        rows, columns = (slice(finer_crop, finer_crop + side) for side in upsampled.shape[2:])
        return upsampled + finer[:, :, rows, columns]
    return upsampled[:, :, : finer.shape[2], : finer.shape[3]] + finer


def _get_paths(in_channels: int, encoder: Encoder, stride: int) -> list[WindowPath]:
    """Return the window paths of the maps that get scores, coarse to fine."""
    encoder.check_in_channels(in_channels)
    if encoder.paths is None:
        raise InvalidArgumentError(
            "The alignment of this encoder's maps cannot be determined. Choose another encoder, such as torchvision's "
            "network of the same name."
        )
    if stride not in encoder.strides:
        raise InvalidArgumentError(
            f"stride is {stride}, but must be one of {encoder.strides[::-1]}, those of the encoder."
        )
    return list(encoder.paths[encoder.strides.index(stride) :][::-1])


def _get_out_channels(head: nn.Module, in_channels: int) -> int:
    convolutions = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    return convolutions[-1].out_channels if convolutions else in_channels
