"""SegNet: Badrinarayanan, Kendall, Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image
Segmentation", PAMI 2017 (arXiv:1511.00561), as released by its authors. With dropout it is Bayesian SegNet: Kendall,
Badrinarayanan, Cipolla, BMVC 2017 (arXiv:1511.02680), which predicts by Monte Carlo dropout, after Gal, Ghahramani,
"Dropout as a Bayesian Approximation", ICML 2016 (arXiv:1506.02142).

The file reads bottom-up: convolutions, an encoder stage, a decoder stage, the network, Monte Carlo dropout.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pixelwise.arguments import Count, FractionBelowOne, check_arguments
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.layers import (
    Skips,
    Upsampling,
    build_unpooling,
    build_upsampling,
    check_images,
    count_joined_channels,
    initialize_he,
    join_skip,
    upsample,
)
from pixelwise.ops.pooling import MaxPoolWithSwitches
from pixelwise.shapes import Size


def build_conv_bn_relu(channels: Sequence[int], kernel_size: int = 3) -> list[nn.Module]:
    """Return a convolution (same size, with bias), batch normalization and ReLU for each pair of channels.

    Batch normalization removes the bias; the bias is there because the release has it.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(channels):
        convolution = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return layers


def build_dropout(dropout: float) -> nn.Module:
    """Return a dropout layer, or an identity for probability 0."""
    return nn.Dropout(dropout) if dropout else nn.Identity()


def distribute_dropout(depth: int, dropout: float) -> list[float]:
    """Return the dropout of each level; Bayesian SegNet has it from the third level on: `(4, 0.5) → [0, 0, .5, .5]`."""
    if dropout and depth < 3:
        raise InvalidArgumentError(
            f"dropout is {dropout}, but it applies from the third level on and this network has {depth}. Use dropout=0."
        )
    return [0.0, 0.0, *[dropout] * (depth - 2)][:depth]


