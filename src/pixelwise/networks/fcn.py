"""FCN: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015.

Read from the bottom up: the layers that grow a map, the layers that score one, the network.
Layers and numbers are those of the authors' release (shelhamer/fcn.berkeleyvision.org).

The paper's networks and today's differ in their parts alone; offsets and kernels follow from them:

    as released     build_encoder("vgg16", taps="pools", ceil_mode=True, first_padding=100, ...),
                    build_fc_layers(512, padding=0), upsampling="frozen", grouped=False; any size
    same padding    build_encoder("vgg16", taps="pools", ...), build_fc_layers(512); sides of 32m
"""

import copy
import itertools
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pixelwise.errors import InvalidArgumentError, unknown_name
from pixelwise.networks.backbones import convert_fc_layers, get_fc_kernel
from pixelwise.networks.encoders import ChainEncoder, Encoder, get_classifier_layers
from pixelwise.networks.geometry.alignment import AlignedUpsampling, WindowPath, plan_upsampling
from pixelwise.networks.geometry.layer_windows import get_windows, set_padding
from pixelwise.ops import TransposedConv, bilinear_kernel

UpsamplingWeights = Literal["learned", "frozen"]
"""Bilinear to begin with, and trained as in the paper, or left so as in the authors' release."""

Padding = Literal["same", "released"]
"""Maps of size / stride, or the released networks': 100 pixels around the image, none at fc6."""

FIRST_PADDING = 100
"""Of the released networks: the smallest image then still has a map behind fc6."""


def bilinear_layer(num_classes: int, up: AlignedUpsampling, *, weights: UpsamplingWeights, grouped: bool) -> nn.Module:
    """The transposed convolution of an upscaling, bilinear in each class, nothing between classes."""
    if weights not in get_args(UpsamplingWeights):
        raise unknown_name("upsampling", weights, get_args(UpsamplingWeights))
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
    """Bilinear weights for a transposed convolution, dense (on the diagonal only) or grouped."""
    weight = layer.get_parameter("weight")
    weight.zero_()
    classes = torch.arange(weight.shape[0])
    outputs = classes if weight.shape[1] > 1 else torch.zeros_like(classes)
    weight[classes, outputs] = bilinear_kernel(weight.shape[-1], dtype=weight.dtype, device=weight.device)


