"""Augmentation: parameters drawn from a generator, then one warp and one color transform.

Labels are sampled by nearest neighbor, so no new label values appear. Outside the image, both image and
labels are mirrored at the border. An elastic deformation (U-Net, Ronneberger et al. 2015, section 3.1) is part
of the same warp.

Only the pixels that the crop shows are read, and the result is written into the memory of the batch.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pixelwise.config import AugmentationConfig
from pixelwise.data.io.images import Array
from pixelwise.shapes import Size

_LUMA = np.array([0.299, 0.587, 0.114])
# Mirrors between pixels, so that an image shrunk to half is mirrored at the same place as its labels.
_BORDER = cv2.BORDER_REFLECT
# Control points of an elastic deformation along each side.
_NUM_POINTS = 3
# Channels that OpenCV gets at once; its own limit depends on its version.
_MAX_CHANNELS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Parameters of the augmentation of one sample."""

    scale: float
    """Output pixels per image pixel."""
    angle: float
    """Rotation in radians."""
    flip_horizontal: bool
    flip_vertical: bool
    shift: tuple[float, float]
    """Position of the crop in the image, (rows, columns), each in [0, 1]."""
    brightness: float
    contrast: float
    saturation: float
    """Factors; 1 has no effect. For float images, whose zero has no fixed meaning, brightness is a shift by
    (`brightness` - 1) times the std of the sample."""
    displacements: tuple[float, ...] = ()
    """(2, 3, 3) flattened: displacements of 3 x 3 points that span the crop, in its pixels; empty: no deformation."""


def draw_augmentation(config: AugmentationConfig, rng: np.random.Generator, resolution: float = 1.0) -> Augmentation:
    """Draw the parameters for one sample.

    Args:
        config: The ranges.
        rng: The generator.
        resolution: A factor below 1 shrinks the sample (progressive resizing), and with it the displacements of an
            elastic deformation, N(0, `config.elastic`) pixels.
    """
    low, high = np.log(config.scale)
    std = config.elastic * resolution
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
        displacements=tuple(rng.normal(0, std, 2 * _NUM_POINTS**2).tolist()) if std else (),
    )


def move_crop(plan: Augmentation, center: tuple[float, float], source: Size, size: Size) -> Augmentation:
    """Return the parameters with the crop moved to a point of the image, as far as it stays inside.

    Args:
        plan: The parameters.
        center: (row, column) of the point, which becomes the middle of the crop; the image begins at (0, 0).
        source: Height and width of the image.
        size: Height and width of the crop.
    """
    row, column = (
        min(max((point * plan.scale - crop_side / 2) / (side * plan.scale - crop_side), 0.0), 1.0)
        if side * plan.scale > crop_side
        else drawn
        for point, side, crop_side, drawn in zip(center, source, size, plan.shift, strict=True)
    )
    return replace(plan, shift=(row, column))