class EncoderStage(nn.Module):
    """Convolutions, then 2x2 max pooling that records its switches.

    `forward` takes (B, C, H, W) and returns the map (B, C', H, W), the pooled map (B, C', ceil(H / 2), ceil(W / 2)) and
    the uint8 switches in the shape of the pooled map. Ceil mode pools every size: 45 → 23 → 12.
    """

    def __init__(self, channels: Sequence[int], *, kernel_size: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*build_conv_bn_relu(channels, kernel_size))
        self.pool = MaxPoolWithSwitches(2, ceil_mode=True)
        self.dropout = build_dropout(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the map before pooling, the pooled map and the switches."""
        features = self.convolutions(x)
        pooled, switches = self.pool(features)
        return features, self.dropout(pooled), switches


class DecoderStage(nn.Module):
    """Upsampling to the size before the pooling, the skip if there is one, then convolutions.

    Args:
        channels: Channels of the pooled map, after each convolution except the last, and of the output. The number
            changes in the last convolution, so that unpooled maps always match their switches.
        classify: Whether the last convolution returns logits, without batch normalization and ReLU.
        upsampling: As in `SegNet`.
        skips: As in `SegNet`.
        dropout: Probability after the last convolution.
    """

    def __init__(
        self, channels: Sequence[int], *, classify: bool, upsampling: Upsampling, skips: Skips, dropout: float
    ) -> None:
        super().__init__()
        self.upsampling: Upsampling = upsampling
        self.skips: Skips = skips
        self.up = build_upsampling(upsampling, channels[0], channels[0])
        self.unpool = build_unpooling(upsampling)
        layers = build_conv_bn_relu([count_joined_channels(channels[0], channels[0], skips), *channels[1:]])
        self.convolutions = nn.Sequential(*layers[: -2 if classify else None])
        self.dropout = build_dropout(dropout)

    def forward(self, x: Tensor, size: Size, switches: Tensor, skip: Tensor | None) -> Tensor:
        """Return the finer map of (height, width) `size`."""
        x = upsample(self.up(x), size, self.unpool, switches)
        return self.dropout(self.convolutions(join_skip(x, skip, self.skips)))  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"upsampling={self.upsampling}, skips={self.skips}"


class SegNet(nn.Module):
    """SegNet (Badrinarayanan, Kendall, Cipolla, PAMI 2017): VGG16's convolutions, their mirror image, and switches.

    The defaults are the released network: 26 convolutions, each with batch normalization and ReLU except the last,
    which returns the logits. `SegNet(3, 11)` has 29,433,483 parameters in its convolutions and 15,872 in its batch
    normalizations. Two things differ from the release: its batch normalization has eps 1e-9 (1e-5 here, for reduced
    precision and the weights of VGG16), and its test statistics are recomputed over the training set.

    Args:
        in_channels: C of the images.
        num_classes: K of the logits.
        channels: Channels of each level, fine to coarse.
        depths: Number of convolutions of each level, in the encoder and in the decoder.
        upsampling: "switches" as in the paper, "nearest", "bed_of_nails", "bilinear" or "transposed".
        skips: "none" as in the paper, or "add" or "concat" for the encoder's map before pooling.
        dropout: Probability after the poolings and decoder stages of the third level and below. Bayesian SegNet (BMVC
            2017) uses 0.5, and `sample_predictions` keeps it on for prediction.

    Returns:
        `forward(images)` takes (B, C, H, W) floating point of any size and returns logits (B, K, H, W). The release
        feeds raw values 0..255; batch normalization makes the scale of the input irrelevant.

    Raises:
        InvalidArgumentError: `channels` and `depths` have different lengths, `dropout` has no level to act on, or a
            name is unknown.

    Example:
        >>> import torch
        >>> from pixelwise.networks import SegNet
        >>> network = SegNet(3, 5, channels=(8, 16), depths=(1, 2))
        >>> network(torch.rand(1, 3, 45, 61)).shape
        torch.Size([1, 5, 45, 61])
    """

    size_multiple = 1

    @check_arguments
    def __init__(
        self,
        in_channels: Count,
        num_classes: Count,
        *,
        channels: Sequence[Count] = (64, 128, 256, 512, 512),
        depths: Sequence[Count] = (2, 2, 3, 3, 3),
        upsampling: Upsampling = "switches",
        skips: Skips = "none",
        dropout: FractionBelowOne = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        if not channels or len(channels) != len(depths):
            raise InvalidArgumentError(f"channels {channels} and depths {depths} must have one number for each level.")
        self.skips: Skips = skips
        dropouts = distribute_dropout(len(channels), dropout)
        inputs, outputs = (in_channels, *channels[:-1]), (num_classes, *channels[:-1])
        self.encoder = nn.ModuleList(
            EncoderStage([first, *[width] * depth], dropout=p)
            for first, width, depth, p in zip(inputs, channels, depths, dropouts, strict=True)
        )
        decoder = [
            DecoderStage(
                [*[width] * depth, last], classify=level == 0, upsampling=upsampling, skips=self.skips, dropout=p
            )
            for level, (width, depth, last, p) in enumerate(zip(channels, depths, outputs, dropouts, strict=True))
        ]
        self.decoder = nn.ModuleList(decoder[::-1])
        initialize_as_released(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) for images (B, C, H, W)."""
        check_images(self, images, self.in_channels)
        x, levels = images, []
        for encode in self.encoder:
            features, x, switches = encode(x)
            # Without skips only the switches are kept, one byte per window, and not the maps before pooling.
            skip = None if self.skips == "none" else features
            levels.append(((features.shape[2], features.shape[3]), switches, skip))
        for decode, (size, switches, skip) in zip(self.decoder, reversed(levels), strict=True):
            x = decode(x, size, switches, skip)
        return x


def initialize_as_released(network: nn.Module) -> None:
    """Apply He initialization, and start batch normalization with scale 1 and shift 0.001."""
    initialize_he(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.constant_(module.bias, 1e-3)


@check_arguments
@torch.no_grad()
def sample_predictions(network: nn.Module, images: Tensor, samples: Count) -> tuple[Tensor, Tensor]:
    """Return the mean of the class probabilities over passes with dropout, and their variance.

    The paper takes 50 samples, and finds that more than about 6 are better than one pass without dropout. The time is
    proportional to their number; the memory is not.

    Args:
        network: Maps images to logits (B, K, H, W); without dropout layers all passes are equal.
        images: (B, C, H, W).
        samples: Number of passes, at least 1.

    Returns:
        The mean softmax (B, K, H, W) float32, whose maximum is the prediction, and the variance (B, H, W) float32 over
        the samples (divided by their number), averaged over the classes.

    Raises:
        InvalidArgumentError: `samples` is below 1.
    """
    with enable_dropout_only(network):
        mean = network(images).float().softmax(1)
        # Welford's algorithm, because a difference of large sums would lose a small variance to rounding.
        squares = torch.zeros_like(mean)
        for number in range(2, samples + 1):
            probabilities = network(images).float().softmax(1)
            difference = probabilities - mean
            mean = mean + difference / number
            squares += difference * (probabilities - mean)
    return mean, (squares / samples).mean(1)


@contextmanager
def enable_dropout_only(network: nn.Module) -> Iterator[None]:
    """Put dropout layers into training mode and all others into evaluation mode, and restore the modes at the end."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        for module, _ in modes:
            module.training = isinstance(module, nn.Dropout)
        yield
    finally:
        for module, training in modes:
            module.training = training
