"""Test-time augmentation: average the predictions for an image and its transformed copies.

"flips" are the image and its mirror images in both axes: 4 views. "rotations" are by multiples of 90 degrees, each also
mirrored: 8 views. The paper of U-Net averages over "7 rotated versions" of the image. "scales" are 0.75, 1 and 1.25
times the size. Several names are combined: every scale of every rotation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.data.io.images import Array
from pixelwise.shapes import Size

TRANSFORMS = ("flips", "rotations", "scales")
SCALES = (1.0, 0.75, 1.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A transform: mirror left to right, then rotate, then scale."""

    mirrored: bool = False
    turns: int = 0
    """Right angles, counterclockwise."""
    scale: float = 1.0

    def apply(self, pixels: Array) -> Array:
        """Transform (H, W, C) to (h, w, C) of the same dtype; scaling is bilinear, and rounds integers."""
        mirrored = pixels[:, ::-1] if self.mirrored else pixels
        turned = np.rot90(mirrored, self.turns)
        if self.scale == 1:
            return np.ascontiguousarray(turned)
        planes = torch.from_numpy(turned.astype(np.float32)).permute(2, 0, 1)
        height, width = (max(1, round(side * self.scale)) for side in turned.shape[:2])
        scaled = _resize(planes, (height, width)).permute(1, 2, 0).numpy()
        return (np.rint(scaled) if turned.dtype.kind == "u" else scaled).astype(turned.dtype, order="C")

    def invert(self, planes: Tensor, size: Size) -> Tensor:
        """Transform (K, h, w) of this view back to (K, H, W) of the image, whose size is given."""
        turned_size = size[::-1] if self.turns % 2 else size
        resized = planes if planes.shape[1:] == turned_size else _resize(planes, turned_size)
        upright = resized.rot90(-self.turns, (1, 2))
        return upright.flip(2) if self.mirrored else upright


def make_views(tta: Sequence[str]) -> tuple[View, ...]:
    """Return the views of the named transforms, the image itself first."""
    turns = (0, 1, 2, 3) if "rotations" in tta else (0, 2) if "flips" in tta else (0,)
    mirrors = (False, True) if len(turns) > 1 else (False,)
    scales = SCALES if "scales" in tta else SCALES[:1]
    return tuple(View(mirrored=m, turns=t, scale=s) for s in scales for m in mirrors for t in turns)


def average_views(views: Sequence[View], pixels: Array, predict: Callable[[Array], Tensor]) -> Tensor:
    """Average the probabilities over the views of an image (H, W, C); returns (K, H, W) float32.

    Args:
        predict: returns the probabilities (K, h, w) of a view (h, w, C), on the CPU.
    """
    size = (pixels.shape[0], pixels.shape[1])
    total: Tensor | None = None
    for view in views:
        inverted = view.invert(predict(view.apply(pixels)), size)
        total = inverted.clone() if total is None else total.add_(inverted)
    assert total is not None, "no views"
    return total / len(views)


def _resize(planes: Tensor, size: Size) -> Tensor:
    return functional.interpolate(planes[None], size, mode="bilinear", align_corners=False)[0]
