"""Augmentation: a small plan drawn from a generator, then one warp and one color transform.

Labels are looked up, never interpolated, so no label value is invented. Outside the image, both
image and labels are mirrored at the border.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pixelwise.data.images import Array
from pixelwise.recipe import AugmentationRecipe
from pixelwise.shapes import Size

_LUMA = np.array([0.299, 0.587, 0.114])
# About the border itself, so that an image shrunk to half still mirrors in step with its labels.
_MIRROR = cv2.BORDER_REFLECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What happens to one sample; `apply` does it."""

    scale: float
    """Output pixels per image pixel."""
    angle: float
    """Rotation in radians."""
    flip_horizontal: bool
    flip_vertical: bool
    shift: tuple[float, float]
    """Where the window lies in the room that is left, (rows, columns), each in [0, 1]."""
    brightness: float
    contrast: float
    saturation: float
    """Factors; 1 leaves the image as it is."""


def draw_augmentation(recipe: AugmentationRecipe, rng: np.random.Generator, resolution: float = 1.0) -> Augmentation:
    """The plan for one sample; `resolution` below 1 shrinks it further (progressive resizing)."""
    low, high = np.log(recipe.scale)
    color = 1 + recipe.color * rng.uniform(-1, 1, 3)
    return Augmentation(
        scale=float(np.exp(rng.uniform(low, high))) * resolution,
        angle=math.radians(recipe.rotate) * float(rng.uniform(-1, 1)),
        flip_horizontal=bool(rng.random() < recipe.flip_horizontal),
        flip_vertical=bool(rng.random() < recipe.flip_vertical),
        shift=(float(rng.random()), float(rng.random())),
        brightness=float(color[0]),
        contrast=float(color[1]),
        saturation=float(color[2]),
    )


def apply(plan: Augmentation, image: Array, labels: Array, size: Size) -> tuple[Array, Array]:
    """(H, W, C) image and (H, W) labels of any size → both at `size`, cut out at the planned place."""
    window = _window(plan, labels.shape, size)
    warped_labels = cv2.warpAffine(
        labels,
        window,
        size[::-1],
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=_MIRROR,
    )
    return _recolor(plan, _warp(image, window, size)), warped_labels


def _window(plan: Augmentation, source: Size, size: Size) -> Array:
    """(2, 3) matrix from output to image coordinates, (x, y), pixel centers at whole numbers."""
    extent = np.array(source, float) * plan.scale
    room = extent - size
    # The middle of the window in the scaled image; a window larger than the image may lie anywhere
    # around it, and what it shows outside is mirrored.
    center = np.array(size) / 2 + room * plan.shift
    cos, sin = math.cos(plan.angle), math.sin(plan.angle)
    flip = np.diag([-1.0 if plan.flip_horizontal else 1.0, -1.0 if plan.flip_vertical else 1.0])
    linear = np.array([[cos, -sin], [sin, cos]]) @ flip / plan.scale
    middle_in = center[::-1] / plan.scale - 0.5
    middle_out = (np.array(size[::-1]) - 1) / 2
    return np.column_stack([linear, middle_in - linear @ middle_out])


def _warp(image: Array, window: Array, size: Size) -> Array:
    shrink = math.hypot(window[0, 0], window[1, 0])
    while shrink >= 1.6 and min(image.shape[:2]) >= 2:
        # Averages pairs of pixels first: bilinear lookup alone would skip pixels (aliasing).
        image, window = _halved(image, window)
        shrink /= 2

    def warp(part: Array) -> Array:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(part, window, size[::-1], flags=flags, borderMode=_MIRROR)

    return _by_channels(image, warp)


def _halved(image: Array, window: Array) -> tuple[Array, Array]:
    """The image at half its size, and the window in its coordinates."""
    height, width = image.shape[:2]
    half = (width // 2, height // 2)
    ratio = np.array([[width / half[0]], [height / half[1]]])
    corner = np.array([[0, 0, 0.5], [0, 0, 0.5]])  # from pixel centers to pixel corners
    image = _by_channels(image, lambda part: cv2.resize(part, half, interpolation=cv2.INTER_AREA))
    return image, (window + corner) / ratio - corner


def _recolor(plan: Augmentation, image: Array) -> Array:
    """Brightness, contrast about the image's own mean, and saturation, clipped to the type's range."""
    if plan.brightness == plan.contrast == plan.saturation == 1:
        return image
    channels = image.shape[2]
    matrix = np.eye(channels)
    if channels == 3:
        matrix = plan.saturation * matrix + (1 - plan.saturation) * _LUMA[None, :]
    mean = image.mean((0, 1), dtype=np.float64)
    gain = plan.brightness * plan.contrast
    offset = plan.brightness * (1 - plan.contrast) * (matrix @ mean)
    if channels <= 4:
        recolored: Array = cv2.transform(image, np.column_stack([gain * matrix, offset]))
        return recolored.reshape(image.shape)
    stretched: Array = np.rint(image * gain + offset)
    return stretched.clip(0, np.iinfo(image.dtype).max).astype(image.dtype)


def _by_channels(image: Array, transform: Callable[[Array], Array]) -> Array:
    """OpenCV warps at most 4 channels at once, and drops the axis of a single one."""
    groups = [image[..., i : i + 4] for i in range(0, image.shape[2], 4)]
    parts = [transform(np.ascontiguousarray(group)) for group in groups]
    return np.concatenate([p[..., None] if p.ndim == 2 else p for p in parts], axis=2)
