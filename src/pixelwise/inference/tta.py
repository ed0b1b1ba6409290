"""Test-time augmentation: the mean of what a network says of an image and of its transformed copies.

`flips` are the image and its mirror images in both axes: 4 views. `rotations` are the turns by right
angles, each also mirrored: 8 views, the image and 7 others; U-Net's paper averages over "7 rotated
versions". `scales` are 0.75, 1 and 1.25 of the size. Named together, each view of one is taken with each
of the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.data.io.images import Array
from pixelwise.errors import unknown_name
from pixelwise.shapes import Size

TRANSFORMS = ("flips", "rotations", "scales")
SCALES = (1.0, 0.75, 1.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """An image mirrored left to right, then turned, then scaled."""

    mirrored: bool = False
    turns: int = 0
    """By right angles, counterclockwise."""
    scale: float = 1.0

    def of(self, pixels: Array) -> Array:
        """(H, W, C) → (h, w, C) of the same type. Scaled values are interpolated bilinearly, and rounded
        where they are integers."""
        mirrored = pixels[:, ::-1] if self.mirrored else pixels
        turned = np.rot90(mirrored, self.turns)
        if self.scale == 1:
            return np.ascontiguousarray(turned)
        planes = torch.from_numpy(turned.astype(np.float32)).permute(2, 0, 1)
        height, width = (max(1, round(side * self.scale)) for side in turned.shape[:2])
        scaled = _resized(planes, (height, width)).permute(1, 2, 0).numpy()
        return (np.rint(scaled) if turned.dtype.kind == "u" else scaled).astype(turned.dtype, order="C")

    def undone(self, planes: Tensor, size: Size) -> Tensor:
        """(K, h, w) seen in this view → (K, H, W) on the image of that `size`."""
        turned_size = size[::-1] if self.turns % 2 else size
        turned = planes if planes.shape[1:] == turned_size else _resized(planes, turned_size)
        upright = turned.rot90(-self.turns, (1, 2))
        return upright.flip(2) if self.mirrored else upright


def require_transforms(tta: Sequence[str]) -> None:
    """InvalidArgumentError for a name that is no transform."""
    for name in tta:
        if name not in TRANSFORMS:
            raise unknown_name("test-time augmentation", name, TRANSFORMS)


def views(tta: Sequence[str]) -> tuple[View, ...]:
    """The views of the named transforms, the image itself first. InvalidArgumentError for an unknown name."""
    require_transforms(tta)
    turns = (0, 1, 2, 3) if "rotations" in tta else (0, 2) if "flips" in tta else (0,)
    mirrors = (False, True) if len(turns) > 1 else (False,)
    scales = SCALES if "scales" in tta else SCALES[:1]
    return tuple(View(mirrored=m, turns=t, scale=s) for s in scales for m in mirrors for t in turns)


def mean_over(seen: Sequence[View], pixels: Array, probabilities: Callable[[Array], Tensor]) -> Tensor:
    """(K, H, W) float32: the mean of the probabilities over the views of (H, W, C) pixels.

    Args:
        probabilities: (h, w, C) pixels → (K, h, w), summing to 1 over K, on the CPU.
    """
    size = (pixels.shape[0], pixels.shape[1])
    total: Tensor | None = None
    for view in seen:
        found = view.undone(probabilities(view.of(pixels)), size)
        total = found.clone() if total is None else total.add_(found)
    assert total is not None, "no views"
    return total / len(seen)


def _resized(planes: Tensor, size: Size) -> Tensor:
    return functional.interpolate(planes[None], size, mode="bilinear", align_corners=False)[0]