def apply_augmentation(
    plan: Augmentation, image: Array, labels: Array, size: Size, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """Augment an image and its labels of any size and crop both to `size`.

    Args:
        plan: The parameters.
        image: (H, W, C) uint8, uint16 or float32.
        labels: (H, W) uint8 or uint16.
        size: Height and width of the result.
        out: C-contiguous arrays of `size` and of these dtypes for the result; None allocates them.

    Returns:
        The image and the labels.
    """
    if out is None:
        out = np.empty((*size, image.shape[2]), image.dtype), np.empty(size, labels.dtype)
    positions = _compute_positions(plan, labels.shape, size)
    bounds = _compute_bounds(positions, size)
    _sample(labels[..., None], positions, bounds, out[1][..., None], cv2.INTER_NEAREST)
    _sample(image, positions, bounds, out[0], cv2.INTER_LINEAR, _choose_shrink_factor(plan.scale))
    _change_colors(plan, out[0])
    return out


def _compute_positions(plan: Augmentation, source: Size, size: Size) -> Array:
    """Compute the position (x, y) in the image of each output pixel, with pixel centers at integers.

    Returns:
        A (2, 3) matrix that maps (x, y, 1) to the position; for an elastic deformation, all positions (2, H, W).
    """
    # Center of the crop in the image. A crop larger than the image may be anywhere around it.
    y, x = (
        (crop_side / 2 + (side * plan.scale - crop_side) * shift) / plan.scale - 0.5
        for side, crop_side, shift in zip(source, size, plan.shift, strict=True)
    )
    cos, sin = math.cos(plan.angle) / plan.scale, math.sin(plan.angle) / plan.scale
    right, down = -1 if plan.flip_horizontal else 1, -1 if plan.flip_vertical else 1
    middle_y, middle_x = (size[0] - 1) / 2, (size[1] - 1) / 2
    matrix = np.array([[cos * right, -sin * down, x], [sin * right, cos * down, y]])
    matrix[:, 2] -= matrix[:, 0] * middle_x + matrix[:, 1] * middle_y
    return _deform(matrix, plan.displacements, size) if plan.displacements else matrix


def _deform(matrix: Array, displacements: tuple[float, ...], size: Size) -> Array:
    """Add displacements to the positions of a (2, 3) matrix: (2, H, W).

    The sum of a bicubic surface through the control points and of the plane of the matrix is one matrix product.
    """
    points = np.reshape(displacements, (2, _NUM_POINTS, _NUM_POINTS))[::-1]  # x, y
    surface = np.zeros((2, _NUM_POINTS + 2, _NUM_POINTS + 2))
    surface[:, :_NUM_POINTS, :_NUM_POINTS] = np.tensordot(matrix[:, :2], points, 1)
    surface[:, -1, -2], surface[:, -2, -1], surface[:, -1, -1] = matrix.T
    rows, columns = (np.column_stack([_compute_bicubic_weights(side), np.arange(side), np.ones(side)]) for side in size)
    # OpenCV multiplies in this thread; NumPy would start threads that compete with those of the network.
    no_summand = np.zeros((0, 0))
    return np.stack([cv2.gemm(rows @ part, columns, 1, no_summand, 0, flags=cv2.GEMM_2_T) for part in surface])


@functools.lru_cache(maxsize=16)
def _compute_bicubic_weights(length: int) -> Array:
    """Compute the (length, 3) weights of points at the first, middle and last of `length` pixels.

    They are those of Keys (1981) with a = -1/2; the points are repeated beyond both ends.
    """
    positions, points = np.linspace(0, _NUM_POINTS - 1, length), np.arange(-1, _NUM_POINTS + 1)
    d = np.abs(positions[:, None] - points)
    weights = np.where(d <= 1, (1.5 * d - 2.5) * d**2 + 1, np.where(d < 2, ((2.5 - 0.5 * d) * d - 4) * d + 2, 0))
    weights[:, [1, -2]] += weights[:, [0, -1]]
    inner: Array = weights[:, 1:-1]
    return inner


def _choose_shrink_factor(scale: float) -> int:
    """Return how many pixels per side to average before sampling, because bilinear sampling would skip some."""
    return 1 << max(0, math.ceil(-math.log2(1.6 * scale)))


def _sample(image: Array, positions: Array, bounds: Array, output: Array, interpolation: int, factor: int = 1) -> None:
    """Sample an image (H, W, C), averaged over `factor` x `factor` pixels, into `output` (h, w, C)."""
    (left, top), (right, bottom) = (bounds + 0.5) / factor - 0.5
    rows, above, below = _choose_range(top, bottom, image.shape[0], factor)
    columns, before, after = _choose_range(left, right, image.shape[1], factor)
    positions = _shift_positions(positions, (columns.start - before, rows.start - above), factor)
    for source, target in _split_channels(image[rows, columns], output):
        if above or below or before or after:
            source = cv2.copyMakeBorder(source, above, below, before, after, _BORDER)
        if factor > 1:
            small = (source.shape[1] // factor, source.shape[0] // factor)
            source = cv2.resize(source, small, interpolation=cv2.INTER_AREA)
        _warp(source, positions, target, interpolation)


def _compute_bounds(positions: Array, size: Size) -> Array:
    """Return the smallest and the largest (x, y) of the positions, (2, 2)."""
    if positions.ndim == 3:
        return np.stack([positions.min((1, 2)), positions.max((1, 2))])
    half = np.array([size[1] - 1, size[0] - 1]) / 2
    center, radius = positions[:, :2] @ half + positions[:, 2], np.abs(positions[:, :2]) @ half
    return np.stack([center - radius, center + radius])


def _choose_range(low: float, high: float, side: int, factor: int) -> tuple[slice, int, int]:
    """Return what to read along one side of the image to sample `low` to `high`, and the mirrored pixels around it.

    Together they are a multiple of `factor` that starts at one. Mirrored pixels must themselves be read.
    """
    start = math.floor(low + 1e-7) * factor  # tolerates the rounding of sums that are integers
    stop = (math.ceil(high - 1e-7) + 1) * factor
    before, after = max(0, -start), max(0, stop - side)
    first = max(0, min(start, 2 * side - stop)) // factor * factor
    last = min(side, max(stop, -start))
    return slice(first, last), before, after + -(before + last - first + after) % factor


def _shift_positions(positions: Array, origin: tuple[int, int], factor: int) -> Array:
    """Convert positions to an image that begins at `origin` (x, y) and is `factor` times smaller."""
    shift = (0.5 - np.array(origin, float)) / factor - 0.5
    if positions.ndim == 2:
        shifted = positions / factor
        shifted[:, 2] += shift
        return shifted
    # OpenCV needs float32. One pass: the temporary arrays of a formula cost more than its sums.
    wide = np.empty(positions.shape, np.float32)
    scaled = positions if factor == 1 else positions / factor
    np.add(scaled, shift[:, None, None], out=wide, casting="same_kind")
    return wide


def _split_channels(image: Array, output: Array) -> Iterator[tuple[Array, Array]]:
    """Yield image and output as OpenCV takes them: at most 64 channels, and no axis for a single one."""
    channels = image.shape[2]
    if channels == 1:
        yield image[..., 0], output[..., 0]
    elif channels <= _MAX_CHANNELS:
        yield image, output
    else:
        for start in range(0, channels, _MAX_CHANNELS):
            source = np.ascontiguousarray(image[..., start : start + _MAX_CHANNELS])
            target = np.empty((*output.shape[:2], source.shape[2]), output.dtype)
            yield source, target
            output[..., start : start + _MAX_CHANNELS] = target


def _warp(source: Array, positions: Array, target: Array, interpolation: int) -> None:
    if target.shape[2:] == (3,):  # OpenCV has faster code for four channels
        wide = np.empty((*target.shape[:2], 4), target.dtype)
        _warp(cv2.cvtColor(source, cv2.COLOR_RGB2RGBA), positions, wide, interpolation)
        written = cv2.cvtColor(wide, cv2.COLOR_RGBA2RGB, target)
    elif positions.ndim == 2:
        # All positions are inside, so the border does not matter; OpenCV has faster code for a constant one.
        flags, border = interpolation | cv2.WARP_INVERSE_MAP, cv2.BORDER_CONSTANT
        written = cv2.warpAffine(source, positions, target.shape[1::-1], target, flags, border)
    else:
        x, y = positions
        written = cv2.remap(source, x, y, interpolation, target, cv2.BORDER_CONSTANT)
    assert np.shares_memory(written, target)


def _change_colors(plan: Augmentation, image: Array) -> None:
    """Change brightness, contrast around the mean of the image, and saturation in place, in the range of the dtype."""
    if plan.brightness == plan.contrast == plan.saturation == 1:
        return
    channels = image.shape[2]
    matrix = np.eye(channels)
    if channels == 3:
        matrix = plan.saturation * matrix + (1 - plan.saturation) * _LUMA[None, :]
    mean = _compute_mean(image, cv2.REDUCE_SUM)
    gain, offset = plan.contrast, (1 - plan.contrast) * (matrix @ mean)
    if image.dtype == np.float32:
        std = np.sqrt(np.maximum(_compute_mean(image, cv2.REDUCE_SUM2) - mean**2, 0))
        offset = offset + (plan.brightness - 1) * std
    else:
        gain, offset = plan.brightness * gain, plan.brightness * offset
    _transform_colors(image, gain * matrix, offset)


def _compute_mean(image: Array, reduction: int) -> Array:
    """Compute the mean (C,) of the values or of their squares, by a reduction of OpenCV."""
    exact = cv2.CV_32S if image.dtype == np.uint8 else cv2.CV_64F  # integers are added faster
    by_column = cv2.reduce(_flatten_rows(image), 0, reduction, dtype=exact)
    mean: Array = by_column.reshape(-1, image.shape[2]).mean(0) / image.shape[0]
    return mean


def _transform_colors(image: Array, matrix: Array, offset: Array) -> None:
    """Multiply each pixel by a matrix (diagonal for more than 4 channels) and add an offset, in place."""
    channels = image.shape[2]
    if channels <= 4:
        flat = image[..., 0] if channels == 1 else image
        cv2.transform(flat, np.column_stack([matrix, offset]), flat)
        return
    rows = _flatten_rows(image)
    mixed = rows if image.dtype == np.float32 else rows.astype(np.float32)
    mixed *= np.tile(np.diag(matrix), image.shape[1]).astype(np.float32)
    mixed += np.tile(offset, image.shape[1]).astype(np.float32)
    if mixed is not rows:
        rows[...] = np.rint(mixed).clip(0, np.iinfo(image.dtype).max)


def _flatten_rows(image: Array) -> Array:
    """Reshape (H, W, C) to (H, W C): longer inner loops are faster."""
    return image.reshape(image.shape[0], -1)
