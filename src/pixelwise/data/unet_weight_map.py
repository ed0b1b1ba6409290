"""Border weights of U-Net (Ronneberger et al. 2015, equation 2): narrow gaps between cells have more weight."""

import cv2
import numpy as np
import numpy.typing as npt

from pixelwise.data.io.images import Array
from pixelwise.errors import InvalidArgumentError


def border_weights(
    labels: Array, *, ignore_index: int, background: int = 0, w0: float = 10.0, sigma: float = 5.0
) -> npt.NDArray[np.float32]:
    """Compute the weight of each pixel: `1 + w0 exp(-(d1 + d2)^2 / (2 sigma^2))` on background, else 1.

    d1 and d2 are the distances of a background pixel to the nearest and to the second nearest cell, between the
    centers of pixels: both are 1 in a gap of one pixel. A cell is a 4-connected component of all classes except the
    background; regions that touch only at a corner are two cells, as on both sides of a diagonal gap of one pixel.
    With fewer than two cells, and for ignored pixels, which the loss excludes, all weights are 1.

    The class balance w_c of the paper is the `class_weights` of the loss, which multiply these weights. With `w0`
    divided by the class weight of the background, the product on background is the sum `w_c + w0 exp(...)` of the
    paper.

    Costs two distance transforms of the image for each bit of the number of cells: O(H W log cells).

    Args:
        labels: (H, W) of any integer dtype.
        ignore_index: The label of ignored pixels.
        background: The class between the cells.
        w0: The weight that is added where two cells nearly touch.
        sigma: The decay in pixels. In a straight gap of g pixels d1 + d2 is g + 1 everywhere: with 5, the weight of a
            gap of 1 pixel increases by 0.92 w0, and of 10 pixels by 0.09 w0.

    Returns:
        (H, W) float32, at least 1.

    Raises:
        InvalidArgumentError: `labels` is not (H, W), or `sigma` is not positive.

    Example:
        >>> border_weights(np.array([[1, 0, 1]]), ignore_index=255).round(2)
        array([[ 1.  , 10.23,  1.  ]], dtype=float32)
    """
    if labels.ndim != 2:
        raise InvalidArgumentError(f"labels has shape {labels.shape}. Expected (H, W): one label map, not a batch.")
    if not sigma > 0:
        raise InvalidArgumentError(f"sigma is {sigma}. Expected a positive number of pixels.")
    is_background = labels == background
    weights = np.ones(labels.shape, np.float32)
    foreground = ~is_background & (labels != ignore_index)
    count, cells = cv2.connectedComponents(foreground.astype(np.uint8), connectivity=4)
    if count > 2:  # component 0 is not a cell
        nearest, second = _compute_two_distances(cells, count - 1)
        weights[is_background] += w0 * np.exp(-((nearest + second)[is_background] ** 2) / (2 * sigma**2))
    return weights


def _compute_two_distances(cells: Array, num_cells: int) -> tuple[Array, Array]:
    """Compute the (H, W) distances to the nearest and to the second nearest of at least two cells 1..num_cells.

    Each bit of their numbers divides the cells into two sets. The nearest cell is in the nearer set. Every other cell
    differs from it in some bit, so the smallest of the distances to the farther sets is that to the second nearest.
    """
    numbers = np.arange(num_cells)
    second = np.full(cells.shape, np.inf, np.float32)
    for bit in range((num_cells - 1).bit_length()):
        is_one = (numbers >> bit & 1).astype(bool)
        zeros, ones = _compute_distance(cells, ~is_one), _compute_distance(cells, is_one)
        nearest = np.minimum(zeros, ones)
        second = np.minimum(second, np.maximum(zeros, ones))
    return nearest, second


def _compute_distance(cells: Array, chosen: npt.NDArray[np.bool_]) -> Array:
    """Compute the (H, W) distance to the nearest pixel of the cells i + 1 with `chosen[i]`."""
    outside = np.concatenate([[True], ~chosen]).astype(np.uint8)[cells]
    distance: Array = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance
