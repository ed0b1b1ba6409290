"""Augmentation: a small plan drawn from a generator, then one warp and one color transform.

Labels are looked up, never interpolated, so no label value is invented. Outside the image, both
image and labels are mirrored at the border. An elastic deformation (U-Net, Ronneberger et al. 2015,
section 3.1) bends the window that is cut out: it is part of the same one warp.

Only what the window shows is touched, and it is written where it is wanted: into the batch.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from pixelwise.config import AugmentationConfig
from pixelwise.data.io.images import Array
from pixelwise.shapes import Size

_LUMA = np.array([0.299, 0.587, 0.114])
# About the border itself, so that an image shrunk to half still mirrors in step with its labels.
_MIRROR = cv2.BORDER_REFLECT
# Points of an elastic deformation along each side.
_POINTS = 3
# Bands that OpenCV is given at once; its own limit depends on its version.
_MAX_BANDS = 64


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
    """Factors; 1 leaves the image as it is. Brightness of float images, whose zero may mean anything,
    is a shift by `brightness` - 1 standard stds of the sample."""
    displacements: tuple[float, ...] = ()
    """(2, 3, 3) flattened: of 3 x 3 points that span the sample, by rows, in its pixels; empty: the window is plain."""


def draw_augmentation(config: AugmentationConfig, rng: np.random.Generator, resolution: float = 1.0) -> Augmentation:
    """The plan for one sample; `resolution` below 1 shrinks it further (progressive resizing).

    The displacements of an elastic deformation, N(0, `config.elastic`) pixels, shrink with it.
    """
    low, high = np.log(config.scale)
    color = 1 + config.color * rng.uniform(-1, 1, 3)
    return Augmentation(
        scale=float(np.exp(rng.uniform(low, high))) * resolution,
        angle=math.radians(config.rotate) * float(rng.uniform(-1, 1)),
        flip_horizontal=bool(rng.random() < config.flip_horizontal),
        flip_vertical=bool(rng.random() < config.flip_vertical),
        shift=(float(rng.random()), float(rng.random())),
        brightness=float(color[0]),
        contrast=float(color[1]),
        saturation=float(color[2]),
        displacements=_draw_displacements(config.elastic * resolution, rng),
    )


def _draw_displacements(std: float, rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(rng.normal(0, std, 2 * _POINTS**2).tolist()) if std else ()


def apply(
    plan: Augmentation, image: Array, labels: Array, size: Size, into: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """(H, W, C) image and (H, W) labels of any size → both at `size`, cut out at the planned place.

    Image uint8, uint16 or float32, labels uint8 or uint16. `into` are C-contiguous arrays of `size` and
    of these types, to be written and returned.
    """
    if into is None:
        into = np.empty((*size, image.shape[2]), image.dtype), np.empty(size, labels.dtype)
    places = _places(plan, labels.shape, size)
    extent = _extent(places, size)
    _look_up(labels[..., None], places, extent, into[1][..., None], cv2.INTER_NEAREST)
    _look_up(image, places, extent, into[0], cv2.INTER_LINEAR, _shrinkage(plan.scale))
    _recolor(plan, into[0])
    return into


def _places(plan: Augmentation, source: Size, size: Size) -> Array:
    """Where each pixel of the output lies in the image, (x, y), pixel centers at whole numbers.

    A (2, 3) matrix that takes (x, y, 1) there; of a bent window, (2, H, W), each place by itself.
    """
    # The middle of the window in the image; a window larger than the image may lie anywhere around
    # it, and what it shows outside is mirrored.
    y, x = (
        (shown / 2 + (side * plan.scale - shown) * shift) / plan.scale - 0.5
        for side, shown, shift in zip(source, size, plan.shift, strict=True)
    )
    cos, sin = math.cos(plan.angle) / plan.scale, math.sin(plan.angle) / plan.scale
    right, down = -1 if plan.flip_horizontal else 1, -1 if plan.flip_vertical else 1
    middle_y, middle_x = (size[0] - 1) / 2, (size[1] - 1) / 2
    window = np.array([[cos * right, -sin * down, x], [sin * right, cos * down, y]])
    window[:, 2] -= window[:, 0] * middle_x + window[:, 1] * middle_y
    return _bent(window, plan.displacements, size) if plan.displacements else window


def _bent(window: Array, displacements: tuple[float, ...], size: Size) -> Array:
    """(2, H, W): the places of a window whose pixels each show another place of it.

    A bicubic surface through the points, plus the plane of the window: one product of matrices.
    """
    points = np.reshape(displacements, (2, _POINTS, _POINTS))[::-1]  # x, y
    surface = np.zeros((2, _POINTS + 2, _POINTS + 2))
    surface[:, :_POINTS, :_POINTS] = np.tensordot(window[:, :2], points, 1)
    surface[:, -1, -2], surface[:, -2, -1], surface[:, -1, -1] = window.T
    rows, columns = (np.column_stack([_bicubic(side), np.arange(side), np.ones(side)]) for side in size)
    # OpenCV multiplies in this thread; NumPy would start threads that fight with the network's.
    nothing = np.zeros((0, 0))
    return np.stack([cv2.gemm(rows @ part, columns, 1, nothing, 0, flags=cv2.GEMM_2_T) for part in surface])


@functools.lru_cache(maxsize=16)
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


def _shrinkage(scale: float) -> int:
    """Pixels, along each side, to average before the lookup: bilinear alone would skip some (aliasing)."""
    return 1 << max(0, math.ceil(-math.log2(1.6 * scale)))


def _look_up(image: Array, places: Array, extent: Array, output: Array, interpolation: int, step: int = 1) -> None:
    """(H, W, C) image → `output` (h, w, C), at `places`; of averages of `step` x `step` pixels."""
    (left, top), (right, bottom) = (extent + 0.5) / step - 0.5
    rows, above, below = _reach(top, bottom, image.shape[0], step)
    columns, before, after = _reach(left, right, image.shape[1], step)
    places = _moved(places, (columns.start - before, rows.start - above), step)
    for source, target in _bands(image[rows, columns], output):
        if above or below or before or after:
            source = cv2.copyMakeBorder(source, above, below, before, after, _MIRROR)
        if step > 1:
            small = (source.shape[1] // step, source.shape[0] // step)
            source = cv2.resize(source, small, interpolation=cv2.INTER_AREA)
        _warp(source, places, target, interpolation)


def _extent(places: Array, size: Size) -> Array:
    """(2, 2): the least and the largest (x, y) of the places."""
    if places.ndim == 3:
        return np.stack([places.min((1, 2)), places.max((1, 2))])
    half = np.array([size[1] - 1, size[0] - 1]) / 2
    middle, around = places[:, :2] @ half + places[:, 2], np.abs(places[:, :2]) @ half
    return np.stack([middle - around, middle + around])


def _reach(low: float, high: float, side: int, step: int) -> tuple[slice, int, int]:
    """What to read along a side of the image to look up `low` to `high`, and how much to mirror around it.

    Together a whole number of steps, that begins with a step. What is mirrored must itself be read.
    """
    start = math.floor(low + 1e-7) * step  # for sums that are whole numbers but for their rounding
    stop = (math.ceil(high - 1e-7) + 1) * step
    before, after = max(0, -start), max(0, stop - side)
    first = max(0, min(start, 2 * side - stop)) // step * step
    last = min(side, max(stop, -start))
    return slice(first, last), before, after + -(before + last - first + after) % step


def _moved(places: Array, origin: tuple[int, int], step: int) -> Array:
    """The places in an image that begins at `origin` (x, y) and is smaller by `step`."""
    shift = (0.5 - np.array(origin, float)) / step - 0.5
    if places.ndim == 2:
        moved = places / step
        moved[:, 2] += shift
        return moved
    # OpenCV wants float32. One pass: the temporary arrays of a formula cost more than its sums.
    bent = np.empty(places.shape, np.float32)
    np.add(places if step == 1 else places / step, shift[:, None, None], out=bent, casting="same_kind")
    return bent


def _bands(image: Array, output: Array) -> Iterator[tuple[Array, Array]]:
    """Image and output as OpenCV takes them: 64 channels at most; without the axis of a single one."""
    channels = image.shape[2]
    if channels == 1:
        yield image[..., 0], output[..., 0]
    elif channels <= _MAX_BANDS:
        yield image, output
    else:
        for start in range(0, channels, _MAX_BANDS):
            source = np.ascontiguousarray(image[..., start : start + _MAX_BANDS])
            target = np.empty((*output.shape[:2], source.shape[2]), output.dtype)
            yield source, target
            output[..., start : start + _MAX_BANDS] = target


def _warp(source: Array, places: Array, target: Array, interpolation: int) -> None:
    if target.shape[2:] == (3,):  # OpenCV has faster code for four channels
        wide = np.empty((*target.shape[:2], 4), target.dtype)
        _warp(cv2.cvtColor(source, cv2.COLOR_RGB2RGBA), places, wide, interpolation)
        written = cv2.cvtColor(wide, cv2.COLOR_RGBA2RGB, target)
    elif places.ndim == 2:
        # The border is never seen, as all places are inside; OpenCV has faster code for this one.
        flags, border = interpolation | cv2.WARP_INVERSE_MAP, cv2.BORDER_CONSTANT
        written = cv2.warpAffine(source, places, target.shape[1::-1], target, flags, border)
    else:
        x, y = places
        written = cv2.remap(source, x, y, interpolation, target, cv2.BORDER_CONSTANT)
    assert np.shares_memory(written, target)


def _recolor(plan: Augmentation, image: Array) -> None:
    """Brightness, contrast about the image's own mean, and saturation, in place, within the type's range."""
    if plan.brightness == plan.contrast == plan.saturation == 1:
        return
    channels = image.shape[2]
    matrix = np.eye(channels)
    if channels == 3:
        matrix = plan.saturation * matrix + (1 - plan.saturation) * _LUMA[None, :]
    mean = _mean(image, cv2.REDUCE_SUM)
    gain, offset = plan.contrast, (1 - plan.contrast) * (matrix @ mean)
    if image.dtype == np.float32:
        std = np.sqrt(np.maximum(_mean(image, cv2.REDUCE_SUM2) - mean**2, 0))
        offset = offset + (plan.brightness - 1) * std
    else:
        gain, offset = plan.brightness * gain, plan.brightness * offset
    _mix(image, gain * matrix, offset)


def _mean(image: Array, of: int) -> Array:
    """(C,) mean of the values, `of` a sum of OpenCV's: as they are or squared."""
    exact = cv2.CV_32S if image.dtype == np.uint8 else cv2.CV_64F  # integers are added faster
    by_column = cv2.reduce(_rows(image), 0, of, dtype=exact)
    mean: Array = by_column.reshape(-1, image.shape[2]).mean(0) / image.shape[0]
    return mean


def _mix(image: Array, matrix: Array, offset: Array) -> None:
    """Each pixel times the matrix plus the offset, in place; of more than 4 channels, the matrix is diagonal."""
    channels = image.shape[2]
    if channels <= 4:
        flat = image[..., 0] if channels == 1 else image
        cv2.transform(flat, np.column_stack([matrix, offset]), flat)
        return
    rows = _rows(image)
    mixed = rows if image.dtype == np.float32 else rows.astype(np.float32)
    mixed *= np.tile(np.diag(matrix), image.shape[1]).astype(np.float32)
    mixed += np.tile(offset, image.shape[1]).astype(np.float32)
    if mixed is not rows:
        rows[...] = np.rint(mixed).clip(0, np.iinfo(image.dtype).max)


def _rows(image: Array) -> Array:
    """(H, W, C) → (H, W C), for loops that are long enough to be fast."""
    return image.reshape(image.shape[0], -1)
