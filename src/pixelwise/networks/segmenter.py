"""The network together with its normalization and padding: raw images in, logits of the same size out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.arguments import check_arguments, describe_value
from pixelwise.errors import InvalidArgumentError
from pixelwise.networks.layers import widen_convolutions
from pixelwise.shapes import round_up
from pixelwise.tensors import DTYPES, INTEGER_DTYPES, check_int, check_tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRule:
    """The rule that turns logits into labels: the most probable class, or a threshold for one of two classes.

    Every prediction and every exported graph uses it.
    """

    threshold: float | None = None
    """Probability from which on a pixel is labeled `foreground`; None: the most probable class."""
    foreground: int = 1
    """Index of the class that the threshold refers to; 0 or 1."""

    @property
    def min_margin(self) -> float:
        """Return the difference of both logits at the threshold: the probability is its logistic function.

        Differences are compared, because a softmax rounds differently in the last digit by the size of a tile.
        """
        assert self.threshold is not None
        return math.log(self.threshold / (1 - self.threshold))

    def assign_labels(self, logits: Tensor, dim: int) -> Tensor:
        """Return class indices for logits with the classes in `dim`, without this dimension; bool or int64."""
        if self.threshold is None:
            return logits.argmax(dim)
        margin = logits.select(dim, self.foreground) - logits.select(dim, 1 - self.foreground)
        is_foreground = margin >= self.min_margin
        return is_foreground if self.foreground else ~is_foreground


class Segmenter(nn.Module):
    """A network with the normalization, padding and cropping of its images.

    They are saved with the network, so training, prediction and export share them. Padding uses edge replication at the
    bottom and right, only where the legal sizes of the network require it. If the network has unpadded convolutions,
    the image is also padded on all sides by reflection, the overlap-tile strategy of U-Net (Ronneberger, Fischer, Brox,
    MICCAI 2015).

    Args:
        network: Maps (B, C, H, W) to (B, K, H - margin, W - margin). Legal sides are multiples of its `size_multiple`
            plus its `size_offset` (0). Its `output_margin` (0) is the reduction by unpadded convolutions. Images for a
            network with `takes_raw_images` are not normalized.
        mean: Mean of each channel in the raw units of the images.
        std: Standard deviation of each channel in the raw units of the images, above 0.

    Returns:
        `forward(images)` takes (B, C, H, W) of any dtype in raw units and returns logits (B, K, H, W) of the same size.

    Raises:
        InvalidArgumentError: `mean` and `std` have different lengths, or `std` is not above 0.

    Example:
        >>> import torch
        >>> from pixelwise.networks import Segmenter, UNet
        >>> network = UNet(3, 5, base_channels=8, depth=2, padding="same")
        >>> segmenter = Segmenter(network, mean=[120.0] * 3, std=[60.0] * 3)
        >>> segmenter(torch.randint(256, (1, 3, 45, 61), dtype=torch.uint8)).shape
        torch.Size([1, 5, 45, 61])
    """

    mean: Tensor
    std: Tensor

    @check_arguments
    def __init__(self, network: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if not mean or len(mean) != len(std) or not all(value > 0 for value in std):
            raise InvalidArgumentError(f"mean {mean} and std {std} must have one value per channel, with std above 0.")
        widen_convolutions(network)
        self.network = network
        if getattr(network, "takes_raw_images", False):
            mean, std = [0.0] * len(mean), [1.0] * len(std)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.multiple: int = getattr(network, "size_multiple", 1)
        self.offset: int = getattr(network, "size_offset", 0)
        self.margin: int = getattr(network, "output_margin", 0)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) for images (B, C, H, W) of any dtype in raw units."""
        self.check_images(images)
        height, width = images.shape[2:]
        if self.margin:
            for dim, side in ((2, height), (3, width)):
                images = images.index_select(dim, self.compute_padded_indices(side).to(images.device))
            return self.forward_padded(images)[:, :, :height, :width]
        rows, columns = self.compute_padding(height)[1], self.compute_padding(width)[1]
        normalized = self.normalize(images)
        if rows or columns:
            normalized = functional.pad(normalized, (0, columns, 0, rows), mode="replicate")
        logits: Tensor = self.network(normalized)
        return logits[:, :, :height, :width]

    def forward_padded(self, images: Tensor) -> Tensor:
        """Return the network's output for raw images (B, C, H, W) of a legal size, without padding and cropping."""
        logits: Tensor = self.network(self.normalize(images))
        return logits

    def normalize(self, images: Tensor) -> Tensor:
        """Return raw images (B, C, H, W) of any dtype as float32, normalized by mean and std."""
        self.check_images(images)
        return (images.float() - self.mean).div_(self.std)  # in place, to save the memory of one map

    def check_images(self, images: Tensor) -> None:
        """Raise InvalidArgumentError unless images are (B, C, H, W) with the C of the model; any real dtype."""
        check_tensor("images", images, "(B, C, H, W)", (*DTYPES, *INTEGER_DTYPES))
        channels = self.mean.shape[1]
        if images.shape[1] != channels:
            raise InvalidArgumentError(
                f"images is {describe_value(images)}, but must be (B, {channels}, H, W), with as many channels as mean "
                "and std."
            )
        if images.is_meta and not self.mean.is_meta:
            raise InvalidArgumentError(f"images is {describe_value(images)}, but must be on {self.mean.device}.")

    def compute_padded_indices(self, side: int) -> Tensor:
        """Return the row (or column) of the image at each row of the padded image, int64.

        Reflection does not repeat the edge row, and goes back and forth as often as needed. PyTorch's own reflection
        allows one turn, and fails for a single pixel.
        """
        before, after = self.compute_padding(side)
        positions = torch.arange(-before, side + after)
        if not self.margin:
            return positions.clamp(0, side - 1)
        # In an exported graph `side` is a symbol, and max() would need its value.
        reflected = positions.abs() % torch.full_like(positions, torch.sym_max(2 * side - 2, 1))
        return torch.where(reflected < side, reflected, 2 * side - 2 - reflected)

    def compute_padding(self, side: int) -> tuple[int, int]:
        """Return the pixels to add before and after, so that the size is legal and the output starts at the image."""
        check_int("side", side)
        padded = round_up(side + self.margin - self.offset, self.multiple) + self.offset
        return self.margin // 2, padded - side - self.margin // 2