def score_layer(in_channels: int, num_classes: int) -> nn.Conv2d:
    """1x1 convolution, zero at first: random weights gave "neither better performance nor faster convergence"."""
    layer = nn.Conv2d(in_channels, num_classes, 1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class FCN(nn.Module):
    """Class scores on an encoder's last map, joined on the way up by scores of its finer maps.

    The offset algebra (`alignment.py`) chooses kernel, crop and padding of each upscaling so that each
    sum, and the output, is aligned to the pixel. In the released form these are the paper's: k64 cut
    at 19 for 32s; k4 at 5 and k32 at 27 for 16s; k4 at 5, k4 at 9 and k16 at 31 for 8s; k63 at 18 for
    AlexNet. Parameters for 3 channels and 21 classes, VGG16, dense upsampling: 136,152,917 for 32s,
    134,815,994 for 16s, 134,489,759 for 8s.

    With scores that are all zero only the score layers learn in the first step; the rest follows.

    Args:
        in_channels: C of the images, as the encoder has it.
        num_classes: K of the logits.
        encoder: gives the maps, see `encoders.py`.
        head: what the last map passes before its scores, `build_fc_layers` for VGG and AlexNet; None: nothing.
        stride: of the finest map that has scores: 32, 16 or 8 in the paper, any of the encoder's strides.
        upsampling: whether upscalings are "learned", from bilinear ones, or "frozen".
        grouped: one kernel a class; False as in the release, K x K of them, bilinear on the diagonal.
            For 21 classes, forward and backward, x8 from 45x45 on 2 Zen 5 cores: 10 against 35 ms.

    Input (B, C, H, W) floating point, output (B, K, H, W). H and W must be multiples of
    `size_multiple`: 1 where every size has a map of its own, as in the released form, and else the
    encoder's coarsest stride.

    Raises:
        InvalidArgumentError: parts that do not fit together, or that have no alignment.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        encoder: Encoder,
        head: nn.Sequential | None = None,
        stride: int = 8,
        upsampling: UpsamplingWeights = "learned",
        grouped: bool = True,
    ) -> None:
        super().__init__()
        paths = _check_parts(in_channels, encoder, stride)
        head = nn.Sequential() if head is None else head
        paths[0] = (*paths[0], *get_windows(head))
        strides = encoder.strides[::-1][: len(paths)]
        channels = encoder.out_channels[::-1][: len(paths)]
        self.stride = stride
        self.plan, self.size_multiple = plan_upsampling(paths)
        self.encoder, self.head = encoder, head
        widths = (_out_channels(head, channels[0]), *channels[1:])
        # Named by strides, so that FCNs of different strides call the same layer the same.
        self.score = nn.ModuleDict(
            {str(s): score_layer(width, num_classes) for s, width in zip(strides, widths, strict=True)}
        )
        self.up = nn.ModuleDict(
            {
                f"{coarse}to{fine}": bilinear_layer(num_classes, up, weights=upsampling, grouped=grouped)
                for (coarse, fine), up in zip(itertools.pairwise((*strides, 1)), self.plan, strict=True)
            }
        )

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise InvalidArgumentError(
                f"this FCN takes sides that are multiples of {self.size_multiple}, not {height}x{width}; "
                "wrap it in Segmenter, which pads and crops."
            )
        last: nn.Module = self.up[f"{self.stride}to1"]
        return last(self.scores(images))[:, :, :height, :width]  # type: ignore[no-any-return]

    def scores(self, images: Tensor) -> Tensor:
        """(B, C, H, W) → (B, K, h, w): the summed scores at `stride`, before the last upscaling."""
        maps = self.encoder(images).maps[::-1]
        (coarsest, score), *finer = self.score.items()
        x: Tensor = score(self.head(maps[0]))
        for (stride, score), features, up in zip(finer, maps[1:], self.plan, strict=False):
            grown = self.up[f"{coarsest}to{stride}"](x)
            x = _add(grown, score(features), up.finer_crop)
            coarsest = stride
        return x

    def start_from(self, coarser: "FCN") -> None:
        """Weights of an FCN of a coarser stride: 32s → 16s → 8s, the paper's training in stages.

        The scores of the new maps are set to zero, so that at first `scores` are exactly those of
        `coarser`, enlarged. What that does to the logits depends on the kernels. Odd ones (ResNet)
        change none: a line between two cells stays what it is. Even ones (VGG: 4 and 32 in place of
        64) change none farther than a quarter of a cell from cell centers, in rows and in columns;
        nearer, a straight line now cuts the corner that interpolation has at a center, by at most an
        eighth of the scores' second difference in that direction.

        Raises:
            InvalidArgumentError: `coarser` is not coarser, or not made of the same parts.
        """
        theirs, ours = coarser.state_dict(), self.state_dict()
        dropped = theirs.keys() - ours.keys()
        shared = {name: tensor for name, tensor in theirs.items() if name in ours}
        differing = [name for name, tensor in shared.items() if tensor.shape != ours[name].shape]
        if differing or dropped != {f"up.{coarser.stride}to1.weight"}:
            raise InvalidArgumentError(
                f"an FCN-{self.stride}s cannot start from this FCN-{coarser.stride}s: it needs a coarser one "
                f"with the same encoder, head, classes and upsampling. Differing: {sorted([*differing, *dropped])}."
            )
        self.load_state_dict(shared, strict=False)
        for name in self.score.keys() - coarser.score.keys():
            for parameter in self.score[name].parameters():
                nn.init.zeros_(parameter)
        for name in self.up.keys() - coarser.up.keys():
            set_bilinear(self.up[name])

    @classmethod
    def from_classifier(
        cls,
        classifier: nn.Module,
        num_classes: int,
        *,
        stride: int = 8,
        padding: Padding | None = None,
        upsampling: UpsamplingWeights = "learned",
        grouped: bool = True,
    ) -> "FCN":
        """An FCN with the weights of a torchvision classifier, copied; only the class layer is new.

        fc6 and fc7 of VGG and AlexNet become convolutions: (4096, 25088) → (4096, 512, 7, 7). Of the
        others, which pool globally, all that comes before the pooling is kept.

        Args:
            padding: "released" (VGG and AlexNet) or "same" (all but AlexNet, whose 6x6 fc6 has no
                middle cell); None: "same" where it can be.

        Raises:
            InvalidArgumentError: a classifier of another kind, or a padding that it cannot have.
        """
        layers = copy.deepcopy(get_classifier_layers(classifier))
        kernel = get_fc_kernel(classifier)
        padding = padding or ("same" if kernel % 2 else "released")
        if (padding == "released" and kernel == 1) or (padding == "same" and kernel % 2 == 0):
            raise InvalidArgumentError(f"{type(classifier).__name__} cannot have padding={padding!r}; leave it out.")
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


def _add(grown: Tensor, finer: Tensor, finer_crop: int) -> Tensor:
    if finer_crop:
        rows, columns = (slice(finer_crop, finer_crop + side) for side in grown.shape[2:])
        return grown + finer[:, :, rows, columns]
    return grown[:, :, : finer.shape[2], : finer.shape[3]] + finer


def _check_parts(in_channels: int, encoder: Encoder, stride: int) -> list[WindowPath]:
    """The paths of the maps that get scores, coarse to fine."""
    if encoder.in_channels != in_channels:
        raise InvalidArgumentError(f"the encoder takes {encoder.in_channels} channels, the images have {in_channels}.")
    if encoder.paths is None:
        raise InvalidArgumentError(
            "where the cells of this encoder lie on the image cannot be told, so its maps cannot be "
            "aligned; choose another one, such as torchvision's network of the same name."
        )
    if stride not in encoder.strides:
        raise InvalidArgumentError(
            f"no map of this encoder has stride {stride}; choose one of {encoder.strides[::-1]}."
        )
    return list(encoder.paths[encoder.strides.index(stride) :][::-1])


def _out_channels(head: nn.Module, in_channels: int) -> int:
    convolutions = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    return convolutions[-1].out_channels if convolutions else in_channels
