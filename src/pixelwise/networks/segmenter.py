"""The one network module that others see: raw images in, logits of the same size out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import RequestError
from pixelwise.shapes import padding_to_multiple


class Segmenter(nn.Module):
    """Normalizes, pads, runs the network, crops. Saved with the network, so training, prediction
    and export share it with no argument.

    Args:
        network: maps (B, C, H, W) to (B, K, H, W) for sides that are multiples of its `size_multiple`.
        mean, deviation: per channel, in the images' raw units.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, *, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(deviation) or not all(d > 0 for d in deviation):
            raise RequestError(f"mean {mean} and deviation {deviation} must be one pair a channel, > 0.")
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) of any type in raw units → logits (B, K, H, W) at the same size.

        Rows and columns are added at the bottom and right by edge replication, where the network's
        legal sizes ask for it, and cut off again.
        """
        height, width = images.shape[2:]
        normalized = (images.float() - self.mean) / self.deviation
        rows, columns = padding_to_multiple((height, width), self.network.size_multiple)  # type: ignore[arg-type]
        if rows or columns:
            normalized = functional.pad(normalized, (0, columns, 0, rows), mode="replicate")
        logits: Tensor = self.network(normalized)
        return logits[:, :, :height, :width]
