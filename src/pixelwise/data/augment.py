"""Augmentation: a small plan drawn from a generator, then one warp and one color transform.

Labels are looked up, never interpolated, so no label value is invented. Outside the image, both
image and labels are mirrored at the border. An elastic deformation (U-Net, Ronneberger et al. 2015,
section 3.1) bends the window that is cut out: it is part of the same one warp.
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
# Points of an elastic deformation along each side.
_POINTS = 3


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
    displacements: tuple[float, ...] = ()
    """(2, 3, 3) flattened: of 3 x 3 points that span the sample, by rows, in its pixels; empty: the window is plain."""


def draw_augmentation(recipe: AugmentationRecipe, rng: np.random.Generator, resolution: float = 1.0) -> Augmentation:
    """The plan for one sample; `resolution` below 1 shrinks it further (progressive resizing).

    The displacements of an elastic deformation, N(0, `recipe.elastic`) pixels, shrink with it.
    """
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
        displacements=_draw_displacements(recipe.elastic * resolution, rng),
    )


def _draw_displacements(deviation: float, rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(rng.normal(0, deviation, 2 * _POINTS**2).tolist()) if deviation else ()


def apply(plan: Augmentation, image: Array, labels: Array, size: Size) -> tuple[Array, Array]:
    """(H, W, C) image and (H, W) labels of any size → both at `size`, cut out at the planned place."""
    window, bent = _window(plan, labels.shape, size), _bent(plan, size)
    warped_labels = _look_up(labels, window, bent, size, cv2.INTER_NEAREST)
    return _recolor(plan, _warp(image, window, bent, size)), warped_labels


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


def _bent(plan: Augmentation, size: Size) -> Array | None:
    """(2, H, W): the place (x, y) in the plain window that each pixel shows; None where each shows its own."""
    if not plan.displacements:
        return None
    rows, columns = (_bicubic(side) for side in size)
    displaced = rows @ np.reshape(plan.displacements, (2, _POINTS, _POINTS)) @ columns.T
    bent: Array = (displaced + np.indices(size))[::-1]
    return bent


def _bicubic(length: int) -> Array:
    """(length, 3) weights of points at the first, middle and last of `length` pixels (Keys 1981, a = -1/2).

    Beyond the ends, the points are repeated.
    """
    places, points = np.linspace(0, _POINTS - 1, length), np.arange(-1, _POINTS + 1)
    d = np.abs(places[:, None] - points)
    weights = np.where(d <= 1, (1.5 * d - 2.5) * d**2 + 1, np.where(d < 2, ((2.5 - 0.5 * d) * d - 4) * d + 2, 0))
    weights[:, [1, -2]] += weights[:, [0, -1]]
    inner: Array = weights[:, 1:-1]
    return inner


def _look_up(part: Array, window: Array, bent: Array | None, size: Size, interpolation: int) -> Array:
    if bent is None:
        flags = interpolation | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(part, window, size[::-1], flags=flags, borderMode=_MIRROR)
    x, y = (np.tensordot(window[:, :2], bent, 1) + window[:, 2, None, None]).astype(np.float32)
    return cv2.remap(part, x, y, interpolation, borderMode=_MIRROR)


def _warp(image: Array, window: Array, bent: Array | None, size: Size) -> Array:
    shrink = math.hypot(window[0, 0], window[1, 0])
    while shrink >= 1.6 and min(image.shape[:2]) >= 2:
        # Averages pairs of pixels first: bilinear lookup alone would skip pixels (aliasing).
        image, window = _halved(image, window)
        shrink /= 2

    return _by_channels(image, lambda part: _look_up(part, window, bent, size, cv2.INTER_LINEAR))


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
