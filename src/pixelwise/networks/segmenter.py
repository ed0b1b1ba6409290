"""The one network module that others see: raw images in, logits of the same size out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import InvalidArgumentError
from pixelwise.shapes import round_up


class Segmenter(nn.Module):
    """Normalizes, pads, runs the network, crops. Saved with the network, so training, prediction
    and export share it with no argument.

    Args:
        network: maps (B, C, H, W) to (B, K, H - margin, W - margin) for legal sides, which are its
            `size_offset` (0) and multiples of its `size_multiple`; `output_margin` (0) is what its
            unpadded convolutions cut off. A network that `takes_raw_images` sees them as they are.
        mean, std: per channel, in the images' raw units.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not all(d > 0 for d in std):
            raise InvalidArgumentError(f"mean {mean} and std {std} must be one pair a channel, > 0.")
        self.network = network
        if getattr(network, "takes_raw_images", False):
            mean, std = [0.0] * len(mean), [1.0] * len(std)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.multiple: int = network.size_multiple  # type: ignore[assignment]
        self.offset: int = getattr(network, "size_offset", 0)
        self.margin: int = getattr(network, "output_margin", 0)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) of any type in raw units → logits (B, K, H, W) at the same size.

        Rows and columns are added at the bottom and right by edge replication, where the network's
        legal sizes ask for it, and cut off again. What unpadded convolutions cut off is put around
        the image before, mirrored at its border (U-Net's overlap-tile strategy).
        """
        height, width = images.shape[2:]
        if self.margin:
            for dim, side in ((2, height), (3, width)):
                images = images.index_select(dim, self.padded_indices(side).to(images.device))
            return self.forward_padded(images)[:, :, :height, :width]
        rows, columns = self.compute_padding(height)[1], self.compute_padding(width)[1]
        normalized = self.normalize(images)
        if rows or columns:
            normalized = functional.pad(normalized, (0, columns, 0, rows), mode="replicate")
        logits: Tensor = self.network(normalized)
        return logits[:, :, :height, :width]

    def forward_padded(self, frames: Tensor) -> Tensor:
        """(B, C, H, W) in raw units, of a legal size → the network's own output, nothing added or cut off."""
        logits: Tensor = self.network(self.normalize(frames))
        return logits

    def normalize(self, images: Tensor) -> Tensor:
        """(B, C, H, W) of any type in raw units → float32, by mean and std."""
        return (images.float() - self.mean).div_(self.std)  # in place: one such map less at a time

    def padded_indices(self, side: int) -> Tensor:
        """For each row (or column) of the framed image, the row of the image that it shows; int64.

        Mirrored, the edge row comes once, back and forth as often as needed: torch's own reflection
        ends after one time, and does nothing for a single pixel.
        """
        before, after = self.compute_padding(side)
        places = torch.arange(-before, side + after)
        if not self.margin:
            return places.clamp(0, side - 1)
        # In an exported graph `side` is a symbol, which max() would ask for its value.
        turned = places.abs() % torch.full_like(places, torch.sym_max(2 * side - 2, 1))
        return torch.where(turned < side, turned, 2 * side - 2 - turned)

    def compute_padding(self, side: int) -> tuple[int, int]:
        """Pixels to add before and after, so that the network takes the sum and its output begins where
        the image does.
        """
        whole = round_up(side + self.margin - self.offset, self.multiple) + self.offset
        return self.margin // 2, whole - side - self.margin // 2
